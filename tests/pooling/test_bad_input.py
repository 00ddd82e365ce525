"""What the pooled estimator is given and cannot use: a clear error or one warning, and a state that stays as it was."""

import math
import warnings
from functools import partial

import numpy as np
import pytest

from kernadv import ArgumentError, ArgumentTypeError, ComponentValueEstimator, KernelValueEstimator, Pooling, Steps
from kernadv.pooling import offline_features

IDS = ["a", "a", "b", "b", "c", "c"]
REWARDS = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]


def trained(components=None, steps=6, **options):
    """An estimator with a few steps behind it."""
    rng = np.random.default_rng(0)
    estimator = (
        KernelValueEstimator(**options) if components is None else ComponentValueEstimator(components, **options)
    )
    weighted = options.get("weighted", False)
    for step in range(1, steps + 1):
        z = rng.integers(0, 2, (6,) if components is None else (6, components)).astype(float)
        estimator.observe(IDS, z, step, weights=rng.uniform(1, 2, 6) if weighted else None)
    return estimator


def state_of(estimator):
    return {name: array.copy() for name, array in estimator.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def assert_refused(estimator, call, message, error=ArgumentError):
    before = state_of(estimator)
    with pytest.raises(error, match=message):
        call()
    assert_same(before, state_of(estimator))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"a": [1.0, 2.0], "b": [1.0]}, "one length"),
        ({"a": [1.0], "b": [math.nan]}, "finite numbers"),
        ({"a": [1.0], "b": [math.inf]}, "finite numbers"),
        ({"a": []}, "finite numbers"),
        ({"a": [[1.0, 2.0]]}, "vector"),
        ({}, "at least one prompt"),
    ],
)
def test_features_that_cannot_be_used(features, message):
    with pytest.raises(ArgumentError, match=message):
        KernelValueEstimator(features=features)


@pytest.mark.parametrize("features", [{"a": "easy"}, {"a": None, "b": [1.0]}, [[1.0], [2.0]], 3.0])
def test_features_of_a_wrong_type(features):
    with pytest.raises((ArgumentTypeError, ArgumentError), match="features"):
        KernelValueEstimator(features=features)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda ids: np.ones((len(ids) + 1, 2)), "shape"),
        (lambda ids: np.ones(len(ids)), "shape"),
        (lambda ids: np.ones((len(ids), 0)), "shape"),
        (lambda ids: np.full((len(ids), 2), np.nan), "finite"),
    ],
)
@pytest.mark.parametrize("call", ["values", "observe", "advantages", "intervals"])
def test_a_function_whose_features_cannot_be_used(rows, message, call):
    estimator = KernelValueEstimator(features=rows)
    assert_refused(estimator, lambda: getattr(estimator, call)(IDS, REWARDS, 1), message)


def test_a_function_that_changes_its_width():
    width = [2]
    estimator = KernelValueEstimator(
        features=lambda ids: np.arange(len(ids) * width[0], dtype=float).reshape(len(ids), -1)
    )
    estimator.observe(IDS, REWARDS, 1)
    width[0] = 3
    assert_refused(estimator, lambda: estimator.advantages(IDS, REWARDS, 2), "features")


