"""One estimator for several processes: an actor of Ray that is killed, asked twice, taken back, and asked for another."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: make test-adapters")

from benchmarks.remote import start
from kernadv import ComponentValueEstimator, KernelValueEstimator
from kernadv._errors import ArgumentError, ArgumentTypeError, BackendError, CheckpointError
from kernadv.adapters import Driver
from kernadv.adapters._process import driver_of
from kernadv.adapters._states import STATE_FILE
from kernadv.adapters.remote import RemoteEstimator, remote_of
from kernadv.logs import read_log

pytestmark = pytest.mark.filterwarnings("default")
#: Seconds after which nothing waits any longer.
LIMIT = 120.0


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two processors, no dashboard; workers do not import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    start(num_cpus=2, object_store_memory=100 << 20, logging_level="warning")
    yield
    ray.shutdown()


@pytest.fixture
def shared(tmp_path):
    """Makes shared estimators of one name, which end with the test."""
    name, made = uuid4().hex, []

    def make(factory=None, *, folder=tmp_path / "shared", name=name, timeout=LIMIT, **options):
        made.append(RemoteEstimator(name, factory or {"allow_late": 8}, folder=folder, timeout=timeout, **options))
        return made[-1]

    yield make
    for each in {each.name: each for each in made}.values():
        ray.kill(each._found())


def bits(state):
    return {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in state.items()}


def batch(step, rows=16, prompts=6):
    rng = np.random.default_rng(step)
    return [f"p{k}" for k in rng.integers(0, prompts, rows)], rng.normal(size=rows), step


def of_actor(estimator):
    """The process of the actor."""
    return ray.get(estimator._found().__ray_call__.remote(lambda self: os.getpid()), timeout=LIMIT)


def test_it_answers_as_one_process_does(shared):
    alone, est = KernelValueEstimator(weighted=True, pessimism=2.0), shared({"weighted": True, "pessimism": 2.0})
    assert (est.weighted, est.components) == (True, 0)
    for step in range(1, 8):
        ids, rewards, _ = batch(step)
        weights = np.arange(1.0, 17.0)
        assert est.values(ids, rewards, step).value.tobytes() == alone.values(ids, rewards, step).value.tobytes()
        mine = alone.advantages(ids, rewards, step, weights=weights)
        assert est.advantages(ids, rewards, step, weights=weights).tobytes() == mine.tobytes()
    for one, other in zip(est.predict(["p1", "new"]), alone.predict(["p1", "new"]), strict=True):
        assert np.array_equal(one, other)
    numbers = est.metrics()
    assert {name: numbers[name] for name in alone.metrics()} == alone.metrics()
    assert numbers["batches"] == 7
    assert bits(est.history()) == bits(alone.state_dict())


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64"])
def test_tensors_in_tensors_out(dtype, shared):
    torch = pytest.importorskip("torch")
    alone, est = KernelValueEstimator(allow_late=8), shared()
    ids, rewards = ["a", "a", "b", "c"], torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=getattr(torch, dtype))
    for step in (1, 2, 3):
        steps = torch.full((4,), step)
        mine = alone.advantages(ids, rewards, steps)
        out = est.advantages(ids, rewards, steps, batch_id=f"{step}")
        assert out.dtype == mine.dtype
        assert torch.equal(out, mine)
    again = est.advantages(ids, rewards, torch.full((4,), 3), batch_id="3")
    assert torch.equal(again, out)
    assert again.dtype == out.dtype


def test_several_components(shared):
    alone, est = ComponentValueEstimator(2), shared({"components": 2})
    assert est.components == 2
    for step in (1, 2):
        rewards = np.random.default_rng(step).normal(size=(3, 2))
        mine = alone.advantages(["a", "a", "b"], rewards, step)
        assert est.advantages(["a", "a", "b"], rewards, step).tobytes() == mine.tobytes()
    assert bits(est.history()) == bits(alone.state_dict())


def produce(est, producer, steps):
    """Send batches of a producer's own prompts, each one twice; returns the advantages."""
    out = []
    for step in range(1, steps + 1):
        ids, rewards, _ = batch(100 * producer + step)
        sent = [est.advantages(ids, rewards, step, batch_id=f"{producer}/{step}") for _ in range(2)]
        assert sent[0].tobytes() == sent[1].tobytes()
        out.append(sent[0])
    return out


