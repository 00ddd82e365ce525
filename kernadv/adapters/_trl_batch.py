"""From TRL's batch to one reward and one weight a trace."""

from __future__ import annotations

from typing import Any

import torch

from kernadv._errors import ArgumentError
from kernadv.adapters._tokens import surprisal


def total_rewards(rewards: Any, weights: Any, clip: Any) -> Any:
    """Weighted sum of the reward functions; NaN where none of them has a reward.  # (B, F) -> (B,)"""
    total = (rewards * weights.to(rewards.device)).nansum(1)
    total[rewards.isnan().all(1)] = torch.nan
    return (total.clamp(*clip) if clip else total).float().cpu()


def trace_surprisal(accelerator: Any, output: Any) -> Any:
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
