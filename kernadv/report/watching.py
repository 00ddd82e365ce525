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
from kernadv._typing import FloatArray
from kernadv.audit import Watch
from kernadv.report import _wording as wording

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
#: Widest sparkline, and width of the columns before it.
_WIDEST, _BEFORE = 60, 32
#: Rows of the table, and the names on a line: numbers that share a scale, the lower end of that, and the names.
_ROWS: tuple[tuple[float | None, dict[str, tuple[str, str]]], ...] = (
    (
        0.0,
        {
            "value_mse": ("kernadv", "kernadv"),
            "rloo_mse": ("RLOO", "rloo"),
            "group_mean_mse": ("group mean", "group_mean"),
            "batch_mean_mse": ("batch mean", "batch_mean"),
        },
    ),
    (None, {"value_excess": ("kernadv less batch mean", "excess")}),
    (0.0, {"gradient_ratio": ("gradient variance", "gradient_ratio")}),
    (
        0.0,
        {"dead": ("dead groups", "dead"), "dead_0": ("  all 0", "dead_0"), "dead_1": ("  all 1", "dead_1")},
    ),
    (None, {"mean_reward": ("mean reward", "mean_reward")}),
)
_SHARES = ("dead", "dead_0", "dead_1")


def sparkline(values: FloatArray, width: int, low: float, high: float, *, ascii_only: bool = False) -> str:
    """At most `width` bars, each the mean of a part of the values; a blank where none is known.

    Parameters
    ----------
    values : (N,) float64
        NaN where one is not known.
    width : int
        At least 1.
    low, high : float
        Ends of the scale.
    ascii_only : bool
        Use no other characters.
    """
    bars = _ASCII_BARS if ascii_only else _BARS
    parts = [part[~np.isnan(part)] for part in np.array_split(values, min(width, len(values)) or 1)]
    means = [float(part.mean()) if len(part) else math.nan for part in parts]
    heights = [(mean - low) / ((high - low) or 1.0) * len(bars) for mean in means]
    return "".join(" " if math.isnan(x) else bars[min(max(int(x), 0), len(bars) - 1)] for x in heights)


def table(watch: Watch, title: str, notes: Sequence[str], console: Console) -> RenderableType:
    """The numbers now and over the steps; `console` decides the width."""
    room = min(console.width - _BEFORE, _WIDEST)
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column(Text("value MSE"), no_wrap=True)
    found.add_column(Text("now"), justify="right", no_wrap=True)
    if room > 0:
        found.add_column(Text(_over(watch)[:room]), no_wrap=True)
    decimals = _decimals(watch)
    for low, names in _ROWS:
        lines = {name: np.array(watch.series[name]) for name in names}
        lines = {name: series for name, series in lines.items() if not np.isnan(series).all()}
        every = np.concatenate([np.empty(0), *lines.values()])
        for name, series in lines.items():
            cells = [names[name][0], _shown(name, series[-1], decimals)]
            if room > 0:
                scale = (np.nanmin(every) if low is None else low, np.nanmax(every))
                cells.append(sparkline(series, room, *scale, ascii_only=console.options.ascii_only))
            found.add_row(*map(Text, cells))
    counts = [(watch.traces, "trace"), (watch.prompts, "prompt"), (len(watch.steps), "step")]
    held = ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for count, what in counts)
    below = [*_reading(watch), *notes]
    return Group(
        Text(printable(title), style="bold"),
        Text(held),
        Text(""),
        *([found] if watch.steps else []),
        *(Text(printable(note), style="dim") for note in below),
    )


def line(watch: Watch) -> str:
    """The step and the numbers now, as ``name=value``; those that are not defined are left out."""
    decimals = _decimals(watch)
    parts = [f"step={watch.steps[-1]}", f"traces={watch.traces}"]
    for _, names in _ROWS:
        for name, (_, short) in names.items():
            value = watch.now[name]
            if math.isfinite(value):
                parts.append(f"{short}={wording.number(value, decimals if name.endswith('_mse') else 3)}")
    return " ".join(parts)


def _reading(watch: Watch) -> list[str]:
    """How to read the numbers."""
    waiting = f"{watch.waiting:,} trace{'s' * (watch.waiting != 1)} of a step that does not count yet."
    about = "Errors and shares of about the last 50 steps; the mean reward is that of the step."
    return [*([waiting] if watch.waiting else []), *([about] if watch.steps else [])]


def _over(watch: Watch) -> str:
    first, last = min(watch.steps, default=0), watch.steps[-1] if watch.steps else 0
    return f"steps {first} to {last}"


def _decimals(watch: Watch) -> int:
    """Decimals that show three digits of the smallest error."""
    now = [abs(watch.now[name]) for name in ("value_mse", "rloo_mse", "batch_mean_mse", "value_excess")]
    size = min((x for x in now if x > 0), default=math.nan)
    return min(max(2 - math.floor(math.log10(size)), 0), 6) if 0 < size < math.inf else 3


def _shown(name: str, value: float, decimals: int) -> str:
    if name in _SHARES:
        return wording.percent(value)
    return wording.number(value, decimals if name not in ("gradient_ratio", "mean_reward") else 3)


def remarks(watch: Watch) -> list[str]:
    """What was odd about the traces."""
    found = [f"The step went back from {before} to {after}: it counts on from there." for before, after in watch.back]
    if watch.late:
        found.append(f"{watch.late:,} traces left out: they came after their step had been counted.")
    return found
