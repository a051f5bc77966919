"""Overlaps, areas and conversions of regions that are not axis-aligned 2D boxes."""

import itertools
import math
from functools import cache

import numpy as np
import pytest

import anyops
from anyops.boxes import iou as kernels
from anyops.boxes.regions import FORMATS
from tests import reference
from tests.backends import Backend, Transform, dtype_name

SHARES = ("iou", "iof", "ios")
ALL_KINDS = ("iou", "iof", "ios", "giou", "diou", "ciou", "probiou")
KINDS = {
    **dict.fromkeys(("xyxy", "xywh", "cxcywh", "yxyx"), ALL_KINDS[:6]),
    **dict.fromkeys(("cxcywhr", "xywhr"), (*SHARES, "probiou")),
    **dict.fromkeys(("xyxyxyxy", "polygon", "cxcyczwhdr"), SHARES),
    **dict.fromkeys(("segment", "xyzxyz"), (*SHARES, "giou", "diou")),
}
# Errors are larger if sides differ by a factor of a thousand, or boxes by a millionth.
LOOSE = ("thin", "nearly equal", "tiny")


@cache
def families(count=8, seed=0):
    """Pairs of rotated boxes by family; each family is hard in a different way."""
    rng = np.random.default_rng(seed)

    def by(*numbers):
        return np.array(numbers, np.float64)

    b = np.stack((*rng.uniform(-50, 50, (2, count)), *rng.uniform(5, 60, (2, count)), rng.uniform(-180, 180, count)), 1)
    turn, along = np.deg2rad(b[:, 4]), rng.uniform(-0.9, 0.9, count) * b[:, 2]
    near = b + by(3, 3, 3, 3, 20) * rng.normal(size=b.shape)
    near[:, 2:4] = np.abs(near[:, 2:4]) + 1
    thin, scale = by(1, 1, 1, 1e-3, 1), by(1e-3, 1e-3, 1e-3, 1e-3, 1)
    return {
        "any": (near, b),
        "equal": (b, b),
        "nearly equal": (b * (1 + 1e-6 * rng.normal(size=b.shape)), b),
        "thin": ((b + by(0, 0, 0, 0, 0.1) * rng.normal(size=b.shape)) * thin, b * thin),
        "sides swapped, +90": (b[:, [0, 1, 3, 2, 4]] + [0, 0, 0, 0, 90], b),
        "+180": (b + by(0, 0, 0, 0, 180), b),
        "+3600": (b + by(0, 0, 0, 0, 3600), b),
        "far": (near + by(2e5, 2e5, 0, 0, 0), b + by(2e5, 2e5, 0, 0, 0)),
        "millimetres": (near * scale, b * scale),
        "tiny": (near * by(1e-9, 1e-9, 1e-9, 1e-9, 1), b * by(1e-9, 1e-9, 1e-9, 1e-9, 1)),
        "along a side": (b + np.stack((along * np.cos(turn), -along * np.sin(turn), *np.zeros((3, count))), 1), b),
        "contained": (b * by(1, 1, 0.3, 0.3, 1) + by(0, 0, 0, 0, 33), b),
        "normalised": (near * by(0.005, 0.005, 0.005, 0.005, 1), b * by(0.005, 0.005, 0.005, 0.005, 1)),
        "apart": (b + by(300, 0, 0, 0, 10), b),
    }


@cache
def wanted(family, dtype, kind):
    """Overlaps of the pairs as rounded to a dtype."""
    return [
        reference.region_overlap(
            _shared(tuple(p), tuple(q)), *(reference.mpf(x[2]) * reference.mpf(x[3]) for x in (p, q)), kind
        )
        for p, q in zip(*(x.astype(dtype).astype(float).tolist() for x in families()[family]), strict=True)
    ]


@cache
def _shared(p, q):
    return reference.shared_area(reference.rotated_corners(p), reference.rotated_corners(q))


def within(got, dtype, kind):
    """Each family to its own tolerance."""
    at = 0
    for family, (a, _) in families().items():
        error = {"float32": 2e-5, "float64": 1e-10}[dtype] * (20 if family in LOOSE else 1)
        part, at = got[at : at + len(a)], at + len(a)
        np.testing.assert_allclose(part, wanted(family, dtype, kind), atol=error, rtol=0, err_msg=family)
    assert at == len(got)


def all_families():
    return tuple(np.concatenate(x) for x in zip(*families().values(), strict=True))


@pytest.mark.op("box_iou")
def test_rotated_boxes(run):
    a, b = (x.astype(np.float32) for x in all_families())
    got = run(anyops.box_iou, a, b, pairwise=False, fmt="cxcywhr")
    within(got, "float32", "iou")
    assert got.min() >= 0
    assert got.max() <= 1


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", ["iof", "ios"])
def test_shares_of_rotated_boxes(run, kind):
    a, b = (x.astype(np.float32) for x in all_families())
    within(run(anyops.box_iou, a, b, kind=kind, pairwise=False, fmt="cxcywhr"), "float32", kind)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", SHARES)
def test_rotated_boxes_in_float64(run, backend, kind):
    if not backend.has_dtype("float64"):
        pytest.skip(f"{backend} has no float64")
    a, b = all_families()
    within(run(anyops.box_iou, a, b, kind=kind, pairwise=False, fmt="cxcywhr"), "float64", kind)


