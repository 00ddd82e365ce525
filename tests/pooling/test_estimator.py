"""The default estimator against simulated truth: weighted values, components, explanations, intervals, checkpoints."""

import copy
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest

from kernadv import ComponentValueEstimator, KernelValueEstimator, Pooling
from kernadv.simulation import simulate


def drawn(rng, value, ids, size=2):
    """0/1 rewards of a batch: ids and rewards, `size` rows a prompt."""
    rows = np.repeat(ids, size)
    return rows.tolist(), rng.binomial(1, value[rows]).astype(float)


def optimal(value, right, wrong):
    """E[w Z] / E[w] for 0/1 rewards whose traces weigh `right` and `wrong` on average."""
    return value * right / (value * right + (1 - value) * wrong)


def weights_of(rng, rewards, right, wrong):
    return np.where(rewards == 1, right, wrong) * rng.gamma(4.0, 0.25, len(rewards))


def test_weighted_baseline_is_that_of_the_weights():
    """Values that stand still, wrong traces that weigh three times as much: after many visits it is E[wZ]/E[w]."""
    rng = np.random.default_rng(0)
    value = np.linspace(0.1, 0.9, 30)
    estimator = KernelValueEstimator(weighted=True)
    for step in range(1, 201):
        ids, z = drawn(rng, value, np.arange(30), 4)
        estimator.observe(ids, z, step, weights=weights_of(rng, z, 1.0, 3.0))
    estimate = estimator.baselines(np.arange(30), np.full(30, np.nan), 201, weights=np.ones(30))
    best = optimal(value, 1.0, 3.0)
    # 800 traces a prompt; the weights' spread costs about half of them.
    assert np.sqrt(np.mean((estimate - best) ** 2)) < 3 * np.sqrt(0.25 / 400)
    assert np.abs(np.mean(estimate - best)) < 3 * np.sqrt(0.25 / 400 / 30)
    assert np.mean((value - best) ** 2) > 20 * np.mean((estimate - best) ** 2)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_weighted_values_are_nearer_to_the_optimal_baseline(size):
    """Values that move, wrong traces with three times the weight."""
    run = simulate("calib", "one_pass", size, seed=0)
    rng = np.random.default_rng(0)
    plain, weighted = KernelValueEstimator(), KernelValueEstimator(weighted=True)
    errors, losses = [], []
    for step, ids, z, group in run.batches():
        w = weights_of(rng, z, 1.0, 3.0)
        best = optimal(run.value[group], 1.0, 3.0)
        both = np.stack([z - plain.advantages(ids, z, step), z - weighted.advantages(ids, z, step, weights=w)])
        errors.append(((both - best) ** 2).mean(1))
        losses.append((w * (both - z) ** 2).mean(1))  # what the weights stand for: the variance of the gradient
    plain_error, weighted_error = np.mean(errors[5:], axis=0)
    assert weighted_error < plain_error
    plain_loss, weighted_loss = np.mean(losses[5:], axis=0)
    assert weighted_loss < plain_loss


def test_components_are_one_estimator_a_column():
    rng = np.random.default_rng(2)
    value = rng.beta(1, 1, (20, 3))
    joint = ComponentValueEstimator(3)
    alone = [KernelValueEstimator() for _ in range(3)]
    for step in range(1, 30):
        rows = np.repeat(rng.choice(20, 8, replace=False), 2)
        z = rng.binomial(1, value[rows]).astype(float) * [1.0, 5.0, 0.1]
        before = joint.values(rows, z, step)
        together = joint.advantages(rows, z, step)
        for k, estimator in enumerate(alone):
            for name, part in estimator.values(rows, z[:, k], step)._asdict().items():
                np.testing.assert_array_equal(getattr(before, name)[:, k], part)
            np.testing.assert_array_equal(together[:, k], estimator.advantages(rows, z[:, k], step))
    resumed = ComponentValueEstimator(3)
    resumed.load_state_dict(joint.state_dict())
    np.testing.assert_array_equal(resumed.values(rows, z, 30).value, joint.values(rows, z, 30).value)


def run_in(estimator, steps=60, seed=3, prompts=20, weighted=False):
    rng = np.random.default_rng(seed)
    value = rng.beta(1, 1, prompts)
    for step in range(1, steps + 1):
        ids, z = drawn(rng, value, rng.choice(prompts, 8, replace=False))
        estimator.observe(ids, z, step, weights=weights_of(rng, z, 1.0, 2.0) if weighted else None)
    return estimator


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", [Pooling(), Pooling((2.0,), (0.0,), (), (0.0,))], ids=["default", "one filter"])
def test_explanation_adds_up(weighted, how):
    """The value is the visits' mean rewards by their weights, the prior by what they lack to 1, and little else."""
    estimator = run_in(KernelValueEstimator(pooling=how, weighted=weighted), weighted=weighted)
    for prompt in range(20):
        why = estimator.explain(prompt)
        share = why["weights"]
        assert (share >= 0).all()
        assert share.sum() < 1.0
        total = share @ why["mean_rewards"] + (1 - share.sum()) * why["prior"] + why["adjustment"]
        assert total == pytest.approx(why["value"], abs=1e-12)
        assert abs(why["adjustment"]) < 0.1
        assert why["n_eff"] == why["strength"]
        assert why["lower"] <= why["value"] <= why["upper"]
        assert why["filters"] == list(zip(*(part.tolist() for part in how.members), strict=True))
        assert why["filter_weights"].sum() == pytest.approx(1.0)
        assert why["traces"].sum() == 2 * len(why["steps"])


