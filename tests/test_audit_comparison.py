"""Two runs on the prompts they share: numbers by hand, agreement with the audits, intervals, and what is said."""

import json

import numpy as np
import pytest

from kernadv import KernadvError
from kernadv.auditing import audit, compare
from kernadv.groups import Groups, aggregate


def run(seed, names, *, steps=24, batch=12, size=4, speed=0.0, origin=0.0):
    """Groups of a run in which the value of every prompt rises by `speed` a step, and the expected reward of each."""
    rng = np.random.default_rng(seed)
    names = np.array(names)
    start = np.random.default_rng(99).uniform(0.2, 0.5, 100)[names]
    rows = []
    for step in range(1, steps + 1):
        for x in rng.choice(len(names), batch, replace=False):
            s = rng.binomial(size, start[x] + speed * step) + size * origin
            ss = s if not origin else (s - size * origin) * (1 + 2 * origin) + size * origin**2
            rows.append((names[x], step, size, s, ss))
    prompt, step, n, s, ss = map(np.array, zip(*rows, strict=True))
    return aggregate(prompt, step, n, s.astype(float), ss.astype(float))


def by_hand(a, b, clock_a, clock_b, begin, end):
    """Mean over the prompts that both have there of each prompt's mean reward."""
    means = []
    for groups, clock in ((a, clock_a), (b, clock_b)):
        there = (clock > begin) & (clock <= end)
        means.append(
            {
                x: groups.s[there & (groups.prompt == x)].sum() / groups.n[there & (groups.prompt == x)].sum()
                for x in set(groups.prompt[there].tolist())
            }
        )
    both = means[0].keys() & means[1].keys()
    return len(both), *(np.mean([own[x] for x in both]) for own in means)


def rollouts(groups):
    return np.array([groups.n[groups.step <= i].sum() for i in groups.step])


def test_mean_rewards_by_hand_at_equal_steps_and_at_equal_rollouts():
    a, b = run(0, range(20)), run(1, range(5, 30), steps=40, size=2, speed=0.01)
    found = compare(a, b, draws=50)
    assert (found.shared, found.only_a, found.only_b) == (15, 5, 10)
    assert found.share_a == pytest.approx(a.n[a.prompt >= 5].sum() / a.n.sum())
    assert found.share_b == pytest.approx(b.n[b.prompt < 20].sum() / b.n.sum())
    steps = found.of("reward", "steps")
    assert [(one.begin, one.end) for one in steps] == [(0, 6), (6, 12), (12, 18), (18, 24)]
    shared_a, shared_b = a.take(a.prompt >= 5), b.take(b.prompt < 20)
    for one in steps:
        expected = by_hand(shared_a, shared_b, shared_a.step, shared_b.step, one.begin, one.end)
        assert (one.prompts, one.a.estimate, one.b.estimate) == pytest.approx(expected)
        assert one.difference.estimate == pytest.approx(one.b.estimate - one.a.estimate)
    parts = found.of("reward", "rollouts")
    assert parts[-1].end == 40 * 12 * 2
    for one in parts:
        clocks = (rollouts(a)[a.prompt >= 5], rollouts(b)[b.prompt < 20])
        expected = by_hand(shared_a, shared_b, *clocks, one.begin, one.end)
        assert (one.prompts, one.a.estimate, one.b.estimate) == pytest.approx(expected)


def test_growth_by_hand():
    a, b = run(2, range(12)), run(3, range(12), speed=0.015)
    (growth,) = compare(a, b, draws=50).of("growth")
    assert growth.prompts == 12  # every prompt is visited at every step
    for groups, own in ((a, growth.a), (b, growth.b)):
        each = [
            [
                groups.s[here & (groups.prompt == x)].sum() / groups.n[here & (groups.prompt == x)].sum()
                for here in (groups.step <= 6, groups.step > 18)
            ]
            for x in range(12)
        ]
        assert own.estimate == pytest.approx(np.diff(each).mean())


def test_a_run_is_equal_to_itself_and_has_the_numbers_of_its_audit():
    groups = run(4, range(20))
    found, own = compare(groups, groups, draws=200), audit(groups, draws=200)
    for one in found.differences:
        assert one.difference == (0, 0, 0)
        assert one.a == one.b
    one = {name: found.of(name)[0].a for name in ("dead", "noise", "mse", "between")}
    assert one["dead"].estimate == pytest.approx(own.dead.share)
    assert one["noise"].estimate == pytest.approx(own.noise)
    assert one["mse"].estimate == pytest.approx(own.finding(own.advised).mse.estimate)
    assert one["between"].estimate == pytest.approx(own.between.estimate)
    for name, interval in (("mse", own.finding(own.advised).mse), ("between", own.between)):
        assert one[name].high - one[name].low == pytest.approx(interval.high - interval.low, rel=0.35)
    assert found.verdict.count("not distinguishable from") == 4


def test_the_faster_run_is_named():
    found = compare(run(5, range(40)), run(6, range(40), speed=0.015), draws=200)
    assert found.of("growth")[0].difference.low > 0
    assert "at equal steps, the mean reward of b in steps 19 to 24 is higher than that of a" in found.verdict.lower()
    other = compare(run(6, range(40), speed=0.015), run(5, range(40)), draws=200)
    assert other.of("growth")[0].difference.high < 0
    assert "is lower than that of A" in other.verdict


