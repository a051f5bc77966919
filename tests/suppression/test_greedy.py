import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from anyops.suppression.greedy import APART
from tests import reference, scenes
from tests.backends import Backend, Transform, compile_fullgraph, dtype_name

NAN, INF = np.nan, np.inf


def labels(n, classes=3, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n).astype(np.int32)


def overlap_matrix(n, seed=0):
    """An asymmetric matrix with exact values; row i is the effect of box i on the others."""
    return (np.random.default_rng(seed).integers(0, 5, (n, n)) / 4).astype(np.float32)


def permuted(boxes, scores, seed):
    order = np.random.default_rng(seed).permutation(len(boxes))
    return boxes[order], scores[: len(boxes)]


N = 60
ODD = len(scenes.ODD_BOXES)
OVERLAPS = overlap_matrix(N)
SYMMETRIC = np.maximum(OVERLAPS, OVERLAPS.T)
FAR = np.float32([-9000, -9000, -9000, -9000])

# name: (boxes, scores, options of both forms)
CASES = {
    "clustered": (*scenes.clustered(N), {}),
    "spread": (*scenes.spread(N), {}),
    "tied": (*scenes.tied(N), {}),
    "all scores equal": (scenes.clustered(N)[0], np.ones(N, np.float32), {}),
    "at the threshold 1/2": (*scenes.dyadic(N), {"iou_threshold": 0.5}),
    "at the threshold 1/4": (*scenes.dyadic(N, seed=1), {"iou_threshold": 0.25}),
    "at the threshold 1/3": (*scenes.dyadic(N, seed=2), {"iou_threshold": 1 / 3}),
    "threshold 0": (*scenes.dyadic(N, seed=3), {"iou_threshold": 0.0}),
    "threshold 1": (*scenes.dyadic(N, seed=4), {"iou_threshold": 1.0}),
    "labels": (*scenes.clustered(N), {"labels": labels(N)}),
    "labels, far from the origin": (scenes.clustered(N)[0] + FAR, scenes.scores(N), {"labels": labels(N)}),
    "labels, large": (*scenes.clustered(N), {"labels": labels(N) + np.int32(2**31 - 9)}),
    "labels, negative": (*scenes.tied(N), {"labels": labels(N) - np.int32(2)}),
    "labels, one each": (*scenes.clustered(N), {"labels": np.arange(N, dtype=np.int32)}),
    "labels, uint8": (*scenes.clustered(N), {"labels": (labels(N) + 253).astype(np.uint8)}),
    "iof": (*scenes.dyadic(N, seed=5), {"kind": "iof"}),
    "ios": (*scenes.dyadic(N, seed=6), {"kind": "ios"}),
    "giou": (*scenes.clustered(N, seed=7), {"kind": "giou", "iou_threshold": 0.4}),
    "diou": (*scenes.clustered(N, seed=8), {"kind": "diou", "labels": labels(N, 2)}),
    "diou, threshold 0": (*scenes.clustered(N, seed=9), {"kind": "diou", "iou_threshold": 0.0}),
    "overlaps": (None, scenes.scores(N), {"overlaps": OVERLAPS}),
    "overlaps, symmetric": (None, scenes.scores(N), {"overlaps": SYMMETRIC, "iou_threshold": 0.75}),
    "overlaps, labels, ties": (None, scenes.tied(N)[1], {"overlaps": OVERLAPS, "labels": labels(N)}),
    "overlaps beside boxes": (*scenes.clustered(N), {"overlaps": OVERLAPS}),
    "overlaps with NaN": (None, scenes.scores(N), {"overlaps": np.where(OVERLAPS == 1, np.float32(NAN), OVERLAPS)}),
    **{f"odd boxes {i}": (*permuted(scenes.ODD_BOXES, scenes.scores(ODD), i), {}) for i in range(4)},
    "odd boxes, iof": (*permuted(scenes.ODD_BOXES, scenes.scores(ODD), 5), {"kind": "ios"}),
    "odd boxes, labels": (*permuted(scenes.ODD_BOXES, scenes.scores(ODD), 6), {"labels": labels(ODD, 2)}),
    "none": (*scenes.spread(0), {}),
    "none, labels": (*scenes.spread(0), {"labels": labels(0)}),
    "one": (*scenes.spread(1), {}),
    "one, inverted": (np.float32([[3, 3, 1, 1]]), np.float32([NAN]), {}),
    "two, the same": (*scenes.identical(2), {}),
    "identical": (*scenes.identical(N), {}),
    "chain": (*scenes.chain(N), {}),
    "giant": (*scenes.giant(N), {"kind": "ios"}),
    "all scales": (*scenes.all_scales(N), {"iou_threshold": 0.1}),
}
BY_NAME = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
FEW = [
    "tied",
    "at the threshold 1/2",
    "labels",
    "diou",
    "overlaps, labels, ties",
    "odd boxes 0",
    "none",
    "one",
    "chain",
]
A_FEW_BY_NAME = pytest.mark.parametrize("case", [CASES[name] for name in FEW], ids=FEW)
BY_RANK = ["clustered", "spread", "labels", "giou", "diou"]


