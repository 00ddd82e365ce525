"""The recipe for Tunix: its GRPO learner trains a tiny transformer on a CPU; of the agentic one, the step that asks."""

import importlib.util
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed: make test-adapters")
pytest.importorskip("tunix", reason="google-tunix is not installed: make test-adapters")

import jax.numpy as jnp
import optax
from flax import nnx
from tunix.rl import rl_cluster
from tunix.rl.agentic.agentic_grpo_learner import GRPOConfig as AgenticConfig
from tunix.rl.grpo.grpo_learner import GRPOConfig
from tunix.rl.rollout.base_rollout import RolloutConfig
from tunix.tests import test_common as toys

from kernadv import ArgumentError, KernelValueEstimator, prompt_id
from kernadv.adapters import Driver

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "tunix_kernadv.py"
TRAIN, EVAL = rl_cluster.Mode.TRAIN, rl_cluster.Mode.EVAL


@pytest.fixture
def recipe(monkeypatch):
    """The recipe, with a state of its own."""
    spec = importlib.util.spec_from_file_location("tunix_kernadv", RECIPE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def cluster(steps):
    """Tunix's own toy transformer and vocabulary, on this CPU."""
    words = toys.MockVocab()
    model = toys.ToyTransformer(toys.ModelConfig(num_layers=1, vocab_size=words.GetPieceSize()), rngs=nnx.Rngs(0))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)
    return rl_cluster.RLCluster(
        actor=model,
        reference=None,
        tokenizer=words,
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys(roles, mesh),
            rollout_engine="vanilla",
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.sgd(1e-2), eval_every_n_steps=100, max_steps=steps
            ),
            rollout_config=RolloutConfig(max_tokens_to_generate=4, max_prompt_length=8, kv_cache_size=64),
        ),
    )


def test_a_run_trains_on_the_advantages_of_kernadv(recipe):
    """What the loss gets is what an estimator says of the rewards, the ids of the data and the global step."""
    calls, seen = [], []

    def reward(prompts, completions, **_):
        calls.append([float(len(set(text.split())) % 2) for text in completions])
        return calls[-1]

    def noting(prompts, completions, rewards, advantages, prompt_id, **_):
        seen.append((list(prompt_id), np.asarray(advantages)))
        return {}

    learner = recipe.GRPOLearner(
        rl_cluster=cluster(steps=4),
        algo_config=GRPOConfig(advantage_estimator="kernadv", num_generations=2, beta=0.0),
        reward_fns=reward,
        metric_fns=[noting],
    )
    texts, names = np.array(["input string", "hello world"]), np.array(["p0", "p1"])
    learner.train([{"prompts": texts, "prompt_id": names} for _ in range(4)])
    assert learner.rl_cluster.global_steps == 4
    again = Driver(loss="trace", allow_late=True)
    for step, (rewards, (ids, advantages)) in enumerate(zip(calls, seen, strict=True), 1):
        assert ids == ["p0", "p0", "p1", "p1"]
        np.testing.assert_allclose(advantages, again.rows(ids, rewards, step), rtol=1e-6, atol=1e-7)
    assert recipe.driver.estimator.explain("p0")["steps"].tolist() == [1, 2, 3, 4]


def ask(recipe, prompts, rewards, group=2, mode=TRAIN, **columns):
    """What the GRPO learner does around the estimator: tell the rows, then ask for their advantages."""
    with recipe._rows(mode, lambda: (recipe._ids({"prompts": prompts, **columns}), 1, None)):
        return recipe.advantages(rewards=rewards, num_generations=group)


def test_the_law(recipe):
    """E[A | z = 1] - E[A | z = 0] = 1 for each rollout, over all outcomes; arrays of JAX in and out."""
    chances, means = (0.3, 0.6, 0.8), np.zeros((3, 2))
    for outcome in itertools.product((0, 1), repeat=3):
        recipe.driver = Driver(KernelValueEstimator(allow_late=True))
        names = ["a"] * 3 + ["b"] * 3
        ask(recipe, names, jnp.array([1.0, 0, 0, 1, 1, 0]), group=3, prompt_id=names)
        got = ask(recipe, names, jnp.array([*outcome, 0.0, 1.0, 0.0]), group=3, prompt_id=names)
        assert isinstance(got, jax.Array)
        chance = np.prod([p if z else 1 - p for p, z in zip(chances, outcome, strict=True)])
        for k, advantage in enumerate(got[:3].tolist()):
            means[k, outcome[k]] += chance * advantage / (chances[k] if outcome[k] else 1 - chances[k])
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1.0, atol=1e-6)  # float32


