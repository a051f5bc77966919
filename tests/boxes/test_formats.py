import itertools

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Transform, dtype_name, tolerance

INF, NAN = np.inf, np.nan


@pytest.mark.op("box_area")
@pytest.mark.parametrize("shape", [(), (5,), (0,), (2, 3), (2, 0)])
def test_area(run, shape):
    boxes = scenes.boxes(*shape)
    want = np.array([reference.box_area(b) for b in boxes.reshape(-1, 4)]).reshape(shape)
    got = run(anyops.box_area, boxes)
    assert got.shape == shape
    np.testing.assert_allclose(got, want, rtol=4e-6)


@pytest.mark.op("box_area")
def test_area_of_odd_boxes(run):
    table = [
        ([1, 2, 4, 8], 18),
        ([-3, -2, -1, -1], 2),
        ([1, 2, 1, 8], 0),
        ([4, 2, 1, 8], 0),
        ([4, 8, 1, 2], 0),
        ([NAN, 2, 1, 8], NAN),
        ([0, 0, 1, NAN], NAN),
        ([5, NAN, 1, 8], NAN),
        ([0, 0, INF, 1], INF),
        ([-INF, -INF, INF, INF], INF),
        ([0, 3, INF, 3], 0),
        ([INF, 0, INF, 1], 0),
        ([INF, 0, -INF, 1], 0),
    ]
    boxes, want = zip(*table, strict=True)
    np.testing.assert_array_equal(run(anyops.box_area, np.array(boxes, np.float32)), np.array(want, np.float32))


FORMATS = ("xyxy", "xywh", "cxcywh", "yxyx")


@pytest.mark.op("box_convert", transforms=(Transform.EAGER,))
@pytest.mark.parametrize(("in_fmt", "out_fmt"), list(itertools.product(FORMATS, FORMATS)))
def test_convert(run, in_fmt, out_fmt):
    boxes = scenes.boxes(2, 3, dtype=np.float64)
    given = np.apply_along_axis(reference.box_convert, -1, boxes, "xyxy", in_fmt).astype(np.float32)
    want = np.apply_along_axis(reference.box_convert, -1, boxes, "xyxy", out_fmt)
    np.testing.assert_allclose(run(anyops.box_convert, given, in_fmt, out_fmt), want, rtol=1e-5, atol=1e-5)


@pytest.mark.op("box_convert")
@pytest.mark.parametrize("shape", [(), (0,), (4,)])
def test_convert_shapes(run, shape):
    boxes = scenes.boxes(*shape)
    want = [reference.box_convert(b, "xyxy", "cxcywh") for b in boxes.reshape(-1, 4)]
    got = run(anyops.box_convert, boxes, "xyxy", "cxcywh")
    np.testing.assert_allclose(got, np.reshape(want, (*shape, 4)), rtol=1e-6)


@pytest.mark.op("clip_boxes")
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3)])
def test_clip(run, shape):
    boxes = scenes.boxes(*shape)
    np.testing.assert_array_equal(run(anyops.clip_boxes, boxes, (6, 9)), np.clip(boxes, 0, np.float32([9, 6, 9, 6])))


@pytest.mark.op("clip_boxes", transforms=(Transform.EAGER,))
def test_clip_of_odd_boxes(run):
    table = [
        ([-1, -2, 3, 4], [0, 0, 3, 4]),
        ([-9, -8, -3, -4], [0, 0, 0, 0]),
        ([50, 60, 70, 80], [20, 10, 20, 10]),
        ([0, 0, 20, 10], [0, 0, 20, 10]),
        ([-INF, 1, INF, INF], [0, 1, 20, 10]),
        ([NAN, 1, 30, NAN], [NAN, 1, 20, NAN]),
    ]
    boxes, want = (np.array(column, np.float32) for column in zip(*table, strict=True))
    np.testing.assert_array_equal(run(anyops.clip_boxes, boxes, (10, 20)), want)


def masks(n, h=6, w=5, seed=0):
    m = np.random.default_rng(seed).random((n, h, w)) < 0.15
    m[::3] = False
    return m


@pytest.mark.op("masks_to_boxes")
@pytest.mark.parametrize("shape", [(7, 6, 5), (0, 6, 5), (1, 1, 1), (4, 1, 9)])
def test_masks_to_boxes(run, backend, shape):
    given = masks(*shape)
    want = np.array([reference.mask_box(m) for m in given]).reshape(-1, 4)
    got = run(anyops.masks_to_boxes, given)
    np.testing.assert_array_equal(got, want)
    assert dtype_name(got) == backend.default("real floating")


