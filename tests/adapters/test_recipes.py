"""Recipes of frameworks that cannot run here, against stand-ins with the signatures that the frameworks publish.

OpenRLHF 0.11.2, ms-swift 4.6.0 and AReaL 1.0.4 by their wheels, whose sources are read below, since they do not import
without GPU libraries; NeMo-RL by its source of 22 August 2026.
"""

import ast
import asyncio
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import logging
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernadv import ArgumentError, ComponentValueEstimator, KernelValueEstimator, prompt_id
from kernadv._errors import CheckpointError
from kernadv.adapters import Driver
from kernadv.adapters._driver import PESSIMISM

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.fixture
def load(monkeypatch):
    """Import a recipe from its file, with stand-ins for the framework's modules: dotted name -> attributes."""

    def load(name, **modules):
        for dotted, attributes in modules.items():
            stand_in(monkeypatch, dotted.replace("__", "."), attributes)
        spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def stand_in(monkeypatch, dotted, attributes):
    """A module of that name, inside packages of the names before it."""
    parent, _, child = dotted.rpartition(".")
    for above in [parent.rsplit(".", k)[0] for k in range(parent.count("."), -1, -1)]:
        monkeypatch.setitem(sys.modules, above, sys.modules.get(above) or ModuleType(above))
    module = ModuleType(dotted)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, dotted, module)
    monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
    return module


def law(advantages, rollouts, p=0.3):
    """E[A | z = 1] - E[A | z = 0] of each rollout, over all rewards of a batch, which are independent and 1 with chance p.

    `advantages` takes the rewards and returns those of the rollouts.  # (R,)
    """
    mean = np.zeros((2, rollouts))
    for z in itertools.product((0, 1), repeat=rollouts):
        got = np.array(advantages([float(x) for x in z]), np.float64)
        for rollout, reward in enumerate(z):
            others = [p if x else 1 - p for k, x in enumerate(z) if k != rollout]
            mean[reward, rollout] += np.prod(others) * got[rollout]
    return mean[1] - mean[0]


def rows_of(ids, rewards):
    """What the default of the adapters makes of a first batch, without weights."""
    return KernelValueEstimator(pessimism=PESSIMISM).advantages(ids, rewards, 1)


# --- AReaL


class Turn:
    """An `InteractionWithTokenLogpReward` of AReaL, as it comes back from its proxy: with its tensors in store."""

    def __init__(self, reward, version, known=True):
        self.reward, self.has_tensor_data = reward, known
        self.tensors = {
            "rewards": torch.tensor([0.0 if reward is None else reward]),
            "versions": torch.tensor([[-1, version - 1, version]]),
        }

    def to_tensor_dict(self):
        return self.tensors


class Workflow:
    """Returns what the row of the data set holds."""

    def __init__(self, gain=1.0):
        self.gain = gain

    async def arun_episode(self, engine, data):
        return data["out"]


def single(z, version, rows=1):
    return {"rewards": torch.full((rows,), z), "versions": torch.tensor([[-1, version]] * rows)}


@pytest.fixture
def areal(load):
    """The recipe, beside a context that says whether this is an evaluation."""
    context = SimpleNamespace(is_eval=False)
    proxy = type("OpenAIProxyWorkflow", (Workflow,), {})
    recipe = load(
        "areal_kernadv",
        areal__api__workflow_api={"RolloutWorkflow": object},
        areal__infra={"workflow_context": SimpleNamespace(get=lambda: context)},
        areal__utils__dynamic_import={"import_from_string": {"mine.Workflow": Workflow}.get},
        areal__experimental__openai={"OpenAIProxyWorkflow": proxy},
    )
    recipe.context, recipe.proxy = context, proxy
    yield recipe
    for lock in recipe.LOCKS:
        os.close(lock)


def episode(workflow, out, **data):
    return asyncio.run(workflow.arun_episode(None, {"id": "a", "out": out, **data}))


