import numpy as np
import pytest

from anyops._array.random import generator, uniforms
from tests.backends import dtype_name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_draws(backend, xp, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    draws = uniforms(xp, generator(7), (3, 50), dtype=getattr(xp, dtype), device=backend.device)
    assert backend.owns(draws)
    assert dtype_name(draws) == dtype
    np.testing.assert_array_equal(backend.to_numpy(draws), np.random.default_rng(7).random((3, 50)).astype(dtype))


def test_a_generator_goes_on(backend, xp):
    rng = np.random.default_rng(3)
    parts = [uniforms(xp, generator(rng), (4,), dtype=xp.float32, device=backend.device) for _ in range(2)]
    want = np.random.default_rng(3).random(8).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([backend.to_numpy(p) for p in parts]), want)


class Ones(np.random.Generator):
    """Draws the largest float64 below 1 only."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self, shape):
        return np.full(shape, np.nextafter(1, 0))


def test_draws_stay_below_one(backend, xp):
    draws = uniforms(xp, Ones(), (2,), dtype=xp.float32, device=backend.device)
    assert np.all(backend.to_numpy(draws) < 1)


def test_no_seed_means_other_draws():
    assert generator(None).random() != generator(None).random()


@pytest.mark.parametrize(("seed", "error"), [("7", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)])
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="seed"):
        generator(seed)
