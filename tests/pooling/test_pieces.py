"""Each pooled piece alone, against formulas, simulated truth and what it must leave alone."""

import math

import numpy as np
import pytest

from kernadv import CheckpointError, KernelValueEstimator, Pooling
from kernadv.groups import Groups
from kernadv.moments import Moments
from kernadv.pooling import (
    AGGREGATIONS,
    Batched,
    Calibration,
    CommonDrift,
    EmpiricalBayesLevel,
    FeaturePrior,
    Pool,
    PooledSlope,
    Scale,
    Strength,
    Windowed,
    offline_features,
)

UNIT = Scale(0.0, 1.0, 1.0)


def groups_of(values, size, rng):
    """One group of `size` 0/1 rewards a prompt."""
    s = rng.binomial(size, values).astype(float)
    n = np.full(len(s), size)
    return Batched.of(Groups(np.arange(len(s)), np.ones(len(s), int), n, s, s))


def test_level_shrinks_as_the_normal_theory_says():
    """One window that sees k rollouts: the best kappa is sigma^2 / tau^2."""
    rng = np.random.default_rng(0)
    a, b, seen = 2.0, 1.5, 6
    level = EmpiricalBayesLevel(1)
    for step in range(60):
        v = rng.beta(a, b, 400)
        past = rng.binomial(seen, v)[:, None] / seen
        reward, prior = rng.binomial(2, v) / 2, np.full(400, a / (a + b))
        variance = float((prior * (1 - prior)).mean())
        level.learn(past, np.ones((400, 1), bool), prior, reward, variance, new=step > 0)
    assert level.kappa()[0] == pytest.approx(a + b, rel=0.1)  # the strength of the Beta distribution is kappa exactly
    v = rng.beta(a, b, 20_000)
    past = rng.binomial(seen, v)[:, None] / seen
    n = np.full((20_000, 1), float(seen))
    shrunk = level.shrink(past, n, np.ones_like(past, bool), np.full(20_000, a / (a + b)))[:, 0]
    best = (seen * past[:, 0] + a) / (seen + a + b)
    assert np.mean((shrunk - v) ** 2) < 1.002 * np.mean((best - v) ** 2)
    assert np.mean((shrunk - v) ** 2) < 0.7 * np.mean((past[:, 0] - v) ** 2)


def test_level_of_an_empty_window_is_the_prior():
    level = EmpiricalBayesLevel(2)
    out = level.shrink(np.full((1, 2), np.nan), np.zeros((1, 2)), np.zeros((1, 2), bool), np.array([0.3]))
    np.testing.assert_array_equal(out, [[0.3, 0.3]])


def histories(slope, rng, prompts=300, visits=8):
    """Past visits at lags visits..1 of values with a slope on the logit scale, under one flat window."""
    start = rng.normal(size=prompts)
    lag = np.arange(visits, 0, -1.0)
    v = 1 / (1 + np.exp(-(start[:, None] - slope * lag)))
    z = rng.binomial(1, v).astype(float)
    d, one = -lag, np.ones((prompts, 1))
    m = Moments(
        visits * one, d.sum() * one, (d * d).sum() * one, z.sum(1)[:, None], (z * d).sum(1)[:, None],
        visits * one, d.sum() * one, (d * d).sum() * one, z.sum(1)[:, None],
    )  # fmt: skip
    return Windowed.of(m), 1 / (1 + np.exp(-start))


def test_pooled_slope_removes_the_lag_of_a_common_drift():
    rng = np.random.default_rng(1)
    pooled = PooledSlope(1)
    for step in range(5):
        past, _ = histories(0.15, rng)
        pooled.learn(past, past.value, UNIT, new=step > 0)
    past, truth = histories(0.15, rng, prompts=5000)
    line = pooled.extrapolate(past, past.value, UNIT)[:, 0]
    assert abs((line - truth).mean()) < 0.25 * abs((past.value[:, 0] - truth).mean())
    assert ((line >= 0) & (line <= 1)).all()


