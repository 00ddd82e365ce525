"""The running metrics: their definition written out, the audit of the same traces, and the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest

import kernadv.estimator.state
from kernadv import CheckpointError, ComponentValueEstimator, KernelValueEstimator, Steps
from kernadv.auditing import audit
from kernadv.groups import aggregate
from kernadv.simulation import SCHEDULES, simulate
from kernadv.tally import KEEP, Tally

NAMES = {"value_mse", "rloo_mse", "batch_mean_mse", "gradient_ratio", "value_excess", "dead", "dead_0", "dead_1"}
MAKE = {
    "default": KernelValueEstimator,
    "kae": KernelValueEstimator.kae,
    "line": lambda **o: KernelValueEstimator(Steps(6), smoother="local_linear", **o),
    "constant": lambda **o: KernelValueEstimator(cold_start=0.3, **o),
}


def running(est):
    """Of the metrics those that run."""
    return {name: x for name, x in est.metrics().items() if name in NAMES}


def stream(seed, steps=30, rewards=lambda rng, n: (rng.random(n) < 0.6) * 1.0):
    """Batches of groups of one to five traces, in any order, some not scored."""
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        ids = rng.integers(0, 12, rng.integers(1, 40))
        z = rewards(rng, len(ids))
        z[rng.random(len(ids)) < 0.1] = np.nan
        yield ids, z, step + step // 7


def written_out(batches, values):
    """The metrics by their definitions, one trace at a time; each step counts `KEEP` of the next."""
    newest = max(step for *_, step in batches)
    steps = sorted({step for *_, step in batches})
    n = own = batch = noise = rloo = lone = lone_own = lone_batch = groups = 0.0
    dead = {"any": 0.0, "low": 0.0, "high": 0.0}
    seen = [z for _, all_z, _ in batches for z in all_z if not math.isnan(z)]
    for (ids, z, step), value in zip(batches, values, strict=True):
        weight = KEEP ** sum(step < other <= newest for other in steps)
        scored = [k for k in range(len(z)) if not math.isnan(z[k])]
        for k in scored:
            others = [z[j] for j in scored if j != k]
            mates = [z[j] for j in scored if j != k and ids[j] == ids[k]]
            if not others:
                continue
            errors = (value[k] - z[k]) ** 2, (sum(others) / len(others) - z[k]) ** 2
            if mates:
                group = [*mates, z[k]]
                mean = sum(group) / len(group)
                variance = sum((x - mean) ** 2 for x in group) / (len(group) - 1)
                n += weight
                own, batch = own + weight * errors[0], batch + weight * errors[1]
                noise += weight * variance
                rloo += weight * (sum(mates) / len(mates) - z[k]) ** 2
            else:
                lone += weight
                lone_own, lone_batch = lone_own + weight * errors[0], lone_batch + weight * errors[1]
        for prompt in set(ids.tolist()):
            group = [z[k] for k in scored if ids[k] == prompt]
            if len(group) > 1:
                groups += weight
                dead["any"] += weight * (len(set(group)) == 1)
                dead["low"] += weight * (set(group) == {min(seen)})
                dead["high"] += weight * (set(group) == {max(seen)})
    found = {}
    if n:
        found = {"value_mse": own / n - noise / n, "rloo_mse": rloo / n - noise / n}
        found |= {"batch_mean_mse": batch / n - noise / n, "gradient_ratio": own / rloo}
    elif lone:
        found = {"value_excess": lone_own / lone - lone_batch / lone, "gradient_ratio": lone_own / lone_batch}
    if groups:
        found["dead"] = dead["any"] / groups
        if set(seen) == {min(seen), max(seen)}:
            found |= {"dead_0": dead["low"] / groups, "dead_1": dead["high"] / groups}
    return found


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("kind", ["binary", "signs", "real", "groups of one"])
def test_definition(name, kind):
    rewards = {"signs": lambda rng, n: np.sign(rng.random(n) - 0.4), "real": lambda rng, n: 3 * rng.normal(size=n) - 7}
    est, values = MAKE[name](), []
    batches = list(stream(1, **({"rewards": rewards[kind]} if kind in rewards else {})))
    if kind == "groups of one":
        batches = [(np.arange(len(ids)), z, step) for ids, z, step in batches]
    for ids, z, step in batches:
        values.append(est.baselines(ids, z, step))
        est.advantages(ids, z, step)
    expected = written_out(batches, values)
    assert len(expected) == {"binary": 7, "signs": 7, "real": 5, "groups of one": 2}[kind]
    assert running(est) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("process", "group"), [("fast", 4), ("random_walk", 2), ("continuous", 3), ("fast", 1)])
@pytest.mark.parametrize("name", ["kernadv", "kae h=0.5"])
def test_over_all_steps_alike_they_are_the_audits(monkeypatch, process, group, name):
    """Without forgetting: the numbers of the audit of the same log, which replays the baselines from sums of groups."""
    monkeypatch.setattr(kernadv.estimator.state, "KEEP", 1.0)
    run = simulate(process, "multi_pass", group, seed=3)
    est = KernelValueEstimator() if name == "kernadv" else KernelValueEstimator.kae(h=0.5)
    rows = []
    for step, ids, z, _ in run.batches():
        if step > 60:
            break
        est.advantages(ids, z, step)
        rows += [(prompt, step, 1, reward, reward**2) for prompt, reward in zip(ids.tolist(), z.tolist(), strict=True)]
    groups = aggregate(*map(np.array, zip(*rows, strict=True)))
    result, found = audit(groups, draws=10), running(est)
    ours, batch = result.finding(name), result.finding("batch_mean")
    assert found["gradient_ratio"] == pytest.approx(ours.gradient_ratio.estimate, rel=1e-9)
    if group == 1:
        assert set(found) == {"value_excess", "gradient_ratio"}
        assert found["value_excess"] == pytest.approx(ours.excess.estimate, rel=1e-9)
        return
    assert found["value_mse"] == pytest.approx(ours.mse.estimate, rel=1e-9)
    assert found["rloo_mse"] == pytest.approx(result.finding("rloo").mse.estimate, rel=1e-9)
    assert found["batch_mean_mse"] == pytest.approx(batch.mse.estimate, rel=1e-9)
    if process != "continuous":  # where the audit, which has sums only, cannot tell rewards that almost agree
        dead = [found[name] for name in ("dead", "dead_0", "dead_1")]
        assert dead == pytest.approx([result.dead.share, result.dead.low, result.dead.high], rel=1e-9)


def discounted(errors):
    """Mean of the errors of each step, `KEEP` of them kept from one to the next."""
    weight = KEEP ** np.arange(len(errors))[::-1]
    return float((weight * [np.mean(x) for x in errors]).sum() / weight.sum())


@pytest.mark.parametrize("group", [4, 2, 1])
def test_they_agree_with_the_truth(group):
    """Over 16 runs: means differ by less than 4 standard errors of the difference, which is less than a fifth of the MSE."""
    off, true, schedule = [], [], replace(SCHEDULES["multi_pass"], batch=32, steps=80)
    for seed in range(16):
        run = simulate("fast", schedule, group, seed=100 + seed)
        est, errors = KernelValueEstimator(), {"value_mse": [], "rloo_mse": [], "batch_mean_mse": []}
        for step, ids, z, index in run.batches():
            v = run.value[index]
            others = {"batch_mean_mse": (z.sum() - z) / (len(z) - 1)}
            if group > 1:
                others["rloo_mse"] = (z.reshape(-1, group).sum(1).repeat(group) - z) / (group - 1)
            others["value_mse"] = est.baselines(ids, z, step)
            est.advantages(ids, z, step)
            for name, value in others.items():
                errors[name].append((value - v) ** 2)
        truth = {name: discounted(x) for name, x in errors.items() if x}
        if group == 1:
            truth = {"value_excess": truth["value_mse"] - truth["batch_mean_mse"]}
        found = est.metrics()
        off.append([found[name] - x for name, x in truth.items()])
        true.append(list(truth.values()))
    error = np.std(off, axis=0, ddof=1) / math.sqrt(len(off))
    assert (np.abs(np.mean(off, axis=0)) < 4 * error).all()
    assert (error < 0.2 * np.abs(np.mean(true, axis=0))).all()


def test_dead_groups_by_hand():
    est = KernelValueEstimator(Steps(9))
    est.advantages(["a", "a", "b", "b"], [0.0, 0.0, 0.0, 0.0], 1)
    assert running(est)["dead"] == running(est)["dead_0"] == 1.0  # only 0 was seen
    assert running(est)["dead_1"] == 0.0
    est.advantages(["a", "a", "b", "b", "c"], [1.0, 1.0, 0.0, 1.0, 1.0], 2)  # c is alone: no group
    total = 2 * KEEP + 2
    expected = {"dead": (2 * KEEP + 1) / total, "dead_0": 2 * KEEP / total, "dead_1": 1 / total}
    assert {name: running(est)[name] for name in expected} == pytest.approx(expected)
    est.observe(["a", "a"], [-1.0, -1.0], 3)  # no advantages: no group; 0 is now between the ends
    assert "dead_0" not in est.metrics()
    assert est.metrics()["dead"] == pytest.approx(expected["dead"])


@pytest.mark.parametrize(("first", "then", "split"), [(2.0, 5.0, "dead_0"), (2.0, -1.0, "dead_1")])
def test_a_second_value_shows_at_which_end_the_first_one_is(first, then, split):
    est = KernelValueEstimator()
    est.advantages(["a", "a"], [first, first], 1)
    est.advantages(["a", "a"], [first, then], 2)
    assert {name: running(est)[name] for name in ("dead_0", "dead_1")} == pytest.approx(
        {"dead_0": 0.0, "dead_1": 0.0, split: KEEP / (1 + KEEP)}
    )


def test_a_batch_in_parts_counts_as_one_step():
    """What is forgotten goes by steps, not by calls."""
    est = KernelValueEstimator(Steps(9))
    for part in range(3):
        est.advantages([part, part], [1.0, 0.0], 5)
    assert est.state_dict()["errors"][0] == 6.0
    est.advantages([9, 9], [1.0, 0.0], 6)
    assert est.state_dict()["errors"][0] == pytest.approx(6 * KEEP + 2)


def test_what_is_long_past_is_left_out():
    """After groups of several, groups of one: MSEs as long as a trace's weight is left of them, then differences."""
    est, rng = KernelValueEstimator(), np.random.default_rng(0)
    est.advantages(["a", "a", "b", "b"], [1.0, 0.0, 1.0, 0.0], 1)
    for step in range(2, 90):
        est.advantages(["a", "b", "c"], rng.integers(0, 2, 3).astype(float), step)
        left = 4 * KEEP ** (step - 1) >= 1
        assert ("value_mse" in est.metrics()) == left
        assert ("value_excess" in est.metrics()) != left
    assert not left


