import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform

NAN = np.nan

# name: (options, fields of a scene to pass in addition to boxes and scores)


# JAX compiles each case for a second or more, so it runs a selection of tests, and with x64 only those about dtypes.


@pytest.mark.op("nms_groups")
def test_the_best_of_those_that_are_kept_and_overlap(run):
    """Not the box that overlaps most, nor a dropped one, nor the first in the array."""
    boxes = np.float32([[6, 0, 14, 1], [1, 0, 9, 1], [0, 0, 8, 1], [3, 0, 11, 1], [5, 0, 13, 1], [30, 0, 38, 1]])
    scores = np.float32([0.5, 0.75, 1, 0.25, 0.25, 0.25])
    # 2 drops 1 and, by 5/11, 3; 0 is also kept, and drops 4; 3 overlaps 0 as much.
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
    """Each dropped box overlaps two kept boxes, and belongs to the better one."""
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
def test_masks(run):
    masks, scores = np.random.default_rng(0).random((12, 5, 6)) < 0.4, scenes.scores(12)
    got = run(lambda m, s: anyops.nms_groups(None, s, 0.3, overlaps=anyops.mask_iou(m, m)), masks, scores)
    overlaps = np.array([[reference.mask_overlap(a, b) for b in masks] for a in masks])
    assert got.tolist() == reference.nms_groups(None, scores, 0.3, overlaps=overlaps)
    assert 1 < len({*got.tolist()}) < 12


@pytest.mark.op("nms_groups", transforms=(Transform.EAGER,))
def test_the_box_that_a_later_one_overlaps_may_be_tiles_before(run):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    overlaps, scores = np.full((600, 600), 0.1, np.float32), np.linspace(1, 0.5, 600, dtype=np.float32)
    overlaps[0, -1] = overlaps[-1, 0] = 0.9
    got = run(anyops.nms_groups, None, scores, overlaps=overlaps)
    np.testing.assert_array_equal(got, [*range(599), 0])
