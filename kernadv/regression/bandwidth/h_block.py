"""Cross-validation that leaves out the neighbours of each point as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kernadv._errors import check_count
from kernadv._typing import FloatArray, IntArray
from kernadv.regression.bandwidth._criterion import CriterionSelector, Errors
from kernadv.regression.bandwidth._sample import Sample
from kernadv.regression.bandwidth.criteria import OTHERS
from kernadv.regression.local.moments import exponents, local_moments
from kernadv.regression.local.polynomial import LocalPolynomialSpec
from kernadv.regression.local.solve import SURE, solve_local
from kernadv.regression.series import apart


@dataclass(frozen=True)
class HBlock(CriterionSelector):
    """Mean squared error of every point predicted without the points within `block` places of it in its series.

    Places are the distinct values of x, of its first dimension, in ascending order: points that share one are left out
    together, as they are summed in the "hac" variance of `kernadv.regression.inference.standard_error`.  If errors further
    apart than `block` places are uncorrelated, the score is unbiased for the prediction error, where leave-one-out would
    follow the noise.

    The moments of the ``2 block + 1`` places left out are taken from the moments of all points, and each local system is
    solved again: exact, in O(block n) on top of a smooth a bandwidth.  A point whose block holds all but 1e-6 of the
    weight counts as undefined.  The bandwidth is optimal for the sample without the blocks: keep them narrow.

    Parameters
    ----------
    block : int
        Places left out on each side; 0 leaves out each place, which is leave-one-out if no two points share one.

    References
    ----------
    Chu and Marron (1991), Comparison of two bandwidth selectors with dependent errors, Annals of Statistics 19.
    Burman, Chow and Nolan (1994), A cross-validatory method for dependent data, Biometrika 81.
    """

    block: int = 3

    name = "h_block"
    criterion: ClassVar[str] = "h-block CV"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.block, "block", 0)

    def errors(self, sample: Sample, bandwidth: FloatArray) -> Errors:
        """Errors of every point from the points outside its block."""
        spec, d = sample.spec, sample.x.shape[1]
        powers, all_powers = exponents(d, spec.degree), exponents(d, 2 * spec.degree)
        x, labels, spots = sample.x, sample.labels, sample.spots
        block = min(self.block, len(x))
        place = sample.place + block * sample.series
        channels = np.concatenate([sample.weights[None], sample.weights * sample.y.T])
        ties = len(spots) < len(x)
        if ties:  # points in one spot are one in the moments
            x, place, channels = x[spots], place[spots], np.add.reduceat(channels, spots, axis=1)
            labels = None if labels is None else labels[spots]
        sums = np.zeros((len(x), len(channels), len(all_powers)))
        for points, queries, own, at, _ in apart(x, labels, x, labels, spec.kernel, bandwidth):
            part = np.ascontiguousarray(channels[:, points])
            sums[queries] = local_moments(
                own, part, at, bandwidth, spec.kernel, 2 * spec.degree, radial=spec.radial, past=spec.past
            )
        total = sums[:, 0, 0].copy()
        z, offset = x / bandwidth, 0
        while len(near := np.flatnonzero(place[offset:] - place[: len(place) - offset] <= block)):
            _leave_out(sums, spec, z, channels, all_powers, near, near + offset)
            if offset:
                _leave_out(sums, spec, z, channels, all_powers, near + offset, near)
            offset += 1
        sums[~(sums[:, 0, 0] > OTHERS * total)] = 0.0
        solved = solve_local(sums, powers, all_powers)
        value = np.where(solved.pivot[:, None] > SURE, solved.coefficients[:, 0], np.nan)
        if ties:
            value = np.repeat(value, np.diff(spots, append=len(sample.x)), axis=0)
        return Errors(sample.y - value, np.zeros(len(value)))


def _leave_out(
    sums: FloatArray,
    spec: LocalPolynomialSpec,
    z: FloatArray,
    channels: FloatArray,
    powers: IntArray,
    query: IntArray,
    other: IntArray,
) -> None:
    """Subtract the moments of one other spot from those of each query, in place."""
    u = z[other] - z[query]  # (q, d)
    profile = spec.kernel.profile
    weight = profile(np.linalg.norm(u, axis=1)) if spec.radial else np.prod(profile(u), axis=1)
    if spec.past:
        weight = np.where(u[:, 0] <= 0.0, weight, 0.0)
    for k, power in enumerate(powers):
        sums[query, :, k] -= (weight * np.prod(u**power, axis=1) * channels[:, other]).T


SELECTORS = (HBlock(),)
