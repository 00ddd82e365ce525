"""Every baseline: replaying a log equals running it online, it reads the past only, and its flags say what it does."""

import inspect
from copy import copy

import numpy as np
import pytest

from kernadv import ArgumentError, CheckpointError, KernelValueEstimator, Relative, Steps, Visits
from kernadv.baselines import LinearValues, Offline, SideInformation, Traces, Tuned, discover, discover_tuned
from kernadv.baselines._recursive import Recursive, replay_each
from kernadv.baselines.basis import Basis
from kernadv.baselines.ebpo import EBPO
from kernadv.baselines.kae import KAE
from kernadv.baselines.pooled import PooledKernel
from kernadv.groups import aggregate

KAES = [KAE(Relative(0.1)), KAE(Steps(6), "exponential"), KAE(Visits(3), "uniform"), KAE(Steps(np.inf))]
EVERY = [*discover().values(), *discover_tuned().values(), *KAES]
every = pytest.mark.parametrize("baseline", EVERY, ids=lambda b: b.name)
online = pytest.mark.parametrize("baseline", [b for b in EVERY if not b.needs_truth], ids=lambda b: b.name)


class Log:
    """Rows of a random run; each step has several prompts and unequal groups."""

    def __init__(self, seed, binary=True, prompts=7, steps=25):
        rng = np.random.default_rng(seed)
        size = rng.integers(2, 20, steps)
        self.step = np.repeat(np.arange(1, steps + 1), size)
        self.prompt = rng.integers(0, prompts, len(self.step))
        z = rng.integers(0, 2, len(self.step)).astype(float)
        self.z = z if binary else rng.normal(size=len(z))
        self.length = rng.uniform(1, 9, len(z))
        self.offline = Offline(rng.integers(0, 9, prompts), 8)
        self.order = np.lexsort((self.step, self.prompt))  # rows as `Traces` wants them

    @property
    def groups(self):
        return aggregate(self.prompt, self.step, np.ones(len(self.z), int), self.z, self.z**2)

    @property
    def side(self):
        traces = Traces(self.z[self.order], self.length[self.order])
        return SideInformation(traces, self.offline, value=self.groups.step / 25)

    def rows(self, values):
        """Values of the rows of the log from the values of its groups."""
        out = np.empty(len(self.z))
        out[self.order] = values.at(self.groups, self.z[self.order])
        return out

    def run(self, baseline, read):
        """Feed the log to the online form; `read` gets it, the rows of each step, and the arguments."""
        estimator = baseline.online(self.offline)
        for i in np.unique(self.step):
            rows = self.step == i
            arguments = (self.prompt[rows].tolist(), self.z[rows], int(i))
            weights = {"weights": self.length[rows]} if baseline.needs_weights else {}
            read(estimator, rows, lambda *a, w=weights, e=estimator: e.values(*a, **w), arguments)
            estimator.observe(*arguments)


def test_grids_are_of_like_size_and_their_members_have_names_of_their_own():
    tuned = discover_tuned()
    assert all(len({b.name for b in family.grid}) == len(family.grid) > 1 for family in tuned.values())
    assert all(len(family.grid) in (8, 9, 25, 27) for family in tuned.values())


def test_every_number_of_a_method_without_the_own_reward_is_tuned():
    """A method that takes a number and leaves the own reward out is in a grid, with the setting that is shown alone.

    The origin of zero is none of its settings: it says from where the log counts its rewards.
    """
    in_grids = {b.name for family in discover_tuned().values() for b in family.grid}
    for name, baseline in discover().items():
        settings = [each.default for each in inspect.signature(type(baseline)).parameters.values()]
        has_number = not all(default is None or isinstance(default, bool) for default in settings)
        if has_number and not baseline.uses_own_reward and name not in ("spo_tracker", "zero"):
            assert name in in_grids, name


def test_tuning_refuses_what_would_predict_itself():
    found = discover()
    with pytest.raises(ArgumentError, match="dbb use the own reward"):
        Tuned("dbb", [found["dbb"], found["dbb_loo"]])
    with pytest.raises(ArgumentError, match="the grid of nothing must be a list of one Baseline or more"):
        Tuned("nothing", [])
    with pytest.raises(ArgumentError, match="opo_loo need weights"):
        Tuned("opo", [found["opo_loo"]])


@online
@pytest.mark.parametrize("binary", [True, False])
def test_replay_equals_online(baseline, binary):
    log = Log(0, binary)
    replayed = log.rows(baseline.replay(log.groups, log.side))

    def compare(_estimator, rows, values, arguments):
        estimate = values(*arguments)
        np.testing.assert_allclose(estimate.value, replayed[rows], atol=1e-10)
        np.testing.assert_array_equal(estimate.defined, ~np.isnan(replayed[rows]))

    log.run(baseline, compare)


