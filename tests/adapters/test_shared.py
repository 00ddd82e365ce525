"""What the adapters share: rows, tokens, ids, weights, settings and versions."""

import re
import subprocess
import sys
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernadv import (
    ArgumentError,
    CheckpointError,
    ComponentValueEstimator,
    KernadvError,
    KernelValueEstimator,
    prompt_id,
)
from kernadv.adapters import _driver, _process, use
from kernadv.adapters._driver import Driver, check_groups, check_version, surprisal
from kernadv.adapters._process import driver_of
from kernadv.adapters.samplers import ReuseSampler
from kernadv.schedule import block_reuse
from kernadv.scores import Surprisal


def test_rows_that_are_not_kept_do_not_enter_the_history():
    driver, plain = Driver(weights="none"), KernelValueEstimator()
    keep = torch.tensor([True, True, False, True])
    rewards = torch.tensor([1.0, 0.0, 9.0, 1.0])
    for step in (1, 2):
        got = driver.rows(["a", "a", "pad0", "b"], rewards, step, keep=keep)
        want = plain.advantages(["a", "a", "b"], rewards[keep], step)
        assert torch.equal(got[keep], want)
        assert got[2] == 0
    assert driver.estimator.metrics()["history_prompts"] == 2
    assert not driver.rows(["pad0"], torch.ones(1), 3, keep=torch.tensor([False])).any()


def test_late_rows_of_asynchronous_rollouts():
    ids, rewards = ["a", "b", "a"], torch.tensor([1.0, 0.0, 0.0])
    steps = torch.tensor([5, 3, 4])
    late = Driver(KernelValueEstimator(allow_late=True))
    late.rows(["a", "b"], torch.tensor([1.0, 1.0]), 6)
    got = late.rows(ids, rewards, steps, keep=torch.tensor([True, True, True]))
    plain = KernelValueEstimator(allow_late=True)
    plain.observe(["a", "b"], [1.0, 1.0], 6)
    assert torch.equal(got, plain.advantages(ids, rewards, steps))
    strict = Driver()
    strict.rows(["a", "b"], torch.tensor([1.0, 1.0]), 6)
    with pytest.raises(ArgumentError, match="allow_late=True"):
        strict.rows(ids, rewards, steps)


def test_tokens_carry_the_advantage_of_their_row():
    rewards = torch.zeros(2, 3, dtype=torch.float64)
    rewards[0, 1] = 1.0
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    out = Driver().tokens(["a", "a"], rewards, mask, 1)
    assert out.dtype == torch.float64
    assert out.tolist() == [[1.0, 1.0, 0.0], [-1.0, -1.0, -1.0]]


def test_all_rewards_nan():
    driver = Driver()
    assert not driver.rows(["a", "b"], torch.full((2,), torch.nan), 1).any()
    assert driver.metrics()["kernadv/history_visits"] == 0


def test_ids_given_missing_or_none():
    driver = Driver()
    assert driver.ids(["x", "y"], [3, "b"], "") == ["3", "b"]
    assert driver.ids(["x", "y"], [torch.tensor(3), np.int32(4)], "") == ["3", "4"]
    for missing in (None, float("nan"), np.nan, torch.tensor(torch.nan)):
        with pytest.raises(ArgumentError, match="row 1 has no prompt id"):
            driver.ids(["x", "y"], [1.0, missing], "")
    with pytest.warns(UserWarning, match="no column 'id': prompts are told apart by a hash"):
        assert driver.ids(["x"], None, "no column 'id'") == [prompt_id("x")]
    assert driver.ids(["x"], None, "no column 'id'") == [prompt_id("x")]  # said once


def test_metrics_are_finite_and_prefixed():
    driver = Driver()
    assert all(np.isfinite(x) for x in driver.metrics().values())
    driver.rows(["a", "a"], torch.tensor([1.0, 0.0]), 1)
    assert driver.metrics()["kernadv/n_eff"] > 0
    assert driver.metrics()["kernadv/value_mse"] == driver.metrics()["kernadv/rloo_mse"] == pytest.approx(0.5)
    assert driver.metrics()["kernadv/seconds"] > 0


