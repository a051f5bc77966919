import functools

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Transform

NAN, INF = np.nan, np.inf
PENALTIES = (None, "score", "score+distance")


def close(got, want, rtol=4e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-7)


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
def test_static_result(run):
    result = run.raw(anyops.weighted_cluster_nms_boxes, *scenes.clustered(20))
    assert result._fields == ("boxes", "scores")


@pytest.mark.op("cluster_nms")
@pytest.mark.parametrize("t", [0.0, 0.25, 1 / 3, 0.5, 1.0])
def test_without_a_penalty_it_is_greedy(run, t):
    for lane in scenes.mixed(90 if run.backend.library == "numpy" else 9).lanes():
        for threshold in (None, 0.125):
            options = {"labels": lane.labels, "score_threshold": threshold}
            got = run(anyops.cluster_nms, lane.boxes, lane.scores, t, **options)
            want = reference.greedy(lane.boxes, lane.scores, t, labels=lane.labels, dtype=np.float32)
            want = want if threshold is None else [i for i in want if lane.scores[i] > threshold]
            assert got[0].tolist() == want
            np.testing.assert_array_equal(got[1], lane.scores[want])


@pytest.mark.op("cluster_nms")
@pytest.mark.parametrize("n", [3, 64, 1999])
def test_without_a_penalty_it_is_greedy_along_chains(run, n):
    if n > 64 and not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores = scenes.chain(n)
    assert run(anyops.cluster_nms, boxes, scores)[0].tolist() == list(range(0, n, 2))


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_without_a_penalty_it_is_greedy_along_a_chain_in_the_static_form(run):
    boxes, scores = scenes.chain(600)
    got = run(anyops.cluster_nms_scores, boxes, scores)
    assert got.tolist() == np.where(np.arange(600) % 2, 0, scores).tolist()


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_only_the_kept_penalise(run):
    """A chain: the second is dropped, so the third is not penalised."""
    boxes, scores = scenes.chain(3)
    o = 3 / 5
    factor = np.exp(-(o**2) / 0.2)
    close(run(anyops.cluster_nms_scores, boxes, scores, penalty="score"), scores * [1, factor, np.exp(-(1 / 9) / 0.2)])
    # Centres 1 and 2 apart, in enclosing boxes of 5 by 1 and 6 by 1.
    factors = [1, factor + (1 / 26) ** 0.6, np.exp(-(1 / 9) / 0.2) + (4 / 37) ** 0.6]
    close(run(anyops.cluster_nms_scores, boxes, scores, penalty="score+distance"), scores * factors)
    close(
        run(anyops.cluster_nms_scores, boxes, scores, penalty="score", sigma=0.4)[1],
        scores[1] * np.exp(-(o**2) / 0.4),
    )


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_all_that_overlap_count_and_no_threshold_cuts_them(run):
    """With a penalty, the threshold only decides which boxes are dropped and so do not penalise others."""
    boxes = np.float32([[0, 0, 8, 1], [6, 0, 14, 1], [4, 0, 12, 1]])  # overlaps 1/7; 1/3 and 3/5
    scores = np.float32([1, 0.75, 0.5])
    got = run(anyops.cluster_nms_scores, boxes, scores, penalty="score")
    close(got, scores * np.exp(-np.array([0, 1 / 49, 1 / 9 + 9 / 25]) / 0.2))
    got = run(anyops.cluster_nms_scores, boxes, scores, 0.1, penalty="score")
    close(got, scores * np.exp(-np.array([0, 1 / 49, 1 / 9]) / 0.2))


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_a_distance_raises_no_score(run):
    boxes, scores = np.float32([[0, 0, 4, 4], [3.75, 3.75, 8, 8]]), np.float32([1, 0.5])
    assert run(anyops.cluster_nms_scores, boxes, scores, penalty="score+distance").tolist() == [1, 0.5]
    apart = boxes + np.float32([[0], [1]])
    assert run(anyops.cluster_nms_scores, apart, scores, penalty="score+distance").tolist() == [1, 0.5]


STACK = np.float32([[0, 0, 10, 1], [0, 0, 9, 1], [1, 0, 10, 1], [0, 0, 7, 1]])  # the first: 9/10, 9/10, 7/10


@pytest.mark.op("weighted_cluster_nms")
def test_fused_by_hand(run):
    """Weighted by overlap times score, over boxes that overlap by more than 0.8."""
    scores = np.float32([1, 0.5, 0.25, 0.125])
    boxes, new, indices = run(anyops.weighted_cluster_nms, STACK, scores)
    assert (new.tolist(), indices.tolist()) == ([1], [0])
    w = np.array([1, 0.9 * 0.5, 0.9 * 0.25])
    close(boxes[0], w @ STACK[:3] / w.sum(), 1e-6)
    # Boxes below the score threshold are averaged too.
    boxes, new, indices = run(anyops.weighted_cluster_nms, STACK, scores, penalty="score", score_threshold=0.5)
    w[1:] *= np.exp(-(0.9**2) / 0.2)
    assert (new.tolist(), indices.tolist()) == ([1], [0])
    close(boxes[0], w @ STACK[:3] / w.sum(), 1e-6)


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
def test_fused_with_odd_scores(run):
    """Scores of NaN and 0 have no weight; a box without any weight is unchanged."""
    for scores in ([1, NAN, 0, 0.5], [1, 0, NAN, NAN]):
        boxes, new = run(anyops.weighted_cluster_nms_boxes, STACK, np.float32(scores))
        assert new[0] == 1
        close(boxes[0], STACK[0], 1e-6)
    for scores in ([0, 0, 0, 0], [NAN, NAN, NAN, NAN], [0, NAN, NAN, 0]):
        boxes, _ = run(anyops.weighted_cluster_nms_boxes, STACK, np.float32(scores))
        close(boxes[0], STACK[0], 1e-6)


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
def test_an_overlap_of_exactly_four_fifths_fuses_nothing(run):
    boxes = STACK[:2]
    for o, fuses in ((0.8, False), (np.nextafter(np.float32(0.8), np.float32(1)), True)):
        overlaps = np.float32([[1, o], [o, 1]])
        fused, _ = run(anyops.weighted_cluster_nms_boxes, boxes, np.float32([1, 0.5]), overlaps=overlaps)
        assert (fused[0, 2] < 10) == fuses


