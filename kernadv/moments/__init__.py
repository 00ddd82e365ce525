"""Weighted moments of ragged histories, in one of several backends that agree.

Asked for by name, a backend that cannot run raises with its reason; ``"auto"`` takes the first that can: on the CPU numba,
for tensors on a GPU the fused Triton kernels.  The environment variable ``KERNADV_BACKEND`` overrides ``"auto"``.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, NamedTuple, cast

from kernadv._errors import BackendError, check_choice
from kernadv.moments._base import Backend, Histories, Moments, Windows

__all__ = ["BACKENDS", "Backend", "Histories", "Moments", "Selection", "Windows", "on_device", "select"]

#: Every backend by name, in the order in which "auto" tries them for arrays on the CPU.
BACKENDS = ("numba", "numpy", "torch", "triton")
#: The backends of tensors on a GPU, in that order.
ON_GPU = ("triton", "torch")


class Selection(NamedTuple):
    """A backend, its name and why it was taken."""

    name: str
    backend: Backend
    reason: str

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """For pickles and copies: by its name, because modules cannot be pickled."""
        return select, (self.name,)


def select(name: str = "auto", like: Any = None) -> Selection:
    """Choose the backend that computes the moments.

    Parameters
    ----------
    name : {"auto", "numba", "numpy", "torch", "triton"}
    like : array or tensor, optional
        One of the arrays that it will get: those on a GPU need a backend that runs there.

    Raises
    ------
    ArgumentError
        If the name is unknown.
    BackendError
        If a backend asked for by name cannot run here.
    """
    check_choice(name, "backend", ("auto", *BACKENDS))
    wanted, because = name, "asked for by name"
    if name == "auto" and os.environ.get("KERNADV_BACKEND"):
        wanted, because = os.environ["KERNADV_BACKEND"], "set by KERNADV_BACKEND"
        check_choice(wanted, "backend (KERNADV_BACKEND)", ("auto", *BACKENDS))
    if wanted != "auto":
        reason = _unavailable(wanted) or _misplaced(wanted, like)
        if reason is not None:
            raise BackendError(f"backend {wanted!r} ({because}) cannot run: {reason}")
        return Selection(wanted, _module(wanted), because)
    passed: list[str] = []
    for candidate in ON_GPU if _on_gpu(like) else BACKENDS:
        reason = _unavailable(candidate)
        if reason is None:
            because = "; ".join(["first that can run", *passed])
            return Selection(candidate, _module(candidate), because)
        passed.append(f"{candidate}: {reason}")
    raise BackendError(f"no backend can run: {'; '.join(passed)}")


def on_device(name: str, rewards: Any) -> bool:
    """Whether an estimator that was given the backend `name` works where the rewards are, and not in main memory.

    By itself it does for tensors on a GPU; "torch" does for all tensors.
    """
    wanted = os.environ.get("KERNADV_BACKEND") or name if name == "auto" else name
    return hasattr(rewards, "is_cuda") if wanted == "torch" else wanted in ("auto", *ON_GPU) and _on_gpu(rewards)


def _module(name: str) -> Backend:
    return cast(Backend, importlib.import_module(f"kernadv.moments.{name}_"))


def _on_gpu(like: Any) -> bool:
    return bool(getattr(like, "is_cuda", False))


def _misplaced(name: str, like: Any) -> str | None:
    """Why the backend cannot work where the tensor is, or None."""
    if _on_gpu(like) and name not in ON_GPU:
        return f"it runs on the CPU and the tensors are on {like.device}; take 'triton' or 'torch'"
    if name == "triton" and hasattr(like, "is_cuda") and not like.is_cuda:
        return f"it runs on a GPU and the tensors are on {like.device}; move them with .cuda() or take 'torch'"
    return None


def _unavailable(name: str) -> str | None:
    try:
        return _module(name).unavailable()
    except ImportError as error:
        return str(error)
