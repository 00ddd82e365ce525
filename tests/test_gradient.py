"""Gradient variances against enumeration, and the published ratios."""

from itertools import product

import numpy as np
import pytest

from kernadv import ArgumentError
from kernadv.gradient import gradient_variance, implied_ratio

#: Answers of two prompts in tenths: a policy whose groups can be listed with their exact frequencies.
POLICY = {"a": np.array([0.5, 0.2, 0.3]), "b": np.array([0.1, 0.6, 0.3])}
REWARD = {"a": np.array([1.0, 0.0, 1.0]), "b": np.array([0.0, 1.0, 0.0])}
#: A score depends on the answer and is wider for wrong ones: the optimal baseline is not the value.
STRETCH = {"a": np.array([1.0, 3.0, 1.0]), "b": np.array([2.0, 1.0, 2.0])}


def scores_of(prompt):
    """Scores of the three answers with mean 0 under the policy.  # (3, 4)"""
    raw = STRETCH[prompt][:, None] * np.random.default_rng(ord(prompt)).normal(size=(3, 4))
    return raw - POLICY[prompt] @ raw


def population():
    """All groups of two traces with their frequencies, in hundredths: scores, rewards, group and prompt of each trace."""
    scores, rewards, groups, prompts = [], [], [], []
    for prompt, p in POLICY.items():
        tenths = np.repeat(np.arange(3), np.round(10 * p).astype(int))
        for number, pair in enumerate(product(tenths, repeat=2)):
            scores.extend(scores_of(prompt)[list(pair)])
            rewards.extend(REWARD[prompt][list(pair)])
            groups.extend([f"{prompt}{number}"] * 2)
            prompts.extend([prompt] * 2)
    return np.array(scores), np.array(rewards), groups, prompts


def exact(prompt, b):
    """E |(Z - b) s|^2 and E Z s by the sum over the answers."""
    s, p, z = scores_of(prompt), POLICY[prompt], REWARD[prompt]
    return p @ ((z - b) ** 2 * (s**2).sum(1)), p @ (z[:, None] * s)


def best(prompt):
    norm = (scores_of(prompt) ** 2).sum(1)
    return (POLICY[prompt] * norm) @ REWARD[prompt] / (POLICY[prompt] @ norm)


def per_trace(constants, prompts):
    return np.array([constants[x] for x in prompts])


def test_every_moment_is_that_of_the_enumerated_policy():
    scores, rewards, groups, prompts = population()
    oracle = {x: POLICY[x] @ REWARD[x] for x in POLICY}
    optimal = {x: best(x) for x in POLICY}
    given = {"oracle": per_trace(oracle, prompts), "b*": per_trace(optimal, prompts)}
    found = gradient_variance(scores, rewards, groups, given, prompts=prompts, draws=50)
    second = {}
    for name, constants in (("none", dict.fromkeys(POLICY, 0.0)), ("oracle", oracle), ("b*", optimal)):
        parts = [exact(x, constants[x]) for x in POLICY]
        second[name] = np.mean([one / 2 + mean @ mean / 2 for one, mean in parts])
        assert found[name].second_moment.estimate == pytest.approx(second[name], rel=1e-12)
    # RLOO at G = 2: |Z1 - Z2|^2 |s1 - s2|^2 / 4
    rloo = []
    for x in POLICY:
        s, p, z = scores_of(x), POLICY[x], REWARD[x]
        rloo.append(
            sum(
                p[i] * p[j] * (z[i] - z[j]) ** 2 * ((s[i] - s[j]) ** 2).sum() / 4
                for i, j in product(range(3), repeat=2)
            )
        )
    second["rloo"] = np.mean(rloo)
    assert found["rloo"].second_moment.estimate == pytest.approx(second["rloo"], rel=1e-12)
    # one value for all, from the other prompt
    over = {"a": best("b"), "b": best("a")}
    second["global b*"] = np.mean([exact(x, over[x])[0] / 2 + exact(x, 0)[1] @ exact(x, 0)[1] / 2 for x in POLICY])
    for name in second:
        closed = (second["rloo"] - second[name]) / (second["rloo"] - second["b*"])
        assert found[name].gap_closed.estimate == pytest.approx(closed, rel=1e-9)
    assert (found["b*"].gap_closed.estimate, found["rloo"].gap_closed.estimate) == pytest.approx((1, 0))
    assert second["b*"] < second["oracle"]  # the optimal baseline, not the value, has the least variance


