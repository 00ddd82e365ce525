"""The tables of the study, from its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from scipy import stats

from benchmarks.policies.methods import METHODS
from benchmarks.policies.run import Setting
from benchmarks.policies.study import KEY, Panel
from benchmarks.policies.task import LENGTHS
from kernadv._typing import FloatArray

#: Columns of a table, with the factor they are shown at.
MEASURES = {"area": 100.0, "final": 100.0, "greedy": 100.0, "pass8": 100.0}
SHARED = ("lengths", "loss", "optimizer", "clip", "group", "rollouts", "steps")


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
    """The runs of one table."""
    defaults = Setting("", "", 0, 0.0)
    same = [pl.col(name) == cell.get(name, getattr(defaults, name)) for name in SHARED]
    return runs.filter(
        pl.col("start") == cell["start"],
        *same,
        pl.col("method").is_in(panel.methods),
        pl.col("rate").is_in(panel.rates),
        pl.col("seed") < panel.seeds,
    )


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


def table(runs: pl.DataFrame, methods: Sequence[str], reference: str = "none") -> str:
    """Markdown: one row a method, its area and the differences from the reference."""
    head = "| | rate | area | area | final | greedy | pass@8 | entropy | gradient |"
    lines = [head, "|---" + "|---:" * 8 + "|"]
    for method in methods:
        mine = runs.filter(pl.col("method") == method)
        if not mine.height:
            continue
        rates = ", ".join(f"{rate:g}" for rate in mine["rate"].unique().sort())
        cells = [METHODS[method].title, rates, f"{100 * mine['area'].mean():.1f}"]
        cells += [shown(scale * differences(runs, method, reference, name)) for name, scale in MEASURES.items()]
        cells += [f"{mine['entropy'].mean():.2f}", f"{mine['second_moment'].mean():.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparisons(runs: pl.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Markdown: paired differences of pairs of methods."""
    lines = ["| | area | final | greedy | pass@8 |", "|---|---:|---:|---:|---:|"]
    have = set(runs["method"])
    for method, other in pairs:
        if {method, other} <= have:
            cells = [shown(scale * differences(runs, method, other, name)) for name, scale in MEASURES.items()]
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
    for start in panel.starts:
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


def report(runs: pl.DataFrame, panels: dict[str, Panel]) -> Iterator[tuple[str, str]]:
    """Heading and Markdown of each table."""
    for name, panel in panels.items():
        for cell in panel.cells():
            found = of_cell(runs, panel, cell)
            if not found.height:
                continue
            tuned = chosen_rates(found)
            first = tuned.filter(pl.col("method") == "none")
            rest = {key: LENGTHS[value].title if key == "lengths" else value for key, value in cell.items()}
            what = ", ".join(f"{key} {value}" for key, value in rest.items())
            seeds = first["seed"].n_unique()
            about = f"V {first['first'].mean():.2f} at the start, k {first['k'].mean():.1f}, {seeds} seeds"
            text = f"{about}.\n\n{table(tuned, panel.methods)}\n\n{comparisons(tuned, PAIRS)}"
            yield f"{panel.title}: {what}", text
        if name == "groups" and runs.filter(pl.col("group") > 1).height:
            yield f"{panel.title}: area against RLOO in groups of four", budget(runs, panel)


def stored(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs in small types, in a fixed order."""
    whole = dict.fromkeys(("start", "method", "lengths", "loss", "optimizer"), pl.Categorical)
    small = dict.fromkeys(("seed", "group", "rollouts", "steps"), pl.Int16)
    rest = dict.fromkeys((name for name in runs.columns if name not in {*KEY}), pl.Float32)
    return runs.sort(KEY).cast({**whole, **small, **rest})