def test_areal(areal, tmp_path):
    again = KernelValueEstimator(allow_late=True, pessimism=PESSIMISM)
    for name, z, version in [("a", 1.0, 0), ("b", 0.0, 2), ("a", 0.0, 1)]:  # the last one is late
        workflow = areal.KernelWorkflow("mine.Workflow", str(tmp_path), gain=2.0)  # AReaL makes one for each rollout
        assert workflow.workflow.gain == 2.0
        out = episode(workflow, single(z, version), id=name)
        assert out["rewards"].tolist() == again.advantages([name], torch.tensor([z]), version + 1).tolist()
    assert episode(workflow, None) is None
    areal.context.is_eval = True
    assert episode(workflow, single(5.0, 9))["rewards"] == 5.0
    assert workflow.driver.metrics()["kernadv/history_visits"] == 3
    mine = areal.KernelWorkflow(Workflow(), str(tmp_path), id_column="question")
    assert mine.driver is workflow.driver
    areal.context.is_eval = False
    with pytest.warns(UserWarning, match="no 'question': prompts are told apart by a hash"):
        episode(mine, single(1.0, 3), messages=[{"role": "user", "content": "1+1"}])


def test_areal_parts_of_a_rollout_count_once(areal, tmp_path):
    workflow = areal.KernelWorkflow(Workflow(), str(tmp_path))
    again = KernelValueEstimator(allow_late=True, pessimism=PESSIMISM)
    for version, z in enumerate([1.0, 0.0, 1.0]):
        turns = {str(k): Turn(z, version) for k in range(1 + version)}
        episode(workflow, turns)
        want = again.advantages(["a"], torch.tensor([z]), version + 1)
        assert all(turn.tensors["rewards"] == want for turn in turns.values())
    got = episode(workflow, single(0.0, 3, rows=4))["rewards"]
    assert got.tolist() == again.advantages(["a"], torch.tensor([0.0]), 4).tolist() * 4
    assert workflow.driver.metrics()["kernadv/history_visits"] == 4


def test_areal_turns_with_returns_of_their_own_keep_their_differences(areal, tmp_path):
    workflow = areal.KernelWorkflow(Workflow(), str(tmp_path))
    again = KernelValueEstimator(allow_late=True, pessimism=PESSIMISM)
    episode(workflow, single(1.0, 0))
    again.advantages(["a"], [1.0], 1)
    silent, *turns = (Turn(reward, 1) for reward in (None, 0.25, 0.5, 1.0))
    episode(workflow, {str(k): turn for k, turn in enumerate([silent, *turns])})
    first = float(again.advantages(["a"], [0.25], 2)[0])  # the return of the whole rollout
    got = [float(turn.tensors["rewards"][0]) for turn in turns]
    assert got == pytest.approx([first, first + 0.25, first + 0.75])
    assert silent.tensors["rewards"] == 0  # AReaL gives it 0 as well


def test_areal_leaves_rollouts_without_rewards_or_tokens_alone(areal, tmp_path):
    workflow = areal.KernelWorkflow(Workflow(), str(tmp_path))
    for turns in ({"1": Turn(1.0, 0, known=False)}, {"1": Turn(None, 0)}, {}):
        assert episode(workflow, turns) is turns
    assert episode(workflow, single(np.nan, 0))["rewards"] == 0
    assert workflow.driver.metrics()["kernadv/history_visits"] == 0


def test_areal_agents_behind_the_proxy(areal, tmp_path):
    areal.install(str(tmp_path))
    turn = Turn(1.0, 0)
    episode(areal.proxy(), {"1": turn})
    want = KernelValueEstimator(allow_late=True, pessimism=PESSIMISM).advantages(["a"], torch.tensor([1.0]), 1)
    assert turn.tensors["rewards"] == want
    assert areal.history(str(tmp_path)).metrics()["kernadv/history_visits"] == 1


def test_areal_law_with_split_rollouts(areal, tmp_path):
    def advantages(z):
        areal.history.cache_clear()
        workflow = areal.KernelWorkflow(Workflow(), str(tmp_path))
        episode(workflow, single(1.0, 0))  # a past
        rollouts = [{str(k): Turn(z[0], 1) for k in range(3)}, single(z[1], 1, rows=2)]
        got = [episode(workflow, out) for out in rollouts]
        return float(got[0]["2"].tensors["rewards"]), float(got[1]["rewards"][1])

    assert law(advantages, 2) == pytest.approx([1, 1], abs=1e-6)


