"""SkyRL: an advantage estimator for its registry, and a mixin of its trainer for the step and the checkpoints.

Checked against the signatures of SkyRL's source of August 2026; SkyRL itself is imported in `register` only.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

import torch

from kernadv.adapters._process import NAME, at_step, current, driver


def kernel_advantage(token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, **_: Any) -> Any:
    """Advantages and returns, both (B, T); rows that pad the batch get 0 and are not remembered.

    The function closes over nothing, so that the registry may send it to another process by its name.

    Parameters
    ----------
    token_level_rewards, response_mask : tensors  # (B, T)
    index : sequence of str  # (B,)
        SkyRL's uids: the prompt's row number in the data set, or ``pad0``, ``pad1``, ... for padding.
    config : optional
        ``trainer.algorithm``; its ``kernadv``, if there is one, describes the estimator.
    """
    ids = [str(uid) for uid in index]
    keep = torch.tensor([re.fullmatch(r"pad\d+", uid) is None for uid in ids])
    out = driver(config).tokens(ids, token_level_rewards, response_mask, current().step, keep=keep)
    return out, out


def register() -> None:
    """Register the estimator under the name "kernadv"; call it before the trainer starts."""
    module = importlib.import_module("skyrl.backends.skyrl_train.utils.ppo_utils")
    module.AdvantageEstimatorRegistry.register(NAME, kernel_advantage)


class TrainerMixin:
    """Put it before SkyRL's trainer: ``class Trainer(TrainerMixin, RayPPOTrainer)``, from ``BasePPOExp.get_trainer``."""

    def compute_advantages_and_returns(self: Any, data: Any) -> Any:
        """Say the step; log the metrics."""
        with at_step(self.global_step):
            out = super().compute_advantages_and_returns(data)
        self.all_metrics.update(driver(self.cfg.trainer.algorithm).metrics())
        return out

    def save_checkpoints(self: Any) -> None:
        """Save the history beside the model."""
        super().save_checkpoints()
        folder = os.path.join(self.cfg.trainer.ckpt_path, f"global_step_{self.global_step}")
        driver(self.cfg.trainer.algorithm).save(folder)

    def load_checkpoints(self: Any) -> Any:
        """Load the history of the checkpoint that SkyRL resumes from."""
        step, folder = super().load_checkpoints()
        if folder is not None:
            driver(self.cfg.trainer.algorithm).load(folder)
        return step, folder
