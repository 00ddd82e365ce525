"""slime: ``--custom-reward-post-process-path kernadv.adapters.slime.post_process --advantage-estimator grpo``.

Checked against slime's source of 21 August 2026; slime itself is imported for the number of the rollout only.
"""

from __future__ import annotations

import importlib
import math
import os
from collections import defaultdict
from typing import Any

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import Driver, check_groups
from kernadv.adapters._process import NAME, driver

__all__ = ["DataSourceMixin", "metrics", "post_process"]


def __dir__() -> list[str]:
    return __all__


#: What tells prompts apart.
ID = 'metadata["prompt_id"]'
#: Number of the first rollout of this process: slime counts its weights from there.
_FIRST: dict[str, int] = {}


def post_process(args: Any, samples: Any) -> tuple[list[Any], list[float]]:
    """Raw rewards and advantages of the samples of one rollout batch.

    slime spreads the second list over the tokens; its own normalisation is off where this hook is set.

    Samples with the same ``rollout_id`` are parts of one trace.  They count once, with their mean reward, and what is
    subtracted from each of their rewards is the baseline of that trace.  A sample without a reward has advantage 0; a
    trace without one is not remembered.

    Parameters
    ----------
    args : namespace
        Of slime.
    samples : list of Sample  # (B,)
        A prompt is known by ``metadata["prompt_id"]``, or else by a hash of its text or messages.

    Raises
    ------
    ArgumentError
        If the rollout's number is not known, samples of one ``group_index`` or ``rollout_id`` have different prompts, or
        prompts with different labels share an id.
    """
    raw = [sample.get_reward_value(args) for sample in samples]
    rewards = np.array([math.nan if reward is None else float(reward) for reward in raw])
    named = [(sample.metadata or {}).get("prompt_id") for sample in samples]
    process = _driver(args)
    ids = process.ids(
        [sample.prompt for sample in samples], None if None in named else named, "no prompt_id in the metadata"
    )
    _check(ids, samples)
    trace = _traces(samples)
    means = _means(rewards, trace)
    given = all(sample.rollout_log_probs is not None for sample in samples)
    advantages = process.rows(
        ids,
        means,
        _steps(args, samples, trace),
        surprisal=(lambda: _surprisal(samples)) if given else None,
        trace=trace,
    )
    return raw, np.where(np.isnan(rewards), 0.0, np.asarray(advantages) + (rewards - means)).tolist()


def _driver(args: Any) -> Driver:
    """The driver of the process, for slime's loss; rows may be late, since slime has no bound for them."""
    loss = "sum" if getattr(args, "calculate_per_token_loss", False) else "trace"
    return driver({NAME: {"allow_late": True}}, lambda: loss)


def _check(ids: list[str], samples: Any) -> None:
    """Refuse ids that split a group of slime's, or that prompts with different labels share."""
    groups = defaultdict(list)
    for row, sample in enumerate(samples):
        group = getattr(sample, "group_index", None)
        groups[f"row {row}" if group is None else group].append(row)
    for rows in groups.values():
        other = next((row for row in rows if ids[row] != ids[rows[0]]), None)
        if other is not None:
            raise ArgumentError(
                f"samples {rows[0]} and {other} have the same group_index, but their prompt ids are {ids[rows[0]]!r:.80} "
                f"and {ids[other]!r:.80}: give the samples of a group the same {ID}"
            )
    firsts = [rows[0] for rows in groups.values()]
    labels = [str(getattr(samples[row], "label", None)) for row in firsts]
    check_groups([ids[row] for row in firsts], 1, labels, column=ID)


def _traces(samples: Any) -> list[str]:
    """Trace of each sample: its rollout, or itself where slime does not say."""
    rollouts = [getattr(sample, "rollout_id", None) for sample in samples]
    return [f"row {row}" if rollout is None else f"rollout {rollout}" for row, rollout in enumerate(rollouts)]


def _means(rewards: Any, trace: list[str]) -> Any:
    """Mean of the rewards of each sample's trace that are there; exact where they are equal.  # (B,)"""
    parts = defaultdict(list)
    for name, reward in zip(trace, rewards.tolist(), strict=True):
        if not math.isnan(reward):
            parts[name].append(reward)
    mean = {name: part[0] + sum(reward - part[0] for reward in part) / len(part) for name, part in parts.items()}
    return np.array([mean.get(name, math.nan) for name in trace])


def _steps(args: Any, samples: Any, trace: list[str]) -> list[int]:
    """Step of each sample: that of the first rollout for which the weights that its trace began with were there.

    slime numbers its weights from 1 in each process and renews them every ``update_weights_interval`` rollouts.
    """
    now = _rollout() + 1
    first, every = _FIRST.setdefault("rollout", now - 1), max(1, getattr(args, "update_weights_interval", None) or 1)
    steps: dict[str, int] = {}
    for name, sample in zip(trace, samples, strict=True):
        version = next(iter(getattr(sample, "weight_versions", None) or ()), "")
        step = 1 + max(first, every * (first // every + int(version) - 1)) if str(version).isdecimal() else now
        steps[name] = min(step, steps.get(name, now))
    return [steps[name] for name in trace]


def _surprisal(samples: Any) -> tuple[list[float], list[float]]:
    """Minus the log-probability of each sample's tokens that the policy chose, and their number."""
    x, tokens = [], []
    for sample in samples:
        mask = getattr(sample, "loss_mask", None) or [1] * len(sample.rollout_log_probs)
        x.append(-sum(min(p, 0.0) for p, chosen in zip(sample.rollout_log_probs, mask, strict=True) if chosen))
        tokens.append(float(sum(mask)))
    return x, tokens


class DataSourceMixin:
    """Put it before slime's data source (``--data-source-path``): the history is saved and loaded with it.

    Attributes
    ----------
    resume_cold : bool
        Whether a run may resume from a checkpoint without a history.
    """

    resume_cold = False

    def save(self: Any, rollout_id: int) -> None:
        """Save the history, then the state of the data source."""
        process = _driver(self.args)
        process.save(_folder(self.args.save, rollout_id))
        process.finish()
        super().save(rollout_id)

    def load(self: Any, rollout_id: int | None = None) -> None:
        """Load the history of that rollout, if slime resumes.

        Raises
        ------
        CheckpointError
            If it is not there, unless `resume_cold`, or damaged.
        """
        super().load(rollout_id)
        if self.args.load is not None and rollout_id is not None and rollout_id >= 0:
            process = _driver(self.args)
            process.resume_cold |= self.resume_cold
            process.load(_folder(self.args.load, rollout_id))


def metrics() -> dict[str, float]:
    """Metrics of the last rollout, for ``--custom-rollout-log-function-path``."""
    process: Driver = driver()
    return process.metrics()


def _folder(root: Any, rollout_id: int) -> str:
    return os.path.join(root, "rollout", f"kernadv_{rollout_id}")


def _rollout() -> int:
    """Number of the rollout under way, from 0."""
    number = importlib.import_module("slime.rollout.sample_hooks")._current_rollout_id
    if number is None:
        raise ArgumentError("slime has not said which rollout this is: sample_hooks._current_rollout_id is None")
    return int(number)
