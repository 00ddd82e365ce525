"""Series on a device: visits at whole steps, smoothed over the past of their own series by the operators of histories.

It does for `groups` what `kernadv.regression.operators.smoother` does for one cloud of points, for one-sided windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.clock import Steps
from kernadv.moments import Histories, Windows
from kernadv.moments.checks import WHOLE
from kernadv.moments.ops import trusted_moments
from kernadv.regression.bandwidth import CriterionSelector, Selection
from kernadv.regression.bandwidth._ordered import MOST, bounds_on_line, refuse_constant
from kernadv.regression.bandwidth.criteria import Prequential
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.operators import ops
from kernadv.regression.operators.smoother import ALONE, SURE, TINY, checked
from kernadv.typing import BoolArray, FloatArray


@dataclass(frozen=True)
class Queries:
    """Queries at whole steps.

    Attributes
    ----------
    step : (m,) int64
    series : (m,) int64
        Number of the series, -1 where it was not seen in fitting.
    """

    step: Tensor
    series: Tensor


@dataclass(frozen=True)
class DeviceSeries:
    """A one-sided smoother of degree 0 or 1 of several series on a device.

    Attributes
    ----------
    spec : LocalPolynomialSpec
    past : Histories of S series
        One visit a row, ascending within each series: its weight n, s and ss of its response less the mean of the series.
    y, mean : (n,), (S,) float64
        Responses less the means of their series, in the order of the visits; these means.
    series : (n,) int64
        Series of each visit.
    row : (n,) int64
        Row of each visit in the data.
    names : (S,)
        Ascending.
    bandwidth : (1,) float64 array
    """

    spec: LocalPolynomialSpec
    past: Histories
    y: Tensor
    mean: Tensor
    series: Tensor
    row: Tensor
    names: Tensor
    bandwidth: FloatArray = field(default_factory=lambda: np.empty(0))

    dimensions: ClassVar[int] = 1

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.y.device

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.y)

    def with_bandwidth(self, bandwidth: FloatArray) -> DeviceSeries:
        """The smoother with another bandwidth."""
        return replace(self, bandwidth=bandwidth)

    @cached_property
    def _width(self) -> Tensor:
        """The bandwidth on the device, where it is copied once.  # (1,)"""
        return torch.as_tensor(self.bandwidth).to(self.device)

    def read(self, X: Any, groups: Any) -> Queries:
        """Queries on the device of the fit."""
        step = steps(X if isinstance(X, Tensor) else torch.as_tensor(np.asarray(X)))
        names = (groups if isinstance(groups, Tensor) else torch.as_tensor(groups)).to(self.names)
        if names.shape != step.shape:
            raise ArgumentError(f"groups must be one a query, {len(step)}, got shape {tuple(names.shape)}")
        place = torch.searchsorted(self.names, names).clamp(max=len(self.names) - 1)
        return Queries(step.to(self.device), torch.where(self.names[place] == names, place, -1))

    def estimate(self, at: Queries) -> Tensor:
        """Estimates at the queries.  # (m, 1) float64"""
        value, _ = self._fits(at)
        return (value + self.mean[at.series.clamp(min=0)])[:, None]

    def left_out(self) -> Tensor:
        """Estimate at each row of the data without its own response.  # (n, 1)"""
        value, row = self._fits(Queries(self.past.step, self.series))
        others = 1.0 - self.past.n * row
        out = self.y - (self.y - value) / torch.where(others > ALONE, others, torch.nan) + self.mean[self.series]
        return torch.empty_like(out).index_copy_(0, self.row, out)[:, None]

    def hat(self, at: Queries) -> Tensor:
        """Rows of the hat matrix.  # (m, n)"""
        histories, windows = self._around(at)
        weights = ops.batched_kernel_weights(histories, windows, self.spec.kernel, self.spec.degree, "float64")[0]
        query = torch.repeat_interleave(
            torch.arange(len(at.step), device=self.device), histories.length, output_size=len(weights)
        )
        first = torch.cumsum(histories.length, 0) - histories.length
        visit = torch.arange(len(weights), device=self.device) - first[query] + histories.start[query]
        out = weights.new_zeros((len(at.step), self.size))
        out[query, self.row[visit]] = weights
        return torch.where(self._fits(at)[0].isnan()[:, None], torch.nan, out)

    def _around(self, at: Queries) -> tuple[Histories, Windows]:
        known, series = at.series >= 0, at.series.clamp(min=0)
        length = torch.where(known, self.past.length[series], 0)
        width = self._width.expand(len(at.step), 1).contiguous()
        windows = Windows(at.step, width, self.spec.kernel.reach(width, torch))
        return self.past._replace(start=self.past.start[series], length=length), windows

    def _fits(self, at: Queries) -> tuple[Tensor, Tensor]:
        """Estimates less the means of the series, and the weight of a visit at the query with weight 1.  # (m,), (m,)"""
        degree = self.spec.degree
        s0, s1, s2, t0, t1 = trusted_moments(*self._around(at), self.spec.kernel, "float64", degree)[:5, :, 0]
        bottom = torch.where(s0 > TINY[torch.float64], s0, torch.nan)
        if not degree:
            return t0 / bottom, 1.0 / bottom
        centre = s1 / bottom
        spread = s2 - centre * s1
        spread = torch.where(spread > SURE[torch.float64] ** 2 * s2, spread, torch.nan)
        return (t0 - centre * (t1 - centre * t0) * s0 / spread) / bottom, s2 / spread / bottom

    def select(self, selector: CriterionSelector) -> Selection:
        """The bandwidth that the prequential selector chooses.

        Raises
        ------
        ArgumentError
            If the data do not determine a bandwidth, or for another selector or degree.
        """
        if not isinstance(selector, Prequential) or self.spec.degree:
            raise ArgumentError(
                "over groups on a device a bandwidth is a number, or selected by prequential at degree 0, got "
                f"{selector.name} at degree {self.spec.degree}; fit with backend='numba'"
            )
        sample: Any = SeriesSample(self)  # it does what `Ordered` does, with tensors
        return OverSeries(**vars(selector)).minimise(sample)


