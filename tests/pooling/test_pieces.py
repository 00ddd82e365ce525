"""Each pooled piece alone, against formulas written out, simulated truth and what it must leave alone."""

import copy
import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernadv import CheckpointError, KernelValueEstimator, Pooling
from kernadv.pooling import (
    NUMPY,
    Calibration,
    Chain,
    CommonLevel,
    FeaturePrior,
    GroupSums,
    Pool,
    PrequentialWeights,
    Query,
    _running,
    calibration,
    common,
    offline_features,
    rows,
)
from kernadv.pooling import weights as rule
from kernadv.pooling._running import Running
from kernadv.pooling._words import exp, log
from kernadv.pooling.beliefs import (
    LARGEST_EXPONENT,
    LARGEST_LOGIT,
    LARGEST_VARIANCE,
    aged,
    carried,
    carried_back,
    odds_of,
)
from kernadv.pooling.pool import STILL

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
finite = st.floats(-12.0, 12.0)
ONE, THREE = Pooling((2.0,), (0.0,), (), (0.0,)), Pooling((2.0,), (0.0, 0.1, 0.2), (), (0.0,))
ends = st.tuples(st.floats(0.0, 0.9), st.floats(0.05, 1.0)).map(lambda e: (e[0], e[0] + (1.0 - e[0]) * e[1]))


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def logit(p):
    return math.log(p / (1.0 - p))


def logit_law(alpha, beta, level):
    """Logit, less the level, and variance of the logit of Beta(alpha, beta)."""
    return np.log(alpha) - np.log(beta) - level, 1.0 / alpha + 1.0 / beta


def beta_law(logit, variance, level):
    """The alpha and beta of which `logit_law` makes these."""
    odds = np.exp(logit + level)
    return (1.0 + odds) / variance, (1.0 + 1.0 / odds) / variance


# ---------------------------------------------------------------- exp and log


@numba.njit
def each_exp(x):
    return np.array([exp(a) for a in x])


@numba.njit
def each_log(x):
    return np.array([log(a) for a in x])


def units(got, expected):
    """Largest error in units of the last place."""
    return float((abs(got - expected) / np.spacing(abs(expected).astype(float))).max())


def test_exp_is_right_to_two_units_in_the_last_place():
    rng = np.random.default_rng(20)
    half = 0.5 * math.log(2.0) * np.arange(-2019, 2020)  # where the nearest multiple of ln 2 is another one
    x = np.concatenate([
        rng.uniform(-700, 700, 200_000), rng.uniform(-1, 1, 200_000),
        rng.normal(size=1000) * 10.0 ** -rng.uniform(0, 300, 1000),
        half, np.nextafter(half, 0.0), np.nextafter([-700.0, 700.0], 0.0),
    ])  # fmt: skip
    assert units(each_exp(x), np.exp(x.astype(np.longdouble))) <= 2.0
    np.testing.assert_array_equal(each_exp(np.array([0.0, -0.0])), 1.0)


def test_log_is_right_to_two_units_in_the_last_place():
    rng = np.random.default_rng(21)
    tiny, huge = np.finfo(float).tiny, np.finfo(float).max
    near_one = np.concatenate([1.0 + np.arange(1, 1000) * 2.0**-52, 1.0 - np.arange(1, 1000) * 2.0**-53])
    turn = math.sqrt(2.0) * 2.0 ** np.arange(-1021, 1023)  # where the nearest power of 2 is another one
    x = np.concatenate([
        2.0 ** rng.uniform(-1022, 1023.9, 200_000), rng.uniform(0.5, 2.0, 200_000), near_one,
        1.0 + rng.normal(size=1000) * 10.0 ** -rng.uniform(1, 15, 1000),
        turn, np.nextafter(turn, 0.0), 2.0 ** np.arange(-1022, 1024.0), [tiny, huge],
    ])  # fmt: skip
    x = x[x != 1.0]
    assert units(each_log(x), np.log(x.astype(np.longdouble))) <= 2.0
    assert log(1.0) == 0.0


@given(st.floats(-699.9, 699.9))
@settings(max_examples=200, deadline=None)
def test_log_takes_exp_back(x):
    assert log(exp(x)) == pytest.approx(x, rel=1e-15, abs=5e-16)
    assert exp(x) == pytest.approx(math.exp(x), rel=5e-16)


# ---------------------------------------------------------------- which filters


def test_filters_are_every_prior_with_every_way_to_move():
    members = Pooling(priors=(2.0, 1.0), walks=(0.0, 0.3), discounts=(0.05,)).members
    found = set(zip(*(part.tolist() for part in members), strict=True))
    assert found == {(p, *move) for p in (1.0, 2.0) for move in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.05))}
    assert len(members.prior) == len(found)


# ---------------------------------------------------------------- beliefs


