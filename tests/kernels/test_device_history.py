"""The history on a device, run on the CPU through the code that a GPU runs: the same numbers, and no waiting."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from streams import batches  # noqa: E402
from waiting import Deterministic, Forbidden, fake, leave_unanswered  # noqa: E402

from kernadv import (  # noqa: E402
    ComponentValueEstimator,
    KernadvError,
    KernelValueEstimator,
    Steps,
    Visits,
    moments,
)
from kernadv.clock import KEEP_ALL, Bandwidth  # noqa: E402
from kernadv.device import history, transfer  # noqa: E402
from kernadv.kernels import KERNELS  # noqa: E402

CPU = torch.device("cpu")
MAKE = {
    **{f"kae-{name}": (lambda name=name, **o: KernelValueEstimator.kae(0.3, name, **o)) for name in KERNELS},
    "steps": lambda **o: KernelValueEstimator(Steps(7), smoother="local_linear", **o),
    "steps-exponential": lambda **o: KernelValueEstimator(Steps(7), "exponential", smoother="local_linear", **o),
    "whole-past": lambda **o: KernelValueEstimator(Steps(np.inf), "gaussian", **o),
    "visits": lambda **o: KernelValueEstimator(Visits(4), "uniform", **o),
    "visits-gaussian": lambda **o: KernelValueEstimator(Visits(3), "gaussian", smoother="local_linear", **o),
    "constant": lambda **o: KernelValueEstimator.kae(0.1, cold_start=0.25, **o),
    "capped": lambda **o: KernelValueEstimator.kae(1.0, max_visits=5, **o),
    "total": lambda **o: KernelValueEstimator.kae(0.6, max_total=30, **o),
    "total-exponential": lambda **o: KernelValueEstimator(Steps(1), "exponential", max_total=41, **o),
    "total-visits": lambda **o: KernelValueEstimator(Visits(2), "uniform", allow_late=3, max_total=40, **o),
    "total-late": lambda **o: KernelValueEstimator.kae(0.6, max_total=9, max_visits=3, allow_late=True, **o),
    "late": lambda **o: KernelValueEstimator.kae(0.4, allow_late=True, **o),
    "late-capped": lambda **o: KernelValueEstimator(Visits(3), allow_late=4, max_visits=5, **o),
}


@pytest.mark.parametrize(("name", "kind"), [(name, "text") for name in MAKE] + [
    (name, kind) for name in ("kae-triangular", "late-capped", "total") for kind in ("int", "tensor")])  # fmt: skip
def test_numbers_are_those_of_the_cpu(name, kind):
    here, there = MAKE[name](backend="numba"), MAKE[name](backend="torch")
    for ids, z, step in batches(0, kind, late="late" in name or name == "total-visits"):
        own, rewards = torch.as_tensor(ids) if kind == "tensor" else ids, torch.as_tensor(z)
        for mine, theirs in zip(there.values(own, rewards, step), here.values(ids, z, step), strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-10, atol=1e-10)
        got = there.advantages(own, rewards, step)
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got.numpy(), here.advantages(ids, z, step), rtol=1e-10, atol=1e-10)
        expected = {
            k: x for k, x in here.metrics().items() if not k.startswith("history_")
        }  # it forgets at other times
        assert {k: there.metrics()[k] for k in expected} == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert there._state.device is not None
    assert here._state.device is None


@pytest.mark.parametrize("name", ["kae-triangular", "steps-exponential", "visits"])
def test_counters_that_never_come_back_change_nothing(name, monkeypatch):
    """However far the host's knowledge of the device lags behind."""
    expected = [MAKE[name](backend="torch")]
    expected += [expected[0].advantages(ids, torch.as_tensor(z), step) for ids, z, step in batches(1, "int")]
    leave_unanswered(monkeypatch)
    est = MAKE[name](backend="torch")
    for (ids, z, step), want in zip(batches(1, "int"), expected[1:], strict=True):
        torch.testing.assert_close(est.advantages(ids, torch.as_tensor(z), step), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MAKE)
def test_nothing_waits_for_the_device(name, monkeypatch):
    """Tensors without numbers pass through the whole call: nothing of what it does depends on a number."""
    leave_unanswered(monkeypatch)
    with fake():
        est = MAKE[name](backend="torch")
        ids, rewards = torch.empty(60, dtype=torch.int64), torch.empty(60)
        for step in range(1, 9):
            with Forbidden() as watch:
                out = est.advantages(ids, rewards, step)
                est.values(list(range(60)), rewards, step)
                est.observe(ids, rewards, np.repeat([step, step + 1], 30))
            est._state.newest = step  # the next step is early
        assert out.shape == (60,)
        assert out.dtype == torch.float32
        assert watch.calls > 100


