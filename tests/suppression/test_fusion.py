import functools
import re
import tracemalloc

import numpy as np
import pytest

import anyops
from anyops._host import match as matching
from tests import reference, scenes
from tests.backends import Backend, Transform, dtype_name, tolerance

NAN, INF = np.nan, np.inf
CONF_TYPES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
N, LANES, MODELS = 16, 40, 3

# name: (options, other fields to pass); with these weights products with scores are exact
CASES = {
    "one model": ({}, ()),
    "models": ({}, ("model_ids",)),
    "valid": ({"iou_threshold": 0.4}, ("model_ids", "valid")),
    "weights": ({"model_weights": (2, 1, 0.5)}, ("model_ids",)),
    "max": ({"conf_type": "max", "model_weights": (1, 4, 0.25, 2)}, ("model_ids",)),
    "box and model": ({"conf_type": "box_and_model_avg", "model_weights": (2, 1, 0.5, 4)}, ("model_ids", "valid")),
    "box and model, no weights": ({"conf_type": "box_and_model_avg"}, ("model_ids",)),
    "absent": ({"conf_type": "absent_model_aware_avg", "model_weights": (2, 1, 0.5, 4)}, ("model_ids", "valid")),
    "absent, no weights": ({"conf_type": "absent_model_aware_avg", "iou_threshold": 0.3}, ("model_ids",)),
    "weight 0": ({"conf_type": "box_and_model_avg", "model_weights": (0, 1, 2)}, ("model_ids",)),
    "threshold 0": ({"iou_threshold": 0, "score_threshold": 0.25}, ("model_ids",)),
    "threshold 0.9": ({"iou_threshold": 0.9, "conf_type": "absent_model_aware_avg"}, ("model_ids",)),
    "threshold 1": ({"iou_threshold": 1.0}, ("model_ids",)),
}
COMPILED = ["box and model", "absent"]


def spare(backend, *kept):
    """Skip a test on JAX, which compiles every case, except for a few (backend, case)."""
    if backend.library == "jax" and not any(kept):
        pytest.skip("JAX compiles each case, and runs a few")


@functools.cache
def scene(seed):
    """Boxes, scores, labels and the rest; every second scene on a grid, with ties and overlaps at the threshold."""
    boxes, scores = scenes.MIXTURE[seed // 2 % len(scenes.MIXTURE)](N, seed=seed)
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 1, N).astype(np.int32)
    valid, model_ids = rng.random(N) < 0.8, rng.integers(0, MODELS, N).astype(np.int32)
    made = scenes.Scene(boxes, scores, labels, valid, None)
    boxes, scores, *_ = made.coarse() if seed % 2 else made
    return boxes, scores, labels, {"model_ids": model_ids, "valid": valid}


@functools.cache
def example(name):
    """A batch in which no decision depends on rounding, and the reference of each lane."""
    options, extra = CASES[name]
    found = []
    for seed in range(5 * LANES):
        *arrays, more = scene(seed)
        more = {key: more[key] for key in extra}
        want = reference.weighted_boxes_fusion(*arrays, **options, **more, dtype=np.float32)
        if want.clear > 1e-5 and len(found) < LANES:
            found.append((arrays, more, want))
    assert len(found) == LANES
    batch = [np.stack([arrays[k] for arrays, _, _ in found]) for k in range(3)]
    return batch, {key: np.stack([more[key] for _, more, _ in found]) for key in extra}, [want for *_, want in found]


def in_place(wants, n=N):
    """The references as arrays padded with zeros."""
    lanes = len(wants)
    out = np.zeros((lanes, n, 4)), np.zeros((lanes, n)), np.zeros((lanes, n), np.int32), np.zeros((lanes, n), bool)
    for k, want in enumerate(wants):
        for x, values in zip(out, (*want[:3], True), strict=True):
            x[k, : len(want.scores)] = values
    return out


