"""State as arrays; files that are whole or absent, also when the process is killed while it writes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kernadv import KernadvError, KernelValueEstimator, Relative, Steps, Visits
from kernadv._checkpoint import save_arrays


def filled(seed=0, steps=30, **options):
    """An estimator with a random history."""
    rng = np.random.default_rng(seed)
    est = KernelValueEstimator(**options)
    for step in range(1, steps + 1):
        est.observe([f"prompt {k} é\u0000" for k in rng.integers(0, 20, 40)], rng.random(40), step)
    return est


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("ids", ["text", "int", "empty"])
def test_round_trip(tmp_path, ids):
    est = KernelValueEstimator()
    if ids == "text":
        est = filled()
    elif ids == "int":
        est.observe([3, -7, 2**62, 3], [1.0, 0.0, 0.5, np.nan], 4)
    est.save(tmp_path / "state")
    again = KernelValueEstimator()
    again.observe(["something else"], [1.0], 99)
    again.load(tmp_path / "state")
    assert same(est, again)
    if ids == "text":
        batch = [f"prompt {k} é\u0000" for k in range(20)], np.linspace(0, 1, 20), 31
        np.testing.assert_array_equal(est.advantages(*batch), again.advantages(*batch))
        assert same(est, again)
    assert os.listdir(tmp_path) == ["state"]


def test_state_is_plain_arrays():
    for array in filled().state_dict().values():
        assert type(array) is np.ndarray
        assert array.dtype.kind in "iuf"


def test_other_configuration_is_refused_unless_asked(tmp_path):
    filled().save(tmp_path / "state")
    other = KernelValueEstimator(Steps(9), "gaussian")
    with pytest.raises(KernadvError, match=r"was saved under .*walks.* this estimator is .*Steps.*strict=False"):
        other.load(tmp_path / "state")
    assert other.metrics()["history_visits"] == 0
    other.load(tmp_path / "state", strict=False)
    assert other.metrics()["history_visits"] > 0
    other.save(tmp_path / "plain")
    pooled = filled()
    pooled.load(tmp_path / "plain", strict=False)
    assert pooled.metrics()["history_visits"] > 0
    assert pooled.metrics()["pooled_mean"] == 0.0


def damaged(state, name):
    """State with one thing wrong."""
    state = dict(state)
    if name == "newer version":
        state["format"] = np.array([99])
    elif name == "missing array":
        del state["ss"]
    elif name == "no ids":
        del state["ids_text"]
    elif name == "short array":
        state["s"] = state["s"][:-1]
    elif name == "ids cut":
        state["ids_text"] = state["ids_text"][:-3]
    elif name == "ids twice":
        state["ids_text"] = np.tile(state["ids_text"][: state["ids_length"][0]], len(state["ids_length"]))
        state["ids_length"] = np.full_like(state["ids_length"], state["ids_length"][0])
    elif name == "sums not finite":
        state["s"] = state["s"] * np.nan
    elif name == "counts too large":
        state["n"] = state["n"] + 2**33
    elif name == "newest before the visits":
        state["counters"] = np.array([0, 0, 1])
    elif name == "format not a number":
        state["format"] = np.array([np.nan])
    elif name == "totals not finite":
        state["seen"] = np.array([1.0, np.inf])
    elif name == "foreign":
        state = {"weight": np.ones(3)}
    elif name == "steps out of range":
        state["step"] = state["step"] * 0 + 2**60
    elif name == "pool of other filters":
        state["pool.weights.loss"] = state["pool.weights.loss"][1:]
    elif name == "pool without a piece":
        del state["pool.weights.traces"]
    elif name == "pool not finite":
        state["pool.common.mean"] = state["pool.common.mean"] * np.nan
    elif name == "pool without newest":
        del state["pool.newest"]
    return state


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("newer version", "format 99, this kernadv reads up to 1: upgrade kernadv"),
        ("missing array", "lacks ss"),
        ("no ids", "no prompt ids"),
        ("short array", "do not fit together"),
        ("ids cut", "ids of the state are damaged"),
        ("ids twice", "occurs twice"),
        ("foreign", "not a state of KernelValueEstimator"),
        ("steps out of range", "damaged"),
        ("pool of other filters", "loss of the pooled state must be"),
        ("pool without a piece", "traces of the pooled state must be"),
        ("pool not finite", "mean of the pooled state must be"),
        ("pool without newest", "no newest step"),
        ("sums not finite", "not finite"),
        ("counts too large", "counts of 2"),
        ("newest before the visits", "contradict"),
        ("format not a number", "not a whole number"),
        ("totals not finite", "totals of the state"),
    ],
)
def test_damaged_state_is_refused_and_changes_nothing(tmp_path, name, message):
    est = filled(1)
    before = filled(1)
    state = damaged(filled(2).state_dict(), name)
    with pytest.raises(KernadvError, match=message):
        est.load_state_dict(state)
    save_arrays(tmp_path / "state", state)
    with pytest.raises(KernadvError, match=message):
        est.load(tmp_path / "state")
    assert same(est, before)


def test_truncated_foreign_and_missing_files(tmp_path):
    est = filled(1)
    before = filled(1)
    est.save(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for size in (0, 1, 7, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(KernadvError, match="truncated or not a checkpoint"):
            est.load(tmp_path / "cut")
    (tmp_path / "text").write_text("hello, this is no checkpoint at all")
    with pytest.raises(KernadvError, match="truncated or not a checkpoint"):
        est.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        est.load(tmp_path / "absent")
    assert same(est, before)


def test_failed_save_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    from kernadv import _checkpoint

    est = filled(1)
    est.save(tmp_path / "state")
    data = (tmp_path / "state").read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(_checkpoint.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        est.save(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == data
    assert os.listdir(tmp_path) == ["state"]


def test_a_system_that_opens_no_folders_saves_too(tmp_path, monkeypatch):
    """As on Windows, where a folder cannot be opened and so not flushed."""
    from kernadv import _checkpoint

    est, opened = filled(1), os.open

    def open_file(path, *arguments):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments)

    monkeypatch.setattr(_checkpoint.os, "open", open_file)
    est.save(tmp_path / "state")
    again = KernelValueEstimator()
    again.load(tmp_path / "state")
    assert same(est, again)
    assert os.listdir(tmp_path) == ["state"]


WRITER = """
import sys
import numpy as np
from kernadv import KernelValueEstimator
est = KernelValueEstimator.kae(1.0)
ids = list(range(20000))
for step in range(1, 4):
    est.observe(ids, np.ones(len(ids)), step)
