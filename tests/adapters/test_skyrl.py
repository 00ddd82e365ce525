"""SkyRL: its registry and its trainers' own methods, without workers."""

import asyncio
import inspect
import itertools
import pickle
import types
import typing
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import typing_extensions
from fsspec.implementations.memory import MemoryFileSystem

torch = pytest.importorskip("torch")

# On Python 3.11 pydantic wants the TypedDict of typing_extensions, which SkyRL's sources do not use.
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(typing, "TypedDict", typing_extensions.TypedDict)
    pytest.importorskip(
        "skyrl.train.trainer", reason="SkyRL is not installed: make test-adapters", exc_type=ImportError
    )

import ray
from ray import cloudpickle
from skyrl.backends.skyrl_train.training_batch import TrainingInputBatch, pad_training_input_batch
from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.fully_async_trainer import FullyAsyncRayPPOTrainer, GeneratedOutputGroup
from skyrl.train.generators.base import TrajectoryID
from skyrl.train.trainer import RayPPOTrainer
from skyrl.train.utils import trainer_utils
from skyrl.train.utils import utils as skyrl_utils

from kernadv import ArgumentError, CheckpointError, KernelValueEstimator
from kernadv.adapters import Driver, _process, skyrl, use
from kernadv.adapters._driver import PESSIMISM, STATE_FILE
from kernadv.adapters.remote import RemoteEstimator

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


class WithoutWorkers:
    """What a trainer's methods need of its `__init__`, which starts workers and loads models."""

    def __init__(self, folder, *settings):
        self.cfg = skyrl.Config.from_cli_overrides(
            [
                "trainer.algorithm.advantage_estimator=kernadv",
                f"trainer.ckpt_path={folder}",
                "generator.n_samples_per_prompt=2",
                *settings,
            ]
        )
        self.global_step, self.all_metrics, self.all_timings = 1, {}, {}
        self.dispatch = self.train_dataloader = Nothing()
        self.critic_model = self.tokenizer = self.trajectory_logger = None
        self.resume_mode = trainer_utils.ResumeMode.LATEST

    def _cleanup_old_checkpoints(self):
        """Needs Ray's nodes."""


class Trainer(WithoutWorkers, skyrl.TrainerMixin, RayPPOTrainer):
    """As a user writes it, without its workers."""


class Async(WithoutWorkers, skyrl.TrainerMixin, FullyAsyncRayPPOTrainer):
    """The fully asynchronous one."""

    def __init__(self, folder, *settings):
        sizes = ["trainer.train_batch_size=2", "trainer.policy_mini_batch_size=2"]
        super().__init__(folder, "trainer.fully_async.max_staleness_steps=2", *sizes, *settings)
        self.max_staleness_steps, self.epoch = self.cfg.trainer.fully_async.max_staleness_steps, 0
        self.async_train_dataloader = types.SimpleNamespace(
            get_consumed_uids_list=lambda: ["7", "9"], get_filtered_uids_list=list
        )
        self.tokenizer = types.SimpleNamespace(pad_token_id=0, decode=str)
        self.dispatch = types.SimpleNamespace(
            get_lcm_dp_size=lambda: 4, save_checkpoint=lambda *_: None, load_checkpoint=lambda *_, **__: None
        )


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


def test_log_probabilities_of_the_sampler_weigh_the_traces_where_skyrl_computes_none(tmp_path):
    use(KernelValueEstimator(weighted=True))
    trainer = Trainer(tmp_path)
    rewards, data = batch(2, pad=0)
    data["rollout_logprobs"], data["action_log_probs"] = -0.5 - 0.5 * torch.rand(4, 3), None  # none is capped
    data["loss_mask"][:, 1] = 0  # what the environment wrote
    weights = data["rollout_logprobs"][:, [0, 2]].double().sum(1) ** 2
    data = trainer.compute_advantages_and_returns(data)
    want = KernelValueEstimator(weighted=True).advantages(["7", "7", "9", "9"], rewards.sum(1), 1, weights=weights)
    assert torch.allclose(data["advantages"], want[:, None].expand(4, 3))
    with pytest.raises(ArgumentError, match="no log-probabilities"):
        trainer.compute_advantages_and_returns(batch(2)[1])


