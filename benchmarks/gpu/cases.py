"""What is timed: inputs, the least work they need, and who does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu.providers import (
    flash_providers,
    local_providers,
    nearest_providers,
    prequential_providers,
    ragged_providers,
)
from kernadv import KernelValueEstimator, Pooling
from kernadv.clock import Relative
from kernadv.kernels import get
from kernadv.moments import Histories, Windows
from kernadv.regression.operators import flash, local


@dataclass(frozen=True)
class Case:
    """A kernel at one size.

    Attributes
    ----------
    make : callable
        seed -> a set of inputs.
    providers : dict
        Name -> callable of a set of inputs.
    reference : str
        The provider that the others are compared with: never one of the fused kernels.
    bytes, operations, products : int
        Least bytes moved, float32 operations, and floating-point operations of matrix products at bfloat16's speed.
    tolerance : float
        Largest difference between providers, relative to the largest value.
    rows : bool
        Each row of the result has a unit of its own, and is compared alone.
    eager : bool
        Timed as the host sees it, launches included.
    """

    kernel: str
    shapes: str
    dtype: str
    make: Callable[[int], Any]
    providers: dict[str, Callable[[Any], Any]]
    reference: str
    bytes: int
    operations: int
    products: int = 0
    tolerance: float = 1e-4
    rows: bool = False
    eager: bool = False
    missing: dict[str, str] = field(default_factory=dict)

    def names(self, part: str) -> list[str]:
        """Providers that are ours, or the peers; also those that are missing."""
        return [name for name in [*self.providers, *self.missing] if name.startswith("ours") == (part == "ours")]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the cases; `TARGET` are those of the targets, `TINY` those of the test of this program."""

    prompts: int = 8192
    visits: int = 512
    bandwidths: int = 16
    group: int = 8
    queries: int = 8192
    points: int = 100_000
    features: tuple[int, ...] = (64, 256, 1024)
    neighbours: int = 16
    columns: int = 5


TARGET = Sizes()
TINY = Sizes(prompts=7, visits=33, bandwidths=3, group=4, queries=20, points=50, features=(8,), neighbours=3, columns=2)

#: float32 operations of a weight: its profile, nine sums and their factors; CV.
MOMENT_OPERATIONS, CV_OPERATIONS = 15, 6
#: Of a weight in each column: the difference, its share of the bandwidth, the profile, the product of all columns.
COLUMN_OPERATIONS = 4
#: Of a filter, about: its belief moved, told to, and scored; the value of a row under it.
FILTER_OPERATIONS, ROW_OPERATIONS = 40, 10
#: The estimator in main memory.
HERE = "ours, history on the CPU"


def cases(device: torch.device, sizes: Sizes = TARGET) -> list[Case]:
    """Every case, the targets' first."""
    kernels = ("triangular", "exponential")
    made = [_ragged(device, sizes, "full", kernel) for kernel in kernels]
    made += [_prequential(device, sizes, kernel) for kernel in kernels]
    made += [_local(device, sizes)]
    made += [_flash(device, sizes, width) for width in sizes.features]
    made += [_advantages(device, sizes, kind, pooled) for kind in ("tensor", "text") for pooled in (False, True)]
    made += [_nearest(device, sizes, width) for width in sizes.features]
    return made + [_ragged(device, sizes, "ragged", kernel) for kernel in kernels]