def said(logit, variance, level=0.0, gap=0.0, walk=0.0, discount=0.0):
    """Mean and worth that each filter says of prompts, so many steps after they were noted.  # (B, M) each"""
    logit, variance = np.atleast_2d(logit), np.atleast_2d(variance)
    size, filters = logit.shape
    notes = np.concatenate([np.tile([0.0, 1.0], (size, 1)), logit, variance], axis=1)
    members = np.stack([np.broadcast_to(x, filters) for x in (1.0 / filters, 1.0, walk, discount)])
    gap, level = (np.broadcast_to(np.asarray(x, float), size) for x in (gap, level))
    mean, worth, middle = np.empty((size, filters)), np.empty((size, filters)), np.empty(size)
    asked = notes, np.ones(size, bool), gap, np.zeros(size), level, np.ones(1), members
    NUMPY.rows(rows.forecast, (size, filters, 0), asked, (mean, worth, middle))
    np.testing.assert_allclose(middle, mean.mean(1), **CLOSE)
    return mean, worth


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), finite)
@settings(max_examples=100, deadline=None)
def test_beliefs_are_beta_laws(alpha, beta, level):
    """Noted are the logit of the mean, and the variance of the logit to first order; said are mean and worth."""
    mean, variance = alpha / (alpha + beta), 1.0 / alpha + 1.0 / beta
    slope = 1.0 / (
        mean * (1.0 - mean)
    )  # of the logit; times the variance of a Beta law without the 1 of its denominator
    assert variance == pytest.approx(mean * (1.0 - mean) / (alpha + beta) * slope**2, rel=1e-6)
    there, worth = said(math.log(alpha / beta) - level, variance, level)
    np.testing.assert_allclose([there.item() * worth.item(), worth.item()], [alpha, alpha + beta], rtol=1e-9)


@given(st.tuples(*[st.floats(1e-3, 1e6)] * 2), st.tuples(*[st.floats(0.0, 1e3)] * 2), finite)
@settings(max_examples=100, deadline=None)
def test_rewards_are_added_to_alpha_and_beta(law, seen, level):
    """Also none: what is noted of a group of no weight is what was noted before."""
    (alpha, beta), (right, wrong) = map(np.array, (law, seen))
    pool = used(ONE)[0]
    shared = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 0.5, level])
    w, wz = np.array([right + wrong]), np.array([right])
    batch = GroupSums(np.zeros(1, int), np.ones(1), w, wz, w, wz, wz, w)
    query = Query(batch, np.ones(1), np.zeros((1, pool.width)), np.zeros(1), *np.array([[0.0], [1.0]]), 1)
    before = np.array([[0.0, 1.0, *logit_law(alpha, beta, level)]])
    filters = np.array([[1.0], [2.0], [0.0], [0.0]])
    notes, _ = pool._updated(query, before, np.zeros(1), batch, filters, shared)
    logit, variance = logit_law(alpha + right, beta + wrong, level)
    assert notes[0, 2] == pytest.approx(logit, abs=1e-9)
    assert notes[0, 3] == pytest.approx(variance, rel=1e-9)


def test_beliefs_move_as_their_walk_and_their_discount_say():
    walk, discount = np.array([0.0, 0.3, 0.0]), np.array([0.0, 0.0, 0.07])
    variances = np.array([[1.0, 2.0, 0.5], [0.1, 4.0, 3.0]])
    gaps = np.array([5.0, 2.0])
    mean, worth = said(np.zeros((2, 3)), variances, gap=gaps, walk=walk, discount=discount)
    np.testing.assert_array_equal(mean, 0.5)
    for row, gap in enumerate(gaps):
        start = variances[row]
        expected = [start[0], start[1] + gap * 0.09, start[2] * math.exp(0.07 * gap)]
        np.testing.assert_allclose(
            [aged(*x) for x in zip(start, [gap] * 3, walk, discount, strict=True)], expected, **CLOSE
        )
        np.testing.assert_allclose(worth[row], 4.0 / np.array(expected), **CLOSE)
    now = said(np.zeros((2, 3)), variances)[1]
    assert worth[0, 2] == pytest.approx(now[0, 2] * math.exp(-0.35))  # its worth in rollouts


def test_beliefs_stay_finite_over_any_gap():
    logits, variances = np.array([900.0, -900.0, 0.0]), np.array([1e-12, 1.0, 1e15])
    for gap in (0.0, 2.0**50, 1e300):
        later = np.array([aged(variance, gap, 1e3, 1e3) for variance in variances])
        assert (later >= variances).all()
        assert (later <= LARGEST_VARIANCE).all()
        odds = np.array([odds_of(x) for x in logits])
        np.testing.assert_allclose(odds, np.exp([LARGEST_LOGIT, -LARGEST_LOGIT, 0.0]), rtol=1e-14)
        mean, worth = said(logits, variances, gap=gap, walk=1e3, discount=1e3)
        np.testing.assert_allclose(mean[0], odds / (1.0 + odds), rtol=1e-14)
        np.testing.assert_allclose(worth[0], (1.0 + odds) / later + (1.0 + 1.0 / odds) / later, rtol=1e-14)
    assert aged(1e-12, 1e300, 0.0, 1e3) == pytest.approx(1e-12 * math.exp(LARGEST_EXPONENT))


