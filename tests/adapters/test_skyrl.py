"""SkyRL: its registry and its trainer's own methods, without workers."""

import inspect
import pickle
import types
import typing

import numpy as np
import pytest
import typing_extensions

torch = pytest.importorskip("torch")

# On Python 3.11 pydantic wants the TypedDict of typing_extensions, which SkyRL's sources do not use.
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(typing, "TypedDict", typing_extensions.TypedDict)
    pytest.importorskip(
        "skyrl.train.trainer", reason="SkyRL is not installed: make test-adapters", exc_type=ImportError
    )

from skyrl.backends.skyrl_train.training_batch import TrainingInputBatch, pad_training_input_batch
from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.trainer import RayPPOTrainer
from skyrl.train.utils import trainer_utils
from skyrl.train.utils import utils as skyrl_utils

from kernadv import ArgumentError, CheckpointError, KernelValueEstimator
from kernadv.adapters import _process, skyrl, use
from kernadv.adapters._driver import PESSIMISM, STATE_FILE

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def fresh():
    """Each test has an estimator of its own."""
    _process._DRIVERS.clear()
    skyrl.register()
    skyrl.register()  # twice does no harm: an entry point and a worker may both do it


class Nothing:
    """Stands for the workers and the data loader: there is nothing to save, and nothing to load."""

    def __getattr__(self, name):
        return lambda *args, **options: {}


class Trainer(skyrl.TrainerMixin, RayPPOTrainer):
    """As a user writes it, without its workers."""

    def __init__(self, folder):
        self.cfg = SkyRLTrainConfig()
        self.cfg.trainer.algorithm.advantage_estimator = "kernadv"
        self.cfg.trainer.ckpt_path = str(folder)
        self.global_step, self.all_metrics, self.all_timings = 1, {}, {}
        self.dispatch = self.train_dataloader = Nothing()
        self.critic_model = self.tokenizer = None
        self.resume_mode = trainer_utils.ResumeMode.LATEST

    def _cleanup_old_checkpoints(self):
        """Needs Ray's nodes."""


def batch(seed, pad=2):
    """Two groups of two traces with their rewards at the last token, padded by SkyRL."""
    rewards = torch.zeros(4, 3)
    rewards[:, 2] = torch.tensor(np.random.default_rng(seed).integers(0, 2, 4)).float()
    ones = torch.ones(4, 3)
    out = TrainingInputBatch({"rewards": rewards, "response_mask": ones, "loss_mask": ones.clone(), "values": None})
    out.metadata = {"uids": ["7", "7", "9", "9"], "avg_response_length": 3.0, "is_last_step": [True] * 4}
    return rewards, pad_training_input_batch(out, pad)


def test_the_trainers_own_method(tmp_path):
    trainer, again = Trainer(tmp_path), KernelValueEstimator(pessimism=PESSIMISM)
    for step in (1, 2, 3):
        trainer.global_step = step
        rewards, data = batch(step)
        data = trainer.compute_advantages_and_returns(data)
        want = again.advantages(["7", "7", "9", "9"], rewards.sum(1), step)
        assert torch.equal(data["advantages"][:4], want[:, None].expand(4, 3))
        assert torch.equal(data["returns"], data["advantages"])
        assert not data["advantages"][4:].any()
        assert trainer.all_metrics["kernadv/history_prompts"] == 2
        assert trainer.all_metrics["kernadv/value_mse"] == again.metrics()["value_mse"]


def test_a_weighted_estimator_gets_the_squared_surprisal(tmp_path):
    use(KernelValueEstimator(weighted=True))
    trainer = Trainer(tmp_path)
    rewards, data = batch(2)
    data["action_log_probs"] = -torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    weights = data["action_log_probs"].sum(1)[:4] ** 2
    data = trainer.compute_advantages_and_returns(data)
    want = KernelValueEstimator(weighted=True).advantages(["7", "7", "9", "9"], rewards.sum(1), 1, weights=weights)
    assert torch.equal(data["advantages"][:4], want[:, None].expand(4, 3))
    trainer.cfg.generator.step_wise_trajectories = True
    with pytest.raises(ArgumentError, match="no log-probabilities"):
        trainer.compute_advantages_and_returns(batch(2)[1])


