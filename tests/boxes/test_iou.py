import itertools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, compile_fullgraph, dtype_name

KINDS = reference.KINDS
INF, NAN = np.inf, np.nan


@pytest.mark.op("box_iou")
@pytest.mark.parametrize("kind", KINDS)
def test_all_to_all(run, kind):
    a, b = scenes.boxes(6), scenes.boxes(5, seed=1)
    np.testing.assert_allclose(run(anyops.box_iou, a, b, kind=kind), reference.pairwise(a, b, kind), atol=2e-6)


@pytest.mark.op("box_iou")
def test_one_to_all(run):
    a, b = scenes.boxes(), scenes.boxes(5, seed=1)
    want = [reference.overlap(a, q, "ciou") for q in b]
    np.testing.assert_allclose(run(anyops.box_iou, a, b, kind="ciou", pairwise=False), want, atol=2e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", KINDS)
def test_float64(run, backend, kind):
    if not backend.has_dtype("float64"):
        pytest.skip(f"{backend} has no float64")
    a, b = scenes.boxes(6, dtype=np.float64), scenes.boxes(5, seed=1, dtype=np.float64)
    got = run(anyops.box_iou, a, b, kind=kind)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, reference.pairwise(a, b, kind), atol=1e-13)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("shape1", "shape2"), [((), ()), ((), (5,)), ((5,), ()), ((5,), (5,)), ((2, 1), (1, 3)), ((0,), (0,)), ((0,), ())]
)
def test_one_to_one_and_one_to_all(run, shape1, shape2):
    a, b = scenes.boxes(*shape1), scenes.boxes(*shape2, seed=1)
    wide_a, wide_b = np.broadcast_arrays(a, b)
    for kind in ("iou", "ciou"):
        want = [
            reference.overlap(p, q, kind) for p, q in zip(wide_a.reshape(-1, 4), wide_b.reshape(-1, 4), strict=True)
        ]
        got = run(anyops.box_iou, a, b, kind=kind, pairwise=False)
        assert got.shape == wide_a.shape[:-1]
        np.testing.assert_allclose(got, np.reshape(want, got.shape), atol=2e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("shape1", "shape2", "result"),
    [
        ((2, 3), (2, 4), (2, 3, 4)),
        ((2, 1, 3), (5, 4), (2, 5, 3, 4)),
        ((2, 3), (4,), (2, 3, 4)),
        ((3,), (2, 4), (2, 3, 4)),
        ((2, 0), (2, 4), (2, 0, 4)),
        ((0, 3), (0, 4), (0, 3, 4)),
        ((0,), (4,), (0, 4)),
        ((3,), (0,), (3, 0)),
        ((0,), (0,), (0, 0)),
    ],
)
def test_batches(run, backend, shape1, shape2, result):
    a, b = scenes.boxes(*shape1), scenes.boxes(*shape2, seed=1)
    got = run(anyops.box_iou, a, b, kind="giou")
    assert got.shape == result
    assert dtype_name(got) == "float32"
    lanes = result[:-2]
    wide_a, wide_b = np.broadcast_to(a, (*lanes, *a.shape[-2:])), np.broadcast_to(b, (*lanes, *b.shape[-2:]))
    for lane in np.ndindex(lanes):
        np.testing.assert_allclose(got[lane], reference.pairwise(wide_a[lane], wide_b[lane], "giou"), atol=2e-6)


