"""What the prompts share: filters weighted by how well they predicted, a common level, and a prior from features.

Each piece stands alone in its file; `Pool` puts them together, and `Pooling` says which filters are run.
"""

from kernadv.pooling._base import GroupSums, PoolPiece
from kernadv.pooling._namespace import NUMPY, ArrayNamespace
from kernadv.pooling.calibration import Calibration
from kernadv.pooling.common import CommonLevel
from kernadv.pooling.features import FeaturePrior, offline_features
from kernadv.pooling.pool import Chain, Forecast, Pool, Query, columns_of
from kernadv.pooling.settings import Members, Pooling
from kernadv.pooling.weights import PrequentialWeights

__all__ = [
    "NUMPY",
    "ArrayNamespace",
    "Calibration",
    "Chain",
    "CommonLevel",
    "FeaturePrior",
    "Forecast",
    "GroupSums",
    "Members",
    "Pool",
    "PoolPiece",
    "Pooling",
    "PrequentialWeights",
    "Query",
    "columns_of",
    "offline_features",
]


def __dir__() -> list[str]:
    return __all__
