"""The value of each prompt under the moving policy, from its past rewards, its group and the other prompts."""

from kernadv.estimator._warmup import warmup
from kernadv.estimator.components import ComponentValueEstimator
from kernadv.estimator.course import Course
from kernadv.estimator.estimator import KernelValueEstimator
from kernadv.estimator.explanation import Explanation
from kernadv.estimator.prediction import Prediction

__all__ = ["ComponentValueEstimator", "Course", "Explanation", "KernelValueEstimator", "Prediction", "warmup"]


def __dir__() -> list[str]:
    return __all__
