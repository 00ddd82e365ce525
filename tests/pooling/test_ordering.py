"""The default estimator against KAE where the truth is known, paired over seeds."""

import numpy as np
import pytest

from kernadv import Pooling, Relative, Steps
from kernadv.baselines import SideInformation, discover_tuned
from kernadv.baselines.kae import KAE
from kernadv.baselines.pooled import PooledKernel
from kernadv.simulation import simulate


def error(baseline, run, side=None):
    """Value MSE over all traces of a run."""
    values = baseline.replay(run.groups, side or SideInformation())
    return values.true_squared_error(run.groups, run.value).sum() / run.groups.n.sum()


def t_statistic(differences):
    d = np.asarray(differences)
    return d.mean() / (d.std(ddof=1) / np.sqrt(len(d)))


@pytest.mark.parametrize("size", [1, 2])
def test_pooled_beats_adaptive_beats_fixed_under_fast_drift(size):
    adaptive = discover_tuned()["kae_steps tuned"]
    rows = []
    for seed in range(20):
        run = simulate("fast", "multi_pass", size, seed=100 + seed)
        rows.append([error(b, run) for b in (PooledKernel(), adaptive, KAE(Steps(20)))])
    pooled, tuned, fixed = np.array(rows).T
    assert t_statistic(fixed - tuned) > 3
    assert t_statistic(tuned - pooled) > 10
    assert pooled.mean() < 0.8 * tuned.mean()


@pytest.mark.parametrize(
    ("process", "schedule", "size", "most"),
    [
        ("calib", "one_pass", 1, 0.87), ("calib", "one_pass", 2, 0.80), ("calib", "one_pass", 4, 0.93),
        ("calib", "epochs", 1, 0.76), ("calib", "epochs", 4, 0.84), ("fast", "multi_pass", 4, 0.80),
        ("flat", "epochs", 2, 0.68), ("random_walk", "multi_pass", 8, 1.00),
    ],
)  # fmt: skip
def test_pooled_beats_the_best_window_in_hindsight(process, schedule, size, most):
    """Paired over four runs; the bounds are a few standard errors above what twenty runs give."""
    windows = [Steps(np.inf), Steps(10), Steps(20), Steps(40), Relative(0.3), Relative(0.5), Relative(1.0)]
    runs = [simulate(process, schedule, size, seed=200 + seed) for seed in range(4)]
    best = min(np.mean([error(KAE(window), run) for run in runs]) for window in windows)
    assert np.mean([error(PooledKernel(), run) for run in runs]) < most * best


def test_features_help_where_they_tell_and_cost_nothing_where_not():
    rows = []
    for seed in range(4):
        run = simulate("calib", "one_pass", 2, seed=300 + seed)
        told, noise = (SideInformation(features=f) for f in (run.features, run.noise_features))
        rows.append([error(PooledKernel(), run), *(error(PooledKernel(features=True), run, s) for s in (told, noise))])
    without, told, noise = np.mean(rows, axis=0)
    assert told < 0.93 * without
    assert noise < 1.01 * without


def test_no_filter_alone_is_as_good_everywhere():
    """The filters together against each way to move alone, over values that stand still, drift, jump and walk."""
    ways = [{"walks": (walk,), "discounts": ()} for walk in (0.0, 0.1, 0.4)] + [{"walks": (0.0,), "discounts": (0.04,)}]
    rows = []
    for process, schedule in (("flat", "epochs"), ("calib", "epochs"), ("fast", "multi_pass"), ("jump", "multi_pass")):
        for seed in range(2):
            run = simulate(process, schedule, 2, seed=400 + seed)
            kinds = [Pooling(), *(Pooling(priors=(1.0,), **way) for way in ways)]
            rows.append([np.log(error(PooledKernel(how), run)) for how in kinds])
    together, *alone = np.mean(rows, axis=0)
    assert together < min(alone) - 0.02
