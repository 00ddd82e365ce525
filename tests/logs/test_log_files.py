"""Where a log may be and how it may be packed: folders, patterns, compression, pipes, URLs, and runs that still write."""

from __future__ import annotations

import bz2
import functools
import gzip
import http.server
import json
import lzma
import os
import subprocess
import sys
import threading

import polars as pl
import pyarrow as pa
import pytest

from kernadv._errors import ArgumentTypeError, LogError
from kernadv.logs import read_log
from kernadv.logs._files import natural

PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
LEFT_OUT = "incomplete, as in a run that goes on, and left out: "


@pytest.fixture
def parts(kit, tmp_path, frame):
    """Write the rows to files of a given ending, in some folders; return the paths."""

    def write(ending, places):
        size = len(frame) // len(places)
        paths = [tmp_path / f"{place}.{ending}" for place in places]
        for k, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            kit.write_table(path, frame[k * size : (k + 1) * size])
        return paths

    return write


# ---------------------------------------------------------------- places


def test_numbers_in_names_are_ordered_as_numbers():
    ordered = ["9", "10", "a/part-9/1", "a/part-9.csv", "a/part-10.csv", "b/1", "x9y30", "x10y2"]
    assert sorted(ordered, key=natural) == ordered


def test_part_files_are_read_in_the_order_of_their_numbers(kit, tmp_path):
    for k in (10, 9, 1):
        kit.write_table(tmp_path / f"part-{k}.csv", pl.DataFrame({"step": [k], "prompt": [f"p{k}"], "reward": [1.0]}))
    assert read_log(tmp_path).prompts == ["p1", "p9", "p10"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_several_paths_a_pattern_and_folders_of_folders_are_one_run(kit, parts, tmp_path, rows, ending):
    paths = parts(ending, ["node0/a", "node0/b", "node1/a"])
    (tmp_path / "node1" / ".hidden").mkdir()
    (tmp_path / "node1" / ".hidden" / f"c.{ending}").write_text("not data")
    given = [
        paths,
        tuple(map(str, paths)),
        [tmp_path / "node0", tmp_path / "node1"],
        [tmp_path / "node0", paths[2], paths[0]],  # the last is read once
        tmp_path,
        str(tmp_path / "node*" / f"*.{ending}"),
        str(tmp_path / "**" / f"?.{ending}"),
        str(tmp_path / "node*"),
    ]
    for path in given:
        log = read_log(path)
        assert kit.as_dict(log) == kit.brute(rows)
        assert len(log.notes) == 1
        assert log.notes[0].startswith("files of 2 folders read as one run: ")
    assert read_log(paths[:2]).source == f"{paths[0]}, {paths[1]}"
    assert read_log([tmp_path / "node0"]).notes == ()


def test_files_of_the_folder_itself_come_before_those_further_down(kit, parts, tmp_path):
    (one,) = parts("csv", ["log"])
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "log.csv").write_bytes(one.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    assert read_log(tmp_path).n_rows == 300
    assert read_log(tmp_path).notes == ()


def test_a_link_to_a_file_of_the_folder_is_not_read_twice(parts, tmp_path):
    (one,) = parts("csv", ["log"])
    (tmp_path / "latest.csv").symlink_to(one)
    assert read_log(tmp_path).n_rows == 300


@pytest.mark.parametrize("given", [3, [], [3], None, [None], b"log.csv"])
def test_what_is_no_path(given):
    with pytest.raises(ArgumentTypeError, match="path must be"):
        read_log(given)


@pytest.mark.parametrize(
    ("name", "words"),
    [("*.csv", "does not exist"), ("loop", "cannot be opened: Too many levels"), ("a\0b", "null byte")],
)
def test_paths_that_lead_nowhere(tmp_path, name, words):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(LogError, match=words):
        read_log(str(tmp_path / name))


def test_a_name_with_brackets_is_a_name(parts, tmp_path):
    parts("csv", ["run[1]"])
    assert read_log(tmp_path / "run[1].csv").n_rows == 300


def test_frameworks_in_several_folders(kit, tmp_path):
    for node in ("node0", "node1"):
        for step in (1, 2):
            kit.write_trl(tmp_path / "trl" / node / "completions", step, ["a", "a"], f"{node}{step}", acc=[1.0, 0.0])
            lines = [{"input": "a", "output": "o", "score": float(k), "step": step} for k in range(2)]
            kit.write_lines(tmp_path / "verl" / node / f"{step}.jsonl", lines)
    for name in ("trl", "verl"):
        with pytest.raises(LogError, match=r"node1.*merge \(several writers"):
            read_log(tmp_path / name)
        log = read_log(tmp_path / name, on_repeat="merge")
        assert (log.format, kit.as_dict(log)) == (name, {("a", 1): (4, 2, 2), ("a", 2): (4, 2, 2)})


# ---------------------------------------------------------------- compression


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "ndjson", "parquet"])
def test_compressed_files(kit, parts, tmp_path, rows, ending, packing):
    (plain,) = parts(ending, ["log"])
    data, path = plain.read_bytes(), tmp_path / f"log.{ending}.{packing}"
    half = data.index(b"\n", len(data) // 2) + 1 if ending != "parquet" else 0
    path.write_bytes(PACK[packing](data[:half]) + PACK[packing](data[half:]) if half else PACK[packing](data))
    plain.unlink()
    for where in (path, tmp_path):
        log = read_log(where)
        assert (log.format, log.notes) == ("table", ())
        assert kit.as_dict(log) == kit.brute(rows)


def test_compressed_without_the_ending(kit, parts, rows):
    (path,) = parts("csv", ["log"])
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert kit.as_dict(read_log(path)) == kit.brute(rows)


@pytest.mark.parametrize("packing", PACK)
def test_compressed_data_that_end_too_early(tmp_path, packing):
    import random

    lines = [json.dumps({"step": k, "prompt": "p", "reward": random.Random(k).random()}) for k in range(1, 30_001)]
    data = PACK[packing](("\n".join(lines) + "\n").encode())
    path = tmp_path / f"log.jsonl.{packing}"
    path.write_bytes(data[: len(data) * 3 // 4])
    log = read_log(path)
    assert 1000 < log.n_rows < 30_000
    assert log.groups.step.tolist() == list(range(1, log.n_rows + 1))
    assert len(log.notes) == 1
    assert log.notes[0].startswith(LEFT_OUT)
    data = bytearray(data)
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(LogError, match="truncated or broken"):
        read_log(path)


# ---------------------------------------------------------------- pipes


@pytest.mark.parametrize(
    ("ending", "packing", "where"),
    [
        ("csv", "plain", "/dev/stdin"),
        ("tsv", "plain", "-"),
        ("jsonl", "gz", "-"),
        ("json", "plain", "-"),
        ("parquet", "plain", "/dev/stdin"),
        ("parquet", "gz", "-"),
    ],
)
def test_standard_input(tmp_path, kit, frame, ending, packing, where):
    if ending == "json":
        path = tmp_path / "log.json"
        path.write_text(json.dumps(frame.to_dicts()))
    else:
        path = kit.write_table(tmp_path / f"log.{ending}", frame)
    data = path.read_bytes() if packing == "plain" else gzip.compress(path.read_bytes())
    code = f"from kernadv.logs import read_log; log = read_log({where!r}); print(log.n_rows, log.groups.s.sum(), log.notes)"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert done.stdout.decode().split() == ["300", str(float(frame["reward"].sum())), "()"], done.stderr.decode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_longer_than_what_is_looked_at_first(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "step,prompt,reward\n" + "".join(f"{k},p{k % 7},{k % 2}\n" for k in range(1, 50_001))
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    log = read_log(pipe)
    writer.join(10)
    assert (log.n_rows, len(log.prompts), log.groups.s.sum()) == (50_000, 7, 25_000)


# ---------------------------------------------------------------- URLs


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "csv.gz"])
def test_a_file_system_of_fsspec(kit, parts, rows, ending):
    import fsspec

    memory = fsspec.filesystem("memory")
    paths = parts(ending.removesuffix(".gz"), ["a/9", "a/10", "b/1"])
    folder = f"/kernadv-{ending}"
    for path in paths:
        data = path.read_bytes()
        memory.pipe(
            f"{folder}/{path.parent.name}/{path.stem}x.{ending}", gzip.compress(data) if "gz" in ending else data
        )
    for url in (
        f"memory:/{folder}",
        f"memory:/{folder}/*/*.{ending}",
        [f"memory:/{folder}/a", f"memory:/{folder}/b/1x.{ending}"],
    ):
        log = read_log(url)
        assert kit.as_dict(log) == kit.brute(rows)
        assert log.prompts == list(dict.fromkeys(prompt for _, prompt, _ in rows))  # 9 comes before 10
    assert read_log(f"memory:/{folder}").source == f"memory:/{folder}"
    with pytest.raises(LogError, match=r"memory://kernadv-nothing cannot be opened"):
        read_log("memory://kernadv-nothing")


@pytest.mark.parametrize("url", ["s3://bucket/log.csv", "nothing://log.csv"])
def test_a_file_system_that_is_not_installed(url):
    with pytest.raises(LogError, match=rf"{url} cannot be opened: .*(s3fs|not known)"):
        read_log(url)


def test_fsspec_is_named_when_it_is_missing():
    code = (
        "import sys; sys.modules['fsspec'] = None; from kernadv.logs import read_log; read_log('s3://bucket/log.csv')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        'reading s3://bucket/log.csv needs fsspec, which is not installed; run: pip install "kernadv[audit]"'
        in done.stderr
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "csv.gz"])
def test_a_web_server(kit, parts, tmp_path, rows, ending):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install aiohttp")
    (path,) = parts(ending.removesuffix(".gz"), ["log"])
    (tmp_path / f"sent.{ending}").write_bytes(gzip.compress(path.read_bytes()) if "gz" in ending else path.read_bytes())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            log = read_log(f"http://127.0.0.1:{server.server_port}/sent.{ending}?token=1")
            with pytest.raises(LogError, match="cannot be opened"):
                read_log(f"http://127.0.0.1:{server.server_port}/none.csv")
        finally:
            server.shutdown()
            thread.join(10)
    assert kit.as_dict(log) == kit.brute(rows)


# ---------------------------------------------------------------- a run that still writes

JSONL = '{"step": 1, "prompt": "a", "reward": 1}\n{"step": 1, "prompt": "a", "reward": 0}\n'
CSV = "step,prompt,reward\n1,a,1\n1,a,0\n"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("log.jsonl", JSONL + '{"step": 2, "prompt": "a", "rew', "line 3 of "),
        (
            "log.jsonl",
            JSONL + '{"step": 2, "prompt": "\u00e9"}'[:-3].encode()[:-1].decode(errors="ignore"),
            "line 3 of ",
        ),
        ("log.csv", CSV + "2,a", "the last line of "),
        ("log.csv", CSV + "2", "the last line of "),
        ("log.csv", CSV + '2,"a ""b"', "the last line of "),
        ("log.csv", CSV + '2,"a\nb', "the last line of "),
        ("log.csv", CSV + '2,"a\n', "the last line of "),
        ("log.csv", 'step,reward,prompt\n1,1,a\n1,0,a\n2,1,"a', "the last line of "),
        ("log.csv", CSV + '2,"a,1\n2,b,1\n2,b,0\n', "the last line of "),
        ("log.tsv", CSV.replace(",", "\t") + "2\ta", "the last line of "),
    ],
)
@pytest.mark.parametrize("chunks", ["whole", "small"])
def test_an_incomplete_last_line_is_left_out(kit, tmp_path, request, name, text, what, chunks):
    if chunks == "small":
        request.getfixturevalue("small_chunks")
    (tmp_path / name).write_text(text, encoding="utf-8")
    log = read_log(tmp_path / name)
    assert kit.as_dict(log) == {("a", 1): (2, 1, 1)}
    assert log.notes == (f"{LEFT_OUT}{what}{tmp_path / name}",)
    assert log.n_rows == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.jsonl", JSONL + '{"step": 1, "prompt": "a", "reward": 1}'),
        ("log.csv", CSV + "1,a,1"),
        ("log.csv", CSV + '1,"a",1'),
        ("log.csv", "note," + CSV.replace("\n1", '\n5" tall,1') + '5" tall,1,a,1'),
    ],
)
def test_a_last_line_without_an_end_is_read_if_it_is_complete(kit, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    log = read_log(tmp_path / name)
    assert (kit.as_dict(log), log.notes) == ({("a", 1): (3, 2, 2)}, ())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("log.jsonl", JSONL + '{"step": 2, "rew\n', "line 3: Unterminated string"),
        ("log.jsonl", JSONL + '{"step": 2, "rew\n' + JSONL, "line 3: Unterminated string"),
        ("log.jsonl", '{"step": 2, "rew', "line 1: Unterminated string"),
        ("log.csv", CSV + "2,a\n", "Expected 3 columns, got 2: '2,a'"),
        ("log.csv", CSV + "2,a\n1,a,1\n", "Expected 3 columns, got 2: '2,a'"),
        ("log.csv", CSV + "2,a\n2,a", "Expected 3 columns, got 2"),
        ("log.csv", "step,prompt,reward\n2,a", "is empty"),
    ],
)
def test_elsewhere_an_incomplete_line_is_an_error(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(LogError, match=words):
        read_log(tmp_path / name)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])


