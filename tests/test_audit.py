"""The audit: its identities exactly, its estimates against known truth, its errors."""

import json
import math
import sys
from decimal import Decimal
from importlib import resources
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import beta

from kernadv import KernadvError, Relative, Steps
from kernadv._errors import ArgumentError, LogError
from kernadv.auditing import Interval, audit, further_baselines
from kernadv.auditing.description import drift, gaps, spread
from kernadv.baselines import Offline, discover, discover_tuned
from kernadv.baselines.constant import Zero
from kernadv.groups import Groups, aggregate
from kernadv.report._wording import numbers, remarks
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


def traces_of(seed, *, prompts=24, steps=15, batch=12, size=4):
    """Arrays of a run with weights unrelated to the rewards, its true values, and offline rollouts."""
    rng = np.random.default_rng(seed)
    level, slope = rng.uniform(0.15, 0.6, prompts), rng.uniform(0, 0.02, prompts)
    step = np.repeat(np.arange(1, steps + 1), batch * size)
    drawn = [x for _ in range(steps) for x in rng.choice(prompts, batch, replace=False)]
    prompt = np.repeat(drawn, size)
    z = (rng.random(len(step)) < level[prompt] + slope[prompt] * step).astype(float)
    given = {"prompt_ids": prompt, "rewards": z, "step": step, "weights": rng.integers(20, 400, len(z))}
    names = np.array(list(dict.fromkeys(drawn)))  # rows of the log are numbered in their order of appearance
    at = sorted({(int(np.flatnonzero(names == x)[0]), i, x) for x, i in zip(prompt, step, strict=True)})
    value = np.array([level[x] + slope[x] * i for _, i, x in at])
    return given, value, Offline({x: float(rng.binomial(8, level[x])) for x in range(prompts)}, 8)


#: Baselines that hold the own reward in a way that cannot be corrected.
OTHERWISE = ("basis", "basis_smooth", "v05_fuse", "qae", "mc_grpo")


def test_baselines_that_need_more_than_sums_are_unbiased():
    """Traces, weights and offline rollouts: the mean of estimate minus truth is 0 within 4 standard errors."""
    known = {**discover(), **discover_tuned()}
    names = [name for name in known if name not in replayable() and name not in OTHERWISE]
    assert len(names) > 20
    differences = []
    for seed in range(40):
        given, value, offline = traces_of(seed)
        found = audit(**given, value=value, offline=offline, baselines=names, bandwidths=[], draws=2)
        differences.append([found.finding(name).mse.estimate - found.finding(name).true_mse for name in names])
        assert found.finding("oracle").true_mse == 0
    mean, error = np.mean(differences, 0), np.std(differences, 0, ddof=1) / math.sqrt(len(differences))
    assert (np.abs(mean) <= 4 * error + 1e-12).all(), dict(zip(names, mean / error, strict=True))


@pytest.mark.parametrize("name", OTHERWISE)
def test_own_rewards_that_cannot_be_corrected_are_refused(name):
    given, _, offline = traces_of(0)
    with pytest.raises(KernadvError, match=f"cannot replay {name}: it holds the own reward, and not as a weight"):
        audit(**given, offline=offline, baselines=[name], bandwidths=[], draws=2)


def test_weighted_means_by_hand():
    given, _, _ = traces_of(1)
    found = audit(**given, baselines=["opo_loo", "qae_loo"], bandwidths=[], draws=2)
    prompt, z, step, weight = given.values()
    squares, noise = [], []
    for x, i in sorted(set(zip(prompt, step, strict=True))):
        own = (prompt == x) & (step == i)
        mine, w = z[own], weight[own]
        others = ~np.eye(len(mine), dtype=bool)
        squares += [(z_ - np.average(mine[rest], weights=w[rest])) ** 2 for z_, rest in zip(mine, others, strict=True)]
        noise += [mine.var(ddof=1)] * len(mine)
    assert found.finding("opo_loo").mse.estimate == pytest.approx(np.mean(squares) - np.mean(noise))
    without = audit(**{**given, "weights": None}, bandwidths=[], draws=2)
    for finding in without.findings:
        assert found.finding(finding.name) == finding


