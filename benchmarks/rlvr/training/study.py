"""The study of the policies: a queue of runs, most valuable first, that any number of processes work off.

Command, once a core: ``python -m benchmarks.rlvr.training.study``; stopped, it goes on where it was.  Runs whose
results are in the repository are left out, but for ``--again``.
"""

from __future__ import annotations

import argparse
import fcntl
from pathlib import Path

import torch

from benchmarks.rlvr.training.collect import recorded
from benchmarks.rlvr.training.queues import QUEUES
from benchmarks.rlvr.training.runs import Run
from benchmarks.rlvr.training.setting import Setting


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
    parser.add_argument("--again", action="store_true", help="also the runs whose results are in the repository")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(arguments.device == "cpu")  # a GPU has no such cumulative sum
    known = set() if arguments.again else recorded()
    queue = [setting for setting in QUEUES[arguments.queue]() if setting.name not in known]
    work(queue, arguments.folder, arguments.device)


if __name__ == "__main__":
    main()