def test_pooled_slope_is_nothing_without_drift():
    rng = np.random.default_rng(2)
    pooled = PooledSlope(1)
    for step in range(20):
        past, _ = histories(0.0, rng)
        pooled.learn(past, past.value, UNIT, new=step > 0)
    past, truth = histories(0.0, rng, prompts=5000)
    line = pooled.extrapolate(past, past.value, UNIT)[:, 0]
    assert np.mean((line - truth) ** 2) < 1.1 * np.mean((past.value[:, 0] - truth) ** 2)


def test_drift_is_off_until_it_pays_and_follows_a_jump():
    rng = np.random.default_rng(3)
    drift = CommonDrift()
    assert not drift.active
    before = rng.uniform(0.2, 0.8, 200)
    for step in range(30):
        batch = groups_of(before - 0.15 * (step % 2), 4, rng)
        shifted = drift.shifted(before, batch, UNIT)
        drift.learn(before, shifted, batch, UNIT, new=step > 0)
    assert drift.active
    now = before - 0.15
    shifted = drift.shifted(before, groups_of(now, 4, rng), UNIT)
    assert np.mean((shifted - now) ** 2) < 0.25 * np.mean((before - now) ** 2)


def test_drift_believes_an_evident_shift_though_none_came_before():
    rng = np.random.default_rng(13)
    v = rng.uniform(0.3, 0.7, 200)
    drift = CommonDrift()
    for step in range(100):
        batch = groups_of(v, 4, rng)
        drift.learn(v, drift.shifted(v, batch, UNIT), batch, UNIT, new=step > 0)
    for batch, most in ((groups_of(v + 0.25, 4, rng), 0.05), (groups_of(v, 4, rng), None)):
        shifted = drift.shifted(v, batch, UNIT)
        now = v + 0.25 if most else v
        assert np.mean((shifted - now) ** 2) < (most or 0.001) * (0.25**2 if most else 1.0)


def test_drift_stays_off_where_there_is_none():
    rng = np.random.default_rng(4)
    v = rng.uniform(0.1, 0.9, 12)
    drift, error = CommonDrift(), []
    for step in range(300):
        batch = groups_of(v, 1, rng)
        shifted = drift.shifted(v, batch, UNIT)
        error.append(np.mean(((shifted if drift.active else v) - v) ** 2))
        drift.learn(v, shifted, batch, UNIT, new=step > 0)
    assert np.mean(error) < 0.1 * np.mean(v * (1 - v)) / len(
        v
    )  # a mean of 12 rewards, always used, would err that much


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregation_finds_the_good_window(name):
    rng = np.random.default_rng(5)
    rule = AGGREGATIONS[name](4)
    noise = np.array([0.4, 0.2, 0.02, 0.3])
    for step in range(80):
        v = rng.uniform(0.2, 0.8, 100)
        f = v[:, None] + noise * rng.normal(size=(100, 4))
        rule.learn(f, np.full(100, 0.5), rng.binomial(1, v).astype(float), np.ones(100), 0.2, new=step > 0)
    assert np.argmax(rule.coefficients()) == 2
    assert rule.coefficients()[2] > 0.8
    v = rng.uniform(0.2, 0.8, 5000)
    f = v[:, None] + noise * rng.normal(size=(5000, 4))
    assert np.mean((rule.combine(f, np.full(5000, 0.5)) - v) ** 2) < 0.01


def test_stacking_joins_what_no_single_window_knows():
    rng = np.random.default_rng(6)
    rule = AGGREGATIONS["stacking"](2)
    for step in range(80):
        v = rng.uniform(0.2, 0.8, 100)
        f = v[:, None] + 0.2 * rng.normal(size=(100, 2))
        rule.learn(f, np.full(100, 0.5), rng.binomial(1, v).astype(float), np.ones(100), 0.2, new=step > 0)
    np.testing.assert_allclose(rule.coefficients(), 0.3, atol=0.1)  # .03 / (.03 + .04 / 2) halves, shrunk to the mean


