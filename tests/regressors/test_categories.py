"""Categorical columns: weights written out, levels, and bandwidths."""

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.kernels import KERNELS
from kernadv.regression import LocalLinear, LocalPolynomial, NadarayaWatson

UNEQUAL = {
    "wang_van_ryzin": lambda d, c, smoothing: 0.5 * smoothing**d,
    "li_racine_ordered": lambda d, c, smoothing: smoothing**d,
    "aitchison_aitken": lambda d, c, smoothing: smoothing / (c - 1) / (1 - smoothing) + 0 * d,
    "li_racine": lambda d, c, smoothing: smoothing + 0 * d,
}


@pytest.fixture
def mixed():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.random((80, 1)), rng.integers(0, 4, 80), rng.random((80, 1))])
    return x, np.sin(4 * x[:, 0]) + x[:, 1] + x[:, 2] + 0.1 * rng.normal(size=80), rng.random(80) + 0.5


@pytest.mark.parametrize("kernel", UNEQUAL)
@pytest.mark.parametrize("degree", [0, 1])
def test_weighted_least_squares(mixed, kernel, degree):
    x, y, omega = mixed
    fit = LocalPolynomial(degree, bandwidth=[0.5, 0.3, 0.9], categorical={1: kernel}).fit(x, y, omega)
    value, slope = fit.predict(x[:9]), fit.derivative(x[:9]) if degree else None
    for q in range(9):
        u = (x - x[q])[:, [0, 2]]
        distance = np.abs(x[:, 1] - x[q, 1])
        w = omega * np.prod(KERNELS["epanechnikov"].profile(u / [0.5, 0.9]), axis=1)
        w = w * np.where(distance == 0, 1.0, UNEQUAL[kernel](distance, 4, 0.3))
        design = np.column_stack([np.ones(80), u])[:, : 1 + 2 * degree]
        root = np.sqrt(w)
        beta = np.linalg.lstsq(root[:, None] * design, root * y, rcond=None)[0]
        np.testing.assert_allclose(value[q], beta[0], atol=1e-10)
        if degree:
            np.testing.assert_allclose(slope[q], beta[1:], atol=1e-9)
    np.testing.assert_allclose(fit.hat_matrix(x) @ y, fit.predict(x), atol=1e-10)


@pytest.mark.parametrize("kernel", UNEQUAL)
def test_lambda_0_splits_the_sample(mixed, kernel):
    x, y, _ = mixed
    fit = NadarayaWatson([0.5, 0.0, 0.5], categorical={1: kernel}).fit(x, y)
    own = x[:, 1] == 2
    alone = NadarayaWatson(0.5).fit(x[own][:, [0, 2]], y[own])
    np.testing.assert_allclose(fit.predict(x[own]), alone.predict(x[own][:, [0, 2]]), atol=1e-12)


def test_the_largest_lambda_of_unordered_columns_leaves_them_out(mixed):
    x, y, _ = mixed
    alone = NadarayaWatson(0.5).fit(x[:, [0, 2]], y).predict(x[:, [0, 2]])
    for kernel, largest in (("aitchison_aitken", 0.75), ("li_racine", 1.0)):
        fit = NadarayaWatson([0.5, largest, 0.5], categorical={1: kernel}).fit(x, y)
        np.testing.assert_allclose(fit.predict(x), alone, atol=1e-12)


def test_groups_and_past(mixed):
    x, y, _ = mixed
    names = np.arange(80) % 3
    fit = NadarayaWatson([0.5, 0.3, 0.9], side="past", categorical={1: "unordered"}).fit(x, y, groups=names)
    own = names == 1
    alone = NadarayaWatson([0.5, 0.3, 0.9], side="past", categorical={1: "unordered"}).fit(x[own], y[own])
    np.testing.assert_allclose(fit.predict(x[own], groups=names[own]), alone.predict(x[own]), atol=1e-12)


def test_named_columns_of_strings():
    frame = pytest.importorskip("polars").DataFrame({"t": [0.0, 1.0, 2.0, 3.0], "kind": ["a", "b", "a", "b"]})
    fit = NadarayaWatson([2.0, 0.0], kernel="uniform", categorical={"kind": "unordered"})
    got = fit.fit(frame, [0.0, 1.0, 2.0, 5.0]).predict(frame)
    np.testing.assert_allclose(got, [1.0, 3.0, 1.0, 3.0], rtol=1e-12)
    assert fit.feature_names_in_.tolist() == ["t", "kind"]
    with pytest.raises(KernadvError, match="column 'kind' has levels not seen in fitting: c; known: a, b"):
        fit.predict(frame.with_columns(kind=frame["kind"].replace("a", "c")))


