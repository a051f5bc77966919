"""scikit-learn's own tests of KMeans, with ours in its place."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from anyops.estimators import KMeans
from tests.estimators import theirs

module = theirs.load("sklearn.cluster.tests.test_k_means", KMeans)
LEFT_OUT = {
    "test of `MiniBatchKMeans`": (
        "test_minibatch_update_consistency",
        "test_minibatch_kmeans_partial_fit_init",
        "test_minibatch_kmeans_verbose",
        "test_minibatch_kmeans_warning_init_size",
        "test_minibatch_sensible_reassign",
        "test_minibatch_reassign",
        "test_minibatch_with_many_reassignments",
        "test_minibatch_kmeans_init_size",
        "test_minibatch_declared_convergence",
        "test_minibatch_iter_steps",
    ),
    "test of scikit-learn's functions": (
        "test_relocate_empty_clusters",
        "test_k_means_function",
        "test_euclidean_distance",
        "test_inertia",
        "test_kmeans_plusplus_wrong_params",
        "test_kmeans_plusplus_output",
        "test_kmeans_plusplus_norms",
        "test_kmeans_plusplus_dataorder",
        "test_is_same_clustering",
    ),
    "test of private attributes and methods": (
        "test_kmeans_init_auto_with_initial_centroids",
        "test_n_init_auto",
        "test_sample_weight_init",
        "test_sample_weight_zero",
    ),
    "sparse samples": ("test_dense_sparse", "test_predict_dense_sparse"),
    "no `copy_x`: X is never changed": ("test_kmeans_copyx",),
    "no warning: `algorithm` changes nothing": ("test_warning_elkan_1_cluster",),
}
globals().update(theirs.select(module, LEFT_OUT, (module.MiniBatchKMeans,), {}))


@pytest.fixture
def global_random_seed():
    return theirs.SEED


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def global_dtype(request):
    return request.param
