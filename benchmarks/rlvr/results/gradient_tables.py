"""The tables of the section "Gradients", as Markdown."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.banks.gradients import ONLINE, ORACLES
from benchmarks.rlvr.results.gradient_results import Cell, cells, means, read, reference
from benchmarks.rlvr.results.markdown import markdown
from kernadv.gradient import implied_ratio

GROUPS = (1, 4, 8)
#: For Markdown, where a bar would end a cell.
TITLES = {
    name: title.replace("|s|²", "‖s‖²")
    for name, title in (ORACLES | {name: column.title for name, column in ONLINE.items()}).items()
}
SHOWN = ("none", "batch", "rloo", "kae", "default", "V", "weighted-norm", "weighted-proxy-squared", "global", "b*")
WEIGHTED = (
    "weighted-norm",
    "weighted-proxy",
    "weighted-proxy-squared",
    "weighted-proxy-cubed",
    "weighted-surprisal",
    "weighted-surprisal-squared",
    "weighted-surprisal-capped",
    "weighted-tilted",
    "weighted-length",
    "tilted-2",
    "tilted-3",
    "kae-norm",
    "kae-proxy",
    "kae-proxy-squared",
)
RULED = {"unsystematic": ("kae-0.1", "kae", "default", "V"), "systematic": ("none", "batch", "kae-1", "weighted-norm")}
BINS = (0.0, 0.1, 0.3, 0.6, 0.9, 1.0)

#: Table 2 of the paper as far as it is known: gradient MSE of KAE relative to others, in percent.
PAPER = {"RLOO (GRPO in the paper)": (-8.5, -5.4), "batch mean (REINFORCE++)": (-65.4, -32.6), "oracle V": (3.3, 4.9)}


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """Title -> Markdown table."""
    errors, prompts = read(folder)
    study = (pl.col("profile") == "low") & (pl.col("step") > 1)
    main, known = errors.filter(study), prompts.filter(study)
    others = errors.filter((pl.col("profile") != "low") & (pl.col("temperature") == 1.0))
    by_profile = {str(name): others.filter(pl.col("profile") == name) for name in others["profile"].unique().sort()}
    start = errors.filter(pl.col("step") == 1)
    by_heat = {f"T = {t:g}": start.filter(pl.col("temperature") == t) for t in start["temperature"].unique().sort()}
    return {
        "All baselines": overall(main),
        "Checkpoints": checkpoints(main, known),
        "Score-weighted": goal(main),
        "By value": by_value(prompts),
        "The rule": rule(main, known),
        "The paper": paper(main),
        "Profiles": conditions(by_profile),
        "Temperatures": conditions(by_heat),
        "Proxies": proxies(known),
        "Whole batch": whole(pl.read_parquet(folder / "full_gradients.parquet")),
    }


def _of(frame: pl.DataFrame, group: int) -> list[Cell]:
    return cells(frame.filter(pl.col("group") == group))


def overall(frame: pl.DataFrame) -> str:
    """Mean ratio and share of the gap closed, each group size in columns; ± is the bootstrap's standard error."""
    found = {group: means(_of(frame, group), reference(group)) for group in GROUPS}
    rows = []
    for name in (*(n for n in ORACLES if n in ("none",)), *ONLINE, *(n for n in ORACLES if n != "none")):
        row = [TITLES[name]]
        for group in GROUPS:
            here = found[group]
            if name in here.baselines:
                ratio, closed = here.of(name)
                row += [_plus_minus(ratio), f"{closed[0]:.0%}"]
            else:
                row += ["", ""]
        rows.append(row)
    return markdown(["baseline", *(x for g in GROUPS for x in (f"G = {g}", "gap closed"))], rows)


def checkpoints(frame: pl.DataFrame, prompts: pl.DataFrame) -> str:
    """Ratio at each checkpoint, mean over the seeds, with what describes the policy there."""
    rows = []
    for group in GROUPS:
        every = _of(frame, group)
        for step in sorted({cell.step for cell in every}):
            here = means([cell for cell in every if cell.step == step], reference(group), 0)
            about = _described(prompts.filter(pl.col("step") == step))
            ratios = [f"{here.of(name)[0][0]:.2f}" if name in here.baselines else "" for name in SHOWN]
            rows.append([f"{group}", f"{step}", f"{(step - 1) % 10 + 1}", *about, *ratios])
    about_titles = ["mean V", "Var V / E V(1-V)", "corr(norm, Z)", "norm wrong / right"]
    return markdown(["G", "step", "in block", *about_titles, *(TITLES[name] for name in SHOWN)], rows)


