"""verl: the registered estimator through verl's own functions, its trainer's methods, and a Ray actor."""

import inspect
import os
import uuid

import numpy as np
import pytest

verl = pytest.importorskip("verl", reason="verl is not installed: make test-adapters")

import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1 import trainer_base
from verl.utils import tensordict_utils

from kernadv import ArgumentError, CheckpointError, KernelValueEstimator, prompt_id
from kernadv.adapters import _process
from kernadv.adapters import verl as adapter
from kernadv.adapters._driver import PESSIMISM, STATE_FILE

pytestmark = pytest.mark.filterwarnings("default")
ROWS, TOKENS = 4, 5


@pytest.fixture(autouse=True)
def fresh():
    """Each test has an estimator of its own."""
    _process._DRIVERS.clear()


def batch(seed, prompts=("a_1", "a_1", "b", "b")):
    """Rewards at the last token of the mask, and uids drawn anew."""
    rng = np.random.default_rng(seed)
    mask = torch.ones(ROWS, TOKENS)
    mask[1::2, 4] = 0
    scores = torch.zeros(ROWS, TOKENS)
    scores[:, 3] = torch.tensor(rng.integers(0, 2, ROWS)).float()
    drawn = {prompt: str(uuid.UUID(int=rng.integers(2**60))) for prompt in prompts}
    return scores, mask, np.array([adapter.stable_uid(p, drawn[p]) for p in prompts], dtype=object)


def test_the_registered_function():
    again = KernelValueEstimator(pessimism=PESSIMISM)
    function = core_algos.get_adv_estimator_fn("kernadv")
    for step in range(1, 6):
        scores, mask, index = batch(step)
        with adapter.at_step(step):
            advantages, returns = function(token_level_rewards=scores, response_mask=mask, index=index, config=None)
        want = again.advantages(["a%5F1", "a%5F1", "b", "b"], scores.sum(1), step)
        assert torch.equal(advantages, want[:, None] * mask)
        assert torch.equal(advantages, returns)


def test_through_data_proto():
    scores, mask, index = batch(1)
    data = DataProto.from_single_dict({"token_level_rewards": scores, "response_mask": mask, "uid": index})
    with adapter.at_step(1):
        out = compute_advantage(data, adv_estimator="kernadv", config=None)
    want = KernelValueEstimator().advantages(index.tolist(), scores.sum(1), 1)
    assert torch.equal(out.batch["advantages"], want[:, None] * mask)


def multi(keys, extra=None, estimator=None, step=1):
    """Advantages of rows with the given keys through verl's function for sessions of several outputs."""
    scores, mask, _ = batch(3)
    index = np.array([key.rsplit("_", 2)[0] for key in keys], dtype=object)
    fields = {"token_level_rewards": scores, "token_level_scores": scores, "response_mask": mask, "uid": index}
    data = DataProto.from_single_dict(fields | (extra or {}))
    config = OmegaConf.create({"kernadv": {}})
    if estimator is not None:
        adapter.use(estimator)
    with adapter.at_step(step):
        out = trainer_base.compute_advantage_for_multi_trajectories(
            data, batch_keys=keys, adv_estimator="kernadv", config=config
        )
    return scores.sum(1), mask, out.batch["advantages"]


def test_a_session_of_several_outputs_counts_once():
    z, mask, advantages = multi(["a::1_0_0", "a::1_0_1", "a::1_1_0", "b::2_0_0"])  # rows 0 and 1: one session
    want = KernelValueEstimator().advantages(["a", "a", "b"], z[[1, 2, 3]], 1)[[0, 0, 1, 2]]
    assert torch.equal(advantages, want[:, None] * mask)
    assert adapter.driver().estimator.explain("a", 2)["traces"].tolist() == [2]


def test_padding_rows_are_not_remembered():
    keys = ["a::1_0_0", "a::1_1_0", f"pad{uuid.UUID(int=5).hex}_0_0", f"pad{uuid.UUID(int=5).hex}_1_0"]
    z, mask, advantages = multi(keys)
    want = KernelValueEstimator().advantages(["a", "a"], z[:2], 1)
    assert torch.equal(advantages[:2], want[:, None] * mask[:2])
    assert not advantages[2:].any()
    assert adapter.driver().estimator.metrics()["history_prompts"] == 1


