"""Room, windows and caps of the history on a device: memory is bounded, and what is forgotten when does not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from kernadv import KernelValueEstimator, Relative, Steps, Visits  # noqa: E402
from kernadv.device import history  # noqa: E402


def test_many_prompts_and_visits():
    """Beyond the first room for both, in one batch and over many."""
    here, there = (KernelValueEstimator.kae(1.0, backend=name) for name in ("numba", "torch"))
    rng = np.random.default_rng(4)
    for step in range(1, 41):
        ids = rng.permutation(3000)[:1500] if step < 3 else np.repeat(rng.permutation(40)[:20], 2)
        z = rng.random(len(ids))
        np.testing.assert_allclose(there.advantages(torch.as_tensor(ids), torch.as_tensor(z), step).numpy(),
                                   here.advantages(ids, z, step), atol=1e-12)  # fmt: skip
    assert there._state.history.room >= 32
    assert there._state.history.prompts >= 3000
    assert there.metrics()["history_visits"] == here.metrics()["history_visits"]


def test_a_narrow_window_needs_little_room():
    """What has left the window makes room, so memory does not grow with the length of training."""
    est = KernelValueEstimator(Steps(6), backend="torch")
    for step in range(1, 90):
        est.advantages(["a", "a"], torch.tensor([1.0, 0.0]), step)
    assert est._state.history.room <= 16
    assert est.metrics()["history_visits"] <= 16
    assert est.state_dict()["counters"][0] > 60


@pytest.mark.parametrize("kind", ["text", "tensor"])
def test_prompts_that_come_once_leave(kind):
    """New prompts stream in, some come again: what a window forgets makes room, and the numbers are those of the CPU."""
    here, there = (KernelValueEstimator(Steps(6), backend=name) for name in ("numba", "torch"))
    rng = np.random.default_rng(8)
    for step in range(1, 121):
        ids = np.concatenate([np.arange(100 * step, 100 * step + 90), rng.integers(0, 100 * step, 29), [100]])
        ids = ids * (-1) ** ids * 10**14
        z = rng.random(120)
        own = [f"p{k}" for k in ids] if kind == "text" else torch.as_tensor(ids)
        np.testing.assert_allclose(there.advantages(own, torch.as_tensor(z), step).numpy(),
                                   here.advantages(ids if kind == "tensor" else own, z, step), atol=1e-12)  # fmt: skip
    held = there._state.history
    assert held.prompts <= 4096
    assert held.room == history.VISITS
    assert len(there._state.names._key) <= (2000 if kind == "text" else 0)
    mine, theirs = there.state_dict(), here.state_dict()
    assert mine["counters"][0] + len(mine["step"]) == theirs["counters"][0] + len(theirs["step"])


@pytest.mark.parametrize(("bandwidth", "late"), [(None, False), (Steps(np.inf), 5), (Visits(3), True)])
def test_a_cap_over_all_bounds_the_names(bandwidth, late, monkeypatch):
    """Text ids that stream in under windows that forget nothing: those that are left are found again."""
    monkeypatch.setattr(history, "PROMPTS", 16)
    here, there = (
        KernelValueEstimator(bandwidth, max_total=64, allow_late=late, backend=name) for name in ("numba", "torch")
    )
    rng = np.random.default_rng(9)
    for step in range(1, 81):
        ids = [f"p{k}" for k in rng.integers(10 * step - 60, 10 * step, 16)]
        z = np.where(rng.random(16) < (1.0 if step % 20 == 5 else 0.2), np.nan, rng.random(16))
        at = max(step - 4, 1) if late and step % 7 == 0 else step
        np.testing.assert_allclose(there.advantages(ids, torch.as_tensor(z), at).numpy(),
                                   here.advantages(ids, z, at), rtol=1e-10, atol=1e-10)  # fmt: skip
        if step > 1 or bandwidth is not None:  # a pool learns from the first batch in main memory
            assert len(there._state.names._key) <= 200
    mine, theirs = there.state_dict(), here.state_dict()
    assert sorted(mine["step"]) == sorted(theirs["step"])


def test_prompts_that_matter_stay():
    """A window over everything: nothing is forgotten, however many there are."""
    est = KernelValueEstimator(Steps(np.inf), backend="torch")
    for step in range(1, 31):
        est.advantages(torch.arange(100 * step, 100 * step + 100), torch.ones(100), step)
    assert est.metrics()["history_prompts"] == 3000


def test_a_late_limit_without_bounds():
    est = KernelValueEstimator(Steps(6), allow_late=2**63 - 1, backend="torch")
    for step in range(1, 30):
        est.advantages(["a"], torch.ones(1), step)
    assert est.metrics()["history_visits"] == 29


BANDWIDTHS = {
    "narrow": (Steps(2), "triangular"),
    "whole": (Steps(np.inf), "uniform"),
    "tails": (Steps(0.4), "exponential"),
    "visits": (Visits(2), "uniform"),
    "relative": (Relative(0.3), "epanechnikov"),
}


@given(
    st.sampled_from(list(BANDWIDTHS)),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 20),
    st.sampled_from([False, 2, True]),
    st.sampled_from([1, 4096]),
    st.sampled_from([0, 4]),
    st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.floats(-2, 2) | st.just(np.nan)), min_size=1,
                      max_size=12), min_size=1, max_size=14),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_caps_cost_the_same_wherever_the_history_is(bandwidth, max_visits, max_total, late, sweep, pause, rounds):
    """Whatever is forgotten when: the same values, the same visits dropped; and no cap is passed."""
    width, kernel = BANDWIDTHS[bandwidth]
    caps = {"max_visits": max_visits, "max_total": max_total, "allow_late": late}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PROMPTS", "VISITS"):
            patch.setattr(history, name, 4)
        patch.setattr(history, "PAUSE", pause)
        _compare(
            *(KernelValueEstimator(width, kernel, backend=name, **caps) for name in ("numba", "torch")), rounds, sweep
        )


def _compare(here, there, rounds, sweep):
    newest, late, max_total = 1, here.allow_late, here._state.history.max_total
    for rows in rounds:
        ids, ahead, z = (np.array(part) for part in zip(*rows, strict=True))
        at = np.maximum(newest + ahead - int(late and 2), 1)
        newest = max(newest, int(at.max())) + 1
        names = [f"p{k}" for k in ids]
        got = there.advantages(names, torch.as_tensor(z.astype(float)), at)
        here._state.history._next_sweep = sweep
        np.testing.assert_allclose(got.numpy(), here.advantages(names, z, at), rtol=1e-10, atol=1e-10)
        assert there._state.device is not None
        mine, theirs = there.metrics(), here.metrics()
        assert mine["dropped_visits"] == theirs["dropped_visits"]
        assert max_total is None or mine["history_visits"] <= max_total
