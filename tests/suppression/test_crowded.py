"""Where nearly all boxes overlap, tiles stand in for the graph, so that memory follows the boxes."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend

OPS = {
    "soft_nms": anyops.soft_nms,
    "fast_nms": anyops.fast_nms,
    "cluster_nms": anyops.cluster_nms,
    "cluster_nms, score": partial(anyops.cluster_nms, penalty="score"),
    "weighted_cluster_nms": anyops.weighted_cluster_nms,
    "matrix_nms": anyops.matrix_nms,
    "nms_groups": anyops.nms_groups,
}


@pytest.mark.parametrize("name", [name for name in OPS if name != "weighted_cluster_nms"])  # no reference of it
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU], ids=str)
def test_answers_of_the_tiles(monkeypatch, place, name):
    if why := place.why_unavailable():
        pytest.skip(why)
    monkeypatch.setattr("anyops.suppression.rescoring.FEW", 0)
    monkeypatch.setattr("anyops.suppression.rescoring.EACH", 0)
    op, penalty = OPS[name], {"penalty": "score"} if name.endswith("score") else {}
    for seed in range(12):
        boxes, scores = (x.astype(np.float64) for x in scenes.clustered(40, seed))
        more = {"labels": scenes.labels(40, classes=2, seed=seed), "score_threshold": 0.2}
        got = op(*map(place.asarray, (boxes, scores)), **more | {"labels": place.asarray(more["labels"])})
        want = getattr(reference, name.partition(",")[0])(boxes, scores, **more, **penalty)
        got, want = ((x,) if name in ("fast_nms", "nms_groups") else tuple(x) for x in (got, want))
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(place.to_numpy(g), w, rtol=1e-12)


@pytest.mark.parametrize("name", OPS)
def test_memory_follows_the_boxes(name):
    peaks = []
    for n in (3_000, 6_000):
        boxes, scores = scenes.identical(n)
        tracemalloc.start()
        OPS[name](boxes, scores)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3 * peaks[0]  # four times where it follows the pairs
