"""Kernels: the weight functions K(u) of a lag u = (x_j - x) / bandwidth.

Every kernel is even and scaled to K(0) = 1.  The **bandwidth is the half-width of a compact kernel's support and the
scale of the others**.  To add a kernel, write a subclass here and add an instance to `KERNELS`; no other code has to
change.  A kernel without an edge may state the lag beyond which it is 0 (`Kernel.zero_beyond`).  Several series are then
smoothed together, which is faster for many short ones and gives the same result.

All constants follow from the one-sided moments ``mu_k = int_0^S u^k K(u) du`` and ``nu_k = int_0^S u^k K(u)^2 du``.  A
kernel states its moments in closed form, and the tests check them by numerical integration.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from kernadv import _fused
from kernadv._errors import ArgumentError, ArgumentTypeError, check_choice, check_range
from kernadv._fused import Fused
from kernadv.typing import FloatArray

__all__ = ["KERNELS", "Cosine", "Exponential", "FromFunction", "Gaussian", "Kernel", "OneSided", "Power", "get"]


def __dir__() -> list[str]:
    return __all__


#: Lag that no history reaches: the reach of a kernel without an edge.
UNBOUNDED = 2**62
#: Distances within this share of the bandwidth's are equal to it.
TIE = 1e-9
#: Lags nearer than this to the edge of an open support are at it.
ROUNDING = 1e-12
#: exp(-this) is 0 in float64.
UNDERFLOW = 750.0


class OneSided(NamedTuple):
    """Constants of estimation at the right end of the data, where only the past is known.

    For lambda traces per step, variance sigma^2 of one reward and bandwidth w, the Nadaraya-Watson estimate has bias
    ``nw_bias * w * m'`` and variance ``nw_variance * sigma^2 / (lambda w)``; the local-linear estimate has bias
    ``ll_bias * w^2 * m''`` and variance ``ll_variance * sigma^2 / (lambda w)``.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications, chapter 3.

    Examples
    --------
    >>> from kernadv.kernels import get
    >>> constants = get("uniform").one_sided  # a mean lags half a window behind; a line costs four times its variance
    >>> constants.nw_bias, round(constants.ll_variance / constants.nw_variance, 6)
    (-0.5, 4.0)
    """

    nw_bias: float
    nw_variance: float
    ll_bias: float
    ll_variance: float


class Kernel(ABC):
    """An even weight function with K(0) = 1.

    Attributes
    ----------
    name : str
        The usual name of the kernel, used in arguments and reports.
    support : float
        K(u) = 0 for |u| > support; inf for kernels without an edge.
    closed : bool
        True if K is positive at the edge of its support (uniform): a point at a distance of exactly one bandwidth then
        counts.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.kernels import get
    >>> kernel = get("epanechnikov")  # 1 - u^2
    >>> kernel.name, kernel.support, kernel.edge < 1.0, kernel.zero_beyond
    ('epanechnikov', 1.0, True, 1.0)
    >>> kernel.profile(np.array([-0.5, 0.0, 1.0])), kernel.slope(np.array([0.5])), kernel.formula(0.5, np)
    (array([0.75, 1.  , 0.  ]), array([-1.]), 0.75)
    >>> round(kernel.moment(0), 4), round(kernel.square_moment(0), 4)  # the integrals of K and K^2 over [0, 1]
    (0.6667, 0.5333)
    >>> round(kernel.roughness, 4), round(kernel.second_moment, 4)  # of the density: 3/5 and 1/5
    (0.6, 0.2)
    >>> kernel.reach(20.0)  # the last of whole steps with a weight
    array(19)
    >>> round(kernel.one_sided.nw_bias, 4)  # at the end of the data
    -0.375
    >>> kernel.triton_profile() is not None  # there is code for a GPU
    True
    """

    support: float = 1.0
    closed: bool = False

    @staticmethod
    def from_function(function: Callable[[Any], Any], *, support: float = 1.0, name: str = "custom") -> Kernel:
        """A kernel from a function of the distance; its constants are found by quadrature.

        Parameters
        ----------
        function : callable
            (N,) distances u in [0, support], counted in bandwidths -> (N,) weights K(u) >= 0.  It is divided by its value at
            0, which must be positive.
        support : float
            K(u) = 0 for |u| > support; inf for a kernel without an edge, whose integrals up to that of u^3 K(u) must exist.
        name : str
            Shown in reports.

        Returns
        -------
        Kernel
            For every argument that takes one.  It is computed by numpy in main memory, also for tensors on a GPU.  It has no
            derivative, and is saved by pickle only if the function is.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If the function does not return as many finite numbers >= 0, is 0 at 0, or cannot be integrated.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv.kernels import Kernel
        >>> kernel = Kernel.from_function(lambda u: 1 - u**4, name="quartic edge")
        >>> kernel.profile(np.array([-0.5, 0.0, 2.0])).round(3)
        array([0.938, 1.   , 0.   ])
        >>> round(kernel.second_moment, 6)
        0.238095
        """
        return FromFunction(function, name, support)

    @property
    @abstractmethod
    def name(self) -> str:
        """Name by which `get` finds the kernel."""

    @abstractmethod
    def formula(self, u: Any, xp: Any) -> Any:
        """K at u >= 0 inside the support; `xp` is numpy or torch."""

    @abstractmethod
    def moment(self, k: int) -> float:
        """One-sided moment mu_k, the integral of u^k K(u) over [0, support]."""

    @abstractmethod
    def square_moment(self, k: int) -> float:
        """One-sided moment nu_k of the square, the integral of u^k K(u)^2 over [0, support]."""

    @property
    def edge(self) -> float:
        """Largest |u| that counts: rounding errors neither remove a point from a closed support nor add one to an open one.

        Otherwise a window on a grid such as 0, 0.1, 0.2, ... would contain its outermost points only now and then; with
        weights of 1e-16 these would determine whatever the other points leave undetermined.
        """
        return self.support * (1.0 + TIE if self.closed else 1.0 - ROUNDING)

    @property
    def zero_beyond(self) -> float:
        """Lag beyond which K is exactly 0 in float64; inf if a kernel without an edge does not state one."""
        return max(self.edge, self.support)

    def profile(self, u: Any, xp: Any = np) -> Any:
        """K(u), elementwise, for numpy arrays or, with ``xp=torch``, tensors of any shape."""
        distance = xp.abs(u)
        if math.isinf(self.support):
            return self.formula(distance, xp)
        inside = distance <= self.edge
        return xp.where(inside, self.formula(xp.where(inside, distance, xp.zeros_like(distance)), xp), 0.0)

    def slope(self, u: FloatArray) -> FloatArray:
        """K'(u), elementwise; 0 at u = 0 where K has a corner, and at the edge of its support.

        Raises
        ------
        ArgumentError
            If the kernel has no derivative that describes how an estimate changes.
        """
        raise ArgumentError(f"the {self.name} kernel has no derivative; use a smooth kernel, such as epanechnikov")

    def triton_profile(self) -> Fused | None:
        """The kernel as code for a GPU; None: it is not fused, and torch computes it on the GPU."""
        return None

    def reach(self, width: Any, xp: Any = np) -> Any:
        """Largest whole number of steps with positive weight at bandwidth `width` (any shape); `xp` is numpy or torch.

        Membership in the window is decided on integers, because ``lag / width`` in floating point may fall on either side
        of the edge; a product such as 0.29 * 100 that is within `TIE` of a whole number counts as that number.
        """
        edge = xp.asarray(width, dtype=xp.float64) * self.support
        finite = abs(edge) < UNBOUNDED  # nor NaN
        edge = xp.where(finite, edge, 0.0)
        whole = edge.round()
        exact = abs(edge - whole) <= TIE * xp.where(whole > 1.0, whole, 1.0)
        inner = whole if self.closed else whole - 1.0
        return xp.asarray(xp.where(finite, xp.where(exact, inner, xp.floor(edge)), UNBOUNDED), dtype=xp.int64)

    @property
    def roughness(self) -> float:
        """R(K), the integral of the squared density K / int K over the whole line."""
        return self.square_moment(0) / (2.0 * self.moment(0) ** 2)

    @property
    def second_moment(self) -> float:
        """Variance of the density K / int K."""
        return self.moment(2) / self.moment(0)

    @property
    def one_sided(self) -> OneSided:
        """Boundary constants of the Nadaraya-Watson and local-linear estimates."""
        m0, m1, m2, m3 = (self.moment(k) for k in range(4))
        v0, v1, v2 = (self.square_moment(k) for k in range(3))
        det = m0 * m2 - m1 * m1
        return OneSided(
            nw_bias=-m1 / m0,
            nw_variance=v0 / m0**2,
            ll_bias=0.5 * (m2 * m2 - m1 * m3) / det,
            ll_variance=(m2 * m2 * v0 - 2.0 * m1 * m2 * v1 + m1 * m1 * v2) / det**2,
        )


@dataclass(frozen=True)
class Power(Kernel):
    """``K(u) = (1 - |u|^power)^exponent`` on [-1, 1]: uniform, triangular, Epanechnikov, bi-, triweight, tricube.

    Parameters
    ----------
    label : str
        The kernel's name.
    power : int
        1 or more.
    exponent : int
        0 or more.

    Examples
    --------
    >>> from kernadv.kernels import KERNELS, Power
    >>> tricube = Power("tricube", power=3, exponent=3)
    >>> tricube == KERNELS["tricube"], tricube.closed, tricube.degree
    (True, False, 9)
    >>> tricube.coefficients  # 1 - 3 u^3 + 3 u^6 - u^9
    array([ 1.,  0.,  0., -3.,  0.,  0.,  3.,  0.,  0., -1.])
    """

    label: str
    power: int
    exponent: int

    @property
    def name(self) -> str:
        """Name by which `get` finds the kernel."""
        return self.label

    @property
    def closed(self) -> bool:  # type: ignore[override]  # read-only here: it follows from the exponent
        """True for the uniform kernel, the only one that is positive at its edge."""
        return self.exponent == 0

    @property
    def degree(self) -> int:
        """Degree of K as a polynomial of |u|."""
        return self.power * self.exponent

    @property
    def coefficients(self) -> FloatArray:
        """``K(u) = sum_r a_r |u|^r``.  # (degree + 1,)"""
        factor = np.zeros(self.power + 1)
        factor[0], factor[-1] = 1.0, -1.0
        return np.asarray(np.polynomial.polynomial.polypow(factor, self.exponent), np.float64)

    def formula(self, u: Any, xp: Any) -> Any:
        """K at 0 <= u <= 1."""
        return (1.0 - u**self.power) ** self.exponent

    def slope(self, u: FloatArray) -> FloatArray:
        """``-power exponent |u|^(power-1) (1 - |u|^power)^(exponent-1) sign(u)``; the uniform kernel has none."""
        if self.exponent == 0:
            return super().slope(u)
        distance = np.minimum(np.abs(u), 1.0)
        inside = distance < 1.0
        factor = -self.power * self.exponent * distance ** (self.power - 1) * np.sign(u)
        return np.asarray(np.where(inside, factor * (1.0 - distance**self.power) ** (self.exponent - 1), 0.0))

    def triton_profile(self) -> Fused | None:
        """The kernel as code for a GPU."""
        return Fused(_fused.power, None, self.power, self.exponent)

    def moment(self, k: int) -> float:
        """mu_k = Beta((k + 1) / power, exponent + 1) / power."""
        return self._beta(k, self.exponent)

    def square_moment(self, k: int) -> float:
        """nu_k: the square is a kernel of the same family with twice the exponent."""
        return self._beta(k, 2 * self.exponent)

    def _beta(self, k: int, exponent: int) -> float:
        a, b = (k + 1) / self.power, exponent + 1
        return math.gamma(a) * math.gamma(b) / math.gamma(a + b) / self.power