def test_traces_of_a_log_and_of_arrays(tmp_path):
    polars, logs = pytest.importorskip("polars"), pytest.importorskip("kernadv.logs")
    given, _, _ = traces_of(2)
    names = ["opo", "krpo_paper", "reinforce_pp_baseline", "qae_loo tuned"]
    expected = audit(**given, baselines=names, bandwidths=[], draws=2)
    columns = {"prompt_ids": "prompt", "rewards": "reward", "step": "step", "weights": "tokens"}
    path = tmp_path / "log.csv"
    polars.DataFrame({columns[name]: array for name, array in given.items()}).write_csv(path)
    log = logs.read_log(path, columns={"weight": "tokens"})
    assert audit(log, baselines=names, bandwidths=[], draws=2).findings == expected.findings
    frame = polars.read_csv(path)
    by_frame = audit(frame, baselines=["krpo_paper"], bandwidths=[], draws=2)
    assert by_frame.finding("krpo_paper") == expected.finding("krpo_paper")
    for plain in (logs.read_log(path), frame, log.groups):
        with pytest.raises(KernadvError, match=r"cannot replay opo: it needs .*a weight a trace"):
            audit(plain, baselines=["opo"], bandwidths=[], draws=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1.0]}, "audit takes arrays of one number a trace"),
        ({"weights": np.zeros(720)}, "the arrays, row 1: column 'weight' must hold a positive weight"),
        ({"prompt_ids": None}, "got rewards and step"),
        ({"offline": {}}, r"offline rollouts must be given as Offline\(total, rollouts\)"),
        ({"offline": Offline({1: 2.0}, 8), "baselines": ["pvpo"]}, "has no offline rollouts; every prompt of the run"),
        ({"offline": Offline({1: 2.0}, 0), "baselines": ["pvpo"]}, "Offline.rollouts must be a whole number >= 1"),
    ],
)
def test_bad_traces(change, message):
    given, _, _ = traces_of(3)
    with pytest.raises(KernadvError, match=message):
        audit(**{**given, **change}, bandwidths=[], draws=2)


def test_weights_without_their_traces():
    with pytest.raises(
        KernadvError, match="weights belong to prompt_ids, rewards and step; of a log name their column"
    ):
        audit(simulate(0)[0], weights=np.ones(4))


def test_further_baselines_of_single_traces():
    groups, value = simulate(3, sizes=(1,))
    known = {**discover(), **discover_tuned()}
    given = [name for name in replayable() if known[name].min_group == 1 and not known[name].uses_own_reward]
    found = audit(groups, value=value, draws=2, baselines=given)
    assert np.isfinite([finding.excess.estimate for finding in found.findings]).all()