def test_order_of_levels_that_are_text():
    """Their alphabetical order would be L, M, S, which is it reversed; XL between them."""
    size = np.array(["S", "M", "L", "XL"] * 10, object)
    x, y = np.linspace(0, 1, 40), np.random.default_rng(0).normal(size=40)
    rank = np.array([0, 1, 2, 3] * 10)
    expected = NadarayaWatson([0.3, 0.4], categorical={1: "ordered"}).fit(np.column_stack([x, rank]), y)
    expected = expected.predict(np.column_stack([x, rank]))
    order = ["S", "M", "L", "XL"]
    plain = np.column_stack([x.astype(object), size])
    given = NadarayaWatson([0.3, 0.4], categorical={1: ("ordered", order)}).fit(plain, y)
    np.testing.assert_allclose(given.predict(plain), expected, rtol=1e-12)
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    frames = [
        polars.DataFrame({"x": x, "size": polars.Series(size, dtype=polars.Enum(order))}),
        pandas.DataFrame({"x": x, "size": pandas.Categorical(size, categories=order, ordered=True)}),
    ]
    for frame in frames:
        fit = NadarayaWatson([0.3, 0.4], categorical={"size": "ordered"}).fit(frame, y)
        assert fit.categories_[0].levels.tolist() == order
        np.testing.assert_allclose(fit.predict(frame), expected, rtol=1e-12)
    with pytest.raises(KernadvError, match=r"levels of ordered column 1 are text, whose alphabetical order \['L', 'M'"):
        NadarayaWatson([0.3, 0.4], categorical={1: "ordered"}).fit(plain, y)
    with pytest.raises(KernadvError, match=r"must name all of its levels, got \['S', 'M', 'L'\] without \['XL'\]"):
        NadarayaWatson([0.3, 0.4], categorical={1: ("ordered", order[:3])}).fit(plain, y)
    listed = NadarayaWatson([0.3, 0.4], categorical={1: ["ordered", order]}).fit(plain, y)  # as a JSON file has it
    np.testing.assert_array_equal(listed.predict(plain), given.predict(plain))
    pairs = np.isin(size, ["S", "M"])  # of two levels either order will do
    NadarayaWatson([0.3, 0.4], categorical={1: "ordered"}).fit(plain[pairs], y[pairs])


def test_categories_only():
    fit = NadarayaWatson([0.0], categorical={0: "ordered"}).fit([[1], [1], [2]], [1.0, 3.0, 7.0])
    np.testing.assert_allclose(fit.predict([[1], [2]]), [2.0, 7.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categorical": {1: "nominal"}}, "unknown kind of categorical column 'nominal'; known: aitchison_aitken"),
        ({"categorical": [("ordered", 3)]}, r"categorical must be a dict of columns .*got \[\('ordered', 3\)\]"),
        (
            {"categorical": {1: ("ordered",)}},
            r"column 1 must have a kind, or a pair .*got \('ordered',\); e.g. {1: \('ord",
        ),
        ({"categorical": {1: ("ordered", [0], 2)}}, "column 1 must have a kind, or a pair"),
        (
            {"categorical": {1: ("ordered", 3)}},
            "order of categorical column 1 must be a list of its levels, .*got 3; e.g. ",
        ),
        ({"categorical": {1: ["ordered", "SML"]}}, "must be a list of its levels, lowest first, got 'SML'"),
        ({"categorical": {1: ("ordered", {0, 1, 2, 3})}}, "must be a list of its levels"),
        ({"categorical": {1: ("ordered", [[0], [1], [2], [3]])}}, "must be a list of its levels"),
        ({"categorical": {1: ("ordered", [0, 1, 1, 2, 3])}}, "order of categorical column 1 names 1 twice, got"),
        ({"categorical": {5: "ordered"}}, "column 5, which X does not have; columns: 0 to 2"),
        ({"categorical": {"kind": "ordered"}}, "column 'kind', which X does not have"),
        ({"bandwidth": [0.5, 0.9, 0.5]}, r"\(lambda\) of categorical column 1 must lie between 0 and 0.75, got 0.9"),
        ({"bandwidth": [0.0, 0.1, 0.5]}, "bandwidth must be positive"),
        ({"bandwidth": [0.5, 0.1]}, "one number a column, 3, got 2"),
        ({"bandwidth": 0.5}, r"give one bandwidth a column \(3\), got the number 0.5"),
        ({"bandwidth": "plug_in"}, "plug_in does not select with categorical columns; use leave_one_out, gcv or aicc"),
    ],
)
def test_bad_arguments(mixed, arguments, message):
    x, y, _ = mixed
    arguments = {"bandwidth": [0.5, 0.1, 0.5], "categorical": {1: "unordered"}} | arguments
    with pytest.raises(KernadvError, match=message):
        LocalLinear(**arguments).fit(x, y)


def test_a_column_named_twice():
    frame = pytest.importorskip("polars").DataFrame({"t": [0.0, 1.0, 2.0, 3.0], "kind": ["a", "b", "a", "b"]})
    with pytest.raises(KernadvError, match="names column 1 twice, the second time as 1"):
        NadarayaWatson(2.0, categorical={"kind": "unordered", 1: "unordered"}).fit(frame, [0.0, 1.0, 2.0, 5.0])