def test_surprisal_counts_only_the_mask():
    log_probs = torch.tensor([[-1.0, -2.0, torch.nan], [-0.5, torch.nan, torch.nan]])
    x, tokens = surprisal(log_probs, torch.tensor([[1, 1, 0], [1, 0, 0]]))
    assert (x.tolist(), tokens.tolist()) == ([3.0, 0.5], [2.0, 1.0])


SUMS = torch.tensor([1.0, 3.0, 40.0]), torch.tensor([2.0, 3.0, 4.0])
BATCH = ["a", "a", "b"], torch.tensor([1.0, 0.0, 1.0])


@pytest.mark.parametrize("loss", ["sum", "trace"])
def test_the_default_weighs_by_the_capped_surprisal_of_the_loss(loss):
    driver, weigh = Driver(loss=loss), Surprisal(loss=loss)
    plain = KernelValueEstimator(weighted=True, pessimism=2.0)
    for step in (1, 2):
        got = driver.rows(*BATCH, step, surprisal=lambda: SUMS)
        assert torch.equal(got, plain.advantages(*BATCH, step, weights=weigh.of_traces(*SUMS)))
    assert driver.metrics()["kernadv/weights_capped"] == pytest.approx(weigh.metrics()["weights_capped"])
    ids, rewards = BATCH
    np.testing.assert_array_equal(driver.estimator.values(ids, rewards, 3).value, plain.values(ids, rewards, 3).value)


def test_only_kept_rows_are_weighed():
    driver, plain, weigh = Driver(), KernelValueEstimator(weighted=True), Surprisal()
    keep = torch.tensor([True, True, False])
    got = driver.rows(["a", "a", "p"], torch.tensor([1.0, 0.0, 7.0]), 1, surprisal=lambda: SUMS, keep=keep)
    weights = weigh.of_traces(SUMS[0][:2], SUMS[1][:2])
    assert torch.equal(got[:2], plain.advantages(["a", "a"], torch.tensor([1.0, 0.0]), 1, weights=weights))
    assert got[2] == 0


def test_weights_of_your_own():
    driver, plain = Driver(weights=lambda x, tokens: x / tokens), KernelValueEstimator(weighted=True)
    got = driver.rows(*BATCH, 1, surprisal=lambda: SUMS)
    assert torch.equal(got, plain.advantages(*BATCH, 1, weights=SUMS[0].double() / SUMS[1].double()))
    unweighted = Driver(weights="none")
    assert (unweighted.weighted, unweighted.estimator.pessimism) == (False, 1.0)
    for bad in ("length", 3, None):
        with pytest.raises(ArgumentError, match="'surprisal', 'none' or a function"):
            Driver(weights=bad)


def test_without_log_probabilities_the_default_lowers_the_value_which_is_said_once(caplog):
    driver, lowered = Driver(allow_late=True), KernelValueEstimator(allow_late=True, pessimism=2.0)
    plain = Driver(weights="none", allow_late=True)
    with pytest.raises(ArgumentError, match="finite"):  # nothing is said of a call that fails
        driver.rows(["a"], torch.tensor([torch.inf]), 1)
    for step in (1, 2):
        expected = lowered.advantages(*BATCH, step)
        assert torch.equal(driver.rows(*BATCH, step), expected)
        assert torch.equal(plain.rows(*BATCH, step), expected) is (step == 1)  # with no past, there is no range
    assert [record.message for record in caplog.records if "no log-probabilities" in record.message] == [
        "kernadv: no log-probabilities are there to weigh the traces by: the baseline has no weights"
    ]
    assert driver.estimator.allow_late is True


def test_log_probabilities_that_go_missing_are_an_error():
    driver = Driver()
    driver.rows(*BATCH, 1, surprisal=lambda: SUMS)
    for weighted in (driver, Driver(KernelValueEstimator(weighted=True)), Driver(weighted=True)):
        with pytest.raises(ArgumentError, match="no log-probabilities"):
            weighted.rows(*BATCH, 2)


