"""AReaL 1.0: wrap a workflow, so that what it reports as reward is the advantage.

Set ``actor.reward_norm=None`` and ``actor.adv_norm=None``.  Rollouts are asynchronous: each comes alone, late rows are
accepted, and the step is the version of the policy that wrote the last token.  The history lives in the process that
runs the workflow.
"""

from areal.api.workflow_api import RolloutWorkflow

from kernadv import KernelValueEstimator, prompt_id
from kernadv.adapters import Driver


class KernelWorkflow(RolloutWorkflow):
    """A workflow whose rewards are advantages.

    Parameters
    ----------
    workflow : RolloutWorkflow
    driver : Driver, optional
        To save and load it with your checkpoints.
    """

    def __init__(self, workflow, driver=None):
        self.workflow = workflow
        self.driver = driver or Driver(KernelValueEstimator(allow_late=True))

    async def arun_episode(self, engine, data):
        """Run the episode; subtract the value of its prompt."""
        out = await self.workflow.arun_episode(engine, data)
        if out is None:
            return None
        name = str(data["id"]) if "id" in data else prompt_id(data["messages"])
        step = int(out["versions"].max()) + 1
        rewards = out["rewards"]
        out["rewards"] = self.driver.rows([name] * len(rewards), rewards, step).to(rewards)
        return out