def test_detector_detects():
    x = torch.ones(3)
    waits = [lambda: x[0].item(), lambda: x.tolist(), lambda: bool(x[0]), lambda: x[x > 0], lambda: int(x[0]),
             lambda: x.cpu(), lambda: x.nonzero(), lambda: torch.tensor([1.0]), lambda: x.numpy(),
             lambda: x[[0, 2]]]  # fmt: skip
    for call in waits:
        with Forbidden(), pytest.raises(AssertionError, match="wait"):
            call()


@pytest.mark.parametrize("kind", ["text", "int"])
def test_checkpoints_fit_both(kind, tmp_path):
    """A state saved on a device continues on the CPU, and the other way round."""
    for first, then in (("torch", "numba"), ("numba", "torch")):
        one, two, still = (MAKE["late"](backend=name) for name in (first, then, "numba"))
        for count, (ids, z, step) in enumerate(batches(2, kind, late=True)):
            if count == 10:
                one.save(tmp_path / "state.safetensors")
                two.load(tmp_path / "state.safetensors")
            est = one if count < 10 else two
            rewards = torch.as_tensor(z) if est.backend.name == "torch" else z
            got = np.asarray(est.advantages(ids, rewards, step))
            np.testing.assert_allclose(got, still.advantages(ids, z, step), rtol=1e-10, atol=1e-10)
        mine, theirs = two.state_dict(), still.state_dict()
        assert sorted(mine["length"]) == sorted(theirs["length"])
        assert mine["counters"].tolist() == theirs["counters"].tolist()
        for part in ("seen", "ends", "errors"):
            np.testing.assert_allclose(mine[part], theirs[part], rtol=1e-9, atol=1e-9)


def test_the_history_follows_the_rewards():
    """Lists and tensors by turns, a copy, an explanation, intervals, offline rollouts: all see the same history."""
    est, still = MAKE["late"](backend="torch"), MAKE["late"](backend="numba")
    for one in (est, still):
        one.observe_offline(["p0", "p3000000000000000"], [0.5, 1.0], 4)
    for count, (ids, z, step) in enumerate(batches(3, "text", late=True)):
        rewards = torch.as_tensor(z) if count % 4 else z
        np.testing.assert_allclose(
            np.asarray(est.advantages(ids, rewards, step)), still.advantages(ids, z, step), rtol=1e-10, atol=1e-10
        )
        if count % 8 == 2:
            est = copy.deepcopy(est)
            for mine, theirs in zip(est.intervals(ids, rewards, step), still.intervals(ids, z, step), strict=True):
                np.testing.assert_allclose(np.asarray(mine), theirs, rtol=1e-9, atol=1e-9)
            assert est.explain(ids[0])["value"] == pytest.approx(still.explain(ids[0])["value"], nan_ok=True)


def test_types_of_rewards():
    for kind, out in [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.int64, torch.float32),
                      (torch.bool, torch.float32)]:  # fmt: skip
        est = MAKE["steps"](backend="torch")
        z = torch.tensor([1, 0, 1, 1]).to(kind)
        got = est.advantages(torch.tensor([1, 1, 2, 2], dtype=torch.int32), z, 1)
        assert got.dtype == out
        assert got.tolist() == [1.0, -1.0, 0.0, 0.0]
        assert est.values([1], z[:1], 2).value.dtype == out
    column = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    parts = ComponentValueEstimator(2, bandwidth=Steps(5), backend="torch")
    got = parts.advantages(["a", "a", "b"], column, 1)
    assert not got.requires_grad
    assert got.tolist() == ComponentValueEstimator(2, bandwidth=Steps(5)).advantages(
        ["a", "a", "b"], column.detach().numpy(), 1).tolist()  # fmt: skip


def test_own_reward_never_enters():
    """Not in a single bit, for whatever the reward is."""
    ids, z = torch.tensor([3, 1, 3, 1, 3, 7]), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.7, 0.9], dtype=torch.float64)
    before = MAKE["steps"](backend="torch").values(ids, z, 1).value
    for row in range(6):
        changed = z.clone()
        changed[row] = 1e9
        assert torch.equal(MAKE["steps"](backend="torch").values(ids, changed, 1).value[row].nan_to_num(),
                           before[row].nan_to_num())  # fmt: skip
        cold = [MAKE["steps"](backend="torch").advantages(ids, x, 1)[row] - x[row] for x in (z, changed)]
        assert abs(cold[0] - cold[1]) <= 1e-6


