"""Settings and data that no selector can use."""

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.kernels import KERNELS
from kernadv.regression import LinearSmoother
from kernadv.regression.bandwidth import (
    GCV,
    SELECTORS,
    AICc,
    HBlock,
    KFold,
    KNeighbors,
    LeaveOneOut,
    Lepski,
    MSEOptimal,
    MSERule,
    NormalReference,
    PlugIn,
    QuarticRule,
)
from kernadv.regression.local.polynomial import LocalPolynomialSpec

BAD_SETTINGS = {
    "size text": (lambda: LeaveOneOut(size="32"), "size must be a whole number >= 3, got '32'"),
    "size 2": (lambda: AICc(size=2), "size must be a whole number >= 3, got 2"),
    "undefined None": (lambda: GCV(undefined=None), "undefined must be a number, got None"),
    "undefined 1": (lambda: GCV(undefined=1.0), "undefined must be a share of the points, 0 <= undefined < 1, got 1.0"),
    "bounds a number": (lambda: LeaveOneOut(bounds=0.5), r"bounds must be a pair \(low, high\) of bandwidths, got 0.5"),
    "bounds one": (lambda: LeaveOneOut(bounds=(0.5,)), "bounds must be a pair"),
    "bounds text": (lambda: LeaveOneOut(bounds=("a", "b")), "bounds must be a number, got 'a'; 0 < low < high"),
    "bounds swapped": (lambda: LeaveOneOut(bounds=(2.0, 1.0)), "bounds must be 0 < low < high, got"),
    "block 0.5": (lambda: HBlock(block=0.5), "block must be a whole number >= 0, got 0.5"),
    "folds 1": (lambda: KFold(folds=1), "folds must be a whole number >= 2, got 1"),
    "folds text": (lambda: KFold(folds="10"), "folds must be a whole number >= 2, got '10'"),
    "seed None": (lambda: KFold(seed=None), "seed must be a whole number >= 0, got None"),
    "most text": (lambda: KNeighbors(most="5"), "most must be a whole number >= 1, got '5'"),
    "bounds of k": (lambda: KNeighbors(bounds=(1, 5)), "k_neighbors takes no bounds but most, the largest k"),
    "constant None": (lambda: Lepski(constant=None), "constant must be a number, got None"),
    "fewest text": (lambda: MSEOptimal(fewest="21"), "fewest must be a whole number >= 1, got '21'"),
    "knots 1": (lambda: MSERule(knots=1), "knots must be a whole number >= 2, got 1"),
    "boundary 0.5": (lambda: QuarticRule(boundary=0.5), r"boundary must be a finite number in \[0, 0.49\], got 0.5"),
    "trim negative": (lambda: PlugIn(trim=-0.1), r"trim must be a finite number in \[0, 0.49\], got -0.1"),
    "blocks 0": (lambda: PlugIn(blocks=0), "blocks must be a whole number >= 1, got 0"),
    "bins": (lambda: PlugIn(size=1), "size must be a whole number >= 20, got 1"),
    "factor NaN": (lambda: NormalReference(factor=float("nan")), "factor must be positive and finite, got nan"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_out_of_range(case):
    make, message = BAD_SETTINGS[case]
    with pytest.raises(KernadvError, match=message):
        make()


@pytest.mark.parametrize("name", SELECTORS)
def test_data_of_the_wrong_shape(name):
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], 1)
    x, y, w = np.linspace(0, 1, 30)[:, None], np.linspace(0, 1, 30)[:, None], np.ones(30)
    for bad in ((x[:, 0], y, w), (x, y[:, 0], w), (x, y[1:], w), (x, y, 1.0), (x.tolist(), y, w[1:])):
        with pytest.raises(KernadvError, match=r"expected x \(n, d\), y \(n, C\), weights \(n,\) and series"):
            SELECTORS[name].select(LinearSmoother(spec, *bad))