def in_steps(rewards, turns, pad=2):
    """Two groups of two trajectories with their rewards at the last step; log-probabilities are those of a real batch."""
    last = [step + 1 == count for count in turns for step in range(count)]
    uids = [uid for uid, count in zip(["7", "7", "9", "9"], turns, strict=True) for _ in range(count)]
    given = torch.zeros(len(uids), 3)
    given[torch.tensor(last), 2] = torch.tensor(rewards, dtype=torch.float32)
    mask = torch.ones(len(uids), 3)
    log_probs = -torch.rand(len(uids), 3, generator=torch.Generator().manual_seed(0))
    columns = {"rewards": given, "response_mask": mask, "loss_mask": mask.clone(), "action_log_probs": log_probs}
    out = TrainingInputBatch({**columns, "values": None})
    out.metadata = {"uids": uids, "avg_response_length": 3.0, "is_last_step": last}
    return pad_training_input_batch(out, pad)


def test_steps_of_one_trajectory_count_once(tmp_path):
    use(KernelValueEstimator(weighted=True))
    trainer = Trainer(tmp_path, "generator.step_wise_trajectories=true")
    turns, rewards = [3, 1, 2, 1], [1.0, 0.0, 0.0, 1.0]
    data = in_steps(rewards, turns)
    of = np.repeat(range(4), turns)
    surprisal = np.bincount(of, -data["action_log_probs"][: len(of)].double().sum(1))  # of the steps together
    data = trainer.compute_advantages_and_returns(data)
    again = KernelValueEstimator(weighted=True)
    want = again.advantages(["7", "7", "9", "9"], rewards, 1, weights=surprisal**2)
    np.testing.assert_allclose(data["advantages"][: len(of)], np.repeat(want[of], 3).reshape(-1, 3), rtol=1e-6)
    assert not data["advantages"][len(of) :].any()
    assert trainer.all_metrics["kernadv/history_visits"] == 2
    assert trainer.all_metrics["kernadv/value_mse"] == pytest.approx(again.metrics()["value_mse"])


def test_law_of_trajectories_in_steps(tmp_path):
    """E[A | z = 1] - E[A | z = 0] = 1 for every trajectory, by all outcomes of two steps; the default, with weights."""
    p, turns, total = 0.3, [3, 1, 2, 1], np.zeros((2, 2, 4))
    first = np.cumsum(turns) - turns
    trainer = Trainer(tmp_path, "generator.step_wise_trajectories=true")
    for outcome in itertools.product((0, 1), repeat=8):
        _process._DRIVERS.clear()
        z = np.reshape(outcome, (2, 4))
        for step in range(2):
            trainer.global_step = step + 1
            data = trainer.compute_advantages_and_returns(in_steps(z[step].tolist(), turns, pad=0))
            advantages = data["advantages"][:, 0].double().numpy()[first]
            total[z[step], step, range(4)] += p ** sum(outcome) * (1 - p) ** (8 - sum(outcome)) * advantages
    np.testing.assert_allclose(total[1] / p - total[0] / (1 - p), 1, atol=1e-6)  # SkyRL's tensors are float32


def test_a_group_with_several_uids_is_refused(tmp_path):
    trainer = Trainer(tmp_path)
    _, data = batch(0)
    data.metadata["uids"][:4] = ["7", "9", "7", "9"]
    with pytest.raises(ArgumentError, match="of one group of 2"):
        trainer.compute_advantages_and_returns(data)
    assert not _process._DRIVERS  # nothing was learned


def group(uid, step, rewards, turns=(1, 1)):
    """What SkyRL's generation workers put into the buffer: two trajectories of one prompt."""
    rows = range(sum(turns))
    last = [step + 1 == count for count in turns for step in range(count)]
    ids = [TrajectoryID(instance_id=uid, repetition_id=k) for k, count in enumerate(turns) for _ in range(count)]
    each = [z for z, count in zip(rewards, turns, strict=True) for _ in range(count)]
    output = {
        "prompt_token_ids": [[1, 2]] * len(rows),
        "response_ids": [[3, 4, 5]] * len(rows),
        "rewards": each,
        "loss_masks": [[1, 1, 1]] * len(rows),
        "stop_reasons": ["stop"] * len(rows),
        "rollout_logprobs": [[-0.1 * (k + 1)] * 3 for k in rows],
        "rollout_metrics": {},
        "trajectory_ids": ids,
        "is_last_step": last,
    }
    return GeneratedOutputGroup(generator_output=output, uid=uid, global_step_when_scheduled=step)


def through(trainer, *groups):
    """From the buffer to the advantages, by the trainer's own methods."""
    data = trainer.convert_generation_group_mini_batch_to_training_input(list(groups))
    data["values"] = None
    return trainer.compute_advantages_and_returns(data)


