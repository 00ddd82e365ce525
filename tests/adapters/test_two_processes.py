"""Two processes over gloo remember the same as one process that sees their rows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-adapters")
pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")

from kernadv import KernelValueEstimator
from kernadv.adapters._driver import PESSIMISM, STATE_FILE

pytestmark = pytest.mark.filterwarnings("default")
HERE = Path(__file__).parent
SCRIPT = HERE / "two_processes.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run of two processes."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", SCRIPT]
    example = HERE.parents[1] / "examples" / "trl_grpo_kernadv.py"
    for command in (
        [sys.executable, SCRIPT, "alone", example, folder / "alone"],
        [*launch, "main", example, folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


def said(run):
    """What the two processes wrote."""
    return [json.loads((run / f"process_{k}.json").read_text()) for k in (0, 1)]


def rewards(table):
    """Weighted rewards of a logged batch."""
    columns = torch.tensor(table[["even", "some"]].to_numpy(), dtype=torch.float32)
    return (columns * torch.tensor([1.0, 0.5])).nansum(1)


def test_groups_over_both_processes_and_several_steps_a_generation(run, runs):
    one, two = (each[3] for each in said(run))
    assert one == two
    log = [pd.read_parquet(file) for file in sorted((run / "split" / "completions").glob("*.parquet"))]
    steps = [table["policy_step"].iloc[0] for table in log]
    assert steps == [1, 1, 1, 1, 5, 5, 5, 5, 9, 9]
    alone = KernelValueEstimator(pessimism=PESSIMISM)
    for table in (log[0], log[4], log[8]):
        assert table["prompt_id"].value_counts().tolist() == [4, 4]
        step = int(table["policy_step"].iloc[0])
        advantages = alone.advantages(table["prompt_id"].tolist(), rewards(table), step)
        assert advantages.tolist() == table["advantage"].tolist()
    assert runs.digest(alone) == one


def test_same_state_and_advantages_as_one_process(run, runs):
    (first, used, resumed, *_), (second, others, *_) = said(run)
    assert first == second == resumed
    alone = KernelValueEstimator(pessimism=PESSIMISM)
    log = [pd.read_parquet(file) for file in sorted((run / "completions").glob("*.parquet"))]
    assert [len(table) for table in log] == [8] * 10
    for step, (table, one, two) in enumerate(zip(log, used, others, strict=True), 1):
        assert table["some"].isna().sum() == 2
        advantages = alone.advantages(table["prompt_id"].tolist(), rewards(table), step)
        assert advantages.tolist() == table["advantage"].tolist()
        assert sorted(one) == sorted(advantages[:4].tolist())  # the rows of the first process, in the order of the loss
        assert sorted(two) == sorted(advantages[4:].tolist())
    assert runs.digest(alone) == first
    for one, two in zip(log[6:], sorted((run / "resumed" / "completions").glob("*.parquet")), strict=True):
        pd.testing.assert_frame_equal(one, pd.read_parquet(two))


def test_the_first_process_may_keep_the_history_alone(run):
    """The states are those of replicated runs, also resumed, and the other process remembers nothing."""
    (_, seen, *_, weighted, _), (_, others, *_) = said(run)
    first, second = (json.loads((run / f"kept_{k}.json").read_text()) for k in (0, 1))
    assert (first["run"][2], second["run"][2]) == (seen, others)
    assert first["run"][:2] == first["resumed"][:2]
    assert first["weighted"][0] == weighted
    assert [visits for _, visits, _ in first.values()] == [40, 40, 40, 16]
    assert [visits for _, visits, _ in second.values()] == [0, 0, 0, 0]
    for one, two in (("completions", "kept/completions"), ("resumed/completions", "kept_resumed/completions")):
        files = sorted((run / one).glob("*.parquet"))
        assert len(files) == len(list((run / two).glob("*.parquet")))
        for file in files:
            pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_parquet(run / two / file.name))


def test_two_processes_resume_the_run_of_one(run):
    """The first process alone keeps the history; what it computes is what an estimator says that goes on by itself."""
    one = KernelValueEstimator(pessimism=PESSIMISM)
    one.load(run / "alone" / "checkpoint-3" / STATE_FILE)
    log = [pd.read_parquet(file) for file in sorted((run / "kept_alone" / "completions").glob("*.parquet"))]
    assert [int(table["policy_step"].iloc[0]) for table in log] == list(range(4, 11))
    for table in log:
        advantages = one.advantages(table["prompt_id"].tolist(), rewards(table), int(table["policy_step"].iloc[0]))
        assert advantages.tolist() == table["advantage"].tolist()


def test_one_process_resumes_a_history_that_the_first_of_two_kept(run, make):
    trainer = make(per_device_train_batch_size=8, max_steps=4, reuse=2, weights="none")
    trainer.train(resume_from_checkpoint=str(run / "kept" / "checkpoint-3"))
    assert trainer.kernadv.metrics()["kernadv/history_visits"] == 4 * 4


@pytest.mark.parametrize(
    ("case", "own", "other"),
    [
        ("estimators", "the processes disagree about the estimator: ", "the processes disagree about the estimator: "),
        ("settings", "the processes disagree about ", "the processes disagree about "),
        ("checkpoint", "process 1: ", "CheckpointError: "),
        ("ids", "has no prompt id", "has no prompt id"),
        ("rewards", "rewards must be finite", "process 0: rewards must be finite"),
    ],
)
def test_an_error_of_one_process_is_raised_in_both(run, case, own, other):
    """Otherwise one of them would wait for the other for ever."""
    messages = [json.loads((run / f"errors_{k}.json").read_text())[case] for k in (0, 1)]
    assert own in messages[0]
    assert other in messages[1]
    assert "ArgumentError: " in messages[0]


def test_weights_are_those_of_the_gathered_batch(run):
    """So that both processes learn the same, the running mean of the weights included."""
    (*_, one, weighted), (*_, two, _) = said(run)
    assert weighted
    assert one == two


def test_same_prompts_as_one_process(run, make):
    """Also in the second pass, after 8 steps."""
    trainer = make(max_steps=10, reuse=2, seed=42)
    rows = list(trainer._get_train_sampler())
    names = trainer.train_dataset["prompt_id"]
    for step in range(8):
        table = pd.read_parquet(run / "completions" / f"completions_{step + 1:05d}.parquet")
        assert table["prompt_id"].tolist() == [names[row] for row in rows[8 * step : 8 * step + 8]]
    second = [set(pd.read_parquet(run / "completions" / f"completions_{k:05d}.parquet")["prompt_id"]) for k in (9, 10)]
    sampler = trainer._get_train_sampler()
    sampler.set_epoch(1)
    assert second == [{names[row] for row in list(sampler)[:8]}] * 2


def test_one_process_resumes_the_run_of_two(run, make):
    trainer = make(per_device_train_batch_size=8, max_steps=4, reuse=2)
    trainer.train(resume_from_checkpoint=str(run / "checkpoint-3"))
    resumed = KernelValueEstimator(pessimism=PESSIMISM)
    resumed.load(run / "checkpoint-3" / STATE_FILE)
    table = pd.read_parquet(Path(trainer.args.output_dir, "completions", "completions_00004.parquet"))
    alone = torch.tensor(table["even"].to_numpy(), dtype=torch.float32)
    assert resumed.advantages(table["prompt_id"].tolist(), alone, 4).tolist() == table["advantage"].tolist()
    assert np.isfinite(table["advantage"]).all()