@pytest.mark.parametrize("size", [1, 4])
def test_strength_is_the_variance_over_the_error(size):
    """nu = v / m - 1 for a prediction with known squared error m."""
    rng = np.random.default_rng(7)
    strength = Strength()
    n_eff = np.full(500, 6.0)
    for _ in range(150):
        p = rng.uniform(0.3, 0.7, 500)
        v = np.clip(p + 0.15 * rng.choice([-1, 1], 500), 0, 1)
        strength.fade()
        now = groups_of(v, size, rng)
        if size > 1:
            strength.learn(p, n_eff, 1.0, now)
        else:
            strength.learn_visits(p, n_eff, 1.0, now, rng.binomial(1, v) - p)
    expected = np.mean(p * (1 - p)) / 0.15**2 - 1
    assert strength.rollouts(np.array([6.0]), np.array([1e9]), 1.0)[0] == pytest.approx(expected, rel=0.2)
    assert strength.rollouts(np.array([6.0]), np.array([1.0]), 1.0)[0] <= 1.0 + 1.0 + 1e-9  # no more than is there


@pytest.mark.parametrize("span", [1.0, 8.0])
@pytest.mark.parametrize("size", [1, 4])
def test_calibration_finds_shift_and_error(size, span):
    """Predictions that are .06 too high in one bin, with errors as of 5 rollouts, said to be worth 20."""
    rng = np.random.default_rng(12)
    calibration, scale = Calibration(), Scale(-span, 0.0, 1.0)
    said = np.full(5000, 20.0)

    def predicted():
        """Values given predictions, exactly Beta."""
        p = rng.uniform(0.52, 0.9, 5000)
        centre = np.where(p > 0.8, p - 0.06, p)
        return p * span - span, centre, rng.beta(5 * centre, 5 * (1 - centre))

    for _ in range(100):
        calibration.fade()
        p, _, v = predicted()
        now = groups_of(v, size, rng).moved(1.0, span)
        if size == 1:
            calibration.learn_visits(p, said, now, rng.binomial(1, v) * span - span, scale)
        calibration.learn(p, said, now, scale)
    p, centre, _ = predicted()
    np.testing.assert_allclose(calibration.centre(p, scale), centre, atol=0.01)
    assert calibration.rollouts(said)[0] == pytest.approx(5.0, abs=1.5)


def test_calibration_knows_nothing_at_first_and_stays_in_the_range():
    calibration = Calibration()
    np.testing.assert_array_equal(calibration.centre(np.array([-0.5, 0.25, 1.0]), UNIT), [0.0, 0.25, 1.0])
    np.testing.assert_allclose(calibration.rollouts(np.array([0.0, 7.0])), [0.05, 7.0])
    several = groups_of(np.ones(500), 2, np.random.default_rng(0))
    calibration.learn(np.full(500, 0.97), np.full(500, 5.0), several, UNIT)
    assert 0.97 < calibration.centre(np.array([0.97]), UNIT)[0] <= 1.0


def test_strength_follows_the_sample_size_within_a_class():
    """Predictions that err as means of n_eff rewards do, learned at the lower end of a class and asked for at the upper."""
    rng = np.random.default_rng(12)
    strength = Strength()
    for _ in range(100):
        v = rng.uniform(0.2, 0.8, 1000)
        strength.fade()
        strength.learn(rng.binomial(6, v) / 6.0, np.full(1000, 6.0), 0.0, groups_of(v, 4, rng))
    low, high = strength.rollouts(np.array([6.0, 11.0]), np.full(2, 1e9), 0.0)
    assert low == pytest.approx(6.0, rel=0.1)
    assert high == pytest.approx(11.0, rel=0.1)


