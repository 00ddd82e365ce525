"""AReaL 1.0: a workflow whose rewards are advantages; set ``actor.reward_norm=None`` and ``actor.adv_norm=None``.

AReaL makes a workflow anew for each rollout, from its name, in the processes that run rollouts; put this file on their
PYTHONPATH::

    trainer.train(
        workflow="areal_kernadv.KernelWorkflow",
        workflow_kwargs={"workflow": "areal.workflow.rlvr.RLVRWorkflow", "folder": "/shared/run/kernadv", **its_own},
    )
"""

import fcntl
import os
from functools import cache
from itertools import count
from pathlib import Path

import torch
from areal.api.workflow_api import RolloutWorkflow
from areal.infra import workflow_context
from areal.utils.dynamic_import import import_from_string

from kernadv.adapters import Driver

LOCKS = []


@cache
def history(folder):
    """The driver of this process, which loads and saves in a folder of its own there; another estimator goes in here.

    Rollouts come late, and a run that recovers goes back to an earlier version than the newest of the history.
    """
    return Driver(allow_late=True).attach(own(folder))


def own(folder):
    """The first folder inside that no other process has taken."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return next(Path(folder, str(number)) for number in count() if take(Path(folder, f"{number}.lock")))


def take(path):
    """Lock a file until the process ends, and say whether that was possible."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    LOCKS.append(lock)
    return True


def report(out, data, driver, id_column="id"):
    """Put the advantage of a rollout in place of its reward.

    Its rows, or the turns of its agent, are one trace.  With turns that have returns of their own (discounts), its reward
    is the return from the first one, and each turn keeps the difference.

    Parameters
    ----------
    out : dict of tensors, dict of id -> InteractionWithTokenLogpReward, or None
        What a workflow's `arun_episode` returns.
    data : dict
        The row of the data set.
    driver : Driver
    id_column : str
        Holds the prompt's id; without it, prompts are told apart by their messages.
    """
    if not out or workflow_context.get().is_eval:
        return out
    turns = [out]
    if "rewards" not in out:
        turns = [turn.to_tensor_dict() for turn in out.values() if turn.has_tensor_data and turn.reward is not None]
    if not turns:  # an agent of an outside API, whose tokens are not known, or one without any reward
        return out
    ids = driver.ids([data.get("messages")], [data[id_column]] if id_column in data else None, f"no {id_column!r}")
    total = turns[0]["rewards"][:1]
    step = 1 + max(int(turn["versions"].max()) for turn in turns)  # of the newest policy that wrote to it
    baseline = total - driver.rows(ids, total, step).to(total)
    for turn in turns:
        turn["rewards"] = torch.nan_to_num(turn["rewards"] - baseline)
    return out


class KernelWorkflow(RolloutWorkflow):
    """A workflow that reports advantages.

    Parameters
    ----------
    workflow : str, type or RolloutWorkflow
        The workflow, or how to import it.
    folder : str
        Where histories are loaded from and saved, one for each process that runs rollouts.
    id_column : str
    **options
        Arguments of the workflow.
    """

    def __init__(self, workflow, folder, id_column="id", **options):
        given = import_from_string(workflow) if isinstance(workflow, str) else workflow
        self.workflow = given(**options) if isinstance(given, type) else given
        self.driver, self.id_column = history(folder), id_column

    async def arun_episode(self, engine, data):
        """Run the episode, and report its advantage."""
        return report(await self.workflow.arun_episode(engine, data), data, self.driver, self.id_column)


def install(folder, id_column="id"):
    """Do the same for agents that AReaL serves through its proxy (classes with `run`): call it in the agent's module."""
    from areal.experimental.openai import OpenAIProxyWorkflow  # not needed without agents

    theirs = OpenAIProxyWorkflow.arun_episode

    async def arun_episode(self, engine, data):
        return report(await theirs(self, engine, data), data, history(folder), id_column)

    OpenAIProxyWorkflow.arun_episode = arun_episode
