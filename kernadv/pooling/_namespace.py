"""The array namespace of the pooled pieces: numpy's here; on a device the estimator brings torch's.

What is learned stays where it is, as arrays.  The pieces choose with `where` and factors of 0 or 1 instead of branches, so
that nothing asks a device for a number and waits for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.pooling._words import LOOPS
from kernadv.typing import FloatArray

#: A numpy array or a tensor.
Array = Any


class ArrayNamespace:
    """The functions of numpy that torch has too (``where``, ``stack``, ...), and those that differ, under one name.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.pooling import NUMPY
    >>> NUMPY.ratio(np.array([1.0, 2.0]), np.array([4.0, 0.0])), NUMPY.sqrt(np.array([9.0]))  # numpy's others as well
    (array([0.25, 0.  ]), array([3.]))
    """

    on_host = True
    _module: Any = np

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        self.__dict__[name] = found  # looked up once
        return found

    def array(self, x: Any) -> Any:
        """Numbers of the host, in float64."""
        return np.array(x, np.float64)

    def zeros(self, *shape: int) -> Any:
        """Zeros, in float64."""
        return np.zeros(shape)

    def empty(self, *shape: int) -> Any:
        """Room for float64, to be written."""
        return np.empty(shape)

    def number(self, truth: Any) -> Any:
        """1.0 where true, 0.0 elsewhere."""
        return np.asarray(truth, np.float64)

    def host(self, x: Array) -> FloatArray:
        """A copy for the host; may wait for the device."""
        return np.array(x, np.float64)

    def rules_out(self, truth: Any) -> bool:
        """Whether the host knows that it is false, so that work may be saved."""
        return not truth

    def certain(self, truth: Any) -> bool:
        """Whether the host knows that all of it is true."""
        return bool(truth.all())

    def ratio(self, top: Any, bottom: Any, otherwise: float = 0.0) -> Any:
        """``top / bottom``, and `otherwise` where the bottom is not positive."""
        some = bottom > 0
        if some is np.True_:
            return top / bottom
        return np.where(some, top / np.where(some, bottom, 1.0), otherwise)

    def stack(self, parts: Any) -> Array:
        """Arrays of one shape as the rows of one."""
        return np.array(parts)

    def solve(self, system: Array, right: Array) -> Array:
        """Solution for a symmetric positive definite system.  # (J, J), (J,) or (J, K)"""
        return np.linalg.solve(system, right)

    def rows(self, program: Any, numbers: Any, reads: Any, writes: Any, sums: int = 0) -> Array:
        """Run a program, see `kernadv.pooling._words`, for all places, of which the first number says how many there are.

        Parameters
        ----------
        program : callable
        numbers : tuple of int
        reads, writes : tuple of arrays
            What it reads, and what it writes.
        sums : int
            How many sums it adds.

        Returns
        -------
        (sums,)
        """
        added = np.zeros(sums)
        arrays = [np.ascontiguousarray(x).reshape(-1) for x in (*reads, *writes, *([added] if sums else ()))]
        LOOPS[program](*numbers, *arrays)
        return added

    def sum_of_others(self, prompt: Array, *parts: Array) -> Array:
        """Sum of each (B,) part over the groups of the other prompts; the own ones never enter, not even in rounding.

        # (parts, B)
        """
        size = int(prompt.max()) + 1 if len(prompt) else 0
        out = []
        for part in parts:
            total = np.bincount(prompt, part, size)
            others = np.zeros(size)
            others[1:] = total[:-1].cumsum()
            others[:-1] += total[:0:-1].cumsum()[::-1]
            out.append(others[prompt])
        return out


NUMPY = ArrayNamespace()