def test_missing_features_are_said_once():
    estimator = KernelValueEstimator(features={"a": [1.0], "b": [2.0]})
    with pytest.warns(UserWarning, match="1 of 3 prompts have no features, the first is 'c'"):
        estimator.observe(IDS, REWARDS, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(2, 6):
            advantages = estimator.advantages(IDS, REWARDS, step)
    assert np.isfinite(advantages).all()


@pytest.mark.parametrize("kind", [KernelValueEstimator, partial(ComponentValueEstimator, 1)])
@pytest.mark.parametrize("method", ["values", "advantages", "observe", "predict"])
def test_a_warning_names_the_line_that_called(kind, method):
    estimator = kind(features={"a": [1.0], "b": [2.0]})
    rewards = [] if method == "predict" else [np.reshape(REWARDS, -1 if kind is KernelValueEstimator else (-1, 1))]
    with pytest.warns(UserWarning, match="have no features") as caught:
        getattr(estimator, method)(IDS, *rewards, 1)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_prompt_without_features_gets_the_prior_of_no_features():
    """Only other prompts have them: the prior of the prompt without is the common level."""
    rng = np.random.default_rng(0)
    known = [f"p{k}" for k in range(30)]
    estimator = KernelValueEstimator(features={p: [k / 30] for k, p in enumerate(known)})
    for step in range(1, 30):
        ids = [p for p in rng.choice(known, 10, replace=False) for _ in range(2)]
        estimator.observe(ids, rng.binomial(1, [int(p[1:]) / 30 for p in ids]).astype(float), step)
    with pytest.warns(UserWarning, match="no features"):
        estimator.observe(["new"], [0.0], 30)
    level = 1.0 / (1.0 + np.exp(-estimator._state.pool.common.expected()))
    assert estimator.explain("new")["prior"] == pytest.approx(level, rel=1e-12)
    assert estimator.explain("p0")["prior"] < level - 0.1
    assert estimator.explain("p29")["prior"] > level + 0.1


def test_constant_features_change_nothing():
    with_them = trained(features={p: [3.0, 3.0] for p in "abc"}, steps=30)
    without = trained(steps=30)
    a, b = (e.values(IDS, REWARDS, 31).value for e in (with_them, without))
    np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0, -1.0, 1.0, 1.0, 1.0], "row 2"),
        ([0.0] * 6, "all weights are 0"),
        ([1.0] * 5, "one weight a row"),
        ([1.0, math.nan, 1.0, 1.0, 1.0, 1.0], "row 1"),
        ([1.0, math.inf, 1.0, 1.0, 1.0, 1.0], "row 1"),
        (np.ones((6, 1)), "one weight a row"),
        (["heavy"] * 6, "must be numbers"),
        (None, "pass weights"),
    ],
)
@pytest.mark.parametrize("call", ["baselines", "observe", "advantages"])
def test_weights_that_cannot_be_used(weights, message, call):
    estimator = trained(weighted=True)
    error = (ArgumentError, ArgumentTypeError)
    assert_refused(estimator, lambda: getattr(estimator, call)(IDS, REWARDS, 7, weights=weights), message, error)


@pytest.mark.parametrize(
    "estimator", [trained(), trained(2), KernelValueEstimator.kae()], ids=["pooled", "components", "kae"]
)
def test_weights_for_an_estimator_without(estimator):
    columns = getattr(estimator, "columns", None)
    rewards = REWARDS if columns is None else np.stack([REWARDS] * 2, 1)
    assert_refused(estimator, lambda: estimator.advantages(IDS, rewards, 7, weights=np.ones(6)), "weighted=True")


def test_a_weight_of_zero_counts_for_nothing():
    weighted = KernelValueEstimator(weighted=True)
    weighted.observe(IDS, REWARDS, 1, weights=np.ones(6))
    found = weighted.baselines(["a", "a", "a"], [1.0, 0.0, 0.0], 2, weights=[1.0, 1.0, 0.0])
    changed = weighted.baselines(["a", "a", "a"], [1.0, 0.0, 1.0], 2, weights=[1.0, 1.0, 0.0])
    np.testing.assert_array_equal(found[:2], changed[:2])


@pytest.mark.parametrize(
    ("pessimism", "error"),
    [(0.0, ArgumentError), (-1.0, ArgumentError), (math.nan, ArgumentError), ("2", ArgumentTypeError)],
)
def test_a_pessimism_is_a_positive_number(pessimism, error):
    with pytest.raises(error, match="pessimism"):
        KernelValueEstimator(pessimism=pessimism)


@pytest.mark.parametrize(
    "rewards", [np.ones((6, 3)), np.ones((6, 1)), np.ones(6), np.ones((6, 2, 1)), [[1.0, 0.0]] * 5 + [[1.0, np.inf]]]
)
@pytest.mark.parametrize("call", ["values", "observe", "advantages"])
def test_matrix_rewards_of_another_width(rewards, call):
    estimator = trained(2)
    assert_refused(estimator, lambda: getattr(estimator, call)(IDS, rewards, 7), "rewards")


def test_ragged_matrix_rewards():
    estimator = trained(2)
    error = (ArgumentError, ArgumentTypeError)
    assert_refused(estimator, lambda: estimator.advantages(IDS, [[1.0, 0.0]] * 5 + [[1.0]], 7), "rewards", error)


def test_components_refuse_a_batch_whole():
    """A bad second column must not leave the first one learned."""
    estimator = trained(2)
    rewards = np.stack([REWARDS, REWARDS], 1)
    rewards[0, 1] = np.inf
    assert_refused(estimator, lambda: estimator.advantages(IDS, rewards, 7), "row 0")


def test_components_refuse_a_cold_start_whole():
    """With cold_start="error" the second column may be the only one without a value."""
    estimator = ComponentValueEstimator(2, cold_start="error")
    rewards = np.array([[1.0, np.nan], [0.0, 1.0]])
    assert_refused(estimator, lambda: estimator.advantages(["a", "a"], rewards, 1), "no past visit")


