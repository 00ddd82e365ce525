"""slime: ``--custom-reward-post-process-path kernadv.adapters.slime.post_process --advantage-estimator grpo``.

Checked against the signatures of slime's source of August 2026; slime itself is imported for the step only.
"""

from __future__ import annotations

import importlib
import math
import os
from typing import Any

from kernadv._errors import ArgumentError
from kernadv.adapters._driver import Driver
from kernadv.adapters._process import driver


def post_process(args: Any, samples: Any) -> tuple[list[float], list[float]]:
    """Raw rewards and advantages of the samples of one rollout.

    slime spreads the second list over the tokens; its own normalisation is off where this hook is set.  A sample without
    a reward has advantage 0 and is not remembered.

    Parameters
    ----------
    args : namespace
        Of slime.
    samples : list of Sample  # (B,)
        A prompt is known by ``metadata["prompt_id"]``, or else by a hash of its text or messages.

    Raises
    ------
    ArgumentError
        If the rollout's number is not known.
    """
    raw = [sample.get_reward_value(args) for sample in samples]
    rewards = [math.nan if reward is None else float(reward) for reward in raw]
    named = [(sample.metadata or {}).get("prompt_id") for sample in samples]
    process = driver(loss=lambda: "sum" if getattr(args, "calculate_per_token_loss", False) else "trace")
    ids = process.ids(
        [sample.prompt for sample in samples], None if None in named else named, "no prompt_id in the metadata"
    )
    given = all(sample.rollout_log_probs is not None for sample in samples)
    return raw, process.rows(
        ids, rewards, _rollout() + 1, surprisal=(lambda: _surprisal(samples)) if given else None
    ).tolist()


def _surprisal(samples: Any) -> tuple[list[float], list[float]]:
    """Minus the log-probability of each sample's tokens that the policy chose, and their number."""
    x, tokens = [], []
    for sample in samples:
        mask = getattr(sample, "loss_mask", None) or [1] * len(sample.rollout_log_probs)
        x.append(-sum(min(p, 0.0) for p, chosen in zip(sample.rollout_log_probs, mask, strict=True) if chosen))
        tokens.append(float(sum(mask)))
    return x, tokens


class DataSourceMixin:
    """Put it before slime's data source (``--data-source-path``): the history is saved and loaded with it."""

    def save(self: Any, rollout_id: int) -> None:
        """Save the history, then the state of the data source."""
        driver().save(_folder(self.args.save, rollout_id))
        super().save(rollout_id)

    def load(self: Any, rollout_id: int | None = None) -> None:
        """Load the history of that rollout, if slime resumes."""
        super().load(rollout_id)
        if self.args.load is not None and rollout_id is not None and rollout_id >= 0:
            driver().load(_folder(self.args.load, rollout_id))


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