@pytest.mark.parametrize("options", [{"weighted": True}, {"pessimism": 3.0}])
def test_they_speak_of_the_value(options):
    """Whatever is subtracted: those of the estimator without weights and pessimism."""
    est, plain, rng = KernelValueEstimator(**options), KernelValueEstimator(), np.random.default_rng(0)
    for ids, z, step in stream(2):
        given = {"weights": rng.random(len(z)) + 0.1} if est.weighted else {}
        got, other = est.advantages(ids, z, step, **given), plain.advantages(ids, z, step)
    assert not np.allclose(got, other)
    assert running(est) == pytest.approx(running(plain), rel=1e-12)


@pytest.mark.parametrize("scale", [1e100, 1e-200, 1e-320])
@pytest.mark.parametrize("name", MAKE)
def test_all_metrics_are_finite(name, scale):
    """Whatever the size of the rewards; before any batch, after batches without rewards and of one trace."""
    est = MAKE[name]()
    assert all(map(math.isfinite, est.metrics().values()))
    for ids, z, step in [([1], [np.nan], 1), ([1], [scale], 2), ([1, 1], [scale, np.nan], 3), ([1, 1], [scale] * 2, 4)]:
        est.advantages(ids, z, step)
        assert all(map(math.isfinite, est.metrics().values()))
    for ids, z, step in stream(3, rewards=lambda rng, n: scale * rng.uniform(-1, 1, n)):
        est.advantages(ids, z, step + 9)
        assert all(map(math.isfinite, est.metrics().values()))
        assert all(np.isfinite(est.state_dict()[part]).all() for part in Tally._fields)
    again = MAKE[name]()
    again.load_state_dict(est.state_dict())
    assert running(again) == running(est)