class SeriesSample:
    """What `kernadv.regression.bandwidth._ordered.Ordered` is in main memory, for `OverSeries`.

    A point has an estimate if the step before it is near enough, so that only sums of squared errors leave the device.
    """

    def __init__(self, smoother: DeviceSeries) -> None:
        past = smoother.past
        self.spec, self.x, self._smoother = smoother.spec, past.step[:, None], smoother
        self._one = Lock()  # selectors score from several threads: one at a time on the device
        lag, same = past.step.diff().double(), smoother.series.diff() == 0
        start = torch.cat([same.new_ones(1), ~same | (lag > 0.0)])  # of the visits at one step
        lag = torch.cat([lag.new_zeros(1), torch.where(same, lag, 0.0)])
        place = torch.arange(smoother.size, device=lag.device)
        self._lag = lag[torch.where(start, place, 0).cummax(0).values].cpu().numpy()  # 0: there is no earlier step
        before = lag[start].cpu().numpy()
        near = np.minimum(*(np.where(side > 0.0, side, np.inf) for side in (before, np.append(before[1:], 0.0))))
        self.span = np.array([float((past.step[past.start + past.length - 1] - past.step[past.start]).max())])
        refuse_constant(self.span, True)
        self._near = float(np.quantile(near[np.isfinite(near)], MOST))
        self.weights = past.n.cpu().numpy()
        self.variance = (past.ss.sum() / past.n.sum()).cpu().numpy().reshape(1)

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """As `Ordered.bounds`."""
        return bounds_on_line(self.spec.kernel, self._near, self.span)

    def ahead(self, grid: FloatArray) -> None:
        """As `Ordered.ahead`; all bandwidths are scored in one launch, over the points that the widest one defines."""
        self._ever = self.defined(grid[-1])
        self._known = dict(zip(grid[:, 0].tolist(), self._losses(grid[:, 0], self._ever).tolist(), strict=True))

    def defined(self, bandwidth: FloatArray) -> BoolArray:
        """Points with an estimate.  # (n,)"""
        kernel = self.spec.kernel
        inside = (self._lag > 0.0) & (self._lag <= kernel.reach(bandwidth))
        return inside & (kernel.formula(np.where(inside, self._lag, 0.0) / bandwidth, np) > TINY[torch.float64])

    def loss(self, bandwidth: FloatArray, scored: BoolArray) -> float:
        """Mean squared error of the scored points; inf if one of them has no estimate."""
        if not self.defined(bandwidth)[scored].all():
            return float("inf")
        h = float(bandwidth[0])
        known = h in self._known and np.array_equal(scored, self._ever)
        total = self._known[h] if known else float(self._losses(bandwidth, scored)[0])
        return total / float(self.weights[scored].sum())

    def _losses(self, bandwidths: FloatArray, scored: BoolArray) -> Tensor:
        past, grid = self._smoother.past, [Steps(h) for h in bandwidths.tolist()]
        asked = torch.as_tensor(scored).to(past.step.device)
        with self._one:
            return ops.prequential_cv(past, grid, self.spec.kernel, "float64", asked).loss.sum(0).cpu()


