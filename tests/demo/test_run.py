import numpy as np
import pytest

from anyops.demo.evaluate import average_precision, coco_ground_truth, coco_results
from anyops.demo.run import IOU_THRESHOLD, suppress
from tests.reference import greedy


def test_nms_raises_precision(raw, scenes):
    pytest.importorskip("pycocotools")
    truth = coco_ground_truth(scenes)
    before = average_precision(truth, coco_results(raw))
    after = average_precision(truth, coco_results(raw.take(suppress(raw, "numpy").kept)))
    assert after.ap > before.ap + 0.1
    assert after.ap50 > 0.6


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_kept_boxes_are_the_same_everywhere(library, raw):
    pytest.importorskip(library)
    best = raw.take(np.argsort(-raw.scores, stable=True)[:800])
    result = suppress(best, library)
    assert np.array_equal(
        result.kept, greedy(best.boxes, best.scores, IOU_THRESHOLD, labels=best.scenes, dtype=np.float32)
    )
    assert result.milliseconds > 0
    assert "cpu" in result.device.lower()