@pytest.mark.parametrize("turns", [(1, 1), (3, 2)], ids=["one row a trajectory", "in steps"])
def test_fully_asynchronous_rows_have_the_step_at_which_their_group_was_scheduled(tmp_path, turns):
    settings = ["trainer.algorithm.kernadv.weights=none", "trainer.algorithm.kernadv.pessimism=1"]
    trainer = Async(tmp_path, *settings, f"generator.step_wise_trajectories={turns != (1, 1)}".lower())
    again = KernelValueEstimator(allow_late=2)
    first = [0, turns[0], sum(turns), sum(turns) + turns[0]]
    # Scheduled at these steps; the last group is older than SkyRL's bound, which holds on the whole alone.
    for step, scheduled, used in [(1, (1, 1), (1, 1)), (3, (3, 1), (3, 1)), (5, (4, 1), (4, 3))]:
        trainer.global_step = step
        rewards = [1.0, 0.0, 0.0, float(step > 1)]
        data = through(
            trainer, group("7", scheduled[0], rewards[:2], turns), group("9", scheduled[1], rewards[2:], turns)
        )
        want = again.advantages(["7", "7", "9", "9"], torch.tensor(rewards), np.repeat(used, 2))
        assert torch.equal(data["advantages"][first, 0], want)
        assert not data["advantages"][2 * sum(turns) :].any()  # padding
        assert skyrl.SCHEDULED not in data.metadata
    assert _process.driver().estimator.allow_late == 2


def test_the_fully_asynchronous_trainer_starts_saves_and_resumes(tmp_path):
    assert Async(tmp_path).load_checkpoints() == (0, None, None, None, None)
    trainer = Async(tmp_path)
    through(trainer, group("7", 1, [1.0, 0.0]), group("9", 1, [1.0, 1.0]))
    trainer.train_dataloader = types.SimpleNamespace(state_dict=dict)
    folder = trainer.save_checkpoints()
    before = _process.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    assert Async(tmp_path).load_checkpoints() == (1, folder, {"7", "9"}, set(), 0)
    after = _process.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], x, equal_nan=True) for name, x in after.items())


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


def test_a_checkpoint_without_a_state_is_refused_unless_asked_for(tmp_path):
    trainer = Trainer(tmp_path)
    RayPPOTrainer.save_checkpoints(trainer)  # as a run without kernadv does
    with pytest.raises(CheckpointError, match="resume_cold"):
        Trainer(tmp_path).load_checkpoints()
    _process._DRIVERS.clear()
    cold = Trainer(tmp_path, "trainer.algorithm.kernadv.resume_cold=true")
    with pytest.warns(UserWarning, match="goes on without a past"):
        assert cold.load_checkpoints() == (1, str(tmp_path / "global_step_1"))


def test_the_state_is_written_before_skyrl_calls_the_checkpoint_the_latest(tmp_path, monkeypatch):
    trainer = Trainer(tmp_path)
    trainer.compute_advantages_and_returns(batch(0)[1])

    def broken(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(Driver, "finish", broken)  # it raises what went wrong while the state was written
    with pytest.raises(OSError, match="the disk is full"):
        trainer.save_checkpoints()
    assert not (tmp_path / "latest_ckpt_global_step.txt").exists()


class Bucket(MemoryFileSystem):
    """Stands for Google's storage, which SkyRL reaches through fsspec, as kernadv does."""

    protocol = ("gs",)
    store: typing.ClassVar = {}
    pseudo_dirs: typing.ClassVar = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/")


def test_checkpoints_in_a_bucket(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fsspec.register_implementation("gs", Bucket, clobber=True)
    trainer = Trainer("gs://bucket/run")
    trainer.compute_advantages_and_returns(batch(0)[1])
    assert trainer.save_checkpoints() == "gs://bucket/run/global_step_1"
    assert f"/bucket/run/global_step_1/{STATE_FILE}" in Bucket.store
    assert not list(tmp_path.iterdir())  # no folder that is called "gs:"
    before = _process.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    assert Trainer("gs://bucket/run").load_checkpoints() == (1, "gs://bucket/run/global_step_1")
    after = _process.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], x, equal_nan=True) for name, x in after.items())