@given(finite, ends)
@settings(max_examples=100, deadline=None)
def test_another_range_carries_the_share_and_its_derivative(x, old):
    lower, upper = old
    placed, slope = carried(x, lower, upper)
    assert sigmoid(placed) == pytest.approx(lower + (upper - lower) * sigmoid(x), abs=1e-8)
    step = 1e-5
    there = [carried(y, lower, upper)[0] for y in (x - step, x + step)]
    assert slope == pytest.approx((there[1] - there[0]) / (2 * step), rel=1e-4, abs=1e-7)


@given(finite, ends)
@settings(max_examples=100, deadline=None)
def test_another_range_and_back(x, old):
    lower, upper = old
    if 1e-6 < sigmoid(x) < 1 - 1e-6 and upper - lower > 1e-2:
        assert carried_back(carried(x, lower, upper)[0], lower, upper) == pytest.approx(x, abs=1e-3)


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.7])
def test_another_range_that_is_the_same(x):
    placed, slope = carried(x, 0.0, 1.0)
    assert placed == pytest.approx(x, abs=1e-12)
    assert slope == pytest.approx(1.0, abs=1e-12)


@given(finite, ends)
@settings(max_examples=100, deadline=None)
def test_a_mirrored_range_mirrors_the_logit(x, old):
    lower, upper = old
    one, two = carried(x, lower, upper), carried(-x, 1.0 - upper, 1.0 - lower)
    assert two[0] == pytest.approx(-one[0], rel=1e-6, abs=1e-6)
    assert two[1] == pytest.approx(one[1], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("end", "expected"), [(0.0, 1.3), (1.0, -1.3), (0.25, math.log(0.25 / 0.75))])
def test_an_empty_range_is_the_low_end_of_one_above_and_the_high_end_of_one_below(end, expected):
    placed, slope = carried(1.3, end, end)
    assert placed == pytest.approx(expected)
    assert slope == 1.0


# ---------------------------------------------------------------- the common level


def kalman(walk, shown):
    """Mean, variance and log-likelihoods of a textbook filter of a random walk; shown: (elapsed, observation, variance)."""
    mean, variance, fits = 0.0, 2 / common.START, []
    for elapsed, seen, noise in shown:
        variance += walk**2 * elapsed
        spread = variance + noise
        fits.append(-0.5 * (math.log(2 * math.pi * spread) + (seen - mean) ** 2 / spread))
        gain = variance / spread
        mean, variance = mean + gain * (seen - mean), variance * noise / spread
    return mean, variance, fits


def test_the_common_level_is_a_bank_of_kalman_filters():
    """A score u with information i is an observation of variance 1 / i at the expected level plus u / i."""
    rng = np.random.default_rng(0)
    walks = (0.0, 0.1, 0.5)
    level = CommonLevel(walks)
    seen = [[] for _ in walks]
    for batch in range(12):
        elapsed = int(rng.integers(1, 4)) if batch else 0
        score, information = rng.normal(0, 2), rng.uniform(0.5, 4)
        expected = level.expected().item()
        for own in seen:
            own.append((elapsed, expected + score / information, 1.0 / information))
        found = [kalman(walk, own) for walk, own in zip(walks, seen, strict=True)]
        fits = np.array([fit for *_, fit in found])
        evidence = fits @ (common.KEEP ** np.arange(fits.shape[1])[::-1]) + np.log([common.STILL, 1.0, 1.0])
        level.learn(np.float64(score), np.float64(information), np.float64(elapsed), new=float(batch > 0))
        np.testing.assert_allclose(level.mean, [mean for mean, *_ in found], **CLOSE)
        np.testing.assert_allclose(level.variance, [variance for _, variance, _ in found], **CLOSE)
        weights = np.exp(evidence - evidence.max())
        expected = weights / weights.sum() @ [mean for mean, *_ in found]
        assert level.expected().item() == pytest.approx(expected, rel=1e-9)


def test_what_a_batch_shows_is_what_learning_from_it_leaves():
    level = CommonLevel((0.0, 0.3))
    level.learn(np.float64(2.0), np.float64(3.0), np.float64(0.0), new=0.0)
    shown = level.shown(np.array([1.0, -1.0, 0.0]), np.array([2.0, 2.0, 0.0]), np.float64(2.0))
    for score, information, at in zip((1.0, -1.0, 0.0), (2.0, 2.0, 0.0), shown, strict=True):
        after = copy.deepcopy(level)
        after.evidence /= (
            common.KEEP
        )  # a forecast weighs by all the evidence so far; learning of a later step forgets first
        after.learn(np.float64(score), np.float64(information), np.float64(2.0), new=1.0)
        assert after.expected().item() == pytest.approx(at, rel=1e-9)
    assert shown[2] == pytest.approx(level.expected().item())  # nothing shown: a random walk stays


@pytest.mark.parametrize("speed", [0.0, 0.3])
def test_the_common_level_follows_its_truth(speed):
    rng = np.random.default_rng(1)
    level, truth, errors = CommonLevel((0.0, 0.03, 0.3)), 0.0, []
    for step in range(400):
        truth += speed * rng.normal()
        information = 5.0
        seen = truth + rng.normal() / math.sqrt(information)
        errors.append(level.expected().item() - truth)
        score = information * (seen - level.expected().item())
        level.learn(np.float64(score), np.float64(information), np.float64(min(step, 1)), new=float(step > 0))
    # the steady state of the best filter: P = q + P / (1 + P i)
    p = speed**2 / 2 + math.sqrt(speed**4 / 4 + speed**2 / 5.0)
    assert np.mean(np.square(errors[100:])) < 1.25 * p + 0.006


