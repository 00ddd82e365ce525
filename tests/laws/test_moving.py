"""The moments of the past of every visit equal their definition in extended precision, whatever the log."""

import numpy as np
import pytest

from kernadv import Relative, Steps, Visits
from kernadv.kernels import KERNELS, Power
from kernadv.moments import Histories, Selection, Windows, moving, numba_
from kernadv.moments.moving import moments_of_the_past

CLOCKS = [Steps(3), Steps(150.5), Steps(np.inf), Relative(0.05), Relative(0.5), Relative(4.0), Visits(2), Visits(30)]
SCHEDULES = {
    "every step": lambda rng, visits: np.ones(visits, np.int64),
    "uneven": lambda rng, visits: rng.integers(1, 5, visits),
    "in blocks": lambda rng, visits: np.where(rng.random(visits) < 0.06, rng.integers(100, 900, visits), 1),
    "far": lambda rng, visits: rng.integers(1, 2**30, visits),
}


def past_of(lengths, schedule, seed=0, centre=0.3):
    """A log of prompts with so many visits each; rewards are real, about a centre."""
    rng = np.random.default_rng(seed)
    step = np.concatenate([np.cumsum(SCHEDULES[schedule](rng, visits)) for visits in lengths])
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    n = rng.integers(1, 9, len(step)).astype(float)
    s = n * centre + np.sqrt(n) * rng.normal(size=len(step))
    return Histories(first, np.arange(len(step)) - first, step, n, s, s * s / n)


def definition(past, windows, kernel, order):
    """Each visit alone, in extended precision; beside it the sum of the absolute terms, with their weights and without."""
    exact = np.longdouble
    out, size, reach = np.zeros((3, 2, order + 1, len(past.step)), exact)
    for q, (begin, at) in enumerate(zip(past.start, past.step, strict=True)):
        lag = at - past.step[begin:q]
        inside = lag <= windows.reach[q, 0]
        d = -lag[inside].astype(exact)
        weight = kernel.profile(d / exact(windows.width[q, 0]))
        for c, channel in enumerate((past.n, past.s)):
            v = channel[begin:q][inside].astype(exact)
            for k in range(order + 1):
                terms = v * d**k
                out[c, k, q] = (weight * terms).sum()
                size[c, k, q], reach[c, k, q] = (weight * abs(terms)).sum(), abs(terms).sum()
    return out, size, reach


def check(found, expected, error):
    """Compare the moments that there are, s up to twice the degree, t up to the degree."""
    for sums, exact, most in zip(found, expected, error, strict=True):
        assert sums.shape[1:] == exact.shape[1:]
        assert (np.abs(sums - exact[: len(sums)]) <= most[: len(sums)] + 1e-290).all()


@pytest.mark.parametrize("kernel", [*KERNELS.values(), Power("steep", 8, 2)], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_definition(kernel, schedule):
    past = past_of([80, 1, 2, 40, 9], schedule)
    for clock in CLOCKS:
        windows = Windows.of([clock], kernel, past, past.step)
        expected, size, reach = definition(past, windows, kernel, 2)
        # one step within the edge of a window of 2^30 steps, float64 has few digits of 1 - lag / width
        error = 1e-12 * size + 1e-15 * reach * (schedule == "far")
        for degree in (0, 1):
            check(moments_of_the_past(past, windows, kernel, degree), expected, error)


def test_windows_may_move_at_will():
    """Also back, which no clock does."""
    kernel, past = KERNELS["biweight"], past_of([200, 40], "uneven")
    width = np.random.default_rng(3).uniform(0.5, 300.0, (240, 1))
    windows = Windows(past.step, width, kernel.reach(width))
    expected, size, _ = definition(past, windows, kernel, 0)
    check(moments_of_the_past(past, windows, kernel, 0), expected, 1e-12 * size)


def test_long_series_keep_their_digits():
    """One prompt of 1,500 visits, and rewards far from 0, all of one sign: 1e-13 of each sum."""
    past = past_of([1500], "uneven", centre=1e6)
    for clock in (Relative(0.5), Steps(700), Visits(600)):
        for kernel in (KERNELS["triangular"], KERNELS["tricube"]):
            windows = Windows.of([clock], kernel, past, past.step)
            expected, size, _ = definition(past, windows, kernel, 2)
            check(moments_of_the_past(past, windows, kernel, 1), expected, 2e-13 * size)


@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if isinstance(k, Power)], ids=lambda k: k.name)
def test_the_cost_does_not_follow_the_window(kernel, monkeypatch):
    """Of windows that lie within the log, none is summed visit by visit; of those at an edge, few are."""
    asked = []

    def select():
        class Backend:
            @staticmethod
            def ragged_moments(histories, windows, kernel):
                asked.append(len(histories.start))
                return numba_.ragged_moments(histories, windows, kernel)

        return Selection("counting", Backend, "")

    monkeypatch.setattr(moving, "select", select)
    past = past_of([4000], "every step")
    for clock in (Relative(0.5), Relative(4.0), Steps(500), Steps(np.inf), Visits(300)):
        moments_of_the_past(past, Windows.of([clock], kernel, past, past.step), kernel, 0)
    assert sum(asked) <= 10
    past = past_of([4000], "in blocks")
    for clock in (Relative(0.5), Steps(500), Visits(300)):
        asked.clear()
        moments_of_the_past(past, Windows.of([clock], kernel, past, past.step), kernel, 0)
        assert sum(asked) <= 40
