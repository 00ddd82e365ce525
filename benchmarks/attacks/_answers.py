"""Regressors of every kind, data with and without ties, and everything that can be asked of a fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernadv import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson
from kernadv.regression.bandwidth import SELECTORS
from kernadv.regression.inference import (
    Wild,
    bootstrap_error,
    effective_degrees_of_freedom,
    ljung_box,
    percentile_t,
    residual_variance,
    response_variance,
    robust_estimate,
    standard_error,
)

#: Answers by name; those in the order of the rows end with " of rows".
Answers = dict[str, np.ndarray]

MODELS: dict[str, Callable[[], Any]] = {
    "NadarayaWatson": lambda: NadarayaWatson(0.2),
    "NadarayaWatson gaussian": lambda: NadarayaWatson(0.1, kernel="gaussian"),
    "NadarayaWatson past": lambda: NadarayaWatson(0.3, side="past"),
    "LocalLinear": lambda: LocalLinear(0.25),
    "LocalLinear uniform": lambda: LocalLinear(0.25, kernel="uniform"),
    "LocalLinear gaussian": lambda: LocalLinear(0.1, kernel="gaussian"),
    "LocalLinear exponential": lambda: LocalLinear(0.1, kernel="exponential"),
    "LocalPolynomial 2": lambda: LocalPolynomial(2, bandwidth=0.4),
    "LocalPolynomial 3": lambda: LocalPolynomial(3, bandwidth=0.5),
    "KNeighborsSmoother 0": lambda: KNeighborsSmoother(15),
    "KNeighborsSmoother 1": lambda: KNeighborsSmoother(25, degree=1),
    "KNeighborsSmoother distinct": lambda: KNeighborsSmoother(9, ties="distinct", kernel="uniform"),
}
SELECTED: dict[str, Callable[[], Any]] = {
    **{f"LocalLinear {name}": (lambda name=name: LocalLinear(name)) for name in SELECTORS},
    **{f"NadarayaWatson {name}": (lambda name=name: NadarayaWatson(name)) for name in ("leave_one_out", "aicc", "gcv")},
}


class Data(NamedTuple):
    """A sample on a line, and where to ask."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    at: np.ndarray

    def ordered(self, order: np.ndarray) -> Data:
        """The rows in another order."""
        return Data(self.x[order], self.y[order], self.weights[order], self.at)


