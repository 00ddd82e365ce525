"""slime, which does not install here: called as its source calls it, with what its source hands over."""

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
    """Each test has an estimator of its own."""
    _process._DRIVERS.clear()


class Sample:
    """The fields of slime's Sample that are used."""

    def __init__(self, prompt, reward, metadata=None, log_probs=None):
        self.prompt, self.reward, self.metadata, self.rollout_log_probs = prompt, reward, metadata, log_probs

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


def test_slime_checkpoints(rollout, tmp_path):
    class Source:
        def __init__(self):
            self.args = SimpleNamespace(save=str(tmp_path), load=str(tmp_path))

        def save(self, rollout_id):
            pass

        def load(self, rollout_id=None):
            pass

    class Mine(slime.DataSourceMixin, Source):
        pass

    rollout._current_rollout_id = 4
    slime.post_process(SimpleNamespace(), [Sample("x", 1.0, {"prompt_id": "a"})])
    Mine().save(4)
    before = _process.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    Mine().load(4)
    after = _process.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], x) for name, x in after.items())
    _process._DRIVERS.clear()
    Mine().load(-1)  # slime's number where it starts anew
    with pytest.raises(CheckpointError, match=r"kernadv_99 holds no kernadv\.safetensors"):
        Mine().load(99)
    assert _process.driver().metrics()["kernadv/history_visits"] == 0


def test_adapters_without_their_framework_say_what_is_missing():
    code = "import kernadv.adapters.slime as s; s._rollout()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "No module named 'slime'" in done.stderr


def test_at_step_nests():
    with at_step(1):
        with at_step(2):
            assert _process.current().step == 2
        assert _process.current().step == 1
