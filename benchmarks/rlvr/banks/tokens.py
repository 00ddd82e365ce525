"""Second moments of the gradient with baselines of tokens, beside those of traces.

Paths of the small transformers train with the weighted baseline, one trace a prompt.  Before a few steps more traces of the
step's prompts are sampled, with the inner products of the scores of all their tokens; every baseline has seen the path.

Command: ``python -m benchmarks.rlvr.banks.tokens``, about ten minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.policies.methods import METHODS, Batch
from benchmarks.rlvr import RESULTS
from benchmarks.rlvr.model.rollouts import Rollouts, roll_out, uniforms
from benchmarks.rlvr.model.scoring import token_products
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.loop import Training
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Prompts, Sizes, start
from benchmarks.rlvr.training.study import SIZES
from kernadv.cli._progress import Bars

FILE = RESULTS / "tokens.parquet"
COMPARED = ("none", "plain", "weighted", "weighted-tilted", "weighted-tokens", "weighted-tokens-tilted")
RATES = {"lookup": 4e-4, "chain_sum": 1e-4}
SEEDS, STEPS, TRACES = 4, (25, 73), 32
STREAM = 4  # of random numbers


class Watched(Training):
    """A path whose batches all the compared baselines see."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.compared = {name: METHODS[name].make("sum") for name in COMPARED}

    def batch(self, rows: Any, rollouts: Rollouts) -> Batch:
        """As a baseline sees it."""
        return Batch(rows, rollouts.rewards, rollouts.log_probs, rollouts.traces.mask.numpy(), self.done + 1, 1)

    def advantages(self, rows: Any, rollouts: Rollouts) -> Any:
        """Those of the path's own method."""
        for baseline in self.compared.values():
            baseline(self.batch(rows, rollouts))
        return super().advantages(rows, rollouts)


def measure(path: Watched) -> Iterator[dict[str, Any]]:
    """A row a baseline and prompt of the next step: second moment of the gradient of one trace."""
    prompts = path.schedule[path.done]
    problems = [path.problems.train[row] for row in prompts]
    moments = {name: np.zeros(len(prompts)) for name in COMPARED}
    drawn = []
    for k in range(TRACES):
        draws = uniforms(len(prompts), path.task.trace_length, path.setting.seed, STREAM, path.done, k)
        rollouts = roll_out(path.model, path.task, problems, draws)
        products = token_products(path.model, rollouts.prompts, rollouts.traces.tokens)
        for name, baseline in path.compared.items():
            found = deepcopy(baseline)(path.batch(prompts, rollouts))
            moments[name] += second_moment(rollouts.rewards, found, products) / TRACES
        drawn.append((rollouts.rewards, products.sum((1, 2))))
    reward, norm = (np.stack(column, axis=1) for column in zip(*drawn, strict=True))  # (P, TRACES)
    others = [x.sum(1, keepdims=True) - x for x in (norm * reward, norm)]
    moments["optimal"] = (norm * (reward - others[0] / others[1]) ** 2).mean(1)
    for name, of_prompts in moments.items():
        for prompt, moment in zip(prompts, of_prompts, strict=True):
            yield {"baseline": name, "prompt": int(prompt), "second_moment": float(moment)}


def second_moment(reward: Any, baseline: Any, products: Any) -> Any:
    """``|sum_t (Z - b_t) s_t|^2`` of traces, from the inner products of their tokens' scores.  # (B,)"""
    advantage = np.broadcast_to((reward - baseline.T).T.reshape(len(reward), -1), products.shape[:2])  # (B, L)
    return np.einsum("bt,btu,bu->b", advantage, products, advantage)


def study(
    folder: Path, sizes: Sizes = SIZES, seeds: int = SEEDS, steps: tuple[int, ...] = STEPS, prompts: int = 32
) -> pl.DataFrame:
    """All paths, with `prompts` a step."""
    found = []
    with Bars() as bars, bars.bar("tokens") as show:
        for number, (name, rate, seed) in enumerate((n, r, s) for n, r in RATES.items() for s in range(seeds)):
            task = TASKS[name]()
            setting = Setting("weighted", seed, rate, task=name, rollouts=prompts, steps=max(steps))
            path = Watched(setting, task, start(task, setting.profile, setting.table, folder, sizes), Prompts(task))
            for step in steps:
                while path.done + 1 < step:
                    path.step()
                found += [{"task": name, "seed": seed, "step": step} | row for row in measure(path)]
                show((number + step / max(steps)) / (len(RATES) * seeds), f"{name}, seed {seed}, step {step}")
    return pl.DataFrame(found).with_columns(
        pl.col("task", "baseline").cast(pl.Categorical), pl.col("second_moment").cast(pl.Float32)
    )


def table(rows: pl.DataFrame | None = None) -> str:
    """Markdown: change against the weighted baseline of the trace in percent, mean and range over the paths."""
    rows = pl.read_parquet(FILE) if rows is None else rows
    sums = rows.group_by("task", "seed", "step", "baseline").agg(pl.col("second_moment").sum())
    sums = sums.cast({"task": pl.String, "baseline": pl.String})
    reference = sums.filter(pl.col("baseline") == "weighted").drop("baseline")
    change = sums.join(reference, on=["task", "seed", "step"], suffix="_reference").with_columns(
        change=100 * (pl.col("second_moment") / pl.col("second_moment_reference") - 1)
    )
    cells = change.select("task", "step").unique().sort("task", "step").rows()
    lines = [
        "| | " + " | ".join(f"{task}, step {step}" for task, step in cells) + " |",
        "|---" + "|---:" * len(cells) + "|",
    ]
    for name in (*COMPARED, "optimal"):
        mine = change.filter(pl.col("baseline") == name)
        texts = []
        for task, step in cells:
            sample = mine.filter((pl.col("task") == task) & (pl.col("step") == step)).sort("seed")["change"].to_numpy()
            texts.append(f"{sample.mean():+.1f} ({sample.min():+.1f} to {sample.max():+.1f})")
        lines.append(f"| {METHODS[name].title} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Second moments of the gradient with baselines of tokens.")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    torch.set_num_threads(1)
    study(parser.parse_args().folder / "starts").write_parquet(FILE, compression_level=19)
    print(table())


if __name__ == "__main__":
    main()
