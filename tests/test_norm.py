import importlib
import tracemalloc

import numpy as np
import pytest

import anyops
from tests.backends import Backend, Transform, compile_fullgraph, dtype_name

EAGER_AND_JIT = (Transform.EAGER, Transform.JIT)
SHAPES = [((6, 3), 1), ((4, 3, 5), 1), ((2, 3, 4, 5), 1), ((2, 4, 5, 3), -1), ((2, 3, 2, 3, 2), 1), ((3, 7), 0)]
RNG = np.random.default_rng(0)


def moments(values, weights):
    """Σw, mean and Σw(x − mean)² of one channel by the definition, in float64."""
    count = mean = m2 = 0.0
    for x, w in zip(values, weights, strict=True):
        if w:
            count += w
            mean += w * x
    mean = mean / count if count else 0.0
    for x, w in zip(values, weights, strict=True):
        if w:
            m2 += w * (x - mean) ** 2
    return count, mean, m2


def by_channel(x, axis, weights=None):
    """(C, samples) and the weights of the samples, in float64."""
    x = np.asarray(x, np.float64)
    samples = np.delete(x.shape, axis)
    w = np.ones(samples) if weights is None else np.asarray(weights, np.float64)
    w = np.broadcast_to(w.reshape(w.shape + (1,) * (len(samples) - w.ndim)), samples)
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1), w.ravel()


def reference(x, axis, *, weight=None, bias=None, eps=1e-5, weights=None):
    """y in training, mean and biased variance, channel by channel."""
    rows, w = by_channel(x, axis, weights)
    y, means, variances = np.empty_like(rows), [], []
    for c, row in enumerate(rows):
        count, mean, m2 = moments(row, w)
        var = m2 / count if count else 0.0
        y[c] = (row - mean) / np.sqrt(var + eps) * (1 if weight is None else weight[c]) + (
            0 if bias is None else bias[c]
        )
        means.append(mean)
        variances.append(var)
    moved = np.moveaxis(np.asarray(x), axis, 0)
    return np.moveaxis(y.reshape(moved.shape), 0, axis), np.array(means), np.array(variances)


def numeric_gradient(x, axis, dy, weight, bias, weights=None, h=1e-6):
    """Central differences of Σ dy·y by x, weight and bias; samples of weight 0 are ignored."""
    _, w = by_channel(x, axis, weights)
    there = np.moveaxis(
        np.broadcast_to(w.reshape(np.delete(x.shape, axis)) > 0, (x.shape[axis], *np.delete(x.shape, axis))), 0, axis
    )
    x, dy = np.where(there, x, 0.0), np.where(there, dy, 0.0)

    def f(*arguments):
        y, _, _ = reference(arguments[0], axis, weight=arguments[1], bias=arguments[2], weights=weights)
        return float(np.sum(dy * y))

    grads = []
    for k in range(3):
        grads.append(np.zeros(np.shape((x, weight, bias)[k])))
        for i in np.ndindex(grads[k].shape):
            values = []
            for step in (h, -h):
                arguments = [np.array(a, np.float64) for a in (x, weight, bias)]
                arguments[k][i] += step
                values.append(f(*arguments))
            grads[k][i] = (values[0] - values[1]) / (2 * h)
    grads[0] = np.where(there, grads[0], 0)
    return grads


