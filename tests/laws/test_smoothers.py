"""Laws of the smoothers, and their value against dense weighted least squares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernadv import Relative, Steps, Visits, smoothers
from kernadv.kernels import KERNELS
from kernadv.moments import Histories, Windows
from kernadv.moments import numpy_ as reference

every_smoother = pytest.mark.parametrize("name", smoothers.SMOOTHERS)
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)


def fit(name, step, z, at, bandwidth, kernel):
    """Estimate from single rewards at `step`."""
    z = np.asarray(z, float)
    sample = Histories(np.array([0]), np.array([len(z)]), np.asarray(step), np.ones(len(z)), z, z * z)
    windows = Windows.of([bandwidth], kernel, sample, np.array([at]))
    estimate = smoothers.get(name)(reference.ragged_moments(sample, windows, kernel))
    return type(estimate)(*(part[0, 0] for part in estimate))


histories = st.lists(st.tuples(st.integers(1, 60), st.floats(-5, 5)), min_size=4, max_size=40, unique_by=lambda x: x[0])


@every_kernel
@every_smoother
@settings(max_examples=25, deadline=None)
@given(history=histories)
def test_equals_dense_weighted_least_squares(name, kernel, history):
    step, z = (np.array(x) for x in zip(*sorted(history), strict=True))
    at, width = 61, 70.0
    got = fit(name, step, z, at, Steps(width), kernel)
    d = step - at
    w = kernel.profile(d / width)
    design = np.stack([np.ones(len(d)), d], 1)[:, : 2 if name == "local_linear" else 1]
    hat = np.linalg.solve(design.T @ (w[:, None] * design), design.T * w)[0]
    np.testing.assert_allclose(hat.sum(), 1.0, atol=1e-9)
    np.testing.assert_allclose(got.value, hat @ z, atol=1e-8)
    np.testing.assert_allclose(got.n_eff, 1 / (hat**2).sum(), rtol=1e-7)
    assert got.defined


@every_kernel
@settings(max_examples=25, deadline=None)
@given(history=histories, shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_shift_and_scale(kernel, history, shift, scale):
    step, z = (np.array(x) for x in zip(*sorted(history), strict=True))
    for name in smoothers.SMOOTHERS:
        plain = fit(name, step, z, 61, Relative(1.0), kernel)
        moved = fit(name, step, shift + scale * z, 61, Relative(1.0), kernel)
        np.testing.assert_allclose(moved.value, shift + scale * plain.value, atol=1e-7)
        assert moved.n_eff == plain.n_eff
        np.testing.assert_allclose(moved.variance, scale**2 * plain.variance, atol=1e-7)


@every_kernel
@settings(max_examples=25, deadline=None)
@given(history=histories)
def test_nadaraya_watson_stays_inside_the_rewards(kernel, history):
    step, z = (np.array(x) for x in zip(*sorted(history), strict=True))
    value = fit("nadaraya_watson", step, z, 61, Relative(1.0), kernel).value
    assert z.min() - 1e-9 <= value <= z.max() + 1e-9


@every_kernel
def test_local_linear_reproduces_lines(kernel):
    step = np.array([3, 8, 9, 20, 31, 44])
    got = fit("local_linear", step, 2.0 - 0.3 * step, 50, Steps(60), kernel)
    np.testing.assert_allclose(got.value, 2.0 - 0.3 * 50, atol=1e-10)


def test_local_linear_of_one_step_is_the_mean():
    for step in ([7], [7, 7]):
        got = fit("local_linear", step, [1.0, 0.0][: len(step)], 9, Steps(20), KERNELS["triangular"])
        assert got.defined
        assert got.value == pytest.approx(1.0 if len(step) == 1 else 0.5)


@every_smoother
def test_infinite_window_and_k_nearest(name):
    step, z = np.arange(1, 11), np.arange(10.0)
    uniform = KERNELS["uniform"]
    if name == "nadaraya_watson":
        assert fit(name, step, z, 11, Steps(np.inf), KERNELS["triangular"]).value == pytest.approx(z.mean())
        assert fit(name, step, z, 11, Visits(3), uniform).value == pytest.approx(z[-3:].mean())
        assert fit(name, step, z, 11, Visits(99), uniform).value == pytest.approx(z.mean())
    for bandwidth in (Steps(5), Visits(5)):
        assert fit(name, step, z, 11, bandwidth, uniform).defined


@every_smoother
def test_empty_window_is_undefined_not_zero(name):
    for step, z in (([], []), ([1], [1.0])):
        got = fit(name, np.array(step, dtype=int), z, 50, Steps(3), KERNELS["triangular"])
        assert not got.defined
        assert np.isnan(got.value)
        assert np.isnan(got.variance)
        assert got.n_eff == 0


def test_effective_sample_size_and_variance_by_hand():
    equal = fit("nadaraya_watson", np.arange(1, 9), [0, 1] * 4, 9, Steps(np.inf), KERNELS["triangular"])
    assert equal.n_eff == pytest.approx(8)
    assert equal.variance == pytest.approx(np.var([0, 1] * 4, ddof=1) / 8)
    full = fit("nadaraya_watson", np.arange(1, 4001), np.zeros(4000), 4001, Steps(4001), KERNELS["triangular"])
    assert full.n_eff == pytest.approx(0.75 * 4000, rel=1e-3)
    single = fit("nadaraya_watson", [3], [1.0], 4, Steps(9), KERNELS["triangular"])
    assert single.n_eff == pytest.approx(1)
    assert np.isnan(single.variance)
