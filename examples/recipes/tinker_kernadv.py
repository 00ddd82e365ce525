"""tinker-cookbook: call ``install(folder)`` before ``tinker_cookbook.rl.train.main(config)``."""

from contextvars import ContextVar

import chz
import torch
from tinker_cookbook.rl import train

from kernadv import prompt_id
from kernadv.adapters import Driver
from kernadv.adapters._driver import check_groups

driver = Driver(allow_late=True)
_prepare_minibatch, _Wrapped = train.prepare_minibatch, train.WrappedTrajectoryGroup
_given = ContextVar("advantages of the trajectories of this batch, by their identity")


def install(folder):
    """Train with the advantages of kernadv; its state goes on from the newest in a folder, e.g. ``config.log_path``."""
    driver.attach(folder)
    train.prepare_minibatch, train.compute_advantages = prepare_minibatch, compute_advantages
    train.WrappedTrajectoryGroup = VersionedGroup


@chz.chz
class VersionedGroup(_Wrapped):
    """A group that tells its trajectories' step: streaming and asynchronous training know the policy's version."""

    @chz.validate
    def _tell_step(self):
        self.trajectory_group.step = self.sampling_client_step + 1


async def prepare_minibatch(env_group_builders_P, trajectory_groups_P, *args, **options):
    """The data of a batch, with one advantage a trajectory, and the metrics of kernadv."""
    groups = list(zip(env_group_builders_P, trajectory_groups_P, strict=True))
    rows = [trajectory for _, group in groups for trajectory in group.trajectories_G]
    ids = [name for builder, group in groups for name in _ids(builder, group)]
    rewards = [reward for _, group in groups for reward in group.get_total_rewards()]
    steps = [getattr(group, "step", None) for _, group in groups for _ in group.trajectories_G]
    advantages = driver.rows(ids, rewards, None if None in steps else steps, surprisal=lambda: _surprisal(rows))
    _given.set({id(row): float(x) for row, x in zip(rows, advantages, strict=True)})
    data, metrics, usage = await _prepare_minibatch(env_group_builders_P, trajectory_groups_P, *args, **options)
    return data, metrics | driver.metrics(), usage


def compute_advantages(trajectory_groups_P):
    """The advantages of this batch; also asked for when a group is printed, so it only looks them up."""
    given = _given.get()
    return [torch.tensor([given[id(row)] for row in group.trajectories_G]) for group in trajectory_groups_P]


def _ids(builder, group):
    """The builder's ``prompt_id`` if it has one, else the tokens that each trajectory began with."""
    if (name := getattr(builder, "prompt_id", None)) is not None:
        return [str(name)] * len(group.trajectories_G)
    ids = [prompt_id(row.transitions[0].ob.to_ints()) for row in group.trajectories_G]
    check_groups(ids, len(ids))
    return ids


def _surprisal(rows):
    """Minus the log-probability of each trajectory's actions, and their number of tokens."""
    actions = [[step.ac for step in row.transitions] for row in rows]
    sums = [-sum(sum(ac.logprobs) for ac in row) for row in actions]
    return sums, [sum(len(ac.tokens) for ac in row) for row in actions]
