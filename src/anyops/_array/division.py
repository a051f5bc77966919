"""Division that is correctly rounded, with a derivative that does not square the divisor."""

from collections.abc import Callable
from functools import cache

from .namespace import Array, Namespace, library


def divide(xp: Namespace, x: Array, y: Array) -> Array:
    """Return x / y.

    JAX's derivative by y has the factor y⁻², which overflows if the square of y underflows, as for a small area. On a
    GPU, JAX's float32 quotient is off by one or two ulp in three of ten cases, which shows for an area over itself or a
    pair exactly at a threshold. https://github.com/openxla/xla/issues/37181

    torch's derivative by a subnormal divisor would be infinite or NaN; such a quotient is a constant.
    """
    name = library(xp)
    if name == "jax":
        return _jax_divide()(x, y)
    if name == "torch" and (x.requires_grad or y.requires_grad):
        subnormal = y.detach().abs() < float(xp.finfo(y.dtype).smallest_normal)
        x, y = xp.where(subnormal, x.detach(), x), xp.where(subnormal, y.detach(), y)
    return x / y


@cache
def _jax_divide() -> Callable[[Array, Array], Array]:
    import jax

    def rounded(x: Array, y: Array) -> Array:
        return refined(x / y, x, y)

    @jax.custom_jvp
    def quotient(x: Array, y: Array) -> Array:
        if x.dtype != "float32":
            return x / y
        return jax.lax.platform_dependent(x, y, cuda=rounded, default=jax.numpy.true_divide)

    @quotient.defjvp
    def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
        (x, y), (dx, dy) = primals, tangents
        q, inverse = quotient(x, y), 1 / y
        # Not q / y, which XLA would rewrite as x / y²: y² may underflow.
        return q, dx * inverse - q * (dy * inverse)

    return quotient


def refined(q: Array, x: Array, y: Array) -> Array:
    """Return x / y correctly rounded, for float32 arrays of JAX, from a quotient that is a few ulp off.

    The remainder x − qy is exact, because the factors are split into halves whose products are exact [1]_.

    References
    ----------
    .. [1] Dekker, A floating-point technique for extending the available precision, Numerische Mathematik 18 (1971).
    """
    import jax

    mask = jax.numpy.uint32(0xFFFFF000)

    def halves(z: Array) -> tuple[Array, Array]:
        high = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(z, "uint32") & mask, z.dtype)
        return high, z - high

    (a, b), (c, d) = halves(q), halves(y)
    product = q * y
    error = ((a * c - product) + a * d + b * c) + b * d
    better = q + ((x - product) - error) / y
    return jax.numpy.where(jax.numpy.isfinite(better), better, q)