def test_settings_stand_in_the_configuration(tmp_path):
    trainer = Trainer(tmp_path, "trainer.algorithm.kernadv.h=0.5", "trainer.algorithm.kernadv.weights=none")
    trainer.cfg = cloudpickle.loads(cloudpickle.dumps(trainer.cfg))  # Ray sends it to the trainer's process
    rewards, data = batch(1)
    got = trainer.compute_advantages_and_returns(data)["advantages"][:4, 0]
    assert torch.equal(got, KernelValueEstimator.kae(0.5).advantages(["7", "7", "9", "9"], rewards.sum(1), 1))
    _process._DRIVERS.clear()
    with pytest.raises(ArgumentError, match="unknown settings of kernadv \\['bandwith'\\]"):
        Trainer(tmp_path, "trainer.algorithm.kernadv.bandwith=3").compute_advantages_and_returns(batch(1)[1])
    _process._DRIVERS.clear()
    plain = Trainer(tmp_path)
    plain.cfg = SkyRLTrainConfig()  # SkyRL's own configuration has no place for settings
    plain.cfg.trainer.algorithm.advantage_estimator, plain.cfg.generator.n_samples_per_prompt = "kernadv", 2
    plain.compute_advantages_and_returns(batch(1)[1])
    assert _process.driver().estimator.weighted is False


class Weights(Nothing):
    """Stands for the workers: counts how often new weights were handed to the sampler."""

    version = -1  # the first time, before training

    def get_lcm_dp_size(self):
        return 1

    async def save_weights_for_sampler(self):
        self.version += 1


class Sampler:
    """Generates two trajectories, and notes the version of the weights when it begins; some groups take long."""

    def __init__(self):
        self.weights, self.seen, self.order = Weights(), [], itertools.count()

    async def generate(self, given):
        version, uid = self.weights.version, given["trajectory_ids"][0].instance_id
        await asyncio.sleep(0.2 * (next(self.order) % 3 == 0))
        self.seen.append((uid, version))
        rewards = [1.0, float(version % 2)]
        return group(uid, 0, rewards).generator_output


class Prompts(list):
    """Four prompts, as SkyRL's data set gives them."""

    def __init__(self):
        super().__init__({"prompt": [], "env_class": None, "env_extras": {}, "uid": str(k)} for k in range(4))

    def collate_fn(self, items):
        return items


class Whole(skyrl.TrainerMixin, FullyAsyncRayPPOTrainer):
    """The whole trainer, but for its workers: the seams are those of SkyRL's own `FullyAsyncTrainerSim`."""

    def init_weight_sync_state(self):
        self.dispatch = self.generator.weights

    def fwd_logprobs_values_reward(self, data):
        data["values"] = data["action_log_probs"] = None
        return data

    def train_critic_and_policy(self, data):
        return {}

    def _cleanup_old_checkpoints(self):
        """Needs Ray's nodes."""


def train(folder, *settings):
    """Train for two epochs of two steps; return what the estimator was given, ids and steps, and what the sampler saw."""
    cfg = skyrl.Config.from_cli_overrides(
        [
            "trainer.algorithm.advantage_estimator=kernadv",
            "trainer.algorithm.policy_loss_type=rollout_is",
            f"trainer.ckpt_path={folder}",
            "trainer.ckpt_interval=100",  # and at the end of each epoch
            "trainer.hf_save_interval=-1",
            "trainer.eval_interval=-1",
            "trainer.epochs=2",
            "trainer.train_batch_size=2",
            "trainer.policy_mini_batch_size=2",
            "trainer.placement.colocate_all=false",
            "trainer.fully_async.enabled=true",
            "trainer.fully_async.max_staleness_steps=1",
            "trainer.fully_async.num_parallel_generation_workers=4",
            "generator.batched=false",
            "generator.inference_engine.enable_ray_prometheus_stats=false",
            "generator.n_samples_per_prompt=2",
            "data.dataloader.num_workers=0",
            "data.dataloader.persistent_workers=false",
            *settings,
        ]
    )
    sampler, given = Sampler(), []
    words = types.SimpleNamespace(pad_token_id=0, decode=str)
    trainer = Whole(cfg, Nothing(), words, Prompts(), Nothing(), sampler)
    trainer.dispatch = sampler.weights
    estimator = skyrl._driver_of(trainer).estimator
    advantages = estimator.advantages

    def noted(ids, rewards, step, **rest):
        given.append((list(ids), list(step)))
        return advantages(ids, rewards, step, **rest)

    estimator.advantages = noted
    asyncio.run(trainer.train())
    return given, sampler.seen


def test_a_whole_fully_asynchronous_run_and_its_resumption(tmp_path):
    """The step of each row is one above the version of the weights that its group began with, and some are late."""
    given, seen = train(tmp_path)
    visits = [(ids[k], step[k] - 1) for ids, step in given for k in range(0, 4, 2)]
    assert sorted(visits) == sorted(seen)
    assert len(given) == 4
    assert any(min(step) < now for now, (_, step) in enumerate(given, start=1))
    assert _process.driver().estimator.metrics()["history_visits"] == 8
    _process._DRIVERS.clear()
    # From the end of the first epoch: the history of its two steps, and the second epoch.
    given, _ = train(tmp_path, "trainer.resume_mode=from_path", f"trainer.resume_path={tmp_path / 'global_step_2'}")
    assert len(given) == 2
    assert min(given[0][1]) >= 3
    assert _process.driver().estimator.metrics()["history_visits"] == 8


