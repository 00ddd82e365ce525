"""A prior mean from features of the prompts: an embedding, a difficulty, a pass rate measured before training."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv._arrays import check_floats
from kernadv._errors import ArgumentError, check_count
from kernadv.ids import Id, batch_codes
from kernadv.pooling._base import PoolPiece
from kernadv.pooling._namespace import NUMPY, Array, ArrayNamespace
from kernadv.typing import FloatArray, PromptIds, Weights

#: Number of random cosines beside the features themselves.
COSINES = 32
#: Share of the sums that is kept from one step to the next.
KEEP = 0.98
#: A feature is constant if it varies by less than the first as a share of its mean, or by less than the second.
ROUNDING, LEAST = 1e-12, 1e-100
#: Least penalty of a coefficient, as a share of the mean sum of squares and of the weights.
LEAST_PENALTY = 1e-9
#: Rounding that a saved Gram matrix may show.
SLACK = 1e-9
#: Most rollouts of a pass rate, as many as a visit of a history counts.
MOST_ROLLOUTS = 2**31 - 1


class FeaturePrior(PoolPiece):
    """Ridge regression of the rewards on the features of their prompts, pooled over prompts and past steps,

        mu(x) = mu + gamma (f(x) - fbar)' beta,   beta = (F'F + kappa D diag(var f))^-1 F'y.

    f(x) are the features, standardised by the first batch, and random cosines of them, which make the fit that of a Gaussian
    kernel in feature space.  The penalty is the one of coefficients that together make up tau^2.  gamma, between 0 and 1,
    is the slope of the rewards of new prompts on the deviations fitted without them: features that say nothing get 0.

    Parameters
    ----------
    columns : int
        Number D of features.
    xp : ArrayNamespace

    References
    ----------
    Hoerl and Kennard (1970), ridge regression; its empirical-Bayes penalty, Lindley and Smith (1972).  Rahimi and Recht
    (2007), random features of kernels.

    Examples
    --------
    >>> import numpy as np
    >>> from kernadv import KernelValueEstimator
    >>> features = {name: [float(name == "easy")] for name in ("easy", "hard")} | {str(k): [k % 2] for k in range(64)}
    >>> est = KernelValueEstimator(features=features)
    >>> names = [str(k) for k in range(64)]
    >>> est.observe(names, [k % 2 for k in range(64)], step=1)  # what the feature says, the rewards say
    >>> easy, hard = est.predict(["easy", "hard"]).value  # never visited
    >>> bool(easy > hard)
    True
    """

    centre: Array  # (D,)
    spread: Array  # (D,): 0 before the first batch
    mean: Array  # discounted sums of weights and of weighted columns
    gram: Array
    cross: Array
    trial: Array  # discounted sums of deviation x residual and of squared deviations

    def __init__(self, columns: int, xp: ArrayNamespace = NUMPY) -> None:
        super().__init__(xp, **self.shapes(columns))
        rng = np.random.default_rng(0)
        self._frequency = xp.array(rng.normal(size=(columns, COSINES)) / np.sqrt(columns))
        self._phase = xp.array(rng.uniform(0.0, 2.0 * np.pi, COSINES))
        self._unit = xp.array(np.eye(columns + COSINES))

    @staticmethod
    def shapes(columns: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays, by name."""
        size = columns + COSINES
        return {
            "centre": (columns,),
            "spread": (columns,),
            "mean": (size + 1,),
            "gram": (size, size),
            "cross": (size,),
            "trial": (2,),
        }

    def sound(self, arrays: dict[str, FloatArray]) -> bool:
        """As `PoolPiece.sound`."""
        sums = arrays["mean"][0], arrays["trial"][1]
        spread = arrays["spread"]
        return bool(min(sums) >= 0 and ((spread == 0) | (spread >= LEAST)).all() and _is_gram(arrays["gram"]))

    @property
    def columns(self) -> int:
        """Number D of features."""
        return len(self.centre)

    def deviation(self, features: Array, kappa: Any) -> Array:
        """``(f(x) - fbar)' beta``, 0 for rows of NaN (prompts without features).  features: (B, D) -> (B,)"""
        known, f = self._map(features)
        beta = self.xp.solve(self._system(kappa), self.cross)
        return (f - self.xp.ratio(self.mean[1:], self.mean[0])) @ beta * known

    def weight(self) -> Any:
        """gamma."""
        return self.xp.ratio(self.trial[0], self.trial[1]).clip(0.0, 1.0)

    def learn(
        self,
        features: Array,
        kappa: Any,
        residual: Array,
        weight: Array,
        fresh: Array,
        *,
        new: Any,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        features : (B, D)
        kappa : float
            As in `deviation`.
        residual : (B,)
            Mean rewards minus the mean over prompts.
        weight : (B,)
            Number of traces.
        fresh : (B,) bool
            Prompts without a past.  Only they try gamma, each by what the regression predicts without its rewards.
        new : 1 or 0
            Whether the batch is of a later step than all before.
        """
        xp = self.xp
        known = ~xp.isnan(features[:, 0]) & (weight > 0)
        count = xp.number(known).sum()
        enough = xp.number(count >= 2)
        w = weight * known * enough
        y = residual - self.xp.ratio((w * residual).sum(), w.sum())
        self._standardise(features, known, count, xp.number(self.mean[0] <= 0) * enough)
        f = self._map(features)[1]
        total = w @ f
        for state in (self.mean, self.gram, self.cross):
            state *= KEEP ** (new * enough)
        self.mean += xp.concatenate([w.sum().reshape(1), total])
        f = f - self.xp.ratio(total, w.sum())
        self.gram += (f * w[:, None]).T @ f
        self.cross += (w * y) @ f
        self._try(f, y, w * fresh, kappa, new)

    def carry(self, factor: Any) -> None:
        """After the range grew: shares of it are smaller by this factor."""
        self.cross *= factor
        self.trial *= factor * factor

    def _standardise(self, features: Array, known: Array, count: Any, first: Any) -> None:
        """Take centre and spread from a batch, if it is the first."""
        where = self.xp.where
        x = where(known[:, None], features, 0.0)
        centre = self.xp.ratio(x.sum(0), count)
        spread = self.xp.ratio((((x - centre) * known[:, None]) ** 2).sum(0), count) ** 0.5
        self.centre += (centre - self.centre) * first
        varies = spread > (ROUNDING * abs(centre)).clip(LEAST)
        self.spread += (where(varies, spread, 1.0) - self.spread) * first

    def _try(self, f: Array, y: Array, w: Array, kappa: Any, new: Any) -> None:
        """Compare the rewards of new prompts with their deviations, fitted without them.

        f are the rows of the design, centred, and w the weights, 0 where a prompt is not new.
        """
        several = self.xp.number(w > 0).sum() >= 2
        if self.xp.rules_out(several):
            return
        several = self.xp.number(several)
        f = f * several  # nothing was learned yet, perhaps: what is divided by no system stays finite
        pull = self.xp.solve(self._system(kappa), f.T)
        own = w * (f * pull.T).sum(1)
        d = (self.cross @ pull - own * y) / (1.0 - own).clip(1e-6)
        share = w * several
        d, y = d - self.xp.ratio(share @ d, share.sum()), y - self.xp.ratio(share @ y, share.sum())
        self.trial *= KEEP ** (new * several)
        self.trial += self.xp.stack([(share * d) @ y, (share * d) @ d])

    def _system(self, kappa: Any) -> Array:
        """``F'F`` with the penalty.  # (D + COSINES, D + COSINES)"""
        size = len(self.cross)
        variance = self.xp.ratio(self.gram.diagonal(), self.mean[0])
        least = LEAST_PENALTY * (self.gram.trace() / size + self.mean[0]).clip(1e-280)
        return self.gram + (kappa * size * variance).clip(least) * self._unit

    def _map(self, features: Array) -> tuple[Array, Array]:
        """Which prompts have features; their standardised features and the cosines.  # (B,), (B, D + COSINES)"""
        xp = self.xp
        known = ~xp.isnan(features[:, 0])
        x = (xp.where(known[:, None], features, 0.0) - self.centre) / (self.spread + (self.spread <= 0))
        cosines = (2.0 / COSINES) ** 0.5 * xp.cos(x @ self._frequency + self._phase)
        return known, xp.concatenate([x, cosines], axis=1)


def _is_gram(x: FloatArray) -> bool:
    """Whether a matrix is symmetric and positive semidefinite, up to `SLACK` of its mean diagonal.  # (J, J)"""
    trace = float(np.trace(x))
    if not 0.0 < trace < np.inf:
        return not x.any()
    if np.abs(x - x.T).max() > SLACK * trace:
        return False
    x = x / trace
    x[np.diag_indices_from(x)] += SLACK / len(x)
    try:
        np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return False
    return True


def offline_features(prompt_ids: PromptIds, pass_rates: Weights, rollouts: int) -> dict[Id, FloatArray]:
    """Features for `KernelValueEstimator(features=...)` from rollouts scored before training.

    The feature is the logit of the pass rate, ``log((k + 1/2) / (n - k + 1/2))`` for k of n rollouts.  The regression
    learns what the feature is worth as the policy moves away from the one that was measured.

    Parameters
    ----------
    prompt_ids : sequence of str or of int  # (P,)
    pass_rates : sequence of float in [0, 1]  # (P,)
    rollouts : int
        Number n of rollouts a prompt, below 2^31.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a pass rate lies outside [0, 1], the lengths differ, a prompt comes twice or an argument cannot be used.

    Examples
    --------
    >>> offline_features(["a", "b"], [0.0, 1.0], 8)["b"]
    array([2.83321334])
    """
    count = check_count(rollouts, "rollouts", most=MOST_ROLLOUTS)
    ids, row = batch_codes(prompt_ids)
    rate = check_floats(pass_rates, "pass rates")
    if rate.shape != (len(row),):
        raise ArgumentError(f"one pass rate a prompt: got {len(row)} prompts and rates of shape {rate.shape}")
    bad = ~((rate >= 0) & (rate <= 1))
    if bad.any():
        first = int(bad.argmax())
        raise ArgumentError(f"pass rates must lie in [0, 1], got {rate[first]} for prompt {ids[row[first]]!r}")
    if len(ids) < len(rate):
        raise ArgumentError(f"one pass rate a prompt: got {len(rate)} rates of {len(ids)} prompts")
    return dict(zip(ids, pass_rate_logit(rate, count)[:, None], strict=True))


def pass_rate_logit(rate: FloatArray, rollouts: int) -> FloatArray:
    """Logit of a pass rate, with half a rollout added on both sides."""
    return np.asarray(np.log((rollouts * rate + 0.5) / (rollouts * (1.0 - rate) + 0.5)))
