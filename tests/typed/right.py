"""A user's project: every line is right, and the types of the results are known."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

from kernadv import (
    ComponentValueEstimator,
    Estimate,
    Kernel,
    KernelValueEstimator,
    LocalLikelihood,
    LocalLinear,
    Steps,
    audit,
    read_log,
    simulate,
)
from kernadv.auditing import Audit
from kernadv.baselines import NOTHING, Baseline, LinearBaseline, LinearValues, SideInformation, ValueEstimator, discover
from kernadv.estimator import Prediction
from kernadv.groups import Groups
from kernadv.logs import RewardLog
from kernadv.regression.inference import Interval
from kernadv.simulation import Simulation
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
    assert_type(several.values(["a"], np.ones((1, 2)), 1).n_eff, FloatArray)
    est.observe(["a"], [1.0], [3], weights=None, trace=["t"])


def halves(rewards: NDArray[np.float32]) -> None:
    """What is no float64 keeps its type."""
    est = KernelValueEstimator()
    assert_type(est.advantages(["a", "b"], rewards, 1), NDArray[np.float32])
    assert_type(est.intervals(["a", "b"], rewards, 1)[0], NDArray[np.float32])
    assert_type(est.values(["a", "b"], rewards, 1), Estimate[NDArray[np.float32]])


def statistician(x: FloatArray, y: FloatArray) -> None:
    model = LocalLinear("aicc").fit(x, y)
    assert_type(model, LocalLinear)
    assert_type(model.predict(x), AnyArray)
    assert_type(model.predict([[0.5]], return_std=True), tuple[AnyArray, AnyArray])
    assert_type(model.interval(x, errors="serial"), Interval[AnyArray])
    assert_type(model.band(x).covers, str)
    assert_type(model.score(x, y), float)
    assert_type(LocalLikelihood("poisson").fit(x, y).predict(x), AnyArray)


def log_owner(path: str) -> None:
    log = read_log(path)
    assert_type(log, RewardLog)
    assert_type(audit(log.groups), Audit)
    assert_type(simulate(seed=1), Simulation)


class Mine:
    """A framework's own estimator."""

    def advantages(self, prompt_ids: list[str], rewards: FloatArray, step: int) -> FloatArray:
        out: FloatArray = rewards - rewards.mean()
        return out

    def metrics(self) -> dict[str, float]:
        return {}

    def save(self, path: str) -> None: ...

    def load(self, path: str) -> None: ...


class Half(LinearBaseline):
    """A baseline of one's own."""

    name, title = "half", "one half"

    def replay(self, groups: Groups, side: SideInformation = NOTHING) -> LinearValues:
        nothing = np.zeros(len(groups.n))
        return LinearValues(nothing + 0.5, nothing, nothing)


loops: list[ValueEstimator] = [KernelValueEstimator(), ComponentValueEstimator(2), Half().online()]
assert_type(discover(), dict[str, Baseline])


def framework(estimator: Estimator, kernel: Kernel) -> float:
    return kernel.roughness + estimator.metrics()["value_mse"]


framework(KernelValueEstimator(), Kernel.from_function(lambda u: 1 - u))
framework(Mine(), Kernel.from_function(lambda u: 1 - u))
