"""Many threads call at the same time, as in a server or a data loader: each gets the result of a call alone."""

import random
import threading
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

import anyops
from tests import record, scenes
from tests.backends import optimized
from tests.examples import example
from tests.test_ambient import arrays_of, numbers

THREADS = 8


def together(calls):
    """All calls in each of eight threads, each in its own order: (name, results) of every call."""
    start, found, errors = threading.Barrier(THREADS), [], []

    def run(seed):
        order = random.Random(seed).sample(sorted(calls), len(calls))
        start.wait()
        try:
            for name in order:
                found.append((name, numbers(calls[name]())))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found) == THREADS * len(calls)
    return found


def check(calls):
    alone = {name: numbers(call()) for name, call in calls.items()}
    for name, results in together(calls):
        for x, want in zip(results, alone[name], strict=True):
            # Products of matrices may use another number of threads, which changes the rounding of their sums.
            np.testing.assert_allclose(x, want, rtol=1e-5, atol=1e-6, err_msg=name)


def of_scenes(n, dtype):
    """Greedy NMS of scenes that need different parts of the reused memory."""
    calls = {}
    for kind in (scenes.spread, scenes.clustered, scenes.chain, scenes.tied, scenes.all_scales):
        boxes, scores = kind(n)
        boxes, labels = boxes.astype(dtype), scenes.labels(n)
        name = f"{kind.__name__} {n} {np.dtype(dtype)}"
        calls[name] = partial(anyops.nms, boxes, scores)
        calls[f"{name}, labels"] = partial(anyops.nms, boxes, scores, labels=labels)
    return calls


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_every_op(library):
    calls = {}
    for op in record.OPS:
        f, *given = example(op)
        calls[op] = partial(f, *arrays_of(library, given))
    with optimized(False) if library == "jax" else nullcontext():
        check(calls)


def test_reused_memory():
    calls = {}
    for n in (50, 300, 3000):
        for dtype in (np.float32, np.float64):
            calls |= of_scenes(n, dtype)
    check(calls)


def test_rows_split_over_threads():
    """Fits that start threads themselves, and set how many BLAS may use, while others do the same."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300_000, 8)) + 3 * rng.integers(0, 2, (300_000, 1))
    y = x[:, 0] + rng.normal(size=len(x)) > 0
    check(
        {
            "kmeans": lambda: anyops.kmeans(x, 2, init=x[:2], max_iter=3)[:2],
            "logistic_regression": lambda: anyops.logistic_regression(x, y)[:2],
        }
    )
