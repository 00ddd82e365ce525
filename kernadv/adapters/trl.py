"""TRL: `GRPOTrainer` and `RLOOTrainer` whose advantages come from kernadv."""

from __future__ import annotations

import os
from typing import Any

import trl
from accelerate.utils import gather_object

from kernadv.adapters._shared import Driver, Estimator
from kernadv.adapters._trl_parts import GRPOConfig as GRPOConfig
from kernadv.adapters._trl_parts import RLOOConfig as RLOOConfig
from kernadv.adapters._trl_parts import check_config, replace_newest, total_rewards, trace_weights, write_completions
from kernadv.adapters.samplers import ReuseSampler


class TrainerMixin:
    """Put it before a trainer of TRL: ``class Mine(TrainerMixin, SubclassOfGRPOTrainer)``, with its arguments and these.

    Several processes: rows are gathered and every process keeps the same state.  Evaluation reads and changes nothing.

    Parameters
    ----------
    estimator : Estimator, optional
        Default: the pooled `KernelValueEstimator()`.
    id_column : str
        Column of the data set that holds the prompts' ids; without it they are hashes of the prompts' texts.
    reuse : int
        Generation batches in a row that visit the same prompts.
    """

    def __init__(
        self,
        *args: Any,
        estimator: Estimator | None = None,
        id_column: str = "prompt_id",
        reuse: int = 1,
        **options: Any,
    ) -> None:
        check_config(options.get("args", args[2] if len(args) > 2 else None))
        self.kernadv = Driver(estimator, "trl")
        self.id_column, self.reuse = id_column, reuse
        super().__init__(*args, **options)

    def _calculate_rewards(self: Any, inputs: Any, prompts: Any, *args: Any, **options: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, *args, **options)  # (B, F), of all processes
        given = [row[self.id_column] for row in inputs] if self.id_column in inputs[0] else None
        ids = self.kernadv.ids([row.get("prompt") for row in inputs], given, f"no column {self.id_column!r}")
        self._pending_extra_logs["prompt_id"] = ids
        self._kernadv_batch = rewards, gather_object(ids)
        return rewards

    def _generate_and_score_completions(self: Any, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return output
        rewards, ids = self._kernadv_batch
        total = total_rewards(rewards, self.reward_weights, getattr(self, "reward_clip_range", None))
        step, weights = self.state.global_step + 1, lambda: trace_weights(self.accelerator, output)
        advantages = self.kernadv.rows(ids, total, step, weights=weights)
        first = self.accelerator.process_index * len(inputs)
        output["advantages"] = advantages[first : first + len(inputs)].to(output["advantages"])
        replace_newest(self._logs["advantages"], advantages.tolist())
        for name, number in self.kernadv.metrics().items():
            self._metrics["train"][name].append(number)
        return output

    def _get_train_sampler(self: Any, dataset: Any = None) -> Any:
        if self.reuse == 1:
            return super()._get_train_sampler(dataset)
        args, rows = self.args, self.train_dataset if dataset is None else dataset
        repeat = self.num_iterations * args.steps_per_generation
        block = args.generation_batch_size // self.num_generations
        return ReuseSampler(len(rows), block, self.reuse, args.seed, group=self.num_generations, repeat=repeat)

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            self.kernadv.save(os.path.join(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}"))

    def _load_optimizer_and_scheduler(self: Any, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.kernadv.load(checkpoint)


class GRPOTrainer(TrainerMixin, trl.GRPOTrainer):
    """`trl.GRPOTrainer` with the advantages of kernadv; further parameters as in `TrainerMixin`."""


class RLOOTrainer(TrainerMixin, trl.RLOOTrainer):
    """`trl.RLOOTrainer` with the advantages of kernadv, and the files of completions that `GRPOTrainer` writes."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the metrics and write the completions."""
        super().log(logs, start_time)
        if self.log_completions and self.accelerator.is_main_process and self._logs["prompt"]:
            write_completions(self.args.output_dir, self.state.global_step, self._logs)
