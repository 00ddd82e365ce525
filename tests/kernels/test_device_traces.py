"""Traces in several rows on a device, run on the CPU through the code that a GPU runs: nothing waits, nothing is guessed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from waiting import Forbidden, fake, leave_unanswered  # noqa: E402

from kernadv import ArgumentError, ArgumentTypeError, ComponentValueEstimator, KernelValueEstimator, Steps  # noqa: E402
from kernadv.device.parts import DeviceParts  # noqa: E402

nan = np.nan
MAKE = {
    "default": KernelValueEstimator,
    "weighted": lambda **more: KernelValueEstimator(weighted=True, **more),
    "features": lambda **more: KernelValueEstimator(features={k: [k / 9.0, 1.0] for k in range(60)}, **more),
    "kae": KernelValueEstimator.kae,
    "components": lambda **more: ComponentValueEstimator(2, bandwidth=Steps(9), **more),
}


@pytest.mark.parametrize("name", MAKE)
def test_nothing_waits_for_the_device(name, monkeypatch):
    """The host knows the traces and the steps; ids, rewards and weights are tensors without numbers."""
    leave_unanswered(monkeypatch)
    trace = [f"rollout {k // 3}" for k in range(60)]
    est = MAKE[name](backend="torch")
    if name in ("default", "weighted", "features"):  # a pool learns from the first batch in main memory
        est.observe([0, 0], [1.0, 0.0], 1, **({"weights": [1.0, 1.0]} if name == "weighted" else {}))
    with fake():
        rewards = torch.empty(60, 2) if name == "components" else torch.empty(60)
        given = {"weights": torch.empty(60)} if name == "weighted" else {}
        for step, ids in ((1, torch.empty(60, dtype=torch.int64)), (2, [k // 6 for k in range(60)])):
            with Forbidden() as watch:
                out = est.advantages(ids, rewards, step, trace=trace, **given)
                values = est.values(ids, rewards, step, trace=trace)
                est.observe(ids, rewards, np.repeat([step, step + 1], 30), trace=trace, **given)
            assert out.shape == values.value.shape == rewards.shape
            assert watch.calls > 100
            early_again(est, step)


def early_again(est, step):
    """The next step is early."""
    for column in getattr(est, "columns", [est]):
        column._state.newest = step


#: A trace of two rows whose parts differ, one of two rows that is as it should be, and a single row.
ROWS = {"trace": list("xxyyz"), "ids": [1, 1, 1, 1, 2], "rewards": [1.0, 1.0, 0.0, 0.0, 1.0], "weights": [1.0] * 5}
DIFFER = {
    "reward": {"rewards": [1.0, 0.0, 0.0, 0.0, 1.0]},
    "reward-and-none": {"rewards": [1.0, nan, 0.0, 0.0, 1.0]},
    "none-and-reward": {"rewards": [nan, 1.0, 0.0, 0.0, 1.0]},
    "prompt": {"ids": torch.tensor([1, 2, 1, 1, 2])},
    "weight": {"weights": [1.0, 2.0, 1.0, 1.0, 1.0]},
}


@pytest.mark.parametrize("case", DIFFER)
@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_parts_that_differ_are_not_scored(case, kind):
    """As a trace that could not be scored, but for the advantage: NaN in all its rows; and it is said once."""
    rows = {**ROWS, **DIFFER[case]}
    one, two = (KernelValueEstimator(weighted=case == "weight", backend="torch") for _ in range(2))
    for est in (one, two):  # a pool learns from the first batch in main memory
        est.observe([3, 3], [1.0, 0.0], 1, **({"weights": [1.0, 1.0]} if case == "weight" else {}))
    weights = ({"weights": rows["weights"]}, {"weights": ROWS["weights"]}) if case == "weight" else ({}, {})
    z = torch.tensor(rows["rewards"], dtype=kind)
    with pytest.warns(UserWarning, match="2 rows so far .* or were parts of a trace that differ"):
        got = one.advantages(rows["ids"], z, 1, trace=rows["trace"], **weights[0])
    clean = torch.tensor([nan, nan, 0.0, 0.0, 1.0], dtype=kind)
    want = two.advantages(ROWS["ids"], clean, 1, trace=rows["trace"], **weights[1])
    assert got.dtype == kind
    assert got[:2].isnan().all()
    assert torch.equal(got[2:], want[2:])
    mine, theirs = one.state_dict(), two.state_dict()
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(mine[name], array, err_msg=name)


def test_whole_numbers_as_rewards():
    """Large ones keep their digits; those of a trace whose parts differ become NaN."""
    est, big = KernelValueEstimator(cold_start=0.0, backend="torch"), 2**24 + 1
    got = est.advantages([1, 2, 2], torch.tensor([big, big, big]), 1, trace=[5, 6, 6])
    assert got.dtype == torch.float32
    with pytest.warns(UserWarning, match="2 rows so far"):
        got = est.advantages([1, 2, 2], torch.tensor([big, big, big - 1]), 1, trace=[5, 6, 6])
    assert got.dtype == torch.float32
    assert got.isnan().tolist() == [False, True, True]
    assert est._on_host().history.visits(np.array([0, 1])).s.tolist() == [2 * big, big]


def test_weights_of_what_is_not_scored_do_not_matter():
    est = KernelValueEstimator(weighted=True, backend="torch")
    z, weights = torch.tensor([nan, nan, 1.0]), torch.tensor([5.0, nan, 1.0])
    got = est.advantages([1, 1, 1], z, 1, trace=[5, 5, 6], weights=weights)
    assert got[:2].tolist() == [0.0, 0.0]
    assert got.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"ids": list("abaab")}, ArgumentError, "rows 0 and 1 .* prompts differ: 'a' and 'b'"),
        ({"step": [1, 2, 1, 1, 1]}, ArgumentError, "rows 0 and 1 .* steps differ: 1 and 2"),
        ({"trace": list("xxy")}, ArgumentError, "got 5 prompt ids and 3 trace ids"),
        ({"trace": torch.zeros(5, dtype=torch.int64, device="meta")}, ArgumentTypeError, "got a tensor on meta"),
    ],
)
def test_what_the_host_knows_is_an_error(wrong, error, message):
    est = KernelValueEstimator(backend="torch")
    est.observe(["c", "c"], [1.0, 0.0], 1)  # a pool learns from the first batch in main memory
    rows = {"ids": list("aaaab"), "step": 1, "trace": list("xxyyz"), **wrong}
    with pytest.raises(error, match=message):
        est.advantages(rows["ids"], torch.ones(5), rows["step"], trace=rows["trace"])
    assert est.metrics()["history_visits"] == 1


def test_parts_of_a_tensor():
    parts = DeviceParts(torch.tensor([4, 9, 4]), 3, torch.device("cpu"))
    assert parts.of.tolist() == [0, 1, 0]
    assert parts.shared(torch.tensor([nan, 2.0, nan])).nan_to_num(-1.0).tolist() == [-1.0, 2.0]
    assert not parts.differ.any()
    parts.shared(torch.tensor([1, 2, 3]))
    assert parts.differ.tolist() == [True, False]
