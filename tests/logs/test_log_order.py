"""The order of the rows: steps that come again, copies, places in a group; spellings of ids; whole numbers and digits."""

from __future__ import annotations

from itertools import chain, product

import numpy as np
import polars as pl
import pytest

from kernadv._errors import ArgumentError, LogError
from kernadv.logs import read_log


def run(steps, seed=0, prompts="abcdefgh", group=4):
    """Rows of a run: each prompt at each step, with rewards of its own, all of a group beside each other."""
    rng = np.random.default_rng(seed)
    return [
        (i, p, int(rng.random() < 0.2 + 0.08 * k)) for i in steps for k, p in enumerate(prompts) for _ in range(group)
    ]


def joined(parts):
    return list(chain.from_iterable(parts))


def table(rows):
    return pl.DataFrame(rows, schema=["step", "prompt", "reward"], orient="row")


@pytest.fixture(params=["whole", "small"])
def read(request, kit, tmp_path):
    """Write rows and read them, in one chunk or in many."""
    if request.param == "small":
        request.getfixturevalue("small_chunks")
    return lambda rows, **options: read_log(kit.write_table(tmp_path / "log.csv", table(rows)), **options)


RESUMED = (run(range(1, 11)), run(range(6, 14), 1))
RESTARTED = (run(range(10)), run(range(10), 1), run(range(12), 2))
TWICE = (run(range(1, 11)), run(range(1, 11)))
OTHER_ORDER = (run(range(1, 21), 0, "ab"), run(range(1, 21), 1, "bc"))  # few groups come again
FAULTS = {"resumed": RESUMED, "restarted": RESTARTED, "twice": TWICE, "other order": OTHER_ORDER}


