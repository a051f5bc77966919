"""Suppression of regions that are not xyxy boxes: every op equals its result for the same overlaps."""

import functools
import itertools
import tracemalloc

import numpy as np
import pytest

import anyops
from anyops.boxes.regions import FORMATS
from tests import reference, scenes
from tests.backends import Transform
from tests.suppression.family import FAMILY, MEMBERS, by_member

N = 20
EAGER = pytest.mark.calls(Transform.EAGER)
REGIONS = [m for m in MEMBERS if not m.fuses]  # ops with a `fmt`
IN_THE_PLANE = ("xywh", "cxcywh", "yxyx")
KINDS = {fmt: ("iou", "iof", "ios") for fmt in FORMATS if fmt not in ("xyxy", *IN_THE_PLANE)}
KINDS |= {
    "cxcywhr": ("iou", "iof", "ios", "probiou"),
    "segment": ("iou", "ios", "giou", "diou"),
    "xyzxyz": ("iou", "giou", "diou"),
}
# Options of each op for a kind; thresholds are between overlaps of the scene.
OPTIONS = {
    "nms": {"iou_threshold": 0.25},
    "fast_nms": {"iou_threshold": 0.25},
    "nms_groups": {"iou_threshold": 0.25},
    "soft_nms": {"score_threshold": 0.05},
    "cluster_nms": {"penalty": "score"},
    "matrix_nms": {"sigma": 1.0},
}


@functools.cache
def rotated(n=N, objects=4, seed=3):
    """Boxes in clusters, with scores that are all different."""
    rng = np.random.default_rng(seed)
    centres = np.stack(
        (*rng.uniform(0, 60, (2, objects)), *rng.uniform(12, 30, (2, objects)), rng.uniform(-180, 180, objects)), 1
    )
    boxes = centres[np.arange(n) % objects] + rng.normal(0, 1, (n, 5)) * [4, 4, 2, 2, 15]
    return boxes.astype(np.float32), rng.permutation(np.linspace(0.1, 0.95, n)).astype(np.float32)


def regions(fmt, boxes=None):
    """The scene in a format: as rotated boxes, as their corners, or as axis-aligned boxes and blocks of their sides."""
    boxes = rotated()[0] if boxes is None else boxes
    x, y, w, h, angle = boxes.astype(np.float64).T
    around = np.array([[(float(p[0]), float(p[1])) for p in reference.rotated_corners(box)] for box in boxes.tolist()])
    z, depth = x / 7, 3 + h / 8
    made = {
        "cxcywhr": lambda: boxes,
        "xywhr": lambda: np.stack((*around[:, 0].T, w, h, angle), 1),
        "xyxyxyxy": lambda: around.reshape(-1, 8),
        "polygon": lambda: np.concatenate((around, around[:, -1:], around[:, -1:]), 1),  # padded by a vertex
        "segment": lambda: np.stack((x, x + w), 1),
        "xyzxyz": lambda: np.stack((x, y, z, x + w, y + h, z + depth), 1),
        "cxcyczwhdr": lambda: np.stack((x, y, z, w, h, depth, angle), 1),
        "xyxy": lambda: np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1),
        "xywh": lambda: np.stack((x - w / 2, y - h / 2, w, h), 1),
        "cxcywh": lambda: np.stack((x, y, w, h), 1),
        "yxyx": lambda: np.stack((y - h / 2, x - w / 2, y + h / 2, x + w / 2), 1),
    }
    return made[fmt]().astype(np.float32)


@functools.cache
def overlaps(fmt, kind):
    """Overlaps of the scene from its corners with 40 digits, or from the ends of blocks."""
    given = regions("cxcywhr" if fmt in ("xywhr", "xyxyxyxy", "polygon") else fmt).astype(np.float64)
    if fmt in ("segment", "xyzxyz"):
        return np.array([[_of_blocks(a, b, kind) for b in given] for a in given])
    if kind == "probiou":
        return np.array([[reference.probiou(a, b) for b in given] for a in given])
    found = np.eye(len(given))
    flat = given if fmt != "cxcyczwhdr" else given[:, [0, 1, 3, 4, 6]]
    for i, j in itertools.permutations(range(len(given)), 2):
        shared = _shared(*sorted((tuple(flat[i]), tuple(flat[j]))))
        sizes = [flat[k, 2] * flat[k, 3] for k in (i, j)]
        if fmt == "cxcyczwhdr":
            (z, depth), (z2, depth2) = given[i, [2, 5]], given[j, [2, 5]]
            shared *= max(min(z + depth / 2, z2 + depth2 / 2) - max(z - depth / 2, z2 - depth2 / 2), 0)
            sizes = [sizes[0] * depth, sizes[1] * depth2]
        found[i, j] = reference.region_overlap(shared, *sizes, kind)
    return found


