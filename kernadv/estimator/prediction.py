"""What is known of prompts before they are visited again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv._errors import ArgumentError, check_count
from kernadv.typing import FloatArray, IntArray


class Prediction(NamedTuple):
    """The values of B prompts before any trace of a step, see `KernelValueEstimator.predict`.

    Attributes
    ----------
    value : (B,) float64
        NaN where the past says nothing.
    low, high : (B,) float64
        Bounds of the value, as of `KernelValueEstimator.intervals`; infinite while no two rewards have differed, NaN where
        the past says nothing.
    n_eff : (B,) float64
        How many rollouts the value is worth.
    visits : (B,) int64
        Visits in the history, 0 of a prompt that was not seen, or was forgotten.
    last : (B,) int64
        Step of the newest of them; 0: there is none.
    alpha, beta : (B,) float64
        As a share of the range of the rewards so far, the value is believed to follow Beta(alpha, beta); NaN where the past
        says nothing, and while no two rewards have differed.
    two_ends : bool
        Whether all rewards so far lay at the two ends of their range, as 0/1 rewards do.

    Examples
    --------
    >>> from kernadv import KernelValueEstimator
    >>> est = KernelValueEstimator()
    >>> for step in range(1, 9):
    ...     est.observe(["a", "a"], [1.0, 1.0], step)
    ...     est.observe(["b", "b"], [1.0, 0.0], step)
    >>> seen = est.predict(["a", "b", "new"])
    >>> seen.value.round(1), seen.visits, seen.last, seen.two_ends
    (array([1. , 0.5, 0.7]), array([8, 8, 0]), array([8, 8, 0]), True)
    >>> seen.dead(2).round(1)  # chances that the next two traces of each are alike
    array([0.9, 0.5, 0.7])
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n_eff: FloatArray
    visits: IntArray
    last: IntArray
    alpha: FloatArray
    beta: FloatArray
    two_ends: bool

    def dead(self, group: int) -> FloatArray:
        """Chance that the rewards of the next group of G traces are all equal, so that RLOO learns nothing from it.

        It is ``E[p^G + (1 - p)^G]`` over p ~ Beta(alpha, beta), exactly (the beta-binomial law):

            prod_{k < G} (alpha + k) / (alpha + beta + k) + prod_{k < G} (beta + k) / (alpha + beta + k).

        The uncertainty of the value counts: a value of .5 +- .3 leaves more dead groups than one of .5 for certain.

        Parameters
        ----------
        group : int
            Number G of traces.

        Returns
        -------
        (B,) float64; NaN where alpha and beta are

        Raises
        ------
        ArgumentError
            If a reward was seen that lies between the ends: the value alone then does not tell.
        """
        check_count(group, "group")
        if not self.two_ends:
            raise ArgumentError(
                "dead() needs rewards with two values, such as 0 and 1; a reward between the two ends was seen, and the "
                "chance that all rewards of a group are equal then does not follow from the value"
            )
        total, chance = self.alpha + self.beta, np.zeros(len(self.alpha))
        for side in (self.alpha, self.beta):
            product = np.ones(len(side))
            for k in range(group):
                product *= (side + k) / (total + k)
            chance += product
        return np.minimum(chance, 1.0)
