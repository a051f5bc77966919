"""Standard errors of a logistic regression by 1 000 bootstrap fits in one call, and from the observed information.

    python examples/bootstrap_logistic.py                       on NumPy, PyTorch and JAX, if installed
    python examples/bootstrap_logistic.py --backend jax         on one of them
    python examples/bootstrap_logistic.py --resamples 200       fewer fits

Drawing rows with replacement is the same as weighting each row by how often it was drawn. A fit is eight calls of
`logistic_step`, which reads no values on the host, so `vmap` over the weights makes all fits one program. One class
against the rest (map over y) and one model per group (map over x, y and the weights) work in the same way. NumPy has no
vmap, so it loops.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import anyops

ROWS, STEPS, RESAMPLES = 400, 8, 1_000
TRUTH, LEVEL = np.array([1.0, -0.5, 0.25]), -0.5


class Errors(NamedTuple):
    """Standard errors of three coefficients and the intercept."""

    bootstrap: np.ndarray
    information: np.ndarray


def sample() -> tuple[np.ndarray, np.ndarray]:
    """Rows of a logistic model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, len(TRUTH)))
    return x.astype(np.float32), (x @ TRUTH + LEVEL + rng.logistic(size=ROWS) > 0).astype(np.int32)


def counts(resamples: int) -> np.ndarray:
    """How often each row is drawn: on the host, so the same for every library."""
    return np.random.default_rng(1).multinomial(ROWS, np.full(ROWS, 1 / ROWS), resamples).astype(np.float32)


def plain_loop(start: int, end: int, body: Callable[[int, Any], Any], state: Any) -> Any:
    """The counterpart of ``jax.lax.fori_loop``, which traces `body` only once."""
    for number in range(start, end):
        state = body(number, state)
    return state


def fit(x: Any, y: Any, weight: Any, loop: Callable[..., Any] = plain_loop) -> tuple[Any, Any]:
    """Newton's method from 0, with a fixed number of steps."""

    def step(_: int, at: tuple[Any, Any]) -> tuple[Any, Any]:
        return anyops.logistic_step(x, y, *at, sample_weight=weight)[:2]

    return loop(0, STEPS, step, (0 * x[0, :], 0 * x[0, 0]))


def with_numpy(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[Any, Any, Any]:
    fits = [fit(x, y, weight) for weight in weights]
    return x, y, [np.stack(values) for values in zip(*fits, strict=True)]


def with_torch(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[Any, Any, Any]:
    import torch

    x, y, weights = map(torch.from_numpy, (x, y, weights))
    return x, y, torch.func.vmap(fit, in_dims=(None, None, 0))(x, y, weights)


def with_jax(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[Any, Any, Any]:
    import jax

    x, y, weights = map(jax.numpy.asarray, (x, y, weights))
    looped = functools.partial(fit, loop=jax.lax.fori_loop)
    return x, y, jax.jit(jax.vmap(looped, in_axes=(None, None, 0)))(x, y, weights)


LIBRARIES = {"numpy": with_numpy, "torch": with_torch, "jax": with_jax}


def joined(coef: Any, intercept: Any) -> np.ndarray:
    """The coefficients with the intercepts last, on the host."""
    return np.concatenate([np.asarray(coef), np.asarray(intercept)[..., None]], axis=-1)


def main(argv: list[str] | None = None) -> dict[str, Errors]:
    parser = argparse.ArgumentParser(description="Bootstrap a logistic regression in one vmapped call.")
    parser.add_argument("--backend", choices=LIBRARIES, help="default: each that is installed")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    options = parser.parse_args(argv)
    x, y = sample()
    weights = counts(options.resamples)
    found: dict[str, Errors] = {}
    for name in [options.backend] if options.backend else LIBRARIES:
        start = time.perf_counter()
        try:
            rows, labels, fits = LIBRARIES[name](x, y, weights)
        except ImportError as error:
            if options.backend:
                raise SystemExit(f"{name}: {error}") from None
            continue
        spread = joined(*fits).std(axis=0, ddof=1)
        seconds = time.perf_counter() - start
        errors = found[name] = Errors(spread, joined(*anyops.logistic_regression(rows, labels).stderr))
        print(f"{name:6} {options.resamples} fits in {seconds:.2f} s, including compilation")
        for kind, values in errors._asdict().items():
            print(f"       {kind:12}" + " ".join(f"{v:8.4f}" for v in values))
    return found


if __name__ == "__main__":
    main()