def replayed(folder):
    """The batches of a log, and the state of an estimator that saw them in the same order."""
    from kernadv.adapters._remote_log import Log, store

    place = store(folder)
    alone, log = KernelValueEstimator(allow_late=8), Log(place)
    batches = list(log.follow())
    for each in batches:
        out = alone.advantages(each.ids, each.rewards, each.steps)
        assert out.tobytes() == each.advantages.tobytes()
    place.close()
    return batches, bits(alone.state_dict())


def test_several_producers_share_one_history(shared, tmp_path):
    est = shared()
    tasks = [ray.remote(num_cpus=0)(produce).remote(est, k, 4) for k in (1, 2, 3)]
    ray.get(tasks, timeout=LIMIT)
    state = bits(est.history())
    est.stop()
    batches, alone = replayed(tmp_path / "shared")
    assert sorted(each.batch_id for each in batches) == sorted(f"{k}/{step}" for k in (1, 2, 3) for step in range(1, 5))
    assert state == alone


def test_it_starts_again_when_it_is_killed(shared, tmp_path):
    est = shared(snapshot_every=3)
    for step in range(1, 12):
        if step in (4, 8, 9):
            os.kill(of_actor(est), signal.SIGKILL)
        ids, rewards, _ = batch(step)
        est.advantages(ids, rewards, step, batch_id=f"b{step}")
    assert est.metrics()["batches"] == 11
    state = bits(est.history())
    est.stop()
    batches, alone = replayed(tmp_path / "shared")
    assert [each.batch_id for each in batches] == [f"b{step}" for step in range(1, 12)]
    assert state == alone
    assert bits(est.history()) == alone  # an actor that goes on from the folder


def test_a_checkpoint_names_the_position(shared, tmp_path):
    est = shared()
    for step in range(1, 6):
        est.advantages(*batch(step))
    file = tmp_path / "kernadv.safetensors"
    est.save(file)
    assert file.stat().st_size < 1000
    state = bits(est.history())
    for step in range(6, 9):
        est.advantages(*batch(step))
    other = shared()
    other.load(file)
    assert bits(est.history()) == state
    assert est.metrics()["batches"] == 5
    other.load(file)  # already there
    assert bits(other.history()) == state
    with pytest.raises(FileNotFoundError):
        est.load(tmp_path / "nowhere")
    KernelValueEstimator().save(tmp_path / "own")
    with pytest.raises(CheckpointError, match="not the position of a shared estimator"):
        est.load(tmp_path / "own")
    with pytest.raises(CheckpointError, match="never was where the checkpoint was saved"):
        shared(folder=tmp_path / "other", name=f"{est.name} other").load(file)
    with pytest.raises(CheckpointError, match="is of an estimator made by"):
        shared({"h": 0.5}, folder=tmp_path / "third", name=f"{est.name} third").load(file)
    with pytest.raises(CheckpointError, match="not a state of"):
        KernelValueEstimator().load(file)
    whole = file.read_bytes()
    for cut in range(0, len(whole), 11):
        file.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            est.load(file)
    assert bits(est.history()) == state


