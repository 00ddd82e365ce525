"""The posterior mean under the true law: quadrature, grids against trajectories, and what a conditional mean must do."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import beta, expit

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.baselines import discover
from kernadv.simulation import PROCESSES, Process, Schedule, posterior, simulate
from kernadv.simulation.floor import SETS

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks.comparison import Floor, side_information

SMALL = Schedule(batch=5, stay=3, blocks=2, steps=12)
#: Turns every process into one that needs trajectories, and moves nothing.
UNMARKOV = {"wiggle": 1e-9}
#: Leave the own reward out, spend nothing, and differ in what they read.
ADMISSIBLE = ["rloo", "eb_shrink", "dbb_loo", "local_level", "kae_exponential w=10", "kernadv"]
every = pytest.mark.parametrize("process", PROCESSES)


def by_quadrature(process, density, run):
    """Values of a process whose levels alone are random, by scipy's quadrature over the level; (N, G)."""
    steps = int(run.groups.step.max())
    still = replace(process, spread=0.0)
    path = still.logits(np.zeros(steps + 1, int), np.arange(steps + 1), 1, steps, 0)
    value = lambda a, step: expit(path[step] + process.spread * a)

    def likelihood(z, v):
        if not process.concentration:
            return v if z else 1.0 - v
        a, b = process.concentration * v, process.concentration * (1.0 - v)
        return z ** (a - 1.0) * (1.0 - z) ** (b - 1.0) / beta(a, b)

    found = np.empty(run.rewards.shape)
    for i, (x, step) in enumerate(zip(run.groups.prompt, run.groups.step, strict=True)):
        past = np.flatnonzero((run.groups.prompt == x) & (run.groups.step < step))
        for g in range(found.shape[1]):
            seen = [(run.groups.step[j], z) for j in past for z in run.rewards[j]]
            seen += [(step, z) for z in np.delete(run.rewards[i], g)]
            weight = lambda a, seen=seen: density(a) * np.prod([likelihood(z, value(a, s)) for s, z in seen])
            over = lambda f: quad(f, -30, 30, points=np.arange(-8, 9), limit=400, epsabs=0, epsrel=1e-10)[0]
            found[i, g] = over(lambda a, w=weight, s=step: w(a) * value(a, s)) / over(weight)
    return found


@pytest.mark.parametrize(
    ("process", "density"),
    [
        (Process(), stats.norm.pdf),
        (Process(rise=2.0, time_constant=5.0, season=1.0, season_length=7.0, jump=-1.5), stats.norm.pdf),
        (
            Process(start=0.3, spread=1.0, level_shape=0.7),
            lambda a: stats.beta.pdf(expit(a), 0.7, 0.7) * expit(a) * expit(-a),
        ),
        (Process(start=0.2, spread=1.0, concentration=3.0), stats.norm.pdf),
    ],
    ids=["flat", "moving mean", "Beta levels", "continuous"],
)
def test_levels_alone_by_quadrature(process, density):
    run = simulate(process, replace(SMALL, batch=2, steps=9), 3, seed=1)
    np.testing.assert_allclose(posterior(run).value, by_quadrature(process, density, run), atol=1e-7)


@pytest.mark.parametrize(
    "process",
    [
        Process(walk=0.3),
        Process(start=-1.0, spread=0.8, leap=2.0, leap_rate=0.1, walk=0.02),
        Process(rise=2.0, spread=1.0, level_shape=0.5, walk=0.1, season=1.0, clusters=2),
        Process(spread=1.0, walk=0.2, concentration=2.0),
    ],
    ids=["walk", "leaps", "Beta levels", "continuous"],
)
def test_grid_and_trajectories_agree(process):
    run = simulate(process, SMALL, 3, seed=2)
    exact, drawn = posterior(run), posterior(run._replace(process=replace(process, **UNMARKOV)))
    assert len(exact.sets) == 1
    assert len(drawn.sets) == SETS
    assert not exact.variance.any()
    assert np.isinf(exact.ess).all()
    assert drawn.ess.min() > 100
    error = (drawn.value - exact.value) ** 2
    assert error.mean() < 2.0 * drawn.variance.mean()
    assert drawn.variance.mean() < 0.01 * (exact.value - run.value[:, None]).var()


def test_powers_are_the_likelihood():
    """A concentration so small that all rewards are 0 or 1: another loop, the same answer."""
    run = simulate(Process(walk=0.3), SMALL, 4, seed=3)
    other = posterior(run._replace(process=Process(walk=0.3, concentration=1e-9)))
    np.testing.assert_allclose(other.value, posterior(run).value, atol=1e-5)


