"""slime, which does not install here: called as its source calls it, with what its source hands over."""

import copy
import itertools
import math
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernadv import ArgumentError, CheckpointError, KernelValueEstimator, prompt_id
from kernadv.adapters import _process, at_step, slime, use
from kernadv.adapters._driver import PESSIMISM


@pytest.fixture(autouse=True)
def fresh():
    """Each test has an estimator of its own, and is a new process to slime."""
    _process._DRIVERS.clear()
    slime._FIRST.clear()


class Sample:
    """The fields of slime's Sample that are used, with its defaults."""

    def __init__(
        self, prompt, reward, metadata=None, log_probs=None, *, rollout=None, versions=(), group=None, label=None
    ):
        self.prompt, self.reward, self.metadata, self.rollout_log_probs = prompt, reward, metadata, log_probs
        self.rollout_id, self.weight_versions, self.group_index, self.label = rollout, list(versions), group, label

    def get_reward_value(self, args):
        return self.reward


@pytest.fixture
def rollout(monkeypatch):
    """slime's counter of rollouts, from 0."""
    module = ModuleType("slime.rollout.sample_hooks")
    module._current_rollout_id = None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_slime(rollout):
    again = KernelValueEstimator(pessimism=PESSIMISM)
    for number in range(3):
        rollout._current_rollout_id = number
        rewards = np.random.default_rng(number).integers(0, 2, 4).tolist()
        samples = [Sample("x", z, {"prompt_id": p}) for z, p in zip([*rewards[:3], None], "aabb", strict=True)]
        raw, advantages = slime.post_process(SimpleNamespace(), samples)
        assert raw == [*rewards[:3], None]
        assert advantages == again.advantages(list("aabb"), [*rewards[:3], np.nan], number + 1).tolist()
        assert advantages[3] == 0
    assert slime.metrics()["kernadv/history_prompts"] == 2
    assert slime.metrics()["kernadv/value_mse"] == again.metrics()["value_mse"]


def test_slime_without_ids_or_a_rollout(rollout):
    samples = [Sample("What is 1+1?", 1.0), Sample([{"role": "user", "content": "?"}], 0.0, {})]
    with pytest.warns(UserWarning, match="no prompt_id in the metadata"), pytest.raises(ArgumentError, match="is None"):
        slime.post_process(SimpleNamespace(), samples)
    rollout._current_rollout_id = 0
    slime.post_process(SimpleNamespace(), samples)
    assert _process.driver().estimator.explain(prompt_id("What is 1+1?"), 2)["traces"].tolist() == [1]


def test_slime_weights(rollout):
    rollout._current_rollout_id = 0
    use(KernelValueEstimator(weighted=True))
    samples = [Sample("x", z, {"prompt_id": "a"}, w) for z, w in ((1.0, [-1.0, -2.0]), (0.0, [-0.5]))]
    want = KernelValueEstimator(weighted=True).advantages(["a", "a"], [1.0, 0.0], 1, weights=[9.0, 0.25])
    assert slime.post_process(SimpleNamespace(), samples)[1] == want.tolist()


def make(prompt, reward, **fields):
    """A sample of a prompt that is known by its id."""
    return Sample(prompt, reward, {"prompt_id": prompt}, **fields)


def test_samples_of_one_rollout_count_once(rollout):
    """A long rollout that was compacted, or had sub-agents, gives several samples."""
    rollout._current_rollout_id = 0
    samples = [make("a", 1.0, rollout=7) for _ in range(3)] + [
        make("a", 0.0, rollout=8),
        make("b", 1.0),
        make("b", 0.0),
    ]
    got = slime.post_process(SimpleNamespace(), samples)[1]
    want = KernelValueEstimator(pessimism=PESSIMISM).advantages(list("aabb"), [1.0, 0.0, 1.0, 0.0], 1)
    assert got == want[[0, 0, 0, 1, 2, 3]].tolist()
    assert _process.driver().estimator.explain("a", 2)["traces"].tolist() == [2]