def test_explanation_of_one_filter_that_stands_still_is_counting():
    """A prior worth 3 rollouts, and every trace worth one; mirrored prompts leave the common level at 1/2."""
    estimator = KernelValueEstimator(pooling=Pooling((3.0,), (0.0,), (), (0.0,)))
    for step, right in enumerate([2, 1, 2, 0, 2], 1):
        z = np.r_[np.ones(right), np.zeros(2 - right)]
        estimator.observe(["a", "a", "b", "b"], np.r_[z, 1 - z], step)
    why = estimator.explain("a")
    assert why["prior"] == pytest.approx(0.5, abs=1e-12)
    np.testing.assert_allclose(why["weights"], np.full(5, 2 / 13), rtol=1e-9)
    assert why["value"] == pytest.approx((1.5 + 7) / 13, rel=1e-9)
    assert why["adjustment"] == pytest.approx(0.0, abs=1e-9)
    assert (why["n_eff"], why["kappa"]) == (pytest.approx(13, rel=1e-6), pytest.approx(3))


def test_explanation_of_filters_that_forget():
    """With a discount of log 2 a step, each visit weighs half as much as the next."""
    estimator = KernelValueEstimator(pooling=Pooling((3.0,), (0.0,), (np.log(2.0),), (0.0,)))
    estimator._state.pool.weights.loss[:] = [1e6, 0.0]
    for step in range(1, 6):
        estimator.observe(["a", "a", "b", "b"], [1.0, 1.0, 0.0, 0.0], step)
        estimator._state.pool.weights.loss[:] = [1e6, 0.0]
    why = estimator.explain("a")
    np.testing.assert_allclose(why["weights"][1:] / why["weights"][:-1], 2.0, rtol=1e-9)
    worth = 3 / 2**5 + 2 * sum(0.5**k for k in range(1, 6))
    np.testing.assert_allclose(why["weights"][-1], 1.0 / worth, rtol=1e-9)


def test_explanation_is_the_value():
    """What is explained is what a trace without others would get."""
    estimator = run_in(KernelValueEstimator())
    for prompt in range(20):
        value = estimator.values([prompt], [np.nan], 61).value[0]
        assert estimator.explain(prompt)["value"] == value


@pytest.mark.parametrize("estimator", [KernelValueEstimator(), KernelValueEstimator.kae()], ids=["pooled", "kae"])
def test_explanation_draws(estimator):
    run_in(estimator)
    axes = estimator.explain(0).plot()
    try:
        drawn_at = axes.collections[0].get_offsets()
        why = estimator.explain(0)
        np.testing.assert_array_equal(drawn_at[:, 0], why["steps"])
        np.testing.assert_allclose(drawn_at[:, 1], why["mean_rewards"])
        sizes = axes.collections[0].get_sizes()
        np.testing.assert_array_equal(np.argsort(sizes), np.argsort(np.abs(why["weights"])))
    finally:
        plt.close(axes.figure)


#: Least and largest share of true values inside the intervals of each level.
CALIBRATED = {0.5: (0.48, 0.74), 0.8: (0.78, 0.87), 0.95: (0.935, 0.98), 0.99: (0.975, 0.997)}


def check_coverage(batches):
    """Over all steps but the first; the value lies inside, and the intervals of higher levels hold those of lower ones."""
    estimator = KernelValueEstimator()
    inside, width = [], []
    for step, ids, z, truth in batches:
        if step > 1:
            bounds = np.array([estimator.intervals(ids, z, step, level=level) for level in CALIBRATED])
            value = estimator.values(ids, z, step).value
            low, high = bounds[:, 0], bounds[:, 1]
            assert (np.diff(low, axis=0) <= 1e-9).all()
            assert (np.diff(high, axis=0) >= -1e-9).all()
            assert ((low <= value) & (value <= high)).all()
            inside.append((low <= truth) & (truth <= high))
            width.append((high - low).mean(1))
        estimator.observe(ids, z, step)
    covered = np.concatenate(inside, axis=1).mean(1)
    for (level, (least, most)), share in zip(CALIBRATED.items(), covered, strict=True):
        assert least <= share <= most, (level, share)
    assert np.mean(width, axis=0)[2] < 0.6  # and not by saying nothing