# ---------------------------------------------------------------- the weights of the filters


def test_weights_are_those_of_the_formula():
    rng = np.random.default_rng(2)
    odds = np.array([2.0, 1.0, 1.0, 4.0])
    weights = PrequentialWeights(odds)
    np.testing.assert_array_equal(weights.weights(), odds / 8.0)
    loss, traces = np.zeros(4), 0.0
    for step in range(30):
        new = float(step > 0 and step % 3 > 0)
        batch, count = rng.uniform(1, 3, 4) * np.array([1.0, 1.1, 1.2, 1.05]), float(rng.integers(5, 20))
        keep = rule.KEEP**new
        loss, traces = keep * loss + batch, keep * traces + count
        weights.learn(batch, count, new=new)
        variance = (loss.min() + rule.TRUST * rule.VARIANCE) / (traces + rule.TRUST)
        raw = odds * np.exp(-rule.RATE * (loss - loss.min()) / variance)
        np.testing.assert_allclose(weights.weights(), raw / raw.sum(), **CLOSE)


def test_weights_find_the_best_and_change_their_mind():
    weights = PrequentialWeights(np.ones(3))
    for best in (0, 2):
        for _ in range(200):
            loss = np.full(3, 5.5)
            loss[best] = 5.0
            weights.learn(loss, 25.0, new=1.0)
        assert weights.weights()[best] > 0.9


def test_weights_of_any_losses_are_finite():
    weights = PrequentialWeights(np.ones(3))
    for loss in (np.zeros(3), np.array([1e300, 0.0, 1e280]), np.full(3, 1e-300)):
        weights.learn(loss, 1.0, new=1.0)
        assert weights.weights().sum() == pytest.approx(1.0)


def losses_of(p, worth, inside):
    """What a batch adds to the losses of three filters that say Beta(p worth, (1 - p) worth), and `Running.count`.

    p, worth: (N, 3)
    """
    pool = used(THREE)[0]
    pool.running.size[:] = 100.0
    (shared, filters), size = pool._prepared(), len(p)
    logit, variance = logit_law(p * worth, (1.0 - p) * worth, shared[6])
    before = np.concatenate([np.tile([0.0, 1.0], (size, 1)), logit, variance], axis=1)
    ends = np.zeros(size), np.ones(size)
    query = Query(inside, np.ones(size), before, np.zeros(size), *ends, 1)
    return pool._updated(query, before, np.zeros(size), inside, filters, shared)[1], float(pool.running.count)


@pytest.mark.parametrize("weights", ["alike", "unlike"])
def test_the_losses_are_those_of_values_without_the_own_reward(weights):
    """Each trace left out of its group in turn; where weights differ, to 2% on average over draws."""
    rng = np.random.default_rng(17)
    found, expected = 0.0, 0.0
    p, worth = rng.uniform(0.05, 0.95, (40, 3)), 6.0 * np.array([1.0, 2.0, 0.5]) * np.ones((40, 1))
    for _ in range(1 if weights == "alike" else 50):
        z = [rng.binomial(1, 0.3, 4).astype(float) for _ in range(40)]
        w = [np.full(4, 2.0) if weights == "alike" else rng.gamma(4.0, 0.25, 4) for _ in range(40)]
        losses, k = losses_of(p, worth, batch_of(z, weights=w))
        found = found + losses
        for own, past, rewards, weight in zip(p * worth, worth, z, w, strict=True):
            value = (own + k * (weight @ rewards - weight * rewards)[:, None]) / (
                past + k * (weight.sum() - weight)[:, None]
            )
            expected = expected + (weight**2) @ (rewards[:, None] - value) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-10 if weights == "alike" else 0.02)


@pytest.mark.parametrize("worth", [1e-3, 1e-9, 1e-20])
def test_the_loss_of_a_trace_alone_is_that_of_the_past(worth):
    """Also of a past that is worth next to nothing, and of rewards that are not round, in a range far from 0."""
    z = np.array([0.1, 0.7, 1 / 3])
    p = np.array([[0.2, 0.9, 0.4], [0.3, 0.5, 0.6], [1 / 3, 0.1, 0.8]])
    inside = batch_of([[1e6 + x] for x in z]).inside(np.float64(1e6), np.float64(1e6 + 1.0), NUMPY)
    found, _ = losses_of(p, np.full((3, 3), worth), inside)
    np.testing.assert_allclose(found, ((z[:, None] - p) ** 2).sum(0), rtol=1e-8)


# ---------------------------------------------------------------- running totals


def near(predicted):
    """Of one prediction: how near it is to each knot, linearly between them."""
    return [float(np.interp(predicted, calibration.KNOTS, unit)) for unit in np.eye(len(calibration.KNOTS))]