@pytest.mark.parametrize(
    ("layout", "ending"), [("table", "parquet"), ("table", "jsonl"), ("trl", "parquet"), ("verl", "jsonl")]
)
def test_only_the_last_file_of_each_path_may_be_incomplete(kit, tmp_path, layout, ending):
    def write(step):
        if layout == "trl":
            return kit.write_trl(tmp_path, step, ["a", "a"], f"g{step}", acc=[1.0, 0.0])
        if layout == "verl":
            lines = [{"input": "a", "output": "o" * 99, "score": float(k), "step": step} for k in range(2)]
            return kit.write_lines(tmp_path / f"{step}.jsonl", lines)
        return kit.write_table(
            tmp_path / f"part-{step}.{ending}",
            pl.DataFrame({"step": [step] * 2, "prompt": ["a", "a"], "reward": [1.0, 0.0], "text": ["x" * 99] * 2}),
        )

    files = [write(step) for step in (8, 9, 10)]
    cut(files[2])
    log = read_log(tmp_path)
    assert log.format == layout
    assert {step: n for (_, step), (n, *_) in kit.as_dict(log).items()}.keys() >= {8, 9}
    assert len(log.notes) == 1
    assert log.notes[0].startswith(LEFT_OUT)
    assert str(files[2]) in log.notes[0]
    assert read_log(files[:2], format=layout).notes == ()
    write(10)
    cut(files[0])
    with pytest.raises(LogError, match=str(files[0])):
        read_log(tmp_path, format=layout)


