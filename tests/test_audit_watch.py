"""`Watch`: the metrics of the estimator in the loop, the audit of the same traces, and steps that are not in order."""

from itertools import pairwise

import numpy as np
import pytest

import kernadv.auditing.watch
import kernadv.estimator.state
from kernadv import KernelValueEstimator
from kernadv._errors import KernadvError
from kernadv.auditing import Watch, audit
from kernadv.groups import aggregate
from kernadv.simulation import simulate


def stream(seed, steps=30, group=None):
    """Batches of groups of one to five traces, or of one size, in any order, some not scored."""
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        ids = rng.integers(0, 12, rng.integers(20, 40)) if group is None else np.repeat(rng.permutation(12), group)
        z = (rng.random(len(ids)) < 0.6) * 1.0
        z[rng.random(len(ids)) < 0.1] = np.nan
        yield ids, z, np.full(len(ids), step)


def joined(batches):
    return [np.concatenate(part) for part in zip(*batches, strict=True)]


def same(one, other):
    assert (one.steps, one.traces, one.late, one.back) == (other.steps, other.traces, other.late, other.back)
    assert one.series.keys() == other.series.keys()
    for name, series in one.series.items():
        np.testing.assert_array_equal(series, other.series[name], err_msg=name)


@pytest.mark.parametrize("group", [None, 3, 1])
def test_the_metrics_of_an_estimator_in_the_loop(group):
    est, watch = KernelValueEstimator(), Watch()
    for ids, z, step in stream(0, group=group):
        watch.add(ids, z, step)
        watch.finish()
        est.advantages(ids, z, int(step[0]))
        metrics, now = est.metrics(), watch.now
        shared = metrics.keys() & now.keys()
        assert {name: now[name] for name in shared} == pytest.approx(
            {name: metrics[name] for name in shared}, rel=1e-12
        )
        assert all(np.isnan(now[name]) for name in now.keys() - shared - {"mean_reward", "group_mean_mse"})
        assert now["mean_reward"] == pytest.approx(np.nanmean(z))
        assert np.isnan(now["group_mean_mse"]) == ("value_mse" not in metrics)


@pytest.mark.parametrize("group", [2, 4, None])
def test_without_forgetting_it_is_the_audit(monkeypatch, group):
    for module in (kernadv.estimator.state, kernadv.auditing.watch):
        monkeypatch.setattr(module, "KEEP", 1.0)
    if group is None:
        batches = list(stream(1, 60))
    else:
        run = simulate("fast", "multi_pass", group, seed=3)
        batches = [(np.asarray(ids), z, np.full(len(z), step)) for step, ids, z, _ in run.batches()]
    ids, z, step = joined(batches)
    watch = Watch()
    watch.add(ids, z, step)
    watch.finish()
    scored = ~np.isnan(z)
    one = z[scored]
    result = audit(aggregate(ids[scored], step[scored], np.ones(len(one), np.int64), one, one * one), draws=50)
    for name, number in (("rloo", "rloo_mse"), ("group_mean", "group_mean_mse"), ("batch_mean", "batch_mean_mse")):
        assert watch.now[number] == pytest.approx(result.finding(name).mse.estimate, rel=1e-9), name
    assert watch.now["value_mse"] == pytest.approx(result.finding("kernadv").mse.estimate, rel=1e-6)
    assert watch.now["gradient_ratio"] == pytest.approx(result.finding("kernadv").gradient_ratio.estimate, rel=1e-6)
    assert (watch.now["dead"], watch.now["dead_0"], watch.now["dead_1"]) == pytest.approx(result.dead[:3], rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_however_the_traces_are_cut(seed):
    ids, z, step = joined(stream(2))
    cuts = [0, *np.sort(np.random.default_rng(seed).integers(0, len(ids), 70)).tolist(), len(ids)]
    whole, parts = Watch(), Watch()
    whole.add(ids, z, step)
    for start, end in pairwise(cuts):
        parts.add(ids[start:end], z[start:end], step[start:end])
    assert (whole.steps, whole.waiting) == (list(range(1, 30)), int((step == 30).sum()))
    same(parts, whole)


@pytest.mark.parametrize("shift", [-1, 10**6, 2**60])
def test_wherever_the_steps_begin(shift):
    ids, z, step = joined(stream(3))
    one, other = Watch(), Watch()
    one.add(ids, z, step)
    other.add(ids, z, step + shift)
    assert other.steps == [i + shift for i in one.steps]
    for name, series in one.series.items():
        np.testing.assert_array_equal(series, other.series[name])


def test_workers_that_are_apart():
    """Once it is known how far they are apart, steps wait for them."""
    ids, z, step = joined(stream(4, 40, group=2))
    late = np.arange(len(ids)) % 2 == 1
    order = np.argsort(np.where(late, step + 3.5, step), kind="stable")
    watch = Watch()
    watch.add(ids[order], z[order], step[order])
    assert watch.back == []
    assert watch.late == int((late & (step <= 3)).sum())
    assert watch.steps == list(range(1, 40 - 3))
    watch.finish()
    assert watch.steps == list(range(1, 41))
    assert watch.traces == np.isfinite(z).sum() - np.isfinite(z[late & (step <= 3)]).sum()


@pytest.mark.parametrize("back", [1, 10])
def test_a_run_that_goes_back(back):
    """The steps count on, and what the estimator has learned stays."""
    first, second = list(stream(5, 30)), [(ids, z, step + back - 1) for ids, z, step in stream(6, 30)]
    watch = Watch()
    for ids, z, step in first + second:
        watch.add(ids, z, step)
    assert watch.back == [(30, back)]
    assert watch.late == 0
    assert watch.steps == [*range(1, 31), *range(back, back + 29)]
    assert watch.prompts == 12


@pytest.mark.parametrize(
    "bad",
    [
        (["a", "b"], [1.0], [1, 1]),
        (["a", "b"], [1.0, 0.0], [1]),
        (["a", "b"], [1.0, np.inf], [1, 1]),
        (["a", "b"], [1.0, 0.0], ["x", "y"]),
        (["a", "b"], [1.0, 0.0], [1.0, 1.5]),
        ([1, 2], [1.0, 0.0], [9, 9]),
        ("ab", [1.0, 0.0], [1, 1]),
        (["a", None], [1.0, 0.0], [1, 1]),
    ],
)
def test_bad_traces_change_nothing(bad):
    one, other = Watch(), Watch()
    for watch in (one, other):
        watch.add(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], [1, 1, 1, 1])
    with pytest.raises(KernadvError):
        one.add(*bad)
    for watch in (one, other):
        watch.add(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], [2, 2, 2, 2])
    same(one, other)


def test_nothing():
    watch = Watch()
    watch.add([], [], [])
    watch.finish()
    assert (watch.steps, watch.prompts, watch.waiting) == ([], 0, 0)
    assert all(np.isnan(x) for x in watch.now.values())


def test_one_step_for_all_traces():
    one, each = Watch(), Watch()
    for step in (1, 2, 3):
        one.add(["a", "a", "b"], [1.0, 0.0, 1.0], step)
        each.add(["a", "a", "b"], [1.0, 0.0, 1.0], [step] * 3)
    assert (one.steps, one.waiting, one.now) == (each.steps, each.waiting, each.now)
    assert one.steps == [1, 2]
