"""A seeded fuzz of logistic regression: problems, references in NumPy and SciPy, and faults of a result.

``python -m tests.fit_fuzz --count 2000`` prints the number of each fault, and its worst problem; ``--peers`` does the
same with scikit-learn and statsmodels. The references share no code with the library.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = {"float64": 1e-6, "float32": 1e-4}  # of the objective, relative
ERRORS = {"float64": 1e-3, "float32": 5e-2}  # of standard errors, relative
BARRIER = 1e-10  # the most that the smoothed l1 penalty may cost at the minimum, relative to the objective
SEPARATED, TOUCHING = 1e-3, 1e-6  # sums of margins above which the classes are separated, and below which they are not


# --- problems --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Rows, labels and options of a fit, and tags that describe them."""

    seed: int
    index: int
    x: np.ndarray
    y: np.ndarray
    options: dict[str, Any]
    tags: tuple[str, ...] = field(default=())

    @property
    def dtype(self) -> str:
        return str(self.x.dtype)

    @cached_property
    def reference(self) -> Reference:
        return reference(self)

    def __str__(self) -> str:
        shown = {k: v for k, v in self.options.items() if k not in ("sample_weight", "init")}
        return f"{self.x.shape[0]} x {self.x.shape[1]}, {shown}, {', '.join(self.tags)}"


def problem(seed: int, index: int, dtype: str = "float64") -> Problem:
    """A random problem, the same for the same seed and index."""
    rng = np.random.default_rng([seed, index])
    tags: list[str] = []

    def pick(values: Any, shares: Any = None) -> Any:
        return values[int(rng.choice(len(values), p=shares))]

    n = int(pick([rng.integers(5, 40), rng.integers(40, 400), rng.integers(400, 3001)], [0.25, 0.6, 0.15]))
    p = int(pick([rng.integers(1, 4), rng.integers(1, 9), rng.integers(8, 21)], [0.4, 0.45, 0.15]))
    k = int(pick([2, 3, 4], [0.65, 0.2, 0.15]))
    n = max(n, k + 2)
    z = _columns(rng, pick, n, p, tags)
    y = _labels(rng, pick, z, k, tags)
    x = _units(rng, pick, z, tags).astype(dtype)
    order = _order(rng, pick, x, y, tags)
    x, y = np.ascontiguousarray(x[order]), y[order]
    options = _options(rng, pick, x, y, k, tags)
    return Problem(seed, index, x, y, options, tuple(tags))


def _columns(rng: Any, pick: Any, n: int, p: int, tags: list[str]) -> np.ndarray:
    z = rng.normal(size=(n, p))
    for j in range(p):
        kind = pick(["normal", "rounded", "dummy", "rare", "heavy", "ties"], [0.6, 0.1, 0.1, 0.06, 0.07, 0.07])
        if kind == "rounded":
            z[:, j] = np.round(z[:, j], int(rng.integers(0, 3)))
        elif kind == "dummy":
            z[:, j] = rng.random(n) < rng.uniform(0.2, 0.8)
        elif kind == "rare":
            z[:, j] = 0.0
            z[rng.choice(n, min(n, int(rng.integers(1, 4))), replace=False), j] = 1.0
        elif kind == "heavy":
            z[:, j] = rng.standard_t(2, size=n)
        elif kind == "ties":
            z[:, j] = rng.integers(-2, 3, size=n)
    if rng.random() < 0.2:
        dependent = pick(["dummies", "multiple", "affine", "duplicate", "constant", "sum", "zero"])
        if dependent == "dummies" and p >= 2:
            group = rng.integers(0, p, size=n) if p <= 6 else rng.integers(0, 4, size=n)
            many = p if p <= 6 else 4
            z[:, :many] = group[:, None] == np.arange(many)
        elif dependent == "multiple" and p >= 2:
            z[:, 1] = 1e-3 * z[:, 0]
        elif dependent == "affine" and p >= 2:
            z[:, 1] = 2 * z[:, 0] + 1
        elif dependent == "duplicate" and p >= 2:
            z[:, -1] = z[:, 0]
        elif dependent == "sum" and p >= 3:
            z[:, -1] = z[:, 0] + z[:, 1]
        elif dependent == "constant":
            z[:, -1] = 3.7
        elif dependent == "zero":
            z[:, -1] = 0.0
        else:
            return z
        tags.append(dependent)
    return z


def _labels(rng: Any, pick: Any, z: np.ndarray, k: int, tags: list[str]) -> np.ndarray:
    n, p = z.shape
    strength = pick([0.0, 0.3, 1.0, 3.0, 10.0])
    logits = strength * z @ rng.normal(size=(p, k)) / np.sqrt(p)
    how = pick(["drawn", "imbalanced", "one", "complete", "quasi", "apart"], [0.52, 0.16, 0.07, 0.08, 0.12, 0.05])
    tags += [how, f"signal {strength}"]
    if how == "complete":
        y = np.argmax(z @ rng.normal(size=(p, k)) + 0.3 * rng.normal(size=k), axis=1)
    elif how == "quasi":
        z[:, 0] = rng.integers(-2, 3, size=n)
        y = np.where(z[:, 0] > 0, k - 1, rng.integers(0, k - 1, size=n))
        y = np.where(z[:, 0] == 0, rng.integers(0, k, size=n), y)
    elif how == "apart":  # one value of a dummy holds one class only
        z[:, 0] = rng.random(n) < 0.3
        y = np.where(z[:, 0] > 0, 0, np.argmax(logits + rng.gumbel(size=(n, k)), axis=1))
    else:
        if how == "imbalanced":
            logits = logits + np.array([pick([3.0, 4.0, 6.0]), *np.zeros(k - 1)])
        y = np.argmax(logits + rng.gumbel(size=(n, k)), axis=1)
        if how == "one":
            y = np.where(y == 0, 1, y)
            y[rng.integers(n)] = 0
    for c in range(k):
        if not np.any(y == c):
            y[(rng.integers(n) + c) % n] = c
    # The last one may have taken the only row of another.
    while absent := set(range(k)) - set(y.tolist()):
        y[np.flatnonzero(y == np.argmax(np.bincount(y)))[0]] = min(absent)
    return y.astype(np.int64)


