"""Constants against the literature, rules of thumb against statsmodels, and the parts of the plug-in rules."""

import numpy as np
import pytest

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.bandwidth import get
from kernadv.regression.bandwidth._constants import canonical, from_gaussian, one_sided_ratio
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.bandwidth._search import golden, refine
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.neighbours import nearest
from kernadv.regression.noise import difference_variance, neighbour_residuals


@pytest.mark.parametrize(
    ("kernel", "value"), [("gaussian", 0.7764), ("epanechnikov", 1.7188), ("biweight", 2.0362), ("uniform", 1.3510)]
)
def test_canonical_bandwidths_of_marron_and_nolan(kernel, value):
    assert canonical(KERNELS[kernel]) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize(("kernel", "value"), [("epanechnikov", 0.5371), ("biweight", 0.5573), ("gaussian", 0.6168)])
def test_one_sided_constants_of_hart_and_yi(kernel, value):
    assert one_sided_ratio(KERNELS[kernel]) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize("data", ["normal", "heavy tails", "two values mostly"])
def test_rules_of_thumb_of_statsmodels(data):
    bandwidths = pytest.importorskip("statsmodels.nonparametric.bandwidths")
    rng = np.random.default_rng(0)
    x = {"normal": rng.normal(size=300), "heavy tails": rng.standard_cauchy(size=300), "two values mostly": None}[data]
    if x is None:
        x = np.append(np.zeros(200), rng.random(20))  # the interquartile range is 0
    spec, one = LocalPolynomialSpec(KERNELS["gaussian"], 1), np.ones(len(x))
    normal = get("rule_of_thumb").select(LinearSmoother(spec, x[:, None], x[:, None], one)).bandwidth
    np.testing.assert_allclose(normal, bandwidths.bw_normal_reference(x), rtol=1e-3)  # 1.0592 there is rounded
    silverman = get("silverman").select(LinearSmoother(spec, x[:, None], x[:, None], one)).bandwidth
    np.testing.assert_allclose(silverman, bandwidths.bw_silverman(x), rtol=1e-3)  # 1.349 has more digits there


@pytest.mark.parametrize("name", ["rule_of_thumb", "plug_in", "quartic_rule"])
def test_formulas_scale_by_the_canonical_factor(name):
    rng = np.random.default_rng(0)
    x = rng.random((200, 1))
    y, one = np.sin(7 * x) + 0.3 * rng.normal(size=x.shape), np.ones(200)
    gaussian = get(name).select(LinearSmoother(LocalPolynomialSpec(KERNELS["gaussian"], 1), x, y, one)).bandwidth
    for kernel in KERNELS.values():
        got = get(name).select(LinearSmoother(LocalPolynomialSpec(kernel, 1), x, y, one)).bandwidth
        np.testing.assert_allclose(got, from_gaussian(kernel) * gaussian, rtol=1e-12)


def test_quartic_rule_of_a_quartic():
    """On x^2 + noise, m'' = 2: ``h = delta_0 (sigma^2 / (4 n))^(1/5)``, sigma^2 the residual variance."""
    n = 4000
    x = (np.arange(n) + 0.5)[:, None] / n
    y = x**2 + 0.1 * np.random.default_rng(0).normal(size=x.shape)
    got = (
        get("quartic_rule")
        .select(LinearSmoother(LocalPolynomialSpec(KERNELS["epanechnikov"], 1), x, y, np.ones(n)))
        .bandwidth
    )
    np.testing.assert_allclose(got, canonical(KERNELS["epanechnikov"]) * (0.01 / (4 * n)) ** 0.2, rtol=0.1)


@pytest.mark.parametrize("name", ["plug_in", "quartic_rule", "mse_optimal", "mse_rule", "lepski", "one_sided"])
def test_formulas_say_what_they_are_not_for(name):
    x, one = np.random.default_rng(0).random((50, 2)), np.ones(50)
    kernel = KERNELS["epanechnikov"]
    with pytest.raises(ArgumentError, match="leave_one_out"):
        get(name).select(LinearSmoother(LocalPolynomialSpec(kernel, 1), x, x, one))
    if name not in ("lepski", "mse_optimal"):
        with pytest.raises(ArgumentError, match="leave_one_out"):
            get(name).select(LinearSmoother(LocalPolynomialSpec(kernel, 2), x[:, :1], x, one))
    if name != "lepski":
        with pytest.raises(ArgumentError, match=r"prequential|one-sided"):
            get(name).select(LinearSmoother(LocalPolynomialSpec(kernel, 1, past=True), x[:, :1], x, one))


