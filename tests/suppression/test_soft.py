import functools

import numpy as np
import pytest

import anyops
from anyops.suppression import soft
from tests import reference, scenes
from tests.backends import Backend, Transform, compile_fullgraph, dtype_name
from tests.suppression.family import FAMILY

NAN, INF = np.nan, np.inf
SOFT = FAMILY["soft_nms"]
DECAYS = ("gaussian", "linear", "hard")


def close(got, want, rtol=2e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-9)


@pytest.mark.op("soft_nms")
def test_order_is_that_of_the_picks(run):
    """In scenes without close scores."""
    batch, _ = SOFT.example("gaussian, sigma 2, labels")
    seen = 0
    for lane in batch.lanes()[:40]:
        boxes, scores, more = lane.only("labels")
        order, picked = reference.soft_nms(boxes, scores, sigma=2.0, **more)
        if np.min(-np.diff(picked), initial=1) > 1e-4:
            assert run(anyops.soft_nms, boxes, scores, sigma=2.0, **more)[0].tolist() == order
            seen += 1
    assert seen > 10


TIES = {
    "equal scores": ([[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 10, 10]], [0.5, 0.5, 0.5], [0, 2, 1], [0.5, 0.5, 0.25]),
    "equal boxes": ([[0, 0, 4, 4]] * 3, [0.5, 0.75, 0.5], [1], [0.75]),
    "equal after a decay": ([[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 10, 10]], [1, 0.5, 0.25], [0, 1, 2], [1, 0.25, 0.25]),
    "overtaken": ([[0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 10, 10]], [1, 0.75, 0.25], [0, 2, 1], [1, 0.25, 0.1875]),
    "a decayed box decays": ([[0, 0, 8, 1], [4, 0, 8, 1], [6, 0, 8, 1]], [1, 0.5, 0.5], [0, 2, 1], [1, 0.375, 0.125]),
}


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize(("boxes", "scores", "order", "decayed"), TIES.values(), ids=TIES)
def test_linear_by_hand(run, boxes, scores, order, decayed):
    """IoUs of 1/2, 1/4 and so on, for exact products."""
    got = run(anyops.soft_nms, np.float32(boxes), np.float32(scores), decay="linear", iou_threshold=0.1)
    assert [x.tolist() for x in got] == [order, decayed]


@pytest.mark.op("soft_nms")
def test_thresholds_are_strict(run):
    boxes, scores = np.float32([[0, 0, 4, 4], [0, 0, 4, 2]]), np.float32([1, 0.5])  # IoU 1/2
    for decay, score in (("linear", 0.25), ("hard", None)):
        at = run(anyops.soft_nms, boxes, scores, decay=decay, iou_threshold=0.5)
        below = run(anyops.soft_nms, boxes, scores, decay=decay, iou_threshold=0.4375)
        assert at[1].tolist() == [1, 0.5]
        assert below[1].tolist() == [1] + [score] * (score is not None)
    assert run(anyops.soft_nms, boxes, scores, decay="linear", score_threshold=0.25)[0].tolist() == [0]
    assert run(anyops.soft_nms, boxes, scores, decay="linear", score_threshold=0.125)[0].tolist() == [0, 1]


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
def test_scores_that_never_rank_in_the_static_form(run):
    boxes = np.tile(np.float32([[0, 0, 4, 4]]), (6, 1))
    scores = np.float32([NAN, -INF, -0.5, 0, 0.5, NAN])
    got = run(anyops.soft_nms_scores, boxes, scores, score_threshold=None)
    assert got.tolist() == [0, 0, 0, 0, 0.5, 0]


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize("t", [0.0, 0.25, 1 / 3, 0.5, 1.0])
def test_hard_without_a_threshold_is_greedy(run, t):
    for lane in scenes.mixed(180 if run.backend is Backend.NUMPY else 18).lanes():
        indices, scores = run(
            anyops.soft_nms,
            lane.boxes,
            lane.scores,
            decay="hard",
            iou_threshold=t,
            score_threshold=0,
            labels=lane.labels,
        )
        want = reference.greedy(lane.boxes, lane.scores, t, labels=lane.labels, score_threshold=0, dtype=np.float32)
        assert indices.tolist() == want
        assert scores.tolist() == lane.scores[want].tolist()


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_picks_of_16_bits(run, backend, dtype):
    """Computed in float32, in which the decayed second box ranks below the third."""
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    boxes, scores = np.float32([[0, 0, 8, 8], [0, 0, 8, 1], [20, 0, 28, 8]]), np.float32([1, 0.5, 0.4375])
    got = run.raw(anyops.soft_nms, boxes, scores, dtype=dtype, decay="linear", iou_threshold=0.0)
    assert [backend.to_numpy(x).tolist() for x in got] == [[0, 1, 2], [1, 0.4375, 0.4375]]
    assert dtype_name(got.scores) == dtype


GRADIENTS = {
    "gaussian": {},
    "linear": {"decay": "linear", "iou_threshold": 0.2},
    "hard": {"decay": "hard", "iou_threshold": 0.2},
    "giou": {"kind": "giou", "sigma": 1.0},
}


