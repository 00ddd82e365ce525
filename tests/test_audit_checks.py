"""The checks of the audit: each finds its fault, none fails on an honest log, and their tests are exact."""

import math
from itertools import islice, product

import numpy as np
import pytest
from scipy.stats import hypergeom

pytest.importorskip("polars")
pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks import audit_checks as benchmark
from kernadv.auditing import CHECKS, audit
from kernadv.auditing.checks import _among_prompts, _at_the_ends, _end, checks_of
from kernadv.auditing.description import all_drawn, two_values
from kernadv.groups import Groups, aggregate
from kernadv.logs import RowOrder


def order(**facts):
    """What the order of rows says, neutral but for some facts."""
    neutral = {"back": (0, 0), "identical": 0, "places": np.zeros((0, 3)), "alike": (), "n_alike": 0}
    return RowOrder(**neutral | facts)


def groups_of(z, step=None):
    """Groups of the rows of z, each of a prompt of its own."""
    n = len(z)
    return Groups(
        np.arange(n), np.ones(n, int) if step is None else step, np.full(n, z.shape[1]), z.sum(1), (z**2).sum(1)
    )


def verdicts(groups, facts=None):
    return {check.name: check.verdict for check in checks_of(groups, facts) if check is not None}


@pytest.fixture(scope="module")
def honest():
    """One log of every process, with 1,000 groups left for each fault."""
    return list(islice(benchmark.logs(seed=77), len(benchmark.PROCESS)))


def test_an_honest_log_passes(honest):
    for log in honest:
        assert set(benchmark.judge(log.first(1000)).values()) == {"ok"}, log.kind


@pytest.mark.parametrize("name", benchmark.FAULTS)
def test_a_fault_is_found(honest, name):
    fault = benchmark.FAULTS[name]
    fitting = [log for log in honest if fault.fits(log)]
    planted = [fault.plant(log if fault.takes_groups else log.first(1000)) for log in fitting]
    planted = [log for log in planted if log is not None][:3]
    assert planted
    for log in planted:
        found = benchmark.judge(log)
        assert any(found[check] != "ok" for check in fault.checks), log.kind


def test_every_check_is_made_and_named_once(honest):
    found = audit(honest[0].first(1000).read(), draws=2)
    assert tuple(check.name for check in found.checks) == CHECKS
    assert all(check.evidence and not check.advice for check in found.checks)


def test_draws_without_replacement_are_hypergeometric():
    for total, chosen, n in ((10, 7, 3), (10, 2, 3), (5, 5, 5), (8, 3, 1), (6, 0, 2)):
        found = all_drawn(np.array([chosen]), np.array([total]), np.array([n]))
        assert found[0] == pytest.approx(hypergeom.pmf(n, total, chosen, n))


def test_groups_of_equal_rewards_that_the_prompts_imply_by_dealing():
    """Expected number against 4,000 random deals of each prompt's rewards to its groups."""
    rng = np.random.default_rng(0)
    prompt, n = np.array([0, 0, 0, 1, 1, 2, 3]), np.array([2, 3, 2, 4, 2, 3, 2])
    right = np.array([2, 2, 0, 3, 2, 3, 0])
    expected, _ = _among_prompts(prompt, n, right)
    pools = [np.flatnonzero(prompt == 0), np.flatnonzero(prompt == 1), np.flatnonzero(prompt >= 2)]
    seen = 0
    for _ in range(4000):
        for rows in pools:
            z = rng.permutation(np.repeat([1, 0], [right[rows].sum(), (n - right)[rows].sum()]))
            dealt = np.split(z, np.cumsum(n[rows])[:-1])
            seen += sum(len(set(part.tolist())) == 1 for part in dealt)
    assert expected == pytest.approx(seen / 4000, abs=4 * math.sqrt(expected / 4000))


