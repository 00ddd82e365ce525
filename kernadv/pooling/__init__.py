"""What the prompts share: an empirical-Bayes level, pooled slopes, a drift, the choice of the window, a prior from features.

Each piece stands alone in its file; `Pool` puts them together, and `Pooling` says which.
"""

from kernadv.pooling._base import Batched, Pooled, Scale, Windowed
from kernadv.pooling._forecast import Forecast, LastVisit
from kernadv.pooling._library import NUMPY, Library
from kernadv.pooling._posterior import posterior, typical_weight
from kernadv.pooling._units import near_power
from kernadv.pooling.aggregation import AGGREGATIONS, Argmin, ExponentialWeights, OneStandardError, Stacking
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.drift import CommonDrift
from kernadv.pooling.features import FeaturePrior
from kernadv.pooling.how import Pooling
from kernadv.pooling.level import EmpiricalBayesLevel
from kernadv.pooling.offline import offline_features
from kernadv.pooling.pool import Pool, columns_of
from kernadv.pooling.slope import PooledSlope
from kernadv.pooling.strength import Strength

__all__ = [
    "AGGREGATIONS",
    "NUMPY",
    "Argmin",
    "Batched",
    "Calibration",
    "CommonDrift",
    "EmpiricalBayesLevel",
    "ExponentialWeights",
    "FeaturePrior",
    "Forecast",
    "LastVisit",
    "Library",
    "OneStandardError",
    "Pool",
    "Pooled",
    "PooledSlope",
    "Pooling",
    "Scale",
    "Stacking",
    "Strength",
    "Windowed",
    "columns_of",
    "near_power",
    "offline_features",
    "posterior",
    "typical_weight",
]
