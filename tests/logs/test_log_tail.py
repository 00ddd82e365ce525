"""A log that is read while it grows: what all reads yield together is what the log holds, and no row comes twice."""

import gzip
import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from kernadv._errors import ArgumentError, LogError
from kernadv.logs import Replaced, Tail, read_log


def as_dict(parts):
    """(prompt, step) -> (n, s, ss), from what a tail yielded."""
    found = defaultdict(list)
    for ids, reward, step in parts:
        for prompt, z, i in zip(ids, reward.tolist(), step.tolist(), strict=True):
            found[prompt, i].append(z)
    return {key: (len(z), sum(z), sum(x * x for x in z)) for key, z in found.items()}


def grow(tail, path, data, cuts):
    """Append the data piece by piece, and read after each."""
    parts = []
    for start, end in pairwise([0, *cuts, len(data)]):
        with path.open("ab") as file:
            file.write(data[start:end])
        parts += tail.read()
    return parts


@pytest.fixture
def awkward(frame):
    """Prompts with line breaks, quotes and long texts, some rewards missing."""
    names = {f"p{k}": f'line {k}\n"quoted, {k}"\n' + "x" * (30 * k) for k in range(7)}
    return frame.with_columns(
        prompt_id=pl.col("prompt_id").replace_strict(names),
        reward=pl.when(pl.col("step") % 5 > 0).then(pl.col("reward")),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_wherever_the_file_ends_in_between(kit, tmp_path, awkward, ending, seed):
    whole = kit.write_table(tmp_path / f"whole.{ending}", awkward)
    data, rng = whole.read_bytes(), np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, len(data), 40)).tolist()
    parts = grow(Tail(tmp_path / f"log.{ending}"), tmp_path / f"log.{ending}", data, cuts)
    parts = [(np.array(ids)[~np.isnan(z)].tolist(), z[~np.isnan(z)], step[~np.isnan(z)]) for ids, z, step in parts]
    assert as_dict(parts) == kit.as_dict(read_log(whole))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_after_every_byte(kit, tmp_path, frame, ending):
    data = kit.write_table(tmp_path / f"whole.{ending}", frame[:3]).read_bytes()
    parts = grow(Tail(tmp_path / f"log.{ending}"), tmp_path / f"log.{ending}", data, range(1, len(data)))
    assert sum(len(ids) for ids, *_ in parts) == 3
    assert as_dict(parts) == kit.brute(frame[:3].rows())


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_only_what_is_new_is_read(kit, tmp_path, frame, ending):
    """The middle of what was read is spoilt: nobody looks there again."""
    path = kit.write_table(tmp_path / f"log.{ending}", frame[:200])
    more = kit.write_table(tmp_path / f"more.{ending}", frame[200:]).read_bytes()
    tail = Tail(path)
    list(tail.read())
    with path.open("r+b") as file:
        file.seek(900)
        file.write(b"?" * 100)
        file.seek(0, 2)
        file.write(more if ending == "jsonl" else more.partition(b"\n")[2])
    assert as_dict(tail.read()) == kit.brute(frame[200:].rows())
    with pytest.raises(LogError):
        read_log(path)


def test_nothing_new(kit, tmp_path, frame):
    path = kit.write_table(tmp_path / "log.jsonl", frame)
    tail = Tail(path)
    assert (tail.format, tail.waiting) == (None, "")
    list(tail.read())
    path.touch()
    for _ in range(2):
        assert list(tail.read()) == []
        assert (tail.format, tail.waiting) == ("table", "")


@pytest.mark.parametrize("whole", [False, True])
def test_a_last_line_without_its_end(kit, tmp_path, frame, whole):
    path = kit.write_table(tmp_path / "log.jsonl", frame)
    path.write_bytes(path.read_bytes()[:-1])
    tail = Tail(path)
    assert sum(len(ids) for ids, *_ in tail.read(whole=whole)) == len(frame) - (not whole)


