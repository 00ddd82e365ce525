"""The recipe for tinker-cookbook, in its own preparation of a batch; the training itself is a service."""

import asyncio
import importlib.util
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

tinker = pytest.importorskip("tinker", reason="tinker is not installed: make test-adapters")
pytest.importorskip("tinker_cookbook", reason="tinker-cookbook is not installed: make test-adapters")

from tinker_cookbook.completers import TokensWithLogprobs
from tinker_cookbook.rl import train
from tinker_cookbook.rl.types import Trajectory, TrajectoryGroup, Transition

from kernadv import ArgumentError, KernelValueEstimator, prompt_id
from kernadv.adapters import Driver

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "tinker_kernadv.py"
WORDS = SimpleNamespace(decode=lambda tokens, **_: " ".join(map(str, tokens)))


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """The recipe, installed."""
    for name in ("prepare_minibatch", "compute_advantages", "WrappedTrajectoryGroup"):
        monkeypatch.setattr(train, name, getattr(train, name))  # back as it was after the test
    spec = importlib.util.spec_from_file_location("tinker_kernadv", RECIPE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # chz looks there for the class
    spec.loader.exec_module(module)
    module.install(tmp_path)
    return module


def group(prompt, rewards, split=(), logprob=-0.5):
    """Trajectories of one prompt; those in `split` have a second turn that does not continue the first: two data."""
    rows = []
    for k, reward in enumerate(rewards):
        turns = [[prompt, 1], [prompt, 2, 2]] if k in split else [[prompt, 1]]
        rows.append(
            Trajectory(
                [
                    Transition(
                        tinker.ModelInput.from_ints(turn),
                        TokensWithLogprobs([5, 6], [logprob, logprob]),
                        float(reward) if turn is turns[-1] else 0.0,
                        turn is turns[-1],
                    )
                    for turn in turns
                ],
                tinker.ModelInput.from_ints([]),
            )
        )
    return TrajectoryGroup(rows, [0.0] * len(rows), [{} for _ in rows])


class Builder(train.EnvGroupBuilder):
    """A builder, with an id of its prompt or without."""

    def __init__(self, name=None):
        if name is not None:
            self.prompt_id = name

    async def make_envs(self):
        """Not needed: the trajectories are there."""


def prepare(groups, names=None):
    """tinker-cookbook's own preparation of a batch: the advantages of the data, and the metrics."""
    builders = [Builder(name) for name in names or [None] * len(groups)]
    data, metrics, _ = asyncio.run(train.prepare_minibatch(builders, groups, WORDS, None, 0.0, 0.0))
    return [sorted(set(datum.loss_fn_inputs["advantages"].data) - {0.0}) for datum in data], metrics


def test_the_data_of_a_batch_have_the_advantages_of_kernadv(recipe):
    """Printing a group asks for advantages again, which must not count; the two data of one trajectory share one."""
    again = Driver(allow_late=True)
    for step, rewards in enumerate([(1, 0, 1, 1), (0, 0, 1, 0), (1, 1, 0, 1)], 1):
        got, metrics = prepare([group(7, rewards[:3], split=(0,)), group(8, rewards[3:])])
        ids = [prompt_id([7, 1])] * 3 + [prompt_id([8, 1])]
        sums = [2.0, 1.0, 1.0, 1.0], [4.0, 2.0, 2.0, 2.0]
        want = again.rows(ids, [float(z) for z in rewards], step, surprisal=lambda sums=sums: sums)
        assert got == [pytest.approx([x]) for x in np.float32(want[[0, 0, 1, 2, 3]])]
        assert metrics["kernadv/history_visits"] == again.metrics()["kernadv/history_visits"]


def test_the_law_with_trajectories_in_several_data(recipe):
    """E[A | z = 1] - E[A | z = 0] = 1 for each trajectory, over all outcomes."""
    chances, means = (0.3, 0.6, 0.8), np.zeros((3, 2))
    for outcome in itertools.product((0, 1), repeat=3):
        recipe.driver = Driver(KernelValueEstimator(allow_late=True))
        prepare([group(7, (1, 0, 0), split=(0,)), group(8, (1, 1, 0))])
        got, _ = prepare([group(7, outcome, split=(0,)), group(8, (0, 1, 0))])
        assert got[0] == got[1]
        chance = np.prod([p if z else 1 - p for p, z in zip(chances, outcome, strict=True)])
        for k, (advantage,) in enumerate(got[1:4]):
            means[k, outcome[k]] += chance * advantage / (chances[k] if outcome[k] else 1 - chances[k])
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1.0, atol=1e-6)  # the data are float32


def test_versions_of_groups_become_steps(recipe, monkeypatch):
    seen = []
    monkeypatch.setattr(
        recipe.driver.estimator,
        "advantages",
        lambda ids, rewards, step, **_: seen.append(list(step)) or np.zeros(len(ids)),
    )
    groups = [group(7, (1, 0)), group(8, (1,))]
    for one, version in zip(groups, (3, 1), strict=True):
        wrapped = train.WrappedTrajectoryGroup(
            trajectory_group=one, env_group_builder=Builder(), sampling_client_step=version
        )
        assert wrapped.sampling_client_step == version
    prepare(groups)
    assert seen == [[4, 4, 2]]


def test_groups_are_checked_unless_the_builder_tells_the_id(recipe):
    mixed = group(7, (1, 0))
    mixed.trajectories_G[1] = group(8, (0,)).trajectories_G[0]
    with pytest.raises(ArgumentError, match="prompt_id"):
        prepare([mixed])
    assert recipe.driver.metrics().get("kernadv/history_visits", 0) == 0
    prepare([mixed], names=["task-1"])
    assert recipe.driver.estimator.explain("task-1")["traces"].tolist() == [2]


def test_another_process_goes_on_from_the_folder(recipe, tmp_path):
    recipe.driver.attach(tmp_path / "state", every=1)
    prepare([group(7, (1, 0))])
    recipe.driver.finish()
    other = Driver(allow_late=True).attach(tmp_path / "state")
    assert other.metrics()["kernadv/history_visits"] == 1
