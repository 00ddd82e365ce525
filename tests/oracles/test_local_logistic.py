"""Local logistic regression against locfit, statsmodels' weighted likelihood, and what it must refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from kernadv import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.smoothers.local_logistic import local_logistic

ORACLES = Path(__file__).parents[1] / "data" / "oracles"


def weighted_glm(x, y, query, h, kernel, degree):
    """Intercept of the weighted logistic regression about a query, iterated to convergence."""
    import statsmodels.api as sm

    u = np.abs(x - query) / h
    weight = np.where(u <= KERNELS[kernel].support, KERNELS[kernel].profile(u), 0.0)
    design = np.column_stack([np.ones_like(x), (x - query) / h][: degree + 1])
    return sm.GLM(y, design, family=sm.families.Binomial(), freq_weights=weight).fit(tol=1e-14).params[0]


def test_locfit():
    """locfit ends its iterations early, at up to 2e-6 from the maximum; ours is there."""
    oracle = json.loads((ORACLES / "lf_bern200_ll_binomial_logit.json").read_text())
    x, y, h, expected = np.array(oracle["x"]), np.array(oracle["y"]), oracle["bandwidth_canonical"], oracle["expected"]
    fit = local_logistic(x, y, oracle["eval"], h, oracle["kernel"])
    np.testing.assert_allclose(fit.logit, expected["mean"], rtol=3e-6)
    np.testing.assert_allclose(fit.standard_error, expected["se"], rtol=3e-6)
    np.testing.assert_allclose(local_logistic(x, y, x, h, oracle["kernel"]).probability, expected["fitted"], rtol=3e-6)
    maximum = [weighted_glm(x, y, query, h, oracle["kernel"], 1) for query in oracle["eval"]]
    np.testing.assert_allclose(fit.logit, maximum, rtol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("degree", [0, 1])
def test_weighted_likelihood_of_statsmodels(kernel, degree):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 300)
    y = rng.binomial(1, 0.2 + 0.6 * x).astype(float)
    at = np.array([0.0, 0.31, 0.97])
    maximum = [weighted_glm(x, y, query, 0.4, kernel, degree) for query in at]
    np.testing.assert_allclose(local_logistic(x, y, at, 0.4, kernel, degree).logit, maximum, rtol=1e-8, atol=1e-9)


def test_windows_without_a_maximum_are_undefined():
    x = np.arange(10.0)
    y = (x > 4.5).astype(float)
    fit = local_logistic(x, y, [0.0, 4.5, 100.0], 3.0)  # one kind only; separated; empty
    assert not fit.defined.any()
    assert np.isnan(fit.logit).all()
    assert np.isnan(fit.standard_error).all()
    assert len(local_logistic(x, y, [], 3.0).logit) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0.0, 2.0]}, "responses must be 0 or 1, got 2.0"),
        ({"y": [0.0]}, "x and y of one length"),
        ({"x": [0.0, np.nan]}, "finite"),
        ({"bandwidth": 0.0}, "bandwidth must be positive"),
        ({"degree": 2}, "unknown degree '2'"),
        ({"kernel": "box"}, "unknown kernel"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ArgumentError, match=message):
        local_logistic(**{"x": [0.0, 1.0], "y": [0.0, 1.0], "at": [0.5], "bandwidth": 1.0} | change)