def test_a_key_may_be_missing_later(tmp_path):
    """As in one read, where only the first lines must have all columns."""
    path, tail = tmp_path / "log.jsonl", Tail(tmp_path / "log.jsonl")
    path.write_text('{"step": 1, "prompt": "a", "reward": 1}\n')
    list(tail.read())
    with path.open("a") as file:
        file.write('{"step": 2, "prompt": "a", "score": 7}\n')
    ((ids, reward, step),) = tail.read()
    assert (ids, step.tolist()) == (["a"], [2])
    assert np.isnan(reward).all()


@pytest.mark.parametrize(
    ("ending", "first", "bad"),
    [
        ("jsonl", '{"step": 1, "prompt": "a", "reward": 1}\n' * 3, '{"step": 2, "prompt": "a", "reward": "good"}\n'),
        ("csv", "step,prompt,reward\n" + '1,"a\nb",1\n' * 3, "2,a,good\n"),
    ],
)
def test_an_error_names_the_row_of_the_file(tmp_path, ending, first, bad):
    path = tmp_path / f"log.{ending}"
    path.write_text(first)
    tail = Tail(path)
    list(tail.read())
    with path.open("a") as file:
        file.write(bad)
    with pytest.raises(LogError, match=r"row 4: column 'reward' must hold .* got 'good'"):
        list(tail.read())


@pytest.mark.parametrize("how", ["shorter", "another file", "same size", "longer"])
def test_a_log_that_is_written_anew(kit, tmp_path, frame, how):
    path = kit.write_table(tmp_path / "log.jsonl", frame)
    data, tail = path.read_bytes(), Tail(path)
    list(tail.read())
    if how == "another file":
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").replace(path)
    else:
        new = {"shorter": data[:500], "same size": data[::-1], "longer": b"{}" + data}[how]
        path.write_bytes(new)
    with pytest.raises(Replaced, match="was truncated, replaced or written anew"):
        list(tail.read())


def test_a_log_that_goes_and_comes_back(kit, tmp_path, frame):
    path = kit.write_table(tmp_path / "log.jsonl", frame)
    tail, kept = Tail(path), tmp_path / "kept"
    list(tail.read())
    path.rename(kept)
    assert list(tail.read()) == []
    assert "does not exist" in tail.waiting
    kept.rename(path)
    assert list(tail.read()) == []
    assert tail.waiting == ""