def test_areal_goes_on_from_its_folder(areal, tmp_path):
    workflow = areal.KernelWorkflow(Workflow(), str(tmp_path))
    for k in range(50):  # the driver saves every so many calls
        episode(workflow, single(float(k % 3 == 0), k), id=str(k % 5))
    workflow.driver.finish()
    want = workflow.driver.state_dict()
    areal.history.cache_clear()
    other = areal.KernelWorkflow(Workflow(), str(tmp_path))  # of another process, while this one runs
    assert other.driver.metrics()["kernadv/history_visits"] == 0
    areal.history.cache_clear()
    os.close(areal.LOCKS.pop(0))
    resumed = areal.KernelWorkflow(Workflow(), str(tmp_path))
    assert resumed.driver is not workflow.driver
    assert equal(resumed.driver.state_dict(), want)
    episode(resumed, single(1.0, 20))  # AReaL recovers an earlier version than the newest of the history


def equal(one, other):
    """Whether two states hold the same arrays."""
    return one.keys() == other.keys() and all(np.array_equal(x, other[name]) for name, x in one.items())


# --- NeMo-RL


@pytest.fixture
def nemo(load, monkeypatch):
    """Build the estimator as `grpo_train` does: size of the groups, folder, and arguments of the driver."""
    final = SimpleNamespace(final_batch={})
    recipe = load(
        "nemo_rl_kernadv",
        nemo_rl__algorithms__grpo={
            "_create_advantage_estimator": None,
            "run_nemo_gym_rollout_sync": lambda *args, input_batch, **kwargs: final,
        },
    )
    stand_in(monkeypatch, "nemo_rl.algorithms.grpo_sync", {"_create_advantage_estimator": None})

    def make(folder, size=2, driver=None):
        kept = recipe.install(0, str(folder), driver)
        config = SimpleNamespace(
            grpo=SimpleNamespace(num_generations_per_prompt=size), loss_fn=SimpleNamespace(token_level_loss=True)
        )
        for name in ("grpo", "grpo_sync"):
            assert sys.modules[f"nemo_rl.algorithms.{name}"]._create_advantage_estimator(config) is kept
        return kept

    make.grpo, make.final = sys.modules["nemo_rl.algorithms.grpo"], final
    return make


def padded(width, *prompts):
    out = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in zip(out, prompts, strict=True):
        row[width - len(prompt) :] = torch.tensor(prompt)
    return out


def test_nemo_rl(nemo, tmp_path):
    estimator = nemo(tmp_path)
    again, mask = KernelValueEstimator(pessimism=PESSIMISM), torch.ones(4, 4)
    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0])
    for step, width in ((1, 3), (2, 5)):  # the padding grows; NeMo-RL tells no step
        with warnings_of_ids(step):
            got = estimator.compute_advantage(padded(width, [5, 6], [5, 6], [7, 8], [7, 8]), rewards, mask)
        want = again.advantages([prompt_id([5, 6])] * 2 + [prompt_id([7, 8])] * 2, rewards, step)
        assert torch.equal(got, want[:, None].expand(4, 4))
    assert estimator.last_metrics["kernadv/history_prompts"] == 2


def warnings_of_ids(call):
    """That prompts are told apart by a hash is said once."""
    return pytest.warns(UserWarning, match="told apart by a hash") if call == 1 else contextlib.nullcontext()


def test_nemo_rl_prompts_that_are_unique_to_a_rollout_need_ids(nemo, tmp_path):
    prompts = padded(3, [5, 6, 101], [5, 6, 102], [7, 8, 103], [7, 8, 104])
    rewards, mask = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.ones(4, 2)
    estimator = nemo(tmp_path)
    with pytest.warns(UserWarning, match="hash"), pytest.raises(ArgumentError, match="id"):
        estimator.compute_advantage(prompts, rewards, mask)
    assert estimator.driver.metrics()["kernadv/history_visits"] == 0
    infos = [{"prompt_id": name} for name in "aabb"]
    got = estimator.compute_advantage(prompts, rewards, mask, repeated_batch={"extra_env_info": infos})
    assert torch.equal(got[:, 0], rows_of(list("aabb"), rewards))
    nemo.grpo.run_nemo_gym_rollout_sync(input_batch={"extra_env_info": infos})
    assert nemo.final.final_batch == {"extra_env_info": infos}


