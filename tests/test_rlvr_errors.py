"""Value and gradient errors of the training study: the mathematics, and from a path to the tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kernadv.gradient import gradient_variance

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
pytest.importorskip("torch")
pytest.importorskip("rich")
pytest.importorskip("pyarrow")
from benchmarks.policies.methods import METHODS
from benchmarks.rlvr.banks import draw, full_gradients, gradients, tokens, values
from benchmarks.rlvr.model import policy, scoring
from benchmarks.rlvr.model.rollouts import roll_out, uniforms
from benchmarks.rlvr.results import gradient_tables, value_tables
from benchmarks.rlvr.tasks import TASKS
from benchmarks.rlvr.training.start import Prompts, start

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def scored():
    """Three prompts of 24 traces with scores in 5 dimensions, rewards, and weights."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 24, 5)) + rng.normal(size=(3, 1, 5))
    rewards = (rng.random((3, 24)) < np.array([[0.2], [0.5], [0.9]])).astype(float)
    return scores, rewards, rng


def test_errors_from_inner_products_are_those_from_the_scores(scored):
    """Also as `kernadv.gradient` has them, which reads the scores themselves."""
    scores, rewards, rng = scored
    rows = np.stack([rng.permutation(24).reshape(6, 4) for _ in range(3)], axis=1)  # (repeats, P, G)
    values = rng.random((6, 3, 4))
    total = 0.0
    for x in range(3):
        c = rewards[x][rows[:, x]] - values[:, x]
        found = gradients.second_moments(scores[x] @ scores[x].T, c, rows[:, x])
        direct = np.einsum("rg,rgd->rd", c, scores[x][rows[:, x]]) / 4
        np.testing.assert_allclose(found, (direct**2).sum(1))
        total += found.sum()
    flat = rows.transpose(1, 0, 2).reshape(3, 24)
    z = np.take_along_axis(rewards, flat, 1).ravel()
    vectors = np.take_along_axis(scores, flat[:, :, None], 1).reshape(72, 5)
    prompts = np.repeat(np.arange(3), 24)
    given = {"mine": values.transpose(1, 0, 2).ravel()}
    table = gradient_variance(vectors, z, np.repeat(np.arange(18), 4), given, prompts=prompts, draws=1)
    assert total / 18 == pytest.approx(table["mine"].second_moment.estimate)
    pairs = [gradients.squared_mean(s @ s.T, z - rewards.mean()) for s, z in zip(scores, rewards, strict=True)]
    mine = table["mine"]
    assert total / 18 - np.mean(pairs) == pytest.approx(mine.variance.estimate)


def test_the_squared_mean_has_no_noise():
    """Scores with a known mean, 6 traces: the mean over many draws is |E c s|^2, where the square of the mean is 4x that."""
    rng = np.random.default_rng(1)
    mean = np.array([0.5, -0.3, 0.2])
    draws = [gradients.squared_mean(s @ s.T, np.ones(6)) for s in mean + rng.normal(size=(4000, 6, 3))]
    error = np.std(draws, ddof=1) / 4000**0.5
    assert abs(np.mean(draws) - mean @ mean) < 4 * error
    assert error < 0.05 * (mean @ mean)


def test_the_noise_of_the_truth_is_subtracted():
    """An estimate 0.3 of values 0.2 and 0.9, truths of 5 rollouts."""
    rng = np.random.default_rng(2)
    for v in (0.2, 0.9):
        found = values.squared_error(0.3, rng.binomial(5, v, 40_000), 5)
        assert abs(found.mean() - (0.3 - v) ** 2) < 4 * found.std() / 200


def test_b_star_without_the_group(scored):
    """And the mean of both estimates of its error is nearer the best than either, over many draws."""
    _, rewards, rng = scored
    w = rng.exponential(size=(3, 24))
    rows = np.stack([np.arange(24).reshape(6, 4)] * 3, axis=1)
    found = gradients.leave_group_out(w * rewards, w, rows)
    keep = np.ones(24, bool)
    keep[4:8] = False
    expected = (w[1, keep] @ rewards[1, keep]) / w[1, keep].sum()
    assert found[1, 1, 0] == pytest.approx(expected)

    z = (rng.random((3000, 20)) < 0.5).astype(float)
    w = rng.exponential(1.0 + 3.0 * z)
    best = 2.0 - 2.0**2 / 2.5  # E w z = 2, E w = 2.5: E w (z - b*)^2 = E w z - (E w z)^2 / E w
    top, bottom = (w * z).sum(1, keepdims=True), w.sum(1, keepdims=True)
    inside, outside = ((w * (z - b) ** 2).mean() for b in (top / bottom, (top - w * z) / (bottom - w)))
    assert inside < best < outside
    assert abs((inside + outside) / 2 - best) < 0.25 * (outside - best)