def test_infinite_rewards_are_seen_and_not_stored():
    est = MAKE["steps"](backend="torch")
    with pytest.warns(UserWarning, match="^1 rows so far had a reward that is infinite"):
        got = est.advantages(["a", "a", "b"], torch.tensor([1.0, torch.inf, torch.nan]), 1)
    est.advantages(["b"], torch.tensor([-torch.inf]), 1)  # said once
    assert got.isnan().tolist() == [False, True, False]
    assert got[2] == 0.0
    assert est.metrics()["history_visits"] == 1
    assert est.values(["a"], torch.tensor([torch.nan]), 2).value.tolist() == [1.0]


def test_rows_that_cannot_be_used_are_told_of_when_that_is_known(monkeypatch):
    """Not before the counter has come back; at the latest when the metrics are asked for, or the history is needed."""
    leave_unanswered(monkeypatch)
    for ask in (lambda est: est.metrics(), lambda est: est.state_dict(), lambda est: est.values(["a"], [1.0], 3)):
        est = MAKE["steps"](backend="torch")
        for step in (1, 2):
            est.observe(["a", "a"], torch.tensor([1.0, 1e200], dtype=torch.float64), step)
        with pytest.warns(UserWarning, match="^2 rows so far had a reward that is infinite or beyond 1e"):
            ask(est)
    est = KernelValueEstimator(weighted=True, backend="torch")
    weights = torch.tensor([1.0, -1.0, torch.inf, torch.nan, torch.nan])
    est.observe(["a"], torch.ones(1), 1, weights=torch.ones(1))  # in main memory, where those would be errors
    est.observe(list("aaaaa"), torch.tensor([1.0, 1.0, 1.0, 1.0, torch.nan]), 2, weights=weights)
    with pytest.warns(UserWarning, match="^3 rows so far"):
        est.metrics()


