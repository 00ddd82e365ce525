"""The diagnosis against an enumerated policy, closed forms and draws."""

from itertools import product

import numpy as np
import pytest

from kernadv import ArgumentError, ArgumentTypeError
from kernadv.gradient import diagnose

#: Probability, reward and squared score norm of the four traces of three prompts.
P = np.array([[0.1, 0.4, 0.3, 0.2], [0.2, 0.3, 0.3, 0.2], [0.7, 0.1, 0.1, 0.1]])
Z = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
W = np.array([[1.0, 3.0, 2.0, 1.5], [2.0, 1.0, 6.0, 2.0], [0.5, 5.0, 1.0, 9.0]])


def population(z=Z, size=3):
    """Every group of traces of every prompt, as often as in 10^size of its groups: rewards, norms, ids."""
    rewards, norms, ids = [], [], []
    for x in range(len(P)):
        for number, group in enumerate(product(np.repeat(range(4), np.round(10 * P[x]).astype(int)), repeat=size)):
            rewards.extend(z[x, list(group)])
            norms.extend(W[x, list(group)])
            ids.extend([f"{x}-{number}"] * size)
    return np.array(rewards), np.array(norms), ids


def exact(b):
    """Mean over the prompts of ``E w (Z - b)^2``, b: (3,)."""
    return (P * W * (Z - np.reshape(b, (3, 1))) ** 2).sum() / 3


def exact_rloo(group):
    value = (P * Z).sum(1)
    return exact(value) + ((P * W).sum(1) * ((P * Z**2).sum(1) - value**2) / (group - 1)).mean()


@pytest.mark.parametrize("group", [2, 3, 8])
def test_predictions_are_the_expectations_of_the_enumerated_policy(group):
    found = diagnose(*population(), group=group, draws=2)
    assert found.predicted["none"].estimate == pytest.approx(exact([0, 0, 0]), rel=1e-12)
    assert found.predicted["value"].estimate == pytest.approx(exact((P * Z).sum(1)), rel=1e-12)
    assert found.predicted["rloo"].estimate == pytest.approx(exact_rloo(group), rel=1e-12)


def test_rloo_is_the_second_moment_with_the_mean_of_the_others():
    z, w, ids = population()
    groups = z.reshape(-1, 3)
    others = (groups.sum(1, keepdims=True) - groups) / 2
    assert diagnose(z, w, ids, draws=2).predicted["rloo"].estimate == pytest.approx(
        (w * (z - others.ravel()) ** 2).mean(), rel=1e-12
    )


def test_k_is_that_within_prompts():
    inside = (P * Z).sum(1) * (P * (1 - Z)).sum(1)
    wrong, right = (P * W * (1 - Z)).sum(1) / (P * (1 - Z)).sum(1), (P * W * Z).sum(1) / (P * Z).sum(1)
    expected = (inside * wrong).sum() / (inside * right).sum()
    assert diagnose(*population(), draws=2).k.estimate == pytest.approx(expected, rel=1e-12)


def test_values_of_the_caller_are_measured():
    z, w, ids = population()
    found = diagnose(z, w, ids, {"mine": np.full(len(z), 0.25)}, draws=2)
    assert found.predicted["mine"].estimate == pytest.approx(exact([0.25] * 3), rel=1e-12)


def draw(rng, prompts, size, k, low=0.0, high=1.0):
    value = rng.beta(1.2, 0.9, prompts)
    z = rng.random((prompts, size)) < value[:, None]
    w = rng.gamma(2.0, 0.5, z.shape) * np.where(z, 1.0, k) * rng.lognormal(0.0, 0.3, (prompts, 1))
    return np.where(z, high, low).ravel(), w.ravel(), np.repeat(np.arange(prompts), size), value


@pytest.mark.parametrize("k", [0.5, 3.0])
def test_intervals_hold_the_truth_of_the_law_they_were_drawn_from(k):
    value = np.random.default_rng(99).beta(1.2, 0.9, 400_000)
    optimal = value / (value + (1 - value) * k)
    norm = value + (1 - value) * k
    of = lambda b: (value * (1 - b) ** 2 + (1 - value) * k * b**2).mean()
    rloo = of(value) + (norm * value * (1 - value) / 3).mean()
    truth = {"none": of(0 * value), "batch_mean": of(value.mean()), "value": of(value), "optimal": of(optimal)}
    inside = dict.fromkeys((*truth, "k", "b*"), 0)
    for seed in range(30):
        z, w, ids, _ = draw(np.random.default_rng(seed), 150, 4, k)
        found = diagnose(z, w, ids, draws=200)
        for name, x in truth.items():
            inside[name] += found.ratio[name].low <= x / rloo <= found.ratio[name].high
        inside["k"] += found.k.low <= k <= found.k.high
        inside["b*"] += found.mean_optimal.low <= optimal.mean() <= found.mean_optimal.high
    assert min(inside.values()) >= 24  # of 30 by 95% intervals; fewer have a chance of 1 in 300


