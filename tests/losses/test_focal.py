import importlib
import warnings

import numpy as np
import pytest

import anyops
from tests import reference
from tests.backends import Backend, Transform, compile_fullgraph, dtype_name, tolerance

EAGER_AND_JIT = (Transform.EAGER, Transform.JIT)
GAMMAS = (0, 0.5, 1, 2, 5)
EXTREME = np.array([-1e4, -100, -37.3, -3, -1e-3, 0, 1e-3, 3, 37.3, 100, 1e4])
TARGETS = (0, 1, 0.3, 1e-9)  # for the last one 1 − 2t = 1 in float32, although it is not hard

# Every logit with every target
X, T = (a.ravel() for a in np.meshgrid(EXTREME, TARGETS))


def expected(x, t, alpha=None, gamma=2):
    return np.array(
        [
            reference.value(lambda v, u=u: reference.sigmoid_focal(v, u, alpha, gamma), w)
            for w, u in zip(x, t, strict=True)
        ]
    )


def expected_slope(x, t, alpha=None, gamma=2, order=1):
    return np.array(
        [
            reference.slope(lambda v, u=u: reference.sigmoid_focal(v, u, alpha, gamma), w, order)
            for w, u in zip(x, t, strict=True)
        ]
    )


def skip_without_float64(backend):
    if not backend.has_dtype("float64"):
        pytest.skip(f"{backend} has no float64")


# --- two classes -----------------------------------------------------------------------------------------------------


@pytest.mark.op("sigmoid_focal_loss")
def test_values_under_every_transform(run):
    x, t = np.float32([[-3, 0, 2], [5, -8, 1]]), np.float32([[0, 1, 1], [0, 1, 0.25]])
    got = run(anyops.sigmoid_focal_loss, x, t)
    assert got.shape == x.shape
    np.testing.assert_allclose(got.ravel(), expected(x.ravel(), t.ravel(), 0.25, 2), rtol=4e-6)


