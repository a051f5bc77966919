"""Merging dropped boxes into kept ones, against a graph search."""

import tracemalloc
from itertools import product

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, dtype_name
from tests.suppression.family import clear_of_threshold

NAN, INF = np.nan, np.inf
THRESHOLDS = ((0.5, True), (0.0, False), (0.3, True))
CASES = [  # options, and whether there are labels
    ({"kind": kind, "overlap_threshold": THRESHOLDS[i % 3][0], "transitive": transitive}, THRESHOLDS[i % 3][1])
    for i, (kind, transitive) in enumerate(product(("iou", "ios", "iof", "giou", "diou"), (False, True)))
]


def merged(run, boxes, scores, labels=None, **options):
    """The parts of a result, None for labels if there are none."""
    if labels is not None:
        return run(lambda b, s, i: tuple(anyops.non_max_merge(b, s, labels=i, **options)), boxes, scores, labels)
    parts = run(lambda b, s: tuple(anyops.non_max_merge(b, s, **options)[k] for k in (0, 1, 3)), boxes, scores)
    return *parts[:2], None, parts[2]


def check(got, boxes, scores, labels=None, rtol=0.0, **options):
    """Return the number of merged boxes."""
    found, best_scores, found_labels, groups = got
    want, best, group = reference.non_max_merge(boxes, scores, labels=labels, **options)
    assert groups.tolist() == group
    np.testing.assert_array_equal(best_scores, scores[best])
    np.testing.assert_allclose(found, want, rtol=rtol)
    if labels is not None:
        np.testing.assert_array_equal(found_labels, labels[best])
        assert found_labels.dtype == labels.dtype
    return len(best)


def lanes(count, options, labelled, n=16):
    wanted = {"kind": options["kind"], "iou_threshold": options["overlap_threshold"]}
    extra = ("labels",) if labelled else ()
    for lane in scenes.mixed(count, n, accept=lambda scene: clear_of_threshold(scene, wanted, extra)).lanes():
        yield lane.boxes, lane.scores, lane.labels if labelled else None


@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
def test_definition(run):
    """In scenes of all kinds, including odd boxes and NaN scores."""
    all_of_them = run.backend is Backend.NUMPY
    for options, labelled in CASES if all_of_them else CASES[:4]:
        for boxes, scores, labels in lanes(10, options, labelled):
            got = merged(run, boxes, scores, labels, **options)
            check(got, boxes, scores, labels, dtype=np.float32, **options)


@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
def test_chain(run):
    """Each box overlaps the previous and the next one."""
    boxes, scores = scenes.chain(7)
    got = merged(run, boxes, scores)
    assert got[0][:, [0, 2]].tolist() == [[0, 5], [2, 7], [4, 9], [6, 10]]
    assert got[3].tolist() == [0, 0, 1, 1, 2, 2, 3]
    got = merged(run, boxes, scores, transitive=True)
    assert (got[0].tolist(), got[1].tolist(), got[3].tolist()) == ([[0, 0, 10, 1]], [1], [0] * 7)
    # A threshold is strict: neighbours overlap by 3/5.
    assert merged(run, boxes, scores, overlap_threshold=0.6, transitive=True)[3].tolist() == list(range(7))


@pytest.mark.parametrize("transitive", [False, True])
def test_kept_boxes_are_those_of_nms(transitive):
    boxes, scores = scenes.clustered(3000)
    got = anyops.non_max_merge(boxes, scores, transitive=transitive)
    kept = anyops.nms(boxes, scores)
    assert np.all(np.diff(got.scores) <= 0)
    if transitive:
        assert set(got.scores.tolist()) < set(scores[kept].tolist())
    else:
        np.testing.assert_array_equal(got.scores, scores[kept])
        np.testing.assert_array_equal(kept[got.groups], anyops.nms_groups(boxes, scores))


# Many pairs


@pytest.fixture
def no_small_graph(monkeypatch):
    """Treat every scene as one with many pairs."""
    monkeypatch.setattr("anyops.suppression.winners.PAIRS", 0)
    monkeypatch.setattr("anyops.suppression.winners.PAIRS_PER_BOX", 0)
    monkeypatch.setattr("anyops.suppression.merge.SAMPLE", 3)


