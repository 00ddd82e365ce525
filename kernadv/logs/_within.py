"""What the traces of a group say in their order: rewards by place, and rows that are written twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernadv.typing import FloatArray, IntArray

#: Places of a group that are looked at.
_PLACES = 16
#: Probability with which honest rows pass for copies.
_CHANCE = 1e-6


class WithinGroups(NamedTuple):
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

    def plus(self, other: WithinGroups) -> WithinGroups:
        """Of the groups of both."""
        return WithinGroups(self.places + other.places, self.copies + other.copies, self.unequal + other.unequal)

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


def within_none() -> WithinGroups:
    """Of no groups."""
    return WithinGroups(np.zeros((_PLACES, 3)), np.zeros((2, 2), np.int64), 0)


def within(group: IntArray, reward: FloatArray) -> WithinGroups:
    """What rows say about the order within their groups.

    Parameters
    ----------
    group : (M,) int64
        Group of each row, >= 0; its rows need not be beside each other.
    reward : (M,) float64
        Reward of each row.
    """
    found = within_none()
    if (np.diff(group) < 0).any():
        order = np.argsort(group, kind="stable")
        group, reward = group[order], reward[order]
    start = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(start, append=len(group))
    for n in np.unique(size[size > 1]).tolist():
        found = found.plus(_of_one_size(reward[start[size == n] + np.arange(n)[:, None]]))
    return found


def beyond_chance(copies: int, candidates: int) -> bool:
    """Whether so many copies are no chance, if a candidate is one with a probability of at most 1/2."""
    if not copies:
        return False
    from scipy.special import bdtrc  # large, and needed only where rows repeat

    return bool(bdtrc(copies - 1, candidates, 0.5) < _CHANCE)


def _of_one_size(z: FloatArray) -> WithinGroups:
    """What M groups of n traces each say.  z: (n, M)"""
    places, copies, _ = within_none()
    n, groups = z.shape
    off = z[:_PLACES] - z.mean(axis=0)
    places[: len(off)] = np.column_stack([np.full(len(off), groups), off.sum(axis=1), (off * off).sum(axis=1)])
    differ = (z != z[0]).any(axis=0)
    if n % 2 == 0:
        for kind, (first, second) in enumerate(((z[: n // 2], z[n // 2 :]), (z[::2], z[1::2]))):
            same = (first == second).all(axis=0)
            copies[kind] = (same & differ).sum(), n // 2 * same.sum()
    return WithinGroups(places, copies, int(differ.sum()))
