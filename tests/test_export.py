"""Programs with a dynamic batch and number of boxes: by `torch.export`, `jax.export`, and as ONNX models."""

import warnings

import numpy as np
import pytest

import anyops
import anyops.onnx
from tests import scenes
from tests.backends import Backend, named_in
from tests.suppression.test_formats import KINDS, regions, rotated

# name: a call of a namespace, boxes (B, N, 4) and scores (B, N)
CALLS = {
    "nms_mask": lambda xp, b, s: anyops.nms_mask(b, s, labels=thirds(xp, s), valid=s > 0.2),
    "nms_mask, overlaps": lambda _, b, s: anyops.nms_mask(None, s, overlaps=anyops.box_iou(b, b)),
    "nms_mask, rotated": lambda xp, b, s: anyops.nms_mask(xp.concat((b, b[..., :1]), axis=-1), s, fmt="cxcywhr"),
    "fast_nms_mask": lambda _, b, s: anyops.fast_nms_mask(b, s),
    "cluster_nms_scores": lambda _, b, s: anyops.cluster_nms_scores(b, s),
    "cluster_nms_scores, ciou": lambda _, b, s: anyops.cluster_nms_scores(b, s, kind="ciou", penalty="score"),
    "weighted_cluster_nms_boxes": lambda _, b, s: anyops.weighted_cluster_nms_boxes(b, s),
    "soft_nms_scores": lambda _, b, s: anyops.soft_nms_scores(b, s),
    "matrix_nms_scores": lambda _, b, s: anyops.matrix_nms_scores(b, s),
    "weighted_boxes_fusion_padded": lambda xp, b, s: anyops.weighted_boxes_fusion_padded(b, s, thirds(xp, s)),
    "top_scores": lambda _, _b, s: anyops.top_scores(s, 10),
    "box_iou": lambda _, b, _s: anyops.box_iou(b, b),
    "box_iou_loss": lambda _, b, _s: anyops.box_iou_loss(b, b + 1),
    "sigmoid_focal_loss": lambda xp, _, s: anyops.sigmoid_focal_loss(s, xp.astype(s > 0.5, s.dtype)),
    "softmax_focal_loss": lambda xp, b, s: anyops.softmax_focal_loss(b, thirds(xp, s)),
    "batch_norm": lambda xp, b, _: anyops.batch_norm(b.mT, xp.zeros(4), xp.ones(4), training=True),
}
SOME = "nms_mask", "weighted_cluster_nms_boxes", "top_scores", "batch_norm"
LOOPS = "box_iou", "nms_mask, rotated"
SIZES = (5, 17), (2, 300)  # shapes of a batch, with one tile and with two tiles of boxes


def thirds(xp, scores):
    return xp.astype(3 * scores, xp.int32)


def names(backend, some):
    """All names if ANYOPS_BACKENDS names the library, as in `nox -s torch` and `nox -s jax`."""
    return CALLS if backend in named_in("ANYOPS_BACKENDS") else some


def batch(backend, lanes, n):
    """Scenes with tied scores."""
    some = [scenes.clustered(n, seed=seed) for seed in range(max(lanes, 1))]
    boxes, scores = (np.stack(x)[:lanes] for x in zip(*some, strict=True))
    return backend.asarray(boxes), backend.asarray(np.ceil(32 * scores).astype(np.float32) / 32)


