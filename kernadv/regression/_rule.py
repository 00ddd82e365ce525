"""How to smooth a mixed design."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np

from kernadv._typing import FloatArray
from kernadv.regression.columns import Category
from kernadv.regression.local.polynomial import LocalPolynomialSpec

#: Highest degree of a local polynomial.
HIGHEST_DEGREE = 3


@dataclass(frozen=True)
class Rule:
    """Everything but the data and the queries.

    Attributes
    ----------
    spec : LocalPolynomialSpec
    bandwidth : (d,) or (m, 1) float64
        Of the continuous columns, or one a query.
    categories : list of Category
    smoothing : (c,) float64
        Bandwidth lambda of each categorical column.
    metric : str or callable
        Distance of radial kernels, see `sklearn.metrics.pairwise_distances`.
    deficient : bool
        The design as a whole does not determine a polynomial of that degree, see `determines`.
    """

    spec: LocalPolynomialSpec
    bandwidth: FloatArray
    categories: list[Category] = field(default_factory=list)
    smoothing: FloatArray = field(default_factory=lambda: np.empty(0))
    metric: Any = "euclidean"
    deficient: bool = False


def coefficients(dimensions: int, degree: int) -> int:
    """Number of coefficients of a local polynomial."""
    return comb(dimensions + degree, degree)
