"""Tunix: take `GRPOLearner` or `AgenticGRPOLearner` from here, with ``advantage_estimator="kernadv"``; see `attach`."""

from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax.numpy as jnp
import numpy as np
from tunix.rl import function_registry, rl_cluster
from tunix.rl.agentic import agentic_grpo_learner
from tunix.rl.grpo import grpo_learner

from kernadv.adapters import Driver
from kernadv.adapters._driver import check_groups

driver = Driver(loss="trace", allow_late=True)  # loss="sum" with a loss_agg_mode that does not divide by the length
attach = driver.attach  # attach(folder): go on from the newest state in the folder, then save there
_batch = ContextVar("ids, steps and surprisals of the rows whose advantages are asked for", default=None)


@function_registry.register_advantage_estimator("kernadv")
def advantages(rewards, num_generations, **_):
    """Rewards minus smoothed values; of an evaluation minus the group's other rewards, and nothing is learned."""
    if (batch := _batch.get()) is None:
        return function_registry.get_advantage_estimator("rloo")(jnp.asarray(rewards), num_generations)
    ids, steps, surprisal = batch
    check_groups(ids, num_generations)
    out = driver.rows(ids, np.asarray(rewards, np.float64), steps, surprisal=surprisal)
    return jnp.asarray(out, jnp.float32)


class GRPOLearner(grpo_learner.GRPOLearner):
    """The learner, which says whose rewards these are: the step is the global one."""

    def _generate_and_compute_advantage(self, training_input, mode=rl_cluster.Mode.TRAIN):
        step = self.rl_cluster.global_steps + 1
        with _rows(mode, lambda: (_ids(training_input), step, None)):
            out = super()._generate_and_compute_advantage(training_input, mode)
        if mode == rl_cluster.Mode.TRAIN:
            self.rl_cluster.buffer_metrics({name: (x, np.mean) for name, x in driver.metrics().items()}, mode)
        return out


class AgenticGRPOLearner(agentic_grpo_learner.GRPOLearner):
    """The agentic learner, which also says the version of the policy and the log-probabilities of each trajectory."""

    def _process_results(self, trajectories, mode=rl_cluster.Mode.TRAIN, expected_step=None):
        with _rows(mode, lambda: _of_trajectories([item.traj for item in trajectories])):
            out = super()._process_results(trajectories, mode, expected_step)
        if mode == rl_cluster.Mode.TRAIN:
            metrics = {name: (x, np.mean) for name, x in driver.metrics().items()}
            self.rl_cluster.buffer_metrics_async(metrics, mode, expected_step)
        return out


@contextmanager
def _rows(mode, told):
    """Tell `advantages` the rows that it is called with, unless they are of an evaluation."""
    token = _batch.set(told() if mode == rl_cluster.Mode.TRAIN else None)
    try:
        yield
    finally:
        _batch.reset(token)


def _ids(data):
    """The column ``prompt_id``, or else a hash of each prompt."""
    return driver.ids(list(data["prompts"]), data.get("prompt_id"), "no column 'prompt_id'")


def _of_trajectories(rows):
    """Ids, steps, and what gives the surprisal and length of the trajectories, if the rollouts had log-probabilities."""
    ids = [name for row in rows for name in _ids(row["original_input"])]
    parts = [(row.get("old_logprobs"), np.asarray(row["conversation_masks"])) for row in rows]
    surprisal = None if any(logprobs is None for logprobs, _ in parts) else partial(_surprisal, parts)
    return ids, [row["policy_version"] + 1 for row in rows], surprisal


def _surprisal(parts):
    """Minus the log-probability of each trajectory's sampled tokens, and their number."""
    sums = [-float(np.sum(np.asarray(logprobs) * mask)) for logprobs, mask in parts]
    return sums, [float(mask.sum()) for _, mask in parts]