def test_rewards_of_any_two_values_scale_the_moments_and_not_k():
    z, w, ids, _ = draw(np.random.default_rng(1), 200, 4, 3.0)
    plain, coded = diagnose(z, w, ids, draws=50), diagnose(2 * z - 1, w, ids, draws=50)
    assert coded.k.estimate == pytest.approx(plain.k.estimate, rel=1e-12)
    for name in ("rloo", "value", "optimal", "batch_mean"):
        assert coded.predicted[name].estimate == pytest.approx(4 * plain.predicted[name].estimate, rel=1e-9)
    assert coded.mean_optimal.estimate == pytest.approx(2 * plain.mean_optimal.estimate - 1, rel=1e-9)
    half = diagnose(z, w, ids, {"half": np.full(len(z), 0.5)}, draws=50)
    assert coded.predicted["none"].estimate == pytest.approx(4 * half.predicted["half"].estimate, rel=1e-12)


def test_real_rewards_have_their_optimum():
    rng = np.random.default_rng(4)
    value = rng.normal(0.0, 1.0, (600, 1))
    noise = rng.normal(0.0, 0.5, (600, 8))
    z = value + noise
    w = np.exp(-0.5 * noise)  # larger where the reward is low
    # with w = exp(-c e), e normal with sd s: E w e = -c s^2 E w, E w e^2 = (s^2 + c^2 s^4) E w
    shift = -0.5 * 0.25
    found = diagnose(z.ravel(), w.ravel(), np.repeat(np.arange(600), 8), draws=200)
    norm = np.exp(0.125 * 0.25)
    assert found.predicted["value"].low < norm * (0.25 + shift**2) < found.predicted["value"].high
    assert found.predicted["optimal"].low < norm * 0.25 < found.predicted["optimal"].high
    assert found.predicted["optimal"].estimate < found.predicted["value"].estimate


def test_lengths_divide_the_norms():
    z, w, ids, _ = draw(np.random.default_rng(1), 100, 4, 3.0)
    tokens = np.random.default_rng(0).integers(1, 50, len(z))
    one, other = diagnose(z, w * tokens**2, ids, lengths=tokens, draws=20), diagnose(z, w, ids, draws=20)
    assert one.ratio["optimal"].estimate == pytest.approx(other.ratio["optimal"].estimate, rel=1e-12)


def test_proxies_are_refused_what_they_cannot_tell():
    z, w, ids, _ = draw(np.random.default_rng(1), 100, 4, 3.0)
    found = diagnose(z, w, ids, proxies=True, draws=20)
    assert found.k is None
    assert found.mean_optimal is None
    assert set(found.predicted) == set(found.ratio) == {"batch_mean", "rloo", "value"}
    assert "proxies" in found.summary()
    assert "none " not in found.summary()


def test_two_traces_a_prompt_give_no_value_and_few_are_left_out():
    z, w, ids, _ = draw(np.random.default_rng(1), 100, 2, 3.0)
    found = diagnose(z, w, ids, draws=20)
    assert np.isnan(found.predicted["value"].estimate)
    assert np.isfinite(found.predicted["rloo"].estimate)
    more = diagnose(np.append(z, [1.0, 0.0, 1.0]), np.append(w, [1.0, 1.0, 1.0]), np.append(ids, [900] * 3), draws=20)
    assert (more.prompts, more.traces, more.left_out) == (1, 3, 100)
    assert np.isnan(more.k.low)  # one prompt has no interval


def test_summary_names_every_baseline_best_first():
    z, w, ids, _ = draw(np.random.default_rng(1), 200, 4, 3.0)
    lines = str(diagnose(z, w, ids, draws=50)).splitlines()
    names = [line.split()[0] for line in lines[1:-2]]
    assert set(names) == {"none", "batch_mean", "rloo", "value", "optimal"}
    assert names[0] == "optimal"


ROWS = ([1.0, 0.0], [1.0, 2.0], ["a", "a"])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"rewards": [[1.0]]}, ArgumentError, "expected rewards and squared_norms"),
        ({"rewards": []}, ArgumentError, "expected rewards"),
        ({"rewards": [1.0, np.nan]}, ArgumentError, "finite"),
        ({"squared_norms": [1.0]}, ArgumentError, "expected rewards and squared_norms"),
        ({"squared_norms": [1.0, -1.0]}, ArgumentError, "must not be negative"),
        ({"squared_norms": [0.0, 0.0]}, ArgumentError, "nor all 0"),
        ({"prompt_ids": ["a"]}, ArgumentError, "one id a trace"),
        ({"prompt_ids": ["a", "b"]}, ArgumentError, "no prompt has two traces"),
        ({"values": [0.5, 0.5]}, ArgumentTypeError, "mapping"),
        ({"values": {"mine": [0.5]}}, ArgumentError, "one value a trace"),
        ({"values": {"rloo": [0.5, 0.5]}}, ArgumentError, "predicted"),
        ({"lengths": [0, 1]}, ArgumentError, "tokens"),
        ({"group": 1}, ArgumentError, "group"),
        ({"proxies": 2}, ArgumentTypeError, "proxies"),
    ],
)
def test_bad_input_is_refused(change, error, words):
    given = dict(zip(("rewards", "squared_norms", "prompt_ids"), ROWS, strict=True)) | change
    with pytest.raises(error, match=words):
        diagnose(**given)
