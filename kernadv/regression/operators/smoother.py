"""A linear smoother whose data are tensors: estimates from weighted moments that a fused kernel computes.

It does on a device what `kernadv.regression.smoother.LinearSmoother` does in main memory, for degree 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernadv._arrays import check_real
from kernadv._errors import ArgumentError, ArgumentTypeError
from kernadv.kernels import Gaussian
from kernadv.regression._input import EXTREME
from kernadv.regression.bandwidth import SELECTORS, CriterionSelector, Selection
from kernadv.regression.bandwidth._ordered import MOST, bounds_in_space, bounds_on_line, refuse_constant
from kernadv.regression.hat_rows import COLLINEAR
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.operators import flash, local, ops
from kernadv.regression.operators.nearest import nearest
from kernadv.typing import FloatArray

#: Numbers in the moments of a block of queries.
BLOCK = 2**25
#: Systems whose scaled Cholesky factor has a smaller pivot are not solved: it may be a rounding error of the moments.
SURE = {torch.float64: 1e-5, torch.float32: 3e-3}
#: Windows whose weights add up to less count as empty: they have lost digits to underflow.
TINY = {torch.float64: 1e-290, torch.float32: 1e-36}
#: From so many dimensions on, distances come from matrix products where they may.
MANY = 16
#: A point is alone if the others in its window have less weight than this in its estimate.
ALONE = 1e-12


class Local(NamedTuple):
    """Estimates of H bandwidths at m queries.

    Attributes
    ----------
    value : (H, m, C) float64
        NaN where undefined.
    row : (H, m, E) float64
        The hat vector of a query is ``l_j = omega_j w_j (row_0 + sum_d row_d (x_j - q)_d)``.
    """

    value: Tensor
    row: Tensor


class Scales(NamedTuple):
    """H bandwidths on a device.

    Attributes
    ----------
    unit : (d, 1)
        Powers of two by which lags are multiplied: nothing is rounded, and their squares stay within range.
    inverse : (H, d, 1) float64
        1 / bandwidth.
    """

    unit: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, bandwidths: FloatArray, like: Tensor) -> Scales:
        """Those of bandwidths (H, d), for points like these."""
        unit = 2.0 ** np.clip(-np.rint(np.log2(bandwidths[-1])), -120, 120)
        return cls(
            torch.as_tensor(unit).to(like)[:, None], torch.as_tensor(1.0 / bandwidths).to(like.device)[:, :, None]
        )


class Neighbours(NamedTuple):
    """Bandwidths that are a distance to the k-th nearest point.

    Attributes
    ----------
    points : (d, p)
        The places that count.
    k : int
    factor : float
        The bandwidth in units of the distance.
    """

    points: Tensor
    k: int
    factor: float

    def bandwidth(self, at: Tensor) -> Tensor:
        """Bandwidth of each query (d, m), 0 where k points lie at it.  # (m,)"""
        rows = max(BLOCK // (self.k * len(at)), 1)
        parts = []
        for q in at.split(rows, 1):
            index = nearest(q.T, self.points.T, self.k)[1]
            lag = self.points[:, index] - q[:, :, None]  # the numbers that the kernel sees
            parts.append(lag.square().sum(0).sqrt().amax(1))
        return self.factor * torch.cat(parts)


@dataclass(frozen=True)
class DeviceSmoother:
    """A local polynomial smoother of degree 0 or 1 of data on a device.

    Attributes
    ----------
    spec : LocalPolynomialSpec
    x : (d, n) float64 or float32
        Design points, one dimension after the other, near 0.
    y : (n, C) float64
        Responses, of mean 0.
    weights : (n,) float64
        Observation weights > 0.
    origin, mean : (d,), (C,)
        What was subtracted from the design points, and from the responses.
    bandwidth : (d,) float64 array
        Where there are no neighbours.
    neighbours : Neighbours, optional
        Each query has its own bandwidth.
    weighted : bool
        Whether the weights differ; else they are 1.
    """

    spec: LocalPolynomialSpec
    x: Tensor
    y: Tensor
    weights: Tensor
    origin: Tensor
    mean: Tensor
    bandwidth: FloatArray = field(default_factory=lambda: np.empty(0))
    neighbours: Neighbours | None = None
    weighted: bool = False

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.x.device

    @property
    def dimensions(self) -> int:
        """Number of columns."""
        return len(self.x)

    @property
    def size(self) -> int:
        """Number of points."""
        return self.x.shape[1]

    @classmethod
    def of(cls, spec: LocalPolynomialSpec, x: Tensor, y: Tensor, weights: Tensor) -> DeviceSmoother:
        """The smoother of points (n, d), responses (n, C) and weights (n,) on one device."""
        points = x.T.contiguous()
        low, high = points.amin(1), points.amax(1)
        far = torch.minimum(low.abs(), high.abs()) > high - low  # the difference is exact, as in main memory
        origin = torch.where(far, low, 0.0)
        responses, omega = y.double(), weights.double()
        mean = (omega @ responses) / omega.sum()
        return cls(spec, points - origin[:, None], responses - mean, omega, origin, mean)

    def with_bandwidth(self, bandwidth: FloatArray) -> DeviceSmoother:
        """The smoother with another bandwidth."""
        return replace(self, bandwidth=bandwidth)

    def with_neighbours(self, points: Tensor, k: int, factor: float) -> DeviceSmoother:
        """The smoother whose bandwidth is the distance to the k-th of the points (d, p), times a factor."""
        return replace(self, neighbours=Neighbours(points, k, factor))

    def queries(self, at: Tensor) -> Tensor:
        """Queries (m, d) as the moments take them.  # (d, m)"""
        return at.to(self.x).T.contiguous() - self.origin[:, None]

    def read(self, X: Any, groups: None) -> Tensor:
        """Queries (m, d) on the device of the fit; raises if they have another shape.  They are not looked at."""
        at = real(X, "X") if isinstance(X, Tensor) else torch.as_tensor(np.ascontiguousarray(X))
        if at.ndim != 2 or at.shape[1] != len(self.x):
            raise ArgumentError(f"expected queries of shape (m, {len(self.x)}), got {tuple(at.shape)}")
        return at.to(self.x)

    # ------------------------------------------------------------------------------------------------ estimates

    def estimate(self, at: Tensor) -> Tensor:
        """Estimates at queries (m, d).  # (m, C) float64"""
        return self._fits(self.queries(at), self.scales).value[0] + self.mean

    def at_design(self, bandwidths: FloatArray, side: str | None = None) -> Local:
        """Estimates less the mean at the design points with H bandwidths (H, d).

        A point is left out of its own sums and added at the end: in float32 it would hide what the others weigh.
        """
        return self._fits(self.x, Scales.of(bandwidths, self.x), side, design=True)

    def left_out(self) -> Tensor:
        """Estimate at each design point from the others; NaN where these do not determine it.  # (n, C)"""
        value, row = (part[0] for part in self._fits(self.x, self.scales, design=True, own=False))
        rest = 1.0 / (1.0 + self.weights[:, None] * row)  # what is not the point's own weight in its estimate
        return torch.where(rest > ALONE, value, torch.nan) + self.mean

    def select(self, selector: CriterionSelector) -> Selection:
        """The bandwidth that a selector chooses.

        Raises
        ------
        ArgumentError
            If the data do not determine a bandwidth, or the selector does not work on a device.
        """
        if not selector.on_device:
            known = ", ".join(sorted(name for name, each in SELECTORS.items() if getattr(each, "on_device", False)))
            raise ArgumentError(
                f"on a device a bandwidth is a number, or selected by {known}, got {selector.name}; fit with backend='numba'"
            )
        x = self.x.double()
        span, deviation = torch.stack([x.amax(1) - x.amin(1), x.std(1, correction=0)]).cpu().numpy()
        refuse_constant(span, False)
        d, degree = len(x), self.spec.degree
        if d > 1 and degree and not _determines(x):
            raise ArgumentError(
                f"no bandwidth can be selected on a device: the {x.shape[1]} points do not determine the {d + 1} "
                "coefficients of degree 1, or columns are linear combinations of others; give a bandwidth, or leave "
                "columns out"
            )
        sample: Any = DeviceSample(self, span, deviation)  # it does what `Ordered` does, with tensors
        return selector.minimise(sample)

    @cached_property
    def scales(self) -> Scales | None:
        """The bandwidth on the device, where it is copied once; None where each query has its own."""
        return None if self.neighbours else Scales.of(self.bandwidth[None], self.x)

    def _fits(
        self,
        at: Tensor,
        scales: Scales | None,
        side: str | None = None,
        *,
        design: bool = False,
        own: bool = True,
        whole: bool = False,
    ) -> Local:
        """Estimates at queries (d, m), with `design` the points themselves, without `own` from the others.

        Without `whole` only the first column of the rows is returned.
        """
        side = side or ("past" if self.spec.past else "both")
        if scales is not None and side == "both" and self.by_products:
            return self._from_products(at, scales, design=design, own=own)
        channels = torch.cat([self.weights[None], self.weights * self.y.T])
        which = local.columns(len(self.x), len(channels), self.spec.degree, at.device)
        unit = torch.ones_like(self.x[:, :1]) if scales is None else scales.unit
        x, moved, rounded = self.x * unit, at * unit, channels.to(self.x)
        size = 1 + len(self.x) * self.spec.degree
        rows = max(BLOCK // (len(which.channel) * (1 if scales is None else len(scales.inverse))), 1)
        parts = []
        for begin in range(0, max(at.shape[1], 1), rows):
            block = slice(begin, begin + rows)
            sums = ops.local_moments(
                x,
                rounded,
                moved[:, block].contiguous(),
                self._near(at[:, block]) if scales is None else scales.inverse / unit.double(),
                self.spec.kernel,
                which,
                radial=self.spec.radial,
                side=side,
                first=begin if design else -1,
            )
            if design and own and side != "before":
                sums[0] += channels[0, block]
                sums[self._second :: size] += channels[1:, None, block]
            value, row = self._solved(sums, scales is None)
            parts.append(
                (value, row * torch.cat([unit.new_ones(1), unit[:, 0]]) if whole and size > 1 else row[..., :1])
            )
        return Local(*(torch.cat(column, 1) for column in zip(*parts, strict=True)))

    @property
    def by_products(self) -> bool:
        """Whether distances come from a matrix product: means of one response in float32, in many dimensions."""
        radial = self.spec.radial or isinstance(self.spec.kernel, Gaussian)  # their product is one of the distance
        means = self.spec.degree == 0 and not self.spec.past and self.y.shape[1] == 1 and not self.weighted
        return means and radial and len(self.x) >= MANY and self.x.dtype == torch.float32

    def _from_products(self, at: Tensor, scales: Scales, *, design: bool, own: bool) -> Local:
        """`_fits` by `flash_moments`, one bandwidth after the other; no weight underflows far from the points."""
        y, kernel = self.y[:, 0], self.spec.kernel
        id_ = torch.arange(len(y), device=at.device) if design else None
        values, rows = [], []
        for inverse in scales.inverse.to(self.x):
            queries, points = (flash.Points((part * inverse).T.contiguous(), id=id_) for part in (at, self.x))
            sums = ops.flash_moments(queries, points, y.float(), flash.Windows(1.0), kernel, kernel).double()
            bottom, top, unit = sums[0], sums[3], sums[9].exp2()  # 0 where there is no point
            if design and own:
                bottom, top, unit = bottom * unit + 1.0, top * unit + y, 1.0
            values.append(top / torch.where(bottom > 0.0, bottom, torch.nan))
            rows.append(1.0 / (bottom * unit))
        return Local(torch.stack(values)[..., None], torch.stack(rows)[..., None])

    @property
    def _second(self) -> int:
        """Number of the weights' moments."""
        d = len(self.x)
        return 1 + (d + d * (d + 1) // 2) * self.spec.degree

    def _near(self, at: Tensor) -> Tensor:
        """1 / bandwidth of each query (d, m).  # (1, d, m)"""
        assert self.neighbours is not None
        least = torch.finfo(at.dtype).tiny  # of a width of 0: the points at the query itself
        return (1.0 / self.neighbours.bandwidth(at).double().clamp(min=least)).expand(1, len(self.x), -1)

    def _solved(self, sums: Tensor, alone: bool) -> tuple[Tensor, Tensor]:
        """Value and row of each query from sums (K, H, m); with `alone`, the mean where all points lie at the query."""
        d, degree = len(self.x), self.spec.degree
        size = 1 + d * degree
        s, t = sums[: self._second], sums[self._second :].unflatten(0, (-1, size))
        some = s[0] > TINY[self.x.dtype]
        if not degree:
            bottom = torch.where(some, s[0], torch.nan)
            return (t[:, 0] / bottom).permute(1, 2, 0), (1.0 / bottom)[:, :, None]
        upper = torch.triu_indices(d, d, device=s.device)
        gram = s.new_empty((*s.shape[1:], size, size))
        gram[..., 0, 0] = s[0]
        gram[..., 0, 1:] = gram[..., 1:, 0] = s[1 : 1 + d].permute(1, 2, 0)
        gram[..., 1 + upper[0], 1 + upper[1]] = gram[..., 1 + upper[1], 1 + upper[0]] = s[1 + d :].permute(1, 2, 0)
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        good = (diagonal > 0.0) & some[..., None]
        scale = torch.where(good, diagonal, 1.0).rsqrt() * good
        scaled = gram * scale[..., :, None] * scale[..., None, :]
        factor, failed = torch.linalg.cholesky_ex(scaled)
        pivot = factor.diagonal(dim1=-2, dim2=-1).amin(-1)
        defined = some & (failed == 0) & (pivot > SURE[self.x.dtype])
        factor = torch.where(defined[..., None, None], factor, torch.eye(size, dtype=s.dtype, device=s.device))
        right = torch.cat([t.permute(2, 3, 1, 0), torch.zeros_like(scale)[..., None]], -1)
        right[..., 0, -1] = 1.0
        found = torch.cholesky_solve(right * scale[..., None], factor) * scale[..., None]
        value, row = found[..., 0, :-1], found[..., -1]
        value = torch.where(defined[..., None], value, torch.nan)
        row = torch.where(defined[..., None], row, torch.nan)
        if alone:
            there = ~defined & some & (diagonal[..., 1:].sum(-1) == 0.0)
            bottom = torch.where(there, s[0], 1.0)
            value = torch.where(there[..., None], (t[:, 0] / bottom).permute(1, 2, 0), value)
            row = torch.where(there[..., None], torch.nn.functional.pad(1.0 / bottom[..., None], (0, size - 1)), row)
        return value, row

    def hat(self, at: Tensor) -> Tensor:
        """Rows of the hat matrix at queries (m, d), some at a time.  # (m, n)"""
        moved = self.queries(at)
        rows_ = self._fits(moved, self.scales, whole=True).row[0]
        out = torch.empty((len(at), self.x.shape[1]), dtype=torch.float64, device=at.device)
        side = "past" if self.spec.past else "both"
        rows = max(local.PAIRS // self.x.shape[1], 1)
        for begin in range(0, len(at), rows):
            block = slice(begin, begin + rows)
            q, row = moved[:, block], rows_[block]
            inverse = self._near(q)[0] if self.scales is None else self.scales.inverse[0]
            w = local.weights(self.x, q, inverse, self.spec.kernel, radial=self.spec.radial, side=side)
            line = row[:, :1].expand(-1, self.x.shape[1])
            for d in range(row.shape[1] - 1):
                line = line + row[:, d + 1, None] * (self.x[d] - q[d, :, None])
            out[block] = self.weights * w * line
        return out


class DeviceSample:
    """What `kernadv.regression.bandwidth._ordered.Ordered` is in main memory, for selectors that work on a device.

    Estimates are computed there, those of a whole grid in one pass, and scored in main memory: n x C numbers a bandwidth.

    Parameters
    ----------
    smoother : DeviceSmoother
    span, deviation : (d,)
        Range and standard deviation of the design in each dimension.
    """

    def __init__(self, smoother: DeviceSmoother, span: FloatArray, deviation: FloatArray) -> None:
        self.spec, self.x, self.span = smoother.spec, smoother.x.T, span
        self.y, self.weights = (part.cpu().numpy() for part in (smoother.y, smoother.weights / smoother.weights.mean()))
        self.variance = self.weights @ self.y**2 / self.weights.sum()
        self._smoother, self._deviation = smoother, deviation
        self._grid = np.empty((0, len(span)))
        self._known: dict[str | None, Local] = {}
        self._one = Lock()  # selectors score from several threads: one at a time on the device

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """As `Ordered.bounds`."""
        kernel, (n, d) = self.spec.kernel, self.x.shape
        if d > 1:
            return bounds_in_space(kernel, n, self.span, self._deviation)
        near = _kth(self.x[:, 0].double().unique(), self.spec.degree + 2)
        place = MOST * (len(near) - 1)
        low, high = near.sort().values[[int(place), min(int(place) + 1, len(near) - 1)]].tolist()
        return bounds_on_line(kernel, low + (place - int(place)) * (high - low), self.span)

    def ahead(self, grid: FloatArray) -> None:
        """As `Ordered.ahead`: these bandwidths (H, d) will be computed together."""
        self._grid = grid

    def fitted(self, bandwidth: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As `Ordered.fitted`, for one bandwidth (d,)."""
        return self._at_design(bandwidth, None)

    def from_past(self, bandwidth: FloatArray) -> FloatArray:
        """As `Ordered.from_past`."""
        return self._at_design(bandwidth, "before")[0]

    def _at_design(self, bandwidth: FloatArray, side: str | None) -> tuple[FloatArray, FloatArray]:
        """Estimates and leverages."""
        place = np.flatnonzero((self._grid == bandwidth).all(1))
        with self._one:
            if not len(place):
                made, h = self._smoother.at_design(bandwidth[None], side), 0
            else:
                if side not in self._known:
                    self._known[side] = self._smoother.at_design(self._grid, side)
                made, h = self._known[side], int(place[0])
        return made.value[h].cpu().numpy(), (self._smoother.weights * made.row[h, :, 0]).cpu().numpy()


def _kth(x: Tensor, k: int) -> Tensor:
    """Distance of each of the ascending, distinct points x (n,) to the k-th nearest, itself the first."""
    k, n = min(k, len(x)), len(x)
    least = torch.full_like(x, torch.inf)
    for before in range(k):  # the k points are consecutive: so many of them lie before the point
        own = slice(before, n - (k - 1 - before))
        reach = torch.maximum(x[own] - x[: n - k + 1], x[k - 1 :] - x[own])
        least[own] = torch.minimum(least[own], reach)
    return least


def _determines(x: Tensor) -> bool:
    """As `kernadv.regression.hat_rows.determines` for a line through points (d, n)."""
    half = (x.amax(1) - x.amin(1)) / 2.0
    u = torch.cat([torch.ones_like(x[:1]), (x - x.amin(1)[:, None]) / half[:, None] - 1.0])
    eigenvalues = torch.linalg.eigvalsh(u @ u.T)
    return x.shape[1] > len(x) and bool(eigenvalues[0] > COLLINEAR * eigenvalues[-1])


def read(spec: LocalPolynomialSpec, X: Tensor, y: Any, sample_weight: Any) -> tuple[DeviceSmoother, Tensor]:
    """The data as a smoother, and which rows it has; parameters and errors as in `checked`."""
    x, responses, omega, kept = checked(spec, X, y, sample_weight)
    made = replace(DeviceSmoother.of(spec, x, responses, omega), weighted=sample_weight is not None)
    if not isfinite(spec.kernel.support) and not made.by_products:  # far weights underflow in float32
        made = replace(made, x=made.x.double(), origin=made.origin.double())
    return made, kept


def checked(spec: LocalPolynomialSpec, X: Tensor, y: Any, sample_weight: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Checked points (n, d), responses (n, C) and weights (n,) of the rows of positive weight, and which these are.

    The host waits for the checks.

    Parameters
    ----------
    X : (n, d) tensor
    y : (n,) or (n, C) tensor
    sample_weight : (n,) tensor, or None

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If shapes, types or devices do not match, or values are not finite.
    """
    x = real(X, "X")
    if x.ndim != 2 or not x.shape[1]:
        raise ArgumentError(f"X must be (n, d) with d >= 1, got shape {tuple(x.shape)}")
    y, omega = real(y, "y"), x.new_ones(len(x)) if sample_weight is None else real(sample_weight, "sample_weight")
    for name, part, dimensions in (("y", y, (1, 2)), ("sample_weight", omega, (1,))):
        if part.ndim not in dimensions or len(part) != len(x):
            raise ArgumentError(
                f"{name} must have one row for each of the {len(x)} of X, got shape {tuple(part.shape)}"
            )
        if part.device != x.device:
            raise ArgumentError(f"{name} is on {part.device} and X on {x.device}; put them on one device")
    y, omega = y.reshape(len(x), -1), omega.double()
    kept = omega.nonzero()[:, 0]
    if len(kept) <= spec.degree:
        raise ArgumentError(
            f"degree={spec.degree} needs at least {spec.degree + 1} rows of positive weight, got "
            f"n_samples={len(kept)}; lower the degree"
        )
    some = omega[kept]
    checks = {
        "X holds NaN or infinity": x.isfinite().all(),
        "y holds NaN or infinity": y.isfinite().all(),
        f"sample_weight must be 0 or lie between {1.0 / EXTREME:g} and {EXTREME:g}": (
            (some >= 1.0 / EXTREME) & (some <= EXTREME)
        ).all(),
    }
    for problem, fine in zip(checks, torch.stack(list(checks.values())).tolist(), strict=True):
        if not fine:
            raise ArgumentError(f"{problem}; drop or mend these rows first")
    if sample_weight is not None:
        x, y, omega = x[kept], y[kept], some / some.max()
    return x, y, omega, kept


def real(tensor: Any, name: str) -> Tensor:
    """A tensor as float64 or float32, which narrower types become, without its gradient."""
    if not isinstance(tensor, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor on the device of X, got {type(tensor).__name__}")
    checked: Tensor = check_real(tensor, name)
    if checked.layout != torch.strided or checked.device.type == "meta":
        raise ArgumentTypeError(
            f"{name} must be a dense tensor that holds numbers, got one of layout {checked.layout} on {checked.device}"
        )
    if not checked.is_floating_point():
        return checked.double()
    return checked if checked.dtype == torch.float64 else checked.float()