@pytest.mark.parametrize(("size", "groups"), [(2, 5), (3, 5), (4, 4)])
def test_chance_at_the_ends_by_enumeration(size, groups):
    """All rewards of equal values are equally likely: the law of the groups with none, given those with at most 2."""
    counts = [sum(z) for z in product((0, 1), repeat=size)]
    law = {}
    for drawn in product(counts, repeat=groups):
        if max(drawn) <= 2:
            key = (sum(drawn), drawn.count(0))
            law[key] = law.get(key, 0) + 1
    for rights in {rights for rights, _ in law}:
        here = {none: times for (total, none), times in law.items() if total == rights}
        for none in here:
            two = none + rights - groups
            expected, log_chance = _end(size, none, rights - 2 * two, two)
            assert math.exp(log_chance) == pytest.approx(
                sum(t for k, t in here.items() if k <= none) / sum(here.values())
            )
            assert expected == pytest.approx(sum(k * t for k, t in here.items()) / sum(here.values()))


def test_chance_at_the_ends_is_a_chance():
    """At equal values, where it is exact but for the discreteness, it is below 5% in at most 5% of the logs."""
    rng = np.random.default_rng(1)
    n = np.repeat([2, 3, 6, 9], 100)
    chances = [_at_the_ends(n, rng.binomial(n, 0.2))[1] for _ in range(200)]
    assert np.mean(np.array(chances) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert min(chances) < 0.3


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.7), (-5.0, 995.0)])
def test_two_values_are_found(ends):
    z = np.random.default_rng(2).choice(ends, (40, 4))
    assert two_values(groups_of(z)) == pytest.approx(ends)


@pytest.mark.parametrize("values", [(0.0, 0.5, 1.0), (1.0,), (0.0, 1.0, 1.1)])
def test_more_values_or_one_are_not_two(values):
    z = np.random.default_rng(3).choice(values, (40, 4))
    assert two_values(groups_of(z)) is None


def test_filtered_groups_of_other_values_are_found():
    z = np.random.default_rng(4).choice((-1.0, 1.0), (400, 2))
    mixed = z[z[:, 0] != z[:, 1]]
    assert verdicts(groups_of(mixed))["all groups logged"] == "broken"
    assert verdicts(groups_of(z))["all groups logged"] == "ok"


