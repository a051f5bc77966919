import numpy as np
import pytest

from anyops.demo.evaluate import average_precision, coco_ground_truth, coco_results
from anyops.demo.methods import IOU_THRESHOLD, METHODS, suppress
from tests.reference import greedy

NMS = METHODS[0]


@pytest.fixture(scope="module")
def best(raw):
    """The boxes that score best."""
    return raw.take(np.argsort(-raw.scores, stable=True)[:800])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_raises_precision(raw, scenes, method):
    pytest.importorskip("pycocotools")
    truth = coco_ground_truth(scenes)
    before = average_precision(truth, coco_results(raw))
    after = average_precision(truth, coco_results(suppress(raw, method, "numpy").found))
    assert after.ap > before.ap + 0.1
    assert after.ap50 > 0.6


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_kept_boxes_are_the_same_everywhere(library, best):
    pytest.importorskip(library)
    result = suppress(best, NMS, library)
    assert np.array_equal(
        result.kept, greedy(best.boxes, best.scores, IOU_THRESHOLD, labels=best.scenes, dtype=np.float32)
    )
    assert result.milliseconds > 0
    assert "cpu" in result.device.lower()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_every_method_agrees_everywhere(library, method, best):
    pytest.importorskip(library)
    ours, theirs = (suppress(best, method, name) for name in (library, "numpy"))
    assert ours.agrees(theirs, method)
    assert 10 < len(ours.kept) <= len(best.scores)


def test_what_is_found_goes_with_what_is_kept(best):
    for method in METHODS:
        kept, found, *_ = suppress(best, method, "numpy")
        assert np.array_equal(found.labels, best.labels[kept])
        assert np.array_equal(found.scenes, best.scenes[kept])
        assert (found.scores <= best.scores[kept]).all()
        assert (np.diff(found.scores) <= 0).all()
        assert (found.scores < best.scores[kept]).any() == (method.name in {"soft", "cluster", "matrix"})
        assert (found.boxes != best.boxes[kept]).any() == (method.name in {"weighted", "wbf"})
