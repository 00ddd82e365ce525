"""TRL: `GRPOTrainer` and `RLOOTrainer` whose advantages come from kernadv."""

from __future__ import annotations

import os
from typing import Any

import trl
from accelerate.utils import gather_object

from kernadv._errors import check_count
from kernadv.adapters._driver import Driver, Estimator
from kernadv.adapters._trl_batch import total_rewards, trace_surprisal
from kernadv.adapters._trl_config import GRPOConfig as GRPOConfig
from kernadv.adapters._trl_config import RLOOConfig as RLOOConfig
from kernadv.adapters._trl_config import check_config
from kernadv.adapters._trl_data import check_trainer, reuse_sampler
from kernadv.adapters._trl_log import add_evaluation_log, files_apart, replace_newest, rows_apart, write_completions


class TrainerMixin:
    """Put it before a trainer of TRL: ``class Mine(TrainerMixin, SubclassOfGRPOTrainer)``, with its arguments and these.

    Several processes: rows are gathered and every process keeps the same state.  Evaluation changes nothing.

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
        self, *args: Any, estimator: Estimator | None = None, id_column: str = "prompt_id", reuse: int = 1, **rest: Any
    ) -> None:
        check_config(rest.get("args", args[2] if len(args) > 2 else None))  # before models are loaded
        self.kernadv = Driver(estimator, "trl")
        self.id_column, self.reuse = id_column, check_count(reuse, "reuse")
        super().__init__(*args, **rest)
        check_trainer(self)
        add_evaluation_log(self)

    def _calculate_rewards(self: Any, inputs: Any, prompts: Any, *args: Any, **options: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, *args, **options)  # (B, F), of all processes
        if self.model.training:
            given = [row[self.id_column] for row in inputs] if self.id_column in inputs[0] else None
            ids = self.kernadv.ids(prompts, given, f"no column {self.id_column!r}")
            self._kernadv_batch = rewards, gather_object(ids), self.state.global_step + 1
            self._pending_extra_logs |= {"prompt_id": ids, "policy_step": [self._kernadv_batch[2]] * len(ids)}
        return rewards

    def _generate_and_score_completions(self: Any, inputs: Any) -> Any:
        with rows_apart(self):
            output = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return output
        rewards, ids, step = self._kernadv_batch
        total = total_rewards(rewards, self.reward_weights, getattr(self, "reward_clip_range", None))
        advantages = self.kernadv.rows(ids, total, step, surprisal=lambda: trace_surprisal(self.accelerator, output))
        first = self.accelerator.process_index * len(inputs)
        output["advantages"] = advantages[first : first + len(inputs)].to(output["advantages"])
        replace_newest(self._logs["advantages"], advantages.tolist())
        for name, number in self.kernadv.metrics().items():
            self._metrics["train"][name].append(number)
        return output

    def _get_train_sampler(self: Any, dataset: Any = None) -> Any:
        if self.reuse == 1:
            return super()._get_train_sampler(dataset)
        return reuse_sampler(self, self.train_dataset if dataset is None else dataset)

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        if self.args.should_save:  # first, so that no checkpoint is whole without it
            self.kernadv.save(os.path.join(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}"))
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.kernadv.load(checkpoint)

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; the completions of an evaluation go to a folder of their own."""
        with files_apart(self), rows_apart(self):
            super().log(logs, start_time)
            if isinstance(self, trl.RLOOTrainer):
                write_completions(self)


class GRPOTrainer(TrainerMixin, trl.GRPOTrainer):
    """`trl.GRPOTrainer` with the advantages of kernadv; further parameters as in `TrainerMixin`."""


class RLOOTrainer(TrainerMixin, trl.RLOOTrainer):
    """`trl.RLOOTrainer` with the advantages of kernadv, and the files of completions that `GRPOTrainer` writes."""
