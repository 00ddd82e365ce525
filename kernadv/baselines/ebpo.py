"""Group means shrunk toward the mean of the whole run."""

from __future__ import annotations

import numpy as np

from kernadv.baselines._base import LinearValues, Offline, centred
from kernadv.baselines._recursive import Recursive
from kernadv.groups import Groups
from kernadv.typing import FloatArray


class EBPO(Recursive):
    """``v = (1 - B) q + B mu``, ``B = (sigma^2 / G) / (sigma^2 / G + tau^2)``, and ``V = v + mean(Z - v)`` over the step.

    mu and sigma^2 are the mean and the variance of all rewards of the run so far, tau^2 the variance of all group means
    (which holds their noise), by Welford's recursion.

    This is the paper's EBPO-naive, one prior for all prompts.  Its main method, EBPO-topic, has a prior for each topic;
    topics are not known here.  The published advantages are centred and scaled over the batch: the mean is part of the
    value, the scale is not.

    Parameters
    ----------
    own : bool
        As published: the batch enters mu, sigma^2 and tau^2 before they are read, and the own reward q and the mean.  Else
        the moments are those of earlier steps, the group is left-one-out, q^(-g) of G - 1 traces, and the mean is that of
        the other prompts' traces.

    References
    ----------
    EBPO, arXiv 2602.05165, section 3, Algorithm 1.

    Examples
    --------
    >>> from kernadv.baselines.ebpo import EBPO
    >>> online = EBPO().online()
    >>> online.values(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], step=1).value.round(2)  # 0.5 and 1, toward 0.75
    array([0.65, 0.65, 0.85, 0.85])
    """

    shared = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # count, mean and sum of squares about it: of rewards, of group means

    def __init__(self, own: bool = True) -> None:
        self.uses_own_reward = own
        self.name = "ebpo" if own else "ebpo_loo"
        self.title = f"empirical Bayes over the run, {'own reward' if own else 'leave-one-out'} (EBPO-naive)"

    def start(self, prompts: int, offline: Offline | None) -> FloatArray:
        """Nothing is remembered of single prompts."""
        return np.empty((prompts, 0))

    def read(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> LinearValues:
        """Values; before the first step the leave-one-out form is the mean of the other prompts of the batch."""
        used = groups.n - (not self.uses_own_reward)
        if self.uses_own_reward:
            shared = self._moments(shared, groups)
        noise = shared[2] / max(shared[0], 1.0)
        between = shared[5] / max(shared[3], 1.0)
        v = noise / np.maximum(used, 1)
        share = np.where(used > 0, v / (v + between) if noise + between > 0 else 0.0, 1.0)
        others = (groups.s.sum() - groups.s) / np.maximum(groups.n.sum() - groups.n, 1)
        mean = shared[1] if shared[0] else others
        gain = (1.0 - share) / np.maximum(used, 1)
        values = LinearValues(share * mean, gain, gain if self.uses_own_reward else np.zeros(len(gain)))
        # At the first step the other prompts' values hold this one's rewards: no mean of theirs leaves it out.
        return centred(values, groups, self.uses_own_reward) if shared[0] else values

    def update(self, memory: FloatArray, shared: FloatArray, groups: Groups) -> tuple[FloatArray, FloatArray]:
        """Add the rewards and the group means."""
        return memory, self._moments(shared, groups)

    @staticmethod
    def _moments(shared: FloatArray, groups: Groups) -> FloatArray:
        q = groups.s / groups.n
        rewards = _merge(shared[:3], float(groups.n.sum()), float(groups.s.sum()), float(groups.ss.sum()))
        return np.concatenate([rewards, _merge(shared[3:], float(len(q)), float(q.sum()), float((q * q).sum()))])


def _merge(old: FloatArray, n: float, s: float, ss: float) -> FloatArray:
    """Count, mean and sum of squares about it after n more numbers (Chan's pairwise update)."""
    count, mean, spread = old
    shift = s / n - mean
    total = count + n
    return np.array([total, mean + shift * n / total, spread + max(ss - s * s / n, 0.0) + shift**2 * count * n / total])


BASELINES = (EBPO(), EBPO(own=False))
