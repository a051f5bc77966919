"""Costs to avoid: pairs that decide nothing, and a compilation for each number of boxes."""

import sys

import numpy as np
import pytest

import anyops
from anyops._host import greedy as host
from anyops.suppression import overlaps, tiles
from tests import scenes
from tests.backends import Backend

OPS = {
    "nms": lambda b, s, i: anyops.nms(b, s),
    "nms, diou": lambda b, s, i: anyops.nms(b, s, kind="diou"),
    "batched_nms": lambda b, s, i: anyops.batched_nms(b, s, i, 0.5),
    "nms_groups": lambda b, s, i: anyops.nms_groups(b, s),
    "nms_groups, diou": lambda b, s, i: anyops.nms_groups(b, s, kind="diou"),
    "nms_groups, labels": lambda b, s, i: anyops.nms_groups(b, s, labels=i),
    "soft_nms": lambda b, s, i: anyops.soft_nms(b, s),
    "weighted_boxes_fusion": anyops.weighted_boxes_fusion,
    "fast_nms": lambda b, s, i: anyops.fast_nms(b, s),
    "fast_nms, labels": lambda b, s, i: anyops.fast_nms(b, s, labels=i),
    "cluster_nms": lambda b, s, i: anyops.cluster_nms(b, s),
    "cluster_nms, score": lambda b, s, i: anyops.cluster_nms(b, s, penalty="score"),
    "cluster_nms, distance": lambda b, s, i: anyops.cluster_nms(b, s, penalty="score+distance", labels=i),
    "cluster_nms_scores": lambda b, s, i: anyops.cluster_nms_scores(b, s, penalty="score"),
    "weighted_cluster_nms": lambda b, s, i: anyops.weighted_cluster_nms(b, s),
}


@pytest.fixture
def pairs(monkeypatch):
    """Count the pairs whose overlap is computed."""
    count = [0]

    def counting(f, size):
        def call(*args, **options):
            found = f(*args, **options)
            count[0] += size(found)
            return found

        return call

    for module in (overlaps, tiles):
        monkeypatch.setattr(module, "overlap", counting(module.overlap, lambda x: x.size))
    monkeypatch.setattr(host, "_overlap", counting(host._overlap, lambda x: x.size))
    return count


@pytest.mark.parametrize("name", OPS)
def test_pairs_of_equal_boxes(name, pairs):
    """Four times as many equal boxes, one of them kept, take about four times as many pairs."""
    counts = []
    for n in (8_000, 32_000):
        boxes, scores = np.tile(np.float32([0, 0, 9, 9]), (n, 1)), np.linspace(1, 0.1, n, dtype=np.float32)
        pairs[0] = 0
        OPS[name](boxes, scores, np.arange(n) % 2)
        counts.append(pairs[0])
    assert counts[1] < 8 * max(counts[0], 1_500_000)


