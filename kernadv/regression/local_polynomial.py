"""Local polynomial regressors: Nadaraya-Watson, local linear and beyond."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._errors import ArgumentTypeError, check_choice
from kernadv._typing import FloatArray
from kernadv.regression._bandwidths import choose
from kernadv.regression._base import KernelRegressor
from kernadv.regression.bandwidth import get
from kernadv.regression.series import Points
from kernadv.regression.smoother import LinearSmoother

SIDES = ("both", "past")


class LocalPolynomial(KernelRegressor):
    """Local polynomial regression: at each query, weighted least squares of a polynomial in ``x - query``.

    Parameters
    ----------
    degree : int
        Total degree of the polynomial, 0 (Nadaraya-Watson) to 3.
    bandwidth : float, sequence of d floats, str or Selector
        **Half-width of a compact kernel's support, scale of the others**: a number for all columns, one a column (for
        categorical columns lambda), or how to select it in `fit`, see `kernadv.regression.bandwidth`.  With categorical
        columns "leave_one_out", "gcv" and "aicc" select all of them together.
    kernel : str or Kernel
        See `kernadv.kernels`.
    radial : bool
        ``K(|u|)`` instead of the product of ``K(u_i)`` over the columns, ``u = (x - query) / bandwidth``.
    side : {"both", "past"}
        "past" is one-sided: only points at or before the query in the first continuous column.
    categorical : dict, optional
        Categorical columns (index or name) and their kernel: "ordered" (Wang-van Ryzin), "unordered" (Aitchison-Aitken),
        or "wang_van_ryzin", "li_racine_ordered", "aitchison_aitken", "li_racine".  Levels that are text get their order
        from a data frame (ordered categories of pandas, polars' Enum) or here: ``{"size": ("ordered", ["S", "M", "L"])}``.

    Attributes
    ----------
    bandwidth_ : (d,) float64
        One a column of X; (n, 1) from a selector of local bandwidths.
    selection_ : Selection or None
        How the bandwidth was selected.
    groups_ : array or None
        Groups seen in fitting.
    categories_ : list of Category
    n_features_in_ : int
    feature_names_in_ : array of str
        Only if X had names.

    Notes
    -----
    Where columns are linear combinations of others, or the coefficients outnumber the points, no polynomial is determined,
    but its value may be: it is estimated at queries where all least squares fits agree, and NaN elsewhere.

    References
    ----------
    Fan and Gijbels (1996), Local Polynomial Modelling and Its Applications.
    Racine and Li (2004), Nonparametric estimation of regression functions with both categorical and continuous data,
    Journal of Econometrics 119.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv.regression import LocalPolynomial
    >>> x = np.linspace(0, 1, 21)[:, None]
    >>> fit = LocalPolynomial(degree=2, bandwidth=0.3).fit(x, x[:, 0] ** 2)
    >>> float(fit.predict([[0.5]])[0].round(10)), float(fit.derivative([[0.5]])[0].round(10))
    (0.25, 1.0)
    """

    def __init__(
        self,
        degree: int = 1,
        *,
        bandwidth: Any = "leave_one_out",
        kernel: Any = "epanechnikov",
        radial: bool = False,
        side: str = "both",
        categorical: dict[Any, Any] | None = None,
    ) -> None:
        self.degree = degree
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.radial = radial
        self.side = side
        self.categorical = categorical

    @property
    def _radial(self) -> bool:
        if not isinstance(self.radial, (bool, np.bool_)):
            raise ArgumentTypeError(f"radial must be True or False, got {self.radial!r}")
        return bool(self.radial)

    @property
    def _past(self) -> bool:
        return check_choice(self.side, "side", SIDES) == "past"

    def _with_bandwidth(self, smoother: LinearSmoother) -> LinearSmoother:
        smoother, self.selection_ = choose(self.bandwidth, smoother)
        self._selector = self.bandwidth
        self.bandwidth_ = smoother.bandwidth
        for category, smoothing in zip(self.categories_, smoother.smoothing.tolist(), strict=True):
            self.bandwidth_ = np.insert(self.bandwidth_, category.column, smoothing)
        return smoother

    def _bandwidth_at(self, at: Points) -> FloatArray | None:
        local = self._smoother.bandwidth.ndim == 2
        return get(self._selector).select(self._smoother, at.x).bandwidth if local else None

    def _window(self) -> str:
        if self.bandwidth_.ndim == 2:
            h = f"{self.bandwidth_.min():.4g} to {self.bandwidth_.max():.4g}"
        else:
            h = ", ".join(f"{value:.4g}" for value in self.bandwidth_)
        chosen = "" if self.selection_ is None else f" selected by {self.selection_.criterion}"
        return f"bandwidth {h}{chosen}"


class _FixedDegree(LocalPolynomial):
    """A local polynomial whose name says its degree."""

    def __init__(
        self,
        bandwidth: Any = "leave_one_out",
        *,
        kernel: Any = "epanechnikov",
        radial: bool = False,
        side: str = "both",
        categorical: dict[Any, Any] | None = None,
    ) -> None:
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.radial = radial
        self.side = side
        self.categorical = categorical


class NadarayaWatson(_FixedDegree):
    """Nadaraya-Watson regression: the locally weighted mean ``sum w_j y_j / sum w_j``, ``w_j = K((x_j - x) / h)``.

    Parameters
    ----------
    bandwidth, kernel, radial, side, categorical
        As in `LocalPolynomial`.

    References
    ----------
    Nadaraya (1964), On estimating regression; Watson (1964), Smooth regression analysis.

    Examples
    --------
    >>> from kernadv.regression import NadarayaWatson
    >>> NadarayaWatson(bandwidth=1.5, kernel="uniform").fit([[0], [1], [2], [3]], [0, 1, 5, 7]).predict([[0], [2]])
    array([0.5       , 4.33333333])
    """

    degree = 0


class LocalLinear(_FixedDegree):
    """Local linear regression: no bias from a slope, neither inside nor at the ends of the data.

    Parameters
    ----------
    bandwidth, kernel, radial, side, categorical
        As in `LocalPolynomial`.

    References
    ----------
    Fan (1992), Design-adaptive nonparametric regression, JASA 87.

    Examples
    --------
    >>> from kernadv.regression import LocalLinear
    >>> LocalLinear(bandwidth=2.5).fit([[0], [1], [2], [3]], [1, 3, 5, 7]).predict([[0.0], [3.0]])
    array([1., 7.])
    """

    degree = 1
