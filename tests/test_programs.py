"""Declarations of ops about loops, meshes, graphs and exported models are true; the rest is refused with a message."""

import os
import warnings
from functools import partial

import numpy as np
import pytest

import anyops
from anyops._array.mode import _VIEWS
from tests import compiled_once, record
from tests.backends import Backend, compile_fullgraph
from tests.examples import BOXES, SCORES
from tests.programs import Program, close, leaves_of, on_several_devices, whole

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


def ships_nothing(call, *given):
    import jax

    wanted = leaves_of(call(*given))
    with jax.transfer_guard("disallow_explicit"):
        found = leaves_of(call(*given))
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture
def device(monkeypatch):
    """JAX with float64, where arrays on the CPU are treated as on a device: NumPy does not compute with views of them.

    On a CPU the guard does not see what is read from a device.
    """
    pytest.importorskip("jax")
    monkeypatch.delitem(_VIEWS, "jax")
    with Backend.JAX_X64.active():
        yield


@pytest.mark.parametrize("op", STATIC if WHOLE else ["clip_boxes", "box_iou_loss", "nms_mask"])
@pytest.mark.usefixtures("device")
def test_a_warm_call_ships_nothing(op):
    """Numbers of an earlier call are cached on the device."""
    import jax

    f, arrays = whole(op)
    given = [jax.device_put(x) for x in arrays]
    for call in (f, jax.jit(f)):
        ships_nothing(call, *given)


# Dtypes of scores (or samples, logits) and boxes (or centres): each of both at least once.
DTYPES = [
    *(("float32", "int32"), ("float16", "uint8"), ("bfloat16", "int16"), ("float64", "uint64"), ("int32", "float32")),
    *(("uint8", "bfloat16"), ("int64", "float64"), ("uint64", "float16"), ("uint32", "int64")),
]
NUMBERS = [0.5, 1, np.float32(0.5), np.asarray(1), np.asarray(0.5, np.float32)]  # the last two become 0-d JAX arrays
VALID, CLASSES = np.arange(8) != 3, np.arange(8) % 2
LEAST = [{"score_threshold": x} for x in NUMBERS]
# Options of several calls of each op. Those of NMS are for its other forms, too.
MASKED = [{}, {"valid": VALID, "labels": CLASSES}, {"fmt": "yxyx", "valid": VALID}, {"fmt": "cxcywh"}, {"fmt": "xywhr"}]
NMS = [*MASKED, {"overlaps": np.eye(8)}]
WARM = {
    "top_scores": [*LEAST, {"score_threshold": 2**70}],
    "nms_mask": [*NMS, *({"iou_threshold": x} for x in NUMBERS)],
    "fast_nms_mask": NMS,
    "soft_nms_scores": [*NMS, *LEAST, {"decay": "linear", "score_threshold": None}],
    "cluster_nms_scores": [*NMS, *({"sigma": x, "penalty": "score"} for x in NUMBERS)],
    "weighted_cluster_nms_boxes": [{}, {"valid": VALID, "penalty": "score+distance"}, {"overlaps": np.eye(8)}],
    "matrix_nms_scores": [*NMS, {"kernel": "linear"}],
    "weighted_boxes_fusion_padded": [
        *LEAST,
        {"score_threshold": 2**70},
        {"valid": VALID, "model_ids": CLASSES, "conf_type": "absent_model_aware_avg"},
        {"model_ids": CLASSES, "model_weights": [1.0, 2.0]},
    ],
    "box_area": [{}, {"fmt": "yxyx"}, {"fmt": "xywhr"}],
    "box_iou": [{}, {"fmt": "yxyx", "kind": "giou"}, {"fmt": "cxcywh"}],
    "box_iou_loss": [{"sample_weight": VALID}, {"fmt": "yxyx"}, {"sample_weight": CLASSES, "reduction": "mean"}],
    "sigmoid_focal_loss": [{"alpha": x, "gamma": x} for x in NUMBERS],
    "softmax_focal_loss_and_grad": [
        *({"alpha": x, "label_smoothing": x} for x in NUMBERS),
        {"alpha": [0.25, 0.5, 0.5, 1.0], "sample_weight": VALID},
    ],
    "batch_norm": [{"training": True, "momentum": x, "eps": x} for x in NUMBERS],
    "logistic_loss": [{}, {"l2": 1, "sample_weight": CLASSES}],
    "kmeans_partial": [{}, {"sample_weight": CLASSES}],
}


@pytest.mark.parametrize("dtypes", DTYPES if WHOLE else DTYPES[::2], ids=str)
@pytest.mark.parametrize("op", WARM if WHOLE else ["top_scores", "soft_nms_scores", "weighted_boxes_fusion_padded"])
@pytest.mark.usefixtures("device")
def test_a_warm_call_ships_nothing_of_any_dtype(op, dtypes):
    import jax

    on_device = jax.device_put
    scores, boxes = (
        on_device(np.round(x * 50)).astype(dtype) for x, dtype in zip((SCORES, BOXES + 1), dtypes, strict=True)
    )
    turned = jax.numpy.concat((boxes, boxes[:, :1]), axis=1)
    table = scores.reshape(2, 4).mT[:, :2].repeat(2, axis=0)  # (8, 2), of several uses
    first = {
        "top_scores": (scores, 3),
        "box_area": (boxes,),
        "box_iou": (boxes, boxes),
        "box_iou_loss": (boxes, boxes),
        "sigmoid_focal_loss": (scores, on_device(CLASSES)),
        "softmax_focal_loss_and_grad": (boxes, on_device(CLASSES)),
        "batch_norm": (table, *(on_device(np.ones(2, np.float32)),) * 2),
        "logistic_loss": (table, on_device(CLASSES), *map(on_device, (np.ones(2, np.float32), np.float32(1)))),
        "kmeans_partial": (table, table[:2]),
        "weighted_boxes_fusion_padded": (boxes, scores, on_device(CLASSES)),
    }.get(op, (boxes, scores))
    for options in WARM[op]:
        given = {name: on_device(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
        wide = options.get("fmt") == "xywhr"
        ships_nothing(partial(getattr(anyops, op), **given), *(turned if wide and x is boxes else x for x in first))


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
