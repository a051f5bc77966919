"""KMeans and LogisticRegression with the interface of scikit-learn, for arrays of any library (extra ``sklearn``)."""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any, Literal, get_args

import array_api_compat as compat
import numpy as np

from ._array.arguments import check_integer, check_number
from ._array.backends import to_host
from ._array.chunked import check_known_chunks, check_no_lazy_frame, chunks_like, is_chunked, over_rows, reduce_chunks
from ._array.finite import describe_not_finite
from ._array.host import from_host
from ._array.labels import by_class, check_no_missing, is_text, label_dtype, labels_on_host, plain, survey, take_classes
from ._array.mode import mode_of
from ._array.namespace import (
    Array,
    Namespace,
    as_numbers,
    cast,
    compute_dtype,
    default_int,
    describe,
    device,
    hides_values,
    namespace,
    result_dtype,
    widest_dtype,
)
from .cluster.arguments import Center
from .cluster.assign import all_distances, kmeans_assign
from .cluster.distances import Metric
from .cluster.lloyd import KMeansResult, inertia_of, kmeans
from .logistic.fit import SOLVERS, ClassWeight, Solver, logistic_regression
from .logistic.objective import check_integers, logistic_log_proba, logistic_predict_proba
from .logistic.result import LogisticResult

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        TransformerMixin,
    )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import assert_all_finite, check_array, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    # Any other missing module is a bug of anyops, not a fault of the installation.
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ModuleNotFoundError(
        "anyops.estimators needs scikit-learn: pip install 'anyops[sklearn]'", name="sklearn"
    ) from None

__all__ = ["KMeans", "LogisticRegression"]

FLOATING = (np.float64, np.float32, np.float16)
REAL = (*FLOATING, *(np.dtype(code) for code in "bBhHiIlLqQ"))
HELD = 2.0**53  # float64 represents all integers up to this

