"""The audit: its identities exactly, its estimates against known truth, its errors."""

import json
import math
from importlib import resources

import numpy as np
import pytest

from kernadv import KernadvError, Relative, Steps
from kernadv.audit import audit, further_baselines
from kernadv.audit.description import between, drift, gaps
from kernadv.baselines import discover, discover_tuned
from kernadv.baselines.constant import Zero
from kernadv.groups import Groups, aggregate
from kernadv.report._wording import remarks
from kernadv.resampling import bootstrap_ratios

GRID = [Relative(0.3), Steps(8)]


def simulate(seed, *, prompts=60, steps=40, batch=20, sizes=(4,)):
    """Groups of a run whose true values drift, and the true value of each."""
    rng = np.random.default_rng(seed)
    level, slope = rng.normal(size=prompts) * 1.5, rng.normal(size=prompts) * 0.05
    rows, truth = [], []
    for step in range(1, steps + 1):
        for x in rng.choice(prompts, batch, replace=False):
            v = 1 / (1 + math.exp(-(level[x] + slope[x] * step)))
            n = int(rng.choice(sizes))
            s = rng.binomial(n, v)
            rows.append((x, step, n, s, s))
            truth.append((x, step, v))
    prompt, step, n, s, ss = (np.array(column) for column in zip(*rows, strict=True))
    groups = aggregate(prompt, step, n, s.astype(float), ss.astype(float))
    order = sorted(truth)
    return groups, np.array([v for _, _, v in order])


def test_closed_forms():
    """RLOO: E s^2 / (G - 1).  Group mean with the own reward: E s^2 / G.  Both exactly, on any log of equal groups."""
    groups, _ = simulate(0)
    found = audit(groups, bandwidths=GRID, draws=50)
    assert found.noise == pytest.approx(groups.noise.mean(), rel=1e-12)
    assert found.finding("rloo").mse.estimate == pytest.approx(found.noise / 3, rel=1e-9)
    assert found.finding("group_mean").mse.estimate == pytest.approx(found.noise / 4, rel=1e-9)
    assert found.finding("group_mean").worth == pytest.approx(5)
    assert found.finding("rloo").vs_rloo == (0, 0, 0)
    assert found.finding("batch_mean").vs_batch == (0, 0, 0)
    kae = found.finding("kae h=0.3")
    ratio = (found.noise + kae.mse.estimate) / (found.noise + found.finding("rloo").mse.estimate)
    assert kae.gradient_ratio.estimate == pytest.approx(ratio)
    assert kae.vs_rloo.estimate == pytest.approx(1 - kae.mse.estimate / found.finding("rloo").mse.estimate)


@pytest.mark.parametrize("sizes", [(4,), (2,), (2, 3, 8), (1, 4)])
def test_truth_free_error_is_unbiased(sizes):
    """Mean over many runs of estimate minus truth is 0 within 4 standard errors, for every baseline."""
    differences = []
    for seed in range(60):
        groups, value = simulate(seed, sizes=sizes)
        found = audit(groups, value=value, bandwidths=GRID, draws=2)
        differences.append([finding.mse.estimate - finding.true_mse for finding in found.findings])
    mean, error = np.mean(differences, 0), np.std(differences, 0, ddof=1) / math.sqrt(len(differences))
    assert (np.abs(mean) <= 4 * error + 1e-12).all(), dict(
        zip([s.name for s in found.findings], mean / error, strict=True)
    )


def replayable():
    """The names of the baselines that need nothing beside the groups."""
    return [
        name
        for name, baseline in {**discover(), **discover_tuned()}.items()
        if not (baseline.needs_truth or baseline.offline_rollouts or baseline.needs_weights or baseline.needs_traces)
    ]


@pytest.mark.parametrize("sizes", [(4,), (2, 3, 8)])
def test_further_baselines_are_unbiased_and_change_nothing_else(sizes):
    differences = []
    for seed in range(30):
        groups, value = simulate(seed, prompts=30, steps=20, batch=12, sizes=sizes)
        plain = audit(groups, value=value, bandwidths=GRID, draws=2)
        found = audit(groups, value=value, bandwidths=GRID, draws=2, baselines=[*replayable(), "rloo", Zero()])
        assert {finding.name for finding in found.findings} == {
            *replayable(),
            *(finding.name for finding in plain.findings),
        }
        assert len(found.findings) == len({finding.name for finding in found.findings})
        for finding in plain.findings:
            assert found.finding(finding.name).mse == pytest.approx(finding.mse, rel=1e-12, nan_ok=True)
        assert (found.best, found.as_good, found.at_edge) == (plain.best, plain.as_good, plain.at_edge)
        differences.append([finding.mse.estimate - finding.true_mse for finding in found.findings])
    mean, error = np.mean(differences, 0), np.std(differences, 0, ddof=1) / math.sqrt(len(differences))
    assert (np.abs(mean) <= 4 * error + 1e-12).all()