@pytest.mark.parametrize("name", BY_RANK)
def test_random_cases_are_clear_of_the_threshold(name):
    """Expected values do not depend on the rounding of a quotient."""
    boxes, scores, options = CASES[name]
    t, kind = options.get("iou_threshold", 0.5), options.get("kind", "iou")
    assert np.abs(reference.pairwise(boxes, boxes, kind) - t).min() > 1e-5
    assert reference.greedy(boxes, scores, **options) == reference.greedy(boxes, scores, dtype=np.float32, **options)


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("at the threshold")])
def test_dyadic_cases_touch_the_threshold(name):
    boxes, _, options = CASES[name]
    exact = reference.pairwise(boxes, boxes) == options["iou_threshold"]
    assert exact.sum() > 20


@pytest.mark.op("nms")
@BY_NAME
def test_indices(run, backend, case):
    boxes, scores, options = case
    got = run(anyops.nms, boxes, scores, **options)
    assert got.tolist() == reference.greedy(boxes, scores, dtype=np.float32, **options)
    assert dtype_name(got) == backend.default("indexing")


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@BY_NAME
def test_mask(run, case):
    check_mask(run, case)


@pytest.mark.op("nms_mask", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@A_FEW_BY_NAME
def test_mask_where_each_case_is_compiled(run, case):
    check_mask(run, case)


def check_mask(run, case):
    boxes, scores, options = case
    got = run(anyops.nms_mask, boxes, scores, **options)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, reference.greedy_mask(boxes, scores, dtype=np.float32, **options))


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER,))
@A_FEW_BY_NAME
def test_valid(run, case):
    boxes, scores, options = case
    valid = np.random.default_rng(0).random(len(scores)) < 0.5
    want = reference.greedy_mask(boxes, scores, valid=valid, dtype=np.float32, **options)
    np.testing.assert_array_equal(run(anyops.nms_mask, boxes, scores, valid=valid, **options), want)


@pytest.mark.op("nms_mask")
def test_nothing_valid(run):
    boxes, scores = scenes.spread(N)
    assert not run(anyops.nms_mask, boxes, scores, valid=np.zeros(N, bool)).any()


@pytest.mark.op("batched_nms")
@pytest.mark.parametrize(
    "name", [n for n, c in CASES.items() if "labels" in c[2] and not {"overlaps", "kind"} & set(c[2])]
)
def test_batched(run, backend, name):
    boxes, scores, options = CASES[name]
    got = run(anyops.batched_nms, boxes, scores, options["labels"], 0.5)
    assert got.tolist() == reference.greedy(boxes, scores, 0.5, labels=options["labels"], dtype=np.float32)
    assert dtype_name(got) == backend.default("indexing")


