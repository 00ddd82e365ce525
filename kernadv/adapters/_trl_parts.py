"""Parts of the TRL adapter: configurations for single traces, weights of traces, the file of completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import trl

from kernadv._errors import ArgumentError
from kernadv.adapters._shared import surprisal


class _One(int):
    """The number 1, which passes the check for at least two generations: their baseline needs two, ours does not."""

    def __lt__(self, other: Any) -> bool:
        return False


class ConfigMixin:
    """Allow ``num_generations=1`` in a configuration of TRL."""

    num_generations: int | None

    def __post_init__(self) -> None:
        single = self.num_generations == 1
        self.num_generations = _One(1) if single else self.num_generations
        super().__post_init__()
        self.num_generations = 1 if single else self.num_generations


class GRPOConfig(ConfigMixin, trl.GRPOConfig):
    """`trl.GRPOConfig` with groups of one trace."""


class RLOOConfig(ConfigMixin, trl.RLOOConfig):
    """`trl.RLOOConfig` with groups of one trace."""


def check_config(config: Any) -> None:
    """Refuse what replacing the advantages would silently drop.

    Raises
    ------
    ArgumentError
        If rewards are normalised one by one, or RLOO has a KL penalty or normalises.
    """
    if getattr(config, "multi_objective_aggregation", "sum_then_normalize") != "sum_then_normalize":
        raise ArgumentError(
            "multi_objective_aggregation must be 'sum_then_normalize': rewards are summed, then smoothed"
        )
    if isinstance(config, trl.RLOOConfig) and (config.beta or config.normalize_advantages):
        raise ArgumentError("RLOO needs beta=0 and normalize_advantages=False; with GRPO a KL penalty is in the loss")


def total_rewards(rewards: Any, weights: Any, clip: Any) -> Any:
    """Weighted sum of the reward functions; NaN where none of them has a reward.  # (B, F) -> (B,)"""
    total = (rewards * weights.to(rewards.device)).nansum(1)
    total[rewards.isnan().all(1)] = torch.nan
    return (total.clamp(*clip) if clip else total).float().cpu()


def trace_weights(accelerator: Any, output: Any) -> Any:
    """Surprisal of the traces of all processes, from the log-probabilities that the trainer has.  # (B,)

    Raises
    ------
    ArgumentError
        If it has none.
    """
    mask = output["completion_mask"] * output.get("tool_mask", 1)
    for name in ("old_per_token_logps", "sampling_per_token_logps"):
        if name in output:
            return accelerator.gather(surprisal(output[name], mask).to(mask.device)).cpu()
    if "old_logps" in output:
        return accelerator.gather(-output["old_logps"].detach().clamp(max=0.0)).float().cpu()
    raise ArgumentError(
        "a weighted estimator needs log-probabilities: set steps_per_generation > gradient_accumulation_steps"
    )


def replace_newest(logged: Any, values: list[float]) -> None:
    """Replace the newest entries of a deque."""
    for _ in values:
        logged.pop()
    logged.extend(values)


def write_completions(folder: str, step: int, logs: Any) -> None:
    """Write the completions as `trl.GRPOTrainer` does; `trl.RLOOTrainer` shows them only."""
    rows = {"prompt": logs["prompt"], "completion": logs["completion"], **logs["rewards"], **logs["extra"]}
    table = {"step": [step] * len(logs["prompt"]), **rows, "advantage": logs["advantages"]}
    file = Path(folder, "completions", f"completions_{step:05d}.parquet")
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(column) for name, column in table.items()}), file)