@functools.cache
def smooth(name, n=7):
    """A scene in which small changes do not affect the picks, and weights for a sum of its scores."""
    options = GRADIENTS[name]
    for seed in range(99):
        boxes, scores = scenes.crowd(n, seed=seed)
        boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
        act = reference.actions(boxes, kind=options.get("kind", "iou"))
        overlaps = np.array([act(i) for i in range(n)])
        near = np.abs(overlaps - options.get("iou_threshold", 0)) < 1e-3
        final = reference.soft_nms_scores(boxes, scores, **options)
        gaps = np.diff(np.sort(np.append(final[final > 0], [0.0])))
        if not (near & (overlaps > 0)).any() and gaps.min() > 1e-3 and np.sum(final < scores) > 3:
            return boxes, scores, np.random.default_rng(seed).normal(size=n)
    raise AssertionError("no scene is smooth")


@pytest.mark.op("soft_nms_scores", transforms=(Transform.GRAD,))
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(backend, transform, name):
    boxes, scores, weights = smooth(name)
    options, w = GRADIENTS[name], backend.asarray(weights)
    # With the hard decay the result does not depend on boxes, and PyTorch refuses to differentiate by them.
    got = backend.gradient(lambda b, s: anyops.soft_nms_scores(b, s, **options) * w + 0 * b[:, 0], boxes, scores)
    want = reference.slopes(
        lambda b, s: float(np.sum(reference.soft_nms_scores(b, s, **options) * weights)), boxes, scores
    )
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g, slope, rtol=1e-3, atol=1e-5 if backend.has_dtype("float64") else 1e-3)
    assert np.any(want[0]) == (name != "hard")


def test_gradients_without_jit():
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    boxes, scores, weights = smooth("gaussian")
    want = reference.slopes(lambda b, s: float(np.sum(reference.soft_nms_scores(b, s) * weights)), boxes, scores)
    with Backend.JAX_CPU.active():
        b, s, w = map(Backend.JAX_CPU.asarray, (boxes, scores, weights))
        got = jax.grad(lambda b, s: (anyops.soft_nms_scores(b, s) * w).sum(), (0, 1))(b, s)
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g, slope, rtol=1e-3, atol=1e-3)


@pytest.mark.op("soft_nms_scores", transforms=(Transform.COMPILE,))
def test_inductor(backend, transform):
    boxes, scores = scenes.clustered(12)
    f = compile_fullgraph(anyops.soft_nms_scores, "inductor")
    got = f(backend.asarray(boxes), backend.asarray(scores))
    close(backend.to_numpy(got), reference.soft_nms_scores(boxes, scores, dtype=np.float32))


@pytest.mark.parametrize(
    "name",
    [name for name, (o, extra) in SOFT.cases.items() if "valid" not in extra and o.get("kind") in (None, "iof")],
)
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU], ids=str)
def test_picks_in_rounds(monkeypatch, place, name):
    """The kernel for devices whose values are not in host memory."""
    if why := place.why_unavailable():
        pytest.skip(why)
    monkeypatch.setattr(soft, "pick_from_queue", soft._pick_in_rounds)
    (batch, wants), (options, extra) = SOFT.example(name), SOFT.cases[name]
    for lane, want in zip(batch.lanes()[:20], wants[:20], strict=True):
        boxes, scores, more = lane.only(*extra)
        arrays = [None if x is None else place.asarray(x) for x in (boxes, scores, *more.values())]
        got = anyops.soft_nms(*arrays[:2], **options, **dict(zip(more, arrays[2:], strict=True)))
        got = (*map(place.to_numpy, got), None)
        SOFT.check_index(got, want, scores, options.get("score_threshold"))


@pytest.mark.parametrize("dtypes", [("float16", "float16"), ("float64", "float32")])
def test_a_score_of_exactly_the_threshold_is_not_above_it(backend, dtypes):
    """Compared in the dtype of the scores, to which the threshold is rounded."""
    if not all(map(backend.has_dtype, dtypes)) or backend.library == "dask":
        pytest.skip(f"{backend} has no {' or '.join(dtypes)}, or cannot order")
    boxes = backend.asarray(np.array([[0, 0, 1, 1], [5, 5, 6, 6]], dtypes[0]))
    scores = backend.asarray(np.array([0.3, 0.9], dtypes[1]))
    assert backend.to_numpy(anyops.soft_nms_scores(boxes, scores, score_threshold=0.3))[0] == 0
    if backend is not Backend.STRICTEST:
        assert backend.to_numpy(anyops.soft_nms(boxes, scores, score_threshold=0.3).indices).tolist() == [1]


def test_functional_gradient_of_the_index_form():
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    import torch

    boxes, scores, weights = smooth("gaussian")
    w = torch.asarray(weights)

    def total(b, s):
        indices, new = anyops.soft_nms(b, s)
        return (new * w[indices]).sum()

    got = torch.func.grad(total, argnums=(0, 1))(torch.asarray(boxes), torch.asarray(scores))
    want = reference.slopes(lambda b, s: float(np.sum(reference.soft_nms_scores(b, s) * weights)), boxes, scores)
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g.numpy(), slope, rtol=1e-3, atol=1e-5)


def test_a_threshold_of_integer_scores_goes_through_no_float():
    """2**53 + 1 is not a float: scores above it start at 2**53 + 2."""
    boxes = np.asarray([[0.0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]])
    scores = np.asarray([2**53 + 2, 2**53, 2**53 + 4])
    for threshold, want in ((2**53 + 3, [2]), (2**53 + 1, [2, 0]), (2**53, [2, 0])):
        assert anyops.soft_nms(boxes, scores, score_threshold=threshold).indices.tolist() == want
        assert anyops.nms(boxes, scores, score_threshold=threshold).tolist() == want