def test_kl_stays_out_of_the_history():
    keys = ["a::1_0_0", "a::1_1_0", "b::2_0_0", "b::2_1_0"]
    scores, mask, _ = batch(3)
    kl = 0.1 * mask * torch.arange(ROWS)[:, None]
    z, _, advantages = multi(keys, {"token_level_rewards": scores - kl})
    twin = KernelValueEstimator()
    want = twin.advantages(["a", "a", "b", "b"], z, 1) - kl.sum(1)
    assert torch.allclose(advantages, want[:, None] * mask, atol=1e-6)
    ours = adapter.driver().estimator.state_dict()
    assert all(np.array_equal(ours[name], x, equal_nan=True) for name, x in twin.state_dict().items())


def test_a_weighted_estimator_gets_the_squared_surprisal():
    keys = ["a::1_0_0", "a::1_1_0", "b::2_0_0", "b::2_1_0"]
    log_probs = -torch.rand(ROWS, TOKENS, generator=torch.Generator().manual_seed(0))
    z, mask, advantages = multi(keys, {"old_log_probs": log_probs}, KernelValueEstimator(weighted=True))
    weights = (log_probs * mask).sum(1) ** 2
    want = KernelValueEstimator(weighted=True).advantages(["a", "a", "b", "b"], z, 1, weights=weights)
    assert torch.allclose(advantages, want[:, None] * mask, atol=1e-6)


def test_other_estimators_are_not_touched():
    scores, mask, index = batch(1)
    data = DataProto.from_single_dict({"token_level_rewards": scores, "response_mask": mask, "uid": index})
    options = {"adv_estimator": core_algos.AdvantageEstimator.GRPO, "num_repeat": 2}
    keys = [f"{uid}_{row}_0" for row, uid in enumerate(index)]
    out = trainer_base.compute_advantage_for_multi_trajectories(data, batch_keys=keys, **options)
    want = core_algos.compute_grpo_outcome_advantage(scores, mask, index)[0]
    assert torch.allclose(out.batch["advantages"], want)


def test_bad_calls():
    scores, mask, index = batch(1)
    call = lambda uids: core_algos.get_adv_estimator_fn("kernadv")(scores, mask, uids)
    with pytest.raises(ArgumentError, match="the step is not known"):
        call(index)
    with adapter.at_step(1), pytest.raises(ArgumentError, match="a uid must be 'prompt::anything'"):
        call(np.array([str(uuid.uuid4())] * ROWS, dtype=object))


class Trainer(trainer_base.PPOTrainer):
    """verl's trainer without its workers."""

    def __init__(self, folder, **algorithm):
        self.config = OmegaConf.create(
            {
                "algorithm": {
                    "adv_estimator": "kernadv",
                    "use_kl_in_reward": False,
                    "gamma": 1.0,
                    "lam": 1.0,
                    **algorithm,
                },
                "actor_rollout_ref": {"rollout": {"n": 2}, "actor": {}},
                "trainer": {"default_local_dir": str(folder), "resume_mode": "auto", "del_local_ckpt_after_load": False}
                | {"default_hdfs_dir": None},
            }
        )
        self.global_steps, self.trainer_mode, self.use_critic = 1, "sync", False
        self.actor_rollout_wg = Workers()
        self.train_dataloader = Loader()
        self.train_dataloader_it = None
        self.checkpoint_callback = trainer_base.build_checkpoint_callback(self.config)

    def step(self, metrics, timing_raw):
        raise NotImplementedError


Trainer.__abstractmethods__ = frozenset()


class Workers:
    """Remote workers that have nothing to save."""

    def save_checkpoint(self, path, *_, **__):
        os.makedirs(path, exist_ok=True)

    def load_checkpoint(self, **_):
        pass


class Loader:
    """Two prompts, as `RLHFDataset` and its collate function give them."""

    infos = ({"index": 11}, {"index": 12})

    def __iter__(self):
        prompts = [[{"role": "user", "content": text}] for text in ("1+1", "2+2")]
        columns = {"raw_prompt": prompts, "data_source": ["my_data"] * 2, "extra_info": list(self.infos)}
        yield {name: np.array(column, dtype=object) for name, column in columns.items()} | {"dummy": torch.zeros(2, 1)}

    def state_dict(self):
        return {}

    load_state_dict = state_dict.__get__


def uids(trainer):
    return list(tensordict_utils.get(trainer._fetch_one_gen_batch(), "uid"))


def test_fetched_prompts_have_stable_uids(tmp_path):
    trainer = Trainer(tmp_path)
    first, second = uids(trainer), uids(trainer)
    assert [uid.split("::")[0] for uid in first] == ["my%5Fdata/11", "my%5Fdata/12"]
    assert [uid.split("::")[0] for uid in second] == [uid.split("::")[0] for uid in first]
    assert not set(first) & set(second)
    for uid in first:  # verl cuts its keys at the first "_"
        assert f"{uid}_0_1".split("_", 1)[0] == uid


