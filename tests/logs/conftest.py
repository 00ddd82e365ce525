"""Writers of logs with the exact layout of each framework, and a brute-force reduction to compare with."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest


def as_dict(log):
    """(prompt id, step) -> (n, s, ss)."""
    prompt, *sums = (column.tolist() for column in log.groups[:5])
    return {(log.prompts[p], i): tuple(z) for p, i, *z in zip(prompt, *sums, strict=True)}


def brute(rows):
    """The same from (step, prompt, reward), one row at a time."""
    found = defaultdict(list)
    for step, prompt, reward in rows:
        found[prompt, step].append(float(reward))
    return {key: (len(z), sum(z), sum(x * x for x in z)) for key, z in found.items()}


def write_table(path: Path, frame: pl.DataFrame) -> Path:
    """Write a frame in the format of the ending."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        frame.write_csv(path, separator="," if path.suffix == ".csv" else "\t")
    else:
        write_lines(path, frame.to_dicts())
    return path


def write_lines(path: Path, records) -> Path:
    """Write jsonl as Python programs do: NaN and Infinity bare, text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


def write_trl(folder: Path, step: int, prompts, generation: str = "", **columns) -> Path:
    """Write one dump of TRL: step, prompt, completion, rewards, extras, advantage."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(prompts)
    first = {"step": [step] * n, "prompt": prompts, "completion": [f"{generation} answer {k}" for k in range(n)]}
    path = folder / f"completions_{step:05d}.parquet"
    pl.DataFrame({**first, **columns, "advantage": np.linspace(-1, 1, n)}).write_parquet(path)
    return path


@pytest.fixture
def kit():
    """The helpers above: test modules of this suite cannot import one another."""
    return SimpleNamespace(
        as_dict=as_dict, brute=brute, write_table=write_table, write_lines=write_lines, write_trl=write_trl
    )


@pytest.fixture
def rows():
    """300 traces of 7 prompts over 12 steps, in no order; the rewards are eighths, so that every sum is exact."""
    steps, prompts, eighths = np.random.default_rng(0).integers([[1], [0], [0]], [[13], [7], [9]], (3, 300)).tolist()
    return [(i, f"p{p}", z / 8) for i, p, z in zip(steps, prompts, eighths, strict=True)]


@pytest.fixture
def frame(rows):
    """The same as a table."""
    return pl.DataFrame(rows, schema=["step", "prompt_id", "reward"], orient="row")


@pytest.fixture
def small_splits(monkeypatch):
    """Cut every log into splits of a file, or of a row group of parquet."""
    from kernadv.logs import _splits

    monkeypatch.setattr(_splits, "_BYTES", 1)
    monkeypatch.setattr(_splits, "_ROWS", 1)
    monkeypatch.setattr(_splits, "_LARGE", 1)


@pytest.fixture
def small_chunks(monkeypatch, small_splits):
    """Cut every file into pieces of a few rows, and merge often."""
    from kernadv.logs import _csv, _jsonl, _parquet, _passes, _stream

    monkeypatch.setattr(_csv, "_BLOCK", 256)
    monkeypatch.setattr(_parquet, "_ROWS", 7)
    monkeypatch.setattr(_jsonl, "_BLOCK", 200)
    monkeypatch.setattr(_jsonl, "_SMALL", 0)
    monkeypatch.setattr(_stream, "_ROWS", 3)
    monkeypatch.setattr(_passes, "_PENDING", 5)