@every
@pytest.mark.parametrize("binary", [True, False])
def test_squared_errors_follow_from_the_groups(baseline, binary):
    log = Log(4, binary)
    groups, values = log.groups, baseline.replay(log.groups, log.side)
    rows = values.at(groups, log.z[log.order])
    group = np.repeat(np.arange(len(groups.n)), groups.n)
    truth = np.linspace(0, 1, len(groups.n))
    total = lambda x: np.bincount(group, x)
    np.testing.assert_allclose(values.squared_error(groups), total((rows - log.z[log.order]) ** 2), atol=1e-10)
    np.testing.assert_allclose(values.true_squared_error(groups, truth), total((rows - truth[group]) ** 2), atol=1e-10)
    np.testing.assert_allclose(values.total(groups), total(rows), atol=1e-10)


@pytest.mark.parametrize("bandwidth", [Relative(0.1), Steps(3)], ids=repr)
def test_cold_start_of_the_replay_is_that_of_advantages(bandwidth):
    log = Log(1, prompts=40)
    baseline = KAE(bandwidth)
    replayed = log.rows(baseline.replay(log.groups))
    estimator = KernelValueEstimator(bandwidth)
    for i in np.unique(log.step):
        rows = log.step == i
        advantage = estimator.advantages(log.prompt[rows].tolist(), log.z[rows], int(i))
        np.testing.assert_allclose(advantage, log.z[rows] - replayed[rows], atol=1e-12)


@every
def test_replay_uses_the_past_only(baseline):
    log = Log(2)
    before = log.rows(baseline.replay(log.groups, log.side))
    early = log.step <= 12
    log.z = np.where(early, log.z, 1.0 - log.z)
    after = log.rows(baseline.replay(log.groups, log.side))
    np.testing.assert_array_equal(before[early], after[early])


@online
def test_own_reward_is_declared(baseline):
    """Whoever says that the own reward does not enter has the same value when it is changed; the others have not."""
    log, moved = Log(3, steps=8), []

    def perturb(_estimator, rows, values, arguments):
        ids, z, step = arguments
        value = values(*arguments).value
        for row in range(len(z)):
            changed = z.copy()
            changed[row] = 1.0 - z[row]
            moved.append(abs(values(ids, changed, step).value[row] - value[row]))

    log.run(baseline, perturb)
    assert (np.nanmax(moved) > 1e-9) == baseline.uses_own_reward


@every
def test_linear_coefficients_declare_the_own_reward(baseline):
    values = baseline.replay(Log(3).groups, Log(3).side)
    if isinstance(values, LinearValues) and not isinstance(baseline, Basis):  # there it enters by the choice of beta
        assert (np.nan_to_num(values.own) != 0).any() == baseline.uses_own_reward


@every
def test_defined_from_the_smallest_group_on(baseline):
    log = Log(5)
    value = log.rows(baseline.replay(log.groups, log.side))
    groups = log.groups
    key = groups.prompt * 100 + groups.step
    size = groups.n[np.searchsorted(key, log.prompt * 100 + log.step)]
    several = np.array([len(np.unique(log.prompt[log.step == i])) > 1 for i in log.step])
    if baseline.name == "jspo":  # needs another prompt's variance too
        several &= size >= 2
    assert not np.isnan(value[(size >= baseline.min_group) & several]).any()
    assert np.isnan(value[size < baseline.min_group]).all()


@online
def test_only_the_filter_along_the_group_depends_on_the_order(baseline):
    log = Log(6)
    value = log.rows(baseline.replay(log.groups, log.side))
    shuffle = np.random.default_rng(0).permutation(len(log.z))
    shuffle = shuffle[np.argsort(log.step[shuffle], kind="stable")]
    for name in ("prompt", "step", "z", "length"):
        setattr(log, name, getattr(log, name)[shuffle])
    log.order = np.lexsort((log.step, log.prompt))
    other = log.rows(baseline.replay(log.groups, log.side))
    same = np.allclose(other, value[shuffle], atol=1e-10, equal_nan=True)
    assert same == (baseline.name != "krpo_paper")


@online
def test_rows_without_a_reward_are_left_out(baseline):
    """A NaN reward changes no other value, and the row has none."""
    log = Log(7, steps=6)

    def drop(_estimator, rows, values, arguments):
        ids, z, step = arguments
        weights = {"weights": np.append(log.length[rows], 3.0)} if baseline.needs_weights else {}
        with_nan = _estimator.values([*ids, ids[0]], np.append(z, np.nan), step, **weights).value
        np.testing.assert_allclose(with_nan[:-1], values(*arguments).value, atol=1e-12)
        assert isinstance(baseline, (KAE, PooledKernel, Tuned)) or np.isnan(with_nan[-1])

    log.run(baseline, drop)