def histories(device: torch.device, sizes: Sizes, fill: str, seed: int) -> dict[str, Any]:
    """Histories packed and padded, and the queries around them."""
    made = torch.Generator(device=device).manual_seed(seed)
    prompts, visits = sizes.prompts, sizes.visits
    longest = torch.full((prompts,), visits, device=device)
    if fill == "ragged":
        longest = torch.randint(1, visits + 1, (prompts,), generator=made, device=device)
    slot = torch.arange(visits, device=device)
    there = slot < longest[:, None]
    step = torch.where(
        there, 2 * slot + 1 + torch.randint(0, 2, (prompts, visits), generator=made, device=device), 0
    ).int()
    s = torch.randint(0, sizes.group + 1, (prompts, visits), generator=made, device=device) * there
    n = (sizes.group * there).int()
    at = torch.full((prompts,), 2 * visits + 1, dtype=torch.int32, device=device)
    grid = [Relative(0.02 + 0.06 * k) for k in range(sizes.bandwidths)]
    packed = Histories(
        torch.cumsum(longest, 0) - longest, longest.int(), step[there], n[there], s[there].float(), s[there].float()
    )
    return {
        "sample": packed,
        "padded": (step, n.float(), s.float()),
        "at": at,
        "grid": grid,
        "h": torch.tensor([bandwidth.h for bandwidth in grid], device=device),
    }


def _ragged(device: torch.device, sizes: Sizes, fill: str, kernel: str) -> Case:
    def make(seed: int) -> dict[str, Any]:
        held = histories(device, sizes, fill, seed)
        width = held["at"][:, None].double() * held["h"].double()
        return held | {"windows": Windows(held["at"], width, get(kernel).reach(width, torch))}

    share = 1.0 if fill == "full" else 0.5
    entries = int(sizes.prompts * sizes.visits * share)
    cells = sizes.prompts * sizes.bandwidths
    providers, missing = ragged_providers(kernel, device)
    return Case(
        f"ragged_moments_{kernel}_{fill}",
        f"P={sizes.prompts} L={sizes.visits} H={sizes.bandwidths}",
        "float32",
        make,
        providers,
        "torch",
        bytes=16 * entries + (16 + 9 * 4) * cells,
        operations=entries * sizes.bandwidths * MOMENT_OPERATIONS,
        rows=True,
        missing=missing,
    )


def _prequential(device: torch.device, sizes: Sizes, kernel: str) -> Case:
    providers, missing = prequential_providers(kernel)
    weights = sizes.prompts * sizes.visits * (sizes.visits - 1) // 2 * sizes.bandwidths
    return Case(
        f"prequential_cv_{kernel}",
        f"P={sizes.prompts} L={sizes.visits} H={sizes.bandwidths}",
        "float32",
        lambda seed: histories(device, sizes, "full", seed),
        providers,
        "torch",
        bytes=16 * sizes.prompts * sizes.visits + 8 * sizes.prompts * sizes.bandwidths,
        operations=weights * CV_OPERATIONS,
        tolerance=1e-3,
        missing=missing,
    )


def _local(device: torch.device, sizes: Sizes) -> Case:
    columns, grid = sizes.columns, sizes.bandwidths

    def make(seed: int) -> dict[str, Any]:
        made = torch.Generator(device=device).manual_seed(seed)
        x, at = (torch.rand((columns, count), generator=made, device=device) for count in (sizes.points, sizes.queries))
        y = torch.randn(sizes.points, generator=made, device=device)
        h = torch.linspace(0.3, 1.0, grid, dtype=torch.float64, device=device)
        return {
            "x": x,
            "channels": torch.stack([torch.ones_like(y), y]),
            "at": at,
            "inverse": (1.0 / h)[:, None, None].expand(-1, columns, -1).contiguous(),
            "which": local.columns(columns, 2, 0, device),
        }

    providers, missing = local_providers()
    return Case(
        "local_moments_nw",
        f"Q={sizes.queries} N={sizes.points} D={columns} H={grid}",
        "float32",
        make,
        providers,
        "torch",
        bytes=4 * (columns * sizes.queries + (columns + 2) * sizes.points) + 16 * sizes.queries * grid,
        operations=sizes.queries * sizes.points * grid * (COLUMN_OPERATIONS * columns + 2),
        missing=missing,
    )


