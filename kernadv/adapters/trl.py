"""TRL: `GRPOTrainer` and `RLOOTrainer` whose advantages come from kernadv."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from typing import Any

from kernadv._errors import ArgumentError, check_count, check_flag
from kernadv.adapters._driver import Driver, check_version, driver_with, surprisal
from kernadv.typing import Estimator

#: Versions of TRL that are tested: from the first, below the last.
TESTED = (1, 16), (1, 17)

check_version("trl", *TESTED)  # before the imports of TRL, which an older one cannot serve

import torch  # noqa: E402
import trl  # noqa: E402

from kernadv.adapters._trl_log import (  # noqa: E402
    add_evaluation_log,
    files_apart,
    replace_newest,
    rows_apart,
    write_completions,
)
from kernadv.adapters._trl_rows import RowIds, agree, from_first, in_all, row_hash  # noqa: E402
from kernadv.adapters.samplers import ReuseSampler  # noqa: E402

__all__ = ["ConfigMixin", "GRPOConfig", "GRPOTrainer", "RLOOConfig", "RLOOTrainer", "TrainerMixin"]


def __dir__() -> list[str]:
    return __all__


_log = logging.getLogger("kernadv")

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
    """Allow ``num_generations=1``: put it before any configuration of TRL, ``class Mine(ConfigMixin, GMPOConfig)``."""

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

    Several processes: rows are gathered, and processes that disagree are refused.  Evaluation changes nothing.  The clock
    is TRL's ``global_step + 1``; a second call of ``train()`` goes on where the first one ended.

    Parameters
    ----------
    estimator : Estimator or Driver, optional
        Default: the pooled `KernelValueEstimator`, weighted where TRL has log-probabilities.  A `ComponentValueEstimator`
        smooths each reward function alone; its advantages are summed with TRL's ``reward_weights``.
    weights : {"surprisal", "none"} or callable
        What weighs the traces, see `Driver`.
    id_column : str
        Column of the data set that holds the prompts' ids; without it they are hashes of the prompts' texts, or of the
        rows where environments change the prompts.
    reuse : int
        Generation batches in a row that visit the same prompts.
    replicated : bool
        Whether every process keeps the history.  False: the first one does, and tells the others their advantages.
    resume_cold : bool
        Whether a checkpoint without a history may be resumed.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the settings of TRL and these do not fit together.
    """

    def __init__(
        self: Any,
        *args: Any,
        estimator: Estimator | Driver | None = None,
        weights: Any = "surprisal",
        id_column: str = "prompt_id",
        reuse: int = 1,
        replicated: bool = True,
        resume_cold: bool = False,
        **rest: Any,
    ) -> None:
        config = rest.get("args", args[2] if len(args) > 2 else None)
        _check_config(config)  # before models are loaded
        loss = LOSSES.get(getattr(config, "loss_type", None))
        self.kernadv = driver_with(estimator, weights, loss, resume_cold=resume_cold)
        self.id_column, self.reuse = id_column, check_count(reuse, "reuse")
        self.replicated = check_flag(replicated, "replicated")
        super().__init__(*args, **rest)
        _check_trainer(self)
        _check_shared(self.kernadv, self.accelerator.num_processes, self.replicated)
        environments = getattr(self, "environment_factories", None) is not None
        self._kernadv_ids = RowIds(self.kernadv, id_column, self.num_generations, environments)
        self._kernadv_fresh, self._kernadv_ahead = True, 0
        self._kernadv_reward_weights, self._kernadv_told = None, False
        add_evaluation_log(self)
        settings = {"weights": weights, "id_column": id_column, "reuse": reuse, "replicated": replicated}
        settings |= {"num_generations": self.num_generations, "reward_weights": self.reward_weights.tolist()}
        agree({"the estimator": self.kernadv.estimator, **settings})
        if self.accelerator.is_main_process:
            for message in _remarks(self):
                _log.warning("kernadv: %s", message)

    @property
    def _kernadv_keeps(self: Any) -> bool:
        """Whether this process keeps a history."""
        return self.replicated or bool(self.accelerator.is_main_process)

    def train(self, *args: Any, **options: Any) -> Any:
        """Train; the clock goes on from an earlier call."""
        self._kernadv_fresh = True
        return super().train(*args, **options)

    def _calculate_rewards(self: Any, inputs: Any, prompts: Any, *args: Any, **options: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, *args, **options)  # (B, F), of all processes
        if self.model.training:
            self._kernadv_begin(inputs)
            ids = self._kernadv_ids(inputs, self._kernadv_data, prompts)
            first = self.accelerator.process_index * len(inputs)
            step = self.state.global_step + 1 + self._kernadv_ahead
            self._kernadv_batch = rewards, ids, step
            own = {"prompt_id": ids[first : first + len(inputs)], "policy_step": [step] * len(inputs)}
            self._pending_extra_logs |= own
        return rewards

    def _kernadv_begin(self: Any, inputs: Any) -> None:
        """At the first batch of a training: set the clock, and compare the processes."""
        if not self._kernadv_fresh:
            return
        newest = in_all(lambda: self.kernadv.step)[0]
        self._kernadv_ahead = max(0, newest - self.state.global_step)
        settings = {"the columns of the data": sorted(inputs[0]), "the step": self.state.global_step}
        if self.replicated:
            settings["the history"] = self.kernadv.metrics().get("kernadv/history_visits")
        agree(settings)
        self._kernadv_fresh = False

    def _generate_and_score_completions(self: Any, inputs: Any) -> Any:
        if self.model.training:  # before rewards, environments and rollouts can change a row
            self._kernadv_data = [row_hash(row) for row in inputs]
        with rows_apart(self):
            output = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return output
        advantages = self._kernadv_advantages(output)
        first = self.accelerator.process_index * len(inputs)
        output["advantages"] = advantages[first : first + len(inputs)].to(output["advantages"])
        replace_newest(self._logs["advantages"], advantages.tolist())
        if self._kernadv_keeps:
            for name, number in self.kernadv.metrics().items():
                self._metrics["train"][name].append(number)
        return output

    def _kernadv_advantages(self: Any, output: Any) -> Any:
        """Advantages of the rows of all processes.  # (B,)"""
        sums = _trace_surprisal(self.accelerator, output)
        if self.replicated:
            return self._kernadv_compute(sums)
        gathered = None if sums is None else sums()  # every process must take part, also where it is not used
        compute = lambda: self._kernadv_compute(None if gathered is None else lambda: gathered)
        return from_first(self.accelerator.is_main_process, compute)

    def _kernadv_compute(self: Any, sums: Any) -> Any:
        rewards, ids, step = self._kernadv_batch
        weights = self.reward_weights.cpu()
        if self.kernadv.components:
            parts = self.kernadv.rows(ids, rewards.float().cpu(), step, surprisal=sums)
            return (parts * weights).sum(1)
        self._kernadv_compare(weights)
        total = _total_rewards(rewards, weights, getattr(self, "reward_clip_range", None))
        return self.kernadv.rows(ids, total, step, surprisal=sums)

    def _kernadv_compare(self: Any, weights: Any) -> None:
        """Say once if the weights of the reward functions have changed."""
        before, self._kernadv_reward_weights = self._kernadv_reward_weights, weights
        if before is None or torch.equal(before, weights) or self._kernadv_told:
            return
        self._kernadv_told = True
        _log.warning(
            "kernadv: reward_weights changed, but the history holds rewards under the old ones: values follow within some "
            "visits; a ComponentValueEstimator smooths each reward function alone"
        )

    def _get_train_sampler(self: Any, dataset: Any = None) -> Any:
        if self.reuse == 1:
            return super()._get_train_sampler(dataset)
        return _reuse_sampler(self, self.train_dataset if dataset is None else dataset)

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        if self.args.should_save and self._kernadv_keeps:  # first, so that no checkpoint is whole without it
            self.kernadv.save(os.path.join(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}"))
            if self.args.save_only_model:
                self.kernadv.finish()
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self: Any, output_dir: Any) -> None:
        super()._save_rng_state(output_dir)
        self.kernadv.finish()  # before TRL writes its own state, which makes the checkpoint whole, and deletes older ones

    def _load_optimizer_and_scheduler(self: Any, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            in_all(lambda: self.kernadv.load(checkpoint) if self._kernadv_keeps else None)

    def evaluate(self: Any, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Evaluate; the completions of several data sets go to a folder each."""
        if isinstance(self.eval_dataset if eval_dataset is None else eval_dataset, dict):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # which calls this for each
        add_evaluation_log(self, metric_key_prefix.removeprefix("eval").removeprefix("_"))
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
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


def _remarks(trainer: Any) -> list[str]:
    """Settings that have no effect, or lose something."""
    args, found = trainer.args, []
    scale = getattr(args, "scale_rewards", "none")
    if scale != "none":
        found.append(
            f"scale_rewards={scale!r} has no effect, advantages are not divided by a standard deviation: set 'none', and "
            "choose the learning rate for their scale"
        )
    updates = args.steps_per_generation * trainer.num_iterations  # of a generation, gradient_accumulation_steps a step
    entry = _steps(args.logging_strategy, args.logging_steps, args.max_steps)
    if args.log_completions and (entry is None or entry * args.gradient_accumulation_steps > updates):
        which = (
            "some generations only" if entry is None else f"1 of {entry * args.gradient_accumulation_steps / updates:g}"
        )
        found.append(
            f"the log of completions will hold {which} (logging_strategy={str(args.logging_strategy.value)!r}, "
            f"logging_steps={args.logging_steps:g}), so that the audit cannot judge how often prompts come back: set "
            f"logging_steps={max(1, updates // args.gradient_accumulation_steps)}"
        )
    save = _steps(args.save_strategy, args.save_steps, args.max_steps)
    if save is not None and save < math.inf and save * args.gradient_accumulation_steps % updates:
        found.append(
            f"save_steps={args.save_steps:g} saves in the middle of a generation, which a resumed run makes anew: "
            f"{updates / args.gradient_accumulation_steps:g} steps use each generation"
        )
    return found


def _steps(strategy: Any, steps: float, total: int) -> float | None:
    """Optimizer steps between two events; inf: there are none, None: it is not known yet."""
    if strategy.value == "no":
        return math.inf
    if strategy.value != "steps" or (steps < 1 and total <= 0):
        return None
    return math.ceil(total * steps) if steps < 1 else steps


def _check_trainer(trainer: Any) -> None:
    """Refuse defaults of TRL that `_check_config` refuses, and data that TRL's loop finds empty or asks no sampler for.

    Raises
    ------
    ArgumentError
        If the data set is a stream and prompts shall come back, or has fewer prompts than a generation batch.
    """
    _check_config(trainer.args)
    _check_components(trainer)
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


def _check_shared(driver: Driver, processes: int, replicated: bool) -> None:
    """Refuse to send each batch to a shared estimator once a process."""
    if replicated and processes > 1 and getattr(driver.estimator, "shared", False):
        raise ArgumentError(
            f"{processes} processes would each send their batches to the shared estimator, which counts each of them: set "
            "replicated=False, and the first one does"
        )


def _check_components(trainer: Any) -> None:
    if not trainer.kernadv.components:
        return
    columns, functions = trainer.kernadv.components, len(trainer.reward_funcs)
    if columns != functions:
        raise ArgumentError(
            f"the estimator has {columns} components, but there are {functions} reward functions: build "
            f"ComponentValueEstimator({functions})"
        )
    if getattr(trainer, "reward_clip_range", None):
        raise ArgumentError(
            "reward_clip_range clips the sum of the rewards, but each is smoothed alone: clip them yourself"
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
