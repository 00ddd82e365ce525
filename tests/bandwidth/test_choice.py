"""Whether the choices are good: near the bandwidth that minimises the true risk, and honest where they cannot be."""

import numpy as np
import pytest

from kernadv._errors import ArgumentError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.bandwidth import HBlock, LeaveOneOut, Lepski, Prequential, get
from kernadv.regression.bandwidth._ordered import prepare
from kernadv.regression.local.polynomial import LocalPolynomialSpec, hat_matrix, smooth

NOISE = 0.3
CURVES = {"sine": lambda x: np.sin(6 * x) + x**2, "step": lambda x: np.tanh(8 * (x - 0.4))}


def best(spec, f, x, grid, past=False):
    """Bandwidth of the least mean squared error, bias and variance from the true curve and the hat matrix."""
    risk = []
    for h in grid:
        if past:
            d = (x[:, 0] - x[:, :1]) / h  # (query, point)
            w = np.where(d < 0, spec.kernel.profile(d), 0.0)[20:]
            hat, truth = w / w.sum(1, keepdims=True), f(x[20:, 0])
        else:
            fit = smooth(spec, x, x, np.ones(len(x)), x, np.array([h]))
            hat, truth = hat_matrix(spec, x, np.ones(len(x)), x, np.array([h]), fit), f(x[:, 0])
        risk.append(((hat @ f(x[:, 0]) - truth) ** 2).mean() + NOISE**2 * (hat**2).sum(1).mean())
    return grid[np.argmin(risk)]


@pytest.mark.parametrize(("curve", "kernel"), [("sine", "epanechnikov"), ("step", "gaussian")])
def test_near_the_best_bandwidth(curve, kernel):
    """The median choice of 7 samples of 400 points, within a factor of 1.6."""
    f, spec = CURVES[curve], LocalPolynomialSpec(KERNELS[kernel], 1)
    names = ["leave_one_out", "gcv", "aicc", "k_fold", "h_block", "one_sided", "plug_in"]
    chosen = []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        x = rng.random((400, 1))
        y = f(x) + NOISE * rng.normal(size=x.shape)
        chosen.append([get(name).select(LinearSmoother(spec, x, y, np.ones(400))).bandwidth[0] for name in names])
    ideal = best(spec, f, np.sort(x, axis=0), np.geomspace(0.02, 0.6, 24))
    ratio = dict(zip(names, np.median(chosen, axis=0) / ideal, strict=True))
    assert all(1 / 1.6 < value < 1.6 for value in ratio.values()), ratio


@pytest.mark.parametrize("curve", CURVES)
def test_prequential_is_near_the_best_one_sided_bandwidth(curve):
    """And so much narrower or wider than the two-sided choice as one-sided smoothing needs."""
    f, spec = CURVES[curve], LocalPolynomialSpec(KERNELS["triangular"], 0)
    chosen = []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        x = np.sort(rng.random((400, 1)), axis=0)
        y = f(x) + NOISE * rng.normal(size=x.shape)
        chosen.append(Prequential().select(LinearSmoother(spec, x, y, np.ones(400))).bandwidth[0])
    ideal = best(spec, f, x, np.geomspace(0.06, 1.0, 30), past=True)
    assert 1 / 1.6 < np.median(chosen) / ideal < 1.6


def test_h_block_sees_through_dependent_errors():
    """AR(1) errors: leave-one-out follows the noise, h-block does not."""
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 400)[:, None]
    noise = rng.normal(size=400)
    for i in range(1, 400):
        noise[i] += 0.8 * noise[i - 1]
    y = np.sin(3 * x) + 0.2 * noise[:, None]
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], 1)
    fooled = LeaveOneOut().select(LinearSmoother(spec, x, y, np.ones(400))).bandwidth[0]
    wide = HBlock(block=12).select(LinearSmoother(spec, x, y, np.ones(400))).bandwidth[0]
    assert fooled < 0.05
    assert wide > 5 * fooled


