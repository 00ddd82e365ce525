"""k nearest neighbours in feature space: exact, in bounded memory, on any torch device.

Candidates come from a matrix product and a `topk` for each chunk of points.  They are ranked again by their distances
written out, because ``|q|^2 + |x|^2 - 2 q x`` loses digits between points that are close.
"""

from __future__ import annotations

import torch

from kernadv._errors import ArgumentError, check_count

#: Pairs of query and point whose distances are in memory at a time.
PAIRS = 2**26
#: Candidates beyond k, since rounding may change the order.
SPARE = 8


def nearest(
    queries: torch.Tensor, points: torch.Tensor, k: int, *, exclude: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and indices of the k nearest points, nearest first, ties by the lower index.

    The distance to the k-th can be the bandwidth of each query.

    Parameters
    ----------
    queries : (Q, D) float
    points : (N, D) float
    k : int
    exclude : (Q,) int, optional
        Index of a point that a query ignores, e.g. itself; -1: none.

    Returns
    -------
    distance : (Q, k), of the type of `points`
    index : (Q, k) int64

    Raises
    ------
    ArgumentError
        If there are fewer than k points, or shapes or devices do not match.
    """
    k = check_count(k, "k")
    if queries.ndim != 2 or points.ndim != 2 or queries.shape[1] != points.shape[1]:
        raise ArgumentError(f"queries and points must be (., D), got {tuple(queries.shape)} and {tuple(points.shape)}")
    if queries.device != points.device:
        raise ArgumentError(f"queries are on {queries.device} and points on {points.device}; put them on one device")
    available = len(points) - (exclude is not None)
    if k > available:
        raise ArgumentError(f"k is {k}, but only {available} points can be found")
    real = torch.float64 if points.dtype == torch.float64 else torch.float32
    centre = points.to(real).mean(0)
    q, x = queries.to(real) - centre, points.to(real) - centre
    many = min(k + SPARE, len(x))
    parts = []
    rows = max(PAIRS // len(x), 1024)
    for begin in range(0, max(len(q), 1), rows):
        own = slice(begin, begin + rows)
        parts.append(_nearest(q[own], x, k, many, None if exclude is None else exclude[own]))
    distance, index = (torch.cat(column) for column in zip(*parts, strict=True))
    return distance.to(points.dtype), index


def _nearest(
    q: torch.Tensor, x: torch.Tensor, k: int, many: int, exclude: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    norms, own = x.square().sum(1), q.square().sum(1)[:, None]
    found = q.new_empty((len(q), 0))
    index = torch.empty((len(q), 0), dtype=torch.int64, device=q.device)
    stride = max(PAIRS // max(len(q), 1), many)
    for begin in range(0, len(x), stride):
        chunk = x[begin : begin + stride]
        square = own + norms[begin : begin + stride] - 2.0 * (q @ chunk.T)
        if exclude is not None:
            slot = exclude - begin
            here = (slot >= 0) & (slot < len(chunk))
            square[here.nonzero()[:, 0], slot[here]] = torch.inf
        near, place = square.topk(min(many, len(chunk)), largest=False)
        found, index = torch.cat([found, near], 1), torch.cat([index, place + begin], 1)
        found, place = found.topk(min(many, found.shape[1]), largest=False)
        index = index.gather(1, place)
    index, order = index.sort(1)
    seen = torch.isfinite(found.gather(1, order))
    exact = torch.where(seen, (q[:, None] - x[index]).square().sum(2), torch.inf)
    ranked, order = exact.sort(stable=True)
    index = index.gather(1, order)
    # up to the rounding of the products, the other points are at least as far away as the furthest candidate
    slack = 8.0 * torch.finfo(q.dtype).eps * q.shape[1] ** 0.5 * (own[:, 0] + norms.max())
    unsure = (found.amax(1) - slack < ranked[:, k - 1]) & (many < len(x))
    for row in unsure.nonzero()[:, 0].tolist():
        square = (q[row] - x).square().sum(1)
        if exclude is not None and exclude[row] >= 0:
            square[exclude[row]] = torch.inf
        sorted_, order = square.sort(stable=True)
        ranked[row, :k], index[row, :k] = sorted_[:k], order[:k]
    return ranked[:, :k].sqrt(), index[:, :k]
