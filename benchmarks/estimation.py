"""The contenders for k-means and logistic regression, each called in the way its users would call it.

The answer of a fit is its objective in float64, by one formula for all. Fits that end at another objective are not
timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scenes import Labelled, Mixture

Fit = Callable[[], Any]
ITERATIONS, FEW_ITERATIONS = 25, 3  # if all contenders run equally many
BATCH = 1024  # samples per batch, scikit-learn's default


# --- answers ---------------------------------------------------------------------------------------------------------


def inertia(problem: Mixture, centers: Any) -> float:
    """The sum of the squared distances to the closest centre."""
    centers = np.asarray(centers, np.float64)
    total, rows = 0.0, max(1, (1 << 22) // len(centers))
    for start in range(0, len(problem.x), rows):
        x = problem.x[start : start + rows].astype(np.float64)
        near = centers[np.argmin(np.sum(centers**2, axis=1) - 2 * x @ centers.T, axis=1)]
        total += float(np.sum((x - near) ** 2))
    return total


def objective(problem: Labelled, coef: Any, intercept: Any) -> float:
    """The sum of the losses and half of the squared coefficients."""
    coef, intercept = (np.asarray(v, np.float64) for v in (coef, intercept))
    x, y = problem
    r = x @ coef.T + intercept
    each = np.logaddexp(0, r) - y * r if coef.ndim == 1 else np.logaddexp.reduce(r, axis=1) - r[np.arange(len(y)), y]
    return float(each.sum() + 0.5 * (coef**2).sum())


def goal(problem: Mixture | Labelled, result: Any) -> NDArray[np.float64]:
    """The logarithm of the objective of a fit, so that differences are relative."""
    if isinstance(problem, Mixture):
        return np.log([inertia(problem, result)])
    return np.log([objective(problem, *result)])


# --- anyops ----------------------------------------------------------------------------------------------------------


def kmeans(library: Callable[[], Any]) -> Callable[[Mixture], Fit]:
    def prepare(problem: Mixture) -> Fit:
        import anyops

        lib = library()
        x, start = (lib.asarray(part) for part in problem)
        return lambda: lib.wait(anyops.kmeans(x, len(problem.start), init=start).centers)

    return prepare


def kmeans_step(library: Callable[[], Any]) -> Callable[[Mixture], Fit]:
    def prepare(problem: Mixture) -> Fit:
        import anyops

        lib = library()
        x, start = (lib.asarray(part) for part in problem)
        step = lib.jit(anyops.kmeans_step)
        return lambda: lib.wait(step(x, start)).centers

    return prepare


def kmeans_plusplus(library: Callable[[], Any]) -> Callable[[Mixture], Fit]:
    def prepare(problem: Mixture) -> Fit:
        import anyops

        lib = library()
        x, k = lib.asarray(problem.x), len(problem.start)
        return lambda: lib.wait(anyops.kmeans_plusplus(x, k, seed=0).centers)

    return prepare


def minibatch_kmeans(library: Callable[[], Any]) -> Callable[[Mixture], Fit]:
    """One pass over the samples."""

    def prepare(problem: Mixture) -> Fit:
        import anyops

        lib = library()
        x, start = (lib.asarray(part) for part in problem)
        options = {"init": start, "seed": 0, "max_no_improvement": None}

        def fit() -> Any:
            batches = (x[at : at + BATCH] for at in range(0, len(problem.x), BATCH))
            return lib.wait(anyops.minibatch_kmeans(batches, len(problem.start), **options).centers)

        return fit

    return prepare


def logistic(library: Callable[[], Any], tol: float = 1e-4) -> Callable[[Labelled], Fit]:
    """At scikit-learn's tolerance, which ends within about 1e-8 of the least objective."""

    def prepare(problem: Labelled) -> Fit:
        import anyops

        lib = library()
        x, y = (lib.asarray(part) for part in problem)
        return lambda: lib.wait(anyops.logistic_regression(x, y, l2=1.0, tol=tol)[:2])

    return prepare


# --- peers -----------------------------------------------------------------------------------------------------------


def sklearn_kmeans(algorithm: str) -> Callable[[Mixture], Fit]:
    def prepare(problem: Mixture) -> Fit:
        from sklearn.cluster import KMeans

        x, start = problem
        return lambda: KMeans(len(start), init=start, n_init=1, algorithm=algorithm).fit(x).cluster_centers_

    return prepare


def sklearn_iterations(iterations: int) -> Callable[[Mixture], Fit]:
    """A number of Lloyd's iterations, and the final assignment that scikit-learn always adds."""

    def prepare(problem: Mixture) -> Fit:
        from sklearn.cluster import KMeans

        x, start = problem
        options = {"init": start, "n_init": 1, "max_iter": iterations, "tol": 0.0, "algorithm": "lloyd"}
        return lambda: KMeans(len(start), **options).fit(x).cluster_centers_

    return prepare


def sklearn_step(problem: Mixture) -> Fit:
    """One iteration, and the final assignment that scikit-learn always adds: two passes, so half of its time counts."""
    from sklearn.cluster import KMeans

    x, start = problem
    return lambda: KMeans(len(start), init=start, n_init=1, max_iter=1).fit(x).cluster_centers_


def sklearn_plusplus(problem: Mixture) -> Fit:
    from sklearn.cluster import kmeans_plusplus

    return lambda: kmeans_plusplus(problem.x, len(problem.start), random_state=0)[0]


def sklearn_minibatch(problem: Mixture) -> Fit:
    """As many batches as one pass has, drawn at random."""
    from sklearn.cluster import MiniBatchKMeans

    x, start = problem
    options = {"n_init": 1, "max_iter": 1, "max_no_improvement": None, "compute_labels": False, "random_state": 0}
    return lambda: MiniBatchKMeans(len(start), init=start, batch_size=BATCH, **options).fit(x).cluster_centers_


def faiss_kmeans(iterations: int) -> Callable[[Mixture], Fit]:
    """faiss has no tolerance, and no final assignment."""

    def prepare(problem: Mixture) -> Fit:
        import faiss

        x, start = problem
        options = {"niter": iterations, "max_points_per_centroid": len(x), "min_points_per_centroid": 1}

        def fit() -> Any:
            model = faiss.Kmeans(x.shape[1], len(start), **options)
            model.train(x, init_centroids=start)
            return model.centroids

        return fit

    return prepare


def kmeans_iterations(library: Callable[[], Any], iterations: int) -> Callable[[Mixture], Fit]:
    """A number of iterations, and the final assignment."""

    def prepare(problem: Mixture) -> Fit:
        import anyops

        lib = library()
        x, start = (lib.asarray(part) for part in problem)
        options = {"max_iter": iterations, "tol": 0.0}
        return lambda: lib.wait(anyops.kmeans(x, len(problem.start), init=start, **options).centers)

    return prepare


def two_products(problem: Mixture) -> Fit:
    """The products of a step, one after another on JAX: centres with samples, and the result with samples again."""
    import jax

    x, start = map(jax.numpy.asarray, problem)
    products = jax.jit(lambda x, c: (c @ x.T) @ x)
    return lambda: jax.block_until_ready(products(x, start))


def sklearn_logistic(solver: str, tol: float) -> Callable[[Labelled], Fit]:
    def prepare(problem: Labelled) -> Fit:
        from sklearn.linear_model import LogisticRegression

        x, y = problem

        def fit() -> Any:
            model = LogisticRegression(C=1, solver=solver, tol=tol, max_iter=500).fit(x, y)
            return (model.coef_, model.intercept_) if len(model.coef_) > 1 else (model.coef_[0], model.intercept_[0])

        return fit

    return prepare