Algorithm = Literal["lloyd", "elkan"]
PenaltyByName = Literal["l1", "l2", "elasticnet", None]
SolverByName = Literal["auto", "newton", "lbfgs", "proximal", "newton-cholesky", "newton-cg", "sag", "saga"]
# scikit-learn's solvers of these names minimise the same objective. liblinear does not: it penalises the intercept.
SOLVER_BY_NAME: dict[str, Solver] = {
    **{name: name for name in SOLVERS},
    "newton-cholesky": "newton",
    "newton-cg": "newton",
    "sag": "auto",
    "saga": "auto",
}


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Minimise Σ w · d(x, c of its label) over `n_clusters` centres, by :func:`anyops.kmeans`.

    Parameters
    ----------
    n_clusters : int ≥ 1
    init : {"k-means++", "k-means||", "random"}, array (n_clusters, p) or callable
        The centres to start from, or how to draw them; a callable is given X, `n_clusters` and ``random_state=``.
    n_init : int or "auto"
        Number of starts; the best fit is kept. "auto" is 10 for "random" and callables, 1 otherwise.
    max_iter : int ≥ 1
    tol : float ≥ 0
        Stop when Σ ‖Δc‖² ≤ tol · the mean over features of the variance of X, or when no label changes.
    verbose : int or bool
        Whether to print each iteration.
    random_state : int, RandomState, numpy.random.Generator or None
        An integer is the seed of :func:`anyops.kmeans`: the same centres on every library.
    algorithm : {"lloyd", "elkan"}
        scikit-learn's names for two algorithms with the same fixed point; no effect here.
    metric : {"euclidean", "cosine", "iou"}
        As in :func:`anyops.kmeans_assign`.
    center : {"mean", "median"}

    Attributes
    ----------
    cluster_centers_ : array (n_clusters, p)
        In the library, on the device and in the dtype of X; a NumPy array for a dask one.
    labels_ : array (n,)
    inertia_ : float
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : array (p,)
        Column names, if X was a data frame with named columns.

    Notes
    -----
    Arrays of other libraries than NumPy are used directly, whatever ``array_api_dispatch`` says. X is never changed in
    place.

    Examples
    --------
    >>> import numpy as np
    >>> from anyops.estimators import KMeans
    >>> model = KMeans(2, random_state=0).fit(np.asarray([[0.0], [1.0], [8.0], [9.0]]))
    >>> sorted(model.cluster_centers_[:, 0].tolist()), model.inertia_
    ([0.5, 8.5], 1.0)
    >>> model.transform([[4.5]])
    array([[4., 4.]])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int | Literal["auto"] = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        algorithm: Algorithm = "lloyd",
        metric: Metric = "euclidean",
        center: Center = "mean",
    ):
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.algorithm = algorithm
        self.metric = metric
        self.center = center

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "KMeans":
        """Find the centres.

        Parameters
        ----------
        X : array (n, p)
        y : ignored
        sample_weight : array (n,), optional
            Numbers ≥ 0; a sample of weight 0 is ignored.

        Returns
        -------
        KMeans
            Itself.
        """
        X = _samples(self, X, reset=True)
        xp = namespace(X=X)
        weight = _weights(xp, X, sample_weight)
        n, k = X.shape[0], check_integer("n_clusters", self.n_clusters)
        if k < 1:
            raise ValueError(f"n_clusters must be at least 1, got {k}")
        if n < k:  # scikit-learn's wording, which its checks look for
            raise ValueError(f"n_samples={n} should be >= n_clusters={k}")
        if self.algorithm not in get_args(Algorithm):
            raise ValueError(f"algorithm must be lloyd or elkan, got {self.algorithm!r}")
        starts, n_init, seed = self._starts(xp, X, k)
        options: dict[str, Any] = {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "metric": self.metric,
            "center": self.center,
        }
        result: KMeansResult | None = None
        for init in starts:
            report = _Progress() if self.verbose else None
            with _sklearn_names():
                found = kmeans(
                    X, k, init=init, n_init=n_init, sample_weight=weight, seed=seed, callback=report, **options
                )
            if report is not None:
                report.end(found)
            if result is None or found.inertia < result.inertia:
                result = found
        assert result is not None
        if not is_chunked(xp):  # counting the labels of a lazy array would take a pass over the data
            _warn_of_empty(result.labels, k)
        self.cluster_centers_, self.labels_, self.inertia_, self.n_iter_, _ = result
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Array:
        """Find the centres; return the closest one of each sample, array (n,)."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Array:
        """Find the centres; return the distance of each sample from each of them, array (n, n_clusters)."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def predict(self, X: Any) -> Array:
        """Return the index of the closest centre of each sample, ties to the lowest: array (n,)."""
        X = _finite(_more_samples(self, X, "cluster_centers_", "predict"))
        return kmeans_assign(X, self.cluster_centers_, metric=self.metric).labels

    def transform(self, X: Any) -> Array:
        """Return the distance of each sample from each centre: array (n, n_clusters).

        Euclidean distances, not their squares; 1 − cos and 1 − IoU for the other metrics. They are computed in float32
        at least and returned in the dtype of X and the centres: in float16 those above 65 504 are infinite.
        """
        X = _finite(_more_samples(self, X, "cluster_centers_", "transform"))
        xp, centers, metric = namespace(X=X), self.cluster_centers_, self.metric
        if is_chunked(xp):
            dtype = result_dtype(xp, X=X, centers=centers)
            return over_rows(lambda part: _distances(part, centers, metric), X, centers.shape[0], dtype)
        return _distances(X, centers, metric)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return −Σ w · d over the samples, with the squared distance to the closest centre as d for "euclidean"."""
        X = _more_samples(self, X, "cluster_centers_", "score")
        weight = _weights(namespace(X=X), X, sample_weight)
        return -inertia_of(X, self.cluster_centers_, weight, self.metric)

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = True
        return tags

    def _starts(self, xp: Namespace, X: Array, k: int) -> tuple[list[Any], int | Literal["auto"], Any]:
        """Return initial centres or the names of initialisations, the number of restarts of each, and the seed."""
        if isinstance(self.init, str):
            return [str(self.init)], self.n_init, _seed(self.random_state)
        if callable(self.init):
            rng, n_init = _random_state(self.random_state), 10 if self.n_init == "auto" else self.n_init
            drawn = (self.init(X, k, random_state=rng) for _ in range(check_integer("n_init", n_init)))
            return [self._centers(xp, X, k, centers) for centers in drawn], 1, None
        if self.n_init not in ("auto", 1):
            warnings.warn(
                "Explicit initial center position passed: performing only one init in KMeans instead of "
                f"n_init={self.n_init}.",
                RuntimeWarning,
                stacklevel=3,
            )
        return [self._centers(xp, X, k, self.init)], 1, None

    def _centers(self, xp: Namespace, X: Array, k: int, centers: Any) -> Array:
        """Return initial centres, in the library and on the device of X."""
        if not _is_other(centers):
            centers = check_array(_whole(centers), dtype=FLOATING if _is_other(X) else REAL, input_name="init")
        if centers.shape[0] != k:
            raise ValueError(
                f"The shape of the initial centers {tuple(centers.shape)} does not match the number of clusters {k}."
            )
        if centers.shape[1] != X.shape[1]:
            raise ValueError(
                f"The shape of the initial centers {tuple(centers.shape)} does not match the number of features of "
                f"the data {X.shape[1]}."
            )
        return to_host(centers) if is_chunked(xp) else _beside(xp, X, centers)


def _finite(X: Array) -> Array:
    """Return X; raise if it holds NaN or infinity: for dask when it is computed, under a transform never."""
    xp = namespace(X=X)
    if is_chunked(xp):
        return over_rows(_finite, X, X.shape[1], X.dtype)
    if not hides_values(X) and not bool(xp.all(xp.isfinite(X))):
        what = "NaN" if bool(xp.any(xp.isnan(X))) else "infinity"  # scikit-learn's wording, which its tests look for
        raise ValueError(f"Input X contains {what}. X must be finite, got {describe_not_finite(xp, X)}")
    return X


def _distances(X: Array, centers: Array, metric: Metric) -> Array:
    """Distances (n, k) of each sample from each centre; "euclidean" ones are not squared."""
    with np.errstate(over="ignore"):  # float16 may overflow, as documented
        return all_distances(X, centers, metric)


class LogisticRegression(ClassifierMixin, BaseEstimator):
    """Minimise Σ w·loss + ((1 − l1_ratio)/2 ‖coef‖² + l1_ratio ‖coef‖₁) / C, by :func:`anyops.logistic_regression`.

    Parameters
    ----------
    penalty : {"l1", "l2", "elasticnet", None}, optional
        Deprecated in scikit-learn 1.8, and here: use `l1_ratio`, and for None ``C=math.inf``.
    C : float > 0
        1 / C is the penalty on the sum of the losses; infinity means no penalty.
    l1_ratio : float in [0, 1]
        Fraction of the l1 penalty.
    tol : float ≥ 0
        As in :func:`anyops.logistic_regression`: the relative error of coefficients is about tol.
    fit_intercept : bool
        Whether there is an intercept, which is not penalised; it is 0 if not.
    class_weight : None, "balanced" or mapping
        Factors by class; "balanced" is Σw / (K · Σw of the class). A class of factor 0 is ignored.
    random_state : ignored
        No random numbers are drawn.
    solver : str
        "auto", "newton", "lbfgs" or "proximal", as in :func:`anyops.logistic_regression`. scikit-learn's
        "newton-cholesky" and "newton-cg" mean "newton", "sag" and "saga" mean "auto"; there is no "liblinear".
    max_iter : int ≥ 0
    verbose : int or bool
        Whether to print the outcome of the fit.
    warm_start : bool
        Whether to start from the coefficients of the last fit, which must have had the same classes and columns.

    Attributes
    ----------
    coef_ : array (1, p) or (K, p)
        In the library, on the device and in the dtype of X; NumPy arrays for a dask one.
    intercept_ : array (1,) or (K,)
    classes_ : array (K,)
        The labels in ascending order. A NumPy array if the library of X cannot represent `y`: text, integers beyond its
        index dtype, floats that the dtype of X would round. Classes of weight 0, by `sample_weight` or `class_weight`,
        are ignored.
    n_iter_ : array (1,)
    n_features_in_ : int
    feature_names_in_ : array (p,)
        Column names, if X was a data frame with named columns.
    stderr_ : tuple of arrays, or None
        Standard errors of `coef_` and `intercept_`, if there is no penalty (``C=math.inf``).
    result_ : LogisticResult
        The result of :func:`anyops.logistic_regression`: p-values, intervals, covariance, AIC.

    Notes
    -----
    Arrays of other libraries than NumPy are used directly, whatever ``array_api_dispatch`` says.

    Examples
    --------
    >>> import numpy as np
    >>> from anyops.estimators import LogisticRegression
    >>> X, y = np.asarray([[0.0], [1.0], [2.0], [3.0]]), np.asarray(["dry", "wet", "dry", "wet"])
    >>> model = LogisticRegression(C=np.inf).fit(X, y)
    >>> model.coef_.round(4), model.intercept_.round(4)
    (array([[0.9082]]), array([-1.3623]))
    >>> model.predict([[-1.0], [5.0]]), model.predict_log_proba([[-2000.0]])[:, 1].round(1)
    (array(['dry', 'wet'], dtype='<U3'), array([-1817.7]))
    """

    def __init__(
        self,
        penalty: PenaltyByName | Literal["deprecated"] = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: ClassWeight = None,
        random_state: Any = None,
        solver: SolverByName = "auto",
        max_iter: int = 100,
        verbose: int = 0,
        warm_start: bool = False,
    ):
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LogisticRegression":
        """Find the coefficients.

        Parameters
        ----------
        X : array (n, p)
        y : array (n,)
            Labels of any type that can be ordered, none of them missing.
        sample_weight : array (n,), optional
            Numbers ≥ 0; a sample of weight 0 is ignored.

        Returns
        -------
        LogisticRegression
            Itself.
        """
        l1, l2 = self._penalties()
        solver = self._solver(l1)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = _samples(self, X, reset=True)
        y = _labels(X, y, counted=False)
        xp = namespace(X=X)
        weight = _weights(xp, X, sample_weight)
        class_weight = self._class_weight(xp, y, weight)
        init = self._init(xp, X, y, weight, class_weight) if self.warm_start and hasattr(self, "coef_") else None
        with _sklearn_names():
            result = logistic_regression(
                X,
                y,
                l1=l1,
                l2=l2,
                sample_weight=weight,
                class_weight=class_weight,
                fit_intercept=bool(self.fit_intercept),
                solver=solver,
                max_iter=self.max_iter,
                tol=self.tol,
                init=init,
            )
        home = namespace(coef=result.coef)
        self.classes_ = result.classes
        self.coef_ = home.reshape(result.coef, (-1, X.shape[1]))
        self.intercept_ = home.reshape(home.asarray(result.intercept), (-1,))
        self.n_iter_ = from_host(home, np.asarray([result.n_iter]), home.int32, result.coef)
        self.result_ = result
        self._tell(result)
        return self

    @property
    def stderr_(self) -> tuple[Array, Array] | None:
        """Standard errors of `coef_` and `intercept_`, in their shapes; None unless ``C=math.inf``, or if separated."""
        check_is_fitted(self)
        if self.result_.stderr is None:
            return None
        home = namespace(coef_=self.coef_)
        coef, intercept = (home.asarray(error) for error in self.result_.stderr)
        return home.reshape(coef, self.coef_.shape), home.reshape(intercept, self.intercept_.shape)

    def summary(self, names: Sequence[str] | None = None, *, alpha: float = 0.05) -> str:
        """Return the table of coefficients, see :meth:`anyops.LogisticResult.summary`.

        The names of the columns are those of the data frame in `fit`, unless `names` gives others, such as the
        ``get_feature_names_out()`` of an earlier step of a pipeline.
        """
        check_is_fitted(self)
        if names is None:
            names = getattr(self, "feature_names_in_", None)
        return self.result_.summary(names, alpha=alpha)

    def decision_function(self, X: Any) -> Array:
        """Return the logit of the second class of two, array (n,), or of all K classes, array (n, K)."""
        X = _finite(_more_samples(self, X, "coef_", "decision_function"))
        return self._logits(X)

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each sample: array (n,), of the type of the labels."""
        return self._predict(_finite(_more_samples(self, X, "coef_", "predict")))

    def _predict(self, X: Array) -> Array:
        if isinstance(self.classes_, np.ndarray):
            _refuse_transform("X", X, "LogisticRegression.predict returns labels from a NumPy array")
        xp = namespace(X=X)
        logits = self._logits(X)
        index = xp.astype(logits > 0, default_int(xp, logits)) if logits.ndim == 1 else xp.argmax(logits, axis=1)
        return take_classes(xp, self.classes_, index)

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class: array (n, K)."""
        return self._by_class(X, logistic_predict_proba, "predict_proba")

    def predict_log_proba(self, X: Any) -> Array:
        """Return the log-probability of each class, accurate where the probability rounds to 0 or 1: array (n, K)."""
        return self._by_class(X, logistic_log_proba, "predict_log_proba")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the fraction of samples, or of their weights, with the predicted class."""
        X = _finite(_more_samples(self, X, "coef_", "score"))
        if y is None:
            raise ValueError("y must be an array of labels, got None")
        xp = namespace(X=X)
        weight = None if sample_weight is None else _weights(xp, X, sample_weight)
        y, predicted = _labels(X, y, counted=True), self._predict(X)
        if is_text(y) != is_text(self.classes_):
            raise ValueError(f"y must hold labels of the type of classes_, {self.classes_.dtype}, got {y.dtype}")
        if is_chunked(xp):
            largest = 1.0 if weight is None else reduce_chunks(_largest, max, 1, weight)
            y = y if _is_other(y) else chunks_like(y, X)
            right, whole = reduce_chunks(partial(_right, largest), np.add, 1, predicted, y, weight)
        else:
            weight = None if weight is None else _on_host(weight)
            largest = 1.0 if weight is None else _largest(weight)
            right, whole = _right(largest, _on_host(predicted), _on_host(y), weight)
        if not largest > 0:
            raise ValueError("sample_weight must be above 0 for some samples, got none")
        return float(right / whole)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def _penalties(self) -> tuple[float, float]:
        """Return l1 and l2 of :func:`anyops.logistic_regression`, from `C`, `l1_ratio` and the deprecated `penalty`."""
        C = check_number("C", self.C, finite=False)
        if not C > 0:
            raise ValueError(f"C must be above 0, got {C}")
        if math.isinf(1 / C):
            raise ValueError(f"C must be at least 5.6e-309, so that 1 / C is finite, got {C}")
        given = self.penalty
        if isinstance(given, str) and given == "deprecated":
            ratio = check_number("l1_ratio", self.l1_ratio, least=0, largest=1)
            return ratio / C, (1 - ratio) / C
        if given not in get_args(PenaltyByName):
            raise ValueError(f"penalty must be l1, l2, elasticnet or None, got {given!r}")
        warnings.warn(
            "'penalty' was deprecated in scikit-learn 1.8: use l1_ratio=0 for 'l2', l1_ratio=1 for 'l1', a number "
            "between them for 'elasticnet', and C=numpy.inf for None",
            FutureWarning,
            stacklevel=3,
        )
        if given == "elasticnet":
            ratio = check_number("l1_ratio", self.l1_ratio, least=0, largest=1)
        else:
            ratio = 1.0 if given == "l1" else 0.0
            if given is not None and self.l1_ratio != ratio:
                warnings.warn(
                    f"Inconsistent values: penalty={given} with l1_ratio={self.l1_ratio}; the l1_ratio parameter is "
                    f"only used when penalty is 'elasticnet'. Got (penalty={given})",
                    stacklevel=3,
                )
        if given is None:
            if self.C != 1:
                warnings.warn("Setting penalty=None will ignore the C and l1_ratio parameters", stacklevel=3)
            C = math.inf
        return ratio / C, (1 - ratio) / C

    def _solver(self, l1: float) -> Solver:
        if self.solver not in SOLVER_BY_NAME:
            why = ": it penalises the intercept, which no solver here does" if self.solver == "liblinear" else ""
            raise ValueError(f"solver must be one of {', '.join(SOLVER_BY_NAME)}, got {self.solver!r}{why}")
        solver = SOLVER_BY_NAME[self.solver]
        if l1 > 0 and solver not in ("auto", "proximal"):
            raise ValueError(
                f"Solver {self.solver} supports only 'l2' or None penalties, got l1_ratio={self.l1_ratio}; "
                "use 'auto' or 'proximal'"
            )
        return solver

    def _class_weight(self, xp: Namespace, y: Array, weight: Array | None) -> ClassWeight:
        """Return the weights of the classes in y: a subset of the data, as in cross-validation, may lack some."""
        if not isinstance(self.class_weight, Mapping):
            return self.class_weight
        classes = survey(xp, y, weight).classes.tolist()
        known = {label: value for label, value in self.class_weight.items() if label in classes}
        if len(known) < min(len(classes), len(self.class_weight)):
            without = [label for label in classes if label not in known]
            raise ValueError(f"class_weight must name the classes of y, {without} among them, got {self.class_weight}")
        return known

    def _init(
        self,
        xp: Namespace,
        X: Array,
        y: Array,
        weight: Array | None,
        class_weight: ClassWeight,
    ) -> tuple[Array, Array]:
        """Return the coefficients of the last fit; raise unless it had the same columns and classes."""
        if X.shape[1] != self.coef_.shape[1]:
            raise ValueError(
                f"X must have the {self.coef_.shape[1]} features of the last fit for a warm start, got {X.shape[1]}; "
                "set warm_start=False to ignore the last fit"
            )
        found, _ = by_class(class_weight, survey(xp, y, weight))
        now, then = found.classes.tolist(), _on_host(self.classes_).tolist()
        if now != then:
            raise ValueError(
                f"y must have the classes of the last fit, {then}, for a warm start, got {now}; "
                "set warm_start=False to ignore the last fit"
            )
        last = (self.coef_, self.intercept_)
        coef, intercept = map(to_host, last) if is_chunked(xp) else (_beside(xp, X, a) for a in last)
        return (coef[0, :], intercept[0]) if coef.shape[0] == 1 else (coef, intercept)

    def _tell(self, result: LogisticResult) -> None:
        assert result.report is not None
        name = self.solver if self.solver != "auto" else result.report.solver
        if self.verbose:
            state = "separated" if result.separated else "converged" if result.converged else "not converged"
            print(f"{name}: {result.n_iter} iterations, loss {result.loss:.6g}, {state}")
        if result.separated:
            warnings.warn(
                "the classes are separated, so the loss has no minimum without a penalty; the coefficients found are "
                "finite, and separate the classes",
                ConvergenceWarning,
                stacklevel=3,
            )
        elif not result.converged:
            warnings.warn(
                f"{name} failed to converge after {result.n_iter} iteration(s). Increase the number of iterations "
                "(max_iter), or scale the data",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _logits(self, X: Array) -> Array:
        xp = namespace(X=X)
        dtype = compute_dtype(xp, result_dtype(xp, X=X))
        wide = xp.result_type(dtype, compute_dtype(namespace(coef_=self.coef_), self.coef_.dtype))
        if not is_chunked(xp) and mode_of(X=X, coef_=self.coef_).known:
            check_integers(xp, X, None, self.coef_, wide, "X")
        coef, intercept = (namespace(a=a).astype(a, wide) for a in (self.coef_, self.intercept_))
        logits = cast(xp, X, wide) @ coef.T + intercept
        return cast(xp, logits[:, 0] if coef.shape[0] == 1 else logits, result_dtype(xp, X=X))

    def _by_class(self, X: Any, f: Callable[[Array, Array, Array], Array], method: str) -> Array:
        X = _finite(_more_samples(self, X, "coef_", method))
        with _sklearn_names():
            if self.coef_.shape[0] > 1:
                return f(X, self.coef_, self.intercept_)
            # 1 − p would cancel where p is near 1.
            coef, intercept = self.coef_[0, :], self.intercept_[0, ...]
            xp = namespace(X=X)
            if is_chunked(xp):  # chunk by chunk: stacking would put each column into its own chunk
                return over_rows(partial(_of_two_classes, f, coef, intercept), X, 2, result_dtype(xp, X=X))
            return _of_two_classes(f, coef, intercept, X)


@contextmanager
def _sklearn_names() -> Iterator[None]:
    """Name `x` in errors as scikit-learn does."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"\bx\b", "X", str(error))) from None


def _largest(weight: np.ndarray) -> float:
    """The largest weight; raise ValueError for one that is not finite, or negative."""
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if np.any(wrong):
        raise ValueError(f"sample_weight must be finite and at least 0, got {weight[wrong][0]}")
    return float(np.max(weight, initial=0.0))


def _right(largest: float, predicted: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the number of correct predictions and of all, or their weights, divided by the largest."""
    hits = y == predicted
    if weight is None:
        return np.asarray([np.count_nonzero(hits), hits.shape[0]], np.float64)
    weight = weight.astype(np.float64) / (largest or 1.0)
    return np.asarray([np.sum(weight[hits]), np.sum(weight)])


def _of_two_classes(f: Callable[[Array, Array, Array], Array], coef: Array, intercept: Array, X: Array) -> Array:
    return namespace(X=X).stack([f(X, -coef, -intercept), f(X, coef, intercept)], axis=1)


# --- inputs ----------------------------------------------------------------------------------------------------------


def _is_other(x: Any) -> bool:
    """Whether this is an array of another library than NumPy."""
    return compat.is_array_api_obj(x) and not isinstance(x, np.ndarray | np.generic)


def _samples(estimator: BaseEstimator, X: Any, *, reset: bool) -> Array:
    """Return X as an array (n, p) of a real dtype; `reset` records p, otherwise it must be as in `fit`."""
    check_no_lazy_frame("X", X)
    if not _is_other(X):
        made = _finite(validate_data(estimator, _whole(X), reset=reset, dtype=REAL, ensure_all_finite=False))
        _check_held("X", X, made)
        return made
    name = type(estimator).__name__
    if reset:
        _refuse_transform("X", X, f"{name}.fit decides by values")
    xp, X = namespace(X=X), as_numbers("X", X)
    result_dtype(xp, X=X)
    if X.ndim != 2:
        raise ValueError(f"X must have shape (n_samples, n_features), got {tuple(X.shape)}")
    check_known_chunks(xp, "X", X)
    p = X.shape[1]
    if reset:
        for size, items in ((X.shape[0], "sample(s)"), (p, "feature(s)")):
            if size == 0:  # scikit-learn's wording, which its checks look for
                raise ValueError(
                    f"Found array with 0 {items} (shape={tuple(X.shape)}) while a minimum of 1 is required by {name}."
                )
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        estimator.n_features_in_ = p
    elif p != estimator.n_features_in_:
        raise ValueError(f"X has {p} features, but {name} is expecting {estimator.n_features_in_} features as input")
    return X


def _whole(X: Any) -> Any:
    """Return X with an integer dtype if it holds only integers: scikit-learn converts lists and objects to floats."""
    if isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype.kind == "O"):
        try:
            found = np.asarray(list(X) if isinstance(X, tuple) else X if isinstance(X, list) else X.tolist())
        except (TypeError, ValueError):
            return X  # scikit-learn raises its own error
        return found if found.dtype.kind in "iu" else X
    columns = [getattr(dtype, "numpy_dtype", None) for dtype in getattr(X, "dtypes", ())] if hasattr(X, "isna") else []
    if columns and all(dtype is not None and dtype.kind in "iu" for dtype in columns) and not X.isna().any(axis=None):
        return X.astype(np.result_type(*columns))  # nullable integers of pandas, none of them missing
    return X