def test_further_baselines_of_single_traces():
    groups, value = simulate(3, sizes=(1,))
    known = {**discover(), **discover_tuned()}
    given = [name for name in replayable() if known[name].min_group == 1 and not known[name].uses_own_reward]
    found = audit(groups, value=value, draws=2, baselines=given)
    assert np.isfinite([finding.excess.estimate for finding in found.findings]).all()


@pytest.mark.parametrize(
    ("sizes", "given", "message"),
    [
        ((4,), ["nothing"], "unknown baseline 'nothing'; known: asymre, .*zero"),
        ((4,), ["oracle"], "cannot replay oracle: it needs the true values"),
        ((4,), ["spo"], "cannot replay spo: it needs 8 rollouts of every prompt from before training"),
        ((4,), ["opo"], "cannot replay opo: it needs a weight for each single trace"),
        ((4,), ["qae_loo tuned"], "it needs the single traces in the order they were sampled"),
        ((4,), "dbb", r"baselines must be a list such as .*, got 'dbb'"),
        ((4,), [Zero], "baselines must be a list such as"),
        ((1,), ["rloo"], "rloo needs groups of 2 traces or more, the smallest of this log has 1"),
        ((1,), ["dbb"], "dbb holds the own reward: .* take the form without it"),
    ],
)
def test_baselines_that_cannot_be_audited(sizes, given, message):
    groups, _ = simulate(0, sizes=sizes)
    with pytest.raises(KernadvError, match=message):
        audit(groups, draws=2, baselines=given)


def test_unknown_names_list_those_that_can_be_audited():
    with pytest.raises(KernadvError, match="unknown baseline") as caught:
        further_baselines(["nothing"])
    assert str(caught.value).partition("known: ")[2].split(", ") == sorted(replayable())


def test_one_trace_a_group_identifies_differences_only():
    groups, value = simulate(3, prompts=200, steps=60, batch=100, sizes=(1,))
    found = audit(groups, value=value, bandwidths=GRID, draws=400)
    assert found.noise is None
    assert found.between is None
    assert found.uniform_groups is None
    assert {finding.name for finding in found.findings} == {"zero", "batch_mean", "kernadv", "kae h=0.3", "kae w=8"}
    batch = found.finding("batch_mean").true_mse
    for finding in found.findings:
        assert finding.mse is None
        assert finding.vs_rloo is None
        assert finding.worth is None
        assert finding.excess.low - 1e-12 <= finding.true_mse - batch <= finding.excess.high + 1e-12
    assert "only differences between baselines are identified" in found.notes[0]
    assert "the error itself needs 2 traces a prompt" in found.verdict


def test_interval_covers():
    """95% intervals hold the expected error (RLOO, group mean) or, for KAE, the realised one: 4 SE of 80 runs below 95%."""
    hits = []
    for seed in range(80):
        groups, value = simulate(seed, prompts=80, steps=30, batch=40)
        found = audit(groups, value=value, bandwidths=[Steps(8)], draws=200, seed=seed)
        noise = (value * (1 - value)).mean()
        target = {s.name: s.true_mse for s in found.findings} | {"rloo": noise / 3, "group_mean": noise / 4}
        hits.append([s.mse.low <= target[s.name] <= s.mse.high for s in found.findings if s.name != "zero"])
    assert (np.mean(hits, 0) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 80)).all()


def test_bootstrap_of_a_mean_has_its_standard_error():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    draws = bootstrap_ratios(np.arange(20_000), x, np.ones(20_000), 400, 0)
    np.testing.assert_allclose(draws.std(0), x.std(0) / math.sqrt(20_000), rtol=0.15)
    np.testing.assert_allclose(draws.mean(0), x.mean(0), atol=4 * draws.std(0).max() / 20)


def test_rows_of_a_prompt_are_drawn_together():
    prompt = np.repeat(np.arange(50), 40)
    x = np.repeat(np.random.default_rng(1).normal(size=50), 40)[:, None]
    draws = bootstrap_ratios(prompt, x, np.ones(2000), 800, 0)
    assert draws.std() == pytest.approx(x[::40].std() / math.sqrt(50), rel=0.15)