def close(got, want, rtol=1e-5):
    for x, y in zip(got, want, strict=True):
        if np.asarray(y).dtype.kind == "f":
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", CASES)
def test_cases_fuse(name):
    """Boxes of several models, more boxes than models, single boxes, ignored boxes; ties and odd boxes."""
    options, _ = CASES[name]
    (boxes, scores, _), more, wants = example(name)
    models = more.get("model_ids", np.zeros_like(scores, int))
    members = [(k, m) for k, want in enumerate(wants) for m in want.members]
    assert sum(len(want.scores) for want in wants) > 3 * LANES
    assert sum(len(m) == 1 for _, m in members) > LANES
    if options.get("iou_threshold") != 1:
        assert sum(len(m) > MODELS for _, m in members) > LANES / 4
        if "model_ids" in more:
            assert sum(len({models[k][i] for i in m}) == MODELS for k, m in members) > LANES / 5
    assert sum(len(m) for _, m in members) < scores.size
    assert np.isnan(boxes).any()
    assert np.isnan(scores).any()
    assert any(len(np.unique(lane)) < N - 1 for lane in scores)


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@pytest.mark.parametrize("name", CASES)
def test_padded(run, name):
    spare(run.backend, run.backend is Backend.JAX_X64 and name == "box and model")
    check_padded(run, name)


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@pytest.mark.parametrize("name", COMPILED)
def test_padded_where_each_case_is_compiled(run, name):
    spare(run.backend, run.backend is Backend.JAX_CPU and (run.transform is Transform.JIT) == (name == "absent"))
    check_padded(run, name)


def check_padded(run, name):
    batch, more, wants = example(name)
    got = run(anyops.weighted_boxes_fusion_padded, *batch, **CASES[name][0], **more)
    assert [x.dtype for x in got] == [np.float32, np.float32, np.int32, bool]
    close(got, in_place(wants))