def cloud(device: torch.device, sizes: Sizes, width: int, seed: int) -> dict[str, Any]:
    """Queries and points with unit features, and responses; also as attention takes them."""
    made = torch.Generator(device=device).manual_seed(seed)
    q, x = (
        torch.nn.functional.normalize(torch.randn(count, width, generator=made, device=device), dim=1)
        for count in (sizes.queries, sizes.points)
    )
    y = torch.randn(sizes.points, generator=made, device=device)
    h = 0.5
    bias = -0.5 * x.square().sum(1) / (h * h)
    # as attention takes them: softmax(q x' / h^2 + bias) y, y as 16 equal columns
    attention = {
        kind: (q.to(kind), x.to(kind), y.to(kind)[:, None].expand(-1, 16).contiguous(), bias.to(kind))
        for kind in (torch.float32, torch.bfloat16)
    }
    held = {"q": q, "x": x, "y": y, "h": h, "windows": flash.Windows(h), "attention": attention}
    return held | {"queries": flash.Points(q), "points": flash.Points(x)}


def _flash(device: torch.device, sizes: Sizes, width: int) -> Case:
    providers, missing = flash_providers(device)
    return Case(
        "flash_gaussian",
        f"Q={sizes.queries} N={sizes.points} D={width}",
        "float32",
        lambda seed: cloud(device, sizes, width, seed),
        providers,
        "torch",
        bytes=4 * (sizes.queries + sizes.points) * width,
        operations=0,
        products=3 * 2 * sizes.queries * sizes.points * width,
        tolerance=2e-2,
        missing=missing,
    )


def _nearest(device: torch.device, sizes: Sizes, width: int) -> Case:
    providers, missing = nearest_providers(sizes.neighbours)
    return Case(
        f"nearest_k{sizes.neighbours}",
        f"Q={sizes.queries} N={sizes.points} D={width}",
        "float32",
        lambda seed: cloud(device, sizes, width, seed),
        providers,
        "torch cdist + topk",
        bytes=4 * (sizes.queries + sizes.points) * width,
        operations=sizes.queries * sizes.points * width,
        tolerance=1e-3,
        eager=True,
        missing=missing,
    )


def _advantages(device: torch.device, sizes: Sizes, kind: str, pooled: bool) -> Case:
    """A whole call of the estimator on tensors: ids to rows, groups, smoothing, cold starts, append.

    The pooled one reads and writes what is noted of each prompt, and no visit but the newest.
    """
    filters = len(Pooling().members.prior)
    past = 2 * 8 * (2 + 2 * filters) if pooled else 32 * 28
    work = filters * (FILTER_OPERATIONS + ROW_OPERATIONS * sizes.group) if pooled else 32 * MOMENT_OPERATIONS

    def make(seed: int) -> dict[str, Any]:
        made = torch.Generator(device=device).manual_seed(seed)
        ids: Any = torch.arange(sizes.prompts, device=device).repeat_interleave(sizes.group) * 7
        if kind == "text":
            ids = [f"prompt {key}" for key in ids.tolist()]
        bandwidth = None if pooled else Relative(0.5)
        on = "torch" if device.type == "cpu" else "auto"
        held = {"ids": ids, "there": KernelValueEstimator(bandwidth, backend=on),
                "here": KernelValueEstimator(bandwidth, backend="numba")}  # fmt: skip
        for step in range(1, 34):
            held["z"] = torch.randint(0, 2, (len(ids),), generator=made, device=device).float()
            if step < 33:
                for name in ("there", "here"):
                    held[name].advantages(ids, held["z"], step)
        return held

    def call(name: str) -> Callable[[dict[str, Any]], torch.Tensor]:
        # the same step every time: its visit grows, and the history stays as long as it is
        return lambda held: held[name].advantages(held["ids"], held["z"], 33)

    return Case(
        f"advantages_{'pooled' if pooled else 'nw'}_{kind}_ids",
        f"P={sizes.prompts} G={sizes.group} visits=32",
        "float64",
        make,
        {"ours": call("there"), HERE: call("here")},
        HERE,
        bytes=sizes.prompts * (past + 28 + 24 * sizes.group),
        operations=sizes.prompts * work,
        eager=True,
    )
