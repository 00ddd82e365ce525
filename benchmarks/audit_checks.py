"""How often the checks of the audit find a fault of a log, and how often they fail on a log without one.

    python -m benchmarks.audit_checks [--logs 200] [--seed 0] [--smoke]

Simulated logs of 1,000 groups: 0/1 and real rewards, 2 to 16 traces a group, prompts that come back in epochs, in blocks or
never, values that move in many ways, groups of unequal size, very high and very low pass rates.  Each is audited as it is,
and with each fault that can be planted in it.  Writes results/audit_checks.md and results/audit_checks.parquet, in about two
minutes; `--smoke` audits a few logs, in less than a minute, and writes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import Progress

from benchmarks import RESULTS
from kernadv.auditing import audit
from kernadv.auditing.checks import checks_of
from kernadv.groups import aggregate
from kernadv.logs import RewardLog, RowOrder
from kernadv.simulation import PROCESSES, Process, Schedule, simulate

GROUPS = 1000
#: Prompts, and how often they come back: in epochs, in blocks of eight steps, never.
SCHEDULES = {
    "epochs": Schedule(batch=20, stay=1, blocks=5, steps=160),
    "blocks": Schedule(batch=20, stay=8, blocks=None, steps=160),
    "one pass": Schedule(batch=20, stay=1, blocks=None, steps=160),
}
PROCESS = {
    **{name: PROCESSES[name] for name in ("calib", "flat", "u_shaped", "random_walk", "leaps", "linear", "continuous")},
    "easy": Process(start=3.5, spread=1.0, walk=0.05),
    "hard": Process(start=-3.5, spread=1.0, walk=0.05),
    "hardly ever 1": Process(start=-6.5, spread=0.7),
}
SIZES = (2, 4, 8, 16)


class Log(NamedTuple):
    """A simulated log: rows in the order of training, sorted by step, then group; `drawn` has a row a group."""

    kind: str
    process: str
    size: int
    prompt: np.ndarray
    step: np.ndarray
    reward: np.ndarray

    @property
    def group(self) -> np.ndarray:
        """Number of each row's group, in the order of the rows."""
        first = np.ones(len(self.step), bool)
        first[1:] = (np.diff(self.step) != 0) | (np.diff(self.prompt) != 0)
        return np.cumsum(first) - 1

    def keep(self, groups: np.ndarray) -> Log:
        """The rows of a mask of groups."""
        rows = groups[self.group]
        return self._replace(prompt=self.prompt[rows], step=self.step[rows], reward=self.reward[rows])

    def first(self, groups: int) -> Log:
        """The first groups."""
        return self.keep(np.arange(self.group[-1] + 1) < groups)

    def rewarded(self, reward: np.ndarray) -> Log:
        """With other rewards."""
        return self._replace(reward=reward)

    def read(self) -> RewardLog:
        """As a reader would return it."""
        z = self.reward
        prompt = np.unique(self.prompt, return_inverse=True)[1]
        groups = aggregate(prompt, self.step, np.ones(len(z), np.int64), z, z * z)
        back = np.flatnonzero(np.diff(self.step) < 0)
        order = RowOrder(
            back=(len(back), int(back[0]) + 2) if len(back) else (0, 0),
            identical=0,
            places=places(self.group, z),
            alike=(),
            n_alike=0,
        )
        return RewardLog(groups, np.unique(prompt).tolist(), None, len(z), "table", Path(self.kind), (), order)


