"""The fused kernels of a history on a device against their plain references.

With ``TRITON_INTERPRET=1`` in Triton's interpreter on the CPU, else on the GPU.
"""

import numpy as np
import pytest
import torch
from inputs import DEVICE, MARKS, close, histories, queries
from launches import fused
from waiting import unread

from kernadv import KernelValueEstimator
from kernadv.clock import Steps
from kernadv.device import groups, history, places, table, totals, triton_kernels, visits
from kernadv.kernels import KERNELS
from kernadv.moments import numpy_ as reference

pytestmark = MARKS


def on_device(*arrays):
    return [torch.as_tensor(part).to(DEVICE) for part in arrays]


def same_estimates(*arguments):
    (mine, *truths), (theirs, *expected) = triton_kernels.smooth_rows(*arguments), groups.estimates(*arguments)
    for got, want in zip(mine, theirs, strict=True):
        close(got, want.cpu(), 1e-9)
    for got, want in zip(truths, expected, strict=True):
        assert torch.equal(got, want)


@pytest.mark.nightly(lambda rows, kind, several: kind not in (torch.float64, torch.float32) and rows in (2, 127, 129))
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300])
def test_rows_are_arranged(rows, kind, several):
    """Prompts that are known and not, in a full table and a small one, the largest id; rewards of any type."""
    rng = np.random.default_rng(rows)
    ids, rewards = rng.integers(0, max(rows // 3, 1), rows), 3.0 * rng.normal(size=rows)
    ids[rng.random(rows) < 0.1] = 2**63 - 1
    if kind.is_floating_point:
        rewards[rng.random(rows) < 0.2] = np.nan
        rewards[rng.random(rows) < 0.1] = np.inf
        rewards[rng.random(rows) < 0.1] = -1e101
    tick = np.sort(rng.integers(0, 3, rows)) if several else np.zeros(rows, int)
    order = np.lexsort([tick, ids])
    ids, order, tick = on_device(ids[order], order, tick[order])
    for many, used, room in [(1, 1, 1), (40, 0, 8), (40, 30, 5), (129, 129, 64)]:
        held = np.full(many, table.FREE)
        held[:used] = np.sort(rng.permutation(2 * used)[:used])
        size, newest = rng.integers(1, room + 1, (2, many + 1))
        size[-1] = newest[-1] = 0
        arguments = (ids, order, torch.as_tensor(rewards).to(DEVICE, kind), tick if several else None,
                     *on_device(held, rng.permutation(many), np.array(used), size, newest), room, 2**40)  # fmt: skip
        got, want = triton_kernels.arrange_rows(*arguments), places.arrange(*arguments)
        for mine, theirs in zip(got, want, strict=True):
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine.nan_to_num(9.0), theirs.nan_to_num(9.0))
        assert got[0].isfinite().logical_or(got[0].isnan()).all()
    assert not kind.is_floating_point or rows < 127 or got[1].any()


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 127, 128, 300])
def test_advantages_go_back_to_their_rows(rows, kind):
    """0 where a reward is missing, NaN where it is refused or there is no baseline."""
    rng = np.random.default_rng(rows)
    z, baseline = rng.normal(size=(2, rows))
    refused = rng.random(rows) < 0.2
    z[refused | (rng.random(rows) < 0.2)] = np.nan
    baseline[rng.random(rows) < 0.2] = np.nan
    arguments = *on_device(z, baseline, refused, rng.permutation(rows)), kind
    got, want = triton_kernels.advantages_of_rows(*arguments), places.advantages(*arguments)
    assert got.dtype == want.dtype == kind
    assert torch.equal(got.nan_to_num(9.0), want.nan_to_num(9.0))