def test_a_shared_estimator_is_a_setting_and_goes_back_with_the_checkpoint(tmp_path):
    shared = {"name": uuid4().hex, "folder": tmp_path / "shared"}
    settings = [f"trainer.algorithm.kernadv.remote.{name}={value}" for name, value in shared.items()]
    settings.append("trainer.algorithm.kernadv.weights=none")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning")
    try:
        trainer, again = Async(tmp_path, *settings), KernelValueEstimator(allow_late=2)
        data = through(trainer, group("7", 1, [1.0, 0.0]), group("9", 1, [1.0, 1.0]))
        want = again.advantages(["7", "7", "9", "9"], torch.tensor([1.0, 0.0, 1.0, 1.0]), 1)
        assert torch.equal(data["advantages"][:4, 0], want)
        assert isinstance(_process.driver().estimator, RemoteEstimator)
        trainer.train_dataloader = types.SimpleNamespace(state_dict=dict)
        trainer.save_checkpoints()
        trainer.global_step = 2
        through(trainer, group("7", 2, [1.0, 0.0]), group("9", 2, [1.0, 1.0]))
        assert _process.driver().estimator.metrics()["history_visits"] == 4
        _process._DRIVERS.clear()
        resumed = Async(tmp_path, *settings)
        assert resumed.load_checkpoints()[0] == 1
        assert _process.driver().estimator.metrics()["history_visits"] == 2  # what came after is forgotten
    finally:
        ray.shutdown()


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


@pytest.mark.parametrize(("fully", "base"), [(False, RayPPOTrainer), (True, FullyAsyncRayPPOTrainer)])
def test_the_recipe_makes_the_trainer(fully, base, monkeypatch):
    file = Path(__file__).parents[2] / "examples" / "recipes" / "skyrl_kernadv.py"
    recipe = types.ModuleType("skyrl_kernadv")
    exec(compile(file.read_text(), file, "exec"), recipe.__dict__)
    given = {}
    monkeypatch.setattr(base, "__init__", lambda self, **options: given.update(options))
    cfg = skyrl.Config.from_cli_overrides([f"trainer.fully_async.enabled={fully}".lower()])
    names = list(inspect.signature(recipe.BasePPOExp.get_trainer).parameters)[1:]
    options = {**dict.fromkeys(names), "cfg": cfg}
    trainer = recipe.Experiment.get_trainer(None, **options)
    assert type(trainer).__mro__[1:3] == (skyrl.TrainerMixin, base)
    assert given == options


@pytest.mark.parametrize("kind", [RayPPOTrainer, FullyAsyncRayPPOTrainer])
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("compute_advantages_and_returns", ["self", "data"]),
        ("save_checkpoints", ["self"]),
        ("load_checkpoints", ["self"]),
    ],
)
def test_methods_of_skyrl_that_are_relied_on(kind, method, arguments):
    found = list(inspect.signature(getattr(kind, method)).parameters)
    assert found == arguments, f"SkyRL changed {kind.__name__}.{method}: expected {arguments}, found {found}"


def test_what_else_is_relied_on_in_skyrl():
    source = inspect.getsource(pad_training_input_batch)
    assert 'f"pad{i}"' in source, "SkyRL gives rows that pad a batch other uids than pad0, pad1, ..."
    assert "AdvantageEstimatorRegistry.list_available()" in inspect.getsource(skyrl_utils), (
        "SkyRL checks the estimator's name elsewhere"
    )
    source = inspect.getsource(RayPPOTrainer.save_checkpoints)
    assert 'f"global_step_{self.global_step}"' in source, "SkyRL names the folder of a checkpoint differently"
    assert hasattr(SkyRLTrainConfig().trainer.algorithm, "use_kl_in_reward"), "SkyRL renamed use_kl_in_reward"
    source = inspect.getsource(FullyAsyncRayPPOTrainer._run_generate_for_a_group_loop)
    assert "global_step_at_start = self.global_step" in source, "SkyRL notes another step for a group"
    source = inspect.getsource(FullyAsyncRayPPOTrainer)
    assert "self.convert_generation_group_mini_batch_to_training_input," in source, "SkyRL renamed its conversion"
    assert "self.max_staleness_steps = cfg.trainer.fully_async.max_staleness_steps" in source, "SkyRL renamed its bound"
