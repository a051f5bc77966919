import contextlib
import io

import numpy as np
import pytest

from digits.detector import Detections
from digits.evaluate import average_precision, coco_ground_truth, coco_results, digits_found
from digits.scenes import PAGE, Scene

SCENES = [
    Scene(np.zeros(PAGE), np.array([[10, 20, 40, 70], [100, 100, 150, 180]], dtype=float), np.array([3, 7])),
    Scene(np.zeros(PAGE), np.array([[5, 5, 25, 45]], dtype=float), np.array([3])),
]


def detections(scenes, boxes, scores, labels):
    return Detections(np.array(scenes), np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels))


PERFECT = detections([0, 0, 1], [[10, 20, 40, 70], [100, 100, 150, 180], [5, 5, 25, 45]], [0.9, 0.8, 0.85], [3, 7, 3])


def test_ground_truth_is_in_coco_format():
    truth = coco_ground_truth(SCENES)
    assert truth["images"] == [{"id": 0, "width": 640, "height": 480}, {"id": 1, "width": 640, "height": 480}]
    assert [category["name"] for category in truth["categories"]] == list("0123456789")
    assert truth["annotations"][1] == {
        "id": 2,
        "image_id": 0,
        "category_id": 7,
        "bbox": [100, 100, 50, 80],
        "area": 4000,
        "iscrowd": 0,
    }


def test_results_are_in_coco_format():
    assert coco_results(PERFECT)[2] == {"image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 40], "score": 0.85000002}


def test_perfect_detections_have_precision_1():
    found = average_precision(coco_ground_truth(SCENES), coco_results(PERFECT))
    assert found[:2] == pytest.approx((1, 1))
    assert np.allclose(found.curve, 1)


def test_no_detections_have_precision_0():
    found = average_precision(coco_ground_truth(SCENES), [])
    assert found[:2] == (0, 0)
    assert np.array_equal(found.curve, np.zeros(101))


def test_precision_is_the_first_figures_of_cocos_summary(raw, scenes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = coco_ground_truth(scenes), coco_results(raw)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes([record.copy() for record in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = average_precision(truth, results)
    assert found[:2] == pytest.approx(tuple(evaluation.stats[:2]))
    assert found.curve.mean() == pytest.approx(found.ap50)


def test_which_digits_are_found():
    boxes = [[100, 100, 150, 180], [10, 20, 40, 44], [10, 20, 40, 45], [10, 20, 40, 70], [300, 300, 310, 310]]
    some = detections([0] * 5, boxes, [0.9] * 5, [7, 3, 3, 7, 3])
    assert digits_found(SCENES[0], some).tolist() == [1, -1, 0, -1, -1]


def test_duplicates_cost_precision():
    # Class 3: right, wrong (again the same), right. The second true box is reached at a precision of 2/3, and of 101
    # recall levels 51 lie at or below the first.
    doubled = PERFECT.take(np.array([0, 0, 1, 2]))
    found = average_precision(coco_ground_truth(SCENES), coco_results(doubled))
    assert found.ap50 == pytest.approx(((51 + 50 * 2 / 3) / 101 + 1) / 2)
    assert found.curve == pytest.approx([1.0] * 51 + [(1 + 2 / 3) / 2] * 50)


def test_evaluation_is_silent_and_leaves_its_input_alone(capsys):
    results = coco_results(PERFECT)
    average_precision(coco_ground_truth(SCENES), results)
    assert results == coco_results(PERFECT)
    assert capsys.readouterr().out == ""
