"""Laws of the pooled estimator: what may enter a value, and what must not change it."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernadv import CheckpointError, KernelValueEstimator, Pooling
from kernadv.baselines import SideInformation
from kernadv.baselines._base import NOTHING, Traces
from kernadv.baselines.pooled import PooledKernel
from kernadv.groups import Groups

FEATURES = {k: [k / 7.0, float(k % 3)] for k in range(8)}
SMALL = Pooling(priors=(1.0, 3.0), walks=(0.0, 0.2), discounts=(0.1,), common=(0.0, 0.2))
MAKE = {
    "default": KernelValueEstimator,
    "one filter": lambda: KernelValueEstimator(pooling=Pooling((2.0,), (0.1,), (), (0.0,))),
    "weighted": lambda: KernelValueEstimator(weighted=True),
    "features": lambda: KernelValueEstimator(features=FEATURES),
    "late": lambda: KernelValueEstimator(allow_late=True),
    "weighted late features": lambda: KernelValueEstimator(features=FEATURES, weighted=True, allow_late=True),
}
every = pytest.mark.parametrize("name", MAKE)
unweighted = pytest.mark.parametrize("name", ["default", "one filter", "features", "late"])


def batches(name, seed, steps=12, rewards="bits", several=True):
    """Ids, rewards, steps and weights: unequal groups, some rewards NaN, some batches of several steps."""
    rng = np.random.default_rng(seed)
    for step in range(2, 3 * steps, 3):
        size = int(rng.integers(2, 18))
        ids = rng.integers(0, 8, size)
        z = {
            "bits": rng.integers(0, 2, size).astype(float),
            "real": rng.normal(size=size),
            "three": rng.choice([-1.0, 0.5, 1.0], size),
        }[rewards]
        z[rng.random(size) < 0.1] = np.nan
        at = np.full(size, step)
        if several and step % 2:
            at = step + rng.integers(0, 3, size)
        if "late" in MAKE and "late" in name and step % 4 == 0:
            at = np.maximum(at - rng.integers(0, 12, size), 1)
        yield ids, z, at, {"weights": rng.gamma(2.0, 1.0, size) + 0.01} if "weighted" in name else {}


def value_of(est, batch, z=None):
    """Parts of the estimate, and the baseline."""
    ids, own, at, weights = batch
    z = own if z is None else z
    return *est.values(ids, z, at), est.baselines(ids, z, at, **weights)


def close(a, b):
    """But for rounding, of the mean weight of the others in the first batch: the weight of an unscored trace is 0."""
    np.testing.assert_allclose(a, b, rtol=1e-12)


def learn(est, batch):
    ids, z, at, weights = batch
    est.observe(ids, z, at, **weights)


# ---------------------------------------------------------------- what enters a value


@every
@pytest.mark.parametrize("rewards", ["bits", "real"])
def test_the_own_reward_never_enters(name, rewards):
    """Bit for bit, whatever it is: within the range seen, far beyond it, or missing."""
    est = MAKE[name]()
    for batch in batches(name, 1, rewards=rewards):
        before = value_of(est, batch)
        for row in range(len(batch[1])):
            for other in (0.0, 1.0, -7.5, 1e80, np.nan):
                z = batch[1].copy()
                z[row] = other
                *parts, baseline = zip(before, value_of(est, batch, z), strict=True)
                for a, b in parts:
                    np.testing.assert_array_equal(a[row], b[row])
                same = np.testing.assert_array_equal if "weights" not in batch[3] or other == other else close
                if before[3][row] or "weights" in batch[3]:  # else it is the mean of the others', of the batch
                    same(baseline[0][row], baseline[1][row])
        learn(est, batch)


@every
@pytest.mark.parametrize("rewards", ["bits", "real"])
def test_the_own_reward_never_enters_an_interval(name, rewards):
    """Bit for bit, once something was learned."""
    est = MAKE[name]()
    for count, batch in enumerate(batches(name, 19, steps=8, rewards=rewards)):
        ids, z, at, _weights = batch
        before = est.intervals(ids, z, at)
        for row in range(len(z) if count else 0):
            for other in (1.0 - z[row], 1e3):
                changed = np.where(np.arange(len(z)) == row, other, z)
                for a, b in zip(before, est.intervals(ids, changed, at), strict=True):
                    np.testing.assert_array_equal(a[row], b[row])
        learn(est, batch)


@every
def test_only_the_past_and_the_batch_enter(name):
    """What is learned from a batch, with its own rewards changed, changes values of later batches only."""
    one, two = MAKE[name](), MAKE[name]()
    stream = list(batches(name, 2))
    for batch in stream[:5]:
        learn(one, batch)
        learn(two, batch)
    seen = value_of(one, stream[6])
    for a, b in zip(seen, value_of(two, stream[6]), strict=True):
        np.testing.assert_array_equal(a, b)
    ids, z, at, weights = stream[5]
    two.observe(ids, 1.0 - z, at, **weights)
    learn(one, stream[5])
    for a, b in zip(
        *(np.stack(value_of(est, stream[6])[::4]) for est in (one, two)), strict=True
    ):  # value and baseline
        assert not np.array_equal(a, b)


def test_the_gradient_is_unbiased():
    """All outcomes of a batch enumerated: E sum (Z - V) dlog P/dp is the derivative of the expected reward, 1 a trace."""
    rng = np.random.default_rng(3)
    ids, p = np.array([0, 0, 0, 1, 1, 2, 9]), np.array([0.2, 0.2, 0.2, 0.7, 0.7, 0.5, 0.9])
    for est in (KernelValueEstimator(), KernelValueEstimator(pooling=SMALL), MAKE["one filter"]()):
        for step in range(1, 12):
            rows = rng.integers(0, 4, 8)
            est.observe(rows, rng.integers(0, 2, 8).astype(float), step)
        total = np.zeros(len(p))
        for outcome in itertools.product([0.0, 1.0], repeat=len(p)):
            z = np.array(outcome)
            chance = np.prod(np.where(z == 1, p, 1 - p))
            total += chance * (z - est.values(ids, z, 12).value) * (z - p) / (p * (1 - p))
        np.testing.assert_allclose(total, 1.0, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- what must not matter


@every
@pytest.mark.parametrize("rewards", ["bits", "three", "real"])
@pytest.mark.parametrize(("origin", "unit"), [(0.0, -1.0), (0.0, 5.0), (3.0, 0.25), (-2.0, -1.5)])
def test_an_affine_map_of_the_rewards_maps_the_values(name, rewards, origin, unit):
    one, two = MAKE[name](), MAKE[name]()
    for ids, z, at, weights in batches(name, 4, rewards=rewards):
        a, b = one.values(ids, z, at), two.values(ids, origin + unit * z, at)
        lower, other = (e.baselines(ids, x, at, **weights) for e, x in ((one, z), (two, origin + unit * z)))
        np.testing.assert_allclose(other, origin + unit * lower, rtol=0, atol=1e-9 * abs(unit))
        np.testing.assert_array_equal(a.defined, b.defined)
        np.testing.assert_allclose(b.value, origin + unit * a.value, rtol=0, atol=1e-9 * abs(unit))
        np.testing.assert_allclose(b.n_eff, a.n_eff, rtol=1e-6)
        np.testing.assert_allclose(b.variance, unit**2 * a.variance, rtol=1e-6)
        one.observe(ids, z, at, **weights)
        two.observe(ids, origin + unit * z, at, **weights)


@every
@pytest.mark.parametrize("rewards", ["bits", "three", "real"])
@pytest.mark.parametrize(("origin", "unit"), [(0.0, -1.0), (3.0, 0.25), (-2.0, -1.5)])
def test_an_affine_map_of_the_rewards_maps_the_intervals(name, rewards, origin, unit):
    """A mirror exchanges their ends; nor do they depend on the order of the rows."""
    one, two = MAKE[name](), MAKE[name]()
    rng = np.random.default_rng(20)
    for ids, z, at, weights in batches(name, 20, rewards=rewards):
        order = rng.permutation(len(z))
        mapped = ids[order], origin + unit * z[order], at[order]
        other = {key: w[order] for key, w in weights.items()}
        expected = [origin + unit * end[order] for end in one.intervals(ids, z, at)]
        got = two.intervals(*mapped)
        for a, b in zip(got, expected[:: int(np.sign(unit))], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * abs(unit))
        one.observe(ids, z, at, **weights)
        two.observe(*mapped, **other)


@every
@pytest.mark.parametrize("origin", [1e3 / 3, -1e6 / 7, 1e6 / 3, 1e8 / 3])
def test_an_origin_that_is_far_costs_no_more_digits_than_the_rewards_have(name, origin):
    """Rewards of two values stay such, wherever these are."""
    one, two = MAKE[name](), MAKE[name]()
    for ids, z, at, weights in batches(name, 16):
        a, b = one.advantages(ids, z, at, **weights), two.advantages(ids, origin + z, at, **weights)
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-15 * abs(origin))
    pools = (two._state.pool.value, two._state.pool.baseline) if two.weighted else (two._state.pool,)
    assert not any(pool.running.between[0] for pool in pools)


@every
@pytest.mark.parametrize("rewards", ["bits", "real"])
def test_the_order_of_the_rows_and_the_names_of_the_prompts_do_not_matter(name, rewards):
    one, two = MAKE[name](), MAKE[name]()
    rng = np.random.default_rng(5)
    text = "features" not in name
    for ids, z, at, weights in batches(name, 5, rewards=rewards):
        order = rng.permutation(len(z))
        names = [f"p{7 - k}" for k in ids[order]] if text else ids[order]
        a = one.advantages(ids, z, at, **weights)
        b = two.advantages(names, z[order], at[order], **{k: w[order] for k, w in weights.items()})
        np.testing.assert_allclose(b, a[order], rtol=0, atol=1e-9)


@unweighted
def test_unscored_traces_are_as_if_they_were_not_there(name):
    one, two = MAKE[name](), MAKE[name]()
    for ids, z, at, _ in batches(name, 6):
        scored = ~np.isnan(z)
        a = one.advantages(ids, z, at)
        np.testing.assert_array_equal(a[~scored], 0.0)
        if scored.any():
            np.testing.assert_allclose(two.advantages(ids[scored], z[scored], at[scored]), a[scored], rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 2.0, 1.3e-12])
def test_equal_weights_are_no_weights(factor):
    plain, weighted = KernelValueEstimator(), KernelValueEstimator(weighted=True)
    for ids, z, at, _ in batches("default", 7, rewards="three"):
        w = np.full(len(z), factor)
        for one, two in zip(plain.values(ids, z, at), weighted.values(ids, z, at), strict=True):
            np.testing.assert_array_equal(two, one)
        a, b = plain.baselines(ids, z, at), weighted.baselines(ids, z, at, weights=w)
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
        plain.observe(ids, z, at)
        weighted.observe(ids, z, at, weights=w)


def test_traces_without_weight_are_as_if_they_were_not_there():
    """For the baseline a prompt of such traces alone is new, also in a batch of several steps; others stay the same."""

    def baselines(which, ids):
        return which.baselines(ids, [np.nan] * len(ids), 9, weights=np.ones(len(ids)))

    for step, at in ((3, 3), (2, 2), (2, [2, 2, 4, 5])):
        one, two = KernelValueEstimator(weighted=True), KernelValueEstimator(weighted=True)
        for est in (one, two):
            est.observe(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], 1, weights=[1.0, 2.0, 0.5, 1.0])
        if step == 2:  # beside others
            one.observe(["a", "c", "c", "c"], [1.0, 1.0, 0.0, 1.0], at, weights=[1.0, 0.0, 1e-80, 1e-90])
            two.observe(["a"], [1.0], 2, weights=[1.0])
        else:
            one.observe(["c", "c"], [1.0, 1.0], at, weights=[1e-80, 1e-90])
        ids = ["c", "d", "a", "b"]
        found = baselines(one, ids)
        assert found[0] == found[1]
        value = one.values(ids, [np.nan] * 4, 9).value
        assert value[0] != value[1]  # the value knows of them
        again = KernelValueEstimator(weighted=True)
        again.load_state_dict(one.state_dict())
        np.testing.assert_array_equal(baselines(again, ids), found)
        if step == 3:
            np.testing.assert_allclose(found[2:], baselines(two, ["a", "b"]), rtol=1e-12)


# ---------------------------------------------------------------- the baseline


@pytest.mark.parametrize("k", [0.25, 2.0, 3.0])
@pytest.mark.parametrize(("origin", "unit"), [(0.0, 1.0), (-1.0, 2.0), (5.0, -0.5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pessimism_tilts_what_is_subtracted(k, origin, unit, weighted):
    """By the formula on the range of the rewards, from the second batch on; values and intervals stay."""
    kind = "weighted" if weighted else "default"
    plain, tilted = (KernelValueEstimator(weighted=weighted, pessimism=x) for x in (1.0, k))
    for count, (ids, z, at, weights) in enumerate(batches(kind, 23)):
        z = origin + unit * z
        one, two = (est.baselines(ids, z, at, **weights) for est in (plain, tilted))
        share = (one - min(origin, origin + unit)) / abs(unit)
        want = min(origin, origin + unit) + abs(unit) * share / (share + (1 - share) * k)
        np.testing.assert_allclose(two, want if count else one, rtol=0, atol=1e-12)
        for a, b in zip(plain.values(ids, z, at), tilted.values(ids, z, at), strict=True):
            np.testing.assert_array_equal(a, b)
        advantage = tilted.advantages(ids, z, at, **weights)
        np.testing.assert_array_equal(advantage, np.where(np.isnan(z), 0.0, z - two))
        plain.observe(ids, z, at, **weights)


def test_a_pessimism_needs_rewards_with_two_ends():
    plain, tilted = KernelValueEstimator(), KernelValueEstimator(pessimism=3.0)
    for est in (plain, tilted):
        est.observe(["a", "a", "b", "b"], [1.0, 0.0, 0.5, 1.0], 1)
    one, two = (est.baselines(["a", "b"], [1.0, 0.0], 2) for est in (plain, tilted))
    np.testing.assert_array_equal(one, two)


def test_the_baseline_by_weight_is_b_star():
    """Values that stand still, wrong traces of three times the weight."""
    rng, value = np.random.default_rng(0), np.linspace(0.1, 0.9, 20)
    est = KernelValueEstimator(weighted=True)
    for step in range(1, 151):
        ids = np.repeat(np.arange(20), 4)
        z = (rng.random(80) < value[ids]) * 1.0
        est.observe(ids, z, step, weights=np.where(z == 1, 1.0, 3.0))
    found = est.baselines(np.arange(20), np.full(20, np.nan), 151, weights=np.ones(20))
    np.testing.assert_allclose(found, value / (value + 3 * (1 - value)), atol=0.09)
    np.testing.assert_allclose(est.values(np.arange(20), np.full(20, np.nan), 151).value, value, atol=0.09)


# ---------------------------------------------------------------- ranges, clocks, sizes


STREAMS = {
    "0 and 1, then 2": [[0.0, 1.0], [1.0, 0.0], [1.0, 2.0], [0.0, 2.0], [1.0, 1.0]],
    "-1 and 1": [[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]],
    "equal, then above": [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]],
    "equal, then below": [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]],
    "equal, then both sides": [[0.5, 0.5], [0.5, 0.5], [1.0, 0.0], [0.5, 1.0]],
    "always equal": [[3.0, 3.0]] * 4,
    "growing each time": [[0.0, 2.0**k] for k in range(8)],
    "far apart": [[0.0, 1e-60], [0.0, 1.0], [1.0, 1e60], [0.0, 1.0]],
}


@pytest.mark.parametrize("stream", STREAMS)
def test_ranges_that_grow(stream):
    """All is finite, values lie between the rewards, and a saved state goes on bit for bit."""
    est, seen = KernelValueEstimator(), []
    for step, pair in enumerate(STREAMS[stream], 1):
        z = np.array([*pair, *pair[::-1], pair[0]])
        ids = ["a", "a", "b", "b", "c"] if step % 2 else ["a", "d", "d", "b", "b"]
        estimate = est.values(ids, z, step)
        lowest, highest = min([*seen, *pair]), max([*seen, *pair])
        rounding = 1e-12 * max(abs(lowest), abs(highest))
        assert ((estimate.value >= lowest - rounding) & (estimate.value <= highest + rounding)).all()
        again = KernelValueEstimator()
        again.load_state_dict(est.state_dict())
        np.testing.assert_array_equal(again.advantages(ids, z, step), est.advantages(ids, z, step))
        low, high = est.intervals(ids, z, step)
        assert (low <= high).all()
        assert all(np.isfinite(part).all() for part in est.state_dict().values())
        seen += pair


def test_rewards_all_equal_are_their_value():
    est = KernelValueEstimator()
    for step in range(1, 6):
        estimate = est.values(["a", "a", "b"], [3.3, 3.3, 3.3], step)
        np.testing.assert_array_equal(estimate.value, 3.3)
        est.observe(["a", "a", "b"], [3.3, 3.3, 3.3], step)


def test_a_belief_is_carried_into_a_wider_range():
    """A prompt that was at 3/4 of a range stays about there in rewards, when the range is doubled by another prompt."""
    est = KernelValueEstimator(pooling=Pooling((0.5,), (0.0,), (), (0.0,)))
    for step in range(1, 40):
        est.observe(["a"] * 4 + ["b"] * 4, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0], step)
    est.observe(["b", "b"], [0.0, 2.0], 40)
    after = est.values(["a", "b"], [np.nan] * 2, 41)
    assert after.value[0] == pytest.approx(0.75, abs=0.02)
    assert est.explain("a")["n_eff"] > 20  # and most of its worth: it has 156 rollouts, of another law


@every
@pytest.mark.parametrize("unit", [1e90, 1e-90])
def test_rewards_of_any_size(name, unit):
    one, two = MAKE[name](), MAKE[name]()
    for ids, z, at, weights in batches(name, 9, rewards="real"):
        a, b = one.advantages(ids, z, at, **weights), two.advantages(ids, unit * z, at, **weights)
        np.testing.assert_allclose(b / unit, a, rtol=0, atol=1e-9)


@pytest.mark.parametrize("gap", [2**20, 2**50])
def test_gaps_of_any_length(gap):
    """What a prompt was so long ago says nothing to filters that move; nothing overflows."""
    est = KernelValueEstimator()
    for step in range(1, 20):
        est.observe(["a"] * 4 + ["b"] * 4, [1.0] * 4 + [0.0, 1.0, 0.0, 0.0], step)
    before = est.values(["a"], [np.nan], 20)
    after = est.values(["a"], [np.nan], gap)
    assert after.n_eff[0] < before.n_eff[0]
    assert np.isfinite(after.value[0])
    est.observe(["a", "b"], [0.0, 1.0], gap)
    assert np.isfinite(est.values(["a", "b", "c"], [np.nan] * 3, gap + 1).value).all()
    est.load_state_dict(est.state_dict())


def test_a_group_of_a_hundred_thousand():
    est, rng = KernelValueEstimator(), np.random.default_rng(10)
    est.observe([1, 1], [0.0, 1.0], 1)
    z = (rng.random(10**5) < 0.3).astype(float)
    ids = np.zeros(10**5, int)
    estimate = est.values(ids, z, 2)
    np.testing.assert_allclose(estimate.value, (z.sum() - z) / (len(z) - 1), atol=1e-4)
    np.testing.assert_allclose(estimate.variance, 0.21 / 1e5, rtol=0.01)
    est.observe(ids, z, 2)
    assert est.values([0], [np.nan], 3).value[0] == pytest.approx(z.mean(), abs=0.01)
    est.load_state_dict(est.state_dict())


def test_a_late_visit_counts():
    """It moves the value of today towards it, by no more than if it came today."""

    def trained():
        est = KernelValueEstimator(allow_late=True)
        for step in range(1, 15):
            est.observe(["a", "a", "b", "b"], [1.0, 0.0, 0.0, 1.0], step)
        return est

    moves = []
    for step in (14, 8, 1):
        est = trained()
        before = est.values(["a"], [np.nan], 15).value[0]
        est.observe(["a"] * 4 + ["b"] * 4, [1.0] * 4 + [0.0] * 4, step)  # the common level stays
        moves.append(est.values(["a"], [np.nan], 15).value[0] - before)
    assert moves[0] > moves[1] > moves[2] > 0


# ---------------------------------------------------------------- how sure it is


def test_more_rollouts_are_worth_more():
    est = KernelValueEstimator()
    worth, variance = [], []
    for step in range(1, 40):
        est.observe(["a", "a", "b", "b"], [1.0, 0.0, 0.0, 1.0], step)
        estimate = est.values(["a"], [np.nan], step + 1)
        worth.append(estimate.n_eff[0])
        variance.append(estimate.variance[0])
    assert (np.diff(worth) > 0).all()
    assert worth[-1] > 4 * worth[0]
    assert worth[-1] <= 78 + 4.0
    np.testing.assert_allclose(variance, 0.25 / (np.array(worth) + 1.0), rtol=1e-6)


def test_a_trace_of_the_group_is_worth_one_rollout():
    est = MAKE["one filter"]()
    for step in range(1, 10):
        est.observe(["a", "a", "b"], [1.0, 0.0, 0.0], step)
    worth = [est.values(["a"] * n, [0.0, 1.0] * (n // 2), 10).n_eff[0] for n in (2, 8, 32)]
    np.testing.assert_allclose(np.diff(worth), [6.0, 24.0], rtol=1e-6)


def test_the_variance_is_that_of_the_values():
    """Of values drawn from the law the filters assume: squared errors are on average what is said."""
    rng = np.random.default_rng(11)
    value = rng.beta(1.0, 1.0, 400)
    est = KernelValueEstimator(pooling=Pooling((2.0,), (0.0,), (), (0.0,)))
    for step in range(1, 7):
        est.observe(np.repeat(np.arange(400), 2), rng.binomial(1, np.repeat(value, 2)).astype(float), step)
        estimate = est.values(np.arange(400), np.full(400, np.nan), step + 1)
        assert np.mean((estimate.value - value) ** 2) == pytest.approx(estimate.variance.mean(), rel=0.2)


# ---------------------------------------------------------------- replay


@pytest.mark.parametrize("how", [Pooling(), SMALL], ids=["default", "small"])
@pytest.mark.parametrize("rewards", ["bits", "real"])
def test_a_replay_is_the_online_estimator(how, rewards):
    rng = np.random.default_rng(12)
    rows, traces = [], []
    for step in range(1, 25):
        for prompt in np.sort(rng.choice(10, 5, replace=False)).tolist():
            z = rng.integers(0, 2, rng.integers(1, 5)).astype(float) if rewards == "bits" else rng.normal(size=3)
            rows.append((prompt, step, len(z), z.sum(), z @ z))
            traces.append((prompt, step, z))
    order = sorted(range(len(rows)), key=lambda k: rows[k][:2])
    columns = list(zip(*(rows[k] for k in order), strict=True))
    groups = Groups(*(np.array(column) for column in columns))
    side = (
        NOTHING if rewards == "bits" else SideInformation(traces=Traces(np.concatenate([traces[k][2] for k in order])))
    )
    level, gain, _ = PooledKernel(how).replay(groups, side)
    replayed = dict(
        zip(zip(groups.prompt.tolist(), groups.step.tolist(), strict=True), zip(level, gain, strict=True), strict=True)
    )
    est = KernelValueEstimator(pooling=how)
    for step in range(1, 25):
        own = [(prompt, z) for prompt, at, z in traces if at == step]
        ids, z = np.repeat([p for p, _ in own], [len(x) for _, x in own]), np.concatenate([x for _, x in own])
        got = est.values(ids, z, step)
        expected = np.concatenate([replayed[p, step][0] + replayed[p, step][1] * (x.sum() - x) for p, x in own])
        np.testing.assert_allclose(got.value[got.defined], expected[got.defined], rtol=0, atol=1e-12)
        est.observe(ids, z, step)


# ---------------------------------------------------------------- checkpoints


@every
@pytest.mark.parametrize("rewards", ["bits", "real"])
def test_a_loaded_state_goes_on_bit_for_bit(name, rewards):
    one, two = MAKE[name](), MAKE[name]()
    for batch in batches(name, 13, rewards=rewards):
        two = MAKE[name]()
        two.load_state_dict(one.state_dict())
        for a, b in zip(value_of(one, batch), value_of(two, batch), strict=True):
            np.testing.assert_array_equal(a, b)
        learn(one, batch)
        learn(two, batch)
        a, b = one.state_dict(), two.state_dict()
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[key], b[key]) for key in a)


@every
@pytest.mark.parametrize("how", [copy.deepcopy, lambda est: pickle.loads(pickle.dumps(est))], ids=["copy", "pickle"])
def test_copies_are_independent_and_equal(name, how):
    est, stream = MAKE[name](), list(batches(name, 18))
    for batch in stream[:6]:
        learn(est, batch)
    twin, before = how(est), est.state_dict()
    learn(twin, stream[6])
    assert all(np.array_equal(before[key], array) for key, array in est.state_dict().items())
    learn(est, stream[6])
    assert all(np.array_equal(twin.state_dict()[key], array) for key, array in est.state_dict().items())


def trained(**options):
    est = KernelValueEstimator(**options)
    rng = np.random.default_rng(14)
    for step in range(1, 10):
        est.observe(rng.integers(0, 5, 12), rng.integers(0, 2, 12).astype(float), step)
    return est


def changed(notes, row, column, value):
    notes = notes.copy()
    notes[row, column] = value
    return notes


NOTES = {
    "of fewer prompts": lambda x: x[:-1],
    "of fewer filters": lambda x: x[:, :-2],
    "flat": lambda x: x.ravel(),
    "NaN": lambda x: changed(x, 1, 5, np.nan),
    "infinite": lambda x: changed(x, 1, -1, np.inf),
    "a variance of 0": lambda x: changed(x, 2, -1, 0.0),
    "a variance below 0": lambda x: changed(x, 2, -3, -1.0),
    "a range beyond that of all": lambda x: changed(x, 0, 1, 2.0),
    "a range that ends before it begins": lambda x: changed(changed(x, 0, 0, 0.9), 0, 1, 0.1),
    "a logit out of all measure": lambda x: changed(x, 0, 4, 1e30),
    "text": lambda x: np.full(x.shape, "a"),
    "missing": None,
}


@pytest.mark.parametrize("damage", NOTES)
def test_damaged_notes_are_refused(damage):
    est = trained()
    state = est.state_dict()
    if NOTES[damage] is None:
        del state["notes"]
    else:
        state["notes"] = NOTES[damage](state["notes"])
    other = trained()
    other.observe([9], [1.0], 20)
    before = other.state_dict()
    with pytest.raises(CheckpointError):
        other.load_state_dict(state)
    after = other.state_dict()
    assert all(np.array_equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("saved", [trained(), trained(pooling=SMALL)], ids=["same width", "another width"])
def test_without_strict_the_visits_come_without_what_was_learned(saved):
    """Also saved again, and loaded; then it learns as a new one does."""
    how = Pooling(common=(0.0, 0.5)) if saved._rule.settings == Pooling() else Pooling()
    est = KernelValueEstimator(pooling=how)
    est.load_state_dict(saved.state_dict(), strict=False)
    assert est.metrics()["history_visits"] == saved.metrics()["history_visits"]
    again = KernelValueEstimator(pooling=how)
    again.load_state_dict(est.state_dict())
    fresh = KernelValueEstimator(pooling=how)
    for step in range(10, 20):
        batch = [0, 0, 1, 1, 7], [1.0, 0.0, 1.0, 1.0, 0.0], step
        got = [each.advantages(*batch) for each in (est, again, fresh)]
        np.testing.assert_array_equal(got[0], got[1])
        np.testing.assert_array_equal(got[0], got[2])
        again.load_state_dict(est.state_dict())


@pytest.mark.parametrize("limits", [{"max_visits": 2}, {"max_total": 12}, {"max_visits": 1, "max_total": 9}], ids=str)
def test_prompts_that_were_dropped_are_new(limits):
    """Their places in the history, and what is noted there, go to others."""
    est = KernelValueEstimator(**limits)
    rng = np.random.default_rng(15)
    for step in range(1, 60):
        ids = np.repeat(rng.choice(40, 5, replace=False), 2)
        known = est._state.history.find(np.unique(ids).tolist()) >= 0
        estimate = est.values(ids, np.full(10, np.nan), step)
        if not known.all() and step > 1:
            new = ~np.repeat(known, 2)[np.argsort(np.argsort(ids, kind="stable"), kind="stable")]
            stranger = est.values([999], [np.nan], step).value[0]
            np.testing.assert_allclose(estimate.value[new], stranger, atol=1e-12)
        est.observe(ids, rng.integers(0, 2, 10).astype(float), step)
        est.load_state_dict(est.state_dict())


@given(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=2, max_size=10), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_values_lie_in_the_range_of_the_rewards(z, seed):
    rng = np.random.default_rng(seed)
    est = KernelValueEstimator()
    for step in (1, 4, 5):
        ids = rng.integers(0, 3, len(z))
        estimate = est.values(ids, z, step)
        assert ((estimate.value >= 0) & (estimate.value <= 1))[estimate.defined].all()
        assert (estimate.n_eff[estimate.defined] > 0).all()
        est.observe(ids, z, step)
