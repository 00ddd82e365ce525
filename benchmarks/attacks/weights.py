"""All weights times a constant: weights are relative, so nothing changes."""

from __future__ import annotations

import functools
import warnings

import numpy as np

from benchmarks.attacks._answers import (
    MODELS,
    SAMPLES,
    SELECTED,
    differing,
    of_fit,
    of_model,
    of_selection,
    sample,
    warm_up,
)
from benchmarks.attacks._estimators import CONFIGURATIONS, Configuration
from benchmarks.attacks._row import Part, Row

__all__ = ["KIND", "parts", "warm_up"]

KIND = "weights"
FACTORS = (3.0, 0.1, 1e-9, 1e9)
TOLERANCE = 1e-9


def parts(short: bool, seed: int) -> list[Part]:
    """A part for each kind of data, and one for the estimator."""
    samples, times = (("ties in x",), 1) if short else (SAMPLES, 4)
    asked = [functools.partial(scaled, kind, times, FACTORS[: 2 if short else 4], seed) for kind in samples]
    return [*asked, functools.partial(estimator, 20 if short else 200, seed)]


def scaled(kind: str, times: int, factors: tuple[float, ...], seed: int) -> Row:
    """Every regressor, selector, interval, band and variance on data of that kind."""
    row = Row(KIND, f"sample_weight times {', '.join(f'{c:g}' for c in FACTORS)}: all answers within {TOLERANCE:g}")
    cases = [(name, functools.partial(of_model, make)) for name, make in MODELS.items()]
    cases += [(name, functools.partial(of_selection, make)) for name, make in SELECTED.items()]
    cases += [(name, functools.partial(of_fit, MODELS[name])) for name in ("NadarayaWatson", "LocalLinear")]
    for name, ask in cases:
        for k in range(times):
            data = sample(kind, np.random.default_rng([seed, k, *kind.encode()]))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                first = ask(data, True)
                for factor in factors:
                    row.count += 1
                    again = ask(data._replace(weights=factor * data.weights), True)
                    for wrong in differing(first, again, float(np.ptp(data.y)), None, TOLERANCE):
                        row.fail(f"{name}, {kind}: {wrong}", f"weights times {factor:g}")
    return row


def estimator(steps: int, seed: int, configuration: Configuration | None = None) -> Row:
    """The weighted estimator, whose weights have no unit either."""
    row = Row(KIND, f"weights of traces times {', '.join(f'{c:g}' for c in FACTORS)}: advantages within {TOLERANCE:g}")
    how = configuration or CONFIGURATIONS["weighted"]
    for factor in FACTORS:
        one, other = how.make(), how.make()
        for step in range(1, steps + 1):
            batch, options = how.batch(seed, step)
            first = one.advantages(*batch, **options)
            second = other.advantages(*batch, weights=factor * options["weights"])
            row.count += 1
            if not np.abs(first - second).max() <= TOLERANCE:
                gap = np.abs(first - second).max()
                row.fail(f"weights of traces times {factor:g}: advantages differ", f"step {step}, by {gap:.1e}")
                break
    return row
