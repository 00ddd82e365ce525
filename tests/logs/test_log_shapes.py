"""What a log may look like inside: JSON of several shapes, lists, means and fields, and steps from paths and times.

The structures are those of published logs; the contents are made up.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl
import pytest

from kernadv._errors import ArgumentError, LogError
from kernadv.auditing import audit
from kernadv.logs import read_log
from kernadv.logs._columns import path_step

POSITION = "step = position of an entry in the list of its prompt"
LISTS = "a row is a group, with one reward a trace in the list of {}"


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


# ---------------------------------------------------------------- .json


def test_an_array_an_object_of_columns_and_other_shapes_hold_the_same_rows(kit, tmp_path, frame, rows):
    records, columns = frame.to_dicts(), frame.to_dict(as_series=False)
    shapes = {
        "array": records,
        "columns": columns,
        "columns by row number": {name: dict(enumerate(values)) for name, values in columns.items()},
        "one table among settings": {"k": 64, "model": "m", "results": records},
        "a table alone": {"rollouts": records},
    }
    for name, document in shapes.items():
        log = read_log(write_json(tmp_path / f"{name}.json", document))
        assert (log.format, log.n_rows, log.notes) == ("table", 300, ()), name
        assert kit.as_dict(log) == kit.brute(rows), name


def test_lines_in_a_json_file(kit, tmp_path, frame, rows):
    path = kit.write_lines(tmp_path / "log.json", frame.to_dicts())
    assert kit.as_dict(read_log(path)) == kit.brute(rows)


def test_an_array_in_a_jsonl_file_is_told(tmp_path):
    with pytest.raises(LogError, match=r"line 1: .* got list; if the file is one JSON array, name it \.json"):
        read_log(write_json(tmp_path / "log.jsonl", [{"step": 1}]))


def test_records_by_prompt_with_the_step_in_the_name_of_the_file(kit, tmp_path):
    for step in (100, 1000, 200):
        document = {f"q{k}": {"response": "r", "correct": (k + step) % 3 == 0, "extracted": None} for k in range(3)}
        write_json(tmp_path / f"eval_step_{step}_greedy.json", document)
    log = read_log(tmp_path)
    assert kit.as_dict(log) == kit.brute((i, f"q{k}", (k + i) % 3 == 0) for i in (100, 200, 1000) for k in range(3))
    first = tmp_path / "eval_step_100_greedy.json"
    assert log.notes == (f"step = number in the path of the file, such as 100 of {first}",)


def test_means_of_the_visits_of_each_prompt(kit, tmp_path):
    path = write_json(tmp_path / "acc_step_500.json", {"7": [0.125, 0.0, 1.0], "x": [0.5, None]})
    log = read_log(path, traces=8)
    assert kit.as_dict(log) == {("7", 1): (8, 1, 1), ("7", 2): (8, 0, 0), ("7", 3): (8, 8, 8), ("x", 1): (8, 4, 4)}
    assert log.notes == (POSITION, "rows without a reward, dropped: 1")
    for options, words in [
        ({}, "row 1: column 'reward' must hold 0 or 1; .* --traces G, and if not, --traces 1, got 0.125"),
        ({"traces": 4}, "row 1: column 'reward' must hold the mean of 4 rewards of 0 or 1, got 0.125"),
    ]:
        with pytest.raises(LogError, match=words):
            read_log(path, **options)
    assert kit.as_dict(read_log(path, traces=1))[("7", 1)] == (1, 0.125, 0.015625)


def test_visits_that_are_rewards_groups_or_records(kit, tmp_path):
    single = read_log(write_json(tmp_path / "a.json", {"q": [1, 0, True], "r": [0]}))
    assert kit.as_dict(single) == {("q", 1): (1, 1, 1), ("q", 2): (1, 0, 0), ("q", 3): (1, 1, 1), ("r", 1): (1, 0, 0)}
    groups = read_log(write_json(tmp_path / "b.json", {"q": [[1, 0], [0.5]], "r": [[0, 0, 1]]}), traces=1)
    assert kit.as_dict(groups) == {("q", 1): (2, 1, 1), ("q", 2): (1, 0.5, 0.25), ("r", 1): (3, 1, 1)}
    records = [{"step": 5, "score": 1.0}, {"step": 9, "score": 0.0}]
    recorded = read_log(write_json(tmp_path / "c.json", {"q": records, "r": records[:1]}))
    assert kit.as_dict(recorded) == {("q", 5): (1, 1, 1), ("q", 9): (1, 0, 0), ("r", 5): (1, 1, 1)}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "expected an array of records, or an object .*, got list"),
        ([1, 2], "expected an array of records, or an object .*, got list"),
        ({}, "expected an array of records, or an object .*, got dict"),
        ("text", "got str"),
        ({"q": "text"}, "got 'text' under 'q'"),
        ({"loss": [0.5, 0.4], "mean_reward": [0.1, 0.2], "step": [1, 2]}, "These look like means of batches"),
        (
            {"log_history": [{"step": 1, "loss": 0.5, "reward": 0.1, "kl": 0.2}], "epoch": 1},
            "Means of batches cannot be audited",
        ),
        (
            [{"step": 1, "train/loss": 0.5, "mean_reward": 0.1}],
            "means of batches. An audit needs a row for each rollout",
        ),
        ([{"step": 1, "messages": [], "source": "web"}], "These are no rewards of prompts. An audit needs a row for"),
    ],
)
def test_json_that_holds_no_rewards(tmp_path, document, words):
    with pytest.raises(LogError, match=words):
        read_log(write_json(tmp_path / "log.json", document))


def test_json_that_is_cut_off(tmp_path):
    path = write_json(tmp_path / "1.json", [{"step": 1, "prompt": "a", "reward": 1}] * 9)
    last = tmp_path / "2.json"
    last.write_text(path.read_text()[:-9])
    log = read_log(tmp_path)
    assert log.n_rows == 9
    assert log.notes == (f"incomplete, as in a run that goes on, and left out: {last}",)
    with pytest.raises(LogError, match="truncated or broken"):
        read_log(last)


# ---------------------------------------------------------------- a row is a group


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "json"])
@pytest.mark.parametrize("chunks", ["whole", "small"])
def test_a_list_of_rewards_is_a_group(kit, tmp_path, ending, chunks, request):
    if chunks == "small":
        request.getfixturevalue("small_chunks")
    lists = [[1, 0, 1], [0.5], None, [], [0, None, 1, 1]] * 20
    records = [{"step": k // 5 + 1, "prompt": f"p{k % 2}", "rewards": z, "skipped": False} for k, z in enumerate(lists)]
    path = tmp_path / f"log.{ending}"
    if ending == "json":
        write_json(path, records)
    elif ending == "csv":
        pl.DataFrame(
            [{**r, "rewards": None if r["rewards"] is None else json.dumps(r["rewards"])} for r in records]
        ).write_csv(path)
    elif ending == "jsonl":
        kit.write_lines(path, records)
    else:
        pl.DataFrame(records).write_parquet(path)
    log = read_log(path)
    flat = [(r["step"], r["prompt"], z) for r in records for z in r["rewards"] or [] if z is not None]
    assert kit.as_dict(log) == kit.brute(flat)
    assert log.notes == (LISTS.format("rewards"), "rows without a reward, dropped: 60")


@pytest.mark.parametrize("dtype", [pl.List(pl.Boolean), pl.List(pl.Int8), pl.Array(pl.Float32, 2)])
def test_dtypes_of_lists(kit, tmp_path, dtype):
    frame = pl.DataFrame({"step": [1, 2], "prompt": ["a", "a"], "reward": pl.Series([[1, 0], [1, 1]]).cast(dtype)})
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame))
    assert kit.as_dict(log) == {("a", 1): (2, 1, 1), ("a", 2): (2, 2, 2)}


def test_lists_and_numbers_in_one_file(kit, tmp_path):
    records = [{"step": 1, "prompt": "a", "reward": 1}, {"step": 1, "prompt": "a", "reward": [0, 1]}]
    assert kit.as_dict(read_log(kit.write_lines(tmp_path / "log.jsonl", records))) == {("a", 1): (3, 2, 2)}


def test_lists_of_two_rewards_are_summed_trace_by_trace(kit, tmp_path):
    record = {"step": 1, "prompt": "a", "acc": [1.0, 0.0], "fmt": [0.5, 0.25]}
    path = kit.write_lines(tmp_path / "log.jsonl", [record])
    assert kit.as_dict(read_log(path, rewards={"acc": 1.0, "fmt": 2.0})) == {("a", 1): (2, 2.5, 4.25)}
    kit.write_lines(path, [record, {**record, "fmt": [0.5]}])
    with pytest.raises(
        LogError, match=r"row 2: columns 'acc' and 'fmt' must hold lists of the same length, got lengths 2 and 1"
    ):
        read_log(path, rewards=["acc", "fmt"])


def test_the_row_of_a_bad_entry_of_a_list_is_that_of_the_list(kit, tmp_path):
    records = [{"step": 1, "prompt": "a", "reward": [0, 1]}, {"step": 1, "prompt": "a", "reward": [0, float("inf")]}]
    with pytest.raises(LogError, match="row 2: column 'reward' must hold a finite number"):
        read_log(kit.write_lines(tmp_path / "log.jsonl", records))
    (tmp_path / "log.csv").write_text('step,prompt,reward\n1,a,"[0, 1]"\n1,a,[0. 1.]\n')
    with pytest.raises(
        LogError, match=r"row 2: .* a list of numbers, which are the rewards of a group, one a trace; .*\[0. 1.\]"
    ):
        read_log(tmp_path / "log.csv")


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_means_become_counts(kit, tmp_path, ending):
    frame = pl.DataFrame({"step": [1, 2, 3], "prompt": ["a"] * 3, "pass": [1 / 3, 2 / 3, None]})
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", frame), columns={"reward": "pass"}, traces=3)
    assert kit.as_dict(log) == {("a", 1): (3, 1, 1), ("a", 2): (3, 2, 2)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"traces": 0}, "traces must be a whole number >= 1, got 0"),
        ({"traces": 4, "counts": ("a", "b")}, "counts and traces both say how many traces"),
        ({"step_every": "soon"}, "step_every must be a positive duration such as 30s, .*, got 'soon'"),
        ({"step_every": "0h"}, "step_every must be a positive duration"),
        ({"step_every": timedelta(-1)}, "step_every must be a positive duration"),
        ({"step_every": 3600}, "step_every must be a positive duration"),
        ({"step_every": "1h", "columns": {"step": "path"}}, "step_every needs a column of times, got step=path"),
        ({"step_every": "1h", "columns": {"step": "rank:t"}}, "step_every needs a column of times, got step=rank:t"),
    ],
)
def test_arguments(tmp_path, kit, options, words):
    path = kit.write_table(tmp_path / "log.csv", pl.DataFrame({"step": [1], "prompt": ["a"], "reward": [1]}))
    with pytest.raises(ArgumentError, match=words):
        read_log(path, **options)


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "json"])
@pytest.mark.parametrize("small", [0, 1 << 30])
def test_fields_of_a_column(kit, tmp_path, monkeypatch, ending, small):
    from kernadv.logs import _jsonl

    monkeypatch.setattr(_jsonl, "_SMALL", small)
    records = [
        {"task": {"id": f"t{k % 3}"}, "parts": {"total": k % 2, "deep": {"fmt": 0.5}}, "step": k, "a.b": 1.0}
        for k in range(1, 9)
    ]
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        pl.DataFrame(records).write_parquet(path)
    else:
        write_json(path, records) if ending == "json" else kit.write_lines(path, records)
    log = read_log(path, columns={"prompt": "task.id", "reward": "parts.total"})
    assert kit.as_dict(log) == kit.brute((k, f"t{k % 3}", k % 2) for k in range(1, 9))
    log = read_log(path, columns={"prompt": "task.id"}, rewards={"parts.deep.fmt": 2.0, "a.b": 1.0})
    assert log.groups.s.sum() == 16
    with pytest.raises(LogError, match=r"no column 'parts.sum' .*parts, parts.total, parts.deep, parts.deep.fmt"):
        read_log(path, columns={"prompt": "task.id", "reward": "parts.sum"})


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("runs/step_1300.jsonl", 1300),
        ("trajectory/step-100/rl_raw.jsonl", 100),
        ("ckpt/global_step_7/rollouts.parquet", 7),
        ("global_step7.json", 7),
        ("eval_step_500_greedy.json", 500),
        ("out/checkpoint-250/completions.csv", 250),
        ("step=12/part-0.parquet", 12),
        ("step_1/step_2/step_3_a.csv", 3),
        ("Step_4/log.csv", 4),
        ("footstep_5.csv", None),
        ("steps_9.csv", None),
        ("log_17.csv", None),
        ("step_.csv", None),
    ],
)
def test_steps_of_paths(path, step):
    assert path_step(path) == step


def test_the_step_from_the_path(kit, tmp_path):
    for step in (100, 900, 1000):
        lines = [{"qid": q, "n_correct": q, "n_rollouts": 4, "model_revision": f"step-{step}"} for q in (1, 2)]
        kit.write_lines(tmp_path / f"trajectory/step-{step}/rl_raw.jsonl", lines)
    expected = {(q, i): (4, q, q) for q in (1, 2) for i in (100, 900, 1000)}
    counts = ("n_correct", "n_rollouts")
    for options in ({}, {"columns": {"step": "path"}}, {"columns": {"step": "model_revision"}}):
        log = read_log(tmp_path / "trajectory", counts=counts, **options)
        assert kit.as_dict(log) == expected
    assert log.notes[-1] == "steps such as 'step-100' read as numbers"
    ranked = read_log(tmp_path / "trajectory", counts=counts, columns={"step": "rank:model_revision"})
    assert set(ranked.groups.step.tolist()) == {1, 2, 3}
    (tmp_path / "trajectory" / "step-x").mkdir()
    (tmp_path / "trajectory" / "step-100" / "rl_raw.jsonl").rename(tmp_path / "trajectory" / "step-x" / "rl_raw.jsonl")
    with pytest.raises(LogError, match=r"step-x.*expected a step in the path, such as step_100"):
        read_log(tmp_path / "trajectory", counts=counts, columns={"step": "path"})


def test_a_column_of_steps_comes_before_the_path(kit, tmp_path):
    path = kit.write_table(tmp_path / "step_9.csv", pl.DataFrame({"step": [2], "prompt": ["a"], "reward": [1]}))
    assert (read_log(path).groups.step.tolist(), read_log(path).notes) == ([2], ())
    assert read_log(path, columns={"step": "path"}).groups.step.tolist() == [9]


HOURS = [0, 1, 1, 5, 30, 2]  # not in order
ASKED = "abbbaa"  # the prompts: no group comes again
START = datetime(2024, 2, 28, 23, 10, tzinfo=UTC)
TIMES = [START + timedelta(hours=hour, minutes=k) for k, hour in enumerate(HOURS)]
WRITTEN = {
    "iso": [time.isoformat() for time in TIMES],
    "iso, Z": [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in TIMES],
    "iso, no zone": [time.strftime("%Y-%m-%d %H:%M:%S") for time in TIMES],
    "iso, other zone": [time.astimezone(tz=None).isoformat() for time in TIMES],
    "UTC": [time.strftime("%Y-%m-%d %H:%M:%S UTC") for time in TIMES],
    "seconds": [time.timestamp() + 0.25 for time in TIMES],
    "whole seconds": [int(time.timestamp()) for time in TIMES],
    "milliseconds": [int(time.timestamp()) * 1000 for time in TIMES],
    "nanoseconds": [int(time.timestamp()) * 10**9 for time in TIMES],
    "datetime": TIMES,
}


@pytest.mark.parametrize(
    ("written", "ending"),
    [
        (written, ending)
        for written in WRITTEN
        for ending in ("csv", "parquet", "jsonl")
        if written != "datetime" or ending == "parquet"  # the others have no such type
    ],
)
def test_times_as_steps(kit, tmp_path, ending, written):
    frame = pl.DataFrame({"timestamp": WRITTEN[written], "prompt": list(ASKED), "reward": [1, 0, 1, 1, 0, 1]})
    path = kit.write_table(tmp_path / f"log.{ending}", frame)
    hourly = read_log(path, step_every="1h")
    assert kit.as_dict(hourly) == kit.brute(zip([h + 1 for h in HOURS], ASKED, [1, 0, 1, 1, 0, 1], strict=True))
    assert (pl.Series(hourly.groups.prompt * 100 + hourly.groups.step).diff().drop_nulls() > 0).all()  # sorted
    daily = read_log(path, step_every=timedelta(days=1), columns={"step": "timestamp"})
    assert daily.groups.step.tolist() == [1, 2, 3, 2]  # 23:10, then the next day, then 5:14 of the day after
    ranked = read_log(path, columns={"step": "rank:timestamp"})
    assert kit.as_dict(ranked) == kit.brute(zip([1, 2, 3, 5, 6, 4], ASKED, [1, 0, 1, 1, 0, 1], strict=True))


def test_times_before_1970_and_dates(kit, tmp_path):
    days = [date(1969, 12, 30), date(1970, 1, 2)]
    frame = pl.DataFrame({"date": days, "prompt": ["a", "a"], "reward": [1, 0], "value": [0.25, 0.75]})
    path = kit.write_table(tmp_path / "log.parquet", frame)
    assert read_log(path, step_every="1d").groups.step.tolist() == [1, 4]
    ranked = read_log(path, columns={"step": "rank:date", "value": "value"})
    assert (ranked.groups.step.tolist(), ranked.value.tolist()) == ([1, 2], [0.25, 0.75])


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_ranks_of_numbers_are_exact(kit, tmp_path, ending):
    steps = [2**53 + 1, 2**53 + 1, -5, 2**53] if ending != "jsonl" else [7.5, 7.5, -5, 7.25]
    frame = pl.DataFrame({"t": steps, "prompt": ["a"] * 4, "reward": [1, 1, 0, 0]}, strict=False)
    path = kit.write_table(tmp_path / f"log.{ending}", frame)
    log = read_log(path, columns={"step": "rank:t"})
    assert kit.as_dict(log) == {("a", 1): (1, 0, 0), ("a", 2): (1, 0, 0), ("a", 3): (2, 2, 2)}
    assert log.notes == ()


def test_what_is_no_time(kit, tmp_path):
    frame = pl.DataFrame({"ts": ["2024-01-01", "yesterday"], "prompt": ["a", "a"], "reward": [1, 0]})
    path = kit.write_table(tmp_path / "log.csv", frame)
    with pytest.raises(
        LogError, match=r"row 2: column 'ts' must hold a time: an ISO date and time, .*, got 'yesterday'"
    ):
        read_log(path, step_every="1h")
    with pytest.raises(LogError, match="row 2: column 'ts' must hold numbers or times, to be ranked, got 'yesterday'"):
        read_log(path, columns={"step": "rank:ts"})
    with pytest.raises(
        LogError, match=r"no step column .*column 'ts' may serve: --step-every 1h, or --map step=rank:ts"
    ):
        read_log(path)
    with pytest.raises(LogError, match=r"no step column \(tried timestamp, time"):
        read_log(kit.write_table(path, frame.rename({"ts": "moment"})), step_every="1h")


# ---------------------------------------------------------------- advice


def test_text_in_utf_16(tmp_path):
    for name, text in [("log.csv", "step,prompt,reward\n1,a,1\n"), ("log.jsonl", '{"step": 1}\n'), ("log.json", "[]")]:
        (tmp_path / name).write_text(text, encoding="utf-16")
        with pytest.raises(LogError, match=r"is UTF-16, .* iconv -f UTF-16 -t UTF-8"):
            read_log(tmp_path / name)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators(tmp_path, mark):
    (tmp_path / "log.csv").write_text(f"step{mark}prompt{mark}reward\n1{mark}a{mark}1\n")
    with pytest.raises(
        LogError, match=r"the columns seem to be separated by .*, expected ','; save the file with commas"
    ):
        read_log(tmp_path / "log.csv")


def test_a_column_that_is_there_twice(tmp_path):
    (tmp_path / "log.csv").write_text("step,prompt,reward,reward\n1,a,1,0\n")
    with pytest.raises(LogError, match="column 'reward' is there twice"):
        read_log(tmp_path / "log.csv")


def test_control_characters_are_shown_as_escapes(tmp_path):
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    shown = r"\x1b]0;owned\x07\x9b31m\u202e"
    path = tmp_path / f"{evil}.csv"
    path.write_text(f"step,{evil}prompt,reward\n1,a,1\n")
    with pytest.raises(LogError) as caught:
        read_log(path)
    assert f"{shown}.csv: no prompt column" in str(caught.value)
    assert f"Columns found: step, {shown}prompt, reward" in str(caught.value)
    path.write_text(f"step,prompt,reward,{evil}\n1,a,1,1\n1,a,,\n")
    log = read_log(path)
    assert log.source == f"{tmp_path}/{shown}.csv"
    record = {"step": [1], "prompt": ["a"], "completion": ["b"], evil: [1.0], "acc": [1.0], "advantages": [0.0]}
    (tmp_path / "completions.jsonl").write_text(json.dumps(record))
    notes = read_log(tmp_path / "completions.jsonl").notes
    assert notes == (f"reward = sum of the columns {shown}, acc, each with weight 1; choose with --reward",)


# ---------------------------------------------------------------- logs as they are published


def test_a_count_of_rollouts_is_no_step_and_turns_are_no_traces(tmp_path):
    """A global count as step, several turns an episode, each with a reward of its own."""
    rng = np.random.default_rng(0)
    rows, count = [], 0
    for epoch, task in product(range(1, 31), range(4)):
        for turn in range(4):
            count += 1
            reward = [0.1, 0.05, 0.1, round(0.5 + rng.random() / 2, 2)][turn]
            rows.append((count, epoch, f"t{task}", f"act_{turn}", reward))
    path = tmp_path / "training_rewards.csv"
    pl.DataFrame(rows, schema=["step", "epoch", "task_id", "action", "reward"], orient="row").write_csv(path)
    with pytest.raises(LogError, match=r"not a count of rollouts: name its column \(--map step=COLUMN\)"):
        audit(read_log(path), draws=2)
    found = audit(read_log(path, columns={"step": "epoch"}), draws=2)
    assert "rows are traces" in [check.name for check in found.failed()]


def test_episodes_of_one_seed_each(tmp_path):
    """A row an episode, without a prompt, beside a loss and a baseline."""
    rows = [(u, 4 * u + j, 500 + 4 * u + j, (u + j) % 3 / 2, 5, 1, 0.5, -0.1) for u in range(20) for j in range(4)]
    names = ["update", "episode", "seed", "return", "length", "success", "baseline", "loss"]
    path = tmp_path / "rewards.csv"
    pl.DataFrame(rows, schema=names, orient="row").write_csv(path)
    with pytest.raises(LogError, match=r"--map prompt=COLUMN\. Columns found: .*Means of batches cannot be audited"):
        read_log(path)
    log = read_log(path, columns={"prompt": "seed"})
    assert (len(log.prompts), log.groups.step.max(), log.groups.s.sum()) == (80, 20, sum(row[3] for row in rows))
    assert audit(log, draws=50).noise is None


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        (
            "scores.jsonl",
            {"prompt": "p", "steps": ["a", "b"], "step_scores": [0.5, 0.7], "avg_score": 0.6},
            "no step column .*; no reward column .*Columns found: prompt, steps, step_scores, avg_score",
        ),
        (
            "prompt_stats.json",
            {"0": {"baseline": 0.5, "ema": 0.4, "seen": 3}, "1": {"baseline": 0.2, "ema": 0.1, "seen": 5}},
            "no step column .*; no reward column .*Columns found: prompt_id, baseline, ema, seen",
        ),
        (
            "prompt_credit.json",
            {"0": {"alpha": 1.5, "beta": 2.0, "n_obs": 3}, "1": {"alpha": 1.0, "beta": 1.0, "n_obs": 0}},
            "no step column .*; no reward column .*Columns found: prompt_id, alpha, beta, n_obs",
        ),
        (
            "trace_step_stats.json",
            [{"step": 1, "loss": 0.5, "reward_mean": 0.1, "all_fail_groups": 2}],
            "no prompt column .*; no reward column .*These look like means of batches.*a row for each rollout",
        ),
        (
            "dialogues.jsonl",
            {"id": "a", "scenario": "s", "tier": "free", "user_prompt": "x", "assistant_response": "y", "notes": "n"},
            "no step column .*; no prompt column .*; no reward column .*These are no rewards of prompts",
        ),
    ],
)
def test_what_holds_no_rewards_of_rollouts(kit, tmp_path, name, document, words):
    path = tmp_path / name
    kit.write_lines(path, [document] * 3) if path.suffix == ".jsonl" else write_json(path, document)
    with pytest.raises(LogError, match=words):
        read_log(path)


def test_verl_with_the_columns_of_a_fork_and_one_step(kit, tmp_path):
    rows = [
        {"input": f"q{k // 4}", "output": "o", "gts": "g", "score": float(k % 4 > k // 4 % 3), "step": 1,
         "acc": 0.0, "pred": "x", "incorrect_format": 0, "feedback": ""}
        for k in range(80)
    ]  # fmt: skip
    kit.write_lines(tmp_path / "rollouts" / "1.jsonl", rows)
    log = read_log(tmp_path / "rollouts")
    assert log.format == "verl"
    assert kit.as_dict(log) == kit.brute((1, row["input"], row["score"]) for row in rows)
    assert audit(log, draws=50).steps == 1
