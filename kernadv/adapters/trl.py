"""TRL: `GRPOTrainer` and `RLOOTrainer` whose advantages come from kernadv."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import trl
from accelerate.utils import gather_object

from kernadv._errors import ArgumentError, check_count
from kernadv.adapters._driver import Driver, Estimator, check_version, driver_with, surprisal
from kernadv.adapters._trl_log import add_evaluation_log, files_apart, replace_newest, rows_apart, write_completions
from kernadv.adapters.samplers import ReuseSampler

#: ``loss_type`` -> what it divides by, see `kernadv.scores.Surprisal`; RLOO has none, and sums.
LOSSES = {
    None: "sum",
    "grpo": "trace",
    "sapo": "trace",
    **dict.fromkeys(("bnpo", "dr_grpo", "dapo", "cispo", "luspo", "vespo"), "sum"),
}


class _One(int):
    """The number 1, which passes the check for at least two generations: their baseline needs two, ours does not."""

    def __lt__(self, other: Any) -> bool:
        return False


class ConfigMixin:
    """Allow ``num_generations=1`` in a configuration of TRL."""

    num_generations: int | None

    def __post_init__(self) -> None:
        single = self.num_generations == 1
        self.num_generations = _One(1) if single else self.num_generations
        super().__post_init__()
        self.num_generations = 1 if single else self.num_generations


class GRPOConfig(ConfigMixin, trl.GRPOConfig):
    """`trl.GRPOConfig` with groups of one trace."""


class RLOOConfig(ConfigMixin, trl.RLOOConfig):
    """`trl.RLOOConfig` with groups of one trace."""


class TrainerMixin:
    """Put it before a trainer of TRL: ``class Mine(TrainerMixin, SubclassOfGRPOTrainer)``, with its arguments and these.

    Several processes: rows are gathered and every process keeps the same state.  Evaluation changes nothing.

    Parameters
    ----------
    estimator : Estimator or Driver, optional
        Default: the pooled `KernelValueEstimator`, weighted where TRL has log-probabilities.
    weights : {"surprisal", "none"} or callable
        What weighs the traces, see `Driver`.
    id_column : str
        Column of the data set that holds the prompts' ids; without it they are hashes of the prompts' texts.
    reuse : int
        Generation batches in a row that visit the same prompts.
    resume_cold : bool
        Resume from a checkpoint without a state, without a past; otherwise this is an error.
    """

    def __init__(
        self,
        *args: Any,
        estimator: Estimator | Driver | None = None,
        weights: Any = "surprisal",
        id_column: str = "prompt_id",
        reuse: int = 1,
        resume_cold: bool = False,
        **rest: Any,
    ) -> None:
        config = rest.get("args", args[2] if len(args) > 2 else None)
        _check_config(config)  # before models are loaded
        check_version("trl", (1, 16), (1, 17))
        self.kernadv = driver_with(
            estimator, weights, LOSSES.get(getattr(config, "loss_type", None)), resume_cold=resume_cold
        )
        self.id_column, self.reuse = id_column, check_count(reuse, "reuse")
        super().__init__(*args, **rest)
        _check_trainer(self)
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
        total = _total_rewards(rewards, self.reward_weights, getattr(self, "reward_clip_range", None))
        advantages = self.kernadv.rows(ids, total, step, surprisal=_trace_surprisal(self.accelerator, output))
        first = self.accelerator.process_index * len(inputs)
        output["advantages"] = advantages[first : first + len(inputs)].to(output["advantages"])
        replace_newest(self._logs["advantages"], advantages.tolist())
        for name, number in self.kernadv.metrics().items():
            self._metrics["train"][name].append(number)
        return output

    def _get_train_sampler(self: Any, dataset: Any = None) -> Any:
        if self.reuse == 1:
            return super()._get_train_sampler(dataset)
        return _reuse_sampler(self, self.train_dataset if dataset is None else dataset)

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


def _check_config(config: Any) -> None:
    """Refuse what replacing the advantages would silently drop.

    Raises
    ------
    ArgumentError
        If rewards are normalised one by one, or RLOO has a KL penalty or normalises.
    """
    if getattr(config, "multi_objective_aggregation", "sum_then_normalize") != "sum_then_normalize":
        raise ArgumentError(
            "multi_objective_aggregation must be 'sum_then_normalize': rewards are summed, then smoothed"
        )
    if isinstance(config, trl.RLOOConfig) and (config.beta or config.normalize_advantages):
        raise ArgumentError("RLOO needs beta=0 and normalize_advantages=False; with GRPO a KL penalty is in the loss")


def _check_trainer(trainer: Any) -> None:
    """Refuse defaults of TRL that `_check_config` refuses, and data that TRL's loop finds empty or asks no sampler for.

    Raises
    ------
    ArgumentError
        If the data set is a stream and prompts shall come back, or has fewer prompts than a generation batch.
    """
    _check_config(trainer.args)
    rows, block = trainer.train_dataset, _block(trainer)
    if not hasattr(rows, "__len__"):
        if trainer.reuse > 1:
            raise ArgumentError(
                "a stream has no order to choose: set reuse=1, and repeat the prompts in the stream itself"
            )
    elif len(rows) < block:
        raise ArgumentError(
            f"a generation batch takes {block} prompts (generation_batch_size / num_generations), but the data set has "
            f"{len(rows)}: lower the batch size or steps_per_generation, or raise num_generations"
        )


def _reuse_sampler(trainer: Any, rows: Any) -> ReuseSampler:
    """Sampler of a trainer's ``reuse``, of the length that TRL's updates on each generation need."""
    return ReuseSampler(
        len(rows),
        _block(trainer),
        trainer.reuse,
        trainer.args.seed if trainer.shuffle_dataset else None,
        group=trainer.num_generations,
        repeat=trainer.num_iterations * trainer.args.steps_per_generation,
    )


def _block(trainer: Any) -> int:
    return int(trainer.args.generation_batch_size // trainer.num_generations)


def _total_rewards(rewards: Any, weights: Any, clip: Any) -> Any:
    """Weighted sum of the reward functions; NaN where none of them has a reward.  # (B, F) -> (B,)"""
    total = (rewards * weights.to(rewards.device)).nansum(1)
    total[rewards.isnan().all(1)] = torch.nan
    return (total.clamp(*clip) if clip else total).float().cpu()


def _trace_surprisal(accelerator: Any, output: Any) -> Callable[[], Any] | None:
    """What gathers surprisal and length of the traces of all processes, (B,) each; None: TRL has no log-probabilities."""
    mask = output["completion_mask"] * output.get("tool_mask", 1)

    def gathered(x: Any, tokens: Any) -> Any:
        return tuple(accelerator.gather(part.to(mask.device)).cpu() for part in (x, tokens))

    for name in ("old_per_token_logps", "sampling_per_token_logps"):
        if output.get(name) is not None:
            return lambda: gathered(*surprisal(output[name], mask))
    if output.get("old_logps") is not None:
        return lambda: gathered(-output["old_logps"].detach().clamp(max=0.0).double(), mask.sum(-1).double())
    return None