@functools.cache
def _shared(a, b):
    return float(reference.shared_area(reference.rotated_corners(a), reference.rotated_corners(b)))


def _of_blocks(a, b, kind):
    d = len(a) // 2
    sides = np.clip(np.minimum(a[d:], b[d:]) - np.maximum(a[:d], b[:d]), 0, None)
    hull = np.maximum(a[d:], b[d:]) - np.minimum(a[:d], b[:d])
    shared, one, other = np.prod(sides), np.prod(a[d:] - a[:d]), np.prod(b[d:] - b[:d])
    union = one + other - shared
    if kind in ("iou", "ios", "iof"):
        return shared / {"iou": union, "iof": one, "ios": min(one, other)}[kind]
    if kind == "giou":
        return shared / union - (np.prod(hull) - union) / np.prod(hull)
    return shared / union - np.sum(((a[:d] + a[d:]) / 2 - (b[:d] + b[d:]) / 2) ** 2) / np.sum(hull**2)


def check(run, member, static, fmt, kind):
    """Compare the op on regions with its reference on their overlaps."""
    scores, options = rotated()[1], OPTIONS[member.index]
    want = member.reference(None, scores, overlaps=overlaps(fmt, kind), dtype=np.float64, **options)
    if static:
        options = {
            name: value for name, value in options.items() if name != "score_threshold" or member.index == "soft_nms"
        }
    got = member.call(run, static, regions(fmt), scores, fmt=fmt, kind=kind, **options)
    if static:
        member.check(got, want, rtol=1e-3)
    else:
        member.check_index(got, want, scores, options.get("score_threshold"), rtol=1e-3)


def test_the_scene_decides():
    """No overlap is close to a threshold, some are 0, and each op drops or lowers some boxes and keeps some."""
    for fmt, kinds in KINDS.items():
        for kind in kinds:
            over = overlaps(fmt, kind)
            assert scenes.clear_of(over, 0.25), (fmt, kind)
            for member in REGIONS:
                new = member.reference(None, rotated()[1], overlaps=over, dtype=np.float64, **OPTIONS[member.index]).new
                assert len({*np.asarray(new).tolist()}) > 1, (fmt, kind, member.index)


@EAGER
@by_member(True, [m for m in REGIONS if m.static])
def test_static_form_of_every_format(run, member):
    for fmt, kinds in KINDS.items():
        for kind in kinds:
            check(run, member, True, fmt, kind)


@EAGER
@by_member(False, REGIONS)
def test_index_form_of_every_format(run, member):
    for fmt, kinds in KINDS.items():
        for kind in kinds:
            check(run, member, False, fmt, kind)


@pytest.mark.op("nms_mask", transforms=(Transform.JIT, Transform.VMAP, Transform.FUNC_VMAP, Transform.COMPILE))
def test_rotated_boxes_under_transforms(run):
    check(run, FAMILY["nms"], True, "cxcywhr", "iou")


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(("fmt", "kind"), [("cxcywhr", "iof"), ("cxcywhr", "probiou"), ("polygon", "iou")])
def test_batches_in_several_tiles(run, fmt, kind):
    """Tiles that search by envelopes equal all pairs. The last tile overlaps the one before."""
    if not run.backend.is_fast and kind == "probiou":
        pytest.skip("one kind of rotated boxes is enough on array-api-strict")
    boxes = np.stack([rotated(300, objects, 5)[0] for objects in (9, 60)]) * np.float32([6, 6, 1, 1, 1])
    scores = np.stack([rotated(300, 9, seed)[1] for seed in (1, 2)])
    given = regions_by_op(fmt, boxes).astype(np.float32)
    more = {"labels": np.arange(300, dtype=np.int32) % 2 + np.zeros((2, 1), np.int32), "valid": scores > 0.2}
    over = anyops.box_iou(given, given, fmt=fmt, kind=kind)
    for extra in ({}, more):
        got = run(anyops.nms_mask, given, scores, 0.3, fmt=fmt, kind=kind, **extra)
        for k in range(2):
            one = {name: x[k] for name, x in extra.items()}
            want = reference.greedy_mask(None, scores[k], 0.3, overlaps=over[k], dtype=np.float32, **one)
            np.testing.assert_array_equal(got[k], want)
    for shape in ((0, 3), (2, 0)):
        assert (
            run(
                anyops.nms_mask,
                given[:, :1].repeat(3, 1)[: shape[0], : shape[1]],
                scores[: shape[0], : shape[1]],
                fmt=fmt,
            ).shape
            == shape
        )


