"""An estimator of components is one estimator each; its repr is the code that makes it."""

import copy

import numpy as np
import pytest

import kernadv
from kernadv import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    ComponentValueEstimator,
    KernelValueEstimator,
    Relative,
    Steps,
    Visits,
)
from kernadv.pooling import Pooling

NAMES = ("correct", "format")


def batches(seed=0):
    rng = np.random.default_rng(seed)
    for step in range(1, 20):
        ids = [f"p{k}" for k in rng.integers(0, 6, 16)]
        yield ids, {name: rng.integers(0, 2, 16).astype(float) for name in NAMES}, step


@pytest.fixture
def trained():
    """Named components, and an estimator of each alone."""
    both, alone = ComponentValueEstimator(NAMES), {name: KernelValueEstimator() for name in NAMES}
    for ids, rewards, step in batches():
        both.observe(ids, rewards, step)
        for name in NAMES:
            alone[name].observe(ids, rewards[name], step)
    return both, alone


def test_everything_is_that_of_each_alone(trained):
    both, alone = trained
    ids, rewards, step = next(batches(1))
    step = 20
    matrix = np.stack([rewards[name] for name in NAMES], axis=1)
    for given in (rewards, matrix):
        for k, name in enumerate(NAMES):
            own = (ids, rewards[name], step)
            np.testing.assert_array_equal(both.values(ids, given, step).value[:, k], alone[name].values(*own).value)
            np.testing.assert_array_equal(both.baselines(ids, given, step)[:, k], alone[name].baselines(*own))
            for bound, expected in zip(
                both.intervals(ids, given, step, level=0.8), alone[name].intervals(*own, level=0.8), strict=True
            ):
                np.testing.assert_array_equal(bound[:, k], expected)
    for name in NAMES:
        np.testing.assert_array_equal(both.predict(ids)[name].value, alone[name].predict(ids).value)
        assert both.explain("p1")[name]["value"] == alone[name].explain("p1")["value"]
        np.testing.assert_array_equal(both.course("p1")[name].value, alone[name].course("p1").value)
        for metric, number in alone[name].metrics().items():
            assert both.metrics()[f"{name}/{metric}"] == number
    assert len(both) == len(alone["correct"]) == 6
    assert both


def test_a_saved_state_is_known_by_its_names(trained, tmp_path):
    both, _ = trained
    both.save(tmp_path / "state")
    again = ComponentValueEstimator(NAMES[::-1])  # in another order
    again.load(tmp_path / "state")
    np.testing.assert_array_equal(again.predict(["p1"])["format"].value, both.predict(["p1"])["format"].value)
    with pytest.raises(
        CheckpointError, match=r"holds 2 components \(correct, format\), this estimator has 2 components \(0, 1\)"
    ):
        ComponentValueEstimator(2).load(tmp_path / "state")


def test_offline_rollouts_are_added_to_all_or_none():
    both, alone = ComponentValueEstimator(NAMES, bandwidth=Steps(30)), KernelValueEstimator(Steps(30))
    with pytest.raises(ArgumentError, match=r"\[0, 1\]"):
        both.observe_offline(["a", "b"], {"correct": [0.5, 0.25], "format": [0.5, 2.0]}, 4)
    assert len(both) == 0
    both.observe_offline(["a", "b"], {"correct": [0.5, 0.25], "format": [1.0, 1.0]}, 4)
    alone.observe_offline(["a", "b"], [0.5, 0.25], 4)
    np.testing.assert_array_equal(both.predict(["b"], 1)["correct"].value, alone.predict(["b"], 1).value)


def test_the_picture_has_a_part_for_each(trained):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    axes = trained[0].plot("p1")
    assert [ax.get_ylabel() for ax in axes] == list(NAMES)
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), trained[1]["format"].course("p1").value)
    with pytest.raises(ArgumentError, match="expected 2 axes, one a component, got 1"):
        trained[0].plot("p1", axes[:1])
    pyplot.close("all")


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ({"correct": [1.0]}, r"must have the names \['correct', 'format'\], got \['correct'\]"),
        ([1.0], r"2 columns, one a component, or be a mapping from the names .* got shape \(1,\)"),
    ],
)
def test_bad_rewards(rewards, message):
    est = ComponentValueEstimator(NAMES)
    with pytest.raises(ArgumentError, match=message):
        est.observe(["a"], rewards, 1)
    assert len(est) == 0


@pytest.mark.parametrize(
    ("components", "error", "message"),
    [
        (0, ArgumentError, "components"),
        ("correct", ArgumentError, "components"),
        (["a/b"], ArgumentTypeError, "names without '/'"),
        ([], ArgumentTypeError, "components must be a number, or names"),
        (["a", "a"], ArgumentError, "different names"),
    ],
)
def test_bad_names(components, error, message):
    with pytest.raises(error, match=message):
        ComponentValueEstimator(components)


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("KernelValueEstimator()", lambda: KernelValueEstimator(max_visits=None)),
        ("KernelValueEstimator(Relative(h=0.5, floor=0.0))", KernelValueEstimator.kae),
        (
            "KernelValueEstimator(Steps(width=20.0), kernel='gaussian', smoother='local_linear', allow_late=3)",
            lambda: KernelValueEstimator(Steps(20), "gaussian", smoother="local_linear", allow_late=3),
        ),
        ("KernelValueEstimator(Visits(k=4, floor=1.0))", lambda: KernelValueEstimator(Visits(4))),
        (
            "KernelValueEstimator(weighted=True, pessimism=2.0, cold_start=0.5)",
            lambda: KernelValueEstimator(weighted=True, pessimism=2, cold_start=0.5),
        ),
        ("ComponentValueEstimator(['a', 'b'])", lambda: ComponentValueEstimator(("a", "b"))),
        ("ComponentValueEstimator(['0'], max_visits=3)", lambda: ComponentValueEstimator(1, max_visits=3)),
    ],
)
def test_the_repr_is_the_code(code, make):
    est = make()
    assert repr(est) == code
    scope = {"Relative": Relative, "Steps": Steps, "Visits": Visits, "Pooling": Pooling, **vars(kernadv)}
    scope |= {"KernelValueEstimator": KernelValueEstimator, "ComponentValueEstimator": ComponentValueEstimator}
    assert repr(eval(code, scope)) == code
    assert repr(copy.deepcopy(est)) == code


def test_the_repr_shows_chosen_filters():
    code = repr(KernelValueEstimator(pooling=Pooling(walks=(0.0, 0.1))))
    assert repr(eval(code, {"KernelValueEstimator": KernelValueEstimator, "Pooling": Pooling})) == code
