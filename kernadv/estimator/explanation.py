"""How one value comes about, as a dict and as a small plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kernadv._errors import ArgumentError, import_extra
from kernadv.batch import Batch
from kernadv.estimator.state import HostState

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Explanation(dict[str, Any]):
    """The pieces of a prompt's value before any trace of a step.

    Keys: ``prompt_id``, ``step``; of its V past visits ``steps``, ``traces``, ``mean_rewards`` and ``weights`` (the share
    of the estimate that each visit's rewards carry; they may be negative where a line is extrapolated, and what they lack
    to 1 is the prior's); ``value``, ``n_eff``, ``lower``, ``upper`` (95%).  Pooled, also ``prior``, the value of a prompt
    like this one without visits; ``adjustment``, how far the common level has moved the past, so that ``value =
    sum(weights mean_rewards) + (1 - sum(weights)) prior + adjustment``; ``kappa`` and ``strength``, the rollouts that the
    prior and the past are worth; ``filters``, each one's prior in rollouts, walk and discount, as in
    `kernadv.pooling.Members`; ``filter_weights``, which sum to 1.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> est = KernelValueEstimator()
    >>> for step in range(1, 5):
    ...     est.observe(["a", "b"], [1.0, 0.0], step)
    >>> why = est.explain("a")
    >>> total = why["weights"] @ why["mean_rewards"] + (1 - why["weights"].sum()) * why["prior"] + why["adjustment"]
    >>> bool(abs(total - why["value"]) < 1e-12)
    True
    >>> why.plot().get_xlabel()
    'training step'
    """

    def plot(self, ax: Axes | None = None) -> Axes:
        """Past mean rewards by step, larger where they weigh more, and the value with its interval."""
        if ax is None:
            pyplot = import_extra("matplotlib.pyplot", "a plot", "audit")
            ax = pyplot.subplots(figsize=(6, 3), layout="constrained")[1]
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
        ax.set_title(f"prompt {self['prompt_id']!r}: worth {self['n_eff']:.1f} rollouts", loc="left", fontsize="medium")
        ax.legend(frameon=False, fontsize="small", loc="best")
        return ax


def explain(state: HostState, batch: Batch) -> Explanation:
    """Explain the value of the only row of a batch.

    Raises
    ------
    ArgumentError
        If its prompt is not in the history.
    """
    (prompt,), at = batch.ids, batch.newest
    if batch.rows[0] < 0:
        raise ArgumentError(f"prompt {prompt!r} is not in the history; it holds {state.counters.prompts} prompts")
    (estimate, made_from), visits = state.predict(batch), state.history.visits(batch.rows)
    low, high = state.rule.interval(estimate, state.rule.belief(batch, estimate, made_from, state), 0.95)
    value, n_eff, pieces = float(estimate.value[0]), float(estimate.n_eff[0]), state.rule.pieces(made_from, visits, at)
    if "prior" in pieces:
        share = float(pieces["weights"].sum())
        pieces["adjustment"] = value - float(pieces["weights"] @ visits.mean) - (1.0 - share) * pieces["prior"]
        pieces["strength"] = n_eff
    return Explanation(
        prompt_id=prompt,
        step=at,
        steps=visits.step,
        traces=visits.n,
        mean_rewards=visits.mean,
        value=value,
        n_eff=n_eff,
        lower=float(low[0]),
        upper=float(high[0]),
        **pieces,
    )
