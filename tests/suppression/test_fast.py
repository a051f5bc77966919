import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, dtype_name

NAN, INF = np.nan, np.inf

# name: (options, what of a scene is passed beside boxes and scores)
CASES = {
    "plain": ({}, ()),
    "labels, valid": ({}, ("labels", "valid")),
    "threshold 0": ({"iou_threshold": 0.0}, ("labels",)),
    "threshold 1/4": ({"iou_threshold": 0.25}, ("valid",)),
    "threshold 1": ({"iou_threshold": 1.0}, ()),
    "iof": ({"kind": "iof"}, ()),
    "ios": ({"kind": "ios"}, ("labels",)),
    "giou": ({"kind": "giou", "iou_threshold": 0.3}, ()),
    "diou": ({"kind": "diou"}, ()),
    "ciou": ({"kind": "ciou"}, ()),
    "overlaps": ({}, ("overlaps",)),
    "overlaps, labels, valid": ({"iou_threshold": 0.25}, ("overlaps", "labels", "valid")),
}
COMPILED = ["labels, valid", "overlaps"]
INDEX = [name for name, (_, extra) in CASES.items() if "valid" not in extra]
LANES = 60


# JAX compiles each case for a second or more: there it is a choice of tests and cases, and of x64 what is about dtypes.
ON_JAX = {
    "test_mask",
    "test_mask_where_each_case_is_compiled",
    "test_indices",
    "test_padding_changes_nothing",
    "test_score_threshold_and_max_output",
    "test_shapes",
    "test_static_at_size",
}
ON_X64 = {"test_dtypes", "test_nothing"}
CASES_ON_JAX = {"labels, valid", "iof", "overlaps"}


@pytest.fixture(autouse=True)
def less_on_jax(request):
    case = getattr(request.node, "callspec", None)
    backend, name = (case.params.get(key) if case else None for key in ("backend", "name"))
    test = request.node.originalname
    chosen = test in (ON_X64 if backend is Backend.JAX_X64 else ON_JAX)
    spared = name in CASES and name not in CASES_ON_JAX and "compiled" not in test
    if getattr(backend, "library", None) == "jax" and (spared or not chosen):
        pytest.skip("JAX has a choice of the cases, or compiling would take minutes")


@functools.cache
def example(name):
    """A batch in which no overlap is nearly the threshold, and what the reference keeps."""
    options, extra = CASES[name]

    def clear(scene):
        boxes, _, more = scene.only(*extra)
        act = reference.actions(boxes, kind=options.get("kind", "iou"), **more)
        return scenes.clear_of([act(i) for i in range(len(scene.scores))], options.get("iou_threshold", 0.5))

    batch = scenes.mixed(LANES, accept=clear)
    return batch, np.stack([by_lane(reference.fast_nms_mask, lane, options, extra) for lane in batch.lanes()])


def by_lane(f, lane, options, extra):
    boxes, scores, more = lane.only(*extra)
    return f(boxes, scores, dtype=np.float32, **options, **more)


@pytest.mark.parametrize("name", [name for name in CASES if name != "threshold 1"])
def test_cases_keep_and_drop(name):
    """And drop more than greedy NMS does."""
    (batch, keep), (options, extra) = example(name), CASES[name]
    assert np.sum(keep) > LANES
    assert np.sum(~keep) > LANES
    greedy = np.stack([by_lane(reference.clusters, lane, options, extra).kept for lane in batch.lanes()])
    assert np.all(keep <= greedy)
    assert np.any(keep < greedy)


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@pytest.mark.parametrize("name", CASES)
def test_mask(run, name):
    check_mask(run, name)


@pytest.mark.op("fast_nms_mask", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@pytest.mark.parametrize("name", COMPILED)
def test_mask_where_each_case_is_compiled(run, name):
    check_mask(run, name)


def check_mask(run, name):
    (batch, keep), (options, extra) = example(name), CASES[name]
    boxes, scores, more = batch.only(*extra)
    got = run(anyops.fast_nms_mask, boxes, scores, **options, **more)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, keep)


@pytest.mark.op("fast_nms")
@pytest.mark.parametrize("name", INDEX)
def test_indices(run, backend, name):
    (batch, keep), (options, extra) = example(name), CASES[name]
    lanes = LANES if backend.library == "numpy" else 18
    for lane, mask in zip(batch.lanes()[:lanes], keep[:lanes], strict=True):
        boxes, scores, more = lane.only(*extra)
        got = run(anyops.fast_nms, boxes, scores, **options, **more)
        assert got.tolist() == [i for i in reference.rank(scores.tolist()) if mask[i]]
        assert dtype_name(got) == backend.default("indexing")


