"""verl: ``algorithm.adv_estimator=kernadv``, loaded with ``VERL_USE_EXTERNAL_MODULES=kernadv.adapters.verl``.

Importing registers the estimator and wraps four methods of verl's trainer, which otherwise tells an estimator neither the
prompt nor the step.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1 import trainer_base
from verl.utils import tensordict_utils
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import check_version, spread, surprisal
from kernadv.adapters._process import NAME, at_step, current, driver, use

__all__ = ["at_step", "driver", "kernel_advantage", "stable_uid", "use"]

#: Stands in a uid between the prompt's id and what verl draws at each fetch.
SEPARATOR = "::"
#: ``loss_agg_mode`` -> what it divides by, see `kernadv.scores.Surprisal`.
LOSSES = {
    "token-mean": "sum",
    "token-sum": "sum",
    "seq-mean-token-sum": "sum",
    "seq-mean-token-sum-norm": "sum",
    "seq-mean-token-mean": "trace",
}
_TRAINER = trainer_base.PPOTrainer
_compute = trainer_base.compute_advantage_for_multi_trajectories


def stable_uid(prompt: str, drawn: str) -> str:
    """``prompt::drawn``, without the ``_`` at which verl cuts its keys."""
    return prompt.replace("%", "%25").replace("_", "%5F") + SEPARATOR + drawn


@register_adv_est(NAME)
def kernel_advantage(token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, **_: Any) -> Any:
    """Advantages and returns, both (B, T).

    Of a session with several outputs the last one counts, once, and its advantage is that of them all.  A KL penalty in
    the reward stays out of the history: it is added to the advantage.  Padding rows get 0 and are not remembered.
    """
    call = current()
    padding = [re.fullmatch("pad[0-9a-f]{32}", str(uid)) is not None for uid in index]
    ids = [str(uid).rpartition(SEPARATOR)[0] for uid in index]
    bad = next((row for row, name in enumerate(ids) if not name and not padding[row]), None)
    if bad is not None:
        raise ArgumentError(f"a uid must be 'prompt{SEPARATOR}anything', got {index[bad]!r}; see stable_uid")
    data = {} if call.batch is None else call.batch
    scores = data.get("token_level_scores", token_level_rewards)
    given = (lambda: surprisal(data["old_log_probs"], response_mask)) if "old_log_probs" in data else None
    last = list(range(len(ids))) if call.keys is None else _last_outputs(call.keys)
    keep = torch.tensor([row == final and not padding[row] for row, final in enumerate(last)])
    rows = driver(config).rows(ids, scores.sum(-1).float().cpu(), call.step, surprisal=given, keep=keep)[last]
    rows = rows + (token_level_rewards - scores).sum(-1).float().cpu()
    out = spread(rows, token_level_rewards, response_mask)
    return out, out


def _loss(config: Any) -> str | None:
    """Of verl's configuration."""
    return LOSSES.get(config.actor_rollout_ref.actor.get("loss_agg_mode", "token-mean"))


def _last_outputs(keys: Any) -> list[int]:
    """Row of the last output of each row's session."""
    sessions = [key.rpartition("_")[0] for key in keys]
    order = sorted(range(len(keys)), key=lambda row: int(keys[row].rpartition("_")[2]))
    last = {sessions[row]: row for row in order}
    return [last[session] for session in sessions]


def _wrapping(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace a method of the trainer for runs with this estimator; the new one gets the original first."""

    def decorate(replacement: Callable[..., Any]) -> Callable[..., Any]:
        original = getattr(_TRAINER, name)

        @wraps(original)
        def method(self: Any, *args: Any, **options: Any) -> Any:
            if self.config.algorithm.adv_estimator != NAME:
                return original(self, *args, **options)
            return replacement(original, self, *args, **options)

        setattr(_TRAINER, name, method)
        return method

    return decorate


@_wrapping("_fetch_one_gen_batch")
def _fetch(original: Any, self: Any) -> Any:
    """Put the prompt's id before the uid that verl draws."""
    check_version("verl", (0, 9), (0, 10))
    batch = original(self)
    keys = ("raw_prompt", "uid", "extra_info", "data_source")
    raw, drawn, infos, sources = (tensordict_utils.get(batch, key, [None] * len(batch)) for key in keys)
    numbers = [(info or {}).get("index") for info in infos]
    named = [f"{source}/{number}" for source, number in zip(sources, numbers, strict=True)]
    given = None if None in numbers else named
    ids = driver(self.config.algorithm, lambda: _loss(self.config)).ids(raw, given, "no extra_info.index in the data")
    tensordict_utils.assign_non_tensor_stack(batch, "uid", list(map(stable_uid, ids, drawn)))
    return batch


@_wrapping("_compute_advantage")
def _advantage(original: Any, self: Any, batch: Any, metrics: Any) -> Any:
    """Say the step; log the metrics."""
    with at_step(self.global_steps):
        out = original(self, batch, metrics)
    metrics.update(driver(self.config.algorithm).metrics())
    return out


@_wrapping("_save_checkpoint")
def _save(original: Any, self: Any) -> None:
    """Save the history, then the model: verl calls a checkpoint the latest only when all of it is there."""
    folder = os.path.join(self.config.trainer.default_local_dir, f"global_step_{self.global_steps}")
    driver(self.config.algorithm).save(folder)
    original(self)


@_wrapping("_load_checkpoint")
def _load(original: Any, self: Any) -> None:
    """Load the history of the checkpoint that verl resumes from."""
    original(self)
    if self.global_steps > 0:
        settings = self.config.trainer
        latest = settings.resume_mode == "auto" and find_latest_ckpt_path(os.path.abspath(settings.default_local_dir))
        driver(self.config.algorithm, lambda: _loss(self.config)).load(latest or settings.resume_from_path)


@wraps(_compute)
def _with_keys(data: Any, batch_keys: Any, **options: Any) -> Any:
    """Say which rows are outputs of one session, and hand over scores and log-probabilities."""
    if options.get("adv_estimator") != NAME:
        return _compute(data, batch_keys=batch_keys, **options)
    with at_step(current().step, batch_keys, data.batch):
        return _compute(data, batch_keys=batch_keys, **options)


trainer_base.compute_advantage_for_multi_trajectories = _with_keys