@pytest.mark.parametrize(
    ("sizes", "given", "message"),
    [
        ((4,), ["nothing"], "unknown baseline 'nothing'; known: a_star, .*zero"),
        ((4,), ["oracle"], r"cannot replay oracle: it needs the true values \(--map value=COLUMN; in Python value=\)"),
        ((4,), ["spo"], r"spo: it needs 8 rollouts of every prompt from before .*offline=Offline\(total, 8\)"),
        ((4,), ["opo"], "opo: it needs single traces .*; and a weight a trace, e.g. its response length"),
        ((4,), ["qae_loo tuned"], "single traces in the order they were sampled, where this log has counts and sums"),
        ((4,), ["basis"], "basis: it needs 8 rollouts"),
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


def test_unknown_names_list_all():
    with pytest.raises(KernadvError, match="unknown baseline") as caught:
        further_baselines(["nothing"])
    assert str(caught.value).partition("known: ")[2].split(", ") == sorted({**discover(), **discover_tuned()})


def test_one_trace_a_group_identifies_differences_only():
    groups, value = simulate(3, prompts=200, steps=60, batch=100, sizes=(1,))
    found = audit(groups, value=value, bandwidths=GRID, draws=400)
    assert found.noise is None
    assert found.between is None
    assert found.dead is None
    assert found.gradient_floor is None
    assert found.other_sizes == []
    assert {finding.name for finding in found.findings} == {"zero", "batch_mean", "kernadv", "kae h=0.3", "kae w=8"}
    batch = found.finding("batch_mean").true_mse
    for finding in found.findings:
        assert finding.mse is None
        assert finding.vs_rloo is None
        assert finding.worth is None
        assert finding.excess.low - 1e-12 <= finding.true_mse - batch <= finding.excess.high + 1e-12
    assert "only differences between baselines are identified" in found.notes[0]
    assert "gradient variance" in found.verdict
    assert "the batch mean's" in found.verdict


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
        values.append(spread(groups)[0].mean() - within)
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(30)


def test_interval_of_the_spread_is_as_wide_as_its_estimates_scatter():
    found = [audit(simulate(seed, prompts=40, steps=20)[0], bandwidths=[], draws=200).between for seed in range(60)]
    scatter = np.std([between.estimate for between in found], ddof=1)
    assert np.mean([between.high - between.low for between in found]) / 3.92 == pytest.approx(scatter, rel=0.3)


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
    assert found.findings[0].name == "kernadv"
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
    assert found.between.estimate / found.noise == pytest.approx(1.4, abs=0.05)
    assert found.failed() == []
    assert found.dead.share == pytest.approx(0.49, abs=0.01)  # counted by hand in the counts
    assert found.finding("kae h=0.5").vs_rloo.low > 0.7


@pytest.mark.parametrize("prompts", [60, 3])
@pytest.mark.parametrize(("reward", "said"), [(0.0, "below"), (1.0, "above"), (0.5, None)])
def test_a_log_without_a_signal(prompts, reward, said):
    """No warning, no infinity, no star: nothing can be told apart, and the verdict says what is known all the same."""
    groups, _ = simulate(10, prompts=prompts, batch=min(prompts, 20))
    found = audit(groups._replace(s=reward * groups.n, ss=reward**2 * groups.n), bandwidths=GRID, draws=20)
    assert found.noise == 0
    assert (found.best, found.as_good, found.at_edge) == (None, [], False)
    assert found.finding("kae h=0.3").vs_rloo is None
    assert found.finding("kae h=0.3").worth is None
    assert "No group has a signal" in found.verdict
    assert found.dead.share == 1
    assert remarks(found) == []
    assert json.dumps(found.to_dict(), allow_nan=False)
    if said is None:
        assert found.bound is None
    else:
        fewest = np.bincount(groups.prompt, groups.n).min()
        clopper_pearson = beta.ppf(1 - 0.05 / prompts, 1, fewest)
        assert found.bound == pytest.approx(clopper_pearson)
        end = clopper_pearson if said == "below" else 1 - clopper_pearson
        assert f"is {said} {end:.1%}" in found.verdict or f"is {said} {end:.0%}" in found.verdict


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
    assert "have an error that cannot be told" not in found.verdict


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
    assert "No group has a signal" not in found.verdict
    assert found.finding("kae h=0.3").vs_rloo.estimate > 0


@pytest.mark.parametrize("prompts", [1, 3])
def test_no_interval_from_a_handful_of_prompts(prompts):
    groups, _ = simulate(15, prompts=prompts, batch=prompts)
    found = audit(groups, bandwidths=GRID, draws=20)
    assert math.isnan(found.finding("rloo").mse.low)
    assert "too few prompts" in found.verdict
    assert any("there are no intervals" in note for note in found.notes)
    assert found.as_good == []
    assert "[-" not in found.table()
    assert ("one prompt is few" if prompts == 1 else "3 prompts are few") in found.table()


def test_offset_that_costs_digits_is_noted():
    rng = np.random.default_rng(16)
    prompt, step = np.repeat(np.arange(30), 40), np.tile(np.repeat(np.arange(1, 11), 4), 30)
    for offset, noted in ((1e3, False), (1e8, True)):
        z = offset + rng.random(prompt.size)
        found = audit(aggregate(prompt, step, np.ones(prompt.size, int), z, z * z), bandwidths=GRID, draws=20)
        assert [check.name for check in found.failed()] == ["enough digits"] * noted


def one_pass(seed, prompts=800, batch=20, size=4):
    """A run in which no prompt comes back, and the true values."""
    value = np.random.default_rng(seed).beta(2, 2, prompts)
    s = np.random.default_rng([seed, 1]).binomial(size, value).astype(float)
    step = np.arange(prompts) // batch + 1
    return Groups(np.arange(prompts), step, np.full(prompts, size), s, s), value


def test_one_pass_has_no_grid_and_the_default_halves_the_error():
    groups, value = one_pass(0)
    found = audit(groups, value=value, draws=100)
    assert [finding.name for finding in found.findings] == ["kernadv", "rloo", "group_mean", "batch_mean", "zero"]
    assert (found.best, found.gaps, found.median_gap, found.strata) == (None, [], None, [])
    default = found.finding("kernadv")
    assert default.mse.low <= default.true_mse <= default.mse.high
    assert default.vs_rloo.low > 0.5
    assert found.advised == "kernadv"
    assert "No prompt comes back" in found.table()


def test_one_step_has_no_time():
    groups, value = one_pass(1, prompts=400, batch=400)
    found = audit(groups, value=value, draws=50)
    assert found.steps == 1
    assert found.finding("kernadv").vs_rloo.low > 0.3
    assert "The log has one step" in found.table()
    assert [plot.get_xlabel() for plot in found.plot().axes] == [
        "value MSE, from the true values\nCheck against the truth"
    ]


def test_a_window_without_a_past_is_left_out_and_never_the_best():
    """Every prompt comes back after 100 steps or so: narrower windows are the leave-one-out means, or the batch mean."""
    for size in (1, 4):
        rng = np.random.default_rng(2)
        prompt, step = np.repeat(np.arange(60), 4), np.tile([1, 101, 201, 302], 60)
        s = rng.binomial(size, 0.5, 240).astype(float)
        widths = [Steps(50), Steps(100), Steps(150), Relative(0.3)]
        found = audit(Groups(prompt, step, np.full(240, size), s, s), bandwidths=widths, draws=20)
        assert [finding.name for finding in found.findings if finding.clock] == ["kae w=150"]
        assert found.best == "kae w=150"
        assert any("reach no past reward, left out: w=50, w=100, h=0.3" in note for note in found.notes)
        assert found.median_gap == 100
        assert "after 100 steps (median)" in " ".join(found.table().split())


def test_one_prompt_that_comes_back_shows_nothing_about_how_values_move():
    groups, _ = one_pass(3)
    s = np.append(groups.s, 2.0)
    again = Groups(np.append(groups.prompt, 799), np.append(groups.step, 50), np.append(groups.n, 4), s, s)
    found = audit(again, draws=100)
    assert not found.at_edge
    assert "hardly moved" not in found.table()
    assert (
        "hardly moved" in audit(simulate(20, prompts=30, steps=40)[0], bandwidths=[Steps(2), Steps(math.inf)]).table()
    )


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (2.0, 2.5)])
def test_dead_groups_by_hand(ends):
    low, high = ends
    z = np.array([[low, low], [high, high], [high, high], [low, high], [high, low]])
    groups = Groups(np.arange(5), np.ones(5, int), np.full(5, 2), z.sum(1), (z**2).sum(1))
    dead = audit(groups, draws=2).dead
    assert dead[:3] == pytest.approx((0.6, 0.2, 0.4))
    assert dead.values == pytest.approx(ends)


