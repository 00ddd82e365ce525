"""What the plots share: the look of each baseline, scales that survive errors at or below 0, readable ticks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from kernadv._typing import FloatArray
from kernadv.audit import Audit, Finding
from kernadv.report import _wording as wording
from kernadv.report._svg import COLOURS

#: Dashes of the baselines that are lines in a plot.
DASHES = {"batch_mean": (0, (1, 1.5)), "group_mean": (0, (6, 2, 1, 2)), "rloo": (0, (5, 2)), "kernadv": "solid"}

#: Errors up to this size are rounding.
ROUNDING = 1e-20

_MARKERS = {
    "zero": ("X", 5.0),
    "batch_mean": ("s", 4.0),
    "group_mean": ("v", 5.0),
    "rloo": ("D", 4.0),
    "kernadv": ("P", 6.0),
}


class Look(NamedTuple):
    """Colour, marker and text of a baseline, the same in every plot."""

    text: str
    style: dict[str, Any]

    @classmethod
    def of(cls, audit: Audit, finding: Finding) -> Look:
        """KAE is one family; its best bandwidth stands out."""
        if finding.name == audit.best:
            star = {"marker": "*", "markersize": 11.0, "markeredgewidth": 0.0, "zorder": 4}
            return cls(f"best, {wording.label(finding).removeprefix('KAE ')}", {"color": COLOURS["best"], **star})
        role = "kae" if finding.clock else finding.name
        marker, size = _MARKERS.get(role, ("o", 4.0))
        text = "KAE" if finding.clock else wording.label(finding)
        return cls(text, {"color": COLOURS.get(role, COLOURS["muted"]), "marker": marker, "markersize": size})


class Scale:
    """An error axis that shows estimates and their intervals: logarithmic, or linear where `log` is False.

    Truth-free errors are differences and may be at or below 0, and so may the lower ends of their intervals: a
    logarithmic axis ends below the smallest positive estimate, and what is smaller lies on its lower edge.

    Parameters
    ----------
    errors : (N,) or (N, 3) array_like
        Estimates, or intervals in the order of `Interval`.
    log : bool
    """

    def __init__(self, errors: ArrayLike, log: bool) -> None:
        rows = np.asarray(errors, dtype=np.float64)
        estimate = rows[..., 0] if rows.ndim > 1 else rows
        positive = estimate[np.isfinite(estimate) & (estimate > ROUNDING)]
        found = rows[np.isfinite(rows)]
        self.log = log and len(positive) > 0
        if self.log:
            self.ends = (0.75 * float(positive.min()), 1.25 * float(found.max()))
        else:
            pad = 0.05 * float(np.ptp(found)) or 1.0
            self.ends = (float(found.min()) - pad, float(found.max()) + pad)

    def clip(self, values: ArrayLike) -> FloatArray:
        """The values as they can be drawn."""
        array = np.asarray(values, dtype=np.float64)
        return np.maximum(array, self.ends[0]) if self.log else array

    def apply(self, ax: Axes, *sides: str) -> None:
        """Set scale, ends and ticks of the sides "x" and "y" of a plot."""
        low, high = self.ends
        for side in sides:
            ax.set(**{f"{side}scale": "log" if self.log else "linear", f"{side}lim": (low, high)})
            axis = {"x": ax.xaxis, "y": ax.yaxis}[side]
            if self.log:
                axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)))
                axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())


def log_ticks(ax: Axes, at: FloatArray, texts: list[str], base: float, apart: float) -> None:
    """Logarithmic horizontal axis with ticks at given places, the labels thinned to a factor `apart`."""
    ax.set_xscale("log", base=base)
    kept: list[int] = []
    for k in np.argsort(-at):
        if not kept or at[kept[-1]] / at[k] >= apart:
            kept.append(int(k))
    ax.xaxis.set_major_locator(FixedLocator(at[kept].tolist()))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(at[kept], [texts[k] for k in kept])


def legend(ax: Axes, columns: int) -> None:
    """Legend above the axes."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.8,
        columnspacing=1.2,
        handletextpad=0.5,
    )
