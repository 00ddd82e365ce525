"""Cross-validation over random folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kernadv._errors import check_count
from kernadv._typing import FloatArray
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample
from kernadv.regression.series import smooth_series


@dataclass(frozen=True)
class KFold(CriterionSelector):
    """Mean squared error of each of k random folds predicted from the others.

    The folds are drawn over the sorted points, so that they depend on the data and the seed only, not on the order of the
    rows.  Estimates come from ``n (k - 1) / k`` points: the bandwidth is slightly too wide for n.  Costs k fits a bandwidth.

    Parameters
    ----------
    folds : int
        Number of folds; no more than points are made.
    seed : int
        Of the assignment to folds.

    References
    ----------
    Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, section 7.10.
    """

    folds: int = 10
    seed: int = 0

    name = "k_fold"
    criterion: ClassVar[str] = "k-fold CV"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.folds, "folds", 2)
        check_count(self.seed, "seed", 0)

    def assign(self, n: int) -> FloatArray:
        """Fold of each sorted point, sizes equal to one.  # (n,)"""
        return np.asarray(np.random.default_rng(self.seed).permutation(np.arange(n) % min(self.folds, n)))

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Errors of every point from the other folds."""
        x, y, weights, series, fold = sample.x, sample.y, sample.weights, sample.series, self.assign(len(sample.x))
        error = np.empty_like(y)
        for k in range(int(fold.max()) + 1):
            test = fold == k
            train = ~test
            labels = (series[train], series[test]) if sample.n_series > 1 else (None, None)
            fit = smooth_series(sample.spec, x[train], y[train], weights[train], x[test], bandwidth, *labels)
            error[test] = y[test] - fit.value
        return Errors(error, np.zeros(len(error)))


SELECTORS = (KFold(),)