SMALL = [0, 0, 1, 1]
# box1, box2, iou, iof, ios, giou, diou, ciou
PAIRS = [
    ([0, 0, 2, 2], [0, 0, 2, 2], 1, 1, 1, 1, 1, 1),
    ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 4, 1 / 4, 1 / 7 - 2 / 9, 1 / 7 - 1 / 9, 1 / 7 - 1 / 9),
    ([0, 0, 4, 4], [1, 1, 3, 3], 1 / 4, 1 / 4, 1, 1 / 4, 1 / 4, 1 / 4),
    ([1, 1, 3, 3], [0, 0, 4, 4], 1 / 4, 1, 1, 1 / 4, 1 / 4, 1 / 4),
    (SMALL, [1, 0, 2, 1], 0, 0, 0, 0, -1 / 5, -1 / 5),  # a shared side
    (SMALL, [1, 1, 2, 2], 0, 0, 0, -1 / 2, -1 / 4, -1 / 4),  # a shared corner
    (SMALL, [9, 9, 10, 10], 0, 0, 0, -98 / 100, -162 / 200, -162 / 200),
    ([-2, -2, -1, -1], [1, 1, 2, 2], 0, 0, 0, -14 / 16, -18 / 32, -18 / 32),
    ([0, 0, 0, 4], [0, 0, 2, 4], 0, 0, 0, 0, -1 / 20, None),  # no width
    ([1, 1, 1, 1], [0, 0, 2, 2], 0, 0, 0, 0, 0, None),  # a point
    ([1, 1, 1, 1], [1, 1, 1, 1], 0, 0, 0, 0, 0, 0),
    ([0, 0, 0, 4], [0, 0, 0, 4], 0, 0, 0, 0, 0, 0),
    ([0, 0, 0, 0], [3, 4, 3, 4], 0, 0, 0, -1, -1, -1),
    ([2, 2, 0, 0], [0, 0, 2, 2], 0, 0, 0, None, None, None),  # inverted
    ([2, 0, 0, 2], [2, 0, 0, 2], 0, 0, 0, None, None, None),
    ([2, 2, 0, 0], [2, 2, 0, 0], 0, 0, 0, None, None, None),
    (SMALL, [0, 0, NAN, 1], NAN, NAN, NAN, NAN, NAN, NAN),
    ([NAN, 5, 1, 1], [50, 50, 51, 51], NAN, NAN, NAN, NAN, NAN, NAN),  # inverted and far, still NaN
    ([0, NAN, 0, 1], [0, 0, 0, 0], NAN, NAN, NAN, NAN, NAN, NAN),
    (SMALL, [-INF, -INF, INF, INF], 0, 1, 1, None, None, None),
    ([-INF, -INF, INF, INF], [-INF, -INF, INF, INF], 0, 0, 0, None, None, None),
    ([0, 0, INF, 1], [5, 0, INF, 1], 0, 0, 0, None, None, None),
    ([INF, INF, INF, INF], [0, 0, 1, 1], 0, 0, 0, None, None, None),
    ([0, 2, INF, 2], [0, 0, 4, 4], 0, 0, 0, None, None, None),
    ([INF, 0, -INF, 4], [0, 0, 4, 4], 0, 0, 0, None, None, None),
    ([-3e38, -3e38, 3e38, 3e38], [-3e38, -3e38, 3e38, 3e38], 0, 0, 0, None, None, None),  # overflow in float32
    ([0, 0, 1e-30, 1e-30], [0, 0, 1e-30, 1e-30], 0, 0, 0, None, None, None),  # underflow in float32
]


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairwise", [True, False])
def test_special_pairs(run, kind, pairwise):
    a, b = (np.array(column, np.float32) for column in list(zip(*PAIRS, strict=True))[:2])
    want = [row[2 + KINDS.index(kind)] for row in PAIRS]
    got = run(anyops.box_iou, a, b, kind=kind, pairwise=pairwise)
    if pairwise:
        nan1, nan2 = np.isnan(a).any(axis=1), np.isnan(b).any(axis=1)
        np.testing.assert_array_equal(np.isnan(got), nan1[:, None] | nan2)
        got = np.diagonal(got)
    for row, value, expected in zip(PAIRS, got, want, strict=True):
        if expected is None:
            assert -2 <= value <= 1, row  # no published value, only the range of the measure
        else:
            np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=str(row))