@dataclass(frozen=True)
class Exponential(Kernel):
    """``K(u) = rho^|u|``, 0 < rho < 1: exponential smoothing, with weight rho at a distance of one bandwidth.

    Parameters
    ----------
    rho : float
        Default: 1 / e.

    Raises
    ------
    ArgumentError
        If rho is not strictly between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.kernels import Exponential
    >>> Exponential(0.5).profile(np.arange(4.0))
    array([1.   , 0.5  , 0.25 , 0.125])
    """

    rho: float = math.exp(-1.0)
    support = math.inf

    def __post_init__(self) -> None:
        if not isinstance(self.rho, (int, float, np.floating)) or not 0.0 < self.rho < 1.0:
            raise ArgumentError(
                f"rho must lie strictly between 0 and 1, got {self.rho!r}; it is the weight at one bandwidth"
            )
        object.__setattr__(self, "rho", float(self.rho))

    @property
    def name(self) -> str:
        """Name by which `get` finds the kernel."""
        return "exponential"

    @property
    def zero_beyond(self) -> float:
        """Where ``rho^|u|`` underflows."""
        return UNDERFLOW / -math.log(self.rho)

    def formula(self, u: Any, xp: Any) -> Any:
        """K at u >= 0."""
        return xp.exp(math.log(self.rho) * u)

    def slope(self, u: FloatArray) -> FloatArray:
        """``log(rho) rho^|u| sign(u)``."""
        return np.asarray(math.log(self.rho) * np.sign(u) * self.formula(np.abs(u), np))

    def triton_profile(self) -> Fused | None:
        """The kernel as code for a GPU."""
        return Fused(_fused.exponential, _fused.exponential_log2, math.log2(self.rho), 0)

    def moment(self, k: int) -> float:
        """mu_k = k! / c^(k+1) with c = -log rho."""
        return math.factorial(k) / (-math.log(self.rho)) ** (k + 1)

    def square_moment(self, k: int) -> float:
        """nu_k = k! / (2c)^(k+1) with c = -log rho."""
        return math.factorial(k) / (-2.0 * math.log(self.rho)) ** (k + 1)


