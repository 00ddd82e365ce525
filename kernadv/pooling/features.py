"""A prior mean from features of the prompts: an embedding, a difficulty, a pass rate measured elsewhere."""

from __future__ import annotations

import numpy as np

from kernadv._typing import BoolArray, FloatArray
from kernadv.pooling._base import Pooled

#: Random cosines beside the features themselves.
COSINES = 32
#: Share of the sums that is kept from one step to the next.
KEEP = 0.98


class FeaturePrior(Pooled):
    """Ridge regression of the rewards on the features of their prompts, pooled over prompts and past steps,

        mu(x) = mu + gamma (f(x) - fbar)' beta,   beta = (F'F + kappa D diag(var f))^-1 F'y.

    f(x) are the features, standardised by the first batch, and random cosines of them, which make the fit that of a Gaussian
    kernel in feature space.  The penalty is the one of coefficients that together make up tau^2.  gamma, between 0 and 1,
    is the slope of the rewards of new prompts on the deviations fitted without them: features that say nothing get 0.

    Parameters
    ----------
    columns : int
        Number D of features.

    References
    ----------
    Hoerl and Kennard (1970), ridge regression; its empirical-Bayes penalty, Lindley and Smith (1972).  Rahimi and Recht
    (2007), random features of kernels.
    """

    STATE = ("centre", "spread", "mean", "gram", "cross", "trial")

    def __init__(self, columns: int) -> None:
        rng = np.random.default_rng(0)
        self._frequency = rng.normal(size=(columns, COSINES)) / np.sqrt(columns)
        self._phase = rng.uniform(0.0, 2.0 * np.pi, COSINES)
        size = columns + COSINES
        self.centre = np.zeros(columns)
        self.spread = np.zeros(columns)  # 0 before the first batch
        self.mean = np.zeros(size + 1)  # discounted sums of weights and of weighted columns
        self.gram = np.zeros((size, size))
        self.cross = np.zeros(size)
        self.trial = np.zeros(2)  # discounted sums of deviation x residual and of squared deviations

    @property
    def columns(self) -> int:
        """Number D of features."""
        return len(self.centre)

    def deviation(self, features: FloatArray, kappa: float) -> FloatArray:
        """``(f(x) - fbar)' beta``, 0 for rows of NaN (prompts without features).  features: (B, D) -> (B,)"""
        weight = self.mean[0]
        known = ~np.isnan(features[:, 0])
        out = np.zeros(len(features))
        if weight <= 0:
            return out
        beta = np.linalg.solve(self._system(kappa), self.cross)
        out[known] = (self._map(features[known]) - self.mean[1:] / weight) @ beta
        return out

    def weight(self) -> float:
        """gamma."""
        return float(np.clip(self.trial[0] / self.trial[1], 0.0, 1.0)) if self.trial[1] > 0 else 0.0

    def learn(
        self,
        features: FloatArray,
        kappa: float,
        residual: FloatArray,
        weight: FloatArray,
        fresh: BoolArray,
        *,
        new: bool,
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
        new : bool
            The batch is of a later step than all before.
        """
        known = ~np.isnan(features[:, 0]) & (weight > 0)
        if known.sum() < 2:
            return
        if new:
            for sums in (self.mean, self.gram, self.cross):
                sums *= KEEP
        w = weight[known]
        y = residual[known] - (w @ residual[known]) / w.sum()
        if not self.mean[0]:
            self.centre, spread = features[known].mean(0), features[known].std(0)
            self.spread = np.where(spread > 0, spread, 1.0)
        f = self._map(features[known])
        self.mean += np.concatenate([[w.sum()], w @ f])
        f = f - (w @ f) / w.sum()
        self.gram += (f * w[:, None]).T @ f
        self.cross += (w * y) @ f
        self._try(f, y, w, fresh[known], kappa, new)

    def _try(self, f: FloatArray, y: FloatArray, w: FloatArray, fresh: BoolArray, kappa: float, new: bool) -> None:
        """Compare the rewards of new prompts with their deviations, fitted without them; rows f of the design, centred."""
        if fresh.sum() < 2:
            return
        f, y, w = f[fresh], y[fresh], w[fresh]
        pull = np.linalg.solve(self._system(kappa), f.T)
        own = w * np.einsum("bd,db->b", f, pull)
        d = (self.cross @ pull - own * y) / np.maximum(1.0 - own, 1e-6)
        if new:
            self.trial *= KEEP
        d, y = d - (w @ d) / w.sum(), y - (w @ y) / w.sum()
        self.trial += (w * d) @ y, (w * d) @ d

    def _system(self, kappa: float) -> FloatArray:
        """``F'F`` with the penalty."""
        size = len(self.cross)
        variance = np.diag(self.gram) / self.mean[0]
        penalty = np.maximum(kappa * size * variance, 1e-9 * max(float(self.gram.trace()), 1e-300) / size)
        return np.asarray(self.gram + np.diag(penalty))

    def _map(self, features: FloatArray) -> FloatArray:
        """Standardised features and their cosines.  # (B, D + COSINES)"""
        x = (features - self.centre) / self.spread
        cosines = np.sqrt(2.0 / COSINES) * np.cos(x @ self._frequency + self._phase)
        return np.concatenate([x, cosines], axis=1)
