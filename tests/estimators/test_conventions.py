"""scikit-learn's own estimator checks, including the array API checks."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data, parametrize_with_checks

from anyops.estimators import KMeans, LogisticRegression

DRAWN = "k-means++ draws samples in their order, which the check changes; see test_sample_weight_is_repetition"


def expected(estimator):
    return {"check_sample_weight_equivalence_on_dense_data": DRAWN} if isinstance(estimator, KMeans) else {}


# Two of the checks fit eight centres to four distinct samples.
@pytest.mark.filterwarnings("ignore:Number of distinct clusters:sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([KMeans(), LogisticRegression()], expected_failed_checks=expected)
def test_scikit_learn_check(estimator, check):
    check(estimator)


def test_sample_weight_is_repetition():
    """A check that fails with random k-means++ draws: run from the first samples instead."""
    init = np.random.RandomState(42).rand(15, 30)[:4]
    check_sample_weight_equivalence_on_dense_data("KMeans", KMeans(4, init=init))
