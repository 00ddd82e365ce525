"""How often tests of fits reject, without and with an effect, and prediction intervals hold a new response.

    python -m benchmarks.size [--samples 1000]

Simulated with known truth: about ten CPU minutes.  Writes results/size.md, which the page on regression shows.  The seeds
are not those of the tests.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from benchmarks import RESULTS
from kernadv.regression import EmptyWindowWarning, KNeighborsSmoother, LocalLinear, NadarayaWatson
from kernadv.regression.inference import compare, significance

#: Rows of a sample, draws of a bootstrap, new responses of a sample.
ROWS, DRAWS, NEW = 100, 99, 50


def pair(rng: np.random.Generator, correlation: float) -> np.ndarray:
    """Two uniform columns of normal scores with this correlation.  # (n, 2)"""
    score = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], ROWS)
    return np.asarray(ndtr(score))


def column(
    samples: int, correlation: float, curve: Callable, effect: Callable, noise: Callable, model: Callable
) -> float:
    """Share of samples in which `significance` of the second column is at most 5%."""
    rng, found = np.random.default_rng(201), 0
    for seed in range(samples):
        x = pair(rng, correlation)
        y = curve(x[:, 0]) + effect(x[:, 1]) + noise(x[:, 1]) * rng.standard_normal(ROWS)
        found += significance(model().fit(x, y), 1, draws=DRAWS, seed=seed).p_value[0] <= 0.05
    return found / samples


def compared(samples: int, effect: Callable) -> float:
    """Share of samples in which `compare` of a nearly global and a local line is at most 5%."""
    rng = np.random.default_rng(202)
    x = rng.random((ROWS, 1))
    y = x + effect(x) + 0.3 * rng.standard_normal((ROWS, 10 * samples))
    return float(np.mean(compare(LocalLinear(3.0).fit(x, y), LocalLinear(0.3).fit(x, y)).p_value <= 0.05))


def predicted(samples: int, model: Callable, n: int, noise: Callable) -> tuple[float, float]:
    """Share of new responses in their prediction intervals, and how much wider these are at the right than at the left."""
    rng, inside, width = np.random.default_rng(203), [], []
    for _ in range(samples):
        x, q = rng.random((n, 1)), rng.uniform(0.02, 0.98, (NEW, 1))
        y, new = (np.sin(6 * z[:, 0]) + noise(z[:, 0]) * rng.standard_normal(len(z)) for z in (x, q))
        got = model().fit(x, y).prediction_interval(q)
        inside.append((got.low <= new) & (new <= got.high))
        width.append([np.nanmean((got.high - got.low)[part]) for part in (q[:, 0] < 0.2, q[:, 0] > 0.8)])
    left, right = np.mean(width, axis=0)
    return float(np.mean(inside)), float(right / left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    samples = parser.parse_args().samples
    warnings.simplefilter("ignore", EmptyWindowWarning)
    sine, steep = lambda x: np.sin(4 * x), lambda x: 2 * np.sin(2 * np.pi * x)
    none, even = lambda x: 0 * x, lambda x: 0.3 + 0 * x
    lines = [
        f"Percent of samples with a p-value of at most 5%, {ROWS} rows each: {samples} samples for `significance` of the "
        f"second of two columns with {DRAWS} draws, {10 * samples} for `compare`.",
        "",
        "| test | truth | rejects |",
        "|---|---|---:|",
    ]
    line, wave, growing = lambda x: 0.4 * x, lambda x: 0.4 * np.sin(2 * np.pi * x), lambda x: 0.09 + 0.42 * x
    for name, truth, arguments in (
        ("local lines", "no effect, independent columns", (0.0, sine, none, even, LocalLinear)),
        ("local lines", "no effect, correlation 0.7", (0.7, sine, none, even, LocalLinear)),
        ("local lines", "no effect, correlation 0.7, a steep curve", (0.7, steep, none, even, LocalLinear)),
        (
            "local lines",
            "no effect, correlation 0.7, noise that grows sixfold",
            (0.7, sine, none, growing, LocalLinear),
        ),
        ("local means", "no effect, correlation 0.7", (0.7, sine, none, even, NadarayaWatson)),
        ("local lines", "0.4 x, independent columns", (0.0, sine, line, even, LocalLinear)),
        ("local lines", "0.4 sin(2πx), correlation 0.7", (0.7, sine, wave, even, LocalLinear)),
    ):
        correlation, curve, effect, noise, model = arguments
        share = column(samples, correlation, curve, effect, noise, lambda model=model: model(0.5))
        lines.append(f"| `significance`, {name} | {truth} | {100 * share:.1f} |")
        print(lines[-1], flush=True)
    bump = lambda x: 0.4 * np.exp(-50 * (x - 0.5) ** 2)
    lines.append(f"| `compare`, lines of h = 3 and 0.3 | a line | {100 * compared(samples, none):.1f} |")
    lines.append(
        f"| `compare`, lines of h = 3 and 0.3 | a line with a bump of 0.4 | {100 * compared(samples, bump):.1f} |"
    )
    lines += [
        "",
        f"Prediction intervals of 95%: percent of {NEW} new responses in each of {samples // 2} samples, and the width of "
        "the intervals right of 0.8 over that left of 0.2.",
        "",
        "| model | noise | n | holds | width |",
        "|---|---|---:|---:|---:|",
    ]
    for name, model in (
        ("local lines", LocalLinear),
        ("lines of 20 neighbours", lambda: KNeighborsSmoother(20, degree=1)),
    ):
        for n in (100, 500):
            for kind, noise in (("one size", even), ("0.05 + x²", lambda x: 0.05 + x**2)):
                holds, ratio = predicted(samples // 2, model, n, noise)
                lines.append(f"| {name} | {kind} | {n} | {100 * holds:.1f} | {ratio:.1f} |")
    (RESULTS / "size.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