def test_variance_takes_off_the_squared_gradient():
    """The population listed many times: the mean over pairs of different traces is the squared mean up to 1 / rows."""
    scores, rewards, groups, prompts = population()
    times = 150
    many = [f"{g} {k}" for k in range(times) for g in groups]
    found = gradient_variance(
        np.tile(scores, (times, 1)), np.tile(rewards, times), many, {}, prompts=prompts * times, draws=10
    )
    for name, b in (("none", dict.fromkeys(POLICY, 0.0)), ("b*", {x: best(x) for x in POLICY})):
        parts = [exact(x, b[x]) for x in POLICY]
        variance = np.mean([(one - mean @ mean) / 2 for one, mean in parts])
        assert found[name].variance.estimate == pytest.approx(variance, rel=1e-3)
    assert found["none"].ratio.estimate == pytest.approx(
        found["none"].variance.estimate / found["rloo"].variance.estimate
    )


def test_squared_norms_give_the_same_gaps():
    """From norms alone the second moments of constants lose (1 - 1/G) |E g|^2, which cancels in differences."""
    scores, rewards, groups, prompts = population()
    norms = (scores**2).sum(1)
    given = {"half": np.full(len(rewards), 0.5), "b*": per_trace({x: best(x) for x in POLICY}, prompts)}
    full = gradient_variance(scores, rewards, groups, given, prompts=prompts, reference="none", draws=10)
    short = gradient_variance(norms, rewards, groups, given, prompts=prompts, reference="none", draws=10)
    mean = np.mean([exact(x, 0)[1] @ exact(x, 0)[1] for x in POLICY])
    for name in ("none", "half", "b*"):
        assert full[name].second_moment.estimate - short[name].second_moment.estimate == pytest.approx(mean / 2)
        assert short[name].gap_closed.estimate == pytest.approx(full[name].gap_closed.estimate)
        assert np.isnan(short[name].variance.estimate)
    off = full["rloo"].second_moment.estimate - short["rloo"].second_moment.estimate
    assert off == pytest.approx(mean / 2 + mean / 2)  # G = 2: |E g|^2 / G (G - 1) more


def draw(rng, prompts=40, size=4):
    """Groups of the two policies above, each prompt with its own."""
    scores, rewards, kind = [], [], []
    for _ in range(prompts):
        x = "ab"[rng.integers(2)]
        answers = rng.choice(3, size, p=POLICY[x])
        scores.extend(scores_of(x)[answers])
        rewards.extend(REWARD[x][answers])
        kind.extend([x] * size)
    return np.array(scores), np.array(rewards), np.repeat(np.arange(prompts), size).tolist(), kind


def test_intervals_cover():
    """Over 200 draws of 40 prompts the 95% interval of the ratio holds the truth at least 88% of the time."""
    rng = np.random.default_rng(1)
    truth = {}
    for x in POLICY:
        (one, mean), s, p, z = exact(x, best(x)), scores_of(x), POLICY[x], REWARD[x]
        pairs = sum(
            p[i] * p[j] * (z[i] - z[j]) ** 2 * ((s[i] - s[j]) ** 2).sum() / 4 for i, j in product(range(3), repeat=2)
        )
        truth[x] = (one - mean @ mean) / 2, pairs - mean @ mean
    exact_ratio = sum(t[0] for t in truth.values()) / sum(t[1] for t in truth.values())
    held = 0
    for _ in range(200):
        scores, rewards, groups, kind = draw(rng, size=2)
        found = gradient_variance(
            scores, rewards, groups, {"b*": per_trace({x: best(x) for x in POLICY}, kind)}, draws=200
        )
        ratio = found["b*"].ratio
        assert ratio.low <= ratio.estimate <= ratio.high
        held += ratio.low <= exact_ratio <= ratio.high
    assert 176 <= held <= 199


