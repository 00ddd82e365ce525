"""What the order of the rows says about a log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kernadv.typing import FloatArray


@dataclass(frozen=True)
class RowOrder:
    """What the order of the rows says about a log; neutral where it cannot be known.

    Attributes
    ----------
    back : (int, int)
        How often the steps go back and groups of a prompt and step that came again were merged, and the number of the first
        such row, from 1; (0, 0): never.  Rows in no order, and workers that are a few steps apart, do not count.
    identical : int
        Rows that equal an earlier row in all of the columns read, where chance cannot explain it: an honest log has any
        with a probability below 1e-5.
    places : (K, 3) float64
        For the k-th trace of its group in the order of rows, k < 16: number of traces, sum and sum of squares of the reward
        minus the mean of its group.  Groups of one trace are left out.
    alike : tuple of tuple of str
        Ids that differ only by spaces, Unicode form, or 1 / 1.0; the first 5 sets.
    n_alike : int
        Number of such sets.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from kernadv.logs import read_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.csv")
    ...     written = path.write_text("step,prompt,reward\\n1,a,1\\n1,a ,0\\n2,b,1\\n")
    ...     order = read_log(path).order
    >>> order.alike, order.back  # "a" and "a " are told apart, and may be one prompt
    ((('a', 'a '),), (0, 0))
    """

    back: tuple[int, int] = (0, 0)
    identical: int = 0
    places: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    alike: tuple[tuple[str, ...], ...] = ()
    n_alike: int = 0
