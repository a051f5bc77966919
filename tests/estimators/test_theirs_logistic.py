"""scikit-learn's own tests of LogisticRegression, with ours in its place."""

import pytest

pytest.importorskip("sklearn")

from anyops.estimators import LogisticRegression
from tests.estimators import theirs

module = theirs.load("sklearn.linear_model.tests.test_logistic", LogisticRegression)
LEFT_OUT = {
    "test of `LogisticRegressionCV`": (
        "test_logistic_cv",
        "test_logistic_cv_refit_false_non_elasticnet",
        "test_logistic_cv_mock_scorer",
        "test_multinomial_cv_iris",
        "test_logistic_cv_folds_with_classes_missing",
        "test_logistic_cv_sparse",
        "test_logistic_regressioncv_class_weights",
        "test_LogisticRegressionCV_no_refit",
        "test_LogisticRegressionCV_elasticnet_attribute_shapes",
        "test_lr_cv_scores_differ_when_sample_weight_is_requested",
        "test_lr_cv_scores_without_enabling_metadata_routing",
        "test_passing_params_without_enabling_metadata_routing",
        "test_logisticregressioncv_warns_with_use_legacy_attributes",
        "test_lr_scoring_warns",
        "test_get_default_scorer",
    ),
    "test of private functions and methods": (
        "test_consistency_path",
        "test_logistic_regression_path_convergence_fail",
        "test_logistic_regression_path_coefs_multinomial",
        "test_logistic_regression_path_init_coefs",
        "test_logistic_cv_multinomial_score",
        "test_logreg_predict_proba_multinomial",
    ),
    "test of the solver liblinear, which penalises the intercept, and its `dual` and `intercept_scaling`": (
        "test_check_solver_option",
        "test_liblinear_dual_random_state",
        "test_sample_and_class_weight_equivalence_liblinear",
        "test_liblinear_decision_function_zero",
        "test_logreg_l1",
        "test_saga_vs_liblinear",
        "test_logisticregression_liblinear_sample_weight",
        "test_liblinear_with_large_values",
        "test_liblinear_not_stuck",
        "test_liblinear_multiclass_raises",
    ),
    "sparse samples and coefficients": ("test_sparsify", "test_large_sparse_matrix"),
    "deprecated arguments and attributes, absent here: `n_jobs`, `l1_ratio=None`": (
        "test_elasticnet_l1_ratio_err_helpful",
        "test_l1_ratio_None_deprecated",
        "test_logisticregression_warns_with_n_jobs",
    ),
    "callbacks, new and experimental in 1.9": (
        "test_logistic_regression_callback_support",
        "test_logistic_regression_callback_fitted_estimator",
        "test_logistic_regression_callback_support_warning",
    ),
    "expects a start at 0; ours starts at the best intercepts": ("test_zero_max_iter",),
    "test of newton-cholesky's fallback to lbfgs": ("test_newton_cholesky_fallback_to_lbfgs",),
    "pass, but take too long: l1 with linearly dependent columns, or `LogisticRegressionCV` with ours": (
        "test_logistic_regression_solvers_multiclass",
        "test_elastic_net_vs_l1_l2",
        "test_LogisticRegressionCV_GridSearchCV_elastic_net",
        "test_scores_attribute_layout_elasticnet",
    ),
}
# The wording of warnings in test_max_iter; ours has one for all solvers.
MESSAGES = (
    "The max_iter was reached which means the coef_ did not converge",
    "Newton solver did not converge after [0-9]* iterations",
)
module.SOLVERS = tuple(solver for solver in module.SOLVERS if solver != "liblinear")
OTHERS = (module.LogisticRegressionCV, "liblinear", *MESSAGES)
# Cases that take as long as those above, missing libraries and devices, and LogisticRegressionCV again.
ONLY = {
    "test_logistic_regression_sample_weights": ("cv",),
    "test_elastic_net_l1_l2_equivalence": (100, 1000, 1e6),
    "test_logistic_regression_array_api_compliance": ("dpnp", "mps", "xpu", "dict"),
    "test_logistic_regression_array_api_warm_start": ("dpnp", "mps", "xpu"),
}
globals().update(theirs.select(module, LEFT_OUT, OTHERS, ONLY))

pytestmark = [
    module.pytestmark,
    # scikit-learn also warns of penalty="l1" with the default l1_ratio, and its tests ignore that.
    pytest.mark.filterwarnings("ignore:Inconsistent values:UserWarning"),
]


@pytest.fixture
def global_random_seed():
    return theirs.SEED
