"""Prompts chosen by what is predicted of them: the law of the draws, and the intervals of the table."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.curriculum import Outcome, choose, markdown, simulated, spread


@pytest.mark.parametrize("uniform", [0.0, 0.25, 1.0])
def test_a_prompt_is_drawn_by_its_share_of_the_weight(uniform):
    interest = np.array([0.0, 0.1, 0.3, np.nan])
    weight = np.array([0.0, 0.1, 0.3, 1.0])
    expected = uniform / 4 + (1 - uniform) * weight / weight.sum()
    rng, draws = np.random.default_rng(0), 4000
    found = np.bincount([choose(interest, 1, rng, uniform)[0] for _ in range(draws)], minlength=4)
    possible = expected > 0
    assert found[~possible].sum() == 0
    assert stats.chisquare(found[possible], draws * expected[possible]).pvalue > 1e-3


def test_no_prompt_is_drawn_twice_and_none_is_needed_to_be_of_interest():
    rng = np.random.default_rng(1)
    for interest in (np.zeros(10), np.r_[np.zeros(9), 1.0]):
        assert sorted(choose(interest, 10, rng, 0.0)) == list(range(10))


def test_spread_is_the_variance_of_a_reward_also_outside_of_its_range():
    np.testing.assert_allclose(spread(np.array([-0.1, 0.0, 0.2, 0.5, 1.0, 1.2])), [0, 0, 0.16, 0.25, 0, 0])


def test_visiting_by_the_truth_has_fewer_dead_groups_and_more_signal():
    alike, by_truth = (simulated("random_walk", sampler, 0) for sampler in ("all alike", "true V (1 - V)"))
    assert by_truth.dead < alike.dead
    assert by_truth.signal > alike.signal
    assert alike.crowded < by_truth.crowded <= 1


def test_the_intervals_of_the_table_are_of_paired_differences():
    rng = np.random.default_rng(2)
    alike, other = rng.random((2, 5, 6))
    rows = {("w", name): [Outcome(*row) for row in runs] for name, runs in (("all alike", alike), ("v", other))}
    line = markdown(rows, 5).splitlines()[-1]
    paired = stats.ttest_rel(other, alike)
    low, high = paired.confidence_interval()
    cells = [cell.strip() for cell in line.split("|")]
    for cell, place, scale, digits in ((3, 0, 1, 2), (4, 1, 1, 3), (7, 4, 1000, 1)):
        mean, half = scale * other[:, place].mean(), scale * (high - low)[place] / 2
        assert cells[cell].split() == [f"{mean:.{digits}f}", "±", f"{half:.{digits}f}"]