def test_nemo_rl_weighs_by_its_log_probabilities(nemo, tmp_path):
    infos = {"extra_env_info": [{"prompt_id": "a"}] * 4}
    rewards, mask = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([[0.0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 1]])
    log_probs = -torch.rand(4, 3, generator=torch.Generator().manual_seed(1))
    driver = Driver()
    estimator = nemo(tmp_path, size=4)
    x = -(log_probs * mask).sum(1)
    want = driver.rows(["a"] * 4, rewards, 1, surprisal=lambda: (x, mask.sum(1)))
    got = estimator.compute_advantage(padded(1, *[[5]] * 4), rewards, mask, infos, logprobs_policy=log_probs)
    assert torch.allclose(got[:, 0], want)
    assert estimator.last_metrics["kernadv/weights_kish"] < 1
    skipped = nemo(tmp_path / "other", size=4)
    got = skipped.compute_advantage(padded(1, *[[5]] * 4), rewards, mask, infos, logprobs_policy=torch.zeros(4, 3))
    assert torch.equal(got[:, 0], rows_of(["a"] * 4, rewards))


def test_nemo_rl_law(nemo, tmp_path):
    def advantages(z):
        estimator = nemo(tmp_path)
        infos, mask = [{"prompt_id": name} for name in "aabb"], torch.ones(4, 1)
        prompts = padded(1, [1], [2], [3], [4])
        for rewards in ([1.0, 0.0, 0.0, 0.0], z):
            got = estimator.compute_advantage(prompts, torch.tensor(rewards), mask, {"extra_env_info": infos})
        return got[:, 0].tolist()

    assert law(advantages, 4) == pytest.approx([1] * 4, abs=1e-6)


def test_nemo_rl_goes_on_from_its_folder(nemo, tmp_path):
    infos, mask = {"extra_env_info": [{"prompt_id": "a"}] * 2}, torch.ones(2, 1)
    prompts, rewards = padded(1, [1], [2]), torch.tensor([1.0, 0.0])
    estimator, whole = nemo(tmp_path), nemo(tmp_path / "whole")
    for _ in range(50):  # the driver saves every so many calls
        estimator.compute_advantage(prompts, rewards, mask, infos)
        whole.compute_advantage(prompts, rewards, mask, infos)
    estimator.driver.finish()
    resumed = nemo(tmp_path)
    want = whole.compute_advantage(prompts, rewards, mask, infos)
    assert torch.equal(resumed.compute_advantage(prompts, rewards, mask, infos), want)  # the clock goes on, too


# --- OpenRLHF


class Maker:
    """In place of `RemoteExperienceMaker`."""

    def compute_advantages_and_returns(self, experiences):
        return experiences


class Trainer:
    """In place of `BasePPOTrainer`: what a checkpoint holds stays in `saved`."""

    def __init__(self, size=2):
        actor = SimpleNamespace(loss_agg_mode="token-mean", policy_loss_type="ppo")
        self.args = SimpleNamespace(
            actor=actor, rollout=SimpleNamespace(n_samples_per_prompt=size), ckpt=SimpleNamespace(save_steps=2)
        )
        self.experience_maker, self.saved = Maker(), {"global_step": 0}

    def train_step(self, rollout_samples, global_step):
        self.out = self.experience_maker.compute_advantages_and_returns(rollout_samples)
        return {"loss": 1.0}, global_step + 1

    def init_checkpoint_states(self):
        return dict(self.saved)

    def save_logs_and_checkpoints(self, global_step, logs_dict=None, client_states=None):
        if global_step % self.args.ckpt.save_steps == 0:
            self.saved = {**client_states, "global_step": global_step}

    def save_best_checkpoint(self, eval_metrics, global_step, client_states=None):
        self.saved = {**client_states, "global_step": global_step}


@pytest.fixture
def openrlhf(load):
    class Actor:
        __ray_metadata__ = SimpleNamespace(modified_class=Trainer)

    recipe = load(
        "openrlhf_kernadv",
        ray={"remote": lambda plain: plain},
        openrlhf__trainer__ppo_trainer={"PPOTrainer": Actor},
        openrlhf__trainer__ppo_trainer_async={"TrainingActor": Actor},
    )
    return recipe.smoothed(Actor)


