"""prime-rl: import this in the orchestrator's process, and configure the algorithm that is replaced ("rae")."""

from prime_rl.orchestrator import algo
from prime_rl.orchestrator.algo.base import Algorithm, iter_trainable_traces
from prime_rl.orchestrator.algo.routing import assign_advantages

from kernadv import KernelValueEstimator
from kernadv.adapters import Driver


class KernelAlgorithm(Algorithm):
    """Reward minus the smoothed value of the task; groups of one are allowed.

    The orchestrator does not pass a step, so the clock counts scored groups of `groups_per_step`.
    """

    groups_per_step = 64

    def __init__(self, config, clients):
        super().__init__(config, clients)
        self.driver, self.groups = Driver(KernelValueEstimator(allow_late=True)), 0

    async def score_group(self, episodes):
        """Assign each trace its advantage."""
        traces = [trace for _, trace in iter_trainable_traces(episodes)]
        if not traces:
            return
        step = 1 + self.groups // self.groups_per_step
        self.groups += 1
        ids = [str(trace.task.data.idx) for trace in traces]
        rows = self.driver.rows(ids, [float(trace.reward) for trace in traces], step)
        for trace, advantage in zip(traces, rows.tolist(), strict=True):
            assign_advantages(trace, advantage)


algo.ALGORITHM_CLASSES["rae"] = KernelAlgorithm