@pytest.mark.usefixtures("no_small_graph")
@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
def test_definition_where_pairs_are_many(run):
    for options, labelled in CASES[1::2] if run.backend is Backend.NUMPY else CASES[1:4:2]:
        for boxes, scores, labels in lanes(10, options, labelled, n=24):
            got = merged(run, boxes, scores, labels, **options)
            check(got, boxes, scores, labels, dtype=np.float32, **options)


def piles(n, apart, seed=0):
    """Two piles of nearly equal boxes."""
    rng = np.random.default_rng(seed)
    corner = rng.normal(0, 0.5, (n, 2)) + np.where(np.arange(n) % 2, apart, 0)[:, None] * [1, 0]
    return np.concatenate((corner, corner + 50), 1), rng.random(n)


@pytest.mark.usefixtures("no_small_graph")
@pytest.mark.parametrize("apart", [10, 29, 35])
@pytest.mark.parametrize("kind", ["iou", "ios"])
def test_groups_that_meet_or_nearly_do(kind, apart):
    for seed in range(3):
        boxes, scores = piles(60, apart, seed)
        for t in (0.25, 0.28, 0.42):
            options = {"kind": kind, "overlap_threshold": t, "transitive": True}
            assert check(anyops.non_max_merge(boxes, scores, **options), boxes, scores, **options) <= 2


@pytest.mark.usefixtures("no_small_graph")
def test_a_scene_that_cannot_be_cut_into_strips():
    boxes, scores = scenes.clustered(40)
    boxes[0], boxes[1] = [0, 0, 3e38, 1e-3], [1e38, 0, 3e38, 1e-3]
    options = {"kind": "ios", "overlap_threshold": 0.3, "transitive": True}
    check(anyops.non_max_merge(boxes, scores, **options), boxes, scores, dtype=np.float32, **options)


@pytest.mark.parametrize("transitive", [False, True])
@pytest.mark.parametrize("scene", ["identical", "clustered", "spread", "piles"])
def test_memory_follows_the_boxes(scene, transitive):
    make = getattr(scenes, scene, None) or (lambda n: piles(n, 30))
    peaks = []
    for n in (3_000, 6_000):
        boxes, scores = make(n)
        tracemalloc.start()
        anyops.non_max_merge(boxes, scores, overlap_threshold=0.3, transitive=transitive)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < max(3 * peaks[0], 6_000**2 / 8)


# Formats, dtypes, gradients


@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("fmt", ["xywh", "cxcywh", "yxyx"])
def test_formats(run, fmt):
    boxes, scores = scenes.clustered(40)
    boxes = boxes + np.float32(1000)  # where sides of corners are rounded
    want = merged(run, boxes, scores)
    given = anyops.box_convert(boxes, "xyxy", fmt)
    got = merged(run, given, scores, fmt=fmt)
    np.testing.assert_allclose(anyops.box_convert(got[0], fmt, "xyxy"), want[0], rtol=1e-6)
    np.testing.assert_array_equal(got[3], want[3])
    alone = [k for k in range(len(got[0])) if np.count_nonzero(got[3] == k) == 1]
    assert 0 < len(alone) < len(got[0])
    np.testing.assert_array_equal(got[0][alone], np.stack([given[got[3] == k][0] for k in alone]))


@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("fmt", ["xyxy", "yxyx", "xywh"])
def test_integers(run, backend, fmt):
    """Integer boxes whose areas overflow 32 bits; results in the default float."""
    boxes = np.array([[7, 0, 50_007, 50_000], [7, 0, 50_007, 45_000], [60_000, 0, 61_000, 50_000]], np.int32)
    given = {"xyxy": boxes, "yxyx": boxes[:, [1, 0, 3, 2]], "xywh": np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]}
    scores, labels = np.array([3, 5, 2], np.int32), np.array([200, 200, 7], np.uint8)
    got = merged(run, np.int32(given[fmt]), scores, labels, fmt=fmt)
    assert got[0].tolist() == given[fmt][[0, 2]].tolist()
    assert got[1].tolist() == [5, 2]
    assert (got[2].tolist(), dtype_name(got[2])) == ([200, 7], "uint8")
    assert got[3].tolist() == [0, 0, 1]
    assert [dtype_name(x) for x in (*got[:2], got[3])] == [
        *[backend.default("real floating")] * 2,
        backend.default("indexing"),
    ]