@pytest.mark.op("cluster_nms")
def test_score_threshold_is_strict_and_of_the_new_scores(run):
    boxes, scores = np.float32([[0, 0, 4, 4], [9, 0, 10, 4], [0, 0, 4, 4]]), np.float32([0.5, 0.25, 0.5])
    for penalty in PENALTIES:
        for threshold, want in ((0.25, [0]), (0.2, [0, 1]), (0.5, []), (0.125, [0, 1])):
            got = run(anyops.cluster_nms, boxes, scores, penalty=penalty, score_threshold=threshold)
            assert got[0].tolist() == want, penalty
    assert run(anyops.cluster_nms, boxes, scores / 16)[0].tolist() == [0, 1]
    assert run(anyops.cluster_nms, boxes, scores / 32)[0].tolist() == [0]
    assert run(anyops.cluster_nms, boxes, scores, score_threshold=None)[0].tolist() == [0, 1]
    assert run(anyops.cluster_nms, boxes, scores, score_threshold=None, penalty="score")[0].tolist() == [0, 1, 2]


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_a_distance_lowers_less(run):
    batch = scenes.mixed(60)
    score, distance = (
        run(anyops.cluster_nms_scores, batch.boxes, batch.scores, penalty=penalty) for penalty in PENALTIES[1:]
    )
    assert np.all((np.abs(score) <= np.abs(distance)) | np.isnan(score))
    assert np.sum(score < distance) > 60


GRADIENTS = {
    "plain": {},
    "score": {"penalty": "score"},
    "distance": {"penalty": "score+distance"},
    "giou": {"penalty": "score", "kind": "giou", "iou_threshold": 0.2},
}


@functools.cache
def smooth(name, n=7):
    """A scene in which small changes do not affect which boxes are kept or overlap, or which factor is capped at 1."""
    options = {"kind": "iou", "iou_threshold": 0.5} | GRADIENTS[name]
    for seed in range(999):
        boxes, scores = (x.astype(np.float64) for x in scenes.crowd(n, seed=seed))
        boxes[1:3] = boxes[0] + np.random.default_rng(seed).uniform(-0.2, 0.2, (2, 4))  # to be fused
        overlaps = np.array([[reference.overlap(a, b, options["kind"]) for b in boxes] for a in boxes])
        iou, diou = (reference.pairwise(boxes, boxes, kind) for kind in ("iou", "diou"))
        factor = np.exp(-(overlaps**2) / 0.2) + (iou - diou) ** 0.6
        near = [np.abs(overlaps - t) < 1e-3 for t in (0, options["iou_threshold"], 0.8)] + [np.abs(factor - 1) < 1e-2]
        off_diagonal = ~np.eye(n, dtype=bool)
        decided = not np.any(np.logical_or.reduce(near) & off_diagonal & (overlaps != 0))
        some_fuse = np.sum((overlaps > 0.8) & off_diagonal) >= 4
        if decided and some_fuse and np.diff(np.sort(scores)).min() > 1e-3:
            return boxes, scores, np.random.default_rng(seed).normal(size=n)
    raise AssertionError("no scene is smooth")


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(backend, transform, name):
    boxes, scores, weights = smooth(name)
    options, w = GRADIENTS[name], backend.asarray(weights)
    # Without a penalty the result does not depend on boxes, and PyTorch refuses to differentiate by them.
    got = backend.gradient(lambda b, s: anyops.cluster_nms_scores(b, s, **options) * w + 0 * b[:, 0], boxes, scores)
    want = reference.slopes(
        lambda b, s: float(np.sum(reference.cluster_nms_scores(b, s, **options) * weights)), boxes, scores
    )
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g, slope, rtol=1e-3, atol=1e-5 if backend.has_dtype("float64") else 1e-3)
    assert np.any(want[0]) == (name != "plain")


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("name", ["plain", "distance"])
def test_gradients_of_fused_boxes(backend, transform, name):
    boxes, scores, weights = smooth(name)
    kept = reference.clusters(boxes, scores, **GRADIENTS[name]).kept
    weights = np.random.default_rng(0).normal(size=(7, 4)) * (weights * kept)[:, None]
    options, w = GRADIENTS[name], backend.asarray(weights)
    got = backend.gradient(lambda b, s: anyops.weighted_cluster_nms_boxes(b, s, **options).boxes * w, boxes, scores)
    want = reference.slopes(
        lambda b, s: float(np.sum(reference.clusters(b, s, **options).boxes * weights)), boxes, scores
    )
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g, slope, rtol=1e-3, atol=1e-5 if backend.has_dtype("float64") else 3e-3)
        assert np.any(slope)
