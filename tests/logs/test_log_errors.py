"""Logs and arguments that cannot be used: every message says what was expected, what came and what to do."""

from __future__ import annotations

import gzip
import importlib
import re
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from kernadv._errors import ArgumentError, ArgumentTypeError, LogError, MissingExtraError
from kernadv.logs import formats, read_log

GOOD = {"step": [1, 2, 3], "prompt": ["a", "b", "c"], "reward": [1.0, 0.0, 0.5]}


def fails(path, *words, error=LogError, **options):
    """Assert that reading fails with all the words in the message."""
    with pytest.raises(error) as caught:
        read_log(path, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("reward", [1.0, float("inf"), float("-inf")], ["'reward'", "row 2", "inf", "finite"]),
        ("reward", ["1", "0.5", "good"], ["'reward'", "row 3", "'good'"]),
        ("reward", ["1", "0.5", "1,5"], ["'reward'", "row 3", "'1,5'"]),
        ("step", [1, 2, -3], ["'step'", "row 3", "-3", "integer >= 0"]),
        ("step", [1.0, 2.5, 3.0], ["'step'", "row 2", "2.5", "integer >= 0"]),
        ("step", [1.0, float("nan"), 3.0], ["'step'", "row 2", "an", "integer >= 0"]),
        ("step", [1.0, float("inf"), 3.0], ["'step'", "row 2", "inf", "integer >= 0"]),
        ("step", [1, None, 3], ["'step'", "row 2", "None", "integer >= 0"]),
        ("step", ["1", "2", "3rd"], ["'step'", "row 3", "'3rd'", "integer >= 0"]),
        ("step", [True, False, True], ["'step'", "row 1", "rue", "integer >= 0"]),
        ("step", [1, 2, 10**19], ["'step'", "row 3", "integer >= 0"]),
        ("prompt", ["a", "b", None], ["'prompt'", "row 3", "None", "a prompt id"]),
        ("value", [1.0, 0.0, float("inf")], ["'value'", "row 3", "inf"]),
    ],
)
def test_the_first_bad_value_is_shown(kit, tmp_path, ending, column, values, words):
    values = pl.Series(values, dtype=pl.UInt64) if 10**19 in values else values
    frame = pl.DataFrame({**GOOD, "value": [0.5] * 3, column: values})
    path = kit.write_table(tmp_path / f"log.{ending}", frame)
    fails(path, str(path), *words, columns={"value": "value"})


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@pytest.mark.usefixtures("small_chunks")
def test_the_row_is_counted_over_chunks(kit, tmp_path, ending):
    rewards = ["1"] * 97 + ["bad"] + ["0"] * 30
    frame = pl.DataFrame({"step": range(1, 129), "prompt": ["p"] * 128, "reward": rewards})
    fails(kit.write_table(tmp_path / f"log.{ending}", frame), "row 98", "'bad'")


@pytest.mark.parametrize("prompts", [[["a"], None], ["a", None], [1.5, float("nan")], [1.0, float("inf")]])
def test_prompts_that_are_none(kit, tmp_path, prompts):
    frame = pl.DataFrame({"step": [1, 2], "prompt": prompts, "reward": [1.0, 0.0]})
    fails(kit.write_table(tmp_path / "log.parquet", frame), "'prompt'", "row 2", "a prompt id")
    frame = frame.with_columns(prompt=pl.lit(b"bytes"))
    fails(kit.write_table(tmp_path / "log.parquet", frame), "'prompt'", "row 1", "a prompt id", "got b'bytes'")


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ([None, ["a", "b"]], ["row 2", "a list of numbers, which are the rewards of a group", "tokens", '["a","b"]']),
        ([None, [[1.0], [0.0]]], ["row 2", "the rewards of a group", "[[1.0],[0.0]]"]),
        ([None, {"acc": 1.0, "fmt": 0.5}], ["row 2", "a number", '{"acc":1.0,"fmt":0.5}', "reward.acc, reward.fmt"]),
        ([None, b"1"], ["row 2", "a finite number", "b'1'"]),
    ],
)
def test_nested_rewards(kit, tmp_path, reward, words):
    frame = pl.DataFrame({"step": [1, 2], "prompt": ["a", "a"], "reward": reward})
    fails(kit.write_table(tmp_path / "log.parquet", frame), "'reward'", *words)


@pytest.mark.parametrize("role", ["step", "value"])
def test_nested_numbers(kit, tmp_path, role):
    frame = pl.DataFrame({"step": [1], "prompt": ["a"], "reward": [1.0], "value": [0.5], role: [[1.0]]})
    path = kit.write_table(tmp_path / "log.parquet", frame)
    fails(path, "row 1", repr(role), "a number in each row", "[1.0]", columns={"value": "value"})