def test_dead_groups_of_other_rewards_are_not_split():
    z = np.array([[0.1, 0.1], [0.2, 0.9], [0.5, 0.3]])
    groups = Groups(np.arange(3), np.ones(3, int), np.full(3, 2), z.sum(1), (z**2).sum(1))
    assert audit(groups, draws=2).dead == (1 / 3, None, None, None)


@pytest.mark.parametrize("size", [2, 3, 7, 50])
def test_equal_rewards_of_any_size_are_dead_groups_and_unequal_ones_are_not(size):
    """Rounded sums make equal rewards neither alive nor the log suspect."""
    rng = np.random.default_rng(size)
    prompt, step = np.tile(np.repeat(np.arange(30), size), 10), np.repeat(np.arange(1, 11), 30 * size)
    z = np.repeat(rng.random(300) * 10.0 ** rng.integers(-6, 6, 300), size)
    unequal = np.repeat(rng.random(300) < 0.3, size) & (np.arange(len(z)) % size == 0)
    for sample, share in ((z, 1.0), (np.where(unequal, z * (1 + 1e-5), z), 1 - unequal.sum() / 300)):
        groups = aggregate(prompt, step, np.ones(len(z), int), sample, sample * sample)
        assert audit(groups, bandwidths=GRID, draws=2).dead.share == pytest.approx(share)