@pytest.mark.parametrize("baseline", [b for b in EVERY if isinstance(b, Recursive)], ids=lambda b: b.name)
def test_state_of_the_recursions(baseline):
    """A copy from the state goes on as the original; a state that does not fit is refused and changes nothing."""
    log, copy = Log(9), baseline.online(Log(9).offline)

    def follow(estimator, _rows, values, arguments):
        copy.load_state_dict(estimator.state_dict())
        np.testing.assert_array_equal(copy.values(*arguments).value, values(*arguments).value)
        copy.observe(*arguments)  # does not touch the original

    log.run(baseline, follow)
    before = copy.state_dict()
    broken = {"memory": before["memory"][:-1], "shared": np.zeros(9), "ids_int": before["ids_int"][:-1]}
    for name, array in broken.items():
        with pytest.raises(CheckpointError):
            copy.load_state_dict({**before, name: array})
    with pytest.raises(CheckpointError, match="not a state of"):
        copy.load_state_dict({"ids_int": before["ids_int"]})
    for name, array in copy.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "baseline", [b for b in EVERY if isinstance(b, Recursive) and b.settings], ids=lambda b: b.name
)
def test_settings_run_together_as_alone(baseline):
    """Each number on its own draw, in steps of one trace too."""
    rng, log, grid = np.random.default_rng(0), Log(10), [copy(baseline) for _ in range(5)]
    for member in grid:
        for name in baseline.settings:
            setattr(member, name, getattr(baseline, name) * rng.uniform(0.2, 1.0))
    assert all(map(grid[0].like, grid))
    first = np.r_[True, np.diff(log.step) > 0]
    rows = (log.step % 3 > 0) | first  # of every third step one trace
    z = log.z[rows]
    groups = aggregate(log.prompt[rows], log.step[rows], np.ones(len(z), int), z, z**2)
    alone = [member.replay(groups, log.side) for member in grid]
    assert not np.array_equal(alone[0].level, alone[1].level)
    np.testing.assert_allclose(replay_each(grid, groups, log.side), alone, rtol=1e-13, atol=1e-15)


def test_what_differs_beside_the_settings_runs_alone():
    log, found = Log(11), discover()
    pairs = [("krpo_batch", "krpo_batch_loo"), ("spo_loo", "spo_pp_loo"), ("local_level", "rloo"), ("rloo", "ebpo")]
    for grid in [[EBPO(), EBPO()], *([found[a], found[b]] for a, b in pairs)]:
        assert not isinstance(grid[0], Recursive) or not grid[0].like(grid[1])
        alone = [member.replay(log.groups, log.side) for member in grid]
        np.testing.assert_array_equal(replay_each(grid, log.groups, log.side), alone)


def test_a_grid_of_one_recursion_runs_together():
    grids = [family.grid for family in discover_tuned().values() if isinstance(family.grid[0], Recursive)]
    assert grids
    assert all(grid[0].like(member) for grid in grids for member in grid)


@pytest.mark.parametrize(
    "baseline", [b for b in EVERY if b.offline_rollouts and not isinstance(b, PooledKernel)], ids=lambda b: b.name
)
def test_missing_offline_rollouts_are_named(baseline):
    log = Log(8)
    with pytest.raises(ArgumentError, match="needs rollouts of every prompt from before training; pass their sums"):
        baseline.replay(log.groups, SideInformation(log.side.traces))
    with pytest.raises(ArgumentError, match="needs rollouts"):
        baseline.online()
    with pytest.raises(ArgumentError, match=r"Offline\.rollouts must be a whole number >= 1, got 0"):
        baseline.online(Offline({"a": 1}, 0))
    with pytest.raises(ArgumentError, match="prompt 'b' has no offline rollouts"):
        baseline.online(Offline({"a": 1}, 8)).values(["a", "b"], [1.0, 0.0], 1)
    with pytest.raises(ArgumentError, match="prompt -1 has no offline rollouts"):
        baseline.online(Offline(np.ones(3), 8)).values([0, -1], [1.0, 0.0], 1)


@pytest.mark.parametrize("baseline", [b for b in EVERY if b.needs_traces], ids=lambda b: b.name)
def test_missing_traces_are_named(baseline):
    log = Log(8)
    with pytest.raises(ArgumentError, match="reads single traces"):
        baseline.replay(log.groups, SideInformation(offline=log.offline))
    with pytest.raises(ArgumentError, match=r"the groups have \d+ traces, side.traces has 1"):
        baseline.replay(log.groups, SideInformation(Traces(np.ones(1)), log.offline))


def test_the_oracle_needs_the_truth():
    with pytest.raises(ArgumentError, match="true value of every group"):
        discover()["oracle"].replay(Log(8).groups)
    with pytest.raises(ArgumentError, match="no training loop knows"):
        discover()["oracle"].online()
