"""The plots of the report: each a title, a sentence and a drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from kernadv.auditing import Audit, Finding
from kernadv.report import _wording as wording
from kernadv.report._svg import COLOURS, LIGHT, style
from kernadv.typing import FloatArray

#: Dash patterns of the baselines that are drawn as lines.
DASHES = {"batch_mean": (0, (1, 1.5)), "group_mean": (0, (6, 2, 1, 2)), "rloo": (0, (5, 2)), "kernadv": "solid"}

#: Errors up to this size are rounding errors.
ROUNDING = 1e-20

_MARKERS = {
    "zero": ("X", 5.0),
    "batch_mean": ("s", 4.0),
    "group_mean": ("v", 5.0),
    "rloo": ("D", 4.0),
    "kernadv": ("P", 6.0),
}

_CLOCKS = {
    "relative": ("Relative bandwidth", "bandwidth h, as a fraction of the step"),
    "steps": ("Bandwidth in steps", "bandwidth w, in steps"),
    "visits": ("Bandwidth in visits", "number of visits k"),
}


#: An estimate below the axis: a triangle that points to it.
_BELOW: dict[str, Any] = {"marker": 7, "markersize": 6.0, "clip_on": False, "zorder": 5}


class Plot(NamedTuple):
    """A plot.

    Attributes
    ----------
    name, title, caption : str
    text : str
        What it shows, for those who cannot see it.
    draw : callable
        Draws on the axes that it gets.
    """

    name: str
    title: str
    caption: str
    text: str
    draw: Callable[[Axes], None]


def plots(audit: Audit, colours: Mapping[str, str] = COLOURS) -> list[Plot]:
    """Every plot that the audit has numbers for; `colours` by role.  Without noise nothing is known of errors."""
    found = []
    if audit.noise != 0:
        clocks = [clock for clock in _CLOCKS if any(finding.clock == clock for finding in audit.findings)]
        found += [_bandwidth(audit, clock, colours) for clock in clocks]
        if audit.strata:
            found.append(_strata(audit, colours))
    if audit.gaps:
        found.append(_gaps(audit, colours))
    if audit.steps > 1:
        found.append(_drift(audit, colours))
    if audit.noise != 0 and any(finding.true_mse is not None for finding in audit.findings):
        found.append(_truth(audit, colours))
    return found


def figure(audit: Audit) -> Figure:
    """All plots in one figure, two in a row."""
    with style(LIGHT):
        shown = plots(audit, LIGHT)
        rows = max(-(-len(shown) // 2), 1)
        found = Figure(figsize=(11.0, 4.2 * rows), layout="constrained")
        for place, plot in enumerate(shown):
            ax = found.add_subplot(rows, 2, place + 1)
            plot.draw(ax)
            ax.set_xlabel(f"{ax.get_xlabel()}\n{plot.title}")
    return found


def _bandwidth(audit: Audit, clock: str, colours: Mapping[str, str]) -> Plot:
    """Error against the bandwidths of one clock; the plots of all clocks have the same vertical axis."""
    title, axis = _CLOCKS[clock]
    findings = sorted((finding for finding in audit.findings if finding.clock == clock), key=_width)
    widths = np.array([_width(finding) for finding in findings])
    endless = np.isinf(widths)
    at = np.where(endless, 2.0 * np.max(widths[~endless], initial=1.0), widths)
    shown = [wording.error(finding) for finding in audit.findings if finding.clock or finding.name in DASHES]

    def draw(ax: Axes) -> None:
        scale = Scale(shown, log=audit.noise is not None)
        for finding in audit.findings:
            if finding.name in DASHES:
                look = Look.of(audit, finding, colours)
                y = float(scale.clip(wording.error(finding).estimate))
                ax.axhline(y, color=look.style["color"], linestyle=DASHES[finding.name], label=look.text)
        errors = list(zip(*map(wording.error, findings), strict=True))
        estimate, low, high = (scale.clip(part) for part in errors)
        ax.fill_between(at, low, high, color=colours["kae"], alpha=0.2, linewidth=0)
        ax.plot(at, scale.inside(errors[0]), color=colours["kae"], marker="o", markersize=4.0, label="KAE")
        ax.plot(at, scale.below(errors[0]), color=colours["kae"], linestyle="none", **_BELOW)
        for x, y, finding in zip(at, estimate, findings, strict=True):
            if finding.name == audit.best:
                look = Look.of(audit, finding, colours)
                flag = f"{look.text} (edge)" if audit.at_edge else look.text
                ax.plot([x], [y], linestyle="none", label=flag, **look.style)
        log_ticks(ax, at, ["∞" if math.isinf(width) else f"{width:g}" for width in widths], base=10, apart=1.25)
        scale.apply(ax, "y")
        ax.set_xlabel(axis)
        ax.set_ylabel(_error_name(audit))
        legend(ax, 3)

    caption = f"KAE by {axis}; band: 95% intervals; lines: baselines without a bandwidth."
    shown_as = (f"{wording.label(finding)}: {_short(wording.error(finding).estimate)}" for finding in findings)
    return Plot(f"bandwidth-{clock}", title, caption, f"{_error_name(audit)} of {', '.join(shown_as)}.", draw)


def _strata(audit: Audit, colours: Mapping[str, str]) -> Plot:
    """Error of five baselines by the mean reward of the prompt."""
    shown = ("batch_mean", "rloo", "kae h=0.5", audit.best, "kernadv")
    names = [name for name in shown if name is not None and name in audit.strata[0]["mse"]]
    errors = {name: [stratum["mse"][name] for stratum in audit.strata] for name in dict.fromkeys(names)}
    by = "pass rate" if audit.binary else "mean reward"
    what = "squared error against the rewards" if audit.noise is None else "value MSE"
    scale = Scale(np.concatenate(list(errors.values())), log=audit.noise is not None)

    def draw(ax: Axes) -> None:
        x = np.arange(len(audit.strata), dtype=np.float64)
        for k, (name, column) in enumerate(errors.items()):
            look = Look.of(audit, audit.finding(name), colours)
            text = wording.label(audit.finding(name)) if name == "kae h=0.5" != audit.best else look.text
            offset = 0.08 * (k - (len(errors) - 1) / 2)
            ax.plot(x + offset, scale.inside(column), linestyle="none", label=text, **look.style)
            ax.plot(x + offset, scale.below(column), linestyle="none", color=look.style["color"], **_BELOW)
        scale.apply(ax, "y")
        ax.set_xticks(x, _stratum_labels(audit), fontsize=8.5)
        ax.set_xlim(-0.5, len(x) - 0.5)
        ax.grid(visible=False, axis="x")
        ax.set_xlabel(f"{by} of the prompt at its other visits; share of the rows")
        ax.set_ylabel(what)
        legend(ax, 2)

    below = scale.log and any(np.isfinite(scale.below(column)).any() for column in errors.values())
    edge = " Triangles: estimates below the axis, at or under 0." if below else ""
    caption = f"Where the error comes from: {what} by {by}.{edge}"
    rows = (
        f"{_short(stratum['low'])} to {_short(stratum['high'])}: "
        + ", ".join(f"{wording.label(audit.finding(name))} {_short(stratum['mse'][name])}" for name in errors)
        for stratum in audit.strata
    )
    return Plot("strata", f"Error by {by}", caption, f"{'; '.join(rows)}.", draw)


def _stratum_labels(audit: Audit) -> list[str]:
    """Ends of each stratum, and its share of the rows."""
    rows = sum(stratum["rows"] for stratum in audit.strata)
    ends = [[_short(stratum[end]) for end in ("low", "high")] for stratum in audit.strata]
    to = " to " if max(len(low + high) for low, high in ends) < 8 else "\nto "
    return [
        f"{low}{to}{high}\n{stratum['rows'] / rows:.0%}"
        for (low, high), stratum in zip(ends, audit.strata, strict=True)
    ]


def _short(end: float) -> str:
    return f"{end:,.0f}" if abs(end) >= 1000 else f"{end:.3g}"


def _gaps(audit: Audit, colours: Mapping[str, str]) -> Plot:
    """Histogram of the revisit gaps, by powers of two."""
    low, count = (np.array([bar[key] for bar in audit.gaps], dtype=np.float64) for key in ("low", "count"))
    ends = np.exp2(np.arange(max(len(low), 4) + 1, dtype=np.float64))

    def draw(ax: Axes) -> None:
        ax.bar(low, 100 * count / count.sum(), 0.94 * low, align="edge", color=colours["kae"], alpha=0.8)
        log_ticks(ax, ends, [f"{x:g}" for x in ends], base=2, apart=1.5)
        ax.grid(visible=False, axis="x")
        ax.set_xlabel("steps from one visit of a prompt to its next")
        ax.set_ylabel("share of the revisits, %")

    caption = "How soon prompts come back. A bandwidth narrower than the usual gap finds no past to smooth."
    bars = zip(audit.gaps, 100 * count / count.sum(), strict=True)
    text = ", ".join(f"{bar['low']} to {bar['high']} steps: {share:.0f}%" for bar, share in bars)
    return Plot("gaps", "Revisit gaps", caption, f"{text}.", draw)


def _drift(audit: Audit, colours: Mapping[str, str]) -> Plot:
    step, mean = ([stretch[key] for stretch in audit.drift] for key in ("step", "mean"))

    def draw(ax: Axes) -> None:
        ax.plot(step, mean, color=colours["kae"], linewidth=1.2)
        if audit.binary:
            ax.set_ylim(0.0, 1.0)
        ax.set_xlabel("step")
        ax.set_ylabel("mean reward")

    caption = "Mean reward over the run: the drift that a value must follow."
    text = f"It goes from {_short(mean[0])} at step {step[0]:g} to {_short(mean[-1])} at step {step[-1]:g}"
    text += f", between {_short(min(mean))} and {_short(max(mean))}."
    return Plot("drift", "Mean reward", caption, text, draw)


def _truth(audit: Audit, colours: Mapping[str, str]) -> Plot:
    origin = audit.finding("batch_mean").true_mse if audit.noise is None else 0.0
    true = {
        finding.name: finding.true_mse - (origin or 0.0) for finding in audit.findings if finding.true_mse is not None
    }

    def draw(ax: Axes) -> None:
        errors = [wording.error(audit.finding(name)) for name in true]
        scale = Scale([*errors, *((x, x, x) for x in true.values())], log=audit.noise is not None)
        labelled = set()
        for (name, x), (y, low, high) in zip(true.items(), scale.clip(errors), strict=True):
            look = Look.of(audit, audit.finding(name), colours)
            text = None if look.text in labelled else look.text
            labelled.add(look.text)
            bar = [[y - low], [high - y]]
            ax.errorbar(float(scale.clip(x)), y, bar, linestyle="none", elinewidth=1.0, label=text, **look.style)
        ends = scale.clip([min(true.values()), max(true.values())])
        ax.plot(ends, ends, color=colours["muted"], linewidth=0.8, zorder=0, label="equal")
        scale.apply(ax, "x", "y")
        ax.set_xlabel(f"{_error_name(audit)}, from the true values")
        ax.set_ylabel(f"{_error_name(audit)}, truth-free")
        legend(ax, 3)

    caption = "This log has the true values: the truth-free estimate of every baseline against the truth."
    pairs = (
        f"{wording.label(audit.finding(name))}: {_short(wording.error(audit.finding(name)).estimate)}, true {_short(x)}"
        for name, x in true.items()
    )
    return Plot("truth", "Check against the truth", caption, f"{'; '.join(pairs)}.", draw)


def _width(finding: Finding) -> float:
    return math.nan if finding.bandwidth is None else finding.bandwidth


def _error_name(audit: Audit) -> str:
    return "MSE minus batch mean's" if audit.noise is None else "value MSE"


class Look(NamedTuple):
    """Colour, marker and text of a baseline, the same in every plot."""

    text: str
    style: dict[str, Any]

    @classmethod
    def of(cls, audit: Audit, finding: Finding, colours: Mapping[str, str]) -> Look:
        """KAE is one family; its best bandwidth stands out."""
        if finding.name == audit.best:
            star = {"marker": "*", "markersize": 11.0, "markeredgewidth": 0.0, "zorder": 4}
            return cls(f"best, {wording.label(finding).removeprefix('KAE ')}", {"color": colours["best"], **star})
        role = "kae" if finding.clock else finding.name
        marker, size = _MARKERS.get(role, ("o", 4.0))
        text = "KAE" if finding.clock else wording.label(finding)
        return cls(text, {"color": colours.get(role, colours["muted"]), "marker": marker, "markersize": size})


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

    def inside(self, values: ArrayLike) -> FloatArray:
        """The values that lie on the axis, NaN for the others, so that no line leads to where they are drawn."""
        array = np.asarray(values, dtype=np.float64)
        return np.where(array >= self.ends[0], array, np.nan)

    def below(self, values: ArrayLike) -> FloatArray:
        """The lower end of the axis for the values below it, NaN for the others."""
        array = np.asarray(values, dtype=np.float64)
        return np.where(array < self.ends[0], self.ends[0], np.nan)

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