# The right value is known from geometry; torchvision 0.29.1 and OpenCV 5 are off by 0 to 1.
PUBLISHED = [
    ((0, 0, 100, 50, 0), (0, 0, 50, 100, 90), 1),  # https://github.com/facebookresearch/detectron2/issues/4889
    ((10, 20, 2, 1, 11), (10, 20, 0.5, 1, 11), 0.25),
    ((0, 0, 30, 20, 17), (0, 0, 30, 20, -163), 1),
    ((0, 0, 2e-7, 1e-7, 5), (0, 0, 2e-7, 1e-7, 5), 1),
    *(
        ((0, 0, 100, 50, t), (25 * math.cos(math.radians(t)), -25 * math.sin(math.radians(t)), 50, 50, t), 0.5)
        for t in range(2, 90, 7)
    ),
]


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
def test_published_pairs(run):
    a, b, want = (np.array(x, np.float32) for x in zip(*PUBLISHED, strict=True))
    np.testing.assert_allclose(run(anyops.box_iou, a, b, pairwise=False, fmt="cxcywhr"), want, atol=2e-6)


def star(rng, corners, centre, size):
    """A simple polygon, usually concave: corners at ascending angles, less than half a turn apart."""
    angle = (np.arange(corners) + rng.uniform(-0.4, 0.4, corners)) * 2 * np.pi / corners
    far = size * rng.uniform(0.25, 1, corners)
    return np.stack((centre[0] + far * np.cos(angle), centre[1] + far * np.sin(angle)), 1)


@cache
def stars(count=24, corners=8):
    """Pairs of polygons in two arrays, padded by repeating the last corner; some have the opposite orientation."""
    rng, pairs = np.random.default_rng(1), []
    for number in range(count):
        pair = []
        for _ in "ab":
            found = star(rng, rng.integers(4, corners + 1), rng.normal(size=2) + 1e3 * (number % 2), 2.0)
            found = found[::-1] if rng.random() < 0.5 else found
            pair.append(np.concatenate((found, np.repeat(found[-1:], corners - len(found), axis=0))))
        pairs.append(pair)
    return tuple(np.float32(x) for x in zip(*pairs, strict=True))


@cache
def polygon_overlaps(kind):
    return [
        reference.region_overlap(reference.shared_area(p, q), *map(reference.polygon_area, (p, q)), kind)
        for p, q in zip(*(x.astype(float).tolist() for x in stars()), strict=True)
    ]


@pytest.mark.op("box_iou")
def test_polygons(run):
    got = run(anyops.box_iou, *stars(), pairwise=False, fmt="polygon")
    np.testing.assert_allclose(got, polygon_overlaps("iou"), atol=2e-5)


@pytest.mark.parametrize("kind", ["iof", "ios"])
def test_shares_of_polygons(kind):
    got = anyops.box_iou(*stars(), kind=kind, pairwise=False, fmt="polygon")
    np.testing.assert_allclose(got, polygon_overlaps(kind), atol=2e-5)


def test_quadrilaterals_and_polygons_of_rotated_boxes():
    a, b = (np.concatenate([families()[name][k] for name in ("any", "contained")]) for k in (0, 1))
    want = anyops.box_iou(a, b, fmt="cxcywhr", pairwise=False)
    for fmt in ("xywhr", "xyxyxyxy", "polygon"):
        p, q = (anyops.box_convert(x, "cxcywhr", fmt) for x in (a, b))
        np.testing.assert_allclose(anyops.box_iou(p, q, fmt=fmt, pairwise=False), want, atol=1e-12)
    np.testing.assert_allclose(anyops.box_iou(p, q[:, ::-1], fmt="polygon", pairwise=False), want, atol=1e-12)


def block_overlap(a, b, kind):
    """Overlap of a pair of boxes (2d,) in d dimensions."""
    d = len(a) // 2
    sides = [(reference.side(x[i], x[i + d]), i) for x in (a, b) for i in range(d)]
    size = [math.prod(side for side, _ in sides[:d]), math.prod(side for side, _ in sides[d:])]
    shared = math.prod(reference.side(max(a[i], b[i]), min(a[i + d], b[i + d])) for i in range(d))
    if kind in SHARES:
        return reference.region_overlap(shared, *size, kind)
    union, whole = size[0] + size[1] - shared, [max(a[i + d], b[i + d]) - min(a[i], b[i]) for i in range(d)]
    if kind == "giou":
        return shared / union - (math.prod(whole) - union) / math.prod(whole)
    apart = [(a[i] + a[i + d] - b[i] - b[i + d]) / 2 for i in range(d)]
    return shared / union - sum(x * x for x in apart) / sum(x * x for x in whole)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("fmt", ["segment", "xyzxyz"])
