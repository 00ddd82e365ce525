"""Where states lie: attached folders, URLs, the thread that writes large states, damaged files."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from safetensors.numpy import load_file

from kernadv import (
    ArgumentError,
    CheckpointError,
    ComponentValueEstimator,
    KernelValueEstimator,
    MissingExtraError,
)
from kernadv._checkpoint import load_arrays, save_arrays
from kernadv.adapters import _states
from kernadv.adapters._driver import Driver
from kernadv.adapters._states import DRIVER_FILE, STATE_FILE, WEIGHTS_FILE, join

BATCH = ["a", "a", "b"], [1.0, 0.0, 1.0]
SUMS = np.array([1.0, 3.0, 40.0]), np.array([2.0, 3.0, 4.0])


class FullStore(MemoryFileSystem):
    """A store that takes nothing while it is full, and fails with an error of its own."""

    protocol = "fullstore"
    store: dict = {}  # noqa: RUF012 -- of its own, as the class above has one
    pseudo_dirs = [""]  # noqa: RUF012
    full = False

    class Refused(Exception):
        """Of this store alone."""

    def put_file(self, *args, **options):
        if self.full:
            raise self.Refused("the bucket is full")
        return super().put_file(*args, **options)


fsspec.register_implementation("fullstore", FullStore)


@pytest.fixture(params=["path", "Path", "file", "memory"])
def folder(request, tmp_path):
    """A folder that is not there yet, as users may name it."""
    if request.param == "memory":
        yield f"memory://{tmp_path.name}/run"
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)
        return
    path = tmp_path / "new" / "run"
    yield {"path": str(path), "Path": path, "file": f"file://{path}"}[request.param]


def run(driver, calls):
    """Several calls with weights, without a step; the last advantages."""
    for _ in range(calls):
        out = driver.rows(*BATCH, surprisal=lambda: SUMS)
    return out


def listed(folder):
    """Everything in a folder, also what is hidden."""
    system, place = fsspec.core.url_to_fs(str(folder))
    return sorted(path.rpartition("/")[2] for path in system.ls(place, detail=False))


def same(one, other):
    """Whether two drivers are in one state, bit for bit."""
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_run_that_is_started_again_goes_on_where_its_last_state_was_saved(folder):
    driver, twin = Driver().attach(folder, every=3), Driver()
    run(driver, 7)
    run(twin, 6)
    again = Driver().attach(folder, every=3)
    assert same(again, twin)
    assert (again.calls, again.step) == (6, 6)
    np.testing.assert_array_equal(run(again, 4), run(twin, 4))
    assert same(again, twin)
    assert listed(folder) == ["kernadv_000003", "kernadv_000004"]  # at 0, 3, 6 and 9 calls


def test_the_last_states_stay_and_nothing_else(folder):
    driver = Driver().attach(folder, every=1, keep=3)
    run(driver, 7)
    assert listed(folder) == ["kernadv_000006", "kernadv_000007", "kernadv_000008"]
    assert listed(join(folder, "kernadv_000008")) == [STATE_FILE, DRIVER_FILE, WEIGHTS_FILE]


def test_finish_saves_what_came_after_the_last_state(folder):
    driver = Driver().attach(folder, every=100)
    run(driver, 3)
    driver.finish()
    driver.finish()
    assert len(listed(folder)) == 2
    assert same(Driver().attach(folder), driver)


def test_a_state_that_was_cut_off_does_not_count(folder):
    driver = Driver().attach(folder, every=2)
    run(driver, 4)
    system, place = fsspec.core.url_to_fs(str(folder))
    system.rm(f"{place}/kernadv_000003/{STATE_FILE}")
    again = Driver().attach(folder, every=2)
    assert again.calls == 2
    run(again, 2)
    assert listed(folder) == ["kernadv_000002", "kernadv_000004"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    driver = Driver().attach(tmp_path, every=1)
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with _states.aside(tmp_path / "kernadv") as own:
        left = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{done.stdout.strip()}-"))
    left.mkdir()
    (left / STATE_FILE).write_bytes(b"begun")
    run(driver, 1)
    assert listed(tmp_path) == ["kernadv_000001", "kernadv_000002"]


@pytest.mark.parametrize("file", [STATE_FILE, WEIGHTS_FILE, DRIVER_FILE])
def test_a_damaged_newest_state_is_an_error_that_says_what_to_do(tmp_path, file):
    run(Driver().attach(tmp_path, every=2), 4)
    newest = tmp_path / "kernadv_000003"
    data = (newest / file).read_bytes()
    (newest / file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    driver, twin = Driver(), Driver()
    for one in (driver, twin):
        run(one, 1)
    with pytest.raises(CheckpointError, match=r"remove \S+3 to go on from the state before it, \S+kernadv_000002"):
        driver.attach(tmp_path)
    assert same(driver, twin)
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    driver.attach(tmp_path)
    assert driver.calls == 2


def test_states_of_other_settings_are_refused(tmp_path):
    Driver(KernelValueEstimator.kae(0.5)).attach(tmp_path)
    with pytest.raises(CheckpointError, match=r"saved under .* it is the only state"):
        Driver(KernelValueEstimator.kae(0.25)).attach(tmp_path)


@pytest.mark.parametrize(("every", "keep"), [(0, 2), (50, 0), (1.5, 2), (True, 2)])
def test_counts_that_cannot_be_used(tmp_path, every, keep):
    with pytest.raises(ArgumentError, match="must be a whole number >= 1"):
        Driver().attach(tmp_path, every, keep)


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(FullStore, "full", True)
    for bad in (tmp_path / "file", tmp_path / "file" / "below", "/proc/kernadv", "fullstore://bucket/run"):
        driver = Driver()
        with pytest.raises(CheckpointError, match=r"cannot keep its states in \S+: .+; attach a folder"):
            driver.attach(bad)
        assert run(driver, 60) is not None  # it is not attached


@pytest.mark.parametrize("large", [False, True])
def test_a_failed_write_is_raised_at_the_next_call_once(monkeypatch, large, caplog):
    monkeypatch.setattr(_states, "LARGE", 0 if large else 2**25)
    monkeypatch.setattr(FullStore, "full", False)
    driver, twin = Driver().attach("fullstore://b/r", every=2), Driver()
    monkeypatch.setattr(FullStore, "full", True)
    run(driver, 2)
    run(twin, 2)
    while driver._writer.busy:
        pass
    assert "the bucket is full" in caplog.text
    with pytest.raises(CheckpointError, match="fullstore://b/r: the bucket is full"):
        run(driver, 1)
    assert same(driver, twin)  # the batch before was learned, this one was not
    run(driver, 2)
    with pytest.raises(CheckpointError, match="the bucket is full"):
        driver.finish()
    monkeypatch.setattr(FullStore, "full", False)
    run(driver, 2)
    driver.finish()
    assert same(Driver().attach("fullstore://b/r"), driver)
    FullStore.store.clear()


class Gate:
    """In place of `save_arrays`: waits until it may go on."""

    def __init__(self, monkeypatch):
        self.open, self.reached, self.threads = threading.Event(), threading.Event(), []
        monkeypatch.setattr(_states, "LARGE", 0)
        monkeypatch.setattr(_states, "save_arrays", self)

    def __call__(self, path, arrays):
        self.threads.append(threading.current_thread())
        self.reached.set()
        assert self.open.wait(60)
        save_arrays(path, arrays)


@pytest.mark.parametrize(
    "estimator",
    [lambda: None, lambda: KernelValueEstimator.kae(0.5), lambda: KernelValueEstimator(weighted=True, max_visits=2)],
)
def test_training_goes_on_while_a_large_state_is_written(tmp_path, monkeypatch, estimator):
    """What is written is the state at the time of saving, however far training is."""
    driver, twin = Driver(estimator()), Driver(estimator())
    run(driver, 3)
    run(twin, 3)
    gate = Gate(monkeypatch)
    driver.save(tmp_path)
    run(driver, 3)
    gate.open.set()
    driver.finish()
    assert threading.main_thread() not in gate.threads
    loaded = Driver(estimator())
    loaded.load(tmp_path)
    assert same(loaded, twin)
    assert not same(loaded, driver)


def test_a_call_waits_until_a_large_state_is_copied(tmp_path, monkeypatch):
    """Saving and metrics do not."""
    monkeypatch.setattr(_states, "LARGE", 0)
    driver, twin, copying = Driver(), Driver(), threading.Event()
    run(driver, 2)
    run(twin, 2)
    state_dict = driver.estimator.state_dict
    monkeypatch.setattr(driver.estimator, "state_dict", lambda: copying.wait(60) and state_dict())
    driver.save(tmp_path)
    assert driver.metrics()["kernadv/history_visits"] > 0
    calls = [threading.Thread(target=run, args=(driver, 1)), threading.Thread(target=driver.state_dict)]
    for call in calls:
        call.start()
    time.sleep(0.2)
    assert all(call.is_alive() for call in calls)
    copying.set()
    for call in calls:
        call.join()
    driver.finish()
    loaded = Driver()
    loaded.load(tmp_path)
    assert same(loaded, twin)
    run(twin, 1)
    monkeypatch.undo()
    assert same(driver, twin)


def test_a_slow_store_is_waited_for_by_saves_and_not_by_calls(tmp_path, monkeypatch):
    driver = Driver().attach(tmp_path, every=1)
    gate = Gate(monkeypatch)
    run(driver, 5)  # the second state is under way; those that fall due meanwhile are left out
    assert gate.reached.wait(60)
    assert len(listed(tmp_path)) == 2
    gate.open.set()
    driver.finish()
    assert same(Driver().attach(tmp_path), driver)
    assert listed(tmp_path) == ["kernadv_000002", "kernadv_000003"]


def test_the_interpreter_waits_for_what_is_being_written(tmp_path):
    code = f"""
