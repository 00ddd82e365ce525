"""Kernels of categorical columns, and the coding of their levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice
from kernadv.typing import AnyArray, FloatArray, IntArray

#: Kernels by the names that `categorical` accepts; "ordered" and "unordered" are short for one of each kind.
KINDS = {
    "ordered": "wang_van_ryzin",
    "unordered": "aitchison_aitken",
    "wang_van_ryzin": "wang_van_ryzin",
    "li_racine_ordered": "li_racine_ordered",
    "aitchison_aitken": "aitchison_aitken",
    "li_racine": "li_racine",
}

#: Kernels that measure distance in ranks.
ORDERED = ("wang_van_ryzin", "li_racine_ordered")


class Category(NamedTuple):
    """A categorical column.

    Attributes
    ----------
    column : int
        Which column of X.
    name : str
        Its name in messages.
    kernel : str
        See `weight`.
    levels : (c,) array
        Levels seen in fitting, in their order.
    """

    column: int
    name: str
    kernel: str
    levels: AnyArray

    @property
    def largest(self) -> float:
        """Largest lambda: with it an unordered column has no effect."""
        return 1.0 - 1.0 / len(self.levels) if self.kernel == "aitchison_aitken" else 1.0

    def weight(self, distance: IntArray, smoothing: float) -> FloatArray:
        """Kernel at a distance in ranks with the bandwidth lambda; it is 1 for equal levels.

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


def read_categories(
    categorical: dict[Any, Any] | None, x: AnyArray, names: list[str] | None, orders: dict[str, list[Any]]
) -> list[Category]:
    """Categorical columns of a design, in the order of the columns.

    Parameters
    ----------
    categorical : dict or None
        Column (index or name) -> kind or kernel, see `KINDS`, or the pair of a kind and its levels in their order.
    x : (n, d) array
    names : list of str, optional
        Names of the columns.
    orders : dict
        Levels of the columns whose type has an order, in that order.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a column does not exist, a kind is unknown, or levels are not those given or have no order.
    """
    if categorical is not None and not isinstance(categorical, dict):
        raise ArgumentTypeError(
            f"categorical must be a dict of columns and their kinds, e.g. {{1: 'unordered'}}, got {categorical!r}"
        )
    found: list[Category] = []
    for key, kind in (categorical or {}).items():
        column = _column(key, x.shape[1], names)
        if any(column == category.column for category in found):
            raise ArgumentError(f"categorical names column {column} twice, the second time as {key!r}: name it once")
        kernel, order = _kind(kind, repr(key))
        if order is None and names is not None:
            order = orders.get(names[column])
        found.append(Category(column, repr(key), kernel, _levels(x[:, column], repr(key), kernel, order)))
    return sorted(found, key=lambda category: category.column)


def _column(key: Any, columns: int, names: list[str] | None) -> int:
    """Index of a column."""
    if isinstance(key, str) and names and key in names:
        return names.index(key)
    if hasattr(key, "__index__") and not isinstance(key, bool) and 0 <= int(key) < columns:
        return int(key)
    known = ", ".join(names) if names else f"0 to {columns - 1}"
    raise ArgumentError(f"categorical names column {key!r}, which X does not have; columns: {known}")


def _kind(given: Any, name: str) -> tuple[str, list[Any] | None]:
    """Kernel of a column, and the order of its levels if it was given."""
    kind, order = given, None
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise ArgumentTypeError(
                f"categorical column {name} must have a kind, or a pair of a kind and the levels in their order, got "
                f"{given!r}; e.g. {{{name}: ('ordered', ['low', 'high'])}}"
            )
        kind, order = given
    kernel = KINDS[check_choice(kind, "kind of categorical column", KINDS)]
    if order is None:
        return kernel, None
    if not isinstance(order, (list, tuple, np.ndarray)) or any(
        isinstance(level, (list, np.ndarray)) for level in order
    ):
        raise ArgumentTypeError(
            f"the order of categorical column {name} must be a list of its levels, lowest first, got {order!r}; e.g. "
            f"{{{name}: ('ordered', ['low', 'high'])}}"
        )
    levels = list(order)
    twice = [level for i, level in enumerate(levels) if level in levels[:i]]
    if twice:
        raise ArgumentError(
            f"the order of categorical column {name} names {twice[0]!r} twice, got {levels!r}; name each level once"
        )
    return kernel, levels


def _levels(column: AnyArray, name: str, kernel: str, order: list[Any] | None) -> AnyArray:
    """Levels of a column in the given order, else ascending."""
    seen = set(column.tolist())
    if order is not None:
        missing = seen - set(order)
        if missing:
            raise ArgumentError(
                f"the order of categorical column {name} must name all of its levels, got {order!r} without "
                f"{sorted(map(str, missing))[:5]}"
            )
        return np.array([level for level in order if level in seen], column.dtype)
    try:
        levels = sorted(seen)
    except TypeError:
        raise ArgumentError(f"the levels of categorical column {name} cannot be sorted: mixed types") from None
    if kernel in ORDERED and len(levels) > 2 and any(isinstance(level, str) for level in levels):
        raise ArgumentError(
            f"the levels of ordered column {name} are text, whose alphabetical order {levels[:5]} may be wrong; give "
            f"it: categorical={{{name}: ('ordered', [lowest, ..., highest])}}, or a data frame column of an ordered type"
        )
    return np.array(levels, column.dtype)