@dataclass(frozen=True)
class Gaussian(Kernel):
    """``K(u) = exp(-u^2 / 2)``: the bandwidth is the standard deviation.

    Examples
    --------
    >>> from kernadv.kernels import Gaussian
    >>> Gaussian().second_moment, round(Gaussian().roughness, 4)  # 1 and 1 / (2 sqrt(pi))
    (1.0, 0.2821)
    """

    support = math.inf

    @property
    def name(self) -> str:
        """Name by which `get` finds the kernel."""
        return "gaussian"

    @property
    def zero_beyond(self) -> float:
        """Where ``exp(-u^2 / 2)`` underflows."""
        return math.sqrt(2.0 * UNDERFLOW)

    def formula(self, u: Any, xp: Any) -> Any:
        """K at u >= 0."""
        return xp.exp(-0.5 * u * u)

    def slope(self, u: FloatArray) -> FloatArray:
        """``-u exp(-u^2 / 2)``."""
        return np.asarray(-u * self.formula(u, np))

    def triton_profile(self) -> Fused | None:
        """The kernel as code for a GPU."""
        return Fused(_fused.gaussian, _fused.gaussian_log2, -0.5 * math.log2(math.e), 0)

    def moment(self, k: int) -> float:
        """mu_k = 2^((k-1)/2) Gamma((k+1)/2)."""
        return float(2.0 ** ((k - 1) / 2) * math.gamma((k + 1) / 2))

    def square_moment(self, k: int) -> float:
        """nu_k = Gamma((k+1)/2) / 2."""
        return math.gamma((k + 1) / 2) / 2.0