@pytest.mark.parametrize(
    ("process", "schedule", "size"),
    [
        ("calib", "one_pass", 4),
        ("calib", "epochs", 1),
        ("fast", "epochs", 2),
        ("jump", "multi_pass", 2),
        ("flat", "one_pass", 1),
        ("random_walk", "multi_pass", 4),
        ("continuous", "epochs", 2),
    ],
)
def test_intervals_cover_the_true_value(process, schedule, size):
    run = simulate(process, schedule, size, seed=1)
    check_coverage((step, ids, z, run.value[group]) for step, ids, z, group in run.batches())


def shipped(size):
    """Step, ids, rewards and true values of the shipped log, with so many of the four traces of a group."""
    log = pl.read_parquet(files("kernadv") / "data" / "tiny_rlvr.parquet")
    kept = log.filter(pl.int_range(pl.len()) % 4 < size)
    for (step,), rows in kept.group_by("step", maintain_order=True):
        yield step, rows["prompt_id"].to_list(), rows["reward"].to_numpy().astype(float), rows["value"].to_numpy()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_intervals_cover_the_true_value_of_the_shipped_log(size):
    check_coverage(shipped(size))


@pytest.mark.parametrize("size", [1, 4])
def test_predictions_that_run_ahead_are_seen(size):
    """Predictions above .97 come true less often in the shipped log: uncorrected, intervals of 95% hold 72% there."""
    estimator, inside, without = KernelValueEstimator(), [], []
    for step, ids, z, truth in shipped(size):
        ahead = np.asarray(estimator.values(ids, z, step).value) > 0.97
        if step > 100 and ahead.any():
            uncorrected = copy.deepcopy(estimator)
            uncorrected._state.pool.calibration.sums[:] = 0.0
            for made, shares in ((estimator, inside), (uncorrected, without)):
                low, high = made.intervals(ids, z, step)
                shares.append(((low <= truth) & (truth <= high))[ahead])
        estimator.observe(ids, z, step)
    inside, without = np.concatenate(inside).mean(), np.concatenate(without).mean()
    assert without < 0.75
    assert 0.93 < inside < 0.99


@pytest.mark.parametrize("through", ["dict", "file"])
def test_a_resumed_run_goes_on_bit_for_bit(through, tmp_path):
    rng = np.random.default_rng(4)
    value = rng.beta(1, 1, 30)
    features = {k: [v + rng.normal(0, 0.2), rng.normal()] for k, v in enumerate(value)}

    def fresh():
        return KernelValueEstimator(features=features, weighted=True)

    def batch(step):
        ids, z = drawn(rng, value, rng.choice(30, 10, replace=False))
        return ids, z, step, weights_of(rng, z, 1.0, 3.0)

    first = fresh()
    for step in range(1, 30):
        ids, z, at, w = batch(step)
        first.advantages(ids, z, at, weights=w)
    second = fresh()
    if through == "file":
        first.save(tmp_path / "state.safetensors")
        second.load(tmp_path / "state.safetensors")
    else:
        second.load_state_dict(first.state_dict())
    for step in range(30, 50):
        ids, z, at, w = batch(step)
        for name in ("values", "intervals"):
            a, b = (getattr(e, name)(ids, z, at) for e in (first, second))
            np.testing.assert_array_equal(a, b)
        for name in ("baselines", "advantages"):
            a, b = (getattr(e, name)(ids, z, at, weights=w) for e in (first, second))
            np.testing.assert_array_equal(a, b)
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_features_of_traces_without_weight_teach_nothing():
    features = {name: [float(k), 1.0] for k, name in enumerate("abcdef")}
    est = KernelValueEstimator(features=features, weighted=True)
    ids = [*"abcdef", "q"]
    with pytest.warns(UserWarning, match="'q'"):
        est.advantages(ids, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], 1, weights=np.ones(7))
    before = est.state_dict()["weighted.pool.features.gram"]
    with np.errstate(all="raise"):
        est.advantages(ids, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], 2, weights=[*np.zeros(6), 1.0])
    assert np.array_equal(est.state_dict()["weighted.pool.features.gram"], before)
    assert np.isfinite(est.advantages(ids, np.ones(7), 3, weights=np.ones(7))).all()


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_intervals_of_a_batch_that_leaves_the_range_seen(offset):
    """Rewards of 5 after rewards of 0 and 1 are no longer two values: the interval is about the value, and has a width."""
    est, rng = KernelValueEstimator(), np.random.default_rng(0)
    ids = np.repeat(np.arange(20), 2)
    for step in range(1, 15):
        est.advantages(ids, offset + rng.integers(0, 2, 40), step)
    z = offset + rng.integers(0, 2, 40)
    low, high = est.intervals(ids, z, 15)
    assert (low >= offset).all()
    assert (high <= offset + 1.0).all()
    z[:8] += 5.0
    value = est.values(ids, z, 15).value
    low, high = est.intervals(ids, z, 15)
    assert (low < value - 0.01).all()
    assert (high > value + 0.01).all()
