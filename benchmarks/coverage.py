"""How often intervals and bands hold the truth, and how short the standard errors for series fall.

    python -m benchmarks.coverage [--designs 20]

Simulated with known truth: about thirteen CPU minutes.  Writes results/coverage.md, which the page on regression shows.  The
seeds are not those of the tests.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from scipy.signal import lfilter

from benchmarks import RESULTS
from kernadv.kernels import KERNELS
from kernadv.regression import (
    EmptyWindowWarning,
    KNeighborsSmoother,
    LinearSmoother,
    LocalLinear,
    LocalPolynomial,
    NadarayaWatson,
    inference,
)
from kernadv.regression.inference import (
    Interval,
    MovingBlocks,
    Wild,
    effective_sample_size,
    interval,
    multiplier_bootstrap,
    normal,
    proportion,
    robust_bias_corrected,
    standard_error,
    tube,
)
from kernadv.regression.local.polynomial import LocalPolynomialSpec

Curve = Callable[[np.ndarray], np.ndarray]
#: Curves, and the bandwidths that AICc chooses for them at n = 500 and noise of standard deviation 0.5.
SINE: Curve = lambda x: np.sin(2 * np.pi * x)
BUMP: Curve = lambda x: x + np.exp(-50 * (x - 0.5) ** 2)
STEEP: Curve = lambda x: np.exp(3 * x) / 10
CURVES = [(SINE, 0.15), (BUMP, 0.13), (STEEP, 0.3)]
#: Inside, and at the end.
PLACES = np.array([[0.25], [0.5], [1.0]])
LINE = np.linspace(0.0, 1.0, 34)[:, None]
#: Rare successes: constant chances, and one that rises; where they are asked for, and the line of their bands.
RARE = (0.02, 0.05, 0.1)
RISING: Curve = lambda x: 0.02 + 0.2 * x**3
ENDS = np.array([[0.0], [0.25], [0.5], [1.0]])
STEPS = np.linspace(0.0, 1.0, 17)[:, None]
#: Replications that share a design, of intervals and of bands.
COLUMNS, BANDS = 200, 40
#: The same of dependent errors.
DEPENDENT = 20


def even(x: np.ndarray, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Independent noise of one size."""
    return 0.5 * rng.normal(size=(len(x), columns))


