"""Laws that every selector obeys; a new one is found by walking the package."""

import numpy as np
import pytest

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother, bandwidth
from kernadv.regression.bandwidth import SELECTORS, CriterionSelector, Selection, Selector, get
from kernadv.regression.local.polynomial import LocalPolynomialSpec

LINE = LocalPolynomialSpec(KERNELS["epanechnikov"], 1)
every_selector = pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS.keys())
#: They minimise a curve over bandwidths.
CURVES = {name for name, one in SELECTORS.items() if isinstance(one, CriterionSelector)} - {"k_neighbors"}


def sample(n=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 1)) * 3
    return x, np.sin(3 * x) + 0.3 * rng.normal(size=(n, 1)), np.ones(n)


def looks_at_the_design_only(selector):
    x, y, weights = sample()
    one, other = (selector.select(LinearSmoother(LINE, x, each, weights)).bandwidth for each in (y, np.cos(9 * x) - y))
    return one.shape == other.shape and (one == other).all()


def check(selection, m):
    """What every result fulfils."""
    assert isinstance(selection, Selection)
    assert selection.bandwidth.shape in {(1,), (m, 1)}
    assert np.isfinite(selection.bandwidth).all()
    least = selection.bandwidth.min()
    assert least >= 0 if "neighbours" in selection.criterion else least > 0  # k points in one place: distance 0
    assert len(selection.curve) == len(selection.grid)
    assert (np.diff(selection.grid[:, 0]) > 0).all()
    assert not np.isnan(selection.curve).any() or len(selection.grid) == 1
    assert isinstance(selection.at_edge, bool)
    assert isinstance(selection.flat, bool)
    assert selection.criterion


def test_known_selectors():
    assert {"leave_one_out", "plug_in", "lepski", "rule_of_thumb", "silverman"} <= set(SELECTORS)
    for name, selector in SELECTORS.items():
        assert selector.name == name
        assert getattr(bandwidth, type(selector).__name__) is type(selector)
        assert type(selector).__name__ in bandwidth.__all__
        assert get(name) is selector
        assert get(selector) is selector
        assert isinstance(selector, Selector)
        assert hash(selector) is not None
    with pytest.raises(ArgumentError, match="known: aicc, gcv"):
        get("magic")
    with pytest.raises(ArgumentTypeError, match="names: aicc, gcv"):
        get(3)


@every_selector
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_result(selector, kernel):
    x, y, weights = sample()
    selection = selector.select(LinearSmoother(LocalPolynomialSpec(kernel, 1), x, y, weights))
    check(selection, len(x))
    if selector.name in CURVES:
        best = np.argmin(selection.curve)
        low, high = selection.grid[max(best - 1, 0)], selection.grid[min(best + 1, len(selection.grid) - 1)]
        assert low <= selection.bandwidth <= high
        assert selection.value <= selection.curve.min()


@every_selector
def test_equal_calls_and_permuted_rows_agree(selector):
    x, y, weights = sample()
    x[:10] = x[10:20]
    first = selector.select(LinearSmoother(LINE, x, y, weights))
    again = selector.select(LinearSmoother(LINE, x, y, weights))
    assert (first.bandwidth == again.bandwidth).all()
    np.testing.assert_array_equal(first.curve, again.curve)
    order = np.random.default_rng(1).permutation(len(x))
    permuted = selector.select(LinearSmoother(LINE, x[order], y[order], weights[order]))
    expected = first.bandwidth if first.bandwidth.shape == (1,) else first.bandwidth[order]
    np.testing.assert_allclose(permuted.bandwidth, expected, rtol=1e-9)


@every_selector
@pytest.mark.parametrize(("factor", "shift"), [(7.3, 0.0), (1e-6, 0.0), (1e100, 0.0), (1.0, 250.0)])
def test_scale_and_shift_of_x(selector, factor, shift):
    x, y, weights = sample()
    first = selector.select(LinearSmoother(LINE, x, y, weights))
    moved = selector.select(LinearSmoother(LINE, factor * x + shift, y, weights))
    np.testing.assert_allclose(moved.bandwidth, factor * first.bandwidth, rtol=1e-6)


@every_selector
@pytest.mark.parametrize(("factor", "shift"), [(7.3, 0.0), (-1e-6, 0.0), (1.0, 250.0)])
def test_scale_and_shift_of_y(selector, factor, shift):
    x, y, weights = sample()
    first = selector.select(LinearSmoother(LINE, x, y, weights))
    moved = selector.select(LinearSmoother(LINE, x, factor * y + shift, weights))
    np.testing.assert_allclose(moved.bandwidth, first.bandwidth, rtol=1e-6)


@every_selector
def test_rows_of_weight_zero_and_the_scale_of_weights_do_not_matter(selector):
    x, y, weights = sample()
    first = selector.select(LinearSmoother(LINE, x, y, weights), at=x)
    more = np.concatenate([x, x[:5] + 0.1]), np.concatenate([y, y[:5] + 100]), np.append(3 * weights, np.zeros(5))
    second = selector.select(LinearSmoother(LINE, *more), at=x)
    np.testing.assert_allclose(second.bandwidth, first.bandwidth, rtol=1e-8)


