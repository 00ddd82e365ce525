"""Fuzzed fits: random data, regressors, selectors, intervals and bands.

Only clear errors are raised and only the package's own warnings given; no fit takes long; and where an interval or a band is
finite, it is at most a hundred times as wide as the range of the responses.
"""

from __future__ import annotations

import functools
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.attacks._answers import warm_up
from benchmarks.attacks._row import Part, Row
from kernadv import (
    BandwidthWarning,
    EmptyWindowWarning,
    KernadvError,
    KNeighborsSmoother,
    LocalLinear,
    LocalPolynomial,
    NadarayaWatson,
)
from kernadv.kernels import KERNELS
from kernadv.regression.bandwidth import SELECTORS

__all__ = ["KIND", "parts", "warm_up"]

KIND = "fits"
SECONDS, WIDEST = 10.0, 100.0
PARTS = 8
DESIGNS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "uniform": lambda rng, shape: rng.random(shape),
    "rounded": lambda rng, shape: np.round(rng.random(shape), 1),
    "exponential": lambda rng, shape: rng.exponential(0.2, shape),
    "far from 0": lambda rng, shape: 1e8 + rng.random(shape),
    "of all sizes": lambda rng, shape: 10.0 ** rng.uniform(-8, 8, shape),
    "tiny": lambda rng, shape: 1e-12 * rng.random(shape),
    "an outlier": lambda rng, shape: np.where(rng.random(shape) < 0.05, 1e6, rng.random(shape)),
    "one place": lambda rng, shape: np.full(shape, 0.3),
    "two places": lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    "collinear": lambda rng, shape: np.repeat(rng.random((shape[0], 1)), shape[1], 1),
    "a grid": lambda rng, shape: np.repeat(np.arange(shape[0])[:, None] / shape[0], shape[1], 1),
    "not finite": lambda rng, shape: rng.choice([0.5, np.nan, np.inf], shape),
    "huge": lambda rng, shape: 1e100 * rng.random(shape),
}
RESPONSES: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "a curve": lambda rng, x: np.sin(6.0 * x) + 0.3 * rng.standard_normal(len(x)),
    "growing noise": lambda rng, x: x + np.abs(x) * rng.standard_normal(len(x)),
    "a curve without noise": lambda rng, x: np.sin(6.0 * x),
    "constant": lambda rng, x: np.full(len(x), 0.7),
    "two values": lambda rng, x: (rng.random(len(x)) < 0.3).astype(float),
    "rare": lambda rng, x: (rng.random(len(x)) < 0.03).astype(float),
    "heavy tails": lambda rng, x: rng.standard_cauchy(len(x)),
    "far from 0": lambda rng, x: 1e9 + rng.standard_normal(len(x)),
    "tiny": lambda rng, x: 1e-12 * rng.standard_normal(len(x)),
    "huge": lambda rng, x: 1e100 * rng.standard_normal(len(x)),
    "not finite": lambda rng, x: rng.choice([0.5, np.nan, np.inf], len(x)),
}


def parts(short: bool, seed: int) -> list[Part]:
    """3,000 fits, in parts."""
    return [functools.partial(fuzzed, part, 6 if short else 375, seed) for part in range(PARTS)]


def fuzzed(
    part: int, fits: int, seed: int, model: Callable[[np.random.Generator], tuple[Any, str]] | None = None
) -> Row:
    """Fit and ask; `model`: what is fitted instead of a random regressor."""
    row = Row(KIND, f"random fits, and what is asked of them; finite intervals at most {WIDEST:g} ranges wide")
    for k in range(fits):
        rng = np.random.default_rng([seed, part, k])
        n, d = int(rng.choice([1, 2, 3, 5, 8, 12, 20, 40, 80])), int(rng.choice([1, 1, 1, 2, 3]))
        design, response = str(rng.choice(list(DESIGNS))), str(rng.choice(list(RESPONSES)))
        if rng.random() < 0.5:
            design = "uniform"
        with np.errstate(all="ignore"):
            x = DESIGNS[design](rng, (n, d))
            y = RESPONSES[response](rng, x[:, 0])
        how, said = model(rng) if model else _with_options(rng, *_model(rng))
        weights = [None, rng.random(n) + 0.1, rng.choice([0.0, 1.0, 2.0], n), np.full(n, 1e-300)][
            rng.choice(4, p=[0.6, 0.2, 0.15, 0.05])
        ]
        clusters = np.arange(n) % 5 if rng.random() < 0.2 else None
        said = (
            f"{said}, n={n}, d={d}, x {design}, y {response}{'' if weights is None else ', weighted'}"
            f"{'' if clusters is None else ', clusters'} ({part}, {k})"
        )
        row.count += 1
        began = time.process_time()
        if _fitted(row, how, x, y, said, sample_weight=weights, clusters=clusters):
            _ask(row, how, x, y, rng, said)
        took = time.process_time() - began
        row.slowest = max(row.slowest, took)
        if took > SECONDS:
            row.fail(f"more than {SECONDS:g} s of CPU", said)
    return row


