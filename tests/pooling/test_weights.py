"""Only the ratios of weights matter, whatever their size."""

import numpy as np
import pytest

from kernadv import KernelValueEstimator
from kernadv.pooling import Pooling

FEATURES = {k: [k / 6, k % 3] for k in range(12)}


def run(scale, how=None, features=None, steps=25, kind=np.asarray):
    """Advantages under weights of that scale, and the estimator; its state is finite and can be loaded."""
    make = lambda: KernelValueEstimator(weighted=True, pooling=how, features=features)
    est, rng, out = make(), np.random.default_rng(0), []
    for step in range(1, steps):
        ids, z, w = rng.integers(0, 12, 16), (rng.random(16) < 0.5) * 1.0, rng.random(16) + 0.05
        out.append(np.asarray(est.advantages(ids, kind(z), step, weights=kind(w * scale))))
    state = est.state_dict()
    assert all(np.isfinite(array).all() for array in state.values())
    again = make()
    again.load_state_dict(state)
    assert all(np.array_equal(array, again.state_dict()[name]) for name, array in state.items())
    return np.concatenate(out)


@pytest.mark.parametrize("scale", [2.0**-1000, 1e-305, 1e-200, 3.7, 1e100, 5e299])
@pytest.mark.parametrize("features", [None, FEATURES], ids=["", "features"])
def test_a_constant_factor_of_all_weights_changes_nothing(scale, features):
    np.testing.assert_allclose(run(scale, features=features), run(1.0, features=features), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", [Pooling((2.0,), (0.1,), (), (0.0,)), Pooling(walks=(0.0,), common=(0.5,))], ids=repr)
def test_whatever_the_filters(how):
    np.testing.assert_allclose(run(1e-290, how), run(1.0, how), rtol=0, atol=1e-12)


def test_a_power_of_two_changes_no_bit():
    np.testing.assert_array_equal(run(2.0**-900), run(1.0))
    np.testing.assert_array_equal(run(2.0**900), run(1.0))


def test_tensors_where_the_rewards_are():
    """The path of a GPU, on the CPU."""
    torch = pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNADV_BACKEND", "torch")
        for scale in (1.0, 1e-300, 1e290):
            np.testing.assert_allclose(run(scale, kind=torch.as_tensor), run(1.0), rtol=0, atol=1e-9)


JUMPS = [(1.0, 5e-324), (1.0, 1e-310), (1e-320, 1.0), (1e-200, 1.0), (1e-100, 1e100), (1.0, 1e300), (1e300, 1e-300),
         (5e-324, 1e300), (1e-12, 1e12)]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), JUMPS)
def test_weights_that_leap(before, after):
    """Nothing infinite gets into the state; it can be loaded at each step; values stay in the range of the rewards."""
    est, rng = KernelValueEstimator(weighted=True), np.random.default_rng(0)
    for step in range(1, 13):
        z = (rng.random(8) < 0.5) * 1.0
        weights = np.full(8, before if step < 4 else after)
        advantage = est.advantages([0, 1, 2, 3] * 2, z, step, weights=weights)
        value = z - advantage
        assert ((value >= -1e-12) & (value <= 1 + 1e-12)).all()
        state = est.state_dict()
        assert all(np.isfinite(array).all() for array in state.values())
        KernelValueEstimator(weighted=True).load_state_dict(state)
    assert np.isfinite(est.baselines([0, 1], [1.0, 0.0], 13, weights=[after, after])).all()


def test_weights_far_beyond_the_first_ones_count_alike():
    """More than 1e30 of the first ones is so much; the value beside the baseline does not look at weights."""
    rng = np.random.default_rng(1)
    old, alike, plain = (KernelValueEstimator(weighted=x) for x in (True, True, False))
    for step in range(1, 9):
        batch = [0, 1, 2, 3] * 2, (rng.random(8) < 0.5) * 1.0, step
        weights = np.ones(8) if step == 1 else (rng.random(8) + 0.1) * 1e40
        gained = (
            old.advantages(*batch, weights=weights),
            alike.advantages(*batch, weights=np.minimum(weights, 2.0**100)),
        )
        np.testing.assert_allclose(*gained, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(
            old.values(*batch[:2], step + 1).value, (plain.observe(*batch), plain.values(*batch[:2], step + 1).value)[1]
        )


def test_weights_beyond_all_are_refused():
    est = KernelValueEstimator(weighted=True)
    for bad in (1.1e300, np.inf, np.nan, -1e-320):
        with pytest.raises(ValueError, match="weights must be finite"):
            est.advantages(["a", "b"], [1.0, 0.0], 1, weights=[1.0, bad])
    assert est.metrics()["history_visits"] == 0