def attempt(selector, smoother):
    """The selection, or None and what the error says."""
    try:
        return selector.select(smoother), ""
    except ArgumentError as error:
        return None, str(error)


def awkward():
    rng = np.random.default_rng(5)
    x = rng.random((60, 1))
    yield "5 points", x[:5], x[:5] ** 2
    yield "3 points", x[:3], x[:3] ** 2
    yield "ties", np.round(x * 8) / 8, x + 0.1 * rng.normal(size=x.shape)
    yield "two values", np.round(x), x
    yield "each twice", np.repeat(x[:30], 2, axis=0), rng.normal(size=x.shape)
    yield "outliers in y", x, np.where(rng.random(x.shape) < 0.1, 1e6, x)
    yield "outlier in x", np.concatenate([x, [[1e4]]]), np.concatenate([x, [[0.0]]]) + rng.normal(size=(61, 1))
    yield "noise", x, rng.normal(size=x.shape)
    yield "line", x, 2 * x + 1
    yield "coin", x, (rng.random(x.shape) < 0.5).astype(float)
    yield "one success", x, (np.arange(60) == 7).astype(float)[:, None]
    yield "constant", x, np.full_like(x, 0.1)


@every_selector
@pytest.mark.parametrize("case", list(awkward()), ids=lambda case: case[0])
@pytest.mark.parametrize(("kernel", "degree"), [("epanechnikov", 0), ("gaussian", 1)])
def test_awkward_data(selector, case, kernel, degree):
    """A positive, finite bandwidth or an error that says what to do."""
    _, x, y = case
    selection, message = attempt(
        selector, LinearSmoother(LocalPolynomialSpec(KERNELS[kernel], degree), x, y, np.ones(len(x)))
    )
    if selection is None:
        assert any(word in message for word in ("use ", "give ", "raise ", "too few"))
    else:
        check(selection, len(x))


@every_selector
def test_constant_responses_are_flat(selector):
    x, y, weights = sample()
    selection = selector.select(LinearSmoother(LINE, x, np.full_like(y, 0.1), weights))
    assert selection.flat or looks_at_the_design_only(selector)


@every_selector
def test_data_that_determine_nothing_are_refused(selector):
    x, y, weights = sample()
    with pytest.raises(ArgumentError, match="x is constant"):
        selector.select(LinearSmoother(LINE, np.ones_like(x), y, weights))
    with pytest.raises(ArgumentError, match="at least 3 points of positive weight, got 2"):
        selector.select(LinearSmoother(LINE, x[:2], y[:2], weights[:2]))
    with pytest.raises(ArgumentError, match="at least 3 points"):
        selector.select(LinearSmoother(LINE, x, y, 0 * weights))
    y[3] = np.nan
    with pytest.raises(ArgumentError, match="finite x and y"):
        selector.select(LinearSmoother(LINE, x, y, weights))


@every_selector
def test_two_responses_are_pooled(selector):
    """The same response twice changes nothing."""
    x, y, weights = sample()
    one = selector.select(LinearSmoother(LINE, x, y, weights)).bandwidth
    np.testing.assert_allclose(
        selector.select(LinearSmoother(LINE, x, np.hstack([y, y]), weights)).bandwidth, one, rtol=1e-6
    )


@every_selector
def test_series(selector):
    """Pooled, or refused with a hint; labels and the order of the series do not matter."""
    x, y, weights = sample()
    label = np.arange(len(x)) % 3
    made = LinearSmoother(LINE, x, y, weights, series=label)
    selection, message = attempt(selector, made)
    if selection is None:
        assert "one series" in message
        assert selector.name not in CURVES
        return
    check(selection, len(x))
    renamed = selector.select(LinearSmoother(LINE, x, y, weights, series=np.array([90, 7, -4])[label]))
    if selector.name != "k_fold":  # its folds go by the order of the series
        np.testing.assert_allclose(renamed.bandwidth, selection.bandwidth, rtol=1e-6)
    single = selector.select(LinearSmoother(LINE, x, y, weights, series=np.full(len(x), 9)))
    np.testing.assert_allclose(
        single.bandwidth, selector.select(LinearSmoother(LINE, x, y, weights)).bandwidth, rtol=1e-12
    )


@every_selector
def test_several_dimensions(selector):
    """One bandwidth a dimension, equivariant in each, or refused."""
    rng = np.random.default_rng(0)
    x = rng.random((100, 2))
    y = np.sin(6 * x[:, :1]) + x[:, 1:] + 0.2 * rng.normal(size=(100, 1))
    spec = LocalPolynomialSpec(KERNELS["gaussian"], 0)
    selection, message = attempt(selector, LinearSmoother(spec, x, y, np.ones(100)))
    if selection is None:
        assert "dimension" in message
        return
    assert selection.bandwidth.shape in {(2,), (100, 1)}
    assert (selection.bandwidth > 0).all()
    if selection.bandwidth.shape == (2,):
        moved = selector.select(LinearSmoother(spec, x * [3.0, 50.0] - 2.0, y, np.ones(100)))
        np.testing.assert_allclose(moved.bandwidth, [3.0, 50.0] * selection.bandwidth, rtol=1e-3)
        if not looks_at_the_design_only(selector):  # the response bends along the first one
            assert selection.bandwidth[0] < selection.bandwidth[1]