# One kind of overlap of each geometry, and each op once: a compilation takes seconds.
@pytest.mark.parametrize(
    ("index", "fmt", "kind"),
    [
        pytest.param(*row, marks=pytest.mark.op(FAMILY[row[0]].static, transforms=(Transform.JIT,)))
        for row in (
            ("fast_nms", "polygon", "iou"),
            ("soft_nms", "segment", "giou"),
            ("matrix_nms", "xyzxyz", "diou"),
            ("cluster_nms", "cxcyczwhdr", "ios"),
            ("nms", "xywhr", "probiou"),
        )
    ],
)
def test_formats_under_jit(run, index, fmt, kind):
    check(run, FAMILY[index], True, fmt, kind)


@EAGER
@by_member(False)
def test_boxes_along_the_axes_in_another_format(run, member):
    if member.fuses:
        pytest.skip("weighted_cluster_nms has no fmt: it averages corners")
    scores = rotated()[1]
    for kind in ("iou", "ciou"):
        want = member.call(run, False, regions("xyxy"), scores, kind=kind)
        for fmt in IN_THE_PLANE:
            got = member.call(run, False, regions(fmt), scores, kind=kind, fmt=fmt)
            assert got[0].tolist() == want[0].tolist(), fmt
            if got[1] is not None:
                np.testing.assert_allclose(got[1], want[1], rtol=1e-4)


@pytest.mark.op("nms", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("fmt", "kind", "threshold"),
    [
        ("cxcywhr", "iou", 0.3),
        ("cxcywhr", "iof", 0.5),
        ("cxcywhr", "probiou", 0.02),
        ("polygon", "ios", 0.5),
        ("segment", "iou", 0.7),
        ("xyzxyz", "diou", 0.1),
        ("cxcyczwhdr", "iou", 0.1),
    ],
)
def test_thousands(run, fmt, kind, threshold):
    """The search finds the pairs of the matrix, for scattered boxes and for clusters."""
    for given, scores, want in thousands(fmt, kind, threshold):
        assert run(anyops.nms, given, scores, threshold, fmt=fmt, kind=kind).tolist() == want


@functools.cache
def thousands(fmt, kind, threshold):
    """Scenes with their scores and the boxes kept."""
    made = []
    for spread, objects in ((600, 1500), (60, 25)):
        boxes, scores = rotated(1500, objects, 5)
        boxes = boxes * np.float32([spread / 60, spread / 60, 1, 1, 1])
        boxes[:, 2:4] = np.abs(boxes[:, 2:4]) + 1
        given = regions_by_op(fmt, boxes).astype(np.float32)
        matrix = anyops.box_iou(given, given, fmt=fmt, kind=kind)
        want = reference.greedy(None, scores, threshold, overlaps=matrix, dtype=np.float32)
        assert len(want) < 1400
        made.append((given, scores, want))
    return made


def regions_by_op(fmt, boxes):
    """Rotated boxes in a format by box_convert, or as blocks of their sides."""
    if fmt in ("cxcywhr", "polygon"):
        return anyops.box_convert(boxes, "cxcywhr", fmt)
    x, y, w, h, angle = boxes.T
    if fmt == "segment":
        return np.stack((x, x + w), 1)
    return np.stack((x, y, x, w, h, w, angle) if fmt == "cxcyczwhdr" else (x, y, x, x + w, y + h, x + h), 1)