@pytest.mark.op("sigmoid_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_extreme_logits_to_the_last_digits(run, backend, gamma, alpha):
    skip_without_float64(backend)
    loss, grad = run(anyops.sigmoid_focal_loss_and_grad, X, T, alpha=alpha, gamma=gamma)
    # A power of a number near 1 loses as many digits as γ has; numbers that underflow are 0 in some libraries.
    np.testing.assert_allclose(loss, expected(X, T, alpha, gamma), rtol=2e-14, atol=1e-290)
    np.testing.assert_allclose(grad, expected_slope(X, T, alpha, gamma), rtol=2e-14, atol=1e-290)


@pytest.mark.op("sigmoid_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("gamma", [0.5, 2])
def test_extreme_logits_in_float32(run, gamma):
    x, t = np.float32(X), np.float32(T)
    loss, grad = run(anyops.sigmoid_focal_loss_and_grad, x, t, gamma=gamma)
    np.testing.assert_allclose(loss, expected(x, t, 0.25, gamma), rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(grad, expected_slope(x, t, 0.25, gamma), rtol=1e-5, atol=1e-37)


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.EAGER,))
def test_nearly_hard_targets_are_soft(run):
    """1 − 2t rounds to 1 in float32, but −37.3 t is not small compared with e^−37.3."""
    x, t = np.full(3, -37.3, np.float32), np.full(3, 1e-9, np.float32)
    np.testing.assert_allclose(run(anyops.sigmoid_focal_loss, x, t, gamma=1), expected(x, t, 0.25, 1), rtol=1e-5)


@pytest.mark.op("sigmoid_focal_loss", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gamma_0_is_cross_entropy_to_the_last_bit(backend, run, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    x, t = np.array(np.linspace(-9, 9, 73), dtype), np.array(np.arange(73) % 2, dtype)

    def cross_entropy(x, t):
        xp = backend.xp
        z = xp.where(t == 0, x, -x)
        return xp.maximum(z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z)))

    got = run(anyops.sigmoid_focal_loss, x, t, alpha=None, gamma=0)
    np.testing.assert_array_equal(got, run(cross_entropy, x, t))


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("gamma", [*GAMMAS, 1.5])
def test_autodiff_equals_the_closed_form(backend, transform, gamma):
    skip_without_float64(backend)
    for t in (T, (T > 0.5).astype(np.float64)):
        (got,) = backend.gradient(lambda x, t=t: anyops.sigmoid_focal_loss(x, backend.asarray(t), gamma=gamma), X)
        _, want = anyops.sigmoid_focal_loss_and_grad(X, t, gamma=gamma)
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("gamma", GAMMAS)
def test_float32_autodiff_is_finite_at_extremes(backend, transform, gamma):
    x, t = np.float32(X), np.float32(T)
    (got,) = backend.gradient(lambda x: anyops.sigmoid_focal_loss(x, backend.asarray(t), gamma=gamma), x)
    np.testing.assert_allclose(got, expected_slope(x, t, 0.25, gamma), rtol=2e-5, atol=1e-6)


def second_derivatives(backend, f, x):
    """Second derivatives of an elementwise function, by jax.hessian or by two backward passes."""
    if backend.library == "jax":
        jax = importlib.import_module("jax")
        return np.array(jax.jit(jax.vmap(jax.hessian(f)))(*map(backend.asarray, x)))
    torch = importlib.import_module("torch")
    x, *rest = map(backend.asarray, x)
    x.requires_grad_()
    (first,) = torch.autograd.grad(f(x, *rest).sum(), x, create_graph=True)
    return backend.to_numpy(torch.autograd.grad(first.sum(), x)[0])


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("gamma", [*GAMMAS, 1.5])
def test_second_derivatives(backend, transform, gamma):
    got = second_derivatives(backend, lambda x, t: anyops.sigmoid_focal_loss(x, t, gamma=gamma), (X, T))
    want = expected_slope(X, T, 0.25, gamma, order=2)
    np.testing.assert_allclose(got, want, atol=1e-10 if got.dtype == np.float64 else 1e-5)


# Forward mode compiles decompositions with torch.jit.script, which torch has deprecated
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_derivative_in_torch_transforms():
    """Equal through torch.func, in forward mode, with a graph of the backward pass, and under no_grad."""
    torch = pytest.importorskip("torch")
    x, t = torch.tensor(EXTREME), torch.tensor(np.arange(11) % 2)
    f = lambda v: anyops.sigmoid_focal_loss(v, t, gamma=2)  # noqa: E731
    want = anyops.sigmoid_focal_loss_and_grad(x, t).dlogits
    one = torch.ones_like(x)
    torch.testing.assert_close(torch.func.grad(lambda v: f(v).sum())(x), want)
    torch.testing.assert_close(torch.func.jvp(f, (x,), (one,))[1], want)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, one)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(f(dual)).tangent, want)
    x.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(f(x).sum(), x, create_graph=True)[0].detach(), want)
    with torch.no_grad():
        assert not f(x).requires_grad
    soft = torch.full_like(x, 0.3).requires_grad_()  # learnable targets
    y = anyops.sigmoid_focal_loss(x, soft, alpha=None, gamma=0).sum()
    torch.testing.assert_close(torch.autograd.grad(y, soft)[0], -x.detach())
    small = torch.tensor([-2.0, -0.5, 0.0, 1.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: anyops.sigmoid_focal_loss(v, t[:4], gamma=1.5), small)
    assert torch.autograd.gradgradcheck(lambda v: anyops.sigmoid_focal_loss(v, t[:4], gamma=1.5), small)


@pytest.mark.parametrize("make", [lambda rng: rng.random(200_000) < 0.1, lambda rng: rng.random(200_000)])
def test_tiles_do_not_show(make):
    """Many tiles, some with and some without soft targets or logits beyond the cap."""
    rng = np.random.default_rng(0)
    x, t = (rng.normal(size=200_000) * 3).astype(np.float32), make(rng).astype(np.float32)
    x[150_000], t[:70_000] = 200, np.rint(t[:70_000])
    whole, grad = anyops.sigmoid_focal_loss_and_grad(x.reshape(400, 500), t.reshape(400, 500))
    assert whole.shape == grad.shape == (400, 500)
    np.testing.assert_array_equal(whole, anyops.sigmoid_focal_loss(x, t).reshape(400, 500))
    for part in (slice(0, 50), slice(65_500, 65_600), slice(149_990, 150_010), slice(199_900, None)):
        np.testing.assert_allclose(whole.ravel()[part], expected(x[part], t[part], 0.25), rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(grad.ravel()[part], expected_slope(x[part], t[part], 0.25), rtol=1e-5, atol=1e-37)


def test_pieces_of_torch_do_not_show():
    """With and without the slope, with and without a graph."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, t = (rng.normal(size=300_000) * 3).astype(np.float32), rng.random(300_000).astype(np.float32)
    x[150_000], t[:140_000] = 200, np.rint(t[:140_000])
    logits, targets = torch.tensor(x, requires_grad=True), torch.tensor(t)
    loss = anyops.sigmoid_focal_loss(logits, targets)
    loss.sum().backward()
    whole, grad = anyops.sigmoid_focal_loss_and_grad(logits.detach(), targets)
    alone = anyops.sigmoid_focal_loss(logits.detach(), targets)
    for part in (slice(0, 50), slice(131_000, 131_100), slice(149_990, 150_010), slice(299_900, None)):
        want, slope = expected(x[part], t[part], 0.25), expected_slope(x[part], t[part], 0.25)
        for found in (loss.detach(), whole, alone):
            np.testing.assert_allclose(found[part], want, rtol=1e-5, atol=1e-37)
        for found in (logits.grad, grad):
            np.testing.assert_allclose(found[part], slope, rtol=1e-5, atol=1e-37)


def test_strided_input():
    x, t = EXTREME.repeat(2).reshape(11, 2).T, np.ones((2, 11))
    np.testing.assert_array_equal(anyops.sigmoid_focal_loss(x, t), anyops.sigmoid_focal_loss(x.copy(), t))


@pytest.mark.op("sigmoid_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(run, backend, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    x, t = np.float32([-8, -1, 0, 0.5, 8, 100]), np.float32([0, 1, 1, 0, 1, 0])
    loss, grad = run.raw(anyops.sigmoid_focal_loss_and_grad, x, t, dtype=dtype)
    assert dtype_name(loss) == dtype_name(grad) == dtype
    half_an_ulp = {"float16": 2**-11, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(backend.to_numpy(loss), expected(x, t, 0.25), rtol=half_an_ulp * 1.01, atol=1e-7)
    np.testing.assert_allclose(backend.to_numpy(grad), expected_slope(x, t, 0.25), rtol=half_an_ulp * 1.01, atol=1e-7)
    mean = run.raw(anyops.sigmoid_focal_loss, np.repeat(x, 3000), np.repeat(t, 3000), reduction="mean", dtype=dtype)
    np.testing.assert_allclose(backend.to_numpy(mean), expected(x, t, 0.25).mean(), rtol=half_an_ulp * 1.01)


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.EAGER,))
def test_dtypes(run, backend):
    x, t = np.array([-2, 0, 3], np.int32), np.array([0, 1, 1])
    default = backend.default("real floating")
    for targets in (t, t.astype(bool), t.astype(np.uint8)):
        got = run.raw(anyops.sigmoid_focal_loss, x, targets)
        assert dtype_name(got) == default
        np.testing.assert_allclose(backend.to_numpy(got), expected(x, t, 0.25), rtol=tolerance(default))
        # options are Python numbers, and promote nothing
        assert dtype_name(run.raw(anyops.sigmoid_focal_loss, x.astype(np.float32), targets, alpha=0.3)) == "float32"
    if backend.has_dtype("float64"):
        f = lambda x: anyops.sigmoid_focal_loss_and_grad(x, backend.asarray(t.astype(np.float64)))  # noqa: E731
        loss, grad = run.raw(f, x.astype(np.float32))
        assert (dtype_name(loss), dtype_name(grad)) == ("float64", "float32")


@pytest.mark.op("sigmoid_focal_loss_and_grad", transforms=EAGER_AND_JIT)
def test_reductions(run):
    x, t = np.float32([[-3, 0, 2], [5, -8, 1]]), np.float32([[0, 1, 1], [0, 1, 0]])
    each, slopes = run(anyops.sigmoid_focal_loss_and_grad, x, t)
    for reduction, scale in (("sum", 1), ("mean", 1 / 6)):
        loss, grad = run(anyops.sigmoid_focal_loss_and_grad, x, t, reduction=reduction)
        assert loss.shape == ()
        np.testing.assert_allclose(loss, each.sum() * scale, rtol=1e-6)
        np.testing.assert_allclose(grad, slopes * scale, rtol=1e-6)
        np.testing.assert_allclose(run(anyops.sigmoid_focal_loss, x, t, reduction=reduction), loss, rtol=1e-6)


@pytest.mark.op("sigmoid_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_empty_and_scalar(run, shape):
    x = np.zeros(shape, np.float32)
    for reduction in ("none", "sum", "mean"):
        loss, grad = run(anyops.sigmoid_focal_loss_and_grad, x, x, reduction=reduction, alpha=None, gamma=1)
        assert grad.shape == shape
        want = np.full(shape if reduction == "none" else (), 0.5 * np.log(2) if shape == () else 0)
        np.testing.assert_allclose(loss, want, rtol=1e-6)


@pytest.mark.op("sigmoid_focal_loss", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("gamma", [3, 17, 1e6])
def test_large_gamma(run, gamma):
    x, t = np.float32([-2, 0, 3, 30]), np.float32([0, 1, 0, 0])
    got = run(anyops.sigmoid_focal_loss, x, t, gamma=gamma)
    np.testing.assert_allclose(got, expected(x, t, 0.25, gamma), rtol=1e-4, atol=1e-37)


@pytest.mark.op("sigmoid_focal_loss", transforms=EAGER_AND_JIT)
def test_nan_stays_where_it_is(run):
    x, t = np.float32([1, np.nan, 2, 3]), np.float32([0, 1, np.nan, 1])
    np.testing.assert_array_equal(np.isnan(run(anyops.sigmoid_focal_loss, x, t)), [False, True, True, False])


# --- many classes ----------------------------------------------------------------------------------------------------

LOGITS = np.concatenate(
    [
        np.random.default_rng(0).normal(size=(4, 4)) * 3,
        [[100, 0, 0, 1], [0, 100, 0, 0], [1e4, -1e4, 3, 0], [0, 0, 0, 0], [50, 50, 0, -50], [-100, -100, -100, 40]],
    ]
)
LABELS = np.array([0, 1, 2, 3, 0, 2, 1, 2, 0, 3])


def onehot(labels, smoothing=0.0, classes=4):
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


def expected_many(x, t, alpha=None, gamma=2):
    alpha = [1] * x.shape[-1] if alpha is None else [alpha] * x.shape[-1] if np.isscalar(alpha) else alpha
    return np.array(
        [
            reference.value(lambda *v, u=u: reference.softmax_focal(v, u, alpha, gamma), *w)
            for w, u in zip(x, t, strict=True)
        ]
    )


def expected_slopes_many(x, t, gamma=2):
    def along(row, target, j):
        def f(v):
            full = [reference.mpf(float(r)) for r in row]
            full[j] = v
            return reference.softmax_focal(full, target, [1] * len(row), gamma)

        return reference.slope(f, row[j])

    return np.array([[along(row, target, j) for j in range(len(row))] for row, target in zip(x, t, strict=True)])


@pytest.mark.op("softmax_focal_loss")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_many_classes_under_every_transform(run, smoothing):
    x, y = np.float32(LOGITS[:4]), LABELS[:4]
    got = run(anyops.softmax_focal_loss, x, y, label_smoothing=smoothing)
    np.testing.assert_allclose(got, expected_many(x, onehot(y, smoothing)), rtol=1e-5)


@pytest.mark.op("softmax_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_many_classes_to_the_last_digits(run, backend, gamma, smoothing):
    skip_without_float64(backend)
    loss, grad = run(anyops.softmax_focal_loss_and_grad, LOGITS, LABELS, gamma=gamma, label_smoothing=smoothing)
    t = onehot(LABELS, smoothing)
    np.testing.assert_allclose(loss, expected_many(LOGITS, t, gamma=gamma), rtol=1e-13, atol=1e-290)
    np.testing.assert_allclose(grad, expected_slopes_many(LOGITS, t, gamma=gamma), rtol=1e-12, atol=1e-16)
    soft = run(anyops.softmax_focal_loss_and_grad, LOGITS, t, gamma=gamma)
    for got, want in zip(soft, (loss, grad), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-16)


@pytest.mark.op("softmax_focal_loss", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("level", [0.0, 104.0, -1e4, 1e4, -1e6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_common_level_of_the_logits_does_not_show(run, level, smoothing):
    """The logarithm of the sum must not be rounded beside a large common level, which would leave 4 of 7 digits."""
    x = np.float32([[0, 0, 0], [0, 1, -1], [2, 0, 0]])
    got = run(anyops.softmax_focal_loss, x + np.float32(level), np.array([2, 0, 1]), label_smoothing=smoothing)
    want = [
        reference.value(lambda *v, t=onehot: reference.softmax_focal(v, t, [1] * 3, 2), *row)
        for row, onehot in zip(x, (1 - smoothing) * np.eye(3)[[2, 0, 1]] + smoothing / 3, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.op("softmax_focal_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_autodiff_of_many_classes(backend, transform, gamma, smoothing):
    options = {"gamma": gamma, "label_smoothing": smoothing, "alpha": [0.5, 1, 2, 0.25]}
    f = lambda x, y: anyops.softmax_focal_loss(x, y, **options)  # noqa: E731
    (got,) = backend.gradient(lambda x: f(x, backend.asarray(LABELS)), LOGITS)
    _, want = anyops.softmax_focal_loss_and_grad(LOGITS, LABELS, **options)
    exact = got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-10 if exact else 1e-4, atol=1e-12 if exact else 1e-5)
    if backend.library == "jax":
        jax = importlib.import_module("jax")
        hessian = jax.jit(jax.vmap(jax.hessian(f)))(backend.asarray(LOGITS), backend.asarray(LABELS))
        assert np.all(np.isfinite(hessian))


@pytest.mark.op("softmax_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize(("axis", "smoothing"), [(0, 0.0), (-3, 0.1)])
def test_any_axis(run, axis, smoothing):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, x.shape[axis], np.delete(x.shape, axis))
    options = {"alpha": np.arange(1, x.shape[axis] + 1), "label_smoothing": smoothing}
    loss, grad = run(anyops.softmax_focal_loss_and_grad, x, y, axis=axis, **options)
    flat = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    wanted, slopes = anyops.softmax_focal_loss_and_grad(flat, y.ravel(), **options)
    assert (loss.shape, grad.shape) == (y.shape, x.shape)
    np.testing.assert_allclose(loss.ravel(), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.moveaxis(grad, axis, -1).reshape(flat.shape), slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.op("softmax_focal_loss", transforms=EAGER_AND_JIT)
def test_alpha(run):
    weights = [0.1, 0.5, 2.0, 1.0]
    x, y = np.float32(LOGITS[:4]), LABELS[:4]
    np.testing.assert_allclose(
        run(anyops.softmax_focal_loss, x, y, alpha=0.25), expected_many(x, onehot(y), 0.25), rtol=1e-5
    )
    for smoothing in (0.0, 0.1):
        want = expected_many(x, onehot(y, smoothing), weights)
        for alpha in (weights, tuple(weights), np.array(weights)):
            got = run(anyops.softmax_focal_loss, x, y, alpha=alpha, label_smoothing=smoothing)
            np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.op("softmax_focal_loss_and_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize(("index", "smoothing"), [(-100, 0.1), (1, 0.0)])
def test_ignored_items_are_not_there(run, index, smoothing):
    x, y = np.float32(LOGITS[:4]), LABELS[:4].copy()
    y[1], x[1] = index, np.nan
    options = {"ignore_index": index, "label_smoothing": smoothing}
    kept = [0, 2, 3]
    for reduction in ("none", "sum", "mean"):
        loss, grad = run(anyops.softmax_focal_loss_and_grad, x, y, reduction=reduction, **options)
        wanted, slopes = run(
            anyops.softmax_focal_loss_and_grad, x[kept], y[kept], reduction=reduction, label_smoothing=smoothing
        )
        np.testing.assert_allclose(loss[kept] if reduction == "none" else loss, wanted, rtol=1e-6)
        np.testing.assert_allclose(grad[kept], slopes, rtol=1e-6)
        np.testing.assert_array_equal(grad[1], 0)
    all_ignored = run(anyops.softmax_focal_loss, x[1:2], y[1:2], reduction="mean", **options)
    assert all_ignored == 0


@pytest.mark.op("softmax_focal_loss_and_grad")
def test_label_that_there_is_not(run, backend, transform):
    x, y = np.float32(LOGITS[:4]), np.array([0, 4, -1, 3])
    if backend.library in ("numpy", "strict"):
        with pytest.raises(ValueError, match=r"labels must be in \[0, 3\].*got (4|-1)"):
            run(anyops.softmax_focal_loss_and_grad, x, y)
        return
    got = run.backend.asarray(x), run.backend.asarray(y)
    for smoothing in (0.0, 0.1):
        loss, grad = (
            run.backend.to_numpy(a) for a in anyops.softmax_focal_loss_and_grad(*got, label_smoothing=smoothing)
        )
        np.testing.assert_array_equal(np.isnan(loss), [False, True, True, False])
        np.testing.assert_array_equal(np.isnan(grad).all(axis=1), [False, True, True, False])


@pytest.mark.op("softmax_focal_loss_and_grad", transforms=EAGER_AND_JIT)
def test_impossible_and_single_classes(run):
    inf = np.inf
    x = np.float32([[-inf, 1, 2], [-inf, 1, -inf], [0, -inf, 0]])
    loss, grad = run(anyops.softmax_focal_loss_and_grad, x, np.array([2, 1, 2]))
    two, slopes = run(anyops.softmax_focal_loss_and_grad, np.float32([[1, 2], [0, 0]]), np.array([1, 1]))
    np.testing.assert_allclose(loss, [two[0], 0, two[1]], rtol=1e-6)
    np.testing.assert_allclose(grad, [[0, *slopes[0]], [0, 0, 0], [slopes[1, 0], 0, slopes[1, 1]]], rtol=1e-6)
    soft, dsoft = run(anyops.softmax_focal_loss_and_grad, x[[0, 2]], np.float32([[0, 0, 1], [0, 0, 1]]))
    np.testing.assert_allclose(soft, two, rtol=1e-6)
    np.testing.assert_allclose(dsoft, grad[[0, 2]], rtol=1e-5, atol=1e-7)
    for smoothing in (0.0, 0.1):
        one, done = run(
            anyops.softmax_focal_loss_and_grad, np.float32([[3], [-3]]), np.array([0, 0]), label_smoothing=smoothing
        )
        np.testing.assert_array_equal(one, [0, 0])
        np.testing.assert_array_equal(done, [[0], [0]])


@pytest.mark.op("softmax_focal_loss", transforms=(Transform.EAGER,))
def test_labels_of_every_integer_dtype(run, backend):
    x, want = np.float32(LOGITS[:4]), expected_many(np.float32(LOGITS[:4]), onehot(LABELS[:4]))
    for dtype in ("uint8", "int8", "int32", "int64", "uint32"):
        if backend.has_dtype(dtype):
            got = run(anyops.softmax_focal_loss, x, LABELS[:4].astype(dtype))
            np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("axis", [1, -1])
def test_tiles_of_rows_do_not_show(axis):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40_000, 4)).astype(np.float32), rng.integers(0, 4, 40_000)
    if axis == 1:
        x, y = np.ascontiguousarray(x.reshape(400, 100, 4).transpose(0, 2, 1)), y.reshape(400, 100)
    loss, grad = anyops.softmax_focal_loss_and_grad(x, y, axis=axis)
    some = (slice(-3, None),)
    few, slopes = anyops.softmax_focal_loss_and_grad(x[some], y[some], axis=axis)
    np.testing.assert_array_equal(loss[some], few)
    np.testing.assert_array_equal(grad[some], slopes)


# --- what compiles, and where it runs --------------------------------------------------------------------------------


def test_no_transfer_to_or_from_the_host():
    jax = pytest.importorskip("jax")
    with Backend.JAX_CPU.active():
        x, y = Backend.JAX_CPU.asarray(np.float32(LOGITS)), Backend.JAX_CPU.asarray(LABELS)
        t = jax.nn.one_hot(y, 4)
        calls = [
            jax.jit(lambda x, t: anyops.sigmoid_focal_loss_and_grad(x, t, reduction="mean")),
            jax.jit(jax.grad(lambda x, t: anyops.sigmoid_focal_loss(x, t, reduction="mean"))),
        ]
        many = jax.jit(lambda x, y: anyops.softmax_focal_loss_and_grad(x, y, ignore_index=1, label_smoothing=0.1))
        anyops.sigmoid_focal_loss(x, t)  # array-api-compat makes an array to recognise the first one of JAX
        with jax.transfer_guard("disallow"):
            for call in calls:
                jax.block_until_ready(call(x, t))
            jax.block_until_ready(many(x, y))
            jax.block_until_ready(anyops.sigmoid_focal_loss(x, t))


def test_no_synchronisation_on_a_gpu():
    if why := Backend.TORCH_CUDA.why_unavailable():
        pytest.skip(f"NOT TESTED: torch:gpu ({why})")
    torch = importlib.import_module("torch")
    x, y = Backend.TORCH_CUDA.asarray(np.float32(LOGITS)), Backend.TORCH_CUDA.asarray(LABELS)
    t, state = Backend.TORCH_CUDA.asarray(onehot(LABELS, 0.1).astype(np.float32)), (x[0] * 0, x[0] * 0 + 1)
    leaf = x.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype feature")
        torch.cuda.set_sync_debug_mode("error")
    try:
        anyops.sigmoid_focal_loss_and_grad(x, t, reduction="mean")
        anyops.sigmoid_focal_loss(leaf, t, reduction="sum").backward()
        anyops.softmax_focal_loss_and_grad(x, y, ignore_index=1, label_smoothing=0.1, reduction="mean")
        anyops.batch_norm(x, *state, training=True, sample_weight=y)
        anyops.batch_norm_grad(x, x, sample_weight=y)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.COMPILE,))
def test_inductor(backend, transform):
    x, t = np.float32(LOGITS), np.float32(onehot(LABELS, 0.1))
    got = compile_fullgraph(anyops.sigmoid_focal_loss, "inductor")(*map(backend.asarray, (x, t)))
    np.testing.assert_allclose(
        backend.to_numpy(got).ravel(), expected(x.ravel(), t.ravel(), 0.25), rtol=1e-5, atol=1e-37
    )


def sigmoid_by_definition(x, t, gamma):
    """The definition for float64 arrays, to be differentiated by differences; x is moderate."""
    p = 1 / (1 + np.exp(-x))
    ce = t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x))
    return (0.25 * t + 0.75 * (1 - t)) * (p + t - 2 * p * t) ** gamma * ce


def softmax_by_definition(x, t, alpha, gamma):
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    return (-t * alpha * (1 - p) ** gamma * np.log(p)).sum()


def differences(f, x, step=1e-6):
    found = np.zeros(x.size)
    for i in range(x.size):
        move = np.zeros(x.size)
        move[i] = step
        move = move.reshape(x.shape)
        found[i] = (f(x + move) - f(x - move)) / (2 * step)
    return found.reshape(x.shape)


@pytest.mark.op("sigmoid_focal_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 1.5, 2, 3])
@pytest.mark.parametrize("targets", [[1, 0, 0, 1], [1, 1, 1, 1], [0.5, 0, 0.25, 1], [0.5, 0.5, 0.75, 0.25]], ids=str)
def test_gradient_by_the_targets(run, backend, gamma, targets):
    """Even if all targets are 0 or 1, and so look hard by their values."""
    x, t = np.array([0.5, -1, 2, 0]), np.array(targets, float)
    want = differences(lambda t: sigmoid_by_definition(x, t, gamma).sum(), t)
    logits, given = x.astype(np.float32), t.astype(np.float32)
    (got,) = backend.gradient(
        lambda t: anyops.sigmoid_focal_loss(backend.asarray(logits), t, gamma=gamma, reduction="sum"), given
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


@pytest.mark.op("softmax_focal_loss", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
@pytest.mark.parametrize("targets", [[0, 1, 0], [0, 0.5, 0.5], [0, 0, 0], [0.2, 0.3, 0.5]], ids=str)
@pytest.mark.parametrize("weights", [[1, 1, 1], [0, 2, 0]], ids=str)
def test_gradient_by_probabilities_and_weights_that_are_0(run, backend, gamma, targets, weights):
    x, t, alpha = np.array([[10.0, 1, -2]]), np.array([targets], float), np.array(weights, float)
    by_t = differences(lambda t: softmax_by_definition(x, t, alpha, gamma), t)
    by_alpha = differences(lambda alpha: softmax_by_definition(x, t, alpha, gamma), alpha)

    def loss(t, alpha):
        logits = backend.asarray(x.astype(np.float32))
        return anyops.softmax_focal_loss(logits, t, alpha=alpha, gamma=gamma, reduction="sum")

    got = backend.gradient(loss, t.astype(np.float32), alpha.astype(np.float32))
    np.testing.assert_allclose(got[0], by_t, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got[1], by_alpha, rtol=1e-4, atol=1e-6)


def test_a_negative_alpha_is_told_what_to_write():
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\] or None, got -1; None leaves it out$"):
        anyops.sigmoid_focal_loss(np.zeros(2), np.ones(2), alpha=-1)
