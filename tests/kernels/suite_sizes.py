"""Any size, support, width and type: every fused kernel against its reference in float64.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis", reason="a bare machine with a GPU has none, and the other suites run there")
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import ALL, CLOSE, DEVICE, INTERPRETED, MARKS, Scaled, close, cloud, flash_windows, histories, tensors
from suite_programs import CALLS, Sample, agree
from waiting import unread

from kernadv.clock import Relative, Steps
from kernadv.device import groups, table, totals, triton_kernels, visits
from kernadv.kernels import KERNELS
from kernadv.moments import Windows, triton_ragged
from kernadv.moments import numpy_ as moments
from kernadv.regression.operators import flash, prequential, triton_flash, triton_prequential, triton_weights, weights

pytestmark = MARKS


def drawn(count):
    """So many examples in the interpreter."""
    return settings(max_examples=count if INTERPRETED else 200, deadline=None, derandomize=True)


SEEDS = st.integers(0, 99)
LENGTHS = st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 31, 32, 33, 65, 130]), min_size=1, max_size=4)
TYPES = st.sampled_from(["float32", "float64"])
DEGREES = st.sampled_from([0, 1])
SUPPORTS = st.sampled_from([*ALL, *(Scaled(support, exponent) for support in (0.3, 2.0, 7.0) for exponent in (0, 1))])
#: From one that holds nothing to one that holds all; in between no weight is too small for float32.
WIDTHS = st.sampled_from([1e-300, 1e-40, 1e-10, 0.5, 1.0, 2.0, 29.0, 64.0, np.inf])


@given(SEEDS, LENGTHS, st.lists(st.one_of(WIDTHS, st.floats(1e-300, 300.0)), min_size=1, max_size=18), SUPPORTS, TYPES,
       DEGREES)  # fmt: skip
@drawn(20)
def test_moments(seed, lengths, widths, kernel, dtype, degree):
    sample = histories(seed, lengths, last=300)
    steps = sample.step if len(sample.step) else np.array([5])
    windows = Windows.of([Steps(width) for width in widths], kernel, sample,
                         np.random.default_rng(seed).choice(steps, len(lengths)))  # fmt: skip
    got = triton_ragged.ragged_moments(tensors(sample, dtype), tensors(windows, dtype), kernel, dtype, degree)
    with np.errstate(over="ignore"):
        expected = moments.ragged_moments(sample, windows, kernel)
    for k, theirs in enumerate(expected):
        if degree == 1 or k in (0, 3, 5, 8):
            close(got[k], theirs, 1e-11 if dtype == "float64" else 3e-6)
        else:
            assert (got[k] == 0).all()


@given(SEEDS, LENGTHS, st.lists(WIDTHS, min_size=1, max_size=18), SUPPORTS, TYPES, DEGREES)
@drawn(40)
def test_weights(seed, lengths, widths, kernel, dtype, degree):
    """The nearest visit is at most three steps away: no sum of weights is too small for float32."""
    sample, rng = histories(seed, lengths, last=300), np.random.default_rng(seed)
    last = [sample.step[end - 1] if length else 5 for end, length in zip(np.cumsum(lengths), lengths, strict=True)]
    windows = Windows.of([Steps(width) for width in widths], kernel, sample, last + rng.integers(0, 4, len(lengths)))
    got = triton_weights.kernel_weights(
        tensors(sample, dtype), tensors(windows, dtype), kernel, degree, sum(lengths), dtype
    )
    expected = weights.kernel_weights(tensors(sample), tensors(windows), kernel, degree, sum(lengths))
    close(got, expected, 1e-10 if dtype == "float64" else 1e-4)


@given(SEEDS, LENGTHS, st.lists(WIDTHS | st.sampled_from([Relative(0.29), Relative(1.0)]), min_size=1, max_size=9), SUPPORTS,
       TYPES)  # fmt: skip
@drawn(12)
def test_prequential(seed, lengths, grid, kernel, dtype):
    sample = histories(seed, [min(length, 65) for length in lengths], last=100)
    grid = [Steps(width) if isinstance(width, float) else width for width in grid]
    if kernel.support == np.inf:  # weights that float32 holds, or none
        grid = [Steps(64.0) if width in map(Steps, (0.5, 1.0, 2.0)) else width for width in grid]
    slope, floor = prequential.half_widths(tuple(grid), torch.device(DEVICE))
    expected = prequential.prequential_cv(tensors(sample), slope, floor, kernel)
    loss, count = triton_prequential.prequential_cv(tensors(sample, dtype), slope, floor, kernel, dtype)
    close(count, expected[1], 0.0)
    close(loss, expected[0], 1e-5 if dtype == "float32" else 1e-12)


@given(
    sizes=st.tuples(*[st.sampled_from([1, 2, 15, 16, 17, 31, 33, 64])] * 3),
    far=SUPPORTS,
    time=SUPPORTS,
    width=st.sampled_from([1e-300, 0.5, 20.0, np.inf]),
    bandwidth=st.sampled_from([1.5, np.inf]),
    precision=st.sampled_from(flash.PRECISIONS),
    degree=DEGREES,
    split=st.sampled_from([1, 3]),
)
@drawn(40)
def test_flash(sizes, far, time, width, bandwidth, precision, degree, split):
    queries, points, y, step = cloud(*sizes)
    windows = flash_windows(torch.full_like(step, width), time, bandwidth, 0.25)
    got = triton_flash.flash_moments(queries, points, y, windows, far, time, precision, degree, split).double()
    if precision == "bf16":  # exact for the features as they were rounded
        centre = points.features.mean(0)
        queries, points = (
            part._replace(features=(part.features - centre).bfloat16().float()) for part in (queries, points)
        )
    expected = flash.flash_moments(queries, points, y, windows, far, time)
    assert not got.isnan().any()
    some = expected[0] > 1e-2
    close(got[3, some] / got[0, some], expected[3, some] / expected[0, some], 1e-3)
    assert torch.equal(got[0, some] > 0, expected[0, some] > 0)


# ---------------------------------------------------------------- the kernels of a history on a device, all in float64
ROWS = st.sampled_from([1, 2, 3, 15, 17, 64, 127, 128, 129, 300, 1023, 1025])


def on_device(*arrays):
    return [torch.as_tensor(part).to(DEVICE) for part in arrays]


@given(SEEDS, ROWS, st.sampled_from([1, 2, 7, 1000]), st.sampled_from([1, 3]), st.sampled_from([0.0, 0.3, 1.0]),
       st.sampled_from([1, 3, 4, 7, 8, 9]), st.sampled_from(sorted(triton_kernels.DEGREES)))  # fmt: skip
@drawn(12)
def test_rows_of_a_batch(seed, rows, prompts, steps, missing, columns, smoother):
    """Groups and prompts of any size, of one step or several; some or all rewards are not scored."""
    rng = np.random.default_rng(seed)
    ids, z, tick = rng.integers(0, prompts, rows), rng.normal(size=rows), rng.integers(0, steps, rows)
    z[rng.random(rows) < missing] = np.nan
    ids, z, tick = on_device(ids, z, tick)
    made = unread(ids, z, None if steps == 1 else tick, list(range(1, steps + 1)))
    sample = histories(seed, rng.integers(0, 6, rows), last=50)
    windows = Windows.of([Steps(30)], KERNELS["triangular"], sample, rng.integers(20, 60, rows))
    past, parts = on_device(
        np.stack(moments.ragged_moments(sample, windows, KERNELS["triangular"]))[:, :, 0],
        rng.normal(size=(columns, rows)),
    )
    smoothed = groups.estimates(past, made.z, made.group, made.end, smoother)
    got = triton_kernels.smooth_rows(past, made.z, made.group, made.end, smoother)
    for mine, theirs in zip(got, smoothed, strict=True):
        close(mine.double(), theirs.double().cpu(), 1e-9)
    for mine, theirs in zip(triton_kernels.sum_groups(made.z, made.group, made.end),
                            groups.sums_of_groups(made.z, made.group, made.end), strict=True):  # fmt: skip
        close(mine.double(), theirs.double().cpu(), CLOSE["float64"])
    others = triton_kernels.sum_of_groupmates(parts, made.group, made.end)
    close(others, groups.sum_by_doubling(parts, made.group, made.end).cpu(), CLOSE["float64"])
    elsewhere = triton_kernels.sum_elsewhere(parts, *made.prompt)
    close(elsewhere, groups.sums_elsewhere(parts, *made.prompt).cpu(), CLOSE["float64"])
    seen, value = on_device(np.array([3.0, 21.0]), rng.normal(size=rows))
    arguments = value, value > 0, made.z, *made.prompt, seen
    filled = triton_kernels.fill_from_elsewhere(*arguments)
    close(filled, groups.filled_from_elsewhere(*arguments).cpu(), CLOSE["float64"])
    mine, theirs = ([torch.zeros(many, dtype=torch.float64, device=DEVICE) for many in (2, 3, 12)] for _ in range(2))
    for sums in (mine, theirs):
        sums.append(torch.zeros((), dtype=torch.int64, device=DEVICE))
    for value in (parts[0], None, parts[-1]):
        arguments = made.z, made.group, made.end, *made.visits[:2], value, made.refused, 0.98
        totals.add(*theirs, *arguments)
        triton_kernels.add_totals(*mine, *arguments)
        for a, b in zip(mine, theirs, strict=True):
            close(a, b.cpu(), CLOSE["float64"])


@given(SEEDS, st.sampled_from([1, 2, 3, 16, 127, 128, 129, 300]), st.lists(ROWS, min_size=1, max_size=4),
       st.sampled_from([2, 40, 10**12]))  # fmt: skip
@drawn(20)
def test_tables_of_ids(seed, size, batches, apart):
    """Found, or taken in until the table is full; repeated ids, the smallest and the largest number there is."""
    rng = np.random.default_rng(seed)
    mine, theirs = (table.Table(torch.device(DEVICE), size) for _ in range(2))
    for rows in batches:
        ids = rng.integers(-apart, apart, rows)
        ids[rng.random(rows) < 0.1] = rng.choice([2**63 - 1, -(2**63)])
        (ids,) = on_device(np.sort(ids))
        found = table.find(theirs.keys, theirs.rows, theirs.used, ids)
        used = int(theirs.used)
        got = triton_kernels.find_ids(mine.keys, mine.rows, mine.used, ids)
        for a, b in zip(got, found, strict=True):
            assert torch.equal(a, b)
        first = torch.ones_like(found[1])
        first[1:] = ids[1:] != ids[:-1]
        wanted = first & on_device(rng.random(rows) < 0.6)[0]
        fresh = torch.cumsum(wanted & ~found[1], 0)
        wanted &= found[1] | (fresh <= size - used)
        want = table.enter(theirs.keys, theirs.rows, theirs.used, ids, *found, wanted)
        entered = triton_kernels.enter_ids(mine.keys, mine.rows, mine.used, ids, *got, wanted)
        assert torch.equal(entered[wanted], want[wanted])
        used = int(theirs.used)
        assert int(mine.used) == used
        assert torch.equal(mine.keys, theirs.keys)
        assert torch.equal(mine.rows[:used], theirs.rows[:used])


@given(SEEDS, st.sampled_from([1, 2, 17, 129]), st.sampled_from([1, 2, 7, 8, 16, 33, 257]), st.integers(1, 40))
@drawn(12)
def test_visits(seed, prompts, room, late):
    """Prompts that are new or full, a step that is there, late ones, and one beyond 32 bits."""
    rng = np.random.default_rng(seed)
    kinds = [torch.int64, torch.int32, torch.float64, torch.float64]
    mine, theirs = (
        visits.Visits(
            *(torch.zeros(prompts * room + 1, dtype=kind, device=DEVICE) for kind in kinds),
            *(torch.zeros(prompts + 1, dtype=torch.int64, device=DEVICE) for _ in range(2)),
        )
        for _ in range(2)
    )
    notes = [torch.zeros((prompts + 1, 3), dtype=torch.float64, device=DEVICE) for _ in range(2)]
    for step in [*rng.integers(1, 1 + late, 10).tolist(), 2**40]:
        rows = rng.permutation(prompts)[: max(prompts // 2, 1)]
        now = rng.random(len(rows)) < 0.7
        sums = rng.integers(1, 9, (3, len(rows))).astype(float)
        arguments = [*on_device(np.where(now, rows, prompts), now, sums, rng.normal(size=(len(rows), 3))), step, room]
        got = triton_kernels.put_visits(*mine, notes[0], *arguments)
        assert torch.equal(got, visits.put(*theirs, notes[1], *arguments))
        assert torch.equal(*notes)
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            assert torch.equal(a[:-1], b[:-1])
        for a, b in zip(mine[4:], theirs[4:], strict=True):
            assert torch.equal(a, b)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.sampled_from([1, 2, 31, 33]), st.sampled_from([1, 2, 3])),
    first=st.booleans(),
    span=st.sampled_from([0.0, 1e-90, 1.0, 1e6]),
    shares=st.fixed_dictionaries(
        {name: st.sampled_from([0.0, 0.5, 1.0]) for name in ("known", "stale", "late", "empty")}
    ),
    turns=st.sampled_from([1, 2, 4]),
    weights=st.sampled_from([-1.0, 0.0, 0.5]),
)
@drawn(8)
def test_programs(seed, sizes, first, span, shares, turns, weights):
    for name in CALLS:
        agree(name, Sample(seed, *sizes, first=first, span=span, turns=turns, weights=weights, **shares))
