"""A log of batches gives the state back bit for bit, or says why not: cut anywhere, written twice, taken back."""

import json
import os
import shutil
from uuid import uuid4

import numpy as np
import pytest

from kernadv import ComponentValueEstimator, KernelValueEstimator
from kernadv._errors import ArgumentError, ArgumentTypeError, CheckpointError
from kernadv.adapters import _remote_log
from kernadv.adapters._remote_log import SNAPSHOTS, Local
from kernadv.adapters._remote_state import CONFIG, Recipe, Seen, Shared, _superfluous, recipe

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: make test")


class Caller:
    """A caller beside the actor, with the arguments of an estimator."""

    def __init__(self, folder, settings=None, every=1000):
        self.folder = str(folder)
        make, own = recipe(settings or {"allow_late": 8})
        self.own, self.seen = own._replace(folder=self.folder), Seen()
        self.shared = Shared(make, self.own, every)

    def ask(self, method, *args, **options):
        answer, self.seen = getattr(self.shared, method)(self.own, self.seen, *args, **options)
        return answer

    def advantages(self, ids, rewards, step, batch_id=None, weights=None, trace=None):
        return self.ask("advantages", batch_id or uuid4().hex, ids, rewards, step, weights, trace)

    def state(self):
        return bits(self.ask("state_dict"))


def bits(state):
    return {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in state.items()}


