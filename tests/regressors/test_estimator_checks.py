"""scikit-learn's own checks, all of them."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from kernadv.regressors import KNeighborsSmoother, LocalLinear, LocalPolynomial, NadarayaWatson

#: Designs of the checks have up to 30 columns and as few as 10 rows: there is not always an estimate.
pytestmark = pytest.mark.filterwarnings(
    "ignore::kernadv.EmptyWindowWarning",
    "ignore::kernadv.BandwidthWarning",
    "ignore:.*column-vector y.*:sklearn.exceptions.DataConversionWarning",
)

REGRESSORS = [
    NadarayaWatson(),
    NadarayaWatson(1.0, kernel="gaussian"),
    NadarayaWatson(1.0, kernel="exponential", side="past"),
    LocalLinear("rule_of_thumb", kernel="gaussian"),
    LocalLinear(5.0, kernel="gaussian", radial=True),
    LocalPolynomial(0, bandwidth=1.0, kernel="gaussian"),
    LocalPolynomial(1, bandwidth=5.0, kernel="gaussian"),
    LocalPolynomial(2, bandwidth=10.0, kernel="gaussian"),
    LocalPolynomial(3, bandwidth=10.0, kernel="gaussian"),
    KNeighborsSmoother(),
    KNeighborsSmoother(3, kernel="uniform", ties="distinct"),
    KNeighborsSmoother(0.7, degree=1),
    KNeighborsSmoother(0.9, degree=2),
    KNeighborsSmoother(0.9, degree=3),
]


@parametrize_with_checks(REGRESSORS)
def test_check_estimator(estimator, check):
    check(estimator)