def test_one_trace_a_group():
    rng = np.random.default_rng(2)
    scores, rewards, _, kind = draw(rng, prompts=60, size=1)
    mean = np.full(60, 0.5)
    found = gradient_variance(
        scores, rewards, list(range(60)), {"mean": mean}, prompts=kind, reference="mean", draws=10
    )
    assert set(found) == {"none", "b*", "global b*", "mean"}
    assert np.isfinite(found["none"].variance.estimate)
    with pytest.raises(ArgumentError, match="rloo needs two traces or more in every group"):
        gradient_variance(scores, rewards, list(range(60)), {"mean": mean}, prompts=kind)
    with pytest.raises(ArgumentError, match="cannot be estimated for a prompt with a single trace; give values"):
        gradient_variance(scores, rewards, list(range(60)), {"mean": mean}, reference="mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones((3, 2))}, r"got \(4,\) and \(3, 2\)"),
        ({"scores": -np.ones(4)}, "must not be negative, the least is -1"),
        ({"scores": np.full(4, np.nan)}, "scores must be finite"),
        ({"rewards": np.array([1, np.inf, 0, 0])}, "rewards must be finite; leave out traces"),
        ({"groups": ["a"] * 3}, "groups must have one id a trace, 4, got 3"),
        ({"prompts": ["a", "b", "a", "b"]}, "a group must have one prompt"),
        ({"values": {"v": np.ones(3)}}, r"values\['v'\] must have one value a trace, \(4,\), got \(3,\)"),
        ({"reference": "v2"}, "unknown reference 'v2'; known: b\\*, global b\\*, none, rloo, v"),
        ({"draws": 0}, "draws must be a whole number >= 1"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "scores": np.ones(4), "rewards": np.array([1.0, 0.0, 1.0, 0.0]), "groups": ["a", "a", "b", "b"],
        "values": {"v": np.zeros(4)},
    }  # fmt: skip
    with pytest.raises(ArgumentError, match=message):
        gradient_variance(**(arguments | change))


#: Table 1 of arXiv 2604.28005 (value MSE x 1e-3): REINFORCE++, GRPO and KAE at six checkpoints.
TABLE_1 = [
    (78.8, 19.4, 5.80), (89.2, 8.62, 2.67), (72.0, 5.07, 1.45), (73.2, 15.5, 4.2), (30.8, 5.7, 1.8), (31.0, 2.50, 0.91),
]  # fmt: skip


def test_table_2_follows_from_table_1():
    """RLOO at G = 8 has MSE v / 7, so v = 7 MSE: the gradient reductions of KAE that Table 2 prints follow to a point.

    Against GRPO they are 8.0 to 9.1%, against REINFORCE++ 34.0 to 65.6%.
    """
    ratios = [(implied_ratio(7 * g, k, g), implied_ratio(7 * g, k, r)) for r, g, k in TABLE_1]
    grpo, batch = (100 * (1 - np.array(column)) for column in zip(*ratios, strict=True))
    assert (grpo.min(), grpo.max()) == pytest.approx((8.0, 9.1), abs=1)
    assert (batch.min(), batch.max()) == pytest.approx((34.0, 65.6), abs=1)
    with pytest.raises(ArgumentError, match=r"mse must be a finite number >= 0, got -0\.1"):
        implied_ratio(0.1, -0.1)
    with pytest.raises(ArgumentError, match="must not both be 0"):
        implied_ratio(0.0, 0.1)