def check(backend, program, call, sizes=SIZES):
    for size in sizes:
        given = batch(backend, *size)
        found, wanted = (x if isinstance(x, tuple | list) else (x,) for x in (program(*given), call(*given)))
        for x, y in zip(found, wanted, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(backend.to_numpy(x), backend.to_numpy(y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strict", [False, True], ids=["as it runs", "by its code"])
@pytest.mark.parametrize("name", names(Backend.TORCH_CPU, SOME))
def test_torch(name, strict):
    torch = pytest.importorskip("torch")
    backend = Backend.TORCH_CPU

    class Module(torch.nn.Module):
        def forward(self, boxes, scores):
            return CALLS[name](backend.xp, boxes, scores)

    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("n", min=11)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warnings about torch
        program = torch.export.export(
            Module(), batch(backend, 3, 40), dynamic_shapes={"boxes": sizes, "scores": sizes}, strict=strict
        )
    check(backend, program.module(), Module())


@pytest.mark.parametrize("name", names(Backend.JAX_CPU, SOME[::3]))
def test_jax(name):
    jax = pytest.importorskip("jax")
    from jax import export

    backend = Backend.JAX_CPU
    with backend.active():
        call = jax.jit(lambda b, s: jax.tree.leaves(CALLS[name](backend.xp, b, s)))
        lanes, n = export.symbolic_shape("batch, n", constraints=["n >= 11"])
        program = export.export(call)(
            *(jax.ShapeDtypeStruct(shape, np.float32) for shape in ((lanes, n, 4), (lanes, n)))
        )
        check(backend, program.call, call)


@pytest.mark.parametrize("name", names(Backend.TORCH_CPU, ("nms_mask, overlaps", "top_scores")))
def test_onnx(name, tmp_path):
    pytest.importorskip("onnxscript")
    runtime, backend = pytest.importorskip("onnxruntime"), Backend.TORCH_CPU

    def call(boxes, scores):
        return CALLS[name](backend.xp, boxes, scores)

    sizes = {0: "batch", 1: "n"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warnings about torch
        anyops.onnx.export(call, batch(backend, 3, 40), dynamic_shapes=[sizes, sizes]).save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = [x.name for x in session.get_inputs()]

    def program(*given):
        named = dict(zip(("boxes", "scores"), map(backend.to_numpy, given), strict=True))
        return [backend.asarray(x) for x in session.run(None, {x: named[x] for x in inputs})]

    empty = {"top_scores": (), "weighted_boxes_fusion_padded": ((0, 5),)}.get(name, ((0, 5), (2, 0)))
    check(backend, program, call, (*SIZES, *empty))


def test_arguments_of_an_onnx_model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    x = torch.zeros(3)
    wrong = [
        ({"args": [[1.0]]}, "args must be a list or a tuple of torch tensors, got list"),
        ({"args": x}, "args must be a list or a tuple of torch tensors, got Tensor"),
        ({"function": x}, "function must be callable, got Tensor"),
        ({"dynamic_shapes": [{0: "n"}, {0: "n"}]}, "dynamic_shapes must have as many items as args, 1, got 2"),
        ({"dynamic_shapes": {"x": {0: "n"}}}, "dynamic_shapes must be a list or a tuple of dicts .*, got dict"),
        ({"dynamic_shapes": ["n"]}, "dynamic_shapes must be a list or a tuple of dicts .*, got str"),
        ({"dynamic_shapes": [{1: "n"}]}, r"dynamic_shapes\[0\] must have axes from 0 to 0, got 1"),
        ({"dynamic_shapes": [{-1: "n"}]}, r"dynamic_shapes\[0\] must have axes from 0 to 0, got -1"),
        ({"dynamic_shapes": [{0: 5}]}, r"dynamic_shapes\[0\]\[0\] must be a name, got int"),
        ({"input_names": [""]}, r"must be different and not empty, got '' in"),
        ({"input_names": ["x"], "output_names": ["x"]}, r"must be different and not empty, got 'x' in"),
        ({"input_names": "x"}, "input_names must be a list or a tuple of names, got str"),
        ({"input_names": ["x", "y"]}, "input_names must have as many items as args, 1, got 2"),
        ({"output_names": [1]}, "output_names must be a list or a tuple of names, got int"),
    ]
    for given, match in wrong:
        with pytest.raises((TypeError, ValueError), match=match):
            anyops.onnx.export(**{"function": torch.sigmoid, "args": [x]} | given)


@pytest.mark.parametrize("op", [anyops.nms_mask, anyops.soft_nms_scores, anyops.cluster_nms_scores])
def test_ndonnx(op):
    """Static forms on arrays without values, with a known number of boxes."""
    ndx, runtime = pytest.importorskip("ndonnx"), pytest.importorskip("onnxruntime")
    given = dict(zip(("boxes", "scores"), scenes.clustered(40), strict=True))
    named = {name: ndx.argument(shape=x.shape, dtype=ndx.float32) for name, x in given.items()}
    model = ndx.build(named, {"found": op(*named.values())})
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, given)
    np.testing.assert_allclose(found, op(*given.values()), rtol=1e-6)


def test_what_has_no_onnx_model_says_why():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    given = torch.rand(5, 4).cumsum(-1), torch.rand(5)
    with pytest.raises(TypeError, match=r"cannot export to ONNX: nms returns as many indices as .*; use nms_mask"):
        anyops.onnx.export(anyops.nms, given)


@pytest.mark.filterwarnings(
    "ignore:Dynamo detected a call to a `functools.lru_cache`",
    "ignore:`torch.jit.script_method` is deprecated",  # inductor's own import
)
@pytest.mark.parametrize("name", names(Backend.TORCH_CPU, LOOPS))
def test_sizes_that_torch_compiles_as_dynamic(name):
    """All sizes are dynamic from the first call on, including the number of coordinates and the op's parameters."""
    torch = pytest.importorskip("torch")
    backend = Backend.TORCH_CPU

    def call(boxes, scores):
        return CALLS[name](backend.xp, boxes, scores)

    compiler = "inductor" if backend in named_in("ANYOPS_BACKENDS") else "eager"
    torch._dynamo.reset()
    check(backend, torch.compile(call, fullgraph=True, dynamic=True, backend=compiler), call)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("fmt", KINDS if Backend.TORCH_CPU in named_in("ANYOPS_BACKENDS") else ["segment"])
def test_regions_in_loops_that_torch_compiles_as_dynamic(fmt):
    """No number of a module may take part in a loop: torch makes it a symbol."""
    torch = pytest.importorskip("torch")
    for kind in KINDS[fmt]:

        def call(regions, scores, kind=kind):
            return anyops.cluster_nms_scores(regions, scores, fmt=fmt, kind=kind, penalty="score")

        torch._dynamo.reset()
        compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="eager")
        for boxes, scores in (rotated(), rotated(40, seed=5)):
            given = torch.from_numpy(regions(fmt, boxes)), torch.from_numpy(scores)
            torch.testing.assert_close(compiled(*given), call(*given))


def _positive(x):
    return (x > 0)[:, 0]


# name: a call of rows (N, 3)
OF_ROWS = {
    "sigmoid_focal_loss": lambda x: anyops.sigmoid_focal_loss(x, 1.0 * (x > 0), reduction="mean"),
    "sigmoid_focal_loss_and_grad": lambda x: anyops.sigmoid_focal_loss_and_grad(x, 1.0 * (x > 0), reduction="mean"),
    "softmax_focal_loss": lambda x: anyops.softmax_focal_loss(x, _positive(x).long(), reduction="mean"),
    "softmax_focal_loss_and_grad": lambda x: anyops.softmax_focal_loss_and_grad(x, x.softmax(1), reduction="mean"),
    "box_iou_loss": lambda x: anyops.box_iou_loss(x[:, [0, 1, 0, 1]], x[:, [1, 2, 1, 2]], reduction="mean"),
    "batch_norm": lambda x: anyops.batch_norm(x, x.new_zeros(3), x.new_ones(3), training=True),
    "batch_norm_grad": lambda x: anyops.batch_norm_grad(2 * x, x, training=True),
    "batch_stats": anyops.batch_stats,
}


@pytest.mark.filterwarnings("ignore")  # torch's warnings about torch
@pytest.mark.parametrize("name", OF_ROWS)
def test_means_of_no_rows(name, tmp_path):
    """The mean of no items is 0 in a program too, where torch takes sizes for positive."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    call, x = OF_ROWS[name], torch.arange(18.0).reshape(6, 3) % 5 - 2

    class Module(torch.nn.Module):
        def forward(self, x):
            return call(x)

    program = torch.export.export(Module(), (x,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    anyops.onnx.export(call, [x], dynamic_shapes=[{0: "n"}]).save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for rows in (x[:0], x[:1], x[:4]):
        wanted = call(rows)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        found = program(rows)
        found = found if isinstance(found, tuple) else (found,)
        for y, z, w in zip(found, session.run(None, {given.name: rows.numpy()}), wanted, strict=True):
            torch.testing.assert_close(y, w)
            np.testing.assert_allclose(z, w, rtol=1e-5, atol=1e-6)