@pytest.mark.op("masks_to_boxes")
def test_masks_that_fill_a_corner(run):
    given = np.zeros((4, 3, 5), bool)
    given[0, 0, 0] = given[1, 2, 4] = given[2] = True
    np.testing.assert_array_equal(
        run(anyops.masks_to_boxes, given), [[0, 0, 0, 0], [4, 2, 4, 2], [0, 0, 4, 2], [0, 0, 0, 0]]
    )


@pytest.mark.parametrize(
    ("op", "args"), [(anyops.box_area, ()), (anyops.box_convert, ("xyxy", "xywh")), (anyops.clip_boxes, ((70, 90),))]
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.op("box_area", transforms=(Transform.EAGER, Transform.JIT, Transform.COMPILE))
def test_floating_dtype_comes_back(run, backend, op, args, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    boxes = np.array([[1, 2, 65, 66], [-4, 3, 12, 99]], np.float32)  # exact in every dtype
    got = run.raw(op, boxes, *args, dtype=dtype)
    assert dtype_name(got) == dtype
    want = backend.to_numpy(op(backend.asarray(boxes), *args))
    np.testing.assert_allclose(backend.to_numpy(got), want, rtol=tolerance(dtype))


@pytest.mark.op("box_area", transforms=(Transform.EAGER,))
def test_half_precision_area_is_computed_in_float32(run, backend):
    if not backend.has_dtype("float16"):
        pytest.skip(f"{backend} has no float16")
    boxes = np.float16([[2.825, 1.8625, 3.9, 4.85], [0, 0, 200, 200], [-60000, 0, 60000, 1e-4]])
    with np.errstate(over="ignore"):
        want = np.array([reference.box_area(b) for b in boxes]).astype(np.float16)
    np.testing.assert_array_equal(run(anyops.box_area, boxes), want)


@pytest.mark.parametrize(
    "call",
    [
        (anyops.box_area, (), reference.box_area),
        (anyops.box_convert, ("xywh", "xyxy"), lambda b: reference.box_convert(b, "xywh", "xyxy")),
        (anyops.box_convert, ("xyxy", "xyxy"), list),
        (anyops.clip_boxes, ((100, 60_000),), lambda b: np.clip(b, 0, [60_000, 100, 60_000, 100])),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "boxes"),
    [
        ("int8", [[-100, -100, 100, 100], [100, 100, 120, 127]]),
        ("uint8", [[200, 200, 250, 255], [250, 10, 200, 90]]),
        ("int16", [[-30_000, 0, 30_000, 3]]),
        ("uint16", [[10, 10, 60_000, 60_000]]),
        ("int32", [[0, 0, 50_000, 50_000]]),
        ("int64", [[0, 0, 50_000, 50_000]]),
    ],
)
@pytest.mark.op("box_area", transforms=(Transform.EAGER,))
def test_integers_become_floats_first(run, backend, call, dtype, boxes):
    op, args, want = call
    got = run(op, np.array(boxes, dtype), *args)
    assert dtype_name(got) == backend.default("real floating")
    np.testing.assert_allclose(got, np.array([want(b) for b in boxes]), rtol=1e-6)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_corners_of_16_bit_masks_are_not_rounded(library, dtype):
    xp = pytest.importorskip(library)
    if library == "numpy" and dtype == "bfloat16":
        pytest.skip("numpy has no bfloat16")
    mask = xp.zeros((1, 3, 1100), dtype=getattr(xp, dtype)) + 1
    assert anyops.masks_to_boxes(mask).tolist() == [[0, 0, 1099, 2]]
    assert str(anyops.masks_to_boxes(mask).dtype).endswith("float32")
    assert str(anyops.masks_to_boxes(mask[:0]).dtype).endswith("float32")


@pytest.mark.op("box_area", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_sides_of_whole_numbers_that_floats_do_not_hold(run, backend, dtype):
    if not backend.has_dtype(dtype) or (backend.library == "torch" and dtype == "uint32"):
        pytest.skip(f"{backend} has no {dtype}, or no arithmetic of it")
    boxes = (np.array([[0, 0, 1, 1], [0, 0, 3, 2], [5, 1, 4, 2]]) + 2**24).astype(dtype)
    assert run(anyops.box_area, boxes).tolist() == [1, 6, 0]
    for in_fmt, given in (("xyxy", boxes), ("yxyx", boxes[:, [1, 0, 3, 2]])):
        for out_fmt in ("xywh", "cxcywh"):
            assert run(anyops.box_convert, given[:2], in_fmt, out_fmt)[:, 2:].tolist() == [[1, 1], [3, 2]]
