"""What an audit knows of each prompt: the estimator's predictions, slopes against a known line, dead groups by hand."""

import math
import sys

import numpy as np
import pytest

from kernadv import KernadvError, KernelValueEstimator
from kernadv.auditing import prompts
from kernadv.groups import aggregate

pl = pytest.importorskip("polars")


def rows(seed, *, names=12, steps=20, batch=6, size=4, slope=0.0):
    """Prompts, rewards and steps of a run whose values move along lines, at most one visit a step."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.2, 0.6, names)
    drawn = [(i, x) for i in range(1, steps + 1) for x in rng.choice(names, batch, replace=False)]
    step, prompt = (np.repeat(column, size) for column in np.array(drawn).T)
    z = (rng.random(len(step)) < start[prompt] + slope * step).astype(float)
    return prompt, z, step


def groups_of(prompt, z, step):
    return aggregate(prompt, step, np.ones(len(z), int), z, z * z)


def test_values_are_those_of_the_estimator():
    prompt, z, step = rows(0)
    estimator = KernelValueEstimator()
    for i in np.unique(step):
        here = step == i
        estimator.observe(prompt[here], z[here], int(i))
    found = prompts(prompt_ids=prompt, rewards=z, step=step, level=0.9)
    names = found["prompt_id"].to_list()
    assert names == list(dict.fromkeys(prompt.tolist()))
    known = estimator.predict(names, level=0.9)
    for column, expected in {
        "value": known.value,
        "value_low": known.low,
        "value_high": known.high,
        "visits": known.visits,
        "last_step": known.last,
        "dead_next": known.dead(4),
    }.items():
        np.testing.assert_allclose(found[column].to_numpy(), expected, rtol=1e-9, err_msg=column)
    own = found.row(by_predicate=pl.col("prompt_id") == 3, named=True)
    assert own["visits"] == len(np.unique(step[prompt == 3]))
    assert own["last_step"] == step[prompt == 3].max()
    by_group = [set(z[(prompt == 3) & (step == i)]) for i in np.unique(step[prompt == 3])]
    assert own["dead_share"] == pytest.approx(np.mean([len(one) == 1 for one in by_group]))


def test_groups_rows_and_files_agree(tmp_path):
    logs = pytest.importorskip("kernadv.logs")
    prompt, z, step = rows(1)
    by_rows = prompts(prompt_ids=prompt, rewards=z, step=step).sort("prompt_id")
    by_groups = prompts(groups_of(prompt, z, step))
    pl.DataFrame({"prompt_id": prompt, "reward": z, "step": step}).write_parquet(tmp_path / "log.parquet")
    by_file = prompts(logs.read_log(tmp_path / "log.parquet")).sort("prompt_id")
    for other in (by_groups, by_file):
        assert other.columns == by_rows.columns
        np.testing.assert_allclose(other.to_numpy(), by_rows.to_numpy(), rtol=1e-9)


def test_the_slope_is_that_of_weighted_least_squares():
    """A line through group means by numpy: triangular weights over the last half of the steps."""
    prompt, z, step = rows(2, steps=30)
    found = prompts(prompt_ids=prompt, rewards=z, step=step)
    for name, slope in found.select("prompt_id", "slope").iter_rows():
        own = prompt == name
        weight = np.maximum(1 - (30 - step[own]) / 15, 0)
        if len(np.unique(step[own][weight > 0])) < 2:
            assert slope is None
            continue
        at, _ = np.polyfit(step[own], z[own], 1, w=np.sqrt(weight))
        assert slope == pytest.approx(at, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_the_interval_of_the_slope_covers(slope):
    hits = []
    for seed in range(25):
        found = prompts(groups_of(*rows(seed, names=20, batch=20, steps=30, slope=slope)))
        hits += [low <= slope <= high for low, high in found.select("slope_low", "slope_high").iter_rows()]
    error = math.sqrt(0.95 * 0.05 / len(hits))
    assert abs(np.mean(hits) - 0.95) < 4 * error + 0.01


def test_other_group_sizes_and_groups_of_one():
    prompt, z, step = rows(3)
    four, two = prompts(groups_of(prompt, z, step)), prompts(groups_of(prompt, z, step), group=2)
    assert (two["dead_next"] > four["dead_next"]).all()
    lone = prompts(groups_of(*rows(3, size=1)))
    assert lone["dead_share"].null_count() == lone["dead_next"].null_count() == len(lone)
    assert prompts(groups_of(*rows(3, size=1)), group=4)["dead_next"].null_count() == 0


def test_rewards_of_many_values_and_far_from_zero():
    prompt, z, step = rows(4)
    z = z + np.random.default_rng(4).random(len(z))
    near, far = (prompts(prompt_ids=prompt, rewards=z + shift, step=step) for shift in (0.0, 2.0**20))
    assert near["dead_next"].null_count() == len(near)
    np.testing.assert_allclose(far["value"].to_numpy() - 2.0**20, near["value"].to_numpy(), atol=1e-6)
    np.testing.assert_allclose(far["slope"].to_numpy(), near["slope"].to_numpy(), atol=1e-8)
    with pytest.raises(KernadvError, match="rewards with more than two values do not follow from counts and sums"):
        prompts(groups_of(prompt, z, step))
    with pytest.raises(KernadvError, match="group=4 asks for the chance of a dead group"):
        prompts(prompt_ids=prompt, rewards=z, step=step, group=4)


@pytest.mark.parametrize("same", [0.0, 1.0, -3.5])
def test_rewards_that_never_differ_leave_no_interval(same):
    prompt, _, step = rows(5)
    found = prompts(groups_of(prompt, np.full(len(prompt), same), step))
    assert found["value"].to_list() == [pytest.approx(same)] * len(found)
    assert found["value_low"].null_count() == found["value_high"].null_count() == len(found)
    assert found["dead_share"].to_list() == [1.0] * len(found)


def test_one_step_has_no_slope():
    found = prompts(groups_of(*rows(6, steps=1)))
    assert found["slope"].null_count() == len(found)
    assert found["visits"].to_list() == [1] * len(found)


def test_groups_without_a_trace_are_no_visits():
    groups = groups_of(*rows(7))
    empty = groups._replace(
        **{
            name: np.append(getattr(groups, name), x)
            for name, x in {"prompt": 40, "step": 9, "n": 0, "s": 0.0, "ss": 0.0}.items()
        }
    )
    assert prompts(empty).equals(prompts(groups))


def test_progress_reaches_the_end():
    seen = []
    prompts(groups_of(*rows(8)), progress=lambda share, what: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "audit takes a log, or prompt_ids, rewards and step together; got nothing"),
        (("log.csv",), {}, "got str; of a file give read_log"),
        ((groups_of(*rows(0)),), {"level": 1.0}, "level must lie strictly between 0 and 1"),
        ((groups_of(*rows(0)),), {"group": 0}, "group must be a whole number >= 1, got 0"),
        ((groups_of(*rows(0)),), {"group": 2.5}, "group must be a whole number"),
        ((groups_of(*rows(0)).take(slice(0)),), {}, "the log is empty"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(KernadvError, match=message):
        prompts(*arguments, **options)


def test_without_polars(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(
        KernadvError, match=r'needs polars, which is not installed; run: pip install "kernadv\[audit\]"'
    ):
        prompts(groups_of(*rows(0)))
