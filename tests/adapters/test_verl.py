"""verl: the registered estimator through verl's own functions, its trainer's methods, and a Ray actor."""

import copy
import inspect
import itertools
import math
import os
import runpy
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

verl = pytest.importorskip("verl", reason="verl is not installed: make test-adapters")

import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import RayPPOTrainer, compute_advantage
from verl.trainer.ppo.v1 import trainer_base
from verl.utils import tensordict_utils

from kernadv import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    ComponentValueEstimator,
    KernelValueEstimator,
    prompt_id,
)
from kernadv.adapters import _process
from kernadv.adapters import verl as adapter
from kernadv.adapters._driver import PESSIMISM, SMALLEST, STATE_FILE, Driver
from kernadv.scores import Surprisal

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


def test_of_a_session_the_last_output_tells_the_reward_and_all_give_the_weight():
    keys = ["a::1_0_1", "a::1_0_0", "a::1_1_0", "b::2_0_0"]
    log_probs = -torch.rand(ROWS, TOKENS, generator=torch.Generator().manual_seed(0))
    z, mask, advantages = multi(keys, {"old_log_probs": log_probs}, KernelValueEstimator(weighted=True))
    x = (log_probs * mask).sum(1).double()
    weights = torch.stack([x[0] + x[1], x[2], x[3]]) ** 2
    want = KernelValueEstimator(weighted=True).advantages(["a", "a", "b"], z[[0, 2, 3]], 1, weights=weights)[
        [0, 0, 1, 2]
    ]
    assert torch.allclose(advantages, want[:, None] * mask, atol=1e-6)


@pytest.mark.parametrize("kind", ["kae", "values", "weights"])
def test_a_sessions_own_reward_is_not_in_its_baseline(kind):
    """E[A | z = 1] - E[A | z = 0] = 1 over all rewards of the batch, also of a session of three outputs."""
    if kind == "kae":
        adapter.use(KernelValueEstimator.kae(0.5))
    keys = ["a::1_0_0", "a::1_0_1", "a::1_0_2", "a::1_1_0", "b::2_0_0", "b::2_1_0"]
    session, chance = [0, 0, 0, 1, 2, 3], [0.3, 0.3, 0.8, 0.8]
    mask = torch.ones(len(keys), TOKENS)
    log_probs = -torch.rand(len(keys), TOKENS, generator=torch.Generator().manual_seed(1))

    def advantages(rewards, step):
        scores = mask * 0
        scores[:, -1] = torch.tensor(rewards)[session]
        fields = {"token_level_rewards": scores, "token_level_scores": scores, "response_mask": mask}
        fields |= {"old_log_probs": log_probs} if kind == "weights" else {}
        uid = np.array([key.rsplit("_", 2)[0] for key in keys], dtype=object)
        with adapter.at_step(step):
            out = trainer_base.compute_advantage_for_multi_trajectories(
                DataProto.from_single_dict(fields | {"uid": uid}),
                batch_keys=keys,
                adv_estimator="kernadv",
                config={},
            )
        return out.batch["advantages"][:, 0].double().numpy()

    for step, rewards in enumerate(([0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]), 1):
        advantages(rewards, step)
    past = _process._DRIVERS["kernadv"]
    assert past.weighted is (kind == "weights")
    mean = np.zeros((2, len(keys)))
    for rewards in itertools.product([0.0, 1.0], repeat=4):
        _process._DRIVERS["kernadv"] = copy.deepcopy(past)
        got = advantages(list(rewards), 3)
        assert (got[:3] == got[0]).all()
        for row, own in enumerate(session):
            others = [p if z else 1 - p for i, (z, p) in enumerate(zip(rewards, chance, strict=True)) if i != own]
            mean[int(rewards[own]), row] += math.prod(others) * got[row]
    np.testing.assert_allclose(mean[1] - mean[0], 1.0, atol=1e-6)


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


def composed(*settings):
    """verl's own configuration."""
    hydra = pytest.importorskip("hydra", reason="hydra is not installed: make test-adapters")
    folder = str(Path(verl.__file__).parent / "trainer" / "config")
    with hydra.initialize_config_dir(folder, version_base=None):
        return hydra.compose("ppo_trainer", ["algorithm.adv_estimator=kernadv", *settings])