@pytest.mark.parametrize("kind", [*SHARES, "giou", "diou"])
def test_segments_and_blocks(run, kind, fmt):
    rng, d = np.random.default_rng(3), FORMATS[fmt].shape[0] // 2
    low = rng.random((2, 4, d))
    a, b = np.concatenate((low, low + rng.random((2, 4, d)) + 0.1), -1).astype(np.float32)
    want = [[block_overlap(p, q, kind) for q in b.astype(float)] for p in a.astype(float)]
    np.testing.assert_allclose(run(anyops.box_iou, a, b, kind=kind, fmt=fmt), want, atol=2e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", SHARES)
def test_turned_blocks(run, kind):
    rng = np.random.default_rng(4)
    a, b = (
        np.concatenate((rng.normal(size=(6, 3)), rng.uniform(1, 3, (6, 3)), rng.uniform(-180, 180, (6, 1))), 1)
        for _ in "ab"
    )
    a, b = a.astype(np.float32), b.astype(np.float32)

    def one(p, q):
        base = _shared(tuple(p[[0, 1, 3, 4, 6]].tolist()), tuple(q[[0, 1, 3, 4, 6]].tolist()))
        low, high = max(x[2] - x[5] / 2 for x in (p, q)), min(x[2] + x[5] / 2 for x in (p, q))
        return reference.region_overlap(base * reference.side(low, high), *(math.prod(x[3:6]) for x in (p, q)), kind)

    want = [[one(p, q) for q in b.astype(float)] for p in a.astype(float)]
    np.testing.assert_allclose(run(anyops.box_iou, a, b, kind=kind, fmt="cxcyczwhdr"), want, atol=2e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
def test_probiou(run):
    a, b = (x.astype(np.float32) for x in all_families())
    want = [reference.probiou(p, q) for p, q in zip(a, b, strict=True)]
    got = run(anyops.box_iou, a, b, kind="probiou", pairwise=False, fmt="cxcywhr")
    np.testing.assert_allclose(got, want, atol=2e-5)
    np.testing.assert_array_equal(got[8:16], 1)  # equal boxes


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("fmt", ["xywh", "cxcywh", "yxyx"])
def test_formats_along_the_axes(run, fmt):
    a, b = np.float32([[1, 2, 5, 9], [0, 0, 3, 3]]), np.float32([[2, 2, 6, 8], [1, 1, 2, 2], [7, 7, 9, 9]])
    given = (np.float32([reference.box_convert(x, "xyxy", fmt) for x in boxes]) for boxes in (a, b))
    got = run(anyops.box_iou, *given, kind="ciou", fmt=fmt)
    np.testing.assert_allclose(got, reference.pairwise(a, b, "ciou"), atol=2e-6)


SPECIAL = np.float32(
    [
        [0, 0, 4, 2, 30],
        [0, 0, 0, 2, 30],
        [0, 0, -4, 2, 30],
        [np.inf, 0, 4, 2, 30],
        [0, 0, np.inf, 2, 30],
        [0, 0, 4, 2, np.inf],
        [0, 0, np.nan, 2, 30],
        [0, 0, 4, 2, np.nan],
        [0, 0, 3e38, 3e38, 30],
    ]
)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(("kind", "pairwise"), [("iou", True), ("iof", False), ("probiou", True)])
def test_what_has_no_area_overlaps_nothing(run, kind, pairwise):
    got = run(anyops.box_iou, SPECIAL[:1], SPECIAL, kind=kind, fmt="cxcywhr", pairwise=pairwise).reshape(-1)
    np.testing.assert_allclose(got, [1, 0, 0, 0, 0, 0, np.nan, np.nan, 0], atol=1e-6)


@pytest.mark.parametrize("fmt", ["cxcywhr", "polygon", "cxcyczwhdr"])
def test_only_pairs_whose_envelopes_meet_are_compared(fmt, monkeypatch):
    rng = np.random.default_rng(5)
    boxes = np.concatenate((rng.uniform(0, 60, (40, 2)), rng.uniform(1, 20, (40, 2)), rng.uniform(0, 360, (40, 1))), 1)
    if fmt == "polygon":
        boxes = anyops.box_convert(boxes, "cxcywhr", "polygon")
    if fmt == "cxcyczwhdr":
        boxes = np.insert(boxes, [2, 4], rng.uniform(1, 5, (40, 1)), axis=1)
    found = []
    for share in (1.0, -1.0):
        monkeypatch.setattr(kernels, "MEETING", share)
        found.append(anyops.box_iou(boxes, boxes, fmt=fmt))
    np.testing.assert_allclose(*found, atol=1e-14)
    assert 0 < np.count_nonzero(found[0]) < found[0].size


@pytest.mark.op("box_iou_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("kind", [*SHARES, "probiou"])
def test_gradients_are_slopes(backend, transform, kind):
    a, b = (np.concatenate([families()[name][k][:4] for name in ("any", "contained")]) for k in (0, 1))
    if not backend.has_dtype("float64"):
        pytest.skip("differences need float64")
    got = backend.gradient(lambda p, q: anyops.box_iou_loss(p, q, kind=kind, fmt="cxcywhr"), a, b)

    def whole(p, q):
        return float(np.sum(anyops.box_iou_loss(p, q, kind=kind, fmt="cxcywhr")))

    for found, want in zip(got, reference.slopes(whole, a, b, step=1e-5), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-6)
        assert np.abs(found).max() > 1e-3


@pytest.mark.op("box_iou_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("kind", [*SHARES, "probiou"])
def test_gradients_are_finite(backend, transform, kind):
    """For equal, touching, contained and empty boxes, and for boxes that share a side."""
    box = [10, 20, 8, 4, 0]
    pairs = [
        *itertools.product([box], [box, [18, 20, 8, 4, 0], [10, 20, 4, 4, 0], [10, 20, 2, 2, 0], [10, 20, 0, 4, 0]]),
        *itertools.product([[10, 20, 8, 4, 30]], [[10, 20, 8, 4, 30], [10, 20, 4, 8, 120], [10, 20, 8, 4, 210]]),
        *((p, q) for p, q in zip(SPECIAL, SPECIAL, strict=True) if np.isfinite([p, q]).all()),
        ([3e15, 0, 2e15, 1e15, 30], [0, 0, 1e-15, 1e-15, 10]),
    ]
    a, b = (np.float32(x) for x in zip(*pairs, strict=True))
    for found in backend.gradient(lambda p, q: anyops.box_iou_loss(p, q, kind=kind, fmt="cxcywhr"), a, b):
        assert np.isfinite(found).all()


def meeting(fmt):
    """Pairs of regions: equal, side by side, touching at a corner, contained, with common sides, without area."""
    first = (0, 0, 8, 4)
    others = [first, (8, 0, 8, 4), (8, 4, 8, 4), (1, 1, 2, 2), (0, 0, 4, 4), (0, 0, 4, 2), (2, 2, 0, 2), (0, 0, 0, 0)]
    pairs = [(first, other) for other in others] + [(other, first) for other in others] + [((3, 3, 0, 0),) * 2]
    return tuple(np.stack([in_format(fmt, *box) for box in boxes]) for boxes in zip(*pairs, strict=True))


def in_format(fmt, x, y, w, h):
    """A box from corner and sides in a format; rotated by 30 degrees about the origin if the format has an angle."""
    if fmt in ("segment", "xyzxyz"):
        return np.float32([x, x + w] if fmt == "segment" else [x, y, x, x + w, y + h, x + w])
    if FORMATS[fmt].shape == (4,):
        return anyops.box_convert(np.float32([x, y, w, h]), "xywh", fmt)
    (cos, sin), cx, cy = (math.cos(math.pi / 6), math.sin(math.pi / 6)), x + w / 2, y + h / 2
    turned = np.float32([cx * cos + cy * sin, cy * cos - cx * sin, w, h, 30])
    return np.insert(turned, [2, 4], [cx, w]) if fmt == "cxcyczwhdr" else anyops.box_convert(turned, "cxcywhr", fmt)


@pytest.mark.parametrize("fmt", FORMATS)
def test_gradients_of_every_format(fmt):
    """Finite wherever regions touch, and equal to slopes elsewhere; on torch, because XLA compiles each for seconds."""
    torch = pytest.importorskip("torch")

    def gradients(kind, *pair):
        given = [torch.asarray(x, requires_grad=True) for x in pair]
        anyops.box_iou_loss(*given, kind=kind, fmt=fmt, reduction="sum").backward()
        return [x.grad.numpy() for x in given]

    rng = np.random.default_rng(2)
    one = np.stack([in_format(fmt, *box).astype(np.float64) for box in rng.uniform(2, 6, (3, 4))])
    apart = (one, one + rng.normal(0, 0.3, one.shape))
    for kind in KINDS[fmt]:
        for found in gradients(kind, *meeting(fmt)):
            assert np.isfinite(found).all(), kind
            assert np.abs(found).max() < 10, kind
        if kind == "ciou":  # α has no gradient
            continue

        def whole(p, q, kind=kind):
            return float(anyops.box_iou_loss(p, q, kind=kind, fmt=fmt, reduction="sum"))

        for found, want in zip(gradients(kind, *apart), reference.slopes(whole, *apart, step=1e-5), strict=True):
            np.testing.assert_allclose(found, want, atol=1e-6, err_msg=kind)


@pytest.mark.parametrize(
    ("fmt", "regions"),
    [
        ("xyxy", [[0, 0, 1, 1], [1e20, 1e20, 1.1e20, 1.1e20], [0, 0, 0, 1e30]]),
        ("xyzxyz", [[0, 0, 0, 1, 1, 1], [1e13, 1e13, 1e13, 1.1e13, 1.1e13, 1.1e13], [0, 0, 0, 0, 1e30, 1e30]]),
    ],
)
def test_giou_within_more_than_the_largest_number(fmt, regions):
    """If |C| overflows, U / |C| is 0, and no derivative overflows; the last region is empty."""
    torch = pytest.importorskip("torch")
    given = torch.tensor(regions, requires_grad=True)
    found = anyops.box_iou(given, given, kind="giou", fmt=fmt)
    found.sum().backward()
    assert found[0, 1] == found[1, 0] == -1
    assert given.grad.isfinite().all()


@pytest.mark.op("box_area", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("fmt", "regions", "want"),
    [
        ("xywh", [[0, 0, 2, 3], [5, 5, -1, 3]], [6, 0]),
        (
            "cxcywhr",
            [[0, 0, 2, 3, 9], [0, 0, -2, -3, 9], [0, 0, np.inf, 3, 9], [0, 0, np.nan, 3, 9]],
            [6, 0, np.inf, np.nan],
        ),
        ("xyxyxyxy", [[0, 0, 2, 0, 2, 3, 0, 3], [0, 0, 0, 3, 2, 3, 2, 0]], [6, 6]),
        (
            "xyxyxyxy",
            np.array(
                [
                    [0, 0, 2e20, 0, 2e20, 1e-10, 0, 1e-10],
                    [0, 0, 2e20, 1e20, 1e20, 3e20, -1e20, 2e20],
                    [-3e38, -3e38, 3e38, -3e38, 3e38, 3e38, -3e38, 3e38],
                    [0, 0, np.inf, 0, np.inf, 3, 0, 3],
                    [0, 0, np.nan, 0, np.inf, 3, 0, 3],
                ]
            ),
            [2e10, np.inf, np.inf, np.inf, np.nan],
        ),
        ("polygon", [[[0, 0], [4, 0], [0, 3], [0, 3]], [[0, 0], [2, 2], [2, 0], [0, 2]]], [6, 0]),
        ("segment", [[1, 4], [4, 1]], [3, 0]),
        ("xyzxyz", [[0, 0, 0, 1, 2, 3], [0, 0, 0, -1, -2, 3]], [6, 0]),
        ("cxcyczwhdr", [[9, 9, 9, 1, 2, 3, 45], [9, 9, 9, 1, -2, -3, 45]], [6, 0]),
    ],
)
def test_areas(run, fmt, regions, want):
    np.testing.assert_allclose(run(anyops.box_area, np.float32(regions), fmt=fmt), want)


def test_a_polygon_far_from_the_origin_has_its_area():
    corners = np.float32([[0, 0], [3, 0], [3, 2], [0, 2]]) + np.float32(1e6)
    assert anyops.box_area(corners, fmt="polygon") == 6


BOX = [10.0, 20.0, 4.0, 2.0, 90.0]  # upright in an image, rotated counter-clockwise


@pytest.mark.op("box_convert", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("given", "want"),
    [
        (("cxcywhr", BOX), ("xywhr", [9, 22, 4, 2, 90])),
        (("cxcywhr", BOX), ("xyxyxyxy", [9, 22, 9, 18, 11, 18, 11, 22])),
        (("cxcywhr", BOX), ("polygon", [[9, 22], [9, 18], [11, 18], [11, 22]])),
        (("cxcywhr", BOX), ("xyxy", [9, 18, 11, 22])),
        (("cxcywhr", BOX), ("cxcywh", [10, 20, 2, 4])),
        (("xywhr", [9, 22, 4, 2, 90]), ("cxcywhr", BOX)),
        (("xyxyxyxy", [9, 22, 9, 18, 11, 18, 11, 22]), ("cxcywhr", BOX)),
        (("polygon", [[0, 0], [4, 1], [2, 5]]), ("xyxy", [0, 0, 4, 5])),
        (("xyxy", [9, 18, 11, 22]), ("cxcywhr", [10, 20, 2, 4, 0])),
        (("xywh", [9, 18, 2, 4]), ("xyxyxyxy", [9, 18, 11, 18, 11, 22, 9, 22])),
        (("xyzxyz", [0, 0, 0, 2, 4, 6]), ("cxcyczwhdr", [1, 2, 3, 2, 4, 6, 0])),
        (("cxcyczwhdr", [1, 2, 3, 2, 4, 6, 90]), ("xyzxyz", [-1, 1, 0, 3, 3, 6])),
    ],
)
def test_conversions(run, given, want):
    (in_fmt, x), (out_fmt, y) = given, want
    np.testing.assert_allclose(run(anyops.box_convert, np.float32(x), in_fmt, out_fmt), np.float32(y), atol=2e-5)


PLANE, AROUND = ("xyxy", "xywh", "cxcywh", "yxyx", "cxcywhr", "xywhr"), ("xyxyxyxy", "polygon")
INVERTED = [
    *itertools.product(PLANE, (*PLANE, *AROUND)),
    *itertools.product(("xyzxyz", "cxcyczwhdr"), ("xyzxyz", "cxcyczwhdr")),
]


@pytest.mark.op("box_convert", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(("in_fmt", "out_fmt"), INVERTED)
def test_inverted_boxes_have_no_area_in_any_format(run, in_fmt, out_fmt):
    """With negative width, height, or both; also after conversion to another format."""
    signs = np.float32([(-1, 1), (1, -1), (-1, -1), (-1, 0), (1, 1)])
    size = signs * np.float32([4, 2])
    if in_fmt in ("xyzxyz", "cxcyczwhdr"):
        zero, deep = np.zeros((5, 3), np.float32), np.ones((5, 1), np.float32)
        low = np.concatenate((zero + np.float32([7, 8, 9]), size, deep), 1)
        given = np.concatenate((low, zero[:, :1] + 30), 1)
        if in_fmt == "xyzxyz":
            given = np.concatenate((low[:, :3], low[:, :3] + low[:, 3:]), 1)
    elif in_fmt in ("cxcywhr", "xywhr"):
        given = np.concatenate((np.full((5, 2), 7, np.float32), size, np.full((5, 1), 30, np.float32)), 1)
    else:
        corners = np.concatenate((np.full((5, 2), 7, np.float32), 7 + size), 1)
        given = np.stack([reference.box_convert(x, "xyxy", in_fmt) for x in corners])
    given = np.float32(given)
    found = run(anyops.box_convert, given, in_fmt, out_fmt)
    area = anyops.box_area(found, fmt=out_fmt)
    np.testing.assert_array_equal(area[:4], 0)
    assert area[4] >= 7.9
    kinds = ("xyzxyz", "cxcyczwhdr") if out_fmt in ("xyzxyz", "cxcyczwhdr") else (*PLANE, *AROUND)
    for last in kinds:
        np.testing.assert_array_equal(anyops.box_area(anyops.box_convert(found, out_fmt, last), fmt=last)[:4], 0)


REFUSED = [
    ({"fmt": "xyxyr"}, (1, 5), r"fmt must be one of xyxy, .*got 'xyxyr'"),
    ({}, (1, 5), r"must have shape \(\.\.\., 4\), got \(1, 5\); 5 numbers are fmt='cxcywhr' or 'xywhr'"),
    ({}, (1, 8), r"8 numbers are fmt='xyxyxyxy'"),
    ({"fmt": "cxcywhr"}, (1, 4), r"must have shape \(\.\.\., 5\) for fmt='cxcywhr', got \(1, 4\)"),
    ({"fmt": "cxcywhr", "kind": "giou"}, (1, 5), r"kind must be one of iou, .* for fmt='cxcywhr', got 'giou'"),
    ({"kind": "probiou"}, (1, 4), r"kind must be one of iou, .*got 'probiou'"),
    ({"fmt": "polygon"}, (1, 2, 2), r"3 vertices or more"),
    ({"fmt": "polygon"}, (4, 3), r"must have shape \(\.\.\., V, 2\) for fmt='polygon', got \(4, 3\)"),
    ({"fmt": "polygon"}, (4, 2), r"\(\.\.\., N, V, 2\) for pairwise=True, got \(4, 2\)"),
]


@pytest.mark.parametrize(("options", "shape", "message"), REFUSED)
def test_refusals(options, shape, message):
    with pytest.raises(ValueError, match=message):
        anyops.box_iou(np.zeros(shape), np.zeros(shape), **options)


@pytest.mark.parametrize("kind", [*ALL_KINDS, "foo", None])
@pytest.mark.parametrize("fmt", FORMATS)
def test_a_kind_has_a_value_or_is_refused(fmt, kind):
    one = in_format(fmt, 1, 2, 3, 4)[None].astype(np.float64)
    calls = (
        lambda: anyops.box_iou(one, one, kind=kind, fmt=fmt),
        lambda: 1 - anyops.box_iou_loss(one, one, kind=kind, fmt=fmt),
        lambda: anyops.nms_groups(one, np.ones(1), kind=kind, fmt=fmt) + 1,
    )
    for call in calls:
        if kind in KINDS[fmt]:
            np.testing.assert_allclose(call(), 1)
        else:
            with pytest.raises(ValueError, match=f"kind must be one of {', '.join(KINDS[fmt])} for fmt='{fmt}', got"):
                call()


@pytest.mark.parametrize(
    ("in_fmt", "out_fmt", "shape", "message"),
    [
        ("cxcywhr", "xyzxyz", (5,), "out_fmt must be one of xyxy, .*, polygon for in_fmt='cxcywhr', got 'xyzxyz'"),
        ("polygon", "xyxyxyxy", (5, 2), "boxes must have 4 vertices for out_fmt='xyxyxyxy'"),
    ],
)
def test_refused_conversions(in_fmt, out_fmt, shape, message):
    with pytest.raises(ValueError, match=message):
        anyops.box_convert(np.zeros(shape), in_fmt, out_fmt)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_dtypes(run, backend, dtype):
    boxes = np.array([[0, 0, 4, 2, 90], [1, 0, 4, 2, 0]], dtype)
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    got = run.raw(anyops.box_iou, boxes, boxes, fmt="cxcywhr", **({"dtype": dtype} if dtype == "float16" else {}))
    assert dtype_name(got) == ("float16" if dtype == "float16" else backend.default("real floating"))
    np.testing.assert_allclose(backend.to_numpy(got), [[1, 1 / 3], [1 / 3, 1]], atol=1e-3)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
def test_shapes(run):
    boxes = np.float32(families()["any"][0])
    for shape1, shape2, want in (((0,), (3,), (0, 3)), ((2, 1, 3), (4, 2), (2, 4, 3, 2))):
        a, b = (np.broadcast_to(boxes[0], (*shape, 5)).copy() for shape in (shape1, shape2))
        got = run(anyops.box_iou, a, b, fmt="cxcywhr")
        assert got.shape == want
        np.testing.assert_allclose(got, 1, atol=1e-6)


# Integers beyond the precision of floats, and sides that would be rounded by way of corners.


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("fmt", "origin"), [("segment", 1_700_000_000), ("cxcywh", 2**24 + 1), ("xyzxyz", 2**25), ("polygon", 2**26)]
)
def test_integers_are_exact_or_refused(backend, fmt, origin):
    shape = {"polygon": (3, 2)}.get(fmt, FORMATS[fmt].shape)
    low = np.zeros(shape, np.int32)
    low.reshape(-1)[len(low) // 2 :] = 60
    if fmt == "polygon":
        low = np.array([[0, 0], [60, 0], [0, 60]], np.int32)
    a, b = backend.asarray((low + origin)[None]), backend.asarray((low + origin)[None])
    if backend.default("real floating") == "float64":
        np.testing.assert_allclose(backend.to_numpy(anyops.box_iou(a, b, fmt=fmt)), 1)
    elif backend is not Backend.DASK:
        held = 2**24
        corners = held // 4 if fmt == "cxcywh" else held  # half sides are added to centres
        for call, limit in (
            (lambda: anyops.box_iou(a, b, fmt=fmt), corners),
            (lambda: anyops.box_area(a, fmt=fmt), held),
        ):
            with pytest.raises(ValueError, match=rf"must hold integers up to {limit} for fmt='{fmt}'"):
                call()


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
def test_long_boxes_in_quarter_turns(run):
    """The same box with swapped sides and other angles, up to 10¹⁰ times as long as wide: cos 90° is 0."""
    long = np.float32([[5, -3, 10.0**k, 0.25, t] for k in range(10) for t in (0, 17.5, 90, -123.25, 180)])
    for turns in range(-8, 9):
        other = (long if turns % 2 == 0 else long[:, [0, 1, 3, 2, 4]]) + np.float32([0, 0, 0, 0, 90 * turns])
        got = run(anyops.box_iou, long, other, pairwise=False, fmt="cxcywhr")
        np.testing.assert_allclose(got, 1, atol=1e-6, err_msg=str(turns))
    got = run(anyops.box_convert, np.float32([0, 0, 2**30, 2, 90]), "cxcywhr", "xyxy")
    np.testing.assert_array_equal(got, [-1, -(2**29), 1, 2**29])


@pytest.mark.op("box_area", transforms=(Transform.EAGER,))
def test_sides_far_from_the_origin(run):
    for fmt in ("xywh", "cxcywh"):
        assert run(anyops.box_area, np.float32([1e9, 1e9, 10, 8]), fmt=fmt) == 80
    far = np.float32([1e9, 1e9, 10, 8])
    np.testing.assert_array_equal(run(anyops.box_convert, far, "xywh", "cxcywh")[2:], [10, 8])
    np.testing.assert_array_equal(run(anyops.box_convert, far, "cxcywh", "xywh")[2:], [10, 8])
    yxyx = np.array([2**30, 2**30, 2**30 + 10, 2**30 + 8], np.int32)
    assert run(anyops.box_area, yxyx, fmt="yxyx") == 80
    for out in ("cxcywhr", "xywhr"):
        for fmt, given, sides in (("xywh", far, [10, 8, 0]), ("cxcywh", far, [10, 8, 0]), ("yxyx", yxyx, [8, 10, 0])):
            np.testing.assert_array_equal(run(anyops.box_convert, given, fmt, out)[2:], sides)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", ["giou", "diou"])
def test_blocks_without_size_are_where_they_are(run, kind):
    """As for 2D boxes: the origin does not matter, and overlaps stay in range."""
    for away in (0, 100):
        a, b = np.float32([[5, 5], [7, 6], [0, 3e38]]) + away, np.float32([[6, 7], [6, 7], [6, 7]]) + away
        got = run(anyops.box_iou, a, b, kind=kind, fmt="segment", pairwise=False)
        flat = [np.stack((x[:, 0], 0 * x[:, 1], x[:, 1], 0 * x[:, 0] + 1), 1) for x in (a, b)]
        if kind == "giou":
            np.testing.assert_allclose(got, run(anyops.box_iou, *flat, kind=kind, pairwise=False), atol=1e-6)
        assert np.all((got >= -1) & (got <= 1))
    tiny = np.float32([[0, 0, 0, 1e-13, 1e-13, 1e-13]])
    assert run(anyops.box_iou, np.float32([[1, 1, 1, 1, 2, 2]]), tiny, kind=kind, fmt="xyzxyz").item() >= -1


# Sizes at the ends of the range.


@pytest.mark.op("box_area", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("fmt", "regions"),
    [
        ("xyxy", [0, 0, 2e-20, 1e-20]),
        ("xywh", [0, 0, 2e-20, 1e-20]),
        ("cxcywhr", [0, 0, 2e-20, 1e-20, 30]),
        ("xyxyxyxy", [0, 0, 2e-20, 0, 2e-20, 1e-20, 0, 1e-20]),
        ("polygon", [[0, 0], [2e-20, 0], [2e-20, 2e-20]]),
        ("segment", [0, 2e-40]),
        ("xyzxyz", [0, 0, 0, 2e-20, 1e-10, 1e-10]),
        ("cxcyczwhdr", [0, 0, 0, 2e-20, 1e-10, 1e-10, 30]),
    ],
)
def test_sizes_below_the_normal_range(run, backend, fmt, regions):
    """XLA treats such numbers as 0, so there a region of that size overlaps nothing, in every format."""
    region = np.float32([regions])
    size = run(anyops.box_area, region, fmt=fmt)
    shared = backend.to_numpy(anyops.box_iou(backend.asarray(region), backend.asarray(region), fmt=fmt))
    if backend.library == "jax":
        assert size == shared == 0
    else:
        np.testing.assert_allclose(size, 2e-40, rtol=1e-4)
        np.testing.assert_allclose(shared, 1, rtol=1e-4)


def extremes(fmt):
    """Pairs of regions with sides between 1e-10 and 1e10, overlapping and adjacent; edges of width 1e-30."""
    pairs = []
    for w, h, w2, h2 in itertools.product((1e-10, 1e-5, 1.0, 1e10), repeat=4):
        for share, angle in itertools.product((0, 0.3), (0, 30)):
            c = share * min(max(w, h), max(w2, h2))
            if fmt in ("cxcywhr", "xywhr"):
                pairs.append(([0, 0, w, h, angle], [c, c, w2, h2, 10]))
            elif fmt == "cxcyczwhdr":
                pairs.append(([0, 0, 0, w, h, 1, angle], [c, c, 0, w2, h2, 1, 10]))
            elif fmt == "xyzxyz":
                pairs.append(([0, 0, 0, w, h, 1], [c, c, 0, c + w2, c + h2, 1]))
            elif fmt == "segment":
                pairs.append(([0, w], [c, c + h2]))
            else:
                e, f = (0, 1e-30) if angle else (1e-30, w / 3)
                p = [[0, 0], [w, e], [w + f, h], [e, h]], [[c, c], [c + w2, c], [c + w2, c + h2], [c + e, c + h2 + f]]
                pairs.append(p if fmt == "polygon" else [np.ravel(x) for x in p])
    return tuple(np.float32(x) for x in zip(*pairs, strict=True))


@pytest.mark.op("box_iou_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize(
    ("fmt", "kind"),
    [("cxcywhr", "iou"), ("cxcywhr", "probiou"), ("xywhr", "ios"), ("polygon", "iou"), ("xyzxyz", "iou")],
)
def test_gradients_at_extreme_sizes_are_finite(backend, transform, fmt, kind):
    a, b = extremes(fmt)
    value = backend.to_numpy(anyops.box_iou_loss(backend.asarray(a), backend.asarray(b), kind=kind, fmt=fmt))
    assert np.all((value >= 0) & (value <= 1))
    for found in backend.gradient(lambda p, q: anyops.box_iou_loss(p, q, kind=kind, fmt=fmt), a, b):
        assert np.isfinite(found).all()


@pytest.mark.op("box_iou_loss", transforms=(Transform.GRAD,))
def test_probiou_of_any_size_has_its_slopes(backend, transform):
    """Against differences of the definition in float64, at size 1; all pairs in one call, because JAX compiles it."""
    sizes = list(itertools.product((1e-10, 1e8, 1e15), (1.0, 1e7)))
    pairs = [([0.1, 0.2, 3 * length, 2, 10], [0, 0, 2 * length, 3, 10]) for _, length in sizes]
    scales = [np.array([size, size, size, size, 1]) for size, _ in sizes]
    given = (np.float32([x * s for x, s in zip(side, scales, strict=True)]) for side in zip(*pairs, strict=True))
    slopes = backend.gradient(lambda p, q: anyops.box_iou_loss(p, q, kind="probiou", fmt="cxcywhr"), *given)
    for k, (pair, scale) in enumerate(zip(pairs, scales, strict=True)):
        want = []
        for side, at in itertools.product((0, 1), range(5)):
            ends = []
            for way in (1, -1):
                moved = [np.array(x, np.float64) for x in pair]
                moved[side][at] += way * 1e-5 * max(1.0, abs(moved[side][at])) * (1e-6 if at == 4 else 1)
                ends.append((1 - reference.probiou(*moved), moved[side][at]))
            want.append((ends[0][0] - ends[1][0]) / (ends[0][1] - ends[1][1]))
        got = np.concatenate([np.float64(x[k]) * scale for x in slopes])
        rest = np.delete(np.arange(10), [4, 9])
        np.testing.assert_allclose(got[rest], np.array(want)[rest], rtol=2e-3, atol=1e-4, err_msg=str(sizes[k]))
        assert np.abs(got[[2, 3]]).max() > 1e-9


@pytest.mark.parametrize("fmt", ["xywhr", "cxcywhr"])
def test_gradients_where_corners_and_sides_meet(fmt):
    """Equal to differences wherever the function is differentiable: where one-sided differences agree."""
    torch = pytest.importorskip("torch")
    angles, sides, places = range(0, 360, 30), ((2, 1), (1, 2), (2, 2), (1, 0.5)), ((0, 0), (1, 0), (2, 1))
    cases = [((2, 1, i), (w, h, j), at) for i in angles for j in angles for w, h in sides for at in places]
    a = torch.tensor([(0, 0, *one) for one, _, _ in cases], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([(*at, *other) for _, other, at in cases], dtype=torch.float64)

    def overlap(a):
        return anyops.box_iou(a, b, fmt=fmt, pairwise=False)

    (slope,) = torch.autograd.grad(overlap(a).sum(), a)
    step = 1e-6 * torch.eye(5, dtype=torch.float64)
    with torch.no_grad():
        there, here = torch.stack([overlap(a + e) for e in step], 1), overlap(a)[:, None]
        back = torch.stack([overlap(a - e) for e in step], 1)
    after, before = (there - here) / 1e-6, (here - back) / 1e-6
    smooth = (after - before).abs() < 1e-4
    assert smooth.sum() > 7000
    torch.testing.assert_close(slope[smooth], ((after + before) / 2)[smooth], atol=1e-3, rtol=0)
