"""SkyRL and slime, which do not install here: called as their sources call them, with what their sources hand over."""

import pickle
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernadv import ArgumentError, KernelValueEstimator, prompt_id
from kernadv.adapters import _process, at_step, skyrl, slime, use


@pytest.fixture(autouse=True)
def fresh():
    """Each test has an estimator of its own."""
    _process._DRIVERS.clear()


def skyrl_batch(seed, pad=1):
    rng = np.random.default_rng(seed)
    rewards = torch.zeros(4 + pad, 3)
    rewards[:4, 2] = torch.tensor(rng.integers(0, 2, 4)).float()
    return rewards, torch.ones(4 + pad, 3), ["7", "7", "9", "9", *(f"pad{k}" for k in range(pad))]


class RayPPOTrainer:
    """What SkyRL's trainer does around the registered function."""

    def __init__(self, folder, registry):
        self.cfg = SimpleNamespace(trainer=SimpleNamespace(algorithm=SimpleNamespace(), ckpt_path=str(folder)))
        self.registry, self.global_step, self.all_metrics = registry, 1, {}

    def compute_advantages_and_returns(self, data):
        data["advantages"], data["returns"] = self.registry["kernadv"](
            token_level_rewards=data["rewards"],
            response_mask=data["response_mask"],
            index=data["uids"],
            values=None,
            config=self.cfg.trainer.algorithm,
            gamma=1.0,
            lambd=1.0,
            grpo_norm_by_std=False,
        )
        return data

    def save_checkpoints(self):
        (__import__("pathlib").Path(self.cfg.trainer.ckpt_path) / f"global_step_{self.global_step}").mkdir()

    def load_checkpoints(self):
        return 1, f"{self.cfg.trainer.ckpt_path}/global_step_1"


class Trainer(skyrl.TrainerMixin, RayPPOTrainer):
    """As a user writes it."""


@pytest.fixture
def registry(monkeypatch):
    """SkyRL's registry, under its module's name."""
    table = {}
    module = ModuleType("skyrl.backends.skyrl_train.utils.ppo_utils")
    module.AdvantageEstimatorRegistry = SimpleNamespace(register=table.__setitem__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    skyrl.register()
    return table


def test_skyrl(registry, tmp_path):
    trainer, again = Trainer(tmp_path, registry), KernelValueEstimator()
    for step in (1, 2, 3):
        trainer.global_step = step
        rewards, mask, uids = skyrl_batch(step)
        data = trainer.compute_advantages_and_returns({"rewards": rewards, "response_mask": mask, "uids": uids})
        want = again.advantages(uids[:4], rewards[:4].sum(1), step)
        assert torch.equal(data["advantages"][:4], want[:, None] * mask[:4])
        assert not data["advantages"][4:].any()
        assert trainer.all_metrics["kernadv/history_prompts"] == 2


def test_skyrl_checkpoints(registry, tmp_path):
    trainer = Trainer(tmp_path, registry)
    rewards, mask, uids = skyrl_batch(0)
    trainer.compute_advantages_and_returns({"rewards": rewards, "response_mask": mask, "uids": uids})
    trainer.save_checkpoints()
    before = _process.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    assert Trainer(tmp_path, registry).load_checkpoints()[0] == 1
    after = _process.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], x) for name, x in after.items())


def test_skyrls_function_travels_by_name_and_needs_a_step():
    assert pickle.loads(pickle.dumps(skyrl.kernel_advantage)) is skyrl.kernel_advantage
    with pytest.raises(ArgumentError, match="the step is not known"):
        skyrl.kernel_advantage(*skyrl_batch(0))


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
    again = KernelValueEstimator()
    for number in range(3):
        rollout._current_rollout_id = number
        rewards = np.random.default_rng(number).integers(0, 2, 4).tolist()
        samples = [Sample("x", z, {"prompt_id": p}) for z, p in zip([*rewards[:3], None], "aabb", strict=True)]
        raw, advantages = slime.post_process(SimpleNamespace(), samples)
        assert raw == [*rewards[:3], None]
        assert advantages == again.advantages(list("aabb"), [*rewards[:3], np.nan], number + 1).tolist()
        assert advantages[3] == 0
    assert slime.metrics()["kernadv/history_prompts"] == 2


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
    want = KernelValueEstimator(weighted=True).advantages(["a", "a"], [1.0, 0.0], 1, weights=[3.0, 0.5])
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
    Mine().load(99)  # nothing saved there: slime says so and starts anew
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
