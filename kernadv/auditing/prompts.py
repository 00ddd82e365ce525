"""What is known of every prompt at the end of a log."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from scipy.special import ndtri

from kernadv import kernels
from kernadv._errors import ArgumentError, LogError, check_count, check_level, import_extra
from kernadv.auditing.description import two_values
from kernadv.auditing.reading import as_log
from kernadv.baselines import Traces
from kernadv.estimator import KernelValueEstimator
from kernadv.groups import Groups, check_groups
from kernadv.typing import FloatArray

if TYPE_CHECKING:
    import polars as pl

    from kernadv.auditing.replay import Progress

#: Share of the steps of the log that the slope looks back on.
TAIL = 0.5


def prompts(
    log: Any = None,
    *,
    prompt_ids: Any = None,
    rewards: Any = None,
    step: Any = None,
    group: int | None = None,
    level: float = 0.95,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """What the default estimator knows of every prompt after the last step of a log.

    Parameters
    ----------
    log, prompt_ids, rewards, step
        As in `audit`.  If rewards have more than two values, the single traces are needed: arrays, a frame, or a log read
        with ``keep_traces=True``.
    group : int, optional
        Number G of traces of the next group, for `dead_next`; default: the most common size of the log.
    level : float
        Of the intervals, strictly between 0 and 1.
    progress : callable, optional

    Returns
    -------
    polars.DataFrame
        A row for each prompt with a reward, in the order of the log:

        ``prompt_id``
            Of groups, the number of the prompt.
        ``visits``, ``last_step``
            Number of its groups, and the step of the last one.
        ``value``, ``value_low``, ``value_high``
            Expected reward at the step after the last of the log, and its interval, see `KernelValueEstimator.predict`; the
            interval is null while no two rewards have differed.
        ``slope``, ``slope_low``, ``slope_high``
            Change of the expected reward per training step at the end of the log: the slope of a local line through the
            prompt's rewards, with a triangular kernel over the last half of the steps, and its interval.  Null with fewer
            than two visits there.
        ``dead_share``
            Share of its groups of several traces whose rewards are all equal; null if it has none.
        ``dead_next``
            Chance that the rewards of its next group of G traces are all equal, see `Prediction.dead`; null while no two
            rewards have differed, and if rewards have more than two values or groups one trace.

    Raises
    ------
    LogError
        If the log is empty.
    ArgumentError, ArgumentTypeError
        If an argument cannot be used; if `group` is given and rewards have more than two values.
    MissingExtraError
        Without the extra ``kernadv[audit]``.

    Notes
    -----
    The log is shown to the estimator once, step by step.

    The variance of a reward of mean v between a and b is at most (v - a)(b - v), and exactly that if there are no others:
    the interval of the slope takes it for all rewards of the prompt.

    Examples
    --------
    >>> from kernadv.simulation import simulate
    >>> found = prompts(simulate("fast", "epochs", 4).groups)
    >>> found.columns[:4]
    ['prompt_id', 'visits', 'last_step', 'value']
    """
    check_level(level)
    size = None if group is None else check_count(group, "group")
    polars = import_extra("polars", "a table of prompts", "audit")
    given = as_log(log, prompt_ids, rewards, step, keep_traces=True)
    read = None if isinstance(given, Groups) else given
    groups = check_groups(given if isinstance(given, Groups) else given.groups)
    traces = None if read is None else read.traces
    groups = groups.take(groups.n > 0)
    if not len(groups.n):
        raise LogError("the log is empty: it holds no trace with a reward")
    present, code = np.unique(groups.prompt, return_inverse=True)
    z = _rewards(groups, traces)
    estimator = KernelValueEstimator()
    _show(estimator, groups._replace(prompt=code), z, progress or (lambda share, what: None))
    known = estimator.predict(np.arange(len(present)), level=level)
    two = known.two_ends
    if size is None:
        several = groups.n[groups.n > 1]
        size = int(np.bincount(several).argmax()) if len(several) and two else 1
    elif not two:
        raise ArgumentError(
            f"group={size} asks for the chance of a dead group, which follows from the value only if rewards have two "
            "values; this log has more: leave group out"
        )
    dead_next = known.dead(size) if two and (size > 1 or group is not None) else np.full(len(present), np.nan)
    origin = 0.0 if read is None else read.origin
    slope = _slopes(groups._replace(prompt=code), known.value, (float(z.min()), float(z.max())), level)
    many = groups.n > 1
    several, dead = (np.bincount(code[part], minlength=len(present)) for part in (many, many & (groups.noise == 0)))
    columns = {
        "prompt_id": present if read is None else [read.prompts[row] for row in present.tolist()],
        "visits": known.visits,
        "last_step": known.last,
        "value": known.value + origin,
        "value_low": _finite(known.low + origin),
        "value_high": _finite(known.high + origin),
        "slope": slope.at,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "dead_share": np.where(several > 0, dead / np.maximum(several, 1), np.nan),
        "dead_next": dead_next,
    }
    return cast("pl.DataFrame", polars.DataFrame(columns, nan_to_null=True))


class _Slope(NamedTuple):
    """Slopes of prompts, and their intervals; NaN where there is none."""

    at: FloatArray
    low: FloatArray
    high: FloatArray


def _rewards(groups: Groups, traces: Traces | None) -> FloatArray:
    """The rewards of the groups, one after the other; in an order of no meaning if only their sums are known."""
    if traces is not None:
        return traces.z
    values = two_values(groups)
    if values is None:
        constant = groups.s.sum() / groups.n.sum()
        if not np.allclose(groups.ss, groups.n * constant**2, rtol=1e-9, atol=1e-12):
            raise ArgumentError(
                "rewards with more than two values do not follow from counts and sums: read the log with "
                "read_log(path, keep_traces=True), or give a frame or arrays"
            )
        values = (float(constant), float(constant) + 1.0)
    low, high = values
    right = np.rint((groups.s - groups.n * low) / (high - low)).astype(np.int64)
    return np.repeat(np.tile([high, low], len(groups.n)), np.column_stack([right, groups.n - right]).ravel())


def _show(estimator: KernelValueEstimator, groups: Groups, z: FloatArray, tell: Progress) -> None:
    """Show an estimator the steps of a log."""
    order = np.argsort(groups.step, kind="stable")
    z = Traces(z).of_groups(groups.n, order).z
    step, n = groups.step[order], groups.n[order]
    prompt, ends = np.repeat(groups.prompt[order], n), np.append(0, np.cumsum(n))
    for begin, end in pairwise(np.flatnonzero(np.diff(step, prepend=-1, append=-1)).tolist()):
        tell(begin / len(step), "the default over the steps")
        rows = slice(int(ends[begin]), int(ends[end]))
        estimator.observe(prompt[rows], z[rows], int(step[begin]))
    tell(1.0, "done")


def _slopes(groups: Groups, value: FloatArray, ends: tuple[float, float], level: float) -> _Slope:
    """Slope of a local line through each prompt's rewards at the last step."""
    last, begin = int(groups.step.max()), int(groups.step.min())
    width = max(TAIL * (last - begin + 1), 1.0)
    lag = (groups.step - last).astype(np.float64)
    share = kernels.get("triangular").profile(lag / width)
    weight = share * groups.n
    inside = weight > 0

    def over(part: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(groups.prompt[inside], part[inside], len(value)), np.float64)

    total = over(weight)
    centre = over(weight * lag) / np.where(total > 0, total, 1.0)
    arm = lag - centre[groups.prompt]
    spread = over(weight * arm**2)
    known = (over(np.ones(len(lag))) > 1) & (spread > 0)
    spread = np.where(known, spread, 1.0)
    at = over(weight * arm * groups.mean) / spread
    inner = np.maximum((value - ends[0]) * (ends[1] - value), 0.0)
    error = ndtri(0.5 + level / 2.0) * np.sqrt(inner * over(share**2 * groups.n * arm**2)) / spread
    return _Slope(*(np.where(known, part, np.nan) for part in (at, at - error, at + error)))


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.nan)
