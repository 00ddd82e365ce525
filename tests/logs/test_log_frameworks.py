"""The logs of training frameworks, written with their exact layout."""

from __future__ import annotations

import uuid

import polars as pl
import pytest

from kernadv._errors import LogError
from kernadv.logs import formats, read_log

NAN = float("nan")
REDUMPED = "{} rows dropped that were dumped again by a later logging step"
SUMMED = "reward = sum of the columns {}, each with weight 1; choose with --reward"


def test_formats_are_found_by_walking_the_package():
    assert {"swift", "table", "trl", "verl"} <= set(formats())
    assert not any(name.startswith("_") for name in formats())


# ---------------------------------------------------------------- TRL


@pytest.mark.parametrize("where", ["completions", ".", "completions/completions_00001.parquet"])
def test_trl_is_detected(kit, tmp_path, where):
    kit.write_trl(tmp_path / "completions", 1, ["a", "a", "b", "b"], acc=[1.0, 0.0, 1.0, NAN])
    (tmp_path / "completions" / "readme.md").touch()
    log = read_log(tmp_path / where)
    assert (log.format, log.prompts, log.notes) == ("trl", ["a", "b"], ("rows without a reward, dropped: 1",))
    assert kit.as_dict(log) == {("a", 1): (2, 1, 1), ("b", 1): (1, 1, 1)}


def test_trl_file_of_another_name_is_detected_by_its_columns(kit, tmp_path):
    path = kit.write_trl(tmp_path, 1, ["a"], acc=[1.0]).rename(tmp_path / "all.parquet")
    assert read_log(path).format == "trl"


def test_trl_dumps_of_one_generation_count_once(kit, tmp_path):
    prompts, same = ["a", "a", "b", "b"], [1.0, 0.0, 1.0, 1.0]
    for step, generation in [(2, "g1"), (4, "g1"), (6, "g2"), (8, "g3"), (10, "g3"), (12, "g3"), (14, "g1")]:
        kit.write_trl(tmp_path, step, prompts, generation, acc=same)  # equal rewards do not make equal generations
    seen = []
    log = read_log(tmp_path, progress=lambda done, n: seen.append((done, n)))
    assert seen[-1] == (1.0, 16)
    assert sorted(set(log.groups.step.tolist())) == [2, 6, 8, 14]
    assert (log.n_rows, log.notes) == (16, (REDUMPED.format(12),))


@pytest.mark.usefixtures("small_chunks")
def test_trl_dumps_longer_than_a_chunk_and_joined_files(kit, tmp_path):
    prompts = [f"p{k // 2}" for k in range(20)]
    rewards = [float(k % 3 == 0) for k in range(20)]
    files = [kit.write_trl(tmp_path / "run", s, prompts, g, acc=rewards) for s, g in [(1, "x"), (2, "x"), (3, "y")]]
    pl.concat([pl.read_parquet(file) for file in files]).write_parquet(tmp_path / "joined.parquet")
    by_files, joined = read_log(tmp_path / "run"), read_log(tmp_path / "joined.parquet")
    assert kit.as_dict(by_files) == kit.as_dict(joined)
    assert set(by_files.groups.step.tolist()) == {1, 3}
    assert by_files.notes == joined.notes == (REDUMPED.format(20),)


def test_trl_steps_are_ordered_as_numbers(kit, tmp_path):
    for step, generation in [(99999, "a"), (100000, "a"), (100001, "b")]:
        kit.write_trl(tmp_path, step, ["p", "q"], generation, acc=[1.0, 0.0])
    assert sorted(set(read_log(tmp_path).groups.step.tolist())) == [99999, 100001]


@pytest.mark.parametrize(
    ("rewards", "sums", "notes"),
    [
        (None, [1.5, 0.5], (SUMMED.format("acc, fmt"),)),
        (["acc"], [1.0, 0.0], ()),
        ({"acc": 1.0, "fmt": 0.5}, [1.25, 0.25], ()),
        (["score"], [7.0, 8.0], ()),
    ],
)
def test_trl_rewards(kit, tmp_path, rewards, sums, notes):
    extras = {"prompt_id": ["x", "y"], "score": [7.0, 8.0], "tokens": [3, 4]}
    kit.write_trl(tmp_path, 1, ["same text", "same text"], acc=[1.0, 0.0], fmt=[0.5, 0.5], **extras)
    log = read_log(tmp_path, rewards=rewards)
    assert (log.prompts, log.groups.s.tolist(), log.notes) == (["x", "y"], sums, notes)


def test_trl_prompt_column_can_be_mapped(kit, tmp_path):
    kit.write_trl(tmp_path, 1, ["t", "t"], acc=[1.0, 0.0], prompt_id=["x", "y"], difficulty=[0.5, 0.5])
    log = read_log(tmp_path, columns={"prompt": "prompt", "value": "difficulty"})
    assert (log.prompts, log.groups.n.tolist(), log.value.tolist()) == (["t"], [2], [0.5])