@pytest.mark.parametrize("smoother", triton_kernels.DEGREES)
@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300])
def test_estimates_of_the_rows(rows, smoother):
    """Groups of unequal size that lie across programs; rewards that are not there, pasts that are empty or one step."""
    rng = np.random.default_rng(rows)
    ids, z = rng.integers(0, max(rows // 5, 1), rows), rng.normal(size=rows)
    z[rng.random(rows) < 0.2] = np.nan
    made = unread(*on_device(ids, z))
    lengths = rng.integers(0, 6, rows)
    sample = histories(rows, lengths, last=50)
    past = reference.ragged_moments(sample, queries(sample, KERNELS["triangular"], last=50, grid=[Steps(30)]),
                                    KERNELS["triangular"])  # fmt: skip
    (past,) = on_device(np.stack(past)[:, :, 0])
    same_estimates(past, made.z, made.group, made.end, smoother)


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300])
def test_sums_of_groups(rows):
    """Groups of unequal size that lie across programs, some without a reward; the own reward never enters."""
    rng = np.random.default_rng(rows)
    ids, z = rng.integers(0, max(rows // 3, 1), rows), rng.normal(size=rows)
    z[(rng.random(rows) < 0.2) | (ids % 7 == 3)] = np.nan
    made = unread(*on_device(ids, z))
    arguments = made.z, made.group, made.end
    got, want = triton_kernels.sum_groups(*arguments), groups.sums_of_groups(*arguments)
    for mine, theirs in zip(got[:3], want[:3], strict=True):
        close(mine, theirs.cpu(), 1e-12)
    for mine, theirs in zip(got[3:], want[3:], strict=True):
        assert torch.equal(mine, theirs)
    changed = made.z.clone()
    changed[rows // 2] = 1e200
    assert torch.equal(triton_kernels.sum_groups(changed, *arguments[1:])[0][:, rows // 2], got[0][:, rows // 2])


@pytest.mark.parametrize("columns", [1, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 127, 129, 300])
def test_others_of_a_group(rows, columns):
    """Groups of unequal size that lie across programs; the own part never enters, however large it is."""
    rng = np.random.default_rng(rows)
    ids, parts = rng.integers(0, max(rows // 5, 1), rows), rng.normal(size=(columns, rows))
    made = unread(*on_device(ids, np.zeros(rows)))
    (parts,) = on_device(parts)
    got = triton_kernels.sum_of_groupmates(parts, made.group, made.end)
    close(got, groups.sum_by_doubling(parts, made.group, made.end).cpu(), 1e-12)
    for row in range(0, rows, 50):
        changed = parts.clone()
        changed[:, row] = 1e200
        assert torch.equal(triton_kernels.sum_of_groupmates(changed, made.group, made.end)[:, row], got[:, row])


@pytest.mark.nightly(lambda size, rows: size == 7000)
@pytest.mark.parametrize(("size", "rows"), [(64, 5), (129, 40), (300, 128), (512, 300), (7000, 2600)])
def test_ids_are_taken_in(size, rows):
    """Until the table is full; also the largest and the smallest number there is."""
    rng = np.random.default_rng(size)
    mine, theirs = (table.Table(torch.device(DEVICE), size) for _ in range(2))
    extreme = np.array([2**63 - 1, -(2**63), 0])
    for _ in range(6):
        low = rng.integers(-(10**12), 10**12, rows)
        ids = np.sort(np.concatenate([low, extreme, np.repeat(low[:3], 2)]))
        first = np.concatenate([[True], ids[1:] != ids[:-1]])
        wanted = first & (rng.random(len(ids)) < 0.4)
        if int(theirs.used) + wanted.sum() > size:
            break
        ids, wanted = on_device(ids, wanted)
        found = theirs.find(ids)
        want = table.enter(theirs.keys, theirs.rows, theirs.used, ids, *found, wanted)
        got = triton_kernels.enter_ids(mine.keys, mine.rows, mine.used, ids, *mine.find(ids), wanted)
        used = int(theirs.used)
        assert int(mine.used) == used
        assert torch.equal(got[wanted], want[wanted])
        assert torch.equal(mine.keys, theirs.keys)
        assert torch.equal(mine.rows[:used], theirs.rows[:used])
    assert used > 3


@pytest.mark.nightly(lambda room, noted: (room, noted) not in {(1, 0), (5, 1), (8, 5), (33, 74), (1, 74), (8, 0)})
@pytest.mark.parametrize("noted", [0, 1, 5, 74])
@pytest.mark.parametrize("room", [1, 5, 8, 33])
def test_visits_are_put(room, noted):
    """New prompts, the same step again, late steps, full rows that lose their oldest visit or the new one."""
    rng = np.random.default_rng(room)
    prompts = 12
    kinds = [torch.int64, torch.int32, torch.float64, torch.float64]
    mine, theirs = (
        visits.Visits(
            *(torch.zeros(prompts * room + 1, dtype=kind, device=DEVICE) for kind in kinds),
            *(torch.zeros(prompts + 1, dtype=torch.int64, device=DEVICE) for _ in range(2)),
        )
        for _ in range(2)
    )
    notes = [torch.zeros((prompts + 1, noted), dtype=torch.float64, device=DEVICE) for _ in range(2)]
    lost = 0
    for step in [int(step) for step in rng.integers(1, 60, 40)] + [2**40, 2**40 + 1]:
        rows = rng.permutation(prompts)[:7]
        now = rng.random(7) < 0.7
        sums = rng.integers(1, 9, (3, 7)).astype(float)
        rows = np.where(now, rows, prompts)
        arguments = [*on_device(rows, now, sums), *on_device(rng.normal(size=(7, noted))), step, room]
        arguments[3] = arguments[3] if noted else None
        got = triton_kernels.put_visits(*mine, notes[0], *arguments)
        want = visits.put(*theirs, notes[1], *arguments)
        assert torch.equal(got, want)
        lost += int((want < visits.NONE).sum())
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            assert torch.equal(a[:-1], b[:-1])
        for a, b in zip([*mine[4:], notes[0]], [*theirs[4:], notes[1]], strict=True):
            assert torch.equal(a, b)
    assert (lost > 0) == (room < 33)


@pytest.mark.parametrize("rows", [1, 5, 1024, 1025, 2500])
def test_means_of_the_other_prompts(rows):
    """Prompts within a program, across several, and one that is all there is; the own rewards never enter."""
    rng = np.random.default_rng(rows)
    for prompts in (1, 2, rows // 300 + 1, rows):
        ids, z = np.sort(rng.integers(0, prompts, rows)), rng.normal(size=rows)
        z[rng.random(rows) < 0.2] = np.nan
        made = unread(*on_device(ids, z))
        value, defined, seen = on_device(
            rng.normal(size=rows), rng.random(rows) < 0.3, np.array([2.0 * (rows % 2), 14.0])
        )
        defined[rows // 2] = False
        got = triton_kernels.fill_from_elsewhere(value, defined, made.z, *made.prompt, seen)
        close(got, groups.filled_from_elsewhere(value, defined, made.z, *made.prompt, seen).cpu(), 1e-12)
        changed = torch.where(made.keys == made.keys[rows // 2], 1e200, made.z)
        again = triton_kernels.fill_from_elsewhere(value, defined, changed, *made.prompt, seen)
        assert torch.equal(again[rows // 2], got[rows // 2])


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("rows", [1, 5, 1024, 1025, 2500])
def test_sums_of_the_other_prompts(rows, columns):
    """Prompts within a program, across several, and one that is all there is; the own parts never enter."""
    rng = np.random.default_rng(rows)
    for prompts in (1, 2, rows // 300 + 1, rows):
        made = unread(*on_device(np.sort(rng.integers(0, prompts, rows)), np.zeros(rows)))
        (parts,) = on_device(rng.normal(size=(columns, rows)))
        got = triton_kernels.sum_elsewhere(parts, *made.prompt)
        close(got, groups.sums_elsewhere(parts, *made.prompt).cpu(), 1e-12)
        changed = torch.where(made.keys == made.keys[rows // 2], 1e200, parts)
        again = triton_kernels.sum_elsewhere(changed, *made.prompt)
        assert torch.equal(again[:, rows // 2], got[:, rows // 2])


@pytest.mark.parametrize("rewards", ["binary", "whole", "normal", "far", "none"])
def test_totals_of_batches(rewards):
    """Groups of all sizes, whole groups that are not scored, ends that move outwards; calls without values."""
    rng = np.random.default_rng(3)
    mine, theirs = ([torch.zeros(many, dtype=torch.float64, device=DEVICE) for many in (2, 3, 12)] for _ in range(2))
    for sums in (mine, theirs):
        sums.append(torch.zeros((), dtype=torch.int64, device=DEVICE))
    for count, rows in enumerate([1, 7, 300, 1100, 2, 40]):
        ids = rng.integers(0, max(rows // 5, 1), rows)
        z = {"binary": (rng.random(rows) < 0.5) * 1.0, "whole": rng.integers(0, 2 + count, rows) - 5.0,
             "normal": rng.normal(size=rows), "far": 1e6 + rng.random(rows),
             "none": np.full(rows, np.nan)}[rewards]  # fmt: skip
        z[(rng.random(rows) < 0.2) | (ids % 5 == 4)] = np.nan
        made = unread(*on_device(ids, z))
        n, s, _ = made.visits
        value, refusals = on_device(
            rng.normal(size=rows), rng.integers(0, 5, rows) if count % 2 else rng.random(rows) < 0.2
        )
        keep = 0.98 if count % 2 else 1.0
        arguments = made.z, made.group, made.end, n, s, None if count == 3 else value, refusals, keep
        totals.add(*theirs, *arguments)
        triton_kernels.add_totals(*mine, *arguments)
        for a, b in zip(mine, theirs, strict=True):
            close(a, b.cpu(), 1e-12)


def guarded(count, kind):
    """Zeros, with as many of something else before and behind them."""
    return torch.full((3 * count,), 77, dtype=kind, device=DEVICE)[count : 2 * count].zero_()


def untouched(tensor):
    """Whether what lies around a `guarded` tensor is as it was."""
    before = tensor.as_strided((tensor.storage_offset(),), (1,), 0)
    behind = tensor.as_strided((tensor.storage_offset(),), (1,), 2 * tensor.storage_offset())
    return bool((before == 77).all() and (behind == 77).all())


@pytest.mark.parametrize("launched", [False, True])
def test_nothing_is_written_outside_of_the_tensors(launched):
    """However wrong the host is about how full they are: more ids than places, rows that are no prompt's."""
    enter, put = (triton_kernels.enter_ids, triton_kernels.put_visits) if launched else (table.enter, visits.put)
    prompts, room = 4, 2
    held = table.Table(torch.device(DEVICE), prompts)
    held.keys, held.rows = guarded(prompts, torch.int64).fill_(table.FREE), guarded(prompts, torch.int64)
    kinds = [torch.int64, torch.int32, torch.float64, torch.float64]
    kept = visits.Visits(*(guarded(prompts * room + 1, kind) for kind in kinds),
                         *(guarded(prompts + 1, torch.int64) for _ in range(2)))  # fmt: skip
    (due,) = on_device(np.ones(2, bool))
    ones = torch.ones((3, 2), dtype=torch.float64, device=DEVICE)
    notes, noted = guarded(2 * (prompts + 1), torch.float64), torch.ones((2, 2), dtype=torch.float64, device=DEVICE)
    for repeat, base in enumerate([0, 10, 20, 30, -10, 15]):
        (ids,) = on_device(np.array([base, base + 1]))
        found = held.find(ids)
        row = enter(held.keys, held.rows, held.used, ids, *found, due)
        put(*kept, notes.view(-1, 2), row, due, ones, noted, repeat + 1, room)
        assert int(held.used) <= prompts
        assert ((row >= 0) & (row <= prompts)).all()
    for rows in ([prompts, prompts], [-1, -(2**40)], [prompts + 1, 2**40]):
        before = [part.clone() for part in kept]
        lost = put(*kept, notes.view(-1, 2), *on_device(np.array(rows)), due, ones, noted, 9, room)
        assert (lost == visits.NONE).all()
        assert all(torch.equal(x[:-1], y[:-1]) for x, y in zip(kept, before, strict=True))
    assert int(kept.size.sum()) == prompts
    assert not kept.size[-1]
    assert not notes[-2:].any()
    assert all(map(untouched, (held.keys, held.rows, *kept, notes)))


@pytest.mark.nightly(lambda size: size == 200)
@pytest.mark.parametrize("size", [1, 2, 3, 16, 31, 64, 128, 200, 256])
def test_groups_of_any_size(size):
    """From one trace to 256."""
    rng = np.random.default_rng(size)
    ids = np.repeat(np.arange(3), size)
    z = rng.normal(size=len(ids))
    z[rng.random(len(ids)) < 0.1] = np.nan
    made = unread(*on_device(ids, z))
    (past,) = on_device(np.zeros((9, len(ids))))
    same_estimates(past, made.z, made.group, made.end, "nadaraya_watson")
    parts = torch.stack([made.own[1], made.own[0]])
    got = triton_kernels.sum_of_groupmates(parts, made.group, made.end)
    close(got, groups.sum_by_doubling(parts, made.group, made.end).cpu(), 1e-12)


@fused()
def test_a_history_made_of_them(monkeypatch):
    """All of them together, as a GPU runs them, over many batches and a growing history."""
    rng = np.random.default_rng(30)
    here = KernelValueEstimator.kae(0.4, backend="numba")
    there = KernelValueEstimator.kae(0.4, backend="torch" if DEVICE == "cpu" else "auto")
    monkeypatch.setattr(history, "PROMPTS", 8)
    for step in range(1, 13):
        ids = rng.integers(0, 15, 30)
        z = rng.normal(size=30)
        z[rng.random(30) < 0.2] = np.nan
        got = there.advantages(*on_device(ids, z), step)
        np.testing.assert_allclose(got.cpu().numpy(), here.advantages(ids, z, step), rtol=1e-10, atol=1e-10)