OTHERS = (
    "verl.trainer.ppo.ray_trainer.RayPPOTrainer",  # trainer.use_v1=false
    "verl.experimental.one_step_off_policy.ray_trainer.OneStepOffRayTrainer",
    "verl.experimental.fully_async_policy.fully_async_trainer.FullyAsyncTrainer",
    "verl.experimental.fully_async_policy.fully_async_rollouter.FullyAsyncRollouter",
)


def trainer_class(name):
    """By its full name; the class inside a Ray actor's."""
    module, _, kind = name.rpartition(".")
    found = getattr(__import__(module, fromlist=[kind]), kind)
    return found if isinstance(found, type) else found.__ray_metadata__.modified_class


@pytest.mark.parametrize("name", OTHERS)
def test_trainers_that_do_not_work_are_refused_when_they_are_built(name):
    config = composed("trainer.use_v1=false")
    message = (
        f"kernadv does not work with {name.rpartition('.')[2]}.*run verl.trainer.main_ppo with trainer.use_v1=true"
    )
    for arguments in ({}, {"role_worker_mapping": {}}):
        with pytest.raises(ArgumentError, match=message):
            trainer_class(name)(config, tokenizer=None, **arguments)
        with pytest.raises(ArgumentError, match=message):
            trainer_class(name)(config=config, tokenizer=None, **arguments)


def test_trainers_with_another_estimator_are_built():
    class Mine(RayPPOTrainer):
        def __init__(self, config, tokenizer):
            self.built = tokenizer

    config = composed()
    with pytest.raises(ArgumentError, match="does not work with Mine"):
        Mine(config, "words")
    config.algorithm.adv_estimator = "grpo"
    assert Mine(config, tokenizer="words").built == "words"