@pytest.mark.op("nms")
@pytest.mark.parametrize(
    "options",
    [
        {"max_output": 5},
        {"max_output": 0},
        {"max_output": 10_000},
        {"score_threshold": 0.5},  # dyadic scores: some are exactly this
        {"score_threshold": 0},
        {"score_threshold": 2},
        {"score_threshold": INF},
        {"score_threshold": 0.25, "max_output": 7},
        {"score_threshold": 0.25, "max_output": 7, "labels": labels(200), "iou_threshold": 0.25},
    ],
    ids=str,
)
def test_score_threshold_and_max_output(run, backend, options):
    boxes, scores = scenes.dyadic(200)
    scores[[3, 50]] = NAN
    scores[[4, 51]] = -INF
    got = run(anyops.nms, boxes, scores, **options)
    assert got.tolist() == reference.greedy(boxes, scores, **options)
    assert dtype_name(got) == backend.default("indexing")


@pytest.mark.op("nms")
def test_score_threshold_comes_first_and_max_output_last(run):
    boxes, scores = scenes.identical(3)
    boxes[2] += 100
    scores = np.float32([0.25, 0.75, 0.5])
    assert run(anyops.nms, boxes, scores, score_threshold=0.5).tolist() == [1]
    assert run(anyops.nms, boxes, scores, max_output=2).tolist() == [1, 2]


RANKS = [
    ([1, 2, 3], [2, 1, 0]),
    ([5, 5, 5, 5], [0, 1, 2, 3]),
    ([1, 2, 1, 2], [1, 3, 0, 2]),
    ([NAN, -INF, 1, NAN, INF, 0], [4, 2, 5, 1, 0, 3]),
    ([-0.0, 0.0, -0.0, 0.0, -1], [0, 1, 2, 3, 4]),
    ([0.0, -0.0, NAN, 1e-45, -1e-45], [3, 0, 1, 4, 2]),
    ([-9.5, -9.25, -9.75], [1, 0, 2]),
    ([3e38, INF, -3e38, -INF], [1, 0, 2, 3]),
]


@pytest.mark.op("nms")
@pytest.mark.parametrize(("scores", "want"), RANKS)
def test_order(run, scores, want):
    if run.backend.library in ("torch", "jax", "cupy") and 1e-45 in scores:
        scores = [s * 1e9 for s in scores]  # they flush subnormal numbers to zero, CuPy in sorts
    n = len(scores)
    apart = np.stack([np.arange(n) * 9, np.zeros(n), np.arange(n) * 9 + 2, np.ones(n)], 1).astype(np.float32)
    assert run(anyops.nms, apart, np.float32(scores)).tolist() == want
    assert run(anyops.nms, apart * 0 + np.float32([0, 0, 1, 1]), np.float32(scores)).tolist() == want[:1]


def ten(k):
    """Two boxes whose IoU is k/10."""
    return np.float32([[0, 0, 10, 1], [0, 0, k, 1]]), np.float32([1, 0.5])


@pytest.mark.op("nms")
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_threshold_is_cast_to_the_compute_dtype(run, backend, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    compute = np.float64 if dtype == "float64" else np.float32
    for k in (1, 3, 7):
        boxes, scores = ten(k)
        below = float(np.nextafter(compute(k / 10), compute(0)))
        assert run(anyops.nms, boxes, scores, k / 10, dtype=dtype).tolist() == [0, 1], k
        assert run(anyops.nms, boxes, scores, below, dtype=dtype).tolist() == [0], k


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER, Transform.JIT))
def test_threshold_is_cast_to_the_compute_dtype_in_the_mask(run):
    for k in (1, 3, 7):
        boxes, scores = ten(k)
        below = float(np.nextafter(np.float32(k / 10), np.float32(0)))
        assert run(anyops.nms_mask, boxes, scores, k / 10).tolist() == [True, True], k
        assert run(anyops.nms_mask, boxes, scores, below).tolist() == [True, False], k


