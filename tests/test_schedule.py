"""Schedules: who is visited when, and how long prompts stay away."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.schedule import ScheduledDataset, block_reuse, revisit_gap, rolling_reuse

sizes = st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6), st.integers(1, 3), st.integers(0, 9))


@given(sizes)
def test_block_reuse_visits_each_block_in_a_row(size):
    n, block, reuse, passes, seed = size
    n += block
    schedule = block_reuse(n, block, reuse, seed, passes=passes)
    assert schedule.shape == (passes * (n // block) * reuse, block)
    for each in schedule.reshape(passes, n // block, reuse, block):
        assert (each == each[:, :1]).all()
        chosen = each[:, 0].ravel()
        assert len(set(chosen)) == len(chosen)  # a prompt is in one block a pass
        assert set(chosen) <= set(range(n))


@given(sizes)
def test_rolling_reuse_keeps_each_prompt_for_as_long(size):
    n, part, reuse, passes, seed = size
    block = part * reuse
    n += block
    schedule = rolling_reuse(n, block, reuse, seed)
    assert schedule.shape == (n // part - reuse + 1, block)
    for before, after in pairwise(schedule):
        assert (before[part:] == after[:-part]).all()
        assert not set(after[-part:]) & set(before)
    longer = rolling_reuse(n, block, reuse, seed, passes=passes)
    assert longer.shape == (passes * (n // part) - reuse + 1, block)
    assert (longer[: len(schedule)] == schedule).all()


@given(sizes)
def test_rolling_reuse_never_has_a_prompt_twice_in_a_batch(size):
    n, part, reuse, _, seed = size
    block = part * reuse
    schedule = rolling_reuse(n + 2 * block, block, reuse, seed, passes=4)
    assert all(len(set(batch)) == block for batch in schedule.tolist())


@given(sizes)
def test_without_a_seed_the_order_is_kept(size):
    n, block, reuse, passes, _ = size
    n += block
    want = np.arange(n - n % block).reshape(-1, 1, block).repeat(reuse, 1).reshape(-1, block)
    assert (block_reuse(n, block, reuse, None, passes=passes) == np.tile(want, (passes, 1))).all()
    assert (rolling_reuse(n, block, 1, None) == np.arange(n - n % block).reshape(-1, block)).all()


def test_passes_are_shuffled_anew_and_leave_out_others():
    passes = block_reuse(10, 4, 1, passes=4).reshape(4, -1)
    assert len({tuple(row) for row in passes}) == 4
    assert set(passes.ravel()) == set(range(10))


def test_the_same_seed_gives_the_same_schedule_in_another_process():
    code = "from kernadv.schedule import block_reuse; print(block_reuse(20, 3, 2, 5).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(block_reuse(20, 3, 2, 5).tolist()), done.stderr
    assert not np.array_equal(block_reuse(20, 3, 2, 5), block_reuse(20, 3, 2, 6))


def test_revisit_gap_by_hand():
    gap = revisit_gap([["a", "b"], ["a", "a"], ["c"], ["b"]], steps_per_batch=2)
    assert gap.first_visits == 3 / 5
    assert (gap.median, gap.mean, gap.longest) == (4.0, 4.0, 6.0)  # a after 1 batch, b after 3
    assert gap.visits == 5 / 3
    assert "4 steps after the last (median 4, longest 6)" in str(gap)
    assert "no prompt comes back" in str(revisit_gap([["a"], ["b"]]))


def test_revisit_gap_of_the_schedules():
    reused = revisit_gap(block_reuse(64, 8, 8))
    assert (reused.first_visits, reused.longest, reused.visits) == (1 / 8, 1.0, 8.0)
    epochs = revisit_gap(block_reuse(64, 8, 1, passes=50))
    assert epochs.mean == pytest.approx(8, abs=0.01)  # one epoch
    assert revisit_gap(rolling_reuse(64, 8, 8)).longest == 1


def test_a_scheduled_data_set():
    rows = [{"prompt": str(k)} for k in range(6)]
    schedule = block_reuse(6, 2, 3, seed=1)
    data = ScheduledDataset(rows, schedule)
    assert [data[k]["prompt"] for k in range(len(data))] == [str(k) for k in schedule.ravel()]
    assert data[-1] == rows[schedule[-1, -1]]
    with pytest.raises(IndexError):
        data[len(data)]


def test_a_scheduled_data_set_under_torch():
    torch = pytest.importorskip("torch")
    schedule = block_reuse(6, 2, 3, seed=1)
    loader = torch.utils.data.DataLoader(ScheduledDataset(range(6), schedule), batch_size=2)
    assert [batch.tolist() for batch in loader] == schedule.tolist()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: block_reuse(3, 4, 1), ArgumentError, "a block of 4 prompts does not fit into 3"),
        (lambda: block_reuse(3, 0, 1), ArgumentError, "block must be a whole number"),
        (lambda: block_reuse(3, 1, 1.5), ArgumentError, "reuse must be a whole number"),
        (lambda: block_reuse(3, 1, 1, passes=0), ArgumentError, "passes must be a whole number"),
        (lambda: rolling_reuse(9, 4, 3), ArgumentError, "block must be a multiple of reuse"),
        (lambda: revisit_gap([]), ArgumentError, "the schedule is empty"),
        (lambda: ScheduledDataset([1], [[0, 1]]), ArgumentError, "rows 0 to 1, but the data set has 1"),
        (lambda: ScheduledDataset([1], [0]), ArgumentTypeError, "an .S, B. array of row numbers"),
        (lambda: ScheduledDataset([1], [[0.0]]), ArgumentTypeError, "an .S, B. array of row numbers"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
