"""Sorting by value, against NumPy's stable sort."""

import numpy as np
import pytest

from anyops._array import order
from tests.backends import Backend

SHAPES = [(1,), (7,), (1000,), (3, 50), (2, 3, 40), (0,), (3, 0), (1 << order.DIGIT,), ((1 << order.DIGIT) + 1,)]


def special(shape, dtype):
    """Values with ties, zeros of both signs, infinities, NaN of both signs and subnormal numbers."""
    rng = np.random.default_rng(7)
    x = rng.integers(-9, 9, shape) / 4
    tiny = float(np.finfo(dtype).tiny)
    for value in (np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, tiny, -tiny):
        x = np.where(rng.random(shape) < 0.05, value, x)
    return x.astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_stable_and_nan_last(backend, xp, shape, dtype):
    if backend.library == "dask" or not backend.has_dtype(dtype):
        pytest.skip(f"{backend} cannot order, or has no {dtype}")
    x = special(shape, dtype)
    got = backend.to_numpy(order.ascending(xp, backend.asarray(x)))
    np.testing.assert_array_equal(got, np.argsort(x, axis=-1, kind="stable"))


def test_lanes_and_gradients_on_jax():
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    with Backend.JAX_CPU.active():
        xp, x = jax.numpy, special((5, 40), "float32")
        got = jax.jit(jax.vmap(lambda row: order.ascending(xp, row)))(x)
        np.testing.assert_array_equal(got, np.argsort(x, axis=-1, kind="stable"))
        weights = np.arange(4, dtype=np.float32)
        slope = jax.grad(lambda row: (row[order.ascending(xp, row)] * weights).sum())(np.float32([3, 1, 2, 0]))
        assert slope.tolist() == [3, 1, 2, 0]
