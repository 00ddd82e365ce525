"""The tables of the section "Policies", as Markdown."""

from __future__ import annotations

import polars as pl

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.results.policy_results import (
    Difference,
    best_rates,
    complete,
    difference,
    read,
    scores,
    study_runs,
    tuning_runs,
)
from benchmarks.rlvr.training.collect import recorded
from benchmarks.rlvr.training.methods import METHODS
from benchmarks.rlvr.training.queues import CHOSEN, COMPARED, LONG, RATES, SENSITIVITY, policies

REFERENCES = ("none", "batch", "rloo")
ROLLOUTS = 2560  # at which budgets are compared


def tables(table: pl.DataFrame | None = None) -> dict[str, str]:
    """Title -> Markdown table."""
    table = read() if table is None else table
    every = scores(study_runs(table))
    long = pl.col("steps_in_all") == LONG
    found = every.filter(~long)
    out = {}
    for task in found["task"].unique(maintain_order=True).sort():
        mine = found.filter((pl.col("task") == task) & ~pl.col("method").is_in(SENSITIVITY))
        for reuse in (10, 1):
            for group in COMPARED:
                cell = complete(mine.filter((pl.col("reuse") == reuse) & (pl.col("group") == group)))
                if cell.height:
                    out[f"{task}, G = {group}, J = {reuse}"] = compared(cell)
    sums = found.filter(pl.col("task") == "chain_sum")
    return {
        **out,
        "Toward b*": among_smoothers(sums),
        "Resolution": resolution(sums),
        "Collapse": collapse(every.filter((pl.col("task") == "chain_sum") & (pl.col("group") == 1))),
        "Schedule": schedule(sums),
        "Sensitivity": sensitivity(sums.filter((pl.col("group") == 1) & (pl.col("reuse") == 10))),
        "Budget": budget(study_runs(table).filter((pl.col("task") == "chain_sum") & (pl.col("reuse") == 10) & ~long)),
        "Learning rates": learning_rates(table),
        "Completeness": completeness(),
        "Audit": audit_check(),
    }


def compared(cell: pl.DataFrame) -> str:
    """Each score of each method, and its paired differences from the references, in points of accuracy."""
    by = {name: cell.filter(pl.col("method") == name) for name in METHODS}
    by = {name: runs for name, runs in by.items() if runs.height}
    references = [name for name in REFERENCES if name in by]
    parts = []
    for score in ("area", "final"):
        rows = []
        for name, runs in by.items():
            gaps = [
                _signed(difference(runs, by[reference], score)) if reference != name else "" for reference in references
            ]
            rows.append([METHODS[name].title, str(runs.height), _mean(runs[score]), *gaps])
        titles = [f"− {METHODS[name].title}" for name in references]
        parts.append(markdown([f"{score}", "seeds", "mean", *titles], rows))
    return "\n\n".join(parts)


def among_smoothers(runs: pl.DataFrame) -> str:
    """The smoothers against each other: toward b*, toward V, and KAE."""
    rows = []
    for reuse in (10, 1):
        for group in COMPARED:
            cell = runs.filter((pl.col("group") == group) & (pl.col("reuse") == reuse))
            for a, b in (("weighted", "default"), ("weighted", "kae"), ("default", "kae")):
                mine = [cell.filter(pl.col("method") == name) for name in (a, b)]
                found = [difference(*mine, score) for score in ("area", "final")]
                if found[0] is not None:
                    pair = f"{METHODS[a].title} − {METHODS[b].title}"
                    rows.append([pair, f"G = {group}, J = {reuse}", str(found[0].seeds), *map(_signed, found)])
    return markdown(["pair", "cell", "seeds", "area", "final"], rows)


def resolution(runs: pl.DataFrame) -> str:
    """Smallest true difference, in points, that a paired test at 5% finds with a chance of 80%."""
    rows = []
    for reuse in (10, 1):
        for group, names in COMPARED.items():
            cell = runs.filter((pl.col("group") == group) & (pl.col("reuse") == reuse))
            by = {name: cell.filter(pl.col("method") == name) for name in names}
            texts, seeds = [], 0
            for score in ("area", "final"):
                pairs = [difference(by[a], by[b], score) for i, a in enumerate(names) for b in names[:i]]
                found = sorted(100 * pair.resolvable for pair in pairs if pair is not None)
                if found:
                    texts.append(f"{found[len(found) // 2]:.1f} ({found[0]:.1f} to {found[-1]:.1f})")
                    seeds = max(pair.seeds for pair in pairs if pair is not None)
            if texts:
                rows.append([f"G = {group}, J = {reuse}", str(seeds), *texts])
    return markdown(["cell", "seeds", "area: median pair (least to most)", "final"], rows)


def collapse(runs: pl.DataFrame) -> str:
    """How far runs of one trace a prompt end below their own best."""
    runs = runs.filter(~pl.col("method").is_in(SENSITIVITY)).with_columns(fall=pl.col("best") - pl.col("final"))
    rows = []
    shapes = runs.select("reuse", "steps_in_all").unique().sort("reuse", "steps_in_all", descending=[True, False])
    for reuse, steps in shapes.iter_rows():
        for name in COMPARED[1]:
            shape = (pl.col("reuse") == reuse) & (pl.col("steps_in_all") == steps)
            mine = runs.filter(shape & (pl.col("method") == name))
            if mine.height:
                numbers = [mine["first"].mean(), mine["final"].min(), mine["final"].mean(), mine["fall"].max()]
                about = [METHODS[name].title, str(reuse), str(steps), str(mine.height)]
                rows.append([*about, *(f"{x:.3f}" for x in numbers)])
    head = ["method", "J", "steps", "seeds", "start", "lowest final", "mean final", "largest fall from its best"]
    return markdown(head, rows)


