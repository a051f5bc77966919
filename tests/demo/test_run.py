import numpy as np
import pytest
from rich.progress import Progress

from digits import codebook
from digits import run as module
from digits.arrays import shipper
from digits.evaluate import average_precision, coco_ground_truth, coco_results
from digits.methods import IOU_THRESHOLD, METHODS, suppress
from digits.run import LOSSES, TOLERANCE, run, summary
from digits.scenes import Settings
from tests.reference import greedy

NMS = METHODS[0]


@pytest.fixture(scope="module")
def best(raw):
    """The boxes with the best scores."""
    return raw.take(np.argsort(-raw.scores, stable=True)[:600])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_raises_precision(raw, scenes, method):
    truth = coco_ground_truth(scenes)
    before = average_precision(truth, coco_results(raw))
    after = average_precision(truth, coco_results(suppress(raw, method, np.asarray, timed=False).found))
    assert after.ap > before.ap
    assert after.ap50 > before.ap50 + 0.1


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_kept_boxes_are_the_same_everywhere(library, best):
    pytest.importorskip(library)
    result = suppress(best, NMS, shipper(library))
    assert np.array_equal(
        result.kept, greedy(best.boxes, best.scores, IOU_THRESHOLD, labels=best.scenes, dtype=np.float32)
    )
    assert result.milliseconds > 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_every_method_agrees_everywhere(library, method, best):
    pytest.importorskip(library)
    ours, theirs = (suppress(best, method, shipper(name), timed=False) for name in (library, "numpy"))
    assert 10 < len(ours.kept) <= len(best.scores)
    assert ours.milliseconds is None
    # A new score may be at the limit up to rounding, and two may swap.
    count = min(len(ours.kept), len(theirs.kept))
    assert abs(len(ours.kept) - len(theirs.kept)) <= 2
    np.testing.assert_allclose(ours.found.scores[:count], theirs.found.scores[:count], rtol=1e-3)
    if method.name in {"nms", "fast"}:
        assert np.array_equal(ours.kept, theirs.kept)


def test_what_is_found_goes_with_what_is_kept(best):
    for method in METHODS:
        kept, found, _ = suppress(best, method, np.asarray, timed=False)
        assert np.array_equal(found.labels, best.labels[kept])
        assert np.array_equal(found.scenes, best.scenes[kept])
        assert (found.scores <= best.scores[kept]).all()
        assert (np.diff(found.scores) <= 0).all()
        lowers = method.name.split()[0] in {"soft", "cluster", "matrix"} and method.name != "soft hard"
        assert (found.scores < best.scores[kept]).any() == lowers
        assert (found.boxes != best.boxes[kept]).any() == (method.name in {"weighted", "wbf"})


def test_precision_is_the_same_on_every_library(monkeypatch):
    for name in ("torch", "jax"):
        pytest.importorskip(name)
    monkeypatch.setattr(module, "METHODS", METHODS[:2])
    # Few sizes, because JAX compiles for each.
    monkeypatch.setattr(codebook, "ANCHORS", 2)
    # One digit changes the AP of two scenes ten times as much as the AP of twenty.
    monkeypatch.setattr(module, "TOLERANCE", 4 * TOLERANCE)
    report = run(Settings(2, 2), ["numpy", "torch", "jax"], Progress(disable=True))
    assert report.disagreeing() == [], summary(report)["backends"]
    numpy, *others = report.outcomes.values()
    assert numpy.windows[1] == 100 * numpy.windows[0]
    for loss in LOSSES:
        assert min(precision.ap for precision in numpy.precisions[loss].values()) > 0.1
        for other in others:
            assert other.windows == numpy.windows
            for method, precision in numpy.precisions[loss].items():
                assert abs(other.precisions[loss][method].ap - precision.ap) <= 4 * TOLERANCE
    assert list(numpy.seconds) == ["codebook", "windows", *LOSSES, "detection", "suppression"]
    moved = numpy.precisions["focal"]["nms"]._replace(ap=numpy.precisions["focal"]["nms"].ap + 8 * TOLERANCE)
    numpy.precisions["focal"]["nms"] = moved
    assert report.disagreeing() == ["nms after focal on torch", "nms after focal on jax"]
