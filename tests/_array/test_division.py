import numpy as np
import pytest

from anyops._array.division import refined
from tests.backends import Backend

if why := Backend.JAX_CPU.why_unavailable():
    pytest.skip(why, allow_module_level=True)

jax = pytest.importorskip("jax")


@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("exponent", [0, 10, 50])
def test_a_quotient_that_is_off_is_rounded_as_it_should(ulps, exponent):
    rng = np.random.default_rng(0)
    x, y = np.float32(rng.uniform(1, 2, (2, 100_000)) * 2.0 ** rng.integers(-exponent, exponent + 1, (2, 100_000)))
    x = np.concatenate([x, y, np.float32(rng.integers(1, 1000, 1000))])
    y = np.concatenate([y, y, np.float32(rng.integers(1, 1000, 1000))])
    want = (x.astype(np.float64) / y).astype(np.float32)
    q = (want.view(np.int32) + ulps).view(np.float32)
    np.testing.assert_array_equal(np.asarray(jax.jit(refined)(q, x, y)), want)


def test_what_has_no_remainder_stays():
    q = np.float32([np.inf, 0, np.nan, np.inf])
    x, y = np.float32([1, 1, 0, np.inf]), np.float32([0, np.inf, 0, 1])
    np.testing.assert_array_equal(np.asarray(jax.jit(refined)(q, x, y)), q)
