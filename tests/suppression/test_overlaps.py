"""The pairs found by the sweep, against comparing all pairs."""

import functools

import numpy as np
import pytest

from anyops._array.mode import mode_of
from anyops.boxes.geometry import Regions
from anyops.boxes.regions import Measure
from anyops.suppression import overlaps
from anyops.suppression.detections import Detections
from anyops.suppression.graph import Graph
from anyops.suppression.overlaps import Scene, Strips, Sweep, candidates, overlapping_between, searches_within
from anyops.suppression.rescoring import rivals_of
from tests import reference, scenes

N = 400  # more boxes than are compared all with all


def boxes_of(name):
    rng = np.random.default_rng(7)
    corner, size = 10.0 ** rng.uniform(-3, 4, (2, N, 2))
    return {
        "clustered": scenes.clustered(N, 1)[0],
        "spread": scenes.spread(N, 2)[0],
        "all sizes": np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        "one giant": np.concatenate([np.float32([[-50, -50, 900, 900]]), scenes.spread(N - 1, 3)[0]]),
        "grid": np.float32([[x, y, x + 4, y + 4] for x in range(20) for y in range(20)]),
        "rows": np.float32([[0, y, 1000, y + 1.5] for y in range(N)]),
        "columns": np.float32([[x, 0, x + 1.5, 1000] for x in range(N)]),
        "negative": scenes.clustered(N, 4)[0] - 1e4,
        "identical": np.tile(np.float32([[1, 2, 3, 4]]), (N, 1)),
    }[name]


def found(graph, backend):
    better, worse, over = (backend.to_numpy(x) for x in graph.edges[:3])
    order = np.lexsort((worse, better))
    return better[order], worse[order], over[order]


@functools.cache
def pairs_of(name, labelled, kind, threshold):
    """The pairs that every backend must find."""
    return expected(boxes_of(name), labels_of() if labelled else None, kind, threshold)


def labels_of():
    return np.random.default_rng(0).integers(-3, 3, N) * 10**6


def expected(boxes, labels, kind, threshold):
    over = np.stack([reference.overlap_row(box, boxes, kind) for box in boxes])
    either = np.maximum(over, over.T)  # for iof, because the better box may change
    hit = np.triu(either > np.float32(threshold), 1)
    if labels is not None:
        hit &= labels[:, None] == labels
    better, worse = np.nonzero(hit)
    return better, worse, over[better, worse]


@pytest.mark.parametrize(
    "name",
    ["clustered", "spread", "all sizes", "one giant", "grid", "rows", "columns", "negative", "identical"],
)
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.op("nms")
def test_each_pair_once(monkeypatch, backend, xp, name, labelled):
    monkeypatch.setattr(overlaps, "MANY", 0)
    if backend.library == "jax":
        pytest.skip("JAX takes tiles, or a graph of its own in bucketed shapes: tests of nms")
    boxes, ranks = boxes_of(name), np.arange(N, 0, -1, dtype=np.float32)
    labels = labels_of() if labelled else None
    detections = Detections(boxes, ranks, labels).map(backend.asarray)
    mode = mode_of(boxes=detections.boxes)
    for kind, threshold in (
        ("iou", 0.0),
        ("iou", 0.1),
        ("iou", 0.5),
        ("iou", 0.95),
        ("iof", 0.5),
        ("ios", 0.0),
        ("giou", 0.3),
    ):
        graph = rivals_of(mode, detections, measure=Measure(kind), floor=threshold)
        better, worse, over = found(graph, backend)
        want = pairs_of(name, labelled, kind, threshold)
        np.testing.assert_array_equal(better, want[0])
        np.testing.assert_array_equal(worse, want[1])
        np.testing.assert_allclose(over, want[2], rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_between_two_parts(threshold):
    """Each pair of boxes of two parts is found once."""
    boxes = boxes_of("all sizes")
    mode = mode_of(boxes=boxes)
    xp = mode.xp
    better, worse, _ = expected(boxes, None, "iou", threshold)
    x1, y1, x2, y2 = boxes.T
    columns = np.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])
    scene = Scene(Regions(columns), np.arange(N), None, Measure(), threshold)
    strips = Strips.of(xp, scene)
    for members in (np.arange(N) % 3 == 0, np.arange(N) < 7, np.arange(N) % 2 == 1):
        a, b = (Sweep.of(xp, strips, scene.take(xp, np.flatnonzero(part))) for part in (members, ~members))
        parts = overlapping_between(mode, a, b)
        pairs = sorted((int(i), int(j)) for better, worse, *_ in parts for i, j in zip(better, worse, strict=True))
        whole = zip(better.tolist(), worse.tolist(), strict=True)
        assert pairs == sorted((i, j) for i, j in whole if members[i] != members[j])


def test_candidates_follow_the_overlaps():
    """Far fewer than n² candidates if few boxes overlap."""
    boxes = scenes.spread(4000, 5)[0] * np.float32(3)
    mode = mode_of(boxes=boxes)
    xp = mode.xp
    x1, y1, x2, y2 = boxes.T
    scene = Scene(Regions(np.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])), np.arange(4000), None, Measure(), 0.0)
    sweep = Sweep.of(xp, Strips.of(xp, scene), scene)
    pairs = Graph.of(mode, scene, np.arange(4000), room=10**9).overlap.shape[0]
    assert candidates(xp, searches_within(xp, sweep)) < 4 * pairs + 4000
    assert sweep.scene.size <= 3 * 4000