import time
from kernadv.adapters import Driver, _states
save = _states.save_arrays
_states.LARGE, _states.save_arrays = 0, lambda path, arrays: time.sleep(0.3) or save(path, arrays)
driver = Driver(weights="none")
driver.rows(["a"], [1.0])
driver.save({str(tmp_path)!r})
assert not (_states.is_there({str(tmp_path / STATE_FILE)!r}))
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    loaded = Driver(weights="none")
    loaded.load(tmp_path)
    assert loaded.calls == 1


def test_a_process_that_goes_elsewhere(tmp_path, monkeypatch):
    """Folders are those of the time when they were named."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    driver = Driver().attach("run", every=1)
    gate = Gate(monkeypatch)
    driver.rows(*BATCH, surprisal=lambda: SUMS)
    monkeypatch.chdir(tmp_path / "there")
    gate.open.set()
    driver.finish()
    assert not list((tmp_path / "there").iterdir())
    assert same(Driver().attach(tmp_path / "here" / "run"), driver)


def test_a_copy_of_a_driver_that_is_writing(tmp_path, monkeypatch):
    import copy
    import pickle

    driver = Driver()
    run(driver, 2)
    gate = Gate(monkeypatch)
    driver.save(tmp_path)
    copies = copy.deepcopy(driver), pickle.loads(pickle.dumps(driver))
    gate.open.set()
    for one in (driver, *copies):
        one.finish()
        assert same(one, driver)


class Bare:
    """An estimator with what the protocol asks for, and no more."""

    def __init__(self):
        self.seen = 0.0

    def advantages(self, prompt_ids, rewards, step):
        self.seen += float(np.sum(rewards))
        return np.asarray(rewards)

    def metrics(self):
        return {"seen": self.seen}

    def save(self, path):
        Path(path).write_text(str(self.seen))

    def load(self, path):
        self.seen = float(Path(path).read_text())


@pytest.mark.parametrize("way", ["attach", "save"])
def test_an_estimator_of_your_own_is_saved_by_itself(tmp_path, way):
    driver = Driver(Bare())
    if way == "attach":
        driver.attach(tmp_path, every=1)
    driver.rows(*BATCH)
    if way == "save":
        driver.save(tmp_path)
    again = Driver(Bare())
    again.attach(tmp_path) if way == "attach" else again.load(tmp_path)
    assert (again.estimator.seen, again.calls, again.step) == (2.0, 1, 1)


def test_a_checkpoint_without_a_clock_begins_one(tmp_path):
    """As `KernelValueEstimator.save` writes it."""
    est = KernelValueEstimator()
    est.observe(*BATCH, 8)
    est.save(tmp_path / STATE_FILE)
    driver = Driver(weights="none")
    driver.load(tmp_path)
    assert driver.calls == 0
    driver.rows(*BATCH, 9)
    assert (driver.calls, driver.step) == (1, 9)


def small(file):
    """The driver whose file is small, and holds what matters."""
    return Driver(KernelValueEstimator.kae(0.5) if file == STATE_FILE else KernelValueEstimator(weighted=True))


@pytest.fixture
def saved(tmp_path):
    """Saves a small state in a folder to damage it in; gives the driver."""

    def save(file):
        driver = small(file)
        run(driver, 2)
        driver.save(tmp_path)
        return driver

    return save


def attempt(folder, driver):
    """Load into a driver with another state, which stays if that fails; what is raised, or None."""
    before = driver.state_dict()
    try:
        driver.load(folder)
    except CheckpointError as error:
        after = driver.state_dict()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        return error
    return None


@pytest.mark.parametrize("file", [STATE_FILE, WEIGHTS_FILE, DRIVER_FILE])
def test_a_state_cut_at_any_byte_is_refused(saved, tmp_path, file):
    saved(file)
    path, driver = tmp_path / file, small(file)
    data = path.read_bytes()
    run(driver, 1)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        assert attempt(tmp_path, driver) is not None, cut
    path.write_bytes(data)
    assert attempt(tmp_path, driver) is None


@pytest.mark.parametrize("file", [STATE_FILE, WEIGHTS_FILE, DRIVER_FILE])
def test_a_state_with_any_byte_changed_is_refused_or_the_same(saved, tmp_path, file):
    """The same: blanks of the header that are still blanks."""
    whole = saved(file)
    path, driver = tmp_path / file, small(file)
    data = path.read_bytes()
    run(driver, 1)
    start, rng = driver.state_dict(), np.random.default_rng(0)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        if attempt(tmp_path, driver) is None:
            assert same(driver, whole), place
            driver.load_state_dict(start)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("clock", [1]),
        ("clock", [-1, 2]),
        ("clock", [1.0, 2.0]),
        ("mean", [np.nan]),
        ("mean", [-1.0]),
        ("mean", [1.0, 2.0]),
        ("mean", [3]),
    ],
)
def test_clocks_and_means_that_nothing_leaves(saved, tmp_path, name, array):
    file = DRIVER_FILE if name == "clock" else WEIGHTS_FILE
    saved(file)
    save_arrays(tmp_path / file, {name: np.array(array)})
    driver = small(file)
    run(driver, 1)
    assert "damaged" in str(attempt(tmp_path, driver))


def test_a_checkpoint_at_a_url(folder):
    driver, twin = Driver(), Driver()
    run(driver, 2)
    driver.save(folder)
    driver.save(folder)
    twin.load(folder)
    assert same(driver, twin)
    with pytest.raises(CheckpointError, match="nowhere holds no"):
        twin.load(join(folder, "nowhere"))


def test_estimators_at_a_url(folder):
    for make in (KernelValueEstimator, lambda: ComponentValueEstimator(1)):
        one, other = make(), make()
        rewards = np.array(BATCH[1]) if make is KernelValueEstimator else np.array(BATCH[1])[:, None]
        one.observe(BATCH[0], rewards, 1)
        system, place = fsspec.core.url_to_fs(str(folder))
        system.makedirs(place, exist_ok=True)
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            other.load(join(folder, "nowhere"))
        one.save(join(folder, "state"))
        other.load(join(folder, "state"))
        before, after = one.state_dict(), other.state_dict()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        data = system.cat_file(f"{place}/state")
        system.pipe_file(f"{place}/state", data[: len(data) // 2])
        with pytest.raises(CheckpointError, match="truncated"):
            other.load(join(folder, "state"))


def test_urls_that_cannot_be_reached(tmp_path, monkeypatch):
    """Nothing is made on this machine for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(known_implementations, "nostore", {"class": "not_installed.Store", "err": "Install nostore"})
    driver = Driver()
    for call in (driver.save, driver.load, driver.attach, driver.estimator.save, driver.estimator.load):
        with pytest.raises(ArgumentError, match=r"foo://b/x\S* cannot be reached through fsspec: Protocol not known"):
            call("foo://b/x")
        with pytest.raises(MissingExtraError, match="not installed: Install nostore"):
            call("nostore://b/x")
        for lost in (Path("s3://b/x"), os.path.abspath("gs://b/x")):
            with pytest.raises(ArgumentError, match="as text, whole and not as a Path"):
                call(lost)
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "fsspec", None)
            with pytest.raises(
                MissingExtraError, match="needs fsspec, which is not installed; run: pip install fsspec"
            ):
                call("s3://b/x")
    assert not list(tmp_path.iterdir())


def test_files_are_those_of_safetensors(tmp_path):
    """Read by its own reader: every type that a state may have, aligned."""
    kinds = [bool, *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"]
    arrays = {f"x{k}/ü": np.arange(k + 1).astype(kind) for k, kind in enumerate(kinds)}
    arrays |= {"none": np.zeros((0, 3)), "matrix": np.arange(6.0).reshape(2, 3).T}
    save_arrays(tmp_path / "file", arrays)
    theirs, ours = load_file(tmp_path / "file"), load_arrays(tmp_path / "file")
    assert theirs.pop("crc32").dtype == np.int64
    for read in (theirs, ours):
        assert read.keys() == arrays.keys()
        assert all(read[k].dtype == x.dtype and np.array_equal(read[k], x) for k, x in arrays.items())
