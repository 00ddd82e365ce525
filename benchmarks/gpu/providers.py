"""Who computes the cases: ours, plain torch, its compiler, attention, JAX, and libraries where they are installed.

All providers of a case return the same numbers; `run.py` compares them before it times them.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from typing import Any

import torch

from kernadv.kernels import get
from kernadv.moments import ops
from kernadv.regression.operators import nearest
from kernadv.regression.operators import ops as operators

Providers = tuple[dict[str, Callable[[Any], Any]], dict[str, str]]


def _optional(name: str, build: Callable[[], dict[str, Callable[[Any], Any]]], made: Providers) -> None:
    """Add providers, or the reason why they are not there."""
    try:
        made[0].update(build())
    except ImportError as error:
        made[1][name] = str(error).splitlines()[0]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for the shapes of the first call, at that call."""
    made: list[Callable[..., Any]] = []

    def call(*arguments: Any, **options: Any) -> Any:
        if not made:
            made.append(torch.compile(function, dynamic=False))
        return made[0](*arguments, **options)

    return call


# ---------------------------------------------------------------- ragged histories
def padded_moments(step: Any, n: Any, s: Any, at: Any, h: Any, kernel: str, xp: Any) -> Any:
    """The nine moments of padded histories of 0/1 rewards, written as formulas; xp is torch or jax.numpy.  # (9, P, H)"""
    lag = (at[:, None] - step).astype("float32") if xp is not torch else (at[:, None] - step).float()
    clock = at.astype("float32") if xp is not torch else at.float()
    u = lag[:, None, :] / (clock[:, None] * h)[:, :, None]  # (P, H, L)
    w = xp.exp(-u) if kernel == "exponential" else (1.0 - u).clip(0.0)
    n, s, d = n[:, None], s[:, None], -lag[:, None, :]
    parts = (w * n, w * n * d, w * n * d * d, w * s, w * s * d, w * w * n, w * w * n * d, w * w * n * d * d, w * s)
    return xp.stack([part.sum(2) for part in parts])


def ragged_providers(kernel: str) -> Providers:
    """Of the moments, each in shares of its largest."""
    smooth = get(kernel)

    def scaled(made: torch.Tensor) -> torch.Tensor:
        return made / made.abs().amax((1, 2), keepdim=True)

    def ours(held: dict[str, Any]) -> torch.Tensor:
        return scaled(ops.trusted_moments(held["sample"], held["windows"], smooth, "float32"))

    def naive(held: dict[str, Any]) -> torch.Tensor:
        return scaled(padded_moments(*held["padded"], held["at"], held["h"], kernel, torch))

    compiled = _compiled(naive)
    made: Providers = ({"ours": ours, "torch": naive, "torch.compile padded": compiled}, {})
    _optional("jax jit padded", lambda: _jax_ragged(kernel), made)
    return made


def _jax_ragged(kernel: str) -> dict[str, Callable[[Any], Any]]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = importlib.import_module("jax")

    def scaled(*arrays: Any) -> Any:
        made = padded_moments(*arrays, kernel, jax.numpy)
        return made / abs(made).max((1, 2), keepdims=True)

    jitted = jax.jit(scaled)
    held_arrays: dict[int, Any] = {}

    def call(held: dict[str, Any]) -> Any:
        if id(held) not in held_arrays:
            tensors = (*held["padded"], held["at"], held["h"])
            held_arrays[id(held)] = [jax.numpy.asarray(part.cpu().numpy()) for part in tensors]
        return jitted(*held_arrays[id(held)]).block_until_ready()

    return {"jax jit padded": call}