def _check_held(name: str, X: Any, made: np.ndarray[Any, Any]) -> None:
    """Raise ValueError if a column of integers, beside floats, was rounded by more than a thousandth of its range."""
    if made.dtype.kind != "f" or (isinstance(X, np.ndarray) and X.dtype.kind in "biuf"):
        return
    for j in np.flatnonzero(np.max(np.abs(made), axis=0, initial=0.0) > HELD).tolist():
        column = X.iloc[:, j].tolist() if hasattr(X, "iloc") else [row[j] for row in X]
        if all(isinstance(value, int) for value in column):
            moved = max(abs(value - int(held)) for value, held in zip(column, made[:, j].tolist(), strict=True))
            if 1000 * moved > max(column) - min(column) > 0:
                raise ValueError(
                    f"{name} must hold integers that float64 can tell apart, got numbers up to {max(column)} in column "
                    f"{j}, beside floats; subtract an offset"
                )


def _more_samples(estimator: BaseEstimator, X: Any, attribute: str, method: str) -> Array:
    """Return X as an array (n, p); raise unless it has the library and device of the fitted `attribute`."""
    check_is_fitted(estimator)
    if method == "score" and _is_other(X):
        _refuse_transform("X", X, f"{type(estimator).__name__}.score returns a number")
    X = _samples(estimator, X, reset=False)
    if is_chunked(namespace(X=X)):
        return X
    try:
        namespace(**{"X": X, attribute: getattr(estimator, attribute)})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace and the same device "
            f"as those passed to fit(): {error}"
        ) from None
    return X


