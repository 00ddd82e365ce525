"""Local likelihood: at each query, a polynomial predictor that maximises the likelihood of the points in its window.

With the kernel weights K_j, the observation weights omega_j and the predictor ``eta_j = sum_a beta_a u_j^a`` the maximum of
``sum_j omega_j K_j (y_j eta_j - b(eta_j))`` is found by Newton's method; b is that of the family, in its canonical link.

References
----------
Fan, Heckman and Wand (1995), Local polynomial kernel regression for generalized linear models and quasi-likelihood
functions, JASA 90.
Loader (1999), Local Regression and Likelihood, chapter 4.
Albert and Anderson (1984), On the existence of maximum likelihood estimates in logistic regression models, Biometrika 71.
"""

from __future__ import annotations

from math import exp, inf, log, log1p, nan, sqrt
from typing import NamedTuple

import numpy as np

from kernadv._jit import compiled
from kernadv.regression.local._pairs import Pairs, over_windows
from kernadv.regression.local.moments import in_units
from kernadv.regression.local.monomials import monomials
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.local.solve import RANK, solve_factored
from kernadv.typing import FloatArray, IntArray

#: Newton's steps.
STEPS = 100
#: A step that changes no predictor by more than this raises the likelihood (Bach 2010, Electronic Journal of Statistics 4,
#: proposition 1); longer ones are halved until they do.
SHORT = 1.0
#: The maximum is found if a step changes no predictor in the window by more than this; the next one would by its square.
CLOSE = 1e-8
#: There is no maximum if the likelihood has this share of its weight left to gain, and predictors still move by `MOVES`.
SUPREMUM, MOVES = 1e-13, 0.1
#: Predictors beyond this are on their way to infinity, if there is no maximum.
FAR = 20.0


class LocalLikelihoods(NamedTuple):
    """Estimates at m queries.

    Attributes
    ----------
    link : (m,) float64
        Predictor; -inf or inf where the likelihood grows for ever and takes the predictor there, NaN where undefined.
    error : (m,) float64
        Its standard error; NaN where it is not finite.
    size : (m,) float64
        Number of responses of weight 1 whose mean has the variance of the plain local polynomial estimate, ``1 / sum l^2``.
    centre : (m,) float64
        Own weight of a response of weight 1 at the query, in the fit linearised at its maximum, or in the plain local
        polynomial where the predictor is infinite; the leverage of a point is this times its weight.
    """

    link: FloatArray
    error: FloatArray
    size: FloatArray
    centre: FloatArray


def maximise(
    spec: LocalPolynomialSpec,
    x: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    at: FloatArray,
    bandwidth: FloatArray,
    counts: bool,
    left_out: IntArray | None = None,
) -> LocalLikelihoods:
    """Maximise the local likelihood at the queries.

    Parameters
    ----------
    spec : LocalPolynomialSpec
    x : (n, d)
    y : (n,)
        Shares between 0 and 1; or, with `counts`, numbers >= 0.
    weights : (n,)
        Positive: number of trials of a share, or exposure of a rate.
    at : (m, d)
    bandwidth : (d,)
    counts : bool
        The Poisson likelihood with its logarithmic link, instead of the binomial one with its logistic link.
    left_out : (m,) int, optional
        Point that each query does without.
    """
    order = np.argsort(x[:, 0], kind="stable")
    number = order.astype(np.float64)
    channels = np.stack([y[order], weights[order], number])
    leave = np.full(len(at), -1, np.int64) if left_out is None else left_out
    out = LocalLikelihoods(*np.full((4, len(at)), nan))
    parents = monomials(x.shape[1], spec.degree).parents

    def work(own: slice, pairs: Pairs, v: FloatArray) -> None:
        _newton(*pairs, v, leave[own], parents, counts, *(part[own] for part in out))

    z, q, scale = in_units(x[order], at, bandwidth)
    over_windows(work, z, channels, q, spec.kernel, scale, spec.radial, spec.past)
    return out