def test_features_count_from_the_second_batch_on_though_no_prompt_is_new():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(200, 1))
    y = rng.binomial(1, 1 / (1 + np.exp(-2.0 * x[:, 0]))) - 0.5
    told, noise = FeaturePrior(1), FeaturePrior(1)
    for step in range(10):
        for prior, features in ((told, x), (noise, rng.normal(size=(200, 1)))):
            prior.learn(features, 2.0, y, np.ones(200), np.full(200, step == 0), new=step > 0)
            assert step or prior is noise or prior.weight() > 0.8
    assert np.mean((noise.weight() * noise.deviation(x, 2.0)) ** 2) < 0.02 * np.var(y)


def test_features_that_tell_are_used_and_noise_is_not():
    rng = np.random.default_rng(8)
    told, noise = FeaturePrior(2), FeaturePrior(2)
    for step in range(60):
        x = rng.normal(size=(100, 2))
        v = 1 / (1 + np.exp(-1.5 * x[:, 0]))
        y = rng.binomial(1, v) - 0.5
        for prior, features in ((told, x), (noise, rng.normal(size=(100, 2)))):
            prior.learn(features, 2.0, y, np.ones(100), np.ones(100, bool), new=step > 0)
    x = rng.normal(size=(5000, 2))
    v = 1 / (1 + np.exp(-1.5 * x[:, 0])) - 0.5
    assert np.mean((told.weight() * told.deviation(x, 2.0) - v) ** 2) < 0.1 * np.var(v)
    assert told.weight() > 0.9
    assert np.mean((noise.weight() * noise.deviation(x, 2.0)) ** 2) < 0.01 * np.var(v)


@pytest.mark.parametrize("rounding", [-1e-16, 0.0, 1e-16])
def test_one_standard_error_ties_do_not_hang_on_rounding(rounding):
    """One group in which the windows differ: the best one's loss plus its standard error is just that of the widest."""
    choice = AGGREGATIONS["one_se"](3)
    f = np.array([[0.2, 0.3, 0.6], [0.4 + rounding, 0.4 + rounding, 0.4]])
    choice.learn(f, np.full(2, 0.5), np.array([0.25, 1.0]), np.ones(2), 0.25, new=1)
    assert choice.coefficients().tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("value", [1.0, 0.1, 1e6 / 3])
def test_constant_and_missing_features_are_harmless(value):
    """Also where their mean is not exact: rounding is no spread to divide by."""
    prior = FeaturePrior(2)
    x = np.full((20, 2), value)
    x[3] = np.nan
    for step in range(5):
        prior.learn(x, 1.0, np.linspace(-0.5, 0.5, 20), np.ones(20), np.ones(20, bool), new=step > 0)
    assert np.abs(prior.deviation(x, 1.0)).max() < 1e-6
    assert prior.spread.tolist() == [1.0, 1.0]


def test_state_round_trip_and_damage():
    rng = np.random.default_rng(9)
    est = KernelValueEstimator()
    for step in range(1, 20):
        est.advantages(np.repeat(np.arange(30), 2), rng.integers(0, 2, 60).astype(float), step)
    pool = est._rule.pool
    again = Pool(Pooling())
    again.load_state_dict(pool.state_dict())
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, pool.state_dict()[name])
    with pytest.raises(CheckpointError, match="cross of the pooled state must be"):
        Pool(Pooling(windows=(3, math.inf))).load_state_dict(pool.state_dict())


def test_memory_does_not_grow_with_prompts():
    sizes = []
    for prompts in (20, 2000):
        est = KernelValueEstimator()
        for step in range(1, 5):
            est.observe(np.arange(prompts), np.arange(prompts) % 2.0, step)
        sizes.append(sum(array.nbytes for name, array in est.state_dict().items() if name.startswith("pool.")))
    assert sizes[0] == sizes[1] < 10_000


def test_offline_features():
    got = offline_features([3, 5], [0.25, 1.0], 4)
    assert got[3][0] == pytest.approx(math.log(1.5 / 3.5))
    assert got[5][0] == pytest.approx(math.log(4.5 / 0.5))
