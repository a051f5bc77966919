"""Small linear algebra on the host in float64: what a fit does between two passes over its data."""

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .backends import to_host
from .namespace import Array, DType, Namespace, device, is_at_hand, is_eager_jax, library
from .rows import is_sharded, on_cpu

LARGE = 1 << 22  # numbers in an array of JAX whose passes its compiler makes faster
HOST: Namespace = numpy_namespace  # for small results that are kept in float64, whatever the arrays' library can do
Host = np.ndarray[Any, Any]


def on_host(x: Array) -> Array:
    """Return the values of an array of any library as float64 on the host; a lazy one is computed."""
    return np.asarray(x, np.float64) if isinstance(x, float | np.generic) else to_host(x).astype(np.float64)


def from_host(xp: Namespace, values: Array, dtype: DType, like: Array) -> Array:
    """Ship host values to the namespace and device of an array; those beside a lazy array stay on the host."""
    if library(xp) == "dask":
        return np.asarray(values, dtype=dtype)
    if library(xp) == "jax":
        import jax

        made = np.asarray(values, dtype=dtype)
        if not like.committed:
            return xp.asarray(made)
        # Beside an array in parts, a copy on each of its devices.
        places = like.sharding.device_set
        one = len(places) == 1
        return jax.device_put(made, next(iter(places)) if one else _replicated(like))
    if isinstance(values, np.ndarray) and not values.flags.writeable:  # memory that torch would share, and warns of
        values = values.copy()
    return xp.asarray(values, dtype=dtype, device=device(like))


def writable(xp: Namespace, x: Array, *others: Array | None) -> tuple[Any, ...]:
    """Return a namespace that can write into its arrays at positions, and the arrays in it.

    Those of JAX, which cannot be written, and of torch that lie in the host's memory share it with NumPy: there each
    core can work on its part of the samples, where torch and JAX start threads, or compile, for every operation.
    """
    shared = on_cpu(x) and not is_sharded(x) if is_eager_jax(x) else library(xp) == "torch" and is_at_hand(x)
    if not shared:
        return xp, x, *others
    return HOST, to_host(x), *(None if y is None else to_host(y) for y in others)


def home_of_passes(xp: Namespace, x: Array, *others: Array | None) -> tuple[Any, ...]:
    """Return the namespace that reads the rows of a matrix best, and the arrays in it: :func:`writable`, or JAX itself.

    One pass over a large matrix is one program of JAX, which fuses it and runs on all cores: on 100 000 × 200 it takes
    half of NumPy's time. On a small one the call alone takes longer than NumPy's pass.
    """
    if is_eager_jax(x) and x.size > LARGE:
        return xp, x, *others
    return writable(xp, x, *others)


def _replicated(like: Array) -> Any:
    import jax

    mesh = jax.sharding.Mesh(np.asarray(sorted(like.sharding.device_set, key=lambda d: d.id)), ("all",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def solve_damped(h: Host, g: Host, *, eps: float) -> Host:
    """Return h⁻¹g for a positive semidefinite h known to `eps`, in columns scaled to a unit diagonal.

    Where h is singular to rounding, its small eigenvalues are taken for as large as rounding may be: a long step along
    them is a direction of descent still, where to leave them out would hide a slope.
    """
    scale = _scale(h)
    scaled = h * scale[:, None] * scale[None, :]
    if _has_full_rank(scaled, eps):
        return scale * np.linalg.solve(scaled, scale * g)
    values, vectors = np.linalg.eigh(scaled)
    values = np.maximum(values, len(g) * eps * max(float(values[-1]), 1.0))
    return scale * (vectors @ ((vectors.T @ (scale * g)) / values))


def factored(free: Host | None, h: Host, *, eps: float) -> Callable[[Host], Host]:
    """Return g ↦ h⁻¹g over the unknowns that are `free`, all if None, 0 for the others; the inverse made once.

    Directions along which h is 0, which other data may tell of, get its mean diagonal: a multiple of g along them.
    """
    part = h if free is None else h[free, :][:, free]
    scale = _scale(part)
    scaled = part * scale[:, None] * scale[None, :]
    if _has_full_rank(scaled, eps):
        inverse = scale[:, None] * np.linalg.inv(scaled) * scale[None, :]
    else:
        values, vectors = np.linalg.eigh(scaled)
        some = values > len(part) * eps * max(values[-1], 0.0)
        root = scale[:, None] * vectors[:, some] / np.sqrt(values[some])
        flat = np.linalg.qr(scale[:, None] * vectors[:, ~some])[0]
        root = root - flat @ (flat.T @ root)
        level = np.mean(np.diagonal(part))
        inverse = root @ root.T + flat @ flat.T / (level if level > 0 else 1.0)

    def solve(g: Host) -> Host:
        if free is None:
            return inverse @ g
        found = np.zeros_like(g)
        found[free] = inverse @ g[free]
        return found

    return solve


def _scale(h: Host) -> Host:
    diagonal = np.diagonal(h)
    return np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 1.0)


def _has_full_rank(scaled: Host, eps: float) -> bool:
    try:
        factor = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return False
    return bool(np.min(np.diagonal(factor)) ** 2 > len(scaled) * eps)
