"""What the pool predicts of a batch, and the latest visits it learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

from kernadv.pooling._library import Array


class Forecast(NamedTuple):
    """What is known of B groups before their rewards are looked at, but for those of other prompts; in units of the pool.

    Attributes
    ----------
    prior : (B,)
        Prior mean, from the past.
    level : (B, H)
        Estimates of the windows, shrunk.
    columns : (B, J)
        All estimates that are combined.
    value : (B,)
        Combined, from the past only.
    shifted : (B,)
        With the drift that the other prompts show.
    final : (B,)
        The prediction that is used; NaN where nothing is known.
    n_eff : (B,)
        Effective rollouts of the best window, at most the sum of its weights: an old past counts for less.
    strength : (B,)
        Rollouts the prediction is worth.
    has_past : (B,) bool
    """

    prior: Array
    level: Array
    columns: Array
    value: Array
    shifted: Array
    final: Array
    n_eff: Array
    strength: Array
    has_past: Array

    def moved(self, origin: Any, factor: Any) -> Forecast:
        """With ``(z - origin) factor`` for each reward z."""
        return self._replace(**{name: (getattr(self, name) - origin) * factor for name in IN_UNITS})


#: The parts of a forecast that are rewards.
IN_UNITS = ("prior", "level", "columns", "value", "shifted", "final")


class LastVisit(NamedTuple):
    """The latest visit of the prompts of B groups; n = 0 where there is none.

    Attributes
    ----------
    lag : (B,)
        Steps since.
    n, w, wz : (B,)
        Number of traces, and sums of their weights and of weight x reward.
    """

    lag: Array
    n: Array
    w: Array
    wz: Array

    def take(self, rows: Array) -> LastVisit:
        """The groups of an index array."""
        return LastVisit(self.lag[rows], self.n[rows], self.w[rows], self.wz[rows])