def test_lepski_is_narrow_where_the_curve_bends():
    rng = np.random.default_rng(0)
    x = rng.random((1500, 1))
    y = 3 * np.exp(-(((x - 0.5) / 0.04) ** 2)) + 0.2 * rng.normal(size=x.shape)
    at = np.linspace(0.05, 0.95, 91)[:, None]
    spec = LocalPolynomialSpec(KERNELS["triangular"], 1)
    width = Lepski().select(LinearSmoother(spec, x, y, np.ones(1500)), at=at).bandwidth[:, 0]
    bump = np.abs(at[:, 0] - 0.5) < 0.04
    assert np.median(width[bump]) < 0.4 * np.median(width[np.abs(at[:, 0] - 0.5) > 0.15])


def test_an_optimum_beyond_the_grid_is_reported():
    x, y = np.random.default_rng(0).random((2, 200, 1))
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], 0)
    wide = LeaveOneOut().select(LinearSmoother(spec, x, y, np.ones(200)))  # noise: the mean is best
    assert wide.at_edge
    assert wide.bandwidth == wide.grid[-1]
    narrow = LeaveOneOut(bounds=(0.5, 2.0)).select(LinearSmoother(spec, x, np.sin(20 * x), np.ones(200)))
    assert narrow.at_edge
    assert narrow.bandwidth == pytest.approx(0.5, rel=1e-3)
    flat = LeaveOneOut(bounds=(1.9, 2.0)).select(LinearSmoother(spec, x, y, np.ones(200)))
    assert flat.flat


def test_every_bandwidth_is_scored_on_the_same_points():
    """Two far points of 200: narrow bandwidths lack them, so they are left out everywhere, or nothing narrow is scored."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random(198), [5.0, 7.0]])[:, None]
    y = np.sin(9 * x) + 0.2 * rng.normal(size=x.shape)
    spec, one = LocalPolynomialSpec(KERNELS["epanechnikov"], 0), np.ones(200)
    strict = LeaveOneOut(undefined=0.0).select(LinearSmoother(spec, x, y, one))
    assert strict.bandwidth > 2.0
    assert np.isinf(strict.curve[strict.grid[:, 0] < 2.0]).all()
    spared = LeaveOneOut(undefined=0.01)
    got = spared.select(LinearSmoother(spec, x, y, one))
    assert got.bandwidth < 0.3
    sample = prepare(LinearSmoother(spec, x, y, one))
    curve, scored = spared.curve(sample, spared.grid(sample))
    assert scored.sum() == 198
    assert (sample.x[~scored] > 4).all()
    wide = LeaveOneOut().errors(sample, got.grid[-1]).error[scored]
    assert curve[-1] == pytest.approx((wide**2).mean(), rel=1e-12)


def test_the_past_is_pooled_over_series():
    """First visits have no past: they count for no bandwidth."""
    rng = np.random.default_rng(0)
    label, x = np.repeat(np.arange(50), 20), np.tile(np.arange(1.0, 21.0), 50)[:, None]
    level = rng.random(50)[label, None]
    y = level + 0.02 * x + 0.3 * rng.normal(size=x.shape)
    spec = LocalPolynomialSpec(KERNELS["triangular"], 0, past=True)
    selection = Prequential().select(LinearSmoother(spec, x, y, np.ones(1000), series=label))
    assert np.isfinite(selection.curve[-1])
    sample = prepare(LinearSmoother(spec, x, y, np.ones(1000), series=label))
    _, scored = Prequential().curve(sample, Prequential().grid(sample))
    assert scored.sum() == 950
    first = sample.row[~scored]
    assert (x[first] == 1).all()


def test_nothing_to_compare():
    """Every series a single point in time: no past anywhere."""
    spec, x = LocalPolynomialSpec(KERNELS["triangular"], 0), np.arange(1.0, 7.0)[:, None]
    with pytest.raises(ArgumentError, match="constant within every series"):
        Prequential().select(LinearSmoother(spec, x, x, np.ones(6), series=np.arange(6)))


@pytest.mark.parametrize(
    ("selector", "settings"),
    [
        ("leave_one_out", {"size": 2}),
        ("leave_one_out", {"undefined": 1.0}),
        ("leave_one_out", {"bounds": (1.0, 0.5)}),
        ("k_fold", {"folds": 1}),
        ("h_block", {"block": -1}),
        ("lepski", {"constant": 0.0}),
        ("k_neighbors", {"most": 0}),
        ("mse_optimal", {"fewest": 0}),
        ("mse_rule", {"knots": 1}),
    ],
)
def test_settings_are_checked(selector, settings):
    with pytest.raises(ArgumentError):
        type(get(selector))(**settings)
