"""Normalisations against the formulas, group by group."""

import numpy as np
import pytest

from kernadv import ArgumentError
from kernadv.normalisation import NORMALISATIONS, BatchStd, GroupMAD, GroupStd

IDS = ["a", "b", "a", "c", "a", "b", "a"]
A = np.array([0.4, 1.0, -0.3, 2.0, 0.1, -1.0, 0.9])
GROUPS = {x: np.flatnonzero(np.array(IDS) == x) for x in "abc"}


def test_by_group():
    std, mad = GroupStd()(IDS, A), GroupMAD()(IDS, A)
    for rows in GROUPS.values():
        group = A[rows]
        spread = 1.4826 * np.median(np.abs(group - np.median(group)))
        np.testing.assert_allclose(std[rows], group / (group.std(ddof=1) + 1e-6) if len(group) > 1 else group)
        np.testing.assert_allclose(mad[rows], group / (spread + 1e-6) if spread else group)


def test_by_batch():
    np.testing.assert_allclose(BatchStd()(IDS, A), (A - A.mean()) / (A.std(ddof=1) + 1e-8))
    np.testing.assert_array_equal(BatchStd()(["a"], [0.7]), [0.7])
    np.testing.assert_array_equal(NORMALISATIONS["none"](IDS, A), A)


def test_weights_count_tokens():
    """A row of L tokens counts as L rows (verl's masked_whiten); equal lengths of 1 are no weights."""
    length = np.array([3, 1, 2, 5, 1, 1, 4])
    every = np.repeat(A, length)
    found = BatchStd()(IDS, A, length)
    np.testing.assert_allclose(found, (A - every.mean()) / (every.std(ddof=1) + 1e-8), rtol=1e-12)
    np.testing.assert_allclose(np.repeat(found, length), BatchStd()(np.repeat(IDS, length).tolist(), every), rtol=1e-12)
    np.testing.assert_allclose(BatchStd()(IDS, A, np.ones(7)), BatchStd()(IDS, A), rtol=1e-12)
    unscored = BatchStd()([*IDS, "a"], [*A, np.nan], [*length, 9])
    np.testing.assert_array_equal(unscored[:-1], found)


@pytest.mark.parametrize(
    ("rule", "weights", "message"),
    [
        (GroupStd(), np.ones(7), "group_std has no use for weights"),
        (BatchStd(), np.ones(6), r"expected 7 weights, one a prompt id, got shape \(6,\)"),
        (BatchStd(), np.zeros(7), "must be positive and finite"),
        (BatchStd(), np.full(7, 0.1), "lengths in tokens, at least 1 each"),
    ],
)
def test_weights_that_cannot_be_used(rule, weights, message):
    with pytest.raises(ArgumentError, match=message):
        rule(IDS, A, weights)


@pytest.mark.parametrize("rule", NORMALISATIONS.values(), ids=lambda r: r.name)
def test_unscored_rows_count_for_no_other(rule):
    kept = rule(IDS, A)
    found = rule([*IDS, "a", "d"], [*A, np.nan, np.nan])
    np.testing.assert_array_equal(found[:-2], kept)
    assert np.isnan(found[-2:]).all()
    order = np.random.default_rng(0).permutation(len(A))
    np.testing.assert_allclose(rule([IDS[i] for i in order], A[order]), kept[order])


@pytest.mark.parametrize("rule", NORMALISATIONS.values(), ids=lambda r: r.name)
def test_equal_advantages_stay_finite(rule):
    with np.errstate(all="raise"):
        assert np.isfinite(rule(["a", "a", "a", "b"], [0.0, 0.0, 0.0, 0.0])).all()


def test_lengths_must_agree():
    with pytest.raises(ArgumentError, match=r"expected 7 advantages, one a prompt id, got shape \(6,\)"):
        GroupStd()(IDS, A[:-1])