def growing(x: np.ndarray, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Independent noise that grows tenfold along the line."""
    return (0.1 + 0.9 * x) * rng.normal(size=(len(x), columns))


def correlated(rho: float) -> Callable:
    """Noise whose autocorrelation in the order of x is rho."""

    def noise(x: np.ndarray, columns: int, rng: np.random.Generator) -> np.ndarray:
        series = rng.normal(size=(len(x) + 100, columns))
        series = lfilter([np.sqrt(1 - rho**2)], [1, -rho], series, axis=0)[100:]
        return 0.5 * series[np.argsort(np.argsort(x[:, 0]))]

    return noise


def fits(
    designs: int, columns: int, n: int, curve: Curve, bandwidth: float, degree: int = 1, noise: Callable = even
) -> Iterator[LinearSmoother]:
    """Fits of random designs, each with some replications as its responses."""
    rng = np.random.default_rng(101)
    spec = LocalPolynomialSpec(KERNELS["triangular"], degree)
    for _ in range(designs):
        x = rng.random((n, 1))
        yield LinearSmoother(spec, x, curve(x) + noise(x, columns, rng), np.ones(n), np.array([bandwidth]))


def holds(got: Interval, truth: np.ndarray) -> np.ndarray:
    """Where an interval holds the truth."""
    return (got.low <= truth) & (truth <= got.high)


def robust(designs: int, cases: list[tuple[Curve, float, int]]) -> list[float]:
    """Share of `robust_bias_corrected` intervals that hold m(x), at each place of each case."""
    shares = []
    for curve, bandwidth, degree in cases:
        made = fits(designs, COLUMNS, 500, curve, bandwidth, degree)
        shares += list(np.mean([holds(robust_bias_corrected(f, PLACES), curve(PLACES)).mean(1) for f in made], axis=0))
    return shares


def band(designs: int, n: int, noise: Callable, make: Callable[[LinearSmoother], Interval]) -> list[float]:
    """Share of the bands that hold the whole sine."""
    made = fits(designs, BANDS, n, SINE, 0.25, noise=noise)
    return [float(np.mean([holds(make(f), SINE(LINE)).all(0).mean() for f in made]))]


def chosen_bands(designs: int, n: int) -> list[float]:
    """Share of the default bands of local lines, the bandwidth chosen, that hold each whole curve."""
    rng, shares = np.random.default_rng(106), []
    for curve, _ in CURVES:
        hits = []
        for _ in range(10 * designs):
            x = rng.random(n)
            fit = LocalLinear().fit(x, curve(x) + 0.5 * rng.normal(size=n))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyWindowWarning)
                got = fit.band(STEPS)
            hits.append((holds(got, curve(STEPS[:, 0])) | np.isnan(got.low)).all())
        shares.append(float(np.mean(hits)))
    return shares


def regressors(designs: int, kind: str) -> list[float]:
    """Share of the default intervals of a regressor that hold m(x): at the ends and inside."""
    rng, at = np.random.default_rng(102), np.array([[0.0], [0.3], [0.62], [1.0]])
    hits = []
    for _ in range(20 * designs):
        x = rng.random((300, 1))
        if kind == "categorical":
            group = rng.integers(0, 2, 300)
            y = np.sin(6 * x[:, 0]) * (1 + group) + 0.3 * rng.normal(size=300)
            fit = LocalLinear([0.2, 0.0], categorical={1: "unordered"}).fit(np.column_stack([x, group]), y)
            hits.append(holds(fit.interval(np.column_stack([at, np.ones(4)])), 2 * np.sin(6 * at[:, 0])))
        else:
            y = np.sin(6 * x[:, 0]) + 0.3 * rng.normal(size=300)
            fit = KNeighborsSmoother(int(kind), degree=1).fit(x, y)
            hits.append(holds(fit.interval(at), np.sin(6 * at[:, 0])))
    return list(np.mean(hits, axis=0))


def proportions(method: str) -> list[float]:
    """Coverage of p = 0.02 by every kernel's windows with n_eff from 8 to 10: every outcome with its chance."""
    shares, p = [], 0.02
    for kernel in KERNELS.values():
        for n in range(8, 15):
            x = np.arange(1.0, n + 1)[:, None]
            h = np.array([n if np.isfinite(kernel.support) else n / 3.0])
            outcomes = (np.arange(2**n) >> np.arange(n)[:, None] & 1).astype(float)
            fit = LinearSmoother(LocalPolynomialSpec(kernel, past=True), x, outcomes, np.ones(n), h)
            if 8.0 <= effective_sample_size(fit, x[-1:])[0] <= 10.0:
                chance = p ** outcomes.sum(0) * (1 - p) ** (n - outcomes.sum(0))
                shares.append(float(chance @ holds(proportion(fit, x[-1:], method=method), np.array(p))[0]))
    return shares


def rare(
    designs: int, degree: int, make: Callable[[LinearSmoother], Interval], at: np.ndarray, curves: list[Curve]
) -> list[float]:
    """Share of the intervals, or bands of `STEPS`, that hold the chance of a success, for n = 100 and 300, h = 0.3."""
    rng, shares = np.random.default_rng(103), []
    spec = LocalPolynomialSpec(KERNELS["epanechnikov"], degree)
    for curve in curves:
        for n in (100, 300):
            hits = []
            for _ in range(designs):
                x = rng.random((n, 1))
                y = (rng.random((n, COLUMNS)) < curve(x)).astype(float)
                hits.append(holds(make(LinearSmoother(spec, x, y, np.ones(n), np.array([0.3]))), curve(at)))
            together = len(at) == len(STEPS)
            shares += (
                [float(np.mean([hit.all(0).mean() for hit in hits]))] if together else list(np.mean(hits, axis=(0, 2)))
            )
    return shares


def rare_chosen(
    fits: int,
    make: Callable,
    curves: list[Curve],
    at: np.ndarray,
    sizes: tuple[int, ...] = (100, 300),
    band: bool = False,
) -> list[float]:
    """The same of a regressor, which may choose its bandwidth by leave-one-out in each sample."""
    rng, shares = np.random.default_rng(104), []
    for curve in curves:
        for n in sizes:
            hits = []
            for _ in range(fits):
                x = rng.random((n, 1))
                fit = make().fit(x, 2 * (rng.random(n) < curve(x[:, 0])) - 1)  # -1 and 1
                got = fit.band(at, bias_corrected=True) if band else fit.interval(at)
                hits.append(holds(got, 2 * curve(at[:, 0]) - 1))
            shares += [float(np.mean([hit.all() for hit in hits]))] if band else list(np.mean(hits, axis=0))
    return shares


def shortfall(designs: int, rho: float) -> list[float]:
    """1 - root mean squared standard error "hac" over the standard deviation of the estimate, inside and at the ends."""
    at, ratio = np.array([[0.0], [0.25], [0.5], [0.75], [1.0]]), []
    for fit in fits(designs, 5 * COLUMNS, 300, np.zeros_like, 0.2, noise=correlated(rho)):
        estimate = normal(fit, at, method="homoskedastic").estimate
        ratio.append((standard_error(fit, at, "hac") ** 2).mean(1) / estimate.var(1))
    return list(1 - np.sqrt(np.mean(ratio, axis=0)))


def dependent(
    designs: int, bandwidth: float | str, rho: float, errors: str, kind: str, band: bool = False
) -> list[float]:
    """Share of the intervals at the ends and inside, or of the bands, that hold the sine under dependent errors, n = 200.

    The noise is an autoregression in the order of x, or has correlation rho in 30 clusters: stretches of x, or drawn over x.
    """
    rng, hits, n = np.random.default_rng(105), [], 200
    at = np.linspace(0.0, 1.0, 21 if band else 5)[:, None]
    for _ in range(designs):
        x, label = np.sort(rng.random((n, 1)), axis=0), np.arange(n) * 30 // n
        label = rng.permutation(label) if kind == "drawn" else label
        if kind == "series":
            noise = correlated(rho)(x, DEPENDENT, rng)
        else:
            shared, own = rng.normal(size=(30, DEPENDENT))[label], rng.normal(size=(n, DEPENDENT))
            noise = 0.5 * (np.sqrt(rho) * shared + np.sqrt(1 - rho) * own)
        y = SINE(x) + noise
        for part in [y] if bandwidth == 0.25 else y.T[:, :, None]:  # a bandwidth is chosen for each response
            fit = LocalLinear(bandwidth).fit(x, part, clusters=label)
            got = fit.band(at, bias_corrected=True, errors=errors) if band else fit.interval(at, errors=errors)
            hit = holds(got, SINE(at))
            hits.append(hit.all(0).mean() if band else hit.mean(1))
    return [float(np.mean(hits))] if band else list(np.mean(hits, axis=0))


def of_dependent_errors(designs: int) -> list[str]:
    """The table of intervals and bands with dependent errors."""
    cases = {
        f"{errors}, autocorrelation {rho:g}, {h}": (h, rho, errors, "series")
        for errors, rho, h in [
            *((errors, rho, 0.25) for rho in (0.3, 0.6) for errors in ("independent", "serial")),
            ("serial", 0.0, 0.25),
            *(("serial", rho, "h_block") for rho in (0.3, 0.6)),
        ]
    }
    for kind, name in (("stretches", "30 stretches of x"), ("drawn", "30 clusters drawn over x")):
        for errors, h in (("independent", 0.25), ("cluster", 0.25), ("cluster", "h_block")):
            cases[f"{errors}, {name}, correlation 0.5, {h}"] = (h, 0.5, errors, kind)
    rows = {name.replace(", 0.25", ", h = 0.25"): dependent(designs, *case) for name, case in cases.items()}
    for errors, kind, name in (
        ("serial", "series", "autocorrelation 0.6"),
        ("cluster", "stretches", "30 stretches of x"),
        ("cluster", "drawn", "30 clusters drawn over x"),
    ):
        case = (0.25, 0.6 if kind == "series" else 0.5, errors, kind, True)
        rows[f"band, {errors}, {name}, h = 0.25"] = dependent(designs, *case)
    return [
        "",
        "Dependent errors, `errors=` as named, local lines, n = 200, at 0, 0.25, 0.5, 0.75 and 1 of [0, 1]: "
        f"{DEPENDENT * designs} intervals a place; NaN counts as a miss.",
        "",
        "| dependent errors, 95% | least | most |",
        "|---|---:|---:|",
        *(f"| {name} | {100 * min(shares):.1f} | {100 * max(shares):.1f} |" for name, shares in rows.items()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=20)
    d = parser.parse_args().designs
    sup_t = lambda scheme: lambda fit: multiplier_bootstrap(fit, LINE, 0.95, scheme, draws=199, bias_corrected=True)
    blocks, half = sup_t(MovingBlocks()), correlated(0.5)
    rows = {
        "robust, n = 500, inside and at the end of three curves": robust(d, [(c, h, 1) for c, h in CURVES]),
        "robust, degrees 0, 2 and 3, a bump": robust(d, [(BUMP, h, k) for k, h in ((0, 0.09), (2, 0.2), (3, 0.25))]),
        "sup-t, bias-corrected, n = 300, the whole curve": band(d, 300, even, sup_t(Wild())),
        "the same, noise that grows tenfold along the line": band(d, 300, growing, sup_t(Wild())),
        "the same, n = 100": band(d, 100, even, sup_t(Wild())),
        "sup-t of local lines, h chosen, n = 100, three curves": chosen_bands(d, 100),
        "the same, n = 300": chosen_bands(d, 300),
        "sup-t by blocks, n = 400, autocorrelation 0.5": band(d // 2, 400, half, blocks),
        "the same without blocks": band(d // 2, 400, half, sup_t(Wild())),
        "tube, bias-corrected, n = 300, one noise": band(d, 300, even, lambda f: tube(f, LINE, bias_corrected=True)),
        "40 nearest neighbours of 300, inside and at the ends": regressors(d, "40"),
        "60 nearest neighbours of 300, inside and at the ends": regressors(d, "60"),
        "a categorical column with λ = 0, n = 300": regressors(d, "categorical"),
        "Jeffreys, n_eff from 8 to 10, p = 0.02, every kernel": proportions("jeffreys"),
        "Wilson, the same": proportions("wilson"),
    }
    constant: list[Curve] = [lambda x, p=p: np.full_like(x, p) for p in RARE]  # type: ignore[misc]
    near_end, corrected = np.array([[0.75], [0.95], [1.0]]), lambda fit: inference.band(fit, STEPS, bias_corrected=True)
    two = {}
    for name, degree in (("local lines", 1), ("local means", 0), ("local parabolas", 2), ("local cubics", 3)):
        two[f"{name}, h = 0.3"] = rare(d, degree, lambda fit: interval(fit, ENDS), ENDS, constant)
    for name, make in (
        ("local lines, h chosen", LocalLinear),
        ("local means, h chosen", NadarayaWatson),
        ("40 nearest neighbours, mean", lambda: KNeighborsSmoother(40)),
        ("40 nearest neighbours, line", lambda: KNeighborsSmoother(40, degree=1)),
        ("one-sided local lines, h = 0.5", lambda: LocalPolynomial(1, bandwidth=0.5, side="past")),
    ):
        at = ENDS[1:] if "one-sided" in name else ENDS
        two[name] = rare_chosen((20 if "chosen" in name else 10) * d, make, constant, at)
    for name, make in (("lines", LocalLinear), ("means", NadarayaWatson)):
        two[f"local {name}, h chosen, p = 0.02 + 0.2 x³, x = 0.75, 0.95, 1"] = rare_chosen(
            20 * d, make, [RISING], near_end
        )
    two["band, local lines, h = 0.3, 17 points"] = rare(d, 1, corrected, STEPS, constant)
    two["band, local means, h = 0.3, 17 points"] = rare(d, 0, corrected, STEPS, constant)
    two["band, local lines, h chosen"] = rare_chosen(5 * d, LocalLinear, constant, STEPS, (300,), True)
    lines = [
        f"Percent of the truths held, over the places and curves of a row: {COLUMNS * d} intervals a place ({20 * d} of "
        f"neighbours and categories), {BANDS * d} bands ({BANDS * (d // 2)} of correlated noise, {10 * d} a curve with h "
        "chosen, NaN left out); proportions exactly.",
        "",
        "| interval or band, 95% | least | most |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {100 * min(shares):.1f} | {100 * max(shares):.1f} |" for name, shares in rows.items()]
    lines += [
        "",
        f"Responses of two values, p = {', '.join(map(str, RARE))} the same everywhere, n = 100 and 300, at x = 0, 0.25, "
        f"0.5 and 1 of [0, 1]: default intervals, {COLUMNS * d} a place, {20 * d} with h chosen, {10 * d} of neighbours and "
        f"one-sided; bands corrected for bias, {COLUMNS * d}, {5 * d} with h chosen.",
        "",
        "| two values, 95% | least | most |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {100 * min(shares):.1f} | {100 * max(shares):.1f} |" for name, shares in two.items()]
    lines += ["", "| standard error for series (hac), n = 300, too small by | least | most |", "|---|---:|---:|"]
    for rho in (0.0, 0.3, 0.6):
        short = shortfall(d, rho)
        lines.append(f"| autocorrelation {rho:g} | {round(100 * min(short))}% | {round(100 * max(short))}% |")
    lines += of_dependent_errors(max(d // 5, 1))
    (RESULTS / "coverage.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
