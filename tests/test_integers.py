"""Integers beyond the precision of floats: results that depend on differences do not change with the origin.

Overlaps, and so suppression and losses, are equal for boxes near the origin, where all numbers are exact, and far from
it. Scores are ranked and compared with thresholds as integers.
"""

import array_api_compat
import numpy as np
import pytest

import anyops
from tests.backends import Backend

NEAR = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [4, 0, 6, 2], [4, 0, 6, 2], [7, 0, 9, 2]])
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
IDS = np.zeros(5, np.int32)
# The first corner: beyond the exact integers of float32 or float64, and at the ends of the dtypes.
FAR = {
    "int32": (2**24 + 1, -(2**31), 2**31 - 10),
    "uint32": (2**31 + 1, 2**32 - 10),
    "int64": (2**24 + 1, 2**53 + 1, -(2**63), 2**63 - 10),
    "uint64": (2**53 + 1, 2**63 + 1, 2**64 - 10),
    "uint16": (2**16 - 10,),
    "uint8": (255 - 9,),
    "int8": (-128, 127 - 9),
}
CASES = [(dtype, origin) for dtype, origins in FAR.items() for origin in origins]


def columns(boxes, *numbers):
    """Columns of boxes, repeated as often as they are named."""
    return array_api_compat.array_namespace(boxes).concat([boxes[:, k : k + 1] for k in numbers], axis=1)


def matched(f):
    return lambda b, s: f(b, b[1:, ...])


# Ops, and the indices of results that are boxes and move with the origin.
OPS = {
    "nms": (lambda b, s: anyops.nms(b, s, 0.3), ()),
    "nms diou": (lambda b, s: anyops.nms(b, s, 0.3, kind="diou"), ()),
    "nms_groups": (lambda b, s: anyops.nms_groups(b, s, 0.3), ()),
    "fast_nms": (lambda b, s: anyops.fast_nms(b, s, 0.3), ()),
    "soft_nms": (anyops.soft_nms, ()),
    "cluster_nms": (lambda b, s: anyops.cluster_nms(b, s, penalty="score+distance"), ()),
    "weighted_cluster_nms": (anyops.weighted_cluster_nms, (0,)),
    "matrix_nms": (anyops.matrix_nms, ()),
    "non_max_merge": (lambda b, s: anyops.non_max_merge(b, s, overlap_threshold=0.3)[:2], (0,)),
    "non_max_merge transitive": (
        lambda b, s: anyops.non_max_merge(b, s, overlap_threshold=0.3, transitive=True)[:2],
        (0,),
    ),
}
STATIC = {
    "nms_mask": (lambda b, s: anyops.nms_mask(b, s, 0.3), ()),
    "nms_mask of some": (lambda b, s: anyops.nms_mask(b, s, 0.3, valid=s < 0.85), ()),
    "fast_nms_mask": (lambda b, s: anyops.fast_nms_mask(b, s, 0.3), ()),
    "soft_nms_scores": (anyops.soft_nms_scores, ()),
    "cluster_nms_scores": (lambda b, s: anyops.cluster_nms_scores(b, s, penalty="score+distance"), ()),
    "weighted_cluster_nms_boxes": (anyops.weighted_cluster_nms_boxes, (0,)),
    "matrix_nms_scores": (anyops.matrix_nms_scores, ()),
    "box_area": (lambda b, s: anyops.box_area(b), ()),
    "box_iou_loss": (lambda b, s: anyops.box_iou_loss(b[:4, ...], b[1:, ...]), ()),
    "sides": (lambda b, s: anyops.box_convert(b, "xyxy", "xywh")[:, 2:], ()),
    **{
        f"sides of corners, {fmt}": (
            lambda b, s, fmt=fmt: anyops.box_convert(columns(b, 0, 1, 2, 1, 2, 3, 0, 3), "xyxyxyxy", fmt)[:, 2:],
            (),
        )
        for fmt in ("cxcywh", "cxcywhr", "xywhr")
    },
    "sides of blocks": (
        lambda b, s: anyops.box_convert(columns(b, 0, 1, 0, 2, 3, 2), "xyzxyz", "cxcyczwhdr")[:, 3:],
        (),
    ),
    **{kind: (lambda b, s, kind=kind: anyops.box_iou(b, b, kind=kind), ()) for kind in ("iou", "giou", "diou", "ciou")},
}