@pytest.mark.op("weighted_boxes_fusion")
@pytest.mark.parametrize("name", [name for name in CASES if "valid" not in CASES[name][1]])
def test_index_form(run, backend, name):
    spare(backend, name == ("models" if backend is Backend.JAX_CPU else "absent, no weights"))
    batch, more, wants = example(name)
    for k in range(LANES if backend.library == "numpy" else LANES // 4):
        got = run(
            anyops.weighted_boxes_fusion,
            *(x[k] for x in batch),
            **CASES[name][0],
            **{key: x[k] for key, x in more.items()},
        )
        assert [x.dtype for x in got] == [np.float32, np.float32, np.int32]
        close(got, wants[k][:3])


SQUARE = [0, 0, 10, 10]
STATIC = (Transform.EAGER, Transform.JIT)


def fuse(run, boxes, scores, labels=None, **options):
    """Call both forms, which must agree."""
    spare(run.backend)
    boxes, scores = np.float32(boxes), np.float32(scores)
    labels = np.zeros(len(scores), np.int32) if labels is None else np.int32(labels)
    got = run(anyops.weighted_boxes_fusion, boxes, scores, labels, **options)
    *padded, valid = run(anyops.weighted_boxes_fusion_padded, boxes, scores, labels, **options)
    assert valid.tolist() == [True] * len(got[0]) + [False] * (len(scores) - len(got[0]))
    close([x[: len(got[0])] for x in padded], got)
    assert not any(x[len(got[0]) :].any() for x in padded)
    return [x.tolist() for x in got]


@pytest.mark.op("weighted_boxes_fusion")
def test_equal_scores_go_by_the_lower_index(run):
    # A chain: the second joins the first, which moves the fused box away from the third.
    boxes, scores = [[0, 0, 8, 1], [2, 0, 10, 1], [4, 0, 12, 1]], [0.5, 0.5, 0.5]
    assert fuse(run, boxes, scores)[0] == [[1, 0, 9, 1], [4, 0, 12, 1]]
    assert fuse(run, boxes[::-1], scores)[0] == [[3, 0, 11, 1], [0, 0, 8, 1]]


@pytest.mark.op("weighted_boxes_fusion")
def test_equal_overlaps_go_to_the_one_founded_first(run):
    boxes, scores = [[0, 0, 8, 1], [4, 0, 12, 1], [2, 0, 10, 1]], [0.5, 0.75, 0.25]
    got, *_ = fuse(run, boxes, scores)  # 3/5 with both, which overlap by 1/3
    assert np.allclose(got, [[3.5, 0, 11.5, 1], [0, 0, 8, 1]])


@pytest.mark.op("weighted_boxes_fusion")
def test_equal_results_come_as_they_were_founded(run):
    boxes = np.float32([SQUARE]) + 100 * np.arange(5, dtype=np.float32)[:, None]
    got, scores, labels = fuse(run, boxes, [0.25, 0.5, 0.25, 0.5, 0.25], [4, 3, 2, 1, 0])
    assert (labels, scores) == ([3, 1, 4, 2, 0], [0.5, 0.5, 0.25, 0.25, 0.25])
    assert got == boxes[[1, 3, 0, 2, 4]].tolist()


@pytest.mark.op("weighted_boxes_fusion")
def test_thresholds_are_strict(run):
    half = [SQUARE, [0, 0, 10, 5]]
    assert len(fuse(run, half, [0.5, 0.5], iou_threshold=0.5)[0]) == 2
    assert len(fuse(run, half, [0.5, 0.5], iou_threshold=np.nextafter(0.5, 0) - 1e-7)[0]) == 1
    assert fuse(run, [SQUARE] * 3, [0.25, 0.5, 0.75], score_threshold=0.25)[1] == [0.3125 * 2]
    apart = [SQUARE, [10, 0, 20, 10]]
    assert len(fuse(run, apart, [0.5, 0.5], iou_threshold=0.0)[0]) == 2  # they touch
    assert len(fuse(run, [SQUARE, SQUARE], [0.5, 0.5], iou_threshold=1.0)[0]) == 2


@pytest.mark.op("weighted_boxes_fusion")
def test_the_score_threshold_is_for_scores_before_weights(run):
    ids = np.int32([0, 1])
    got = fuse(run, [SQUARE, SQUARE], [0.5, 0.25], model_ids=ids, model_weights=[0.25, 4], score_threshold=0.25)
    assert np.allclose(got[1], 0.5 * 0.25 / 4.25)


@pytest.mark.op("weighted_boxes_fusion")
def test_weights_decide_the_order(run):
    """The box of the model with the larger weight is the founder, and has more weight in the fused box."""
    boxes, ids = [[0, 0, 8, 1], [2, 0, 10, 1]], np.int32([0, 1])
    got, scores, _ = fuse(run, boxes, [0.75, 0.25], model_ids=ids, model_weights=[1, 9])
    assert got == [[1.5, 0, 9.5, 1]]
    assert np.allclose(scores, (0.75 + 2.25) / 2 * 2 / 10)


@pytest.mark.op("weighted_boxes_fusion")
def test_scores_of_each_kind(run):
    """Three boxes of models 0 and 1 of four, by hand."""
    boxes, ids, weights = [SQUARE] * 3, np.int32([0, 0, 1]), [2, 1, 4, 1]
    want = {
        "avg": (1 + 0.5 + 0.25) / 3 * 3 / 8,
        "max": 1 / 4,
        "box_and_model_avg": 1.75 / 5 * 3 / 8,
        "absent_model_aware_avg": 1.75 / (5 + 5),
    }
    for conf_type, score in want.items():
        got = fuse(run, boxes, [0.5, 0.25, 0.25], model_ids=ids, model_weights=weights, conf_type=conf_type)
        assert got[0] == [SQUARE]
        np.testing.assert_allclose(got[1], [score], rtol=1e-6)
    assert np.allclose(fuse(run, boxes, [0.5, 0.25, 0.25], model_ids=ids, model_weights=[2, 1])[1], 1.75 / 3 * 2 / 3)


@pytest.mark.op("weighted_boxes_fusion")
@pytest.mark.parametrize("conf_type", CONF_TYPES)
def test_boxes_of_weight_0(run, conf_type):
    """They have no effect on box and score; if there are no others, the mean is unweighted."""
    boxes = [SQUARE, [0, 0, 10, 12], [50, 50, 60, 60], [50, 50, 60, 64], [90, 90, 99, 99]]
    ids, scores = np.int32([1, 0, 0, 0, 0]), [0.25, 0.75, 0.5, 0.75, 0.5]
    got = fuse(run, boxes, scores, model_ids=ids, model_weights=[0, 2], conf_type=conf_type)
    assert got[0] == [SQUARE, [50, 50, 60, 62], [90, 90, 99, 99]]
    first = 0.5 / 2 * 2 / 2 if conf_type == "avg" else 0.25
    assert got[1] == [first, 0, 0]


@pytest.mark.op("weighted_boxes_fusion")
def test_infinite_scores_outweigh_the_others(run):
    boxes = [[0, 0, 10, 14], SQUARE, [0, 0, 10, 12], [50, 0, 60, 10]]
    got = fuse(run, boxes, [INF, 0.5, INF, 0.5])
    assert got[0] == [[0, 0, 10, 13], [50, 0, 60, 10]]
    assert got[1][0] == INF
    got = fuse(run, boxes, [INF, 0.5, INF, 0.5], model_ids=np.int32([0, 1, 0, 1]), model_weights=[0, 1])
    assert got[0] == [SQUARE, [50, 0, 60, 10]]  # 0 · inf is NaN


@pytest.mark.op("weighted_boxes_fusion")
def test_odd_boxes_stay_what_they_are(run):
    """Boxes without area or with a NaN fuse with nothing. A NaN score is below every threshold."""
    odd = scenes.ODD_BOXES
    rows = [k for k, box in enumerate(odd) if not 0 < reference.box_area(box) < 1e30 or k == 16]
    boxes = np.concatenate([odd[rows], odd[rows], [[-2, -2, 5, 5], [-2, -2, 5, 5]]])
    scores = np.linspace(0.25, 0.75, len(boxes), dtype=np.float32)
    scores[-2] = NAN
    got, sure, _ = fuse(run, boxes, scores)
    order = [k for k in np.argsort(-scores) if k != len(boxes) - 2]
    np.testing.assert_array_equal(got, boxes[order])
    np.testing.assert_array_equal(sure, scores[order])


@pytest.mark.op("weighted_boxes_fusion")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtypes(run, backend, dtype):
    """16-bit inputs are computed in float32, and rounded once."""
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    spare(backend, dtype == ("float64" if backend is Backend.JAX_X64 else "bfloat16"))
    boxes = np.array([SQUARE, [0, 0, 10, 9], [0, 0, 9, 10], [30, 0, 40, 10]], dtype="float64")
    scores, labels = np.array([0.5, 0.375, 0.25, 0.125]), np.int32([5, 5, 5, 5])
    want = reference.weighted_boxes_fusion(boxes, scores, labels)
    for op in (anyops.weighted_boxes_fusion, anyops.weighted_boxes_fusion_padded):
        got = run.raw(op, boxes, scores, labels, dtype=dtype)
        assert [dtype_name(x) for x in got[:3]] == [dtype, dtype, "int32"]
        got = [backend.to_numpy(x)[: len(want.scores)] for x in got[:3]]
        np.testing.assert_allclose(got[0], want.boxes, rtol=tolerance(dtype))
        np.testing.assert_allclose(got[1], want.scores, rtol=tolerance(dtype))


@pytest.mark.op("weighted_boxes_fusion")
def test_integers_and_mixed_dtypes(run, backend):
    spare(backend, backend is Backend.JAX_CPU)
    boxes, scores = np.array([[200, 200, 250, 250], [200, 200, 250, 240]], np.uint8), np.array([3, 1], np.int32)
    for labels in (np.uint8([255, 255]), np.int32([-7, -7]), np.float32([0.5, 0.5])):
        for op in (anyops.weighted_boxes_fusion, anyops.weighted_boxes_fusion_padded):
            got = run.raw(op, boxes, scores, labels)
            default = backend.default("real floating")
            assert [dtype_name(x) for x in got[:3]] == [default, default, str(labels.dtype)]
            assert [backend.to_numpy(x)[0].tolist() for x in got[:3]] == [[200, 200, 250, 247.5], 2, labels[0]]
    if backend.has_dtype("float64"):
        got = run.raw(anyops.weighted_boxes_fusion, boxes.astype("float32"), np.float64([3, 1]), np.int32([0, 0]))
        assert [dtype_name(x) for x in got] == ["float32", "float64", "int32"]


@pytest.mark.op("weighted_boxes_fusion")
def test_labels_that_are_not_fused(run, backend):
    spare(backend, backend is Backend.JAX_X64)
    boxes, scores = np.float32([SQUARE] * 4), np.float32([0.5, 0.75, 0.25, 1])
    labels = [np.float32([NAN, NAN, 1, 2])]
    if backend.has_dtype("int64"):
        labels.append(np.array([2**62, 2**62 + 1, 2**62 + 2, 2**62 + 3]))  # equal as floats
    for ids in labels:
        for op in (anyops.weighted_boxes_fusion, anyops.weighted_boxes_fusion_padded):
            got = run(op, boxes, scores, ids)
            np.testing.assert_array_equal(got[2], ids[[3, 1, 0, 2]])


@pytest.mark.op("weighted_boxes_fusion")
def test_weights_as_an_array(run, backend):
    spare(backend, backend is Backend.JAX_CPU)
    (boxes, scores, labels), more, wants = example("weights")
    weights = np.float32(CASES["weights"][0]["model_weights"])
    for k in range(4):
        ids = more["model_ids"][k]
        got = run(anyops.weighted_boxes_fusion, boxes[k], scores[k], labels[k], model_ids=ids, model_weights=weights)
        close(got, wants[k][:3])
    got = run(anyops.weighted_boxes_fusion_padded, boxes, scores, labels, **more, model_weights=np.int32([4, 2, 1]))
    close(got[:1], in_place(wants)[:1])  # twice the weights, the same boxes and scores
    close(got[1:2], in_place(wants)[1:2])


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=STATIC)
def test_boxes_of_models_that_do_not_exist_take_no_part(run):
    spare(run.backend, run.backend is Backend.JAX_CPU and run.transform is Transform.JIT)
    boxes, scores, labels = np.float32([SQUARE] * 4), np.float32([1, 0.5, 1, 0.25]), np.int32([0] * 4)
    got = run(
        anyops.weighted_boxes_fusion_padded,
        *(boxes, scores, labels),
        model_ids=np.int32([-1, 0, 2, 1]),
        model_weights=(1, 1),
    )
    assert got[1].tolist() == [0.375, 0, 0, 0]
    assert got[3].tolist() == [True, False, False, False]


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=STATIC)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0)])
def test_empty(run, shape):
    boxes, scores, labels = scenes.boxes(*shape), scenes.scores(*shape), np.zeros(shape, np.uint8)
    got = run(anyops.weighted_boxes_fusion_padded, boxes, scores, labels, model_ids=np.zeros(shape, np.int32))
    assert [(x.shape, x.dtype) for x in got] == [
        ((*shape, 4), np.float32),
        (shape, np.float32),
        (shape, np.uint8),
        (shape, bool),
    ]


