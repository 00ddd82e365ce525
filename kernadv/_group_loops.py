"""The compiled loop that sums the other traces of each trace's group."""

from __future__ import annotations

import numpy as np

from kernadv._jit import compiled
from kernadv._typing import BoolArray, FloatArray, IntArray


@compiled()
def sum_of_others(group: IntArray, z: FloatArray, scored: BoolArray, groups: int) -> FloatArray:
    """Count, sum and sum of squares of the rewards of the other scored traces of each row's group.  # (3, B)

    One pass adds the rows before, one the rows after: the own reward never enters, not even in rounding.
    """
    rows = len(group)
    out = np.zeros((3, rows))
    for direction in range(2):
        total = np.zeros((groups, 3))
        for i in range(rows):
            b = i if direction == 0 else rows - 1 - i
            g = group[b]
            for k in range(3):
                out[k, b] += total[g, k]
            if scored[b]:
                total[g, 0] += 1.0
                total[g, 1] += z[b]
                total[g, 2] += z[b] * z[b]
    return out