def results(backend, op, boxes, scores=SCORES):
    f = backend.asarray if backend.library != "torch" else lambda x: __import__("torch").tensor(x)
    found = op(f(boxes), f(scores))
    return [backend.to_numpy(x) for x in (found if isinstance(found, tuple) else (found,))]


def runs(backend, name):
    return anyops.support()[name.partition(" ")[0]].why_not("eager", backend.value) is None


def compare(got, want, moved, origin, err_msg):
    for i, (x, y) in enumerate(zip(got, want, strict=True)):
        away = float(origin) if i in moved else 0.0  # rounded once, to the result's dtype
        atol = 4.0 * float(np.spacing(x.dtype.type(abs(away) + 10))) if i in moved else 2e-6
        np.testing.assert_allclose(x.astype(float), y.astype(float) + away, rtol=2e-6, atol=atol, err_msg=err_msg)


@pytest.mark.parametrize(("dtype", "origin"), CASES)
def test_the_origin_of_integers_does_not_matter(backend, dtype, origin):
    if not backend.has_dtype(dtype) or (dtype == "uint64" and not backend.has_dtype("int64")):
        pytest.skip(f"{backend} has no {dtype}")
    far = (NEAR.astype(object) + origin).astype(dtype)
    names = list(OPS | STATIC)
    if backend.library == "jax" and dtype != "int32":  # JAX compiles each, so a selection covers each dtype and op
        names = names[list(FAR).index(dtype) % 3 :: 3]
    for name in names:
        op, moved = (OPS | STATIC)[name]
        if backend is Backend.DASK and not name.startswith(("box_area", "sides", "iou", "giou")):
            continue  # dask cannot sort
        if name in OPS and not runs(backend, name):
            continue
        compare(results(backend, op, far), results(Backend.NUMPY, op, NEAR.astype(float)), moved, origin, name)


@pytest.mark.parametrize("name", STATIC)
def test_nor_does_it_in_a_fixed_shape(backend, name):
    op, moved = STATIC[name]
    want = results(Backend.NUMPY, op, NEAR.astype(float))
    dtype, origin = "int32", 2**24 + 1
    far = (NEAR + origin).astype(dtype)
    if backend.library == "jax":
        jax = pytest.importorskip("jax")
        compare(results(backend, jax.jit(op), far), want, moved, origin, name)
    elif backend is Backend.TORCH_CPU:
        torch = pytest.importorskip("torch")

        def lanes(b, s):
            found = torch.func.vmap(op)(torch.stack([b, b - 2**20]), torch.stack([s, s]))
            return tuple(x[0] for x in found) if isinstance(found, tuple) else found[0]

        compare(results(backend, lanes, far), want, moved, origin, name)
    else:
        pytest.skip("the library has no transforms")


@pytest.mark.parametrize("form", ["nms_mask", "box_iou"])
def test_each_scene_of_a_batch_has_an_origin_of_its_own(backend, form):
    if backend is Backend.DASK:
        pytest.skip("dask.array has no take_along_axis")
    origins = np.array([2**24 + 1, -(2**30), 5])
    far = backend.asarray((NEAR + origins[:, None, None]).astype(np.int32))
    if form == "nms_mask":
        scores = backend.asarray(np.stack([SCORES] * 3))
        got = backend.to_numpy(anyops.nms_mask(far, scores, 0.3))
        np.testing.assert_array_equal(got, [[True, False, True, False, True]] * 3)
    else:
        got = backend.to_numpy(anyops.box_iou(far, far))
        np.testing.assert_allclose(got, np.stack([anyops.box_iou(NEAR, NEAR)] * 3), rtol=1e-6)


# Pairs of dtypes, and the origin of both; None if they have no common integer dtype.
MIXED = {
    ("uint8", "int64"): 5,
    ("int32", "uint32"): 2**24 + 1,
    ("uint16", "int32"): 2**16 - 10,
    ("uint16", "uint64"): 2**16 - 10,
    ("int8", "uint8"): 100,
    ("uint64", "int64"): None,
}


@pytest.mark.parametrize("dtypes", MIXED, ids=" and ".join)
def test_two_integer_dtypes(backend, dtypes):
    if not all(map(backend.has_dtype, dtypes)) or ("uint64" in dtypes and not backend.has_dtype("int64")):
        pytest.skip(f"{backend} does not have both")
    asarray = __import__("torch").tensor if backend.library == "torch" else backend.asarray
    origin = MIXED[dtypes]
    a, b = (asarray((NEAR + (origin or 0)).astype(dtype)) for dtype in dtypes)
    one_word = not backend.has_dtype("int64") and dtypes == ("int32", "uint32")
    if origin is None or one_word:
        with pytest.raises(TypeError, match="boxes1 and boxes2 must have integer dtypes with a common integer dtype"):
            anyops.box_iou(a, b)
        return
    got = backend.to_numpy(anyops.box_iou(a, b))
    np.testing.assert_allclose(got, anyops.box_iou(NEAR, NEAR), rtol=1e-6)