def test_trl_messages(kit, tmp_path):
    prompts = [[{"role": "user", "content": text}] for text in ("1+1?", "2+2?", "1+1?")]
    kit.write_trl(tmp_path, 1, prompts, acc=[1.0, 0.0, 0.0])
    log = read_log(tmp_path)
    assert log.prompts == [f'[{{"content":"{text}","role":"user"}}]' for text in ("1+1?", "2+2?")]
    assert log.groups.n.tolist() == [2, 1]


def test_trl_errors(kit, tmp_path):
    path = kit.write_trl(tmp_path, 1, ["a"], acc=[1.0])
    with pytest.raises(LogError, match=r"no reward column 'fmt'; .*Reward columns found: acc"):
        read_log(tmp_path, rewards=["fmt"])
    kit.write_trl(tmp_path, 2, ["a"], other=[1.0])
    with pytest.raises(LogError, match=r"completions_00002.parquet: no column 'acc'"):
        read_log(tmp_path)
    path.write_bytes(path.read_bytes()[:99])
    for where in (tmp_path, path):
        with pytest.raises(LogError, match=r"completions_00001.parquet is truncated or broken"):
            read_log(where)


# ---------------------------------------------------------------- verl


def verl_rows(step, uid=None, n=4, **extra):
    rows = [
        {"input": f"user\nq{k // 2}\n", "output": "o", "gts": None, "score": float(k % 2), "step": step}
        for k in range(n)
    ]
    return [row | ({"uid": uid(k)} if uid else {}) | extra for k, row in enumerate(rows)]


UIDS = {
    "older trainer": (None, ["user\nq0\n", "user\nq1\n"]),
    "newer trainer": (lambda k: f"{uuid.uuid4()}_{k % 2}_0", ["user\nq0\n", "user\nq1\n"]),
    "plug-in": (lambda k: f"org/data_1/{7 + k // 2}::{uuid.uuid4()}_{k % 2}_0", ["org/data_1/7", "org/data_1/8"]),
    "plug-in, older trainer": (lambda k: f"d_1_2/{7 + k // 2}::{uuid.uuid4()}", ["d_1_2/7", "d_1_2/8"]),
}


@pytest.mark.parametrize("kind", UIDS)
@pytest.mark.parametrize("chunks", ["whole", "small"])
def test_verl(kit, tmp_path, request, kind, chunks):
    if chunks == "small":
        request.getfixturevalue("small_chunks")
    uid, prompts = UIDS[kind]
    for step in (2, 9, 10):
        kit.write_lines(tmp_path / f"{step}.jsonl", verl_rows(999, uid, acc=True, pred="1"))
    for name in ("metrics.jsonl", "7.json", "007b.jsonl"):
        (tmp_path / name).write_text("not a rollout")
    log = read_log(tmp_path)
    assert (log.format, log.prompts, log.n_rows, log.notes) == ("verl", prompts, 12, ())
    assert kit.as_dict(log) == {(prompt, step): (2, 1, 1) for prompt in prompts for step in (2, 9, 10)}


@pytest.mark.parametrize("chunks", ["whole", "small"])
def test_verl_trajectories_with_several_outputs_count_once(kit, tmp_path, request, chunks):
    if chunks == "small":
        request.getfixturevalue("small_chunks")
    rows = []
    for prompt in ("p", "q"):
        uid = uuid.uuid4()
        for trajectory in range(3):
            for output in range(1 + 5 * trajectory):  # up to 11: the order of the indices is that of numbers
                rows.append(
                    {
                        "input": prompt + f" turn {trajectory}" * output,
                        "output": "o",
                        "score": 100.0 * trajectory + output,
                        "step": 1,
                        "uid": f"{uid}_{trajectory}_{output}",
                    }
                )
    kit.write_lines(tmp_path / "1.jsonl", rows)
    log = read_log(tmp_path)
    assert (log.prompts, log.groups.n.tolist(), log.groups.s.tolist()) == (["p", "q"], [3, 3], [315, 315])
    assert log.notes == ("30 intermediate outputs dropped: of a trajectory with several outputs the last one counts",)


@pytest.mark.parametrize("chunks", ["whole", "small"])
def test_verl_rows_that_fill_a_batch_up_are_dropped(kit, tmp_path, request, chunks):
    """As verl.trainer.ppo.padding_utils names them."""
    if chunks == "small":
        request.getfixturevalue("small_chunks")
    uid, prompts = UIDS["plug-in"]
    padding = uuid.uuid4().hex
    fill = [{"input": "", "output": "", "score": 0.0, "step": 1, "uid": f"pad{padding}_{k}_0"} for k in range(5)]
    kit.write_lines(tmp_path / "1.jsonl", verl_rows(1, uid) + fill)
    log = read_log(tmp_path)
    assert (log.prompts, log.n_rows) == (prompts, 4)
    assert log.notes == ("5 rows dropped that verl fills its batches up with",)