BAD = {
    "ids of floats": ((torch.ones(2), torch.ones(2), 10), "one whole number a row, got a tensor of float32"),
    "ids of bools": ((torch.ones(2).bool(), torch.ones(2), 10), "one whole number a row, got a tensor of bool"),
    "ids 2-D": ((torch.ones(2, 1).long(), torch.ones(2), 10), r"one whole number a row, .* shape \(2, 1\)"),
    "other ids": ((["a", "b"], torch.ones(2), 10), "the history holds int ids, the batch brings str"),
    "fewer ids": (([1], torch.ones(2), 10), "got 1 prompt ids and 2 rewards"),
    "empty": ((torch.ones(0).long(), torch.ones(0), 10), "the batch is empty"),
    "empty, a step a row": (([], torch.ones(0), []), "the batch is empty"),
    "rewards 2-D": (([1, 2], torch.ones(2, 2), 10), r"one dimension, one a row, got shape \(2, 2\)"),
    "rewards complex": (([1, 2], torch.ones(2) * 1j, 10), "rewards must be real numbers"),
    "step back": (([1, 2], torch.ones(2), 4), "step 4 lies before step 5, the newest seen; pass allow_late=True"),
    "one step back": (([1, 2], torch.ones(2), torch.tensor([9, 4])), "step 4 lies before step 5"),
    "step 0": (([1, 2], torch.ones(2), 0), "steps start at 1"),
    "step bool": (([1, 2], torch.ones(2), True), "step must be a whole number"),
    "steps too few": (([1, 2], torch.ones(2), [7]), "2 rows and 1 steps"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("call", ["values", "observe", "advantages"])
def test_bad_input_changes_nothing(case, call):
    arguments, message = BAD[case]
    est = MAKE["steps"](backend="torch")
    est.advantages([1, 1, 2], torch.tensor([1.0, 0.0, 1.0]), 5)
    before = est.state_dict()
    est.values([1], torch.ones(1), 6)  # on the device again
    with pytest.raises(KernadvError, match=message):
        getattr(est, call)(*arguments)
    after = est.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_and_cold_starts_are_refused():
    with pytest.raises(KernadvError, match="weights need an estimator that expects them"):
        MAKE["steps"](backend="torch").advantages([1], torch.ones(1), 1, weights=torch.ones(1))
    est = KernelValueEstimator(Steps(3), cold_start="error", backend="torch")
    with pytest.raises(KernadvError, match="1 of 3 rows have no past visit"):
        est.advantages(["a", "a", "b"], torch.ones(3), 1)
    assert est.state_dict()["length"].tolist() == []


def test_what_stays_in_main_memory():
    """A bandwidth that the package does not know."""

    class Own(Steps):
        pass

    class Foreign(Bandwidth):
        label = "own"

        def half_width(self, step, visit_lag):
            return np.full(len(step), 3.0)

        def retention(self, step, kernel, late):
            return KEEP_ALL

    for width, there in ((Own(3), True), (Foreign(), False)):
        est = KernelValueEstimator(width, backend="torch")
        est.advantages(["a", "a"], torch.tensor([1.0, 0.0]), 1)
        assert (est._state.device is not None) == there


def test_where_an_estimator_works(monkeypatch):
    class OnGpu:
        is_cuda = True

    assert moments.on_device("auto", OnGpu())
    assert moments.on_device("triton", OnGpu())
    assert not moments.on_device("numba", OnGpu())
    assert not moments.on_device("auto", torch.ones(1))
    assert moments.on_device("torch", torch.ones(1))
    assert not moments.on_device("torch", [1.0])
    monkeypatch.setenv("KERNADV_BACKEND", "numba")
    assert not moments.on_device("auto", OnGpu())


def test_a_refused_batch_leaves_no_names():
    estimator = KernelValueEstimator.kae(0.5, backend="torch")
    estimator.advantages(["a", "b"], torch.tensor([1.0, 0.0]), 5)
    with pytest.raises(KernadvError, match="lies before step 5"):
        estimator.advantages(["c", "d"], torch.tensor([1.0, 0.0]), 4)
    assert list(estimator._state.names._key) == ["a", "b"]
    estimator = KernelValueEstimator.kae(0.5, backend="torch", cold_start="error")
    with pytest.raises(KernadvError, match="no past visit"):
        estimator.advantages(["c", "c", "d"], torch.ones(3), 1)
    assert not estimator._state.names._key


@pytest.mark.parametrize("make", [KernelValueEstimator, KernelValueEstimator.kae])
def test_inference_mode_comes_and_goes(make, monkeypatch):
    """As a trainer has it: some calls within, some without; memory grows within."""
    monkeypatch.setattr(history, "PROMPTS", 4)
    there, still, rng = make(backend="torch"), make(backend="numba"), np.random.default_rng(2)
    for step in range(1, 13):
        ids, z = rng.integers(0, 2 * step, 8), rng.random(8)
        with torch.inference_mode(step % 3 == 1):
            got = there.advantages(torch.as_tensor(ids), torch.as_tensor(z), step)
        np.testing.assert_allclose(got.numpy(), still.advantages(ids, z, step), rtol=1e-10, atol=1e-10)
        if step == 8:
            there.load_state_dict(there.state_dict())


@pytest.mark.parametrize("make", [KernelValueEstimator, KernelValueEstimator.kae])
def test_the_default_device_does_not_matter(make):
    """As of a script that sets it to the GPU: what belongs to the host stays there, the rest is where the rewards are."""
    there, still, rng = make(backend="torch"), make(backend="numba"), np.random.default_rng(7)
    for step in range(1, 7):
        ids, z, at = rng.integers(0, 9, 12), rng.random(12), 2 * step + rng.integers(0, 2, 12) * (step > 3)
        rewards = torch.as_tensor(z)
        with torch.device("meta"):
            got = there.advantages(ids, rewards, at)
        np.testing.assert_allclose(got.numpy(), still.advantages(ids, z, at), rtol=1e-10, atol=1e-10)


def test_reading_from_elsewhere_keeps_the_metrics():
    """The history moves twice; the numbers of the last `advantages` stay."""
    estimator = KernelValueEstimator.kae(0.5, backend="torch")
    estimator.advantages(["a", "a"], np.array([1.0, 0.0]), 1)
    before = estimator.metrics()["n_eff"]
    estimator.values(["a"], torch.tensor([1.0]), 2)
    estimator.values(["a"], np.array([1.0]), 2)
    assert estimator.metrics()["n_eff"] == before


class Cuda:
    """What torch says of the streams of two GPUs, and which one is current; `captured` are those where a graph is made."""

    def __init__(self, monkeypatch, *captured):
        self.current, self.captured = 0, captured
        for name, function in (
            ("is_available", lambda: True),
            ("is_current_stream_capturing", lambda: self.current in self.captured),
            ("device", self.device),
        ):
            monkeypatch.setattr(torch.cuda, name, function)

    @contextmanager
    def device(self, device):
        before, self.current = self.current, device.index
        yield
        self.current = before


@pytest.mark.parametrize(("captured", "seen"), [((), (False, False)), ((0,), (True, True)), ((1,), (False, True))])
def test_a_capture_is_seen_on_the_device_of_the_history(captured, seen, monkeypatch):
    cuda = Cuda(monkeypatch, *captured)
    assert tuple(transfer.capturing(torch.device("cuda", index)) for index in (0, 1)) == seen
    assert not transfer.capturing(CPU)
    assert cuda.current == 0


def test_bounds_ask_nothing_of_a_device_that_captures(monkeypatch):
    """The history lies on the second device, the first one is current."""

    class Event:
        def query(self):
            raise AssertionError("an event may not be asked during a capture")

    bound = transfer.Bound(CPU)
    bound.ask(torch.tensor(3))
    bound._device, bound._event = torch.device("cuda", 1), Event()
    bound.add(5)
    cuda = Cuda(monkeypatch, 1)
    bound.ask(torch.tensor(4))
    assert bound.most == 5
    cuda.captured = ()
    bound._event = None
    assert bound.most == 8


@pytest.mark.parametrize("make", [KernelValueEstimator, KernelValueEstimator.kae])
@pytest.mark.parametrize("kind", ["text", "int"])
def test_what_changes_the_history_is_not_captured(make, kind, monkeypatch):
    """A graph would change it again at each replay, and the host would not know; reading may be captured."""
    est, still = (make(backend="torch") for _ in range(2))
    stream = list(batches(4, kind))
    for count, (ids, z, step) in enumerate(stream):
        rewards = torch.as_tensor(z)
        if count == 5:
            with monkeypatch.context() as patch:
                patch.setattr(transfer, "capturing", lambda device: True)
                before = {name: x.copy() for name, x in still.state_dict().items()}
                for call in (est.advantages, est.observe):
                    with pytest.raises(KernadvError, match="cannot be captured in a CUDA graph"):
                        call(ids, rewards, step)
                est.values(ids, rewards, step)
                est.baselines(ids, rewards, step)
            after = est.state_dict()
            assert all(np.array_equal(before[name], after[name]) for name in before)
        got = est.advantages(ids, rewards, step)
        torch.testing.assert_close(got, still.advantages(ids, rewards, step), rtol=0, atol=1e-12)


def test_a_history_is_not_moved_in_a_capture(monkeypatch):
    est = KernelValueEstimator(backend="torch")
    est.observe(["a", "a"], [1.0, 0.0], 1)
    monkeypatch.setattr(transfer, "capturing", lambda device: True)
    for call in (est.values, est.advantages):
        with pytest.raises(KernadvError, match="cannot be captured"):
            call(["a", "a"], torch.tensor([1.0, 0.0]), 2)
    assert est._state.device is None
    assert est.metrics()["history_visits"] == 1


@pytest.mark.parametrize("size", [1, 2, 7, 16, 64, 128, 255, 256])
@pytest.mark.parametrize("make", [KernelValueEstimator, KernelValueEstimator.kae])
def test_groups_of_any_size(make, size):
    """From one trace a prompt to 256, with one larger group among small ones."""
    here, there, rng = make(backend="numba"), make(backend="torch"), np.random.default_rng(size)
    for step in range(1, 5):
        ids = np.concatenate([np.repeat(rng.permutation(9)[:3], size), [20, 20, 21]])
        z = rng.random(len(ids))
        z[rng.random(len(ids)) < 0.1] = np.nan
        np.testing.assert_allclose(there.advantages(torch.as_tensor(ids), torch.as_tensor(z), step).numpy(),
                                   here.advantages(ids, z, step), rtol=1e-10, atol=1e-10)  # fmt: skip


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["kae-triangular", "steps-exponential", "visits", "total", "late-capped"])
def test_deterministic_mode(name, deterministic):
    """The numbers of the CPU, and nothing that needs cuBLAS."""
    here, there = MAKE[name](backend="numba"), MAKE[name](backend="torch")
    for ids, z, step in batches(5, "int", late="late" in name):
        with Deterministic():
            there.values(torch.as_tensor(ids), torch.as_tensor(z), step)
            got = there.advantages(torch.as_tensor(ids), torch.as_tensor(z), step)
        np.testing.assert_allclose(got.numpy(), here.advantages(ids, z, step), rtol=1e-10, atol=1e-10)
