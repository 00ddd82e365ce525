"""torchrl: the transform in a real replay buffer says what the estimator says."""

import inspect

import numpy as np
import pytest

torchrl = pytest.importorskip("torchrl", reason="torchrl is not installed: make test-adapters")

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.objectives.llm import MCAdvantage

from kernadv import ArgumentError, CheckpointError, KernelValueEstimator
from kernadv.adapters._driver import PESSIMISM
from kernadv.adapters.torchrl import KernelAdvantage

pytestmark = pytest.mark.filterwarnings("default")


def trajectory(group, reward, length=3):
    """One finished trajectory with its reward at the end."""
    rewards = torch.zeros(length, 1)
    rewards[-1] = reward
    done = torch.zeros(length, 1, dtype=torch.bool)
    done[-1] = True
    following = TensorDict(reward=rewards, done=done, batch_size=[length])
    return TensorDict(group_id=torch.full((length,), group), next=following, batch_size=[length])


def run(transform, clock, steps, size, seed=0):
    """Advantages by (step, group), in order of writing."""
    rng = np.random.default_rng(seed)
    buffer = ReplayBuffer(storage=LazyTensorStorage(1000), transform=transform, batch_size=4)
    rewards = rng.integers(0, 2, (steps, 2, size)).astype(float)
    for step in range(steps):
        clock["step"] = step + 1
        for group in range(2):
            for reward in rewards[step, group]:
                buffer.extend(trajectory(group, reward))
    return rewards, buffer[:]["advantage"].reshape(steps, 2, size, 3)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_buffer_holds_the_estimators_advantages(size):
    clock = {}
    transform = KernelAdvantage(size, "group_id", step=lambda: clock["step"])
    rewards, written = run(transform, clock, 5, size)
    again = KernelValueEstimator(pessimism=PESSIMISM)
    for step, group in np.ndindex(5, 2):
        said = again.advantages([f"[{group}]"] * size, torch.tensor(rewards[step, group]).float(), step + 1)
        assert torch.equal(written[step, group], said[:, None].expand(size, 3))
    name = "value_mse" if size > 1 else "n_eff"  # a batch of one trace shows no error
    assert transform.kernadv.metrics()[f"kernadv/{name}"] == again.metrics()[name]
    assert transform.written_groups == 10
    assert transform.selected_trajectories == 10 * size


def test_a_weighted_estimator_gets_the_squared_surprisal():
    transform = KernelAdvantage(
        2, "group_id", step=lambda: 1, estimator=KernelValueEstimator(weighted=True), log_probs_key="log_probs"
    )
    pair = [trajectory(0, z).set("log_probs", torch.full((3,), p)) for z, p in ((1.0, -1.0), (0.0, -0.5))]
    assert transform.inv(pair[0]) is None
    want = KernelValueEstimator(weighted=True).advantages(["[0]"] * 2, [1.0, 0.0], 1, weights=[9.0, 2.25])
    assert transform.inv(pair[1])["advantage"][::3].flatten().tolist() == want.tolist()
    with pytest.raises(ArgumentError, match="no log-probabilities"):
        KernelAdvantage(1, "group_id", step=lambda: 1, estimator=KernelValueEstimator(weighted=True)).inv(pair[0])


def test_text_is_an_id():
    transform = KernelAdvantage(1, "query", step=lambda: 1)
    one = trajectory(0, 1.0).exclude("group_id").set("query", "What is 1+1?")
    assert transform.inv(one) is not None
    assert transform.kernadv.estimator.explain("What is 1+1?", 2)["traces"].tolist() == [1]


def test_state_dict_holds_the_history():
    clock = {"step": 0}
    transform = KernelAdvantage(2, "group_id", step=lambda: clock["step"])
    run(transform, clock, 4, 2)
    twin = KernelAdvantage(2, "group_id", step=lambda: clock["step"])
    twin.load_state_dict(transform.state_dict())
    clock["step"] = 5
    for each in (transform, twin):
        each.inv(trajectory(0, 1.0))
    assert torch.equal(*(each.inv(trajectory(0, 0.0))["advantage"] for each in (transform, twin)))
    other = KernelAdvantage(2, "group_id", step=lambda: 5, estimator=KernelValueEstimator.kae(0.3))
    with pytest.raises(CheckpointError, match="strict=False"):
        other.load_state_dict(transform.state_dict())


def test_bad_input():
    with pytest.raises(ArgumentError, match="grpo_size must be a whole number"):
        KernelAdvantage(0, step=lambda: 1)
    with pytest.raises(ArgumentError, match="from one process"):
        KernelAdvantage(1, step=lambda: 1).share_memory_()


def test_one_trajectory_is_still_refused_by_torchrl():
    """If this fails, torchrl allows groups of one: the workaround in `KernelAdvantage` can go."""
    with pytest.raises(ValueError, match="grpo_size >= 2"):
        MCAdvantage(1, trajectory_return="sum")


def test_what_is_relied_on_in_torchrl():
    for method, arguments in {
        "_trajectory_advantage": ["self", "trajs"],
        "_trajectory_returns": ["self", "rewards"],
    }.items():
        found = list(inspect.signature(getattr(MCAdvantage, method)).parameters)
        assert found == arguments, f"torchrl changed MCAdvantage.{method}: expected {arguments}, found {found}"
    names = [
        "grpo_size",
        "candidate_group_size",
        "candidate_selection_min_size",
        "selected_trajectories",
        "_cat_tensordicts",
    ]
    missing = [name for name in names if not hasattr(MCAdvantage(2, trajectory_return="sum"), name)]
    assert not missing, f"torchrl's MCAdvantage has lost {missing}"
