"""SkyRL: an advantage estimator for its registry, and a mixin of its trainers for steps, traces and checkpoints."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import Driver, check_groups, check_version, surprisal
from kernadv.adapters._process import NAME, at_step, current, driver

#: Versions of SkyRL that are tested: from the first, below the last.
TESTED = (0, 3), (0, 4)

try:
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
    from skyrl.train import config as skyrl_config
except ImportError:
    check_version("skyrl", *TESTED)  # it is not installed, or older; say so
    raise

__all__ = ["AlgorithmConfig", "Config", "TrainerMixin", "kernel_advantage", "register"]


def __dir__() -> list[str]:
    return __all__


#: ``loss_reduction`` -> what it divides by, see `kernadv.scores.Surprisal`.
LOSSES = {
    "sequence_mean": "trace",
    **dict.fromkeys(("token_mean", "token_mean_legacy", "seq_mean_token_sum_norm", "prompt_mean"), "sum"),
}
#: In a batch's metadata: uid -> the step at which the fully asynchronous trainer began to generate its group.
SCHEDULED = "kernadv_scheduled"


@dataclass
class AlgorithmConfig(skyrl_config.AlgorithmConfig):
    """SkyRL's, with the settings of kernadv: ``trainer.algorithm.kernadv.h=0.5`` on the command line."""

    kernadv: dict[str, Any] = field(default_factory=dict)


#: SkyRL's configuration with these settings, in place of its ``SkyRLTrainConfig``.
Config = skyrl_config.make_config(algorithm_cls=AlgorithmConfig)


def kernel_advantage(token_level_rewards: Any, response_mask: Any, index: Any, **_: Any) -> Any:
    """Advantages and returns, both (B, T); rows that pad the batch get 0 and are not remembered.

    The function closes over nothing, so that the registry may send it to another process by its name.

    Parameters
    ----------
    token_level_rewards, response_mask : tensors  # (B, T)
    index : sequence of str  # (B,)
        SkyRL's uids: the prompt's row number in the data set, or ``pad0``, ``pad1``, ... for padding.
    """
    call = current()
    ids = [str(uid) for uid in index]
    keep = torch.tensor([not _pads(uid) for uid in ids])
    out = driver().tokens(ids, token_level_rewards, response_mask, call.step, keep=keep, surprisal=call.batch)
    return out, out


def register() -> None:
    """Register the estimator under the name "kernadv"; call it before the configuration is validated, best on import."""
    check_version("skyrl", *TESTED)
    if NAME not in AdvantageEstimatorRegistry.list_available():
        AdvantageEstimatorRegistry.register(NAME, kernel_advantage)


class TrainerMixin:
    """Put it before one of SkyRL's trainers: ``class Trainer(TrainerMixin, RayPPOTrainer)``, from ``get_trainer``.

    With ``FullyAsyncRayPPOTrainer`` the step of a row is the one at which its group was scheduled, and rows may be late by
    ``trainer.fully_async.max_staleness_steps``.
    """

    def convert_generation_group_mini_batch_to_training_input(
        self: Any, groups: Any, *args: Any, **options: Any
    ) -> Any:
        """Note when each group was scheduled; only the fully asynchronous trainer calls this."""
        data = super().convert_generation_group_mini_batch_to_training_input(groups, *args, **options)
        data.metadata[SCHEDULED] = {str(group.uid): group.global_step_when_scheduled for group in groups}
        return data

    def compute_advantages_and_returns(self: Any, data: Any) -> Any:
        """Say the steps, and what weighs the traces; log the metrics.

        Of a trajectory in steps, SkyRL hands on the last row alone; its log-probability is that of all its rows.

        Raises
        ------
        ArgumentError
            If a KL penalty is part of the reward: it would enter the values.  If a group's rows have several uids.
        """
        if self.cfg.trainer.algorithm.use_kl_in_reward:
            raise ArgumentError(
                "use_kl_in_reward must be false: the penalty would enter the values; use_kl_loss instead"
            )
        uids = np.array([str(uid) for uid in data.metadata["uids"]])
        if self.cfg.generator.step_wise_trajectories:
            last = np.array(data.metadata["is_last_step"], bool)  # SkyRL has checked that a trajectory has one uid
        else:
            last = np.ones(len(uids), bool)
            check_groups([uid for uid in uids if not _pads(uid)], self.cfg.generator.n_samples_per_prompt)
        scheduled = data.metadata.get(SCHEDULED, {})
        late = getattr(self, "max_staleness_steps", 0)  # SkyRL's bound holds on the whole; single groups may exceed it
        at = [max(scheduled.get(uid, self.global_step), self.global_step - late) for uid in uids[last]]
        kernadv = _driver_of(self)
        with at_step(at, batch=_surprisal_of(data, last)):
            out = super().compute_advantages_and_returns(data)
        out.metadata.pop(SCHEDULED, None)
        self.all_metrics.update(kernadv.metrics())
        return out

    def save_checkpoints(self: Any) -> str:
        """Save the history, then the model: SkyRL calls a checkpoint the latest only when all of it is there."""
        kernadv = _driver_of(self)
        kernadv.save(os.path.join(self.cfg.trainer.ckpt_path, f"global_step_{self.global_step}"))
        kernadv.finish()
        return str(super().save_checkpoints())

    def load_checkpoints(self: Any) -> Any:
        """Load the history of the checkpoint that SkyRL resumes from."""
        out = super().load_checkpoints()
        folder = out[1]
        if folder is not None:
            _driver_of(self).load(folder)
        return out


def _driver_of(trainer: Any) -> Driver:
    """The estimator of the process, built from the trainer's configuration when first asked for."""
    algorithm = trainer.cfg.trainer.algorithm
    settings = dict(getattr(algorithm, NAME, {}))
    late = getattr(trainer, "max_staleness_steps", 0)
    if late and "factory" not in settings:
        settings.setdefault("allow_late", late)
    return driver({NAME: settings}, loss=lambda: LOSSES.get(getattr(algorithm, "loss_reduction", "token_mean")))


def _surprisal_of(data: Any, last: Any) -> Any:
    """Gives the surprisals and the numbers of tokens of the trajectories, whose last rows are told; None: not known.

    Where SkyRL does not compute log-probabilities, those of the sampler are there.  The loss mask leaves out what the
    environment wrote.
    """
    given = [data[name] for name in ("action_log_probs", "rollout_logprobs") if data.get(name) is not None]
    if not given:
        return None
    of = np.cumsum(last) - last
    return lambda: tuple(np.bincount(of, part) for part in surprisal(given[0], data["loss_mask"]))


def _pads(uid: str) -> bool:
    return re.fullmatch(r"pad\d+", uid) is not None
