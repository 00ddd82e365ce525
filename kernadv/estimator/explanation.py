"""How one value comes about, as a dict and as a small plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kernadv._errors import ArgumentError
from kernadv.estimator._rule import Rollouts, Rule
from kernadv.history import History
from kernadv.moments import Backend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Explanation(dict[str, Any]):
    """The pieces of a prompt's value before any trace of a step.

    Keys: ``prompt_id``, ``step``; of its V past visits ``steps``, ``traces``, ``mean_rewards`` and ``weights`` (the share
    of the estimate that each visit's rewards carry; with a local line they may be negative, and pooled, what they lack to 1
    is the prior's); ``value``, ``n_eff``, ``lower``, ``upper`` (95%).  Pooled, also ``prior``, the common level as a reward;
    ``adjustment`` (what its moves since the visits, features and a change of the range of the rewards add), so that
    ``value = sum(weights mean_rewards) + (1 - sum(weights)) prior + adjustment``; ``kappa`` (the rollouts that the prior is
    worth), ``strength`` (those that the value is worth); ``filters``, a (prior, walk, discount) each, and their
    ``filter_weights``.
    """

    def plot(self, ax: Axes | None = None) -> Axes:
        """Past mean rewards by step, larger where they weigh more, and the value with its interval."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots(figsize=(6, 3), layout="constrained")[1]
        weights = np.abs(self["weights"])
        size = 12 + 120 * weights / max(float(weights.max(initial=0.0)), 1e-12)
        label = "past visits, by weight"
        ax.scatter(self["steps"], self["mean_rewards"], s=size, color="C0", alpha=0.5, lw=0, label=label)
        below, above = self["value"] - self["lower"], self["upper"] - self["value"]
        error = [[below], [above]] if np.isfinite([below, above]).all() else None
        ax.errorbar(self["step"], self["value"], error, fmt="o", color="C3", capsize=3, label="value, 95%")
        if "prior" in self:
            ax.axhline(self["prior"], color="0.6", lw=1, ls="--", label="prior mean")
        ax.set_xlabel("training step")
        ax.set_ylabel("reward")
        ax.set_title(f"prompt {self['prompt_id']}: worth {self['n_eff']:.1f} rollouts", loc="left", fontsize="medium")
        ax.legend(frameon=False, fontsize="small", loc="best")
        return ax


def explain(rule: Rule, rollouts: Rollouts, history: History, backend: Backend) -> Explanation:
    """Explain the value of the only row of `rollouts`.

    Raises
    ------
    ArgumentError
        If its prompt is not in the history.
    """
    (prompt,) = rollouts.batch.ids
    rows = history.find([prompt])
    if rows[0] < 0:
        raise ArgumentError(f"prompt {prompt!r} is not in the history; it holds {history.counters.prompts} prompts")
    reading = rule.read(rollouts, history, backend)
    sample = history.sample(rows)
    at = int(rollouts.batch.groups.step[0])
    low, high = rule.interval(reading, 0.95)
    means = sample.s / (sample.n if rollouts.weight is None else np.maximum(sample.ss, 1e-300))
    value, pieces = float(reading.estimate.value[0]), rule.pieces(reading, sample, at)
    if "prior" in pieces:
        share = float(pieces["weights"].sum())
        pieces["adjustment"] = value - float(pieces["weights"] @ means) - (1.0 - share) * pieces["prior"]
    return Explanation(
        prompt_id=prompt,
        step=at,
        steps=sample.step,
        traces=sample.n.astype(np.int64),
        mean_rewards=means,
        value=value,
        n_eff=float(reading.estimate.n_eff[0]),
        lower=float(low[0]),
        upper=float(high[0]),
        **pieces,
    )
