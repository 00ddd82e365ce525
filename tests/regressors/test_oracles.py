"""Numbers of other programs: R np, KernSmooth, locfit, sm, FNN, ksmooth, and scikit-learn."""

import numpy as np
import pytest

from kernadv.regression import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson


def column(values):
    return np.asarray(values, float).reshape(len(values), -1)


def check(got, expected, rtol):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.max(np.abs(got - expected) / (1 + np.abs(expected))) <= rtol


#: Oracle -> regressor, name of the expected values, name of their tolerance.
VALUES = {
    "np_cars_lc_gaussian": (NadarayaWatson(2.0, kernel="gaussian"), "mean", "rtol"),
    "np_sim2d_lc_gaussian": (NadarayaWatson([0.15, 0.4], kernel="gaussian"), "mean", "rtol"),
    "stats_ksmooth_cars": (NadarayaWatson(1.853253, kernel="gaussian"), "normal", "rtol"),
    "ks_locpoly_mcycle_d0": (NadarayaWatson(1.2, kernel="gaussian"), "exact_lm", "rtol"),
    "sm_faithful_ll": (LocalLinear(0.3, kernel="gaussian"), "mean", "rtol"),
    "sklearn_knn_d4": (KNeighborsSmoother(12, kernel="uniform"), "uniform_euclidean", "rtol"),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(oracle, name):
    case = oracle(name)
    regressor, field, tolerance = VALUES[name]
    fit = regressor.fit(column(case["x"]), case["y"])
    check(fit.predict(column(case["eval"])), case["expected"][field], case[tolerance])


def test_binned_values_and_derivatives(oracle):
    case = oracle("ks_locpoly_mcycle_d0")
    fit = NadarayaWatson(1.2, kernel="gaussian").fit(column(case["x"]), case["y"])
    check(fit.predict(column(case["eval"])), case["expected"]["locpoly"], case["rtol_binned"])
    case = oracle("ks_locpoly_sim200_d2_drv1")
    fit = LocalPolynomial(2, bandwidth=0.06, kernel="gaussian").fit(column(case["x"]), case["y"])
    slope = fit.derivative(column(case["eval"]))
    check(slope, case["expected"]["exact_lm"], case["rtol"])
    check(slope, case["expected"]["locpoly"], case["rtol_binned"])


def test_box_window_is_closed(oracle):
    case = oracle("stats_ksmooth_cars")
    fit = NadarayaWatson(2.5, kernel="uniform").fit(column(case["x"]), case["y"])
    check(fit.predict(column(case["eval"])), case["expected"]["box"], 1e-12)


def test_leave_one_out(oracle):
    case = oracle("np_cars_loo_nw")
    fit = NadarayaWatson(2.0, kernel="gaussian").fit(column(case["x"]), case["y"])
    check(fit.loo_predict(), case["expected"]["loo_mean"], case["rtol"])


@pytest.mark.parametrize("name", ["lf_cars_ll_triangular", "lf_mcycle_ll_epanechnikov"])
def test_locfit(oracle, name):
    case = oracle(name)
    expected = case["expected"]
    fit = LocalLinear(case["bandwidth_canonical"], kernel=case["kernel"]).fit(column(case["x"]), case["y"])
    mean, error = fit.predict(column(case["eval"]), return_std=True)
    check(mean, expected["mean"], case["rtol"])
    check(error, expected["se"], case["rtol"])
    check(fit.predict(column(case["x"])), expected["fitted"], case["rtol"])
    check(fit.loo_predict(), expected["loo_fitted"], case["rtol"])
    assert f"{expected['df1_trace']:.4g}" in fit.summary()
    assert f"{expected['residual_scale']:.4g}" in fit.summary()


def test_nearest_neighbours_without_the_own_point(oracle):
    """FNN leaves the point out and takes 10 others; here it is one of 11."""
    case = oracle("fnn_knnreg_loo_d8")
    fit = KNeighborsSmoother(case["k"] + 1, kernel="uniform").fit(column(case["x"]), case["y"])
    check(fit.loo_predict(), case["expected"]["loo_pred"], case["rtol"])


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine", "chebyshev"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_neighbours_of_scikit_learn(oracle, metric, weights):
    case = oracle("sklearn_knn_d4")
    kernel = {"uniform": "uniform", "distance": "inverse_distance"}[weights]
    fit = KNeighborsSmoother(case["k"], kernel=kernel, metric=metric).fit(column(case["x"]), case["y"])
    check(fit.predict(column(case["eval"])), case["expected"][f"{weights}_{metric}"], case["rtol"])


@pytest.mark.parametrize("name", ["np_cars_lc_gaussian", "np_sim2d_lc_gaussian"])
def test_gradient_of_the_local_constant(oracle, name):
    case = oracle(name)
    fit = NadarayaWatson(case["bandwidth_canonical"], kernel="gaussian").fit(column(case["x"]), case["y"])
    check(fit.derivative(column(case["eval"])), case["expected"]["grad"], case["rtol"])


def test_distance_to_a_distinct_neighbour(oracle):
    """np counts the distances that differ as floating-point numbers; here k counts places.

    At 16.2 places on both sides are equally far.  16.0 and 16.4 have one distance, but 15.8 and 16.6 have two that differ
    in their last digit, and so on: np's 15th distance there is 3.2 (place 18), elsewhere that of place 16.
    """
    case = oracle("np_mcycle_generalized_nn")
    x, expected = np.array(case["x"]), np.array(case["expected"]["mean"])
    for query, value in zip(case["eval"], expected, strict=True):
        h = 5**0.5 * np.unique(np.abs(x - query))[case["k"]]
        check(NadarayaWatson(h, kernel="epanechnikov").fit(column(x), case["y"]).predict([[query]]), [value], 1e-9)
    fit = KNeighborsSmoother(case["k"] + 1, kernel="epanechnikov", ties="distinct", scale=5**0.5)
    fit.fit(column(case["x"]), case["y"])
    apart = np.abs(np.array(case["eval"]) - 16.2) > 0.01
    assert apart.sum() == len(apart) - 1
    check(fit.predict(column(case["eval"]))[apart], expected[apart], 1e-9)
    fit = KNeighborsSmoother(case["k"] + 3, kernel="epanechnikov", ties="distinct", scale=5**0.5)
    fit.fit(column(x), case["y"])
    check(fit.predict(column(case["eval"]))[~apart], expected[~apart], 1e-9)


@pytest.mark.parametrize(
    ("kernel", "field"),
    [
        ("ordered", "mean_ordered_wangvanryzin"),
        ("unordered", "mean_unordered_aitchisonaitken"),
        ("li_racine", "mean_unordered_liracine"),
    ],
)
def test_mixed_design(oracle, kernel, field):
    case = oracle("np_airquality_mixed_lc")
    x = np.column_stack([case["x_cont"], case["x_disc"]])
    h = [*case["bandwidth_canonical"], case["lambda"]]
    fit = NadarayaWatson(h, kernel="gaussian", categorical={2: kernel}).fit(x, case["y"])
    check(fit.predict(x), case["expected"][field], case["rtol"])
