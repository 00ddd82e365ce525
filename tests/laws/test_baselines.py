"""Every baseline: replaying a log equals running it online, and its squared errors follow from the groups' sums."""

import numpy as np
import pytest

from kernadv import Relative, Steps, Visits
from kernadv.baselines import discover
from kernadv.baselines.kae import KAE
from kernadv.groups import aggregate

KAES = [KAE(Relative(0.1)), KAE(Steps(6), "exponential"), KAE(Visits(3), "uniform"), KAE(Steps(np.inf))]
EVERY = [*discover().values(), *KAES]
every = pytest.mark.parametrize("baseline", EVERY, ids=lambda b: b.name)


def log(seed, binary, prompts=7, steps=25):
    """Rows of a random run and its groups; each step has several prompts and unequal groups."""
    rng = np.random.default_rng(seed)
    prompt, step, z = [], [], []
    for i in range(1, steps + 1):
        size = int(rng.integers(2, 20))
        prompt.append(rng.integers(0, prompts, size))
        step.append(np.full(size, i))
        z.append(rng.integers(0, 2, size).astype(float) if binary else rng.normal(size=size))
    prompt, step, z = map(np.concatenate, (prompt, step, z))
    return prompt, step, z, aggregate(prompt, step, np.ones(len(z), int), z, z * z)


def test_discovery_finds_every_family():
    assert set(discover()) == {"zero", "batch_mean", "group_mean", "rloo", "kae h=0.5"}


@every
@pytest.mark.parametrize("binary", [True, False])
def test_replay_equals_online(baseline, binary):
    prompt, step, z, groups = log(0, binary)
    replayed = baseline.replay(groups)
    errors, true_errors = replayed.squared_error(groups), replayed.true_squared_error(groups, groups.step / 25)
    online = baseline.online()
    for i in np.unique(step):
        rows = step == i
        ids, rewards = prompt[rows].tolist(), z[rows]
        estimate = online.values(ids, rewards, int(i))
        online.observe(ids, rewards, int(i))
        for x in np.unique(prompt[rows]):
            own = prompt[rows] == x
            k = np.flatnonzero((groups.prompt == x) & (groups.step == i))[0]
            linear = (
                replayed.level[k] + replayed.gain[k] * (groups.s[k] - rewards[own]) + replayed.own[k] * rewards[own]
            )
            if estimate.defined[own].all():
                np.testing.assert_allclose(estimate.value[own], linear, atol=1e-12)
                np.testing.assert_allclose(errors[k], ((linear - rewards[own]) ** 2).sum(), atol=1e-10)
                np.testing.assert_allclose(true_errors[k], ((linear - i / 25) ** 2).sum(), atol=1e-10)
            elif isinstance(baseline, KAE):  # the cold start of the replay is that of `advantages`
                assert not np.isnan(linear).any()
            else:
                assert np.isnan(linear).all()


@pytest.mark.parametrize("bandwidth", [Relative(0.1), Steps(3)], ids=repr)
def test_cold_start_of_the_replay_is_that_of_advantages(bandwidth):
    prompt, step, z, groups = log(1, True, prompts=40)
    baseline = KAE(bandwidth)
    replayed = baseline.replay(groups)
    online = baseline.online()
    for i in np.unique(step):
        rows = step == i
        advantage = online.advantages(prompt[rows].tolist(), z[rows], int(i))
        for row, x, reward in zip(range(rows.sum()), prompt[rows], z[rows], strict=True):
            k = np.flatnonzero((groups.prompt == x) & (groups.step == i))[0]
            value = replayed.level[k] + replayed.gain[k] * (groups.s[k] - reward)
            assert advantage[row] == pytest.approx(reward - value, abs=1e-12)


@every
def test_replay_uses_the_past_only(baseline):
    *_, groups = log(2, True)
    before = baseline.replay(groups)
    early = groups.step <= 12
    changed = groups._replace(s=np.where(early, groups.s, 0.0), ss=np.where(early, groups.ss, 0.0))
    for a, b in zip(before, baseline.replay(changed), strict=True):
        np.testing.assert_array_equal(a[early], b[early])


def test_own_reward_is_declared():
    _, _, _, groups = log(3, True)
    with_own = [b.name for b in EVERY if (np.nan_to_num(b.replay(groups).own) != 0).any()]
    assert with_own == ["group_mean"]


def test_published_forms():
    """RLOO (arXiv 2402.14740), GRPO's group mean (arXiv 2402.03300) and the batch mean without the own reward, by hand."""
    z = [1.0, 0.0, 1.0, 0.0]
    found = discover()
    values = lambda name: found[name].online().values(["a", "a", "a", "b"], z, 3).value
    np.testing.assert_allclose(values("zero"), 0)
    np.testing.assert_allclose(values("rloo"), [0.5, 1.0, 0.5, np.nan])
    np.testing.assert_allclose(values("group_mean"), [2 / 3, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(values("batch_mean"), [1 / 3, 2 / 3, 1 / 3, 2 / 3])
    with np.errstate(all="raise"):
        advantage = np.array(z[:3]) - values("rloo")[:3]
        dr_grpo = np.array(z[:3]) - values("group_mean")[:3]
    np.testing.assert_allclose(advantage, 3 / 2 * dr_grpo, atol=1e-12)