@pytest.mark.parametrize("reward", [0.1, 0.7, 1e6 / 3])
def test_rewards_that_are_all_equal_are_no_fault_of_the_log(reward):
    pytest.importorskip("polars")
    prompt, step = np.tile(np.repeat(np.arange(30), 3), 10), np.repeat(np.arange(1, 11), 90)
    found = audit(prompt_ids=prompt, rewards=np.full(900, reward), step=step, bandwidths=GRID, draws=2)
    assert found.failed() == []
    assert found.dead.share == 1
    assert found.verdict.startswith("No group has a signal")


def test_other_group_sizes_by_all_choices_of_traces():
    rng = np.random.default_rng(4)
    z = (rng.random((30, 6)) < rng.random((30, 1))).astype(float)
    groups = Groups(np.arange(30), np.ones(30, int), np.full(30, 6), z.sum(1), z.sum(1))
    found = audit(groups, draws=2)
    rows = {row["G"]: row for row in found.other_sizes}
    assert list(rows) == [2, 4, 6, 8, 16, 32]
    for size in (2, 4, 6):
        chosen = [z[:, list(some)] for some in combinations(range(6), size)]
        dead = np.mean([(some.min(1) == some.max(1)).mean() for some in chosen])
        assert rows[size]["dead"] == pytest.approx(dead)
    assert rows[8]["dead"] is None
    assert rows[6]["gradient_ratio"] == pytest.approx(1)
    assert rows[2]["gradient_ratio"] == pytest.approx((1 + 1 / 1) / (1 + 1 / 5))
    assert rows[4]["mse"] == pytest.approx(found.noise / 3)


def test_least_gradient_variance_is_that_of_the_true_values():
    found = audit(simulate(21)[0], bandwidths=GRID, draws=20)
    assert found.gradient_floor == pytest.approx(1 - 1 / 4)


def rows_of(seed=22):
    """The traces of a small run."""
    rng = np.random.default_rng(seed)
    prompt, step = np.repeat(np.arange(30), 20), np.tile(np.repeat(np.arange(1, 6), 4), 30)
    return prompt, (rng.random(600) < rng.beta(2, 2, 30)[prompt]).astype(float), step


