"""Weighted moments of ragged histories, in one of several backends that agree.

Asked for by name, a backend that cannot run raises with its reason; ``"auto"`` takes the first that can: on the CPU numba,
for tensors on a GPU the fused Triton kernels.  The environment variable ``KERNADV_BACKEND`` overrides ``"auto"``.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from kernadv._errors import BackendError, check_choice
from kernadv.clock import Bandwidth
from kernadv.kernels import Kernel
from kernadv.typing import FloatArray, IntArray

__all__ = ["BACKENDS", "Backend", "Histories", "Moments", "Selection", "Windows", "on_device", "select"]


def __dir__() -> list[str]:
    return __all__


#: Every backend by name, in the order in which "auto" tries them for arrays on the CPU.
BACKENDS = ("numba", "numpy", "torch", "triton")
#: The backends of tensors on a GPU, in that order.
ON_GPU = ("triton", "torch")


class Histories(NamedTuple):
    """Ragged histories: query q owns the entries ``start[q] : start[q] + length[q]``.

    An entry is one visit: the step and the count, sum and sum of squares of its rewards.  Within a query the steps
    ascend.  Queries may share entries.

    Attributes
    ----------
    start, length : (Q,) int64
    step : (N,) int64
    n, s, ss : (N,) float64

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.moments import Histories
    >>> one = np.ones(3)
    >>> past = Histories(np.array([0]), np.array([3]), np.array([1, 5, 8]), one, one, one)  # one query, three visits
    >>> past.visit_lag(np.array([10]), k=2)  # its second latest visit was at step 5
    array([5.])
    """

    start: IntArray
    length: IntArray
    step: IntArray
    n: FloatArray
    s: FloatArray
    ss: FloatArray

    def visit_lag(self, at: IntArray, k: int) -> FloatArray:
        """Lag of the k-th latest visit at or before step `at`; one step beyond the first where there are fewer. (Q,)

        Queries without any visit get 1.
        """
        seen = self.length.copy()
        while True:  # entries later than the query exist only where late rows are allowed
            late = seen > 0
            late[late] = self.step[(self.start + seen - 1)[late]] > at[late]
            if not late.any():
                break
            seen -= late
        position = np.maximum(seen - k, 0)
        index = np.where(seen > 0, self.start + position, 0)
        lag = at - self.step[index] if len(self.step) else np.zeros(len(at), np.int64)
        return np.where(seen > 0, lag + (seen < k), 1).astype(np.float64)


class Windows(NamedTuple):
    """Windows of H bandwidths around Q queries.

    Attributes
    ----------
    at : (Q,) int64
        Step of the query; later entries never count.
    width : (Q, H) float64
        Bandwidth in steps.
    reach : (Q, H) int64
        Largest lag inside the support, decided on integers.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.clock import Relative, Steps
    >>> from kernadv.kernels import get
    >>> from kernadv.moments import Histories, Windows
    >>> one = np.ones(3)
    >>> past = Histories(np.array([0]), np.array([3]), np.array([1, 5, 8]), one, one, one)
    >>> windows = Windows.of([Steps(20), Relative(0.5)], get("triangular"), past, np.array([10]))
    >>> windows.width, windows.reach  # a lag of a whole bandwidth has no weight
    (array([[20.,  5.]]), array([[19,  4]]))
    """

    at: IntArray
    width: FloatArray
    reach: IntArray

    @staticmethod
    def of(bandwidths: list[Bandwidth], kernel: Kernel, histories: Histories, at: IntArray) -> Windows:
        """Windows of a list of bandwidths at the steps `at`."""
        width = np.empty((len(at), len(bandwidths)))
        for column, bandwidth in enumerate(bandwidths):
            width[:, column] = bandwidth.half_width(at, lambda k: histories.visit_lag(at, k))
        return Windows(at, width, kernel.reach(width))


class Moments(NamedTuple):
    """Weighted moments of histories around queries; d = x_j - x is minus the lag.

    ``s_k = sum w d^k``, ``t_k = sum w d^k z``, ``q_k = sum w^2 d^k``, ``r0 = sum w z^2``, each (Q, H), the sums running
    over the traces.  They hold the value and the squared norm of the hat vector of the Nadaraya-Watson and the
    local-linear estimate.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.clock import Steps
    >>> from kernadv.kernels import get
    >>> from kernadv.moments import Histories, Windows, select
    >>> n, s = np.ones(2), np.array([0.0, 1.0])  # visits at steps 6 and 8, of one trace each
    >>> past = Histories(np.array([0]), np.array([2]), np.array([6, 8]), n, s, s)
    >>> windows = Windows.of([Steps(4)], get("uniform"), past, np.array([9]))
    >>> moments = select().backend.ragged_moments(past, windows, get("uniform"))
    >>> moments.s0.item(), moments.s1.item(), moments.t0.item()  # sums of 1, of minus the lags, and of the rewards
    (2.0, -4.0, 1.0)
    >>> moments.add_at_query(3, 2.0, 2.0).t0.item()  # with three traces of the group itself, two of them right
    3.0
    """

    s0: Any
    s1: Any
    s2: Any
    t0: Any
    t1: Any
    q0: Any
    q1: Any
    q2: Any
    r0: Any

    def add_at_query(self, n: Any, s: Any, ss: Any) -> Moments:
        """Moments after n more traces at d = 0, where K(0) = 1: the other traces of the query's own group.

        Adding the others keeps the leave-one-out sums exact; subtracting the own trace would not.
        """
        return self._replace(s0=self.s0 + n, t0=self.t0 + s, q0=self.q0 + n, r0=self.r0 + ss)


class Backend(Protocol):
    """A module that computes the moments.

    Examples
    --------
    >>> from kernadv.moments import select
    >>> select("numpy").backend.unavailable() is None  # numpy runs everywhere
    True
    """

    def unavailable(self) -> str | None:
        """Why the backend cannot run here, or None."""

    def ragged_moments(self, histories: Histories, windows: Windows, kernel: Kernel, dtype: str = "float64") -> Moments:
        """Moments of every query and bandwidth, in the asked dtype ("float64" or "float32")."""


class Selection(NamedTuple):
    """A backend, its name and why it was taken.

    Examples
    --------
    >>> from kernadv.moments import select
    >>> chosen = select("numpy")
    >>> chosen.name, chosen.reason
    ('numpy', 'asked for by name')
    """

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

    Examples
    --------
    >>> from kernadv.moments import select
    >>> select("numpy").reason
    'asked for by name'
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

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.moments import on_device
    >>> on_device("auto", np.array([1.0, 0.0]))
    False
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