@pytest.mark.parametrize(
    ("correct", "traces", "words"),
    [
        ([1, 5], [4, 4], ["'c'", "row 2", "at most n", "got 5"]),
        ([1.0, 0.5], [4, 4], ["'c'", "row 2", "integer >= 0", "got 0.5"]),
        ([1, 1], [4, -4], ["'n'", "row 2", "integer >= 0", "got -4"]),
        ([1, 1], [4.0, float("inf")], ["'n'", "row 2", "integer >= 0", "got inf"]),
    ],
)
def test_counts_that_are_none(kit, tmp_path, correct, traces, words):
    frame = pl.DataFrame({"step": [1, 2], "prompt": ["a", "a"], "c": correct, "n": traces})
    fails(kit.write_table(tmp_path / "log.parquet", frame), *words, counts=("c", "n"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["no step column", "global_step", "--map step=COLUMN", "no reward column", "--map reward=COLUMN"]),
        ({"columns": {"step": "t"}}, ["no reward column", "Columns found: t, uid, gain"]),
        ({"columns": {"step": "T", "reward": "gain"}}, ["no column 'T' (for step)"]),
        ({"columns": {"step": "t", "reward": "gain", "value": "v"}}, ["no column 'v' (for value)"]),
        ({"columns": {"step": "t"}, "counts": ("c", "gain")}, ["no column 'c' (for correct)"]),
        ({"columns": {"step": "t"}, "rewards": ["acc", "gain"]}, ["no reward column 'acc'", "t, uid, gain"]),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_missing_columns(kit, tmp_path, ending, options, words):
    path = kit.write_table(tmp_path / f"log.{ending}", pl.DataFrame({"t": [1], "uid": ["a"], "gain": [1.0]}))
    fails(path, str(path), *words, **options)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_part_file_without_the_columns_of_the_first(kit, tmp_path, ending):
    kit.write_table(tmp_path / f"a.{ending}", pl.DataFrame(GOOD))
    kit.write_table(tmp_path / f"b.{ending}", pl.DataFrame(GOOD).rename({"reward": "score"}))
    fails(tmp_path, f"b.{ending}", "reward", "Columns found: step, prompt, score")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"stepp": "t"}}, ["unknown role of a column 'stepp'", "prompt, reward, step, value"]),
        ({"format": "tlr"}, ["unknown log format 'tlr'", ", ".join(sorted(formats()))]),
        ({"rewards": ["a"], "counts": ("c", "n")}, ["counts and rewards"]),
        ({"rewards": ["a"], "columns": {"reward": "b"}}, ['rewards and columns["reward"]']),
        ({"counts": ("c", "n"), "columns": {"reward": "b"}}, ['counts and columns["reward"]']),
        ({"rewards": []}, ["at least one column"]),
        ({"rewards": {"a": float("nan")}}, ["must be a finite number", "nan"]),
    ],
)
def test_arguments(kit, tmp_path, options, words):
    path = kit.write_table(tmp_path / "log.csv", pl.DataFrame(GOOD))
    fails(path, *words, error=ArgumentError, **options)


def test_truncated_parquet(kit, tmp_path):
    path = kit.write_table(tmp_path / "log.parquet", pl.DataFrame(GOOD))
    path.write_bytes(path.read_bytes()[:-20])
    fails(path, str(path), "truncated or broken")


def test_text_of_parquet_that_is_not_utf8(tmp_path):
    prompts = pa.array([b"a", b"\xff\xfe"]).view(pa.string())
    table = pa.table({"step": [1, 2], "prompt": prompts, "reward": [1.0, 0.0]})
    parquet.write_table(table, tmp_path / "log.parquet", write_statistics=False)
    fails(tmp_path / "log.parquet", "log.parquet is truncated or broken", "UTF8")


def test_damaged_parquet(kit, tmp_path):
    path = kit.write_table(tmp_path / "log.parquet", pl.DataFrame({"step": range(5000), "prompt": "a", "reward": 1.0}))
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    fails(path, str(path), "truncated or broken")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"step": 3, "prompt": "a", "rew', ["line 152", "Unterminated string", "column 28"]),
        ("[1, 2]", ["line 152", "a JSON object was expected, got list"]),
        ('{"step": 3, "prompt": "a", "reward": 1} {}', ["line 152", "Extra data"]),
        ('{"step": 3, "prompt": "\xff", "reward": 1}', ["line 152", "decode"]),
    ],
)
@pytest.mark.parametrize("rest", [1, 300])
def test_broken_line(tmp_path, line, words, rest):
    good = '{"step": 1, "prompt": "a", "reward": 1}'
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([good] * 151 + [line] + [good] * rest), encoding="latin-1")
    fails(path, str(path), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step,prompt,reward\n1,a,1\n2,b\n", ["truncated or broken", "Expected 3 columns, got 2"]),
        ("step,prompt,reward\n1,a,1\n2,\xff,1\n", ["not UTF-8, perhaps Latin-1", "iconv -f LATIN1 -t UTF-8"]),
        ("step,prompt,reward\n", ["the log is empty"]),
        ("step,prompt,reward\n1,a,\n2,b,nan\n", ["none of the 2 rows has a reward"]),
        ("", ["the log is empty"]),
    ],
)
def test_csv(tmp_path, text, words):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="latin-1")
    fails(path, str(path), *words)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_table_without_rows(kit, tmp_path, ending):
    fails(kit.write_table(tmp_path / f"log.{ending}", pl.DataFrame(GOOD).clear()), "the log is empty")


