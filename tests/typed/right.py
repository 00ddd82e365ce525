"""A user's project: every line is right, and the types of the results are known."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from kernadv import ComponentValueEstimator, Estimate, KernelValueEstimator, Steps, audit, read_log
from kernadv.auditing import Audit
from kernadv.estimator import Prediction
from kernadv.kernels import Kernel
from kernadv.logs import RewardLog
from kernadv.typing import AnyArray, Estimator, FloatArray


def trainer(rewards: NDArray[np.float64]) -> None:
    est = KernelValueEstimator(Steps(20), "gaussian")
    assert_type(est.advantages(["a", "b"], rewards, 1), FloatArray)
    assert_type(est.advantages([1, 2], [1.0, 0.0], np.int64(2)), FloatArray)
    assert_type(est.values(np.array(["a", "b"]), rewards, 3), Estimate[FloatArray])
    assert_type(est.values(["a"], [1], 3).value, FloatArray)
    assert_type(est.predict(["a"]), Prediction)
    assert_type(est.predict(["a"], 4).low, FloatArray)
    assert_type(est.metrics(), dict[str, float])
    assert_type(est.state_dict(), dict[str, AnyArray])
    several = ComponentValueEstimator(["correct", "format"])
    assert_type(several.advantages(["a"], {"correct": [1.0], "format": [0.0]}, 1), FloatArray)
    assert_type(several.predict(["a"])["format"], Prediction)


def log_owner(path: str) -> None:
    log = read_log(path)
    assert_type(log, RewardLog)
    assert_type(audit(log.groups), Audit)


class Mine:
    """A framework's own estimator."""

    def advantages(self, prompt_ids: list[str], rewards: FloatArray, step: int) -> FloatArray:
        out: FloatArray = rewards - rewards.mean()
        return out

    def metrics(self) -> dict[str, float]:
        return {}

    def save(self, path: str) -> None: ...

    def load(self, path: str) -> None: ...


def framework(estimator: Estimator, kernel: Kernel) -> float:
    return kernel.roughness + estimator.metrics()["value_mse"]


framework(KernelValueEstimator(), Kernel.from_function(lambda u: 1 - u))
framework(Mine(), Kernel.from_function(lambda u: 1 - u))
