import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform
from tests.suppression.family import FAMILY, LANES

NAN, INF = np.nan, np.inf

FAST = FAMILY["fast_nms"]


@pytest.mark.parametrize("name", [name for name in FAST.cases if name != "threshold 1"])
def test_cases_drop_more_than_greedy_does(name):
    (batch, wants), (options, extra) = FAST.example(name), FAST.cases[name]
    keep, greedy = np.stack([want.new for want in wants]), np.zeros((LANES, batch.scores.shape[1]), bool)
    for k, lane in enumerate(batch.lanes()):
        boxes, scores, more = lane.only(*extra)
        greedy[k] = reference.clusters(boxes, scores, dtype=np.float32, **options, **more).kept
    assert np.all(keep <= greedy)
    assert np.any(keep < greedy)


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
    """Of a chain only the first box is kept; greedy NMS keeps every second box."""
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
def test_keeps_no_box_that_greedy_drops(run):
    batch = scenes.mixed(LANES)
    for t in (0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0):
        fast = run(anyops.fast_nms_mask, batch.boxes, batch.scores, t, labels=batch.labels)
        greedy = run(anyops.nms_mask, batch.boxes, batch.scores, t, labels=batch.labels)
        assert np.all(fast <= greedy)
        assert np.all(fast.any(axis=1))


@pytest.mark.op("fast_nms")
def test_a_long_chain_and_many_equal_boxes(run):
    if run.backend is not Backend.NUMPY:
        pytest.skip("large scenes run on NumPy")
    assert run(anyops.fast_nms, *scenes.chain(5_000)).tolist() == [0]
    assert run(anyops.fast_nms, *scenes.identical(5_000)).tolist() == [int(np.argmax(scenes.scores(5_000)))]
