"""Functions whose plain formula loses digits, overflows, or has no derivative somewhere."""

from ._array.namespace import Array, Namespace


def softplus(xp: Namespace, z: Array) -> Array:
    """log(1 + e^z), to the last digits."""
    return xp.log1p(xp.exp(-xp.abs(z))) + xp.maximum(z, xp.zeros_like(z))


def sigmoids(xp: Namespace, z: Array) -> tuple[Array, Array]:
    """σ(z) and σ(−z) = 1 − σ(z), both to the last digits."""
    e = xp.exp(-xp.abs(z))
    q = 1.0 / (1.0 + e)
    up = z >= 0
    return xp.where(up, q, e * q), xp.where(up, e * q, q)


def quotient(xp: Namespace, x: Array, y: Array) -> Array:
    """x / y, and x where y is not above 0; neither value nor derivative is that of a division by 0."""
    return x / xp.where(y > 0, y, 1.0)