def test_traces_without_surprise_weigh_next_to_nothing():
    driver = Driver()
    got = driver.rows(*BATCH, 1, surprisal=lambda: (torch.zeros(3), torch.ones(3)))
    assert torch.isfinite(got).all()


def test_a_loss_that_is_not_known_means_no_weights_which_is_said_once(caplog):
    driver = Driver(loss=None)
    assert (driver.weighted, driver.estimator.pessimism) == (False, 2.0)
    assert [record.message for record in caplog.records] == [
        "kernadv does not know how this loss divides long traces: the baseline has no weights"
    ]
    assert Driver(KernelValueEstimator(weighted=True), loss=None).weighted
    assert not Driver(weights="none", loss=None).weighted
    assert len(caplog.records) == 1


def test_a_failed_call_moves_no_cap():
    driver, twin = Driver(), Driver()
    with pytest.raises(ArgumentError, match="finite"):
        driver.rows(["a"], torch.tensor([torch.inf]), 1, surprisal=lambda: (torch.ones(1), torch.ones(1)))
    for one in (driver, twin):
        one.rows(*BATCH, 1, surprisal=lambda: SUMS)
    assert driver.state_dict()["weights/mean"] == twin.state_dict()["weights/mean"]


@pytest.mark.parametrize("weights", ["surprisal", "none", "missing"])
def test_save_and_load(tmp_path, weights):
    """Of a run without log-probabilities, too, a new driver goes on where the old one was; so does the cap."""
    make = lambda: Driver(weights=weights.replace("missing", "surprisal"))
    more = {"surprisal": lambda: SUMS} if weights == "surprisal" else {}
    driver, twin, third = make(), make(), make()
    driver.rows(*BATCH, 1, **more)
    driver.save(tmp_path)
    twin.load(tmp_path)
    third.load_state_dict(driver.state_dict())
    expected = driver.rows(*BATCH, 2, **more)
    assert torch.equal(expected, twin.rows(*BATCH, 2, **more))
    assert torch.equal(expected, third.rows(*BATCH, 2, **more))
    assert driver.metrics()["kernadv/n_eff"] == twin.metrics()["kernadv/n_eff"]
    with pytest.raises(CheckpointError, match=r"nowhere holds no kernadv.safetensors: .* pass resume_cold=True"):
        twin.load(tmp_path / "nowhere")
    twin.resume_cold = True
    with pytest.warns(UserWarning, match="goes on without a past"):
        twin.load(tmp_path / "nowhere")


class GroupMean:
    """An estimator with what the protocol asks for and no more: leave-one-out means, in exact arithmetic."""

    def __init__(self):
        self.remembered = []

    def advantages(self, prompt_ids, rewards, step):
        self.remembered.append((list(prompt_ids), np.asarray(rewards).tolist(), np.asarray(step).tolist()))
        z = [Fraction(float(reward)) for reward in rewards]
        return np.array([x - (sum(z) - x) / (len(z) - 1) for x in z])

    def metrics(self):
        return {}

    def save(self, path):
        raise NotImplementedError

    def load(self, path):
        raise NotImplementedError


SPLIT = ["x", "y", "x", "x", "z"]  # three rollouts of one prompt in five rows


def split(z):
    """Rewards of the rows from those of the rollouts."""
    return np.array([z["xyz".index(name)] for name in SPLIT], float)