def test_steps_of_one_trajectory_count_once(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.cfg.generator.step_wise_trajectories = True
    rewards, data = batch(1, pad=0)
    data.metadata["is_last_step"] = [False, True, True, True]  # the first two rows are one trajectory
    data = trainer.compute_advantages_and_returns(data)
    want = KernelValueEstimator().advantages(["7", "9", "9"], rewards.sum(1)[1:], 1)[[0, 0, 1, 2]]
    assert torch.equal(data["advantages"], want[:, None].expand(4, 3))


def test_checkpoints(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.compute_advantages_and_returns(batch(0)[1])
    assert trainer.save_checkpoints() == str(tmp_path / "global_step_1")  # SkyRL hands it to its callbacks
    assert (tmp_path / "global_step_1" / STATE_FILE).is_file()
    before = _process.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    assert Trainer(tmp_path).load_checkpoints() == (1, str(tmp_path / "global_step_1"))
    after = _process.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], x, equal_nan=True) for name, x in after.items())
    use(KernelValueEstimator.kae(0.4))
    with pytest.raises(CheckpointError, match="strict=False"):
        Trainer(tmp_path).load_checkpoints()
    use(KernelValueEstimator())
    assert Trainer(tmp_path / "nothing").load_checkpoints() == (0, None)


def test_a_kl_penalty_in_the_reward_is_refused(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.cfg.trainer.algorithm.use_kl_in_reward = True
    with pytest.raises(ArgumentError, match="use_kl_in_reward must be false"):
        trainer.compute_advantages_and_returns(batch(0)[1])


def test_the_function_travels_by_name_and_needs_a_step():
    assert AdvantageEstimatorRegistry.get("kernadv") is skyrl.kernel_advantage
    assert pickle.loads(pickle.dumps(skyrl.kernel_advantage)) is skyrl.kernel_advantage
    with pytest.raises(ArgumentError, match="the step is not known"):
        skyrl.kernel_advantage(torch.zeros(1, 2), torch.ones(1, 2), ["7"])


def test_the_recipe_imports_and_defines_the_trainer():
    from pathlib import Path

    file = Path(__file__).parents[2] / "examples" / "recipes" / "skyrl_kernadv.py"
    recipe = types.ModuleType("skyrl_kernadv")
    exec(compile(file.read_text(), file, "exec"), recipe.__dict__)
    assert recipe.Trainer.__mro__[1:3] == (skyrl.TrainerMixin, RayPPOTrainer)
    expected = list(inspect.signature(recipe.BasePPOExp.get_trainer).parameters)[1:3]
    assert expected == ["cfg", "tracker"], f"SkyRL changed BasePPOExp.get_trainer: it starts with {expected}"


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("compute_advantages_and_returns", ["self", "data"]),
        ("save_checkpoints", ["self"]),
        ("load_checkpoints", ["self"]),
    ],
)
def test_methods_of_skyrl_that_are_relied_on(method, arguments):
    found = list(inspect.signature(getattr(RayPPOTrainer, method)).parameters)
    assert found == arguments, f"SkyRL changed RayPPOTrainer.{method}: expected {arguments}, found {found}"


def test_what_else_is_relied_on_in_skyrl():
    source = inspect.getsource(pad_training_input_batch)
    assert 'f"pad{i}"' in source, "SkyRL gives rows that pad a batch other uids than pad0, pad1, ..."
    assert "AdvantageEstimatorRegistry.list_available()" in inspect.getsource(skyrl_utils), (
        "SkyRL checks the estimator's name elsewhere"
    )
    source = inspect.getsource(RayPPOTrainer.save_checkpoints)
    assert 'f"global_step_{self.global_step}"' in source, "SkyRL names the folder of a checkpoint differently"
    assert hasattr(SkyRLTrainConfig().trainer.algorithm, "use_kl_in_reward"), "SkyRL renamed use_kl_in_reward"
