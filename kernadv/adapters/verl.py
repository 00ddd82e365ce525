"""verl: ``algorithm.adv_estimator=kernadv``, loaded with ``VERL_USE_EXTERNAL_MODULES=kernadv.adapters.verl``.

Importing registers the estimator and wraps five methods of verl's trainer, which otherwise tells an estimator neither the
prompt nor the policy version.  Trainers of ``trainer.use_v1=false`` and of ``verl.experimental`` refuse the estimator when
they are built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import torch

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import Driver, check_groups, check_version, spread, surprisal
from kernadv.adapters._process import NAME, at_step, current, driver, use

try:
    from verl.trainer.ppo.core_algos import register_adv_est
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer
    from verl.trainer.ppo.v1 import trainer_base
    from verl.utils import tensordict_utils
except ImportError:
    check_version("verl", (0, 9), (0, 10))  # it is not installed, or older; say so
    raise

__all__ = ["at_step", "driver", "kernel_advantage", "stable_uid", "use"]


def __dir__() -> list[str]:
    return __all__


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
#: What has to be set where a trainer names neither prompts nor versions.
V1 = "run verl.trainer.main_ppo with trainer.use_v1=true, whose modes sync, colocate_async and separate_async work"
_TRAINER = trainer_base.PPOTrainer
_build = _TRAINER.__init__
_compute = trainer_base.compute_advantage_for_multi_trajectories


def stable_uid(prompt: str, drawn: str) -> str:
    """``prompt::drawn``, without the ``_`` at which verl cuts its keys."""
    return prompt.replace("%", "%25").replace("_", "%5F") + SEPARATOR + drawn


@register_adv_est(NAME)
def kernel_advantage(token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, **_: Any) -> Any:
    """Advantages and returns, both (B, T).

    The outputs of a session are parts of one trace: the reward of the last one counts, once, and all of them get its
    advantage.  A KL penalty in the reward stays out of the history: it is added to the advantage.  Padding rows get 0 and
    are not remembered.

    Raises
    ------
    ArgumentError
        If a uid does not name its prompt, or nobody said at which step.
    """
    padding = [re.fullmatch("pad[0-9a-f]{32}", str(uid)) is not None for uid in index]
    ids = [str(uid).rpartition(SEPARATOR)[0] for uid in index]
    bad = next((row for row, name in enumerate(ids) if not name and not padding[row]), None)
    if bad is not None:
        raise ArgumentError(
            f"a uid must be 'prompt{SEPARATOR}anything', got {index[bad]!r}, which does not tell the prompt: {V1}; a "
            "trainer of your own makes its uids with stable_uid and computes advantages inside at_step(step)"
        )
    call = current()
    data = {} if call.batch is None else call.batch
    scores = data.get("token_level_scores", token_level_rewards)
    given = (lambda: surprisal(data["old_log_probs"], response_mask)) if "old_log_probs" in data else None
    rewards, trace = scores.sum(-1).float().cpu(), None
    if call.keys is not None:
        trace = [_session(key) for key in call.keys]
        rewards = rewards[_last_outputs(call.keys)]
    keep = ~torch.tensor(padding)
    rows = driver(config).rows(ids, rewards, call.step, surprisal=given, keep=keep, trace=trace)
    rows = rows + (token_level_rewards - scores).sum(-1).float().cpu()
    out = spread(rows, token_level_rewards, response_mask)
    return out, out


def _loss(config: Any) -> str | None:
    """Of verl's configuration."""
    return LOSSES.get(config.actor_rollout_ref.actor.get("loss_agg_mode", "token-mean"))


def _lateness(config: Any) -> bool | int:
    """`allow_late` of a trainer's mode: by how many steps its replay buffer lets a row be late; True: it does not say."""
    settings = config.trainer.get("v1") or {}
    if settings.get("trainer_mode", "sync") == "sync":
        return False
    sampler = settings["sampler"]
    most, custom = sampler.get("max_off_policy_threshold"), (sampler.get("custom_sampler") or {}).get("path")
    if most is None or custom or sampler.get("max_off_policy_strategy") != "drop":
        return True
    return most - 1 or False  # `most` versions, that of the update among them


def _driver(config: Any) -> Driver:
    """The driver of a trainer's configuration; rows may be late where its mode lets them."""
    given = config.algorithm.get(NAME) or {}
    if isinstance(given, Mapping) and "factory" not in given:
        given = {"allow_late": _lateness(config), **given}
    return driver({NAME: given}, lambda: _loss(config))


def _session(key: str) -> str:
    """Of a key ``{uid}_{session}_{output}``, what is the same for all outputs of a rollout."""
    return key.rpartition("_")[0]


def _last_outputs(keys: Sequence[str]) -> list[int]:
    """Row of the last output of each row's session."""
    order = sorted(range(len(keys)), key=lambda row: int(keys[row].rpartition("_")[2]))
    last = {_session(keys[row]): row for row in order}
    return [last[_session(key)] for key in keys]


