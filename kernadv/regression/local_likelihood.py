"""Local likelihood regression of proportions and counts."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from scipy.special import ndtri
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from kernadv import kernels
from kernadv._arrays import check_floats, is_tensor
from kernadv._errors import ArgumentError, check_choice, check_count, check_flag, check_level
from kernadv.regression import families
from kernadv.regression._base import HIGHEST_DEGREE, JUDGED_COLUMNS, JUDGED_ROWS, _warn_undefined
from kernadv.regression._design import as_columns, query_columns
from kernadv.regression._input import back, read_weights, to_numpy
from kernadv.regression._told import told_by
from kernadv.regression.bandwidth import Selection, Selector
from kernadv.regression.bandwidth._likelihood import SELECTORS
from kernadv.regression.inference import SMOOTHED_TARGET, Interval
from kernadv.regression.local.likelihood import LocalLikelihoods, maximise
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.local_polynomial import LocalPolynomial, check_rows, choose
from kernadv.regression.smoother import LinearSmoother, coefficients
from kernadv.typing import AnyArray, FloatArray, IntArray, Table

if TYPE_CHECKING:
    from torch import Tensor

WHY_UNDEFINED = (
    "too few points in the window for the degree, or the likelihood has no maximum there, since a line separates the "
    "responses; widen the bandwidth, lower the degree, or stay inside the range of the data"
)


@told_by(LocalPolynomial)
class LocalLikelihood(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Local likelihood regression: at each query, a logistic or log-linear model of the points in its window.

    Parameters
    ----------
    family : {"bernoulli", "binomial", "poisson"}
        Responses of 0 and 1; shares of successes, with the numbers of trials as `sample_weight`; counts.  Links are
        canonical: logistic, logistic, logarithmic.
    degree : int
        Total degree of the polynomial predictor, 0 to 3.
    bandwidth : float, sequence of d floats, "leave_one_out" or "aic"
        **Half-width of a compact kernel's support, scale of other kernels**: a number for all columns, or one a column; or
        how it is selected: by the deviance of each response from the others (likelihood cross-validation, refits without
        approximation), or by Akaike's criterion.
    kernel : str or Kernel
        See `kernadv.kernels`.
    radial
        As in `LocalPolynomial`.

    Attributes
    ----------
    bandwidth_ : (d,) float64
    selection_ : Selection or None
        How the bandwidth was selected.
    n_features_in_ : int
    feature_names_in_ : array of str
        Only if X had names.

    Notes
    -----
    The dispersion is 1: a weight stands for as many trials, or as much exposure.

    Where all responses of a window are 0, or all are 1 and cannot be more, the likelihood has no maximum, and the estimate
    is this value.  Where a line separates the zeros of a window from the other responses, it is 0 or 1 if the maximising
    predictors tend to that at the query, and NaN, with one `EmptyWindowWarning`, otherwise.  Nothing is penalised.

    References
    ----------
    Fan, Heckman and Wand (1995), Local polynomial kernel regression for generalized linear models and quasi-likelihood
    functions, JASA 90.
    Loader (1999), Local Regression and Likelihood, chapter 4.

    Examples
    --------
    >>> from kernadv.regression import LocalLikelihood
    >>> x, y = [[0], [1], [2], [3], [4], [5]], [0, 0, 1, 0, 1, 1]
    >>> LocalLikelihood(degree=0, bandwidth=2.0, kernel="uniform").fit(x, y).predict([[1.0], [4.0]])  # local shares
    array([0.25, 0.75])
    >>> LocalLikelihood(bandwidth=100.0, kernel="uniform").fit(x, y).predict([[2.5]]).round(6)  # one logistic regression
    array([0.5])
    """

    def __init__(
        self,
        family: str = "bernoulli",
        *,
        degree: int = 1,
        bandwidth: Any = "leave_one_out",
        kernel: Any = "epanechnikov",
        radial: bool = False,
    ) -> None:
        self.family = family
        self.degree = degree
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.radial = radial

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Store the sample and choose the bandwidth.

        Parameters
        ----------
        X : (n, d) array, data frame or tensor
            Design points; one-dimensional ones are one column.
        y : (n,) array or tensor
            Responses of the family.
        sample_weight : (n,) array-like, optional
            Number of trials behind a share, exposure behind a rate: the log likelihood of a row is multiplied by it.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the data cannot be used; an earlier fit is kept.
        """
        fresh = copy(self)  # a failed or interrupted fit changes nothing
        fresh._fit(X, y, sample_weight)
        self.__dict__ = fresh.__dict__
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        self._family = families.get(self.family)
        degree = check_count(self.degree, "degree", 0, HIGHEST_DEGREE)
        spec = LocalPolynomialSpec(kernels.get(self.kernel), degree, check_flag(self.radial, "radial"))
        x, response = validate_data(
            self, as_columns(to_numpy(X, "X")), to_numpy(y, "y"), dtype=np.float64, y_numeric=True
        )
        response = np.asarray(response, np.float64)
        self._family.check(response)
        weights = read_weights(sample_weight, x)
        if sample_weight is not None:
            weights = weights * check_floats(to_numpy(sample_weight, "sample_weight"), "sample_weight").max()
        self._kept: IntArray = np.flatnonzero(weights)
        self._given = len(x)
        x, response, weights = x[self._kept], response[self._kept], weights[self._kept]
        if len(x) <= degree:
            raise ArgumentError(
                f"degree={degree} needs at least {degree + 1} rows of positive weight, got n_samples={len(x)}; lower the "
                "degree"
            )
        self._smoother = LinearSmoother(spec, x, response[:, None], weights)
        self.bandwidth_, self.selection_ = self._choose()
        self._like = y.detach().new_empty(0) if is_tensor(y) else None

    def _choose(self) -> tuple[FloatArray, Selection | None]:
        x, weights = self._smoother.x, self._smoother.weights
        bandwidth = self.bandwidth
        if isinstance(bandwidth, str):
            check_rows(bandwidth, len(x))
            selector = SELECTORS[check_choice(bandwidth, "bandwidth selector of a local likelihood", SELECTORS)]
            bandwidth = selector(family=self._family, response=self._smoother.y[:, 0], unit=float(weights.mean()))
        elif isinstance(bandwidth, Selector):
            raise ArgumentError(f"a local likelihood selects by 'leave_one_out' or 'aic', got {bandwidth!r:.80}")
        smoother, selection = choose(bandwidth, self._smoother)
        return smoother.bandwidth, selection

    def _maximise(self, at: FloatArray, left_out: IntArray | None = None) -> LocalLikelihoods:
        fit = self._smoother
        return maximise(fit.spec, fit.x, fit.y[:, 0], fit.weights, at, self.bandwidth_, self._family.counts, left_out)

    def _queries(self, X: Any) -> tuple[LocalLikelihoods, Any]:
        """Estimates at the checked queries, and a function that turns results into their type."""
        check_is_fitted(self)
        x = validate_data(self, query_columns(to_numpy(X, "X"), self.n_features_in_), reset=False, dtype=np.float64)
        found = self._maximise(x)
        _warn_undefined(~np.isnan(found.link), WHY_UNDEFINED)
        return found, back(X if hasattr(X, "dtype") else x)

    @overload
    def predict(self, X: Table, return_std: Literal[False] = False) -> AnyArray: ...

    @overload
    def predict(self, X: Table, return_std: Literal[True]) -> tuple[AnyArray, AnyArray]: ...

    @overload
    def predict(self, X: Tensor, return_std: Literal[False] = False) -> Tensor: ...

    @overload
    def predict(self, X: Tensor, return_std: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Estimate the mean of the response: a probability, or an expected count.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
            Queries.
        return_std : bool
            Also return the standard error of each estimate, that of the predictor times the slope of the mean; NaN where
            the predictor is infinite.

        Returns
        -------
        (m,) array or tensor, or two of them
            NaN, with one `EmptyWindowWarning`, where there is no estimate.
        """
        found, restore = self._queries(X)
        mean = restore(self._family.mean(found.link))
        return (mean, restore(self._family.variance(found.link) * found.error)) if return_std else mean

    def loo_predict(self) -> Any:
        """Estimate at each fitted row without its own response: an exact refit.  # (n,)

        NaN where the others do not determine it, and for rows of weight 0.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLikelihood
        >>> x = np.linspace(0.0, 1.0, 60)
        >>> model = LocalLikelihood("poisson", bandwidth=0.4).fit(x, np.round(5 + 4 * np.sin(6 * x)))
        >>> bool(np.abs(model.loo_predict() - model.predict(x)).max() < 0.5)
        True
        """
        check_is_fitted(self)
        out = np.full(self._given, np.nan)
        out[self._kept] = self._family.mean(self._maximise(self._smoother.x, np.arange(len(self._kept))).link)
        return back(self._like)(out)

    @overload
    def interval(self, X: Table, level: float = 0.95) -> Interval[AnyArray]: ...

    @overload
    def interval(self, X: Tensor, level: float = 0.95) -> Interval[Tensor]: ...

    def interval(self, X: Any, level: float = 0.95) -> Interval:
        """Pointwise confidence intervals: normal ones of the predictor, as intervals of the mean.

        Where all responses of a window agree, and the predictor is infinite, they are Jeffreys' limits for as many responses
        as have the variance of the plain local polynomial estimate.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        level : float

        Returns
        -------
        Interval
            `estimate`, `low` and `high`, each like the result of `predict`.  It covers the smoothed target: bias is not
            corrected, so choose a bandwidth that is rather narrow.

        Examples
        --------
        >>> import numpy as np
        >>> from kernadv import LocalLikelihood
        >>> rng = np.random.default_rng(0)
        >>> x = rng.random(300)
        >>> model = LocalLikelihood("bernoulli").fit(x, rng.random(300) < x)
        >>> found = model.interval([0.5])
        >>> bool(0.0 < found.low[0] < 0.5 < found.high[0] < 1.0)
        True
        """
        tail = 0.5 * (1.0 - check_level(level))
        found, restore = self._queries(X)
        half = -ndtri(tail) * found.error
        low, high = self._family.mean(found.link - half), self._family.mean(found.link + half)
        extreme = np.isinf(found.link)
        low[extreme], high[extreme] = self._family.limits(found.link[extreme], found.size[extreme], tail)
        return Interval(restore(self._family.mean(found.link)), restore(low), restore(high), SMOOTHED_TARGET)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the deviance that the predictions explain, D^2; that of the mean is 0, as in `PoissonRegressor`.

        Parameters
        ----------
        X : (m, d) array, data frame or tensor
        y : (m,) array
        sample_weight : (m,) array-like, optional
        """
        response = np.asarray(to_numpy(y, "y"), np.float64).ravel()
        family = self._family
        family.check(response)
        weights = read_weights(sample_weight, response)
        own = weights @ family.deviance(response, self._queries(X)[0].link)
        mean = float(np.average(response, weights=weights))
        with np.errstate(divide="ignore"):
            link = np.log(mean) if family.counts else np.log(mean) - np.log1p(-mean)
        null = weights @ family.deviance(response, np.full(response.shape, link))
        return float(1.0 - own / null) if null > 0.0 else float("nan")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.family == "poisson"
        tags.regressor_tags.poor_score = coefficients(JUDGED_COLUMNS, int(self.degree)) > JUDGED_ROWS
        return tags
