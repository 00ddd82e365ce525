"""What the prompts share: priors, speeds and a common level, chosen by what predicted best; a prior from features.

Each piece stands alone in its file; `Pool` puts them together, and `Pooling` says which filters are run.
"""

from kernadv.pooling._base import Batched, Pooled
from kernadv.pooling._library import NUMPY, Library
from kernadv.pooling.beliefs import Beliefs
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.common import CommonLevel
from kernadv.pooling.features import FeaturePrior
from kernadv.pooling.how import Members, Pooling
from kernadv.pooling.offline import offline_features
from kernadv.pooling.pool import Asked, Chain, Forecast, Pool, columns_of
from kernadv.pooling.weights import PrequentialWeights

__all__ = [
    "NUMPY",
    "Asked",
    "Batched",
    "Beliefs",
    "Calibration",
    "Chain",
    "CommonLevel",
    "FeaturePrior",
    "Forecast",
    "Library",
    "Members",
    "Pool",
    "Pooled",
    "Pooling",
    "PrequentialWeights",
    "columns_of",
    "offline_features",
]
