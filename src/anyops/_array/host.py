"""Small linear algebra on the host in float64: what a fit does between two passes over its data."""

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np

from .backends import to_host
from .namespace import Array, DType, Namespace, device, is_at_hand, is_eager_jax, library
from .rows import is_sharded, on_cpu

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


def _replicated(like: Array) -> Any:
    import jax

    mesh = jax.sharding.Mesh(np.asarray(sorted(like.sharding.device_set, key=lambda d: d.id)), ("all",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def solve_psd(h: Host, g: Host, *, eps: float) -> Host:
    """Return the shortest x among those with h x nearest to g, for a positive semidefinite h known to `eps`.

    In columns scaled to a unit diagonal; by the eigenvectors where h has no full rank. A singular matrix that is solved
    otherwise raises on some libraries, and gives NaN on others.
    """
    scale = _scale(h)
    scaled = h * scale[:, None] * scale[None, :]
    if _has_full_rank(scaled, eps):
        return scale * np.linalg.solve(scaled, scale * g)
    values, vectors = np.linalg.eigh(scaled)
    some = values > len(g) * eps * max(values[-1], 0.0)
    x = scale * (vectors[:, some] @ ((vectors[:, some].T @ (scale * g)) / values[some]))
    flat = np.linalg.qr(scale[:, None] * vectors[:, ~some])[0]  # the directions along which h is
    return x - flat @ (flat.T @ x)


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


SWEEPS = 1_000


def lasso(h: Host, g: Host, bound: Host, start: Host) -> Host:
    """Return the minimum of g·x + x·hx / 2 + Σ bound |x|, by descent along one coordinate after another.

    Sweeps over those that are not 0 alone, until they change no more, come between sweeps over all.
    """
    x, slope, diagonal = start.copy(), g + h @ start, np.diagonal(h)
    everyone = np.flatnonzero(diagonal > 0)
    least = 1e-12 * max(float(np.max(np.abs(g), initial=0.0)), float(np.max(bound, initial=0.0)), 1e-300)
    coordinates = everyone
    for sweep in range(1, SWEEPS + 1):
        if sweep % 20 == 0:  # coordinates that depend on each other creep
            x = _along_face(h, g, bound, x)
            slope = g + h @ x
        largest = 0.0
        for j in coordinates.tolist():
            old, curvature = x[j], diagonal[j]
            aim = old - slope[j] / curvature
            new = np.sign(aim) * max(abs(aim) - bound[j] / curvature, 0.0)
            if new != old:
                slope += (new - old) * h[j]
                x[j] = new
                largest = max(largest, abs(new - old) * curvature)
        if largest <= least:
            if coordinates is everyone:
                break
            coordinates = everyone
        else:
            coordinates = np.flatnonzero((x != 0) | (bound == 0))
            coordinates = coordinates[diagonal[coordinates] > 0]
    return x


def _along_face(h: Host, g: Host, bound: Host, x: Host) -> Host:
    """Return x nearer to the minimum among those of its signs: there, or where the first of them would change."""
    face = np.flatnonzero(((x != 0) | (bound == 0)) & (np.diagonal(h) > 0))
    slope = (g + h @ x + bound * np.sign(x))[face]
    move = np.zeros_like(x)
    move[face] = -solve_psd(h[face, :][:, face], slope, eps=float(np.finfo(np.float64).eps))
    turned = np.flatnonzero((bound > 0) & (x * (x + move) < 0))
    lengths = -x[turned] / move[turned]
    length = float(np.min(lengths, initial=1.0))
    new = x + length * move
    new[turned[lengths <= length]] = 0.0
    gain = -float((g + h @ x) @ (new - x) + 0.5 * (new - x) @ h @ (new - x) + bound @ (np.abs(new) - np.abs(x)))
    return new if gain > 0 else x


def lasso_by_products(base: Host, thin: Host, core: Host, g: Host, bound: Host, start: Host) -> Host:
    """Return the minimum of g·d + d·Bd / 2 + Σ bound |x|, d = x − start, B = diag(base) − thin core thinᵀ.

    By accelerated proximal gradients in the metric of `base`, begun anew where they turn round [1]_.

    References
    ----------
    .. [1] O'Donoghue and Candès, Adaptive restart for accelerated gradient schemes, Foundations of Computational
       Mathematics 15 (2015).
    """
    largest = 1.0
    if thin.shape[1]:
        small = np.linalg.eigvals(core @ (thin.T @ (thin / base[:, None])))
        largest = max(1.0, 1.0 - float(np.min(small.real)))
    curvature = 1.01 * largest * base
    least = bound / curvature
    x = ahead = start
    pace = 1.0
    for _ in range(SWEEPS):
        moved = ahead - start
        slope = g + base * moved - thin @ (core @ (thin.T @ moved))
        aim = ahead - slope / curvature
        new = np.sign(aim) * np.maximum(np.abs(aim) - least, 0.0)
        step = new - x
        if np.sum(curvature * (ahead - new) * step) > 0:
            pace = 1.0
        following = (1.0 + (1.0 + 4.0 * pace**2) ** 0.5) / 2.0
        ahead = new + (pace - 1.0) / following * step
        x, pace = new, following
        if np.sum(curvature * step**2) <= 1e-9 * np.sum(curvature * (x - start) ** 2):
            break
    return x


def _scale(h: Host) -> Host:
    diagonal = np.diagonal(h)
    return np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 1.0)


def _has_full_rank(scaled: Host, eps: float) -> bool:
    try:
        factor = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return False
    return bool(np.min(np.diagonal(factor)) ** 2 > len(scaled) * eps)