def experiences(ids, rewards, log_probs=None, order=None, width=3):
    """Two micro batches of single rows, in an order of their own."""
    order = list(range(len(ids))) if order is None else order
    mask = torch.ones(len(ids), width)
    log_probs = -torch.ones(len(ids), width) if log_probs is None else log_probs
    return [
        SimpleNamespace(
            prompts=["text"] * len(rows),
            labels=[{"prompt_id": ids[k]} for k in rows],
            images=[None] * len(rows),
            index=list(rows),
            rewards=torch.tensor([rewards[k] for k in rows]),
            action_mask=mask[list(rows)],
            action_log_probs=log_probs[list(rows)],
        )
        for rows in (order[: len(ids) // 2], order[len(ids) // 2 :])
    ]


def rows_in_order(trainer):
    """First tokens' advantages, as generated."""
    out = {k: row[0] for e in trainer.out for k, row in zip(e.index, e.advantages.tolist(), strict=True)}
    return [out[k] for k in sorted(out)]


def test_openrlhf(openrlhf):
    trainer, again = openrlhf(), Driver()
    log_probs = -torch.rand(4, 3, generator=torch.Generator().manual_seed(2))
    surprisal = -log_probs.double().sum(1), torch.full((4,), 3.0)
    for step in (1, 2):
        rewards = [1.0, 0.0, float(step), 0.0]
        batch = experiences("aabb", rewards, log_probs, order=[2, 0, 3, 1])  # balanced by length
        status, after = trainer.train_step(batch, step - 1)
        want = again.rows(list("aabb"), torch.tensor(rewards), step, surprisal=lambda: surprisal)
        assert rows_in_order(trainer) == pytest.approx(want.tolist())
        assert all(torch.equal(e.returns, e.advantages) for e in trainer.out)
        assert after == step
        assert status["kernadv/history_prompts"] == 2


def test_openrlhf_texts_labels_and_images_tell_prompts_apart(openrlhf):
    trainer = openrlhf(size=1)
    batch = experiences("abcd", [1.0, 0.0, 1.0, 0.0])
    for experience, labels, images in zip(
        batch, [["3", "4"], ["4", "4"]], [[None, None], [None, "a.png"]], strict=True
    ):
        experience.labels, experience.images = labels, images
    with pytest.warns(UserWarning, match="no 'prompt_id' in the labels"):
        trainer.train_step(batch, 0)
    assert trainer.kernadv.metrics()["kernadv/history_prompts"] == 3


def test_openrlhf_groups_are_checked(openrlhf):
    trainer = openrlhf()
    with pytest.raises(ArgumentError, match="id"):
        trainer.train_step(experiences("abab", [1.0, 0.0, 1.0, 0.0]), 0)
    assert trainer.kernadv.metrics()["kernadv/history_visits"] == 0


def test_openrlhf_law(openrlhf):
    def advantages(z):
        trainer = openrlhf()
        trainer.train_step(experiences("aabb", [1.0, 0.0, 0.0, 0.0]), 0)
        trainer.train_step(experiences("aabb", z), 1)
        return rows_in_order(trainer)

    assert law(advantages, 4) == pytest.approx([1] * 4, abs=1e-6)


def test_openrlhf_history_is_part_of_the_checkpoint(openrlhf):
    whole, rewards = openrlhf(), [1.0, 0.0, 1.0, 1.0]
    for step in range(2):
        whole.train_step(experiences("aabb", rewards), step)
        whole.save_logs_and_checkpoints(step + 1, {}, {"episode": 0} if step else None)
    assert whole.saved["episode"] == 0
    resumed = openrlhf()
    resumed.saved = whole.saved
    for x in whole.saved["kernadv"].values():
        x.setflags(write=False)  # as Ray hands arrays over
    assert "kernadv" not in resumed.init_checkpoint_states()
    for trainer in (whole, resumed):
        trainer.train_step(experiences("aabb", rewards), 2)
    assert rows_in_order(resumed) == rows_in_order(whole)
    whole.save_best_checkpoint({}, 3)
    assert whole.saved["kernadv"]
    cold = openrlhf()
    cold.saved = {"global_step": 2}
    with pytest.raises(CheckpointError, match="step 2 has no history"):
        cold.init_checkpoint_states()
    cold.kernadv.resume_cold = True
    assert cold.init_checkpoint_states() == {"global_step": 2}
    assert openrlhf().init_checkpoint_states() == {"global_step": 0}


def test_openrlhf_own_trainer_in_ray(tmp_path):
    """It lives in a process of its own, which imports OpenRLHF anew; also after a restart, and with a queue of rollouts."""
    for package in ("openrlhf", "ray", "torchdata"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: make test-adapters")
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), str(here / "stand_ins"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, str(here / "openrlhf_in_ray.py"), str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "cache"),
            "RAY_raylet_start_wait_time_s": "300",  # on a busy machine
        },
        check=True,
        timeout=900,
    )
    for kind, steps in {"sync": 8, "async": 4}.items():  # the last episode begun before a restart is run again
        again, batches = Driver(), (tmp_path / kind / "batches.jsonl").read_text().splitlines()
        assert len(batches) == steps
        for step, batch in enumerate(map(json.loads, batches), 1):
            width = torch.full((len(batch),), float(len(batch[0]["advantages"])))
            rewards = torch.tensor([row["reward"] for row in batch])
            want = again.rows([row["id"] for row in batch], rewards, step, surprisal=lambda w=width: (w, w))
            assert [row["advantages"][0] for row in batch] == pytest.approx(want.tolist(), abs=1e-6)


