"""Types of arguments and results, and what an object of your own must have to be used in the place of one of ours.

Shape letters: P prompts, G group, Q queries, L history slots, H bandwidths, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeVar

    ArrayType = TypeVar("ArrayType", default=Any)
    Floats = TypeVar("Floats", bound=NDArray[np.floating[Any]] | Tensor)
else:
    from typing import TypeVar

    ArrayType = TypeVar("ArrayType")
    # Arrays of floats, or tensors: results have the same type.
    Floats = TypeVar("Floats")

__all__ = [
    "AnyArray",
    "ArrayRewards",
    "BoolArray",
    "Estimator",
    "FloatArray",
    "Frame",
    "IntArray",
    "PromptIds",
    "Rewards",
    "Step",
    "Table",
    "Weights",
]


def __dir__() -> list[str]:
    return __all__


FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]

#: One id a row, all strings or all whole numbers; a Series or an Arrow column becomes an array by ``np.asarray``.
PromptIds: TypeAlias = (
    "Sequence[str] | Sequence[int] | NDArray[np.str_] | NDArray[np.integer[Any]] | NDArray[np.object_] | Tensor"
)
#: Training step of a batch, or of each row.
Step: TypeAlias = "int | np.integer[Any] | Sequence[int] | NDArray[np.integer[Any]] | Tensor"
#: Rewards that give float64 arrays; arrays of other floats and tensors give their own type.
ArrayRewards: TypeAlias = (
    "Sequence[float] | Sequence[Sequence[float]] | NDArray[np.float64 | np.integer[Any] | np.bool_ | np.object_]"
)
#: All rewards.
Rewards: TypeAlias = "ArrayRewards | NDArray[np.floating[Any]] | Tensor"
#: One number a row.
Weights: TypeAlias = "Sequence[float] | NDArray[np.floating[Any] | np.integer[Any]] | Tensor"


class Frame(Protocol):
    """A data frame or a column, of pandas or polars.

    Examples
    --------
    >>> from kernadv.typing import Frame
    >>> sorted(name for name in vars(Frame) if not name.startswith("_"))  # whatever has this method will do
    ['to_numpy']
    """

    def to_numpy(self) -> Any:
        """The values."""


#: A matrix of rows, or one column, that gives arrays; a tensor gives tensors.
Table: TypeAlias = Sequence[Any] | AnyArray | Frame


@runtime_checkable
class Estimator(Protocol):
    """What an adapter needs of an estimator; `KernelValueEstimator` and `ComponentValueEstimator` have it.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> isinstance(KernelValueEstimator(), Estimator)
    True
    """

    def advantages(self, prompt_ids: Any, rewards: Any, step: Any) -> Any:
        """Advantages of a batch, which is then remembered."""

    def metrics(self) -> Mapping[str, float]:
        """Numbers for a logger."""

    def save(self, path: Any) -> None:
        """Write the state to a file."""

    def load(self, path: Any) -> None:
        """Replace the state by that of a file."""