def test_every_way_in_gives_the_same_numbers():
    polars, pandas, torch = (pytest.importorskip(name) for name in ("polars", "pandas", "torch"))
    prompt, reward, step = rows_of()
    expected = audit(aggregate(prompt, step, np.ones(600, int), reward, reward), draws=20)
    columns = {"iteration": step, "qid": prompt, "score": reward}
    tensors = {"prompt_ids": prompt, "rewards": torch.tensor(reward), "step": torch.tensor(step)}
    lists = {"prompt_ids": [f"p{p}" for p in prompt], "rewards": reward.tolist(), "step": step.tolist()}
    ways = [
        audit(polars.DataFrame(columns), draws=20),
        audit(pandas.DataFrame(columns | {"more": [["a", 1]] * 600}), draws=20),
        audit(**tensors, draws=20),
        audit(**lists, draws=20),
    ]
    for found in ways:
        assert found.findings == expected.findings
        assert (found.rows, found.noise, found.verdict) == (600, expected.noise, expected.verdict)
    assert [found.source for found in ways] == ["the frame", "the frame", "the arrays", "the arrays"]


def test_steps_that_come_again_in_a_frame_or_arrays():
    polars = pytest.importorskip("polars")
    prompt, reward, step = rows_of()
    prompt, reward, step = (column[np.argsort(step, kind="stable")] for column in (prompt, reward, step))
    twice = {"prompt_ids": np.tile(prompt, 2), "rewards": np.tile(reward, 2), "step": np.tile(step, 2)}
    frame = polars.DataFrame({"prompt_id": np.tile(prompt, 2), "reward": np.tile(reward, 2), "step": np.tile(step, 2)})
    once = audit(prompt_ids=prompt, rewards=reward, step=step, bandwidths=GRID, draws=20)
    for log, arrays in ((frame, {}), (None, twice)):
        with pytest.raises(LogError, match=r"on_repeat \(--on-repeat on the command line\)"):
            audit(log, **arrays, draws=20)
        last, merged, offset = (
            audit(log, **arrays, on_repeat=how, bandwidths=GRID, draws=20) for how in ("last", "merge", "offset")
        )
        assert last.findings == once.findings
        assert (last.rows, merged.rows, offset.rows) == (600, 1200, 1200)
        assert offset.steps == 2 * once.steps
        assert {2 * size: times for size, times in once.group_sizes.items()} == merged.group_sizes
        (check,) = merged.failed("suspect")
        assert check.name == "steps in order"
        assert "several writers" in check.advice
        assert "on_repeat" in check.advice
        with pytest.raises(ArgumentError, match="known: error, last, merge, offset"):
            audit(log, **arrays, on_repeat="first")
    groups = aggregate(prompt, step, np.ones(600, int), reward, reward)
    with pytest.raises(ArgumentError, match=r"on_repeat is for a frame or arrays, got Groups"):
        audit(groups, on_repeat="last")


def test_a_log_brings_its_values_notes_and_order():
    logs = pytest.importorskip("kernadv.logs")
    prompt, reward, step = rows_of()
    groups = aggregate(prompt, step, np.ones(600, int), reward, reward)
    value = np.full(len(groups.n), 0.5)
    order = logs.RowOrder(back=(1, 7), identical=0, places=np.zeros((0, 3)), alike=(), n_alike=0)
    log = logs.RewardLog(groups, list(range(30)), value, 600, "table", "a.csv", ("a note",), order)
    found = audit(log, draws=20, notes=["another"])
    assert found.finding("zero").true_mse == pytest.approx(0.25)
    assert found.notes[:2] == ["a note", "another"]
    assert (found.source, found.format) == ("a.csv", "table")
    assert [check.name for check in found.failed("suspect")] == ["steps in order"]


