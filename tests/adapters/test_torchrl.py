"""torchrl: the transform in a real replay buffer says what the estimator says."""

import inspect
import itertools

import numpy as np
import pytest

torchrl = pytest.importorskip("torchrl", reason="torchrl is not installed: make test-adapters")

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs.llm.transforms import PolicyVersion
from torchrl.objectives.llm import MCAdvantage

from kernadv import ArgumentError, CheckpointError, ComponentValueEstimator, KernelValueEstimator
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


def test_law_of_trajectories_of_several_steps():
    """E[A | z = 1] - E[A | z = 0] = 1 for every trajectory, by all outcomes of two steps; the default, with weights."""
    p, lengths, total = 0.3, (3, 1), np.zeros((2, 2, 2))
    for outcome in itertools.product((0, 1), repeat=4):
        clock, z = {}, np.reshape(outcome, (2, 2))
        transform = KernelAdvantage(2, "group_id", step=lambda clock=clock: clock["step"], log_probs_key="log_probs")
        for step in range(2):
            clock["step"] = step + 1
            for k, length in enumerate(lengths):
                one = trajectory(7, float(z[step, k]), length)
                written = transform.inv(one.set("log_probs", torch.full((length,), -0.5 - step)))
            advantages = written["advantage"][[0, lengths[0]], 0].double().numpy()
            assert written["advantage"].shape == (sum(lengths), 1)
            total[z[step], step, range(2)] += p ** sum(outcome) * (1 - p) ** (4 - sum(outcome)) * advantages
    np.testing.assert_allclose(total[1] / p - total[0] / (1 - p), 1, atol=1e-6)  # the tensors are float32


def test_the_version_of_the_policy_is_that_of_the_trajectory():
    version, again = PolicyVersion(version_type=int), KernelValueEstimator(allow_late=True, pessimism=PESSIMISM)
    transform = KernelAdvantage(2, "group_id", version_key="policy_version")

    def stamped(group, reward):
        """As torchrl's transform stamps what an environment returns."""
        one = trajectory(group, reward)
        return one.set("policy_version", version._step(None, one["next"].clone())["policy_version"])

    late = stamped(1, 1.0)
    version.increment_version()
    transform.inv(stamped(0, 1.0))
    version.increment_version()
    first = transform.inv(stamped(0, 0.0))
    assert torch.equal(first["advantage"][::3, 0], again.advantages(["[0]"] * 2, torch.tensor([1.0, 0.0]), [2, 3]))
    transform.inv(late)  # its group was begun by the first version, and ends now
    second = transform.inv(stamped(1, 0.0))
    assert torch.equal(second["advantage"][::3, 0], again.advantages(["[1]"] * 2, torch.tensor([1.0, 0.0]), [1, 3]))
    wrong = PolicyVersion(version_type="uuid")
    one = trajectory(2, 1.0)
    one["policy_version"] = wrong._step(None, one["next"].clone())["policy_version"]
    with pytest.raises(ArgumentError, match=r"must hold whole numbers.*PolicyVersion"):
        KernelAdvantage(1, "group_id", version_key="policy_version").inv(one)


def test_several_rewards_have_a_value_each():
    transform = KernelAdvantage(2, "group_id", step=lambda: 1, estimator=ComponentValueEstimator(2))
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    for reward in rewards:
        one = trajectory(0, 0.0)
        one["next", "reward"] = torch.stack([torch.zeros(2), torch.zeros(2), reward])
        written = transform.inv(one)
    want = ComponentValueEstimator(2).advantages(["[0]"] * 2, rewards, 1).sum(1)
    assert torch.equal(written["advantage"], want.repeat_interleave(3)[:, None])


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
    for clock in ({}, {"step": lambda: 1, "version_key": "policy_version"}):
        with pytest.raises(ArgumentError, match=r"pass step, .* or version_key"):
            KernelAdvantage(2, **clock)
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
