"""An exception at any instruction leaves an estimator whole, and a signal handler that saves gets the state before or after.

Signals are handled between instructions of Python's; the tests put an exception, or a call of `state_dict`, before any
instruction inside the package.
"""

import copy
import sys
from operator import setitem
from pathlib import Path

import numpy as np
import pytest
import torch

import kernadv
from kernadv import KernadvError, KernelValueEstimator, Steps
from kernadv._at_once import at_once, each
from kernadv.estimator import ComponentValueEstimator
from kernadv.pooling import Pooling

FOLDER = str(Path(kernadv.__file__).parent)
FEATURES = {k: [k / 8, k % 3] for k in range(40)}
TWO = Pooling(priors=(1.0, 3.0), walks=(0.0, 0.2), discounts=())
MAKE = {
    "plain": lambda: KernelValueEstimator(Steps(30), "uniform"),
    "kae": KernelValueEstimator.kae,
    "late": lambda: KernelValueEstimator(Steps(9), allow_late=5),
    "capped": lambda: KernelValueEstimator(Steps(300), "uniform", max_visits=3, max_total=40, allow_late=9),
    "default": lambda: KernelValueEstimator(pooling=TWO),
    "weighted": lambda: KernelValueEstimator(pooling=TWO, weighted=True),
    "features": lambda: KernelValueEstimator(pooling=TWO, features=FEATURES),
    "capped and pooled": lambda: KernelValueEstimator(pooling=TWO, max_visits=2, max_total=30),
    "components": lambda: ComponentValueEstimator(2, bandwidth=Steps(5)),
}


class Stop(BaseException):
    """As of a signal handler."""