def test_nearest_points():
    rng = np.random.default_rng(0)
    series = np.sort(rng.integers(4, size=80))
    x = np.round(rng.random(80), 1)
    x = x[np.lexsort([x, series])]
    at, own = rng.random(50), rng.integers(4, size=50)
    for k in (1, 2, 7, 100):
        expected = []
        for q, s in zip(at, own, strict=True):
            distance = np.sort(np.abs(x[series == s] - q))
            expected.append(distance[min(k, len(distance)) - 1])
        np.testing.assert_allclose(nearest(x, series, at, own, k), expected, rtol=1e-12)


def test_neighbour_residuals():
    """Three nearest, all of those that are equally far, and fewer points than three."""
    x, y = np.array([0.0, 1.0, 2.5, 4.5, 10.0]), np.array([1.0, 2.0, 4.0, 8.0, 16.0])[:, None]
    got = neighbour_residuals(x[:, None], y, 3)[:, 0]
    assert got[0] == pytest.approx(np.sqrt(3 / 4) * (1 - 14 / 3))
    assert got[4] == pytest.approx(np.sqrt(3 / 4) * (16 - 14 / 3))
    even = neighbour_residuals(np.arange(5.0)[:, None], y, 3)[:, 0]
    assert even[2] == pytest.approx(np.sqrt(4 / 5) * (4 - 27 / 4))
    assert neighbour_residuals(x[:2, None], y[:2], 3)[0, 0] == pytest.approx(np.sqrt(1 / 2) * -1)


def test_difference_variance():
    rng = np.random.default_rng(0)
    x = rng.random((4000, 1))
    weights = rng.random(4000) + 0.5
    y = (
        np.hstack([np.sin(5 * x), 9 * x])
        + np.array([0.3, 0.7]) * rng.normal(size=(4000, 2)) / np.sqrt(weights)[:, None]
    )
    sample = prepare(LinearSmoother(LocalPolynomialSpec(KERNELS["gaussian"], 1), x, y, weights))
    got = difference_variance(sample.x[:, 0], sample.y, sample.weights)
    np.testing.assert_allclose(got, np.array([0.09, 0.49]) * weights.mean() ** -1, rtol=0.08)


def test_parabolic_steps_save_scores():
    """Golden sections alone would take 17 for this bracket."""
    seen = []
    curve = lambda t: 1.0 + 0.1 * (t - 0.03) ** 2 + 0.02 * (t - 0.03) ** 3
    where, _ = golden(lambda t: seen.append(t) or curve(t), -0.1, 0.15, (0.0, curve(0.0)))
    assert where == pytest.approx(0.03, abs=2e-4)
    assert len(seen) <= 8


@pytest.mark.parametrize("d", [2, 3, 6, 12])
def test_refinement_in_several_dimensions(d):
    """A bowl in the logarithms: to the last digit up to 3 dimensions, beyond to half a step, in about 5 scores each."""
    best, seen = np.linspace(-1.0, 1.0, d), []
    score = lambda h: seen.append(h) or 1.0 + float(((np.log(h) - best) ** 2).sum())
    grid = np.exp(np.linspace(-3.0, 3.0, 20)[:, None] * np.ones(d))
    curve = np.array([score(h) for h in grid])
    seen.clear()
    bandwidth, value = refine(score, grid, curve, grid[0], grid[-1])
    assert value == score(bandwidth) < curve.min()
    if d <= 3:
        np.testing.assert_allclose(np.log(bandwidth), best, atol=1e-3)
    else:
        assert (np.abs(np.log(bandwidth) - best) <= 0.5 * np.log(2.0) + 1e-3).all()
        assert len(seen) <= 5 * d + 20


def test_golden_sections():
    where, value = golden(lambda t: (t - 0.3) ** 2, 0.0, 1.0, (0.5, 0.04))
    assert where == pytest.approx(0.3, abs=2e-4)
    assert value < 1e-7
    wall = golden(lambda t: float("inf") if t < 0.6 else t, 0.0, 1.0, (0.7, 0.7))
    assert wall[0] == pytest.approx(0.6, abs=3e-4)
    assert golden(lambda t: 1.0, 0.0, 1.0, (0.5, 1.0)) == (0.5, 1.0)
