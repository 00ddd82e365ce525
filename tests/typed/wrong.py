"""Every call here is an error; the comment names mypy's code for it."""

from kernadv import ComponentValueEstimator, KernelValueEstimator, Steps
from kernadv.typing import Estimator

est = KernelValueEstimator()
est.advantages([1.5], [1.0], 1)  # arg-type
est.advantages(["a"], [1.0], "1")  # arg-type
est.advantages(["a"], "1.0", 1)  # arg-type
est.values(["a"], [1.0], None)  # call-overload
est.predict([1.5])  # arg-type
est.predict(["a"], "1")  # arg-type
est.observe(["a"], [1.0], 1.5)  # arg-type
KernelValueEstimator(20)  # arg-type
KernelValueEstimator(Steps(20), 3)  # arg-type
ComponentValueEstimator(2.5)  # arg-type
est.advantages(["a"], [1.0], 1).keys()  # attr-defined
taken: Estimator = object()  # assignment