def batch(est, step, seed):
    """A batch with new prompts, known ones and, where allowed, late ones."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 40, 16)
    components = isinstance(est, ComponentValueEstimator)
    late = 0 if components or est.allow_late is False else rng.integers(0, 5, 16)
    weights = None if components or not est.weighted else rng.random(16)
    rewards = (rng.random((16, 2) if components else 16) < 0.4).astype(float)
    return ids.tolist(), rewards, np.maximum(step - late, 1) if np.ndim(late) else step, weights


def advantages(est, step, seed):
    *arguments, weights = batch(est, step, seed)
    return est.advantages(*arguments, weights=weights)


def run(act, at, work):
    """Call `work`, and `act` before the instruction number `at` inside the package; returns the number of instructions."""
    count = 0

    def enter(frame, event, argument):
        name = frame.f_code.co_filename
        if not name.startswith(FOLDER) or name.endswith("_jit.py"):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    def step(frame, event, argument):
        nonlocal count
        if event == "opcode":
            count += 1
            if count == at:
                before = sys.gettrace()
                sys.settrace(None)
                act()
                sys.settrace(before)
        return step

    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def stop():
    raise Stop


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def works(name):
    """What may be interrupted, each of a copy of an estimator in use."""
    est = MAKE[name]()
    for step in range(1, 9):
        advantages(est, step, step)
    other = copy.deepcopy(est)
    for step in range(9, 12):
        advantages(other, step, step)
    state = other.state_dict()
    *arguments, weights = batch(est, 9, 99)
    return est, {
        "advantages": lambda e: e.advantages(*arguments, weights=weights),
        "observe": lambda e: e.observe(*arguments, weights=weights),
        "load_state_dict": lambda e: e.load_state_dict(state),
    }


def uninterrupted(start, call):
    """A copy after the call, and the number of instructions that it took."""
    whole = copy.deepcopy(start)
    return whole, run(lambda: None, -1, lambda: call(whole))


@pytest.mark.parametrize("name", MAKE)
def test_an_exception_at_any_instruction_leaves_all_or_nothing(name):
    start, calls = works(name)
    before = start.state_dict()
    for call in calls.values():
        whole, instructions = uninterrupted(start, call)
        after = whole.state_dict()
        assert instructions > 500
        seen = set()
        for at in range(1, instructions + 1, 1 + instructions // 150):
            est = copy.deepcopy(start)
            with pytest.raises(Stop):
                run(stop, at, lambda est=est, call=call: call(est))
            found = est.state_dict()
            assert same(found, before) or same(found, after), at
            seen.add(same(found, after))
            if at % 5 == 0:  # it goes on as if nothing had happened
                expected = copy.deepcopy(start if same(found, before) else whole)
                for step in range(12, 15):
                    np.testing.assert_array_equal(advantages(est, step, step), advantages(expected, step, step))
                assert same(est.state_dict(), expected.state_dict())
        run_to_the_end = copy.deepcopy(start)
        with pytest.raises(Stop):
            run(stop, instructions, lambda call=call, est=run_to_the_end: call(est))
        assert same(run_to_the_end.state_dict(), after)


@pytest.mark.parametrize("name", MAKE)
def test_a_handler_that_saves_sees_the_state_before_or_after(name):
    start, calls = works(name)
    before = start.state_dict()
    for call in calls.values():
        whole, instructions = uninterrupted(start, call)
        after = whole.state_dict()
        for at in range(1, instructions + 1, 1 + instructions // 80):
            est, saved = copy.deepcopy(start), []
            run(lambda est=est, saved=saved: saved.append(est.state_dict()), at, lambda est=est, call=call: call(est))
            assert same(saved[0], before) or same(saved[0], after), at
            assert same(est.state_dict(), after)


class Full(dict):
    """A table that gets no memory to grow."""

    def update(self, other):
        super().update(dict(list(other.items())[:2]))
        raise MemoryError


def test_ids_that_find_no_memory_leave_nothing():
    est = KernelValueEstimator(Steps(5))
    est.advantages(["a", "b"], [1.0, 0.0], 1)
    before = est.state_dict()
    est._state.history._rows = Full(est._state.history._rows)
    with pytest.raises(MemoryError):
        est.advantages(["c", "a", "d", "e"], [1.0, 0.0, 1.0, 0.0], 2)
    assert same(est.state_dict(), before)
    assert est.metrics()["history_prompts"] == 2
    expected = KernelValueEstimator(Steps(5))
    expected.load_state_dict(before)
    for twin in (est, expected):
        twin.advantages(["f", "d", "a"], [1.0, 0.0, 1.0], 2)
    assert same(est.state_dict(), expected.state_dict())


def test_a_column_whose_ids_find_no_memory_leaves_nothing_in_the_others():
    est = ComponentValueEstimator(2, bandwidth=Steps(5))
    est.advantages(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], 1)
    before = est.state_dict()
    history = est.columns[1]._state.history
    history._rows = Full(history._rows)
    with pytest.raises(MemoryError):
        est.advantages(["c", "a", "d", "e"], np.eye(4)[:, :2], 2)
    assert same(est.state_dict(), before)


def test_calls_at_once_are_made_in_order_and_a_failure_ends_them():
    x = [0, 0, 0]
    at_once((setitem, x, 0, 1), each(x.__setitem__, [1, 2], [5, 6]))
    assert x == [1, 5, 6]
    with pytest.raises(IndexError):
        at_once((setitem, x, 9, 1), (setitem, x, 0, 7))
    assert x[0] == 1


def test_nothing_of_pythons_own_runs_between_calls_at_once():
    """Enumerated: no instruction inside the package sees the first call made and the last one not."""
    x, seen = [0, 0], set()
    for at in range(1, 40):
        run(lambda: seen.add(tuple(x)), at, lambda: at_once((setitem, x, 0, 1), (setitem, x, 1, 1)))
        x[:] = [0, 0]
    assert seen == {(0, 0), (1, 1)}


def test_a_part_of_a_batch_on_a_device_is_refused(monkeypatch):
    est = KernelValueEstimator(Steps(5), backend="torch")
    est.advantages([1, 2], torch.tensor([1.0, 0.0]), 1)
    state = est.state_dict()
    est.advantages([1, 2], torch.tensor([1.0, 0.0]), 2)
    monkeypatch.setattr(est._state.history, "append", lambda *arguments: stop())
    with pytest.raises(Stop):
        est.advantages([1, 3], torch.tensor([1.0, 0.0]), 3)
    for call in (
        est.state_dict,
        est.metrics,
        lambda: est.values([1], torch.tensor([1.0]), 3),
        lambda: est.values([1], [1.0], 3),
    ):
        with pytest.raises(KernadvError, match="may now hold a part of it; load the last checkpoint"):
            call()
    est.load_state_dict(state)
    assert same(est.state_dict(), state)
