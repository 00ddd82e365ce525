"""Families of local likelihood, each with its canonical link."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from scipy.special import expit, gammaincinv, log_expit, xlog1py, xlogy

from kernadv._errors import ArgumentError, check_choice
from kernadv.regression.inference.two_values import PROPORTION, proportion_limits
from kernadv.typing import FloatArray


class Family(ABC):
    """The law of a response given its mean, up to the dispersion 1.

    Attributes
    ----------
    name : str
    counts : bool
        Whether responses have no upper limit.
    """

    name: str
    counts: bool = False

    @abstractmethod
    def check(self, y: FloatArray) -> None:
        """Raise if a response is not possible."""

    @abstractmethod
    def mean(self, link: FloatArray) -> FloatArray:
        """Mean of each predictor."""

    @abstractmethod
    def variance(self, link: FloatArray) -> FloatArray:
        """Variance of a response of weight 1, which is the derivative of the mean; 0 at infinite predictors."""

    @abstractmethod
    def deviance(self, y: FloatArray, link: FloatArray) -> FloatArray:
        """Twice the log likelihood that each response loses to a predictor of its own; inf where it is impossible."""

    @abstractmethod
    def limits(self, link: FloatArray, size: FloatArray, tail: float) -> tuple[FloatArray, FloatArray]:
        """Jeffreys' limits at infinite predictors, where all responses of the window agree, from their effective number."""


class Binomial(Family):
    """Shares of successes, each of as many trials as its weight says; logistic link."""

    name = "binomial"

    def check(self, y: FloatArray) -> None:
        bad = ~((y >= 0.0) & (y <= 1.0))
        if bad.any():
            raise ArgumentError(
                f"family='binomial' needs shares of successes, 0 <= y <= 1, got {y[bad][0]:g} in row {bad.argmax()}; divide "
                "successes by trials, and give the trials as sample_weight"
            )

    def mean(self, link: FloatArray) -> FloatArray:
        return np.asarray(expit(link))

    def variance(self, link: FloatArray) -> FloatArray:
        return np.asarray(expit(link) * expit(-link))

    def deviance(self, y: FloatArray, link: FloatArray) -> FloatArray:
        own = xlogy(y, y) + xlog1py(1.0 - y, -y)
        return np.asarray(2.0 * (own + _times(y, -log_expit(link)) + _times(1.0 - y, -log_expit(-link))))

    def limits(self, link: FloatArray, size: FloatArray, tail: float) -> tuple[FloatArray, FloatArray]:
        return proportion_limits(size * (link > 0.0), size, np.full(size.shape, tail), PROPORTION)


class Bernoulli(Binomial):
    """Responses that are 0 or 1; logistic link."""

    name = "bernoulli"

    def check(self, y: FloatArray) -> None:
        bad = (y != 0.0) & (y != 1.0)
        if bad.any():
            raise ArgumentError(
                f"family='bernoulli' needs responses that are 0 or 1, got {y[bad][0]:g} in row {bad.argmax()}; recode the "
                "two values, or take family='binomial' for shares"
            )


class Poisson(Family):
    """Counts, or rates with their exposure as weight; logarithmic link."""

    name = "poisson"
    counts = True

    def check(self, y: FloatArray) -> None:
        bad = ~(y >= 0.0)
        if bad.any():
            raise ArgumentError(f"family='poisson' needs counts y >= 0, got {y[bad][0]:g} in row {bad.argmax()}")

    def mean(self, link: FloatArray) -> FloatArray:
        return np.asarray(np.exp(link))

    def variance(self, link: FloatArray) -> FloatArray:
        return np.asarray(np.exp(link))

    def deviance(self, y: FloatArray, link: FloatArray) -> FloatArray:
        return np.asarray(2.0 * (xlogy(y, y) - y - _times(y, link) + np.exp(link)))

    def limits(self, link: FloatArray, size: FloatArray, tail: float) -> tuple[FloatArray, FloatArray]:
        return np.zeros(size.shape), np.asarray(gammaincinv(0.5, 1.0 - tail) / size)


def _times(y: FloatArray, other: FloatArray) -> FloatArray:
    """The product; 0 where y is 0, unless the other is NaN."""
    return np.asarray(y * np.where((y == 0.0) & np.isinf(other), 0.0, other))


FAMILIES: dict[str, Family] = {family.name: family for family in (Bernoulli(), Binomial(), Poisson())}


def get(name: str) -> Family:
    """The family of that name; raises with the list of the known ones."""
    return FAMILIES[check_choice(name, "family", FAMILIES)]
