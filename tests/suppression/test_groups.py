import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, dtype_name

NAN = np.nan

# name: (options, what of a scene is passed beside boxes and scores)
CASES = {
    "plain": ({}, ()),
    "labels": ({}, ("labels",)),
    "threshold 0": ({"iou_threshold": 0.0}, ("labels",)),
    "threshold 1/4": ({"iou_threshold": 0.25}, ()),
    "threshold 1": ({"iou_threshold": 1.0}, ()),
    "score threshold": ({"score_threshold": 0.25}, ("labels",)),
    "score threshold 0": ({"score_threshold": 0, "iou_threshold": 0.25}, ()),
    "iof": ({"kind": "iof"}, ()),
    "ios": ({"kind": "ios"}, ("labels",)),
    "giou": ({"kind": "giou", "iou_threshold": 0.3}, ()),
    "diou": ({"kind": "diou", "iou_threshold": 0.3}, ()),
    "overlaps": ({}, ("overlaps",)),
    "overlaps, labels": ({"iou_threshold": 0.25, "score_threshold": 0.25}, ("overlaps", "labels")),
}
LANES = 60


# JAX compiles each case for a second or more: there it is a choice of tests and cases, and of x64 what is about dtypes.
ON_JAX = {"test_groups", "test_scores_that_are_no_numbers", "test_nothing"}
ON_X64 = {"test_chain", "test_nothing"}
CASES_ON_JAX = {"labels", "score threshold", "overlaps, labels"}


@pytest.fixture(autouse=True)
def less_on_jax(request):
    case = getattr(request.node, "callspec", None)
    backend, name = (case.params.get(key) if case else None for key in ("backend", "name"))
    test = request.node.originalname
    chosen = test in (ON_X64 if backend is Backend.JAX_X64 else ON_JAX)
    spared = name in CASES and name not in CASES_ON_JAX
    if getattr(backend, "library", None) == "jax" and (spared or not chosen):
        pytest.skip("JAX has a choice of the cases, or compiling would take minutes")


@functools.cache
def example(name):
    """A batch in which no overlap is nearly the threshold, and its groups by the reference."""
    options, extra = CASES[name]

    def clear(scene):
        boxes, _, more = scene.only(*extra)
        act = reference.actions(boxes, kind=options.get("kind", "iou"), **more)
        return scenes.clear_of([act(i) for i in range(len(scene.scores))], options.get("iou_threshold", 0.5))

    batch = scenes.mixed(LANES, accept=clear)
    return batch, np.stack([expected(lane, options, extra) for lane in batch.lanes()])


def expected(lane, options, extra, dtype=np.float32):
    boxes, scores, more = lane.only(*extra)
    return reference.nms_groups(boxes, scores, dtype=dtype, **options, **more)


@pytest.mark.parametrize("name", CASES)
def test_cases_group(name):
    _, want = example(name)
    itself = want == np.arange(want.shape[1])
    assert np.sum(itself) > LANES
    assert name == "threshold 1" or np.sum(~itself & (want >= 0)) > LANES
    assert ("score_threshold" in CASES[name][0]) == np.any(want < 0)


@pytest.mark.op("nms_groups")
@pytest.mark.parametrize("name", CASES)
def test_groups(run, backend, name):
    (batch, want), (options, extra) = example(name), CASES[name]
    lanes = LANES if backend.library == "numpy" else 18
    for lane, groups in zip(batch.lanes()[:lanes], want[:lanes], strict=True):
        boxes, scores, more = lane.only(*extra)
        got = run(anyops.nms_groups, boxes, scores, **options, **more)
        assert got.tolist() == groups.tolist()
        assert dtype_name(got) == backend.default("indexing")


@pytest.mark.op("nms_groups")
def test_the_best_of_those_that_are_kept_and_overlap(run):
    """Not the one that overlaps most, nor one that is dropped, nor the first in the array."""
    boxes = np.float32([[6, 0, 14, 1], [1, 0, 9, 1], [0, 0, 8, 1], [3, 0, 11, 1], [5, 0, 13, 1], [30, 0, 38, 1]])
    scores = np.float32([0.5, 0.75, 1, 0.25, 0.25, 0.25])
    # 2 drops 1 and, by 5/11, 3; 0 stays beside it, and drops 4; 3 overlaps 0 as much.
    assert run(anyops.nms_groups, boxes, scores, 0.4).tolist() == [0, 2, 2, 2, 0, 5]
    assert run(anyops.nms_groups, boxes, np.float32([1, 0.5, 0.75, 0.25, 0.25, 0.25]), 0.4).tolist() == [
        0,
        2,
        2,
        0,
        0,
        5,
    ]


@pytest.mark.op("nms_groups")
def test_chain(run):
    """Each dropped box overlaps two that are kept, and belongs to the better one."""
    assert run(anyops.nms_groups, *scenes.chain(9)).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]


@pytest.mark.op("nms_groups")
def test_thresholds_are_strict(run):
    boxes, scores = np.float32([[0, 0, 4, 4], [0, 0, 4, 2]]), np.float32([1, 0.5])  # IoU 1/2
    assert run(anyops.nms_groups, boxes, scores, 0.5).tolist() == [0, 1]
    assert run(anyops.nms_groups, boxes, scores, 0.4375).tolist() == [0, 0]
    assert run(anyops.nms_groups, boxes, scores, 0.4375, score_threshold=0.5).tolist() == [0, -1]
    assert run(anyops.nms_groups, boxes, scores, 0.4375, score_threshold=2).tolist() == [-1, -1]


