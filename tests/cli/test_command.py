"""`kernadv audit`: options, and what it writes."""

import json
import math
from importlib.resources import files

import numpy as np
import polars as pl
import pytest

from kernadv import __version__
from kernadv.auditing import audit, prompts
from kernadv.groups import aggregate
from kernadv.logs import read_log


def plain(audit_result):
    """The audit as the JSON file must hold it, by another way than the package's."""
    text = json.dumps(audit_result.to_dict()).replace('"bandwidth": Infinity', '"bandwidth": "inf"')
    return json.loads(text, parse_constant=lambda token: None)


def groups_of(frame, reward):
    z = frame.select(reward).to_series().to_numpy()
    return aggregate(frame["prompt_id"].to_numpy(), frame["step"].to_numpy(), np.ones(len(z), np.int64), z, z * z)


def test_report_in_a_pipe(launch, log):
    done = launch("audit", log)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert 80 < max(map(len, lines)) <= 100
    assert lines[0] == str(log)
    assert lines[1] == "1,600 rows, 30 prompts, 40 steps, G = 4"
    assert lines[2].startswith("noise E V(1-V) = ")
    for name in ("zero", "batch mean", "group mean", "RLOO", "KAE h=0.1", "KAE h=1"):
        assert any(line.startswith(name) for line in lines), name
    # prompts come back after 3 steps, which 0.05 of 40 steps do not reach
    assert not any(line.startswith("KAE h=0.05") for line in lines)
    assert "bandwidths that reach no past reward, left out: h=0.05" in " ".join(done.stdout.split())
    assert "Can this log be trusted? All " in done.stdout
    assert "of the groups are dead (all 0: " in done.stdout
    assert "kernadv's values imply a gradient variance" in " ".join(done.stdout.split())
    assert "Prompts come back often enough" in done.stdout
    assert "unrelated to the size of a trace's gradient" in " ".join(done.stdout.split())


