"""Properties of greedy NMS for any boxes: small random scenes full of ties, duplicates and degenerate boxes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import anyops
from tests import reference
from tests.strategies import THRESHOLDS, N, exact_boxes, labels, ordered, tied_scores, untied_scores

BOXES, SCORES, UNTIED, LABELS = exact_boxes(), tied_scores(), untied_scores(), labels()
per_backend = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def mask(backend, boxes, scores, t, **options):
    options = {k: backend.asarray(v) for k, v in options.items()}
    return backend.to_numpy(anyops.nms_mask(backend.asarray(boxes), backend.asarray(scores), t, **options))


@pytest.mark.op("nms_mask")
@given(boxes=BOXES, scores=SCORES, labels=LABELS, t=THRESHOLDS)
@per_backend
def test_equals_the_reference(backend, boxes, scores, labels, t):
    want = reference.greedy_mask(boxes, scores, t, labels=labels, dtype=np.float32)
    np.testing.assert_array_equal(mask(backend, boxes, scores, t, labels=labels), want)


@given(boxes=BOXES, scores=SCORES, labels=LABELS, t=THRESHOLDS)
def test_both_forms_agree(boxes, scores, labels, t):
    keep = anyops.nms(boxes, scores, t, labels=labels)
    assert keep.tolist() == reference.greedy(boxes, scores, t, labels=labels, dtype=np.float32)
    assert np.flatnonzero(anyops.nms_mask(boxes, scores, t, labels=labels)).tolist() == sorted(keep.tolist())


@given(boxes=BOXES, scores=SCORES, t=THRESHOLDS)
def test_idempotent(boxes, scores, t):
    keep = anyops.nms(boxes, scores, t)
    assert anyops.nms(boxes[keep], scores[keep], t).tolist() == list(range(len(keep)))


@given(boxes=BOXES, scores=UNTIED, t=THRESHOLDS, order=st.permutations(range(N)))
def test_permutation_equivariant_without_ties(boxes, scores, t, order):
    shuffled = anyops.nms(boxes[order], scores[order], t)
    assert np.array(order)[shuffled].tolist() == anyops.nms(boxes, scores, t).tolist()


@given(boxes=BOXES, scores=SCORES, t=THRESHOLDS)
def test_kept_are_apart_and_dropped_have_a_better_rival(boxes, scores, t):
    keep = anyops.nms(boxes, scores, t).tolist()
    o = np.stack([reference.overlap_row(b, boxes, "iou") for b in boxes])
    place = {j: i for i, j in enumerate(reference.rank(scores.tolist()))}
    assert all(o[i, j] <= np.float32(t) for i in keep for j in keep if i != j)
    for j in set(range(N)) - set(keep):
        assert any(o[i, j] > np.float32(t) and place[i] < place[j] for i in keep)


@given(boxes=BOXES, scores=SCORES, labels=LABELS, t=THRESHOLDS)
def test_labels_are_separate_problems(boxes, scores, labels, t):
    apart = [int(i) for c in set(labels.tolist()) for i in np.flatnonzero(labels == c)[
        anyops.nms(boxes[labels == c], scores[labels == c], t)
    ]]  # fmt: skip
    assert sorted(anyops.nms(boxes, scores, t, labels=labels).tolist()) == sorted(apart)


@given(boxes=BOXES, scores=SCORES, t=THRESHOLDS, kind=st.sampled_from(["iou", "iof", "ios"]))
def test_overlaps_are_those_of_box_iou(boxes, scores, t, kind):
    overlaps = anyops.box_iou(boxes, boxes, kind=kind)
    want = anyops.nms(boxes, scores, t, kind=kind)
    assert anyops.nms(None, scores, t, overlaps=overlaps).tolist() == want.tolist()


@given(boxes=BOXES, scores=SCORES, shift=st.integers(-64, 64), scale=st.integers(-3, 3))
def test_invariant_to_exact_shifts_and_scales(boxes, scores, shift, scale):
    moved = (boxes * np.float32(2.0**scale) + np.float32(shift)).astype(np.float32)
    assert anyops.nms(moved, scores, 0.5).tolist() == anyops.nms(boxes, scores, 0.5).tolist()


@given(boxes=BOXES.map(ordered), other=BOXES.map(ordered))
def test_iou_is_symmetric_and_bounded(boxes, other):
    for kind in ("iou", "ios", "giou", "diou", "ciou"):
        o = anyops.box_iou(boxes, other, kind=kind)
        np.testing.assert_allclose(o, anyops.box_iou(other, boxes, kind=kind).T, atol=1e-6)
        assert np.all((o <= 1) & (o >= (0 if kind in ("iou", "ios") else -2)))
    iou, iof = anyops.box_iou(boxes, other), anyops.box_iou(boxes, other, kind="iof")
    assert np.all(iou <= iof)