print("ready", flush=True)
while True:
    est.save(sys.argv[1])
"""


def test_killed_while_saving_leaves_a_whole_file(tmp_path):
    """A child that saves in a loop is killed at random moments after a save began; the file always loads."""
    path = tmp_path / "state"
    rng = np.random.default_rng(0)
    interrupted = 0
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        while not (path.exists() and list(tmp_path.glob(".*.tmp"))):
            time.sleep(0.0002)
        time.sleep(rng.uniform(0, 0.01))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        interrupted += len(os.listdir(tmp_path)) > 1
        est = KernelValueEstimator.kae(1.0)
        est.load(path)
        assert est.metrics()["history_visits"] == 60_000
    assert interrupted > 0, "no kill hit a save: the test tested nothing"
    est.save(path)
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize(
    "bandwidth", [Steps(np.int64(30)), Visits(np.int64(8), floor=np.float32(2)), Relative(np.float32(0.5))]
)
def test_settings_of_numpy_type_can_be_saved(tmp_path, bandwidth):
    est = KernelValueEstimator(bandwidth)
    est.observe(["a"], [1.0], 1)
    est.save(tmp_path / "state")
    again = KernelValueEstimator(bandwidth)
    again.load(tmp_path / "state")
    assert same(est, again)


def test_equal_settings_are_equal_whatever_their_type(tmp_path):
    KernelValueEstimator(Steps(30)).save(tmp_path / "state")
    KernelValueEstimator(Steps(30.0)).load(tmp_path / "state")
    assert Relative(1, floor=2) == Relative(1.0, floor=2.0)


def test_state_swept_for_punctual_rows_is_refused_for_late_ones():
    late = KernelValueEstimator(allow_late=100)
    with pytest.raises(KernadvError, match="allow_late"):
        late.load_state_dict(filled().state_dict())


def test_flipped_bits_are_noticed(tmp_path):
    est = filled(3)
    est.save(tmp_path / "state")
    data = bytearray((tmp_path / "state").read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 2, len(data), 40):
        damaged_data = bytearray(data)
        damaged_data[place] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "flipped").write_bytes(damaged_data)
        with pytest.raises(KernadvError):
            KernelValueEstimator().load(tmp_path / "flipped")


@pytest.mark.parametrize("options", [{}, {"weighted": True}, {"bandwidth": Relative(0.5)}], ids=repr)
def test_a_state_that_cannot_be_written_to_is_copied(options):
    """Arrays that came through Ray are read-only, and those of the caller stay as they were."""

    def learn(estimator, steps):
        weights = {"weights": [1.0, 2.0, 3.0]} if estimator.weighted else {}
        return [estimator.advantages(["a", "a", "b"], [1.0, 0.0, 1.0], step, **weights) for step in steps]

    estimator, again = (KernelValueEstimator(**options) for _ in range(2))
    learn(estimator, range(1, 4))
    state = {name: np.array(x) for name, x in estimator.state_dict().items()}
    for array in state.values():
        array.flags.writeable = False
    again.load_state_dict(state)
    np.testing.assert_array_equal(learn(again, range(4, 9)), learn(estimator, range(4, 9)))


@pytest.mark.parametrize("state", [None, [], 3])
def test_state_must_be_a_mapping(state):
    with pytest.raises(KernadvError, match="a mapping of names to arrays"):
        KernelValueEstimator().load_state_dict(state)


def test_save_follows_links_and_needs_a_folder(tmp_path):
    est = filled(4, steps=2)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "state")
    est.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "state").is_file()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        est.save(tmp_path / "absent" / "state")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        est.save(tmp_path / "real")


def test_caps_hold_for_a_loaded_state():
    capped = KernelValueEstimator(max_visits=5)
    capped.load_state_dict(filled(5).state_dict())
    assert capped.metrics()["history_visits"] == 20 * 5
    assert capped.metrics()["dropped_visits"] > 0
