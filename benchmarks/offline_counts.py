"""BASIS, and other methods that sample rollouts before training, with 8, 16 and 64 of them a prompt.

    python -m benchmarks.offline_counts [--seeds 10] [--workers 2]

Writes results/offline_counts.md: about half a CPU minute.
"""

from __future__ import annotations

import argparse

import polars as pl

from benchmarks import RESULTS
from benchmarks.comparison import compare
from kernadv.baselines import discover

REFERENCE = "batch_mean_own"
METHODS = (
    "basis",
    "basis_loo",
    "basis_smooth",
    "basis_smooth_loo",
    "basis_tilt",
    "pvpo",
    "spo_loo",
    "kernadv + offline",
)
COUNTS = (8, 16, 64)
PROCESSES = ("calib", "fast", "flat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = discover()
    cells: dict[tuple[str, str, int], float] = {}
    for count in COUNTS:
        table = compare([found[name] for name in (REFERENCE, *METHODS)], PROCESSES, ["multi_pass"], [1],
                        options.seeds, offline_rollouts=count, workers=options.workers)  # fmt: skip
        whole = table.filter(pl.col("part") == "all").group_by("process", "method").agg(pl.col("mse").mean())
        cells |= {(process, method, count): mse for process, method, mse in whole.iter_rows()}
    (RESULTS / "offline_counts.md").write_text(markdown(cells, options.seeds))


def markdown(cells: dict[tuple[str, str, int], float], seeds: int) -> str:
    """The change of the MSE against the batch mean, in percent."""
    found = discover()
    lines = [
        "Change of the value MSE against the batch mean (REINFORCE++, own reward), G = 1, several passes, with 8, 16 and 64 "
        f"rollouts a prompt sampled before training, {seeds} runs. The rollouts are not charged. Own: the value contains "
        "the trace's own reward, if only by a choice of beta.",
        "",
        "| method | | " + " | ".join(f"{process}, {count}" for process in PROCESSES for count in COUNTS) + " |",
        "|---|---|" + "---:|" * (len(PROCESSES) * len(COUNTS)),
    ]
    for method in METHODS:
        own = "own" if found[method].uses_own_reward else ""
        row = [cells[p, method, n] / cells[p, REFERENCE, n] - 1.0 for p in PROCESSES for n in COUNTS]
        lines.append(f"| {method} | {own} | " + " | ".join(f"{100 * change:+.0f}%" for change in row) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
