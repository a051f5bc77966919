"""Sample weights of losses, against the definition in float64; values of items of weight 0 have no effect."""

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Transform

RNG = np.random.default_rng(3)
X = (RNG.normal(size=(5, 3)) * 3).astype(np.float32)
HARD, SOFT = (RNG.random((5, 3)) < 0.4).astype(np.float32), RNG.random((5, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0])
A, B = scenes.boxes(5), scenes.boxes(5, seed=1)
TURNED = np.concatenate([B, np.float32([[0], [30], [60], [-10], [45]])], axis=1)
P = np.float32([0.5, 1, 3])
W = np.float32([1, 0, 2.5, 0.25, 0])  # two items are ignored


def sigmoid(x, t, p=(1, 1, 1)):
    return np.array(
        [
            [reference.value(lambda v, u=u, q=q: reference.sigmoid_focal(v, u, 0.25, 2, q), z) for z, u, q in row]
            for row in np.stack([x, t, np.broadcast_to(p, x.shape)], axis=-1)
        ]
    )


def softmax(x, t):
    losses = [lambda *v, u=u: reference.softmax_focal(v, u, [1] * 3, 2) for u in t]
    return np.array([reference.value(loss, *z) for loss, z in zip(losses, x, strict=True)])


def one(op):
    """The loss without the gradient."""
    return lambda *args, **options: op(*args, **options)[0]


OF_LABELS = softmax(X, np.eye(3)[LABELS])
GIOU = np.array([1 - reference.overlap(p, q, "giou") for p, q in zip(A, B, strict=True)])
# The op, its arrays, and the loss of each item by the definition
CASES = {
    "sigmoid_focal_loss": (anyops.sigmoid_focal_loss, (X, HARD), sigmoid(X, HARD)),
    "sigmoid_focal_loss, soft": (anyops.sigmoid_focal_loss, (X, SOFT), sigmoid(X, SOFT)),
    "sigmoid_focal_loss_and_grad": (one(anyops.sigmoid_focal_loss_and_grad), (X, SOFT), sigmoid(X, SOFT)),
    "softmax_focal_loss": (anyops.softmax_focal_loss, (X, LABELS), OF_LABELS),
    "softmax_focal_loss, soft": (anyops.softmax_focal_loss, (X, SOFT), softmax(X, SOFT)),
    "softmax_focal_loss_and_grad": (one(anyops.softmax_focal_loss_and_grad), (X, LABELS), OF_LABELS),
    "box_iou_loss": (anyops.box_iou_loss, (A, B), GIOU),
}
BY_CASE = pytest.mark.parametrize(
    "case", [pytest.param(c, id=name, marks=pytest.mark.op(name.partition(",")[0])) for name, c in CASES.items()]
)


def of_rows(weights, each):
    """Weights in a shape that broadcasts to the losses."""
    return weights.reshape(-1, *(1,) * (each.ndim - 1))


def expected(each, weights, reduction):
    weighed = each * weights
    return {"none": weighed, "sum": weighed.sum(), "mean": weighed.sum() / np.broadcast_to(weights, each.shape).sum()}[
        reduction
    ]


@BY_CASE
def test_under_every_transform(run, case):
    op, arrays, each = case
    w = of_rows(W, each)
    got = run(lambda *a: op(*a[:-1], reduction="mean", sample_weight=a[-1]), *arrays, w)
    np.testing.assert_allclose(got, expected(each, w, "mean"), rtol=1e-5)


EAGER = pytest.mark.calls(Transform.EAGER)


@BY_CASE
@EAGER
def test_weights_of_every_kind(run, backend, case):
    op, arrays, each = case
    rows = of_rows(W, each)
    for weights, reduction in (
        (rows > 0, "mean"),
        ((rows * 4).astype(np.int32), "sum"),
        (np.ascontiguousarray(np.broadcast_to(rows, each.shape)), "none"),
    ):
        got = run(op, *arrays, reduction=reduction, sample_weight=weights)
        np.testing.assert_allclose(got, expected(each, weights * 1.0, reduction), rtol=1e-5, atol=1e-7)
    assert run(op, *arrays, reduction="mean", sample_weight=rows * 0) == 0
    if backend.library != "dask":  # dask has no maximum of no rows
        assert run(op, *(a[:0] for a in arrays), reduction="mean", sample_weight=rows[:0]) == 0


