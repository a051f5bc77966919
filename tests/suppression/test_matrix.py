import functools

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Transform
from tests.suppression.family import FAMILY, LANES


def close(got, want, rtol=2e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("name", FAMILY["matrix_nms"].cases)
def test_cases_compensate(name):
    """Compensation makes some scores fall less than the overlaps alone."""
    (batch, wants), (options, extra) = FAMILY["matrix_nms"].example(name), FAMILY["matrix_nms"].cases[name]
    compensated = 0
    for lane, (scores, *_) in zip(batch.lanes(), wants, strict=True):
        boxes, _, more = lane.only(*extra)
        order, x = reference.triangle(boxes, lane.scores, kind=options.get("kind", "iou"), **more)
        o = x.max(axis=0)
        alone = 1 - o if options.get("kernel") == "linear" else np.exp(-options.get("sigma", 2.0) * o**2)
        compensated += np.sum(scores[order] > 1.01 * alone * lane.scores[order])
    assert compensated > LANES / 2


HALVES = np.float32([[0, 0, 8, 1], [0, 0, 4, 1], [0, 0, 2, 1]])  # IoUs 1/2, 1/4 and 1/2


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_by_hand(run):
    scores = np.float32([1, 0.5, 0.25])
    linear = run(anyops.matrix_nms_scores, HALVES, scores, kernel="linear")
    # The third box: (1 − 1/4) / 1 by the first; (1 − 1/2) / (1 − 1/2) by the second, which was decayed itself.
    close(linear, [1, 0.25, 0.1875], 1e-6)
    gaussian = run(anyops.matrix_nms_scores, HALVES, scores)
    close(gaussian, [1, 0.5 * np.exp(-2 / 4), 0.25 * np.exp(-2 / 16)], 1e-6)
    half = run(anyops.matrix_nms_scores, HALVES, scores, sigma=1.0)
    close(half, [1, 0.5 * np.exp(-1 / 4), 0.25 * np.exp(-1 / 16)], 1e-6)


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_equal_boxes(run):
    """With the linear kernel the second falls to 0 and, by 0/0, lowers no other box; the first still does."""
    boxes, scores = scenes.identical(4)
    order = reference.rank(scores.tolist())
    linear = run(anyops.matrix_nms_scores, boxes, scores, kernel="linear")
    assert linear[order].tolist() == [scores[order[0]], 0, 0, 0]
    gaussian = run(anyops.matrix_nms_scores, boxes, scores)
    close(gaussian[order], scores[order] * [1, *[np.exp(-2)] * 3], 1e-6)
    boxes = np.concatenate([boxes[:2], np.float32([[1, 2, 5, 5.5]])])  # half of them
    linear = run(anyops.matrix_nms_scores, boxes, np.float32([1, 0.75, 0.5]), kernel="linear")
    assert linear.tolist() == [1, 0, 0.25]


@pytest.mark.op("matrix_nms")
def test_score_threshold_is_strict_and_of_the_new_scores(run):
    scores = np.float32([1, 0.5, 0.25])  # become 1, 0.25, 0.1875
    for threshold, want in ((None, [0, 1, 2]), (0, [0, 1, 2]), (0.1875, [0, 1]), (0.25, [0]), (1, [])):
        got = run(anyops.matrix_nms, HALVES, scores, kernel="linear", score_threshold=threshold)
        assert got[0].tolist() == want
    falls = np.float32([0.06, 0.05, 0.02])
    assert run(anyops.matrix_nms, HALVES, falls)[0].tolist() == [0]


@pytest.mark.op("matrix_nms")
def test_order_is_by_new_score_and_ties_by_index(run):
    boxes = np.concatenate([HALVES[:2], HALVES[:1] + 50, HALVES[:1] + 90])
    got = run(anyops.matrix_nms, boxes, np.float32([1, 0.75, 0.5, 0.375]), kernel="linear")
    assert [x.tolist() for x in got] == [[0, 2, 1, 3], [1, 0.5, 0.375, 0.375]]


GRADIENTS = {"gaussian": {}, "linear": {"kernel": "linear"}, "giou": {"kind": "giou", "sigma": 1.0}}


@functools.cache
def smooth(name, n=7):
    """A scene in which small changes do not affect which boxes decide about another one."""
    options = {"kernel": "gaussian", "sigma": 2.0, "kind": "iou"} | GRADIENTS[name]
    f = {"linear": lambda o: 1 - o, "gaussian": lambda o: np.exp(-options["sigma"] * o**2)}[options["kernel"]]
    for seed in range(99):
        boxes, scores = (x.astype(np.float64) for x in scenes.crowd(n, seed=seed))
        _, x = reference.triangle(boxes, scores, kind=options["kind"])
        best = np.sort(np.concatenate([x, np.zeros((2, n))]), axis=0)[-2:, 1:]
        ratios = np.sort(np.where(np.tri(n, k=-1).T > 0, f(x) / f(x.max(axis=0))[:, None], 9), axis=0)
        ratios = np.sort(np.concatenate([ratios, np.ones((1, n))]), axis=0)
        apart = np.all((best[1] - best[0] > 1e-3) | (best[1] == 0)) and np.all(ratios[1] - ratios[0] > 1e-3)
        if apart and np.diff(np.sort(scores)).min() > 1e-3 and np.sum(ratios[0] < 1) > 3:
            return boxes, scores, np.random.default_rng(seed).normal(size=n)
    raise AssertionError("no scene is smooth")


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(backend, transform, name):
    boxes, scores, weights = smooth(name)
    options, w = GRADIENTS[name], backend.asarray(weights)
    got = backend.gradient(lambda b, s: anyops.matrix_nms_scores(b, s, **options) * w, boxes, scores)
    want = reference.slopes(
        lambda b, s: float(np.sum(reference.matrix_nms_scores(b, s, **options) * weights)), boxes, scores
    )
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g, slope, rtol=1e-3, atol=1e-5 if backend.has_dtype("float64") else 1e-3)
        assert np.any(slope)


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER, Transform.JIT, Transform.FUNC_VMAP))
@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_what_earlier_tiles_found_is_not_lost(run, kernel):
    """All boxes overlap, the first one most: it decides the last one's score from an earlier tile."""
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores = scenes.nested(600)
    want = reference.matrix_nms_scores(boxes, scores, kernel=kernel)
    close(run(anyops.matrix_nms_scores, boxes, scores, kernel=kernel), want)
    overlaps = np.array([reference.overlap_row(b, boxes, "iou") for b in boxes], np.float32)
    close(run(anyops.matrix_nms_scores, None, scores, kernel=kernel, overlaps=overlaps), want)