def test_uids_and_keys_of_verl_that_are_relied_on():
    from verl.trainer.ppo import padding_utils
    from verl.trainer.ppo.v1 import replay_buffer

    assert 'f"pad{uuid.uuid4().hex}"' in inspect.getsource(padding_utils), "verl gives padding rows other uids"
    assert 'split("_")[0]' in inspect.getsource(replay_buffer), "verl no longer cuts keys at '_': %5F may not be needed"


def test_without_an_index_the_messages_tell_prompts_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(Loader, "infos", ({}, {}))
    with pytest.warns(UserWarning, match=r"no extra_info.index in the data"):
        got = uids(Trainer(tmp_path))
    assert [uid.split("::")[0] for uid in got] == [prompt_id([{"role": "user", "content": t}]) for t in ("1+1", "2+2")]


def test_uids_of_other_estimators_stay_verls(tmp_path):
    for uid in uids(Trainer(tmp_path, adv_estimator="grpo")):
        assert str(uuid.UUID(uid)) == uid


def test_checkpoints(tmp_path):
    trainer = Trainer(tmp_path, kernadv={"h": 0.4})
    assert repr(adapter.driver(trainer.config.algorithm).estimator) == repr(KernelValueEstimator.kae(0.4))
    adapter.driver().rows(["a", "b"], torch.tensor([1.0, 0.0]), 1)
    trainer._save_checkpoint()
    assert (tmp_path / "global_step_1" / STATE_FILE).is_file()
    before = adapter.driver().estimator.state_dict()
    _process._DRIVERS.clear()
    resumed = Trainer(tmp_path, kernadv={"h": 0.4})
    resumed._load_checkpoint()
    assert resumed.global_steps == 1
    after = adapter.driver().estimator.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    _process._DRIVERS.clear()
    with pytest.raises(CheckpointError, match="strict=False"):
        Trainer(tmp_path, kernadv={"h": 0.5})._load_checkpoint()
    _process._DRIVERS.clear()
    other = Trainer(tmp_path / "new", adv_estimator="grpo")
    other._save_checkpoint()
    assert not (tmp_path / "new" / "global_step_1" / STATE_FILE).exists()


def test_a_checkpoint_named_by_its_path(tmp_path):
    trainer = Trainer(tmp_path)
    for step in (1, 2):
        trainer.global_steps = step
        adapter.driver().rows(["a", "b"], torch.tensor([1.0, 0.0]), step)
        trainer._save_checkpoint()
    _process._DRIVERS.clear()
    resumed = Trainer(tmp_path)
    resumed.config.trainer.update(resume_mode="resume_path", resume_from_path=str(tmp_path / "global_step_1"))
    resumed._load_checkpoint()
    assert adapter.driver().estimator.explain("a", 3)["traces"].tolist() == [1]


def test_killed_while_saving(tmp_path):
    """The history is there before verl calls a checkpoint the latest."""
    trainer = Trainer(tmp_path)
    adapter.driver().rows(["a"], torch.tensor([1.0]), 1)
    trainer._save_checkpoint()

    def die(*_, **__):
        raise KeyboardInterrupt

    trainer.global_steps, trainer.actor_rollout_wg.save_checkpoint = 2, die
    adapter.driver().rows(["a"], torch.tensor([0.0]), 2)
    with pytest.raises(KeyboardInterrupt):
        trainer._save_checkpoint()
    assert (tmp_path / "global_step_2" / STATE_FILE).is_file()
    _process._DRIVERS.clear()
    resumed = Trainer(tmp_path)
    resumed._load_checkpoint()
    assert resumed.global_steps == 1
    assert adapter.driver().estimator.explain("a", 3)["traces"].tolist() == [1]
    (tmp_path / "global_step_1" / STATE_FILE).write_bytes(b"damaged")
    _process._DRIVERS.clear()
    with pytest.raises(CheckpointError, match="truncated or not a checkpoint"):
        Trainer(tmp_path)._load_checkpoint()
    (tmp_path / "global_step_1" / STATE_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"global_step_1 holds no kernadv\.safetensors"):
        Trainer(tmp_path)._load_checkpoint()
    adapter.driver().resume_cold = True
    with pytest.warns(UserWarning, match="goes on without a past"):
        Trainer(tmp_path)._load_checkpoint()