@dataclass(frozen=True)
class Cosine(Kernel):
    """``K(u) = cos(pi u / 2)`` on [-1, 1].

    Examples
    --------
    >>> from kernadv.kernels import Cosine
    >>> round(Cosine().moment(0), 4)  # 2 / pi
    0.6366
    """

    @property
    def name(self) -> str:
        """Name by which `get` finds the kernel."""
        return "cosine"

    def formula(self, u: Any, xp: Any) -> Any:
        """K at 0 <= u <= 1."""
        return xp.cos(0.5 * math.pi * u)

    def slope(self, u: FloatArray) -> FloatArray:
        """``-(pi / 2) sin(pi u / 2)``."""
        return np.asarray(np.where(np.abs(u) < 1.0, -0.5 * math.pi * np.sin(0.5 * math.pi * u), 0.0))

    def triton_profile(self) -> Fused | None:
        """The kernel as code for a GPU."""
        return Fused(_fused.cosine, None, 0.5 * math.pi, 0)

    def moment(self, k: int) -> float:
        """mu_k, by parts."""
        return _cosine_moment(k, 0.5 * math.pi)

    def square_moment(self, k: int) -> float:
        """nu_k, from cos^2(a) = (1 + cos 2a) / 2."""
        return 0.5 * (1.0 / (k + 1) + _cosine_moment(k, math.pi))


def _cosine_moment(k: int, a: float) -> float:
    """Integral of u^k cos(a u) over [0, 1], integrated by parts twice."""
    if k == 0:
        return math.sin(a) / a
    if k == 1:
        return math.sin(a) / a + (math.cos(a) - 1.0) / a**2
    return math.sin(a) / a + k * math.cos(a) / a**2 - k * (k - 1) / a**2 * _cosine_moment(k - 2, a)


