"""Boxes for the tests: float32 (boxes, scores), the same at every call."""

from typing import NamedTuple

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


def clustered(n, seed=0, jitter=0.15):
    """Twenty boxes per object, most of which are suppressed."""
    rng = np.random.default_rng(seed)
    objects = boxes(n // 20 + 1, seed=seed, extent=6 * (n // 20 + 1) ** 0.5)
    offsets = rng.normal(0, jitter, (n, 4))
    return (objects[rng.integers(0, len(objects), n)] + offsets).astype(np.float32), scores(n, seed=seed)


def nested(n):
    """Equal boxes that all overlap, between a first and a last box that overlap each other more than the others."""
    b = np.tile(np.float32([0, 0, 10, 5]), (n, 1))
    b[0], b[-1] = [0, 0, 10, 9], [0, 0, 10, 10]
    return b, np.linspace(1, 0.5, n, dtype=np.float32)


def tied(n, seed=0):
    """Four different scores in total."""
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
        [-INF, 1, 3, 1],  # infinite width, no height
        [INF, INF, INF, INF],
        [INF, 0, -INF, 4],
        [0, 0, 4, 4],
        [1e30, 1e30, 3e38, 3e38],  # the area overflows float32
        [0, 0, 1e-30, 1e-30],  # and underflows
    ],
    np.float32,
)


def duplicates(n, seed=0):
    """Each box three times, two of them with equal scores."""
    b, s = clustered(n, seed)
    original = np.arange(n) % -(-n // 3)
    return b[original], np.where(np.arange(n) < n - n // 3, s[original], s)


def crowd(n, seed=0):
    """All boxes overlap each other a little."""
    return boxes(n, seed=seed, extent=3.0, largest=8.0), scores(n, seed=seed)


def odd(n, seed=0):
    """Degenerate, infinite and NaN boxes among others, and scores that are 0, negative or NaN."""
    rng = np.random.default_rng(seed)
    b, s = clustered(n, seed)
    some = rng.permutation(n)[: n // 2]
    b[some] = ODD_BOXES[rng.integers(0, len(ODD_BOXES), n // 2)]
    s[rng.permutation(n)[: n // 5]] = rng.choice([NAN, -0.5, 0.0], n // 5)
    return b, s


def labels(*shape, classes=3, seed=0):
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.int32)


def quarters(*shape, seed=0):
    """Asymmetric overlap matrices with exact values; row i is the effect of box i on the others."""
    return (np.random.default_rng(seed).integers(0, 4, shape) / 4).astype(np.float32)


def tight(n, seed=0):
    """Boxes that are nearly equal."""
    return clustered(n, seed, jitter=0.04)


def any_chain(n, seed=0):
    return chain(n)[0], np.sort(scores(n, seed=seed))[::-1]


def any_identical(n, seed=0):
    return identical(n)[0], scores(n, seed=seed)


MIXTURE = (any_chain, any_identical, clustered, tight, crowd, spread, duplicates, odd, tied, dyadic)


class Scene(NamedTuple):
    """Boxes, scores and optional arrays, of one scene or of a batch."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    overlaps: np.ndarray

    def only(self, *extra):
        """The arguments of an op: boxes (None with overlaps), scores, and the named others."""
        return None if "overlaps" in extra else self.boxes, self.scores, {name: getattr(self, name) for name in extra}

    def lanes(self):
        return [Scene(*arrays) for arrays in zip(*self, strict=True)]

    def permuted(self, order):
        """The boxes of every lane in another order."""
        return Scene(*(x[:, order] for x in self[:-1]), self.overlaps[:, order][:, :, order])

    def padded(self):
        """With three more boxes that are not valid, and would suppress all others."""
        lead, wide = len(self.scores), ((0, 0), (0, 3))
        junk = np.float32([[0, 0, 4, 4], [NAN, -INF, INF, 3], [-1e9, -1e9, 1e9, 1e9]])
        return Scene(
            np.concatenate([self.boxes, np.broadcast_to(junk, (lead, 3, 4))], 1),
            np.concatenate([self.scores, np.broadcast_to(np.float32([9, INF, NAN]), (lead, 3))], 1),
            np.pad(self.labels, wide),
            np.pad(self.valid, wide),
            np.pad(self.overlaps, (*wide, (0, 3)), constant_values=1),
        )

    def coarse(self):
        """With numbers that every floating dtype represents."""
        boxes = np.round(np.clip(self.boxes, -(2.0**15), 2.0**15) * 2) / 2
        return self._replace(boxes=boxes, scores=np.round(self.scores * 64) / 64)


def mixed(count, n=16, accept=lambda scene: True):
    """A batch of scenes of all kinds, the first of each that is accepted."""
    scenes = []
    for seed in range(4 * count):
        boxes_and_scores = MIXTURE[seed % len(MIXTURE)](n, seed=seed)
        valid = np.random.default_rng(seed + 2000).random(n) < 0.8
        scene = Scene(*boxes_and_scores, labels(n, seed=seed), valid, quarters(n, n, seed=seed))
        if accept(scene):
            scenes.append(scene)
        if len(scenes) == count:
            return Scene(*map(np.stack, zip(*scenes, strict=True)))
    raise AssertionError(f"{len(scenes)} scenes of {count} were accepted")


def clear_of(overlaps, *thresholds):
    """Whether no overlap is so close to a threshold that rounding could decide; multiples of 1/16 are not rounded."""
    o = np.nan_to_num(np.asarray(overlaps, np.float64), nan=-1)
    return all(not (np.abs(o - t) < 1e-5)[o * 16 % 1 != 0].any() for t in thresholds)
