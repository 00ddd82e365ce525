"""prime-rl: import this in the orchestrator's process, and configure the algorithm "rae", whose class it replaces."""

import math
import warnings
from collections import defaultdict
from urllib.parse import quote

from prime_rl.orchestrator import algo
from prime_rl.orchestrator.algo.base import Algorithm, iter_trainable_traces
from prime_rl.orchestrator.algo.routing import assign_advantages
from prime_rl.orchestrator.utils import train_work

from kernadv import KernelValueEstimator
from kernadv.adapters import Driver


class KernelAlgorithm(Algorithm):
    """Reward minus the smoothed value of the task for the agent; groups of one are allowed.

    Agents of an episode share its reward, or get opposite ones: an estimator that saw both would tell one agent's reward
    to the other's baseline.  So each agent has its own, to which its traces of an episode are one observation.
    """

    folder = None  #: where the histories are kept, e.g. "outputs/kernadv" or "s3://bucket/run/kernadv"

    def __init__(self, config, policy_pool):
        super().__init__(config, policy_pool)
        self.drivers = {}

    async def score_group(self, episodes):
        """Assign each trace its advantage; 0 to those that could not be scored."""
        agents = defaultdict(lambda: defaultdict(list))
        for episode, trace in iter_trainable_traces(episodes):
            agents[trace.agent.name][episode.id].append(trace)
        task, environment = episodes[0].task.data.idx, episodes[0].env.name
        steps = {episode.id: 1 + train_work(episode).policy.start for episode in episodes}
        for agent, traces_of in agents.items():
            means = [mean_reward(traces) for traces in traces_of.values()]
            ids, at = [f"{task}/{agent}"] * len(means), [steps[episode] for episode in traces_of]
            advantages = self.driver(environment, agent).rows(ids, means, at)
            for traces, mean, advantage in zip(traces_of.values(), means, advantages.tolist(), strict=True):
                for trace in traces:
                    own = reward(trace)
                    assign_advantages(trace, 0.0 if math.isnan(own) else advantage + (own - mean))

    def driver(self, environment, agent):
        """The agent's estimator, with its history if there is one."""
        if agent not in self.drivers:
            self.drivers[agent] = Driver(KernelValueEstimator(allow_late=True))
            if self.folder is None:
                warnings.warn("kernadv saves no history: set KernelAlgorithm.folder", stacklevel=2)
            else:
                self.drivers[agent].attach(f"{self.folder}/{quote(environment, '')}/{quote(agent, '')}")
        return self.drivers[agent]


def reward(trace):
    """Of a trace; NaN if a part of it could not be scored, which verifiers would count as 0."""
    return math.nan if None in (trace.reward, *trace.rewards.values()) else float(trace.reward)


def mean_reward(traces):
    """Of those that were scored; NaN if none was."""
    scored = [z for z in map(reward, traces) if not math.isnan(z)]
    return sum(scored) / len(scored) if scored else math.nan


algo.ALGORITHM_CLASSES["rae"] = KernelAlgorithm
