"""Declarations of ops about loops, meshes, graphs and exported models are true; the rest is refused with a message."""

import os
import warnings

import numpy as np
import pytest

import anyops
from tests import compiled_once, record
from tests.backends import Backend, compile_fullgraph
from tests.programs import Program, close, on_several_devices, whole

# Cells that always run; tests/test_export.py has some of the exported ones.
SOME = {
    Program.SCAN: ["nms_mask"],
    Program.SHARD_MAP: ["nms_mask", "batch_norm"],
    Program.MESH: ["nms", "nms_mask", "kmeans_step"],
    Program.DYNAMIC: ["nms", "kmeans_step"],
    Program.MAKE_FX: ["nms", "nms_mask", "kmeans_step"],
    Program.AOT: ["nms", "kmeans_step"],
    Program.FAKE: ["nms", "nms_mask", "top_scores", "kmeans", "kmeans_step"],
    Program.TRACE: ["nms", "nms_mask", "top_scores", "batch_norm", "kmeans", "kmeans_step"],
}
OF_JAX = Program.SCAN, Program.SHARD_MAP, Program.MESH, Program.JAX_EXPORT


WHOLE = "ANYOPS_PROGRAMS" in os.environ  # as in `nox -s programs`: ten minutes and more
CELLS = [(p, op) for p in Program for op in (record.OPS if WHOLE else SOME.get(p, ()))]


@pytest.fixture(scope="module")
def several():
    """The JAX cells, which run in one process."""
    pytest.importorskip("jax")
    cells = {p: [op for q, op in CELLS if q is p] for p in OF_JAX}
    return on_several_devices({p: ops for p, ops in cells.items() if ops})


@pytest.mark.parametrize(("program", "op"), [x for x in CELLS if x[0] in OF_JAX], ids=str)
def test_jax(several, program, op):
    error = several[program.name][op]
    assert not error if program.why_not(op) is None else error, error


@pytest.mark.parametrize(("program", "op"), [x for x in CELLS if x[0] not in OF_JAX], ids=str)
def test_torch(program, op):
    pytest.importorskip("torch")
    if program is Program.ONNX:
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warnings about torch
        if program.why_not(op) is None:
            program.run(op)
        else:
            with pytest.raises(Exception):  # noqa: B017, PT011
                program.run(op)


@pytest.mark.parametrize(
    ("op", "why"),
    [
        ("nms", "nms returns as many indices as it keeps boxes, .* use nms_mask"),
        ("weighted_boxes_fusion", "use weighted_boxes_fusion_padded"),
        ("nms_mask", "torch.jit.trace would fix the number of loop steps .* use torch.export"),
        ("kmeans", "x must have values, .* kmeans_step does not"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's warnings about torch.jit and Python values in it
def test_torch_jit_trace_is_refused_in_words(op, why):
    torch = pytest.importorskip("torch")
    f, arrays = whole(op)
    with pytest.raises(TypeError, match=why):
        torch.jit.trace(f, tuple(map(torch.asarray, arrays)))


@pytest.mark.filterwarnings("ignore")
def test_more_tiles_than_one_are_not_traced():
    """A trace would fix the number of tiles to the example's, for any number of boxes."""
    torch = pytest.importorskip("torch")
    boxes = torch.rand(300, 4)
    with pytest.raises(TypeError, match=r"torch\.jit\.trace would fix"):
        torch.jit.trace(anyops.fast_nms_mask, (boxes, boxes[:, 0]))


def test_a_loop_of_constant_sizes_is_refused_by_aot_function():
    torch = pytest.importorskip("torch")
    from functorch.compile import aot_function, nop

    f, arrays = whole("nms_mask")
    with pytest.raises(TypeError, match="pass dynamic=True"):
        aot_function(f, nop)(*map(torch.asarray, arrays))


@pytest.mark.parametrize("op", ["box_iou", "nms_mask", "sigmoid_focal_loss", "softmax_focal_loss", "logistic_loss"])
def test_16_bits_beside_other_floats_in_one_graph(op):
    """Each floating argument in turn; the result has the dtype of an eager call's result."""
    torch = pytest.importorskip("torch")
    f, arrays = whole(op)
    given = [torch.asarray(x) for x in arrays]
    if op.endswith("focal_loss"):  # floating targets
        given[1] = torch.nn.functional.softmax(given[0], dim=1)
    for k, x in enumerate(given):
        if x.is_floating_point():
            mixed = [y.to(torch.bfloat16) if i == k else y for i, y in enumerate(given)]
            found, wanted = compile_fullgraph(f, "eager")(*mixed), f(*mixed)
            assert [x.dtype for x in found] == [x.dtype for x in wanted]
            close([x.float() for x in found], [x.float() for x in wanted])


COMPILED = [op for op in record.OPS if anyops.support()[op].why_not("compile", "torch") is None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_second_call_is_not_compiled_again():
    pytest.importorskip("torch")
    ops = COMPILED if WHOLE else ["nms_mask", "box_iou", "sigmoid_focal_loss", "batch_norm"]
    assert compiled_once.again(ops) == dict.fromkeys(ops, "")


STATIC = [op for op in record.OPS if anyops.support()[op].why_not("jit", "jax") is None]


@pytest.mark.parametrize("op", STATIC if WHOLE else ["clip_boxes", "box_iou_loss", "nms_mask"])
def test_a_warm_call_ships_nothing(op):
    """Numbers of an earlier call are cached on the device."""
    jax = pytest.importorskip("jax")
    f, arrays = whole(op)
    with Backend.JAX_CPU.active():
        given = [jax.device_put(x) for x in arrays]
        for call in (f, jax.jit(f)):
            wanted = call(*given)
            with jax.transfer_guard("disallow"):
                found = call(*given)
            close(found, wanted)


def test_results_of_parts_keep_the_parts():
    """On explicit axes: the leading axes that a result shares with its arguments are sharded alike."""
    pytest.importorskip("jax")
    import jax

    mesh = jax.make_mesh((1,), ("scenes",), axis_types=(jax.sharding.AxisType.Explicit,), devices=jax.devices()[:1])
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("scenes"))
    boxes = jax.device_put(np.zeros((2, 3, 4), np.float32), there)
    scores = jax.device_put(np.zeros((2, 3), np.float32), there)
    found = jax.jit(anyops.nms_mask)(boxes, scores)
    assert jax.typeof(found).sharding.spec[0] == "scenes"


@pytest.mark.parametrize("n", [9, 70_000])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize("op", ["nms_mask", "soft_nms_scores", "cluster_nms_scores", "fast_nms_mask", "top_scores"])
def test_scores_of_any_dtype_vary_over_a_mesh(op, dtype, n):
    """One device suffices: the types of arrays say whether they vary over the mesh."""
    jax = pytest.importorskip("jax")
    spec = jax.sharding.PartitionSpec("x")
    with jax.enable_x64(True):
        mesh = jax.make_mesh((1,), ("x",))
        shards = jax.sharding.NamedSharding(mesh, spec)
        boxes, scores = (
            jax.ShapeDtypeStruct(shape, dtype if "float" in dtype or len(shape) == 2 else "float32", sharding=shards)
            for shape in ((1, n, 4), (1, n))
        )

        def call(boxes, scores):
            return anyops.top_scores(scores, 5) if op == "top_scores" else getattr(anyops, op)(boxes, scores)

        mapped = jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec)
        found, wanted = jax.eval_shape(mapped, boxes, scores), jax.eval_shape(call, boxes, scores)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