def schedule(runs: pl.DataFrame) -> str:
    """What ten steps in a row on the same prompts change, method by method, against epochs."""
    rows = []
    for group, methods in COMPARED.items():
        for name in methods:
            mine = runs.filter((pl.col("method") == name) & (pl.col("group") == group))
            ten, one = (mine.filter(pl.col("reuse") == reuse) for reuse in (10, 1))
            found = [difference(ten, one, score) for score in ("area", "final")]
            if found[0] is not None:
                rows.append([METHODS[name].title, str(group), str(found[0].seeds), *map(_signed, found)])
    return markdown(["method", "G", "seeds", "area, J = 10 − J = 1", "final, J = 10 − J = 1"], rows)


def sensitivity(runs: pl.DataFrame) -> str:
    """KAE with other bandwidths and another kernel, against h = 0.3, at G = 1."""
    reference = runs.filter(pl.col("method") == "kae")
    rows = []
    for name in SENSITIVITY:
        mine = runs.filter(pl.col("method") == name)
        if mine.height:
            found = [difference(mine, reference, score) for score in ("area", "final")]
            rows.append([METHODS[name].title, str(mine.height), _mean(mine["area"]), *map(_signed, found)])
    return markdown(["method", "seeds", "area", "area − KAE h=0.3", "final − KAE h=0.3"], rows)


def budget(table: pl.DataFrame) -> str:
    """Accuracy after the same number of rollouts, at every group size: prompts a step differ too."""
    at = table.filter(
        (pl.col("step") * pl.col("group") * pl.col("prompts") == ROLLOUTS) & ~pl.col("method").is_in(SENSITIVITY)
    )
    shapes = at.select("group", "prompts").unique().sort("group").rows()
    rows = []
    for name in METHODS:
        mine = at.filter(pl.col("method") == name)
        if mine.height:
            parts = [mine.filter(pl.col("group") == group)["accuracy"] for group, _ in shapes]
            rows.append([METHODS[name].title, *(_mean(part) if len(part) else "" for part in parts)])
    return markdown(["method", *(f"G = {group}, {prompts} prompts a step" for group, prompts in shapes)], rows)


def learning_rates(table: pl.DataFrame) -> str:
    """Area under the curve of the tuning runs; each method's own best in bold, the mean over methods chooses."""
    found, best = scores(tuning_runs(table)), best_rates(table)
    rows = []
    for group, methods in COMPARED.items():
        of_group = found.filter(pl.col("group") == group)
        for name in methods:
            mine = dict(of_group.filter(pl.col("method") == name).select("rate", "area").iter_rows())
            own = max(mine, key=mine.__getitem__, default=None)
            cells = [f"**{mine[r]:.3f}**" if r == own else f"{mine[r]:.3f}" if r in mine else "" for r in RATES]
            rows.append([METHODS[name].title, str(group), *cells])
        mean = dict(of_group.group_by("rate").agg(pl.col("area").mean()).iter_rows())
        rows.append(["mean", str(group), *(f"{mean[r]:.3f}" if r in mean else "" for r in RATES)])
    assert all(CHOSEN[group] == rate for group, rate in best.items()), "CHOSEN is not what the tuning runs say"
    return markdown(["method", "G", *(f"lr {rate:g}" for rate in RATES)], rows)


def completeness() -> str:
    """How many of the planned runs of each kind are in the results."""
    known = recorded()
    kinds: dict[str, list[bool]] = {}
    for setting in policies():
        kind = "bandwidth and kernel, " if setting.method in SENSITIVITY else ""
        kind += f"G = {setting.group}, J = {setting.reuse}, {setting.steps} steps"
        kinds.setdefault(kind, []).append(setting.name in known)
    return markdown(["runs", "done", "planned"], [[kind, str(sum(x)), str(len(x))] for kind, x in kinds.items()])


def audit_check() -> str:
    """The audit's truth-free value MSE, from the log alone, beside the true one."""
    path = RESULTS / "audit_check.parquet"
    if not path.exists():
        return "*Not run.*"
    rows = [
        [METHODS[method].title, baseline, f"{free:.4f}", f"[{low:.4f}, {high:.4f}]", f"{true:.4f}"]
        for method, baseline, free, low, high, true in pl.read_parquet(path)
        .filter(~pl.col("baseline").str.contains("w=|k="))
        .select("method", "baseline", "truth_free", "low", "high", "true")
        .iter_rows()
    ]
    return markdown(["trained with", "baseline", "truth-free MSE", "95% interval", "true MSE"], rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; numbers to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mean(values: pl.Series) -> str:
    """Mean and standard error."""
    error = values.std() / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():.3f} ± {error:.3f}"


def _signed(found: Difference | None) -> str:
    """In points, with the interval; bold where it leaves out 0."""
    if found is None:
        return ""
    text = f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text