def test_paths_that_hold_no_log(tmp_path):
    fails(tmp_path / "nothing", "does not exist")
    fails(
        tmp_path, "cannot tell the format", "completions_*.parquet", "{step}.jsonl", ".csv", "found nothing", "--format"
    )
    (tmp_path / "notes.txt").touch()
    fails(tmp_path, "found notes.txt")
    fails(tmp_path / "notes.txt", "cannot tell the format", "found notes.txt")
    for name in ("trl", "verl", "swift", "table"):
        fails(tmp_path, "expected", "found notes.txt", format=name)


def test_folders_that_hold_several_logs(kit, tmp_path):
    for ending in ("csv", "parquet"):
        kit.write_table(tmp_path / f"log.{ending}", pl.DataFrame(GOOD))
    fails(tmp_path, ".csv, .parquet")
    kit.write_trl(tmp_path, 1, ["a"], acc=[1.0])
    kit.write_lines(
        tmp_path / "completions.jsonl", [{"step": ["1"], "prompt": ["a"], "completion": ["b"], "acc": [1.0]}]
    )
    fails(tmp_path, "looks like several logs: swift, trl", "--format")
    assert read_log(tmp_path, format="trl").n_rows == 1


@pytest.mark.parametrize("module", ["polars", "pyarrow"])
def test_the_extra_is_named_when_it_is_missing(module):
    code = f"""
import sys
import kernadv.logs
assert "polars" not in sys.modules and "pyarrow" not in sys.modules
sys.modules[{module!r}] = None
kernadv.logs.read_log("log.csv")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert re.search(rf'LogError: .*{module}.*pip install "kernadv\[audit\]"', done.stderr)


def test_engines(monkeypatch, tmp_path):
    path = tmp_path / "log.csv"
    pl.DataFrame(GOOD).write_csv(path)
    fails(path, "unknown engine 'dask'", "known: local, ray", error=ArgumentError, engine="dask")
    monkeypatch.setitem(sys.modules, "ray", None)
    fails(path, "engine='ray' needs ray", 'pip install "kernadv[ray]"', error=MissingExtraError, engine="ray")


@pytest.mark.parametrize("step", ["-4", "1.5", "2024-03-30T22:30:00"])
def test_what_can_be_done_with_other_steps_is_said(tmp_path, step):
    rows = [f"{step},a,{k}" for k in (1, 0)]
    (tmp_path / "log.csv").write_text("\n".join(["step,prompt,reward", *rows]) + "\n")
    fails(tmp_path / "log.csv", "row 1", "'step' must hold an integer >= 0", "--step-every 1h", "--map step=rank:step")
    assert read_log(tmp_path / "log.csv", columns={"step": "rank:step"}).groups.step.tolist() == [1]


@pytest.mark.parametrize(
    ("ending", "module", "limit"), [("jsonl", "_jsonl", "_LONGEST"), ("json", "_json", "_LARGEST")]
)
def test_data_that_grow_without_bound_are_refused(kit, tmp_path, monkeypatch, ending, module, limit):
    path = tmp_path / f"log.{ending}.gz"
    path.write_bytes(gzip.compress(b'{"step": 1, "prompt": "' + b"a" * (1 << 20)))
    monkeypatch.setattr(importlib.import_module(f"kernadv.logs.{module}"), limit, 1 << 16)
    if ending == "jsonl":
        monkeypatch.setattr(importlib.import_module("kernadv.logs._jsonl"), "_BLOCK", 100)
    fails(path, f"log.{ending}.gz", "has more than")


@pytest.mark.parametrize(
    "options",
    [{"columns": {"step": 3}}, {"counts": (1, 2)}, {"rewards": [3]}, {"rewards": {"reward": "x"}}],
)
def test_names_and_weights_of_other_types(kit, tmp_path, options):
    path = kit.write_table(tmp_path / "log.csv", pl.DataFrame(GOOD))
    fails(path, error=ArgumentTypeError, **options)
