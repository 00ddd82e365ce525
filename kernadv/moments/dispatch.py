"""Whether the fused kernels can run here, and operators that choose between them and torch."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from typing import Any

#: Oldest version of Triton that the kernels are tested with.
OLDEST = (3, 6)


def unavailable() -> str | None:
    """Why Triton cannot run here, or None."""
    for module in ("torch", "triton"):
        if importlib.util.find_spec(module) is None:
            return f'{module} is not installed: pip install "kernadv[torch]"'
    found = metadata.version("triton")
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        return f"triton {found} is older than {OLDEST[0]}.{OLDEST[1]}: pip install --upgrade triton"
    import torch

    return None if torch.cuda.is_available() else "torch sees no GPU on this machine"


@cache
def triton_module(name: str) -> Any:
    """The module of a fused kernel, e.g. "kernadv.moments.triton_ragged"; None, with a warning, where Triton cannot run."""
    reason = unavailable()
    if reason is not None:
        kernel = name.rpartition("triton_")[2]
        warnings.warn(f"torch computes the {kernel} kernel on the GPU, more slowly: {reason}", stacklevel=2)
        return None
    return importlib.import_module(name)


def fused_operator(
    name: str, reference: Callable[..., Any], module: str, *, like: Callable[..., Any], mutates: Sequence[str] = ()
) -> Any:
    """A torch operator: `reference`, but on a GPU the function called `name` of a module of fused kernels, if it can run.

    Parameters
    ----------
    name : str
    reference : callable
        Takes tensors, numbers and text.
    module : str
        As in `triton_module`.
    like : callable
        An empty tensor like the result, for the compiler.
    mutates : sequence of str
        Arguments that change in place.
    """
    import torch

    def on_gpu(*arguments: Any) -> Any:
        fused = triton_module(module)
        return (reference if fused is None else getattr(fused, name))(*arguments)

    operator = torch.library.custom_op(f"kernadv::{name}", reference, mutates_args=mutates)
    operator.register_kernel("cuda")(on_gpu)
    operator.register_fake(like)
    return operator
