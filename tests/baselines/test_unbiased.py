"""E[(Z - V) grad log pi] by enumeration of a softmax policy: exactly grad J without the own reward in V, and not with it."""

from itertools import product

import numpy as np
import pytest

from kernadv.baselines import Offline, discover, discover_tuned

#: Probabilities of the three answers of each prompt, their rewards and their lengths.
POLICY = {"a": np.array([0.5, 0.2, 0.3]), "b": np.array([0.15, 0.6, 0.25])}
REWARD = {"a": np.array([1.0, 0.0, 1.0]), "b": np.array([0.0, 1.0, 0.0])}
LENGTH = np.array([3.0, 5.0, 4.0])
PROMPTS = ["a", "a", "b", "b"]
BASELINES = [b for b in (*discover().values(), *discover_tuned().values()) if not b.needs_truth]


def gradient(prompt):
    """Gradient of the expected reward in the logits of the prompt's policy."""
    p, r = POLICY[prompt], REWARD[prompt]
    return p * (r - p @ r)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.name)
def test_the_policy_gradient(baseline):
    estimator = baseline.online(Offline({"a": 3, "b": 5, "c": 6}, 8))
    for step, (ids, z) in enumerate(
        [("aabbcc", [1, 0, 0, 1, 1, 1]), ("abcc", [1, 1, 0, 1]), ("aabb", [0, 1, 0, 0])], 1
    ):
        estimator.observe(list(ids), np.array(z, float), step)
    total = {"a": np.zeros(3), "b": np.zeros(3)}
    for answers in product(range(3), repeat=4):
        chance = np.prod([POLICY[x][k] for x, k in zip(PROMPTS, answers, strict=True)])
        z = np.array([REWARD[x][k] for x, k in zip(PROMPTS, answers, strict=True)])
        weights = {"weights": LENGTH[list(answers)]} if baseline.needs_weights else {}
        advantage = z - estimator.values(PROMPTS, z, 4, **weights).value
        for x, k, value in zip(PROMPTS, answers, advantage, strict=True):
            total[x] += chance * value * (np.eye(3)[k] - POLICY[x]) / 2
    bias = max(np.abs(total[x] - gradient(x)).max() for x in total)
    if baseline.uses_own_reward:
        assert bias > 1e-3
    else:
        assert bias < 1e-12


def test_the_group_mean_shrinks_the_gradient_by_one_over_g():
    """E of Dr. GRPO's gradient is (1 - 1/G) grad J: the bias of the own reward is a scale there, and only there."""
    estimator = discover()["group_mean"].online()
    total = np.zeros(3)
    for answers in product(range(3), repeat=2):
        z = REWARD["a"][list(answers)]
        advantage = z - estimator.values(["a", "a"], z, 1).value
        for k, value in zip(answers, advantage, strict=True):
            total += POLICY["a"][list(answers)].prod() * value * (np.eye(3)[k] - POLICY["a"]) / 2
    np.testing.assert_allclose(total, gradient("a") / 2, atol=1e-12)