def test_verl_columns_can_be_mapped(kit, tmp_path):
    kit.write_lines(tmp_path / "3.jsonl", verl_rows(5, UIDS["plug-in"][0], acc=True, problem=1))
    log = read_log(tmp_path, columns={"prompt": "problem", "reward": "acc", "step": "step"})
    assert kit.as_dict(log) == {(1, 5): (4, 4, 4)}


def test_verl_broken_line(kit, tmp_path):
    path = kit.write_lines(tmp_path / "1.jsonl", verl_rows(1))
    path.write_text(path.read_text()[:-9] + "\n")
    with pytest.raises(LogError, match=r"1.jsonl, line 4"):
        read_log(tmp_path, format="verl")
    with pytest.raises(LogError, match=r"1.jsonl, line 4"):
        read_log(tmp_path)


def test_verl_bad_value_is_shown_with_its_line_after_dropped_outputs(kit, tmp_path):
    rows = verl_rows(1, lambda k: f"u_0_{k}" if k < 3 else "u_1_0")
    rows[3]["score"] = "high"
    kit.write_lines(tmp_path / "1.jsonl", rows)
    with pytest.raises(LogError, match=r"1.jsonl, row 4: column 'score' .* got 'high'"):
        read_log(tmp_path)


# ---------------------------------------------------------------- ms-swift


def swift_dump(step, generation, rows=4, of=4, **extra):
    """One line: lists, cut to the number of entropies known so far when entropies are logged."""
    lists = {
        "prompt": [f"<|user|>q{k // 2}" for k in range(of)],
        "completion": [f"{generation} {k}" for k in range(of)],
        "acc": [float(k % 2) for k in range(of)],
        "fmt": [0.5 if k else NAN for k in range(of)],
        "advantages": [0.1 * k for k in range(of)],
        "solution": ["s"] * of,
        **extra,
    }
    return {"step": [str(step)] * rows, **{name: values[:rows] for name, values in lists.items()}}


@pytest.mark.parametrize("where", [".", "completions.jsonl"])
def test_swift(kit, tmp_path, where):
    dumps = [swift_dump(1, "g1"), swift_dump(2, "g1"), swift_dump(3, "g2"), swift_dump(10, "g3")]
    kit.write_lines(tmp_path / "completions.jsonl", dumps)
    log = read_log(tmp_path / where)
    assert (log.format, log.prompts, log.n_rows) == ("swift", ["<|user|>q0", "<|user|>q1"], 12)
    assert log.notes == (SUMMED.format("acc, fmt"), REDUMPED.format(4))
    assert kit.as_dict(log) == {
        (prompt, step): z
        for prompt, z in [("<|user|>q0", (2, 1.5, 2.25)), ("<|user|>q1", (2, 2.0, 2.5))]
        for step in (1, 3, 10)
    }


def test_swift_first_generation_grows_with_the_entropies(kit, tmp_path):
    dumps = [
        swift_dump(1, "g1", rows=2, entropy=[0.1, 0.2]),
        swift_dump(2, "g1", entropy=[0.1, 0.2, 0.3, 0.4]),
        swift_dump(3, "g1", entropy=[0.3, 0.4, 0.5, 0.6]),
        swift_dump(4, "g2", entropy=[0.5, 0.6, 0.7, 0.8]),
    ]
    kit.write_lines(tmp_path / "completions.jsonl", dumps)
    log = read_log(tmp_path, rewards=["acc"])
    assert kit.as_dict(log) == {(f"<|user|>q{k}", step): (2, 1, 1) for k in (0, 1) for step in (1, 4)}
    assert log.notes == (REDUMPED.format(6),)


def test_swift_megatron(kit, tmp_path):
    lines = [swift_dump(0, "g1"), swift_dump(0, "g2")]
    lines = [
        {"gen_step": [k] * 4, **{key: z for key, z in line.items() if key != "step"}} for k, line in enumerate(lines)
    ]
    kit.write_lines(tmp_path / "completions.jsonl", lines)
    log = read_log(tmp_path, rewards=["acc"])
    assert log.groups.step.tolist() == [1, 2, 1, 2]
    assert log.notes == ("the steps of the log start at 0: all are shifted by 1",)


def test_swift_list_of_another_length(kit, tmp_path):
    kit.write_lines(tmp_path / "completions.jsonl", [swift_dump(1, "g1"), {**swift_dump(2, "g2"), "acc": [1.0]}])
    with pytest.raises(LogError, match=r"completions.jsonl, line 2: expected lists of 4 entries for acc"):
        read_log(tmp_path)


def test_one_object_a_row_is_a_table_whatever_the_name(kit, tmp_path):
    rows = [{"step": "1", "prompt": "q", "completion": "c", "acc": 1.0, "advantages": 0.0}]
    kit.write_lines(tmp_path / "completions.jsonl", rows)
    assert read_log(tmp_path).format == "table"
    with pytest.raises(LogError, match="'step' must be a list"):
        read_log(tmp_path, format="swift")