def _model(rng: np.random.Generator) -> tuple[Any, str]:
    """A random regressor, and its name."""
    kernel = str(rng.choice([*sorted(KERNELS), "epanechnikov"]))
    side = str(rng.choice(["both", "both", "both", "past"]))
    numbers = [0.01, 0.05, 0.1, 0.3, 1.0, 1e6, 1e-12, 0.0, -1.0, float("nan")]
    chosen = rng.choice(sorted(SELECTORS)) if rng.random() < 0.5 else rng.choice(numbers)
    bandwidth = str(chosen) if isinstance(chosen, str) else float(chosen)
    kind = rng.integers(4)
    if kind == 0:
        return NadarayaWatson(
            bandwidth, kernel=kernel, side=side
        ), f"NadarayaWatson({bandwidth!r}, {kernel!r}, {side!r})"
    if kind == 1:
        return LocalLinear(bandwidth, kernel=kernel, side=side), f"LocalLinear({bandwidth!r}, {kernel!r}, {side!r})"
    degree = int(rng.integers(0, 4))
    if kind == 2:
        how = LocalPolynomial(degree, bandwidth=bandwidth, kernel=kernel, side=side, radial=bool(rng.integers(2)))
        return how, f"LocalPolynomial({degree}, {bandwidth!r}, {kernel!r}, {side!r})"
    k = int(rng.choice([1, 2, 3, 5, 10, 20]))
    ties = str(rng.choice(["count", "distinct"]))
    return KNeighborsSmoother(
        k, degree=degree, kernel=kernel, ties=ties
    ), f"KNeighborsSmoother({k}, {degree}, {kernel!r}, {ties!r})"


def _with_options(rng: np.random.Generator, how: Any, said: str) -> tuple[Any, str]:
    """The regressor with what it does about empty windows, outliers and missing values drawn, and its name."""
    drawn = {
        "empty": str(rng.choice(["nan", "nan", "nearest", "widen", "raise"])),
        "fall_back": bool(rng.integers(2)),
        "robust_steps": int(rng.choice([0, 0, 0, 2])),
        "missing": str(rng.choice(["raise", "drop"])),
    }
    options = {name: value for name, value in drawn.items() if name in how.get_params()}
    return how.set_params(**options), f"{said}, {options}"


def _fitted(row: Row, how: Any, x: np.ndarray, y: np.ndarray, said: str, **data: Any) -> bool:
    """Fit; whether that went well."""
    return _clear(row, "fit", lambda: how.fit(x, y, **data), said) is not None


def _ask(row: Row, how: Any, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, said: str) -> None:
    """Everything that can be asked of a fit, at and between the points."""
    share = rng.random((4, x.shape[1]))
    at = np.concatenate([x[rng.integers(len(x), size=4)], (1 - share) * x.min(0) + share * x.max(0)])
    _clear(row, "predict", lambda: how.predict(at, return_std=True), said)
    _clear(row, "loo_predict", how.loo_predict, said)
    _clear(row, "derivative", lambda: how.derivative(at), said)
    _clear(row, "summary", how.summary, said)
    asked = {
        "interval": lambda: how.interval(at, level=0.95),
        "band": lambda: how.band(at),
        "band, bias_corrected": lambda: how.band(at, bias_corrected=True),
        "band, tube": lambda: how.band(at, method="tube"),
        "interval serial": lambda: how.interval(at, errors="serial"),
        "interval cluster": lambda: how.interval(at, errors="cluster"),
        "prediction_interval": lambda: how.prediction_interval(at),
    }
    if hasattr(how, "contrast"):
        asked["contrast"] = lambda: how.contrast(at[:4], at[4:])
    for method in ("normal", "robust", "wilson", "jeffreys"):
        asked[f"interval {method}"] = lambda method=method: how.interval(at, method=method)
    size = float(np.ptp(y)) or float(np.isin(y, (-1.0, 0.0, 1.0)).all())  # of 0s alone the other value is 1
    for name, question in asked.items():
        answer = _clear(row, name, question, said)
        if answer is None:
            continue
        row.outcomes["intervals and bands"] += 1
        # Robust steps go on with responses outside the range; where new ones lie, errors of extrapolation tell.
        bounded = not how.get_params().get("robust_steps") and name != "prediction_interval"
        with np.errstate(all="ignore"):
            wide = answer.high - answer.low
            known = np.isfinite(wide)
            if bounded and (wide[known] > WIDEST * size + 1e-6 * np.abs(y).max()).any():
                row.fail(f"{name} wider than {WIDEST:g} ranges", said)
            if (wide[known] < 0).any():
                row.fail(f"{name}: the upper end lies below the lower one", said)


def _clear(row: Row, name: str, question: Callable[[], Any], said: str) -> Any:
    """The answer, or None where it is refused; another error, or a warning of numpy, is a failure."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = question()
        except KernadvError:
            row.outcomes["refused"] += 1
            return None
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            if isinstance(error, ValueError) and "sklearn" in where.filename:
                row.outcomes["refused"] += 1
            else:
                file = where.filename.rpartition("/")[2]
                row.fail(f"{name} raised {type(error).__name__} at {file}:{where.lineno}: {str(error)[:60]}", said)
            return None
    for warning in caught:
        if not issubclass(warning.category, (BandwidthWarning, EmptyWindowWarning)):
            file = warning.filename.rpartition("/")[2]
            row.fail(
                f"{name}: {warning.category.__name__} at {file}:{warning.lineno}: {str(warning.message)[:60]}", said
            )
    return answer