def test_settings_on_the_command_line():
    """As the page says, with verl's own configuration."""
    from pathlib import Path

    import hydra

    with hydra.initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = hydra.compose(
            "ppo_trainer",
            ["algorithm.adv_estimator=kernadv", "+algorithm.kernadv.h=0.5", "+algorithm.kernadv.allow_late=true"],
        )
    assert repr(adapter.driver(config.algorithm).estimator) == repr(KernelValueEstimator.kae(0.5, allow_late=True))
    paths = ("trainer.default_local_dir", "trainer.resume_mode", "trainer.resume_from_path")
    for path in paths:
        assert OmegaConf.select(config, path, throw_on_missing=False) is not None or "resume_from" in path, (
            f"verl renamed {path}"
        )
    assert config.algorithm.use_kl_in_reward is False


@pytest.fixture(scope="module")
def ray():
    """Ray with logical CPUs for TransferQueue's actors."""
    ray = pytest.importorskip("ray", reason="ray is not installed: make test-adapters")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    loaded = {"env_vars": {"VERL_USE_EXTERNAL_MODULES": "kernadv.adapters.verl"}}
    ray.init(num_cpus=32, include_dashboard=False, log_to_driver=False, runtime_env=loaded)
    yield ray
    ray.shutdown()


def test_inside_a_ray_actor(ray):
    @ray.remote
    class TaskRunner:
        def advantages(self, rewards, mask, index):
            import verl  # noqa: F401  # loads the external module
            from verl.trainer.ppo import core_algos

            from kernadv.adapters.verl import at_step

            with at_step(1):
                return core_algos.get_adv_estimator_fn("kernadv")(rewards, mask, index)[0]

    scores, mask, index = batch(5)
    got = ray.get(TaskRunner.remote().advantages.remote(scores, mask, index))
    want = KernelValueEstimator().advantages(index.tolist(), scores.sum(1), 1)
    assert torch.equal(got, want[:, None] * mask)


def test_the_trainers_own_method_over_the_queue(ray, tmp_path):
    import transfer_queue as tq

    tq.init()
    trainer, again = Trainer(tmp_path), KernelValueEstimator(pessimism=PESSIMISM)
    for step in (1, 2):
        trainer.global_steps = step
        scores, _, index = batch(step)
        keys = [f"{uid}_{row % 2}_0" for row, uid in enumerate(index)]
        lengths = [5, 4, 5, 4]
        jagged = lambda rows: torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        fields = TensorDict(
            {
                "rm_scores": jagged([row[:n] for row, n in zip(scores, lengths, strict=True)]),
                "response_mask": jagged([torch.ones(n, dtype=torch.long) for n in lengths]),
            },
            batch_size=[ROWS],
        )
        tensordict_utils.assign_non_tensor_stack(fields, "uid", list(index))
        meta = tq.kv_batch_put(keys=keys, partition_id="train", tags=[{}] * ROWS, fields=fields)
        metrics = {}
        trainer._compute_advantage(meta, metrics)
        written = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["advantages"])["advantages"]
        want = again.advantages(["a%5F1", "a%5F1", "b", "b"], scores.sum(1), step)
        for row, advantage, n in zip(written.unbind(), want, lengths, strict=True):
            assert row.tolist() == [float(advantage)] * n
        assert metrics["kernadv/history_prompts"] == 2
        assert metrics["kernadv/value_mse"] == again.metrics()["value_mse"]
    tq.close()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("_fetch_one_gen_batch", ["self"]),
        ("_compute_advantage", ["self", "batch", "metrics"]),
        ("_save_checkpoint", ["self"]),
        ("_load_checkpoint", ["self"]),
    ],
)
def test_methods_of_verl_that_are_relied_on(name, arguments):
    method = inspect.unwrap(getattr(trainer_base.PPOTrainer, name))
    found = list(inspect.signature(method).parameters)
    assert found == arguments, f"verl changed PPOTrainer.{name}: expected {arguments}, found {found}"


def test_functions_of_verl_that_are_relied_on():
    function = inspect.unwrap(trainer_base.compute_advantage_for_multi_trajectories)
    found = list(inspect.signature(function).parameters)[:3]
    assert found == ["data", "batch_keys", "adv_estimator"], f"verl changed {function.__name__}: it starts with {found}"
    source = inspect.getsource(inspect.unwrap(trainer_base.PPOTrainer._compute_advantage))
    assert "compute_advantage_for_multi_trajectories(" in source, "verl computes advantages by another function"
    assert "batch_keys=batch.keys" in source, "verl no longer says which rows belong to one session"
