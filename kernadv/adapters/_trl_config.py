"""Configurations of TRL that allow single traces, and what cannot be combined with replaced advantages."""

from __future__ import annotations

from typing import Any

import trl

from kernadv._errors import ArgumentError


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


def check_config(config: Any) -> None:
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