@pytest.mark.op("fast_nms")
@pytest.mark.parametrize(
    "options",
    [
        {"score_threshold": 0.25},  # some scores are exactly this
        {"score_threshold": 0},
        {"score_threshold": 2},
        {"max_output": 0},
        {"max_output": 3},
        {"max_output": 10_000},
        {"score_threshold": 0.125, "max_output": 2, "iou_threshold": 0.25},
    ],
    ids=str,
)
def test_score_threshold_and_max_output(run, options):
    for seed in range(5):
        boxes, scores = scenes.dyadic(40, seed=seed)
        scores[[3, 20]] = NAN
        scores[[4, 21]] = -INF
        scores[[5, 22]] = 0.25
        assert run(anyops.fast_nms, boxes, scores, **options).tolist() == reference.fast_nms(
            boxes, scores, dtype=np.float32, **options
        )


@pytest.mark.op("fast_nms")
def test_the_suppressed_suppress(run):
    """Of a chain only the first stays; greedy NMS keeps every other box."""
    boxes, scores = scenes.chain(30)
    assert run(anyops.fast_nms, boxes, scores).tolist() == [0]
    assert run(anyops.nms, boxes, scores).tolist() == list(range(0, 30, 2))


@pytest.mark.op("fast_nms")
def test_threshold_is_strict_and_score_threshold_comes_first(run):
    boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 2]])
    scores = np.float32([0.25, 0.5, 0.75])
    assert run(anyops.fast_nms, boxes, scores, 0.5).tolist() == [2, 0]
    assert run(anyops.fast_nms, boxes, scores, 0.4375).tolist() == [2]
    assert run(anyops.fast_nms, boxes, scores[::-1].copy(), 0.4375, score_threshold=0.5).tolist() == [0]


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
def test_the_better_box_comes_first(run):
    overlaps = np.float32([[0, 0.75], [0.25, 0]])
    assert run(anyops.fast_nms_mask, None, np.float32([2, 1]), overlaps=overlaps).tolist() == [True, False]
    assert run(anyops.fast_nms_mask, None, np.float32([1, 2]), overlaps=overlaps).tolist() == [True, True]
    boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 1]])  # iof 1/4 and 1
    assert run(anyops.fast_nms_mask, boxes, np.float32([2, 1]), kind="iof").tolist() == [True, True]
    assert run(anyops.fast_nms_mask, boxes, np.float32([1, 2]), kind="iof").tolist() == [False, True]


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
def test_padding_changes_nothing(run):
    batch, keep = example("plain")
    more = batch.padded()
    valid = np.pad(np.ones(batch.scores.shape, bool), ((0, 0), (0, 3)))
    got = run(anyops.fast_nms_mask, more.boxes, more.scores, valid=valid)
    np.testing.assert_array_equal(got, np.pad(keep, ((0, 0), (0, 3))))


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("name", ["labels, valid", "overlaps"])
def test_permutation_equivariant_without_ties(run, name):
    options, extra = CASES[name]
    batch = scenes.mixed(LANES, accept=lambda s: len({*s.scores}) == len(s.scores))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    (boxes, scores, more), (boxes2, scores2, more2) = batch.only(*extra), batch.permuted(order).only(*extra)
    plain = run(anyops.fast_nms_mask, boxes, scores, **options, **more)
    np.testing.assert_array_equal(run(anyops.fast_nms_mask, boxes2, scores2, **options, **more2), plain[:, order])


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
def test_keeps_no_box_that_greedy_drops(run):
    batch = scenes.mixed(LANES)
    for t in (0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0):
        fast = run(anyops.fast_nms_mask, batch.boxes, batch.scores, t, labels=batch.labels)
        greedy = run(anyops.nms_mask, batch.boxes, batch.scores, t, labels=batch.labels)
        assert np.all(fast <= greedy)
        assert np.all(fast.any(axis=1))


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
def test_masks(run):
    masks, scores = np.random.default_rng(0).random((3, 8, 5, 6)) < 0.4, scenes.scores(3, 8)
    got = run(lambda m, s: anyops.fast_nms_mask(None, s, 0.3, overlaps=anyops.mask_iou(m, m)), masks, scores)
    for lane in range(3):
        overlaps = np.array([[reference.mask_overlap(a, b) for b in masks[lane]] for a in masks[lane]])
        want = reference.fast_nms_mask(None, scores[lane], 0.3, overlaps=overlaps)
        assert got[lane].tolist() == want.tolist()
        assert 0 < want.sum() < 8


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
def test_overlaps_beside_boxes_and_with_nan(run):
    batch, _ = example("overlaps")
    holes = np.where(batch.overlaps == 0.75, np.float32(NAN), batch.overlaps)
    got = run(anyops.fast_nms_mask, batch.boxes, batch.scores, 0.25, overlaps=holes)
    for lane, row, overlaps in zip(batch.lanes(), got, holes, strict=True):
        want = reference.fast_nms_mask(None, lane.scores, 0.25, overlaps=np.where(np.isnan(overlaps), 0, overlaps))
        assert row.tolist() == want.tolist()


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(run, backend, dtype):
    if not backend.has_dtype(dtype) or (backend is Backend.JAX_X64 and dtype != "float64"):
        pytest.skip(f"{backend} has no {dtype}, or is not where it is tried")
    batch = scenes.mixed(LANES).coarse()
    got = run(anyops.fast_nms_mask, batch.boxes, batch.scores, 0.3, dtype=dtype)
    want = [reference.fast_nms_mask(lane.boxes, lane.scores, 0.3) for lane in batch.lanes()]
    np.testing.assert_array_equal(got, want)