def places(group: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """Number, sum and sum of squares of the reward minus its group's mean, by place in the group."""
    size = np.bincount(group)
    left = reward - (np.bincount(group, reward) / size)[group]
    place = np.arange(len(group)) - (np.cumsum(size) - size)[group]
    kept = place < 16
    return np.column_stack([np.bincount(place[kept], part[kept], 1) for part in (np.ones(len(left)), left, left**2)])


def honest(process: str, schedule: str, size: int, seed: int, uneven: bool) -> Log:
    """A log of more than 1,000 groups, from which faults can take some."""
    run = simulate(PROCESS[process], SCHEDULES[schedule], size, seed=seed)
    order = np.lexsort((run.groups.prompt, run.groups.step))
    log = Log(
        f"{process}, {schedule}, G = {size}{' and fewer' if uneven else ''}",
        process,
        size,
        np.repeat(run.groups.prompt[order], size),
        np.repeat(run.groups.step[order], size),
        run.rewards[order].ravel(),
    )
    if uneven:  # traces without a reward, never all of a group
        rows = np.random.default_rng([seed, 7]).random(len(log.step)) < 0.7
        rows[::size] = True
        log = log._replace(prompt=log.prompt[rows], step=log.step[rows], reward=log.reward[rows])
    return log


def centred(log: Log) -> tuple[np.ndarray, np.ndarray]:
    """Rewards minus the mean of their group, and its standard deviation."""
    group, size = log.group, np.bincount(log.group)
    left = log.reward - (np.bincount(group, log.reward) / size)[group]
    return left, np.sqrt(np.bincount(group, left**2) / size)[group]


def filtered(log: Log) -> Log | None:
    """Only groups of unequal rewards, where that takes at least a tenth of them."""
    mixed = np.zeros(log.group[-1] + 1, bool)
    mixed[log.group[np.abs(centred(log)[0]) > 1e-12]] = True
    return log.keep(mixed).first(GROUPS) if mixed.mean() < 0.9 and mixed.sum() > GROUPS else None


def normalised(log: Log) -> Log:
    """Advantages of GRPO, to four decimals."""
    left, deviation = centred(log)
    return log.rewarded(np.round(left / (deviation + 1e-4), 4))


def batch_normalised(log: Log) -> Log:
    """Rewards minus the mean of their step, over its standard deviation."""
    _, code = np.unique(log.step, return_inverse=True)
    n, s, ss = (np.bincount(code, part) for part in (np.ones(len(code)), log.reward, log.reward**2))
    deviation = np.sqrt(np.maximum(ss / n - (s / n) ** 2, 0))
    return log.rewarded((log.reward - (s / n)[code]) / (deviation[code] + 1e-4))


def relative(log: Log) -> Log:
    """Rewards minus 0.9 of the mean of their group."""
    return log.rewarded(log.reward - 0.9 * (log.reward - centred(log)[0]))


def last_turn(log: Log) -> Log:
    """The traces of a group are the turns of one episode: all but the last get 0."""
    last = np.append(np.diff(log.group) > 0, True)
    return log.rewarded(np.where(last, log.reward, 0.0))


def rising(log: Log) -> Log:
    """A reward rises by half a standard deviation from the first to the last turn."""
    place = np.arange(len(log.step)) % log.size / max(log.size - 1, 1)
    return log.rewarded(log.reward + 0.5 * log.reward.std() * place)


def restarted(log: Log) -> Log:
    """The last ten steps twice, with other rewards."""
    steps = np.unique(log.step)
    again = log.step >= steps[-10]
    order = np.random.default_rng(0).permutation(int(again.sum()))
    parts = ((log.prompt, log.prompt[again]), (log.step, log.step[again]), (log.reward, log.reward[again][order]))
    prompt, step, reward = map(np.concatenate, parts)
    return log._replace(prompt=prompt, step=step, reward=reward)


def thinned(log: Log) -> Log:
    """Every tenth step: the only fault that leaves fewer groups."""
    return log.keep(np.isin(np.arange(log.group[-1] + 1), log.group[log.step % 10 == 0]))


def offset(log: Log) -> Log:
    """Rewards far from 0."""
    return log.rewarded(log.reward + 1e7)


class Fault(NamedTuple):
    """Something wrong with a log, the checks of which one must find it, and the logs in which it can be planted."""

    plant: Callable[[Log], Log | None]
    checks: tuple[str, ...]
    fits: Callable[[Log], bool]
    takes_groups: bool = False


def varied(log: Log) -> bool:
    """Whether the rewards of groups vary enough to show anything: at least a twentieth of 1,000 groups."""
    return bool((centred(log.first(GROUPS))[1] > 0).mean() >= 0.05)


def even(log: Log) -> bool:
    """Whether all groups have the same size, and vary."""
    return varied(log) and "fewer" not in log.kind


FAULTS = {
    "only groups of unequal rewards": Fault(
        filtered, ("all groups logged",), lambda log: log.process != "continuous", True
    ),
    "advantages of GRPO": Fault(normalised, ("raw rewards",), varied),
    "normalised in the batch": Fault(batch_normalised, ("raw rewards",), varied),
    "relative to the group": Fault(relative, ("possible results",), varied),
    "only the last turn is rewarded": Fault(last_turn, ("rows are traces",), even),
    "the reward rises from turn to turn": Fault(rising, ("rows are traces",), even),
    "the last ten steps twice": Fault(restarted, ("steps in order",), lambda log: True),
    "every tenth step": Fault(thinned, ("all generations logged",), lambda log: True, True),
    "rewards of 10,000,000 and more": Fault(offset, ("enough digits",), varied),
}


def logs(seed: int) -> Iterator[Log]:
    """Logs of all kinds, without end, with seeds of their own."""
    rng = np.random.default_rng(seed)
    names, schedules = list(PROCESS), list(SCHEDULES)
    for k in count():
        size = int(rng.choice(SIZES))
        schedule = schedules[int(rng.integers(len(schedules)))]
        yield honest(names[k % len(names)], schedule, size, seed * 100_000 + k, uneven=size > 2 and k % 4 == 3)


def judge(log: Log, whole: bool = True) -> dict[str, str]:
    """Verdict of each check, or of those alone that need no baseline."""
    read = log.read()
    found = audit(read, draws=2).checks if whole else checks_of(read.groups, read.order)
    return {check.name: check.verdict for check in found if check is not None}


def measure(number: int, seed: int) -> pl.DataFrame:
    """A row a log, fault and check: `number` logs without a fault, and as many with each fault."""
    rows, times = [], dict.fromkeys(["none", *FAULTS], 0)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("logs", total=number * len(times))
        for k, log in enumerate(logs(seed)):
            whole = log.first(GROUPS)
            cases = {"none": whole} if times["none"] < number else {}
            for name, fault in FAULTS.items():
                if times[name] < number and fault.fits(log):
                    case = fault.plant(log if fault.takes_groups else whole)
                    if case is not None:
                        cases[name] = case
            for name, case in cases.items():
                times[name] += 1
                progress.advance(task)
                needs_baselines = name == "none" or "possible results" in FAULTS[name].checks
                rows += [
                    {"log": k, "kind": log.kind, "fault": name, "check": check, "verdict": verdict}
                    for check, verdict in judge(case, needs_baselines).items()
                ]
            if min(times.values()) == number:
                return pl.DataFrame(rows)
    raise AssertionError("logs never end")


def table(found: pl.DataFrame) -> list[str]:
    """False alarms by check, and the share of the logs in which each fault was found."""
    failed = found.with_columns(failed=pl.col("verdict") != "ok")
    clean = failed.filter(fault="none")
    alarms = clean.group_by("log").agg(pl.col("failed").any())["failed"]
    lines = [
        f"{clean['log'].n_unique()} simulated logs of {GROUPS:,} groups without a fault: {alarms.sum()} failed a check.",
        "",
        "| check | logs | false alarms |",
        "|---|---:|---:|",
    ]
    for (check,), part in clean.group_by(["check"], maintain_order=True):
        lines.append(f"| {check} | {len(part)} | {part['failed'].sum()} |")
    lines += [
        "",
        "The same logs with a fault, where it can be planted:",
        "",
        "| fault | check | logs | found |",
        "|---|---|---:|---:|",
    ]
    for name, fault in FAULTS.items():
        part = failed.filter(fault=name)
        found_in = pl.col("failed") & pl.col("check").is_in(fault.checks)
        own = part.group_by("log").agg(found_in.any())["failed"]
        lines.append(f"| {name} | {', '.join(fault.checks)} | {len(own)} | {own.mean():.1%} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    found = measure(2 if options.smoke else options.logs, options.seed)
    lines = table(found)
    if not options.smoke:
        found.write_parquet(RESULTS / "audit_checks.parquet", compression="zstd")
        (RESULTS / "audit_checks.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
