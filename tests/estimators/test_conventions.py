"""scikit-learn's own checks of what an estimator does."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from anyops.estimators import KMeans, LogisticRegression


@parametrize_with_checks([KMeans(), LogisticRegression()])
def test_scikit_learn_check(estimator, check):
    check(estimator)