@compiled()
def _newton(
    weight: FloatArray,
    u: FloatArray,
    point: IntArray,
    ends: IntArray,
    begin: int,
    upto: int,
    v: FloatArray,
    leave: IntArray,
    parents: IntArray,
    counts: bool,
    link: FloatArray,
    error: FloatArray,
    size: FloatArray,
    centre: FloatArray,
) -> None:
    """Maximise at the queries from `begin` to `upto`, window by window."""
    terms = len(parents)
    gram, factor = np.empty((terms, terms)), np.empty((terms, terms))
    beta, score, step = np.empty(terms), np.empty(terms), np.empty(terms)
    first = 0
    for m in range(begin, upto):
        most = ends[m] - first
        design = np.empty((most, terms))
        w, y, own = np.empty(most), np.empty(most), np.empty(most)
        eta, move = np.empty(most), np.empty(most)
        n, total, mean, low, high = 0, 0.0, 0.0, inf, -inf
        for p in range(first, ends[m]):
            j = point[p]
            if weight[p] > 0.0 and int(v[2, j]) != leave[m]:
                design[n, 0] = 1.0
                for k in range(1, terms):
                    design[n, k] = design[n, parents[k, 0]] * u[parents[k, 1], p]
                y[n], own[n], w[n] = v[0, j], v[1, j], weight[p] * v[1, j]
                total += w[n]
                mean += w[n] * y[n]
                low, high = min(low, y[n]), max(high, y[n])
                n += 1
        first = ends[m]
        if n < terms:
            continue
        for j in range(n):
            move[j] = w[j]
        _weighted_gram(design, move, n, gram)
        if not _factorise(gram, factor, RANK**2):
            continue
        size[m] = 1.0 / _square_norm(factor, design, w, own, move, n, step)
        centre[m] = step[0]
        if high == 0.0 or (not counts and low == 1.0):
            link[m] = -inf if high == 0.0 else inf
            continue
        mean /= total
        beta[:] = 0.0
        beta[0] = log(mean) if counts else log(mean) - log1p(-mean)
        eta[:n] = beta[0]
        gain, found, lost, largest = inf, False, False, inf
        for _ in range(STEPS):
            score[:] = 0.0
            for j in range(n):
                expected = exp(eta[j]) if counts else 1.0 / (1.0 + exp(-eta[j]))
                left = w[j] * (y[j] - expected)
                move[j] = w[j] * (expected if counts else expected * (1.0 - expected))
                for k in range(terms):
                    score[k] += left * design[j, k]
            _weighted_gram(design, move, n, gram)
            if not _factorise(gram, factor, 1e-15):
                lost = True
                break
            for k in range(terms):
                step[k] = score[k]
            solve_factored(factor, step)
            gain = 0.0
            for k in range(terms):
                gain += score[k] * step[k]
            largest = 0.0
            for j in range(n):
                move[j] = 0.0
                for k in range(terms):
                    move[j] += design[j, k] * step[k]
                largest = max(largest, abs(move[j]))
            share = 1.0
            while share * largest > SHORT and _rise(w, y, eta, move, share, n, counts) < 0.1 * share * gain:
                share *= 0.5
            for k in range(terms):
                beta[k] += share * step[k]
            for j in range(n):
                eta[j] += share * move[j]
            if largest <= CLOSE:
                found = True
                break
            if gain <= SUPREMUM * total and largest > MOVES:
                lost = True
                break
        if found:
            link[m] = beta[0]
            for j in range(n):
                expected = exp(eta[j]) if counts else 1.0 / (1.0 + exp(-eta[j]))
                move[j] = w[j] * (expected if counts else expected * (1.0 - expected))
            _weighted_gram(design, move, n, gram)
            if _factorise(gram, factor, 1e-15):
                error[m] = sqrt(_square_norm(factor, design, w, own, move, n, step))
                expected = exp(beta[0]) if counts else 1.0 / (1.0 + exp(-beta[0]))
                centre[m] = step[0] * (expected if counts else expected * (1.0 - expected))
        elif lost and beta[0] < -FAR:
            link[m] = -inf
        elif lost and beta[0] > FAR and not counts:
            link[m] = inf


@compiled()
def _weighted_gram(design: FloatArray, w: FloatArray, n: int, gram: FloatArray) -> None:
    """The lower triangle of ``D' diag(w) D``."""
    gram[:] = 0.0
    for j in range(n):
        for a in range(len(gram)):
            product = w[j] * design[j, a]
            for b in range(a + 1):
                gram[a, b] += product * design[j, b]


@compiled()
def _factorise(gram: FloatArray, factor: FloatArray, least: float) -> bool:
    """Cholesky's factor; False if a squared pivot is below this share of its diagonal entry."""
    for a in range(len(gram)):
        for b in range(a + 1):
            value = gram[a, b]
            for k in range(b):
                value -= factor[a, k] * factor[b, k]
            if b < a:
                factor[a, b] = value / factor[b, b]
            elif not value > least * gram[a, a]:
                return False
            else:
                factor[a, a] = sqrt(value)
    return True


@compiled()
def _square_norm(
    factor: FloatArray, design: FloatArray, w: FloatArray, own: FloatArray, spread: FloatArray, n: int, row: FloatArray
) -> float:
    """``sum_j (w_j d_j'r)^2 v_j / omega_j`` with ``w_j v_j`` the spread; r, left in `row`, is the inverse's first row."""
    row[:] = 0.0
    row[0] = 1.0
    solve_factored(factor, row)
    total = 0.0
    for j in range(n):
        value = 0.0
        for k in range(len(row)):
            value += design[j, k] * row[k]
        total += w[j] * spread[j] * value * value / own[j]
    return total


@compiled()
def _rise(w: FloatArray, y: FloatArray, eta: FloatArray, move: FloatArray, share: float, n: int, counts: bool) -> float:
    """By how much the log likelihood rises if the predictors move by this share."""
    rise = 0.0
    for j in range(n):
        new = eta[j] + share * move[j]
        rise += w[j] * (y[j] * (new - eta[j]) - (_cumulant(new, counts) - _cumulant(eta[j], counts)))
    return rise


@compiled()
def _cumulant(eta: float, counts: bool) -> float:
    """``exp(eta)`` or ``log(1 + exp(eta))``."""
    if counts:
        return exp(eta)
    return eta + log1p(exp(-eta)) if eta > 0.0 else log1p(exp(eta))