def test_an_offset_costs_no_more_than_its_digits():
    """Rewards of 1e9 and 1e9 + 1 are as 0 and 1."""
    one, two = KernelValueEstimator(Steps(9)), KernelValueEstimator(Steps(9))
    for ids, z, step in stream(4):
        one.advantages(ids, z, step)
        two.advantages(ids, z + 1e9, step)
    assert running(two) == pytest.approx(running(one), abs=1e-5)


def test_of_a_single_batch_of_one_trace_nothing_is_known():
    est = KernelValueEstimator()
    est.advantages(["a"], [1.0], 1)
    assert running(est) == {}


def test_components_have_their_own():
    est = ComponentValueEstimator(2)
    est.advantages(["a", "a", "b", "b"], [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]], 1)
    assert est.metrics()["0/dead"] == 1.0
    assert est.metrics()["1/dead"] == 0.5


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("errors"),
        lambda state: state.update(ends=state["ends"][:2]),
        lambda state: state["ends"].__setitem__(0, 2.0),  # above the largest
        lambda state: state["ends"].__setitem__(2, 0.5),
        lambda state: state["errors"].__setitem__(3, -1.0),
        lambda state: state["errors"].__setitem__(9, state["errors"][8] + 1.0),  # more dead groups than groups
        lambda state: state["errors"].__setitem__(11, state["errors"][9] + 1.0),
        lambda state: state["errors"].__setitem__(0, np.nan),
        lambda state: state["seen"].__setitem__(1, state["seen"][0] + 1.0),  # a mean reward above the largest
    ],
)
def test_a_damaged_state_is_refused(change):
    est = KernelValueEstimator()
    for ids, z, step in stream(5):
        est.advantages(ids, z, step)
    state, metrics = est.state_dict(), est.metrics()
    change(state)
    with pytest.raises(CheckpointError, match="damaged"):
        est.load_state_dict(state)
    assert est.metrics() == metrics


def test_of_another_configuration_only_the_rewards_are_taken():
    one, two = KernelValueEstimator(Steps(9)), KernelValueEstimator()
    for ids, z, step in stream(6):
        one.advantages(ids, z, step)
    two.load_state_dict(one.state_dict(), strict=False)
    mine, theirs = two.state_dict(), one.state_dict()
    assert all(np.array_equal(mine[part], theirs[part]) for part in ("seen", "ends"))
    assert not mine["errors"].any()
    assert running(two) == {}
