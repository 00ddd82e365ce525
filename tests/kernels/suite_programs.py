"""Every program of the pool in Triton against the same text in numba.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import math

import numpy as np
import pytest
import torch
from inputs import DEVICE, MARKS

from kernadv.device import programs, triton_programs
from kernadv.pooling import Calibration, GroupSums, Pooling
from kernadv.pooling._words import LOOPS
from kernadv.pooling.calibration import KNOTS

pytestmark = MARKS

#: Groups and filters; the programs own 32 places each.
SIZES = [(1, 1), (31, 1), (32, 1), (33, 1), (100, 1), (1, 36), (33, 36)]
#: Both compute in float64, with other functions exp and log; differences of numbers lose digits.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
#: Cells beside each array, which no program may touch; what is read there spoils the result.
MARGIN = 64


class Sample:
    """N groups of an imagined batch, M filters and what the prompts share, as the programs get them.

    Parameters
    ----------
    seed, N, M : int
    first : bool
        What is told of the range, and the weights of traces, differ by group.
    span : float
        Length of the present range of the rewards, which begins at -0.5.
    known, stale, late, empty : float
        Shares of the groups: of prompts that the history knows; whose notes are of another range; that come late; without
        a scored trace.
    turns : int
        Most groups of a prompt.
    weights : float
        Share of the traces that weigh 0; -1: all weigh 1.
    """

    def __init__(
        self, seed, N, M, first=False, span=1.0, known=0.7, stale=0.5, late=0.3, empty=0.1, turns=1, weights=0.1
    ):
        self.N, self.M, self.first, self.turns, self.rng = N, M, first, turns, (r := np.random.default_rng(seed))
        self.low, self.high = -0.5, -0.5 + span
        members = (
            Pooling().members if M == 36 else (r.uniform(0.5, 4, M), r.choice([0.0, 0.2], M), r.choice([0.0, 0.05], M))
        )
        weight = r.random(M) * (r.random(M) > 0.2) + 1e-6
        self.filters = np.stack([weight / weight.sum(), *members])
        self.shared = np.array([self.low, self.high, r.uniform(0.2, 5), 1.0, r.uniform(0.5, 2), r.random(), r.normal()])
        self.known = (r.random(N) < known) * 1.0
        # a late group takes away what was added: of a very large variance nothing is left but rounding
        self.notes = self.noted(stale, 1e3 if late or turns > 1 else 1e15)
        self.gap = r.integers(0, 20, N) * r.choice([1.0, -1.0], N, p=[1 - late, late])
        self.gap[r.random(N) < 0.05] = 2.0**40
        self.offset = r.normal(size=N)
        self.level, self.told = r.normal(size=N if first else 1), (r.random(N if first else 1) < 0.8).astype(float)
        self.level = np.broadcast_to(self.level, N).copy()
        if not first:
            self.told[:] = 1.0
        self.sums = self.grouped(empty, weights)
        self.prompt, self.first_group, self.turn = self.chained(turns)

    def noted(self, stale, wide):
        """Beliefs, some of them extreme; ranges at a visit lie in the present one, at its ends, or are empty."""
        r, N, M = self.rng, self.N, self.M
        logit = r.normal(0, 3, (N, M))
        logit[r.random((N, M)) < 0.03] = 45.0
        variance = r.gamma(1.0, 1.0, (N, M)) + 1e-3
        variance[r.random((N, M)) < 0.03] = wide
        place = r.random((N, 2))
        place[r.random(N) < 0.25, 0] = 0.0
        place[r.random(N) < 0.25, 1] = 1.0
        place.sort(axis=1)
        empty = r.random(N) < 0.2
        place[empty, 1] = place[empty, 0]
        ends = np.where(
            (r.random(N) < stale)[:, None], self.low + (self.high - self.low) * place, [self.low, self.high]
        )
        return np.concatenate([ends, logit, variance], axis=1)

    def grouped(self, empty, weights):
        """`GroupSums` in shares of the range."""
        r = self.rng
        sums = np.zeros((7, self.N))
        for g in np.flatnonzero(r.random(self.N) >= empty):
            z = r.choice([0.0, 1.0, r.random()], r.integers(1, 9))
            w = np.ones(len(z)) if weights < 0 else r.gamma(2.0, 0.5, len(z)) * (r.random(len(z)) >= weights)
            sums[:, g] = [len(z), w.sum(), w @ z, w @ w, w * w @ z, w * w @ (z * z), (w**3).sum()]
        return GroupSums(None, *sums)

    def chained(self, turns):
        """Prompts of up to so many groups, which have some turns of these, ascending."""
        prompt = np.sort(self.rng.integers(0, max(self.N // turns, 1), self.N)) if turns > 1 else np.arange(self.N)
        count = np.bincount(prompt)
        while count.max(initial=0) > turns:  # each has few enough
            over = np.flatnonzero(count[prompt] > turns)[-1]
            prompt[over:] += 1
            count = np.bincount(prompt)
        first = np.searchsorted(prompt, prompt)
        turn = [np.sort(self.rng.choice(turns, size, replace=False)) for size in count if size]
        return prompt, first, np.concatenate([np.zeros(0, int), *turn])

    def forecast(self):
        """Mean and worth of the filters, by numba."""
        mean, worth, middle = np.empty((self.N, self.M)), np.empty((self.N, self.M)), np.empty(self.N)
        asked = self.notes, self.known, self.gap, self.offset, self.level, self.told, self.filters
        LOOPS[programs.PROGRAMS["forecast"]](
            self.N, self.M, int(self.first), *(x.ravel() for x in (*asked, mean, worth)), middle
        )
        return mean, worth

    def rows(self):
        """Rows of the groups, several at a place: place, group, mass and total of the others, k and weight."""
        r, size = self.rng, self.N
        places = max(size // 2, 1)
        of = r.integers(0, size, places)
        place = np.sort(r.integers(0, places, size))
        mass = r.gamma(2.0, 1.0, size) * (r.random(size) > 0.2)
        own = size if self.first else 1
        k, weight = r.uniform(0.2, 5, own), r.uniform(0.5, 2, own)
        mass = mass[place]  # of a place: one group, and one mass
        return of, place, of[place], mass, self.low * mass + r.random(size) * mass, k, weight

    def joined(self):
        """Places, as `joined` gets and makes them, by numba."""
        of, place, group, mass, total, k, weight = self.rows()
        mean, worth = self.forecast()
        apart = np.zeros(len(of))
        apart[place] = mass
        each = k[: len(of)] if self.first else k
        out = np.empty((8, len(of)))
        asked = of, apart, each, mean, worth, self.filters
        LOOPS[programs.PROGRAMS["joined"]](len(of), self.M, int(self.first), *(x.ravel() for x in (*asked, out)))
        return asked, (place, group, mass, total, k, weight), out


def blank(*sizes):
    """Arrays that a program must fill."""
    return [np.full(size, np.nan) for size in sizes]


def recalled(s):
    return [((s.N, s.M), (s.notes, s.known, s.shared))], blank(s.notes.size), 0


def evidence(s):
    notes = s.notes.copy()
    notes[:, 2 : 2 + s.M] = notes[:, 2 : 2 + s.M].clip(-9, 9)  # at an end of the range all that it tells is rounding
    reads = notes, s.known, abs(s.gap), s.offset, s.sums.w, s.sums.wz, s.shared, s.filters
    return [((s.N, s.M), reads)], blank(4 * s.N), 2


def forecast(s):
    reads = s.notes, s.known, s.gap, s.offset, s.level, s.told, s.filters
    return [((s.N, s.M, int(s.first)), reads)], blank(s.N * s.M, s.N * s.M, s.N), 0


def joined(s):
    asked, _, out = s.joined()
    return [((len(asked[0]), s.M, int(s.first)), asked)], blank(out.size), 0


def posterior(s):
    _, (place, group, mass, total, k, weight), sums = s.joined()
    own = s.N if s.first else 1
    low, span = s.low + 0.1 * s.rng.random(own), (s.high - s.low) * (s.rng.random(own) > 0.2)
    told = s.rng.integers(0, 2, own).astype(float)
    reads = place, group, mass, total, k, weight, low, span, told, sums, s.shared
    return [((s.N, sums.shape[1], int(s.first), int(s.first), 1), reads)], blank(3 * s.N), 0


def learned(s):
    gap = np.where(s.known > 0, s.gap, abs(s.gap))
    known = s.known[s.first_group]
    notes = s.notes[s.first_group]  # all groups of a prompt know the same of it
    reads = s.first_group, s.turn, notes, known, gap, s.offset, *s.sums[1:8], s.shared, s.filters
    return (
        [((s.N, s.M, int(s.turns > 1), t, int(t > 0)), reads) for t in range(s.turns)],
        blank(s.notes.size, s.N, s.N),
        s.M,
    )


def traced(s):
    visits = int(s.rng.choice([0, 1, 5]))
    reads = s.rng.gamma(2.0, 1.0, visits), s.rng.integers(0, 9, visits + 1).astype(float), s.level[:1], s.filters
    return [((s.M, visits), reads)], blank(visits * s.M, s.M), 0


def ticked(s):
    step, newest = s.rng.choice([1, 7, 2**40], 2)
    return [((1, int(step)), (np.array([float(newest)]), s.sums.w[:1]))], blank(3), 0


def met(s):
    step = 50 + s.rng.integers(0, 9, s.N)
    last = np.where(s.rng.random(s.N) < 0.3, 0, step - s.rng.integers(-5, 40, s.N))
    notes = s.notes * (s.rng.random(s.N) < 0.8)[:, None]
    return [((s.N, s.M), (last, step, s.first_group, notes))], blank(s.N, s.N), 0


def prepared(s):
    J, state, _, odds = bank(s)
    asked = running(s), state, odds, losses(s, s.M + 1), s.rng.random(s.M) + 0.5, s.filters[1:]
    return [((s.M, J), asked)], blank(7, 4 * s.M), 0


def placed(s):
    _, _, w, wz, ww, wwz, wwzz, _, _ = s.sums
    ends = np.array([*np.sort(s.rng.random(2)), 0.3])
    if s.high == s.low:
        ends[1] = ends[0]
    return [((s.N,), (w, wz, ww, wwz, wwzz, *ends[:, None]))], blank(3 * s.N), 0


def running(s):
    """A state, also of nothing seen, and of a range of one number."""
    r = s.rng
    if s.first:
        return np.zeros(10)
    total = r.gamma(2.0, 10.0)
    state = [
        s.low,
        s.high,
        total,
        r.random() * total,
        *r.gamma(2.0, 2.0, 2),
        50.0,
        r.gamma(2.0, 20.0),
        r.integers(2),
        1.0,
    ]
    return np.array(state)


def summary(s):
    return [((1,), (running(s),))], blank(4), 0


def widened(s):
    batch = np.sort(s.rng.normal(size=(2, 1)), axis=0) if s.turns > 1 else np.array([[s.low], [s.high]])
    return [((1,), (running(s), s.sums.w[:1], *batch))], blank(5), 0


def wider(s):
    lower, upper = np.sort(s.rng.random(2)) if s.turns > 1 else (0.0, 1.0)
    return np.array([s.low, s.high, lower, upper, 1.0])


def counted(s):
    reads = *s.sums[1:7], s.rng.random(s.N), 0.1 * s.rng.random(s.N), wider(s)
    return [((s.N,), reads)], [], 9


def settled(s):
    new = np.array([float(s.rng.integers(2))])
    return [((1,), (running(s), wider(s), s.rng.gamma(2.0, 2.0, 9), new))], blank(10), 0


def bank(s):
    """J filters of the level: state, steps and odds."""
    J = min(s.M, 4)
    state = np.concatenate([s.rng.normal(size=J), s.rng.gamma(1.0, 1.0, J), -s.rng.gamma(1.0, 3.0, J)])
    if s.first:
        state[2 * J] = -1e4  # a filter without weight
    return J, state, s.rng.gamma(1.0, 0.1, J), np.array([math.log(10.0)] + [0.0] * (J - 1))


def shows(s):
    return s.rng.normal(0, 3, s.N), s.rng.gamma(1.0, 2.0, s.N) * (s.rng.random(s.N) > 0.2)


def expected(s):
    J, state, _, odds = bank(s)
    return [((1, J), (state, odds))], blank(1), 0


def shown(s):
    J, *kept = bank(s)
    return [((s.N, J), (*shows(s), np.array([s.rng.choice([0.0, 3.0, 1e300])]), *kept))], blank(s.N), 0


def followed(s):
    J, *kept = bank(s)
    new = np.array([float(s.rng.integers(2))])
    elapsed = np.array([s.rng.choice([-1.0, 0.0, 3.0, 1e300])])
    score, information = shows(s)
    return [((1, J), (score[:1], information[:1], elapsed, new, *kept))], blank(3 * J), 0


def moved(s):
    J, state, _, _ = bank(s)
    return [((1, J), (*wider(s)[2:4, None], state))], blank(3 * J), 0


def losses(s, size):
    return s.rng.gamma(2.0, 3.0, size) * (1e4 if s.first else 1.0)


def weighed(s):
    return [((s.N,), (losses(s, s.N + 1), s.rng.random(s.N) + 0.5))], blank(s.N), 0


def charged(s):
    reads = losses(s, s.N), np.array([12.0]), np.array([float(s.rng.integers(2))])
    return [((s.N + 1,), reads)], [losses(s, s.N + 1)], 0


def shrunk(s):
    return [((s.N + 1,), tuple(wider(s)[2:4, None]))], [losses(s, s.N + 1)], 0


def knots():
    piece = Calibration()
    return piece._knots, piece._before, piece._after


def predicted(s):
    return np.where(s.rng.random(s.N) < 0.2, s.rng.choice([0.0, 1.0, *KNOTS], s.N), s.rng.random(s.N))


def shifted(s):
    state = np.concatenate([s.rng.normal(size=len(KNOTS)), s.rng.gamma(2.0, 9.0, len(KNOTS))])
    return [((s.N, len(KNOTS)), (predicted(s), *knots(), state))], blank(s.N), 0


def residuals(s):
    return [((s.N, len(KNOTS)), (predicted(s), s.sums.w, s.sums.wz, *knots()))], [], 2 * len(KNOTS)


def blended(s):
    size = 2 * len(KNOTS)
    reads = s.rng.normal(size=size), np.array([s.rng.random()]), np.array([float(s.rng.integers(2))])
    return [((size,), reads)], [s.rng.normal(size=size)], 0


def faded(s):
    return [((2 * len(KNOTS),), tuple(wider(s)[2:4, None]))], [s.rng.normal(size=2 * len(KNOTS))], 0


#: By program: the calls on a sample, each with its numbers and what it reads; what they write; how many sums each adds.
CALLS = {
    make.__name__: make
    for make in (
        met, prepared, recalled, evidence, forecast, joined, posterior, learned, traced, ticked, placed, summary, widened,
        counted, settled, expected, shown, followed, moved, weighed, charged, shrunk, shifted, residuals, blended, faded,
    )
}  # fmt: skip


def guarded(array, device):
    """A copy of an array on the device between two margins: both, and what they hold."""
    flat = torch.as_tensor(np.array(array)).reshape(-1)
    outside = torch.full((MARGIN,), math.nan if flat.is_floating_point() else 1).to(flat.dtype)
    whole = torch.cat([outside, flat, outside]).to(device)
    return whole, whole[MARGIN : MARGIN + len(flat)]


def untouched(whole, array):
    """Whether the margins are as they were."""
    sides = torch.cat([whole[:MARGIN], whole[len(whole) - MARGIN :]])
    return bool(sides.isnan().all() if sides.is_floating_point() else (sides == 1).all())


def run(over_rows, name, calls, writes, sums, device):
    """What the calls have written, and their sums."""
    writes = [guarded(x, device) for x in writes]
    added = []
    for numbers, reads in calls:
        read = [guarded(x, device) for x in reads]
        added.append(over_rows(name, numbers, [x for _, x in read], [x for _, x in writes], sums).cpu())
        for (_, now), before in zip(read, reads, strict=True):
            np.testing.assert_array_equal(now.cpu().numpy(), np.ravel(before))
    assert all(untouched(*pair) for pair in writes)
    return [x.cpu().numpy() for _, x in writes] + [x.numpy() for x in added]


def agree(name, sample):
    """The program says the same in Triton as in numba, and writes every cell that it should."""
    calls, writes, sums = CALLS[name](sample)
    theirs = run(programs.over_rows, name, calls, writes, sums, "cpu")
    mine = run(triton_programs.over_rows, name, calls, writes, sums, DEVICE)
    for got, expected in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=RELATIVE, atol=ABSOLUTE)
    return mine


def test_every_program_is_here():
    assert set(CALLS) == set(programs.PROGRAMS)
    assert len(programs.PROGRAMS) == len(LOOPS)


@pytest.mark.parametrize(("N", "M"), SIZES)
@pytest.mark.parametrize("name", CALLS)
def test_the_same_text(name, N, M):
    written = agree(name, Sample(N, N, M))
    if name not in ("posterior", "learned"):  # they leave NaN where nothing is known, and rows behind a first group
        assert all(np.isfinite(x).all() for x in written)


HOW = {
    "first": {"first": True},
    "nothing-known": {"known": 0.0},
    "all-known": {"known": 1.0, "stale": 0.0},
    "all-stale": {"known": 1.0, "stale": 1.0},
    "empty-range": {"span": 0.0},
    "late": {"late": 1.0},
    "in-time": {"late": 0.0},
    "several": {"turns": 3},
    "several-first": {"turns": 3, "first": True, "late": 0.5},
    "no-weight": {"weights": 1.0},
    "no-trace": {"empty": 1.0},
    "alike": {"weights": -1.0, "empty": 0.0},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", CALLS)
def test_the_same_text_of_any_batch(name, how):
    agree(name, Sample(7, 33, 2, **HOW[how]))


@pytest.mark.parametrize("turns", [1, 3])
def test_learning_writes_first_groups_and_no_others(turns):
    s = Sample(3, 40, 2, turns=turns)
    notes, ahead, seen, *_ = agree("learned", s)
    first = np.unique(s.first_group)
    assert len(first) < 40 or turns == 1
    for written in (notes.reshape(40, -1), ahead[:, None], seen[:, None]):
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(written).all(1)), first)
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(written).all(1)), first)


def test_no_group():
    """Nothing is written, and the sums are 0."""
    for name in ("recalled", "evidence", "counted", "residuals", "placed"):
        calls, writes, sums = CALLS[name](Sample(1, 0, 3))
        written = run(triton_programs.over_rows, name, calls, writes, sums, DEVICE)
        assert written[-1].tolist() == [0.0] * sums