@pytest.mark.op("weighted_boxes_fusion")
def test_nothing_to_fuse(run):
    for n, least in ((0, 0.0), (5, 2.0)):
        boxes, scores = scenes.spread(n)
        got = run(anyops.weighted_boxes_fusion, boxes, scores, np.zeros(n, np.int32), score_threshold=least)
        assert [(x.shape, x.dtype) for x in got] == [((0, 4), np.float32), ((0,), np.float32), ((0,), np.int32)]
    got = run(anyops.weighted_boxes_fusion, np.zeros((0, 4), np.int32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    assert got[0].dtype.kind == "f"


# Properties


def large(scene, n, seed=0):
    boxes, scores = scene(n, seed=seed)
    rng = np.random.default_rng(seed)
    return boxes, scores, rng.integers(0, 3, n).astype(np.int32), rng.integers(0, MODELS, n).astype(np.int32)


@pytest.mark.op("weighted_boxes_fusion")
def test_disjoint_boxes_of_one_model_come_back(run):
    side = np.arange(12, dtype=np.float32)
    x, y = np.meshgrid(side * 0.3, side * 7 - 40)
    boxes = np.stack([x, y, x + 0.29, y + 6.9], -1).reshape(-1, 4).astype(np.float32)
    scores = scenes.scores(len(boxes))
    got = run(anyops.weighted_boxes_fusion, boxes, scores, np.int32(scores * 100), iou_threshold=0.0)
    order = np.argsort(-scores)
    for x, y in zip(got, (boxes, scores, np.int32(scores * 100)), strict=True):
        np.testing.assert_array_equal(x, y[order])


@pytest.mark.op("weighted_boxes_fusion")
@pytest.mark.parametrize("conf_type", CONF_TYPES)
def test_order_of_the_boxes_does_not_matter(run, conf_type):
    spare(run.backend)
    boxes, scores, labels, ids = large(scenes.clustered, 60)
    options = {"model_weights": (2, 1, 0.5), "conf_type": conf_type}
    want = run(anyops.weighted_boxes_fusion, boxes, scores, labels, model_ids=ids, **options)
    order = np.random.default_rng(1).permutation(60)
    for name in ("weighted_boxes_fusion", "weighted_boxes_fusion_padded"):
        got = run(getattr(anyops, name), *(x[order] for x in (boxes, scores, labels)), model_ids=ids[order], **options)
        close([x[: len(want[1])] for x in got[:3]], want)


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=STATIC)
def test_padding_changes_nothing(run):
    """Scores, positions and models of padding have no effect either."""
    spare(run.backend, run.backend is Backend.JAX_CPU and run.transform is Transform.JIT)
    batch, more, wants = example("absent, no weights")
    junk = np.float32([[0, 0, 4, 4], [NAN, -INF, INF, 3], [-1e9, -1e9, 1e9, 1e9]])
    boxes, scores, labels = (
        np.concatenate([np.broadcast_to(x, (LANES, 3, *x.shape[1:])), y], axis=1)
        for x, y in zip((junk, np.float32([9, INF, NAN]), np.int32([0, -1, 0])), batch, strict=True)
    )
    ids = np.pad(more["model_ids"], ((0, 0), (3, 0)), constant_values=9)
    valid = np.arange(N + 3) >= 3
    got = run(
        anyops.weighted_boxes_fusion_padded,
        *(boxes, scores, labels),
        model_ids=ids,
        valid=np.broadcast_to(valid, ids.shape).copy(),
        **CASES["absent, no weights"][0],
    )
    close(got, in_place(wants, N + 3))


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=(Transform.EAGER,))
def test_batches_of_any_rank(run):
    spare(run.backend)
    batch, more, wants = example("box and model")
    arrays = [x.reshape(2, 1, LANES // 2, *x.shape[1:]) for x in (*batch, *more.values())]
    got = run(
        anyops.weighted_boxes_fusion_padded,
        *arrays[:3],
        **dict(zip(more, arrays[3:], strict=True)),
        **CASES["box and model"][0],
    )
    close([x.reshape(LANES, *x.shape[3:]) for x in got], in_place(wants))


# Size: the loop of steps and the matching on the host give the same result, to the last bit in float64.


def creeping(n, seed=0):
    """Each box is right of the fused box of its row, which so moves away from its founder."""
    rng = np.random.default_rng(seed)
    row, scores = np.arange(n) % 12, np.sort(scenes.scores(n, seed=seed))[::-1]
    boxes, sums, weights = np.zeros((n, 4), np.float32), np.zeros(12), np.zeros(12)
    for k, r in enumerate(row):
        x = sums[r] / weights[r] + rng.uniform(1, 3) if weights[r] else 0
        boxes[k] = [x, 20 * r, x + 10, 20 * r + 10]
        sums[r], weights[r] = sums[r] + scores[k] * x, weights[r] + scores[k]
    return boxes, scores


SIZED = {
    "creeping": creeping,
    "clustered": scenes.clustered,
    "spread": scenes.spread,
    "tied": scenes.tied,
    "dyadic": scenes.dyadic,
    "tight": scenes.tight,
    "crowd": scenes.crowd,
    "identical": scenes.any_identical,
    "chain": scenes.any_chain,
    "all scales": scenes.all_scales,
    "giant": lambda n, seed: scenes.giant(n - 1),
}


@functools.cache
def by_steps(name, n, threshold):
    boxes, scores, labels, ids = large(SIZED[name], n, seed=n)
    scores = np.maximum(scores, 2.0**-30)
    arrays = boxes.astype(np.float64), scores.astype(np.float64), labels
    options = {"model_ids": ids, "model_weights": (2.0, 1.0, 0.7), "iou_threshold": threshold}
    return arrays, options, anyops.weighted_boxes_fusion_padded(*arrays, **options)


def check_sized(name, n, threshold):
    arrays, options, want = by_steps(name, n, threshold)
    got = anyops.weighted_boxes_fusion(*arrays, **options)
    count = int(want.valid.sum())
    assert len(got.boxes) == count
    for x, y in zip(got, want, strict=False):
        np.testing.assert_array_equal(x, y[:count])


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.55, 0.9])
@pytest.mark.parametrize("name", SIZED)
def test_large_scenes(name, threshold):
    check_sized(name, 1200, threshold)