def test_samples_of_one_rollout_are_weighed_together(rollout):
    rollout._current_rollout_id = 0
    use(KernelValueEstimator(weighted=True))
    parts = [make("a", 1.0, rollout=7, log_probs=[-1.0, -2.0]), make("a", 1.0, rollout=7, log_probs=[-3.0])]
    got = slime.post_process(
        SimpleNamespace(calculate_per_token_loss=True), [*parts, make("a", 0.0, log_probs=[-0.5])]
    )[1]
    want = KernelValueEstimator(weighted=True).advantages(["a", "a"], [1.0, 0.0], 1, weights=[36.0, 0.25])
    assert got == want[[0, 0, 1]].tolist()


def test_samples_of_one_rollout_may_have_rewards_of_their_own(rollout):
    """The rollout is remembered with their mean; the baseline of each is that of the rollout."""
    rollout._current_rollout_id = 0
    rewards = [1.0, 0.0, 0.5, None]
    samples = [make("a", z, rollout=7) for z in rewards] + [make("a", 0.25, rollout=8)]
    raw, got = slime.post_process(SimpleNamespace(), samples)
    assert raw == [*rewards, 0.25]
    whole = KernelValueEstimator(pessimism=PESSIMISM).advantages(["a", "a"], [0.5, 0.25], 1)
    np.testing.assert_allclose(got, [whole[0] + 0.5, whole[0] - 0.5, whole[0], 0.0, whole[1]], atol=1e-15)


@pytest.mark.parametrize("kind", ["kae", "values", "weights"])
def test_a_rollouts_own_reward_is_not_in_its_baseline(rollout, kind):
    """E[A | z = 1] - E[A | z = 0] = 1 over all rewards of the batch, also of a rollout in four samples."""
    if kind == "kae":
        use(KernelValueEstimator.kae(0.5))
    whose, chance = [0, 0, 0, 0, 1, 2, 3, 4, 5], [0.3, 0.3, 0.3, 0.3, 0.8, 0.8]

    def advantages(rewards, number):
        rollout._current_rollout_id = number
        samples = [
            make(
                "aaaabb"[own],
                rewards[own],
                rollout=10 * number + own,
                log_probs=[-0.1 * row - 0.2, -0.3] if kind == "weights" else None,
            )
            for row, own in enumerate(whose)
        ]
        return slime.post_process(SimpleNamespace(), samples)[1]

    for number, rewards in enumerate(([0, 1, 0, 0, 1, 1], [1, 0, 0, 1, 0, 1])):
        advantages(rewards, number)
    past = _process._DRIVERS["kernadv"]
    assert past.weighted is (kind == "weights")
    mean = np.zeros((2, len(whose)))
    for rewards in itertools.product([0, 1], repeat=len(chance)):
        _process._DRIVERS["kernadv"] = copy.deepcopy(past)
        got = advantages(rewards, 2)
        for row, own in enumerate(whose):
            others = [p if z else 1 - p for i, (z, p) in enumerate(zip(rewards, chance, strict=True)) if i != own]
            mean[rewards[own], row] += math.prod(others) * got[row]
    np.testing.assert_allclose(mean[1] - mean[0], 1.0, atol=1e-12)


def steps(rollout, number, versions, **args):
    """Steps that are remembered of one prompt a sample with these weight versions."""
    rollout._current_rollout_id = number
    samples = [make(f"p{row}", 1.0, versions=part) for row, part in enumerate(versions)]
    slime.post_process(SimpleNamespace(**args), samples)
    explain = _process.driver().estimator.explain
    return [int(explain(sample.prompt, number + 1)["steps"][-1]) for sample in samples]


def test_a_sample_has_the_step_of_the_weights_it_began_with(rollout):
    assert steps(rollout, 0, [["1"]]) == [1]
    assert steps(rollout, 3, [["4"], ["3"], ["2", "4"], [], ["default"]]) == [4, 3, 2, 4, 4]


def test_slime_numbers_its_weights_anew_when_it_resumes(rollout):
    assert steps(rollout, 10, [["1"]]) == [11]
    assert steps(rollout, 13, [["4"], ["2"]]) == [14, 12]


def test_weights_that_are_renewed_every_few_rollouts(rollout):
    """train_async.py renews them after rollouts 3, 7, 11, ...; it starts here with rollout 5."""
    every = {"update_weights_interval": 4}
    assert steps(rollout, 5, [["1"]], **every) == [6]
    assert steps(rollout, 9, [["2"], ["1"]], **every) == [9, 6]


