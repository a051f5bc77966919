"""Hypothesis strategies for arguments of ops: boxes, scores, labels, logits, targets, samples, weights.

Sizes are fixed, because JAX compiles for each size. "Exact" numbers are a few small multiples of 1/2. Their sums and
products are not rounded, so ties and overlaps of exactly a threshold occur, and are the same in every library. Numbers
are 0 or at least 1e-15: squares of smaller ones would be subnormal, which XLA and torch may round to 0.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

N = 12
THRESHOLDS = st.sampled_from([0.0, 0.125, 0.25, 1 / 3, 0.5, 0.75, 1.0])
KINDS = ("iou", "iof", "ios", "giou", "diou", "ciou")

HALVES = st.integers(-8, 24).map(lambda i: i / 2)
ORDINARY = st.floats(-1e3, 1e3, width=32).map(lambda x: x if abs(x) > 1e-3 else 0.0)
HUGE = st.sampled_from([1e10, 1e17, 1e19, 1e30, 3e38]).flatmap(lambda x: st.sampled_from([x, -x]))
TINY = st.sampled_from([0.0, 1e-6, 1e-10, 1e-15]).flatmap(lambda x: st.sampled_from([x, -x]))
NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])


def array(shape, elements, dtype=np.float32):
    """An array of fixed shape; fills are drawn too, so that entries repeat."""
    return hnp.arrays(
        dtype, shape, elements=elements.map(lambda x: float(np.float32(x))), fill=elements.map(np.float32)
    )


def ordered(boxes):
    """With corners in order: proper boxes, some of them without area."""
    return np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)


def shuffled_copies(arrays, n):
    """Arrays with some rows that are copies of others."""
    places = st.lists(st.integers(0, n - 1), min_size=n, max_size=n)
    return st.one_of(arrays, st.tuples(arrays, places).map(lambda pair: pair[0][pair[1]]))


def exact_boxes(n=N):
    """Corners and sides in halves; sides may be 0 or negative."""

    def corners(b):
        return np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1)

    return hnp.arrays(np.float32, (n, 4), elements=st.integers(-4, 12).map(lambda i: i / 2)).map(corners)


def plain_boxes(n=N):
    """Proper boxes with any digits, and copies of each other."""
    return shuffled_copies(array((n, 4), ORDINARY).map(ordered), n)


def wild_boxes(n=N):
    """Any four numbers: inverted, degenerate, huge, tiny, not finite."""
    return shuffled_copies(array((n, 4), st.one_of(HALVES, ORDINARY, HUGE, TINY, NOT_FINITE)), n)


def any_boxes(n=N):
    """Any of the above."""
    return st.one_of(exact_boxes(n), plain_boxes(n), wild_boxes(n))


ANGLES = st.one_of(st.sampled_from([0.0, 45.0, 90.0, -180.0, 360.0, 3600.0]), st.floats(-720, 720, width=32))


def rotated_boxes(n=N):
    """Centre, sides and degrees with any digits or in halves, and copies of each other."""
    centres = array((n, 2), st.one_of(HALVES, st.floats(-20, 20, width=32)))
    sides = array((n, 2), st.one_of(st.integers(1, 24).map(lambda i: i / 2), st.floats(0.125, 30, width=32)))
    rows = st.tuples(centres, sides, array((n, 1), ANGLES)).map(lambda parts: np.concatenate(parts, 1))
    return shuffled_copies(rows, n)


def wild_rotated_boxes(n=N):
    """Any five numbers, and copies of each other."""
    return shuffled_copies(array((n, 5), st.one_of(HALVES, ORDINARY, HUGE, TINY, NOT_FINITE)), n)


def polygons(n=N, vertices=6):
    """Simple polygons, most of them concave: vertices around a point by angle, some of them repeated."""
    turns = array((n, vertices), st.integers(0, 63).map(lambda i: i / 64)).map(lambda x: np.sort(x, axis=1))
    radii, centres = array((n, vertices), st.floats(1, 20, width=32)), array((n, 1, 2), HALVES)

    def around(parts):
        turn, radius, centre = parts
        # Three directions a third of a turn apart, so that the point is inside.
        turn = np.sort(np.concatenate((turn[:, 3:], turn[:, :1] / 3 + np.float32([0, 1 / 3, 2 / 3])), axis=1), axis=1)
        radius[:, 1:][turn[:, 1:] == turn[:, :-1]] = 0
        radius = np.where(radius == 0, np.roll(radius, 1, axis=1), radius)
        angle = turn * (2 * np.pi)
        return (centre + radius[..., None] * np.stack((np.cos(angle), np.sin(angle)), -1)).astype(np.float32)

    return st.tuples(turns, radii, centres).map(around)


def tied_scores(n=N):
    """Quarters from 0 to 1.5."""
    return hnp.arrays(np.float32, n, elements=st.integers(0, 6).map(lambda i: i / 4))


def untied_scores(n=N):
    """A permutation."""
    return st.permutations(range(n)).map(np.float32)


def plain_scores(n=N):
    """Scores of a detector, in (0, 1]."""
    return hnp.arrays(np.float32, n, elements=st.integers(1, 4096).map(lambda i: i / 4096))


def wild_scores(n=N):
    """Logits, negative, huge, not finite."""
    return array(n, st.one_of(HALVES, ORDINARY, HUGE, TINY, NOT_FINITE))


def labels(n=N):
    """A few classes, one of them negative."""
    return hnp.arrays(np.int32, n, elements=st.integers(-1, 2))


def logits(shape):
    """Ordinary logits, logits at which sigmoids saturate, and huge ones; finite."""
    saturated = st.sampled_from([0.0, 17.0, 30.0, 89.0, 104.0, 1e4, 1e30]).flatmap(lambda x: st.sampled_from([x, -x]))
    return array(shape, st.one_of(st.floats(-20, 20, width=32), saturated).map(lambda x: x if abs(x) > 1e-6 else 0.0))


def soft_targets(shape):
    """Hard and soft targets."""
    return hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, 0.25, 0.5, 1e-3]))


def samples(n, d):
    """Rows with repeated values, with or without an offset, and copies of each other."""
    rows = array((n, d), st.one_of(HALVES, st.floats(-10, 10, width=32).map(lambda x: x if abs(x) > 1e-3 else 0.0)))
    offset = st.sampled_from([0.0, 0.0, 1e4, -3e3])
    return shuffled_copies(st.tuples(rows, offset).map(lambda pair: pair[0] + np.float32(pair[1])), n)


def weights(n):
    """Some weights are 0, not all."""
    drawn = hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    return drawn.filter(lambda w: w.any())
