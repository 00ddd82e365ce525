"""Errors of the policy gradient under each baseline, in all parameters, from the banks of `draw.py`.

The gradient of a group is ``g = mean_g (Z^(g) - V^(g)) s^(g)``.  All baselines here are free of the own reward, so they
share E g, and the mean squared error is ``E |g|^2 - |E g|^2``.  |g|^2 needs the inner products of the scores only.

Command: ``python -m benchmarks.rlvr.banks.gradients``; a bank that was done is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.banks.draw import plans
from benchmarks.rlvr.banks.replays import COLUMNS, GROUPS, Bank, Column, ScoreWeightedKAE, pooled, read, table, values
from benchmarks.rlvr.files import write_table
from kernadv.cli._progress import Bars

WEIGHTS = {
    "norm": "|s|²",
    "proxy": "logits",
    "proxy-squared": "logits²",
    "proxy-cubed": "logits³",
    "surprisal": "-log p",
    "surprisal-squared": "(-log p)²",
    "surprisal-capped": "(-log p)², capped",
    "length": "length",
}

#: Baselines that a training loop can have.
ONLINE = {name: column for name, column in COLUMNS.items() if name != "kae-0.5"} | {
    **{f"weighted-{w}": Column(f"kernadv weighted by {t}", pooled(weighted=True), w) for w, t in WEIGHTS.items()},
    "weighted-tilted": Column(
        "kernadv weighted by (-log p)², capped, tilted by 2", pooled(weighted=True, pessimism=2.0), "surprisal-capped"
    ),
    "tilted-2": Column("kernadv tilted by 2", pooled(pessimism=2.0)),
    "tilted-3": Column("kernadv tilted by 3", pooled(pessimism=3.0)),
    **{
        f"kae-{w}": Column(f"KAE h=0.5 weighted by {WEIGHTS[w]}", lambda _: ScoreWeightedKAE(0.5), w)
        for w in ("norm", "proxy", "proxy-squared")
    },
}
ORACLES = {
    "none": "none",
    "V": "oracle V",
    "b*": "oracle b*",
    "global": "one global b*",
    "b*-proxy": "oracle b* by logits",
    "global-proxy": "one global b* by logits",
    "b*-proxy-squared": "oracle b* by logits²",
    "global-proxy-squared": "one global b* by logits²",
}


def second_moments(gram: Any, coefficients: Any, rows: Any) -> Any:
    """``|mean_g c_g s_g|^2`` of groups of traces.

    Parameters
    ----------
    gram : (n, n)
        Inner products of the scores of a prompt's traces.
    coefficients, rows : (repeats, G)
        Reward minus value, and the trace's row of `gram`.

    Returns
    -------
    (repeats,)
    """
    blocks = gram[rows[:, :, None], rows[:, None, :]]
    return np.einsum("rg,rgh,rh->r", coefficients, blocks, coefficients) / rows.shape[1] ** 2


def squared_mean(gram: Any, coefficients: Any) -> float:
    """``|E c s|^2`` without the noise of the mean: over pairs of different traces.  # (n, n), (n,)"""
    n = len(coefficients)
    total = coefficients @ gram @ coefficients - (coefficients**2) @ gram.diagonal()
    return float(total / (n * (n - 1)))


def leave_group_out(top: Any, bottom: Any, rows: Any) -> Any:
    """``sum top / sum bottom`` over the prompt's traces outside each group.  # (P, n), (P, n), (repeats, P, G)"""
    p = np.arange(len(top))[None, :, None]
    rest = [x.sum(1)[None, :] - x[p, rows].sum(2) for x in (top, bottom)]
    return (rest[0] / rest[1])[:, :, None]


def fixed(bank: Bank, rows: Any) -> dict[str, list[Any]]:
    """Values that no training loop has: a baseline is the mean of the errors of one or two arrays of values.

    b* is estimated, once with the group (errors a little too small) and once without it (too large by as much).
    """
    data, shape = bank.data, rows.shape
    n = data["norm"].shape[1]
    z, total = data["rewards"][:, :n], data["rewards"].sum(1)
    own = z[np.arange(len(z))[None, :, None], rows].sum(2)
    truth = ((total - own) / (data["rewards"].shape[1] - shape[2]))[:, :, None]
    found = {"none": [np.zeros(1)], "V": [truth]}
    for end, w in (("", data["norm"]), ("-proxy", data["proxy"]), ("-proxy-squared", data["proxy-squared"])):
        inside = ((w * z).sum(1) / w.sum(1))[None, :, None]
        found["b*" + end] = [inside, leave_group_out(w * z, w, rows)]
        others = [x.sum() - x.sum(1) for x in (w * z, w)]
        found["global" + end] = [(others[0] / others[1])[None, :, None]]
    return {name: [np.broadcast_to(x, shape) for x in parts] for name, parts in found.items()}


