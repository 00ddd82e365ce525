"""What the traces of a group say in their order: rewards by place, and rows that are written twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc

from kernadv._jit import compiled
from kernadv._typing import FloatArray, IntArray

#: Places of a group that are looked at.
_PLACES = 16
#: Probability with which honest rows pass for copies.
_CHANCE = 1e-6


class Traces(NamedTuple):
    """What the traces of some groups say, in the order of rows; those of different groups add up.

    Attributes
    ----------
    places : (16, 3) float64
        As in `RowOrder`.
    copies : (2, 2) int64
        Of the groups that are written twice over (z1 z2 z1 z2), and of those in which every row is (z1 z1 z2 z2): groups
        with unequal rewards, and rows that are copies.
    unequal : int
        Groups with unequal rewards, of any kind.
    """

    places: FloatArray
    copies: IntArray
    unequal: int

    def plus(self, other: Traces) -> Traces:
        """Of the groups of both."""
        return Traces(self.places + other.places, self.copies + other.copies, self.unequal + other.unequal)

    def known_places(self) -> FloatArray:
        """The places that a trace has had.  # (K, 3)"""
        return self.places[: int((self.places[:, 0] > 0).sum())]

    def identical(self) -> int:
        """Rows that are copies of another of their group, if there are more than chance explains.

        Notes
        -----
        If the order of a group's traces is chance, or the rewards themselves, at most half of the groups with unequal
        rewards look written twice.
        """
        return max(int(rows) if beyond_chance(int(groups), self.unequal) else 0 for groups, rows in self.copies)


def no_traces() -> Traces:
    """Of no groups."""
    return Traces(np.zeros((_PLACES, 3)), np.zeros((2, 2), np.int64), 0)


def traces_of(group: IntArray, reward: FloatArray) -> Traces:
    """What rows say about the order within their groups.

    Parameters
    ----------
    group : (M,) int64
        Group of each row, >= 0; its rows need not be beside each other.
    reward : (M,) float64
        Reward of each row.
    """
    found = no_traces()
    if not len(group):
        return found
    if (np.diff(group) < 0).any():
        order = np.argsort(group, kind="stable")
        group, reward = group[order], reward[order]
    return found._replace(unequal=_look(group, reward, found.places, found.copies))


def beyond_chance(copies: int, candidates: int) -> bool:
    """Whether so many copies are no chance, if a candidate is one with a probability of at most 1/2."""
    return copies > 0 and bool(bdtrc(copies - 1, candidates, 0.5) < _CHANCE)


@compiled()
def _look(group: IntArray, z: FloatArray, places: FloatArray, copies: IntArray) -> int:
    """Fill `places` and `copies` from rows sorted by group; return the number of groups with unequal rewards."""
    unequal = 0
    start = 0
    while start < len(group):
        end = start + 1
        total = z[start]
        same = True
        while end < len(group) and group[end] == group[start]:
            total += z[end]
            same = same and z[end] == z[start]
            end += 1
        n = end - start
        if n > 1:
            mean = total / n
            for k in range(min(n, len(places))):
                d = z[start + k] - mean
                places[k, 0] += 1.0
                places[k, 1] += d
                places[k, 2] += d * d
            unequal += not same
            half = n // 2
            if n == 2 * half:
                twice = pairs = True
                for k in range(half):
                    twice = twice and z[start + k] == z[start + half + k]
                    pairs = pairs and z[start + 2 * k] == z[start + 2 * k + 1]
                copies[0, 0] += twice and not same
                copies[0, 1] += half * twice
                copies[1, 0] += pairs and not same
                copies[1, 1] += half * pairs
        start = end
    return unequal
