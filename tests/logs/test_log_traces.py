"""Single traces that are kept beside the groups: their order, their weights, and when there are none."""

import numpy as np
import polars as pl
import pytest

from kernadv import KernadvError
from kernadv.logs import read_log

ROWS = [
    (3, "b", 1.0, 5.0),
    (3, "a", 0.0, 2.0),
    (3, "b", 0.0, 7.0),
    (3, "a", 0.5, 1.0),
    (4, "a", 1.0, 3.0),
    (4, "c", None, 9.0),
    (4, "b", 0.25, 4.0),
    (4, "a", 0.0, 8.0),
]
FRAME = pl.DataFrame(ROWS, schema=["step", "prompt", "reward", "length"], orient="row")
# prompts in the order of their appearance, then steps, then rows
REWARDS, LENGTHS = [1.0, 0.0, 0.25, 0.0, 0.5, 1.0, 0.0], [5.0, 7.0, 4.0, 2.0, 1.0, 3.0, 8.0]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_traces_of_a_group_stay_in_their_order(kit, tmp_path, ending):
    path = kit.write_table(tmp_path / f"log.{ending}", FRAME)
    plain, kept = read_log(path), read_log(path, keep_traces=True)
    assert plain.traces is None
    assert kept.traces.weight is None
    assert kept.traces.z.tolist() == REWARDS
    assert kept.groups.n.tolist() == [2, 1, 2, 2]
    weighted = read_log(path, columns={"weight": "length"})
    assert (weighted.traces.z.tolist(), weighted.traces.weight.tolist()) == (REWARDS, LENGTHS)


@pytest.mark.usefixtures("small_chunks")
def test_groups_may_be_split_over_chunks(kit, tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (i, int(p), float(z), float(z) + 2.0)
        for i in range(9)
        for p, z in zip(rng.integers(0, 5, 40), rng.random(40), strict=True)
    ]
    frame = pl.DataFrame(rows, schema=["step", "prompt", "reward", "w"], orient="row")
    log = read_log(kit.write_table(tmp_path / "log.csv", frame), columns={"weight": "w"})
    place = {prompt: row for row, prompt in enumerate(dict.fromkeys(str(p) for _, p, _, _ in rows))}
    expected = [z for *_, z, _ in sorted(rows, key=lambda row: (place[str(row[1])], row[0]))]
    assert log.traces.z.tolist() == expected
    np.testing.assert_array_equal(log.traces.weight, log.traces.z + 2.0)


def test_ranked_steps_reorder_the_traces(kit, tmp_path):
    frame = FRAME.with_columns(step=-pl.col("step"))
    log = read_log(kit.write_table(tmp_path / "log.csv", frame), columns={"step": "rank:step", "weight": "length"})
    assert log.groups.n.tolist() == [1, 2, 2, 2]
    assert log.traces.z.tolist() == [0.25, 1.0, 0.0, 1.0, 0.0, 0.0, 0.5]
    assert log.traces.weight.tolist() == [4.0, 5.0, 7.0, 3.0, 8.0, 2.0, 1.0]


def test_rewards_far_from_zero_are_relative_to_the_first(kit, tmp_path):
    frame = FRAME.with_columns(pl.col("reward") + 1e6)
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame), keep_traces=True)
    np.testing.assert_allclose(log.traces.z + log.origin, np.array(REWARDS) + 1e6)


def test_a_list_of_rewards_may_have_a_list_of_weights(kit, tmp_path):
    rows = [{"step": 1, "prompt": "a", "reward": [1, 0, 1], "tokens": [3, 4, 5]}]
    log = read_log(
        kit.write_lines(tmp_path / "log.jsonl", rows) or tmp_path / "log.jsonl", columns={"weight": "tokens"}
    )
    assert (log.traces.z.tolist(), log.traces.weight.tolist()) == ([1, 0, 1], [3, 4, 5])


def test_rows_that_are_groups_have_no_traces(kit, tmp_path):
    path = kit.write_table(tmp_path / "log.csv", pl.DataFrame({"step": [1], "prompt": ["a"], "k": [2], "n": [3]}))
    assert read_log(path, counts=("k", "n"), keep_traces=True).traces is None


@pytest.mark.parametrize(("choice", "kept"), [("last", False), ("offset", False), ("merge", True)])
def test_steps_that_come_again(kit, tmp_path, choice, kept):
    rows = [
        (i, p, float((i + p + g) % 2)) for again in range(2) for i in range(1, 9) for p in range(4) for g in range(4)
    ]
    path = kit.write_table(tmp_path / "log.csv", pl.DataFrame(rows, schema=["step", "prompt", "reward"], orient="row"))
    log = read_log(path, on_repeat=choice, keep_traces=True)
    assert (log.traces is not None) is kept
    if kept:
        sums = np.add.reduceat(log.traces.z, np.cumsum(log.groups.n) - log.groups.n)
        np.testing.assert_array_equal(sums, log.groups.s)


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (0.0, {}, r"row 2: column 'length' must hold a positive weight for each trace, .*, got 0.0"),
        (None, {}, r"row 2: column 'length' must hold a positive weight"),
        (-1.0, {}, r"row 2: column 'length' must hold a positive weight"),
        (1.0, {"counts": ("reward", "length")}, "a weight is that of a trace, but counts or traces make a row a group"),
        (1.0, {"traces": 4}, "a weight is that of a trace"),
        (1.0, {"keep_traces": 1}, "keep_traces must be True or False, got 1"),
    ],
)
def test_bad_weights(kit, tmp_path, length, options, message):
    frame = FRAME.with_columns(
        length=pl.when(pl.int_range(len(FRAME)) == 1).then(pl.lit(length)).otherwise(pl.col("length"))
    )
    with pytest.raises(KernadvError, match=message):
        read_log(kit.write_table(tmp_path / "log.parquet", frame), columns={"weight": "length"}, **options)


def test_the_weight_of_a_row_without_a_reward_does_not_matter(kit, tmp_path):
    frame = FRAME.with_columns(length=pl.when(pl.col("reward").is_null()).then(None).otherwise(pl.col("length")))
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame), columns={"weight": "length"})
    assert log.traces.weight.tolist() == LENGTHS