@pytest.mark.op("nms", transforms=(Transform.EAGER,))
def test_memory_follows_the_pairs_and_not_all_of_them(backend):
    """8 000 boxes: one byte for each pair would take 64 MB."""
    if backend.library != "numpy":
        pytest.skip("tracemalloc counts the memory of NumPy")
    boxes, scores = rotated(8000, 8000, 7)
    boxes = boxes * np.float32([25, 25, 1, 1, 1])
    boxes[:, 2:4] = np.abs(boxes[:, 2:4]) + 1
    anyops.nms(boxes[:300], scores[:300], fmt="cxcywhr")
    tracemalloc.start()
    kept = anyops.nms(boxes, scores, 0.3, fmt="cxcywhr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < len(kept) < 8000
    assert peak < 50e6


# Regions that overlap nothing are kept: without a side, inverted, with a NaN or an infinite number.
SPECIAL = {
    "cxcywhr": [[5, 5, 0, 4, 30], [5, 5, -4, 4, 0], [np.nan, 5, 4, 4, 0], [5, 5, 4, 4, np.nan], [5, 5, np.inf, 4, 0]],
    "segment": [[5, 5], [6, 4], [np.nan, 6], [-np.inf, np.inf]],
    "xyzxyz": [[4, 4, 4, 6, 6, 4], [6, 4, 4, 4, 6, 6], [4, 4, np.nan, 6, 6, 6]],
    "xyxyxyxy": [[4, 4, 6, 4, 6, 4, 4, 4], [4, 4, 6, 4, 6, np.nan, 4, 6]],
    "cxcyczwhdr": [[5, 5, 5, 4, 4, 0, 9], [5, 5, 5, 4, -4, 4, 9], [5, 5, 5, 4, 4, 4, np.inf]],
}
PROPER = {
    "cxcywhr": [5, 5, 4, 4, 20],
    "segment": [3, 7],
    "xyzxyz": [3, 3, 3, 7, 7, 7],
    "xyxyxyxy": [3, 3, 7, 3, 7, 7, 3, 7],
    "cxcyczwhdr": [5, 5, 5, 4, 4, 4, 20],
}


@EAGER
@by_member(False, REGIONS)
def test_what_overlaps_nothing_stays(run, member):
    for fmt, special in SPECIAL.items():
        given = np.float32([PROPER[fmt], PROPER[fmt], *special])
        scores = np.linspace(0.9, 0.5, len(given), dtype=np.float32)
        for kind in KINDS[fmt]:
            options = {"sigma": 0.01} if "sigma" in OPTIONS[member.index] else {}
            indices, new, _ = member.call(run, False, given, scores, fmt=fmt, kind=kind, **options)
            stays = np.flatnonzero(indices == np.arange(len(given))) if member.static is None else indices
            assert {0, *range(2, len(given))} <= {*stays.tolist()}, (fmt, kind)
            if new is not None:
                np.testing.assert_array_equal(new[np.isin(indices, range(2, len(given)))], scores[2:])
                assert not np.any((indices == 1) & (new == scores[1]) & (member.index != "cluster_nms")), (fmt, kind)


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER, Transform.JIT))
def test_padding_holds_anything(run):
    boxes, scores = rotated()
    want = run(anyops.nms_mask, boxes, scores, 0.25, fmt="cxcywhr")
    padding = np.float32([[np.nan, 0, 1, 1, 0], [30, 30, 1e6, 1e6, 0], [0, 0, -1, np.inf, 5]])
    boxes = np.concatenate((padding, boxes))
    scores, valid = np.concatenate((np.ones(3, np.float32), scores)), np.arange(len(boxes)) >= 3
    got = run(anyops.nms_mask, boxes, scores, 0.25, fmt="cxcywhr", valid=valid)
    assert got.tolist() == [False] * 3 + want.tolist()


@pytest.mark.op("nms", transforms=(Transform.EAGER,))
def test_whole_numbers_in_other_formats(run, backend):
    boxes, scores = np.rint(rotated()[0]).astype(np.int32), rotated()[1]
    for fmt in ("cxcywhr", "xywh", "cxcywh", "yxyx", "polygon"):
        given = np.rint(regions(fmt, boxes.astype(np.float32))).astype(np.int32)
        want = run(anyops.nms, given.astype(np.float32), scores, 0.3, fmt=fmt)
        assert run(anyops.nms, given, scores, 0.3, fmt=fmt).tolist() == want.tolist()
    large = np.full((2, 5), 2**60) if backend.has_dtype("int64") else np.full((2, 5), 2**30, np.int32)
    with pytest.raises(ValueError, match=r"boxes must hold integers up to .* for fmt='cxcywhr'"):
        run(anyops.nms, large, np.ones(2, np.float32), fmt="cxcywhr")


@pytest.mark.op("batched_nms", transforms=(Transform.EAGER,))
def test_batched_nms_of_rotated_boxes(run):
    (boxes, scores), ids = rotated(), np.arange(N, dtype=np.int32) // 4 % 2
    want = reference.greedy(None, scores, 0.25, labels=ids, overlaps=overlaps("cxcywhr", "iou"))
    assert run(anyops.batched_nms, boxes, scores, ids, 0.25, fmt="cxcywhr").tolist() == want