def _refuse_transform(name: str, values: Array, why: str) -> None:
    """Raise TypeError if the values of an array are unknown because it is under a transform."""
    if not is_chunked(namespace(**{name: values})) and hides_values(values):
        raise TypeError(
            f"{name} must have values, got an array under a transform (jit, vmap, grad, compile), which hides them; "
            f"{why}"
        )


def _labels(X: Array, y: Any, *, counted: bool) -> Array:
    """Return the labels of the rows of X, in its library and on its device, or on the host if that would change them.

    Integer labels that are only `counted` skip scikit-learn's check, which sorts them and warns about many classes.
    """
    xp = namespace(X=X)
    check_no_lazy_frame("y", y)
    y = plain(y)
    if _is_other(y):
        _refuse_transform("y", y, "labels are checked by their values")
        home = namespace(y=y)
        check_known_chunks(home, "y", y)
        if home is not xp or device(y) != device(X):
            y = labels_on_host(y)
    if not _is_other(y):
        y = column_or_1d(y, warn=True)
        check_no_missing(y)
        assert_all_finite(y, input_name="y")
    if tuple(y.shape) != (X.shape[0],):
        raise ValueError(  # begins with scikit-learn's wording, which its tests look for
            f"Found input variables with inconsistent numbers of samples: y must have shape ({X.shape[0]},), a label "
            f"for each row of X, got {tuple(y.shape)}"
        )
    if not (_is_other(y) and is_chunked(xp)):
        host = _on_host(y)
        if not (counted and host.dtype.kind in "biu"):
            check_classification_targets(host)
    if _is_other(y) or is_text(y):
        return y
    if is_chunked(xp):
        return chunks_like(y, X)
    dtype = label_dtype(xp, y, X) if _is_other(X) else None
    return y if dtype is None else from_host(xp, y, dtype, X)


