"""Splits of a log: every row is in one of them, in its order, and is known by its number in the file."""

import gzip

import numpy as np
import polars as pl
import pytest

from kernadv._errors import LogError
from kernadv.logs import _splits, read_log
from kernadv.logs._files import find


def paths(splits):
    return [[(file.name, file.row_groups) for file in split] for split in splits]


def test_small_files_are_read_together_and_large_ones_apart(tmp_path):
    sizes = [10, 10, _splits._BYTES, 10, _splits._BYTES + 1, _splits._BYTES + 1, 10]
    for k, size in enumerate(sizes):
        with open(tmp_path / f"{k}.jsonl", "wb") as file:
            file.truncate(size)
    assert paths(_splits.cut(find(tmp_path)[1])) == [
        [(f"{k}.jsonl", None) for k in part] for part in ([0, 1, 2], [3, 4], [5], [6])
    ]


def test_many_tiny_files_are_not_one_split(tmp_path):
    for k in range(150):
        (tmp_path / f"{k}.jsonl").write_bytes(b"{}")
    assert [len(split) for split in _splits.cut(find(tmp_path)[1])] == [64, 64, 22]


@pytest.mark.parametrize(
    ("ending", "parts"), [("parquet", [range(2), range(2, 4), range(4, 5)]), ("parquet.gz", [None])]
)
def test_a_large_parquet_file_is_cut_at_its_row_groups(monkeypatch, tmp_path, frame, ending, parts):
    monkeypatch.setattr(_splits, "_ROWS", 100)
    monkeypatch.setattr(_splits, "_LARGE", 1)
    path = tmp_path / f"log.{ending}"
    frame.write_parquet(tmp_path / "log.parquet", row_group_size=60)
    if ending != "parquet":
        path.write_bytes(gzip.compress((tmp_path / "log.parquet").read_bytes()))
    splits = _splits.cut(find(path)[1])
    assert paths(splits) == [[(path.name, part)] for part in parts]
    if len(parts) > 1:
        assert [split[0].before for split in splits] == [0, 120, 240]
        assert sum(split[0].size for split in splits) <= path.stat().st_size


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("files", [1, 7])
def test_in_splits_as_in_one(kit, small_splits, tmp_path, frame, rows, ending, files):
    for k, start in enumerate(range(0, 300, 300 // files)):
        part = frame[start : start + 300 // files]
        if ending == "parquet":
            part.write_parquet(tmp_path / f"{k}.parquet", row_group_size=11)
        else:
            kit.write_table(tmp_path / f"{k}.{ending}", part)
    done = []
    log = read_log(tmp_path, on_repeat="merge", progress=lambda share, n: done.append((share, n)))
    assert kit.as_dict(log) == kit.brute(rows)
    assert log.prompts == list(dict.fromkeys(prompt for _, prompt, _ in rows))
    assert done == sorted(done)
    assert done[-1] == (1.0, 300)
    assert len(done) >= files


def test_a_row_is_numbered_in_its_file(small_splits, tmp_path, frame):
    bad = frame.with_columns(reward=pl.when(pl.int_range(300) == 217).then(np.inf).otherwise("reward"))
    bad.write_parquet(tmp_path / "log.parquet", row_group_size=20)
    with pytest.raises(LogError, match="row 218: column 'reward'"):
        read_log(tmp_path)


def test_ranks_are_given_in_the_order_of_the_whole_log(kit, small_splits, tmp_path, frame, rows):
    order = frame.sort("step", descending=True, maintain_order=True)
    for k in range(3):
        kit.write_table(tmp_path / f"{k}.csv", order[100 * k : 100 * k + 100])
    log = read_log(tmp_path, columns={"step": "rank:step"}, on_repeat="merge")
    assert kit.as_dict(log) == kit.brute(rows)
