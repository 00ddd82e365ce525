"""A run that is watched: a table with a sparkline for each number, or one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kernadv._errors import printable
from kernadv.auditing import Watch
from kernadv.auditing.verdict import apart
from kernadv.report import _wording as wording
from kernadv.typing import FloatArray

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
#: Widest sparkline, and width of the columns before it.
_WIDEST, _BEFORE = 60, 34
_ERRORS = {"value_mse": "kernadv", "rloo_mse": "rloo", "group_mean_mse": "group_mean", "batch_mean_mse": "batch_mean"}
_DEAD = ("dead", "dead_0", "dead_1")
#: Numbers that share a scale, in the order of the table, and whether it begins at 0.
_SCALES = (
    (tuple(_ERRORS), True),
    (("value_excess",), False),
    (("gradient_ratio",), True),
    (_DEAD, True),
    (("mean_reward",), False),
)


def sparkline(values: FloatArray, low: float, high: float, *, ascii_only: bool = False) -> str:
    """A bar for each value; a blank where it is not known.

    Parameters
    ----------
    values : (N,) float64
        NaN where one is not known.
    low, high : float
        Ends of the scale.
    ascii_only : bool
        Use no other characters.
    """
    bars = _ASCII_BARS if ascii_only else _BARS
    heights = [(value - low) / ((high - low) or 1.0) * len(bars) for value in values.tolist()]
    return "".join(" " if math.isnan(x) else bars[min(max(int(x), 0), len(bars) - 1)] for x in heights)


def table(watch: Watch, title: str, notes: Sequence[str], console: Console) -> RenderableType:
    """The numbers now and over the steps; `console` decides the width."""
    counts = [(watch.traces, "trace"), (watch.prompts, "prompt"), (len(watch.steps), "step")]
    held = ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for count, what in counts)
    return Group(
        Text(printable(title), style="bold"),
        Text(held),
        Text(""),
        *([_numbers(watch, console)] if watch.steps else []),
        *(Text(printable(note), style="dim") for note in (*_reading(watch), *notes)),
    )


def line(watch: Watch) -> str:
    """The step and the numbers now, as ``name=value``; those that are not defined are left out."""
    decimals = _decimals(watch)
    parts = [f"step={watch.steps[-1]}", f"traces={watch.traces}"]
    for name, value in watch.now.items():
        if math.isfinite(value):
            is_error = name in _ERRORS or name == "value_excess"
            parts.append(f"{_ERRORS.get(name, name)}={wording.number(value, decimals if is_error else 3)}")
    return " ".join(parts)


def remarks(watch: Watch) -> list[str]:
    """What was odd about the traces."""
    found = [f"The step went back from {before} to {after}: it counts on from there." for before, after in watch.back]
    if watch.late:
        found.append(f"{watch.late:,} traces left out: they came after their step had been counted.")
    return found


def _numbers(watch: Watch, console: Console) -> Table:
    room = min(console.width - _BEFORE, _WIDEST)
    labels, decimals = _labels(watch), _decimals(watch)
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column(Text("value MSE"), no_wrap=True)
    found.add_column(Text("now"), justify="right", no_wrap=True)
    if room > 0:
        found.add_column(Text(f"steps {watch.steps[0]} to {watch.steps[-1]}"[:room]), no_wrap=True)
    for names, from_0 in _SCALES:
        bars = {name: _thinned(watch.series[name], max(room, 1)) for name in names}
        bars = {name: values for name, values in bars.items() if not np.isnan(values).all()}
        every = np.concatenate([np.zeros(int(from_0)), *bars.values()])
        for name, values in bars.items():
            cells = [labels[name], _shown(name, watch.now[name], decimals)]
            if room > 0:
                ascii_only = console.options.ascii_only
                cells.append(sparkline(values, np.nanmin(every), np.nanmax(every), ascii_only=ascii_only))
            found.add_row(*map(Text, cells))
    return found


def _thinned(series: Sequence[float], most: int) -> FloatArray:
    """At most so many numbers, each the mean of those that are known in a part of the series."""
    parts = np.array_split(np.array(series), min(most, len(series)))
    known = [part[~np.isnan(part)] for part in parts]
    return np.array([part.mean() if len(part) else np.nan for part in known])


def _labels(watch: Watch) -> dict[str, str]:
    low, high = ("low", "high") if watch.ends is None else apart(*watch.ends)
    than = "RLOO" if math.isfinite(watch.now["value_mse"]) else "batch"
    return {
        "value_mse": "kernadv",
        "rloo_mse": "RLOO",
        "group_mean_mse": "group mean",
        "batch_mean_mse": "batch mean",
        "value_excess": "kernadv - batch mean",
        "gradient_ratio": f"grad. var. vs {than}",
        "dead": "dead groups",
        "dead_0": f"  all {low}",
        "dead_1": f"  all {high}",
        "mean_reward": "mean reward",
    }


def _decimals(watch: Watch) -> int:
    """Decimals that show three digits of the smallest error."""
    now = [abs(watch.now[name]) for name in (*_ERRORS, "value_excess")]
    size = min((x for x in now if x > 0), default=math.nan)
    return min(max(2 - math.floor(math.log10(size)), 0), 6) if 0 < size < math.inf else 3


def _shown(name: str, value: float, decimals: int) -> str:
    if name in _DEAD:
        return wording.percent(value)
    return wording.number(value, 3 if name in ("gradient_ratio", "mean_reward") else decimals)


def _reading(watch: Watch) -> list[str]:
    """How to read the numbers."""
    waiting = f"{watch.waiting:,} trace{'s' * (watch.waiting != 1)} of a step that does not count yet."
    about = "Errors and shares of about the last 50 steps; the mean reward is that of the step."
    return [*([waiting] if watch.waiting else []), *([about] if watch.steps else [])]
