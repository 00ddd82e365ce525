"""States and files with something wrong are refused by `CheckpointError` and change nothing, or are taken and work."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from kernadv import CheckpointError, KernelValueEstimator, Pooling, Steps
from kernadv._checkpoint import save_arrays

SPEC = importlib.util.spec_from_file_location("mutations", Path(__file__).with_name("mutations.py"))
mutations = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutations)

LAST = 2**53


@pytest.mark.parametrize("attack", ["attack", "attack_bytes"])
def test_whatever_changes(attack):
    report = getattr(mutations, attack)(400, seed=1)
    assert not report.faults
    assert report.outcomes["refused"] > 200
    assert report.slowest < mutations.SECONDS


def visits(seed=0):
    """State of an estimator that weighs all of the past alike."""
    est = KernelValueEstimator(Steps(float("inf")), "uniform")
    for step in (1, 2, 3, 5):
        est.observe(["a", "a", "b", "c"], [1.0, 0.0, 1.0, 1.0], step)
    return est.state_dict()


CHANGES = {
    "step of -2^63": lambda s: s["step"].__setitem__(0, -(2**63)),
    "step beyond 2^53": lambda s: s["step"].__setitem__(3, LAST + 1),
    "one step twice": lambda s: s["step"].__setitem__(1, 1),
    "steps that descend": lambda s: s["step"].__setitem__(slice(0, 2), [2, 1]),
    "lengths that wrap": lambda s: s.update(length=s["length"] + np.array([2**62, 2**62, 2**63 - 1])),
    "a length below 0": lambda s: s.update(length=s["length"] + np.array([-5, 5, 0])),
    "counts that wrap": lambda s: s.update(n=s["n"] + 2**32),
    "a count of 0": lambda s: s["n"].__setitem__(0, 0),
    "sum of squares below 0": lambda s: s["ss"].__setitem__(0, -1.0),
    "sums that no rewards have": lambda s: s["s"].__setitem__(0, 1e6),
    "huge sums": lambda s: (s["s"].__setitem__(0, 1e120), s["ss"].__setitem__(0, 1e300)),
    "newest beyond 2^53": lambda s: s["counters"].__setitem__(2, 2**63 - 1),
    "counters that wrap": lambda s: s["counters"].__setitem__(0, 2**63 - 1),
    "steps in floats": lambda s: s.update(step=s["step"].astype(float)),
    "steps NaN": lambda s: s.update(step=s["step"] * np.nan),
    "ids 2-D": lambda s: s.update(ids_text=s["ids_text"][None]),
    "ids 0-D": lambda s: s.update(ids_length=np.array(3)),
    "lengths of ids that wrap": lambda s: s.update(ids_length=s["ids_length"] + np.array([2**62, 2**62, 2**63 - 1])),
    "two kinds of ids": lambda s: s.update(ids_int=np.arange(3)),
    "complex configuration": lambda s: s.update(config=s["config"].astype(complex)),
    "configuration of floats": lambda s: s.update(config=s["config"].astype(float)),
    "an unknown array": lambda s: s.update(more=np.ones(2)),
    "an array of a pool": lambda s: s.update({"pool.x": np.ones(2)}),
    "an object": lambda s: s.update(s=np.array([None] * len(s["s"]))),
    "ragged": lambda s: s.update(s=[[1.0], [1.0, 2.0]]),
    "weights where there are none": lambda s: s.update({"weighted.unit": np.array([1.0])}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_history_holds_that(change):
    state = {name: array.copy() for name, array in visits().items()}
    CHANGES[change](state)
    est = KernelValueEstimator(Steps(float("inf")), "uniform")
    est.observe(["z"], [1.0], 7)
    before = est.state_dict()
    with pytest.raises(CheckpointError):
        est.load_state_dict(state)
    assert mutations.same(est.state_dict(), before)


def test_sizes_are_compared_before_anything_is_made():
    """160 kB of zeros once took 6 GB."""
    est = KernelValueEstimator(features={"a": [1.0, 0.0], "b": [0.0, 1.0]})
    est.observe(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0], 1)
    state = {**est.state_dict(), "pool.features.centre": np.zeros(20_000)}
    function = KernelValueEstimator(features=lambda ids: np.ones((len(ids), 2)))
    honest = bytes(state["config"]).replace(b'"features": 2', b'"features": 20000')
    before = mutations._peak()
    with pytest.raises(CheckpointError, match="20000 features a prompt, this estimator 2"):
        est.load_state_dict(state)
    with pytest.raises(CheckpointError, match="of the pooled state must be"):
        function.load_state_dict({**state, "config": np.frombuffer(honest, np.uint8)})
    assert mutations._peak() - before < 50 * 2**20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("running.sums", [1.0, 5.0]),
        ("running.range", [1.0, 0.0]),
        ("running.size", [1e-300, 1.0]),
        ("running.between", [2.0]),
        ("running.uneven", [-1.0]),
        ("common.variance", -np.ones(len(Pooling().common))),
        ("common.mean", np.full(len(Pooling().common), 1e9)),
        ("weights.loss", np.full(len(Pooling().members.prior), -1.0)),
        ("weights.traces", [-1.0]),
        ("newest", [2**60]),
    ],
)
def test_no_pool_holds_that(name, value):
    est, taken = mutations.filled("default"), KernelValueEstimator()
    state = est.state_dict()
    state[f"pool.{name}"] = np.array(value)
    with pytest.raises(CheckpointError):
        taken.load_state_dict(state)
    assert taken.metrics()["history_visits"] == 0


def test_a_pool_of_other_rewards_than_the_visits():
    """The values come from the pool and its notes: the visits explain them, and may be of anything."""
    state = mutations.filled("default").state_dict()
    state["s"], state["ss"] = state["n"] * 1e60, state["n"] * 1e120
    est = KernelValueEstimator()
    est.load_state_dict(state)
    assert not mutations.works(est)


MAKE = {
    "none": lambda: KernelValueEstimator(),
    "two": lambda: KernelValueEstimator(features=mutations.FEATURES),
    "three": lambda: KernelValueEstimator(features=mutations.MORE_FEATURES),
}


@pytest.mark.parametrize("saved", MAKE)
@pytest.mark.parametrize("loaded", MAKE)
def test_features_are_part_of_the_configuration(saved, loaded):
    batch = ["prompt 1", "prompt 1", "prompt 2"], [1.0, 0.0, 1.0], 1
    source, est = MAKE[saved](), MAKE[loaded]()
    source.observe(*batch)
    est.observe(*batch)
    before, state = est.state_dict(), source.state_dict()
    if saved == loaded:
        est.load_state_dict(state)
        return
    with pytest.raises(CheckpointError, match=r"features.*strict=False"):
        est.load_state_dict(state)
    assert mutations.same(est.state_dict(), before)
    est.load_state_dict(state, strict=False)  # without what was learned
    assert est.metrics()["history_visits"] == 2
    est.advantages(["prompt 1", "prompt 3"], [1.0, 0.0], 2)


def test_features_of_a_function_have_the_columns_of_the_state():
    table = mutations.FEATURES
    make = lambda: KernelValueEstimator(features=lambda ids: np.array([table[i] for i in ids]))
    fresh, est = make(), make()
    empty = fresh.state_dict()
    est.observe(["prompt 1", "prompt 1", "prompt 2"], [1.0, 0.0, 1.0], 1)
    fresh.load_state_dict(est.state_dict())
    assert mutations.same(fresh.state_dict(), est.state_dict())
    fresh.load_state_dict(empty)
    assert mutations.same(fresh.state_dict(), make().state_dict())
    three = mutations.filled("more features").state_dict()
    with pytest.raises(CheckpointError, match="features"):
        est.load_state_dict(three)


def test_a_visit_counts_at_most_so_many_rollouts():
    """Counts are kept in 32 bits: they once came back below 0."""
    most = 2**31 - 1
    est = KernelValueEstimator(Steps(float("inf")), "uniform")
    for _ in range(3):
        est.observe_offline(["a"], [0.25], most, age=1)
    est.load_state_dict(est.state_dict())
    assert est.state_dict()["n"].tolist() == [most]
    value = est.values(["a"], [np.nan], 1)
    np.testing.assert_allclose(value.value, 0.25, rtol=1e-12)
    np.testing.assert_allclose(value.n_eff, most)


@pytest.mark.parametrize("age", [2**53 + 1, 2**63 - 1, 2**63, 0, 1.5])
def test_offline_rollouts_of_an_age_that_no_clock_has(age):
    est = KernelValueEstimator(Steps(float("inf")), "uniform")
    with pytest.raises(ValueError, match="age must be a whole number >= 1"):
        est.observe_offline(["a", "b"], [0.5, 1.0], 4, age=age)
    assert est.metrics()["history_visits"] == 0


@pytest.mark.parametrize("kernel", ["uniform", "exponential", "triangular"])
def test_the_whole_clock(kernel, tmp_path):
    """From the oldest step to the newest there is."""
    est = KernelValueEstimator(Steps(float("inf") if kernel == "uniform" else 1e15), kernel, allow_late=2**62)
    est.observe_offline(["a", "b"], [0.5, 1.0], 4, age=LAST)
    est.observe(["a", "b"], [1.0, 0.0], 1)
    for step in (2, 10**9, LAST):
        value = est.values(["a", "b", "c"], [1.0, 1.0, 0.0], step).value
        if kernel == "uniform":
            np.testing.assert_allclose(value, [3 / 5, 4 / 5, np.nan])
    est.observe(["a"], [1.0], LAST)
    est.save(tmp_path / "state")
    again = KernelValueEstimator(Steps(float("inf") if kernel == "uniform" else 1e15), kernel, allow_late=2**62)
    again.load(tmp_path / "state")
    assert mutations.same(est.state_dict(), again.state_dict())


@pytest.mark.parametrize("limits", [{"max_visits": 2**40}, {"max_visits": 2**63 - 1}, {"max_total": 2**63 - 1}])
def test_caps_beyond_all_memory(limits):
    est = KernelValueEstimator(allow_late=2**63 - 1, **limits)
    for step in (3, 2, 4):
        est.advantages(["a", "a", "b"], [1.0, 0.0, 1.0], step)
    assert est.metrics()["history_visits"] == 6


def test_state_of_many_visits_of_one_prompt_loads_at_once():
    """Steps that descend are refused; put in their order one by one they took minutes."""
    count = 300_000
    state = visits()
    state |= {"ids_text": np.zeros(1, np.uint8), "ids_length": np.ones(1, np.int64), "length": np.array([count]),
              "step": np.arange(count, 0, -1), "n": np.ones(count, np.int64), "s": np.ones(count), "ss": np.ones(count),
              "counters": np.array([0, 0, count])}  # fmt: skip
    est = KernelValueEstimator(Steps(float("inf")), "uniform")
    with pytest.raises(CheckpointError, match="do not ascend"):
        est.load_state_dict(state)
    est.load_state_dict(state | {"step": np.arange(1, count + 1)})
    assert est.metrics()["history_visits"] == count


def test_files_without_a_checksum(tmp_path):
    from safetensors.numpy import save_file

    save_file(visits(), tmp_path / "state")
    with pytest.raises(CheckpointError, match="has no checksum"):
        KernelValueEstimator(Steps(float("inf")), "uniform").load(tmp_path / "state")


@pytest.mark.parametrize(("old", "new"), [("F64", "I64"), ("I64", "U64"), ("I64", "F64"), ('"seen"', '"sern"')])
def test_the_checksum_covers_the_header(tmp_path, old, new):
    state = visits()
    save_arrays(tmp_path / "state", state)
    data = (tmp_path / "state").read_bytes()
    at = data.index(old.encode())
    (tmp_path / "state").write_bytes(data[:at] + new.encode() + data[at + len(old) :])
    with pytest.raises(CheckpointError):
        KernelValueEstimator(Steps(float("inf")), "uniform").load(tmp_path / "state")