def test_json_is_the_audit(run, log, frame, tmp_path):
    target = tmp_path / "audit.json"
    done = run("audit", log, "--json", target, "--draws", 60)
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"wrote {target}"
    found = json.loads(target.read_text(), parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
    expected = plain(audit(groups_of(frame, "reward"), draws=60))
    assert (found["kernadv"], found["audit"]["source"], found["audit"]["format"]) == (__version__, str(log), "table")
    differ = ("source", "format", "checks")
    assert {name: found["audit"][name] for name in expected if name not in differ} == {
        name: value for name, value in expected.items() if name not in differ
    }
    assert {check["verdict"] for check in found["audit"]["checks"]} == {"ok"}
    assert [finding["bandwidth"] for finding in found["audit"]["findings"] if finding["clock"] == "steps"][-1] == "inf"


def test_every_option(run, frame, tmp_path):
    names = {"step": "iteration", "prompt_id": "question_nr", "reward": "accuracy", "value": "truth"}
    frame = frame.with_columns(tidy=pl.Series(np.random.default_rng(5).random(len(frame)).round(3)))
    frame.rename(names).write_csv(tmp_path / "log.csv")
    options = ["--format", "table", "--map", "step=iteration", "--map", "prompt=question_nr", "--map", "value=truth"]
    options += ["--baseline", "local_level", "--baseline", "pooled_beta tuned"]
    options += ["--reward", "accuracy", "--reward", "tidy=0.5", "--kernel", "epanechnikov", "--draws", 50, "--seed", 3]
    outputs = ["--html", tmp_path / "out.html", "--json", tmp_path / "out.json"]
    done = run("audit", tmp_path / "log.csv", *options, *outputs)
    assert (done.code, done.err) == (0, "")
    found = json.loads((tmp_path / "out.json").read_text())["audit"]
    groups = groups_of(frame, pl.col("reward") + 0.5 * pl.col("tidy"))
    expected = audit(groups, kernel="epanechnikov", draws=50, seed=3, baselines=["local_level", "pooled_beta tuned"])
    assert any(line.startswith("local level ") for line in done.out.splitlines())
    for finding, other in zip(found["findings"], expected.findings, strict=True):
        assert finding["title"] == other.title
        assert finding["mse"] == pytest.approx(other.mse._asdict(), rel=1e-9)
        assert finding["true_mse"] is not None
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "the epanechnikov kernel" in page
    assert "of 50 bootstrap draws" in page
    assert "E s² = " in page
    assert "estimator = KernelValueEstimator(" in page


def test_counts(run, log, frame, tmp_path):
    by_group = frame.group_by("step", "prompt_id").agg(right=pl.col("reward").sum(), traces=pl.len())
    by_group.write_csv(tmp_path / "counts.csv")
    run("audit", tmp_path / "counts.csv", "--counts", "right,traces", "--json", tmp_path / "counts.json")
    run("audit", log, "--json", tmp_path / "rows.json")
    counts, rows = (json.loads((tmp_path / name).read_text())["audit"] for name in ("counts.json", "rows.json"))
    for one, other in zip(counts["findings"], rows["findings"], strict=True):
        assert one["mse"]["estimate"] == pytest.approx(other["mse"]["estimate"], abs=1e-12)


def test_seed_moves_the_intervals_only(run, log, tmp_path):
    found = []
    for k, seed in enumerate((1, 1, 2)):
        run("audit", log, "--seed", seed, "--draws", 60, "--json", tmp_path / f"{k}.json")
        found.append(json.loads((tmp_path / f"{k}.json").read_text())["audit"]["findings"])
    assert found[0] == found[1]
    assert found[0] != found[2]
    for one, other in zip(found[0], found[2], strict=True):
        assert one["mse"]["estimate"] == other["mse"]["estimate"]


def test_demo(run, tmp_path):
    if not (files("kernadv") / "data" / "tiny_rlvr.parquet").is_file():
        pytest.skip("the shipped log is not in this tree")
    done = run("audit", "--demo", "--draws", 60, "--json", tmp_path / "demo.json")
    assert done.code == 0
    assert "the log that ships with kernadv" in done.out.splitlines()[0]
    found = json.loads((tmp_path / "demo.json").read_text())
    for finding in found["audit"]["findings"]:
        assert finding["mse"]["low"] < finding["mse"]["high"]
        assert math.isfinite(finding["true_mse"])


def test_one_trace_a_group(run, single):
    done = run("audit", single, "--draws", 60)
    assert done.code == 0
    assert "that of batch mean" in done.out
    assert "vs batch mean" in done.out
    assert "RLOO" not in done.out
    assert "every group has one trace" in done.out


def test_one_pass(run, frame, tmp_path):
    once = frame.with_columns(prompt_id=pl.col("prompt_id") + 1000 * pl.col("step"))
    once.write_parquet(tmp_path / "once.parquet")
    done = run("audit", tmp_path / "once.parquet", "--draws", 60, "--html", tmp_path / "once.html")
    assert (done.code, done.err) == (0, "")
    assert "No prompt comes back" in done.out
    assert "KAE" not in done.out.partition("────")[2].partition("No prompt")[0]


def test_version(run):
    done = run("--version")
    assert (done.code, done.out.strip()) == (0, __version__)


def test_help_names_every_option(run):
    done = run("audit", "--help")
    assert done.code == 0
    for option in (
        "--demo",
        "--format",
        "--map",
        "--step-every",
        "--counts",
        "--traces",
        "--reward",
        "--on-repeat",
        "--baseline",
        "--kernel",
        "--draws",
        "--seed",
        "--html",
        "--json",
    ):
        assert option in done.out


def test_an_old_report_is_replaced(run, log, tmp_path):
    target = tmp_path / "page.html"
    target.write_text("old")
    assert run("audit", log, "--draws", 60, "--html", target).code == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "page.html"]


def test_what_to_do_with_steps_that_come_again(run, frame, log, tmp_path):
    """A file that is there twice: refused, or read once."""
    twice = tmp_path / "twice.parquet"
    pl.concat([frame, frame]).write_parquet(twice)
    refused = run("audit", twice, "--draws", 60)
    assert (refused.code, "--on-repeat" in refused.err) == (2, True)
    found = {}
    for path, *options in ((log,), (twice, "--on-repeat", "last")):
        assert run("audit", path, "--draws", 60, "--json", tmp_path / "a.json", *options).code == 0
        found[path] = json.loads((tmp_path / "a.json").read_text())["audit"]
    assert found[twice]["findings"] == found[log]["findings"]
    assert len(found[twice]["notes"]) == len(found[log]["notes"]) + 1


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_prompts_are_written(run, log, tmp_path, ending):
    target = tmp_path / f"prompts.{ending}"
    done = run("audit", log, "--draws", 60, "--prompts", target, "--group", 2)
    assert (done.code, done.out.splitlines()[-1]) == (0, f"wrote {target}")
    found = (pl.read_parquet if ending == "parquet" else pl.read_csv)(target)
    expected = prompts(read_log(log), group=2)
    assert found.columns == expected.columns
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-12)
    assert len(found) == 30


def test_prompts_of_rewards_with_many_values(run, frame, tmp_path):
    frame = frame.with_columns(reward=pl.Series(np.random.default_rng(0).random(len(frame))))
    frame.write_csv(tmp_path / "log.csv")
    assert run("audit", tmp_path / "log.csv", "--draws", 60, "--prompts", tmp_path / "out.parquet").code == 0
    assert pl.read_parquet(tmp_path / "out.parquet")["dead_next"].null_count() == 30
    done = run("audit", tmp_path / "log.csv", "--draws", 60, "--prompts", tmp_path / "more.parquet", "--group", 4)
    assert done.code == 2
    assert "this log has more: leave group out" in done.err
    assert not (tmp_path / "more.parquet").exists()


