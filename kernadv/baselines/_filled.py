"""The online form of the baselines that are a `KernelValueEstimator`."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernadv.batch import read_batch
from kernadv.estimator import KernelValueEstimator
from kernadv.smoothers import Estimate


class Filled:
    """An estimator whose undefined values are the mean of the batch's other prompts."""

    def __init__(self, estimator: KernelValueEstimator) -> None:
        self._estimator = estimator
        self._seen = np.zeros(2)  # count and sum of all rewards observed

    def values(self, prompt_ids: Any, rewards: Any, step: Any) -> Estimate:
        """Value of each row.  Reads only."""
        batch = read_batch(prompt_ids, rewards, step)
        estimate = self._estimator.values(prompt_ids, rewards, step)
        defined = np.asarray(estimate.defined)
        before = float(self._seen[1] / self._seen[0]) if self._seen[0] else 0.0
        value = np.where(defined, np.asarray(estimate.value), batch.mean_of_other_prompts(before))
        return estimate._replace(value=batch.restore(value), defined=batch.restore(np.ones_like(defined)))

    def observe(self, prompt_ids: Any, rewards: Any, step: Any) -> None:
        """Remember a batch."""
        self._estimator.observe(prompt_ids, rewards, step)
        z = np.asarray(rewards, np.float64)
        self._seen += np.count_nonzero(~np.isnan(z)), np.nansum(z)