@pytest.mark.op("nms")
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_integer_boxes(run, dtype):
    boxes = {
        "uint8": [[200, 200, 250, 250], [200, 200, 250, 240], [10, 10, 60, 255], [0, 0, 1, 1]],
        "int32": [[0, 0, 50_000, 50_000], [0, 0, 50_000, 40_000], [60_000, 0, 110_000, 50_000], [0, 0, 1, 1]],
    }
    boxes = np.array(boxes.get(dtype, boxes["int32"]), dtype)
    assert run(anyops.nms, boxes, np.float32([0.9, 0.8, 0.7, 0.95])).tolist() == [3, 0, 2]


@pytest.mark.op("nms")
def test_scores_may_have_another_dtype_than_boxes(run, backend):
    boxes, scores = scenes.dyadic(50)
    for dtypes in (("float16", "float32"), ("float32", "float16"), ("float32", "float64")):
        if not all(map(backend.has_dtype, dtypes)):
            continue
        got = run(anyops.nms, boxes.astype(dtypes[0]), scores.astype(dtypes[1]))
        assert got.tolist() == reference.greedy(boxes, scores)


@pytest.mark.op("nms")
def test_large_int64_labels_are_not_mixed_up(run, backend):
    if not backend.has_dtype("int64"):
        pytest.skip(f"{backend} has no int64")
    boxes, scores = scenes.identical(4)
    ids = np.array([2**62, 2**62 + 1, 2**62, 2**62 + 2])  # equal as floats
    assert run(anyops.nms, boxes, scores, labels=ids).tolist() == reference.greedy(boxes, scores, labels=ids)


LANES = [
    scenes.identical(40),
    scenes.chain(40),
    scenes.spread(40),
    scenes.clustered(40),
    scenes.giant(39),
    scenes.dyadic(40),
]


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER, Transform.JIT, Transform.COMPILE))
@pytest.mark.parametrize("extra", [(), ("labels", "valid"), ("overlaps",)])
def test_batches(run, extra):
    boxes, scores = (np.stack(x).reshape(2, 3, *x[0].shape) for x in zip(*LANES, strict=True))
    rng = np.random.default_rng(0)
    options = {
        "labels": rng.integers(0, 2, scores.shape).astype(np.int32),
        "valid": rng.random(scores.shape) < 0.7,
        "overlaps": np.stack([overlap_matrix(40, i) for i in range(6)]).reshape(2, 3, 40, 40),
    }
    options = {k: options[k] for k in extra}
    got = run(anyops.nms_mask, boxes, scores, 0.5, **options)
    assert got.shape == (2, 3, 40)
    for lane in np.ndindex(2, 3):
        want = reference.greedy_mask(boxes[lane], scores[lane], 0.5, **{k: v[lane] for k, v in options.items()})
        np.testing.assert_array_equal(got[lane], want, err_msg=str(lane))


@pytest.mark.op("nms_mask", transforms=(Transform.VMAP, Transform.FUNC_VMAP))
def test_lanes_of_different_length_under_vmap(backend, transform):
    boxes, scores = (np.stack(x) for x in zip(*LANES, strict=True))

    def f(b, s):
        return anyops.nms_mask(b, s, 0.5)

    if backend.library == "jax":
        import jax

        mapped = jax.vmap(f), jax.jit(jax.vmap(f))
    else:
        import torch

        mapped = (torch.func.vmap(f), torch.func.vmap(f, in_dims=0, out_dims=0))
    want = [reference.greedy_mask(b, s) for b, s in LANES]
    for g in mapped:
        got = g(backend.asarray(boxes), backend.asarray(scores))
        np.testing.assert_array_equal(backend.to_numpy(got), want)


@pytest.mark.op("nms_mask", transforms=(Transform.COMPILE,))
def test_inductor(backend, transform):
    boxes, scores = scenes.clustered(40)
    f = compile_fullgraph(lambda b, s: anyops.nms_mask(b, s, 0.5), "inductor")
    got = f(backend.asarray(boxes), backend.asarray(scores))
    np.testing.assert_array_equal(backend.to_numpy(got), reference.greedy_mask(boxes, scores))


