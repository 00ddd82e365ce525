"""ms-swift 4.6: ``swift rlhf --rlhf_type grpo --external_plugins examples/recipes/ms_swift_kernadv.py ...``."""

import torch
from accelerate.utils import gather_object
from swift.rlhf_trainers.grpo_trainer import GRPOTrainer
from swift.trainers.trainer_factory import TrainerFactory

from kernadv.adapters import Driver
from kernadv.adapters._driver import check_groups


class KernelGRPOTrainer(GRPOTrainer):
    """The trainer, with the advantages of kernadv; every process gets the rows of all, and keeps the same history."""

    def __init__(self, *args, **kwargs):
        self.kernadv = Driver()  # another estimator goes in here
        super().__init__(*args, **kwargs)

    def _preprocess_inputs(self, samples):
        """Before the rollouts: name the prompts, by the column `prompt_id` or by their messages."""
        given = [sample.prompt_id for sample in samples]  # ms-swift overwrites it with numbers within the batch
        samples = super()._preprocess_inputs(samples)
        names = given if any(name != "" for name in given) else None
        ids = self.kernadv.ids([sample.messages for sample in samples], names, "no column 'prompt_id'")
        for sample, name in zip(samples, ids, strict=True):
            sample.prompt_id = name
        return samples

    def _compute_advantages(self, samples, rewards_per_func, batch_encoded_inputs):
        """Advantages of the rows of all processes.  # (N,)"""
        theirs = super()._compute_advantages(samples, rewards_per_func, batch_encoded_inputs)  # logs the rewards
        if not self.model.training:
            return theirs
        ids = gather_object([sample.prompt_id for sample in samples])
        rewards, weights = rewards_per_func.float().cpu(), self.reward_weights.float().cpu()
        trace = None
        if self.dynamic_num_samples:  # a scheduler has split rollouts into several samples
            trace = gather_object([sample.request_id for sample in samples])
        else:
            check_groups(ids, self.num_generations)
        several = self.kernadv.components > 0  # each reward function has a value of its own
        if not several:
            total = (rewards * weights).nansum(dim=1)
            rewards = total.masked_fill(rewards.isnan().all(dim=1), torch.nan)
        ours = self.kernadv.rows(ids, rewards, self.state.global_step + 1, trace=trace)
        ours = (ours * weights).sum(dim=1) if several else ours
        for name, number in self.kernadv.metrics().items():
            self._metrics["train"][name].append(number)
        return ours.to(theirs)

    def _save_checkpoint(self, *args, **kwargs):
        if self.args.should_save:  # first, so that no checkpoint is whole without it
            self.kernadv.save(f"{self.args.output_dir}/checkpoint-{self.state.global_step}")
            self.kernadv.finish()  # a large state is written in a thread
        return super()._save_checkpoint(*args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.kernadv.load(checkpoint)


TrainerFactory.TRAINER_MAPPING["grpo"] = f"{__name__}.KernelGRPOTrainer"
