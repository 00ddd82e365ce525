"""What the pool predicts of a batch, and the latest visits it learns from."""

from __future__ import annotations

from typing import NamedTuple

from kernadv._typing import AnyArray, BoolArray, FloatArray


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

    prior: FloatArray
    level: FloatArray
    columns: FloatArray
    value: FloatArray
    shifted: FloatArray
    final: FloatArray
    n_eff: FloatArray
    strength: FloatArray
    has_past: BoolArray

    def moved(self, origin: float, factor: float) -> Forecast:
        """With ``(z - origin) factor`` for each reward z."""
        return self._replace(**{name: (getattr(self, name) - origin) * factor for name in IN_UNITS})

    def take(self, rows: AnyArray) -> Forecast:
        """The groups of an index array or mask."""
        return Forecast(**{name: part[rows] for name, part in self._asdict().items()})


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

    lag: FloatArray
    n: FloatArray
    w: FloatArray
    wz: FloatArray

    def take(self, rows: AnyArray) -> LastVisit:
        """The groups of an index array or mask."""
        return LastVisit(self.lag[rows], self.n[rows], self.w[rows], self.wz[rows])