# ---------------------------------------------------------------- prequential scores
def prequential_providers(kernel: str) -> Providers:
    """Of the scores; plain torch works on as many prompts as its temporaries allow."""
    smooth = get(kernel)

    def ours(held: dict[str, Any]) -> torch.Tensor:
        return operators.prequential_cv(held["sample"], held["grid"], smooth).loss

    def loss(step: torch.Tensor, n: torch.Tensor, s: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        lag = (step[:, :, None] - step[:, None, :]).float()
        u = lag / (step[:, :, None].float() * h)
        w = torch.exp(-u) if kernel == "exponential" else (1.0 - u).clip(0.0)
        w = torch.where(lag > 0, w, 0.0)
        below, above = (w @ n[:, :, None])[:, :, 0], (w @ s[:, :, None])[:, :, 0]
        scored = below > (0.0 if kernel == "exponential" else 1e-5)  # rounding at the edge of the support
        fit = above / torch.where(scored, below, 1.0)
        return torch.where(scored, s - 2.0 * fit * s + n * fit * fit, 0.0).sum(1)

    compiled = _compiled(loss)

    def over(function: Callable[..., torch.Tensor]) -> Callable[[dict[str, Any]], torch.Tensor]:
        def call(held: dict[str, Any]) -> torch.Tensor:
            step, n, s = held["padded"]
            rows = max(2**28 // step.shape[1] ** 2, 1)
            parts = [
                torch.stack([function(step[k : k + rows], n[k : k + rows], s[k : k + rows], h) for h in held["h"]], 1)
                for k in range(0, len(step), rows)
            ]
            return torch.cat(parts)

        return call

    return {"ours": ours, "torch": over(loss), "torch.compile padded": over(compiled)}, {}


# ---------------------------------------------------------------- features
def flash_providers(device: torch.device) -> Providers:
    """Of the Gaussian smoother over features, all other factors being 1."""

    def ours(precision: str) -> Callable[[dict[str, Any]], torch.Tensor]:
        def call(held: dict[str, Any]) -> torch.Tensor:
            return operators.flash_smoother(
                held["queries"], held["points"], held["y"], held["windows"], "gaussian", "uniform", 0, precision
            ).value

        return call

    def chunk(q: torch.Tensor, x: torch.Tensor, y: torch.Tensor, h: float) -> torch.Tensor:
        log = (q @ x.T - 0.5 * x.square().sum(1)) / (h * h)
        return torch.softmax(log, 1) @ y

    compiled = _compiled(chunk)

    def chunked(function: Callable[..., torch.Tensor]) -> Callable[[dict[str, Any]], torch.Tensor]:
        return lambda held: torch.cat([function(q, held["x"], held["y"], held["h"]) for q in held["q"].split(1024)])

    def attention(kind: torch.dtype) -> Callable[[dict[str, Any]], torch.Tensor]:
        def call(held: dict[str, Any]) -> torch.Tensor:
            q, x, scale = held["q"].to(kind), held["x"].to(kind), 1.0 / held["h"] ** 2
            bias = (-0.5 * scale * held["x"].square().sum(1)).to(kind).expand(1, 1, len(q), -1)
            value = held["y"].to(kind)[:, None].expand(-1, 8).contiguous()
            out = torch.nn.functional.scaled_dot_product_attention(
                q[None, None], x[None, None], value[None, None], attn_mask=bias, scale=scale
            )
            return out[0, 0, :, 0]

        return call

    made: Providers = (
        {
            "ours bf16x3": ours("bf16x3"),
            "ours bf16": ours("bf16"),
            "ours ieee": ours("ieee"),
            "torch": chunked(chunk),
            "torch.compile": chunked(compiled),
            "SDPA float32": attention(torch.float32),
            "SDPA bfloat16": attention(torch.bfloat16),
        },
        {},
    )
    if device.type == "cuda":
        _optional("FlexAttention", _flex, made)
    _optional("KeOps", _keops, made)
    return made


def _flex() -> dict[str, Callable[[Any], Any]]:
    module = importlib.import_module("torch.nn.attention.flex_attention")
    compiled = _compiled(module.flex_attention)

    def flex(kind: torch.dtype) -> Callable[[dict[str, Any]], torch.Tensor]:
        def call(held: dict[str, Any]) -> torch.Tensor:
            scale = 1.0 / held["h"] ** 2
            bias = -0.5 * scale * held["x"].square().sum(1)
            q, x = held["q"].to(kind), held["x"].to(kind)
            value = held["y"].to(kind)[:, None].expand(-1, 16).contiguous()
            out = compiled(
                q[None, None], x[None, None], value[None, None], scale=scale,
                score_mod=lambda score, batch, head, row, column: score + bias[column],
            )  # fmt: skip
            return out[0, 0, :, 0]

        return call

    return {"FlexAttention float32": flex(torch.float32), "FlexAttention bfloat16": flex(torch.bfloat16)}


def _keops() -> dict[str, Callable[[Any], Any]]:
    lazy = importlib.import_module("pykeops.torch").LazyTensor

    def call(held: dict[str, Any]) -> torch.Tensor:
        q, x = lazy(held["q"][:, None, :]), lazy(held["x"][None, :, :])
        weight = (-((q - x) ** 2).sum(-1) / (2.0 * held["h"] ** 2)).exp()
        return ((weight * lazy(held["y"][None, :, None])).sum(1) / weight.sum(1))[:, 0]

    return {"KeOps": call}


def nearest_providers(k: int) -> Providers:
    """Of the distances to the k nearest points."""

    def ours(held: dict[str, Any]) -> torch.Tensor:
        return nearest.nearest(held["q"], held["x"], k)[0]

    def naive(held: dict[str, Any]) -> torch.Tensor:
        return torch.cat([torch.cdist(q, held["x"]).topk(k, largest=False).values for q in held["q"].split(1024)])

    made: Providers = ({"ours": ours, "torch cdist + topk": naive}, {})

    def faiss_() -> dict[str, Callable[[Any], Any]]:
        faiss = importlib.import_module("faiss")
        importlib.import_module("faiss.contrib.torch_utils")
        resources = faiss.StandardGpuResources() if hasattr(faiss, "StandardGpuResources") else None

        def call(held: dict[str, Any]) -> torch.Tensor:
            if resources is not None and held["q"].is_cuda:
                return faiss.knn_gpu(resources, held["q"], held["x"], k)[0].clip(0.0).sqrt()
            return torch.from_numpy(faiss.knn(held["q"].cpu().numpy(), held["x"].cpu().numpy(), k)[0]).clip(0.0).sqrt()

        return {"FAISS": call}

    def cuml_() -> dict[str, Callable[[Any], Any]]:
        neighbors = importlib.import_module("cuml.neighbors").NearestNeighbors

        def call(held: dict[str, Any]) -> torch.Tensor:
            found = neighbors(n_neighbors=k, algorithm="brute").fit(held["x"]).kneighbors(held["q"])[0]
            return torch.as_tensor(found)

        return {"cuML": call}

    _optional("FAISS", faiss_, made)
    _optional("cuML", cuml_, made)
    return made


def largest_error(got: Any, expected: Any) -> float:
    """Largest difference, relative to the largest value; inf where one is NaN and the other is not."""
    a = torch.as_tensor(got.tolist() if not isinstance(got, torch.Tensor) else got).double().cpu()
    b = torch.as_tensor(expected).double().cpu()
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return math.inf
    return float((a - b).nan_to_num().abs().max() / b.nan_to_num().abs().max())
