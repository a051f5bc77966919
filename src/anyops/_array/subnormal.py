"""Subnormal numbers, which XLA treats as 0 in every operation on floats."""

from .namespace import Array, Namespace, library

_BITS = {32: ("int32", 23, 100), 64: ("int64", 52, 900)}  # integer dtype, bits of the mantissa, exponent of the factor


def lifted(xp: Namespace, x: Array) -> tuple[Array, Array | float]:
    """Return numbers ≥ 0 times a power of two, and that power (..., 1), which is 1 unless a whole last axis is tiny.

    Exact, because the bits of a subnormal number are an integer. Only on JAX; other libraries support such numbers.
    """
    if library(xp) != "jax" or x.shape[-1] == 0:
        return x, 1.0
    import jax

    integer, mantissa, power = _BITS[xp.finfo(x.dtype).bits]
    bits = jax.lax.bitcast_convert_type(x, integer)
    tiny = bits < (16 + mantissa) << mantissa  # the exponent comes before the mantissa
    unit = float(xp.finfo(x.dtype).smallest_normal) * 2.0 ** (power - mantissa)
    normal = bits >= 1 << mantissa
    more = xp.where(normal, x * 2.0**power, xp.astype(bits, x.dtype) * unit)
    alone = xp.all(tiny, axis=-1, keepdims=True)
    return xp.where(alone, more, x), xp.where(alone, xp.asarray(2.0**power, dtype=x.dtype), 1.0)
