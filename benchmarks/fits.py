"""Whole fits of k-means and logistic regression beside scikit-learn, in one process: times, and ratios.

    python benchmarks/fits.py
    python benchmarks/fits.py 100000 50 10 float32       one logistic regression: n, p, classes, dtype

Same samples, start and tolerance for k-means; for logistic regression each objective is printed relative to the least
there is. Not in the tables of docs/performance.md yet: docs/kmeans.md and docs/logistic_regression.md quote it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

import anyops

KMEANS = ((1_000_000, 16, 64), (100_000, 128, 256), (1_000_000, 2, 9), (200_000, 64, 1_000))
ROUNDS = 3
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
    """The sum of the losses and half of the squared coefficients, in float64 whatever the samples are."""
    coef, intercept = (np.asarray(v, np.float64) for v in (coef, intercept))
    r = x @ coef.T + intercept
    each = np.logaddexp(0, r) - y * r if coef.ndim == 1 else np.logaddexp.reduce(r, axis=1) - r[np.arange(len(y)), y]
    return float(each.sum() + 0.5 * (coef**2).sum())


def drawn(n: int, p: int, classes: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Normal samples, and labels drawn by a logistic model of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    r = x @ (rng.normal(size=(classes if classes > 2 else 1, p)) * 0.5).T
    y = (r[:, 0] + rng.logistic(size=n) > 0) * 1 if classes == 2 else np.argmax(r + rng.gumbel(size=r.shape), axis=1)
    return x.astype(dtype), y


def peer(x: np.ndarray, y: np.ndarray, solver: str, tol: float) -> Callable[[], Any]:
    """A fit by scikit-learn: the coefficients and the intercept, in our shapes."""

    def fit() -> tuple[np.ndarray, np.ndarray]:
        model = LogisticRegression(C=1, solver=solver, tol=tol, max_iter=500).fit(x, y)
        return (model.coef_, model.intercept_) if len(model.coef_) > 1 else (model.coef_[0], model.intercept_[0])

    return fit


def logistic(n: int, p: int, classes: int, dtype: str) -> None:
    """C = 1 and l2 = 1, which are the same; the least of the times of all, which take turns.

    Each of scikit-learn's solvers at the loosest tolerance that ends within 1e-6 of the least objective; ours at its
    default, which ends within about 1e-12, and at 1e-4, which ends within about 1e-8.
    """
    x, y = drawn(n, p, classes, dtype)
    exact = anyops.logistic_regression(x.astype(float), y, l2=1.0, tol=1e-8)
    least = objective(x, y, exact.coef, exact.intercept)
    calls: dict[str, Callable[[], Any]] = {}
    for solver in ("lbfgs", "newton-cholesky" if classes == 2 else "newton-cg"):  # the best of them on each problem
        for tol in (1e-4, 1e-5, 1e-6):
            call = peer(x, y, solver, tol)
            if objective(x, y, *call()) < (1 + 1e-6) * least or tol == 1e-6:
                calls[f"{solver}, tol {tol:.0e}"] = call
                break
    for name, ship in LIBRARIES.items():
        there, labels = ship(x), ship(y)
        for tol in (1e-6, 1e-4):
            calls[f"anyops {name}, tol {tol:.0e}"] = lambda x=there, y=labels, tol=tol: anyops.logistic_regression(
                x, y, l2=1.0, tol=tol
            )[:2]
    results = {name: [np.asarray(v, np.float64) for v in call()] for name, call in calls.items()}
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    best = min(min(spent) for name, spent in times.items() if not name.startswith("anyops"))
    print(f"logistic {n} x {p}, {classes} classes, {dtype}")
    for name, spent in times.items():
        off = objective(x, y, *results[name]) / least - 1
        print(f"    {name:26} {min(spent):.3f} s, objective {off:+.0e}: {best / min(spent):.2f}x", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:  # one problem in a process of its own: JAX's float64 is a setting of the process
        jax.config.update("jax_enable_x64", sys.argv[4] == "float64")
        logistic(*map(int, sys.argv[1:4]), sys.argv[4])
        sys.exit()
    for shape in KMEANS:
        kmeans(*shape)
    for shape in LOGISTIC:
        for dtype in ("float64", "float32"):
            subprocess.run([sys.executable, __file__, *map(str, shape), dtype], check=True)