def sample(kind: str, rng: np.random.Generator, n: int = 90) -> Data:
    """A sample of that kind: "distinct", "ties in x", "ties in (x, y)", "two values" or "few places"."""
    x = rng.random(n)
    if kind != "distinct":
        x = np.round(x, 1 if kind == "few places" else 2)
    if kind == "ties in (x, y)":
        x[n // 2 :] = x[: n - n // 2]
    y = np.sin(6.0 * x) + 0.3 * rng.standard_normal(n)
    if kind == "two values":
        y = (y > 0).astype(np.float64)
    if kind == "ties in (x, y)":
        y = np.round(y, 1)
        y[n // 2 :] = y[: n - n // 2]
    return Data(x[:, None], y, rng.choice([0.5, 1.0, 2.0], n), np.linspace(0.05, 0.95, 7)[:, None])


SAMPLES = ("distinct", "ties in x", "ties in (x, y)", "two values", "few places")


def warm_up() -> None:
    """Import and compile what fits need."""
    data = sample("distinct", np.random.default_rng(0), 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make in SELECTED.values():
            of_selection(make, data, False)
        of_model(MODELS["LocalLinear"], data, False)
        of_fit(MODELS["LocalLinear"], data, False)


def of_selection(make: Callable[[], Any], data: Data, weighted: bool) -> Answers:
    """Bandwidth and estimates of a model."""
    return _estimates(make().fit(data.x, data.y, sample_weight=data.weights if weighted else None), data)


def of_model(make: Callable[[], Any], data: Data, weighted: bool) -> Answers:
    """Bandwidth, estimates, standard errors, derivative, intervals and bands of a model."""
    model = make().fit(data.x, data.y, sample_weight=data.weights if weighted else None)
    answers = _estimates(model, data)
    answers |= _asked("interval", lambda: model.interval(data.at))
    answers |= _asked("derivative", lambda: model.derivative(data.at))
    for method in ("sup_t", "tube"):
        for corrected in (False, True):
            name = f"band {method}{' bias_corrected' if corrected else ''}"
            answers |= _asked(name, lambda m=method, c=corrected: model.band(data.at, method=m, bias_corrected=c))
    return answers


def _estimates(model: Any, data: Data) -> Answers:
    value, error = model.predict(data.at, return_std=True)
    answers = {"predict": value, "return_std": error, "loo_predict of rows": model.loo_predict()}
    width = np.asarray(getattr(model, "bandwidth_", np.empty(0)))
    answers["bandwidth of rows" if width.ndim == 2 and len(width) == len(data.x) else "bandwidth"] = width
    return answers


def of_fit(make: Callable[[], Any], data: Data, weighted: bool) -> Answers:
    """Variances, degrees of freedom, bootstrap and diagnostics of a model."""
    model = make().fit(data.x, data.y, sample_weight=data.weights if weighted else None)
    fit = model.as_fit()
    answers = {}
    for method in ("homoskedastic", "difference", "hc0", "hc3", "nearest", "asymptotic", "hac"):
        answers |= _asked(f"standard_error {method}", lambda m=method: standard_error(fit, data.at, m))
    for method in ("homoskedastic", "difference"):
        answers |= _asked(f"residual_variance {method}", lambda m=method: residual_variance(fit, m))
    for method in ("hc3", "nearest"):
        answers |= _asked(f"response_variance {method} of rows", lambda m=method: response_variance(fit, m))
    answers |= _asked("effective_degrees_of_freedom", lambda: np.array(effective_degrees_of_freedom(fit)[:3], float))
    answers |= _asked("bootstrap_error", lambda: bootstrap_error(fit, data.at, Wild(), draws=50))
    answers |= _asked("percentile_t", lambda: percentile_t(fit, data.at, scheme=Wild(), draws=50))
    answers |= _asked("robust_estimate", lambda: robust_estimate(fit, data.at))
    left = data.y - model.predict(data.x)
    answers |= _asked("ljung_box", lambda: ljung_box(left, data.x[:, 0], 3)[1:])
    return answers


def _asked(name: str, question: Callable[[], Any]) -> Answers:
    """An answer; a question that the model refuses has the answer that it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = question()
    except ValueError as error:
        return {f"{name} ({type(error).__name__})": np.empty(0)}
    if isinstance(answer, tuple):
        fields = getattr(answer, "_fields", range(len(answer)))
        numbers = [(field, np.asarray(part)) for field, part in zip(fields, answer, strict=False)]
        return {f"{name}: {field}": part for field, part in numbers if part.dtype.kind in "fiub"}
    return {name: np.asarray(answer)}


def differing(
    a: Answers, b: Answers, scale: float, order: np.ndarray | None = None, tolerance: float = 1e-9
) -> list[str]:
    """Names of the answers that differ by more than `tolerance` of their size or of `scale`; `order`: of the rows of `b`."""
    wrong = [f"{name} is answered in one case only" for name in a.keys() ^ b.keys()]
    for name in a.keys() & b.keys():
        x, y = a[name], b[name]
        if order is not None and name.endswith(" of rows"):
            x = x[order]
        if x.shape != y.shape or (np.isnan(x) != np.isnan(y)).any():
            wrong.append(f"{name}, in shape or what is defined")
            continue
        known = np.isfinite(x)
        if (x[~known & ~np.isnan(x)] != y[~known & ~np.isnan(x)]).any():
            wrong.append(f"{name}, in what is finite")
        elif known.any() and np.abs(x - y)[known].max() > tolerance * max(scale, np.abs(x[known]).max()):
            wrong.append(name)
    return sorted(wrong)