def _described(prompts: pl.DataFrame) -> list[str]:
    """Mean over the seeds of mean V, of Var V / E V(1-V), of corr(|s|^2, Z) inside prompts, of E|s|^2 wrong / right."""
    parts = []
    for _, rows in prompts.group_by("seed"):
        v, n = rows["value"].to_numpy(), rows["rollouts"].to_numpy()
        noise = v * (1 - v) * n / (n - 1)
        spread = v.var(ddof=1) - (noise / n).mean()
        right, wrong = (rows[f"norm_{k}"].sum() / rows[k].sum() for k in ("right", "wrong"))
        corr = rows["correlation"].drop_nans().mean()
        parts.append([v.mean(), spread / noise.mean(), corr, wrong / right])
    return [f"{x:.2f}" for x in np.mean(parts, axis=0)]


def goal(frame: pl.DataFrame) -> str:
    """What weights are worth at G = 4 and 8: share of the gap from RLOO to b*, and whether it is ever worse than KAE."""
    every = {group: _of(frame, group) for group in (4, 8)}
    found = {group: means(mine, "rloo") for group, mine in every.items()}
    single = [means([cell], "rloo", 0) for mine in every.values() for cell in mine]
    paths = [
        [means([cell for cell in mine if cell.seed == seed], "rloo", 0) for mine in every.values()]
        for seed in sorted({cell.seed for cell in every[4]})
    ]
    rows = []
    for name in ("kae", "default", *WEIGHTED, "global", "V"):
        both = np.mean([part.of(name)[1] for part in found.values()], axis=0)
        low, high = np.quantile(both[1:], [0.025, 0.975])
        gain = [cell.of("kae")[0][0] - cell.of(name)[0][0] for cell in single]
        against_kae = ["", ""] if name == "kae" else [f"{sum(x < 0 for x in gain)} of {len(gain)}", f"{min(gain):+.3f}"]
        rows.append(
            [
                TITLES[name],
                *(f"{part.of(name)[1][0]:.0%}" for part in found.values()),
                f"{both[0]:.0%} [{low:.0%}, {high:.0%}]",
                ", ".join(f"{np.mean([part.of(name)[1][0] for part in path]):.0%}" for path in paths),
                f"{min(cell.of(name)[1][0] for cell in single):.0%}",
                *against_kae,
            ]
        )
    head = ["baseline", "G = 4", "G = 8", "mean", "each path", "lowest", "worse than KAE h=0.3 at", "worst difference"]
    return markdown(head, rows)


def by_value(prompts: pl.DataFrame) -> str:
    """Prompts of all checkpoints by their value: norms of wrong and right traces, b*, and the variance of one trace."""
    rows = []
    table = prompts.filter(pl.col("temperature") == 1.0)
    table = table.with_columns(
        w=pl.col("norm_right") + pl.col("norm_wrong"),
        n=pl.col("right") + pl.col("wrong"),
    )
    for low, high in pairwise(BINS):
        mine = table.filter((pl.col("value") >= low) & ((pl.col("value") < high) | (high == 1.0)))
        if not mine.height:
            continue
        right, wrong = (mine[f"norm_{k}"].sum() / max(mine[k].sum(), 1) for k in ("right", "wrong"))

        def moment(b: Any, rows: pl.DataFrame = mine) -> float:  # sum of |s|^2 (Z - b)^2
            b = np.broadcast_to(b, rows.height)
            return float(((1 - b) ** 2 * rows["norm_right"].to_numpy() + b**2 * rows["norm_wrong"].to_numpy()).sum())

        at_v = moment(mine["value"].to_numpy())
        best = mine["norm_right"].sum() / mine["w"].sum()
        rows.append([
            f"{low:g} to {high:g}", f"{mine.height}", f"{mine['value'].mean():.2f}", f"{wrong / right:.2f}", f"{best:.2f}",
            f"{moment(0.0) / at_v:.2f}", f"{moment(mine['b_star'].to_numpy()) / at_v:.2f}",
        ])  # fmt: skip
    return markdown(["V", "prompts", "mean V", "norm wrong / right", "b*", "none / oracle V", "b* / oracle V"], rows)


