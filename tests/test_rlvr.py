"""The small study of training: its tasks, its policy, and a run of it, stopped and gone on with."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
pytest.importorskip("torch")
pytest.importorskip("rich")
pytest.importorskip("pyarrow")
from benchmarks.rlvr.files import save
from benchmarks.rlvr.model import policy
from benchmarks.rlvr.model.rollouts import uniforms
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.model.warm_up import encode_prompts
from benchmarks.rlvr.results import policy_results, policy_tables
from benchmarks.rlvr.tasks import TASKS, Problem
from benchmarks.rlvr.tasks.alphabet import ALPHABET
from benchmarks.rlvr.tasks.chain_sum import ChainSum
from benchmarks.rlvr.tasks.skills import PROFILES, Skills
from benchmarks.rlvr.training import study
from benchmarks.rlvr.training.collect import evaluations
from benchmarks.rlvr.training.runs import Run
from benchmarks.rlvr.training.setting import Setting

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module", params=["chain_sum", "euclid"])
def task(request):
    if request.param == "euclid":
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: make test-reasoning-gym")
    return TASKS[request.param]()


def test_a_teacher_without_errors_is_right(task):
    problems, skills, rng = task.draw(300, 0), Skills(None, random.Random(0)), random.Random(0)
    assert len({problem.prompt for problem in problems}) == 300
    for problem in problems:
        trace = task.write(problem, skills, rng)
        assert 17 <= len(trace) <= task.trace_length
        assert len(problem.prompt) <= task.prompt_length
        assert task.reward(problem, trace) == 1.0
        assert task.reward(problem, trace[:-1]) == 0.0
        assert task.reward(problem, trace[:-2] + ".") == 0.0


@pytest.mark.parametrize("profile", ["low", "middle", "bimodal"])
def test_a_teacher_with_errors_is_wrong_by_its_skills(task, profile):
    """The same pair of unit digits goes wrong in the same way, whatever the prompt."""
    skills, rng = Skills(PROFILES[profile], random.Random(3)), random.Random(0)
    shifts = {pair: {skills.shift(*pair, rng) for _ in range(200)} for pair in [(3, 4), (13, 24), (7, 7), (0, 9)]}
    assert all(len(found - {0}) <= 1 for found in shifts.values())
    assert len((shifts[3, 4] | shifts[13, 24]) - {0}) <= 1
    rewards = [task.reward(p, task.write(p, skills, rng)) for p in task.draw(300, 0)]
    assert 0.05 < np.mean(rewards) < 0.9


def test_chain_sums_as_written():
    task = ChainSum()
    problem = Problem("73+84=", (37, 48), "58")
    assert task.reward(problem, "a73;b73+84=58;#58.") == 1.0
    assert task.reward(problem, "a73;b73+84=58;#58") == 0.0
    assert task.reward(problem, "a73;b73+84=68;#68.") == 0.0
    assert task.reward(problem, "#68#58.") == 1.0  # the last answer counts


def test_sampling_with_the_cache_agrees_with_the_model():
    """The logits behind each character are those of one pass over the finished trace; frequencies follow them."""
    import torch

    task = ChainSum()
    torch.manual_seed(0)
    model = Transformer(task.prompt_length + task.trace_length, width=32, layers=2, heads=2)
    prompts = encode_prompts(task, task.draw(1, 0)).expand(2000, -1)
    traces = policy.sample(model, prompts, uniforms(2000, task.trace_length, 1))
    with torch.no_grad():
        whole = model(torch.cat([prompts, traces.tokens[:, :-1]], 1))[:, task.prompt_length - 1 :]
    torch.testing.assert_close(traces.logits[traces.mask], whole[traces.mask], atol=1e-4, rtol=1e-4)
    p = whole[0, 0].softmax(-1).double().numpy()
    share = np.bincount(traces.tokens[:, 0].numpy(), minlength=len(p)) / 2000
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 2000)).all()


def test_backward_is_the_gradient_of_the_weighted_log_probabilities():
    """In chunks, sorted by length, without the rows of coefficient 0: the same as in one piece."""
    import torch

    task = ChainSum()
    torch.manual_seed(0)
    model = Transformer(task.prompt_length + task.trace_length, width=16, layers=1, heads=2).double()
    problems, skills, rng = task.draw(40, 0), Skills(None, random.Random(0)), random.Random(0)
    tokens = ALPHABET.encode(task.write(p, skills, rng).ljust(task.trace_length) for p in problems)
    prompts = encode_prompts(task, problems)
    coefficients = torch.randn(40, dtype=torch.float64) * (torch.arange(40) % 3 > 0)
    policy.backward(model, prompts, tokens, coefficients, chunk=7)
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (-(coefficients * policy.log_probability(model, prompts, tokens)).sum()).backward()
    for one, other in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def _setting(method, **changes):
    setting = Setting(method, seed=3, prompts=8, group=2, reuse=3, steps=6, every=3, rate=1e-3)
    return dataclasses.replace(setting, **changes)


@pytest.mark.parametrize("method", ["none", "batch", "rloo", "kae", "default", "weighted"])
def test_a_stopped_run_goes_on_exactly(small, tmp_path, method):
    from pyarrow import parquet

    setting = _setting(method)
    whole = Run(setting, tmp_path / "whole", small)
    whole.carry_out()
    stopped = Run(setting, tmp_path / "stopped", small)
    training = stopped.training()
    for _ in range(4):
        training.step()
    save(training.state_dict(), stopped.state)
    stopped.carry_out()
    for one, other in ((whole.log, stopped.log), (whole.result, stopped.result)):
        assert parquet.read_table(one).equals(parquet.read_table(other))
    assert not stopped.state.exists()
    log = parquet.read_table(whole.log).to_pydict()
    assert len(log["step"]) == 6 * 8 * 2
    assert 0 < sum(log["reward"]) < len(log["reward"])
    assert parquet.read_table(whole.result)["step"].to_pylist() == [0, 3, 6]


def test_a_state_of_another_run_is_refused(small, tmp_path):
    training = Run(_setting("kae"), tmp_path, small).training()
    state = training.state_dict()
    other = Run(_setting("rloo"), tmp_path, small).training()
    with pytest.raises(ValueError, match="the state is of"):
        other.load_state_dict(state)


def test_methods_differ_only_in_what_they_subtract(small, tmp_path):
    """One seed: the first batch of every method is the same, to the last character."""
    first = {}
    for method in ("none", "rloo", "default"):
        training = Run(_setting(method), tmp_path, small).training()
        training.step()
        first[method] = {name: training.log[name][0].tolist() for name in ("prompt", "reward", "weight", "length")}
    assert first["none"] == first["rloo"] == first["default"]


@pytest.mark.parametrize("method", ["none", "batch", "rloo", "kae", "default", "weighted"])
def test_training_earns_more(small, tmp_path, method):
    setting = _setting(method, steps=40, every=40, rate=1e-2)
    training = Run(setting, tmp_path, small).training()
    while training.done < setting.steps:
        training.step()
    (_, start), (_, end) = training.evaluations
    assert start < 0.6
    assert end > start + 0.25


@pytest.mark.parametrize(("method", "baseline"), [("rloo", "rloo"), ("batch", "batch_mean"), ("default", "kernadv")])
def test_the_audit_reads_a_run(small, tmp_path, method, baseline):
    """And what it replays is what the run subtracted."""
    from pyarrow import parquet

    from kernadv.baselines import discover
    from kernadv.logs import read_log

    run = Run(_setting(method), tmp_path, small)
    run.carry_out()
    groups = read_log(run.log).groups
    log = parquet.read_table(run.log).to_pandas()
    replayed = discover()[baseline].replay(groups).total(groups)  # sorted by prompt and step
    subtracted = log.groupby(["prompt_id", "step"], observed=True)["baseline"].sum()
    assert len(replayed) == len(subtracted)
    np.testing.assert_allclose(np.sort(replayed), np.sort(subtracted.to_numpy()), atol=1e-6)


def test_a_queue_is_worked_off_once_and_makes_the_tables(small, tmp_path, monkeypatch):
    """Two seeds of two methods: run, collected, compared; a second pass over the queue runs nothing."""
    monkeypatch.setattr(study, "Run", lambda setting, folder, device: Run(setting, folder, small))
    queue = [_setting(method, seed=seed) for seed in (0, 1) for method in ("batch", "rloo")]
    queue = [dataclasses.replace(setting, group=4, prompts=4, reuse=10) for setting in queue]
    study.work(queue, tmp_path, "cpu")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert len(written) == 8
    study.work(queue, tmp_path, "cpu")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == written

    table = evaluations(tmp_path)
    assert table.height == 4 * 3
    found = policy_results.scores(table)
    one = table.filter(pl_equals(method="rloo", seed=1)).sort("step")["accuracy"].to_list()
    mine = found.filter(pl_equals(method="rloo", seed=1))
    assert mine["area"][0] == pytest.approx((one[0] / 2 + one[1] + one[2] / 2) / 2)
    assert mine["final"][0] == one[2]
    gap = policy_results.difference(*(found.filter(pl_equals(method=method)) for method in ("rloo", "batch")), "final")
    assert gap.seeds == 2
    assert gap.low <= gap.mean <= gap.high
    assert "RLOO" in policy_tables.tables(table)["chain_sum, G = 4, J = 10"]


def pl_equals(**values):
    import polars as pl

    return [pl.col(name) == value for name, value in values.items()]