@pytest.mark.parametrize("make", [GroupMean, lambda: KernelValueEstimator.kae(0.5), KernelValueEstimator])
def test_the_own_reward_raises_the_advantage_by_one_however_a_rollout_is_split(make):
    """E[A | z = 1] - E[A | z = 0] by enumeration of all rewards, with any estimator; without `trace` it is less."""
    chance = [Fraction(1, 3), Fraction(1, 2), Fraction(3, 4)]
    means = {True: {0: 0, 1: 0}, False: {0: 0, 1: 0}}
    for told, z in product((True, False), product((0, 1), repeat=3)):
        driver = Driver(make())
        out = driver.rows(["a"] * 5, split(z), 1, trace=SPLIT if told else None)
        if told:
            assert out[0] == out[2] == out[3]
        odds = np.prod([p if reward else 1 - p for p, reward in zip(chance, z, strict=True)])
        own = chance[0] if z[0] else 1 - chance[0]
        means[told][z[0]] += Fraction(out[0]) * odds / own
    assert float(means[True][1] - means[True][0]) == pytest.approx(1.0, abs=1e-12)
    assert float(means[False][1] - means[False][0]) < 0.7


@pytest.mark.parametrize("keep", [None, [True, True, False, True, True]])
def test_a_rollout_in_several_rows_is_one_trace(keep):
    """As the same traces in a row each, with the sums of their surprisals and tokens; what is not kept is no part."""
    x, tokens = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([3.0, 5.0, 7.0, 11.0, 13.0])
    kept = np.ones(5, bool) if keep is None else np.array(keep)
    sums = [[float(part[kept & (np.array(SPLIT) == name)].sum()) for name in "xyz"] for part in (x, tokens)]
    driver, twin = Driver(), Driver()
    for step in (3, 5):
        got = driver.rows(
            ["a", "b", "a", "a", "b"],
            torch.tensor(split([1, 0, 1])),
            torch.tensor([step, step - 1, step, step, step]) if step == 3 else step,
            surprisal=lambda: (torch.tensor(x), torch.tensor(tokens)),
            keep=None if keep is None else torch.tensor(keep),
            trace=SPLIT,
        )
        steps = [step, step - 1, step] if step == 3 else step
        rewards = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
        want = twin.rows(["a", "b", "b"], rewards, steps, surprisal=lambda: sums)
        np.testing.assert_array_equal(got, np.where(kept, want[[0, 1, 0, 0, 2]], 0.0))
    one, other = driver.state_dict(), twin.state_dict()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_parts_that_contradict_each_other_are_refused_and_nothing_changes():
    driver = Driver(weights="none")
    driver.rows(*BATCH, 1)
    before = driver.state_dict()
    for ids, rewards, step, trace, message in [
        (["a", "b"], [1.0, 1.0], 2, ["x", "x"], "their prompts differ"),
        (["a", "a"], [1.0, 0.0], 2, ["x", "x"], "their rewards differ"),
        (["a", "a"], [1.0, 1.0], [2, 3], ["x", "x"], "their steps differ"),
        (["a", "a"], [1.0, 1.0], 2, ["x"], "one trace id a row"),
        (["a", "a"], [1.0, 1.0], 2, ["x", None], "must be str or int"),
    ]:
        with pytest.raises(KernadvError, match=message):
            driver.rows(ids, rewards, step, trace=trace)
    after = driver.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    nan = float("nan")
    assert driver.rows(["a", "a"], [nan, nan], 2, trace=["x", "x"]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("keep", [None, [True, False, True, True, True]])
def test_components_are_told_apart(tmp_path, keep):
    rewards = torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.0, 0.5], [0.0, 0.5], [1.0, 1.0]])
    trace = ["x", "v", "y", "y", "z"]
    driver, plain = Driver(ComponentValueEstimator(2)), ComponentValueEstimator(2)
    assert (driver.components, Driver().components) == (2, 0)
    first = [0, 2, 4] if keep else [0, 1, 2, 4]
    for _ in range(2):
        got = driver.rows(["a"] * 5, rewards, keep=None if keep is None else torch.tensor(keep), trace=trace)
        want = plain.advantages(["a"] * len(first), rewards[first], driver.step)
        np.testing.assert_array_equal(got[first], want)
        np.testing.assert_array_equal(got[3], got[2])
        assert keep is None or not got[1].any()
    assert got.shape == (5, 2)
    assert driver.metrics()["kernadv/1/n_eff"] > 0
    driver.save(tmp_path)
    twin = Driver(ComponentValueEstimator(2))
    twin.load(tmp_path)
    np.testing.assert_array_equal(driver.rows(["a"] * 5, rewards), twin.rows(["a"] * 5, rewards))
    with pytest.raises(CheckpointError, match=r"holds 2 components \(0, 1\), this estimator has 3"):
        Driver(ComponentValueEstimator(3)).load(tmp_path)