@pytest.mark.parametrize("name", ["priors", "walks", "discounts", "common"])
@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.5, 0.5), "must not repeat a number"),
        ((-1.0, 0.5), "must be"),
        ((0.5, math.nan), "must be"),
        ((0.5, math.inf), "must be"),
        ((0.5, 1e9), "must be"),
        (("wide",), "must be"),
        ((None,), "must be"),
        (8.0, "must be a tuple of numbers"),
        ("0.5", "must be a tuple of numbers"),
        (None, "must be a tuple of numbers"),
        ({0.5: 1.0}, "must be a tuple of numbers"),
    ],
)
def test_numbers_of_a_pooling_that_cannot_be_used(name, numbers, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"{name} {message}"):
        Pooling(**{name: numbers})


@pytest.mark.parametrize("name", ["priors", "walks", "common"])
def test_a_pooling_without_a_filter(name):
    with pytest.raises(ArgumentError, match=f"{name} must hold at least one number"):
        Pooling(**{name: ()})


@pytest.mark.parametrize("name", ["priors", "discounts"])
def test_numbers_that_must_be_above_0(name):
    with pytest.raises(ArgumentError, match=name):
        Pooling(**{name: (0.0, 1.0)})


def test_the_order_of_the_numbers_does_not_matter():
    assert Pooling(priors=(4, 1.0), walks=[0.3, 0]) == Pooling(priors=(1.0, 4.0), walks=np.array([0.0, 0.3]))
    assert Pooling(discounts=()).discounts == ()


@pytest.mark.parametrize("no_flag", ["no", 0, None, np.zeros(2)])
def test_flags_are_true_or_false(no_flag):
    with pytest.raises(ArgumentTypeError, match="weighted must be True or False"):
        KernelValueEstimator(weighted=no_flag)


@pytest.mark.parametrize("pooling", ["x", "", 0, 5, [], {}, Pooling])
def test_pooling_that_is_none(pooling):
    with pytest.raises(ArgumentTypeError, match="pooling must be a Pooling"):
        KernelValueEstimator(pooling=pooling)


@pytest.mark.parametrize("cold_start", [10**400, True, None, "mean", math.nan, np.zeros(2)])
def test_cold_starts_that_cannot_be_used(cold_start):
    with pytest.raises(ArgumentError, match="cold_start must be 'batch_mean', 'error' or a finite number"):
        KernelValueEstimator(cold_start=cold_start)


@pytest.mark.parametrize("options", [{"kernel": "triangular"}, {"smoother": "local_linear"}])
def test_what_belongs_to_the_plain_estimator(options):
    with pytest.raises(ArgumentError, match="belongs to the plain estimator: give it a bandwidth"):
        KernelValueEstimator(**options)


@pytest.mark.parametrize(
    "options", [{"pooling": Pooling()}, {"features": {"a": [1.0]}}, {"weighted": True}, {"pessimism": 2.0}]
)
def test_what_belongs_to_the_pooled_estimator(options):
    with pytest.raises(ArgumentError, match="a bandwidth makes the estimator plain"):
        KernelValueEstimator(Steps(9), **options)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf])
def test_offline_pass_rates_outside_the_unit_interval(rate):
    with pytest.raises(ArgumentError, match=r"\[0, 1\].*'b'"):
        offline_features(["a", "b"], [0.5, rate], 8)
    plain = KernelValueEstimator.kae()
    assert_refused(plain, lambda: plain.observe_offline(["a", "b"], [0.5, rate], 8), r"\[0, 1\]")


def test_offline_pass_rates_for_the_wrong_estimator_or_time():
    pooled = trained()
    assert_refused(pooled, lambda: pooled.observe_offline(["a"], [0.5], 8), "offline_features")
    plain = KernelValueEstimator.kae()
    plain.observe(IDS, REWARDS, 1)
    assert_refused(plain, lambda: plain.observe_offline(["a"], [0.5], 8), "before training")


@pytest.mark.parametrize("rollouts", [0, -1, 2.5])
def test_offline_rollouts_are_a_count(rollouts):
    with pytest.raises((ArgumentError, ArgumentTypeError), match="rollouts"):
        offline_features(["a"], [0.5], rollouts)


@pytest.mark.parametrize(
    "call",
    [
        lambda e: e.advantages(IDS, [*REWARDS[:5], math.inf], 7),
        lambda e: e.advantages(IDS, REWARDS[:5], 7),
        lambda e: e.advantages(IDS, REWARDS, 3),
        lambda e: e.advantages([1, 1, 2, 2, 3, 3], REWARDS, 7),
        lambda e: e.intervals(IDS, REWARDS, 7, level=1.0),
        lambda e: e.explain("nobody"),
    ],
)
def test_failed_calls_change_nothing(call):
    estimator = trained()
    assert_refused(estimator, lambda: call(estimator), ".", (ArgumentError, ArgumentTypeError))