WIDE = np.array([[0, 0, 4, 4], [2**60, 0, 2**60 + 2, 2]])


def test_integers_too_far_apart_are_refused(backend):
    """If values are known: 2**60 and 2**60 + 2 are equal in float64."""
    boxes, limit = WIDE, 2**53
    if not (backend.has_dtype("int64") and backend.has_dtype("float64")):
        boxes, limit = WIDE % (2**31 - 1) + np.array([[0], [2**28]]), 2**24
    boxes = backend.asarray(boxes.astype(np.int64 if limit == 2**53 else np.int32))
    if backend is not Backend.DASK:
        with pytest.raises(ValueError, match=rf"boxes1 and boxes2 must hold integers within {limit} of"):
            anyops.box_iou(boxes, boxes)
    if limit < 2**53 or not runs(backend, "nms"):
        return  # suppression computes on views, in float64
    scores = backend.asarray(SCORES[:2])
    for op in (anyops.nms, anyops.nms_mask, anyops.soft_nms, anyops.cluster_nms, anyops.nms_groups, anyops.fast_nms):
        with pytest.raises(ValueError, match=rf"boxes must hold integers within {limit} of"):
            op(boxes, scores)


def channels(b):
    """A mean and a variance for each column, a label, and a gradient for each number."""
    xp = array_api_compat.array_namespace(b)
    place = {"device": array_api_compat.device(b)}
    return (
        xp.zeros(5, **place),
        xp.ones(5, **place),
        xp.zeros(1, dtype=xp.int32, **place),
        xp.ones(tuple(b.shape), **place),
    )


# Calls, and the factor by which numbers must be smaller for exact corners. Means of two integers need not be exact.
HELD = {
    "box_iou": (lambda b: anyops.box_iou(b, b, fmt="cxcywhr"), 1),
    "box_iou xywh": (lambda b: anyops.box_iou(b[:, :4], b[:, :4], fmt="xywh"), 2),
    "box_iou cxcywh": (lambda b: anyops.box_iou(b[:, :4], b[:, :4], fmt="cxcywh"), 4),
    "box_area": (lambda b: anyops.box_area(b, fmt="cxcywhr"), 1),
    "nms": (lambda b: anyops.nms(b, b[:, 2], 0.15, fmt="cxcywhr"), 1),
    "nms cxcywh": (lambda b: anyops.nms(b[:, :4], b[:, 2], 0.15, fmt="cxcywh"), 4),
    "nms_mask": (lambda b: anyops.nms_mask(b, b[:, 2], fmt="cxcywhr"), 1),
    "keypoint_similarity": (
        lambda b: anyops.keypoint_similarity(b[:, None, :2], b[:, None, :2], b[:, 2], sigmas=(1,)),
        1,
    ),
    "batch_stats": (lambda b: anyops.batch_stats(b).m2[1:], 1),
    "batch_norm": (lambda b: anyops.batch_norm(b, *channels(b)[:2], training=True).y[:, 1:], 1),
    "batch_norm_grad": (lambda b: anyops.batch_norm_grad(channels(b)[3], b)[0][:, 1:], 1),
    "softmax_focal_loss": (lambda b: anyops.softmax_focal_loss(b[:, :1], channels(b)[2], axis=0), 1),
}


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_the_first_integer_that_is_not_held_is_refused(backend, dtype):
    limit = 2**53 if backend.default("real floating") == "float64" else 2**24
    if not backend.has_dtype(dtype) or (dtype == "uint64" and not backend.has_dtype("int64")):
        pytest.skip(f"{backend} has no {dtype}")
    if backend is Backend.DASK or np.iinfo(dtype).max < limit:
        pytest.skip("nothing is looked at, or all are held")
    asarray = __import__("torch").tensor if backend.library == "torch" else backend.asarray
    for name, (op, smaller) in HELD.items():
        if not runs(backend, name):
            continue
        most, two = limit // smaller, np.array([[-1, 0, 2, 1, 0], [0, 0, 1, 1, 0]])
        got, want = op(asarray((two + np.array([most, 0, 0, 0, 0])).astype(dtype))), op(two.astype(float))
        np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-5, atol=1e-5, err_msg=name)
        for first in (most + 1, -most - 1)[: 1 if "u" in dtype else 2]:
            with pytest.raises(ValueError, match=f"must hold integers up to {most}.*, got {most + 1}; subtract"):
                op(asarray(np.array([[first, 0, 1, 1, 0]], dtype)))