def _weights(xp: Namespace, X: Array, weight: Any) -> Array | None:
    """Return weights in the library and on the device of X; a number is the weight of every sample."""
    if weight is None:
        return None
    check_no_lazy_frame("sample_weight", weight)
    if _is_other(weight):
        _refuse_transform("sample_weight", weight, "weights are checked by their values")
        check_known_chunks(namespace(sample_weight=weight), "sample_weight", weight)
    else:
        if isinstance(weight, Real):
            weight = np.full(X.shape[0], weight)
        weight = check_array(weight, ensure_2d=False, dtype=FLOATING, input_name="sample_weight")
    if tuple(weight.shape) != tuple(X.shape[:1]):
        raise ValueError(f"sample_weight must have shape ({X.shape[0]},), got {tuple(weight.shape)}")
    if not _is_other(X) or (_is_other(weight) and namespace(weight=weight) is xp):
        return _beside(xp, X, weight)
    # Weights may have any scale, even outside the range of the dtype of X.
    host = to_host(weight)
    dtype = compute_dtype(xp, result_dtype(xp, X=X))
    for held in (dtype, widest_dtype(xp, dtype, X)):
        with np.errstate(over="ignore"):
            narrow = host.astype(f"f{xp.finfo(held).bits // 8}")
        changed = (np.isfinite(host) & np.isinf(narrow)) | ((host > 0) & (narrow == 0))
        if not np.any(changed):
            return chunks_like(host, X) if is_chunked(xp) else from_host(xp, host, held, X)
    raise ValueError(f"sample_weight must hold numbers in the range of {held}, got {host[changed][0]:g}; scale them")