def test_trainers_that_were_imported_before_are_refused_too():
    code = (
        "import verl.experimental.one_step_off_policy.ray_trainer as other, kernadv.adapters.verl\n"
        "from omegaconf import OmegaConf\n"
        "other.OneStepOffRayTrainer(OmegaConf.create({'algorithm': {'adv_estimator': 'kernadv'}}), None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "kernadv does not work with OneStepOffRayTrainer" in done.stderr


@pytest.mark.parametrize(
    ("mode", "settings", "late"),
    [
        ("sync", [], False),
        ("colocate_async", [], 7),  # verl drops what spans more than 8 versions
        ("colocate_async", ["trainer.v1.sampler.max_off_policy_threshold=1"], False),
        ("colocate_async", ["trainer.v1.sampler.max_off_policy_threshold=null"], True),
        ("colocate_async", ["trainer.v1.sampler.max_off_policy_strategy=wait"], True),
        ("colocate_async", ["+algorithm.kernadv.allow_late=3"], 3),
        ("colocate_async", ["+algorithm.kernadv.h=0.5"], 7),
    ],
)
def test_rows_may_be_late_where_the_trainers_mode_lets_them(mode, settings, late):
    """verl's own trainer, as far as it is built without workers."""
    config = composed(f"trainer.v1.trainer_mode={mode}", *settings)
    trainer = trainer_base.get_trainer_cls(mode)(config)
    assert trainer.trainer_mode == mode
    assert adapter.driver().estimator.allow_late == late
    assert isinstance(adapter.driver().estimator.allow_late, bool) is isinstance(late, bool)


def test_an_estimator_that_refuses_late_rows_is_refused_in_asynchronous_modes():
    build = lambda mode: trainer_base.get_trainer_cls(mode)(composed(f"trainer.v1.trainer_mode={mode}"))
    adapter.use(KernelValueEstimator())
    build("sync")
    with pytest.raises(ArgumentError, match=r"trainer_mode=colocate_async rollouts can be late.*allow_late=True"):
        build("colocate_async")
    adapter.use(KernelValueEstimator(allow_late=True))
    build("colocate_async")


def test_an_estimator_of_several_components_is_refused():
    adapter.use(ComponentValueEstimator(2))
    with pytest.raises(ArgumentError, match="verl has one reward a row"):
        trainer_base.get_trainer_cls("sync")(composed())


def test_settings_that_cannot_work_are_told_when_the_trainer_is_built():
    for bad in ("+algorithm.kernadv.bandwith=3", "+algorithm.kernadv=3"):
        with pytest.raises((ArgumentError, ArgumentTypeError), match="settings of kernadv"):
            trainer_base.get_trainer_cls("sync")(composed(bad))


def test_the_step_of_a_row_is_that_of_the_version_its_session_began_with():
    keys = ["a::1_0_0", "a::1_0_1", "a::1_1_0", "b::2_0_0", "b::2_1_0"]
    versions = [{"min_global_steps": v} for v in (3, 5, 4, 6)] + [{"min_global_steps": None}]
    assert adapter._steps(keys, versions, 7) == [4, 4, 5, 7, 7]
    assert adapter._steps(keys, versions, 5) == [4, 4, 5, 5, 5]


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


def test_prompts_that_differ_must_not_share_an_index(tmp_path, monkeypatch):
    monkeypatch.setattr(Loader, "infos", ({"index": 11}, {"index": 11}))
    with pytest.raises(ArgumentError, match=r"extra_info\.index"):
        uids(Trainer(tmp_path))


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


def test_resuming_without_a_history_is_an_error_unless_it_is_allowed(tmp_path):
    Trainer(tmp_path)._save_checkpoint()
    (tmp_path / "global_step_1" / STATE_FILE).unlink()
    with pytest.raises(CheckpointError, match="resume_cold"):
        Trainer(tmp_path)._load_checkpoint()
    _process._DRIVERS.clear()
    cold = Trainer(tmp_path, kernadv={"resume_cold": True})
    cold._load_checkpoint()
    assert cold.global_steps == 1
    assert adapter.driver().metrics()["kernadv/history_visits"] == 0


def test_a_checkpoint_is_called_the_latest_only_when_the_history_is_written(tmp_path, monkeypatch):
    trainer, order = Trainer(tmp_path), []
    own = adapter._driver(trainer.config)
    latest = tmp_path / "latest_checkpointed_iteration.txt"
    monkeypatch.setattr(own, "finish", lambda: order.append(("history", latest.exists())))
    trainer.actor_rollout_wg.save_checkpoint = lambda *_, **__: order.append(("model", latest.exists()))
    trainer._save_checkpoint()
    assert order == [("history", False), ("model", False)]
    assert latest.exists()


def test_a_history_in_remote_storage(tmp_path, monkeypatch):
    """verl writes its own files to a local folder of that name."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: make test-adapters")
    monkeypatch.chdir(tmp_path)
    trainer = Trainer("memory://runs/7")
    adapter.driver().rows(["a", "b"], torch.tensor([1.0, 0.0]), 1)
    trainer._save_checkpoint()
    assert fsspec.filesystem("memory").exists(f"runs/7/global_step_1/{STATE_FILE}")
    _process._DRIVERS.clear()
    resumed = Trainer("memory://runs/7")
    resumed._load_checkpoint()
    assert resumed.global_steps == 1
    assert adapter.driver().estimator.explain("a", 3)["traces"].tolist() == [1]


def test_settings_on_the_command_line():
    """As the page says, with verl's own configuration."""
    config = composed("+algorithm.kernadv.h=0.5", "+algorithm.kernadv.allow_late=true")
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


def test_an_estimator_that_is_shared_by_its_name(ray, tmp_path):
    """One setting: the actor is made if it is not there, with what the mode of the trainer implies."""
    shared = {"name": f"verl-{uuid.uuid4()}", "folder": str(tmp_path / "log")}
    trainer = Trainer(tmp_path, kernadv={"remote": shared, "weights": "none"})
    trainer.config.trainer.v1 = {"trainer_mode": "colocate_async", "sampler": {"max_off_policy_threshold": None}}
    again = KernelValueEstimator(allow_late=True)
    adapter._driver(trainer.config)
    keys = ["a::1_0_0", "a::1_0_1", "a::1_1_0", "b::2_0_0"]
    for step in (2, 1):
        z, mask, advantages = multi(keys, step=step)
        want = again.advantages(["a", "a", "b"], z[[1, 2, 3]], step)[[0, 0, 1, 2]]
        assert torch.equal(advantages, want[:, None] * mask)
    trainer._save_checkpoint()
    _process._DRIVERS.clear()
    resumed = Trainer(tmp_path, kernadv={"remote": shared, "weights": "none"})
    resumed.config.trainer.v1 = trainer.config.trainer.v1
    resumed._load_checkpoint()
    assert adapter.driver().metrics()["kernadv/history_visits"] == again.metrics()["history_visits"]


def test_the_trainers_own_method_over_the_queue(ray, tmp_path):
    import transfer_queue as tq

    tq.init()
    trainer = Trainer(tmp_path, kernadv={"allow_late": True})
    again = KernelValueEstimator(pessimism=PESSIMISM, allow_late=True)
    for step, versions in ((1, [0, 0, 0, 0]), (2, [1, 1, 0, 1])):  # one rollout of the second batch is late
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
        tags = [{"min_global_steps": version} for version in versions]
        meta = tq.kv_batch_put(keys=keys, partition_id="train", tags=tags, fields=fields)
        metrics = {}
        trainer._compute_advantage(meta, metrics)
        written = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["advantages"])["advantages"]
        want = again.advantages(["a%5F1", "a%5F1", "b", "b"], scores.sum(1), np.array(versions) + 1)
        for row, advantage, n in zip(written.unbind(), want, lengths, strict=True):
            assert row.tolist() == [float(advantage)] * n
        assert metrics["kernadv/history_prompts"] == 2
        assert metrics["kernadv/value_mse"] == again.metrics()["value_mse"]
    tq.close()


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "separate_async"])
def test_the_training_loop(ray, tmp_path, monkeypatch, mode):
    """verl's own loop over its queue, of the example; a resumed run goes on where it was."""
    import transfer_queue as tq

    example = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "examples" / "verl_v1_kernadv.py")))
    calls, rows = [], Driver.rows

    def spied(self, ids, rewards, step, **options):
        calls.append((ids, rewards, step, options))
        return rows(self, ids, rewards, step, **options)

    monkeypatch.setattr(Driver, "rows", spied)
    tq.init()
    trainer = example.build(mode, tmp_path, "trainer.total_training_steps=8", "trainer.save_freq=8")
    before = trainer.actor_rollout_wg.policy.accuracy()
    trainer.fit(trainer.rollouts)
    assert trainer.actor_rollout_wg.policy.accuracy() > before
    metrics = adapter.driver().metrics()
    assert metrics["kernadv/history_prompts"] <= example.PROMPTS
    updates = example.UPDATES if mode == "separate_async" else 1
    lag = [number // updates + 1 - int(step) for number, call in enumerate(calls) for step in call[2]]
    assert set(lag) == ({0} if mode == "sync" else {0, 1})
    again = KernelValueEstimator(weighted=True, pessimism=PESSIMISM, allow_late=mode != "sync" and 7)
    weigh = Surprisal()
    for ids, rewards, step, options in calls:
        kept = [row for row, real in enumerate(options["keep"].tolist()) if real]
        names = [options["trace"][row] for row in kept]
        first = [kept[names.index(name)] for name in dict.fromkeys(names)]
        assert len(first) == 2 * example.BATCH // updates < len(kept) < len(ids)  # outputs of sessions, and padding
        x, tokens = (np.asarray(part) for part in options["surprisal"]())
        sums = [
            [
                sum(part[row] for row, name in zip(kept, names, strict=True) if name == one)
                for one in dict.fromkeys(names)
            ]
            for part in (x, tokens)
        ]
        weights = np.maximum(weigh.of_traces(*map(np.array, sums)), SMALLEST)
        again.advantages([ids[row] for row in first], rewards[first], np.array(step)[first], weights=weights)
    ours = adapter.driver().estimator.state_dict()
    for name, x in again.state_dict().items():
        np.testing.assert_allclose(ours[name], x, rtol=1e-6)
    calls.clear()
    _process._DRIVERS.clear()
    tq.close()
    tq.init()
    resumed = example.build(mode, tmp_path, "trainer.total_training_steps=9")
    assert resumed.global_steps == 8
    assert all(np.array_equal(ours[name], x) for name, x in adapter.driver().estimator.state_dict().items())
    resumed.fit(resumed.rollouts)
    seen = {int(step) for call in calls for step in call[2]}
    assert seen == {9} if mode == "sync" else seen <= {8, 9}  # also rollouts that the checkpoint's queue held
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
