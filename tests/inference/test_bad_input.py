"""What is no fit, no query, no derivative or no setting gets a clear error from every function."""

from dataclasses import replace

import numpy as np
import pytest

from kernadv import KernadvError, LocalLinear
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression import inference as inf
from kernadv.regression.local.polynomial import LocalPolynomialSpec

X = np.linspace(0.0, 1.0, 30)[:, None]
AT = X[10:12]
FIT = LinearSmoother(LocalPolynomialSpec(KERNELS["triangular"], 1), X, np.sin(9 * X), np.ones(30), np.array([0.3]))

OF_A_FIT = [inf.effective_degrees_of_freedom, inf.residual_variance, inf.response_variance]
AT_QUERIES = [
    inf.interval,
    inf.normal,
    inf.robust_bias_corrected,
    inf.robust_estimate,
    inf.standard_error,
    inf.effective_sample_size,
    inf.band,
    inf.tube,
    inf.multiplier_bootstrap,
    inf.bootstrap_error,
    inf.percentile_t,
]


@pytest.mark.parametrize("function", [*OF_A_FIT, *AT_QUERIES, inf.kappa], ids=lambda f: f.__name__)
@pytest.mark.parametrize("what", [LocalLinear(0.3).fit(X, X[:, 0]), None, replace(FIT, spec="local linear")])
def test_what_is_no_fit(function, what):
    rest = () if function in OF_A_FIT else (0.0, 1.0) if function is inf.kappa else (AT,)
    with pytest.raises(
        KernadvError, match=r"expected a LinearSmoother with a LocalPolynomialSpec, got .*model\.as_fit\(\)"
    ):
        function(what, *rest)


@pytest.mark.parametrize("function", AT_QUERIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0.5, r"expected queries of shape \(m, 1\), got \(\)"),
        ([0.5], r"expected queries of shape \(m, 1\), got \(1,\)"),
        ([[0.5], [np.nan]], r"queries must be finite, got \[nan\]"),
        (None, "queries must be numbers|expected queries of shape|queries must be finite"),
        ("0.5", "queries must be numbers, got '0.5'"),
    ],
)
def test_what_is_no_query(function, at, message):
    with pytest.raises(KernadvError, match=message):
        function(FIT, at)


def test_lists_are_arrays():
    lists = replace(FIT, x=X.tolist(), y=FIT.y.tolist(), weights=[1.0] * 30, bandwidth=[0.3])
    for function in (inf.interval, inf.standard_error):
        for got, want in zip(
            np.atleast_2d(function(lists, AT.tolist())[0]), np.atleast_2d(function(FIT, AT)[0]), strict=True
        ):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("field", ["x", "y", "weights", "bandwidth"])
def test_fields_that_hold_no_numbers(field):
    with pytest.raises(KernadvError, match=f"{field} must be numbers, got 'many'"):
        inf.standard_error(replace(FIT, **{field: "many"}), AT)


OTHERS = {
    "seed": (lambda: inf.multiplier_bootstrap(FIT, AT, seed=-1), "seed must be a whole number >= 0, got -1"),
    "seed text": (lambda: inf.bootstrap_error(FIT, AT, seed="x"), "seed must be a whole number >= 0, got 'x'"),
    "draws": (lambda: inf.percentile_t(FIT, AT, draws=1), "draws must be a whole number >= 2, got 1"),
    "order": (
        lambda: inf.normal(FIT, AT, derivative=1),
        r"one order a dimension \(1\), .* got 1; e.g. .1,.",
    ),
    "orders": (lambda: inf.standard_error(FIT, AT, derivative=(1, 0)), "derivative must be one order a dim"),
    "order text": (lambda: inf.robust_bias_corrected(FIT, AT, derivative="1"), "derivative must be one order a dim"),
    "order 2": (lambda: inf.robust_bias_corrected(FIT, AT, derivative=(2,)), "total order at most the degree 1"),
    "order 0.5": (
        lambda: inf.robust_estimate(FIT, AT, derivative=(0.5,)),
        "must be a whole number >= 0, got 0.5",
    ),
    "level text": (lambda: inf.interval(FIT, AT, "0.95"), "level must be a number, got '0.95'; for 95% say 0.95"),
    "level": (lambda: inf.tube_critical_value(1.0, 95), "level must lie strictly between 0 and 1, got 95"),
    "arc": (lambda: inf.tube_critical_value(np.nan), "arc must be a finite number >= 0, got nan"),
    "freedom": (lambda: inf.tube_probability(2.0, 1.0, 0), "freedom must be positive, got 0"),
    "ends": (lambda: inf.kappa(FIT, None, 1.0), "low must be a number, got None"),
    "residuals": (lambda: inf.ljung_box("x", X[:, 0]), "residual must be numbers, got 'x'"),
    "fitted": (
        lambda: inf.ljung_box(X[:, 0], X[:, 0], 5, fitted=5),
        "fitted must lie between 0 and lags - 1 = 4, got 5",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_settings(case):
    call, message = OTHERS[case]
    with pytest.raises(KernadvError, match=message):
        call()