@BY_CASE
@EAGER
def test_a_negative_weight(run, backend, case):
    op, arrays, each = case
    weights = of_rows(np.float32([1, -2, 1, 1, 1]), each)
    if backend.library in ("numpy", "strict"):
        with pytest.raises(ValueError, match="sample_weight must be at least 0, got -2"):
            run(op, *arrays, sample_weight=weights)
    else:
        lost = np.isnan(run(op, *arrays, sample_weight=weights)).reshape(5, -1)
        np.testing.assert_array_equal(lost.any(axis=1), [False, True, False, False, False])


GARBAGE = [np.nan, np.inf, -np.inf, 3e38]


def spoiled(arrays, value):
    """Fill items of weight 0 with a value in floating arrays, and with an invalid label in others."""
    found = []
    for given in arrays:
        a = given.copy()
        a[1], a[4] = (value, -value) if a.dtype.kind == "f" else (-1, 77)
        found.append(a)
    return found


@BY_CASE
@EAGER
@pytest.mark.parametrize("value", GARBAGE)
def test_what_does_not_count_may_hold_anything(run, case, value):
    op, arrays, each = case
    w = of_rows(W, each)
    for reduction in ("none", "mean"):
        got = run(op, *spoiled(arrays, value), reduction=reduction, sample_weight=w)
        np.testing.assert_allclose(got, expected(each, w, reduction), rtol=1e-5, atol=1e-7)


OF_LOSSES = {name: case for name, case in CASES.items() if "and_grad" not in name}


@pytest.mark.calls(Transform.GRAD)
@pytest.mark.parametrize("case", OF_LOSSES.values(), ids=OF_LOSSES)
def test_no_gradient_meets_what_does_not_count(backend, transform, case):
    op, arrays, each = case

    def slopes(x, *rest, reduction):
        rest, w = map(backend.asarray, rest), backend.asarray(of_rows(W, each))
        return backend.gradient(lambda x: op(x, *rest, reduction=reduction, sample_weight=w), x)[0]

    want = slopes(*arrays, reduction="mean")
    assert np.all(np.any(want[W > 0] != 0, axis=1))
    for value in GARBAGE[:1] if backend.library == "jax" else GARBAGE:  # each is compiled
        got = slopes(*spoiled(arrays, value), reduction="mean")
        np.testing.assert_array_equal(got[W == 0], 0)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.calls(Transform.GRAD)
@pytest.mark.parametrize("case", OF_LOSSES.values(), ids=OF_LOSSES)
def test_slope_by_a_weight_that_is_0(backend, transform, case):
    """It is the loss of the item; needed for methods that learn sample weights."""
    op, arrays, each = case
    arrays = tuple(map(backend.asarray, arrays))
    (got,) = backend.gradient(lambda w: op(*arrays, reduction="sum", sample_weight=w), of_rows(W, each))
    np.testing.assert_allclose(got.ravel(), each.reshape(5, -1).sum(axis=1), rtol=1e-5)


REGIONS = {
    "cxcywh": B,
    "cxcywhr": TURNED,
    "segment": B[:, ::2],
    "polygon": B[:, [0, 1, 2, 1, 2, 3]].reshape(5, 3, 2),
}