def test_components_with_weights():
    driver = Driver(ComponentValueEstimator(1, weighted=True))
    plain = Driver(KernelValueEstimator(weighted=True))
    ids, rewards = BATCH
    got = driver.rows(ids, rewards[:, None], surprisal=lambda: SUMS)
    assert torch.equal(got[:, 0], plain.rows(ids, rewards, surprisal=lambda: SUMS))
    with pytest.raises(ArgumentError, match="no log-probabilities"):
        driver.rows(ids, rewards[:, None])


def test_the_clock_of_a_framework_that_tells_no_step(tmp_path):
    driver, told = Driver(weights="none"), KernelValueEstimator()
    for step in (1, 2, 3):
        assert torch.equal(driver.rows(*BATCH), told.advantages(*BATCH, step))
    with pytest.raises(ArgumentError, match="finite"):
        driver.rows(["a"], torch.tensor([torch.inf]))
    assert (driver.calls, driver.step) == (3, 3)
    driver.rows(*BATCH, torch.tensor([8, 9, 8]))  # a step that is told moves it on
    told.observe(*BATCH, [8, 9, 8])
    driver.save(tmp_path)
    resumed = Driver(weights="none")
    resumed.load(tmp_path)
    assert (resumed.calls, resumed.step) == (4, 9)
    assert torch.equal(resumed.rows(*BATCH), told.advantages(*BATCH, 10))
    token_rewards, mask = torch.ones(3, 2), torch.ones(3, 2)
    driver.tokens(BATCH[0], token_rewards, mask)
    assert driver.step == 10


def test_a_driver_stands_where_an_estimator_does():
    driver, plain = Driver(KernelValueEstimator(weighted=True)), KernelValueEstimator(weighted=True)
    outer = Driver(driver, weights=lambda x, tokens: x / tokens)
    ids, rewards = BATCH
    got = outer.rows(ids, rewards, 4, surprisal=lambda: SUMS)
    assert torch.equal(got, plain.advantages(ids, rewards, 4, weights=SUMS[0].double() / SUMS[1].double()))
    assert (outer.calls, driver.calls, driver.step) == (1, 1, 4)
    twin = Driver(Driver(KernelValueEstimator(weighted=True)))
    twin.load_state_dict(outer.state_dict())
    one, other = outer.state_dict(), twin.state_dict()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert driver.advantages(ids, rewards, weights=SUMS[0], trace=["x", "y", "z"]).shape == (3,)
    with pytest.raises(ArgumentError, match="no log-probabilities"):
        driver.advantages(ids, rewards)
    unweighted = Driver(weights="none")
    assert torch.equal(unweighted.advantages(ids, rewards), KernelValueEstimator().advantages(ids, rewards, 1))


@pytest.fixture
def alone():
    """A process without an estimator, before and after."""
    _process._DRIVERS.clear()
    yield
    _process._DRIVERS.clear()


def test_use_takes_a_driver_or_an_estimator(alone, tmp_path):
    mine = Driver(KernelValueEstimator.kae(0.5))
    use(mine)
    assert _process.driver() is mine
    estimator = KernelValueEstimator.kae(0.25)
    use(estimator)
    assert _process.driver().estimator is estimator


def test_resume_cold_is_a_setting(alone, tmp_path):
    assert driver_of({"resume_cold": True, "h": 0.3}).resume_cold
    assert not driver_of({}).resume_cold
    with pytest.raises(KernadvError, match="resume_cold must be True or False, got 'yes'"):
        driver_of({"resume_cold": "yes"})
    with pytest.warns(UserWarning, match="goes on without a past"):
        _process.driver({"kernadv": {"resume_cold": True}}).load(tmp_path)
    use(Driver())
    assert not _process.driver({"kernadv": {}}).resume_cold
    assert _process.driver({"kernadv": {"resume_cold": True}}).resume_cold  # also of a driver of your own