def test_padding_may_lie_anywhere(backend):
    if backend is Backend.DASK:
        pytest.skip("dask.array has no take_along_axis")
    boxes = np.concatenate([np.full((1, 4), -(2**31)), NEAR + 2**24 + 1, np.full((2, 4), 2**31 - 1)]).astype(np.int32)
    valid = np.array([False, *[True] * 5, False, False])
    scores = np.array([1, *SCORES, 1, 1], np.float32)
    got = anyops.nms_mask(*map(backend.asarray, (boxes, scores)), 0.3, valid=backend.asarray(valid))
    np.testing.assert_array_equal(backend.to_numpy(got), [False, True, False, True, False, True, False, False])


# Ops that ignore boxes, by score or otherwise: calls of boxes, scores, a mask of valid boxes, and model ids.
LEAVE_OUT = {
    **{
        op.__name__: lambda b, s, real, ids, op=op: op(b, s, score_threshold=0.3)
        for op in (anyops.nms, anyops.nms_groups, anyops.fast_nms, anyops.soft_nms, anyops.cluster_nms)
    },
    "matrix_nms": lambda b, s, real, ids: anyops.matrix_nms(b, s, score_threshold=0.3),
    "soft_nms_scores": lambda b, s, real, ids: anyops.soft_nms_scores(b, s, score_threshold=0.3),
    "nms xywh": lambda b, s, real, ids: anyops.nms(b, s, score_threshold=0.3, fmt="xywh"),
    "nms_mask": lambda b, s, real, ids: anyops.nms_mask(b, s, valid=real),
    "nms_mask xywh": lambda b, s, real, ids: anyops.nms_mask(b, s, valid=real, fmt="xywh"),
    "matrix_nms_scores": lambda b, s, real, ids: anyops.matrix_nms_scores(b, s, valid=real),
    "weighted_cluster_nms_boxes": lambda b, s, real, ids: anyops.weighted_cluster_nms_boxes(b, s, valid=real)[::-1],
    "weighted_boxes_fusion": lambda b, s, real, ids: anyops.weighted_boxes_fusion(b, s, 0 * ids, score_threshold=0.3),
    "weighted_boxes_fusion_padded": lambda b, s, real, ids: anyops.weighted_boxes_fusion_padded(
        b, s, 0 * ids, model_ids=ids, model_weights=(1.0,)
    ),
}


@pytest.mark.parametrize("name", LEAVE_OUT)
def test_boxes_that_take_no_part_may_lie_anywhere(backend, name):
    """They do not cause errors or change the origin; boxes that are returned unchanged keep their values."""
    if not runs(backend, name) or not (backend.has_dtype("int64") and backend.has_dtype("float64")):
        pytest.skip(f"{backend} does not run {name} with int64")
    op, xywh = LEAVE_OUT[name], "xywh" in name
    boxes, far = np.concatenate([NEAR, NEAR[:1]]), np.array([2**62, -(2**62), 2**62 + 9, 2**60])
    scores, real = np.float32([0.1, *SCORES[1:], 0.1]), np.array([False, *[True] * 4, False])
    given = boxes if xywh else boxes + 3
    given[[0, 5]] = far
    ids = np.array([-1, 0, 0, 0, 0, 1])
    want = op(np.where(real[:, None], given, 0).astype(float), scores, real, ids)
    got = op(*map(backend.asarray, (given, scores, real, ids)))
    got, want = (x if isinstance(x, tuple) else (x,) for x in (got, want))
    for x, y in zip(map(backend.to_numpy, got), want, strict=True):
        part = slice(None)
        if name == "weighted_cluster_nms_boxes" and x.ndim == 2:
            np.testing.assert_array_equal(x[[0, 5]], given[[0, 5]].astype(x.dtype))
            part = slice(1, 5)
        np.testing.assert_allclose(x[part], y[part], rtol=2e-6)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "uint16", "uint8"])