def test_rare_rewards_are_not_impossible():
    """With pass rates of .2%, no two rewards of a group are 1: the bootstrap alone would call the squares negative."""
    z = (np.random.default_rng(5).random((2000, 4)) < 0.002).astype(float)
    assert z.sum(1).max() == 1
    groups = groups_of(z, np.arange(2000) // 500 + 1)
    found = audit(groups, draws=200)
    assert found.between.high < 0
    assert found.failed() == []


@pytest.mark.parametrize(("steps", "verdict"), [
    (range(10, 200, 10), "suspect"),
    ((100, 200, 300), "suspect"),
    ((2, 4, 8, 10), "ok"),
    ((*range(2, 40, 2), 80), "suspect"),
    (range(1, 20), "ok"),
    ((1, 2, 5), "ok"),
    ((*range(1, 5), *range(10, 200, 10)), "suspect"),
    ((1, *range(10, 200, 10)), "suspect"),
    ((*range(10, 200, 10), 193), "suspect"),
    ((*range(1, 9), *range(12, 200, 4)), "suspect"),
    ((*range(1, 20), 30, 40, 50), "ok"),
    (np.cumsum(1 + np.arange(40) % 3), "ok"),
    ((5, 9), None),
    ((5,), None),
])  # fmt: skip
def test_stride_of_the_steps(steps, verdict):
    step = np.array(steps)
    z = np.random.default_rng(6).random((len(step), 2))
    assert verdicts(groups_of(z, step)).get("all generations logged") == verdict


def test_stride_is_said_and_gaps_are_not_judged():
    rng = np.random.default_rng(7)
    prompt, step = np.repeat(np.arange(30), 8), np.tile(np.arange(10, 90, 10), 30)
    z = (rng.random((240, 4)) < 0.5).astype(float)
    found = audit(Groups(prompt, step, np.full(240, 4), z.sum(1), z.sum(1)), draws=50)
    text = " ".join(found.table().split())
    assert "1 of 10 generations is here" in text
    assert "Prompts come back" not in text


def test_what_the_order_of_the_rows_says():
    rng = np.random.default_rng(8)
    groups = groups_of(rng.random((50, 4)))
    assert verdicts(groups, order()) | {
        "steps in order": "ok",
        "no duplicates": "ok",
        "one id a prompt": "ok",
    } == verdicts(groups, order())
    assert verdicts(groups, order(back=(1, 9)))["steps in order"] == "suspect"
    assert verdicts(groups, order(identical=1))["no duplicates"] == "suspect"
    assert verdicts(groups, order(identical=100))["no duplicates"] == "broken"
    found = verdicts(groups, order(alike=(("a", "a "),), n_alike=1))
    assert found["one id a prompt"] == "suspect"
    assert set(verdicts(groups)) & {"steps in order", "no duplicates", "one id a prompt", "rows are traces"} == set()


def places_of(z):
    return benchmark.places(np.repeat(np.arange(len(z)), z.shape[1]), z.ravel())


def test_places_in_the_group_keep_their_error_rate():
    """Of 300 logs whose rows are in no order none fails, whether rewards are common or rare, real or 0/1."""
    rng = np.random.default_rng(9)
    for p in (0.5, 0.01, 0.9):
        for size in (2, 16):
            for _ in range(50):
                z = (rng.random((200, size)) < p).astype(float)
                assert verdicts(groups_of(z), order(places=places_of(z))).get("rows are traces", "ok") == "ok"


def test_a_reward_that_depends_on_its_place_is_found():
    z = np.random.default_rng(10).normal([0, 0, 0, 0.6], size=(200, 4))
    groups = groups_of(z)
    assert verdicts(groups, order(places=places_of(z)))["rows are traces"] == "suspect"
    shuffled = np.random.default_rng(11).permuted(z, axis=1)
    assert verdicts(groups, order(places=places_of(shuffled)))["rows are traces"] == "ok"


def test_a_broken_log_has_no_headline_and_no_advice_but_what_is_wrong():
    z = np.random.default_rng(12).normal(size=(200, 4))
    z -= z.mean(1, keepdims=True)
    prompt, step = np.arange(200) % 50, np.arange(200) // 50 + 1
    groups = aggregate(np.repeat(prompt, 4), np.repeat(step, 4), np.ones(800, int), z.ravel(), z.ravel() ** 2)
    found = audit(groups, draws=50)
    assert {check.name for check in found.failed("broken")} == {"possible results", "raw rewards"}
    assert found.verdict.startswith("These numbers cannot be trusted.")
    assert "--map reward=COLUMN" in found.verdict
    text = " ".join(found.table().split())
    assert text.index("Can this log be trusted? 2 of") < text.index("These numbers cannot") < text.index("───")
    assert "Best KAE window, in hindsight" not in text
    assert "KernelValueEstimator()" not in found.to_html()


def test_the_table_of_the_benchmark_by_hand():
    import polars as pl

    rows = [(0, "none", "enough digits", "ok"), (1, "none", "enough digits", "broken")]
    for name, fault in benchmark.FAULTS.items():
        rows += [(k, name, fault.checks[0], "broken" if k else "ok") for k in range(4)]
    found = pl.DataFrame(rows, schema=["log", "fault", "check", "verdict"], orient="row").with_columns(kind=pl.lit("a"))
    lines = benchmark.table(found)
    assert lines[0] == "2 simulated logs of 1,000 groups without a fault: 1 failed a check."
    assert "| enough digits | 2 | 1 |" in lines
    assert "| advantages of GRPO | raw rewards | 4 | 75.0% |" in lines