def batch(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(2, 3, shape).astype(dtype)


def channels(n, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(np.float32) for _ in range(3)] + [(rng.random(n) + 0.5).astype(np.float32)]


# --- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.op("batch_norm")
def test_training_under_every_transform(run):
    x, (weight, bias, mean, var) = batch((4, 3, 5)), channels(3)
    y, new_mean, new_var = run(anyops.batch_norm, x, mean, var, weight, bias, training=True)
    want, m, v = reference(x, 1, weight=weight, bias=bias)
    np.testing.assert_allclose(y, want, atol=5e-6)
    np.testing.assert_allclose(new_mean, 0.9 * mean + 0.1 * m, rtol=1e-5)
    np.testing.assert_allclose(new_var, 0.9 * var + 0.1 * v, rtol=1e-5)


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_any_shape_and_axis(run, shape, axis):
    x, (weight, bias, mean, var) = batch(shape), channels(shape[axis])
    options = {"axis": axis, "eps": 1e-3, "momentum": -1.0, "correction": 1}
    y, new_mean, new_var = run(anyops.batch_norm, x, mean, var, weight, None, training=True, **options)
    want, m, v = reference(x, axis, weight=weight, eps=1e-3)
    n = x.size // shape[axis]
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(new_mean, -mean + 2 * m, atol=1e-5)
    np.testing.assert_allclose(new_var, -var + 2 * v * n / (n - 1), rtol=1e-5, atol=1e-5)
    y, same_mean, same_var = run(anyops.batch_norm, x, mean, var, None, bias, **options)
    at = [1] * len(shape)
    at[axis] = -1
    mean_, var_, bias_ = (a.astype(np.float64).reshape(at) for a in (mean, var, bias))
    np.testing.assert_allclose(y, (x - mean_) / np.sqrt(var_ + 1e-3) + bias_, atol=1e-5)
    np.testing.assert_array_equal(same_mean, mean)
    np.testing.assert_array_equal(same_var, var)


@pytest.mark.op("batch_stats", transforms=EAGER_AND_JIT)
def test_variance_survives_an_offset(run):
    x = (np.float32(1e4) + np.arange(4096, dtype=np.float32) % 128 / 64)[:, None]
    assert x.dtype == np.float32
    xp_stats = lambda x: here(run.backend, anyops.batch_stats(x))  # noqa: E731
    count, mean, m2 = run(xp_stats, x)
    assert count == 4096
    np.testing.assert_allclose(mean, x.mean(dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(m2 / 4096, 0.33331298828125, rtol=1e-4)


def here(backend, stats):
    """Statistics as arrays of the backend, because those of dask arrays are NumPy arrays."""
    if backend is not Backend.DASK:
        return tuple(stats)
    assert all(isinstance(s, np.ndarray | np.generic) for s in stats)
    return tuple(map(backend.asarray, stats))


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("value", [0.1, 1e4 / 3])
def test_one_value_per_channel_gives_the_bias(run, value):
    bias, state = np.float32([0.5, -2]), (np.float32([0, 1]), np.float32([1, 2]))
    for shape in ((1, 2), (1, 2, 1, 1), (7, 2, 3)):
        x = np.full(shape, value, np.float32)
        for eps in (1e-5, 0.0):
            y, mean, var = run(anyops.batch_norm, x, *state, None, bias, training=True, eps=eps, correction=1)
            np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(1, 2, *(1,) * (x.ndim - 2)), shape))
            np.testing.assert_allclose(mean, 0.9 * state[0] + np.float32(0.1 * value), rtol=1e-6)
            np.testing.assert_allclose(var, 0.9 * state[1], rtol=1e-6)
            grads = run(anyops.batch_norm_grad, np.ones_like(x), x, eps=eps)
            np.testing.assert_allclose(grads[0], 0, atol=2e-4)
            np.testing.assert_array_equal(grads[1], 0)


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
def test_empty_batch_leaves_the_state_alone(run):
    mean, var = np.float32([1, 2]), np.float32([3, 4])
    for shape in ((0, 2), (0, 2, 3), (4, 2, 0)):
        got = run(anyops.batch_norm, np.zeros(shape, np.float32), mean, var, training=True, correction=1)
        assert got[0].shape == shape
        np.testing.assert_array_equal(got[1], mean)
        np.testing.assert_array_equal(got[2], var)
        dx, dweight, dbias = run(anyops.batch_norm_grad, np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        assert dx.shape == shape
        np.testing.assert_array_equal(np.stack([dweight, dbias]), 0)
    x = np.full((3, 2), np.nan, np.float32)
    y, *state = run(anyops.batch_norm, x, mean, var, training=True, sample_weight=np.zeros(3, bool))
    np.testing.assert_array_equal(np.stack(state), [mean, var])
    assert np.all(np.isfinite(y))


# --- weights ---------------------------------------------------------------------------------------------------------

MASKED = [
    ((6, 3), 1, (6,), np.float32),
    ((4, 3, 5), 1, (4, 5), np.float32),
    ((4, 3, 5), 1, (4,), bool),
    ((2, 4, 5, 3), -1, (2, 4), np.int32),
    ((3, 7), 0, (7,), bool),
]


def weighted(shape, axis, of, dtype):
    x, w = batch(shape), (RNG.random(of) * 3).astype(np.float32)
    w[w < 0.8] = 0
    w = w > 0 if dtype is bool else w.astype(dtype)
    full = np.delete(shape, axis)
    present = np.broadcast_to((w > 0).reshape(w.shape + (1,) * (len(full) - w.ndim)), full)
    return x, w, np.broadcast_to(np.expand_dims(present, axis), shape)


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize(("shape", "axis", "of", "dtype"), MASKED)
def test_weights_and_masks(run, shape, axis, of, dtype):
    x, w, present = weighted(shape, axis, of, dtype)
    weight, bias, mean, var = channels(shape[axis])
    x = np.where(present, x, np.float32(np.nan))
    y, new_mean, new_var = run(
        anyops.batch_norm, x, mean, var, weight, bias, training=True, axis=axis, correction=1, sample_weight=w
    )
    want, m, v = reference(x, axis, weight=weight, bias=bias, weights=w)
    _, each = by_channel(x, axis, w)
    np.testing.assert_allclose(y[present], want[present], atol=1e-5)
    np.testing.assert_allclose(new_mean, 0.9 * mean + 0.1 * m, atol=1e-5)
    np.testing.assert_allclose(new_var, 0.9 * var + 0.1 * v * each.sum() / (each.sum() - 1), rtol=1e-5)


def test_weight_0_is_absence():
    x, w = batch((6, 3, 2)), np.array([1, 0, 1, 1, 0, 1])
    state = np.zeros(3, np.float32), np.ones(3, np.float32)
    some = anyops.batch_norm(x[w > 0], *state, training=True, correction=1)
    got = anyops.batch_norm(x, *state, training=True, correction=1, sample_weight=w)
    np.testing.assert_allclose(got[0][w > 0], some[0], atol=1e-6)
    np.testing.assert_allclose(np.stack(got[1:]), np.stack(some[1:]), rtol=1e-6)
    # A sample of weight 0 is normalised like the others if it is finite.
    m, v = (got[1] * 10, (got[2] - 0.9) * 10 * 7 / 8)
    np.testing.assert_allclose(got[0][1], (x[1] - m[:, None]) / np.sqrt(v[:, None] + 1e-5), atol=1e-4)


# --- backward --------------------------------------------------------------------------------------------------------


@pytest.mark.op("batch_norm_grad", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize(("shape", "axis", "of", "dtype"), [((2, 3, 4), 1, None, None), *MASKED])
def test_gradient(run, backend, shape, axis, of, dtype):
    x, w, present = (batch(shape), None, True) if of is None else weighted(shape, axis, of, dtype)
    dy, (weight, bias, *_) = batch(shape, seed=2), channels(shape[axis])
    want = numeric_gradient(x, axis, dy, weight, bias, w)
    hidden = np.float32(np.nan)  # values of a sample of weight 0 do not matter
    got = run(
        anyops.batch_norm_grad,
        np.where(present, dy, hidden),
        np.where(present, x, hidden),
        weight,
        axis=axis,
        **({} if w is None else {"sample_weight": w}),
    )
    for g, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(g, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.op("batch_norm", transforms=(Transform.GRAD,))
@pytest.mark.parametrize(("shape", "axis", "of", "dtype"), [((2, 3, 4), 1, None, None), *MASKED[:3]])
@pytest.mark.parametrize("training", [True, False])
def test_autodiff_equals_the_closed_form(backend, transform, shape, axis, of, dtype, training):
    x, w, present = (batch(shape), None, True) if of is None else weighted(shape, axis, of, dtype)
    x, dy = (
        np.where(present, x, np.nan).astype(np.float64),
        np.where(present, batch(shape, seed=2), 0).astype(np.float64),
    )
    weight, bias, mean, var = (a.astype(np.float64) for a in channels(shape[axis]))
    given = None if w is None else backend.asarray(w)
    xp = backend.xp

    def loss(x, weight, bias):
        y, *_ = anyops.batch_norm(
            x, *map(backend.asarray, (mean, var)), weight, bias, training=training, axis=axis, sample_weight=given
        )
        return xp.where(backend.asarray(np.broadcast_to(present, shape)), backend.asarray(dy) * y, xp.zeros_like(y))

    got = backend.gradient(loss, x, weight, bias)
    want = anyops.batch_norm_grad(
        dy, x, weight, training=training, axis=axis, sample_weight=w, running_mean=mean, running_var=var
    )
    exact = got[0].dtype == np.float64
    for g, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(g, expected, rtol=1e-10 if exact else 1e-4, atol=1e-10 if exact else 1e-5)


@pytest.mark.op("batch_norm", transforms=(Transform.GRAD,))
def test_no_gradient_through_the_state(backend, transform):
    x, (_, _, mean, var) = batch((4, 3)), channels(3)

    def f(x):
        y, m, v = anyops.batch_norm(x, *map(backend.asarray, (mean, var)), training=True)
        return m + v + 0 * backend.xp.sum(y, axis=0)

    np.testing.assert_array_equal(backend.gradient(f, x)[0], 0)


@pytest.mark.parametrize("correction", [0, 1])
def test_as_torch(correction):
    torch = pytest.importorskip("torch")
    for shape in ((6, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2)):
        x, (weight, bias, mean, var) = batch(shape, dtype=np.float64), (a.astype(np.float64) for a in channels(3))
        t = {k: torch.tensor(v) for k, v in {"x": x, "m": mean, "v": var, "w": weight, "b": bias}.items()}
        for training in (True, False):
            m, v = t["m"].clone(), t["v"].clone()
            leaves = [t[k].clone().requires_grad_() for k in "xwb"]
            want = torch.nn.functional.batch_norm(leaves[0], m, v, leaves[1], leaves[2], training, 0.3, 1e-4)
            got = anyops.batch_norm(
                x, mean, var, weight, bias, training=training, momentum=0.7, eps=1e-4, correction=correction
            )
            np.testing.assert_allclose(got.y, want.detach(), atol=1e-12)
            np.testing.assert_allclose(got.running_mean, m, atol=1e-12)
            if correction or not training:
                np.testing.assert_allclose(got.running_var, v, atol=1e-12)
            dy = batch(shape, seed=2, dtype=np.float64)
            slopes = torch.autograd.grad(want, leaves, torch.tensor(dy))
            options = {} if training else {"training": False, "running_mean": mean, "running_var": var}
            for g, expected in zip(anyops.batch_norm_grad(dy, x, weight, eps=1e-4, **options), slopes, strict=True):
                np.testing.assert_allclose(g, expected, atol=1e-11)


# --- statistics of parts ---------------------------------------------------------------------------------------------


@pytest.mark.op("merge_batch_stats", transforms=EAGER_AND_JIT)
def test_parts_merge_to_the_whole(run, backend):
    x = batch((12, 3, 4)) + np.float32(1e3)
    count, mean, m2 = (
        np.array(a) for a in zip(*(moments(row, np.ones(48)) for row in by_channel(x, 1)[0]), strict=True)
    )

    def merged(x, cuts):
        parts = [anyops.batch_stats(x[i:j, ...]) for i, j in zip((0, *cuts), (*cuts, 12), strict=True)]
        whole = parts[0]
        for part in parts[1:]:
            whole = anyops.merge_batch_stats(whole, part)
        return here(backend, whole)

    for cuts in ((), (5,), (0, 1, 1, 11, 12)):
        got = run(lambda x, cuts=cuts: merged(x, cuts), x)
        assert got[0] == count[0]
        np.testing.assert_allclose(got[1], mean, rtol=3e-7)
        np.testing.assert_allclose(got[2], m2, rtol=1e-4)


def test_empty_part_changes_nothing():
    some, none = anyops.batch_stats(batch((5, 3))), anyops.batch_stats(batch((5, 3))[:0])
    assert none.count == 0
    for pair in ((some, none), (none, some)):
        for got, want in zip(anyops.merge_batch_stats(*pair), some, strict=True):
            np.testing.assert_array_equal(got, want)
    assert all(np.all(part == 0) for part in anyops.merge_batch_stats(none, none))


@pytest.mark.op("batch_stats", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_statistics_are_float32_at_least(backend, run, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    x = np.array([[300, 1], [100, 3], [200, 2]] * 50, np.int32 if dtype == "int32" else np.float32)
    got = run.raw(lambda x: here(backend, anyops.batch_stats(x)), x, dtype=None if dtype == "int32" else dtype)
    wide = backend.default("real floating") if dtype == "int32" else "float32"
    assert {dtype_name(a) for a in got} == {wide}
    np.testing.assert_allclose(backend.to_numpy(got[2]), [1e6, 100], rtol=1e-5)  # beyond float16


@pytest.mark.op("batch_norm", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(backend, run, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    x = np.float32([[300, 1], [100, 3], [200, 2]] * 50)
    weight, bias, mean, var = (backend.asarray(a[:2]) for a in channels(3))
    f = lambda x: anyops.batch_norm(x, mean, var, weight, bias, training=True)  # noqa: E731
    y, new_mean, new_var = run.raw(f, x, dtype=dtype)
    assert (dtype_name(y), dtype_name(new_mean), dtype_name(new_var)) == (dtype, "float32", "float32")
    host = [backend.to_numpy(a) for a in (weight, bias)]
    want, _, v = reference(x, 1, weight=host[0], bias=host[1])
    half_an_ulp = {"float16": 2**-11, "bfloat16": 2**-8}[dtype]
    np.testing.assert_allclose(backend.to_numpy(y), want, rtol=half_an_ulp * 1.1, atol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(new_var), 0.9 * backend.to_numpy(var) + 0.1 * v, rtol=1e-5)
    grads = run.raw(lambda dy, x: anyops.batch_norm_grad(dy, x, weight), x, x, dtype=dtype)
    assert [dtype_name(g) for g in grads] == [dtype, "float32", "float32"]


def test_chunks_of_dask():
    dask = pytest.importorskip("dask.array")
    x, w = batch((10, 6, 4)), RNG.random(10)
    lazy = dask.from_array(x, chunks=(3, 4, 2))
    for weights in (None, w):
        given = None if weights is None else dask.from_array(weights, chunks=4)
        got = anyops.batch_stats(lazy, sample_weight=given)
        want = anyops.batch_stats(x, sample_weight=weights)
        for part, whole in zip(got, want, strict=True):
            assert isinstance(part, np.ndarray | np.generic)
            np.testing.assert_allclose(part, whole, rtol=1e-5)


# --- large batches on NumPy ------------------------------------------------------------------------------------------

LARGE = [(8, 16, 2048), (20_000, 16), (2, 3, 100_000), (300, 16, 64), (40_000, 4, 2)]


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("masked", [False, True])
def test_tiles_do_not_show(shape, masked):
    x, dy = batch(shape) + np.float32(10), batch(shape, seed=2)
    w = (np.arange(shape[0]) % 3).astype(np.float32) if masked else None
    weight, bias, mean, var = channels(shape[1])
    axes = tuple(i for i in range(len(shape)) if i != 1)
    at = (1, -1) + (1,) * (len(shape) - 2)
    each = np.ones(shape[0]) if w is None else w
    each = each.reshape(-1, *(1,) * (len(shape) - 1)).astype(np.float64)
    n = float(each.sum() * np.prod(shape[2:]))
    m = (each * x).sum(axis=axes, keepdims=True) / n
    v = (each * (x - m) ** 2).sum(axis=axes, keepdims=True) / n
    y, _, new_var = anyops.batch_norm(x, mean, var, weight, bias, training=True, sample_weight=w)
    s = 1 / np.sqrt(v + 1e-5)
    np.testing.assert_allclose(y, (x - m) * s * weight.reshape(at) + bias.reshape(at), atol=3e-5)
    np.testing.assert_allclose(new_var, 0.9 * var + 0.1 * v.ravel(), rtol=1e-5)
    dy_, hat = np.where(each > 0, dy, 0).astype(np.float64), (x - m) * s
    db, dw = dy_.sum(axis=axes, keepdims=True), (dy_ * hat).sum(axis=axes, keepdims=True)
    dx = weight.reshape(at) * s * (dy_ - each / n * (db + hat * dw))
    for got, want in zip(anyops.batch_norm_grad(dy, x, weight, sample_weight=w), (dx, dw, db), strict=True):
        np.testing.assert_allclose(got.ravel(), want.ravel(), rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_tiles_of_torch_do_not_show():
    torch = pytest.importorskip("torch")
    shape = (40, 16, 1000)
    x, dy, (weight, bias, mean, var) = batch(shape), batch(shape, seed=2), map(torch.tensor, channels(16))
    x, dy = torch.tensor(x), torch.tensor(dy)
    whole = x.clone().requires_grad_()
    want = torch.nn.functional.batch_norm(whole, None, None, weight, bias, True)
    for given in (x, whole):  # without a graph in tiles, with a graph in one piece
        got = anyops.batch_norm(given, mean, var, weight, bias, training=True)
        torch.testing.assert_close(got.y.detach(), want.detach(), atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad(got.y, whole, dy)
    torch.testing.assert_close(anyops.batch_norm_grad(dy, x, weight).dx, slope, atol=1e-5, rtol=1e-4)
    trained = anyops.batch_norm(x, mean, var, weight.clone().requires_grad_(), bias, training=True)
    assert trained.y.requires_grad


def test_memory():
    """Apart from the result and one more array of its size, memory does not grow with the batch."""
    x, state = batch((32, 16, 56, 56)), channels(16)[2:]
    for call in (
        lambda: anyops.batch_norm(x, *state, training=True),
        lambda: anyops.batch_norm(x, *state),
        lambda: anyops.batch_norm_grad(x, x),
        lambda: anyops.batch_norm(x, *state, training=True, sample_weight=np.ones(32)),
    ):
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * x.nbytes


def test_no_transfer_to_or_from_the_host():
    jax = pytest.importorskip("jax")
    with Backend.JAX_CPU.active():
        arrays = [Backend.JAX_CPU.asarray(a) for a in (batch((4, 3, 5)), *channels(3)[2:], np.ones(4, np.float32))]
        step = jax.jit(lambda x, m, v, w: anyops.batch_norm(x, m, v, training=True, sample_weight=w))
        back = jax.jit(
            jax.grad(lambda x, m, v, w: anyops.batch_norm(x, m, v, training=True, sample_weight=w).y[0, 0, 0])
        )
        with jax.transfer_guard("disallow"):
            jax.block_until_ready(step(*arrays))
            jax.block_until_ready(back(*arrays))
            jax.block_until_ready(jax.jit(anyops.batch_norm_grad)(arrays[0], arrays[0]))


@pytest.mark.op("batch_norm", transforms=(Transform.COMPILE,))
def test_inductor(backend, transform):
    x, (weight, bias, mean, var) = batch((4, 3, 5)), channels(3)
    step = compile_fullgraph(lambda *a: anyops.batch_norm(*a, training=True), "inductor")
    y, *_ = step(*map(backend.asarray, (x, mean, var, weight, bias)))
    np.testing.assert_allclose(backend.to_numpy(y), reference(x, 1, weight=weight, bias=bias)[0], atol=5e-6)


# --- settings of other libraries, as docs/batch_norm.md maps them ----------------------------------------------------


def test_cumulative_average_as_torch():
    """torch's momentum=None: the mean of all batches so far."""
    torch = pytest.importorskip("torch")
    layer = torch_layer(momentum=None)
    mean, var = np.zeros(3), np.ones(3)
    for k in range(3):
        x = batch((4, 3, 5), seed=k, dtype=np.float64)
        layer(torch.tensor(x))
        _, mean, var = anyops.batch_norm(x, mean, var, training=True, momentum=k / (k + 1), correction=1)
        np.testing.assert_allclose(mean, layer.running_mean, atol=1e-12)
        np.testing.assert_allclose(var, layer.running_var, atol=1e-12)


def torch_layer(**settings):
    torch = importlib.import_module("torch")
    return torch.nn.BatchNorm1d(3, **settings).double()


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        ({}, {"momentum": 0.9, "correction": 1}),  # torch's own
        ({"momentum": 0.3, "eps": 1e-3}, {"momentum": 0.7, "eps": 1e-3, "correction": 1}),
        ({"affine": False}, {"momentum": 0.9, "correction": 1}),
        ({"momentum": 0.01, "eps": 1e-5}, {"momentum": 0.99, "eps": 1e-5}),  # flax and equinox: biased
        ({"momentum": 0.01, "eps": 1e-3}, {"momentum": 0.99, "eps": 1e-3}),  # Keras: biased
    ],
)
def test_settings_of_other_libraries(settings, ours):
    """Two steps and an evaluation as a torch layer; its variance is corrected by hand for biased settings."""
    torch = pytest.importorskip("torch")
    layer = torch_layer(**settings)
    mean, var = np.zeros(3), np.ones(3)
    wanted_var = np.ones(3)
    n = 20
    for seed in (0, 1):
        x = batch((4, 3, 5), seed=seed, dtype=np.float64)
        want = layer(torch.tensor(x)).detach().numpy()
        got = anyops.batch_norm(x, mean, var, training=True, **ours)
        np.testing.assert_allclose(got.y, want, atol=1e-12)
        mean, var = got.running_mean, got.running_var
        np.testing.assert_allclose(mean, layer.running_mean, atol=1e-12)
        scale = 1 if ours.get("correction") else (n - 1) / n
        batch_var = x.var(axis=(0, 2), ddof=1) * scale
        wanted_var = ours["momentum"] * wanted_var + (1 - ours["momentum"]) * batch_var
        np.testing.assert_allclose(var, wanted_var, atol=1e-12)
        if ours.get("correction"):
            np.testing.assert_allclose(var, layer.running_var, atol=1e-12)
    layer.running_var.copy_(torch.tensor(var))
    layer.eval()
    got = anyops.batch_norm(x, mean, var, **{k: v for k, v in ours.items() if k != "correction"})
    np.testing.assert_allclose(got.y, layer(torch.tensor(x)).detach(), atol=1e-12)


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize(
    ("level", "spread"), [(4.5e6, 2), (101325, 0.04), (101325, 1), (1e4, 1), (-3e5, 0.5), (0, 1), (1e6, 0)]
)
def test_small_deviations_beside_a_level(run, level, spread):
    """A channel is constant only if all its values are equal."""
    x = (level + spread * np.random.default_rng(0).standard_normal((997, 2))).astype(np.float32)
    exact = x.astype(np.float64)
    y, _, var = run(anyops.batch_norm, x, np.zeros(2, np.float32), np.ones(2, np.float32), training=True, momentum=0.0)
    np.testing.assert_allclose(var, exact.var(0), rtol=2e-4)
    want = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(y, want, atol=2e-4)


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
@pytest.mark.parametrize("weighted", [False, True], ids=["all", "weighted"])
@pytest.mark.parametrize(
    ("level", "dtype", "samples"),
    [(2**24 - 2, "float32", 3), (2**53 - 2, "float64", 3), (4_500_000, "float32", 60_000)],
)
def test_a_mean_that_its_dtype_does_not_hold(run, level, dtype, samples, weighted):
    """y and the gradient are not affected by the rounding of the mean: samples 0, 0, 1 plus a level."""
    if not run.backend.has_dtype(dtype):
        pytest.skip(f"{run.backend} has no {dtype}")
    small = (np.arange(samples)[:, None] % 3 == 2).astype(np.int64)
    x, state = (level + small).astype(dtype), (np.zeros(1, dtype), np.ones(1, dtype))
    w = (np.arange(samples) % 2 + 1).astype(dtype) if weighted else None
    dy = (np.arange(samples)[:, None] % 6 - 2.0).astype(dtype)
    want, _, var = reference(small, 1, weights=w, eps=1e-5)
    y, _, got_var = run(anyops.batch_norm, x, *state, sample_weight=w, training=True, momentum=0.0)
    np.testing.assert_allclose(y, want, atol=1e-4 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(got_var, var, rtol=2e-4)
    # The closed form for the samples without the level, in float64.
    each, g = np.ones((samples, 1)) if w is None else w[:, None].astype(np.float64), dy.astype(np.float64)
    mean = (each * small).sum() / each.sum()
    s = 1 / np.sqrt((each * (small - mean) ** 2).sum() / each.sum() + 1e-5)
    hat = (small - mean) * s
    dx = s * (g - each / each.sum() * (g.sum() + hat * (g * hat).sum()))
    near = dx, (g * hat).sum(axis=0), g.sum(axis=0)
    for got, slope in zip(run(anyops.batch_norm_grad, dy, x, sample_weight=w), near, strict=True):
        np.testing.assert_allclose(got, slope, rtol=1e-4, atol=1e-4 * np.abs(slope).max())


def test_the_mean_of_integers_that_float64_does_not_hold():
    x = np.asarray([[2**53 - 1], [2**53]])
    y = anyops.batch_norm(x, np.zeros(1), np.ones(1), training=True, eps=0.0).y
    np.testing.assert_allclose(y[:, 0], [-1, 1])


@pytest.mark.op("batch_norm", transforms=EAGER_AND_JIT)
def test_a_broken_state_shows(run):
    """A negative or missing running variance gives NaN, not the bias."""
    x, mean, bias = np.float32([[1, 2, 3, 4]]), np.zeros(4, np.float32), np.float32([5, 6, 7, 8])
    var = np.float32([-1, np.nan, 1, 0])
    y = run(anyops.batch_norm, x, mean, var, np.ones(4, np.float32), bias, eps=0.0)[0]
    np.testing.assert_array_equal(np.isnan(y[0]), [True, True, False, False])
    assert y[0, 2:].tolist() == [10.0, 8.0]


@pytest.mark.op("batch_norm_grad", transforms=EAGER_AND_JIT)
def test_a_broken_state_shows_in_the_gradient(run):
    x, mean, var = np.float32([[1, 2, 3]]), np.zeros(3, np.float32), np.float32([-1, np.nan, 1])
    dx, dweight, _ = run(anyops.batch_norm_grad, x, x, running_mean=mean, running_var=var, training=False)
    np.testing.assert_array_equal(np.isnan(dx[0]), [True, True, False])
    np.testing.assert_array_equal(np.isnan(dweight), [True, True, False])