@pytest.mark.op("nms", transforms=(Transform.EAGER,))
def test_16_bits_in_other_formats(run, backend):
    """Corners are computed in float32: at 1 000, sides of 0.5 would be rounded away in float16."""
    if not backend.has_dtype("float16"):
        pytest.skip(f"{backend} has no float16")
    boxes = np.float16([[1000.5, 1000.5, 0.25, 0.25], [1000.5, 1000.5, 0.25, 0.25], [1000, 1000, 0.25, 0.25]])
    assert run(anyops.nms, boxes, np.float32([0.9, 0.8, 0.7]), fmt="cxcywh").tolist() == [0, 2]


@EAGER
@by_member(False, REGIONS)
def test_refusals(run, member):
    scores = np.ones(3, np.float32)

    def refused(match, boxes, **options):
        with pytest.raises(ValueError, match=match):
            member.call(run, False, boxes, scores, **options)

    five = np.zeros((3, 5), np.float32)
    refused("fmt must be one of xyxy, .* got 'xyxyr'", five, fmt="xyxyr")
    refused(r"boxes must have shape \(..., 4\), got \(3, 5\); 5 numbers are fmt='cxcywhr' or 'xywhr'", five)
    refused(r"boxes must have shape \(..., 7\) for fmt='cxcyczwhdr', got \(3, 5\)", five, fmt="cxcyczwhdr")
    refused(
        "kind must be one of iou, iof, ios, probiou for fmt='cxcywhr', got 'giou'", five, fmt="cxcywhr", kind="giou"
    )
    refused("kind must be one of .*, ciou for fmt='xyxy', got 'probiou'", five[:, :4], kind="probiou")
    refused(r"got \(3, 4, 2\); vertices \(V, 2\) are fmt='polygon'", np.zeros((3, 4, 2), np.float32))
    refused("vertices .* are fmt='polygon'", np.zeros((3, 4, 2), np.float32), fmt="xyxyxyxy")
    refused("3 vertices or more", np.zeros((3, 2, 2), np.float32), fmt="polygon")
    refused(r"scores must have shape \(4,\) for boxes of shape \(4, 5\)", np.zeros((4, 5), np.float32), fmt="cxcywhr")


@pytest.mark.parametrize("fmt", ["cxcywhr", "polygon", "cxcyczwhdr"])
def test_no_distance_without_its_kind(fmt):
    boxes = np.zeros((2, *(n or 3 for n in FORMATS[fmt].shape)))
    with pytest.raises(ValueError, match=rf"penalty must be None or 'score' for fmt='{fmt}'.*'score\+distance'"):
        anyops.cluster_nms(boxes, np.ones(2), penalty="score+distance", fmt=fmt)


def test_the_distance_of_blocks():
    """Two cubes of side 2, 1 apart along z: iou 1/3, ρ²/c² = 1 / (4 + 4 + 9)."""
    cubes = np.array([[0.0, 0, 0, 2, 2, 2], [0, 0, 1, 2, 2, 3]])
    new = anyops.cluster_nms_scores(cubes, np.array([0.9, 0.8]), penalty="score+distance", sigma=0.2, fmt="xyzxyz")
    want = 0.8 * min(np.exp(-((1 / 3) ** 2) / 0.2) + (1 / 17) ** 0.6, 1)
    np.testing.assert_allclose(new, [0.9, want], rtol=1e-12)


@pytest.mark.parametrize(
    "op",
    ["weighted_cluster_nms", "weighted_cluster_nms_boxes", "weighted_boxes_fusion", "weighted_boxes_fusion_padded"],
)
def test_no_averages_of_rotated_boxes(op):
    more = (np.zeros(2, int),) if "fusion" in op else ()
    with pytest.raises(
        ValueError, match=rf"boxes must have shape \(..., 4\) for {op}, which averages corners, got \(2, 5\)"
    ):
        getattr(anyops, op)(np.zeros((2, 5)), np.ones(2), *more)


def test_gradients_of_rotated_boxes():
    """soft_nms_scores by boxes and scores, against differences."""
    torch = pytest.importorskip("torch")
    boxes, scores = (x[:8].astype(np.float64) for x in rotated())

    def total(boxes, scores):
        return float(np.sum(anyops.soft_nms_scores(boxes, scores, fmt="cxcywhr", score_threshold=0) * np.arange(1, 9)))

    given = [torch.asarray(x, requires_grad=True) for x in (boxes, scores)]
    new = anyops.soft_nms_scores(*given, fmt="cxcywhr", score_threshold=0)
    (new * torch.arange(1, 9)).sum().backward()
    for got, want in zip(given, reference.slopes(total, boxes, scores), strict=True):
        np.testing.assert_allclose(got.grad.numpy(), want, rtol=1e-5, atol=1e-6)
