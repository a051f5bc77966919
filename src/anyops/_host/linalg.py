"""Linear systems with positive semidefinite matrices, in NumPy in float64."""

from collections.abc import Callable

import numpy as np

from .._array.host import Host


def solve_damped(h: Host, g: Host, *, eps: float) -> Host:
    """Return h⁻¹g for a positive semidefinite h with relative errors `eps`, scaled to a unit diagonal.

    If h is singular to rounding, small eigenvalues are raised to the size of rounding errors. A long step along them is
    still a descent direction, while ignoring them could hide a slope.
    """
    scale = _scale(h)
    scaled = h * scale[:, None] * scale[None, :]
    if _has_full_rank(scaled, eps):
        return scale * np.linalg.solve(scaled, scale * g)
    values, vectors = np.linalg.eigh(scaled)
    values = np.maximum(values, len(g) * eps * max(float(values[-1]), 1.0))
    return scale * (vectors @ ((vectors.T @ (scale * g)) / values))


def factored(free: Host | None, h: Host, *, eps: float) -> Callable[[Host], Host]:
    """Return g ↦ h⁻¹g for the `free` unknowns (all if None), with 0 for the others; the inverse is computed once.

    On the null space of h, where g may still have a component, h is replaced by its mean diagonal.
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
    return bool(np.min(np.diagonal(factor), initial=np.inf) ** 2 > len(scaled) * eps)
