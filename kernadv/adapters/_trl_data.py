"""Which prompts TRL generates for: the schedule as its sampler, and data that it cannot be made from."""

from __future__ import annotations

from typing import Any

from kernadv._errors import ArgumentError
from kernadv.adapters._trl_config import check_config
from kernadv.adapters.samplers import ReuseSampler


def check_trainer(trainer: Any) -> None:
    """Refuse defaults of TRL that `check_config` refuses, and data that TRL's loop finds empty or asks no sampler for.

    Raises
    ------
    ArgumentError
        If the data set is a stream and prompts shall come back, or has fewer prompts than a generation batch.
    """
    check_config(trainer.args)
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


def reuse_sampler(trainer: Any, rows: Any) -> ReuseSampler:
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
