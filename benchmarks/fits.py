"""Whole fits of k-means and logistic regression beside scikit-learn, in one process: medians of three, and ratios.

    python benchmarks/fits.py

Same samples, start and tolerance for k-means; for logistic regression each solver's objective is printed relative to
ours. Not in the tables of docs/performance.md yet: docs/kmeans.md and docs/logistic_regression.md quote it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

import anyops

KMEANS = ((1_000_000, 16, 64), (100_000, 128, 256), (1_000_000, 2, 9), (200_000, 64, 1_000))
LOGISTIC = ((1_000_000, 20, 2), (100_000, 200, 2), (100_000, 50, 10))
LIBRARIES: dict[str, Callable[[Any], Any]] = {"numpy": lambda x: x, "torch": torch.from_numpy, "jax": jnp.asarray}


def median(call: Callable[[], Any]) -> tuple[float, Any]:
    """The median time of three calls, and what the last of them gave."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return sorted(times)[1], result


def mixture(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of k normal distributions that overlap, and k of them to start from."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(k, d))
    x = (centers[rng.integers(0, k, n)] + rng.normal(size=(n, d))).astype(np.float32)
    return x, x[np.random.default_rng(1).choice(n, k, replace=False)]


def kmeans(n: int, d: int, k: int) -> None:
    """Lloyd's iteration from the same start to the same tolerance."""
    x, start = mixture(n, d, k)
    peer, model = median(lambda: KMeans(k, init=start, n_init=1).fit(x))
    print(f"k-means {n} x {d}, k = {k}: scikit-learn {peer:.2f} s, {model.n_iter_} iterations, {model.inertia_:.6g}")
    for name, ship in LIBRARIES.items():
        there, init = ship(x), ship(start)
        anyops.kmeans(there, k, init=init, max_iter=1)
        ours, found = median(lambda there=there, init=init: anyops.kmeans(there, k, init=init))
        print(
            f"    {name:6} {ours:.2f} s, {found.n_iter} iterations, {found.inertia:.6g}: {peer / ours:.2f}x", flush=True
        )


def objective(x: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
    """The sum of the losses and half of the squared coefficients."""
    r = x @ coef.T + intercept
    each = np.logaddexp(0, r) - y * r if coef.ndim == 1 else np.logaddexp.reduce(r, axis=1) - r[np.arange(len(y)), y]
    return float(each.sum() + 0.5 * (coef**2).sum())


def logistic(n: int, p: int, classes: int) -> None:
    """C = 1 and l2 = 1, which are the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    r = x @ (rng.normal(size=(classes if classes > 2 else 1, p)) * 0.5).T
    y = (r[:, 0] + rng.logistic(size=n) > 0) * 1 if classes == 2 else np.argmax(r + rng.gumbel(size=r.shape), axis=1)
    ours, found = median(lambda: anyops.logistic_regression(x, y, l2=1.0))
    least = objective(x, y, found.coef, found.intercept)
    print(f"logistic {n} x {p}, {classes} classes: numpy {ours:.2f} s by {found.report.solver}")
    for solver in ("newton-cholesky", "lbfgs", "newton-cg"):
        fit = LogisticRegression(C=1, solver=solver, tol=1e-6, max_iter=300).fit
        peer, model = median(lambda fit=fit: fit(x, y))
        coef, intercept = (model.coef_[0], model.intercept_[0]) if classes == 2 else (model.coef_, model.intercept_)
        off = objective(x, y, coef, intercept) / least - 1
        print(f"    {solver:15} {peer:.2f} s, objective {off:+.0e}: {peer / ours:.2f}x", flush=True)


if __name__ == "__main__":
    for shape in KMEANS:
        kmeans(*shape)
    for shape in LOGISTIC:
        logistic(*shape)
