"""Bandwidths: their half-widths, and that what they let go could never matter."""

import math

import numpy as np
import pytest

from kernadv import KernadvError, Relative, Steps, Visits
from kernadv.clock import TAIL
from kernadv.kernels import KERNELS
from kernadv.moments import Histories

AT = np.array([1, 10, 100])


def lag(k):
    raise AssertionError("only Visits looks at the visits")


def test_steps_and_relative():
    np.testing.assert_array_equal(Steps(20).half_width(AT, lag), [20, 20, 20])
    np.testing.assert_allclose(Relative(0.5).half_width(AT, lag), [0.5, 5, 50])
    np.testing.assert_allclose(Relative(0.5, floor=8).half_width(AT, lag), [8, 8, 50])


def test_visits_is_the_distance_to_the_kth_latest_visit():
    step = np.array([2, 5, 9, 1, 4])
    sample = Histories(np.array([0, 3, 5]), np.array([3, 2, 0]), step, *[np.ones(5)] * 3)
    at = np.array([10, 10, 10])
    width = lambda k: Visits(k).half_width(at, lambda j: sample.visit_lag(at, j))
    np.testing.assert_array_equal(width(1), [1, 6, 1])
    np.testing.assert_array_equal(width(2), [5, 9, 1])
    np.testing.assert_array_equal(width(3), [8, 10, 1])  # the second prompt has two visits: one step beyond its first
    np.testing.assert_array_equal(sample.visit_lag(np.array([6, 1, 3]), 1), [1, 0, 1])  # later visits do not count
    np.testing.assert_array_equal(Visits(1, floor=30).half_width(at, lambda j: sample.visit_lag(at, j)), [30, 30, 30])


@pytest.mark.parametrize("bad", [0, -0.3, math.nan, "x", None])
@pytest.mark.parametrize("kind", [Steps, Relative])
def test_bandwidth_must_be_positive(kind, bad):
    with pytest.raises(KernadvError, match=r"bandwidth must be .*(a number|positive)"):
        kind(bad)


def test_only_steps_may_be_infinite():
    assert Steps(math.inf).width == math.inf
    with pytest.raises(KernadvError, match="positive and finite"):
        Relative(math.inf)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3"])
def test_visits_counts(k):
    with pytest.raises(KernadvError, match="k must be a whole number >= 1"):
        Visits(k)


@pytest.mark.parametrize("floor", [-1, math.inf, math.nan])
def test_floor_must_be_sane(floor):
    with pytest.raises(KernadvError, match="floor must be"):
        Relative(0.1, floor=floor)
    with pytest.raises(KernadvError, match="floor must be"):
        Visits(3, floor=min(floor, 0.5))


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda k: k.name)
@pytest.mark.parametrize("bandwidth", [Steps(7.5), Relative(0.31), Relative(1.0), Relative(0.2, floor=9)], ids=repr)
def test_what_is_let_go_never_counts_again(kernel, bandwidth):
    for step in (1, 5, 40, 200):
        for late in (0, 3):
            keep = bandwidth.retention(step, kernel, late)
            for at in range(max(step - late, 1), 3 * step + 50):
                width = bandwidth.half_width(np.array([at]), lag)
                reach = int(kernel.reach(width)[0])
                if math.isfinite(kernel.support):
                    assert at - reach >= keep.oldest
                else:
                    age = float(keep.span - late)
                    assert age > 1e9 or kernel.profile(np.array((age + 1) / width[0])) < TAIL
