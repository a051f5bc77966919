import itertools

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Transform, dtype_name

KINDS = reference.KINDS
DEGENERATE = [[0, 0, 2, 2], [0, 0, 0, 0], [1, 1, 1, 3], [2, 2, 0, 0], [5, 5, 9, 9], [2, 0, 4, 2]]


@pytest.mark.op("box_iou_loss")
def test_under_every_transform(run):
    a, b = scenes.boxes(6), scenes.boxes(6, seed=1)
    want = [1 - reference.overlap(p, q, "giou") for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(run(anyops.box_iou_loss, a, b), want, atol=2e-6)


@pytest.mark.op("box_iou_loss", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kind", KINDS)
def test_values(run, kind):
    a, b = scenes.boxes(6), scenes.boxes(6, seed=1)
    want = np.array([1 - reference.overlap(p, q, kind) for p, q in zip(a, b, strict=True)])
    np.testing.assert_allclose(run(anyops.box_iou_loss, a, b, kind=kind), want, atol=2e-6)


@pytest.mark.op("box_iou_loss", transforms=(Transform.EAGER, Transform.JIT))
def test_reductions(run):
    a, b = scenes.boxes(6).reshape(2, 3, 4), scenes.boxes(6, seed=1).reshape(2, 3, 4)
    each = run(anyops.box_iou_loss, a, b)
    assert each.shape == (2, 3)
    np.testing.assert_allclose(run(anyops.box_iou_loss, a, b, reduction="sum"), each.sum(), rtol=1e-6)
    np.testing.assert_allclose(run(anyops.box_iou_loss, a, b, reduction="mean"), each.mean(), rtol=1e-6)
    nothing = a[:0]
    assert run(anyops.box_iou_loss, nothing, nothing).shape == (0, 3)
    assert run(anyops.box_iou_loss, nothing, nothing, reduction="mean") == 0


@pytest.mark.op("box_iou_loss", transforms=(Transform.EAGER,))
def test_dtypes(run, backend):
    boxes = np.array([[0, 0, 200, 200], [5, 5, 9, 9]], np.uint8)
    got = run.raw(anyops.box_iou_loss, boxes, boxes)
    assert dtype_name(got) == backend.default("real floating")
    np.testing.assert_array_equal(backend.to_numpy(got), [0, 0])
    if backend.has_dtype("float16"):  # 3000 losses of 1 + 7/9, whose sum in float16 would stop at 2048
        a, b = np.tile(np.float16([0, 0, 1, 1]), (3000, 1)), np.tile(np.float16([2, 2, 3, 3]), (3000, 1))
        got = run.raw(anyops.box_iou_loss, a, b, reduction="sum", dtype="float16")
        assert dtype_name(got) == "float16"
        np.testing.assert_allclose(backend.to_numpy(got), 3000 * 16 / 9, rtol=1e-3)


@pytest.mark.op("box_iou_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("kind", KINDS)
def test_gradient(backend, transform, kind):
    a, b = scenes.boxes(3, dtype=np.float64, extent=4), scenes.boxes(3, seed=5, dtype=np.float64, extent=4)
    (got,) = backend.gradient(lambda p: anyops.box_iou_loss(p, backend.asarray(b), kind=kind), a)
    want, h = np.zeros(a.shape), 1e-6
    for i in np.ndindex(a.shape):
        alpha = reference.ciou_alpha(a[i[0]], b[i[0]])
        plus, minus = a[i[0]].copy(), a[i[0]].copy()
        plus[i[1]] += h
        minus[i[1]] -= h
        values = [reference.overlap(p, b[i[0]], kind, alpha=alpha) for p in (plus, minus)]
        want[i] = (values[1] - values[0]) / (2 * h)
    np.testing.assert_allclose(got, want, atol=1e-7 if got.dtype == np.float64 else 1e-5)


@pytest.mark.op("box_iou_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("kind", ["iou", "giou", "ciou"])
def test_gradient_is_finite_at_degenerate_and_identical_boxes(backend, transform, kind):
    a, b = (np.float32(side) for side in zip(*itertools.product(DEGENERATE, repeat=2), strict=True))
    f = lambda p, q: anyops.box_iou_loss(p, q, kind=kind, reduction="mean")  # noqa: E731
    assert all(np.all(np.isfinite(g)) for g in backend.gradient(f, a, b))


@pytest.mark.parametrize("kind", ["iou", "probiou"])
def test_a_rotated_box_learns_to_be_another(kind):
    """Adam on centre, sides and angle, from a box that overlaps by less than a quarter."""
    torch = pytest.importorskip("torch")
    target = torch.asarray([10.0, 5.0, 8.0, 3.0, 35.0], dtype=torch.float64)
    box = torch.asarray([8.0, 4.0, 6.0, 4.0, 10.0], dtype=torch.float64, requires_grad=True)
    assert anyops.box_iou(box.detach(), target, pairwise=False, fmt="cxcywhr") < 0.25
    optimizer = torch.optim.Adam([box], lr=0.1)
    for _ in range(250):
        optimizer.zero_grad()
        anyops.box_iou_loss(box, target, kind=kind, fmt="cxcywhr").backward()
        optimizer.step()
    assert anyops.box_iou(box.detach(), target, pairwise=False, fmt="cxcywhr") > 0.95