TOO_SLOW = "large scenes run once for each library, not on array-api-strict"
SCENES = {s.__name__: s for s in (scenes.clustered, scenes.spread, scenes.dyadic, scenes.tied)}


@functools.cache
def sized(scene, n):
    """A scene, with the boxes kept at 0.5, and at 0.25 within labels."""
    boxes, scores = SCENES[scene](n, seed=n)
    ids = labels(n, 5)
    plain = reference.greedy(boxes, scores, 0.5, dtype=np.float32)
    return boxes, scores, ids, plain, reference.greedy(boxes, scores, 0.25, labels=ids, dtype=np.float32)


@pytest.mark.op("nms")
@pytest.mark.parametrize("n", [2, 31, 200, 1000, 3000])
@pytest.mark.parametrize("scene", SCENES)
def test_small_and_large(run, n, scene):
    if n >= 1000 and not run.backend.is_fast:
        pytest.skip(TOO_SLOW)
    boxes, scores, ids, plain, labelled = sized(scene, n)
    assert run(anyops.nms, boxes, scores, 0.5).tolist() == plain
    assert run(anyops.nms, boxes, scores, 0.25, labels=ids).tolist() == labelled


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER, Transform.JIT, Transform.COMPILE))
@pytest.mark.parametrize("n", [600])
def test_static_at_many_tiles(run, n):
    for scene in (scenes.clustered, scenes.dyadic):
        boxes, scores = scene(n, seed=n)
        got = run(anyops.nms_mask, boxes, scores, 0.5)
        np.testing.assert_array_equal(got, reference.greedy_mask(boxes, scores, 0.5, dtype=np.float32))