def test_table_agrees_with_the_reference():
    for a, b, *wants in PAIRS:
        for kind, want in zip(KINDS, wants, strict=True):
            if want is not None and not {3e38, 1e-30} & set(a):
                np.testing.assert_allclose(reference.overlap(a, b, kind), want, atol=1e-12, err_msg=f"{a} {b} {kind}")


@pytest.mark.parametrize("kind", ["iou", "iof", "ios", "giou", "diou"])
def test_references_agree(kind):
    boxes = scenes.boxes(20, dtype=np.float64)
    rows = np.stack([reference.overlap_row(b, boxes, kind) for b in boxes])
    np.testing.assert_allclose(rows, reference.pairwise(boxes, boxes, kind), atol=1e-14)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
def test_random_degenerate_pairs(run):
    rng = np.random.default_rng(0)
    a, b = (rng.choice(np.float32([-2, -1, 0, 1, 2, 4]), (60, 4)) for _ in "ab")
    for kind in ("iou", "iof", "ios"):
        np.testing.assert_allclose(run(anyops.box_iou, a, b, kind=kind), reference.pairwise(a, b, kind), atol=1e-6)
    for kind in ("giou", "diou", "ciou"):
        got = run(anyops.box_iou, a, b, kind=kind)
        assert np.all(np.isfinite(got))
        proper = np.array([reference.side(*p[::2]) * reference.side(*p[1::2]) > 0 for p in (*a, *b)])
        i, j = np.nonzero(proper[:60])[0], np.nonzero(proper[60:])[0]
        np.testing.assert_allclose(got[np.ix_(i, j)], reference.pairwise(a[i], b[j], kind), atol=1e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("dtype", "boxes"),
    [
        ("uint8", [[200, 200, 250, 255], [10, 10, 240, 240], [250, 250, 10, 10]]),
        ("int8", [[-100, -100, 100, 100], [-128, -128, 127, 127]]),
        ("int32", [[0, 0, 50_000, 50_000], [25_000, 0, 75_000, 50_000], [-50_000, -50_000, 0, 0]]),
        ("int64", [[0, 0, 50_000, 50_000], [25_000, 0, 75_000, 50_000]]),
    ],
)
def test_integers_become_floats_first(run, backend, dtype, boxes):
    boxes = np.array(boxes, dtype)
    for kind in ("iou", "ciou") if backend.library in ("jax", "dask") else KINDS:  # slow: compiled or lazy
        got = run(anyops.box_iou, boxes, boxes, kind=kind)
        assert dtype_name(got) == backend.default("real floating")
        np.testing.assert_allclose(got, reference.pairwise(boxes, boxes, kind), atol=1e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32(run, backend, dtype, kind):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    # Small integers are exact in both; sums of areas up to 240² overflow float16, and bfloat16 has 8 bits.
    boxes = np.float32([[0, 0, 240, 240], [16, 8, 248, 240], [100, 100, 228, 228], [0, 0, 3, 3], [250, 250, 252, 255]])
    got = run.raw(anyops.box_iou, boxes, boxes, kind=kind, dtype=dtype)
    assert dtype_name(got) == dtype
    want = reference.pairwise(boxes, boxes, kind)
    half_an_ulp = {"float16": 2**-11, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(backend.to_numpy(got), want, rtol=half_an_ulp * 1.01, atol=1e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("int32", "float32"), ("uint8", "float64")])
def test_mixed_dtypes_promote(backend, transform, dtypes):
    """Integers count as the default float: the result is float64 if that is the default, or the other dtype."""
    if not all(map(backend.has_dtype, dtypes)):
        pytest.skip(f"{backend} has not both of {dtypes}")
    a, b = (backend.asarray(np.array([[1, 2, 5, 9]], d)) for d in dtypes)
    got = anyops.box_iou(a, b)
    wide = "float64" in dtypes or (dtypes[0] != "float32" and backend.default("real floating") == "float64")
    assert dtype_name(got) == ("float64" if wide else "float32")
    np.testing.assert_array_equal(backend.to_numpy(got), [[1]])


def test_large_results_need_no_temporaries_of_n_m_2():
    a, b = scenes.boxes(1000), scenes.boxes(1000, seed=1)
    result = 1000 * 1000 * 4
    tracemalloc.start()
    anyops.box_iou(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * result  # corners and sides of all pairs as (N, M, 2) alone are 6 results


@pytest.mark.op("box_iou", transforms=(Transform.COMPILE,))
def test_inductor(backend, transform):
    a, b = scenes.boxes(6), scenes.boxes(5, seed=1)
    got = compile_fullgraph(lambda p, q: anyops.box_iou(p, q, kind="ciou"), "inductor")(*map(backend.asarray, (a, b)))
    np.testing.assert_allclose(backend.to_numpy(got), reference.pairwise(a, b, "ciou"), atol=2e-6)


def finite_differences(a, b, kind, h=1e-5):
    """Central differences of the reference, with CIoU's α constant."""

    def f(p, q):
        return sum(
            reference.overlap(x, y, kind, alpha=reference.ciou_alpha(x0, y0)) for x, x0 in zip(p, a, strict=True)
            for y, y0 in zip(q, b, strict=True)
        )  # fmt: skip

    grads = []
    for which, boxes in enumerate((a, b)):
        grad = np.zeros(boxes.shape)
        for i in np.ndindex(boxes.shape):
            step = np.zeros(boxes.shape)
            step[i] = h
            plus, minus = ((boxes + s, b) if which == 0 else (a, boxes + s) for s in (step, -step))
            grad[i] = (f(*plus) - f(*minus)) / (2 * h)
        grads.append(grad)
    return grads


@pytest.mark.op("box_iou")
@pytest.mark.parametrize("kind", ["diou", "ciou"])
def test_inverted_far_beyond_what_encloses_it(run, kind):
    boxes = np.array([[1e30, 1e10, 1e10, 1e10], [1e10, 1e10, 1e10, 1e10]], np.float32)
    got = run(anyops.box_iou, boxes, np.zeros((1, 4), np.float32), kind=kind)
    np.testing.assert_allclose(got, [[0], [-1]], rtol=1e-6)


@pytest.mark.op("box_iou", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairwise", [True, False])
def test_gradient(backend, transform, kind, pairwise):
    a, b = scenes.boxes(3, dtype=np.float64, extent=4), scenes.boxes(3, seed=5, dtype=np.float64, extent=4)
    got = backend.gradient(lambda p, q: anyops.box_iou(p, q, kind=kind, pairwise=pairwise), a, b)
    if pairwise:
        want = finite_differences(a, b, kind)
    else:
        pairs = [finite_differences(p[None], q[None], kind) for p, q in zip(a, b, strict=True)]
        want = [np.concatenate([pair[i] for pair in pairs]) for i in (0, 1)]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-7 if g.dtype == np.float64 else 1e-5)


@pytest.mark.op("box_iou", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_is_finite_at_kinks(backend, transform, kind, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    if backend is Backend.JAX_X64 and dtype == "float32":
        pytest.skip("jax:cpu computes the same")
    boxes = {tuple(box) for a, b, *_ in PAIRS for box in (a, b) if np.all(np.abs(box) < 1e9)} | {(0, 0, 1e4, 1e-4)}
    a, b = (np.array(side, dtype) for side in zip(*itertools.product(sorted(boxes), repeat=2), strict=True))
    value = anyops.box_iou(*map(backend.asarray, (a, b)), kind=kind, pairwise=False)
    assert np.all(np.isfinite(backend.to_numpy(value)))
    grads = backend.gradient(lambda p, q: anyops.box_iou(p, q, kind=kind, pairwise=False), a, b)
    for pair in zip(a, b, *grads, strict=True):
        assert np.all(np.isfinite(pair)), pair
    if backend.library == "jax" and kind != "ciou":
        return  # each shape takes seconds to compile; gradients of the largest kernel by pairs are tested too
    grads = backend.gradient(lambda p, q: anyops.box_iou(p, q, kind=kind), a[::7], b[:: len(boxes)])
    assert all(np.all(np.isfinite(g)) for g in grads)


GRADIENTS = [
    (
        "box_area",
        anyops.box_area,
        lambda b: [b[:, 1] - b[:, 3], b[:, 0] - b[:, 2], b[:, 3] - b[:, 1], b[:, 2] - b[:, 0]],
    ),
    (
        "box_convert",
        lambda b: anyops.box_convert(b, "xyxy", "xywh"),
        lambda b: [b[:, 0] * 0] * 2 + [b[:, 0] * 0 + 1] * 2,
    ),
    ("clip_boxes", lambda b: anyops.clip_boxes(b, (7, 9)), lambda b: ((b > 0) & (b < [9, 7, 9, 7])).T),
]


@pytest.mark.parametrize(("op", "want"), [pytest.param(*row[1:], id=row[0]) for row in GRADIENTS])
@pytest.mark.op("box_area", transforms=(Transform.GRAD,))
def test_gradient_of_formats(backend, transform, op, want):
    boxes = scenes.boxes(8)
    (got,) = backend.gradient(op, boxes)
    np.testing.assert_allclose(got, np.stack(want(boxes), 1), atol=1e-5)


@pytest.mark.op("box_area", transforms=(Transform.GRAD,))
def test_gradient_of_area_is_finite_at_kinks(backend, transform):
    boxes = np.float32([[0, 0, 0, 0], [1, 2, 1, 5], [3, 3, 1, 1], [2, 0, 1, 4]])
    (got,) = backend.gradient(anyops.box_area, boxes)
    assert np.all(np.isfinite(got))


@pytest.mark.op("mask_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    ("kind", "shape1", "shape2"),
    [
        ("iou", (4,), (3,)),
        ("iof", (4,), (3,)),
        ("ios", (4,), (3,)),
        ("iou", (0,), (3,)),
        ("iof", (3,), (0,)),
        ("ios", (2, 4), (2, 3)),
        ("iof", (2, 1, 4), (5, 3)),
        ("iou", (4,), (2, 3)),
    ],
)
def test_mask_iou(run, backend, kind, shape1, shape2):
    rng = np.random.default_rng(0)
    a, b = rng.random((*shape1, 6, 5)) < 0.4, rng.random((*shape2, 6, 5)) < 0.4
    a[..., :1, :, :], b[..., -1:, :, :] = False, False  # an empty mask on either side
    got = run(anyops.mask_iou, a, b, kind=kind)
    lanes = np.broadcast_shapes(shape1[:-1], shape2[:-1])
    assert got.shape == (*lanes, shape1[-1], shape2[-1])
    assert dtype_name(got) == backend.default("real floating")
    wide_a, wide_b = np.broadcast_to(a, (*lanes, *a.shape[-3:])), np.broadcast_to(b, (*lanes, *b.shape[-3:]))
    for lane in np.ndindex(lanes):
        want = [[reference.mask_overlap(p, q, kind) for q in wide_b[lane]] for p in wide_a[lane]]
        np.testing.assert_allclose(got[lane], np.reshape(want, got[lane].shape), rtol=1e-6)


@pytest.mark.op("mask_iou")
def test_mask_iou_under_every_transform(run):
    a, b = (np.random.default_rng(seed).random((n, 6, 5)) < 0.4 for seed, n in ((0, 4), (1, 3)))
    want = [[reference.mask_overlap(p, q, "ios") for q in b] for p in a]
    np.testing.assert_allclose(run(anyops.mask_iou, a, b, kind="ios"), want, rtol=1e-6)


@pytest.mark.op("mask_iou", transforms=(Transform.EAGER,))
def test_pixels_of_large_masks_are_counted_exactly(run):
    masks = np.ones((2, 5000, 3400), bool)  # 17 million pixels, more than float32 can count exactly
    masks[1, :, ::2] = False
    masks[1, 0, 0] = True
    want = [[reference.mask_overlap(p, q) for q in masks] for p in masks]
    np.testing.assert_allclose(run(anyops.mask_iou, masks, masks), want, rtol=2e-7)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(
    "backend_pair", list(itertools.combinations((Backend.NUMPY, Backend.TORCH_CPU, Backend.JAX_CPU), 2))
)
def test_backends_agree(backend_pair):
    first, second = backend_pair
    if why := first.why_unavailable() or second.why_unavailable():
        pytest.skip(why)
    a, b = scenes.boxes(40), scenes.boxes(40, seed=1)
    got = [x.to_numpy(anyops.box_iou(x.asarray(a), x.asarray(b), kind="ciou")) for x in backend_pair]
    np.testing.assert_allclose(*got, atol=1e-6)


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0, 1e4, 4.5e6])
def test_far_from_the_origin(run, kind, offset):
    """Overlaps do not change if boxes are moved together and stay exact in float32."""
    a = np.float32([[0.5, 0, 2, 3], [0, 0, 4, 4], [1, 1, 2, 2]])
    b = np.float32([[1, 0, 2.5, 3], [8, 8, 9.5, 9], [0.5, 0.5, 1.5, 3.5]])
    assert ((a + np.float32(offset)).astype(np.float64) == a.astype(np.float64) + offset).all()
    got = run(anyops.box_iou, a + np.float32(offset), b + np.float32(offset), kind=kind)
    np.testing.assert_allclose(got, reference.pairwise(a, b, kind), atol=1e-6)


def test_nms_by_the_distance_far_from_the_origin():
    boxes = np.float32([[0.5, 0, 2, 3], [1, 0, 2.5, 3]])
    for offset in (0, 4.5e6):
        moved, scores = boxes + np.float32(offset), np.float32([0.9, 0.8])
        assert anyops.nms(moved, scores, 0.45, kind="diou").tolist() == [0]
        assert anyops.nms_mask(moved, scores, 0.45, kind="diou").tolist() == [True, False]


@pytest.mark.op("mask_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("side", [4096, 4100])
def test_unions_of_more_pixels_than_float32_counts(run, backend, side):
    if not backend.is_fast:
        pytest.skip("millions of pixels are too many for a reference implementation")
    masks = np.ones((2, side, side), bool)
    masks[0, 1, :2] = masks[1, 0, :3] = False
    got = run(anyops.mask_iou, masks[:1], masks[1:])[0, 0]
    # Only the result is rounded.
    assert got == got.dtype.type(side**2 - 5) / got.dtype.type(side**2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1e-18, 1e-19, 3e-20, 1e-20, 1e-22])
def test_gradients_of_boxes_whose_area_is_subnormal(kind, side):
    torch = pytest.importorskip("torch")
    for target in ([side / 2, 0, side * 1.5, side], [0, 0, side, side], [5, 5, 6, 6]):
        pred = torch.tensor([0, 0, side, side], requires_grad=True)
        anyops.box_iou_loss(pred, torch.tensor(target), kind=kind).backward()
        assert torch.isfinite(pred.grad).all(), target


@pytest.mark.op("box_iou", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_whole_numbers_that_floats_do_not_hold(run, backend, kind, dtype):
    if not backend.has_dtype(dtype) or (backend.library == "torch" and dtype == "uint32"):
        pytest.skip(f"{backend} has no {dtype}, or no arithmetic of it")
    near = np.array([[0, 0, 1, 1], [0, 0, 3, 2], [1, 0, 4, 2], [2, 2, 2, 5]])
    far = (near + 2**24 + 1).astype(dtype)
    want = reference.pairwise(near.astype(float), near.astype(float), kind)
    np.testing.assert_allclose(run(anyops.box_iou, far, far, kind=kind), want, atol=2e-6)