@dataclass(frozen=True)
class FromFunction(Kernel):
    """The kernel of `Kernel.from_function`.

    Examples
    --------
    >>> from kernadv.kernels import Kernel
    >>> steep = Kernel.from_function(lambda u: 2 ** -(u**2), support=float("inf"), name="steep")
    >>> type(steep).__name__, steep.name, float(steep.profile(1.0))
    ('FromFunction', 'steep', 0.5)
    """

    function: Callable[[Any], Any]
    label: str
    support: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ArgumentTypeError(f"function must map distances to weights, got {self.function!r:.80}")
        if not isinstance(self.label, str):
            raise ArgumentTypeError(f"name must be a str, got {self.label!r:.80}")
        if self.support != math.inf:
            object.__setattr__(self, "support", check_range(self.support, "support", 1e-6, 1e6))
        u = np.linspace(0.0, min(self.support, 30.0), 301)
        try:
            found = np.asarray(self.function(u), np.float64)
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(f"function must take an array of distances and return numbers: {error}") from None
        wrong = f"an array of shape {found.shape}" if found.shape != u.shape else ""
        if not wrong and not (np.isfinite(found) & (found >= 0.0)).all():
            bad = u[~(np.isfinite(found) & (found >= 0.0))][0]
            wrong = f"{found[u == bad][0]:g} at {bad:g}"
        if wrong or found[0] == 0.0:
            raise ArgumentError(
                f"function must return a finite weight >= 0 for each distance, and more than 0 at 0; for {len(u)} distances "
                f"from 0 to {u[-1]:g} it returned {wrong or '0 at 0'}"
            )
        object.__setattr__(self, "closed", bool(math.isfinite(self.support) and found[-1] > 1e-9 * found[0]))
        for k in range(4):
            self.moment(k)

    @property
    def name(self) -> str:
        """As it was given."""
        return self.label

    def formula(self, u: Any, xp: Any) -> Any:
        """The function over its value at 0."""
        if xp is np:
            return np.asarray(self.function(u), np.float64) / float(np.asarray(self.function(np.zeros(1)))[0])
        return xp.as_tensor(self.formula(u.cpu().numpy(), np), dtype=u.dtype, device=u.device)

    def moment(self, k: int) -> float:
        """mu_k by quadrature."""
        return _integral(self, k, 1)

    def square_moment(self, k: int) -> float:
        """nu_k by quadrature."""
        return _integral(self, k, 2)


@cache
def _integral(kernel: FromFunction, k: int, power: int) -> float:
    """Integral of ``u^k K(u)^power`` over [0, support]."""
    from scipy.integrate import quad

    weight = lambda u: u**k * float(kernel.formula(np.array([u]), np)[0]) ** power
    found, error = quad(weight, 0.0, kernel.support, limit=400, full_output=1)[:2]
    if not math.isfinite(found) or error > 1e-6 * max(abs(found), 1e-12):
        raise ArgumentError(
            f"the integral of u^{k} K(u){'^2' if power == 2 else ''} over [0, {kernel.support:g}] was not found: {found:g} "
            f"with an error of {error:.1g}; the kernel must fall faster, or have a smaller support"
        )
    return float(found)


#: Every kernel by name.
KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Power("triangular", 1, 1),
        Exponential(),
        Power("epanechnikov", 2, 1),
        Gaussian(),
        Power("uniform", 1, 0),
        Power("biweight", 2, 2),
        Power("triweight", 2, 3),
        Power("tricube", 3, 3),
        Cosine(),
    )
}


def get(kernel: str | Kernel) -> Kernel:
    """Return the kernel with that name; a `Kernel` is returned as it is.

    Raises
    ------
    ArgumentError
        If the name is unknown; the message lists the known ones.

    Examples
    --------
    >>> from kernadv.kernels import get
    >>> get("tricube")
    Power(label='tricube', power=3, exponent=3)
    """
    if isinstance(kernel, Kernel):
        return kernel
    if not isinstance(kernel, str):
        raise ArgumentTypeError(
            f"kernel must be a name or a Kernel, got {kernel!r}; names: {', '.join(sorted(KERNELS))}"
        )
    return KERNELS[check_choice(kernel, "kernel", KERNELS)]
