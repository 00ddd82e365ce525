"""A trainer's project with torch: tensors give tensors."""

from typing import assert_type

import torch
from torch import Tensor

from kernadv import ComponentValueEstimator, Estimate, KernelValueEstimator, LocalLikelihood, LocalLinear
from kernadv.regression.inference import Interval
from kernadv.typing import AnyArray


def trainer(rewards: Tensor, step: int) -> Tensor:
    est = KernelValueEstimator()
    assert_type(est.baselines(["a", "b"], rewards, step), Tensor)
    assert_type(est.values(torch.arange(2), rewards, step), Estimate[Tensor])
    assert_type(est.intervals(["a", "b"], rewards, step), tuple[Tensor, Tensor])
    several = ComponentValueEstimator(["correct", "format"])
    assert_type(several.advantages(["a"], {"correct": rewards, "format": rewards}, 1), Tensor)
    return est.advantages(["a", "b"], rewards, torch.tensor([1, 2]), trace=[1, 2])


def statistician(x: Tensor, y: Tensor) -> None:
    model = LocalLinear(0.3).fit(x, y)
    assert_type(model.predict(x), Tensor)
    assert_type(model.predict(x, return_std=True), tuple[Tensor, Tensor])
    assert_type(model.predict([0.5]), AnyArray)
    assert_type(model.hat_matrix(x), Tensor)
    assert_type(model.interval(x), Interval[Tensor])
    assert_type(LocalLikelihood().fit(x, y).interval(x).low, Tensor)
