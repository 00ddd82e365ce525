"""The simulated runs: their truth, schedules and pairing."""

import numpy as np
import pytest
from scipy import stats

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.groups import aggregate
from kernadv.simulation import PROCESSES, SCHEDULES, Process, Schedule, simulate

every_process = pytest.mark.parametrize("process", PROCESSES)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def logits(process, step, prompts=4000, steps=60, seed=0):
    """Of all prompts at one step."""
    return process.logits(np.arange(prompts), np.full(prompts, step), prompts, steps, seed)


@every_process
@every_schedule
def test_runs_are_paired_across_group_sizes(process, schedule):
    small, large = simulate(process, schedule, 2, seed=3), simulate(process, schedule, 8, seed=3)
    for name in ("value", "initial_value", "offline", "features", "noise_features", "position", "visit"):
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name))
    np.testing.assert_array_equal(small.rewards, large.rewards[:, :2])
    np.testing.assert_array_equal(small.length, large.length[:, :2])
    assert not np.array_equal(small.value, simulate(process, schedule, 2, seed=4).value)


@every_schedule
def test_groups_are_what_an_audit_reads(schedule):
    run = simulate("calib", schedule, 3, seed=0)
    rows = [np.repeat(part, 3) for part in run.groups[:2]]
    z = run.rewards.ravel()
    for ours, theirs in zip(run.groups, aggregate(*rows, np.ones(len(z), int), z, z), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert set(np.unique(z)) == {0, 1}


def test_schedules():
    """One pass: 10 consecutive steps. Multi-pass: 5 stays of 10 steps, 40 apart. Epochs: each 16th step."""
    for name, prompts, visits, gaps in (
        ("one_pass", 2560, 10, {1}),
        ("multi_pass", 512, 50, {1, 31}),
        ("epochs", 1024, 13, {16}),
    ):
        run = simulate("flat", name)
        prompt, step = run.groups.prompt, run.groups.step
        assert len(run.offline) == prompts == len(np.unique(prompt))
        same = np.diff(prompt) == 0
        assert set(np.diff(step)[same].tolist()) == gaps
        assert run.visit.max() == np.bincount(prompt).max() == visits
        assert (np.diff(run.visit)[same] == 1).all()
        assert (run.visit[:-1][~same] >= visits - 1).all()
        np.testing.assert_array_equal(run.position, (step - 1) % SCHEDULES[name].stay + 1)
        np.testing.assert_array_equal(np.bincount(step)[1:], SCHEDULES[name].batch)


def test_shuffled_blocks_visit_every_prompt_once_a_pass():
    schedule = Schedule(batch=8, stay=1, blocks=4, steps=12, shuffle=True)
    prompt, step, _ = schedule.visits(0)
    for first in (1, 5, 9):
        now = (step >= first) & (step < first + 4)
        np.testing.assert_array_equal(np.sort(prompt[now]), np.arange(32))
    assert len(np.unique(np.diff(step)[np.diff(prompt) == 0])) > 1


def test_calibrated_process_has_the_moments_it_aims_at():
    """Section 3 of the design: mean V (1 - V) about .067, variance over prompts about .10, E V^2 about .72."""
    runs = [simulate("calib", "one_pass", seed=seed) for seed in range(4)]
    v = np.concatenate([run.value for run in runs])
    assert np.mean(v * (1 - v)) == pytest.approx(0.067, abs=0.003)
    assert np.mean(v * v) == pytest.approx(0.72, abs=0.02)
    within = [np.mean([run.value[run.groups.step == i].var() for i in range(1, 201)]) for run in runs]
    assert np.mean(within) == pytest.approx(0.10, abs=0.01)


def test_values_are_the_formula():
    process = Process(start=0.3, rise=2.0, spread=0.0, time_constant=30.0, jump=-1.0)
    run = simulate(process, Schedule(batch=4, stay=20, steps=40))
    t = run.groups.step
    logit = 0.3 + 2.0 * (1 - np.exp(-t / 30)) - 1.0 * (t > 20)
    np.testing.assert_allclose(run.value, 1 / (1 + np.exp(-logit)), atol=1e-12)
    np.testing.assert_allclose(run.initial_value, 1 / (1 + np.exp(-0.3)), atol=1e-12)


def test_paths_move_as_they_say():
    """Standard deviation and correlation of the smooth paths, spread of the walk, share of the forgotten."""
    smooth = Process(spread=0.0, wiggle=0.5, wiggle_length=25.0)
    first, later = logits(smooth, 10), logits(smooth, 35)
    assert first.std() == pytest.approx(0.5, rel=0.05)
    assert np.corrcoef(first, later)[0, 1] == pytest.approx(np.exp(-0.5), abs=0.05)  # one length scale apart
    walk = logits(Process(spread=0.0, walk=0.2), 49)
    assert walk.std() == pytest.approx(0.2 * 7, rel=0.05)
    forgotten = logits(Process(spread=0.0, start=0.0, forgetting=0.2, decline=3.0), 60)
    assert set(np.round(np.unique(forgotten), 9)) == {-3.0, 0.0}
    assert (forgotten < 0).mean() == pytest.approx(0.2, abs=0.03)


def test_draws_come_in_an_order_that_recorded_results_rely_on():
    """Levels, forgotten prompts, smooth paths, walks; what a process does not have is not drawn."""
    prompts, steps, t = 50, 40, 25
    process = Process(rise=4.2, spread_rise=3.2, wiggle=0.5, walk=0.2, jump=-2.5, forgetting=0.2, decline=8.0)
    rng = np.random.default_rng([7, 0])
    grown = 1 - np.exp(-t / 60)
    expected = 0.85 + 4.2 * grown + rng.normal(size=prompts) * (1.9 + 3.2 * grown) - 2.5
    expected -= 8.0 * t / steps * (rng.random(prompts) < 0.2)
    frequency, phase = rng.normal(size=(prompts, 12)) / 25, rng.uniform(0, 2 * np.pi, (prompts, 12))
    expected += 0.5 * np.sqrt(2 / 12) * np.cos(frequency * t + phase).sum(1)
    expected += rng.normal(0.0, 0.2, (prompts, steps))[:, :t].sum(1)
    np.testing.assert_allclose(logits(process, t, prompts, steps, 7), expected, atol=1e-12)


def test_leaps_come_at_times_of_each_prompts_own():
    process = Process(leap=2.0, leap_rate=0.01)
    path = np.stack([logits(process, step) for step in range(61)])
    move = np.diff(path, axis=0)
    leapt = np.abs(move) > 1e-9
    assert leapt.mean() == pytest.approx(0.01, rel=0.1)
    assert move[leapt].std() == pytest.approx(2.0, rel=0.05)
    assert abs(leapt[:30].mean() / leapt.mean() - 1) < 0.1
    np.testing.assert_array_equal(leapt.any(axis=1), True)  # some prompt leaps at each step


def test_levels_may_be_those_of_beta_draws():
    process = Process(start=0.0, spread=1.0, level_shape=0.4)
    value = process.values(np.arange(4000), np.zeros(4000, int), 4000, 60, 0)
    assert stats.kstest(value, stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    assert np.isfinite(logits(Process(level_shape=1e-4), 0)).all()


def test_seasons():
    common = Process(start=0.2, spread=0.0, season=1.5, season_length=12.0)
    np.testing.assert_allclose(logits(common, 10), 0.2 + 1.5 * np.sin(2 * np.pi * 10 / 12), atol=1e-12)
    own = Process(start=0.0, spread=0.0, season=1.0, season_length=12.0, season_phases=1.0)
    first, half = logits(own, 5), logits(own, 11)
    np.testing.assert_allclose(first, -half, atol=1e-12)
    assert stats.kstest(np.arcsin(first) / np.pi + 0.5, "uniform").pvalue > 0.01
    part = Process(start=0.0, spread=0.0, season=1.0, season_length=12.0, season_phases=0.25)
    assert 0 <= logits(part, 0).min() < 0.01
    assert 0.99 < logits(part, 0).max() <= 1


def test_prompts_of_a_cluster_move_together():
    process = Process(walk=0.2, wiggle=0.5, leap=1.0, leap_rate=0.1, season=1.0, season_phases=1.0, clusters=3)
    move = logits(process, 50, prompts=30) - logits(process, 4, prompts=30)
    np.testing.assert_allclose(move, np.tile(move[:3], 10), atol=1e-9)
    assert np.ptp(move[:3]) > 0.1
    assert len(np.unique(np.round(logits(process, 4, prompts=30), 6))) == 30


def test_linear_values_go_from_end_to_end():
    process = Process(walk=0.2, linear=True)
    every = np.arange(100)
    at = lambda step: process.values(every, np.full(100, step), 100, 60, 1)
    ends = [1 / (1 + np.exp(-logits(process, step, 100, 60, 1))) for step in (0, 60)]
    for step in (0, 15, 45, 60):
        np.testing.assert_allclose(at(step), ends[0] + (ends[1] - ends[0]) * step / 60, atol=1e-12)
    assert np.abs(ends[1] - ends[0]).mean() > 0.1


def test_rewards_between_0_and_1():
    """Mean V, variance V (1 - V) / (1 + concentration); the sums of the groups and the offline rollouts are theirs."""
    process = Process(spread=1.0, concentration=3.0)
    run = simulate(process, "multi_pass", 8, seed=1, offline_rollouts=50)
    v, z = run.value[:, None], run.rewards
    assert ((z > 0) & (z < 1)).mean() > 0.99
    scale = v * (1 - v) / 4
    np.testing.assert_allclose(process.variance(v), scale)
    assert abs(((z - v) / np.sqrt(scale)).mean()) < 4 / np.sqrt(z.size)
    assert ((z - v) ** 2 / scale).mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(run.groups.s, z.sum(1))
    np.testing.assert_allclose(run.groups.ss, (z * z).sum(1))
    initial = run.initial_value
    off = (run.offline / 50 - initial) / np.sqrt(process.variance(initial) / 50)
    assert off.std() == pytest.approx(1, abs=0.15)
    assert abs(off.mean()) < 4 / np.sqrt(len(off))


def test_named_processes_are_what_they_are_called():
    values = {name: simulate(name, "multi_pass", seed=0).value for name in ("rare", "u_shaped", "seasonal")}
    assert (values["rare"] < 0.1).mean() > 0.7
    assert ((values["u_shaped"] < 0.1) | (values["u_shaped"] > 0.9)).mean() > 0.5
    run = simulate("seasonal", Schedule(batch=500, stay=120, steps=120))
    mean = [run.value[run.groups.step == step].mean() for step in (15, 45, 75, 105)]
    assert min(mean[0], mean[2]) > max(mean[1], mean[3]) + 0.2


def test_rewards_lengths_offline_and_features_follow_the_truth():
    run = simulate("random_walk", "multi_pass", 8, seed=1, offline_rollouts=50, feature_noise=0.5, length_ratio=1.5)
    error = (run.rewards.mean(1) - run.value).mean() / np.sqrt((run.value * (1 - run.value)).mean() / run.rewards.size)
    assert abs(error) < 4
    wrong, right = run.length[run.rewards == 0].mean(), run.length[run.rewards == 1].mean()
    assert wrong / right == pytest.approx(1.5, rel=0.01)
    off = (run.offline / 50 - run.initial_value) / np.sqrt(run.initial_value * (1 - run.initial_value) / 50)
    assert off.std() == pytest.approx(1, abs=0.15)
    logit = np.log(run.initial_value / (1 - run.initial_value))
    assert (run.features[:, 0] - logit).std() == pytest.approx(0.5, abs=0.06)
    assert abs(np.corrcoef(run.noise_features[:, 0], logit)[0, 1]) < 0.15


def test_batches_are_the_run_in_order():
    run = simulate("fast", "epochs", 2, seed=0)
    steps = []
    for step, ids, z, group in run.batches():
        steps.append(step)
        np.testing.assert_array_equal(run.groups.step[group], step)
        np.testing.assert_array_equal(run.groups.prompt[group], ids)
        np.testing.assert_array_equal(np.bincount(group, z)[np.unique(group)], run.groups.s[np.unique(group)])
    assert steps == list(range(1, 201))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate("calm"), "unknown process 'calm'; known: calib, clusters"),
        (lambda: simulate("calib", "twice"), "unknown schedule 'twice'; known: epochs"),
        (lambda: simulate(group_size=0), "group_size must be a whole number >= 1, got 0"),
        (lambda: simulate(seed=-1), "seed must be a whole number >= 0, got -1"),
        (lambda: simulate(offline_rollouts=2.5), "offline_rollouts must be a whole number >= 0, got 2.5"),
        (lambda: simulate(feature_noise=-1.0), "feature_noise must be a finite number"),
        (lambda: simulate(length_ratio=0.0), "length_ratio must be a finite number"),
        (lambda: Process(spread=-1.0), "spread must be a finite number"),
        (lambda: Process(time_constant=0.0), "time_constant must be a finite number"),
        (lambda: Process(forgetting=1.5), r"forgetting must be a finite number in \[0, 1\], got 1.5"),
        (lambda: Process(start=np.nan), "start must be a finite number"),
        (lambda: Process(spread=1.0, spread_rise=-2.0), "spread_rise must be a finite number"),
        (lambda: Process(leap_rate=1.5), r"leap_rate must be a finite number in \[0, 1\], got 1.5"),
        (lambda: Process(season_length=0.0), "season_length must be a finite number"),
        (lambda: Process(season_phases=-0.1), r"season_phases must be a finite number in \[0, 1\]"),
        (lambda: Process(level_shape=-1.0), "level_shape must be a finite number >= 0"),
        (lambda: Process(concentration=np.inf), "concentration must be a finite number >= 0"),
        (lambda: Process(clusters=2.5), "clusters must be a whole number >= 0"),
        (lambda: Schedule(batch=0), "batch must be a whole number >= 1, got 0"),
        (lambda: Schedule(blocks=0), "blocks must be a whole number >= 1, got 0"),
    ],
)
def test_parameters_out_of_range(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_parameters_of_a_wrong_type():
    with pytest.raises(ArgumentTypeError, match="walk must be a number, got '1'"):
        Process(walk="1")
    with pytest.raises(ArgumentTypeError, match="linear must be True or False, got 1"):
        Process(linear=1)
    with pytest.raises(ArgumentTypeError, match="shuffle must be True or False, got 1"):
        Schedule(shuffle=1)


def test_no_offline_rollouts():
    assert not simulate(offline_rollouts=0).offline.any()