@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(run, backend, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    lane = scenes.mixed(3, accept=lambda s: np.isfinite(s.boxes).all()).coarse().lanes()[2]
    for options in ({"transitive": True}, {"fmt": "xywh"}):
        boxes = lane.boxes if "fmt" not in options else anyops.box_convert(lane.boxes, "xyxy", "xywh")
        got = run.raw(
            lambda b, s, o=options: tuple(anyops.non_max_merge(b, s, **o)[:2]), boxes, lane.scores, dtype=dtype
        )
        assert [dtype_name(x) for x in got] == [dtype, dtype]
        rest = {k: v for k, v in options.items() if k != "fmt"}
        want, best, _ = reference.non_max_merge(lane.boxes, lane.scores, **rest)
        want = want if "fmt" not in options else anyops.box_convert(want, "xyxy", "xywh")
        np.testing.assert_allclose(backend.to_numpy(got[0]), want, rtol=8e-3)
        np.testing.assert_array_equal(backend.to_numpy(got[1]), lane.scores[best])


@pytest.mark.op("non_max_merge", transforms=(Transform.EAGER,))
def test_nothing_one_and_what_has_no_area(run):
    for transitive in (False, True):
        boxes, scores, _, groups = merged(run, *scenes.spread(0), transitive=transitive)
        assert (boxes.shape, scores.shape, groups.shape) == ((0, 4), (0,), (0,))
        odd = np.float32([[1, 1, 1, 1], [3, 3, 1, 1], [NAN, 0, 4, 4], [1, 1, 1, 1], [-INF, 0, INF, 4]])
        boxes, _, _, groups = merged(run, odd, np.linspace(1, 0.5, 5, dtype=np.float32), transitive=transitive)
        np.testing.assert_array_equal(boxes, odd)
        assert groups.tolist() == [0, 1, 2, 3, 4]


def test_gradients_are_slopes():
    """On torch: each side of a merged box is the side of one box; likewise the score."""
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    boxes, scores = (x.astype(np.float64) for x in scenes.clustered(12))
    for options in ({"fmt": "xywh"}, {"transitive": True}):
        given = anyops.box_convert(boxes, "xyxy", options.get("fmt", "xyxy"))

        def total(b, s, options=options):
            got = anyops.non_max_merge(b, s, overlap_threshold=0.2, **options)
            return (got.boxes**2).sum() + (got.scores**2).sum()

        for found, want in zip(
            Backend.TORCH_CPU.gradient(total, given, scores), reference.slopes(total, given, scores), strict=True
        ):
            np.testing.assert_allclose(found, want, atol=1e-6)
        # A box that is not merged keeps its own gradient, even with a NaN.
        odd = np.float32([[0, 0, 4, 4], [NAN, 0, 4, 4], [9, 9, INF, 12], [0, 0, 4, 4]])
        ranks = np.float32([0.9, 0.8, 0.7, 0.6])
        found = Backend.TORCH_CPU.gradient(lambda b, s: anyops.non_max_merge(b, s).boxes[:, 1].sum(), odd, ranks)
        assert np.all(np.isfinite(found[0]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fmt": "cxcywhr"}, ValueError, r"fmt must be one of xyxy, xywh, cxcywh, yxyx, .*got 'cxcywhr'; nms_groups"),
        ({"fmt": "xxyy"}, ValueError, r"fmt must be one of xyxy, .*got 'xxyy'"),
        ({"kind": "probiou"}, ValueError, r"kind must be one of iou, .*got 'probiou'"),
        ({"overlap_threshold": 50}, ValueError, r"overlap_threshold must be in \[0, 1\], got 50"),
        ({"transitive": 1}, TypeError, "transitive must be a bool, got int"),
        ({"labels": np.arange(3)}, ValueError, r"labels must have shape \(4,\).*got \(3,\)"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        anyops.non_max_merge(*scenes.spread(4), **options)
    with pytest.raises(ValueError, match="for non_max_merge, which takes one scene"):
        anyops.non_max_merge(np.zeros((2, 4, 4)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="5 numbers are fmt"):
        anyops.non_max_merge(np.zeros((4, 5)), np.zeros(4))