def test_swift_that_still_writes(kit, tmp_path):
    line = {"step": ["1"], "prompt": ["q"], "completion": ["c"], "acc": [1.0], "advantages": [0.0]}
    path = kit.write_lines(tmp_path / "completions.jsonl", [line, {**line, "step": ["2"], "completion": ["d"]}])
    path.write_text(path.read_text()[:-20])
    log = read_log(path)
    assert (log.format, kit.as_dict(log)) == ("swift", {("q", 1): (1, 1, 1)})
    assert log.notes == (f"{LEFT_OUT}line 2 of {path}",)


def test_a_jsonl_that_grows_while_it_is_read(tmp_path, monkeypatch):
    from kernadv.logs import _jsonl

    monkeypatch.setattr(_jsonl, "_BLOCK", 100)
    path = tmp_path / "log.jsonl"
    path.write_text(JSONL * 5 + '{"step": 2, "pro')

    def grow(*state):
        with path.open("a") as file:
            file.write('mpt": "a", "reward": 1}\n{"step": 3, "pro')

    log = read_log(path, progress=grow)
    assert log.n_rows >= 10
    assert set(log.groups.step.tolist()) <= {1, 2, 3}
    assert set(log.prompts) == {"a"}


def test_a_job_that_writes_while_its_log_is_read(tmp_path):
    path = tmp_path / "log.jsonl"
    code = f"""
import json
with open({str(path)!r}, "w", buffering=1000) as file:
    for k in range(400_000):
        file.write(json.dumps({{"step": k // 8 + 1, "prompt": f"p{{k % 5}}", "reward": k % 2}}) + "\\n")
"""
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        seen = 0
        while writer.poll() is None:
            if path.exists() and path.stat().st_size > 2000:
                log = read_log(path)
                assert log.n_rows >= seen
                seen = log.n_rows
    assert read_log(path).n_rows == 400_000


def test_a_folder_that_may_not_be_listed_is_not_passed_over(kit, frame, tmp_path, monkeypatch):
    kit.write_table(tmp_path / "a.csv", frame)
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(LogError, match="locked cannot be opened: permission denied; give permission"):
        read_log(tmp_path)