@pytest.fixture
def caller():
    """Makes callers, one after the other on the same folder."""
    made = []

    def make(*args, **options):
        for each in made:
            each.shared.close()
        made.append(Caller(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.shared.close()


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """An empty folder, here or in fsspec's memory."""
    return str(tmp_path / "shared") if request.param == "local" else f"memory://{uuid4().hex}"


def batches(count=6, rows=8, prompts=5, seed=0):
    """Batches of rows whose sums depend on their order; one reward in ten is missing."""
    rng = np.random.default_rng(seed)
    for step in range(1, count + 1):
        rewards = rng.normal(0.3, 1.0, rows)
        rewards[rng.random(rows) < 0.1] = np.nan
        yield [f"p{k}" for k in rng.integers(0, prompts, rows)], rewards, step


KINDS = {
    "default": ({"allow_late": 8}, lambda: KernelValueEstimator(allow_late=8)),
    "weighted": ({"weighted": True, "pessimism": 2.0}, lambda: KernelValueEstimator(weighted=True, pessimism=2.0)),
    "kae": ({"h": 0.5, "cold_start": 0.25}, lambda: KernelValueEstimator.kae(0.5, cold_start=0.25)),
    "components": ({"components": 2}, lambda: ComponentValueEstimator(2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_after_a_crash_is_that_of_one_process(kind, folder, caller):
    settings, make = KINDS[kind]
    alone, shared = make(), caller(folder, settings, every=4)
    for ids, rewards, step in batches(11):
        if kind == "components":
            rewards = np.stack([rewards, np.arange(len(ids)) % 2], 1)
        weights = np.arange(1.0, 9.0) if kind == "weighted" else None
        mine = alone.advantages(ids, rewards, step, **({} if weights is None else {"weights": weights}))
        assert shared.advantages(ids, rewards, step, weights=weights).tobytes() == mine.tobytes()
        shared.shared._finish()
    assert shared.state() == bits(alone.state_dict())
    again = caller(folder, settings)
    assert again.state() == bits(alone.state_dict())
    assert again.shared._newest == 8  # from the snapshot, and the three batches after it
    numbers = again.ask("metrics")
    assert {name: numbers[name] for name in alone.metrics()} == alone.metrics()
    assert numbers["batches"] == 11


@pytest.mark.parametrize(
    ("rewards", "kind"),
    [([1.0, 0.0], np.float64), (np.float32([0.1, 0.7]), np.float32), (np.int64([1, 0]), np.float64)],
    ids=["list", "float32", "int"],
)
def test_a_batch_that_comes_again_counts_once(rewards, kind, folder, caller):
    shared = caller(folder)
    first = shared.advantages(["a", "b"], rewards, 1, "one")
    for k in range(5):
        shared.advantages(["a", "b"], [1.0, float(k)], 2, f"later {k}")
    state = shared.state()
    for restarted in (False, True):
        each = caller(folder) if restarted else shared
        again = each.advantages(["a", "b"], rewards, 1, "one")
        assert again.tobytes() == first.tobytes()
        assert again.dtype == kind
        assert each.state() == state


def test_an_id_of_another_batch_is_refused(folder, caller):
    shared = caller(folder, {"weighted": True})
    good = {"ids": ["a", "b"], "rewards": [1.0, np.nan], "step": 1, "weights": [1.0, 2.0], "trace": [3, 4]}
    out = shared.advantages(**good, batch_id="one")
    state = shared.state()
    other = {"ids": [1, 2], "rewards": [1.0, 0.0], "step": 2, "weights": [1.0, 3.0], "trace": ["3", "4"]}
    for name, value in other.items():
        with pytest.raises(ArgumentError, match="batch_id='one' was given to a batch with other rows"):
            shared.advantages(**{**good, name: value}, batch_id="one")
    with pytest.raises(ArgumentError, match="other rows"):
        shared.advantages(["a"], ["no number"], 1, "one")
    assert shared.advantages(**good, batch_id="one").tobytes() == out.tobytes()
    assert shared.state() == state


def test_parts_of_a_trace_are_one_line(folder, caller):
    alone, shared = KernelValueEstimator(), caller(folder, {"allow_late": False})
    ids, rewards, trace = ["a", "a", "b", "a"], [1.0, 0.0, 1.0, 1.0], ["t", "u", "v", "t"]
    for step in (1, 2):
        mine = alone.advantages(ids, rewards, step, trace=trace)
        assert shared.advantages(ids, rewards, step, f"{step}", trace=trace).tobytes() == mine.tobytes()
    again = caller(folder, {"allow_late": False})
    assert again.state() == bits(alone.state_dict())
    assert again.advantages(ids, rewards, 2, "2", trace=trace).tobytes() == mine.tobytes()
    assert [batch.traces for batch in again.shared._log.follow()] == [["t", "u", "v"]] * 2


def test_bad_input_leaves_no_trace(folder, caller):
    shared = caller(folder, {"allow_late": 2})
    for ids, rewards, step in batches(6):
        shared.advantages(ids, rewards, step)
    state = shared.state()
    bad = {
        "late": (["a"], [1.0], 3),
        "step 0": (["a"], [1.0], 0),
        "lengths": (["a", "b"], [1.0], 7),
        "infinite": (["a"], [np.inf], 7),
        "ids": ([None], [1.0], 7),
        "other ids": ([1], [1.0], 7),
        "rewards": (["a"], ["x"], 7),
        "weights": (["a"], [1.0], 7, None, [1.0]),
        "parts that disagree": (["a", "a"], [1.0, 0.0], 7, None, None, ["t", "t"]),
    }
    for ids, rewards, step, *rest in bad.values():
        with pytest.raises((ArgumentError, ArgumentTypeError)):
            shared.advantages(ids, rewards, step, *rest)
    assert shared.state() == state
    assert caller(folder, {"allow_late": 2}).state() == state


def outcome(caller):
    """The state, or the message of an error."""
    try:
        return caller.state()
    except CheckpointError as error:
        return str(error)


def odd_batches():
    """Small batches with what a line may hold."""
    return [
        (["a", "b"], [1.0, 0.1], 1),
        (['"\n\u2028', "\ud800%s"], [np.nan, -0.0], 2),
        (["a", "c"], [1 / 3, 1e-300], 3),
    ]


@pytest.mark.parametrize("segment", [1, 1 << 20], ids=["a file for each batch", "one file"])
def test_a_log_cut_at_every_byte(segment, tmp_path, caller, monkeypatch):
    monkeypatch.setattr(Local, "segment", segment)
    shared, folder = caller(tmp_path / "whole"), tmp_path / "whole"
    states = [shared.state()]
    ends = [0]
    for k, batch in enumerate(odd_batches()):
        shared.advantages(*batch, batch_id=f"b{k}")
        states.append(shared.state())
        ends.append(sum(file.stat().st_size for file in folder.glob("log-*")))
    files = sorted(folder.glob("log-*"))
    assert len(files) == (3 if segment == 1 else 1)
    before = 0
    for file in files:
        size = file.stat().st_size
        for cut in range(size):
            copy = tmp_path / "cut"
            shutil.copytree(folder, copy)
            os.truncate(copy / file.name, cut)
            again = caller(copy)
            whole = sum(end <= before + cut for end in ends[1:])
            if file != files[-1]:  # others follow
                with pytest.raises(CheckpointError, match="the log is damaged"):
                    again.state()
            else:
                assert again.state() == states[whole]
                for k, batch in enumerate(odd_batches() if cut % 8 == 0 else ()):  # who was not answered sends it again
                    again.advantages(*batch, batch_id=f"b{k}")
                    assert k < 2 or again.state() == states[-1]
            again.shared.close()
            shutil.rmtree(copy)
        before += size


def test_a_log_shorter_than_its_snapshot_is_refused_at_every_byte(tmp_path, caller):
    shared, folder = caller(tmp_path / "whole"), tmp_path / "whole"
    for batch in odd_batches():
        shared.advantages(*batch)
    shared.ask("snapshot", True)
    state = shared.state()
    file = folder / "log-000000000000.jsonl"
    whole = file.read_bytes()
    for cut in range(len(whole)):
        shared.shared.close()
        file.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"the log has lost batches: log-0+\.jsonl is cut"):
            caller(folder).state()
    file.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        caller(folder).state()
    file.write_bytes(whole)
    assert caller(folder).state() == state


def test_a_log_with_one_byte_changed_is_refused(tmp_path, caller):
    shared, folder = caller(tmp_path / "whole"), tmp_path / "whole"
    states = [shared.state()]
    for batch in odd_batches():
        shared.advantages(*batch)
        states.append(shared.state())
    file = folder / "log-000000000000.jsonl"
    whole = file.read_bytes()
    found = []
    for at in range(len(whole)):
        shared.shared.close()
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found.append(outcome(caller(folder)))
    assert [each for each in found if each != states[2] and "the log is damaged" not in each] == []
    assert sum(each == states[2] for each in found) < len(found) / 3  # an end that looks cut off by a crash


def test_a_snapshot_cut_at_every_byte(tmp_path, caller):
    shared, folder = caller(tmp_path / "whole", {"h": 0.5}), tmp_path / "whole"
    for batch in odd_batches():
        shared.advantages(*batch)
    shared.ask("snapshot", True)
    state = shared.state()
    file = folder / SNAPSHOTS / "000000000003.safetensors"
    whole = file.read_bytes()
    for cut in range(len(whole)):
        shared.shared.close()
        file.write_bytes(whole[:cut])
        again = caller(folder, {"h": 0.5})
        assert again.state() == state
        assert again.shared._newest == 0  # the log alone
    file.write_bytes(whole)
    again = caller(folder, {"h": 0.5})
    assert again.state() == state
    assert again.shared._newest == 3


def test_what_a_killed_process_left_of_a_snapshot_is_removed(tmp_path, caller):
    caller(tmp_path, every=1).advantages(["a"], [1.0], 1)
    left = tmp_path / SNAPSHOTS / ".000000000002.safetensors.host-12-ab.tmp"
    left.write_bytes(b"half")
    assert caller(tmp_path).ask("metrics")["batches"] == 1
    assert [file.name for file in (tmp_path / SNAPSHOTS).iterdir()] == ["000000000001.safetensors"]


def test_a_configuration_cut_at_every_byte_is_refused(tmp_path, caller):
    caller(tmp_path).advantages(["a"], [1.0], 1)
    whole = (tmp_path / CONFIG).read_bytes()
    for cut in range(len(whole)):
        (tmp_path / CONFIG).write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="is damaged"):
            caller(tmp_path).state()
    (tmp_path / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=f"has a log, but no {CONFIG}"):
        caller(tmp_path).state()


@pytest.mark.parametrize("stored", [0, 40, None], ids=["nothing", "a part", "all"])
def test_a_batch_that_cannot_be_stored_does_not_count(stored, folder, caller, monkeypatch):
    shared = caller(folder)
    for ids, rewards, step in batches(3):
        shared.advantages(ids, rewards, step)
    state, kind = shared.state(), type(shared.shared._store)
    append = kind.append

    def full(self, name, data):
        append(self, name, data[:stored])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "append", full)
        with pytest.raises(CheckpointError, match=r"'four' could not be stored.*No space left"):
            shared.advantages(["a"], [1.0], 4, "four")
    if stored is not None:
        assert shared.state() == state
    out = shared.advantages(["a"], [1.0], 4, "four")  # stored in whole before the error came: it is there
    alone = KernelValueEstimator(allow_late=8)
    for ids, rewards, step in batches(3):
        alone.advantages(ids, rewards, step)
    assert out.tobytes() == alone.advantages(["a"], [1.0], 4).tobytes()
    assert shared.state() == bits(alone.state_dict())


def test_an_error_in_the_middle_of_a_batch_brings_the_log_back(folder, caller, monkeypatch):
    shared = caller(folder)
    for ids, rewards, step in batches(3):
        shared.advantages(ids, rewards, step)
    state, own = shared.state(), KernelValueEstimator.advantages

    def learns_then_fails(self, *args, **options):
        own(self, *args, **options)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(KernelValueEstimator, "advantages", learns_then_fails)
        with pytest.raises(MemoryError):
            shared.advantages(["a"], [1.0], 4)
    assert shared.state() == state


@pytest.mark.parametrize("every", [2, 1000], ids=["with snapshots", "without"])
def test_going_back_forgets_what_came_after(every, folder, caller):
    shared = caller(folder, every=every)
    taken, states, places = list(batches(9)), [shared.state()], [shared.ask("position")]
    for k, batch in enumerate(taken):
        shared.advantages(*batch, batch_id=f"b{k}")
        states.append(shared.state())
        places.append(shared.ask("position"))
    for position in (7, 7, 4, 0):
        shared.ask("go_back", *places[position])
        assert shared.state() == states[position]
        shared = caller(folder, every=every)
        assert shared.state() == states[position]
        with pytest.raises(CheckpointError, match="never was where the checkpoint was saved"):
            shared.ask("go_back", *places[position + 1])
        assert shared.state() == states[position]
    for k, batch in enumerate(taken):  # the ids are free again
        shared.advantages(*batch, batch_id=f"b{k}")
    assert shared.state() == states[-1]
    shared.advantages(["new"], [1.0], 10)
    with pytest.raises(CheckpointError, match="never was"):
        shared.ask("go_back", 10, places[9][1])
    shared.ask("go_back", *places[9])
    assert caller(folder).state() == states[-1]


def test_going_back_that_fails_half_way_is_done_again(tmp_path, caller, monkeypatch):
    monkeypatch.setattr(Local, "segment", 1)
    shared = caller(tmp_path)
    states, places = [shared.state()], [shared.ask("position")]
    for batch in batches(5):
        shared.advantages(*batch)
        states.append(shared.state())
        places.append(shared.ask("position"))
    cut, left = Local.cut, [2]

    def fails(self, name, size):
        if not left[0]:
            raise PermissionError(13, "Permission denied", name)
        left[0] -= 1
        cut(self, name, size)

    with monkeypatch.context() as patch:
        patch.setattr(Local, "cut", fails)
        with pytest.raises(CheckpointError, match="the log cannot be cut"):
            shared.ask("go_back", *places[1])
    again = caller(tmp_path)
    assert again.state() == states[3]
    again.ask("go_back", *places[1])
    assert again.state() == states[1]
    assert caller(tmp_path).state() == states[1]


def test_answers_that_the_log_has_lost_are_noticed(tmp_path, caller):
    shared = caller(tmp_path)
    for batch in batches(3):
        shared.advantages(*batch)
    file = tmp_path / "log-000000000000.jsonl"
    data = file.read_bytes()
    shared.shared.close()
    file.write_bytes(data[: data.rindex(b"\n", 0, data.rindex(b'"batch_id"') - 900)])
    with pytest.raises(CheckpointError, match="3 were answered, 2 are there"):
        shared.state()


def test_others_are_refused(folder, caller):
    shared = caller(folder)
    shared.advantages(["a"], [1.0], 1)
    state = shared.state()
    for own, error, message in (
        (shared.own._replace(made_by='{"allow_late": 9}'), ArgumentError, r"was made by .*8.*this one by .*9"),
        (shared.own._replace(version="0.0.9"), CheckpointError, r"is of kernadv .*, this is 0\.0\.9"),
        (shared.own._replace(folder="/elsewhere"), ArgumentError, "keeps its log in .*/elsewhere"),
    ):
        with pytest.raises(error, match=message):
            shared.shared.about(own, Seen())
    assert shared.state() == state
    with pytest.raises(ArgumentError, match=r"the history in .* was made by"):
        caller(folder, {"allow_late": 9}).state()
    later = caller(folder)
    later.own = later.shared._own = Recipe(later.own.made_by, "0.0.9", later.folder)
    with pytest.raises(CheckpointError, match=r"the history in .* is of kernadv"):
        later.state()
    assert caller(folder).state() == state


def test_a_folder_that_cannot_be_used(tmp_path, caller, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"folder='.*file/in' cannot be used"):
        caller(tmp_path / "file" / "in").state()
    with pytest.raises(ArgumentError, match="cannot be used"):
        caller("/sys/kernadv").state()
    with pytest.raises(ArgumentError, match="nosuch"):
        caller("nosuch://bucket/run").state()
    monkeypatch.setattr(_remote_log, "PATIENCE", 0.2)
    first = Caller(tmp_path / "mine")
    first.advantages(["a"], [1.0], 1)
    second = Caller(tmp_path / "mine")
    with pytest.raises(ArgumentError, match=f"is in use by process {os.getpid()} on "):
        second.state()
    first.shared.close()
    assert second.ask("metrics")["batches"] == 1
    second.shared.close()


def test_two_writers_of_an_object_store(caller):
    folder = f"memory://{uuid4().hex}"
    one, two = Caller(folder), Caller(folder)
    one.state()
    two.state()
    one.advantages(["a"], [1.0], 1, "one")
    with pytest.raises(CheckpointError, match="another process writes to this folder"):
        two.advantages(["a"], [0.0], 1, "two")
    two.advantages(["a"], [0.0], 1, "two")  # after the log is read again
    assert two.state() == Caller(folder).state()


@pytest.mark.parametrize("given", [{"allow_late": 8, "x": object()}, 3, lambda: None, None], ids=repr)
def test_recipes_that_cannot_be_used(given):
    with pytest.raises(ArgumentTypeError):
        recipe(given)


@pytest.mark.parametrize("settings", [{"no_such": 1}, {"pessimism": "x"}, {"components": 0}], ids=repr)
def test_settings_that_cannot_be_used(settings, tmp_path, caller):
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        caller(tmp_path, settings).state()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("every", [1, 50])
def test_snapshots_thin_out(every):
    kept = []
    for newest in range(every, 400 * every, every):
        kept = [*kept, newest]
        kept = [position for position in kept if position not in _superfluous(kept, every)]
        assert newest in kept
        for back in range(0, newest - every, every):  # no further to replay than twice as far as the way back
            below = [position for position in kept if position <= newest - back]
            start = max(below, default=0)
            assert newest - start <= 4 * back + 2 * every
    assert len(kept) <= 12


def test_snapshots_that_fail_are_told_of(tmp_path, caller, monkeypatch, caplog):
    def full(self, name, arrays):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "save", full)
        shared = caller(tmp_path, every=1)
        shared.advantages(["a"], [1.0], 1)
        shared.shared._finish()
    assert shared.ask("metrics")["snapshots_failed"] == 1
    assert "No space left" in caplog.text
    shared.advantages(["a"], [1.0], 2)
    shared.shared._finish()
    assert shared.ask("metrics")["snapshots"] == 1


def test_the_audit_reads_the_log(tmp_path, caller):
    pytest.importorskip("polars")
    from kernadv.auditing import audit
    from kernadv.logs import read_log

    shared = caller(tmp_path, every=3)
    rewards, ids, place = [], [], None
    for batch in batches(40, rows=64):
        shared.advantages(*batch, f"batch {batch[2]}")
        ids, rewards = ids + batch[0], [*rewards, *batch[1]]
        place = shared.ask("position") if batch[2] == 30 else place
    log = read_log(tmp_path, keep_traces=True)
    assert (log.n_rows, sorted(log.prompts)) == (40 * 64, sorted(set(ids)))
    scored = np.array(rewards)[~np.isnan(rewards)]
    assert np.isclose(log.groups.s.sum() + log.origin * log.groups.n.sum(), scored.sum())
    assert log.groups.n.sum() == len(scored)
    line = json.loads((tmp_path / "log-000000000000.jsonl").read_text().splitlines()[0])
    assert line.keys() == {"step", "prompt_id", "trace_id", "reward", "advantage", "batch_id"}
    shared.ask("go_back", *place)  # what is forgotten is no part of the log
    log = read_log(tmp_path)
    assert log.n_rows == 30 * 64
    assert "kernadv" in str(audit(log))