@pytest.mark.parametrize("fmt", REGIONS)
def test_regions_that_do_not_count(fmt):
    """On torch, because JAX compiles each for long."""
    torch = pytest.importorskip("torch")
    given, kind = REGIONS[fmt], "iou" if fmt in ("cxcywhr", "polygon") else "giou"
    other, w = torch.tensor(given[::-1].copy()), torch.tensor(W)
    found = []
    for value in (1.0, *GARBAGE):
        x = torch.tensor(spoiled((given,), value)[0], requires_grad=True)
        losses = anyops.box_iou_loss(x, other, kind=kind, fmt=fmt, sample_weight=w)
        losses.sum().backward()
        found.append((losses.detach(), x.grad))
    torch.testing.assert_close(found[1:], found[:1] * len(GARBAGE), rtol=0, atol=0)


@pytest.mark.op("sigmoid_focal_loss_and_grad", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("targets", [HARD, HARD.astype(np.int32), SOFT], ids=["hard", "integer", "soft"])
def test_closed_form_with_weights(run, targets):
    """Loss and slope by the definition in 60 digits."""
    for pos_weight, reduction in ((P, "none"), (2.0, "mean"), (P[0], "sum"), (0.0, "mean")):
        p, w = np.broadcast_to(pos_weight, X.shape), of_rows(W, X)
        loss, slope = run(
            *(anyops.sigmoid_focal_loss_and_grad, X, targets),
            reduction=reduction,
            pos_weight=pos_weight,
            sample_weight=w,
        )
        np.testing.assert_allclose(loss, expected(sigmoid(X, targets, p), w, reduction), rtol=2e-5, atol=1e-7)
        slopes = np.array(
            [
                [reference.slope(lambda v, u=u, q=q: reference.sigmoid_focal(v, u, 0.25, 2, q), z) for z, u, q in row]
                for row in np.stack([X, targets, p], axis=-1)
            ]
        )
        over = 3 * W.sum() if reduction == "mean" else 1
        np.testing.assert_allclose(slope, slopes * w / over, rtol=2e-5, atol=1e-7)


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.EAGER, Transform.GRAD))
def test_pos_weight_far_from_0(backend, transform):
    """If one of the two terms is tiny compared with the other, or is the only one."""
    if not backend.has_dtype("float64"):
        pytest.skip(f"{backend} has no float64")
    x, t = (a.ravel() for a in np.meshgrid([-1e4, -100.0, -3, 0, 3, 100, 1e4], [0, 1, 0.3, 1e-9, 1 - 2**-40]))
    for p in (0.0, 1e-3, 7.0):
        f = lambda x, p=p: anyops.sigmoid_focal_loss(x, backend.asarray(t), gamma=1.5, pos_weight=p)  # noqa: E731
        make = {Transform.EAGER: reference.value, Transform.GRAD: reference.slope}[transform]
        want = [
            make(lambda v, u=u, p=p: reference.sigmoid_focal(v, u, 0.25, 1.5, p), z) for z, u in zip(x, t, strict=True)
        ]
        got = backend.to_numpy(f(backend.asarray(x))) if transform is Transform.EAGER else backend.gradient(f, x)[0]
        np.testing.assert_allclose(got, want, rtol=2e-13, atol=1e-50)


def test_gamma_0_is_the_cross_entropy_of_torch():
    torch = pytest.importorskip("torch")
    x, p = torch.tensor(X), torch.tensor(P)
    for t in (torch.tensor(HARD), torch.tensor(SOFT)):
        want = torch.nn.functional.binary_cross_entropy_with_logits(x, t, torch.tensor(W)[:, None], pos_weight=p)
        loss = anyops.sigmoid_focal_loss(x, t, None, 0, pos_weight=p, sample_weight=torch.tensor(W)[:, None])
        torch.testing.assert_close(loss.mean(), want)


def test_weights_of_rows_are_told_their_shape():
    logits = np.zeros((4, 12, 5), np.float32)
    hint = r"got \(4, 12\); one for each row has shape \(4, 12, 1\)$"
    with pytest.raises(ValueError, match=hint):
        anyops.sigmoid_focal_loss(logits, logits, sample_weight=np.ones((4, 12)))
    with pytest.raises(ValueError, match=r"got \(3,\)$"):
        anyops.sigmoid_focal_loss(logits, logits, sample_weight=np.ones(3))