def _steps(keys: Sequence[str], tags: Sequence[dict[str, Any]], newest: int) -> list[int]:
    """Step of each row: one after the version that its session began with, but no later than the update's own, `newest`."""
    first: dict[str, int] = {}
    for key, tag in zip(keys, tags, strict=True):
        version = tag.get("min_global_steps")
        step = newest if version is None else min(int(version) + 1, newest)
        first[_session(key)] = min(step, first.get(_session(key), newest))
    return [first[_session(key)] for key in keys]


def _refuse(trainer: Any) -> None:
    """Have a trainer's class refuse this estimator before it does anything else."""
    original = trainer.__init__

    @wraps(original)
    def init(self: Any, config: Any, *args: Any, **options: Any) -> None:
        if config.algorithm.adv_estimator == NAME:
            raise ArgumentError(
                f"kernadv does not work with {type(self).__name__}, which tells an advantage estimator neither the prompt "
                f"nor the policy version of a row: {V1}"
            )
        original(self, config, *args, **options)

    trainer.__init__ = init


def _refuse_below(trainer: Any) -> None:
    """`_refuse` with a class and all that are derived from it by now."""
    _refuse(trainer)
    for derived in trainer.__subclasses__():
        _refuse_below(derived)


def _derived(cls: Any, /, **options: Any) -> None:
    """`_refuse` with a class that is derived later."""
    super(RayPPOTrainer, cls).__init_subclass__(**options)
    _refuse(cls)


_refuse_below(RayPPOTrainer)
RayPPOTrainer.__init_subclass__ = classmethod(_derived)


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


@wraps(_build)
def _init(self: Any, config: Any, *args: Any, **options: Any) -> None:
    """Build the estimator first, so that a setting that cannot work is told before a model is loaded."""
    if config.algorithm.adv_estimator == NAME:
        check_version("verl", (0, 9), (0, 10))
        own = _driver(config)
        if own.components:
            raise ArgumentError("verl has one reward a row: an estimator of several components cannot be used")
        if _lateness(config) is not False and getattr(own.estimator, "allow_late", True) is False:
            raise ArgumentError(
                f"with trainer.v1.trainer_mode={config.trainer.v1.trainer_mode} rollouts can be late, and the estimator "
                "refuses late ones: build it with allow_late=True"
            )
    _build(self, config, *args, **options)


_TRAINER.__init__ = _init


@_wrapping("_fetch_one_gen_batch")
def _fetch(original: Any, self: Any) -> Any:
    """Put the prompt's id before the uid that verl draws."""
    batch = original(self)
    keys = ("raw_prompt", "uid", "extra_info", "data_source", "reward_model")
    raw, drawn, infos, sources, truths = (tensordict_utils.get(batch, key, [None] * len(batch)) for key in keys)
    numbers = [(info or {}).get("index") for info in infos]
    named = [f"{source}/{number}" for source, number in zip(sources, numbers, strict=True)]
    given = None if None in numbers else named
    ids = _driver(self.config).ids(raw, given, "no extra_info.index in the data")
    check_groups(ids, 1, [str(row) for row in zip(raw, truths, strict=True)], column="extra_info.index")
    tensordict_utils.assign_non_tensor_stack(batch, "uid", list(map(stable_uid, ids, drawn)))
    return batch


@_wrapping("_compute_advantage")
def _advantage(original: Any, self: Any, batch: Any, metrics: Any) -> Any:
    """Say the policy version of each row; log the metrics."""
    with at_step(_steps(batch.keys, batch.tags, self.global_steps)):
        out = original(self, batch, metrics)
    metrics.update(_driver(self.config).metrics())
    return out


@_wrapping("_save_checkpoint")
def _save(original: Any, self: Any) -> None:
    """Save the history, then the model: verl calls a checkpoint the latest only when all of it is there."""
    own = _driver(self.config)
    own.save(_folder(self))
    own.finish()
    original(self)


@_wrapping("_load_checkpoint")
def _load(original: Any, self: Any) -> None:
    """Load the history of the checkpoint that verl resumes from."""
    original(self)
    if self.global_steps > 0:
        settings = self.config.trainer
        _driver(self.config).load(_folder(self) if settings.resume_mode == "auto" else settings.resume_from_path)


def _folder(trainer: Any) -> str:
    """Of the checkpoint of the trainer's step."""
    return os.path.join(trainer.config.trainer.default_local_dir, f"global_step_{trainer.global_steps}")


@wraps(_compute)
def _with_keys(data: Any, batch_keys: Any, **options: Any) -> Any:
    """Say which rows are outputs of one session, and hand over scores and log-probabilities."""
    if options.get("adv_estimator") != NAME:
        return _compute(data, batch_keys=batch_keys, **options)
    with at_step(current().step, batch_keys, data.batch):
        return _compute(data, batch_keys=batch_keys, **options)


trainer_base.compute_advantage_for_multi_trajectories = _with_keys
