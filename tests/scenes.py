"""Boxes for the tests: float32 (boxes, scores), the same at every call."""

import numpy as np


def boxes(*shape, seed=0, extent=10.0, largest=5.0, dtype=np.float32):
    """Random boxes (*shape, 4); some have negative coordinates."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-2, extent, (*shape, 2)), rng.uniform(0.5, largest, (*shape, 2))
    return np.concatenate([corner, corner + size], -1).astype(dtype)


def scores(*shape, seed=0):
    return np.random.default_rng(seed + 1000).random(shape).astype(np.float32)


def spread(n, seed=0):
    """Few overlaps."""
    return boxes(n, seed=seed, extent=4 * max(n, 1) ** 0.5, largest=6.0), scores(n, seed=seed)


def clustered(n, seed=0):
    """Twenty boxes to an object, most of which go."""
    rng = np.random.default_rng(seed)
    objects = boxes(n // 20 + 1, seed=seed, extent=6 * (n // 20 + 1) ** 0.5)
    jitter = rng.normal(0, 0.15, (n, 4))
    return (objects[rng.integers(0, len(objects), n)] + jitter).astype(np.float32), scores(n, seed=seed)


def tied(n, seed=0):
    """Four different scores in all."""
    b, s = clustered(n, seed)
    return b, (np.floor(s * 4) / 4).astype(np.float32)


def dyadic(n, seed=0, cells=4):
    """Corners on a small integer grid: areas are exact, and many overlaps are exactly 1/2, 1/4, 1/3 …"""
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(-cells, cells, (n, 2)), 2 ** rng.integers(0, 4, (n, 2))
    b = np.concatenate([corner, corner + size], 1) / 4
    return b.astype(np.float32), (rng.integers(0, 50, n) / 64).astype(np.float32)


def identical(n):
    return np.tile(np.array([[1, 2, 5, 9]], np.float32), (n, 1)), scores(n)


def chain(n):
    """Each box overlaps only its neighbours, by 3/5, and ranks below the one before: a chain of n decisions."""
    x = np.arange(n, dtype=np.float32)
    b = np.stack([x, x * 0, x + 4, x * 0 + 1], 1)
    return b, np.linspace(1, 0.5, n, dtype=np.float32)


def giant(n):
    """One box over all others, ranked first."""
    side = int(np.ceil(n**0.5))
    y, x = np.divmod(np.arange(n), side)
    small = np.stack([x, y, x + 0.9, y + 0.9], 1)
    b = np.concatenate([[[0, 0, side, side]], small]).astype(np.float32)
    return b, np.concatenate([[2.0], scores(n)]).astype(np.float32)


def all_scales(n, seed=0):
    """Sides from 1e-3 to 1e6."""
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-3, 6, (n, 2))
    corner = rng.uniform(-1, 1, (n, 2)) * size
    return np.concatenate([corner, corner + size], 1).astype(np.float32), scores(n, seed=seed)


NAN, INF = np.nan, np.inf
ODD_BOXES = np.array(
    [
        [0, 0, 4, 4],
        [0, 0, 4, 4.5],  # overlaps the first by 8/9
        [2, 2, 2, 5],  # no width
        [1, 1, 1, 1],  # a point
        [3, 3, 1, 1],  # inverted
        [3, 0, 1, 4],  # inverted in x
        [NAN, 0, 4, 4],
        [0, 0, NAN, 4],
        [NAN, NAN, NAN, NAN],
        [-INF, -INF, INF, INF],
        [0, 0, INF, 4],
        [-INF, 1, 3, 1],  # endless, without height
        [INF, INF, INF, INF],
        [INF, 0, -INF, 4],
        [0, 0, 4, 4],
        [1e30, 1e30, 3e38, 3e38],  # the area overflows float32
        [0, 0, 1e-30, 1e-30],  # and underflows
    ],
    np.float32,
)
