"""The tiny RL experiment behind the shipped log: its exact values, its rewards, and the log itself."""

from __future__ import annotations

import random
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
pytest.importorskip("torch")
pytest.importorskip("rich")
pytest.importorskip("pyarrow")
from benchmarks.rlvr.files import write_table
from benchmarks.rlvr.shipped_log import experiment, policy, summary, task
from benchmarks.rlvr.shipped_log.log_file import to_table

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_the_answer_is_the_result_backwards():
    assert task.problem(37, "+", 48).prompt == "37+48="
    assert task.problem(37, "+", 48).answer == "58."
    assert task.problem(999, "+", 999).answer == "8991."
    assert task.problem(100, "-", 98).answer == "2."


@pytest.mark.parametrize(
    ("completion", "right"),
    [("58.  ", 1.0), ("58.37", 1.0), ("58..=", 1.0), ("58   ", 0.0), ("580. ", 0.0), ("85.  ", 0.0), (".58. ", 0.0)],
)
def test_reward_is_an_exact_match_up_to_the_end_mark(completion, right):
    answers = task.encode_answers([task.problem(37, "+", 48).answer])
    assert task.reward(task.encode_answers([completion]), answers).tolist() == [right]


def test_exact_value_agrees_with_sampled_rewards():
    """Monte Carlo, 5,000 completions a prompt, of an untrained model with a sharpened last layer."""
    import torch

    torch.manual_seed(1)
    model = experiment.new_model(experiment.Config(width=16))
    with torch.no_grad():
        model.head.weight.mul_(4.0)
    problems = [task.problem(a, "-", b) for a in range(10, 40) for b in range(10, a + 1)]
    prompts, answers = task.encode_prompts(problems), task.encode_answers([problem.answer for problem in problems])
    values = policy.exact_value(model, prompts, answers)  # (N,)

    draws = 5000
    generator = torch.Generator().manual_seed(2)
    for row in values.argsort(descending=True)[:4].tolist():
        completions = policy.sample(model, prompts[row].expand(draws, -1), task.ANSWER_LENGTH, generator)
        rewards = task.reward(completions, answers[row].expand(draws, -1)).double().numpy()
        assert rewards.sum() > 50  # the normal approximation holds
        assert abs(summary.z_score(rewards[None], values[row, None].double().numpy())) < 4.0


def test_every_pass_shows_every_prompt_in_one_block():
    config = experiment.Config(pool=12, block=4, repeats=3, passes=2)
    blocks = list(experiment.schedule(config, random.Random(0)))
    assert len(blocks) == config.steps == 18
    for start in range(0, 18, 3):
        assert blocks[start] == blocks[start + 1] == blocks[start + 2]
    for start in (0, 9):
        assert sorted(chain(*blocks[start : start + 9 : 3])) == list(range(12))


def test_a_seed_makes_one_log(tmp_path):
    from pyarrow import parquet

    config = experiment.Config(
        width=8, layers=1, heads=1, warm_up_steps=3, warm_up_batch=4, pool=4, block=2, repeats=2, passes=2, group=3
    )

    def table(seed):
        return to_table(experiment.run(config, seed), config, seed)

    first = table(0)
    assert first.num_rows == config.steps * 2 * 3
    assert first.equals(table(0))
    assert not first.equals(table(1))
    write_table(first, tmp_path / "log.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]
    assert parquet.read_table(tmp_path / "log.parquet").equals(first)


def test_shipped_log():
    """Schema, order, schedule, and the rewards against their exact means, over all and by value."""
    polars = pytest.importorskip("polars")
    path = Path(str(files("kernadv") / "data" / "tiny_rlvr.parquet"))
    log = polars.read_parquet(path)
    assert path.stat().st_size <= 600_000
    assert dict(log.schema) == {
        "step": polars.Int32,
        "prompt_id": polars.String,
        "reward": polars.Float32,
        "value": polars.Float32,
    }
    steps, per_step, group = 400, 32, 4
    step = log["step"].to_numpy().reshape(steps, -1)
    assert (step == np.arange(1, steps + 1)[:, None]).all()
    prompts = log["prompt_id"].to_numpy().reshape(steps, per_step, group)
    assert (prompts == prompts[..., :1]).all()
    values = log["value"].to_numpy().astype(np.float64).reshape(steps, per_step, group)
    assert (values == values[..., :1]).all()
    assert ((values >= 0) & (values <= 1)).all()
    rewards = log["reward"].to_numpy().astype(np.float64).reshape(steps, per_step, group)
    assert np.isin(rewards, (0.0, 1.0)).all()
    for low, high in ((0.0, 1.0), (0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        chosen = (values >= low) & (values <= high)
        z = (rewards - values)[chosen].sum() / np.sqrt((values * (1 - values))[chosen].sum())
        assert abs(z) < 4.0
