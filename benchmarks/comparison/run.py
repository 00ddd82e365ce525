"""Every method on the same simulated runs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.comparison.tables import CELL
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_count
from kernadv.baselines import Baseline, Offline, SideInformation, Traces
from kernadv.cli._progress import Bars
from kernadv.simulation import PROCESSES, SCHEDULES, Process, Schedule, Simulation, posterior, simulate
from kernadv.typing import FloatArray, IntArray

#: Steps that share a row of the table, and the first steps, which have rows of their own.
STEPS, FIRST = 10, 20
#: Ways to cut a run.
PARTS = ("all", "step", "first", "position", "decile")


class _Task(NamedTuple):
    process: Process
    schedule: Schedule
    seed: int
    group_sizes: tuple[int, ...]
    baselines: tuple[Baseline, ...]
    features: str | None
    offline_rollouts: int
    parts: tuple[str, ...]


def compare(
    baselines: Sequence[Baseline],
    processes: Sequence[str] = tuple(PROCESSES),
    schedules: Sequence[str] = tuple(SCHEDULES),
    group_sizes: Sequence[int] = (1, 2, 4, 8),
    seeds: int | Sequence[int] = 20,
    *,
    batches: Sequence[int] = (8, 16, 32, 64),
    features: str | None = None,
    offline_rollouts: int = 8,
    parts: Sequence[str] = PARTS,
    workers: int = 2,
) -> pl.DataFrame:
    """Run every baseline on every simulated run.

    Parameters
    ----------
    baselines : sequence of Baseline
        With names that differ.  A baseline whose smallest group is larger than a run's is left out there.
    processes, schedules : sequences of str
        Names in `kernadv.simulation.PROCESSES` and `SCHEDULES`.
    group_sizes : sequence of int
    seeds : int or sequence of int
        A number n stands for 0 ... n - 1.
    batches : sequence of int
        Prompts a step, in place of the schedules' own.
    features : {None, "informative", "noise"}
        Which of the run's features the baselines may read.
    offline_rollouts : int
        Rollouts a prompt before training, charged to the baselines that need them.
    parts : sequence of {"all", "step", "first", "position", "decile"}
        Parts of the runs that have rows in the table.
    workers : int
        Processes; with more than one the calling script needs ``if __name__ == "__main__"``.

    Returns
    -------
    polars.DataFrame
        One row a run, baseline and part of the run: ``part`` is "all", "step" (``at``: the last step of a bin of 10),
        "first" (``at``: a step up to 20, 21 for all later ones), "position" in the stay, or "decile" of the true value,
        numbered by ``at`` from 1.  ``batch`` prompts a step; ``mse`` and ``bias`` of the value, over the traces;
        ``noise``, the mean variance of a reward, V (1 - V) where it is 0 or 1; ``gradient_ratio`` = (noise + mse) / noise,
        the variance of the policy gradient relative to that of the true value if the size of the score is unrelated to the
        reward, null for values that contain their own reward; ``undefined``, the share of groups without a value, which are
        left out; ``rollouts`` a visit, with those from before training shared among the visits.

    Raises
    ------
    ArgumentError
        If an argument cannot be used.
    """
    if not isinstance(baselines, (list, tuple)) or not all(isinstance(b, Baseline) for b in baselines):
        raise ArgumentTypeError(f"baselines must be a list of baselines, got {baselines!r:.80}; see discover()")
    lists = {
        "processes": processes,
        "schedules": schedules,
        "parts": parts,
        "batches": batches,
        "group_sizes": group_sizes,
    }
    for name, given in lists.items():
        if not isinstance(given, (list, tuple)) or not given:
            what = "number" if name in ("batches", "group_sizes") else "name"
            raise ArgumentTypeError(f"{name} must be a list of one {what} or more, got {given!r:.80}")
    names = [b.name for b in baselines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ArgumentError(f"baselines must have names that differ, got {', '.join(twice)} twice" if twice
                            else "baselines is empty; kernadv.baselines.discover() has all of them")  # fmt: skip
    if features is not None:
        check_choice(features, "features", ("informative", "noise"))
    sizes = tuple(check_count(size, "group_size") for size in group_sizes)
    chosen = list(range(check_count(seeds, "seeds"))) if isinstance(seeds, int) else list(seeds)
    keys = list(
        product(
            [check_choice(p, "process", PROCESSES) for p in processes],
            [check_choice(s, "schedule", SCHEDULES) for s in schedules],
            [check_count(batch, "batch") for batch in batches],
            chosen,
        )
    )
    kept = tuple(check_choice(part, "part", PARTS) for part in parts)
    tasks = [
        _Task(
            PROCESSES[p],
            replace(SCHEDULES[s], batch=b),
            seed,
            sizes,
            tuple(baselines),
            features,
            offline_rollouts,
            kept,
        )
        for p, s, b, seed in keys
    ]
    frames = []
    with Bars() as bars, bars.bar("simulated runs") as show:
        for (process, schedule, batch, seed), columns in zip(
            keys, _map(tasks, check_count(workers, "workers")), strict=True
        ):
            frames.append(
                pl.DataFrame(columns).with_columns(
                    process=pl.lit(process),
                    schedule=pl.lit(schedule),
                    batch=pl.lit(batch, pl.Int32),
                    seed=pl.lit(seed, pl.Int32),
                    part=pl.col("part").replace_strict(dict(enumerate(PARTS)), return_dtype=pl.String),
                    method=pl.col("method").replace_strict(dict(enumerate(names)), return_dtype=pl.String),
                )
            )
            show(len(frames) / len(tasks), f"{process}, {schedule}")
    order = (*CELL, "seed", "method", "part", "at", *MEASURES)
    return pl.concat(frames).fill_nan(None).select(order)


#: Columns of numbers.
MEASURES = ("mse", "bias", "noise", "gradient_ratio", "undefined", "rollouts")


def side_information(run: Simulation, features: str | None = None) -> SideInformation:
    """All a baseline may read of a simulated run; features: None, "informative" or "noise"."""
    known = {"informative": run.features, "noise": run.noise_features}
    chosen = None if features is None else known[check_choice(features, "features", known)]
    offline = Offline(run.offline, run.offline_rollouts) if run.offline_rollouts else None
    return SideInformation(
        Traces(run.rewards.ravel(), run.length.ravel()), offline, chosen, run.value, cache(partial(posterior, run))
    )


def _run(task: _Task) -> dict[str, FloatArray]:
    """All baselines on the runs of one seed: the columns of the table."""
    out: list[FloatArray] = []
    for size in task.group_sizes:
        run = simulate(task.process, task.schedule, size, seed=task.seed, offline_rollouts=task.offline_rollouts)
        side, cuts = side_information(run, task.features), _cuts(run, task.parts)
        offline = task.offline_rollouts * len(run.offline) / len(run.value)
        for number, baseline in enumerate(task.baselines):
            if baseline.min_group <= size:
                spent = size + (offline if baseline.offline_rollouts else 0.0)
                out.append(_measure(run, side, cuts, number, baseline, spent))
    names = ("group_size", "method", "part", "at", *MEASURES)
    columns = dict(zip(names, np.concatenate(out, axis=1), strict=True))
    return columns | {name: columns[name].astype(np.int32) for name in ("group_size", "method", "part", "at")}


def _cuts(run: Simulation, parts: tuple[str, ...]) -> list[tuple[int, IntArray, IntArray]]:
    """Part, its labels, and the index of the label of each group."""
    rank = np.empty(len(run.value), np.int64)
    rank[np.argsort(run.value, kind="stable")] = np.arange(len(rank))
    labels = {
        "all": np.ones(len(rank), np.int64),
        "step": -(-run.groups.step // STEPS) * STEPS,
        "first": np.minimum(run.groups.step, FIRST + 1),
        "position": run.position,
        "decile": rank * 10 // len(rank) + 1,
    }
    return [(PARTS.index(part), *np.unique(labels[part], return_inverse=True)) for part in parts]


def _measure(
    run: Simulation,
    side: SideInformation,
    cuts: list[tuple[int, IntArray, IntArray]],
    number: int,
    baseline: Baseline,
    rollouts: float,
) -> FloatArray:
    """The rows of one baseline on one run.  # (10, rows)"""
    values = baseline.replay(run.groups, side)
    size = run.rewards.shape[1]
    error, total = values.true_squared_error(run.groups, run.value) / size, values.total(run.groups) / size
    defined = ~np.isnan(error)
    terms = np.where(defined, np.stack([error, total - run.value, run.process.variance(run.value)]), 0.0)
    rows = []
    for part, labels, code in cuts:
        count = np.bincount(code, defined)
        mse, bias, noise = (np.bincount(code, term) / np.where(count > 0, count, np.nan) for term in terms)
        ratio = np.full(len(labels), np.nan) if baseline.uses_own_reward else (noise + mse) / noise
        same = np.ones(len(labels))
        missing = 1.0 - count / np.bincount(code)
        rows.append(
            np.stack(
                [size * same, number * same, part * same, labels, mse, bias, noise, ratio, missing, rollouts * same]
            )
        )
    return np.concatenate(rows, axis=1)


def _map(tasks: list[_Task], workers: int) -> Iterator[dict[str, FloatArray]]:
    """`_run` over the tasks, in order."""
    if workers == 1:
        yield from map(_run, tasks)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(_run, tasks)


def _one_thread() -> None:
    """Keep a worker's compiled loops to one thread: the workers are the parallelism."""
    import numba

    numba.set_num_threads(1)
