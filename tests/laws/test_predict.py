"""Predictions without rewards: those of `values` and `intervals`, and the chance of a dead group against integrals."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from kernadv import (
    ArgumentError,
    ArgumentTypeError,
    ComponentValueEstimator,
    KernadvError,
    KernelValueEstimator,
    Pooling,
    Steps,
    Visits,
)
from kernadv.estimator import Prediction
from kernadv.simulation import simulate

MAKE = {
    "default": KernelValueEstimator,
    "weighted": lambda **o: KernelValueEstimator(weighted=True, **o),
    "pessimism": lambda **o: KernelValueEstimator(pessimism=2.0, **o),
    "features": lambda **o: KernelValueEstimator(features=lambda ids: [[float(str(x)[1:])] for x in ids], **o),
    "one filter": lambda **o: KernelValueEstimator(pooling=Pooling(priors=(2.0,), walks=(0.1,), discounts=()), **o),
    "kae": KernelValueEstimator.kae,
    "line": lambda **o: KernelValueEstimator(Visits(5), smoother="local_linear", **o),
    "late": lambda **o: KernelValueEstimator(allow_late=True, **o),
}
IDS = [f"p{k}" for k in range(10)]


def filled(est, rewards=lambda rng, v: (rng.random(len(v)) < v) * 1.0, tensor=None):
    """After some steps with ten prompts, of which two have stayed away of late."""
    rng = np.random.default_rng(0)
    for step in range(1, 21):
        code = rng.integers(0, 10 if step < 10 else 8, 30)
        z = rewards(rng, code / 9)
        given = {"weights": rng.random(30) + 0.1} if est.weighted else {}
        est.observe([IDS[k] for k in code], z if tensor is None else tensor(z), step, **given)
    return est


@pytest.mark.parametrize("name", MAKE)
def test_it_is_what_values_and_intervals_say_of_rows_without_rewards(name):
    est = filled(MAKE[name]())
    ids, step = [*IDS, "p99", "p3"], 25
    before = est.state_dict()
    got = est.predict(ids, step, level=0.8)
    none = [math.nan] * len(ids)
    expected = est.values(ids, none, step)
    np.testing.assert_array_equal(got.value, expected.value)
    np.testing.assert_array_equal(got.n_eff, expected.n_eff)
    np.testing.assert_array_equal((got.low, got.high), est.intervals(ids, none, step, level=0.8))
    history = est._state.history.visits(est._state.history.find(ids))
    assert got.visits.tolist() == np.bincount(history.prompt, minlength=len(ids)).tolist()
    assert got.last.tolist() == [max(history.step[history.prompt == k], default=0) for k in range(len(ids))]
    assert (got.last[-2], got.visits[-2]) == (0, 0)
    assert got.two_ends is True
    assert all(np.array_equal(before[key], x) for key, x in est.state_dict().items())


@pytest.mark.parametrize("name", ["default", "weighted", "kae", "late"])
def test_on_a_device_the_numbers_are_the_same_and_the_history_stays(name):
    torch = pytest.importorskip("torch")
    here, there = filled(MAKE[name](backend="numba")), filled(MAKE[name](backend="torch"), tensor=torch.as_tensor)
    device = there._state.device
    assert device is not None
    expected, got = here.predict([*IDS, "p99", "p3"]), there.predict([*IDS, "p99", "p3"])
    assert there._state.device == device
    for part, mine, theirs in zip(Prediction._fields, got, expected, strict=True):
        if part != "visits" or name != "kae":  # the plain estimator forgets at other times there
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-10, err_msg=part)
    np.testing.assert_allclose(got.dead(4), expected.dead(4), rtol=1e-9)


def test_of_several_components_it_is_that_of_an_estimator_for_each():
    """And the value that rows without rewards get in the next step."""
    rng = np.random.default_rng(1)
    joint, alone = ComponentValueEstimator(2), [KernelValueEstimator() for _ in range(2)]
    for step in range(1, 8):
        ids, z = [IDS[k] for k in rng.integers(0, 10, 12)], rng.random((12, 2)) < [0.3, 0.8]
        joint.observe(ids, z, step)
        for est, column in zip(alone, z.T, strict=True):
            est.observe(ids, column, step)
    got = joint.predict([*IDS, "p99"])
    assert len(got) == 2
    for mine, est in zip(got.values(), alone, strict=True):
        for part, theirs in zip(mine, est.predict([*IDS, "p99"], 8), strict=True):
            np.testing.assert_array_equal(part, theirs)
    with pytest.raises(ArgumentError, match="level"):
        joint.predict(IDS, level=1.0)
    scored = joint.values(IDS, [[math.nan, math.nan]] * 10, 8).value
    np.testing.assert_array_equal(np.stack([mine.value[:10] for mine in got.values()], axis=1), scored)


def test_the_step_is_the_next_one():
    est = filled(KernelValueEstimator())
    for mine, theirs in zip(est.predict(IDS), est.predict(IDS, 21), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (est.predict(IDS, 60).n_eff < est.predict(IDS).n_eff).all()


def test_prompts_that_were_never_seen():
    """Pooled: one interval for all, wider than of prompts that were seen; plain: nothing is known."""
    pooled, plain = (filled(est).predict(["p98", "p99", "p4"]) for est in (KernelValueEstimator(), MAKE["kae"]()))
    assert pooled.value[0] == pooled.value[1]
    assert 0.3 < pooled.value[0] < 0.7  # about the mean
    assert pooled.high[0] - pooled.low[0] > 2 * (pooled.high[2] - pooled.low[2])
    for part in ("value", "low", "high", "alpha", "beta"):
        assert np.isnan(getattr(plain, part)).tolist() == [True, True, False]
    assert np.isnan(plain.dead(4)).tolist() == [True, True, False]
    assert plain.n_eff[0] == 0.0


@pytest.mark.parametrize("name", ["default", "plain"])
def test_before_anything_is_known(name):
    """Without a reward, and while all are equal: no chance of a dead group is given."""
    est = KernelValueEstimator(None if name == "default" else Steps(9))
    assert np.isnan(est.predict(["a"]).value).all()
    est.observe(["a", "a", "b"], [1.0, 1.0, 1.0], 1)
    got = est.predict(["a", "b"])
    assert (got.value == 1.0).all()
    assert np.isnan(got.dead(2)).all()


@pytest.mark.parametrize("name", ["default", "kae"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (2.0, 7.0)])
def test_the_ends_may_be_any_two_numbers(name, low, high):
    """The belief is about the share of the range; so is the chance of a dead group."""
    zero = filled(MAKE[name]()).predict(IDS)
    two = filled(MAKE[name](), lambda rng, v: np.where(rng.random(len(v)) < v, high, low)).predict(IDS)
    np.testing.assert_allclose(two.value, low + (high - low) * zero.value, rtol=1e-9)
    np.testing.assert_allclose(two.dead(5), zero.dead(5), rtol=1e-9)


@pytest.mark.parametrize("group", [1, 2, 8, 33])
def test_dead_is_the_integral(group):
    a, b = np.array([0.3, 2.0, 40.0, 1e3, 5e-3]), np.array([0.3, 7.0, 2.5, 1e3, 3.0])
    nothing = np.zeros(len(a))
    got = Prediction(*[nothing] * 6, alpha=a, beta=b, two_ends=True).dead(group)
    for k in range(len(a)):
        if a[k] > 0.01:  # where the density can be integrated by rule
            law = stats.beta(a[k], b[k])
            whole = quad(lambda p, law=law: (p**group + (1 - p) ** group) * law.pdf(p), 0, 1, limit=500, epsabs=1e-10)[
                0
            ]
            assert got[k] == pytest.approx(whole, rel=2e-6)
    draws = stats.beta(a[:, None], b[:, None]).rvs((len(a), 200_000), random_state=1)
    drawn = draws**group + (1 - draws) ** group
    assert (abs(drawn.mean(1) - got) <= 5 * drawn.std(1) / math.sqrt(200_000) + 1e-12).all()


def test_dead_at_the_ends():
    """A value that is known to be 0 or 1 leaves dead groups only."""
    nothing = np.zeros(2)
    got = Prediction(*[nothing] * 6, alpha=np.array([0.0, 9.0]), beta=np.array([9.0, 0.0]), two_ends=True)
    assert got.dead(8).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("process", "group"), [("fast", 4), ("random_walk", 8), ("u_shaped", 2)])
def test_dead_is_calibrated(process, group):
    """Of prompts seen before: in each fifth by predicted chance, the share of dead groups is at most .05 off."""
    run, est, said, was = simulate(process, "multi_pass", group, seed=7), KernelValueEstimator(), [], []
    for step, ids, z, _ in run.batches():
        if 15 <= step <= 90 and step % 3 == 0:
            seen = est.predict(ids[::group], step)
            known = seen.visits > 0
            said.append(seen.dead(group)[known])
            total = z.reshape(-1, group).sum(1)
            was.append(((total == 0) | (total == group))[known])
        est.observe(ids, z, step)
    said, was = np.concatenate(said), np.concatenate(was)
    order = np.argsort(said)
    for part in np.array_split(order, 5):
        assert len(part) > 300
        assert abs(said[part].mean() - was[part].mean()) < 0.05
    assert np.corrcoef(said, was)[0, 1] > 0.3


def test_rewards_between_the_ends_are_refused():
    est = filled(KernelValueEstimator(), lambda rng, v: rng.random(len(v)))
    got = est.predict(IDS)
    assert got.two_ends is False
    with pytest.raises(ArgumentError, match="needs rewards with two values, such as 0 and 1; a reward between"):
        got.dead(4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None,), ArgumentTypeError, "prompt_ids must be a sequence"),
        (("a",), ArgumentTypeError, "prompt_ids must be a sequence"),
        ((5,), ArgumentTypeError, "prompt_ids must be a sequence"),
        (([],), ArgumentError, "empty"),
        (([1, "a"],), ArgumentError, "all be str or all be int"),
        (([1],), KernadvError, "str"),  # the history holds text
        ((["p1"], 5), ArgumentError, "step 5 lies before step 20"),
        ((["p1"], 0), ArgumentError, "steps start at 1"),
        ((["p1"], [21, 22]), ArgumentError, "one step a row"),
    ],
)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_bad_arguments(arguments, error, message, backend):
    tensor = None
    if backend == "torch":
        tensor = pytest.importorskip("torch").as_tensor
    est = filled(KernelValueEstimator(Steps(30), backend=backend), tensor=tensor)
    with pytest.raises(error, match=message):
        est.predict(*arguments)


def test_other_bad_arguments():
    got = filled(KernelValueEstimator()).predict(IDS)
    for group in (0, 1.5, "4"):
        with pytest.raises(KernadvError, match="group"):
            got.dead(group)
    with pytest.raises(ArgumentError, match="level"):
        KernelValueEstimator().predict(["a"], level=1.0)