def test_samples_of_one_rollout_have_the_step_of_the_first(rollout):
    rollout._current_rollout_id = 0
    slime.post_process(SimpleNamespace(), [make("b", 1.0)])
    rollout._current_rollout_id = 4
    samples = [make("a", 1.0, rollout=7, versions=[v]) for v in ("5", "3")]
    slime.post_process(SimpleNamespace(), samples)
    assert _process.driver().estimator.explain("a", 5)["steps"].tolist() == [3]


def test_ids_that_split_or_merge_prompts_are_refused(rollout):
    rollout._current_rollout_id = 0
    split = [make("a", 1.0, group=0), make("b", 1.0, group=0)]
    merged = [Sample("?", 1.0, {"prompt_id": "a"}, group=g, label=label) for g, label in ((0, "4"), (1, "5"))]
    for samples in (split, merged):
        with pytest.raises(ArgumentError, match="prompt_id"):
            slime.post_process(SimpleNamespace(), samples)
    assert _process.driver().metrics()["kernadv/history_visits"] == 0
    merged[1].label = "4"  # the same prompt twice in a batch
    slime.post_process(SimpleNamespace(), merged)


def test_rollouts_that_span_prompts_are_refused(rollout):
    rollout._current_rollout_id = 0
    with pytest.raises(ArgumentError, match="parts of one trace"):
        slime.post_process(SimpleNamespace(), [make("a", 1.0, rollout=7), make("b", 1.0, rollout=7)])


class Source:
    """slime's data source, which has nothing to save."""

    def __init__(self, folder):
        self.args = SimpleNamespace(save=str(folder), load=str(folder))

    def save(self, rollout_id):
        pass

    def load(self, rollout_id=None):
        pass


class DataSource(slime.DataSourceMixin, Source):
    """As the page says."""


@pytest.mark.parametrize("where", ["here", "memory://runs"])
def test_slime_checkpoints(rollout, tmp_path, where):
    if where == "here":
        where = tmp_path
    else:
        pytest.importorskip("fsspec", reason="fsspec is not installed: make test-adapters")
    rollout._current_rollout_id = 4
    slime.post_process(SimpleNamespace(), [Sample("x", 1.0, {"prompt_id": "a"})])
    DataSource(where).save(4)
    before = _process.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    DataSource(where).load(4)
    after = _process.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], x) for name, x in after.items())


def test_slime_resuming_without_a_history_is_an_error_unless_it_is_allowed(rollout, tmp_path):
    DataSource(tmp_path).load(-1)  # slime's number where it starts anew
    with pytest.raises(CheckpointError, match="resume_cold"):
        DataSource(tmp_path).load(4)
    cold = DataSource(tmp_path)
    cold.resume_cold = True
    with pytest.warns(UserWarning, match="goes on without a past"):
        cold.load(4)
    assert _process.driver().metrics()["kernadv/history_visits"] == 0


@pytest.mark.parametrize(("per_token", "weights"), [(True, [9.0, 0.25]), (False, [2.25, 0.25])])
def test_slime_resumed_reads_the_loss(rollout, tmp_path, per_token, weights):
    """The data source is loaded before the first rollout, and builds the estimator."""
    source = DataSource(tmp_path)
    source.args.calculate_per_token_loss, source.resume_cold = per_token, True
    with pytest.warns(UserWarning, match="goes on without a past"):
        source.load(4)
    rollout._current_rollout_id = 5
    got = slime.post_process(source.args, [make("a", z, log_probs=w) for z, w in ((1.0, [-1.0, -2.0]), (0.0, [-0.5]))])[
        1
    ]
    want = KernelValueEstimator(weighted=True, pessimism=PESSIMISM).advantages(
        ["a", "a"], [1.0, 0.0], 6, weights=weights
    )
    assert got == want.tolist()


def test_adapters_without_their_framework_say_what_is_missing():
    code = "import kernadv.adapters.slime as s; s._rollout()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "No module named 'slime'" in done.stderr


def test_at_step_nests():
    with at_step(1):
        with at_step(2):
            assert _process.current().step == 2
        assert _process.current().step == 1