@pytest.mark.parametrize(
    "constants", [{"ALL_MATCHED": 0}, {"ALL_MATCHED": 8, "PAIRS": 20, "PAIRS_PER_BOX": 0}, {"MARGIN": 0.02}], ids=str
)
@pytest.mark.parametrize("threshold", [0.3, 0.55])
@pytest.mark.parametrize("name", SIZED)
def test_how_pairs_are_found_changes_nothing(name, threshold, constants, monkeypatch):
    """In parts of few boxes, in halves of them, and with a narrow margin that fused boxes leave at once."""
    for constant, value in constants.items():
        monkeypatch.setattr(matching, constant, value)
    check_sized(name, 300, threshold)


def test_a_scene_wider_than_the_largest_number():
    left, right = [-1.5e308, 0, -1e308, 1e-10], [1e308, 0, 1.5e308, 1e-10]
    boxes = np.array([*[left, right] * 200, *[right] * 50])
    got = anyops.weighted_boxes_fusion(boxes, np.linspace(1, 0.5, len(boxes)), np.zeros(len(boxes), int))
    np.testing.assert_allclose(got.boxes / 1e308, np.array([left, right]) / 1e308, rtol=1e-12)


@pytest.mark.parametrize("name", ["spread", "clustered"])
def test_memory_does_not_follow_the_square(name):
    n = 20_000
    boxes, scores = SIZED[name](n, seed=0)
    tracemalloc.start()
    anyops.weighted_boxes_fusion(boxes, scores, np.zeros(n, int))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n**2 / 4  # a quarter of a matrix of bool


