"""The comparison of baselines over simulated runs: its numbers by hand, its pairing, its errors."""

import math

import numpy as np
import polars as pl
import pytest

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.baselines import discover, discover_tuned
from kernadv.baselines.kae import KAE
from kernadv.clock import Steps
from kernadv.simulation import Schedule, simulate

pytest.importorskip("benchmarks", reason="the benchmarks are not beside the tests")
from benchmarks.comparison import Floor, at_equal_rollouts, compare, in_hindsight, side_information, summary
from benchmarks.equal_rollouts import markdown

FOUND = discover()
CHOSEN = [FOUND[name] for name in ("zero", "batch_mean", "group_mean", "rloo", "pvpo", "kae w=20", "oracle")]


@pytest.fixture(scope="module")
def table():
    return compare(CHOSEN, ["calib", "flat"], ["epochs"], [1, 2, 4], 3, batches=[64], workers=1)


def part(table, **chosen):
    return table.filter(*(pl.col(name) == value for name, value in chosen.items()))


def test_numbers_are_those_of_the_runs(table):
    run = simulate("calib", "epochs", 4, seed=2)
    v = run.value
    values = FOUND["kae w=20"].replay(run.groups)
    rows = values.at(run.groups, run.rewards.ravel()).reshape(-1, 4)
    error, off = ((rows - v[:, None]) ** 2).mean(1), rows.mean(1) - v
    here = part(table, process="calib", group_size=4, seed=2, method="kae w=20")
    whole = part(here, part="all").row(0, named=True)
    noise = (v * (1 - v)).mean()
    assert whole["mse"] == pytest.approx(error.mean())
    assert whole["bias"] == pytest.approx(off.mean())
    assert whole["noise"] == pytest.approx(noise)
    assert whole["gradient_ratio"] == pytest.approx((noise + error.mean()) / noise)
    steps = part(here, part="step")
    assert steps["at"].to_list() == list(range(10, 201, 10))
    assert steps["mse"][3] == pytest.approx(error[(run.groups.step > 30) & (run.groups.step <= 40)].mean())
    first = part(here, part="first")
    assert first["at"].to_list() == list(range(1, 22))
    assert first["mse"][4] == pytest.approx(error[run.groups.step == 5].mean())
    assert first["mse"][20] == pytest.approx(error[run.groups.step > 20].mean())
    deciles = part(here, part="decile")
    low = np.argsort(v, kind="stable")[: -(-len(v) // 10)]
    assert deciles["at"].to_list() == list(range(1, 11))
    assert deciles["mse"][0] == pytest.approx(error[low].mean())
    assert part(here, part="position")["at"].to_list() == [1]


def test_methods_with_known_errors(table):
    for row in part(table, part="all").iter_rows(named=True):
        v = simulate(row["process"], "epochs", row["group_size"], seed=row["seed"]).value
        if row["method"] == "oracle":
            assert row["mse"] == row["bias"] == 0
            assert row["gradient_ratio"] == 1
        if row["method"] == "zero":
            assert row["mse"] == pytest.approx((v**2).mean())
            assert row["bias"] == pytest.approx(-v.mean())


def test_who_takes_part_and_what_it_costs(table):
    whole = part(table, part="all", process="flat", seed=0)
    assert "rloo" not in part(whole, group_size=1)["method"].to_list()
    assert part(whole, group_size=2)["method"].to_list() == [b.name for b in CHOSEN]
    assert part(whole, method="group_mean")["gradient_ratio"].is_null().all()
    assert part(whole, method="pvpo", group_size=2)["rollouts"].item() == pytest.approx(2 + 8 * 1024 / 12800)
    assert part(whole, method="zero", group_size=2)["rollouts"].item() == 2
    assert (whole["undefined"] == 0).all()


def test_workers_do_not_change_the_table(table):
    again = compare(CHOSEN, ["calib", "flat"], ["epochs"], [1, 2, 4], [0, 1, 2], batches=[64], workers=2)
    assert again.equals(table)


def test_summary_pairs_the_runs(table):
    found = summary(table, "kae w=20")
    row = part(found, process="calib", group_size=2, method="rloo").row(0, named=True)
    pick = lambda m: part(table, process="calib", group_size=2, method=m, part="all")["mse"].to_numpy()
    mine, base = pick("rloo"), pick("kae w=20")
    ratio = mine.mean() / base.mean()
    assert row["mse"] == pytest.approx(mine.mean())
    assert row["se"] == pytest.approx(mine.std(ddof=1) / math.sqrt(3))
    assert row["ratio"] == pytest.approx(ratio)
    assert row["ratio_se"] == pytest.approx((mine - ratio * base).std(ddof=1) / math.sqrt(3) / base.mean())
    own = part(found, method="kae w=20")
    assert own["ratio"].to_list() == [1.0] * len(own)
    assert own["ratio_se"].to_list() == [0.0] * len(own)


def test_hindsight_takes_the_best_of_each_cell():
    grid = [KAE(Steps(w)) for w in (5, 40, math.inf)]
    table = compare(grid, ["fast", "flat"], ["multi_pass"], [1, 4], 2, batches=[64], workers=1)
    best = in_hindsight(table, [b.name for b in grid], "best")
    assert len(best) == len(part(table, method="kae w=5"))
    means = part(table, part="all").group_by("process", "group_size", "method").agg(pl.col("mse").mean())
    for row in part(best, part="all").group_by("process", "group_size").agg(pl.col("mse").mean()).iter_rows(named=True):
        cell = part(means, process=row["process"], group_size=row["group_size"])
        assert row["mse"] == pytest.approx(cell["mse"].min())
    with pytest.raises(ArgumentError, match="unknown method 'kae w=6'"):
        in_hindsight(table, ["kae w=6"], "best")


def test_the_committed_table_of_equal_rollouts():
    """Ratios to the default's curve at the same number of rollouts, by hand, and who is marked."""
    chosen = [FOUND[name] for name in ("kernadv", "spo", "pvpo", "rloo")]
    made = compare(chosen, ["flat"], ["epochs"], [1, 2], 1, batches=[64], workers=1)
    mse = {(m, g): x for m, g, x in part(made, part="all").select("method", "group_size", "mse").iter_rows()}
    share = math.log(1 + 8 * 1024 / 12800) / math.log(2)
    ours = mse["kernadv", 1] ** (1 - share) * mse["kernadv", 2] ** share
    lines = markdown(made, 1).splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## flat, epochs, 64 prompts a step"]
    assert "| method | | 1.64 |" in lines  # G = 2 with its offline rollouts is beyond the default's largest group
    assert f"| kernadv |  | {1000 * ours:.2f} |" in lines
    assert f"| spo | own offline | {mse['spo', 1] / ours:.3f} |" in lines
    assert f"| pvpo | offline | {mse['pvpo', 1] / ours:.3f} |" in lines
    assert "| rloo |  |  |" in lines  # two traces are its least


def test_rollouts_before_training_are_charged(table):
    """pvpo at G = 1 stands at 1.64 rollouts a visit, where the others are between G = 1 and 2."""
    found = part(at_equal_rollouts(table), process="calib")
    spent = 1 + 8 * 1024 / 12800
    assert found["rollouts"].unique().sort().to_list() == pytest.approx([spent, spent + 1, spent + 3])
    curve = part(table, part="all", process="calib", method="kae w=20").group_by("group_size").agg(pl.col("mse").mean())
    one, two = (curve.filter(pl.col("group_size") == g)["mse"].item() for g in (1, 2))
    share = math.log(spent) / math.log(2)
    row = found.filter((pl.col("method") == "kae w=20") & (pl.col("rollouts") < 2)).row(0, named=True)
    assert row["mse"] == pytest.approx(one ** (1 - share) * two**share)
    assert row["group_size"] is None
    paid = found.filter((pl.col("method") == "pvpo") & (pl.col("rollouts") < 2)).row(0, named=True)
    assert paid["group_size"] == 1
    assert found.filter((pl.col("method") == "kae w=20") & (pl.col("rollouts") > 4))["mse"].item() is None
    assert found.filter((pl.col("method") == "rloo") & (pl.col("rollouts") < 2))["mse"].item() is None


@pytest.fixture(scope="module")
def batches():
    methods = [*CHOSEN, *(KAE(Steps(w)) for w in (2, 60)), Floor()]
    arguments = {"batches": [4, 16], "parts": ["all"], "workers": 1}
    return compare(methods, ["flat", "continuous"], ["epochs"], [1, 2, 4], 2, **arguments)


def test_prompts_a_step_are_an_axis(batches):
    """Every table keeps the numbers of prompts a step apart."""
    for row in part(batches, method="zero").iter_rows(named=True):
        schedule = Schedule(batch=row["batch"], stay=1, blocks=16)
        v = simulate(row["process"], schedule, row["group_size"], seed=row["seed"]).value
        assert row["mse"] == pytest.approx((v**2).mean())
    found = summary(batches, "zero")
    cells = found.filter(method="rloo").select("process", "schedule", "batch", "group_size").rows()
    assert cells == [(p, "epochs", b, g) for p in ("flat", "continuous") for b in (4, 16) for g in (2, 4)]
    best = in_hindsight(batches, ["kae w=2", "kae w=60"], "best")
    for (process, batch, size), rows in best.group_by("process", "batch", "group_size"):
        tried = part(batches, process=process, batch=batch, group_size=size)
        means = [part(tried, method=f"kae w={w}")["mse"].mean() for w in (2, 60)]
        assert rows["mse"].mean() == pytest.approx(min(means))
    paid = part(at_equal_rollouts(batches), process="flat", method="pvpo")
    assert paid.sort("batch", "rollouts")["batch"].to_list() == [4] * 3 + [16] * 3
    for row in paid.iter_rows(named=True):
        alone = part(batches, process="flat", method="pvpo", batch=row["batch"], group_size=row["group_size"])
        assert row["mse"] == pytest.approx(alone["mse"].mean())


def test_noise_is_the_variance_of_the_reward(batches):
    """A quarter of V (1 - V) for Beta rewards of concentration 3."""
    for row in part(batches, process="continuous", method="oracle").iter_rows(named=True):
        run = simulate(
            "continuous", Schedule(batch=row["batch"], stay=1, blocks=16), row["group_size"], seed=row["seed"]
        )
        assert row["noise"] == pytest.approx((run.value * (1 - run.value)).mean() / 4)
        assert row["noise"] == pytest.approx(((run.rewards - run.value[:, None]) ** 2).mean(), rel=0.2)


def test_nothing_admissible_is_below_the_floor(batches):
    """Those with the own reward inside may be, the truth is."""
    fair = ["zero", "batch_mean", "rloo", "kae w=2", "kae w=20", "kae w=60"]
    for row in summary(batches, "floor").filter(pl.col("method").is_in(fair)).iter_rows(named=True):
        assert row["ratio"] > 1 - 2 * row["ratio_se"]


def test_features_reach_the_baselines():
    run = simulate("flat", "epochs", 1)
    np.testing.assert_array_equal(side_information(run, "informative").features, run.features)
    np.testing.assert_array_equal(side_information(run, "noise").features, run.noise_features)
    assert side_information(run).features is None
    assert side_information(simulate("flat", "epochs", 1, offline_rollouts=0)).offline is None


def test_tuning_beats_a_wrong_setting_and_reads_no_truth():
    """The tuned family is close to its best member in hindsight, and far from its worst."""
    tuned = discover_tuned()["kae_steps tuned"]
    table = compare([tuned, *tuned.grid], ["fast"], ["multi_pass"], [2], 3, batches=[64], workers=1)
    mean = dict(part(table, part="all").group_by("method").agg(pl.col("mse").mean()).iter_rows())
    mine = mean.pop(tuned.name)
    assert mine < 1.05 * min(mean.values())
    assert max(mean.values()) > 1.5 * min(mean.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baselines": []}, "baselines is empty"),
        ({"baselines": [FOUND["zero"]] * 2}, "names that differ, got zero twice"),
        ({"processes": ["calm"]}, "unknown process 'calm'"),
        ({"schedules": ["never"]}, "unknown schedule 'never'"),
        ({"group_sizes": [0]}, "group_size must be a whole number >= 1, got 0"),
        ({"seeds": 0}, "seeds must be a whole number >= 1, got 0"),
        ({"features": "good"}, "unknown features 'good'; known: informative, noise"),
        ({"batches": [0]}, "batch must be a whole number >= 1, got 0"),
        ({"parts": ["half"]}, "unknown part 'half'; known: all, decile, first, position, step"),
        ({"workers": 0}, "workers must be a whole number >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        compare(**({"baselines": CHOSEN, "seeds": 1} | arguments))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare(["rloo"]), r"baselines must be a list of baselines, got \['rloo'\]; see disc"),
        (lambda: compare(CHOSEN, "calib"), "processes must be a list of one name or more, got 'ca"),
        (lambda: compare(CHOSEN, schedules=[]), r"schedules must be a list of one name or more, got"),
        (lambda: compare(CHOSEN, batches=8), "batches must be a list of one number or more, got 8"),
        (lambda: summary({"method": []}, "rloo"), "expected a table of benchmarks.comparison.compare, got dict"),
        (lambda: in_hindsight(pl.DataFrame(), [], "x"), "expected a table of benchmarks.comparison.comp"),
        (lambda: at_equal_rollouts(None), "expected a table of benchmarks.comparison.compare, got NoneT"),
    ],
)
def test_arguments_of_the_wrong_kind(call, message):
    with pytest.raises(ArgumentTypeError, match=message):
        call()
