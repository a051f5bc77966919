import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Transform, dtype_name

NAN, INF = np.nan, np.inf


def expected(scores, k, threshold=None):
    order = reference.rank(scores.tolist())[:k]
    floor = -INF if threshold is None else threshold
    return order, [not np.isnan(scores[i]) and (threshold is None or scores[i] > floor) for i in order]


SCORES = {
    "random": scenes.scores(12),
    "ties": np.float32([1, 3, 2, 3, 1, 3, 2, 0]),
    "NaN and inf": np.float32([NAN, -INF, 1, NAN, INF, 0.5, -1]),
    "all NaN": np.float32([NAN, NAN, NAN]),
    "zeros of both signs": np.float32([-0.0, 0.0, -0.0, 0.0]),
    "none": np.float32([]),
}


@pytest.mark.op("top_scores", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("threshold", [None, 0.5, 0, 2])
def test_top(run, backend, scores, threshold):
    for k in {0, min(3, len(scores)), len(scores)}:
        indices, valid = run(anyops.top_scores, scores, k, score_threshold=threshold)
        want = expected(scores, k, threshold)
        assert valid.tolist() == want[1]
        assert indices[valid].tolist() == [i for i, ok in zip(*want, strict=True) if ok]
        assert all(0 <= i < len(scores) for i in indices)
        assert dtype_name(indices) == backend.default("indexing")
        assert valid.dtype == bool


@pytest.mark.op("top_scores")
@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 7), (0, 7), (3, 0)])
def test_batches(run, shape):
    scores = np.round(scenes.scores(*shape) * 8) / np.float32(8)
    k = min(4, shape[-1])
    indices, valid = run(anyops.top_scores, scores, k, score_threshold=0.25)
    assert indices.shape == valid.shape == (*shape[:-1], k)
    for lane in np.ndindex(shape[:-1]):
        want = expected(scores[lane], k, 0.25)
        assert valid[lane].tolist() == want[1]
        assert indices[lane][valid[lane]].tolist() == [i for i, ok in zip(*want, strict=True) if ok]


@pytest.mark.op("top_scores")
def test_result_has_names(run):
    result = run.raw(anyops.top_scores, scenes.scores(5), 2)
    if run.transform.value in ("eager", "jit", "compile"):  # under vmap the test itself splits the lanes
        assert result._fields == ("indices", "valid")


@pytest.mark.op("top_scores")
def test_padded_nms(run):
    """The static form of nms with max_output: mask, then select."""
    boxes, scores = scenes.clustered(40)

    def padded(b, s):
        keep = anyops.nms_mask(b, s, 0.5)
        return anyops.top_scores(run.backend.xp.where(keep, s, float("nan")), 8, score_threshold=0.125)

    indices, valid = run(padded, boxes, scores)
    want = reference.greedy(boxes, scores, 0.5, score_threshold=0.125, max_output=8)
    assert indices[valid].tolist() == want


@pytest.mark.op("top_scores", transforms=(Transform.EAGER, Transform.JIT))
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_are_ordered_as_such(run, backend, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    info = np.iinfo(dtype)
    scores = np.array([info.max - 1, info.max, info.min, info.max - 1, info.min + 1], dtype)
    assert run(anyops.top_scores, scores, 5)[0].tolist() == [1, 0, 3, 4, 2]


@pytest.mark.op("nms", transforms=(Transform.EAGER,))
def test_scores_that_float32_does_not_hold(run):
    boxes = np.float32([[0, 0, 2, 2], [0, 0, 2, 2]])
    assert run(anyops.nms, boxes, np.array([2**24, 2**24 + 1], np.int32)).tolist() == [1]
