"""The exact simulator against sampling, and its study against what it claims."""

import json

import numpy as np
import polars as pl
import pytest

pytest.importorskip("rich", reason="rich is not installed")

from benchmarks.policies import study
from benchmarks.policies.methods import METHODS, Batch, tilted
from benchmarks.policies.run import Setting, train
from benchmarks.policies.study import Panel, carry_out
from benchmarks.policies.tables import chosen_rates, differences, report, stored
from benchmarks.policies.task import PRIVATE, TRAINED, Norms, Task


def policy(task, seed=0):
    logits = task.logits + np.random.default_rng(seed).normal(0.0, 0.5, task.logits.shape)
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True)


def squared_norms(task, traces):
    """Of the whole score of each trace, in the private and the shared parameters."""
    score = np.zeros((len(traces.reward), *task.logits.shape))
    np.add.at(score, (np.arange(len(traces.reward))[:, None], traces.slots), traces.error)
    shared = np.einsum("sd,nsa->nda", task.features, score)
    return PRIVATE * (score**2).sum((1, 2)) + (shared**2).sum((1, 2))


@pytest.mark.parametrize(("lengths", "per_trace"), [("longer", False), ("heavy_longer", False), ("lognormal", True)])
def test_values_and_norms_are_those_of_sampled_traces(lengths, per_trace):
    task = Task("middle", lengths, 0)
    p, repeats = policy(task), 4000
    prompts = np.array([0, 5, 9, 30])
    exact = task.norms(p, prompts, per_trace=per_trace)
    for row, prompt in enumerate(prompts):
        traces = task.sample(p, np.full(repeats, prompt), np.random.default_rng(prompt))
        w = squared_norms(task, traces) / (traces.mask.sum(1) ** 2 if per_trace else 1.0)
        right = traces.reward == 1
        assert abs(right.mean() - exact.value[row]) < 4 * np.sqrt(0.25 / repeats)
        for part, mean in ((w[right], exact.right[row]), (w[~right], exact.wrong[row])):
            assert abs(part.mean() - mean) < 4.5 * part.std() / np.sqrt(len(part))


def test_a_trace_has_the_log_probability_of_its_actions():
    task = Task("low", "lognormal", 1)
    p = policy(task)
    traces = task.sample(p, np.arange(40), np.random.default_rng(0))
    for row in range(40):
        for column in np.flatnonzero(traces.mask[row]):
            q = p[traces.slots[row, column]]
            action = (traces.error[row, column] + q).argmax()
            assert traces.log_probs[row, column] == pytest.approx(np.log(q[action]))
    assert (traces.error[~traces.mask] == 0).all()


def test_b_star_is_least_and_its_mirror_as_bad_as_none():
    norms = Norms(np.array([0.2, 0.7]), np.array([3.0, 8.0]), np.array([1.0, 2.0]))
    best = norms.second_moment(norms.optimal)
    for shift in (-0.05, 0.05):
        assert (norms.second_moment(norms.optimal + shift) > best).all()
    np.testing.assert_allclose(norms.second_moment(2 * norms.optimal), norms.second_moment(np.zeros(2)))
    np.testing.assert_allclose(tilted(norms.value, 3.0)[0], norms.optimal[0])


def test_greedy_and_entropy_of_a_policy_that_is_sure():
    task = Task("high", "longer", 0)
    p = np.full(task.logits.shape, 1e-12)
    p[:, 0] = 1.0
    assert task.greedy(p, np.arange(50)).all()
    assert task.entropy(p, np.arange(50)).max() < 1e-8


def test_runs_are_the_same_again_and_share_their_draws():
    setting = Setting("low", "plain", 1, 0.2, steps=12)
    assert train(setting) == train(setting)
    other = train(Setting("low", "none", 1, 0.05, steps=12))
    assert other["first"] == train(setting)["first"]


def test_training_learns_and_a_perfect_baseline_has_the_least_variance():
    runs = {name: train(Setting("middle", name, 0, 0.2, steps=40)) for name in ("none", "plain", "optimal")}
    assert all(run["final"] > run["first"] + 0.05 for run in runs.values())
    assert runs["optimal"]["second_moment"] == 1.0
    assert runs["plain"]["second_moment"] > 1.1


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("loss", ["sum", "trace"])
def test_every_method_makes_finite_baselines(name, loss):
    task = Task("middle", "lognormal", 0)
    p, method = policy(task), METHODS[name]
    baseline = method.make(loss)
    for step in range(1, 4):
        prompts = np.repeat(np.arange(8), 2)
        traces = task.sample(p, prompts, np.random.default_rng(step))
        norms = task.norms(p, prompts, per_trace=loss == "trace")
        found = baseline(Batch(prompts, traces.reward, traces.log_probs, traces.mask, step, 2, norms))
        assert found.shape == (traces.mask.shape if method.per_token else (16,))
        assert np.isfinite(found).all()


def test_a_stopped_study_goes_on(tmp_path):
    panel = Panel("Small", ("none", "rloo"), (0.1,), {"start": ("low",), "steps": (3,), "group": (1, 2)}, 1)
    assert {(s.method, s.group) for s in panel.settings()} == {("none", 1), ("none", 2), ("rloo", 2)}
    file = tmp_path / "runs" / "policies.jsonl"
    whole = carry_out([panel], train, file, 1)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][:20])  # the second line was being written
    again = carry_out([panel], train, file, 1)
    assert again.sort("method", "group").equals(whole.sort("method", "group"))
    assert all(json.loads(line) for line in file.read_text().splitlines())


def runs(area):
    """One cell: area(method, rate, seed)."""
    return pl.DataFrame(
        [
            {"method": m, "rate": r, "seed": s, "area": area(m, r, s)}
            for m in ("none", "plain")
            for r in (0.1, 0.2)
            for s in range(4)
        ]
    )


def test_a_rate_is_chosen_on_the_seeds_of_the_other_half():
    # the even seeds like 0.1, the odd ones 0.2: so each half gets the rate that it likes less
    table = chosen_rates(runs(lambda m, r, s: (r == 0.1) * (s % 2 == 0) + (r == 0.2) * (s % 2 == 1) + (m == "plain")))
    assert table.filter(pl.col("seed") % 2 == 0)["rate"].to_list() == [0.2] * 4
    assert table.filter(pl.col("seed") % 2 == 1)["rate"].to_list() == [0.1] * 4
    np.testing.assert_array_equal(differences(table, "plain", "none", "area"), 1.0)


def test_tables_say_what_the_rows_say(tmp_path):
    panel = Panel("Small", ("none", "plain", "optimal"), (0.1, 0.2), {"start": ("low",), "steps": (4,)}, 4)
    found = carry_out([panel], train, tmp_path / "policies.jsonl", 1)
    stored(found).write_parquet(tmp_path / "policies.parquet")
    found = pl.read_parquet(tmp_path / "policies.parquet")
    ((heading, text),) = report(found, {"small": panel})
    assert heading == "Small: start low, steps 4"
    assert "4 seeds" in text
    assert "kernadv, plain" in text


def test_panels_ask_for_no_group_that_a_method_cannot_have():
    for panel in study.PANELS.values():
        for setting in panel.settings():
            assert METHODS[setting.method].least_group <= setting.group
    assert TRAINED >= 32