# --- ms-swift


class Sample(SimpleNamespace):
    """In place of `GRPOSample`: a column `prompt_id` is a field, any other is extra."""

    def __init__(self, content, prompt_id="", request_id=""):
        super().__init__(
            messages=[{"role": "user", "content": content}], prompt_id=prompt_id, request_id=request_id, extra={}
        )


@pytest.fixture
def swift(load, tmp_path):
    """Build a trainer: size of the groups, and rank; `gathered` are the ids of all processes, if there are several."""

    class GRPOTrainer:
        def __init__(self, size=2, rank=0):
            self.model, self.state = SimpleNamespace(training=True), SimpleNamespace(global_step=0)
            self.reward_weights, self._metrics = torch.tensor([1.0, 0.5]), {"train": defaultdict(list)}
            self.args = SimpleNamespace(should_save=rank == 0, output_dir=str(tmp_path))
            self.num_generations, self.dynamic_num_samples = size, False

        def _preprocess_inputs(self, samples):
            for k, sample in enumerate(samples):
                sample.prompt_id, sample.request_id = "prompt_0", f"chatcmpl-{k}"
            return samples

        def _compute_advantages(self, samples, rewards_per_func, batch_encoded_inputs):
            return torch.full((len(rewards_per_func),), 9.0)

        def _save_checkpoint(self, model, trial):
            (tmp_path / f"checkpoint-{self.state.global_step}").mkdir(exist_ok=True)

        def _load_optimizer_and_scheduler(self, checkpoint):
            self.loaded = checkpoint

    mapping = {}
    recipe = load(
        "ms_swift_kernadv",
        accelerate__utils={"gather_object": lambda rows: trainer.gathered or rows},
        swift__rlhf_trainers__grpo_trainer={"GRPOTrainer": GRPOTrainer},
        swift__trainers__trainer_factory={"TrainerFactory": SimpleNamespace(TRAINER_MAPPING=mapping)},
    )
    assert mapping == {"grpo": "ms_swift_kernadv.KernelGRPOTrainer"}
    trainer = recipe.KernelGRPOTrainer
    trainer.gathered = None
    return trainer


def columns(rewards):
    """Two reward functions, of which the second finds nothing to score."""
    first = torch.tensor(rewards)
    return torch.stack([first, torch.full_like(first, torch.nan)], 1)


def test_ms_swift(swift, tmp_path):
    trainer = swift()
    samples = trainer._preprocess_inputs([Sample("1+1", prompt_id=7) for _ in range(2)])
    assert [sample.prompt_id for sample in samples] == ["7", "7"]
    more = swift(size=3)
    with pytest.warns(UserWarning, match="no column 'prompt_id'"):
        samples = more._preprocess_inputs([Sample("1+1") for _ in range(3)])
    name = prompt_id([{"role": "user", "content": "1+1"}])
    for sample in samples:  # turns of a scheduler differ from rollout to rollout
        sample.messages = [*sample.messages, {"role": "tool", "content": sample.request_id}]
    rewards = torch.tensor([[1.0, 1.0], [0.0, torch.nan], [torch.nan, torch.nan]])
    got = more._compute_advantages(samples, rewards, [])
    assert torch.equal(got, rows_of([name] * 3, torch.tensor([1.5, 0.0, torch.nan])))
    assert more._metrics["train"]["kernadv/history_prompts"] == [1.0]
    more.model.training = False
    assert (more._compute_advantages(samples, rewards, []) == 9.0).all()


def test_ms_swift_several_rewards_have_a_value_each(swift):
    trainer, again = swift(), ComponentValueEstimator(2)
    trainer.kernadv = Driver(ComponentValueEstimator(2))
    samples = trainer._preprocess_inputs([Sample("x", prompt_id="a") for _ in range(2)])
    for step in range(2):
        trainer.state.global_step = step
        rewards = torch.tensor([[1.0, 0.25], [0.0, torch.nan]])
        got = trainer._compute_advantages(samples, rewards, [])
        want = again.advantages(["a", "a"], rewards, step + 1) @ trainer.reward_weights
        assert torch.allclose(got, want)