def test_spread_of_the_values():
    values = []
    for seed in range(30):
        groups, truth = simulate(seed, sizes=(2, 5))
        within = np.mean([truth[groups.step == i].var(ddof=1) for i in np.unique(groups.step)])
        values.append(between(groups) - within)
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(30)


def test_gaps_and_drift_by_hand():
    prompt, step = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 9, 4, 7, 3])
    groups = Groups(prompt, step, np.full(6, 2), np.array([0.0, 1, 2, 1, 1, 2]), np.array([0.0, 1, 2, 1, 1, 2]))
    assert gaps(groups) == [
        {"low": 1, "high": 1, "count": 1},
        {"low": 2, "high": 3, "count": 1},
        {"low": 4, "high": 7, "count": 1},
    ]
    assert [(d["step"], d["mean"]) for d in drift(groups)] == [(1, 0), (2, 0.5), (3, 1), (4, 0.5), (7, 0.5), (9, 1)]
    assert len(drift(groups, bins=2)) == 2


def test_strata_add_up():
    groups, _ = simulate(5)
    found = audit(groups, bandwidths=GRID, draws=10)
    assert sum(stratum["rows"] for stratum in found.strata) == found.compared_rows
    for stratum in found.strata:
        assert stratum["best"] == min(("kae h=0.3", "kae w=8"), key=stratum["mse"].get)
    for finding in found.findings:
        total = sum(stratum["rows"] * stratum["mse"][finding.name] for stratum in found.strata)
        assert total / found.compared_rows == pytest.approx(finding.mse.estimate, rel=1e-9)


def test_best_is_the_smallest_and_an_edge_is_flagged():
    groups, _ = simulate(6)
    found = audit(groups, bandwidths=[Steps(1.5), Steps(2), Steps(3)], draws=50)
    errors = {finding.name: finding.mse.estimate for finding in found.findings if finding.clock}
    assert found.best == min(errors, key=errors.get) == "kae w=3"
    assert found.at_edge
    assert found.best in found.as_good


def test_same_seed_same_numbers_and_plain_json():
    groups, value = simulate(7)
    one, two = (audit(groups, value=value, bandwidths=GRID, draws=20, seed=4).to_dict() for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two)


def test_progress_reaches_the_end():
    groups, _ = simulate(8)
    seen = []
    audit(groups, bandwidths=GRID, draws=5, progress=lambda share, what: seen.append((share, what)))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_rewards_other_than_zero_and_one():
    rng = np.random.default_rng(9)
    prompt, step = np.repeat(np.arange(40), 60), np.tile(np.repeat(np.arange(1, 16), 4), 40)
    truth = rng.normal(size=40) * 3 - 20
    z = truth[prompt] + rng.normal(size=len(prompt))
    groups = aggregate(prompt, step, np.ones(len(z), int), z, z * z)
    found = audit(groups, value=truth[groups.prompt], bandwidths=[Steps(math.inf)], draws=100)
    assert found.noise == pytest.approx(1.0, rel=0.1)
    assert (
        found.finding("kae w=inf").mse.low <= found.finding("kae w=inf").true_mse <= found.finding("kae w=inf").mse.high
    )
    assert len(found.strata) == 5


def test_one_visit_per_prompt_says_what_that_means():
    groups = Groups(np.arange(5), np.arange(1, 6), np.full(5, 4), np.ones(5), np.ones(5))
    with pytest.raises(KernadvError, match=r"each of the 5 prompts was visited at one step only.*prompt column is not"):
        audit(groups)


def test_empty_log():
    with pytest.raises(KernadvError, match="the log is empty"):
        audit(aggregate(*[np.empty(0, np.int64)] * 3, np.empty(0), np.empty(0)))


def test_no_step_with_two_traces():
    groups = Groups(np.array([0, 0]), np.array([1, 2]), np.array([1, 1]), np.ones(2), np.ones(2))
    with pytest.raises(KernadvError, match="no step of the log has two traces"):
        audit(groups)


def test_shipped_log_agrees_with_its_truth():
    """The log that ships has exact values: every truth-free error agrees with the true one within its interval."""
    logs = pytest.importorskip("kernadv.logs")
    with resources.as_file(resources.files("kernadv") / "data" / "tiny_rlvr.parquet") as path:
        log = logs.read_log(path, columns={"value": "value"})
    found = audit(log.groups, value=log.value)
    for finding in found.findings:
        assert finding.mse.low <= finding.true_mse <= finding.mse.high, finding.title
    assert found.finding("kae h=0.5").vs_rloo.low > 0.5
    assert found.finding("kae h=0.5").vs_batch.low > 0.5


