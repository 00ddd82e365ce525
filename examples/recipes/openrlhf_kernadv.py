"""OpenRLHF 0.11: ``python openrlhf_kernadv.py ARGUMENTS`` in place of ``python -m openrlhf.cli.train_ppo_ray ARGUMENTS``.

Run with ``--algo.advantage.estimator flash_reinforce`` (single rollouts allowed, no whitening) and no KL in the reward.
The trainer is an actor of Ray and lives in a process of its own, so it is replaced before Ray makes it.
"""

import runpy

import numpy as np
import ray
import torch
from openrlhf.trainer import ppo_trainer, ppo_trainer_async

from kernadv._errors import CheckpointError
from kernadv.adapters import Driver
from kernadv.adapters._driver import check_groups, surprisal


class KernelTrainer:
    """Before a trainer of OpenRLHF: its advantages are kernadv's, the history is part of its checkpoints."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        sums = self.args.actor.loss_agg_mode == "token-mean" and self.args.actor.policy_loss_type != "gspo"
        self.kernadv = Driver(loss="sum" if sums else "trace")  # another estimator goes in here
        self.step = 0
        maker = self.experience_maker
        theirs = maker.compute_advantages_and_returns
        maker.compute_advantages_and_returns = lambda experiences: self.smooth(theirs(experiences))

    def smooth(self, experiences):
        """Overwrite the advantages: one call a rollout batch, one row a rollout, however many turns it has."""
        prompts, labels, images = (
            [x for e in experiences for x in getattr(e, name)] for name in ("prompts", "labels", "images")
        )
        told = all(isinstance(label, dict) and "prompt_id" in label for label in labels)
        rows = [
            [{"prompt": text, "label": label, "images": image}]
            for text, label, image in zip(prompts, labels, images, strict=True)
        ]
        ids = self.kernadv.ids(
            rows, [label["prompt_id"] for label in labels] if told else None, "no 'prompt_id' in the labels"
        )
        order = np.argsort([place for e in experiences for place in e.index])  # as generated
        check_groups([ids[k] for k in order], self.args.rollout.n_samples_per_prompt, column="LABEL.prompt_id")
        parts = [surprisal(e.action_log_probs, e.action_mask) for e in experiences]
        rewards = torch.cat([e.rewards for e in experiences])
        out = self.kernadv.rows(
            ids, rewards, self.step, surprisal=lambda: tuple(map(torch.cat, zip(*parts, strict=True)))
        )
        for experience, part in zip(experiences, out.split([len(e.rewards) for e in experiences]), strict=True):
            experience.advantages = part[:, None] * experience.action_mask
            experience.returns = experience.advantages.clone()
        return experiences

    def train_step(self, rollout_samples, global_step):
        """Train on a rollout batch."""
        self.step = global_step + 1
        status, after = super().train_step(rollout_samples, global_step)
        return {**status, **self.kernadv.metrics()}, after

    def init_checkpoint_states(self):
        """Where to go on; the history comes out of the checkpoint."""
        states = super().init_checkpoint_states()
        history = states.pop("kernadv", None)
        if history is not None:
            self.kernadv.load_state_dict(history)
        elif states["global_step"] and not self.kernadv.resume_cold:
            raise CheckpointError(
                f"the checkpoint of step {states['global_step']} has no history of kernadv: go on from one that has, or set "
                "Driver.resume_cold=True to start without a past"
            )
        return states

    def save_logs_and_checkpoints(self, global_step, logs_dict=None, client_states=None):
        """Save, if it is time."""
        due = global_step % self.args.ckpt.save_steps == 0
        super().save_logs_and_checkpoints(
            global_step, logs_dict, self.with_history(client_states) if due else client_states
        )

    def save_best_checkpoint(self, eval_metrics, global_step, client_states=None):
        """Save, if it is the best."""
        super().save_best_checkpoint(eval_metrics, global_step, self.with_history(client_states))

    def with_history(self, client_states):
        """What goes into a checkpoint."""
        return {**(client_states or {}), "kernadv": self.kernadv.state_dict()}


def smoothed(actor):
    """The same actor of Ray, with `KernelTrainer` before its class."""
    plain = actor.__ray_metadata__.modified_class
    return ray.remote(type(plain.__name__, (KernelTrainer, plain), {}))


def replace():
    """Have OpenRLHF make trainers with kernadv's advantages."""
    ppo_trainer.PPOTrainer = smoothed(ppo_trainer.PPOTrainer)
    ppo_trainer_async.TrainingActor = smoothed(ppo_trainer_async.TrainingActor)


if __name__ == "__main__":
    replace()
    runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