def test_scores_are_integers(backend, dtype):
    """Ranked and compared with thresholds as integers, even if they are equal in the default float."""
    if not backend.has_dtype(dtype) or (dtype == "uint64" and not backend.has_dtype("int64")):
        pytest.skip(f"{backend} has no {dtype}")
    if why := anyops.support()["nms"].why_not("eager", backend.value):
        pytest.skip(why)
    most = min(np.iinfo(dtype).max - 8, 2**24) if "64" not in dtype else 2**53
    scores = np.array([most, most + 1, most + 2, 3, 1]).astype(dtype)
    asarray = __import__("torch").tensor if backend.library == "torch" else backend.asarray
    boxes, s = asarray(np.float32(NEAR + np.arange(5)[:, None] * 20)), asarray(scores)

    def numbers(x):
        return backend.to_numpy(x).tolist()

    assert numbers(anyops.nms(boxes, s)) == [2, 1, 0, 3, 4]
    assert numbers(anyops.nms(boxes, s, score_threshold=most)) == [2, 1]
    assert numbers(anyops.nms(boxes, s, score_threshold=2.5)) == [2, 1, 0, 3]
    assert numbers(anyops.nms(boxes, s, score_threshold=1e30)) == []
    assert numbers(anyops.nms_groups(boxes, s, score_threshold=most)) == [-1, 1, 2, -1, -1]
    assert numbers(anyops.fast_nms(boxes, s, score_threshold=most)) == [2, 1]
    found = anyops.top_scores(s, 3, score_threshold=most)
    assert (numbers(found.indices), numbers(found.valid)) == ([2, 1, 0], [True, True, False])
    same = asarray(np.stack([NEAR[0]] * 5).astype(np.float32))
    assert numbers(anyops.nms(same, s)) == [2]
    assert numbers(anyops.nms_mask(same, s)) == [False, False, True, False, False]
    for op in (anyops.soft_nms, anyops.matrix_nms, anyops.cluster_nms):
        assert numbers(op(same, s).indices)[0] == 2, op
    if backend.library == "jax":
        jax = pytest.importorskip("jax")
        assert numbers(jax.jit(anyops.nms_mask)(same, s)) == [False, False, True, False, False]
        found = jax.jit(lambda s: anyops.top_scores(s, 3, score_threshold=most))(s)
        assert (numbers(found.indices), numbers(found.valid)) == ([2, 1, 0], [True, True, False])
    elif backend is Backend.TORCH_CPU:
        vmap = pytest.importorskip("torch").func.vmap
        for op in (anyops.nms_mask, anyops.fast_nms_mask):
            assert numbers(vmap(op)(same[None, :2], s[None, :2])) == [[False, True]], op


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_whole_thresholds_are_integers(backend, dtype):
    if why := anyops.support()["nms"].why_not("eager", backend.value):
        pytest.skip(why)
    if not (backend.has_dtype("int64") and backend.has_dtype("float64")):
        pytest.skip(f"{backend} has no {dtype}")
    asarray = __import__("torch").tensor if backend.library == "torch" else backend.asarray
    boxes = asarray(np.float32([[0, 0, 1, 1], [5, 5, 6, 6]]))
    scores = asarray(np.array([2**53 + 1, 2**53 + 2]).astype(dtype))
    assert backend.to_numpy(anyops.nms(boxes, scores, score_threshold=2**53 + 1)).tolist() == [1]
    found = anyops.top_scores(scores, 2, score_threshold=2**53 + 1)
    assert backend.to_numpy(found.valid).tolist() == [True, False]


def test_thresholds_of_unsigned_scores_in_jax():
    jnp = pytest.importorskip("jax").numpy
    scores = jnp.asarray(np.array([1, 4 * 10**9], np.uint32))
    found = anyops.top_scores(scores, 2, score_threshold=3e9)
    assert found.valid.tolist() == [True, False]
    boxes, labels = jnp.asarray(NEAR[:2]), jnp.zeros(2, int)
    found = anyops.weighted_boxes_fusion_padded(boxes, scores, labels, score_threshold=3e9)
    assert found.valid.tolist() == [True, False]
    assert anyops.soft_nms_scores(boxes, scores, score_threshold=3e9).tolist() == [0, 4e9]


@pytest.mark.parametrize(
    "ids", [np.array([2**63, 2**63 + 1], np.uint64), np.array([2**63 - 1] * 2), np.array([10**9, 3])]
)
def test_model_ids_that_count_no_models_are_refused(ids):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    with pytest.raises(ValueError, match="model_ids must be below 1048576"):
        anyops.weighted_boxes_fusion(boxes, np.float32([0.9, 0.8]), np.array([0, 0]), model_ids=ids)