def test_the_shift_is_the_mean_residual_of_such_predictions():
    rng = np.random.default_rng(6)
    piece, size = Calibration(), len(calibration.KNOTS)
    residual, traces = [0.0] * size, [0.0] * size
    for step in range(20):
        new = float(step % 3 > 0)
        predicted = np.r_[rng.random(4), 0.0, 1.0, calibration.KNOTS[2]]
        groups = [rng.integers(0, 2, rng.integers(0, 4)).astype(float) for _ in predicted]
        piece.learn(predicted, batch_of(groups), 1.0, new=new)
        residual, traces = ([calibration.KEEP**new * x for x in part] for part in (residual, traces))
        for p, z in zip(predicted, groups, strict=True):
            for k, share in enumerate(near(p)):
                residual[k] += share * sum(x - p for x in z)
                traces[k] += share * len(z)
    places = np.linspace(0.0, 1.0, 51)
    at_knots = [r / (n + calibration.TRUST) for r, n in zip(residual, traces, strict=True)]
    expected = [sum(a * b for a, b in zip(near(p), at_knots, strict=True)) for p in places]
    np.testing.assert_allclose(piece.shift(places), expected, **CLOSE)


def test_the_shift_is_found_where_it_is():
    """Predictions of .98 that hold in 90% are .08 too high; those of the middle stay."""
    rng, piece = np.random.default_rng(7), Calibration()
    predicted = np.r_[np.full(50, 0.98), np.full(50, 0.4)]
    for _ in range(400):
        hits = rng.random(100) < np.r_[np.full(50, 0.9), np.full(50, 0.4)]
        piece.learn(predicted, batch_of([[float(hit)] for hit in hits]), 1.0, new=1.0)
    np.testing.assert_allclose(piece.shift(np.array([0.98, 0.4])), [-0.08, 0.0], atol=0.02)
    shift, traces = piece.shift(np.array([0.98])), piece.sums[1].sum()
    piece.carry(np.float64(0.25), np.float64(0.75))
    assert piece.sums[1].sum() == pytest.approx(traces / 2)
    assert 0.4 < piece.shift(np.array([0.98])) / shift < 0.5
    piece.carry(np.float64(0.4), np.float64(0.4))
    assert not piece.shift(np.array([0.98]))


@pytest.mark.parametrize(("row", "value"), [(0, 2.0), (0, -2.0), (1, -1.0), (1, np.nan)])
def test_a_shift_beyond_the_range_was_not_learned(row, value):
    piece = Calibration()
    piece.learn(np.array([0.5]), batch_of([[1.0]]), 1.0, new=0.0)
    state = piece.state_dict()
    Calibration().load_state_dict(state)
    state["sums"][row, 3] = value
    with pytest.raises(CheckpointError):
        piece.load_state_dict(state)


def batch_of(rewards, prompts=None, weights=None):
    """A list of groups of rewards; weights alike."""
    weights = [np.ones(len(z)) for z in rewards] if weights is None else weights
    sums = [
        [len(z), w.sum(), w @ z, w @ w, (w * w) @ z, (w * w) @ (z * z), (w**3).sum()]
        for z, w in zip(map(np.asarray, rewards), map(np.asarray, weights), strict=True)
    ]
    return GroupSums(
        np.arange(len(rewards)) if prompts is None else np.asarray(prompts), *np.array(sums, float).T.copy()
    )


def told(running, rewards, new=1.0, predicted=0.5, error=0.0):
    flat = np.concatenate(rewards)
    size = np.ones(len(rewards))
    batch = batch_of(rewards)
    return running.learn(predicted * size, error * size, batch, batch.w.sum(), flat.min(), flat.max(), new=new)


def test_the_range_and_the_mean_grow_with_what_is_seen():
    running = Running()
    assert running.empty
    assert [float(x) for x in told(running, [[2.0, 2.0]], new=0.0)[:2]] == [0.0, 1.0]
    assert (running.low, running.span) == (2.0, 0.0)
    lower, upper, _ = told(running, [[4.0], [2.0, 4.0]])
    assert (float(lower), float(upper)) == (0.0, 0.0)  # all before were at the low end
    assert (running.low, running.span) == (2.0, 2.0)
    assert not running.between[0]
    keep = _running.KEEP_MEAN
    mass = keep * 2.0 + 3.0
    mean = 2.0 / mass  # of the shares: 0, 0, then 1, 0, 1
    assert running.mean == pytest.approx(mean)
    lower, upper, _ = told(running, [[0.0, 8.0]])
    assert (float(lower), float(upper)) == (0.25, 0.5)
    assert running.between[0]
    before = (0.25 + 0.25 * mean) * keep * mass
    assert running.mean == pytest.approx((before + 1.0) / (keep * mass + 2.0))


def test_a_reward_of_two_values_counts_one():
    running = Running()
    for step in range(20):
        told(running, [[0.0, 1.0, 1.0], [1.0]], new=float(step > 0), predicted=0.3)
    assert float(running.count) == 1.0


def test_rewards_of_less_variance_count_more():
    """About 1/2 with a variance of 1/64 in a range of 1: 16 times less than rewards of two values."""
    rng = np.random.default_rng(3)
    running = Running()
    told(running, [[0.0, 1.0]], new=0.0)
    for _ in range(100):
        told(running, [0.5 + 0.125 * rng.choice([-1.0, 1.0], 8) for _ in range(40)])
    assert float(running.count) == pytest.approx(16.0, rel=0.02)