def test_baselines_of_single_traces(run, frame, tmp_path):
    frame = frame.with_columns(tokens=pl.int_range(1, len(frame) + 1))
    frame.write_csv(tmp_path / "log.csv")
    target = tmp_path / "audit.json"
    names = ["opo_loo", "krpo_paper", "oracle"]
    options = [
        "--map",
        "weight=tokens",
        "--map",
        "value=value",
        *(word for name in names for word in ("--baseline", name)),
    ]
    assert run("audit", tmp_path / "log.csv", *options, "--draws", 60, "--json", target).code == 0
    found = {one["name"]: one for one in json.loads(target.read_text())["audit"]["findings"]}
    arrays = {"prompt_ids": "prompt_id", "rewards": "reward", "step": "step", "weights": "tokens"}
    arrays = {name: frame[column].to_numpy() for name, column in arrays.items()}
    expected = audit(**arrays, baselines=names[:2], bandwidths=[], draws=60)
    for name in names[:2]:
        assert found[name]["mse"]["estimate"] == pytest.approx(expected.finding(name).mse.estimate)
    assert found["oracle"]["true_mse"] == 0


def test_two_logs_are_compared(launch, log, frame, tmp_path):
    other, target = tmp_path / "other.csv", tmp_path / "out.json"
    frame.filter(pl.col("prompt_id") < 20).write_csv(other)
    done = launch("audit", log, other, "--json", target, "--draws", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"A: {log}"
    words = " ".join(done.stdout.split())
    assert "On the 20 prompts that both runs have" in words
    assert "One run each: the intervals resample prompts" in words
    found = json.loads(target.read_text())["comparison"]
    assert (found["shared"], found["only_a"], found["only_b"]) == (20, 10, 0)
    steps = [one for one in found["differences"] if one["at"] == "steps"]
    assert {one["name"] for one in steps} == {"reward", "growth", "dead", "noise", "mse", "between"}
    assert all(
        one["difference"]["estimate"] == 0 for one in steps if one["name"] in ("reward", "growth", "dead", "noise")
    )
    assert found["a"]["source"] == str(log)


def test_two_logs_without_a_common_prompt(run, log, frame, tmp_path):
    frame.with_columns(prompt_id=pl.col("prompt_id") + 100).write_parquet(tmp_path / "other.parquet")
    done = run("audit", log, tmp_path / "other.parquet")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: the runs share no prompt: A has 30, such as '0', '1', '2'; B has 30")


@pytest.mark.parametrize(("columns", "low", "high"), [("60", 50, 60), ("0", 80, 100)])
def test_width_in_a_pipe_may_be_told(launch, log, columns, low, high):
    done = launch("audit", log, before=f"import os; os.environ['COLUMNS'] = '{columns}'")
    assert done.returncode == 0
    lines = done.stdout.splitlines()[1:]  # the first is the path
    assert low < max(map(len, lines)) <= high


def test_help_has_groups_of_options_and_examples_that_are_right(run, frame, tmp_path, monkeypatch):
    """Each example is a line that the command line understands."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    text = run("audit", "--help").out
    for panel in ("How the log is read", "What is computed", "What is written"):
        assert panel in text
    renamed = {"step": "iter", "prompt_id": "qid", "reward": "acc"}
    frame.rename(renamed).write_csv("log.csv")
    frame.rename({"prompt_id": "prompt"}).group_by("prompt", "step").agg(
        n_correct=pl.col("reward").sum(), n_traces=pl.len()
    ).write_parquet("log.parquet")
    examples = [line.partition("#")[0].split() for line in text.splitlines() if line.startswith(" kernadv ")]
    assert len(examples) == 5
    for _, *arguments in examples:
        done = run(*arguments, "--draws", "40")
        readable = any(name in arguments for name in ("log.csv", "log.parquet"))
        assert done.code == (0 if readable else 2)
        assert readable or "does not exist" in done.err


def test_ids_of_prompts_stay_as_they_are(run, frame, tmp_path):
    """Also those that a spreadsheet would take for formulas."""
    ids = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "a,b", 'a"b', "a\nb", "'"]
    named = frame.with_columns(prompt_id=frame["prompt_id"] % len(ids)).with_columns(
        prompt_id=pl.col("prompt_id").replace_strict(dict(enumerate(ids)), return_dtype=pl.String)
    )
    named.write_parquet(tmp_path / "named.parquet")
    for ending, read in ((".csv", pl.read_csv), (".parquet", pl.read_parquet)):
        path = tmp_path / f"prompts{ending}"
        assert run("audit", tmp_path / "named.parquet", "--draws", 60, "--prompts", path).code == 0
        assert read(path)["prompt_id"].to_list() == ids