@pytest.mark.op("nms_groups")
def test_scores_that_are_no_numbers(run):
    boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 10, 10], [9, 9, 10, 10]])
    scores = np.float32([NAN, -1, NAN, NAN])
    assert run(anyops.nms_groups, boxes, scores).tolist() == [1, 1, 2, 2]
    assert run(anyops.nms_groups, boxes, scores, score_threshold=0).tolist() == [-1, -1, -1, -1]


@pytest.mark.op("nms_groups")
def test_representatives_are_what_nms_keeps(run):
    for lane in scenes.mixed(90 if run.backend is Backend.NUMPY else 9).lanes():
        for t in (0.0, 0.25, 1 / 3, 0.5):
            kept = run(anyops.nms, lane.boxes, lane.scores, t, labels=lane.labels, score_threshold=0.125)
            groups = run(anyops.nms_groups, lane.boxes, lane.scores, t, labels=lane.labels, score_threshold=0.125)
            assert {*groups.tolist()} - {-1} == {*kept.tolist()}
            assert groups[kept].tolist() == kept.tolist()
            assert np.all((groups >= 0) == (lane.scores > 0.125))
            assert np.all(lane.labels[groups] == lane.labels, where=groups >= 0)


@pytest.mark.op("nms_groups")
def test_permutation_equivariant_without_ties(run):
    batch = scenes.mixed(18, accept=lambda s: len({*s.scores}) == len(s.scores))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    for lane, other in zip(batch.lanes(), batch.permuted(order).lanes(), strict=True):
        plain = run(anyops.nms_groups, lane.boxes, lane.scores, 0.4, labels=lane.labels)
        assert (
            order[run(anyops.nms_groups, other.boxes, other.scores, 0.4, labels=other.labels)].tolist()
            == plain[order].tolist()
        )


@pytest.mark.op("nms_groups")
def test_masks(run):
    masks, scores = np.random.default_rng(0).random((12, 5, 6)) < 0.4, scenes.scores(12)
    got = run(lambda m, s: anyops.nms_groups(None, s, 0.3, overlaps=anyops.mask_iou(m, m)), masks, scores)
    overlaps = np.array([[reference.mask_overlap(a, b) for b in masks] for a in masks])
    assert got.tolist() == reference.nms_groups(None, scores, 0.3, overlaps=overlaps)
    assert 1 < len({*got.tolist()}) < 12


@pytest.mark.op("nms_groups")
def test_the_better_box_comes_first(run):
    overlaps = np.float32([[0, 0.75], [0.25, 0]])
    assert run(anyops.nms_groups, None, np.float32([2, 1]), overlaps=overlaps).tolist() == [0, 0]
    assert run(anyops.nms_groups, None, np.float32([1, 2]), overlaps=overlaps).tolist() == [0, 1]


@pytest.mark.op("nms_groups")
def test_integers_and_16_bits(run, backend):
    boxes = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 40_000], [60_000, 0, 61_000, 50_000]], np.int32)
    assert run(anyops.nms_groups, boxes, np.array([3, 5, 2], np.int32)).tolist() == [1, 1, 2]
    coarse = scenes.mixed(9).coarse()
    for dtype in filter(backend.has_dtype, ("float16", "bfloat16")):
        for lane in coarse.lanes():
            want = reference.nms_groups(lane.boxes, lane.scores, 0.3)
            assert run(anyops.nms_groups, lane.boxes, lane.scores, 0.3, dtype=dtype).tolist() == want


@pytest.mark.op("nms_groups")
def test_nothing(run, backend):
    for options in ({}, {"labels": scenes.labels(0)}, {"score_threshold": 0.5}):
        got = run(anyops.nms_groups, *scenes.spread(0), **options)
        assert got.shape == (0,)
        assert dtype_name(got) == backend.default("indexing")


SIZES = {s.__name__: s for s in (scenes.clustered, scenes.spread, scenes.dyadic, scenes.tied)}


@functools.cache
def sized(scene, n):
    boxes, scores = SIZES[scene](n, seed=n)
    options = {"labels": scenes.labels(n, classes=5), "iou_threshold": 0.25, "score_threshold": 0.125}
    plain, labelled = (reference.nms_groups(boxes, scores, dtype=np.float32, **o) for o in ({}, options))
    return boxes, scores, options, plain, labelled


@pytest.mark.op("nms_groups")
@pytest.mark.parametrize("n", [200, 1700])
@pytest.mark.parametrize("scene", SIZES)
def test_large(run, n, scene):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores, options, plain, labelled = sized(scene, n)
    assert run(anyops.nms_groups, boxes, scores).tolist() == plain
    assert run(anyops.nms_groups, boxes, scores, **options).tolist() == labelled


def test_memory_does_not_follow_the_square():
    boxes, scores = scenes.spread(20_000)
    tracemalloc.start()
    anyops.nms_groups(boxes, scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000**2 / 4  # a quarter of a matrix of bool
