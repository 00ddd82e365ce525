"""Array aliases.  Shape letters: P prompts, G group, Q queries, L history slots, H bandwidths, B rows of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]