def test_scenes_of_many_pairs(backend):
    """Right results beyond the graph of all pairs: a cloud in which each box overlaps hundreds."""
    if backend.library == "dask" or not backend.is_fast or not backend.has_dtype("float64"):
        pytest.skip("only where a scene of thousands is quick, and no overlap is rounded to float32")
    n, rng = 2_400, np.random.default_rng(0)
    corner, labels = rng.random((n, 2)) * 8, rng.integers(0, 2, n)
    boxes = np.concat([corner, corner + 12 + rng.random((n, 2)) * 6], axis=1).round(2)
    boxes[::50, 2] = boxes[::50, 0]  # boxes that overlap none
    scores = (rng.permutation(n) + 1) / n
    order = np.argsort(-scores)
    for options in ({}, {"labels": labels}, {"kind": "iof"}, {"kind": "diou"}, {"score_threshold": 0.3}):
        least, label = options.get("score_threshold", -1), options.get("labels", np.zeros(n))
        alike = anyops.box_iou(boxes, boxes, kind=options.get("kind", "iou"))
        over = alike > 0.5
        groups, kept, fast, seen = np.full(n, -1), [], [], []
        for i in order[scores[order] > least].tolist():
            rivals = [j for j in kept if over[j, i] and label[j] == label[i]]
            if not any(over[j, i] and label[j] == label[i] for j in seen):
                fast.append(i)
            seen.append(i)
            kept += [] if rivals else [i]
            groups[i] = rivals[0] if rivals else i
        given = {k: backend.asarray(v) if k == "labels" else v for k, v in options.items()}
        arrays = backend.asarray(boxes, "float64"), backend.asarray(scores, "float64")
        for op, want in ((anyops.nms, kept), (anyops.nms_groups, groups), (anyops.fast_nms, fast)):
            got = backend.to_numpy(op(*arrays, 0.5, **given))
            np.testing.assert_array_equal(got, want, err_msg=f"{op.__name__} {options}")
        if "score_threshold" in options:
            continue
        rank = np.argsort(order)
        acts = np.isin(np.arange(n), kept)[:, None] & (rank[:, None] < rank) & (label[:, None] == label) & (alike > 0)
        alike = np.where(acts, alike, 0)
        new = scores * np.exp(-(alike**2).sum(axis=0) / 0.2)
        indices, got = map(
            backend.to_numpy, anyops.cluster_nms(*arrays, penalty="score", score_threshold=None, **given)
        )
        np.testing.assert_allclose(got, new[indices], rtol=1e-9, err_msg=str(options))
        assert sorted(indices.tolist()) == list(range(n))
        weight = (alike * (alike > 0.8) + np.eye(n)) * scores
        moved, _, indices = map(backend.to_numpy, anyops.weighted_cluster_nms(*arrays, score_threshold=None, **given))
        want = (weight @ boxes) / weight.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(moved, want[indices], rtol=1e-9, err_msg=str(options))
        assert sorted(indices.tolist()) == sorted(kept)


# --- programs of JAX -------------------------------------------------------------------------------------------------

SQUARE = ("nms", "nms_groups", "soft_nms", "fast_nms", "cluster_nms", "matrix_nms")
COMPILED = {
    **{name: lambda b, s, i, o, name=name: getattr(anyops, name)(b, s) for name in (*SQUARE, "weighted_cluster_nms")},
    **{
        f"{name}, overlaps": lambda b, s, i, o, name=name: getattr(anyops, name)(None, s, overlaps=o) for name in SQUARE
    },
    "nms, score_threshold": lambda b, s, i, o: anyops.nms(b, s, score_threshold=0.3),
    "nms_groups, labels": lambda b, s, i, o: anyops.nms_groups(b, s, labels=i),
    "nms, scenes": lambda b, s, i, o: anyops.nms(b, s, labels=i, scenes=i, max_output=9),
    "batched_nms": lambda b, s, i, o: anyops.batched_nms(b, s, i, 0.5),
    "weighted_boxes_fusion": lambda b, s, i, o: anyops.weighted_boxes_fusion(b, s, i),
}


@pytest.fixture(scope="module")
def programs():
    """Count the programs that JAX compiles."""
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    count = [0]

    def listen(event, *_, **__):
        count[0] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    return count


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # NumPy has no bfloat16, so it runs as on a device
@pytest.mark.parametrize("name", COMPILED)
def test_programs_do_not_follow_the_number_of_boxes(name, dtype, programs):
    jnp = sys.modules["jax"].numpy
    counts = []
    for n in (97, 98, 99, 127):
        boxes, scores = scenes.clustered(n)
        given = [jnp.asarray(boxes, dtype), jnp.asarray(scores, dtype), jnp.asarray(np.arange(n) % 3)]
        given.append(jnp.asarray(anyops.box_iou(boxes, boxes), dtype))
        before = programs[0]
        COMPILED[name](*given)
        counts.append(programs[0] - before)
    if (name, dtype) == ("nms", "bfloat16"):
        assert counts[0] > 0  # the counter works
    assert counts[1:] == [0, 0, 0]