@pytest.mark.op("nms_mask", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("extra", [(), ("labels",), ("overlaps",)])
def test_few_valid_of_many(run, extra):
    check_few_valid(run, extra)


@pytest.mark.op("nms_mask", transforms=(Transform.VMAP,))
@pytest.mark.parametrize("extra", [("labels",), ("overlaps",)])
def test_few_valid_of_many_in_lanes(run, extra):
    check_few_valid(run, extra)


def check_few_valid(run, extra):
    """A compiled program has variants for several numbers of valid boxes."""
    if not run.backend.is_fast:
        pytest.skip(TOO_SLOW)
    boxes, scores = (np.stack(x) for x in zip(*(scenes.tied(1040, seed=k) for k in range(4)), strict=True))
    scores[:, ::50] = NAN
    valid = np.random.default_rng(0).random(scores.shape) < np.asarray([0.0, 0.04, 0.2, 0.9])[:, None]
    matrix = np.stack([overlap_matrix(1040, seed=k) for k in range(4)])
    more = {
        k: v for k, v in (("labels", labels(1040) + np.zeros((4, 1), np.int32)), ("overlaps", matrix)) if k in extra
    }
    for lanes in (slice(0, 2), slice(2, 4)):
        given = {"valid": valid[lanes], **{k: v[lanes] for k, v in more.items()}}
        got = run(anyops.nms_mask, boxes[lanes], scores[lanes], 0.5, **given)
        for k in range(2):
            one = {name: x[k] for name, x in given.items()}
            want = reference.greedy_mask(boxes[lanes][k], scores[lanes][k], 0.5, dtype=np.float32, **one)
            np.testing.assert_array_equal(got[k], want)


@pytest.mark.op("nms")
@pytest.mark.parametrize("kind", ["iof", "ios", "giou", "diou"])
def test_kinds_at_size(run, kind):
    boxes, scores = scenes.dyadic(700, seed=3)
    for t in (0.125, 0.5):
        assert run(anyops.nms, boxes, scores, t, kind=kind).tolist() == reference.greedy(
            boxes, scores, t, kind=kind, dtype=np.float32
        )


WORST = {
    "identical": (*scenes.identical(20_000), {}),
    "identical, labels": (*scenes.identical(5_000), {"labels": labels(5_000, 50)}),
    "chain": (*scenes.chain(5_000), {}),
    "chain, upside down": (scenes.chain(5_000)[0], scenes.chain(5_000)[1][::-1].copy(), {}),
    "giant": (*scenes.giant(5_000), {}),
    "giant, ios": (*scenes.giant(5_000), {"kind": "ios"}),
    "giant, last": (scenes.giant(5_000)[0], -scenes.giant(5_000)[1], {"iou_threshold": 1e-4}),
    "all scales": (*scenes.all_scales(4_000), {"iou_threshold": 0.3}),
    "all scales, threshold 0": (*scenes.all_scales(1_000), {"iou_threshold": 0.0}),
    "odd": (np.tile(scenes.ODD_BOXES, (100, 1)), scenes.scores(100 * ODD), {}),
    "one line": (np.pad(scenes.spread(3_000)[0][:, ::2], ((0, 0), (0, 2)))[:, [0, 2, 1, 3]], scenes.scores(3_000), {}),
}


@functools.cache
def worst(name):
    boxes, scores, options = WORST[name]
    return reference.greedy(boxes, scores, dtype=np.float32, **options)


@pytest.mark.op("nms")
@pytest.mark.parametrize("name", WORST)
def test_worst_cases(run, name):
    if not run.backend.is_fast:
        pytest.skip(TOO_SLOW)
    boxes, scores, options = WORST[name]
    assert run(anyops.nms, boxes, scores, **options).tolist() == worst(name)


@pytest.mark.op("nms")
def test_one_giant_over_a_hundred_thousand(run):
    if not run.backend.is_fast:
        pytest.skip(TOO_SLOW)
    boxes, scores = scenes.giant(100_000)  # disjoint, except for the giant, which is a hundred thousand times as large
    np.testing.assert_array_equal(run(anyops.nms, boxes, scores), np.argsort(-scores, stable=True))
    kept = run(anyops.nms, boxes, scores, kind="ios")
    assert kept.tolist() == [0]


@pytest.mark.parametrize("name", ["identical", "giant", "spread"])
def test_memory_does_not_follow_the_square(name):
    boxes, scores = getattr(scenes, name)(20_000)
    tracemalloc.start()
    anyops.nms(boxes, scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000**2 / 4  # a quarter of a matrix of bool


@pytest.mark.op("nms")
@pytest.mark.parametrize("name", ["tied", "at the threshold 1/2", "labels", "odd boxes 0", "all scales"])
def test_forms_agree(run, name):
    if run.backend is Backend.NUMPY_READONLY:
        pytest.skip("the values are those of numpy")
    boxes, scores, options = CASES[name]
    mask, indices = run(anyops.nms_mask, boxes, scores, **options), run(anyops.nms, boxes, scores, **options)
    assert sorted(indices.tolist()) == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("valid", [None, 0.2, 0.9])
def test_scenes_that_a_compiler_takes_one_by_one(valid):
    """Scenes of such sizes, under ``jit``; the last one is all padding."""
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    n, lanes = APART.start + 1100, (2, 2)
    boxes, scores = (np.stack(x) for x in zip(*(scenes.clustered(n, seed=k) for k in range(4)), strict=True))
    ids = np.stack([labels(n, seed=k) for k in range(4)])
    real = np.ones((4, n), bool) if valid is None else np.random.default_rng(0).random((4, n)) < valid
    real[3] = valid is None
    shaped = [x.reshape(*lanes, *x.shape[1:]) for x in (boxes, scores, ids, real)]
    with Backend.JAX_CPU.active():
        masked = None if valid is None else shaped[3]
        found = jax.jit(lambda b, s, c, v: anyops.nms_mask(b, s, 0.4, labels=c, valid=v))(*shaped[:3], masked)
        got = np.asarray(found).reshape(4, n)
    for k in range(4):
        want = reference.greedy_mask(boxes[k], scores[k], 0.4, labels=ids[k], valid=real[k], dtype=np.float32)
        np.testing.assert_array_equal(got[k], want)
