"""The settings of the pooled estimator."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_range
from kernadv.typing import FloatArray


class Members(NamedTuple):
    """The M filters: every prior combined with every way to move.

    Attributes
    ----------
    prior : (M,) float64
        Rollouts that the prior is worth.
    walk : (M,) float64
        Standard deviation of a step of the logit.
    discount : (M,) float64
        Rate per step at which the past loses its worth.

    Examples
    --------
    >>> from kernadv.pooling import Pooling
    >>> members = Pooling(priors=(1.0,), walks=(0.0, 0.1), discounts=(0.02,)).members
    >>> members.prior, members.walk, members.discount
    (array([1., 1., 1.]), array([0. , 0.1, 0. ]), array([0.  , 0.  , 0.02]))
    """

    prior: FloatArray
    walk: FloatArray
    discount: FloatArray


@dataclass(frozen=True)
class Pooling:
    """The filters that run for every prompt, and how the level that the prompts share may move.

    Parameters
    ----------
    priors : tuple of float
        Numbers of rollouts that the prior is worth, above 0.
    walks : tuple of float
        How prompts may move: standard deviations, from 0, of the steps of a random walk of the value's logit.
    discounts : tuple of float
        Other ways to move: rates per step, above 0, at which the past of a prompt loses its worth.
    common : tuple of float
        Standard deviations of the steps of the common level's random walk; with 0 alone it does not move.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a tuple other than `discounts` is empty, or one holds a number that is out of range or repeated.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> from kernadv.pooling import Pooling
    >>> still = KernelValueEstimator(pooling=Pooling(walks=(0.0,), discounts=(), common=(0.0,)))  # nothing moves
    >>> for step in range(1, 5):
    ...     still.observe(["a", "a"], [1.0, 0.0], step)
    >>> still.predict(["a"]).value.round(6)
    array([0.5])
    """

    priors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    walks: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)
    discounts: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08)
    common: tuple[float, ...] = (0.0, 0.03, 0.08, 0.15)

    def __post_init__(self) -> None:
        least = {"priors": 1e-3, "discounts": 1e-9}
        for field in fields(self):
            values = _numbers(getattr(self, field.name), field.name, least.get(field.name, 0.0))
            if not values and field.name != "discounts":
                raise ArgumentError(f"{field.name} must hold at least one number, got none; e.g. {field.default}")
            object.__setattr__(self, field.name, values)

    @property
    def members(self) -> Members:
        """The filters."""
        moves = [(walk, 0.0) for walk in self.walks] + [(0.0, rate) for rate in self.discounts]
        return Members(*np.array([(prior, *move) for prior, move in product(self.priors, moves)]).T.copy())


def _numbers(values: Any, name: str, least: float) -> tuple[float, ...]:
    """Distinct finite numbers, ascending."""
    if not isinstance(values, (tuple, list, np.ndarray)):
        raise ArgumentTypeError(f"{name} must be a tuple of numbers, got {values!r:.80}")
    found = tuple(sorted(check_range(value, name, least, 1e3) for value in values))
    if len(set(found)) < len(found):
        raise ArgumentError(f"{name} must not repeat a number, got {values!r:.80}")
    return found