@every
def test_reads_the_past_and_the_other_traces(process):
    """The future does not enter, and the own reward not beyond rounding."""
    run = simulate(process, SMALL, 3, seed=4)
    before = posterior(run).value
    flipped = 1.0 - run.rewards
    late = run.groups.step > 6
    np.testing.assert_array_equal(
        posterior(run._replace(rewards=np.where(late[:, None], flipped, run.rewards))).value[~late], before[~late]
    )
    own = run.rewards.copy()
    own[:, 1] = flipped[:, 1]
    last = np.append(np.diff(run.groups.prompt) > 0, True)
    first = np.append(True, last[:-1])
    np.testing.assert_allclose(posterior(run._replace(rewards=own)).value[first, 1], before[first, 1], rtol=1e-12)


@pytest.mark.parametrize("process", [name for name, law in PROCESSES.items() if not law.clusters])
def test_is_a_conditional_mean(process):
    """E[(V - m) h] = 0 for whatever h reads of the past: hence E (V - m)^2 = E V^2 - E m^2, the mean posterior variance, and
    nothing admissible has a smaller error (Rao-Blackwell)."""
    schedule = Schedule(batch=60, stay=6, blocks=2, steps=36)
    run = simulate(process, schedule, 2, seed=6)
    side = side_information(run)
    z, v = run.rewards.ravel(), np.repeat(run.value, 2)
    prompt = np.repeat(run.groups.prompt, 2)
    found = discover()
    mean = Floor().replay(run.groups, side).at(run.groups, z)
    readers = {name: found[name].replay(run.groups, side).at(run.groups, z) for name in ADMISSIBLE}
    for name, h in {"itself": mean, "nothing": np.ones_like(z), **readers}.items():
        h = np.where(np.isnan(h), 0.0, h)
        product = np.bincount(prompt, (v - mean) * h)
        assert abs(product.sum()) < 4.0 * np.sqrt((product**2).sum()), name
        gain = np.bincount(prompt, (v - h) ** 2 - (v - mean) ** 2)
        assert gain.sum() >= -2.0 * np.sqrt((gain**2).sum()), name


def test_prompts_that_share_paths_are_taken_one_by_one():
    run = simulate("clusters", SMALL, 2, seed=0)
    alone = run._replace(process=replace(run.process, clusters=0))
    np.testing.assert_array_equal(posterior(run).value, posterior(alone).value)


def test_error_without_the_monte_carlo_error():
    """The squared error is the mean, over pairs of sets, of the product of their errors."""
    run = simulate("calib", SMALL, 3, seed=5)
    found, side = posterior(run), side_information(run)
    error = found.sets - run.value[:, None]
    for floor, sets in ((Floor(), [0, 1, 2, 3]), (Floor(without=1), [0, 2, 3])):
        pairs = [error[r] * error[s] for r in sets for s in sets if r < s]
        ours = floor.replay(run.groups, side).true_squared_error(run.groups, run.value)
        np.testing.assert_allclose(ours, np.mean(pairs, axis=0).sum(1), atol=1e-12)
    assert found.without(0).sets.shape == (3, *run.rewards.shape)
    exact = posterior(simulate("flat", SMALL, 2))
    assert exact.without(3) is exact


def test_rewards_rounded_to_the_ends():
    """Beta rewards of extreme values are 0 or 1 to all digits."""
    process = Process(start=0.0, spread=6.0, concentration=0.5)
    run = simulate(process, SMALL, 4, seed=0)
    assert (run.rewards == 1.0).any()
    value = posterior(run).value
    assert ((value > 0) & (value < 1)).all()
    assert ((value - run.value[:, None]) ** 2).mean() < 0.5 * run.value.var()


def test_the_floor_needs_the_law_and_one_of_its_sets():
    run = simulate("flat", SMALL, 2)
    side = side_information(run)
    with pytest.raises(ArgumentError, match="the floor reads the law of a simulation: pass the side_information"):
        Floor().replay(run.groups, side._replace(posterior=None))
    with pytest.raises(ArgumentError, match="floor reads single traces"):
        Floor().replay(run.groups)
    with pytest.raises(ArgumentError, match="floor reads true values, which no training loop knows"):
        Floor().online()
    with pytest.raises(ArgumentError, match="without must be a whole number >= 0 and <= 3, got 4"):
        Floor(without=4)
    with pytest.raises(ArgumentTypeError, match=r"expected a run of kernadv\.simulation\.simulate, got Groups"):
        posterior(run.groups)
