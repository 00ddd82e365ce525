"""Long tables: what is read from csv, parquet and jsonl, and how columns, counts, values and the clock are understood."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernadv.logs import _csv, read_log

ENDINGS = ["csv", "tsv", "parquet", "jsonl", "ndjson"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_gives_the_groups_of_the_rows(kit, tmp_path, frame, rows, ending):
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", frame))
    assert kit.as_dict(log) == kit.brute(rows)
    assert (log.format, log.source, log.n_rows, log.notes) == ("table", str(tmp_path / f"log.{ending}"), 300, ())
    assert log.prompts == list(dict.fromkeys(prompt for _, prompt, _ in rows))
    assert log.value is None
    order = np.lexsort((log.groups.step, log.groups.prompt))
    assert (order == np.arange(len(order))).all()
    assert [column.dtype.kind for column in log.groups[:5]] == ["i", "i", "i", "f", "f"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.usefixtures("small_chunks")
def test_groups_may_be_split_over_chunks_and_files(kit, tmp_path, frame, rows, ending):
    whole = read_log(kit.write_table(tmp_path / f"log.{ending}", frame))
    folder = tmp_path / "parts"
    folder.mkdir()
    for k in range(3):
        kit.write_table(folder / f"part-{k}.{ending}", frame[k * 100 : k * 100 + 100])
    for name in ("_SUCCESS", ".hidden.csv", "config.yaml", f"empty.{ending}"):
        (folder / name).touch()
    seen = []
    parts = read_log(folder, progress=lambda done, n: seen.append((done, n)))
    assert kit.as_dict(parts) == kit.as_dict(whole) == kit.brute(rows)
    assert parts.prompts == whole.prompts
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert 0 < seen[0][0] < 1 == seen[-1][0]
    assert seen[-1][1] == 300


@pytest.mark.parametrize(
    ("names", "chosen", "noted"),
    [
        (("global_step", "uid", "score"), (0, 1, 2), ()),
        (("iteration", "problem_id", "accuracy"), (0, 1, 2), ()),
        (("iteration", "step", "prompt", "reward"), (1, 2, 3), ("step",)),
        (("step", "prompt", "prompt_id", "score", "reward"), (0, 2, 4), ("prompt", "reward")),
    ],
)
def test_common_names_are_found_in_the_documented_order(kit, tmp_path, names, chosen, noted):
    frame = pl.DataFrame({name: [k + 1, k + 2] for k, name in enumerate(names)})
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame))
    step, prompt, reward = chosen
    assert set(kit.as_dict(log)) == {(prompt + 1, step + 1), (prompt + 2, step + 2)}
    assert log.groups.s.tolist() == [reward + 1, reward + 2]
    assert [note.split()[0] for note in log.notes] == list(noted)
    assert all("also there" in note for note in log.notes)


def test_the_caller_names_columns(kit, tmp_path, frame, rows):
    frame = frame.rename({"step": "a", "prompt_id": "b.c", "reward": "d e"}).with_columns(step=1, reward=9.0)
    path = kit.write_table(tmp_path / "log.parquet", frame)
    log = read_log(str(path), columns={"step": "a", "prompt": "b.c", "reward": "d e"})
    assert kit.as_dict(log) == kit.brute(rows)
    assert log.notes == ()


@pytest.mark.parametrize(("ending", "ids"), [("parquet", [7, -3]), ("jsonl", [7, -3]), ("csv", ["7", "-3"])])
def test_integer_ids_stay_integers_where_the_format_has_them(kit, tmp_path, ending, ids):
    frame = pl.DataFrame({"step": [1, 2, 3], "prompt": [7, -3, 7], "reward": [1, 0, 1]})
    assert read_log(kit.write_table(tmp_path / f"log.{ending}", frame)).prompts == ids


@pytest.mark.parametrize("dtype", [pl.Float64, pl.UInt64, pl.Int8, pl.Categorical, pl.Enum(["5", "6"]), pl.String])
def test_prompt_dtypes(kit, tmp_path, dtype):
    ids = pl.Series(["5", "6", "5"]).cast(dtype)
    frame = pl.DataFrame({"step": [1, 1, 1], "prompt": ids, "reward": [1.0, 0.0, 0.5]})
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame))
    assert log.prompts == ([5, 6] if dtype.is_numeric() else ["5", "6"])
    assert log.groups.n.tolist() == [2, 1]


def test_long_prompts_are_known_by_their_digest(kit, tmp_path):
    texts = ["x" * 64, "é" * 64, "é" * 65, "é" * 65]
    frame = pl.DataFrame({"step": [1] * 4, "prompt": texts, "reward": [1.0] * 4})
    log = read_log(kit.write_table(tmp_path / "log.parquet", frame))
    digest = hashlib.sha256(("é" * 65).encode()).hexdigest()
    assert log.prompts == ["x" * 64, "é" * 64, f"sha256:{digest}"]


def test_messages_have_one_text_whatever_the_file_format(kit, tmp_path):
    user = {"role": "user", "content": "1+1?"}
    first = [user, {"role": "tool", "content": None, "name": "calc"}]
    records = [{"step": k + 1, "prompt": p, "reward": 1} for k, p in enumerate([first, [user], [user]])]
    kit.write_lines(tmp_path / "log.jsonl", records)
    pl.DataFrame(records).write_parquet(tmp_path / "log.parquet")  # fields that a message lacks become null
    by_lines, by_table = (read_log(tmp_path / name) for name in ("log.jsonl", "log.parquet"))
    assert by_lines.prompts == by_table.prompts
    assert by_lines.prompts[1] == '[{"content":"1+1?","role":"user"}]'


def test_counts(kit, tmp_path):
    frame = pl.DataFrame(
        {"step": [1, 1, 2, 2, 3], "id": list("abaab"), "right": [0, 3, 4, None, 0], "all": [4.0, 4.0, 4.0, 2.0, 0.0]}
    )
    path = kit.write_table(tmp_path / "log.parquet", frame)
    log = read_log(path, columns={"prompt": "id"}, counts=("right", "all"))
    assert kit.as_dict(log) == {("a", 1): (4, 0, 0), ("b", 1): (4, 3, 3), ("a", 2): (4, 4, 4)}
    assert log.notes == ("rows without a reward, dropped: 2",)


@pytest.mark.parametrize("ending", ENDINGS)
def test_true_values_are_averaged_over_the_traces(kit, tmp_path, ending):
    frame = pl.DataFrame(
        {
            "step": [1, 1, 1, 2, 3],
            "prompt": list("aaaab"),
            "reward": [1.0, 0.0, None, 1.0, 1.0],
            "v": [0.25, 0.75, 9.0, 1.0, None],
        }
    )
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", frame), columns={"value": "v"})
    np.testing.assert_array_equal(log.value, [0.5, 1.0, np.nan])


def test_the_value_of_counts_is_weighted_by_the_traces(kit, tmp_path):
    frame = pl.DataFrame({"step": [1, 1], "prompt": [1, 1], "c": [1, 2], "n": [1, 3], "value": [0.2, 0.6]})
    path = kit.write_table(tmp_path / "log.parquet", frame)
    log = read_log(path, counts=("c", "n"), columns={"value": "value"})
    assert log.value is not None
    assert log.value.tolist() == pytest.approx([0.5])
    assert read_log(path, counts=("c", "n")).value is None  # a column called value may be a critic's


@pytest.mark.parametrize("steps", [[0, 3], [0.0, 3.0], ["0", "3"], ["0.0", " 3 "], ["-0", "3e0"]])
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_clock_starts_at_1(kit, tmp_path, steps, ending):
    frame = pl.DataFrame({"step": steps, "prompt": ["a", "a"], "reward": [1, 1]})
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", frame))
    assert log.groups.step.tolist() == [1, 4]
    assert log.notes == ("the steps of the log start at 0: all are shifted by 1",)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_later_start_is_not_shifted(kit, tmp_path, ending):
    frame = pl.DataFrame({"step": [5, 7], "prompt": ["a", "a"], "reward": [True, False]})
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", frame))
    assert (log.groups.step.tolist(), log.groups.s.tolist(), log.notes) == ([5, 7], [1, 0], ())


@pytest.mark.parametrize("ending", ENDINGS)
def test_unscorable_rows_are_dropped_with_a_note(kit, tmp_path, ending):
    rewards = [1.0, float("nan"), None, 0.5]
    frame = pl.DataFrame({"step": [1, 1, 2, 1], "prompt": ["a", "a", "only", "a"], "reward": rewards})
    log = read_log(kit.write_table(tmp_path / f"log.{ending}", frame))
    assert kit.as_dict(log) == {("a", 1): (2, 1.5, 1.25)}
    assert (log.prompts, log.n_rows, log.notes) == (["a"], 4, ("rows without a reward, dropped: 2",))


@pytest.mark.parametrize("text", ["NaN", "nan", "NA", "null", "None", ""])
def test_unscorable_rewards_in_words(tmp_path, text):
    (tmp_path / "log.csv").write_text(f"step,prompt,reward\n1,a,{text}\n1,a,True\n1,a, false \n")
    log = read_log(tmp_path / "log.csv")
    assert (log.groups.n.tolist(), log.groups.s.tolist(), log.n_rows) == ([2], [1], 3)


@pytest.mark.parametrize("choice", ["acc", ["acc"], {"acc": 1.0}])
def test_one_reward_is_chosen(kit, tmp_path, choice):
    frame = pl.DataFrame({"step": [1], "prompt": ["a"], "reward": [9.0], "acc": [0.5]})
    path = kit.write_table(tmp_path / "log.csv", frame)
    assert read_log(path, rewards=choice).groups.s.tolist() == [0.5]


def test_rewards_are_weighted_and_a_missing_one_counts_nothing(kit, tmp_path):
    frame = pl.DataFrame({"step": [1, 2, 3], "prompt": ["a"] * 3, "acc": [1.0, None, None], "fmt": [1.0, 1.0, None]})
    path = kit.write_table(tmp_path / "log.parquet", frame)
    log = read_log(path, rewards={"acc": 1.0, "fmt": 0.5})
    assert (log.groups.s.tolist(), log.groups.ss.tolist()) == ([1.5, 0.5], [2.25, 0.25])
    assert log.notes == ("rows without a reward, dropped: 1",)


def test_types_may_change_from_line_to_line(tmp_path):
    lines = ['{"step": 1, "prompt": 1, "reward": 1}', '{"step": "1", "prompt": "1", "reward": 0.5, "more": [NaN]}', ""]
    lines += ['{"reward": "0.25", "step": 1.0, "prompt": 1}', '{"step": 2, "prompt": "\\ud800", "reward": true}']
    lines += [
        f'{{"step": 3, "prompt": {10**30}, "reward": NaN}}',
        f'{{"step": 3, "prompt": {10**30}, "reward": {10**20}}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    log = read_log(tmp_path / "log.jsonl")
    assert log.prompts == ["1", "?", str(10**30)]
    assert (log.groups.n.tolist(), log.groups.s.tolist()) == ([3, 1, 1], [1.75, 1, 1e20])


@pytest.mark.parametrize("big", [2**63, 2**64, 10**50])
def test_large_integer_ids(kit, tmp_path, big):
    records = [{"step": 1, "prompt": prompt, "reward": 1} for prompt in (5, big)]
    assert list(map(str, read_log(kit.write_lines(tmp_path / "log.jsonl", records)).prompts)) == ["5", str(big)]


@pytest.mark.usefixtures("small_chunks")
def test_types_may_change_from_block_to_block(kit, tmp_path):
    records = [{"step": k + 1, "prompt": k % 3, "reward": k % 2} for k in range(200)]
    records += [{"step": k + 1, "prompt": str(k % 3), "reward": 0.5} for k in range(200)]
    log = read_log(kit.write_lines(tmp_path / "log.jsonl", records), on_repeat="merge")
    assert (log.prompts, log.n_rows, len(log.groups.n)) == (["0", "1", "2"], 400, 200)
    assert log.groups.s.sum() == 200


def test_quoted_text_of_a_csv_may_hold_anything(tmp_path):
    text = '\ufeffstep,prompt,reward\n1,"a, ""b""\nc",1\n2,"a, ""b""\nc",0\n'
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    log = read_log(tmp_path / "log.csv")
    assert (log.prompts, log.groups.step.tolist()) == (['a, "b"\nc'], [1, 2])


@given(
    prompts=st.lists(st.text("a\"',\n\t;", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=30),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", "\t"]),
    block=st.integers(40, 300),
)
def test_a_csv_is_cut_where_rows_end(prompts, quoting, end, delimiter, block):
    rows = [(k, prompt, k % 2) for k, prompt in enumerate(prompts, start=1)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "log.csv" if delimiter == "," else "log.tsv")
        with path.open("w", newline="") as file:
            writer = csv.writer(file, quoting=quoting, lineterminator=end, delimiter=delimiter)
            writer.writerows([("step", "prompt", "reward"), *rows])
        patch.setattr(_csv, "_BLOCK", block)
        log = read_log(path)
    ids = [log.prompts[k] for k in log.groups.prompt]
    got = sorted(zip(log.groups.step.tolist(), ids, log.groups.s.tolist(), strict=True))
    assert got == rows


def test_a_real_history(shared_data):
    path = shared_data / "one_shot_rlvr" / "rewards.parquet"
    log = read_log(path, columns={"step": "visit", "prompt": "prompt_id"}, counts=("n_correct", "n_traces"))
    frame = pl.read_parquet(path)
    assert len(log.groups.n) == len(frame) == log.n_rows
    assert len(log.prompts) == frame["prompt_id"].n_unique() == 605
    assert set(log.groups.n.tolist()) == {8}
    assert log.groups.s.sum() == frame["n_correct"].sum()
    assert log.groups.step.min() == 1
    assert all(isinstance(prompt, int) for prompt in log.prompts)