def test_scores_are_those_of_the_package(small, tmp_path):
    """Of the tempered policy, too."""
    import torch

    from kernadv.scores import trace_scores

    task = TASKS["chain_sum"]()
    model = start(task, "low", 0, tmp_path, small)
    problems = Prompts(task).train[:6]
    rollouts = roll_out(model, task, problems, uniforms(6, task.trace_length, 1), 0.7)
    t = task.prompt_length

    def log_prob(call, prompt, tokens, mask):
        logits = call(torch.cat([prompt, tokens[:-1]])[None])[0, t - 1 :] / 0.7
        return (logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0] * mask).sum()

    inputs = rollouts.prompts, rollouts.traces.tokens, rollouts.traces.mask.float()
    with pytest.warns(UserWarning, match="batching rule"):
        expected = trace_scores(model, log_prob, inputs)
    found, log_probability = scoring.scores(model, *inputs[:2], 0.7, chunk=4)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4 * np.abs(expected).max())
    direct = policy.log_probability(model, *inputs[:2], 0.7)
    assert torch.allclose(log_probability, direct.detach(), atol=1e-4)


def test_second_moments_of_baselines_of_tokens(small, tmp_path):
    """One baseline a trace: its score's norm; one a token: the norm of the sum that backpropagation gives."""
    import torch

    task = TASKS["lookup"]()
    model = start(task, "middle", 0, tmp_path, small)
    rollouts = roll_out(model, task, Prompts(task).train[:4], uniforms(4, task.trace_length, 1))
    given = rollouts.prompts, rollouts.traces.tokens
    products = scoring.token_products(model, *given)
    whole, _ = scoring.scores(model, *given)
    np.testing.assert_allclose(products.sum((1, 2)), whole.square().sum(1), rtol=1e-3)
    baseline = np.random.default_rng(0).uniform(size=given[1].shape)
    found = tokens.second_moment(rollouts.rewards, baseline, products)
    of_traces = tokens.second_moment(rollouts.rewards, baseline[:, 0], products)
    np.testing.assert_allclose(of_traces, (rollouts.rewards - baseline[:, 0]) ** 2 * products.sum((1, 2)), rtol=1e-4)
    for row in range(4):
        model.zero_grad()
        one = slice(row, row + 1)
        advantage = torch.as_tensor(rollouts.rewards[row] - baseline[one], dtype=torch.float32)
        policy.backward(model, given[0][one], given[1][one], advantage)
        direct = sum(float(p.grad.square().sum()) for p in model.parameters())
        assert found[row] == pytest.approx(direct, rel=1e-3)


def test_a_study_of_tokens_makes_its_table(small, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "TRACES", 3)
    rows = tokens.study(tmp_path, small, seeds=1, steps=(2, 4), prompts=8)
    table = tokens.table(rows)
    assert table.count("+0.0 (+0.0 to +0.0)") == 2  # the reference; the untaught look-ups are never right
    assert METHODS["weighted-tokens"].title in table


def test_from_paths_to_tables(small, tmp_path, monkeypatch):
    """Two short paths; stopped behind its first bank, which has no history, a path goes on to the same second one."""
    import torch

    monkeypatch.setattr(draw, "SCORED", 16)
    monkeypatch.setattr(draw, "PART", 4)
    monkeypatch.setattr(draw, "OFFLINE_ROLLOUTS", 1)
    queue = [
        dataclasses.replace(plan, setting=dataclasses.replace(plan.setting, rollouts=32, steps=12), checkpoints=(1, 12))
        for plan in draw.plans()
        if plan.setting.seed == 0 and plan.setting.profile == "low" and plan.setting.steps > 1
    ]
    for plan in queue:
        draw.collect(dataclasses.replace(plan, checkpoints=(1,)), tmp_path, small)
        draw.collect(plan, tmp_path, small)
    again = tmp_path / "again"
    again.mkdir()
    for path in tmp_path.glob("chain_sum-*-?.pt"):
        (again / path.name).write_bytes(path.read_bytes())
    (again / "chain_sum-base.pt").write_bytes((tmp_path / "chain_sum-base.pt").read_bytes())
    draw.collect(queue[0], again, small)
    gram = [torch.load(queue[0].bank(folder, 12), weights_only=True)["gram"] for folder in (tmp_path, again)]
    assert torch.equal(*gram)

    for module in (values, gradients, full_gradients):
        monkeypatch.setattr(module, "plans", lambda: iter(queue))
        monkeypatch.setattr("sys.argv", [module.__name__, "--banks", str(tmp_path), "--results", str(tmp_path)])
        module.main()
    made = value_tables.tables(tmp_path) | gradient_tables.tables(tmp_path)
    assert {"Blocks", "Epochs", "All baselines", "The rule"} <= set(made)
    assert "nan" not in made["All baselines"]
