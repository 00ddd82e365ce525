"""Kernels of categorical columns, and the coding of their levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, check_choice
from kernadv._typing import AnyArray, FloatArray, IntArray

#: What `categorical` may say of a column; the short names stand for the first kernel of their kind.
KINDS = {
    "ordered": "wang_van_ryzin",
    "unordered": "aitchison_aitken",
    "wang_van_ryzin": "wang_van_ryzin",
    "li_racine_ordered": "li_racine_ordered",
    "aitchison_aitken": "aitchison_aitken",
    "li_racine": "li_racine",
}


class Category(NamedTuple):
    """A categorical column.

    Attributes
    ----------
    column : int
        Which column of X.
    name : str
        How messages call it.
    kernel : str
        One of the kernels below; all are scaled to 1 for equal levels.
    levels : (c,) array
        Levels seen in fitting, ascending; ordered kernels measure distance in ranks.
    """

    column: int
    name: str
    kernel: str
    levels: AnyArray

    @property
    def largest(self) -> float:
        """Largest lambda: the column is then smoothed out entirely (unordered)."""
        return 1.0 - 1.0 / len(self.levels) if self.kernel == "aitchison_aitken" else 1.0

    def weight(self, distance: IntArray, smoothing: float) -> FloatArray:
        """Kernel at a distance in ranks, with the bandwidth lambda.

        ==================  =================================  =========================
        kernel              unequal levels at distance D       range of lambda
        ==================  =================================  =========================
        wang_van_ryzin      lambda^D / 2                       0 to 1
        li_racine_ordered   lambda^D                           0 to 1
        aitchison_aitken    lambda / ((c - 1) (1 - lambda))    0 to (c - 1) / c
        li_racine           lambda                             0 to 1
        ==================  =================================  =========================

        References
        ----------
        Wang and van Ryzin (1981), Biometrika 68; Aitchison and Aitken (1976), Biometrika 63; Li and Racine (2007),
        Nonparametric Econometrics, chapters 3 and 4.
        """
        if self.kernel == "wang_van_ryzin":
            other = 0.5 * smoothing ** np.maximum(distance, 1)
        elif self.kernel == "li_racine_ordered":
            other = smoothing ** np.maximum(distance, 1)
        elif self.kernel == "aitchison_aitken":
            other = np.array(smoothing / ((len(self.levels) - 1) * (1.0 - smoothing)) if smoothing else 0.0)
        else:
            other = np.array(smoothing)
        return np.asarray(np.where(distance == 0, 1.0, other))

    def code(self, column: AnyArray) -> IntArray:
        """Ranks of the levels.

        Raises
        ------
        ArgumentError
            If a level was not seen in fitting.
        """
        known = {level: rank for rank, level in enumerate(self.levels.tolist())}
        unseen = sorted({str(level) for level in column.tolist() if level not in known})
        if unseen:
            raise ArgumentError(
                f"categorical column {self.name} has levels not seen in fitting: {', '.join(unseen[:5])}; "
                f"known: {', '.join(map(str, self.levels[:20]))}"
            )
        return np.array([known[level] for level in column.tolist()], np.int64)


def read_categories(categorical: dict[Any, str] | None, x: AnyArray, names: list[str] | None) -> list[Category]:
    """Categorical columns of a design, in the order of the columns.

    Parameters
    ----------
    categorical : dict or None
        Column (index or name) -> kind or kernel, see `KINDS`.
    x : (n, d) array
    names : list of str, optional
        Names of the columns.

    Raises
    ------
    ArgumentError
        If a column does not exist or a kind is unknown.
    """
    found = []
    for key, kind in (categorical or {}).items():
        if isinstance(key, str) and names and key in names:
            column = names.index(key)
        elif isinstance(key, int) and 0 <= key < x.shape[1]:
            column = key
        else:
            columns = ", ".join(names) if names else f"0 to {x.shape[1] - 1}"
            raise ArgumentError(f"categorical names column {key!r}, which X does not have; columns: {columns}")
        kernel = KINDS[check_choice(kind, "kind of categorical column", KINDS)]
        try:
            levels = np.array(sorted(set(x[:, column].tolist())), x.dtype)
        except TypeError:
            raise ArgumentError(f"the levels of categorical column {key!r} cannot be sorted: mixed types") from None
        found.append(Category(column, repr(key), kernel, levels))
    return sorted(found, key=lambda category: category.column)