def test_ms_swift_groups_are_checked(swift):
    trainer = swift()
    samples = trainer._preprocess_inputs([Sample("x", prompt_id=name) for name in "ab"])
    with pytest.raises(ArgumentError, match="id"):
        trainer._compute_advantages(samples, columns([1.0, 0.0]), [])
    assert trainer.kernadv.metrics()["kernadv/history_visits"] == 0


def test_ms_swift_every_process_keeps_the_same_history(swift, tmp_path):
    swift.gathered = list("aabb")  # rows of process 0, then of process 1
    out = []
    for rank, name in enumerate("ab"):
        trainer = swift(rank=rank)
        samples = trainer._preprocess_inputs([Sample("x", prompt_id=name) for _ in range(2)])
        out.append(trainer._compute_advantages(samples, columns([1.0, 0.0, 1.0, 1.0]), []))
        trainer.state.global_step = rank
        trainer._save_checkpoint(None, None)
        assert (tmp_path / f"checkpoint-{rank}" / "kernadv.safetensors").is_file() is (rank == 0)
    assert torch.equal(*out)
    assert torch.equal(out[0], rows_of(swift.gathered, torch.tensor([1.0, 0.0, 1.0, 1.0])))


def test_ms_swift_resumes_with_the_history(swift, tmp_path):
    whole = swift()
    samples = whole._preprocess_inputs([Sample("x", prompt_id="a") for _ in range(2)])
    whole._compute_advantages(samples, columns([1.0, 0.0]), [])
    whole._save_checkpoint(None, None)
    resumed = swift()
    resumed._load_optimizer_and_scheduler(None)
    assert resumed.kernadv.metrics()["kernadv/history_visits"] == 0
    resumed._load_optimizer_and_scheduler(str(tmp_path / "checkpoint-0"))
    for trainer in (whole, resumed):
        trainer.state.global_step = 1
    out = [trainer._compute_advantages(samples, columns([1.0, 1.0]), []) for trainer in (whole, resumed)]
    assert torch.equal(*out)
    with pytest.raises(CheckpointError):
        swift()._load_optimizer_and_scheduler(str(tmp_path))


def split(trainer, requests, rewards):
    """A call with split rollouts: their requests, and one reward a sample."""
    trainer.dynamic_num_samples = True
    samples = [Sample("x", prompt_id="a", request_id=request) for request in requests]
    return trainer._compute_advantages(samples, columns(rewards), [])


def test_ms_swift_samples_of_a_rollout_count_once(swift):
    got = split(swift(), "uuuv", [1.0, 1.0, 1.0, 0.0])
    first, second = rows_of(["a"] * 2, torch.tensor([1.0, 0.0])).tolist()
    assert got.tolist() == pytest.approx([first] * 3 + [second])


def test_ms_swift_law_with_split_rollouts(swift):
    def advantages(z):
        trainer = swift()
        split(trainer, "st", [1.0, 0.0])
        trainer.state.global_step = 1
        out = split(trainer, "uuuvw", [z[0]] * 3 + z[1:])
        return out[[0, 3, 4]].tolist()

    assert law(advantages, 3) == pytest.approx([1] * 3, abs=1e-6)


