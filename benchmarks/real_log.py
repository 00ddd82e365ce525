"""Value baselines on a real log of reward counts, thinned to few traces a visit.

    python -m benchmarks.real_log REWARDS.parquet [--subsets 20] [--first 5]

The table needs the columns prompt_id, visit, n_correct and n_traces; visit is the clock.  Each visit keeps G of its traces
at random; a value is scored against the mean of the R others, which are independent of it, less their noise:
``E (V - m)^2 - s^2 / R`` is its squared error, whatever the truth.  The first visits of each prompt are not scored.
Writes results/real_log.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import RESULTS
from kernadv.baselines import Baseline, LinearValues, discover, discover_tuned
from kernadv.baselines.kae import KAE
from kernadv.baselines.pooled import PooledKernel
from kernadv.clock import Relative, Steps
from kernadv.groups import aggregate

SIZES = (1, 2, 4)
WINDOWS = [
    *map(Relative, (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 10.0)),
    *map(Steps, (3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 60, 80, 150, math.inf)),
]
OTHERS = ("rloo", "eb_shrink", "dbb_loo", "dbb_loo tuned", "local_level", "local_level tuned", "kae_steps tuned")


def scores(baseline: Baseline, kept: np.ndarray, size: int, table: pl.DataFrame, scored: np.ndarray) -> float:
    """Mean squared error of the values of the kept traces."""
    prompt = np.unique(table["prompt_id"].to_numpy(), return_inverse=True)[1]
    groups = aggregate(prompt, table["visit"].to_numpy() + 1, np.full(len(kept), size), kept, kept)
    order = np.lexsort((table["visit"].to_numpy(), prompt))
    rest = (table["n_traces"].to_numpy() - size)[order]
    mean = (table["n_correct"].to_numpy()[order] - kept[order]) / rest
    values = baseline.replay(groups)
    assert isinstance(values, LinearValues)
    error = values.true_squared_error(groups, mean) / groups.n - mean * (1 - mean) / (rest - 1)
    return float(error[scored[order]].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--first", type=int, default=5)
    options = parser.parse_args()
    table = pl.read_parquet(options.log)
    scored = table["visit"].to_numpy() >= options.first
    found, tuned = discover(), discover_tuned()
    every = [PooledKernel(), *(tuned.get(name) or found[name] for name in OTHERS)]
    lines = [
        f"Value MSE x 1000 on a log of {len(table):,} visits of {table['prompt_id'].n_unique()} prompts, with "
        f"{options.subsets} random subsets of G traces a visit; the first {options.first} visits of each are not scored. "
        f"In brackets the ratio to KAE with the best of {len(WINDOWS)} windows in hindsight, relative or absolute.",
        "",
        "| | " + " | ".join(f"G = {size}" for size in SIZES) + " |",
        "|---|" + "---:|" * len(SIZES),
    ]
    cells: dict[str, list[str]] = {}
    for size in SIZES:
        errors: dict[str, list[float]] = {}
        for subset in range(options.subsets):
            rng = np.random.default_rng([subset, size])
            right, traces = table["n_correct"].to_numpy(), table["n_traces"].to_numpy()
            kept = rng.hypergeometric(right, traces - right, size).astype(np.float64)
            for baseline in (*map(KAE, WINDOWS), *every):
                if size >= baseline.min_group:
                    errors.setdefault(baseline.name, []).append(scores(baseline, kept, size, table, scored))
        mean = {name: float(np.mean(error)) for name, error in errors.items()}
        best = min((KAE(w).name for w in WINDOWS), key=mean.__getitem__)
        relative = min((KAE(w).name for w in WINDOWS if isinstance(w, Relative)), key=mean.__getitem__)
        cells.setdefault("KAE, best window", []).append(f"{1e3 * mean[best]:.2f} ({best.removeprefix('kae ')})")
        own = f"{1e3 * mean[relative]:.2f} ({mean[relative] / mean[best]:.3f}, {relative.removeprefix('kae ')})"
        cells.setdefault("KAE, best relative window", []).append(own)
        for baseline in every:
            error = mean.get(baseline.name, math.nan)
            text = f"{1e3 * error:.2f} ({error / mean[best]:.3f})" if math.isfinite(error) else ""
            cells.setdefault(baseline.name, []).append(text)
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items()]
    (RESULTS / "real_log.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
