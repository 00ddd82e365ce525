"""The small study of training: its tasks, its policy, and a run of it, stopped and gone on with."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import polars as pl
import pytest

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
pytest.importorskip("torch")
pytest.importorskip("rich")
pytest.importorskip("pyarrow")
from benchmarks.policies.methods import METHODS, tilted
from benchmarks.policies.tables import stored
from benchmarks.rlvr.model import policy
from benchmarks.rlvr.model.rollouts import roll_out, uniforms
from benchmarks.rlvr.model.transformer import Transformer
from benchmarks.rlvr.model.warm_up import encode_prompts
from benchmarks.rlvr.results import audit_check, policy_tables
from benchmarks.rlvr.tasks import TASKS, Problem
from benchmarks.rlvr.tasks.alphabet import ALPHABET
from benchmarks.rlvr.tasks.chain_sum import ChainSum
from benchmarks.rlvr.tasks.lookup import TABLE, Lookup
from benchmarks.rlvr.tasks.skills import PROFILES, Skills
from benchmarks.rlvr.training import study
from benchmarks.rlvr.training.loop import Training
from benchmarks.rlvr.training.panels import METHODS as COMPARED
from benchmarks.rlvr.training.panels import PANELS, SMOKE
from benchmarks.rlvr.training.run import entropy, train, within_prompts
from benchmarks.rlvr.training.setting import Setting
from benchmarks.rlvr.training.start import Lessons, Prompts, Sizes, start

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module", params=["chain_sum", "lookup", "euclid"])
def task(request):
    if request.param == "euclid":
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: make test-reasoning-gym")
    return TASKS[request.param]()


def test_a_teacher_without_errors_is_right(task):
    problems, skills, rng = task.draw(300, 0), Skills(None, random.Random(0)), random.Random(0)
    assert len({problem.prompt for problem in problems}) == 300
    for problem in problems:
        trace = task.write(problem, skills, rng)
        assert 9 <= len(trace) <= task.trace_length
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


def test_lookups_as_written():
    task = Lookup()
    first, second = TABLE[3, 7], TABLE[TABLE[3, 7], 4]
    problem = next(problem for problem in task.draw(2000, 0) if problem.prompt == "374=")
    assert problem.answer == str(second)
    assert task.write(problem, Skills(None, random.Random(0)), random.Random(0)).startswith(f"37={first}")
    assert task.reward(problem, f"37={first}a;{first}4={second}b,#{second}.") == 1.0
    assert task.reward(problem, f"37={first}a;{first}4={second}b,#{(second + 1) % 10}.") == 0.0


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


@pytest.mark.parametrize("per_token", [False, True])
def test_backward_is_the_gradient_of_the_weighted_log_probabilities(per_token):
    """In chunks, sorted by length, without the rows of coefficient 0: the same as in one piece."""
    import torch

    task = ChainSum()
    torch.manual_seed(0)
    model = Transformer(task.prompt_length + task.trace_length, width=16, layers=1, heads=2).double()
    problems, skills, rng = task.draw(40, 0), Skills(None, random.Random(0)), random.Random(0)
    tokens = ALPHABET.encode(task.write(p, skills, rng).ljust(task.trace_length) for p in problems)
    prompts = encode_prompts(task, problems)
    coefficients = torch.randn(40, dtype=torch.float64) * (torch.arange(40) % 3 > 0)
    if per_token:
        coefficients = coefficients[:, None] * torch.randn(tokens.shape, dtype=torch.float64)
    policy.backward(model, prompts, tokens, coefficients, chunk=7)
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    of_tokens = policy.token_log_probabilities(model, prompts, tokens)
    (-(coefficients.view(40, -1) * of_tokens).sum()).backward()
    for one, other in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def _setting(method, **changes):
    setting = Setting(method, 3, 1e-3, profile="low", group=2, rollouts=16, reuse=3, steps=6)
    return dataclasses.replace(setting, **changes)


def _training(setting, folder, sizes):
    task = TASKS[setting.task]()
    return Training(setting, task, start(task, setting.profile, setting.table, folder, sizes), Prompts(task))


@pytest.mark.parametrize("method", [*COMPARED, "weighted-tokens"])
def test_a_run_is_the_same_again(small, tmp_path, method):
    setting = _setting(method, clip=0.5 if method == "plain" else 0.0)
    row = train(setting, tmp_path, small)
    assert train(setting, tmp_path, small) == row
    assert {name: row[name] for name in dataclasses.asdict(setting)} == dataclasses.asdict(setting)
    assert 0 < row["reward"] < 1
    assert row["pass4"] >= row["final"] > 0
    assert row["clipped"] == (row["norm"] > 0.5 if method == "plain" else 0.0)


def test_a_stopped_path_goes_on_exactly(small, tmp_path):
    import torch

    whole, stopped = (_training(_setting("rloo"), tmp_path, small) for _ in range(2))
    for _ in range(2):
        stopped.step()
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    gone_on = _training(_setting("rloo"), tmp_path, small)
    gone_on.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    while gone_on.done < 6:
        gone_on.step()
    while whole.done < 6:
        whole.step()
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), gone_on.model.parameters(), strict=True))
    assert whole.norms == gone_on.norms
    assert all(torch.equal(torch.cat(whole.log[name]), torch.cat(column)) for name, column in gone_on.log.items())


def test_states_that_cannot_serve_are_refused(small, tmp_path):
    state = _training(_setting("none"), tmp_path, small).state_dict()
    with pytest.raises(ValueError, match="the state is of"):
        _training(_setting("rloo"), tmp_path, small).load_state_dict(state)
    with pytest.raises(ValueError, match="memory"):
        _training(_setting("kae"), tmp_path, small).state_dict()


def test_methods_differ_only_in_what_they_subtract(small, tmp_path):
    """One seed: the first batch of every method is the same, to the last character."""
    first, baseline = {}, {}
    for method in COMPARED:
        training = _training(_setting(method), tmp_path, small)
        training.step()
        names = "prompt", "reward", "weight", "length", "surprisal"
        first[method] = {name: training.log[name][0].tolist() for name in names}
        baseline[method] = training.log["baseline"][0].numpy()
    assert all(found == first["none"] for found in first.values())
    assert (baseline["none"] == 0).all()
    for method in ("batch", "plain"):
        np.testing.assert_allclose(baseline[f"{method}-tilted"], tilted(baseline[method], 3.0))
    np.testing.assert_allclose(baseline["weighted-tilted"], tilted(baseline["weighted"], 2.0))


def test_clipping_shortens_what_is_too_long(small, tmp_path):
    import torch

    sizes = {}
    for clip in (0.0, 0.1):
        training = _training(_setting("none", clip=clip), tmp_path, small)
        training.step()
        sizes[clip] = float(torch.stack([p.grad.square().sum() for p in training.model.parameters()]).sum() ** 0.5)
        assert training.norms[0] > 0.1
    assert sizes[0.0] == pytest.approx(training.norms[0], rel=1e-5)
    assert sizes[0.1] == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("method", ["none", "rloo", "plain", "weighted"])
def test_training_earns_more(small, tmp_path, method):
    row = train(_setting(method, steps=40, rate=1e-2), tmp_path, small)
    assert row["first"] < 0.6
    assert row["final"] > row["first"] + 0.25


def test_log_probabilities_and_entropy_are_those_of_the_logits(small, tmp_path):
    task = ChainSum()
    model, problems = start(task, "low", 0, tmp_path, small), Prompts(task).train[:4]
    rollouts = roll_out(model, task, problems, uniforms(4, task.trace_length, 1))
    direct = policy.log_probability(model, rollouts.prompts, rollouts.traces.tokens).detach().numpy()
    np.testing.assert_allclose(rollouts.log_probs.sum(1), direct, rtol=1e-4)
    found = []
    for row, mask in zip(rollouts.traces.logits.double(), rollouts.traces.mask, strict=True):
        for p in row[mask].softmax(-1).numpy():
            found.append(-(p * np.log(p)).sum())
    assert entropy(rollouts) == pytest.approx(np.mean(found), rel=1e-5)


def test_k_compares_traces_of_one_prompt():
    """Wrong traces weigh 3 times as much as right ones of their prompt; prompts differ by far more, and in their value."""
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(20), 50)
    reward = (rng.random(1000) < np.linspace(0.05, 0.9, 20)[prompt]).astype(float)
    weight = 10.0 ** (prompt / 10) * np.where(reward == 1, 1.0, 3.0)
    assert within_prompts(prompt, reward, weight) == pytest.approx(3.0, rel=1e-12)
    assert np.isnan(within_prompts(prompt, np.ones(1000), weight))


@pytest.mark.parametrize(("method", "baseline"), [("rloo", "rloo"), ("batch", "batch_mean"), ("plain", "kernadv")])
def test_the_audit_replays_what_a_run_subtracted(small, tmp_path, monkeypatch, method, baseline):
    from pyarrow import parquet

    from kernadv.baselines import discover
    from kernadv.logs import read_log

    path = audit_check.with_truth(_setting(method), tmp_path, 2, small)
    groups = read_log(path, columns={"value": "value"}).groups
    log = parquet.read_table(path).to_pandas()
    replayed = discover()[baseline].replay(groups).total(groups)  # sorted by prompt and step
    subtracted = log.groupby(["prompt_id", "step"], observed=True)["baseline"].sum()
    assert len(replayed) == len(subtracted)
    np.testing.assert_allclose(np.sort(replayed), np.sort(subtracted.to_numpy()), atol=1e-6)


def test_smoke(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["study", "--smoke", "--workers", "1"])
    study.main()
    assert "## lookup, G = 1, clipped at 1\n\nV " in capsys.readouterr().out


def test_stored_runs_make_the_tables(tmp_path):
    """But none of a cell before two seeds have all their runs."""
    runs = pl.DataFrame([train(setting, tmp_path, study.SMALL) for setting in SMOKE["lookup"].settings()])
    stored(runs, Setting).write_parquet(tmp_path / "policies.parquet")
    again = pl.read_parquet(tmp_path / "policies.parquet")
    ((title, text),) = policy_tables.tables(again, SMOKE).items()
    assert title == "lookup, G = 1, clipped at 1"
    assert "2 seeds" in text
    assert METHODS["weighted"].title in text
    missing = again.filter(~((pl.col("seed") == 1) & (pl.col("method") == "none")))
    assert policy_tables.tables(missing, SMOKE) == {}


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_panels_have_methods_without_oracles_and_groups_that_they_can_have(panel):
    for setting in panel.settings():
        assert not METHODS[setting.method].oracle
        assert METHODS[setting.method].least_group <= setting.group
    assert {setting.table for setting in panel.settings()} == {0, 1, 2, 3}


def test_a_start_that_never_knew_the_task_has_no_base(tmp_path):
    sizes = Sizes(width=16, layers=1, heads=2, only=Lessons(2, 8, 1e-3))
    start(Lookup(), "low", 1, tmp_path, sizes)
    assert [path.name for path in tmp_path.iterdir()] == ["lookup-low-1.pt"]
