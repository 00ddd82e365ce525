"""Rows in another order: nothing may depend on it, with ties in x and in (x, y) as well."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.attacks._answers import (
    MODELS,
    SAMPLES,
    SELECTED,
    Answers,
    Data,
    differing,
    of_fit,
    of_logistic,
    of_model,
    of_selection,
    sample,
    warm_up,
)
from benchmarks.attacks._estimators import CONFIGURATIONS, Batch, Configuration
from benchmarks.attacks._row import Part, Row

__all__ = ["KIND", "parts", "warm_up"]

KIND = "permutations"
#: Shares of the scale of the rewards, and of the responses, that sums in another order may differ by.
REWARDS, RESPONSES = 1e-12, 1e-9


def parts(short: bool, seed: int) -> list[Part]:
    """Parts for the estimators, the models and the diagnostics."""
    times = 1 if short else 8
    samples = ("ties in x",) if short else SAMPLES
    estimators = [functools.partial(estimator, name, 10 if short else 100, seed) for name in CONFIGURATIONS]
    asked = [functools.partial(models, kind, times, seed) for kind in samples]
    return [*estimators, *asked, *(functools.partial(diagnostics, kind, times, seed) for kind in samples)]


def estimator(name: str, steps: int, seed: int, configuration: Configuration | None = None) -> Row:
    """Two estimators that see the same batches, one of them with permuted rows."""
    row = Row(KIND, f"rows of batches permuted: advantages within {REWARDS:g} of the rewards' scale")
    how = configuration or CONFIGURATIONS[name]
    one, other = how.make(), how.make()
    rng = np.random.default_rng([seed, *name.encode()])
    for step in range(1, steps + 1):
        batch, options = how.batch(seed, step)
        order = rng.permutation(len(batch.ids))
        permuted, theirs = _permuted(batch, options, order)
        first, second = one.advantages(*batch, **options), other.advantages(*permuted, **theirs)
        row.count += 1
        if not np.abs(first[order] - second).max() <= REWARDS:
            row.fail(f"{name}: advantages differ", f"step {step}, by {np.abs(first[order] - second).max():.1e}")
            break
    return row


def _permuted(batch: Batch, options: dict[str, Any], order: np.ndarray) -> tuple[Batch, dict[str, Any]]:
    step = batch.step if isinstance(batch.step, int) else [batch.step[k] for k in order]
    ids = [batch.ids[k] for k in order]
    return Batch(ids, batch.rewards[order], step), {name: part[order] for name, part in options.items()}


def models(kind: str, times: int, seed: int) -> Row:
    """Every regressor and selector on data of that kind."""
    row = Row(KIND, f"rows of samples permuted: regressors, selectors, intervals, bands within {RESPONSES:g}")
    asks = [(name, functools.partial(of_model, make)) for name, make in MODELS.items()]
    asks += [(name, functools.partial(of_selection, make)) for name, make in SELECTED.items()]
    for name, ask in asks:
        for k in range(times):
            _compare(row, name, kind, ask, np.random.default_rng([seed, k, *kind.encode()]), bool(k % 2))
    return row


def diagnostics(kind: str, times: int, seed: int) -> Row:
    """Variances, degrees of freedom, bootstrap, tests, on data of that kind."""
    row = Row(KIND, f"rows of samples permuted: variances, bootstrap, diagnostics within {RESPONSES:g}")
    for name in ("NadarayaWatson", "LocalLinear", "LocalLinear gaussian", "LocalPolynomial 2"):
        for k in range(times):
            rng = np.random.default_rng([seed, k, *kind.encode()])
            _compare(row, name, kind, functools.partial(of_fit, MODELS[name]), rng, bool(k % 2))
            if kind == "two values":
                _compare(row, "local_logistic", kind, of_logistic, rng, False)
    return row


def _compare(
    row: Row, name: str, kind: str, ask: Callable[[Data, bool], Answers], rng: np.random.Generator, weighted: bool
) -> None:
    data = sample(kind, rng)
    orders = {
        "at random": rng.permutation(len(data.x)),
        "by x and y": np.lexsort((data.y, data.x[:, 0])),
        "by x, y downwards": np.lexsort((-data.y, data.x[:, 0])),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = ask(data, weighted)
        for word, order in orders.items():
            row.count += 1
            again = ask(data.ordered(order), weighted)
            for wrong in differing(first, again, float(np.ptp(data.y)), order, RESPONSES):
                row.fail(f"{name}, {kind}: {wrong}", f"rows ordered {word}{', weighted' if weighted else ''}")