def test_boxes_that_all_overlap_are_not_all_paired(monkeypatch):
    n, counts = 20_000, []

    def spy(parts, room):
        found = collected(parts, room)
        counts.append(sum(len(part.better) for part in found or ()))
        return found

    collected = matching.collected
    monkeypatch.setattr(matching, "collected", spy)
    boxes, scores = scenes.any_identical(n)
    assert len(anyops.weighted_boxes_fusion(boxes, scores, np.zeros(n, int)).boxes) == 1
    assert 2 * n < sum(counts) < n**2 / 50
    assert max(counts) < 20 * n


# Gradients


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("conf_type", CONF_TYPES)
def test_gradients(backend, transform, conf_type):
    """Against differences of the reference, with steps too small to change the matching."""
    spare(backend, conf_type == "absent_model_aware_avg" if backend is Backend.JAX_X64 else conf_type == "avg")
    boxes, scores, labels, ids = large(scenes.clustered, 14, seed=3)
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    options = {"model_weights": (2, 1, 0.5), "conf_type": conf_type}
    want = reference.weighted_boxes_fusion(boxes, scores, labels, model_ids=ids, **options)
    assert want.clear > 1e-3
    assert max(map(len, want.members)) > 2
    weights = np.random.default_rng(0).normal(size=(len(want.scores), 5))

    def expected(b, s):
        out = reference.weighted_boxes_fusion(b, s, labels, model_ids=ids, **options)
        return float(np.sum(out.boxes * weights[:, :4]) + np.sum(out.scores * weights[:, 4]))

    slopes = reference.slopes(expected, boxes, scores)
    rest = [backend.asarray(x) for x in (labels, ids)]
    w = backend.asarray(weights)
    for op in (anyops.weighted_boxes_fusion, anyops.weighted_boxes_fusion_padded):
        if backend.library == "jax" and op is anyops.weighted_boxes_fusion:
            continue

        def loss(b, s, op=op):
            out = op(b, s, rest[0], model_ids=rest[1], **options)
            k = len(want.scores)
            return (out.boxes[:k, :] * w[:, :4]).sum() + (out.scores[:k] * w[:, 4]).sum()

        got = backend.gradient(loss, boxes, scores)
        rtol = 1e-6 if dtype_name(backend.asarray(boxes)) == "float64" else 2e-3
        for x, y in zip(got, slopes, strict=True):
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.op("weighted_boxes_fusion_padded", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("conf_type", CONF_TYPES)
def test_gradients_are_finite_where_values_are(backend, transform, conf_type):
    spare(backend, backend is Backend.JAX_CPU and conf_type == "box_and_model_avg")
    boxes = np.concatenate([scenes.ODD_BOXES[:9], scenes.ODD_BOXES[:9]]).astype(np.float32)
    scores = np.tile(np.float32([1, 0.5, 1, 0, NAN, 0.5, 1, 0.25, 1]), 2)
    ids = backend.asarray(np.int32([0, 1] * 9))
    labels = backend.asarray(np.zeros(18, np.int32))

    def loss(b, s):
        options = {"model_weights": (0, 2), "conf_type": conf_type}
        out = anyops.weighted_boxes_fusion_padded(b, s, labels, model_ids=ids, **options)
        usable = backend.xp.where(backend.xp.isnan(out.boxes), backend.xp.zeros_like(out.boxes), out.boxes)
        return backend.xp.sum(usable) + backend.xp.sum(out.scores)

    for gradient in backend.gradient(loss, boxes, scores):
        assert np.isfinite(gradient).all()
        assert gradient.any()


# Invalid arguments


def call(**change):
    boxes, scores = scenes.spread(4)
    given = {"boxes": boxes, "scores": scores, "labels": np.zeros(4, np.int32), "model_ids": np.int32([0, 1, 2, 1])}
    given |= change
    return [given.pop(name) for name in ("boxes", "scores", "labels")], given


# name of the argument, its value, text in the message
WRONG = {
    "boxes (4, 3)": ("boxes", np.zeros((4, 3)), "(4, 3)"),
    "boxes list": ("boxes", [[0, 0, 1, 1]], "list"),
    "boxes None": ("boxes", None, "NoneType"),
    "scores (3,)": ("scores", np.zeros(3), "(3,)"),
    "scores complex": ("scores", np.zeros(4) + 0j, "complex"),
    "labels (3,)": ("labels", np.zeros(3, int), "(3,)"),
    "labels None": ("labels", None, "NoneType"),
    "labels bool": ("labels", np.zeros(4, bool), "bool"),
    "model_ids (3,)": ("model_ids", np.zeros(3, int), "(3,)"),
    "model_ids float": ("model_ids", np.zeros(4), "float64"),
    "model_ids list": ("model_ids", [0, 1, 2, 1], "list"),
    "model_weights str": ("model_weights", "111", "'1'"),
    "model_weights of str": ("model_weights", [1, "2", 1], "'2'"),
    "model_weights of bool": ("model_weights", [1, True, 1], "True"),
    "model_weights number": ("model_weights", 3.0, "float"),
    "model_weights dict": ("model_weights", {0: 1.0}, "dict"),
    "model_weights (3, 1)": ("model_weights", np.ones((3, 1)), "(3, 1)"),
    "model_weights (0,)": ("model_weights", np.ones(0), "(0,)"),
    "model_weights array bool": ("model_weights", np.ones(3, bool), "bool"),
    "model_weights empty": ("model_weights", [], "[]"),
    "model_weights negative": ("model_weights", [1, -2, 1], "-2"),
    "model_weights NaN": ("model_weights", [1, NAN, 1], "nan"),
    "model_weights inf": ("model_weights", (1, INF, 1), "inf"),
    "model_weights all 0": ("model_weights", (0, 0, 0), "[0.0, 0.0, 0.0]"),
    "iou_threshold -0.1": ("iou_threshold", -0.1, "-0.1"),
    "iou_threshold 1.5": ("iou_threshold", 1.5, "1.5"),
    "iou_threshold NaN": ("iou_threshold", NAN, "nan"),
    "iou_threshold str": ("iou_threshold", "0.5", "str"),
    "score_threshold -1": ("score_threshold", -1, "-1"),
    "score_threshold NaN": ("score_threshold", NAN, "nan"),
    "score_threshold None": ("score_threshold", None, "NoneType"),
    "conf_type median": ("conf_type", "median", "avg, max, box_and_model_avg, absent_model_aware_avg, got 'median'"),
    "conf_type None": ("conf_type", None, "None"),
}
OPS = (anyops.weighted_boxes_fusion, anyops.weighted_boxes_fusion_padded)


def refused(op, argument, came, arrays, options):
    with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b") as error:
        op(*arrays, **options)
    assert came in str(error.value)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(op, name):
    argument, value, came = WRONG[name]
    refused(op, argument, came, *call(**{argument: value}))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("argument", ["model_ids", "model_weights"])
@pytest.mark.parametrize("other", [Backend.STRICT, Backend.TORCH_CPU, Backend.JAX_CPU])
def test_mixed_libraries(op, argument, other):
    if why := other.why_unavailable():
        pytest.skip(why)
    value = {"model_ids": np.int32([0, 1, 2, 1]), "model_weights": np.ones(3, np.float32)}[argument]
    refused(op, argument, "librar", *call(**{argument: other.asarray(value)}))


def test_wrong_valid():
    for value, came in ((np.ones(3, bool), "(3,)"), (np.ones(4), "float64")):
        refused(OPS[1], "valid", came, *call(valid=value))


@pytest.mark.op("weighted_boxes_fusion")
@pytest.mark.parametrize(
    ("argument", "value", "came", "weights"),
    [
        ("model_ids", [0, -1, 0, 0], "-1", None),
        ("model_ids", [0, 1, 2, 3], "below 3, the number of model_weights, got 3", [1, 1, 1]),
        ("model_weights", [1, -2, 1], "-2", None),
        ("model_weights", [1, NAN, 1], "nan", None),
        ("model_weights", [0, 0, 0], "[0.0, 0.0, 0.0]", None),
    ],
)
def test_values_in_arrays(run, argument, value, came, weights):
    """Values that the index form has to read anyway."""
    value = np.int32(value) if argument == "model_ids" else np.float32(value)
    arrays, options = call(**{argument: value})
    options |= {} if weights is None else {"model_weights": weights}
    with pytest.raises(ValueError, match=rf"{argument} must be .*{re.escape(came)}"):
        run(anyops.weighted_boxes_fusion, *arrays, **options)


@pytest.mark.parametrize("op", OPS)
def test_there_are_no_overlaps(op):
    arrays, options = call()
    with pytest.raises(TypeError, match="overlaps"):
        op(*arrays, **options, overlaps=np.eye(4))
    with pytest.raises(TypeError, match="positional"):
        op(*arrays, options["model_ids"])


@pytest.mark.parametrize("library", [Backend.NUMPY, Backend.TORCH_CPU, Backend.JAX_CPU])
def test_the_index_form_names_the_static_form(library):
    if why := library.why_unavailable():
        pytest.skip(why)
    (boxes, scores, labels), _ = call()
    batch = [library.asarray(np.stack([x, x])) for x in (boxes, scores, labels)]
    with pytest.raises(ValueError, match=r"use weighted_boxes_fusion_padded for batches"):
        anyops.weighted_boxes_fusion(*batch)
    if library.library == "jax":
        import jax

        with pytest.raises(TypeError, match="weighted_boxes_fusion_padded"):
            jax.jit(anyops.weighted_boxes_fusion)(*(x[0] for x in batch))
    if library.library == "torch":
        import torch

        with pytest.raises(TypeError, match="weighted_boxes_fusion_padded"):
            torch.func.vmap(anyops.weighted_boxes_fusion)(*batch)
