"""Stable sorting of NumPy arrays, compared with Python's sort, which is stable."""

import math

import numpy as np
import pytest

from anyops._host.order import COMPARED, ascending
from anyops._host.walk import walk, walk_pairs

SPECIAL = [math.nan, -math.nan, 0.0, -0.0, math.inf, -math.inf, 1.0, -1.0]


def by_definition(x):
    return sorted(range(len(x)), key=lambda i: (math.isnan(x[i]), 0.0 if math.isnan(x[i]) else float(x[i])))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("n", [0, 1, COMPARED - 1, COMPARED, COMPARED + 1, 40_000])
@pytest.mark.parametrize("values", ["all different", "many equal", "all equal", "special", "with NaN", "only NaN"])
def test_ascending(dtype, n, values):
    rng = np.random.default_rng(n)
    x = {
        "all different": rng.permutation(n) / 7 - 100,
        "many equal": rng.integers(-5, 5, n) / 2,
        "all equal": np.full(n, 0.3),
        "special": rng.choice(SPECIAL, n),
        "with NaN": np.where(rng.random(n) < 0.1, rng.choice([math.nan, -math.nan], n), rng.normal(size=n)),
        "only NaN": rng.choice([math.nan, -math.nan], n),
    }[values]
    if dtype in ("int32", "bool"):
        x = np.nan_to_num(x, posinf=9, neginf=-9)
    x = x.astype(dtype)
    before = x.copy()
    assert ascending(x).tolist() == by_definition(x.tolist())
    np.testing.assert_array_equal(x, before)


def test_nan_of_any_payload_are_ties():
    x = np.zeros(200, np.float32)
    x.view(np.uint32)[[3, 50, 199]] = [0x7FC00001, 0xFFC00000, 0x7FC12345]
    assert ascending(x).tolist() == by_definition(x.tolist())


@pytest.mark.parametrize("n", [1, 7, 8, 63, 64, 65, 128, 300])
def test_bits_and_pairs_decide_as_the_definition(n):
    over = np.triu(np.random.default_rng(n).random((n, n)) < 4 / n, 1)
    kept = []
    for j in range(n):
        if not any(over[i, j] for i in kept):
            kept.append(j)
    assert walk(over | over.T) == kept
    better, worse = over.nonzero()
    shuffled = np.random.default_rng(0).permutation(better.shape[0])
    assert walk_pairs(better[shuffled], worse[shuffled], n).nonzero()[0].tolist() == kept