@pytest.mark.parametrize("ending", ["parquet", "json", "jsonl.gz", "gz.jsonl"])
def test_what_cannot_be_read_in_pieces(kit, tmp_path, frame, ending):
    """Half of it waits; when it is written again, it is read again."""

    def write(frame):
        if ending == "json":
            return json.dumps(frame.to_dicts()).encode()
        inner = kit.write_table(tmp_path / f"inner.{ending.replace('.gz', '').removeprefix('gz.')}", frame).read_bytes()
        return gzip.compress(inner) if "gz" in ending else inner

    first, second = write(frame[:100]), write(frame)
    path = tmp_path / "log" / f"log.{ending}"
    path.parent.mkdir()
    tail = Tail(path)
    path.write_bytes(first[: len(first) // 20])
    assert list(tail.read()) == []
    assert tail.waiting
    path.write_bytes(first)
    assert as_dict(tail.read()) == kit.brute(frame[:100].rows())
    path.write_bytes(second)
    with pytest.raises(Replaced, match="was written again: read again from its start"):
        list(tail.read())
    assert as_dict(Tail(path).read()) == kit.brute(frame.rows())


# ---------------------------------------------------------------- folders


def test_a_folder_of_verl(kit, tmp_path):
    """The first file is half written when the watch begins, and files of other kinds come and change."""
    folder, tail = tmp_path / "rollouts", Tail(tmp_path / "rollouts")
    assert list(tail.read()) == []
    folder.mkdir()
    assert list(tail.read()) == []
    assert "has no whole row yet" in tail.waiting
    (folder / "train.log").write_text("begun")
    assert list(tail.read()) == []
    assert "cannot tell the format" in tail.waiting
    found = []
    for step in range(1, 12):
        lines = [{"input": f"p{k % 2}", "output": "o", "score": float(k), "step": 99} for k in range(4)]
        path = kit.write_lines(folder / f"{step}.jsonl", lines)
        data = path.read_bytes()
        path.write_bytes(b"")
        for start, end in pairwise((0, 20, 150, len(data))):
            with path.open("ab") as file:
                file.write(data[start:end])
            (folder / "status.json").write_text(json.dumps({"step": step, "end": end}))
            found += tail.read()
    assert tail.format == "verl"
    assert as_dict(found) == kit.as_dict(read_log(folder))


def test_a_folder_of_trl(kit, tmp_path):
    """A generation that is dumped again counts once, also if it was dumped before the last read."""
    folder, found = tmp_path / "completions", []
    tail = Tail(tmp_path)
    for step in range(1, 7):
        generation = (step + 1) // 2
        prompts, rewards = ["a", "a", f"b{generation}", f"b{generation}"], [1.0, 0.0, 0.5, float(generation)]
        path = kit.write_trl(folder, step, prompts, f"{generation}", acc=rewards)
        data = path.read_bytes()
        path.write_bytes(data[:-9])
        found += tail.read()
        path.write_bytes(data)
        found += tail.read()
    assert tail.format == "trl"
    assert as_dict(found) == kit.as_dict(read_log(tmp_path))
    assert {step for _, step in as_dict(found)} == {1, 3, 5}


def test_swift(kit, tmp_path):
    path, found = tmp_path / "completions.jsonl", []
    tail = Tail(path)
    dumps = [(1, [1.0, 0.0]), (2, [1.0, 0.0]), (3, [0.5, 0.0]), (4, [0.5, 0.0])]
    for step, rewards in dumps:
        generation = (step + 1) // 2
        dump = {"step": [str(step)] * 2, "prompt": ["a", "b"], "completion": [f"x{generation}", "y"], "acc": rewards}
        line = json.dumps({**dump, "advantages": [0.0, 0.0]}) + "\n"
        for part in (line[:50], line[50:]):
            with path.open("a") as file:
                file.write(part)
            found += tail.read()
    assert tail.format == "swift"
    assert (
        as_dict(found)
        == kit.as_dict(read_log(path))
        == kit.brute([(1, "a", 1.0), (1, "b", 0.0), (3, "a", 0.5), (3, "b", 0.0)])
    )


def test_part_files(kit, tmp_path, frame):
    tail, found = Tail(tmp_path), []
    for k in range(3):
        kit.write_table(tmp_path / f"part-{k}.parquet", frame[100 * k : 100 * (k + 1)])
        found += tail.read()
    assert as_dict(found) == kit.brute(frame.rows())


# ---------------------------------------------------------------- options


def test_counts_and_times(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("when,qid,right,all\n2024-01-01T00:10,a,3,4\n2024-01-01T02:50,a,0,2\n2024-01-01T03:10,a,,2\n")
    tail = Tail(path, columns={"step": "when", "prompt": "qid"}, step_every="1h", counts=("right", "all"))
    found = list(tail.read())
    with path.open("a") as file:
        file.write("2024-01-01T05:00,b,1,1\n")
    found += tail.read()
    assert as_dict(found) == {("a", 1): (4, 3, 3), ("a", 3): (2, 0, 0), ("b", 6): (1, 1, 1)}


def test_what_cannot_be_watched(tmp_path):
    with pytest.raises(LogError, match="standard input cannot be watched: only files and folders of this machine"):
        list(Tail("-").read())
    with pytest.raises(ArgumentError, match="unknown log format"):
        Tail(tmp_path, format="excel")
    with pytest.raises(ArgumentError, match="counts and traces"):
        Tail(tmp_path, counts=("a", "b"), traces=4)