class OverSeries(Prequential):
    """The prequential selector of series on a device: whole sums from `prequential_cv`, no error of a point."""

    def _defined(self, sample: Any, bandwidth: FloatArray) -> BoolArray:
        return np.asarray(sample.defined(bandwidth))

    def at(self, sample: Any, bandwidth: FloatArray, scored: BoolArray) -> float:
        """As `CriterionSelector.at`."""
        return float(sample.loss(bandwidth, scored))


def steps(X: Tensor) -> Tensor:
    """Whole steps (n,) from a column of an integer type."""
    if X.ndim != 2 or X.shape[1] != 1:
        raise ArgumentError(f"with groups on a device X is one column of steps, (n, 1), got shape {tuple(X.shape)}")
    if X.dtype not in WHOLE:
        raise ArgumentTypeError(f"with groups on a device X holds steps of an integer type, got {X.dtype}; X.long()")
    return X[:, 0].long()


def read_series(
    spec: LocalPolynomialSpec, X: Tensor, y: Any, sample_weight: Any, groups: Any
) -> tuple[DeviceSeries, Tensor]:
    """The checked data as series, and which rows they have; see `kernadv.regression.operators.smoother.read`."""
    if not spec.past:
        raise ArgumentError(
            "with groups on a device windows are one-sided: side='past'; others are smoothed with backend='numba'"
        )
    if not isinstance(groups, Tensor) or groups.dtype not in WHOLE:
        raise ArgumentTypeError("groups of tensors on a device must be a tensor of an integer type, on the same device")
    step = steps(X)
    _, responses, omega, kept = checked(spec, X, y, sample_weight)
    if responses.shape[1] != 1:
        raise ArgumentError(f"with groups on a device there is one response, got y of shape {tuple(y.shape)}")
    if groups.shape != step.shape or groups.device != step.device:
        raise ArgumentError(
            f"groups must be one a row of X, {len(step)} on {step.device}, got shape {tuple(groups.shape)} on "
            f"{groups.device}"
        )
    step, z, n = step[kept], responses[:, 0].double(), omega
    names, series, length = torch.unique(groups[kept], return_inverse=True, return_counts=True)
    order = step.argsort(stable=True)
    order = order[series[order].argsort(stable=True)]
    step, z, n, series = step[order], z[order], n[order], series[order]
    zeros = n.new_zeros(len(names))
    mean = zeros.index_add(0, series, n * z) / zeros.index_add(0, series, n)
    z = z - mean[series]
    past = Histories(torch.cumsum(length, 0) - length, length, step, n, n * z, n * z * z)
    return DeviceSeries(spec, past, z, mean, series, order, names), kept