def regroup(bank: Bank, group: int, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """The scored traces of each prompt in random groups.

    Returns
    -------
    rows : (repeats, P, G)
        Number of the trace among the prompt's.
    traces : dict of (repeats, P, G)
        Their rewards and weights.
    """
    count, n = bank.data["norm"].shape
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(n).reshape(-1, group) for _ in range(count)], axis=1)
    p = np.arange(count)[None, :, None]
    traces = {name: bank.data[name][p, rows] for name in WEIGHTS}
    return rows, traces | {"reward": bank.data["rewards"][p, rows]}


def measure(bank: Bank, group: int) -> Iterator[dict[str, Any]]:
    """One row a baseline and prompt."""
    data = bank.data
    count, n = data["norm"].shape
    rows, traces = regroup(bank, group)
    given: dict[str, list[Any]] = fixed(bank, rows)
    for name, column in ONLINE.items():
        if group >= column.least_group:
            given[name] = [values(bank, column, group, traces)]
    truth = given["V"][0]
    rest = data["rewards"].shape[1] - group
    centre = data["rewards"].mean(1)
    for name, parts in given.items():
        for x in range(count):
            moments = [second_moments(data["gram"][x], (traces["reward"] - b)[:, x], rows[:, x]) for b in parts]
            noise = (truth * (1.0 - truth) / (rest - 1.0))[:, x]
            yield {
                "group": group,
                "baseline": name,
                "prompt": int(data["prompt"][x]),
                "second_moment": np.mean(moments),
                "squared_mean": squared_mean(data["gram"][x], data["rewards"][x, :n] - centre[x]),
                "value_mse": np.mean([((b - truth)[:, x] ** 2 - noise).mean() for b in parts]),
            }


def describe(bank: Bank) -> Iterator[dict[str, Any]]:
    """One row a prompt: V, and sums over right and wrong traces of the squared norms."""
    data = bank.data
    n = data["norm"].shape[1]
    for x in range(bank.prompts):
        z, norm, proxy = data["rewards"][x, :n], data["norm"][x], data["proxy"][x]
        total = data["rewards"].shape[1]
        yield {
            "prompt": int(data["prompt"][x]),
            "value": data["rewards"][x].mean(),
            "rollouts": total,
            "right": z.sum(),
            "wrong": n - z.sum(),
            "norm_right": norm @ z,
            "norm_wrong": norm @ (1.0 - z),
            "b_star": (norm @ z) / norm.sum(),
            "correlation": _correlation(norm, z),
            "correlation_proxy": _correlation(norm, proxy),
            "correlation_surprisal": _correlation(norm, data["surprisal"][x]),
            "correlation_length": _correlation(norm, data["length"][x]),
            **{f"slope_{name}": _slope(data[name][x], norm, z) for name in ("proxy", "surprisal", "length")},
        }


def _correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")


def _slope(stand_in: Any, norm: Any, z: Any) -> float:
    """Least-squares slope of log |s|^2 on the logarithm of its stand-in, about the means of right and of wrong traces."""
    x, y = np.log(stand_in), np.log(norm)
    for outcome in (0.0, 1.0):
        mine = z == outcome
        if mine.any():
            x[mine] -= x[mine].mean()
            y[mine] -= y[mine].mean()
    return float(x @ y / (x @ x)) if x @ x > 0 else float("nan")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Gradient errors of every baseline at the banks.")
    parser.add_argument("--banks", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    work = [(plan, step) for plan in plans() if plan.scored for step in plan.checkpoints]
    measured, described = [], []
    with Bars() as bars, bars.bar("gradients") as show:
        for number, (plan, step) in enumerate(work):
            path = plan.bank(arguments.banks, step)
            show(number / len(work), path.stem)
            if path.exists():
                part = path.with_suffix(".gradients.parquet")
                bank = read(plan, step, arguments.banks)
                if not part.exists():
                    rows = [row for group in GROUPS for row in measure(bank, group)]
                    write_table(table(rows, plan, step), part)
                measured.append(pq.read_table(part))
                described.append(table(list(describe(bank)), plan, step))
    write_table(pa.concat_tables(measured), arguments.results / "gradients.parquet")
    write_table(pa.concat_tables(described), arguments.results / "gradient_prompts.parquet")


if __name__ == "__main__":
    main()
