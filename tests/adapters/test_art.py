"""The recipe for OpenPipe ART, in ART's own conversion of trajectories; the training itself is a service."""

import importlib.util
import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # of ART's imports, one asks the network for prices
tinker = pytest.importorskip("tinker", reason="tinker is not installed: make test-adapters")
masking = pytest.importorskip("transformers.masking_utils", reason="transformers is not installed: make test-adapters")
own = masking._preprocess_mask_arguments
art = pytest.importorskip("art", reason="openpipe-art is not installed: make test-adapters")
masking._preprocess_mask_arguments = (
    own  # ART replaces it in the whole process, and the models of other tests then fail
)
if not hasattr(art, "TrajectoryGroup"):
    pytest.skip("another package is named art: make test-adapters", allow_module_level=True)

from art.pipeline_trainer.trainer import PipelineTrainer
from art.tinker_native import backend
from art.trajectories import History, Trajectory, TrajectoryGroup
from openai.types.chat.chat_completion import Choice

from kernadv import ArgumentError, KernelValueEstimator, prompt_id
from kernadv.adapters import Driver

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "art_kernadv.py"
RENDERER = SimpleNamespace(build_generation_prompt=lambda messages: tinker.ModelInput.from_ints([1, 2, len(messages)]))


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """The recipe, installed."""
    monkeypatch.setattr(backend, "trajectory_groups_to_datums", backend.trajectory_groups_to_datums)  # restored
    monkeypatch.setattr(PipelineTrainer, "_group_zero_variance", PipelineTrainer.__dict__["_group_zero_variance"])
    spec = importlib.util.spec_from_file_location("art_kernadv", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install(tmp_path)
    return module


def choice(tokens=2):
    """What was sampled: tokens of log-probability -0.5."""
    logprobs = [{"token": f"token_id:{7 + k}", "logprob": -0.5, "top_logprobs": []} for k in range(tokens)]
    return Choice.model_validate(
        {
            "finish_reason": "stop",
            "index": 0,
            "message": {"role": "assistant", "content": "x"},
            "logprobs": {"content": logprobs},
        }
    )


def group(text, rewards, split=(), version=None, **metadata):
    """Trajectories of one prompt; those in `split` have a second history, so they become two data."""
    rows = [
        Trajectory(
            messages_and_choices=[{"role": "user", "content": text}, choice()],
            additional_histories=[History(messages_and_choices=[{"role": "user", "content": "sum"}, choice(3)])]
            if k in split
            else [],
            reward=float(reward),
            initial_policy_version=version,
        )
        for k, reward in enumerate(rewards)
    ]
    return TrajectoryGroup(rows, metadata=metadata)


def convert(groups):
    """ART's conversion, as its backend calls it: the advantage of each datum."""
    data = backend.trajectory_groups_to_datums(groups, RENDERER, None, True)
    return [sum(set(datum.loss_fn_inputs["advantages"].data)) for datum in data]


def message_id(text):
    return prompt_id([{"role": "user", "content": text}])


def test_the_data_of_a_batch_have_the_advantages_of_kernadv(recipe):
    """One advantage for the two histories of a trajectory; equal rewards are no reason to drop a group."""
    again = Driver(allow_late=True)
    for step, rewards in enumerate([(1, 0, 1, 1), (0, 0, 1, 0), (1, 1, 1, 1)], 1):
        got = convert([group("a", rewards[:3], split=(0,)), TrajectoryGroup([]), group("b", rewards[3:])])
        sums = [2.5, 1.0, 1.0, 1.0], [5.0, 2.0, 2.0, 2.0]
        ids = [message_id("a")] * 3 + [message_id("b")]
        want = again.rows(ids, [float(z) for z in rewards], step, surprisal=lambda sums=sums: sums)
        np.testing.assert_allclose(got, want[[0, 0, 1, 2, 3]], rtol=1e-6)
    assert recipe.driver.metrics()["kernadv/history_visits"] == again.metrics()["kernadv/history_visits"]
    assert not PipelineTrainer._group_zero_variance(group("a", (1, 1)))


def test_the_law_with_trajectories_in_several_data(recipe):
    """E[A | z = 1] - E[A | z = 0] = 1 for each trajectory, over all outcomes."""
    chances, means = (0.3, 0.6, 0.8), np.zeros((3, 2))
    for outcome in itertools.product((0, 1), repeat=3):
        recipe.driver = Driver(KernelValueEstimator(allow_late=True))
        convert([group("a", (1, 0, 0), split=(0,)), group("b", (1, 1, 0))])
        got = convert([group("a", outcome, split=(0,)), group("b", (0, 1, 0))])
        assert got[0] == got[1]
        chance = np.prod([p if z else 1 - p for p, z in zip(chances, outcome, strict=True)])
        for k, advantage in enumerate(got[1:4]):
            means[k, outcome[k]] += chance * advantage / (chances[k] if outcome[k] else 1 - chances[k])
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1.0, atol=1e-6)  # the data are float32


def test_versions_of_trajectories_become_steps(recipe, monkeypatch):
    seen = []
    monkeypatch.setattr(
        recipe.driver.estimator,
        "advantages",
        lambda ids, rewards, step, **_: seen.append(list(step)) or np.ones(len(ids)),
    )
    convert([group("a", (1, 0), version=3), group("b", (1,), version=1)])
    assert seen == [[4, 4, 2]]


def test_groups_are_checked_unless_the_group_tells_the_id(recipe):
    mixed = group("a", (1, 0))
    mixed.trajectories[1] = group("b", (0,)).trajectories[0]
    with pytest.raises(ArgumentError, match="prompt_id"):
        convert([mixed])
    assert recipe.driver.metrics().get("kernadv/history_visits", 0) == 0
    mixed.metadata["prompt_id"] = 5
    convert([mixed])
    assert recipe.driver.estimator.explain("5")["traces"].tolist() == [2]


def test_another_process_goes_on_from_the_folder(recipe, tmp_path):
    recipe.driver.attach(tmp_path / "state", every=1)
    convert([group("a", (1, 0))])
    recipe.driver.finish()
    other = Driver(allow_late=True).attach(tmp_path / "state")
    assert other.metrics()["kernadv/history_visits"] == 1