def test_groups_are_those_of_the_framework():
    check_groups(["a", "a", "b", "b", "a", "a"], 2, [7, 7, 8, 8, 7, 7])
    check_groups(["a", "a", "b"], 2)
    check_groups(["a", "b"], 1, [1, 2])
    check_groups([], 4, [])
    message = r"rows 2 and 3 are of one group of 2, .* are 'b' and 'c': .* add a column 'task_id' to the data set"
    with pytest.raises(ArgumentError, match=message):
        check_groups(["a", "a", "b", "c"], 2, column="task_id")
    message = (
        r"rows 0 and 2 are of different rows of the data set, but share the prompt id 'a', .* a column 'prompt_id'"
    )
    with pytest.raises(ArgumentError, match=message):
        check_groups(["a", "a", "a", "a"], 2, ["x", "x", "y", "y"])
    with pytest.raises(ArgumentError, match="size must be a whole number"):
        check_groups(["a"], 0)


def build():
    """Return an estimator, for the test of `factory`."""
    return KernelValueEstimator.kae(0.25)


def test_settings_of_a_configuration(monkeypatch):
    assert repr(driver_of({}).estimator) == repr(KernelValueEstimator(weighted=True, pessimism=2.0))
    assert "pessimism=2" in repr(driver_of({}).estimator)
    assert driver_of({"weights": "math.hypot"}).estimator.pessimism == 1.0
    assert driver_of({"pessimism": 1.0}).estimator.pessimism == 1.0
    assert repr(driver_of({"h": 0.3, "kernel": "gaussian"}).estimator) == repr(
        KernelValueEstimator.kae(0.3, "gaussian")
    )
    assert driver_of({"allow_late": 4}).estimator.allow_late == 4
    assert not driver_of({"allow_late": 4, "weights": "none"}).weighted
    assert not driver_of({"weighted": False}).weighted
    assert driver_of({"pessimism": 2.0, "weights": "math.hypot"}).estimator.pessimism == 2.0
    monkeypatch.setitem(__import__("sys").modules, "mine", __import__("types").SimpleNamespace(build=build))
    assert repr(driver_of({"factory": "mine.build"}).estimator) == repr(KernelValueEstimator.kae(0.25))
    with pytest.raises(ArgumentError, match="unknown settings of kernadv"):
        driver_of({"bandwith": 3})
    with pytest.raises(ArgumentError, match=r"factory must stand alone, got \['h'\] beside it"):
        driver_of({"factory": "mine.build", "h": 0.3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"factory": "nowhere.build"},
            "factory='nowhere.build': there is no module 'nowhere'; put its folder on PYTHONP",
        ),
        ({"factory": "os.nowhere.build"}, "there is no module 'os.nowhere'"),
        (
            {"factory": "math.build"},
            "factory='math.build': 'build' of module 'math' is no function",
        ),
        ({"factory": "math.pi"}, "'pi' of module 'math' is no function but 3.14"),
        ({"factory": "math"}, "factory must be the name of a function, 'package.module.function', got 'math'"),
        ({"factory": "math..pi"}, "factory must be the name of a function"),
        ({"factory": 3}, "factory must be the name of a function, 'package.module.function', got 3"),
        ({3: 4, "x": 1}, "unknown settings of kernadv"),
        (3, "settings of kernadv must be a mapping, e.g. {h: 0.5}, got 3"),
        ("h", "settings of kernadv must be a mapping"),
    ],
)
def test_settings_that_name_nothing(settings, message):
    with pytest.raises(KernadvError, match=message):
        driver_of(settings)