def test_groups_are_checked_and_an_evaluation_changes_nothing(recipe):
    with pytest.warns(UserWarning, match="no column 'prompt_id'"), pytest.raises(ArgumentError, match="prompt_id"):
        ask(recipe, ["a", "b"], np.array([1.0, 0.0]))
    got = ask(recipe, ["a", "a"], np.array([1.0, 0.0]), mode=EVAL)
    assert got.tolist() == [1.0, -1.0]
    assert recipe.driver.metrics().get("kernadv/history_visits", 0) == 0
    ask(recipe, ["a", "a"], np.array([1.0, 0.0]))
    assert recipe.driver.estimator.explain(prompt_id("a"))["traces"].tolist() == [2]


def agentic(recipe, rewards):
    """The agentic learner without models and environments: what is left is its own `_process_results`."""
    learner = recipe.AgenticGRPOLearner.__new__(recipe.AgenticGRPOLearner)
    learner.algo_config = AgenticConfig(
        advantage_estimator="kernadv", num_generations=2, max_response_length=3, beta=0.0
    )
    learner.rl_cluster = MagicMock(r2m={rl_cluster.Role.ACTOR: None})
    learner.rl_cluster.rollout.pad_id.return_value, learner.rl_cluster.rollout.eos_id.return_value = 0, 2
    learner.rl_cluster.cluster_config.rollout_config = RolloutConfig(max_prompt_length=4)
    learner.metric_fns, learner._trajectory_logger = [], None
    learner._compute_rewards = lambda **_: np.array(rewards)
    return learner


def trajectory(name, version):
    return SimpleNamespace(
        traj={
            "conversation_text": [{"role": "assistant", "content": "x"}],
            "prompt_tokens": np.array([5, 6]),
            "conversation_tokens": np.array([7, 8, 9]),
            "conversation_masks": np.array([1, 0, 1]),
            "old_logprobs": np.array([-0.5, -9.0, -1.0], np.float32),
            "policy_version": version,
            "trajectory_reward": 0.0,
            "original_input": {"prompts": ["a"], "prompt_id": [name]},
        }
    )


def test_versions_of_trajectories_become_steps_and_their_log_probabilities_weights(recipe):
    recipe.driver, again = (Driver(loss="trace", allow_late=True) for _ in range(2))
    for name, versions, rewards in [("p", (3, 3), [1.0, 0.0]), ("q", (1, 2), [0.0, 0.0]), ("p", (2, 2), [1.0, 1.0])]:
        learner = agentic(recipe, rewards)
        (example,) = learner._process_results([trajectory(name, version) for version in versions], TRAIN, 0)
        sums = [1.5, 1.5], [2.0, 2.0]  # the token of the environment does not count
        steps = [version + 1 for version in versions]
        want = again.rows([name] * 2, rewards, steps, surprisal=lambda sums=sums: sums)
        np.testing.assert_allclose(example.advantages, want, rtol=1e-6)
        assert example.policy_version.tolist() == list(versions)
        logged = learner.rl_cluster.buffer_metrics_async.call_args.args[0]
        assert "kernadv/n_eff" in logged
    assert recipe.driver.estimator.explain("p")["steps"].tolist() == [3, 4]


def test_another_process_goes_on_from_the_folder(recipe, tmp_path):
    recipe.attach(tmp_path / "state", every=1)
    ask(recipe, ["a", "a"], np.array([1.0, 0.0]), prompt_id=["p", "p"])
    recipe.driver.finish()
    other = Driver(loss="trace", allow_late=True).attach(tmp_path / "state")
    assert other.metrics()["kernadv/history_visits"] == 1
