"""ms-swift 4.6: ``swift rlhf --rlhf_type grpo --external_plugins examples/recipes/ms_swift_kernadv.py ...``."""

import torch
from accelerate.utils import gather_object
from swift.rlhf_trainers.grpo_trainer import GRPOTrainer
from swift.trainers.trainer_factory import TrainerFactory

from kernadv import prompt_id
from kernadv.adapters import Driver


def asked(messages):
    """The messages without the answers."""
    return [message for message in messages if message["role"] != "assistant"]


class KernelGRPOTrainer(GRPOTrainer):
    """The trainer, with the advantages of kernadv; not for `dynamic_num_samples`, where rows repeat."""

    kernadv = Driver()

    def _compute_advantages(self, samples, rewards_per_func, batch_encoded_inputs):
        """Advantages of the rows of all processes.  # (N,)"""
        theirs = super()._compute_advantages(samples, rewards_per_func, batch_encoded_inputs)  # logs the rewards
        if not self.model.training:
            return theirs
        ids = gather_object([sample.extra.get("prompt_id") or prompt_id(asked(sample.messages)) for sample in samples])
        rewards = (rewards_per_func * self.reward_weights.unsqueeze(0)).nansum(dim=1)
        rewards[rewards_per_func.isnan().all(dim=1)] = torch.nan
        ours = self.kernadv.rows(list(map(str, ids)), rewards.float().cpu(), self.state.global_step + 1)
        for name, number in self.kernadv.metrics().items():
            self._metrics["train"][name].append(number)
        return ours.to(theirs)

    def _save_checkpoint(self, *args, **kwargs):
        super()._save_checkpoint(*args, **kwargs)
        if self.args.should_save:
            self.kernadv.save(f"{self.args.output_dir}/checkpoint-{self.state.global_step}")


TrainerFactory.TRAINER_MAPPING["grpo"] = f"{__name__}.KernelGRPOTrainer"