def test_rewards_counted_from_an_origin_are_the_same_rewards():
    logs = pytest.importorskip("kernadv.logs")
    prompt, reward, step = rows_of()
    plain, shifted = (aggregate(prompt, step, np.ones(600, int), z, z * z) for z in (reward + 5, reward))
    log = logs.RewardLog(shifted, list(range(30)), None, 600, "table", "a.csv", (), origin=5.0)
    one, other = audit(plain, bandwidths=GRID, draws=20), audit(log, bandwidths=GRID, draws=20)
    assert other.dead[:3] == one.dead[:3]
    assert other.dead.values == pytest.approx((5.0, 6.0))
    assert not other.binary
    assert other.bound is None
    assert [row["mean"] for row in other.drift] == pytest.approx([row["mean"] for row in one.drift])
    for name in ("rloo", "zero", "batch_mean"):
        assert other.finding(name).mse == pytest.approx(one.finding(name).mse, rel=1e-9), name
    assert [row["low"] for row in other.strata] == pytest.approx([row["low"] for row in one.strata])


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (None, {}, "audit takes a log, or prompt_ids, rewards and step together; got nothing"),
        (None, {"rewards": [1.0], "step": [1]}, "together; got rewards and step"),
        ("log", {"rewards": [1.0]}, "together; got a log and rewards"),
        ("log.csv", {}, r"got str; of a file give read_log\(path\)"),
        (None, {"prompt_ids": [1, 2], "rewards": [1.0], "step": [1, 1]}, "audit takes arrays of one number a trace"),
        (None, {"prompt_ids": 1, "rewards": 1.0, "step": 1}, "audit takes arrays of one number a trace"),
        (None, {"prompt_ids": [1, 1], "rewards": ["x", "y"], "step": [1, 1]}, "the arrays.*'reward'"),
    ],
)
def test_what_cannot_be_audited(given, options, message):
    with pytest.raises(KernadvError, match=message):
        audit(given, **options)


def _rows():
    rng = np.random.default_rng(0)
    prompt, step = np.tile(np.arange(6).repeat(4), 12), np.arange(1, 13).repeat(24)
    return [f"p{p}" for p in prompt], rng.integers(0, 2, 288).astype(float), step


ODD_COLUMNS = {
    "mixed ids": ("prompt_id", lambda ids: [int(p[1:]) if p < "p3" else p for p in ids]),
    "ids of two parts": ("prompt_id", lambda ids: [(p, 1) for p in ids]),
    "numbers as texts and as numbers": ("reward", lambda z: [str(x) if k % 2 else x for k, x in enumerate(z)]),
    "decimals": ("reward", lambda z: [Decimal(int(x)) for x in z]),
    "numbers in an object column": ("reward", lambda z: np.array(z, dtype=object)),
    "booleans and nothing": ("reward", lambda z: [None if k == 5 else bool(x) for k, x in enumerate(z)]),
}


@pytest.mark.parametrize("case", ODD_COLUMNS)
@pytest.mark.parametrize("package", ["polars", "pandas"])
def test_odd_columns_of_frames(case, package):
    package = pytest.importorskip(package)
    ids, z, step = _rows()
    name, change = ODD_COLUMNS[case]
    columns = {"prompt_id": ids, "reward": z, "step": step}
    columns[name] = change(columns[name])
    options = {"strict": False} if package.__name__ == "polars" else {"dtype": object}
    series = {key: package.Series(part, **options) if key == name else part for key, part in columns.items()}
    found = audit(package.DataFrame(series), draws=2)
    expected = np.where(np.arange(288) == 5, np.nan, z) if case == "booleans and nothing" else z
    assert found.finding("rloo").mse == audit(prompt_ids=ids, rewards=expected, step=step, draws=2).finding("rloo").mse


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("prompt_ids", [object()] * 288, "column 'prompt_id' must hold numbers or texts, got object in row 1"),
        ("rewards", [1j] * 288, "column 'reward' must hold numbers or texts, got complex in row 1"),
        ("rewards", [[1.0], [1.0, 0.0]] * 144, "rewards must hold one number, or id, a trace"),
        ("step", np.ma.masked_array(np.ones(288, int), np.arange(288) == 3), "step must not be masked"),
    ],
)
def test_arrays_of_other_things(name, values, message):
    pytest.importorskip("polars")
    ids, z, step = _rows()
    with pytest.raises(KernadvError, match=message):
        audit(**{"prompt_ids": ids, "rewards": z, "step": step, name: values}, draws=2)