def test_intervals_cover():
    """The differences of two runs of known values: 95% intervals, 4 SE of all of them below 95%."""
    hits, names = [], range(30)
    start = np.random.default_rng(99).uniform(0.2, 0.5, 100)[:30]
    noise = [np.mean([(v := start + speed * i) * (1 - v) for i in range(1, 13)]) for speed in (0.0, 0.02)]
    for seed in range(40):
        a, b = run(seed, names, steps=12, batch=30), run(1000 + seed, names, steps=12, batch=30, speed=0.02)
        found = compare(a, b, draws=100, seed=seed)
        for one in found.of("reward"):
            assert one.prompts == 30
            expected = 0.02 * np.mean(np.arange(one.begin + 1, one.end + 1))
            hits.append(one.difference.low <= expected <= one.difference.high)
        one = found.of("noise")[0].difference
        hits.append(one.low <= noise[1] - noise[0] <= one.high)
    assert np.mean(hits) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(hits)) - 0.02


def test_rewards_far_from_zero():
    frames = pytest.importorskip("polars")
    rng = np.random.default_rng(7)
    rows = {"prompt_id": np.tile(np.repeat(np.arange(10), 3), 8), "step": np.repeat(np.arange(1, 9), 30)}
    z = (rng.random(240) < 0.5).astype(float)
    near = frames.DataFrame({**rows, "reward": z})
    far = near.with_columns(frames.col("reward") + 2.0**20)
    found = compare(near, far, draws=20)
    for one in found.of("reward"):
        assert one.difference.estimate == pytest.approx(2.0**20, rel=1e-12)
    for name in ("growth", "dead", "noise", "mse", "between"):
        assert found.of(name)[0].difference.estimate == pytest.approx(0.0, abs=1e-9)


def test_ids_are_texts_or_numbers(tmp_path):
    frames, logs = pytest.importorskip("polars"), pytest.importorskip("kernadv.logs")
    groups = run(8, range(10), batch=5, size=2)
    row = np.repeat(np.arange(len(groups.n)), 2)
    reward = (np.tile([0, 1], len(groups.n)) < groups.s[row]).astype(int)
    frame = frames.DataFrame({"prompt_id": groups.prompt[row], "step": groups.step[row], "reward": reward})
    frame.write_csv(tmp_path / "b.csv")
    found = compare(frame, logs.read_log(tmp_path / "b.csv"), draws=20)
    assert (found.shared, found.only_a, found.only_b) == (10, 0, 0)
    assert all(one.difference == (0, 0, 0) for one in found.differences)


def test_one_trace_a_group_leaves_the_rewards():
    found = compare(run(9, range(20), size=1), run(10, range(20), size=1), draws=50)
    assert {one.name for one in found.differences} == {"reward", "growth"}
    json.dumps(found.to_dict(), allow_nan=False)


def test_few_prompts_have_no_interval():
    found = compare(run(11, range(3), batch=2), run(12, range(2, 6), batch=3), draws=20)
    assert all(np.isnan(one.difference.low) for one in found.differences)
    assert "too few prompts for an interval" in found.verdict
    assert any("1 shared prompt is few" in note for note in found.notes)
    assert "[-" not in found.table()


def test_parts_without_a_common_prompt_are_left_out():
    early = Groups(np.repeat([0, 1], 4), np.tile([1, 2, 3, 4], 2), np.full(8, 2), np.ones(8), np.ones(8))
    late = Groups(np.repeat([0, 1], 4), np.tile([5, 6, 7, 8], 2), np.full(8, 2), np.ones(8), np.ones(8))
    found = compare(early, late, draws=20)
    assert found.of("reward") == []
    assert "At equal steps, no prompt was visited by both runs in the same part" in found.verdict
    assert len(found.of("reward", "rollouts")) == 4


def test_what_is_noted():
    other = run(13, range(20), size=2)
    found = compare(run(14, range(20)), other, draws=50)
    assert any("group sizes differ" in note for note in found.notes)
    bad = other._replace(s=np.ones(len(other.n)), ss=np.ones(len(other.n)))  # of each two rewards one is right
    found = compare(other, bad, draws=50)
    assert any(note.startswith("B: ") for note in found.notes)
    assert found.limits[0].startswith("One run each")


@pytest.mark.parametrize("width", [40, 72, 100, 160])
def test_the_table_fits(width):
    text = compare(run(15, range(20)), run(16, range(10, 30)), draws=50).table(width)
    assert max(map(len, text.splitlines())) <= width
    table = text[text.index("on shared prompts") : text.index("Shared: ")]
    assert table.count("[") > 8
    assert all(line.count("[") == line.count("]") for line in table.splitlines())  # no interval is broken
    words = " ".join(text.split())
    assert "One run each" in words
    assert "growth" in words


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (run(0, range(12)), run(0, range(20, 32))),
            {},
            r"the runs share no prompt: A has 12, such as '0', '1', '2'; B has",
        ),
        ((run(0, range(12)), "log.csv"), {}, "got str; of a file give read_log"),
        ((run(0, range(12)), None), {}, "got nothing"),
        (
            (run(0, range(12)), run(0, range(12)).take(slice(0))),
            {},
            "the runs share no prompt: .* B has 0, such as none",
        ),
        ((run(0, range(12)),) * 2, {"draws": 0}, "draws must be a whole number >= 1"),
        ((run(0, range(12)),) * 2, {"seed": -1}, "seed must be a whole number >= 0"),
        ((run(0, range(12)),) * 2, {"kernel": "round"}, "unknown kernel 'round'"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(KernadvError, match=message):
        compare(*arguments, **options)


def test_progress_reaches_the_end():
    seen = []
    compare(run(0, range(12)), run(1, range(12)), draws=5, progress=lambda share, what: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
