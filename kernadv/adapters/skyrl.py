"""SkyRL: an advantage estimator for its registry, and a mixin of its trainer for the step and the checkpoints."""

from __future__ import annotations

import os
import re
from typing import Any

import torch
from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import check_version, surprisal
from kernadv.adapters._process import NAME, at_step, current, driver

#: ``loss_reduction`` -> what it divides by, see `kernadv.scores.Surprisal`.
LOSSES = {
    "sequence_mean": "trace",
    **dict.fromkeys(("token_mean", "token_mean_legacy", "seq_mean_token_sum_norm", "prompt_mean"), "sum"),
}


def kernel_advantage(token_level_rewards: Any, response_mask: Any, index: Any, **_: Any) -> Any:
    """Advantages and returns, both (B, T); rows that pad the batch get 0 and are not remembered.

    The function closes over nothing, so that the registry may send it to another process by its name.

    Parameters
    ----------
    token_level_rewards, response_mask : tensors  # (B, T)
    index : sequence of str  # (B,)
        SkyRL's uids: the prompt's row number in the data set, or ``pad0``, ``pad1``, ... for padding.
    """
    ids = [str(uid) for uid in index]
    keep = torch.tensor([re.fullmatch(r"pad\d+", uid) is None for uid in ids])
    log_probs = (current().batch or {}).get("action_log_probs")
    given = None if log_probs is None else lambda: surprisal(log_probs, response_mask)
    out = driver().tokens(ids, token_level_rewards, response_mask, current().step, keep=keep, surprisal=given)
    return out, out


def register() -> None:
    """Register the estimator under the name "kernadv"; call it before the configuration is validated, best on import."""
    check_version("skyrl", (0, 3), (0, 4))
    if NAME not in AdvantageEstimatorRegistry.list_available():
        AdvantageEstimatorRegistry.register(NAME, kernel_advantage)


class TrainerMixin:
    """Put it before SkyRL's trainer: ``class Trainer(TrainerMixin, RayPPOTrainer)``, from ``BasePPOExp.get_trainer``."""

    def compute_advantages_and_returns(self: Any, data: Any) -> Any:
        """Say the step; log the metrics.

        Raises
        ------
        ArgumentError
            If a KL penalty is part of the reward: it would enter the values.
        """
        if self.cfg.trainer.algorithm.use_kl_in_reward:
            raise ArgumentError(
                "use_kl_in_reward must be false: the penalty would enter the values; use_kl_loss instead"
            )
        algorithm = self.cfg.trainer.algorithm
        driver(loss=lambda: LOSSES.get(getattr(algorithm, "loss_reduction", "token_mean")))
        rows = None if self.cfg.generator.step_wise_trajectories else data  # of steps, only the last ones are handed on
        with at_step(self.global_step, batch=rows):
            out = super().compute_advantages_and_returns(data)
        self.all_metrics.update(driver().metrics())
        return out

    def save_checkpoints(self: Any) -> str:
        """Save the history, then the model: SkyRL calls a checkpoint the latest only when all of it is there."""
        driver().save(os.path.join(self.cfg.trainer.ckpt_path, f"global_step_{self.global_step}"))
        return str(super().save_checkpoints())

    def load_checkpoints(self: Any) -> Any:
        """Load the history of the checkpoint that SkyRL resumes from."""
        step, folder = super().load_checkpoints()
        if folder is not None:
            driver().load(folder)
        return step, folder
