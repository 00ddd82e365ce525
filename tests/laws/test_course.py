"""The course of a prompt is what `predict` said at the time; other rewards come back with their sums."""

import numpy as np
import pytest

from kernadv import ArgumentError, KernelValueEstimator, Steps, Visits
from kernadv.estimator.course import rewards
from kernadv.groups import Groups


def trained(est, steps=40, seed=0, ends=(0.0, 1.0)):
    """What it said of prompt "3" before each step, and how often each step saw it."""
    rng = np.random.default_rng(seed)
    chance, said = rng.random(12), []
    for step in range(1, steps):
        prompts = rng.permutation(12)[:6].repeat(4)
        z = np.where(rng.random(24) < chance[prompts], ends[1], ends[0])
        found = est.predict(["3"], step)
        said.append((found.value[0], found.low[0], found.high[0]))
        est.observe([str(p) for p in prompts], z, step, **({"weights": rng.random(24)} if est.weighted else {}))
    return np.array(said)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 0.5)], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        KernelValueEstimator,
        lambda: KernelValueEstimator(weighted=True, pessimism=2.0),
        lambda: KernelValueEstimator(Steps(400)),
        lambda: KernelValueEstimator(Visits(3)),
        lambda: KernelValueEstimator.kae(0.5, "gaussian"),
    ],
    ids=["pooled", "weighted", "steps", "visits", "kae"],
)
def test_the_course_is_what_was_said_at_the_time(make, ends):
    est = make()
    said = trained(est, ends=ends)
    before = est.state_dict()
    told = est.course("3")
    assert told.dropped == 0
    assert len(told.step) >= 10
    online = said[told.step[:-1] - 1]
    for column, name in enumerate(("value", "low", "high")):
        np.testing.assert_allclose(getattr(told, name)[:-1], online[:, column], rtol=1e-9, atol=1e-12)
    now = est.predict(["3"])
    np.testing.assert_allclose(
        [told.value[-1], told.low[-1], told.high[-1]], [now.value[0], now.low[0], now.high[0]], rtol=1e-9
    )
    after = est.state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)


def test_offline_rollouts_come_before():
    est = KernelValueEstimator(Steps(50))
    est.observe_offline(["a", "b"], [0.25, 0.5], 8)
    expected = est.predict(["a"], 1).value[0]
    est.observe(["a", "a"], [1.0, 0.0], 1)
    assert est.course("a").value[0] == pytest.approx(expected)
    assert expected == pytest.approx(0.25)


@pytest.mark.parametrize("high", [1.0, 7.0])
def test_rewards_have_the_sums_of_their_groups_and_lie_in_the_range(high):
    rng = np.random.default_rng(1)
    drawn = [high * rng.random(n) ** rng.choice([0.2, 1, 5]) for n in rng.integers(1, 9, 200)]
    drawn += [high * rng.integers(0, 2, n) for n in rng.integers(1, 9, 200)]
    sums = [(len(z), z.sum(), (z**2).sum()) for z in drawn]
    n, s, ss = (np.array(column) for column in zip(*sums, strict=True))
    groups = Groups(np.arange(len(n)), np.ones(len(n), np.int64), n, s, ss)
    parts = np.split(rewards(groups, 0.0, high), np.cumsum(n)[:-1])
    for z, part in zip(drawn, parts, strict=True):
        assert part.min() >= 0
        assert part.max() <= high
        two_ends = set(z) <= {0.0, high}
        assert part.mean() == pytest.approx(z.mean(), abs=1e-9 if two_ends else 0.05 * high)
        if two_ends:
            np.testing.assert_array_equal(np.sort(part), np.sort(z))


def test_what_is_missing_is_said():
    est = KernelValueEstimator(max_visits=3)
    trained(est)
    told = est.course("3")
    assert told.dropped == est.metrics()["dropped_visits"] > 0
    assert len(told.visits.step) == 3
    with pytest.raises(ArgumentError, match="prompt 'x' is not in the history; it holds 12 prompts"):
        est.course("x")
    with pytest.raises(ArgumentError, match="level"):
        est.course("3", level=1.0)


def test_the_picture_shows_visits_value_and_interval():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    est = KernelValueEstimator()
    trained(est)
    ax = est.plot("3")
    told = est.course("3")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), told.value)
    np.testing.assert_array_equal(ax.collections[1].get_offsets()[:, 1], told.visits.mean)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "95% interval",
        "value before the step",
        "mean reward of a visit",
    ]
    assert est.plot("3", ax) is ax
    pyplot.close("all")


def test_length_is_the_number_of_prompts_and_an_empty_estimator_is_true():
    est = KernelValueEstimator()
    assert len(est) == 0
    assert est
    trained(est)
    assert len(est) == 12
