import numpy as np
import pytest

from anyops._array.loop import while_loop
from tests.backends import Backend, Transform, compile_fullgraph

STARTS = np.int32([1, 6, 7, 27, 97])
COLLATZ = [0, 8, 16, 111, 118]  # OEIS A006577


def steps(xp, start):
    """Number of steps of 3n + 1 to reach 1, a data-dependent loop."""

    def body(n, count):
        return xp.where(n % 2 == 0, n // 2, 3 * n + 1), count + 1

    return while_loop(lambda n, count: n != 1, body, (start, xp.zeros_like(start)))[1]


@pytest.mark.op("nms_mask")  # everywhere
def test_steps(run, xp):
    if run.transform in (Transform.VMAP, Transform.FUNC_VMAP):
        pytest.skip("test_lanes")

    def f(n):
        return steps(xp, n)

    for start, want in zip(STARTS, COLLATZ, strict=True):
        if run.backend is not Backend.DASK or want < 20:  # dask computes the whole graph for each condition
            assert run(f, np.array(start)) == want


@pytest.mark.op("nms_mask", transforms=(Transform.VMAP, Transform.FUNC_VMAP))
def test_lanes(backend, transform, xp):
    """Each lane stops at its own condition."""
    if transform is Transform.VMAP:
        import jax

        vmap, jit = jax.vmap, jax.jit
    else:
        import torch

        vmap, jit = torch.func.vmap, lambda f: f
    starts = backend.asarray(STARTS)
    f = lambda n: steps(xp, n)  # noqa: E731
    assert backend.to_numpy(vmap(f)(starts)).tolist() == COLLATZ
    assert backend.to_numpy(jit(vmap(f))(starts)).tolist() == COLLATZ
    nested = vmap(vmap(f))(xp.stack([starts, xp.flip(starts)]))
    assert backend.to_numpy(nested).tolist() == [COLLATZ, COLLATZ[::-1]]


@pytest.mark.op("nms_mask")
def test_no_step_if_the_condition_is_false(run, xp):
    def f(x):
        return while_loop(lambda x: xp.all(x < 0), lambda x: (x + 1,), (x,))[0]

    np.testing.assert_array_equal(run(f, np.float32([1, 2])), [1, 2])


@pytest.mark.op("nms_mask")
def test_several_arrays_of_several_dtypes(run, xp):
    def f(x, flags):
        def body(x, flags, n):
            return x / 2, flags & (x > 6), n + 1

        return while_loop(lambda x, flags, n: xp.any(flags), body, (x, flags, xp.zeros_like(x[0])))

    x, flags, n = run(f, np.float32([8, 5, 4]), np.array([True, True, False]))
    np.testing.assert_array_equal(x, [2, 1.25, 1])
    assert not flags.any()
    assert n == 2


@pytest.mark.op("nms_mask")
def test_constants_are_closed_over(run, xp):
    def f(x, limit):
        return while_loop(lambda x: xp.any(x < limit), lambda x: (x * 2,), (x,))[0]

    np.testing.assert_array_equal(run(f, np.float32([1, 3]), np.array(10, np.float32)), [16, 48])


@pytest.mark.op("box_iou", transforms=(Transform.GRAD,))
def test_gradient_when_eager(backend, transform):
    if backend.library == "jax":
        pytest.skip("reverse mode through a traced loop needs a fixed number of steps")

    def f(x):
        return while_loop(lambda x: x < 10, lambda x: (x * x,), (x,))[0]

    (got,) = backend.gradient(f, np.float32(2))
    assert got == 4 * 2**3  # x⁴


def test_torch_export():
    torch = pytest.importorskip("torch")
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)

    class Steps(torch.nn.Module):
        def forward(self, n):
            return steps(Backend.TORCH_CPU.xp, n)

    program = torch.export.export(Steps(), (torch.asarray(6),))
    for start, want in zip(STARTS, COLLATZ, strict=True):
        assert int(program.module()(torch.asarray(int(start)))) == want


def test_inductor():
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    f = compile_fullgraph(lambda n: steps(Backend.TORCH_CPU.xp, n), "inductor")
    assert int(f(Backend.TORCH_CPU.asarray(np.int32(27)))) == 111


def test_onnx():
    """One model for every value and every length."""
    ndx = pytest.importorskip("ndonnx")
    runtime = pytest.importorskip("onnxruntime")
    import array_api_compat

    def halve(x):
        xp = array_api_compat.array_namespace(x)

        def body(x, n):
            return xp.where(x > 1, x / 2, x), n + 1

        return while_loop(lambda x, n: xp.any(x > 1), body, (x, xp.zeros_like(xp.sum(x))))

    x = ndx.argument(shape=("N",), dtype=ndx.float32)
    model = ndx.build({"x": x}, dict(zip(("halved", "steps"), halve(x), strict=True)))
    session = runtime.InferenceSession(model.SerializeToString())
    for given, want, n in (([8, 5, 0.5], [1, 0.625, 0.5], 3), ([0.25], [0.25], 0), ([], [], 0)):
        got = dict(
            zip([o.name for o in session.get_outputs()], session.run(None, {"x": np.float32(given)}), strict=True)
        )
        np.testing.assert_array_equal(got["halved"], np.float32(want))
        assert got["steps"] == n


def test_axes_of_length_one_in_torch():
    """A slice of one lane has the strides of the whole array, and torch's operator compares strides."""
    torch = pytest.importorskip("torch")

    def f(x):
        y = x[:, 1:4]
        return while_loop(lambda a, b: (a < b).any(), lambda a, b: (a + 1, a), (y, y + 1))[0]

    x = torch.arange(5.0)[None]
    assert compile_fullgraph(f, "eager")(x).tolist() == f(x).tolist()
