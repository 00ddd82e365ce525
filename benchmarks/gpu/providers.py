"""Who computes the cases: ours, plain torch, its compiler, attention, JAX, and libraries where they are installed.

All providers of a case return the same numbers; `run.py` compares them before it times them.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from functools import partial
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
    except Exception as error:  # not installed, or whatever a library does that does not fit this machine
        made[1][name] = next(iter(str(error).splitlines()), type(error).__name__)


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


def ragged_providers(kernel: str, device: torch.device) -> Providers:
    """Of the moments."""
    smooth = get(kernel)

    def ours(held: dict[str, Any]) -> torch.Tensor:
        return ops.trusted_moments(held["sample"], held["windows"], smooth, "float32")

    def over(function: Callable[..., torch.Tensor]) -> Callable[[dict[str, Any]], torch.Tensor]:
        return lambda held: function(*held["padded"], held["at"], held["h"])

    formulas = partial(padded_moments, kernel=kernel, xp=torch)
    compiled = over(_compiled(formulas))
    made: Providers = ({"ours": ours, "torch": over(formulas), "torch.compile padded": compiled}, {})
    _optional("jax jit padded", lambda: _jax_ragged(kernel, device), made)
    return made


def _jax_ragged(kernel: str, device: torch.device) -> dict[str, Callable[[Any], Any]]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = importlib.import_module("jax")

    jitted = jax.jit(partial(padded_moments, kernel=kernel, xp=jax.numpy))
    held_arrays: dict[int, Any] = {}

    def call(held: dict[str, Any]) -> Any:
        if device.type == "cuda" and jax.default_backend() == "cpu":
            raise RuntimeError("this JAX sees no GPU")
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


# ---------------------------------------------------------------- any queries
def local_providers() -> Providers:
    """Of the sums of Epanechnikov weights and responses, at several bandwidths; plain torch by blocks of queries."""

    def ours(held: dict[str, Any]) -> torch.Tensor:
        return operators.local_moments(
            held["x"], held["channels"], held["at"], held["inverse"], "epanechnikov", held["which"]
        )

    def sums(x: torch.Tensor, channels: torch.Tensor, at: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        weight = torch.ones((at.shape[1], x.shape[1]), dtype=x.dtype, device=x.device)
        for d in range(len(x)):
            weight = weight * (1.0 - ((x[d] - at[d, :, None]) * inverse[d]).square()).clip(0.0)
        return channels @ weight.T

    compiled = _compiled(sums)

    def over(function: Callable[..., torch.Tensor]) -> Callable[[dict[str, Any]], torch.Tensor]:
        def call(held: dict[str, Any]) -> torch.Tensor:
            x, channels, at = held["x"], held["channels"], held["at"]
            rows = max(2**28 // x.shape[1], 1)
            parts = [
                torch.stack([function(x, channels, at[:, k : k + rows], h) for h in held["inverse"].to(x.dtype)], 1)
                for k in range(0, at.shape[1], rows)
            ]
            return torch.cat(parts, 2)

        return call

    return {"ours": ours, "torch": over(sums), "torch.compile": over(compiled)}, {}


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

    def tf32(held: dict[str, Any]) -> torch.Tensor:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            return chunked(chunk)(held)
        finally:
            torch.set_float32_matmul_precision(before)

    def attention(kind: torch.dtype) -> Callable[[dict[str, Any]], torch.Tensor]:
        def call(held: dict[str, Any]) -> torch.Tensor:
            q, x, value, bias = held["attention"][kind]
            out = torch.nn.functional.scaled_dot_product_attention(
                q[None, None],
                x[None, None],
                value[None, None],
                attn_mask=bias.expand(1, 1, len(q), -1),
                scale=held["h"] ** -2,
            )
            return out[0, 0, :, 0]

        return call

    made: Providers = (
        {
            "ours bf16x3": ours("bf16x3"),
            "ours bf16": ours("bf16"),
            "ours ieee": ours("ieee"),
            "torch": chunked(chunk),
            "torch TF32": tf32,
            "torch.compile": chunked(compiled),
            "SDPA float32": attention(torch.float32),
            "SDPA bfloat16": attention(torch.bfloat16),
        },
        {},
    )
    if device.type == "cuda":
        _optional("FlexAttention", flex_providers, made)
    _optional("KeOps", _keops, made)
    return made


def flex_providers() -> dict[str, Callable[[Any], Any]]:
    """FlexAttention; the bias is an argument of what is compiled, so that another set of inputs is no other function."""
    flex_attention = importlib.import_module("torch.nn.attention.flex_attention").flex_attention

    def attend(q: Any, x: Any, value: Any, bias: Any, scale: float) -> Any:
        def biased(score: Any, batch: Any, head: Any, row: Any, column: Any) -> Any:
            return score + bias[column]

        return flex_attention(q[None, None], x[None, None], value[None, None], scale=scale, score_mod=biased)

    def flex(kind: torch.dtype) -> Callable[[dict[str, Any]], torch.Tensor]:
        compiled = _compiled(attend)
        return lambda held: compiled(*held["attention"][kind], held["h"] ** -2)[0, 0, :, 0]

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


def largest_error(got: Any, expected: Any, rows: bool = False) -> float:
    """Largest difference, relative to the largest value (of its row); inf where one is NaN and the other is not."""
    a, b = (torch.as_tensor(part if isinstance(part, torch.Tensor) else part.tolist()).double().cpu()
            for part in (got, expected))  # fmt: skip
    if rows and a.shape == b.shape:
        return max(largest_error(one, other) for one, other in zip(a, b, strict=True))
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return math.inf
    return float((a - b).nan_to_num().abs().max() / b.nan_to_num().abs().max())
