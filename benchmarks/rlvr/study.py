"""The study of the policies: a queue of runs, most valuable first, that any number of processes work off.

Command, once a core: ``python benchmarks/rlvr/study.py``; stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Iterator
from pathlib import Path

import torch
from training import Setting

from runs import Run

SEEDS = range(8)
TABLES = 4  # starts: seed s uses table s % 4
METHODS = {
    1: ("none", "batch", "kae", "default", "weighted"),
    4: ("none", "batch", "rloo", "kae", "default", "weighted"),
}
PROMPTS = {1: 32, 4: 16}  # a step, by group
SENSITIVITY = ("kae-0.1", "kae-1", "kae-exponential")

RATES = (5e-5, 1e-4, 2e-4)
TUNING = {1: 100, 4: 60}  # steps of the choice of the learning rate, by group
TUNING_SEED = 100

#: Chosen by `tables.py` from the runs of `tuning`: group, method -> learning rate.
CHOSEN: dict[tuple[int, str], float] = {}


def tuning() -> Iterator[Setting]:
    """Every method at every learning rate, with the same small budget."""
    for group, methods in METHODS.items():
        for method in methods:
            for rate in RATES:
                steps = TUNING[group]
                yield Setting(
                    method, TUNING_SEED, group=group, prompts=PROMPTS[group], rate=rate, steps=steps, every=steps // 2
                )


def policies() -> Iterator[Setting]:
    """Block reuse first, then epochs; all methods of a seed, then the next seed."""
    for reuse in (10, 1):
        for seed in SEEDS:
            for group, methods in METHODS.items():
                for method in methods:
                    yield _setting(method, seed, group, reuse)
    for seed in SEEDS:
        for method in SENSITIVITY:
            yield _setting(method, seed, 4, 10)


def _setting(method: str, seed: int, group: int, reuse: int) -> Setting:
    rate = CHOSEN[group, "kae" if method in SENSITIVITY else method]
    return Setting(method, seed, table=seed % TABLES, group=group, prompts=PROMPTS[group], reuse=reuse, rate=rate)


QUEUES = {"tuning": tuning, "policies": policies}


def work(settings: list[Setting], folder: Path, device: str) -> None:
    """Carry out all runs that are not done; another process may work on the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, setting in enumerate(settings, 1):
        with (folder / f"{setting.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # another process is on it
            Run(setting, folder, device=device).carry_out(f"{number}/{len(settings)} ")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Work off a queue of runs.")
    parser.add_argument("queue", choices=QUEUES, nargs="?", default="policies")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    work(list(QUEUES[arguments.queue]()), arguments.folder, arguments.device)


if __name__ == "__main__":
    main()
