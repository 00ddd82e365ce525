"""The tables of the study, from its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import polars as pl
from scipy import stats

from benchmarks.policies.methods import METHODS
from benchmarks.policies.run import Setting
from benchmarks.policies.study import Panel
from benchmarks.policies.task import LENGTHS
from kernadv.typing import FloatArray


class Columns(NamedTuple):
    """What a table shows of the runs.

    Attributes
    ----------
    shares : dict
        Column of the runs -> title: shares, whose differences are shown in points.
    means : dict
        The same for those whose mean is shown.
    """

    shares: dict[str, str]
    means: dict[str, str]


EXACT = Columns(
    {"area": "area", "final": "final", "greedy": "greedy", "pass8": "pass@8"},
    {"entropy": "entropy", "second_moment": "gradient"},
)


def chosen_rates(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs of one cell at each method's best rate.

    The rate of a seed is the one with the largest mean area over the seeds of the other half (even or odd numbers), so that
    no seed chooses its own.

    Parameters
    ----------
    runs : polars.DataFrame
        Of one start and one set of the shared fields.

    Returns
    -------
    polars.DataFrame, one row a method and seed
    """
    runs = runs.with_columns(half=pl.col("seed") % 2)
    mean = runs.group_by("method", "rate", "half", maintain_order=True).agg(pl.col("area").mean())
    best = mean.sort("area", descending=True).group_by("method", "half", maintain_order=True).first()
    best = best.select("method", "rate", half=1 - pl.col("half"))
    return runs.join(best, on=["method", "rate", "half"]).drop("half")


def of_cell(runs: pl.DataFrame, panel: Panel, cell: dict[str, Any]) -> pl.DataFrame:
    """The runs of one table: those of the seeds that have all of theirs."""
    settings = list(panel.of_cell(cell, 0))
    wanted = pl.DataFrame([asdict(setting) for setting in settings]).drop("seed")
    wanted = wanted.cast({name: runs.schema[name] for name in wanted.columns})
    found = runs.filter(pl.col("seed") < panel.seeds).join(wanted, on=wanted.columns, how="semi")
    return found.filter(pl.len().over("seed") == len(settings)).cast({"method": pl.String})


def differences(runs: pl.DataFrame, method: str, reference: str, measure: str) -> FloatArray:
    """Of one measure, paired over the seeds.  # (seeds,)"""
    pair = [runs.filter(pl.col("method") == name).sort("seed") for name in (method, reference)]
    joined = pair[0].join(pair[1], on="seed", suffix="_reference")
    return (joined[measure] - joined[f"{measure}_reference"]).to_numpy()


def interval(sample: FloatArray) -> tuple[float, float]:
    """Mean and half the width of its 95% interval, by Student's t."""
    if len(sample) < 2:
        return float(sample.mean()), float("nan")
    half = stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / len(sample) ** 0.5
    return float(sample.mean()), float(half)


def shown(sample: FloatArray) -> str:
    """Mean ± half of the interval; bold where the interval leaves out 0."""
    mean, half = interval(sample)
    text = f"{mean:+.1f} ± {half:.1f}"
    return f"**{text}**" if abs(mean) > half else text


def table(runs: pl.DataFrame, methods: Sequence[str], columns: Columns, reference: str) -> str:
    """Markdown: one row a method, its area and the differences from the reference."""
    head = "| | rate | area | " + " | ".join([*columns.shares.values(), *columns.means.values()]) + " |"
    lines = [head, "|---" + "|---:" * (head.count("|") - 2) + "|"]
    for method in methods:
        mine = runs.filter(pl.col("method") == method)
        if not mine.height:
            continue
        rates = ", ".join(f"{rate:g}" for rate in mine["rate"].unique().sort())
        cells = [METHODS[method].title, rates, f"{100 * mine['area'].mean():.1f}"]
        cells += [shown(100 * differences(runs, method, reference, name)) for name in columns.shares]
        cells += [f"{mine[name].mean():.2f}" for name in columns.means]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparisons(runs: pl.DataFrame, pairs: Sequence[tuple[str, str]], columns: Columns) -> str:
    """Markdown: paired differences of pairs of methods."""
    lines = ["| | " + " | ".join(columns.shares.values()) + " |", "|---" + "|---:" * len(columns.shares) + "|"]
    have = set(runs["method"])
    for method, other in pairs:
        if {method, other} <= have:
            cells = [shown(100 * differences(runs, method, other, name)) for name in columns.shares]
            lines.append(f"| {METHODS[method].title} - {METHODS[other].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PAIRS = (
    ("weighted", "none"), ("weighted", "plain"), ("weighted", "plain-tilted"), ("weighted", "batch-tilted"),
    ("weighted", "kae"), ("weighted", "rloo"), ("plain", "kae"), ("plain", "rloo"), ("plain-tilted", "plain"),
    ("batch-tilted", "batch"), ("weighted", "weighted-uncapped"), ("weighted-tilted", "weighted"), ("weighted", "optimal"),
)  # fmt: skip


def budget(runs: pl.DataFrame, panel: Panel) -> str:
    """Markdown: the methods at every group size against RLOO in groups of four, at equal rollouts."""
    groups = panel.vary["group"]
    lines = ["| start | |" + "".join(f" G = {g} |" for g in groups), "|---|---|" + "---:|" * len(groups)]
    for start in panel.vary["start"]:
        tuned = {g: chosen_rates(of_cell(runs, panel, {"start": start, "group": g})) for g in groups}
        reference = tuned[4].filter(pl.col("method") == "rloo").with_columns(method=pl.lit("reference"))
        for method in panel.methods:
            cells = []
            for found in tuned.values():
                both = pl.concat([found, reference])
                there = (found["method"] == method).any()
                cells.append(shown(100 * differences(both, method, "reference", "area")) if there else "")
            lines.append(f"| {start} | {METHODS[method].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(runs: pl.DataFrame, panel: Panel, cell: dict[str, Any], columns: Columns = EXACT) -> str | None:
    """Markdown of one cell: what it is, its table and comparisons; None before two seeds have all their runs."""
    tuned = chosen_rates(of_cell(runs, panel, cell))
    if not tuned.height:
        return None
    first = tuned.filter(pl.col("method") == panel.methods[0])
    about = f"V {first['first'].mean():.2f} at the start, k {first['k'].mean():.1f}, {first['seed'].n_unique()} seeds"
    return (
        f"{about}.\n\n{table(tuned, panel.methods, columns, panel.methods[0])}\n\n{comparisons(tuned, PAIRS, columns)}"
    )


def report(runs: pl.DataFrame, panels: dict[str, Panel]) -> Iterator[tuple[str, str]]:
    """Heading and Markdown of each table."""
    for name, panel in panels.items():
        for cell in panel.cells():
            rest = {key: LENGTHS[value].title if key == "lengths" else value for key, value in cell.items()}
            what = ", ".join(f"{key} {value}" for key, value in rest.items())
            text = summary(runs, panel, cell)
            if text is not None:
                yield f"{panel.title}: {what}", text
        if name == "groups" and runs.filter(pl.col("group") > 1).height:
            yield f"{panel.title}: area against RLOO in groups of four", budget(runs, panel)


def stored(runs: pl.DataFrame, setting: type = Setting) -> pl.DataFrame:
    """The runs in small types, in a fixed order."""
    small = {"str": pl.Categorical, "int": pl.Int16}
    key = {field.name: field.type for field in fields(setting)}
    casts = {name: small[kind] for name, kind in key.items() if kind in small}
    rest = dict.fromkeys((name for name in runs.columns if name not in key), pl.Float32)
    return runs.sort(*key).cast({**casts, **rest})