# ---------------------------------------------------------------- the whole: a loop over prompts and filters


class Loop:
    """`Pool` for rewards 0 and 1 (both in the first batch), weights 1 and no late groups: over prompts and filters."""

    def __init__(self, how):
        self.filters = list(zip(*(part.tolist() for part in how.members), strict=True))
        self.walks = how.common
        self.level = []  # mean, variance, evidence
        self.loss, self.traces = [0.0] * len(self.filters), 0.0
        self.residual, self.seen = np.zeros(len(calibration.KNOTS)), np.zeros(len(calibration.KNOTS))
        self.beliefs, self.newest = {}, None  # prompt -> step and logit and variance of each filter

    def weights(self):
        variance = (min(self.loss) + rule.TRUST * rule.VARIANCE) / (self.traces + rule.TRUST)
        raw = [
            (STILL if walk == discount == 0 else 1.0) * math.exp(-rule.RATE * (x - min(self.loss)) / variance)
            for x, (_, walk, discount) in zip(self.loss, self.filters, strict=True)
        ]
        return [x / sum(raw) for x in raw]

    def averaged(self, level):
        raw = [
            (1.0 if walk else common.STILL) * math.exp(evidence)
            for walk, (*_, evidence) in zip(self.walks, level, strict=True)
        ]
        return sum(w * mean for w, (mean, *_) in zip(raw, level, strict=True)) / sum(raw)

    def beta(self, prompt, step, level):
        """alpha and beta of each filter at a step."""
        out = []
        for m, (prior, walk, discount) in enumerate(self.filters):
            x, v = 0.0, 4.0 / prior
            if prompt in self.beliefs:
                past, held = self.beliefs[prompt]
                x, v = held[m]
                v = v * math.exp(discount * (step - past)) + walk**2 * (step - past)
            odds = math.exp(x + level)
            out.append(((1.0 + odds) / v, (1.0 + 1.0 / odds) / v))
        return out

    def score(self, prompt, step, rewards):
        """Score and information of a group about the common level."""
        w, law = self.weights(), self.beta(prompt, step, self.averaged(self.level))
        p = sum(u * a / (a + b) for u, (a, b) in zip(w, law, strict=True))
        square = sum(u * a * (a + 1) / ((a + b) * (a + b + 1)) for u, (a, b) in zip(w, law, strict=True))  # E V^2
        error, noise = square - p * p, p - square
        n = len(rewards)
        factor = noise / (n * error + noise)
        return factor * (sum(rewards) - n * p), factor * noise * n

    def filtered(self, score, information, step):
        """Mean, variance and log-likelihood of each filter of the bank after an observation."""
        expected, out = self.averaged(self.level), []
        for (mean, variance, _), walk in zip(self.level, self.walks, strict=True):
            variance += walk**2 * (0.0 if self.newest is None else step - self.newest)
            spread = 1.0 + variance * information
            surprise = score - information * (mean - expected)
            fit = -0.5 * (math.log(spread) + (surprise**2 / information / spread if information else 0.0))
            out.append([mean + variance * surprise / spread, variance / spread, fit])
        return out

    def begun(self, groups):
        """The level of a first batch, in which more traces of a prompt are worth less than those of others."""
        kappa = sum(w * prior for w, (prior, *_) in zip(self.weights(), self.filters, strict=True))
        worth = [len(z) * (kappa + 1) / (len(z) + kappa) for z in groups.values()]
        right = sum(n * sum(z) / len(z) for n, z in zip(worth, groups.values(), strict=True)) + common.START
        wrong = sum(worth) + 2 * common.START - right
        return [math.log(right / wrong), 1 / right + 1 / wrong, 0.0]

    def joined(self, after, keep):
        """The bank after an observation; what it said before counts that share."""
        return [[mean, v, keep * old + fit] for (mean, v, fit), (*_, old) in zip(after, self.level, strict=True)]

    def shown(self, groups, step):
        """Score and information of several groups."""
        scores = [self.score(prompt, step, z) for prompt, z in groups.items()]
        return sum(u for u, _ in scores), sum(i for _, i in scores)

    def law(self, prompt, groups, step):
        """alpha and beta of each filter for a prompt, by the level that the others show."""
        others = {other: z for other, z in groups.items() if other != prompt}
        level = self.averaged(self.joined(self.filtered(*self.shown(others, step), step), 1.0))
        return self.beta(prompt, step, level)

    def values(self, groups, step):
        """Of each trace; groups: prompt -> rewards."""
        out = {}
        for prompt, rewards in groups.items():
            law, w, total, n = self.law(prompt, groups, step), self.weights(), sum(rewards), len(rewards)
            out[prompt] = [
                sum(u * (a + total - z) / (a + b + n - 1) for u, (a, b) in zip(w, law, strict=True)) for z in rewards
            ]
        return out

    def learn(self, groups, step):
        learned = self.newest is not None
        if learned:
            self.residual, self.seen = calibration.KEEP * self.residual, calibration.KEEP * self.seen
            for prompt, rewards in groups.items():
                law = self.law(prompt, groups, step)
                p = sum(u * a / (a + b) for u, (a, b) in zip(self.weights(), law, strict=True))
                self.residual += np.array(near(p)) * (sum(rewards) - len(rewards) * p)
                self.seen += np.array(near(p)) * len(rewards)
            self.level = self.joined(self.filtered(*self.shown(groups, step), step), common.KEEP)
        else:
            self.level = [self.begun(groups) for _ in self.walks]
        level, loss = self.averaged(self.level), [0.0] * len(self.filters)
        for prompt, rewards in groups.items():
            law, total, n = self.beta(prompt, step, level), sum(rewards), len(rewards)
            for m, (a, b) in enumerate(law):
                loss[m] += sum((z - (a + total - z) / (a + b + n - 1)) ** 2 for z in rewards)
            moved = [(a + total, b + n - total) for a, b in law]
            self.beliefs[prompt] = step, [(math.log(a / b) - level, 1.0 / a + 1.0 / b) for a, b in moved]
        keep = rule.KEEP**learned
        self.loss = [keep * x + y for x, y in zip(self.loss, loss, strict=True)]
        self.traces = keep * self.traces + sum(map(len, groups.values()))
        self.newest = step


