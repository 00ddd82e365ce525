"""OpenRLHF 0.11: import this before ``openrlhf.cli.train_ppo_ray`` starts its trainer.

Run with ``--algo.advantage.estimator flash_reinforce`` (single rollouts allowed, no whitening) and no KL in the reward.
"""

import torch
from openrlhf.trainer import ppo_trainer
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

from kernadv import prompt_id
from kernadv.adapters import Driver

driver = Driver()


class KernelExperienceMaker(RemoteExperienceMaker):
    """The experience maker, with the advantages of kernadv."""

    step = 0  # set it to the checkpoint's global step when resuming, after driver.load(folder)

    def compute_advantages_and_returns(self, experiences):
        """Overwrite the advantages: one call a rollout batch."""
        experiences = super().compute_advantages_and_returns(experiences)
        self.step += 1
        ids = [prompt_id(text) for experience in experiences for text in experience.prompts]
        rewards = torch.cat([experience.rewards for experience in experiences])
        sizes = [len(experience.rewards) for experience in experiences]
        for experience, rows in zip(experiences, driver.rows(ids, rewards, self.step).split(sizes), strict=True):
            experience.advantages = rows[:, None] * experience.action_mask
            experience.returns = experience.advantages.clone()
        return experiences


ppo_trainer.RemoteExperienceMaker = KernelExperienceMaker