def test_real_log_of_counts(shared_data):
    """A real GRPO run (One-Shot-RLVR, 605 prompts): values at least as good as RLOO, and Var V / E V(1-V) about 1.4."""
    logs = pytest.importorskip("kernadv.logs")
    log = logs.read_log(
        shared_data / "one_shot_rlvr" / "rewards.parquet",
        columns={"step": "visit", "prompt": "prompt_id"},
        counts=("n_correct", "n_traces"),
    )
    found = audit(log.groups, draws=200)
    assert found.between / found.noise == pytest.approx(1.4, abs=0.05)
    assert found.finding("kae h=0.5").vs_rloo.low > 0.7


def test_rewards_that_are_all_equal():
    """No warning, no infinity: nothing can be told apart, and the verdict says so."""
    groups, _ = simulate(10)
    equal = groups._replace(s=groups.n.astype(float), ss=groups.n.astype(float))
    found = audit(equal, bandwidths=GRID, draws=20)
    assert found.noise == 0
    assert found.finding("kae h=0.3").vs_rloo is None
    assert found.finding("kae h=0.3").worth is None
    assert "are all equal" in found.verdict
    assert remarks(found) == []
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_rewards_of_few_prompts_that_are_all_equal():
    groups, _ = simulate(10, prompts=3, batch=3)
    found = audit(groups._replace(s=0.5 * groups.n, ss=0.25 * groups.n), bandwidths=GRID, draws=20)
    assert "are all equal" in found.verdict
    assert remarks(found) == []


def test_few_prompts_are_noted():
    groups, _ = simulate(11, prompts=8, batch=5)
    assert any("8 prompts are few" in note for note in audit(groups, bandwidths=GRID, draws=20).notes)


def test_group_mean_has_no_gradient_ratio():
    groups, _ = simulate(12)
    found = audit(groups, bandwidths=GRID, draws=20)
    assert found.finding("group_mean").gradient_ratio is None
    assert found.finding("rloo").gradient_ratio == (1, 1, 1)


def test_verdict_says_when_the_batch_mean_is_better():
    rng = np.random.default_rng(13)
    prompt, step = np.repeat(np.arange(200), 8), np.tile(np.arange(1, 9), 200)
    s = rng.binomial(2, 0.5, len(step)).astype(float)
    found = audit(Groups(prompt, step, np.full(len(step), 2), s, s), bandwidths=[Steps(3)], draws=200)
    assert found.verdict.endswith("The batch mean has a smaller error still.")


@pytest.mark.parametrize("clock", ["relative", "steps", "visits"])
def test_default_grid_has_every_clock(clock):
    groups, _ = simulate(14)
    widths = [finding.bandwidth for finding in audit(groups, draws=2).findings if finding.clock == clock]
    assert len(widths) >= 4
    assert widths == sorted(widths)


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_nearly_uniform_log_is_not_called_uniform(scale):
    """5 of 500 prompts have unequal rewards: some draws have none of them, and the verdict says what that means."""
    rng = np.random.default_rng(0)
    prompt, step = np.repeat(np.arange(500), 40), np.tile(np.repeat(np.arange(1, 11), 4), 500)
    z = scale * np.where(prompt < 5, rng.random(prompt.size) < 0.5, prompt % 2)
    found = audit(aggregate(prompt, step, np.ones(prompt.size, int), z, z * z), bandwidths=GRID, draws=300)
    assert found.noise > 0
    assert "all equal" not in found.verdict
    assert found.finding("kae h=0.3").vs_rloo.estimate > 0


@pytest.mark.parametrize("prompts", [1, 3])
def test_no_interval_from_a_handful_of_prompts(prompts):
    groups, _ = simulate(15, prompts=prompts, batch=prompts)
    found = audit(groups, bandwidths=GRID, draws=20)
    assert math.isnan(found.finding("rloo").mse.low)
    assert "take it as a hint" in found.verdict
    assert any("there are no intervals" in note for note in found.notes)


def test_offset_that_costs_digits_is_noted():
    rng = np.random.default_rng(16)
    prompt, step = np.repeat(np.arange(30), 40), np.tile(np.repeat(np.arange(1, 11), 4), 30)
    for offset, noted in ((1e3, False), (1e8, True)):
        z = offset + rng.random(prompt.size)
        found = audit(aggregate(prompt, step, np.ones(prompt.size, int), z, z * z), bandwidths=GRID, draws=20)
        assert any("digits are lost" in note for note in found.notes) == noted