@pytest.mark.parametrize(
    "how",
    [Pooling(), Pooling((2.0,), (0.1,), (), (0.0,)), Pooling((0.5, 3.0), (0.0, 0.4), (0.3,), (0.0, 0.5))],
    ids=repr,
)
def test_the_whole_is_a_loop_over_prompts_and_filters(how):
    rng = np.random.default_rng(4)
    value = rng.beta(1, 1, 12)
    est, loop, step = KernelValueEstimator(pooling=how), Loop(how), 1
    for batch in range(15):
        groups = {}
        for prompt in rng.choice(12, 6, replace=False).tolist():
            groups[prompt] = rng.binomial(1, value[prompt], rng.integers(1, 5)).astype(float).tolist()
        if not batch:
            groups = {0: [1.0, 0.0], **groups}
        ids = [prompt for prompt, z in groups.items() for _ in z]
        z = [x for own in groups.values() for x in own]
        if batch:
            expected = [v for own in loop.values(groups, step).values() for v in own]
            np.testing.assert_allclose(est.values(ids, z, step).value, expected, rtol=1e-10, atol=1e-10)
        est.observe(ids, z, step)
        loop.learn(groups, step)
        value = np.clip(value + rng.normal(0, 0.05, 12), 0.01, 0.99)
        step += int(rng.integers(1, 4))
    np.testing.assert_allclose(est._state.pool.weights.weights(), loop.weights(), rtol=1e-9)
    np.testing.assert_allclose(est._state.pool.calibration.sums, [loop.residual, loop.seen], rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- several groups of a prompt, and late ones


def asked(pool, rewards, prompts, steps, notes=None, newest=None):
    """What is asked of a pool; of prompts 0, 1, .. with what is noted of each, and its newest step."""
    prompts, steps = np.asarray(prompts), np.asarray(steps, float)
    size = prompts.max() + 1
    notes = np.zeros((size, pool.width)) if notes is None else notes
    newest = np.zeros(size) if newest is None else np.asarray(newest, float)
    known = newest[prompts] > 0
    first_group = np.searchsorted(prompts, prompts)
    turn = np.arange(len(prompts)) - first_group
    chain = Chain(first_group, turn, int(turn.max()) + 1) if turn.any() else None
    gap = steps - np.where(known, newest[prompts], steps[first_group])
    ends = (np.array([end(z) for z in rewards]) for end in (np.min, np.max))
    return Query(batch_of(rewards, prompts), known, notes[prompts], gap, *ends, steps.max(), chain)


def beliefs_of(pool, ask):
    """What the pool would note of each group's prompt, with the range, the level and all else as they are."""
    made = pool.forecast(ask)
    return pool._updated(ask, made.notes, made.offset, made.inside, made.filters, made.shared)[0][:, 2:]


def used(how=None):
    """A pool that has seen rewards of 0 and 1 of two prompts, at step 1."""
    pool = Pool(how or Pooling())
    first = asked(pool, [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], [0, 1], [1, 1])
    return pool, pool.learn(first, pool.forecast(first))


@pytest.mark.parametrize("newest", [[1, 1], [0, 0]], ids=["known", "new"])
def test_several_steps_of_a_prompt_are_learned_in_their_order(newest):
    pool, notes = used()
    rewards, steps = [[1.0, 1.0], [0.0], [1.0, 0.0], [0.0, 0.0]], [3, 6, 7, 6]
    together = beliefs_of(pool, asked(pool, rewards, [0, 0, 0, 1], steps, notes, newest))
    alone, last = notes.copy(), list(newest)
    for prompt, step, z in ((0, 3, rewards[0]), (0, 6, rewards[1]), (0, 7, rewards[2]), (1, 6, rewards[3])):
        own = asked(pool, [z], [prompt], [step], alone, last)
        alone[prompt, 2:], last[prompt] = beliefs_of(pool, own)[0], step
        alone[prompt, :2] = 0.0, 1.0
    np.testing.assert_allclose(together[[0, 3]], alone[:, 2:], **CLOSE)
    for row in (1, 2):
        np.testing.assert_array_equal(together[0], together[row])


def test_a_late_group_counts_as_much_as_its_prompt_has_not_moved_since():
    """Filters that stand still: as if it had come in time; those that forget all: nothing changes."""
    pool, notes = used(Pooling((2.0,), (0.0, 100.0), (), (0.0,)))
    level = pool.common.expected().item()
    late = beliefs_of(pool, asked(pool, [[1.0, 1.0]], [0], [3], notes, [9]))
    alpha, beta = beta_law(notes[0, 2:4], notes[0, 4:], level)
    logit, variance = logit_law(alpha + 2.0, beta, level)
    before = notes[0, 2:]
    assert late[0, 0] == pytest.approx(logit[0], rel=1e-9)
    assert late[0, 2] == pytest.approx(variance[0], rel=1e-9)
    np.testing.assert_allclose(late[0, [1, 3]], before[[1, 3]], atol=1e-3)


@pytest.mark.parametrize("gap", [0, -3])
def test_a_group_of_a_billion(gap):
    pool, notes = used()
    ask = asked(pool, [[1.0]], [0], [9], notes, [9 - gap])
    ask = ask._replace(batch=GroupSums(ask.batch.prompt, *np.array([[1e9, 1e9, 3e8, 1e9, 3e8, 3e8, 1e9]]).T))
    after = beliefs_of(pool, ask)[0]
    size = len(after) // 2
    assert (after[size:] > 0).all()
    if not gap:
        alpha, beta = beta_law(after[:size], after[size:], pool.common.expected().item())
        np.testing.assert_allclose(alpha, 3e8, rtol=1e-6)
        np.testing.assert_allclose(beta, 7e8, rtol=1e-6)


@given(st.integers(0, 60), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_late_group_says_no_more_than_one_in_time(gap, right, wrong):
    pool, notes = used()
    if right + wrong == 0:
        right = 1
    z = [1.0] * right + [0.0] * wrong
    late = beliefs_of(pool, asked(pool, [z], [0], [100], notes, [100 + gap]))[0]
    size = len(late) // 2
    now = beliefs_of(pool, asked(pool, [z], [0], [100], notes, [100]))[0]
    before = notes[0, 2:]
    assert (late[size:] > 0).all()
    assert (late[size:] <= before[size:] * (1 + 1e-12)).all()
    assert (late[size:] >= now[size:] * (1 - 1e-9)).all()


# ---------------------------------------------------------------- features


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


@pytest.mark.parametrize("seed", range(5))
def test_features_that_all_prompts_share_tell_nothing(seed):
    """What of them differs from their mean is rounding, and what would be fitted to it, too."""
    rng = np.random.default_rng(seed)
    prior, x = FeaturePrior(5), np.tile(rng.normal(size=5), (7, 1))
    for step in range(4):
        prior.learn(x, 1.0, rng.random(7), rng.random(7), np.ones(7, bool), new=step > 0)
        assert np.abs(prior.trial).max() < 1e-20
        assert np.abs(prior.deviation(x, 1.0)).max() < 1e-12


def test_offline_features():
    got = offline_features([3, 5], [0.25, 1.0], 4)
    assert got[3][0] == pytest.approx(math.log(1.5 / 3.5))
    assert got[5][0] == pytest.approx(math.log(4.5 / 0.5))


# ---------------------------------------------------------------- state


def test_state_round_trip_and_damage():
    rng = np.random.default_rng(9)
    est = KernelValueEstimator()
    for step in range(1, 20):
        est.advantages(np.repeat(np.arange(30), 2), rng.integers(0, 2, 60).astype(float), step)
    pool = est._state.pool
    again = Pool(Pooling())
    again.load_state_dict(pool.state_dict())
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, pool.state_dict()[name])
    with pytest.raises(CheckpointError, match="loss of the pooled state must be"):
        Pool(Pooling(walks=(0.0,))).load_state_dict(pool.state_dict())


def test_memory_beside_the_history_does_not_grow_with_prompts():
    sizes = []
    for prompts in (20, 2000):
        est = KernelValueEstimator()
        for step in range(1, 5):
            est.observe(np.arange(prompts), np.arange(prompts) % 2.0, step)
        sizes.append(sum(array.nbytes for name, array in est.state_dict().items() if name.startswith("pool.")))
    assert sizes[0] == sizes[1] < 2_000


def test_the_sum_over_other_prompts_has_no_part_of_the_own_one():
    prompt, x = np.array([0, 0, 1, 2, 2]), np.array([1e17, 1.0, 0.25, 1e-9, 3.0])
    (others,) = NUMPY.sum_of_others(prompt, x)
    for row, own in enumerate(prompt):
        assert others[row] == math.fsum(x[prompt != own])
    (again,) = NUMPY.sum_of_others(prompt, np.where(prompt == 1, np.array(-7e30), x))
    assert again[2] == others[2]
