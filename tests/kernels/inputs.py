"""Inputs of the fused kernels' suites, and how results are compared."""

import os
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from kernadv._fused import Fused
from kernadv.clock import Relative, Steps
from kernadv.kernels import KERNELS, Exponential, Kernel, Power
from kernadv.moments import Histories, Windows
from kernadv.regression.operators import flash


@dataclass(frozen=True)
class Scaled(Kernel):
    """The power kernel (1 - (u / support)^2)^exponent of any support; exponent 0: closed."""

    support: float = 5.0**0.5
    exponent: int = 1

    @property
    def name(self):
        return f"scaled-{self.support:.2g}-{self.exponent}"

    @property
    def closed(self):
        return self.exponent == 0

    def formula(self, u, xp):
        return (1.0 - (u / self.support) ** 2) ** self.exponent

    def moment(self, k):
        raise NotImplementedError  # only rules of thumb for bandwidths ask for it, and no fused kernel has one

    square_moment = moment

    def triton_profile(self):
        return Fused(weight=scaled, log2=None, a=1.0 / self.support, b=self.exponent)


def scaled(u, inverse, exponent):
    weight = 0.0 * u + 1.0
    if exponent == 1:
        weight = 1.0 - (u * inverse) * (u * inverse)
    return weight


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
ALL = [*KERNELS.values(), Exponential(0.9), Power("quartic", 4, 2), Scaled(), Scaled(2.0, 0)]
NAMES = [kernel.name for kernel in ALL]
LENGTHS = [0, 1, 2, 31, 32, 33, 64, 65, 129]
GRID = [Steps(3), Steps(64), Steps(np.inf), Relative(0.1), Relative(0.29), Relative(1.0)]
#: Relative to the largest entry.
CLOSE = {"float64": 1e-12, "float32": 1e-6}

#: Triton's interpreter is numpy underneath.
MARKS = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
]
#: The tests of a GPU run on the CPU, at small sizes, so that they do not fail for reasons of their own when there is one.
REHEARSED = INTERPRETED and os.environ.get("KERNADV_REHEARSE") == "1"
on_gpu = pytest.mark.skipif(INTERPRETED and not REHEARSED, reason="needs a GPU")


@contextmanager
def no_waiting():
    """Within, a call that makes the host wait for the device is an error; a rehearsal cannot tell."""
    if REHEARSED:
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def capture(call):
    """The results of a captured call, and what replays the graph into them; a rehearsal calls again."""
    if REHEARSED:
        results = [part.clone() for part in call()]
        return results, lambda: [mine.copy_(theirs) for mine, theirs in zip(results, call(), strict=True)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return results, graph.replay


def histories(seed, lengths, last=900):
    """Random ragged histories as numpy arrays, steps ascending."""
    rng = np.random.default_rng(seed)
    lengths = np.asarray(lengths, np.int64)
    steps = [np.sort(rng.choice(np.arange(1, last), size, replace=False)) for size in lengths]
    step = np.concatenate(steps) if len(steps) else np.empty(0, np.int64)
    n = rng.integers(1, 9, len(step)).astype(float)
    s = rng.binomial(n.astype(int), 0.4) + 0.25 * rng.integers(0, 3, len(step))
    return Histories(np.cumsum(lengths) - lengths, lengths, step.astype(np.int64), n, s, s * s / n + 0.5)


def queries(sample, kernel, seed=0, last=900, grid=GRID):
    at = np.random.default_rng(seed).integers(last // 3, last + 100, len(sample.start))
    return Windows.of(grid, kernel, sample, at)


def tensors(arrays, dtype="float64"):
    """As a device holds them: 32-bit steps, lengths and counts in float32."""
    moved = [torch.as_tensor(part).to(DEVICE) for part in arrays]
    if dtype == "float32":
        narrow = {"length": torch.int32, "step": torch.int32, "n": torch.int32, "s": torch.float32,
                  "ss": torch.float32, "at": torch.int32}  # fmt: skip
        moved = [part.to(narrow.get(name, part.dtype)) for name, part in zip(arrays._fields, moved, strict=True)]
    return type(arrays)(*moved)


def close(got, expected, tolerance):
    """Relative to the largest finite entry; NaN at the same places."""
    got, expected = got.double().cpu(), torch.as_tensor(expected).double().cpu()
    assert got.shape == expected.shape
    assert torch.equal(got.isnan(), expected.isnan())
    top = expected.nan_to_num().abs().max().item() if expected.numel() else 0.0
    error = (got - expected).nan_to_num().abs().max().item() if expected.numel() else 0.0
    assert error <= tolerance * max(top, 1e-30), f"error {error:.2e}, largest entry {top:.2e}"


def cloud(count, total, width, seed=0):
    made = torch.Generator().manual_seed(seed)
    q, x = (torch.randn(size, width, generator=made) / width**0.5 for size in (count, total))

    def whole(low, high, size):
        return torch.randint(low, high, (size,), generator=made)

    queries = flash.Points(q, whole(50, 100, count), whole(0, 5, count), torch.arange(count))
    points = flash.Points(x, whole(0, 90, total), whole(0, 5, total), torch.arange(total))
    y = torch.randn(total, generator=made)
    step = queries.step.double() * 0.4
    return (
        *(flash.Points(*(p.to(DEVICE) for p in part)) for part in (queries, points)),
        y.to(DEVICE),
        step.to(DEVICE),
    )


def flash_windows(step, kernel, bandwidth, other):
    return flash.Windows(bandwidth, step, kernel.reach(step, torch), other)


def flash_summary(m):
    """Value and n_eff of Nadaraya-Watson, and the local linear value with a ridge: free of units."""
    m = m.double()
    line = (m[2] * m[3] - m[1] * m[4]) / (m[0] * m[2] - m[1] ** 2 + 1e-3 * m[0] * m[2])
    return torch.stack([m[3] / m[0], m[0] ** 2 / m[5], line, m[8] / m[0]])