@pytest.mark.op("fast_nms")
def test_integers(run):
    boxes = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 40_000], [60_000, 0, 61_000, 50_000]], np.int32)
    assert run(anyops.fast_nms, boxes, np.array([3, 5, 2], np.int32)).tolist() == [1, 2]


@pytest.mark.op("fast_nms")
def test_nothing(run, backend):
    for options in ({}, {"labels": scenes.labels(0)}, {"max_output": 3}):
        got = run(anyops.fast_nms, *scenes.spread(0), **options)
        assert got.shape == (0,)
        assert dtype_name(got) == backend.default("indexing")


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("shape", [(0,), (0, 5), (2, 0, 4), (2, 3, 4)])
def test_shapes(run, shape):
    boxes, scores = scenes.boxes(*shape), scenes.scores(*shape)
    got = run(anyops.fast_nms_mask, boxes, scores, 0.1)
    assert (got.shape, got.dtype) == (shape, bool)
    for lane in np.ndindex(shape[:-1]):
        assert got[lane].tolist() == reference.fast_nms_mask(boxes[lane], scores[lane], 0.1).tolist()


SIZES = {s.__name__: s for s in (scenes.clustered, scenes.spread, scenes.dyadic, scenes.tied)}


@functools.cache
def sized(scene, n):
    boxes, scores = SIZES[scene](n, seed=n)
    labels = scenes.labels(n, classes=5)
    plain = reference.fast_nms(boxes, scores, dtype=np.float32)
    return boxes, scores, labels, plain, reference.fast_nms(boxes, scores, 0.25, labels=labels, dtype=np.float32)


@pytest.mark.op("fast_nms")
@pytest.mark.parametrize("n", [200, 1700])
@pytest.mark.parametrize("scene", SIZES)
def test_large(run, n, scene):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores, labels, plain, labelled = sized(scene, n)
    assert run(anyops.fast_nms, boxes, scores).tolist() == plain
    assert run(anyops.fast_nms, boxes, scores, 0.25, labels=labels).tolist() == labelled


@pytest.mark.op("fast_nms_mask", transforms=(Transform.EAGER,))
def test_static_at_size(run):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores = scenes.clustered(700)
    got = run(anyops.fast_nms_mask, boxes, scores)
    assert got.tolist() == reference.fast_nms_mask(boxes, scores, dtype=np.float32).tolist()


@pytest.mark.op("fast_nms")
def test_a_long_chain_and_many_equal_boxes(run):
    if run.backend is not Backend.NUMPY:
        pytest.skip("large scenes run on NumPy")
    assert run(anyops.fast_nms, *scenes.chain(5_000)).tolist() == [0]
    assert run(anyops.fast_nms, *scenes.identical(5_000)).tolist() == [int(np.argmax(scenes.scores(5_000)))]


def test_memory_does_not_follow_the_square():
    boxes, scores = scenes.spread(20_000)
    tracemalloc.start()
    anyops.fast_nms(boxes, scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000**2 / 4  # a quarter of a matrix of bool