def _beside(xp: Namespace, X: Array, values: Array) -> Array:
    """Convert numbers of any library to the library and device of X."""
    if namespace(values=values) is xp and device(values) == device(X):
        return values
    host = to_host(values)
    if is_chunked(xp):
        return chunks_like(host, X)
    dtype = compute_dtype(xp, result_dtype(xp, X=X)) if host.dtype.kind == "f" else default_int(xp, X)
    return from_host(xp, host, dtype, X)


def _on_host(y: Any) -> Any:
    return labels_on_host(y) if _is_other(y) else np.asarray(y)


def _seed(random_state: Any) -> Any:
    """Return a seed of :func:`anyops.kmeans`: integers and generators themselves, else a draw from the state."""
    if isinstance(random_state, int | np.integer | np.random.Generator):
        return random_state
    return int(_random_state(random_state).randint(np.iinfo(np.int32).max))


def _random_state(random_state: Any) -> np.random.RandomState:
    """Return the RandomState for callables; raise ValueError if `random_state` is invalid."""
    if isinstance(random_state, np.random.Generator):
        random_state = int(random_state.integers(np.iinfo(np.int32).max))
    known = random_state is None or random_state is np.random
    if not known and not isinstance(random_state, int | np.integer | np.random.RandomState):
        raise ValueError(
            "random_state must be an integer, a numpy.random.RandomState, a numpy.random.Generator or None, "
            f"got {describe(random_state)}"
        )
    return check_random_state(random_state)


# --- messages --------------------------------------------------------------------------------------------------------


class _Progress:
    """Prints iterations in scikit-learn's wording."""

    def __init__(self) -> None:
        self.shift = math.nan

    def __call__(self, iteration: int, inertia: float, shift: float) -> None:
        if iteration == 1:
            print("Initialization complete")
        print(f"Iteration {iteration}, inertia {inertia}.")
        self.shift = shift

    def end(self, result: KMeansResult) -> None:
        if result.converged:
            why = "strict convergence" if self.shift == 0 else f"center shift {self.shift} within tolerance"
            print(f"Converged at iteration {result.n_iter}: {why}.")


def _warn_of_empty(labels: Array, k: int) -> None:
    found = int(np.count_nonzero(np.bincount(to_host(labels), minlength=k)))
    if found < k:
        warnings.warn(
            f"Number of distinct clusters ({found}) found smaller than n_clusters ({k}). Possibly due to duplicate "
            "points in X.",
            ConvergenceWarning,
            stacklevel=3,
        )
