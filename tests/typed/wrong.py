"""Every call here is an error; the comment names the code of mypy and the rule of pyright for it."""

from kernadv import ComponentValueEstimator, KernelValueEstimator, LocalLinear, Steps
from kernadv.baselines import LinearBaseline
from kernadv.typing import Estimator


class Unfinished(LinearBaseline):
    name, title = "unfinished", "no replay"


est = KernelValueEstimator()
est.advantages([1.5], [1.0], 1)  # arg-type, reportArgumentType
est.advantages(["a"], [1.0], "1")  # arg-type, reportArgumentType
est.advantages(["a"], "1.0", 1)  # arg-type, reportArgumentType
est.values(["a"], [1.0], None)  # call-overload, reportArgumentType
est.predict([1.5])  # arg-type, reportArgumentType
est.predict(["a"], "1")  # arg-type, reportArgumentType
est.observe(["a"], [1.0], 1.5)  # arg-type, reportArgumentType
est.observe(["a"], [1.0], 1, weights="1")  # arg-type, reportArgumentType
est.observe_offline([1.5], [0.5], 8)  # arg-type, reportArgumentType
KernelValueEstimator(20)  # arg-type, reportArgumentType
KernelValueEstimator(Steps(20), 3)  # arg-type, reportArgumentType
ComponentValueEstimator(2.5)  # arg-type, reportArgumentType
ComponentValueEstimator(2).observe(["a"], {"0": "1"}, 1)  # dict-item, reportArgumentType
est.advantages(["a"], [1.0], 1).keys()  # attr-defined, reportAttributeAccessIssue
est.values(["a"], [1.0], 1).mean()  # attr-defined, reportAttributeAccessIssue
LocalLinear().predict(0.5)  # call-overload, reportArgumentType
LocalLinear().interval([0.5], errors=True)  # call-overload, reportArgumentType
Unfinished()  # abstract, reportAbstractUsage
taken: Estimator = object()  # assignment, reportAssignmentType