def test_errors_reach_the_caller_as_they_are(shared, tmp_path, monkeypatch):
    est = shared({"allow_late": 2})
    for step in (1, 5):
        est.advantages(["a", "b"], [1.0, 0.0], step, batch_id=f"b{step}")
    state = bits(est.history())
    with pytest.raises(ArgumentError, match="late") as caught:
        est.advantages(["a"], [1.0], 2)
    assert type(caught.value) is ArgumentError
    with pytest.raises(ArgumentTypeError):
        est.advantages([None], [1.0], 5)
    with pytest.raises(ArgumentError, match="was given to a batch with other rows"):
        est.advantages(["a", "b"], [1.0, 1.0], 5, batch_id="b5")
    with pytest.raises(ArgumentTypeError, match="batch_id must be a text"):
        est.advantages(["a"], [1.0], 5, batch_id=5)
    with pytest.raises(ArgumentError, match="the estimator of this name was made by"):
        shared({"allow_late": 3})
    with pytest.raises(ArgumentError, match="the estimator of this name keeps its log in"):
        shared({"allow_late": 2}, folder=tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr("kernadv.__version__", "0.0.9")
        with pytest.raises(CheckpointError, match=r"is of kernadv .*, this is 0\.0\.9"):
            shared({"allow_late": 2})
    assert bits(est.history()) == state


def test_a_folder_that_cannot_be_used_leaves_the_name_free(shared, tmp_path):
    with pytest.raises(ArgumentError, match="cannot be used"):
        shared(folder="/sys/kernadv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="Not a directory"):
        shared(folder=tmp_path / "file" / "in")
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        shared({"no_such": 1}, folder=tmp_path / "new")
    assert shared().metrics()["batches"] == 0


@pytest.mark.parametrize(
    "given",
    [{"name": ""}, {"name": 3}, {"folder": 3}, {"snapshot_every": 0}, {"timeout": 0}, {"namespace": ""}],
    ids=repr,
)
def test_arguments_that_cannot_be_used(given, tmp_path):
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        RemoteEstimator(**{"name": "x", "factory": {}, "folder": tmp_path, **given})


def test_who_does_not_answer_is_told_of(shared, monkeypatch):
    est = shared(timeout=LIMIT)
    est.advantages(["a"], [1.0], 1)
    est._found().__ray_call__.remote(lambda self: time.sleep(4.0))
    monkeypatch.setattr(est, "_timeout", 1.0)
    with pytest.raises(BackendError, match=r"did not answer in 1 s.*a longer timeout"):
        est.advantages(["a"], [0.0], 2, batch_id="two")
    monkeypatch.setattr(est, "_timeout", LIMIT)
    est.advantages(["a"], [0.0], 2, batch_id="two")
    assert est.metrics()["batches"] == 2


def test_a_driver_takes_it(shared, tmp_path):
    torch = pytest.importorskip("torch")
    own, mine = Driver(shared()), Driver(KernelValueEstimator(allow_late=8))
    for step in (1, 2, 3):
        ids, rewards, _ = batch(step)
        rewards = torch.tensor(rewards)
        assert torch.equal(own.rows(ids, rewards, step), mine.rows(ids, rewards, step))
        if step == 2:
            own.save(tmp_path / "checkpoint")
            state = bits(own.estimator.history())
    assert (tmp_path / "checkpoint" / STATE_FILE).is_file()
    own.load(tmp_path / "checkpoint")
    assert bits(own.estimator.history()) == state


def test_one_setting_of_a_framework(shared, tmp_path):
    name = uuid4().hex
    where = {"name": name, "folder": str(tmp_path / "set"), "timeout": LIMIT}
    est = remote_of(where, {"allow_late": 3})
    assert est.weighted
    out = est.advantages(["a", "b"], [1.0, 0.0], 1, weights=[1.0, 2.0])
    alone = KernelValueEstimator(allow_late=3, weighted=True, pessimism=2.0)
    assert out.tobytes() == alone.advantages(["a", "b"], [1.0, 0.0], 1, weights=[1.0, 2.0]).tobytes()
    with pytest.raises(ArgumentError, match="was made by"):
        remote_of(where, {"allow_late": 3}, weights="none")
    for bad in (None, "run", {}, {"name": "x"}, {**where, "size": 3}):
        with pytest.raises(ArgumentError, match="remote must be a mapping with a name and a folder"):
            remote_of(bad, {})
    ray.kill(est._found())


def test_the_setting_of_verl_and_skyrl(shared, tmp_path):
    torch = pytest.importorskip("torch")
    where = {"name": uuid4().hex, "folder": str(tmp_path / "set"), "timeout": LIMIT}
    drivers = [driver_of({"allow_late": 2, "remote": where}) for _ in range(2)]  # those of two trainers
    mine = driver_of({"allow_late": 2})
    surprisal = torch.rand(16, generator=torch.Generator().manual_seed(0)) * 9, torch.full((16,), 5)
    for step in (1, 2, 3):
        ids, rewards, _ = batch(step)
        rewards = torch.tensor(rewards)
        own = mine.rows(ids, rewards, step, surprisal=lambda: surprisal)
        assert torch.equal(drivers[0].rows(ids, rewards, step, surprisal=lambda: surprisal), own)
    assert drivers[1].metrics()["kernadv/history_visits"] == mine.metrics()["kernadv/history_visits"]
    with pytest.raises(ArgumentError, match="was made by"):
        driver_of({"allow_late": 3, "remote": where})
    with pytest.raises(ArgumentError, match="factory must stand alone"):
        driver_of({"allow_late": 3, "factory": "kernadv.KernelValueEstimator", "remote": where})
    ray.kill(drivers[0].estimator._found())


def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "ray_shared_estimator.py"
    done = subprocess.run(
        [sys.executable, example, tmp_path / "run"], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "killed the actor" in done.stdout
    assert "120 batches of 120, 64 prompts" in done.stdout
    log = read_log(tmp_path / "run", on_repeat="merge")
    assert (log.n_rows, len(log.prompts)) == (4 * 30 * 32, 64)
    easy, hard, new = (float(x) for x in re.findall(r"(?:easy|hard|new): ([.\d]+) ", done.stdout))
    assert easy > new > hard
