"""The direct plug-in bandwidth of Ruppert, Sheather and Wand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt
from typing import NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, check_count, check_range
from kernadv._jit import compiled
from kernadv.regression.bandwidth._base import Selection, Selector
from kernadv.regression.bandwidth._constants import from_gaussian
from kernadv.regression.bandwidth._ordered import prepare_curve
from kernadv.regression.local._line_power import power_sums
from kernadv.regression.local.moments import exponents
from kernadv.regression.local.polynomial import STEEP
from kernadv.regression.local.solve import solve_local
from kernadv.regression.smoother import LinearSmoother
from kernadv.typing import FloatArray

#: Parameters of a quartic.
QUARTIC = 5
#: Lag, in standard deviations, at which the Gaussian weights are cut.
CUT = 4.0


@dataclass(frozen=True)
class PlugIn(Selector):
    """``h = delta_0(K) (sigma^2 (b - a) / (theta_22 n))^(1/5)``: asymptotically optimal for a local linear fit on a line.

    ``theta_rs = n^-1 sum m^(r)(x_i) m^(s)(x_i)``.  Quartics on blocks, their number chosen by Mallows' Cp, give sigma^2 and
    theta_24.  From these follows the bandwidth of a local cubic fit for theta_22, and from that the bandwidth of a local
    linear fit for sigma^2.  The local fits are Gaussian, cut at 4 standard deviations, on linearly binned data: O(n), and
    the result of Wand's R package KernSmooth (`dpill`).

    For degree 0 the rule neglects the design bias of the local constant.  Responses share one bandwidth: their sigma^2 and
    theta are summed.

    Ties in x stay together: a block ends after the last point of a tie, and a tie that the trimming would cut is kept.
    `dpill` cuts by row number; where x has ties, its result depends on the order of the rows.

    Parameters
    ----------
    blocks : int
        Largest number of blocks; each keeps more than 5 distinct x.
    divisor : int
        Fewest points of a block.
    trim : float
        Share of the points left out at each end.
    boundary : float
        Share of the grid at each end that is left out of theta_22.
    size : int
        Bins.

    References
    ----------
    Ruppert, Sheather and Wand (1995), An effective bandwidth selector for local least squares regression, JASA 90.
    Fan and Marron (1994), Fast implementations of nonparametric curve estimators, JCGS 3; Wand and Jones (1995), Kernel
    Smoothing, appendix D (binning).

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import LocalLinear
    >>> from kernadv.regression.bandwidth import PlugIn
    >>> rng = np.random.default_rng(0)
    >>> x = np.sort(rng.random(500))
    >>> y = np.sin(6 * x) + 0.3 * rng.normal(size=500)
    >>> model = LocalLinear("plug_in", kernel="gaussian").fit(x, y)
    >>> own = PlugIn(trim=0.0)
    >>> h = own.gaussian(x, y[:, None], np.ones(500))  # without the points at the ends it is much the same
    >>> bool(abs(h / model.bandwidth_[0] - 1) < 0.1), bool(own.quartics(x, y[:, None], np.ones(500)).variance < 0.12)
    (True, True)
    """

    name = "plug_in"
    blocks: int = 5
    divisor: int = 20
    trim: float = 0.01
    boundary: float = 0.05
    size: int = 401

    def __post_init__(self) -> None:
        check_count(self.blocks, "blocks")
        check_count(self.divisor, "divisor")
        check_range(self.trim, "trim", 0.0, 0.49)
        check_range(self.boundary, "boundary", 0.0, 0.49)
        check_count(self.size, "size", 20, most=2**20)

    def select(self, smoother: LinearSmoother, at: FloatArray | None = None) -> Selection:
        """One bandwidth; see `Selector.select`.  If the responses are polynomials without noise, the widest one."""
        sample = prepare_curve(self.name, smoother)
        x, cut = sample.x[:, 0], int(self.trim * len(sample.x))
        kept = slice(int(np.searchsorted(x, x[cut])), int(np.searchsorted(x, x[len(x) - 1 - cut], "right")))
        span = float(sample.span[0])  # in its units, so that powers of any x stay numbers
        bandwidth = span * self.gaussian(sample.x[kept, 0] / span, sample.y[kept], sample.weights[kept])
        return sample.kept(bandwidth * from_gaussian(sample.spec.kernel), "direct plug-in rule")

    def gaussian(self, x: FloatArray, y: FloatArray, weights: FloatArray) -> float:
        """Bandwidth for a Gaussian kernel, x ascending; inf if the curvature is 0."""
        n, width = len(x), float(x[-1] - x[0])
        first = self.quartics(x, y, weights)
        if first.theta24 == 0.0 or first.variance <= 1e-20 * float((weights @ y**2).sum()) / n:
            return float("inf")
        pilot = first.variance * width / (abs(first.theta24) * n)
        pilot = (pilot * (3.0 / (8.0 * sqrt(pi)) if first.theta24 < 0.0 else 15.0 / (16.0 * sqrt(pi)))) ** (1.0 / 7.0)
        bins = linear_bins(x, y, weights, self.size)
        inner = slice(int(self.boundary * self.size), self.size - int(self.boundary * self.size))
        curvature = binned_fit(bins, pilot, 3, 2).value
        theta22 = float((curvature[:, inner] ** 2 @ bins.counts[inner]).sum()) / n
        if theta22 == 0.0:
            return float("inf")
        constant = (4.0 / sqrt(2.0 * pi) * (0.5 + 2.0 * sqrt(2.0) - 4.0 / 3.0 * sqrt(3.0))) ** (1.0 / 9.0)
        second = constant * ((first.variance / (theta22 * n)) ** 2 * width) ** (1.0 / 9.0)
        fit = binned_fit(bins, second, 1, 0)
        squares = float(
            (weights @ y**2).sum() - 2.0 * (fit.value * bins.sums).sum() + (fit.value**2 @ bins.counts).sum()
        )
        freedom = float(n - 2.0 * fit.leverage @ bins.counts + fit.norm @ bins.counts)
        if not squares > 0.0 or not freedom > 0.0:
            raise ArgumentError("the plug-in rule found no noise to smooth: use leave_one_out, or give a bandwidth")
        return float((squares / freedom * width / (2.0 * sqrt(pi) * theta22 * n)) ** 0.2)

    def quartics(self, x: FloatArray, y: FloatArray, weights: FloatArray) -> Quartics:
        """Quartic fits on the number of blocks that minimises Mallows' Cp."""
        n, most = len(x), max(min(len(x) // self.divisor, self.blocks), 1)
        first = np.flatnonzero(np.append(True, np.diff(x) > 0.0))  # row of each distinct x
        if len(first) <= QUARTIC:
            raise ArgumentError(
                f"the plug-in rule needs more than {QUARTIC} distinct x for a quartic, got {len(first)}; use "
                "leave_one_out, or give a bandwidth"
            )
        fits = {}
        for blocks in range(1, most + 1):  # of n // blocks points, the last with the rest; no cut within a tie
            cuts = [0, *np.searchsorted(first, np.arange(1, blocks) * (n // blocks)).tolist(), len(first)]
            if min(high - low for low, high in pairwise(cuts)) > QUARTIC:
                fits[blocks] = _blockwise(x, y, weights, [*first[cuts[:-1]].tolist(), n])
        most = max(fits)
        least = max(fits[most].squares, 1e-300)
        cp = {blocks: (n - QUARTIC * most) * fit.squares / least + 2 * QUARTIC * blocks for blocks, fit in fits.items()}
        return fits[min(cp, key=cp.__getitem__)]


class Quartics(NamedTuple):
    """Sum of squared residuals, variance and ``theta_24`` of blockwise quartic fits, summed over the responses."""

    squares: float
    variance: float
    theta24: float


def _blockwise(x: FloatArray, y: FloatArray, weights: FloatArray, cuts: list[int]) -> Quartics:
    """Quartic least squares on the blocks between `cuts`."""
    n, blocks, squares, theta = len(x), len(cuts) - 1, 0.0, 0.0
    channels = np.concatenate([weights[None], weights * y.T])
    sums = np.empty((1, len(channels), 2 * QUARTIC - 1))
    for low, high in pairwise(cuts):
        centre, unit = float(x[low:high].mean()), max(float(x[high - 1] - x[low]) / 2.0, 1e-300)
        power_sums(x, channels, low, high, centre, unit, sums[0])
        fit = solve_local(sums, exponents(1, QUARTIC - 1), exponents(1, 2 * QUARTIC - 2))
        c = fit.coefficients[0]  # (5, C)
        if not fit.pivot[0] > STEEP:
            u, root = (x[low:high] - centre) / unit, np.sqrt(weights[low:high])[:, None]
            c = np.linalg.lstsq(root * u[:, None] ** np.arange(QUARTIC), root * y[low:high], rcond=None)[0]
        total, first, second = sums[0, 0, :3]
        curvature = 2.0 * c[2] * total + 6.0 * c[3] * first + 12.0 * c[4] * second
        theta += float((curvature * 24.0 * c[4]).sum()) / unit**6
        squares += _squared_residuals(x, y, weights, low, high, centre, unit, c)
    return Quartics(squares, squares / (n - QUARTIC * blocks), theta / n)


@compiled()
def _squared_residuals(
    x: FloatArray, y: FloatArray, weights: FloatArray, low: int, high: int, centre: float, unit: float, c: FloatArray
) -> float:
    """Weighted sum over the responses of the squared residuals of a block."""
    total = 0.0
    for k in range(c.shape[1]):
        c0, c1, c2, c3, c4 = c[0, k], c[1, k], c[2, k], c[3, k], c[4, k]
        for j in range(low, high):
            u = (x[j] - centre) / unit
            error = y[j, k] - (c0 + u * (c1 + u * (c2 + u * (c3 + u * c4))))
            total += weights[j] * error * error
    return total


class Bins(NamedTuple):
    """Linearly binned data on M equally spaced grid points."""

    step: float  # between grid points
    counts: FloatArray  # (M,) weights
    sums: FloatArray  # (C, M) weighted responses


def linear_bins(x: FloatArray, y: FloatArray, weights: FloatArray, size: int) -> Bins:
    """Share every point, x ascending, between the two grid points around it, in proportion to its nearness."""
    step = float(x[-1] - x[0]) / (size - 1)
    place = (x - x[0]) / step
    left = np.minimum(place.astype(np.int64), size - 2)
    share = np.clip(place - left, 0.0, 1.0)
    table = np.zeros((1 + y.shape[1], size))
    for row, values in zip(table, [weights, *(weights * y.T)], strict=True):
        row += np.bincount(left, (1.0 - share) * values, size) + np.bincount(left + 1, share * values, size)
    return Bins(step, table[0], table[1:])


class BinnedFit(NamedTuple):
    """A derivative of a local polynomial fit at the grid points."""

    value: FloatArray  # (C, M)
    leverage: FloatArray  # (M,) l_g(g) of a point at the grid point
    norm: FloatArray  # (M,) sum_j l_j(g)^2


def binned_fit(bins: Bins, bandwidth: float, degree: int, derivative: int) -> BinnedFit:
    """The derivative of an order of a Gaussian local polynomial of a degree."""
    half = min(int(CUT * bandwidth / bins.step), len(bins.counts) - 1)
    lag = np.arange(-half, half + 1) * (bins.step / bandwidth)
    weight = np.exp(-0.5 * lag * lag)
    order = 2 * degree + 1
    s = np.stack([_moving(weight * lag**k, bins.counts) for k in range(order)])
    s2 = np.stack([_moving(weight**2 * lag**k, bins.counts) for k in range(order)])
    t = np.stack([[_moving(weight * lag**k, row) for k in range(degree + 1)] for row in bins.sums])  # (C, p + 1, M)
    index = np.add.outer(np.arange(degree + 1), np.arange(degree + 1))
    inverse = np.linalg.pinv(s[index].transpose(2, 0, 1), hermitian=True)  # (M, p + 1, p + 1)
    row = inverse[:, derivative]
    factor = float(np.prod(np.arange(1, derivative + 1))) / bandwidth**derivative
    value = factor * np.einsum("ma,cam->cm", row, t)
    norm = np.einsum("ma,mab,mb->m", row, s2[index].transpose(2, 0, 1), row)
    return BinnedFit(value, factor * row[:, 0], factor**2 * norm)


def _moving(weight: FloatArray, values: FloatArray) -> FloatArray:
    """``sum_l weight_l values_(g + l)`` at every grid point g.  # (M,)"""
    half = len(weight) // 2
    return np.asarray(np.convolve(values, weight[::-1])[half : half + len(values)], dtype=np.float64)


SELECTORS = (PlugIn(),)