def _units(rng: Any, pick: Any, z: np.ndarray, tags: list[str]) -> np.ndarray:
    p = z.shape[1]
    far = pick([0.0, 1e3, 1e4, 1e5], [0.55, 0.15, 0.15, 0.15])
    if far:
        chosen = rng.random(p) < pick([0.3, 1.0])
        chosen[int(rng.integers(p))] = True
        z = z + np.where(chosen, far * rng.choice([-1.0, 1.0], size=p), 0.0)
        tags.append(f"offset {far:g}")
    how = pick(["1", "one", "each"], [0.5, 0.2, 0.3])
    if how == "1":
        return z
    unit = 10.0 ** rng.uniform(-25, 25, size=p) if rng.random() < 0.5 else 10.0 ** rng.uniform(-6, 6, size=p)
    unit = np.full(p, unit[0]) if how == "one" else unit
    tags.append(f"units {unit.min():.0e} to {unit.max():.0e}")
    return z * unit


def _order(rng: Any, pick: Any, x: np.ndarray, y: np.ndarray, tags: list[str]) -> np.ndarray:
    n = len(y)
    how = pick(["random", "by y", "by a column", "period"], [0.4, 0.15, 0.15, 0.3])
    tags.append(how)
    order = rng.permutation(n)
    if how == "random":
        return order
    key = y if how == "by y" or (how == "period" and rng.random() < 0.5) else x[:, int(rng.integers(x.shape[1]))]
    order = order[np.argsort(key[order], kind="stable")]
    if how == "period":
        period = int(rng.integers(2, 65))
        tags[-1] = f"period {period}"
        return np.concatenate([order[i :: -(-n // period)] for i in range(-(-n // period))])
    return order


def _options(rng: Any, pick: Any, x: np.ndarray, y: np.ndarray, k: int, tags: list[str]) -> dict[str, Any]:
    n, p = x.shape
    options: dict[str, Any] = {"fit_intercept": bool(rng.random() < 0.88), "max_iter": int(pick([100, 1000]))}
    weights = pick([None, "uniform", "spread", "zeros", "unit"], [0.5, 0.15, 0.12, 0.11, 0.12])
    unit = 1.0
    if weights is not None:
        w = rng.random(n) + 0.01
        if weights == "spread":
            w = 10.0 ** rng.uniform(-6, 6, size=n)
        elif weights == "zeros":
            w = np.where(rng.random(n) < 0.3, 0.0, w)
        elif weights == "unit":
            unit = 10.0 ** float(pick([-100, -30, -6, 6, 30, 100]))
            w = w * unit
        for c in range(k):
            if not np.any(w[y == c] > 0):
                w[np.flatnonzero(y == c)[0]] = unit
        options["sample_weight"] = w
        tags.append(f"weights {weights} {unit:g}")
    classes = pick([None, "balanced", "extreme", "none of one"], [0.7, 0.15, 0.12, 0.03])
    if classes == "balanced":
        options["class_weight"] = "balanced"
    elif classes == "extreme":
        options["class_weight"] = {c: float(10.0 ** (4 * (c - 1))) for c in range(min(k, 3))}
    elif classes == "none of one" and k > 2:
        options["class_weight"] = {1: 0.0}
    penalty = pick(["none", "l2", "l1", "both"], [0.55, 0.25, 0.15, 0.05])
    scale = np.median(np.std(x.astype(np.float64), axis=0)) or 1.0
    if penalty in ("l2", "both"):
        options["l2"] = float(10.0 ** rng.uniform(-8, 8) * pick([1.0, scale**2]) * unit)
    if penalty in ("l1", "both"):
        options["l1"] = float(10.0 ** rng.uniform(-5, 0.2) * scale * n * 0.2 * unit)
    solvers = ["auto", "proximal"] if "l1" in options else ["auto", "newton", "lbfgs"]
    options["solver"] = pick(solvers)
    lines = len(_present(x, y, options)[0])
    shape = (p,) if lines == 2 else (lines, p)
    start = pick([None, "-1000", "1e4", "-3", "random"], [0.6, 0.1, 0.1, 0.1, 0.1])
    if start is not None:
        coef, intercept = np.zeros(shape), np.zeros(shape[:-1])
        if start in ("-1000", "-3"):
            intercept = intercept + np.where(np.arange(intercept.size).reshape(intercept.shape) == 0, float(start), 0.0)
        elif start == "1e4":
            coef, intercept = coef + 1e4, intercept + 1e4
        else:
            coef, intercept = rng.uniform(-50, 50, size=shape), rng.uniform(-50, 50, size=shape[:-1])
        if not options["fit_intercept"]:
            intercept = np.zeros_like(intercept)
        options["init"] = (coef.astype(x.dtype), np.asarray(intercept, x.dtype))
        tags.append(f"start {start}")
    return options


def _present(x: np.ndarray, y: np.ndarray, options: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The classes that have a weight, and the weights of the rows, class weights included."""
    w = np.asarray(options.get("sample_weight", np.ones(len(y))), np.float64)
    factors = options.get("class_weight")
    classes = np.unique(y[w > 0])
    if factors == "balanced":
        each = np.array([np.sum(w[y == c]) for c in classes])
        factors = dict(zip(classes.tolist(), np.sum(w) / (len(classes) * each), strict=True))
    if factors is not None:
        w = w * np.array([factors.get(c, 1.0) for c in y.tolist()])
    return np.unique(y[w > 0]), w


# --- problems of a kind ----------------------------------------------------------------------------------------------


def _near_duplicates(rng: Any, n: int) -> np.ndarray:
    z = rng.normal(size=(n, int(rng.integers(2, 6))))
    z[:, -1] = z[:, :-1] @ rng.normal(size=z.shape[1] - 1) + 10.0 ** rng.uniform(-8.5, -1) * rng.normal(size=n)
    return z


def _powers(rng: Any, n: int) -> np.ndarray:
    low, high = ((0, 1), (1, 2), (-1, 1), (10, 20))[int(rng.integers(4))]
    return rng.uniform(low, high, size=n)[:, None] ** np.arange(1, rng.integers(3, 8))


def _years(rng: Any, n: int) -> np.ndarray:
    year, group = rng.integers(1950, 2021, size=n), rng.integers(0, 2, size=n)
    return np.column_stack([year, year * group, group, (year - 1985.0) ** 2 if rng.random() < 0.5 else year**2])


def _two_factors(rng: Any, n: int) -> np.ndarray:
    sizes = rng.integers(2, 5, size=2)
    a, b = (rng.integers(0, size, size=n) for size in sizes)
    z = np.column_stack([a[:, None] == np.arange(sizes[0]), b[:, None] == np.arange(sizes[1]), rng.normal(size=n)])
    return np.column_stack([z, (a == 0) & (b == 0), (a == 0) & (b == 1)]) if rng.random() < 0.5 else z


def _splines(rng: Any, n: int) -> np.ndarray:
    knots = np.linspace(0, 1, int(rng.integers(4, 9)))
    return np.maximum(0.0, 1.0 - np.abs(rng.random(n)[:, None] - knots) * (len(knots) - 1))


def _shares(rng: Any, n: int) -> np.ndarray:
    z = rng.dirichlet(np.ones(int(rng.integers(3, 6))), size=n) * 100
    return np.round(z, 1) if rng.random() < 0.5 else z


def _seconds(rng: Any, n: int) -> np.ndarray:
    t = 1.7e9 + rng.integers(0, 10**7, size=n)
    return np.column_stack([t, np.sin(t * 2 * np.pi / 86400), rng.normal(size=n)])


def _leverage(rng: Any, n: int) -> np.ndarray:
    z = rng.normal(size=(n, 3))
    z[rng.integers(n), 0] = 10.0 ** rng.uniform(2, 8)
    return z


def _wide(rng: Any, n: int) -> np.ndarray:
    n = min(n, 40)
    return rng.normal(size=(n, int(n * rng.uniform(0.5, 1.5)) + 1))


def _correlated(rng: Any, n: int) -> np.ndarray:
    shared = (0.0, 10.0)[int(rng.integers(2))] * rng.normal(size=(n, 1))
    return np.cumsum(rng.normal(size=(n, int(rng.integers(5, 25)))), axis=1) + shared


def _light_rows(rng: Any, n: int) -> np.ndarray:
    """The last column differs from the first only in the last tenth of the rows."""
    z = rng.normal(size=(n, 3))
    z[: n - n // 10, -1] = z[: n - n // 10, 0]
    return z


KINDS = {
    "near duplicates": _near_duplicates,
    "powers": _powers,
    "years": _years,
    "two factors": _two_factors,
    "splines": _splines,
    "shares": _shares,
    "seconds": _seconds,
    "leverage": _leverage,
    "more columns than rows": _wide,
    "correlated": _correlated,
    "light rows": _light_rows,
    "binomial": lambda rng, n: rng.integers(0, 3, size=(n, 3)),
    "nearly separated": lambda rng, n: rng.normal(size=(n, 3)),
    "light class": lambda rng, n: rng.normal(size=(n, 4)),
}


def hard(seed: int, index: int, dtype: str = "float64") -> Problem:
    """A problem with nearly dependent columns, or whose minimum depends on few rows; the same for the same seed."""
    rng = np.random.default_rng([seed, index, 1])

    def pick(values: Any, shares: Any = None) -> Any:
        return values[int(rng.choice(len(values), p=shares))]

    kind = pick(sorted(KINDS))
    z = KINDS[kind](rng, int(pick([rng.integers(20, 200), rng.integers(200, 2000)], [0.7, 0.3]))) * 1.0
    n, k = len(z), pick([2, 3], [0.7, 0.3])
    spread = np.std(z, axis=0)
    logits = ((z - z.mean(axis=0)) / np.where(spread > 0, spread, 1)) @ rng.normal(size=(z.shape[1], k))
    plain = kind == "nearly separated"
    y = np.argmax(logits * pick([0.0, 0.3, 1.0, 3.0]) + (0.0 if plain else 1.0) * rng.gumbel(size=(n, k)), axis=1)
    y[:k] = np.arange(k)
    w = _light(rng, kind, y)
    x = (z * pick([np.ones(z.shape[1]), 10.0 ** rng.uniform(-12, 12, size=z.shape[1])], [0.7, 0.3])).astype(dtype)
    tags = [kind]
    order = _order(rng, pick, x, y, tags)
    options = _hard_options(rng, pick, x)
    if w is not None:
        options["sample_weight"] = w[order]
        tags.append(f"lightest {np.min(w):.0e}")
    return Problem(seed, index, np.ascontiguousarray(x[order]), y[order], options, tuple(tags))


def _light(rng: Any, kind: str, y: np.ndarray) -> np.ndarray | None:
    """Weights, very small ones for some kind of rows."""
    n, least = len(y), 10.0 ** rng.uniform(-13, -1)
    if kind == "binomial":
        return rng.integers(1, 50, size=n) * (np.arange(n) % 7 > 0 if n > 50 else 1.0)
    if kind == "light class":
        return np.where(y == 0, least, 1.0)
    if kind == "light rows":
        return np.where(np.arange(n) < n - n // 10, 1.0, least)
    if kind == "nearly separated":  # except for the first rows, whose labels were set
        return np.where(np.arange(n) < 3, least, rng.random(n) + 0.1)
    return None


def _hard_options(rng: Any, pick: Any, x: np.ndarray) -> dict[str, Any]:
    options: dict[str, Any] = {"fit_intercept": bool(rng.random() < 0.85), "max_iter": 1000}
    penalty = pick(["none", "l2", "l1", "both"], [0.6, 0.2, 0.15, 0.05])
    scale = float(np.median(np.std(x.astype(np.float64), axis=0))) or 1.0
    if penalty in ("l2", "both"):
        options["l2"] = float(10.0 ** rng.uniform(-12, 10) * scale**2)
    if penalty in ("l1", "both"):
        options["l1"] = float(10.0 ** rng.uniform(-9, 0) * scale * len(x) * 0.2)
    options["solver"] = pick(["auto", "proximal"] if "l1" in options else ["auto", "newton", "lbfgs"])
    return options


# --- references ------------------------------------------------------------------------------------------------------


class Rank(NamedTuple):
    """A basis (p, r) of the combinations of scaled columns that vary, and one (p, q) of the constant ones."""

    kept: np.ndarray
    null: np.ndarray
    clear: bool
    noise: float  # rounding error relative to the spread of a column


@dataclass(frozen=True)
class Model:
    """The objective, divided by the sum of the weights, in scaled and centred columns and float64.

    z is (x − centre) / scale @ basis; coefficients of z are (L, r + 1), the intercept last.
    """

    z: np.ndarray
    label: np.ndarray
    w: np.ndarray
    lines: int
    ridge: np.ndarray
    bound: np.ndarray
    fit_intercept: bool
    centre: np.ndarray
    scale: np.ndarray
    basis: np.ndarray

    @property
    def penalised(self) -> bool:
        return bool(np.any(self.ridge > 0) or np.any(self.bound > 0))

    @property
    def rows(self) -> np.ndarray:
        return np.column_stack([self.z, np.full(len(self.z), 1.0 if self.fit_intercept else 0.0)])

    def losses(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The losses of the rows and the probabilities of the classes, from logits (n, L)."""
        if self.lines == 1:
            m = np.where(self.label == 1, 1.0, -1.0) * logits[:, 0]
            return np.logaddexp(0.0, -m), np.exp(-np.logaddexp(0.0, -logits))
        top = np.max(logits, axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.sum(np.exp(logits - top), axis=1))
        # The differences first: large logits that all classes share do not hide small losses.
        own = logits[np.arange(len(logits)), self.label]
        others = np.exp(logits - own[:, None])
        others[np.arange(len(logits)), self.label] = 0.0
        with np.errstate(over="ignore"):
            loss = np.where(own >= top[:, 0], np.log1p(np.sum(others, axis=1)), log_sum - own)
        return loss, np.exp(logits - log_sum[:, None])

    def value(self, theta: np.ndarray, smooth: float = 0.0) -> float:
        loss, _ = self.losses(self.rows @ theta.T)
        coef = theta[:, :-1]
        penalty = 0.5 * np.sum(self.ridge * coef**2) + np.sum(_smoothed(coef, self.bound, smooth)[0])
        return float(self.w @ loss + penalty)

    def value_of_x(self, coef: np.ndarray, intercept: np.ndarray) -> float:
        """The objective at coefficients of x; only if the basis is the identity."""
        coef = np.reshape(np.asarray(coef, np.float64), (self.lines, -1))
        intercept = np.reshape(np.asarray(intercept, np.float64), self.lines)
        return self.value(np.column_stack([coef * self.scale, intercept + coef @ self.centre]))

    def slopes(self, theta: np.ndarray, smooth: float) -> tuple[np.ndarray, np.ndarray]:
        """The gradient (D,) and the Hessian (D, D), regularised along shifts that all classes share."""
        rows, n = self.rows, len(self.z)
        _, prob = self.losses(rows @ theta.T)
        truth = (self.label == 1)[:, None] if self.lines == 1 else self.label[:, None] == np.arange(self.lines)
        first = ((prob - truth) * self.w[:, None]).T @ rows
        size = rows.shape[1]
        hessian = np.zeros((self.lines, size, self.lines, size))
        for k in range(self.lines):
            for j in range(k + 1):
                bend = prob[:, k] * ((k == j) - prob[:, j]) if n else 0.0
                block = rows.T @ ((self.w * bend)[:, None] * rows)
                hessian[k, :, j, :], hessian[j, :, k, :] = block, block.T
        _, push, bend = _smoothed(theta[:, :-1], self.bound, smooth)
        first[:, :-1] += self.ridge * theta[:, :-1] + push
        for k in range(self.lines):
            at = np.arange(size - 1)
            hessian[k, at, k, at] += self.ridge + bend[k]
        if self.lines > 1:  # a shift that all classes share changes nothing, and is 0 at the minimum
            shared = np.full(size, 1.0)
            shared[:-1] = 0.0 if np.any(self.bound > 0) else 1.0
            for j in np.flatnonzero(shared):
                total = np.sum(theta[:, j])
                first[:, j] += total
                hessian[:, j, :, j] += 1.0
        if not self.fit_intercept:
            at = np.arange(self.lines)
            hessian[at, -1, at, -1] += 1.0
        d = self.lines * size
        return first.reshape(d), hessian.reshape(d, d)


def _smoothed(coef: np.ndarray, bound: np.ndarray, smooth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bound |coef|, smoothed by the logarithmic barrier of |coef| ≤ t at the best t, and its two derivatives.

    It raises the minimum of a sum by at most 2 smooth for each coefficient.
    """
    size = bound * np.abs(coef)
    if smooth == 0.0:
        return size, np.zeros_like(coef), np.zeros_like(coef)
    root = np.hypot(smooth, bound * coef)
    t = smooth + root  # times the bound
    value = t - smooth * np.log(2.0 * t / smooth) - 2.0 * smooth + smooth * np.log(4.0)
    return value, bound**2 * coef / t, bound**2 * smooth / (root * t)


class Reference(NamedTuple):
    """The reference solution of a problem.

    kind is "minimum", "separated", "not separated" (the minimum is not certain) or "unclear"; why is the reason.
    """

    kind: str
    why: str
    classes: np.ndarray
    full: Model  # in all columns
    value: float
    least: float  # a result below is wrong
    theta: np.ndarray | None  # of x, (L, p + 1)
    errors: np.ndarray | None  # standard errors likewise, inf for dependent columns
    condition: float
    rank: Rank


def reference(given: Problem) -> Reference:
    """The minimum in float64, certified; or a direction that separates the classes."""
    x, o = given.x.astype(np.float64), given.options
    classes, w = _present(given.x, given.y, o)
    seen = w > 0
    x, w = x[seen], w[seen]
    label = np.searchsorted(classes, given.y[seen])
    lines = 1 if len(classes) == 2 else len(classes)
    total = float(np.sum(w))
    w = w / total
    fit_intercept = o["fit_intercept"]
    centre, scale, noise, flat = _scales(x, float(np.finfo(given.x.dtype).eps), fit_intercept)
    z = (x - centre) / scale
    with np.errstate(over="ignore", under="ignore"):
        ridge = o.get("l2", 0.0) / total / scale / scale
        bound = o.get("l1", 0.0) / total / scale
    p = x.shape[1]
    full = Model(z, label, w, lines, ridge, bound, fit_intercept, centre, scale, np.eye(p))
    level = np.where(flat, np.inf, noise / scale)
    rank = _rank(z, w, fit_intercept, level)
    if np.any(flat & (np.ptp(x, axis=0) > 0)):  # may be exact numbers, or rounding of a constant, or of another column
        rank = rank._replace(clear=False)
    unknown = (classes, full, np.nan, -np.inf, None, None, np.inf, rank)
    if full.penalised:
        if not (np.all(np.isfinite(ridge)) and np.all(np.isfinite(bound))):
            # A penalty that overflows float64, in units of the loss, makes a coefficient 0.
            return Reference("unclear", "penalty overflows", *unknown)
        found = _minimum(full)
        if found is None:
            return Reference("unclear", "no certain minimum with a penalty", *unknown)
        theta, value, _ = found
        least = value - 2.0 * BARRIER * abs(value)
        return Reference("minimum", "", classes, full, value, least, _outward(full, theta), None, 1.0, rank)
    if not rank.clear:
        return Reference("unclear", "columns that may depend on each other", *unknown)
    reduced = _replace_columns(full, rank.kept)
    found = _minimum(reduced)
    # Columns that are dependent up to rounding give a slightly lower loss if rounding is fitted as data.
    exact = _replace_columns(full, _finest(z)) if rank.null.shape[1] else reduced
    if found is None:
        apart = separation(reduced)
        if exact is not reduced and separation(exact) != apart:
            return Reference("unclear", "separated by rounding", *unknown)
        why = {"separated": "", "not separated": "no certain minimum"}.get(apart, "separated within rounding")
        return Reference(apart, why, *unknown)
    theta, value, hessian = found
    least = value
    if exact is not reduced:
        finest = _minimum(exact)
        least = -np.inf if finest is None else finest[1]
        more = np.linalg.matrix_rank(exact.z) > reduced.z.shape[1]
        if finest is None and more and separation(exact) != "not separated":
            return Reference("unclear", "separated by rounding", *unknown)
    errors, condition = _errors(reduced, hessian, total, rank)
    return Reference("minimum", "", classes, full, value, least, _outward(reduced, theta), errors, condition, rank)


def _scales(x: np.ndarray, eps: float, fit_intercept: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centres, powers of 2 near the spreads, rounding errors of the columns, and which are constant up to these."""
    unit = np.max(np.abs(x), axis=0)
    unit = np.where(unit > 0, 2.0 ** np.round(np.log2(np.where(unit > 0, unit, 1.0))), 1.0)
    centre = np.zeros(x.shape[1])
    for _ in range(2 if fit_intercept else 0):  # the second time for the rounding error of the first mean
        centre = centre + np.mean((x - centre) / unit, axis=0) * unit
    spread = np.sqrt(np.mean(((x - centre) / unit) ** 2, axis=0)) * unit
    noise = eps * np.max(np.abs(x), axis=0)
    flat = spread <= noise
    scale = np.where(flat, unit, 2.0 ** np.round(np.log2(np.where(flat, 1.0, spread))))
    return centre, scale, noise, flat


def _rank(z: np.ndarray, w: np.ndarray, fit_intercept: bool, level: np.ndarray) -> Rank:
    """Singular values of columns of unit spread; clear if all are at rounding, or well above."""
    p = z.shape[1]
    constant = ~np.isfinite(level)
    spread = np.where(constant, 1.0, np.sqrt(np.mean(z**2, axis=0)))
    spread = np.where(spread > 0, spread, 1.0)
    unit = np.where(constant, 0.0, z / spread)
    level = np.where(constant, 0.0, level / spread)
    noise = max(float(np.max(level, initial=0.0)), 1e-15)
    _, values, right = np.linalg.svd(np.linalg.qr(unit / np.sqrt(len(z)), mode="r"), full_matrices=True)
    values = np.concatenate([values, np.zeros(p - len(values))])
    mean = w @ unit if fit_intercept else np.zeros(p)
    heavy = unit - mean
    cover = heavy.T @ (w[:, None] * heavy)
    size = np.sqrt(np.diag(cover))
    each = np.maximum(np.sqrt(level**2 @ right.T**2), 1e-15)  # the rounding of a combination
    high = np.maximum(1e-5 if noise > 1e-8 else 1e-9, 16.0 * each)
    small = values <= 2.0 * each
    kept, null = right[~small].T, right[small].T
    # Also with the weights: a column that only light rows determine is not clear.
    part = kept.T @ cover @ kept
    part = part / values[~small, None] / values[~small]
    weakest = np.min(np.linalg.eigvalsh(part), initial=np.inf)
    clear = bool(np.all(small | (values >= high)) and weakest >= 1e-10 and np.all(constant | (size >= np.max(high))))
    moved = null / spread[:, None]
    return Rank(
        kept / values[~small] / spread[:, None], np.linalg.qr(moved)[0] if moved.shape[1] else moved, clear, noise
    )


def _finest(z: np.ndarray) -> np.ndarray:
    """A basis of the columns as given, rounding included."""
    spread = np.sqrt(np.mean(z**2, axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    _, values, right = np.linalg.svd(z / spread / np.sqrt(len(z)), full_matrices=False)
    kept = values > 1e-13
    return right[kept].T / spread[:, None] / values[kept]


def _replace_columns(model: Model, basis: np.ndarray) -> Model:
    zeros = np.zeros(basis.shape[1])
    return Model(
        model.z @ basis,
        model.label,
        model.w,
        model.lines,
        zeros,
        zeros,
        model.fit_intercept,
        model.centre,
        model.scale,
        basis,
    )


def _outward(model: Model, theta: np.ndarray) -> np.ndarray:
    """Convert coefficients to x."""
    with np.errstate(over="ignore", under="ignore"):
        coef = (theta[:, :-1] @ model.basis.T) / model.scale
    return np.column_stack([coef, theta[:, -1] - coef @ model.centre])


def _minimum(model: Model) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Damped Newton from the null model; None if the minimum cannot be certified."""
    lines, size = model.lines, model.z.shape[1] + 1
    shares = np.bincount(model.label, model.w, minlength=max(lines, 2))
    theta = np.zeros((lines, size))
    if model.fit_intercept:
        logs = np.log(np.maximum(shares, 1e-300))
        theta[:, -1] = logs[1] - logs[0] if lines == 1 else logs - np.mean(logs)
    smooth = 0.0
    if np.any(model.bound > 0):
        # A penalty above any gradient makes a coefficient 0; setting it to 0 avoids the limits of float64.
        most = model.w @ np.abs(model.z)
        gone = model.bound > most
        if np.any(gone):
            kept = np.flatnonzero(~gone)
            part = Model(
                model.z[:, kept],
                model.label,
                model.w,
                lines,
                model.ridge[kept],
                model.bound[kept],
                model.fit_intercept,
                model.centre[kept],
                model.scale[kept],
                np.eye(len(kept)),
            )
            found = _minimum(part)
            if found is None:
                return None
            theta[:, kept], theta[:, -1] = found[0][:, :-1], found[0][:, -1]
            return theta, found[1], found[2]
        smooth = 0.1 * model.value(theta) / (2 * lines * size)
    goal = BARRIER * 0.1
    for _ in range(12 if smooth else 1):
        found = _newton(model, theta, smooth, goal)
        if found is None:
            return None
        theta, hessian, gap = found
        value = model.value(theta)
        if 2.0 * lines * size * smooth <= BARRIER * abs(value):
            break
        smooth = max(smooth * 0.05, 0.3 * BARRIER * abs(value) / (2 * lines * size))
    else:
        if smooth:
            return None
    if not gap <= BARRIER * abs(value):
        return None
    return theta, value, hessian


def _newton(model: Model, theta: np.ndarray, smooth: float, goal: float) -> tuple[np.ndarray, np.ndarray, float] | None:
    value = model.value(theta, smooth)
    gap, stalled = np.inf, 0
    for _ in range(300):
        grad, hessian = model.slopes(theta, smooth)
        root = np.sqrt(np.diag(hessian))
        if not np.all(np.isfinite(root)) or not np.all(np.isfinite(grad)):
            return None
        root = np.where(root > 0, root, 1.0)
        scaled, damp = hessian / root[:, None] / root[None, :], 0.0
        while True:
            try:
                factor = np.linalg.cholesky(scaled + damp * np.eye(len(root)))
                break
            except np.linalg.LinAlgError:
                damp = max(10.0 * damp, 1e-14)
                if damp > 1.0:
                    return None
        half = np.linalg.solve(factor, grad / root)
        delta = -np.linalg.solve(factor.T, half) / root
        slope = float(half @ half)
        step = np.reshape(delta, theta.shape)
        if slope <= goal * abs(value):
            if damp > 0 or not _is_near(model, hessian, slope):
                stalled += 1
                if stalled > 8:
                    return None
            else:
                gap = slope
                if slope <= 1e-24 * abs(value) or stalled > 3:
                    return theta, hessian, gap
                stalled += 1
        t = 1.0
        while t > 1e-12:
            after = model.value(theta + t * step, smooth)
            if after <= value - 1e-4 * t * slope or (slope <= 1e-10 * abs(value) and after <= value * (1 + 1e-13)):
                break
            t *= 0.5
        else:
            return (theta, hessian, gap) if np.isfinite(gap) else None
        theta, value = theta + t * step, after
        if value <= 1e-9 and not model.penalised:
            return None
    return (theta, hessian, gap) if np.isfinite(gap) else None


def _is_near(model: Model, hessian: np.ndarray, slope: float) -> bool:
    """Whether Newton's decrement bounds the distance to the minimum, which then exists (Bach, 2010)."""
    root = np.sqrt(np.diag(hessian))
    scaled = hessian / root[:, None] / root[None, :]
    values, vectors = np.linalg.eigh(scaled)
    if not values[0] > 1e-11:  # rounding
        return False
    inverse = (vectors / values) @ vectors.T / root[:, None] / root[None, :]
    rows, lines = model.rows, model.lines
    blocks = inverse.reshape(lines, rows.shape[1], lines, rows.shape[1])
    forms = np.stack([[np.sum((rows @ blocks[k, :, j]) * rows, axis=1) for j in range(lines)] for k in range(lines)])
    if lines == 1:
        most = np.max(forms)
    else:
        own = np.stack([forms[k, k] for k in range(lines)])
        most = np.max(own[:, None] + own[None, :] - 2.0 * forms)
    return bool(np.sqrt(max(most, 0.0) * slope) < 0.1)


def _errors(model: Model, hessian: np.ndarray, total: float, rank: Rank) -> tuple[np.ndarray, float]:
    """Standard errors of coefficients of x, whose sums over the classes are 0; inf for dependent columns."""
    lines, size = model.lines, model.z.shape[1] + 1
    root = np.sqrt(np.diag(hessian))
    scaled = hessian / root[:, None] / root[None, :]
    condition = float(np.linalg.cond(scaled))
    inverse = np.linalg.inv(scaled) / root[:, None] / root[None, :]
    if lines > 1:
        keep = np.kron(np.eye(lines) - 1.0 / lines, np.eye(size))
        inverse = keep @ inverse @ keep
    if not model.fit_intercept:
        at = np.arange(lines) * size + size - 1
        inverse[at, :] = inverse[:, at] = 0.0
    p = len(model.scale)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        outward = np.zeros((p + 1, size))
        outward[:p, :-1] = model.basis
        outward[p, :-1] = -(model.centre / model.scale) @ model.basis
        outward[p, -1] = 1.0
        errors = np.empty((lines, p + 1))
        for k in range(lines):
            block = inverse[k * size : (k + 1) * size, k * size : (k + 1) * size]
            errors[k] = np.sqrt(np.maximum(np.sum((outward @ block) * outward, axis=1), 0.0) / total)
        errors[:, :-1] = errors[:, :-1] / model.scale
    if rank.null.shape[1]:
        hidden = involved(rank.null, rank.noise)
        errors[:, :-1] = np.where(hidden, np.inf, errors[:, :-1])
        errors[:, -1] = np.nan  # not compared
    return errors, condition


def involved(null: np.ndarray, noise: float) -> np.ndarray:
    """The columns that belong to a dependence; their rounding gives all others a small entry."""
    return np.max(np.abs(null), axis=1, initial=0.0) > max(1e-5, noise)


def separation(model: Model) -> str:
    """Return "separated" if a direction worsens no row and improves some, by linear programming; else "not separated".

    "borderline" if rounding decides. The program maximises Σ a·d over the rows a and the classes they are compared
    with, for a·d ≥ 0 and |d| ≤ 1.
    """
    from scipy.optimize import linprog

    rows, lines = model.rows, model.lines
    if not model.fit_intercept:
        rows = rows[:, :-1]
    if lines == 1:
        a = rows * np.where(model.label == 1, 1.0, -1.0)[:, None]
    else:
        parts = []
        for k in range(lines):
            at = model.label != k
            part = np.zeros((np.sum(at), lines, rows.shape[1]))
            part[np.arange(len(part)), model.label[at]] = rows[at]
            part[:, k] = -rows[at]
            parts.append(part)
        a = np.concatenate(parts).reshape(-1, lines * rows.shape[1])
        a = a[:, rows.shape[1] :]  # the first class as the reference: its direction is 0
    norm = np.sqrt(np.sum(a**2, axis=1))
    a = np.unique(a[norm > 0] / norm[norm > 0][:, None], axis=0)
    if not len(a):
        return "not separated"
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(-np.sum(a, axis=0), -a, np.zeros(len(a)), bounds=(-1.0, 1.0), options=options)
    if found.status != 0:
        return "borderline"
    total, worst = -found.fun, float(np.min(a @ found.x))
    if total > SEPARATED:
        return "separated" if worst >= -1e-9 else "borderline"
    return "not separated" if total < TOUCHING else "borderline"


# --- faults ----------------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """A fault, and its size."""

    name: str
    size: float


def judge(result: Any, given: Problem) -> list[Fault]:
    """The faults of the result of a fit."""
    ref, dtype = given.reference, given.dtype
    faults: list[Fault] = []
    coef, intercept = np.asarray(result.coef), np.asarray(result.intercept)
    lines, p = ref.full.lines, given.x.shape[1]
    if not (np.all(np.isfinite(coef)) and np.all(np.isfinite(intercept)) and np.isfinite(result.loss)):
        return [Fault("NaN or inf", 1.0)]
    if coef.size != lines * p or intercept.size != lines or len(result.classes) != len(ref.classes):
        return [Fault("shape", 1.0)]
    limit = result.n_iter >= given.options["max_iter"]
    if result.separated:
        if ref.full.penalised or ref.kind in ("minimum", "not separated"):
            faults.append(Fault("separation invented", 1.0))
        return faults
    if ref.kind == "separated":
        return [Fault("separation missed, limit" if limit else "separation missed", 1.0)]
    if not result.converged:
        nor = "" if ref.kind == "minimum" else ", nor the reference"
        faults.append(Fault(("limit" if limit else "not converged") + nor, float(result.n_iter)))
    if ref.kind != "minimum":
        return faults
    tolerance = TOLERANCE[dtype]
    floor = max(abs(ref.value), 1e-300)
    if result.converged:
        excess = (result.loss - ref.value) / floor
        if excess > tolerance:
            faults.append(Fault("above", excess))
        if dtype == "float64":
            excess = (ref.full.value_of_x(coef, intercept) - ref.value) / floor
            if not excess <= tolerance:
                faults.append(Fault("above at coef", excess))
    shortfall = (ref.least - result.loss) / floor
    if shortfall > tolerance:
        faults.append(Fault("below", shortfall))
    if result.converged and not ref.full.penalised and ref.errors is not None and not faults:
        faults += _judge_errors(result, given, coef)
    return faults


def _judge_errors(result: Any, given: Problem, coef: np.ndarray) -> list[Fault]:
    ref, dtype = given.reference, given.dtype
    lines, p = ref.full.lines, given.x.shape[1]
    faults: list[Fault] = []
    if result.stderr is None:
        return [Fault("no stderr", 1.0)]
    got = np.column_stack([np.reshape(np.asarray(e, np.float64), (lines, -1)) for e in result.stderr])
    want = ref.errors
    hidden = np.isinf(want)
    if np.any(np.isfinite(got[hidden])):
        faults.append(Fault("stderr finite", float(np.sum(np.isfinite(got[hidden])))))
    seen = np.isfinite(want)
    least, most = (1e-36, 1e36) if dtype == "float32" else (1e-290, 1e290)
    held = seen & (want > least) & (want < most)
    if np.any(np.isinf(got[held])):
        faults.append(Fault("stderr infinite", float(np.sum(np.isinf(got[held])))))
    elif ref.condition < (1e8 if dtype == "float64" else 1e3):
        off = np.max(np.abs(got[held] / want[held] - 1.0), initial=0.0)
        if not off <= ERRORS[dtype]:
            faults.append(Fault("stderr off", float(off)))
    null = ref.rank.null
    dependent = np.flatnonzero(involved(null, ref.rank.noise)) if null.shape[1] else np.zeros(0, int)
    if result.report is not None and tuple(result.report.dependent) != tuple(dependent.tolist()):
        faults.append(Fault("dependent", 1.0))
    if null.shape[1]:
        scale = ref.full.scale
        units = scale[dependent]
        if result.loss >= (1.0 - TOLERANCE[dtype]) * ref.value and np.max(units) / np.min(units) < 1e4:
            unit = np.min(units)
            basis = np.linalg.qr(null / (scale / unit)[:, None])[0]
            flat = np.reshape(np.asarray(coef, np.float64), (lines, p))
            size = np.linalg.norm(flat * scale / unit)
            flat = flat[:, dependent]
            part = np.linalg.norm(flat @ basis[dependent]) / size if size > 0 else 0.0
            noise = float(np.max(np.finfo(given.x.dtype).eps * np.max(np.abs(given.x), axis=0) / scale))
            if part > max(1e-6 if dtype == "float64" else 1e-3, 100.0 * noise):
                faults.append(Fault("not shortest", float(part)))
    return faults


# --- the peers -------------------------------------------------------------------------------------------------------


def peers(given: Problem) -> dict[str, tuple[str, float]]:
    """The outcome of each peer that can express the problem, and how far its objective is above the minimum."""
    from sklearn.linear_model import LogisticRegression

    o, found = given.options, {}
    x, y = given.x, given.y
    if "l1" in o:
        return {}
    present = _present(x, y, o)[0]
    if len(present) != len(np.unique(y)):
        return {}
    l2 = o.get("l2", 0.0)
    for solver in ("newton-cholesky", "lbfgs"):

        def fit(solver: str = solver) -> tuple[np.ndarray, np.ndarray]:
            model = LogisticRegression(
                C=1.0 / l2 if l2 else np.inf,
                solver=solver,
                fit_intercept=o["fit_intercept"],
                class_weight=o.get("class_weight"),
                max_iter=o["max_iter"],
            )
            model.fit(x, y, o.get("sample_weight"))
            return model.coef_, model.intercept_

        found[f"scikit-learn {solver}"] = _peer(given, fit)
    if not l2 and "sample_weight" not in o and "class_weight" not in o:
        import statsmodels.api as sm

        rows = np.column_stack([x, np.ones(len(x))]) if o["fit_intercept"] else x

        def discrete() -> tuple[np.ndarray, np.ndarray]:
            kind = sm.Logit if len(present) == 2 else sm.MNLogit
            params = np.asarray(kind(y, rows).fit(disp=0, maxiter=o["max_iter"]).params)
            params = params[:, None] if len(present) == 2 else np.column_stack([np.zeros(len(params)), params])
            if not o["fit_intercept"]:
                params = np.vstack([params, np.zeros(params.shape[1])])
            return params[:-1].T, params[-1]

        found["statsmodels Logit, MNLogit"] = _peer(given, discrete)
    return found


def _peer(given: Problem, fit: Any) -> tuple[str, float]:
    ref = given.reference
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            coef, intercept = fit()
        except Exception:  # any error is a refusal
            return "refused", 0.0
    told = [m for m in told if not issubclass(m.category, DeprecationWarning | FutureWarning)]
    if ref.kind == "separated":
        return ("separation told" if told else "separation missed, silent"), 0.0
    if ref.kind != "minimum":
        return "left out", 0.0
    with np.errstate(all="ignore"):
        excess = (ref.full.value_of_x(coef, intercept) - ref.value) / max(abs(ref.value), 1e-300)
    excess = float(excess) if np.isfinite(excess) else np.inf
    for size, name in ((1e-2, "wrong by 1e-2"), (1e-4, "wrong by 1e-4"), (TOLERANCE["float64"], "wrong by 1e-6")):
        if excess > size:
            return f"{name}, {'told' if told else 'silent'}", excess
    return ("right, told" if told else "right"), excess


# --- the table -------------------------------------------------------------------------------------------------------


def attempt(given: Problem) -> tuple[Any, list[Fault]]:
    """The result of anyops, None if it raised, and the faults."""
    import anyops

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = anyops.logistic_regression(given.x, given.y, **given.options)
        except ValueError as e:
            return None, [Fault("refused: " + str(e)[:60], 1.0)]
        except Exception as e:
            return None, [Fault(f"error {type(e).__name__}: {str(e)[:60]}", 1.0)]
    faults = judge(result, given)
    if told:
        faults.append(Fault(f"warning {told[0].category.__name__}", 1.0))
    return result, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--only", choices=["float64", "float32"], help="of both in turn if not given")
    parser.add_argument("--peers", action="store_true", help="ask the peers too, about the problems in float64")
    parser.add_argument("--verbose", action="store_true", help="print each fault as it is found")
    parser.add_argument("--hard", action="store_true", help="problems of the kinds in KINDS")
    given = parser.parse_args()
    make = hard if given.hard else problem
    kinds: Counter[str] = Counter()
    faults: dict[str, list[tuple[float, Problem]]] = defaultdict(list)
    rivals: dict[str, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    spent: Counter[str] = Counter()
    for index in range(given.first, given.first + given.count):
        one = make(given.seed, index, given.only or ("float64", "float32")[index % 2])
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            ref = one.reference
        spent["reference"] += time.perf_counter() - start
        kinds[f"{ref.kind}: {ref.why}" if ref.why else ref.kind] += 1
        start = time.perf_counter()
        for fault in attempt(one)[1]:
            faults[fault.name].append((fault.size, one))
            if given.verbose:
                print(index, fault, one, flush=True)
        spent["fit"] += time.perf_counter() - start
        if given.peers and one.dtype == "float64":
            for name, (state, size) in peers(one).items():
                rivals[name][state].append((size, index))
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in spent.items())
    print(f"seed {given.seed}, problems {given.first} to {given.first + given.count - 1}; {seconds}")
    for kind, count in sorted(kinds.items()):
        print(f"{count:8d} {kind}")
    columns = ("float64", "float32", "auto", "newton", "lbfgs", "proximal")
    print("".join([f"\n{'fault':44}", f"{'all':>6}", *(f"{c:>9}" for c in columns), "  worst (index: size)"]))
    for name, those in sorted(faults.items(), key=lambda item: -len(item[1])):
        by = Counter(word for _, one in those for word in (one.dtype, one.options["solver"]))
        top = sorted(((size, one.index) for size, one in those), reverse=True)[:5]
        shown = ", ".join(f"{index}: {size:.2g}" for size, index in top)
        print("".join([f"{name[:43]:44}", f"{len(those):6d}", *(f"{by[c]:9d}" for c in columns), f"  {shown}"]))
    for name, states in sorted(rivals.items()):
        print(f"\n{name}: {sum(map(len, states.values()))} problems in float64")
        for state, found in sorted(states.items()):
            size, index = max(found)
            print(f"{len(found):8d} {state} ({index}: {size:.2g})")


if __name__ == "__main__":
    main()