def test_masked_rewards_could_not_be_scored():
    pytest.importorskip("polars")
    ids, z, step = _rows()
    gone = np.arange(288) % 5 == 0
    masked = audit(prompt_ids=ids, rewards=np.ma.masked_array(z, gone), step=step, draws=2)
    missing = audit(prompt_ids=ids, rewards=np.where(gone, np.nan, z), step=step, draws=2)
    assert masked.rows == 288 - gone.sum()
    assert masked.finding("kernadv").mse == missing.finding("kernadv").mse


def test_a_column_that_a_frame_has_twice():
    pandas = pytest.importorskip("pandas")
    ids, z, step = _rows()
    frame = pandas.DataFrame({"prompt_id": ids, "step": step, "reward": z})
    with pytest.raises(KernadvError, match="the frame has the column 'reward' twice; rename one of them"):
        audit(pandas.concat([frame, frame[["reward"]]], axis=1))


def test_a_frame_without_the_columns_is_called_a_frame():
    polars = pytest.importorskip("polars")
    message = "^the frame: no step column .*Columns found: a.*options are for files: of a frame, or arrays, change the"
    with pytest.raises(KernadvError, match=message):
        audit(polars.DataFrame({"a": [1]}))


def test_every_form_shows_the_same_numbers(tmp_path):
    pytest.importorskip("jinja2")
    groups, value = simulate(23)
    found = audit(groups, value=value, draws=40)
    frame = found.to_frame()
    assert frame["name"].to_list() == [finding.name for finding in found.findings]
    default = frame.row(0, named=True)
    finding = found.finding("kernadv")
    assert (default["mse"], default["mse_low"], default["mse_high"]) == finding.mse
    assert default["true_mse"] == finding.true_mse
    assert frame.filter(name="group_mean")["gradient_ratio"].item() is None
    assert str(found) == found.table()
    shown = next(line for line in found.table(160).splitlines() if line.startswith("kernadv"))
    assert f"{finding.mse.estimate:.4f}" in shown or f"{finding.mse.estimate:.3f}" in shown
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    in_page = json.loads(page.partition('id="kernadv-audit">')[2].partition("</script>")[0])["audit"]
    assert in_page == json.loads(json.dumps(found.to_dict()))
    assert found._repr_html_().startswith("<iframe srcdoc=")
    assert len(found.plot().axes) == 7


def test_a_form_without_its_package_names_the_extra(monkeypatch):
    found = audit(simulate(24)[0], bandwidths=GRID, draws=20)
    for name in [name for name in sys.modules if name.startswith("kernadv.report.") or name == "jinja2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r'needs jinja2, which is not installed; run: pip install "kernadv\[audit\]"'):
        found.to_html()


@pytest.mark.parametrize(("cut", "text"), [
    ((0.5, 0.4, 0.6), ("50%", "40%", "60%")),
    ((-1.43, -1.9, -1.0), ("-143%", "-190%", "-100%")),
    ((-3.0, -3.5, -2.5), ("4.0 times", "3.5", "4.5")),
    ((-20.87, -22.0, -19.0), ("22 times", "20", "23")),
    ((math.nan,) * 3, ("-", "-", "-")),
])  # fmt: skip
def test_how_a_cut_is_written(cut, text):
    assert numbers(Interval(*cut), "vs_rloo", 3) == text


def test_width_of_a_table():
    found = audit(simulate(25)[0], bandwidths=GRID, draws=20)
    assert max(map(len, found.table(40).splitlines())) <= 40
    with pytest.raises(KernadvError, match="width must be a whole number >= 40"):
        found.table(39)