@pytest.mark.parametrize("fault", FAULTS)
def test_steps_that_come_again_are_refused(read, fault):
    parts = FAULTS[fault]
    pairs = [{row[:2] for row in part} for part in parts]
    again = sum(len(pair & set().union(*pairs[:k])) for k, pair in enumerate(pairs))
    first = len(parts[0]) + 1
    with pytest.raises(LogError) as error:
        read(joined(parts))
    for words in (f"log.csv, row {first}: ", f"{again} groups", "--on-repeat", "last", "offset", "merge"):
        assert words in str(error.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_merged_steps_are_one_and_the_log_says_so(kit, read, fault):
    parts = FAULTS[fault]
    log = read(joined(parts), on_repeat="merge")
    shift = min(i for i, _, _ in joined(parts)) == 0
    assert kit.as_dict(log) == kit.brute([(i + shift, p, z) for i, p, z in joined(parts)])
    assert log.order.back == (len(parts) - 1, len(parts[0]) + 1)
    assert log.order.identical == (len(parts[1]) if fault == "twice" else 0)
    assert f"first at row {len(parts[0]) + 1}" in log.notes[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_of_steps_that_come_again_the_last_rows_may_count(kit, read, fault):
    parts = FAULTS[fault]
    last = {i: number for number, part in enumerate(parts) for i, _, _ in part}
    kept = [(i + (0 in last), p, z) for number, part in enumerate(parts) for i, p, z in part if last[i] == number]
    log = read(joined(parts), on_repeat="last")
    assert kit.as_dict(log) == kit.brute(kept)
    assert (log.order.back, log.order.identical) == ((0, 0), 0)
    assert f" {len(joined(parts)) - len(kept):,} earlier ones dropped" in log.notes[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_steps_of_a_later_part_may_go_on(kit, read, fault):
    parts, end, rows = FAULTS[fault], 0, []
    for part in parts:
        low, high = min(part)[0], max(part)[0]
        rows += [(i - low + 1 + end, p, z) for i, p, z in part]
        end += high - low + 1
    log = read(joined(parts), on_repeat="offset")
    assert kit.as_dict(log) == kit.brute(rows)
    assert (log.order.back, log.order.identical) == ((0, 0), 0)


def shuffled(steps):
    rows = run(range(1, steps + 1))
    return [rows[k] for k in np.random.default_rng(steps).permutation(len(rows))]


def by_prompt():
    return sorted(run(range(1, 40)), key=lambda row: row[1])


def late(workers):
    """Rows of workers that are a step or two apart, each with its own traces of every group."""
    rng = np.random.default_rng(0)
    rows = [(i + rng.integers(3), i, w) for i, w in product(range(1, 60), range(workers))]
    return [row for _, i, w in sorted(rows) for row in run([i], 1000 * i + w, group=2)]


def stragglers():
    """Every tenth step, one trace comes two steps late."""
    rows = [(i + 2 * (i % 10 == 0 and k == 0), i, row) for i in range(1, 60) for k, row in enumerate(run([i], i))]
    return [row for _, _, row in sorted(rows, key=lambda row: (row[0], -row[1]))]


def own_prompts():
    """Two workers, one after the other, each with its own prompts."""
    return run(range(1, 30), 0, "abcd") + run(range(1, 30), 1, "efgh")


HONEST = {
    "sorted": lambda: run(range(1, 40)),
    "by prompt": by_prompt,
    "two workers": lambda: late(2),
    "four workers": lambda: late(4),
    "stragglers": stragglers,
    "own prompts": own_prompts,
    "backwards": lambda: run(range(1, 40))[::-1],
    **{f"shuffled {n}": lambda n=n: shuffled(n) for n in (2, 5, 9, 12, 20, 100)},
}


@pytest.mark.parametrize("log", HONEST)
def test_rows_in_another_order_are_no_repeated_steps(kit, read, log):
    rows = HONEST[log]()
    found = read(rows)
    assert kit.as_dict(found) == kit.brute(rows)
    assert (found.order.back, found.order.identical, found.notes) == ((0, 0), 0, ())


def test_a_restart_is_seen_among_workers_that_are_steps_apart(kit, read):
    rows = late(2)
    with pytest.raises(LogError, match=f"row {len(rows) + 1}: "):
        read(rows + late(2))
    assert kit.as_dict(read(rows + late(2), on_repeat="last")) == kit.brute(rows)


def test_a_file_that_is_there_twice(kit, tmp_path):
    for name, steps in {"a": range(1, 5), "b": range(5, 9), "bb": range(5, 9), "c": range(9, 12)}.items():
        kit.write_table(tmp_path / f"{name}.csv", table(run(steps, steps[0])))
    with pytest.raises(LogError, match=r"bb.csv, row 1: .* 128 rows"):
        read_log(tmp_path)
    rows = [row for low, high in ((1, 5), (5, 9), (9, 12)) for row in run(range(low, high), low)]
    assert kit.as_dict(read_log(tmp_path, on_repeat="last")) == kit.brute(rows)


def test_a_step_of_verl_that_is_there_twice(kit, tmp_path):
    for name, step in {"6": 6, "7": 7, "007": 7, "8": 8}.items():
        records = [{"input": p, "output": "", "score": z, "step": i} for i, p, z in run([step], step)]
        kit.write_lines(tmp_path / f"{name}.jsonl", records)
    with pytest.raises(LogError, match="8 groups"):
        read_log(tmp_path)
    assert set(read_log(tmp_path, on_repeat="last").groups.n.tolist()) == {4}


def test_files_may_be_cut_within_a_step(kit, tmp_path):
    rows = run(range(1, 20))
    for k, low in enumerate(range(0, len(rows), 50)):
        kit.write_table(tmp_path / f"part-{k:02d}.parquet", table(rows[low : low + 50]))
    log = read_log(tmp_path)
    assert kit.as_dict(log) == kit.brute(rows)
    assert log.order.back == (0, 0)


def test_single_traces_that_came_twice(read):
    rows = run(range(1, 41), group=1)
    assert read(rows + rows, on_repeat="merge").order.identical == len(rows)
    assert read(rows + run(range(1, 41), 1, group=1), on_repeat="merge").order.identical == 0


@pytest.mark.parametrize("kind", ["block after block", "row after row"])
def test_rows_that_every_worker_wrote(read, kind):
    rows = run(range(1, 41))
    by_step = [[row for row in rows if row[0] == i] for i in range(1, 41)]
    twice = [
        row for part in by_step for row in (part * 2 if kind == "block after block" else np.repeat(part, 2, axis=0))
    ]
    assert read([tuple(row) for row in twice]).order.identical == len(rows)


def test_equal_rewards_are_no_copies(read):
    ones = [(i, p, 1) for i, p, _ in run(range(1, 41))]
    assert read(ones).order.identical == 0
    by_reward = [row for i in range(1, 200) for row in sorted(run([i], i, group=8))]
    assert read(by_reward).order.identical == 0


def test_rewards_by_the_place_in_the_group(read):
    """Against a loop over the groups; groups of one trace are left out."""
    rows = run(range(1, 20), group=5) + run([20], group=18) + run([21], group=1)
    expected = np.zeros((16, 3))
    for key in dict.fromkeys(row[:2] for row in rows):
        z = np.array([row[2] for row in rows if row[:2] == key], float)
        for k, d in enumerate((z - z.mean())[:16] if len(z) > 1 else []):
            expected[k] += 1, d, d * d
    found = read(rows).order.places
    np.testing.assert_allclose(found, expected, atol=1e-12)
    tiled = [row for i in range(1, 22) for row in sorted(rows, key=lambda row: row[0]) if row[0] == i]
    assert tiled == rows
    interleaved = [
        row for i in range(1, 22) for k in range(18) for p in "abcdefgh" for row in of(rows, i, p)[k : k + 1]
    ]
    np.testing.assert_allclose(read(interleaved).order.places, expected, atol=1e-12)


def of(rows, step, prompt):
    return [row for row in rows if row[:2] == (step, prompt)]


def test_counts_know_no_places(kit, tmp_path):
    frame = pl.DataFrame({"step": [1, 2], "prompt": ["a", "a"], "c": [1, 2], "n": [4, 4]})
    log = read_log(kit.write_table(tmp_path / "log.csv", frame), counts=("c", "n"))
    assert log.order.places.shape == (0, 3)


def test_ids_that_differ_in_their_spelling(kit, tmp_path):
    long = "why? " * 30
    ids = [
        "1",
        "1.0",
        "2",
        "a b",
        "café",
        " a  b",
        "cafe\u0301",
        "a b\n",
        "03",
        "3",
        long + "x",
        long + " x",
        "1.5",
        "15",
    ]
    log = read_log(kit.write_table(tmp_path / "log.parquet", table([(1, p, 1.0) for p in ids])))
    by_id = dict(zip(ids, log.prompts, strict=True))
    sets = [("1", "1.0"), ("a b", " a  b", "a b\n"), ("café", "cafe\u0301"), (long + "x", long + " x")]
    assert log.order.alike == tuple(tuple(by_id[name] for name in names) for names in sets)
    assert log.order.n_alike == 4


def test_five_sets_of_spellings_are_listed(kit, tmp_path):
    rows = [(1, f"p{k}{space}", 1) for k in range(12) for space in ("", " ")]
    order = read_log(kit.write_table(tmp_path / "log.csv", table(rows))).order
    assert (order.n_alike, order.alike) == (12, tuple((f"p{k}", f"p{k} ") for k in range(5)))
    whole = read_log(kit.write_table(tmp_path / "log.parquet", table([(1, k, 1) for k in range(12)])))
    assert (whole.order.n_alike, whole.order.alike) == (0, ())


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("first", [2**53 + 1, 1_700_000_000_000_000_001])
def test_large_steps_stay_whole(kit, tmp_path, ending, first):
    rows = run(range(first, first + 9))
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", table(rows)))
    assert kit.as_dict(log) == kit.brute([(i - first + 1, p, z) for i, p, z in rows])
    assert "counted from the first" in log.notes[0]


def test_steps_that_lie_far_apart_keep_their_order(kit, tmp_path):
    steps = [3, 5, 2**60, 2**62]
    log = read_log(kit.write_table(tmp_path / "log.csv", table([(i, "a", 1) for i in steps])))
    assert log.groups.step.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(("offset", "scale"), [(1e15, 1.0), (-1e15, 1.0), (1e6, 2.0**-20)])
def test_rewards_far_from_0_keep_their_digits(kit, tmp_path, ending, offset, scale):
    rows = run(range(1, 6))
    far = [(i, p, offset + scale * z) for i, p, z in rows]
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", table(far)))
    first = rows[0][2]
    assert log.origin == offset + scale * first
    assert kit.as_dict(log) == kit.brute([(i, p, scale * (z - first)) for i, p, z in rows])
    assert "relative to the first" in log.notes[0]


def test_true_values_have_the_origin_of_the_rewards(kit, tmp_path):
    frame = table(run(range(1, 3))).with_columns(reward=pl.col("reward") + 2e15, v=pl.lit(2e15 + 0.5))
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame), columns={"value": "v"})
    assert log.value is not None
    assert set((log.value + log.origin).tolist()) == {2e15 + 0.5}


@pytest.mark.parametrize("first", [0.0, 1.0, -1000.0])
def test_other_rewards_stay_as_they_are(kit, tmp_path, first):
    rows = [(1, "a", first), (1, "a", 0.5)]
    log = read_log(kit.write_table(tmp_path / "log.csv", table(rows)))
    assert (log.origin, kit.as_dict(log)) == (0.0, kit.brute(rows))


def test_an_unknown_choice_is_refused(kit, tmp_path):
    with pytest.raises(ArgumentError, match="known: error, last, merge, offset"):
        read_log(kit.write_table(tmp_path / "log.csv", table(run([1]))), on_repeat="first")