def rule(frame: pl.DataFrame, prompts: pl.DataFrame) -> str:
    """The ratio that the value MSEs imply, against the measured one, over checkpoints."""
    noise = {
        (seed, step): float((v := rows["value"].to_numpy()) @ (1 - v) / len(v))
        for (seed, step), rows in prompts.group_by("seed", "step")
    }
    rows = []
    for kind, names in RULED.items():
        for name in names:
            misses, implied, measured = [], [], []
            for group in GROUPS:
                for cell in _of(frame, group):
                    base = cell.baselines.index(reference(group))
                    k = cell.baselines.index(name)
                    if k == base:
                        continue
                    mse = np.maximum(cell.value.mean(0), 0.0)
                    implied.append(implied_ratio(noise[cell.seed, cell.step], float(mse[k]), float(mse[base])))
                    measured.append(cell.error[:, k].sum() / cell.error[:, base].sum())
                    misses.append(measured[-1] - implied[-1])
            miss = np.array(misses)
            rows.append([
                TITLES[name], kind, f"{len(miss)}", f"{np.mean(implied):.2f}", f"{np.mean(measured):.2f}",
                f"{miss.mean():+.2f} ± {miss.std(ddof=1) / len(miss) ** 0.5:.2f}", f"{np.abs(miss).mean():.2f}",
            ])  # fmt: skip
    head = ["baseline", "error", "checkpoints", "implied ratio", "measured", "measured - implied", "mean absolute"]
    return markdown(head, rows)


def paper(frame: pl.DataFrame) -> str:
    """Gradient MSE of KAE h=0.3 relative to others, in percent: the paper's range over checkpoints, ours with intervals."""
    rows = []
    for title, name in (("RLOO (GRPO in the paper)", "rloo"), ("batch mean (REINFORCE++)", "batch"), ("oracle V", "V")):
        low, high = PAPER[title]
        row = [f"KAE against {title}", f"{low:+.1f} to {high:+.1f}"]
        for group in GROUPS:
            every = _of(frame, group)
            if name not in every[0].baselines:
                row.append("")
                continue
            ratio = means(every, name).of("kae")[0]
            left, right = 100 * (np.quantile(ratio[1:], [0.025, 0.975]) - 1)
            row.append(f"{100 * (ratio[0] - 1):+.1f} [{left:+.1f}, {right:+.1f}]")
        rows.append(row)
    return markdown(["gradient MSE, %", "paper", *(f"here, G = {g}" for g in GROUPS)], rows)


def conditions(frames: dict[str, pl.DataFrame]) -> str:
    """The shown baselines under other conditions, G = 4 and 8."""
    rows = []
    for title, frame in frames.items():
        for group in (4, 8):
            found = _of(frame, group)
            if found:
                here = means(found, "rloo")
                rows.append([title, f"{group}", *(_plus_minus(here.of(name)[0]) for name in SHOWN)])
    return markdown(["", "G", *(TITLES[name] for name in SHOWN)], rows)


def proxies(prompts: pl.DataFrame) -> str:
    """Correlation inside prompts of the squared norm with its stand-ins, and the power of them that it grows as: mean over
    prompts, with its standard error."""
    rows = []
    for name, title in {"proxy": "logits", "surprisal": "-log p", "length": "length"}.items():
        found = [prompts[f"{kind}_{name}"].drop_nans() for kind in ("correlation", "slope")]
        rows.append([title, *(f"{x.mean():.2f} ± {x.std() / len(x) ** 0.5:.2f}" for x in found)])
    return markdown(["stand-in", "correlation with the squared norm", "power"], rows)


def whole(frame: pl.DataFrame) -> str:
    """Error of the whole batch's gradient over the sum of the errors of the prompts, at the last checkpoint of each path."""
    ratio = frame.with_columns(ratio=pl.col("full") / pl.col("summed"))
    rows = []
    for name in frame["baseline"].unique(maintain_order=True):
        mine = ratio.filter(pl.col("baseline") == name)
        cells = [mine.filter(pl.col("group") == group)["ratio"] for group in (4, 8)]
        rows.append([TITLES[str(name)], *(", ".join(f"{x:.3f}" for x in cell) for cell in cells)])
    return markdown(["whole / summed, a number a path", "G = 4", "G = 8"], rows)


def _plus_minus(draws: Any) -> str:
    return f"{draws[0]:.2f} ± {draws[1:].std():.2f}"