def source_of(package, end):
    """Text of a file of an installed package, which is not imported."""
    try:
        files = importlib.metadata.files(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: make test-adapters")
    return next(file for file in files if str(file).endswith(end)).locate().read_text()


def test_areal_own_interactions(areal, monkeypatch, tmp_path):
    """The class of the wheel; what it imports is not used."""
    openai = ("types.chat", "types.responses.response", "types.responses.response_input_param")
    names = ("ChatCompletion", "Response", "ResponseInputParam")
    for module, name in zip(openai, names, strict=True):
        stand_in(monkeypatch, f"openai.{module}", {name: str})
    monkeypatch.setattr(sys.modules["areal.api"], "ModelResponse", str, raising=False)
    monkeypatch.setattr(sys.modules["areal.utils"], "logging", logging, raising=False)
    types = stand_in(monkeypatch, "areal.experimental.openai.types", {})
    exec(source_of("areal", "areal/experimental/openai/types.py"), vars(types))
    tokens = {"input_tokens": [1, 2], "output_tokens": [3], "input_len": 2, "output_len": 1, "output_logprobs": [-0.5]}
    turns = [
        types.InteractionWithTokenLogpReward(SimpleNamespace(**tokens, output_versions=[version]), reward)
        for version, reward in [(3, 1.0), (4, 1.0), (4, None)]
    ]
    outside = types.InteractionWithTokenLogpReward(reward=1.0)
    episode(areal.KernelWorkflow(Workflow(), str(tmp_path)), dict(enumerate([*turns, outside])))
    want = KernelValueEstimator(pessimism=PESSIMISM, allow_late=True).advantages(["a"], torch.tensor([1.0]), 5)
    got = [float(turn.to_tensor_dict()["rewards"]) for turn in turns]  # what AReaL trains on
    assert got == [float(want), float(want), 0.0]


@pytest.mark.parametrize(
    ("package", "file", "owner", "method", "arguments"),
    [
        (
            "openrlhf",
            "openrlhf/trainer/ppo_utils/experience_maker.py",
            "RemoteExperienceMaker",
            "compute_advantages_and_returns",
            ["self", "experiences"],
        ),
        (
            "ms-swift",
            "swift/rlhf_trainers/grpo_trainer.py",
            "GRPOTrainer",
            "_compute_advantages",
            ["self", "samples", "rewards_per_func", "batch_encoded_inputs"],
        ),
        (
            "ms-swift",
            "swift/rlhf_trainers/rollout_mixin.py",
            "RolloutTrainerMixin",
            "_preprocess_inputs",
            ["self", "samples"],
        ),
        (
            "areal",
            "areal/experimental/openai/proxy/workflow.py",
            "OpenAIProxyWorkflow",
            "arun_episode",
            ["self", "engine", "data"],
        ),
        ("areal", "areal/api/workflow_api.py", "RolloutWorkflow", "arun_episode", ["self", "engine", "data"]),
    ],
)
def test_signatures_that_recipes_rely_on(package, file, owner, method, arguments):
    classes = [node for node in ast.walk(ast.parse(source_of(package, file))) if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == owner)
    found = next(([a.arg for a in node.args.args] for node in body if getattr(node, "name", "") == method), None)
    assert found == arguments, f"{package} changed {owner}.{method}: expected {arguments}, found {found}"


@pytest.mark.parametrize(
    ("package", "file", "text"),
    [
        ("openrlhf", "openrlhf/cli/train_ppo_ray.py", "from openrlhf.trainer.ppo_trainer import PPOTrainer"),
        ("openrlhf", "openrlhf/cli/train_ppo_ray.py", "import PPOTrainerAsync as PPOTrainer"),
        ("openrlhf", "openrlhf/trainer/ppo_utils/experience_maker.py", '"flash_reinforce"'),
        ("ms-swift", "swift/trainers/trainer_factory.py", "TRAINER_MAPPING = {"),
        ("ms-swift", "swift/rlhf_trainers/grpo_trainer.py", "self.reward_weights.unsqueeze(0)"),
        ("ms-swift", "swift/rlhf_trainers/grpo_trainer.py", "gather_object([s.request_id for s in samples])"),
        ("ms-swift", "swift/rlhf_trainers/rollout_mixin.py", "self.dynamic_num_samples = True"),
        ("ms-swift", "swift/rl_core/data.py", "prompt_id: str = ''"),
        ("ms-swift", "swift/trainers/mixin.py", "f'checkpoint-{self.state.global_step}'"),
        ("areal", "areal/workflow/rlvr.py", '"versions"'),
        ("areal", "areal/workflow/rlvr.py", '"rewards"'),
        ("areal", "areal/infra/workflow_context.py", "is_eval: bool = False"),
        ("areal", "areal/infra/workflow_executor.py", "[v.to_tensor_dict() for v in traj.values()]"),
        ("areal", "areal/infra/remote_inf_engine.py", "resolved = imported_obj(**workflow_kwargs)"),
    ],
)
def test_names_that_recipes_rely_on(package, file, text):
    assert text in source_of(package, file), f"{package} changed {file}: {text!r} is no longer in it"


def test_every_recipe_is_tested():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    here = Path(__file__).parent
    own = {file.stem.removeprefix("test_") for file in here.glob("test_*.py")}
    files = {file.stem.removesuffix("_kernadv") for file in RECIPES.glob("*.py")}
    assert files <= tested | own
