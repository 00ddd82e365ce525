"""What the pooled pieces share: the sums of a batch, and a state of a few small arrays.

Each piece is useful alone: it predicts from the past and learns from a batch after the batch was predicted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple

import numpy as np

from kernadv._errors import CheckpointError
from kernadv._states import real_numbers
from kernadv.groups import Groups
from kernadv.pooling._namespace import Array, ArrayNamespace
from kernadv.pooling._words import get, least, most, over, put, read, where, word
from kernadv.typing import FloatArray


class GroupSums(NamedTuple):
    """The rewards of B groups, each with the weights w of its traces; w = 1 for the plain value.

    A group without a scored trace has n = 0, and all sums 0; nothing is learned from it.

    Attributes
    ----------
    prompt : (B,) int64
        Index of the group's prompt; on a device, what its `ArrayNamespace.sum_of_others` takes.
    n, w, wz, ww, wwz, wwzz, www : (B,) float64
        Sums over the traces of 1, w, w z, w^2, w^2 u, w^2 u^2 and w^3, with u = z - origin.
    origin : float
        A reward near the others, so that their squares lose no digits.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.groups import Groups
    >>> from kernadv.pooling import NUMPY, GroupSums
    >>> groups = Groups(np.array([0]), np.array([1]), np.array([4]), np.array([2.0]), np.array([20.0]))
    >>> sums = GroupSums.of(groups)
    >>> sums.n, sums.wz
    (array([4.]), array([2.]))
    >>> sums.inside(np.array(-2.0), np.array(3.0), NUMPY).wz  # in shares of the range from -2 to 3
    array([2.])
    """

    prompt: Any
    n: Array
    w: Array
    wz: Array
    ww: Array
    wwz: Array
    wwzz: Array
    www: Array
    origin: Any = 0.0

    @staticmethod
    def of(groups: Groups) -> GroupSums:
        """Traces of weight 1."""
        n = groups.n.astype(np.float64)
        return GroupSums(groups.prompt, n, n, groups.s, n, groups.s, groups.ss, n)

    def inside(self, low: Any, high: Any, xp: ArrayNamespace) -> GroupSums:
        """With rewards as shares of the range, at most 1 on average; 0 in an empty range."""
        out = xp.empty(3, len(self.n))
        asked = self.w, self.wz, self.ww, self.wwz, self.wwzz, low, high, self.origin
        xp.rows(placed, (len(self.n),), asked, (out,))
        wz, wwz, wwzz = out
        return self._replace(wz=wz, wwz=wwz, wwzz=wwzz, origin=0.0)


@word
def share_in(reward, low, high):
    """Place in a range: 0 at its low end, 1 at its high one; 0 in an empty range."""
    span = high - low
    return where(span > 0.0, (reward - low) / where(span > 0.0, span, 1.0), 0.0)


@word
def placed(i, mine, N, w, wz, ww, wwz, wwzz, least_reward, most_reward, origin, out):
    """The sums of `GroupSums.inside` for group i.  out: (3, N)"""
    low, high = read(least_reward, 0), read(most_reward, 0)
    span = high - low
    factor = where(span > 0.0, 1.0 / where(span > 0.0, span, 1.0), 0.0)
    weight, square, middle = get(w, i, mine), get(ww, i, mine), get(wwz, i, mine)
    put(out, i, least(most(get(wz, i, mine) - low * weight, 0.0), span * weight) * factor, mine)
    low = low - read(origin, 0)
    put(out, N + i, least(most(middle - low * square, 0.0), span * square) * factor, mine)
    top = most(get(wwzz, i, mine) - low * (2.0 * middle - low * square), 0.0)
    put(out, 2 * N + i, least(top, span * span * square) * factor * factor, mine)


@over(placed)
def _placed(N, w, wz, ww, wwz, wwzz, least_reward, most_reward, origin, out):
    for i in range(N):
        placed(i, True, N, w, wz, ww, wwz, wwzz, least_reward, most_reward, origin, out)


class PoolPiece:
    """A piece whose state is a few float arrays, all of them views of one.

    Parameters
    ----------
    xp : ArrayNamespace
    **shapes
        Of the arrays, by name; they are 0 at first.

    Attributes
    ----------
    positive : tuple of str
        Names of the arrays that are never negative.

    Examples
    --------
    >>> from kernadv.pooling import NUMPY, PoolPiece
    >>> piece = PoolPiece(NUMPY, level=2, count=1)
    >>> piece.level[0] = 0.5  # a view of its one array
    >>> piece.state_dict()
    {'level': array([0.5, 0. ]), 'count': array([0.])}
    """

    positive: ClassVar[tuple[str, ...]] = ()

    def __init__(self, xp: ArrayNamespace, **shapes: int | tuple[int, ...]) -> None:
        self.xp = xp
        self._shapes = {name: shape if isinstance(shape, tuple) else (shape,) for name, shape in shapes.items()}
        self.become(xp.zeros(sum(map(math.prod, self._shapes.values()))))

    def _views(self, state: Array) -> dict[str, Array]:
        """The parts of such an array."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        ends = accumulate(sizes)
        parts = zip(self._shapes.items(), sizes, ends, strict=True)
        return {name: state[end - size : end].reshape(shape) for (name, shape), size, end in parts}

    def __getstate__(self) -> dict[str, Any]:
        """For copies: the one array, without its views."""
        return {name: x for name, x in self.__dict__.items() if name not in self._shapes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.update(self._views(self._state))

    def become(self, state: Array) -> None:
        """Take over a new state."""
        self._state = state
        self.__dict__.update(self._views(state))

    def copy_from(self, other: PoolPiece) -> None:
        """Copy the state of another piece of the same shapes."""
        self._state[:] = other._state

    def state_dict(self) -> dict[str, Array]:
        """Copies of the state's arrays."""
        return self._views(self.xp.host(self._state))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the state; on an error it stays as it was.

        Raises
        ------
        CheckpointError
            If an array is missing, has another shape, is not finite or holds what learning never leaves.
        """
        arrays = check_shapes(state, self._shapes)
        with np.errstate(all="ignore"):
            sound = self.sound(arrays)
        if not sound:
            raise CheckpointError(
                f"no {type(self).__name__} can have learned what the pooled state holds: it is damaged"
            )
        self._state[:] = self.xp.array(np.concatenate([array.ravel() for array in arrays.values()]))

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """Whether finite arrays can be what learning left."""
        return all(bool((arrays[name] >= 0).all()) for name in self.positive)


def check_shapes(state: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, FloatArray]:
    """The arrays of a piece's state, after checking their shapes: nothing of a wrong size is made."""
    arrays = {}
    for name, shape in shapes.items():
        array = np.asarray(state.get(name, np.nan))
        numbers = real_numbers(array, shape)
        if numbers is None:
            raise CheckpointError(
                f"{name} of the pooled state must be {shape} finite numbers, got an array of {array.shape}: "
                "it is damaged, or saved under another pooling"
            )
        arrays[name] = numbers
    return arrays