def test_errors_inside_a_factory_are_its_own(monkeypatch, tmp_path):
    (tmp_path / "broken_factory.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        driver_of({"factory": "broken_factory.build"})


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("/a/folder", "got '/a/folder', which has no advantages, metrics, save, load"),
        (KernelValueEstimator, "which is a class; call it"),
    ],
)
def test_what_is_no_estimator(estimator, message):
    with pytest.raises(KernadvError, match=message):
        Driver(estimator)


@pytest.mark.parametrize("found", ["1.16.0", "1.16.2.dev1", "1.17.0", "1.17.0.rc1"])
def test_versions_that_are_newer_than_tested_warn_once(monkeypatch, found):
    check_version.cache_clear()
    monkeypatch.setattr(_driver, "version", lambda package: found)
    if found.startswith("1.17"):
        with pytest.warns(UserWarning, match=rf"tested with trl >= 1.16, < 1.17; {found} is installed"):
            check_version("trl", (1, 16), (1, 17))
    check_version("trl", (1, 16), (1, 17))
    check_version.cache_clear()


@pytest.mark.parametrize("found", ["1.15.9", "1.2", "0.23.1", "1"])
def test_a_version_that_is_too_old_is_refused_each_time(monkeypatch, found):
    check_version.cache_clear()
    monkeypatch.setattr(_driver, "version", lambda package: found)
    for _ in range(2):
        with pytest.raises(ArgumentError, match=rf"needs trl >= 1.16, and {found} is installed; run: pip install -U"):
            check_version("trl", (1, 16), (1, 17))


@pytest.mark.parametrize(
    ("adapter", "framework"),
    [("trl", "trl"), ("trl_async", "trl"), ("torchrl", "torchrl"), ("verl", "verl"), ("skyrl", "skyrl")],
)
def test_a_framework_that_is_missing_is_named(adapter, framework):
    """In a process in which neither its distribution nor its modules are found."""
    code = f"""if True:
        import importlib.metadata, importlib.util, sys
        def version(package): raise importlib.metadata.PackageNotFoundError(package)
        importlib.metadata.version = version
        class Nothing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == {framework!r}: raise ModuleNotFoundError(name=name)
        sys.meta_path.insert(0, Nothing())
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == {framework!r} else found(name)
        from kernadv import MissingExtraError
        try:
            import kernadv.adapters.{adapter}
        except MissingExtraError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.match(
        rf"kernadv needs {framework} >= [\d.]+, which is not installed; run: pip install '{framework}>=[\d.]+'",
        done.stdout,
    ), done.stderr


def test_the_sampler_is_the_schedule():
    sampler = ReuseSampler(5, 2, 3, seed=4, group=2, repeat=2)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 2 * 2 * 3 * 2 * 2
    want = [row for batch in block_reuse(5, 2, 3, seed=(4, 0)) for _ in range(2) for row in batch.repeat(2).tolist()]
    assert rows == want == list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != rows
    loader = torch.utils.data.DataLoader(range(5), batch_size=4, sampler=ReuseSampler(5, 2, 3, seed=4, group=2))
    assert next(iter(loader)).tolist() == rows[:4]


def test_a_stateful_loader_resumes_the_sampler():
    """As verl and SkyRL load their data."""
    loaders = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not installed: make test-adapters"
    )

    def loader():
        sampler = ReuseSampler(9, 2, 3, seed=4, group=2)
        sampler.set_epoch(1)
        return loaders.StatefulDataLoader(range(9), batch_size=4, sampler=sampler)

    first, second = loader(), loader()
    through = iter(first)
    for _ in range(5):
        next(through)
    second.load_state_dict(first.state_dict())
    rest = [batch.tolist() for batch in through]
    assert [batch.tolist() for batch in second] == rest
    assert len(rest) == 4 * 3 - 5


def test_a_sampler_that_keeps_the_order():
    sampler = ReuseSampler(5, 2, 2, None)
    assert list(sampler) == [0, 1, 0, 1, 2, 3, 2, 3]
    sampler.set_epoch(3)
    assert list(sampler) == [0, 1, 0, 1, 2, 3, 2, 3]
