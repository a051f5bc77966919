import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, compile_fullgraph, dtype_name

NAN, INF = np.nan, np.inf
DECAYS = ("gaussian", "linear", "hard")

# name: (options, what of a scene is passed beside boxes and scores)
CASES = {
    "gaussian": ({}, ()),
    "gaussian, sigma 2, labels": ({"sigma": 2.0}, ("labels",)),
    "gaussian, labels, valid": ({}, ("labels", "valid")),
    "gaussian, threshold 0": ({"score_threshold": 0, "sigma": 1.0}, ()),
    "gaussian, no threshold": ({"score_threshold": None, "sigma": 1.0}, ("labels",)),
    "gaussian, threshold 0.25": ({"score_threshold": 0.25}, ("valid",)),
    "linear": ({"decay": "linear"}, ()),
    "linear, labels, valid": ({"decay": "linear", "iou_threshold": 0.5}, ("labels", "valid")),
    "linear, IoU threshold 0": ({"decay": "linear", "iou_threshold": 0.0}, ()),
    "linear, IoU threshold 1": ({"decay": "linear", "iou_threshold": 1.0}, ()),
    "hard": ({"decay": "hard"}, ()),
    "hard, threshold 0": ({"decay": "hard", "iou_threshold": 0.5, "score_threshold": 0}, ("labels",)),
    "iof": ({"kind": "iof"}, ()),
    "ios": ({"kind": "ios", "decay": "linear"}, ()),
    "giou": ({"kind": "giou"}, ()),
    "diou": ({"kind": "diou"}, ("labels",)),
    "ciou": ({"kind": "ciou"}, ()),
    "overlaps": ({}, ("overlaps",)),
    "overlaps, linear": ({"decay": "linear", "iou_threshold": 0.5}, ("overlaps", "labels", "valid")),
    "overlaps, hard": ({"decay": "hard", "iou_threshold": 0.25}, ("overlaps", "labels")),
}
COMPILED = ["gaussian, labels, valid", "overlaps, linear"]
INDEX = [name for name, (_, extra) in CASES.items() if "valid" not in extra]
LANES = 60
NEAR = 2e-5  # scores that differ by less are of one size in float32, after dozens of decays


# JAX compiles each case for a second or more: there it is a choice of tests and cases, and of x64 what is about dtypes.
ON_JAX = {
    "test_scores",
    "test_scores_where_each_case_is_compiled",
    "test_picks",
    "test_result",
    "test_padding_changes_nothing",
    "test_thresholds_are_strict",
    "test_shapes",
    "test_gradients",
    "test_gradients_are_finite_and_none_come_from_padding",
    "test_static_at_size",
}
ON_X64 = {"test_result", "test_dtypes", "test_scores_keep_their_dtype_beside_boxes_of_another"}
CASES_ON_JAX = {"gaussian", "linear", "hard, threshold 0", "iof", "overlaps"}


@pytest.fixture(autouse=True)
def less_on_jax(request):
    case = getattr(request.node, "callspec", None)
    backend, name = (case.params.get(key) if case else None for key in ("backend", "name"))
    test = request.node.originalname
    chosen = test in (ON_X64 if backend is Backend.JAX_X64 else ON_JAX)
    spared = name in CASES and name not in CASES_ON_JAX and "compiled" not in test
    if getattr(backend, "library", None) == "jax" and (spared or not chosen):
        pytest.skip("JAX has a choice of the cases, or compiling would take minutes")


def clear(scene, options, extra):
    """Whether no rounding decides: scores at the threshold, overlapping boxes of nearly one score, or nearly at t."""
    boxes, scores, more = scene.only(*extra)
    options = {"iou_threshold": 0.3, "score_threshold": 1e-3} | options
    least = options["score_threshold"] or 0
    kind = {"kind": options["kind"]} if "kind" in options else {}
    act = reference.actions(boxes, dtype=np.float32, **kind, **more)
    if not scenes.clear_of([act(i) for i in range(len(scores))], options["iou_threshold"]):
        return False
    lower = options | {"score_threshold": least * (1 - NEAR)}
    for i, current, left in reference.soft_picks(boxes, scores, dtype=np.float32, **lower, **more):
        if current[i] < max(least * (1 + NEAR), 1e-20):
            return False
        for k in np.flatnonzero(left & (current > current[i] * (1 - NEAR)) & (act(i) > 0)):
            untouched = np.all(current[[i, k]] == scores[[i, k]])
            the_same = boxes is not None and np.all(boxes[i] == boxes[k]) and scores[i] == scores[k]
            if not untouched and not the_same:
                return False
    return True


@functools.cache
def example(name, coarse=False):
    """A batch, and its scores by the reference."""
    options, extra = CASES[name]
    change = scenes.Scene.coarse if coarse else lambda scene: scene
    batch = change(scenes.mixed(LANES, accept=lambda scene: clear(change(scene), options, extra)))
    return batch, np.stack([expected(lane, options, extra) for lane in batch.lanes()])


def expected(lane, options, extra, dtype=np.float32):
    boxes, scores, more = lane.only(*extra)
    return reference.soft_nms_scores(boxes, scores, dtype=dtype, **options, **more)


def close(got, want, rtol=2e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_cases_decay_and_drop(name):
    """Some of the scores are those before, some are lower, some are 0."""
    (batch, want), (_, extra) = example(name), CASES[name]
    before = np.where(batch.valid, batch.scores, 0) if "valid" in extra else batch.scores
    assert np.sum(want == before) > LANES
    assert np.sum(want == 0) > LANES / 2
    if "hard" not in name and name != "linear, IoU threshold 1":
        assert np.sum((want < before) & (want > 0)) > LANES / 2


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@pytest.mark.parametrize("name", CASES)
def test_scores(run, name):
    check_scores(run, name)


@pytest.mark.op("soft_nms_scores", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@pytest.mark.parametrize("name", COMPILED)
def test_scores_where_each_case_is_compiled(run, name):
    check_scores(run, name)


def check_scores(run, name):
    (batch, want), (options, extra) = example(name), CASES[name]
    boxes, scores, more = batch.only(*extra)
    got = run(anyops.soft_nms_scores, boxes, scores, **options, **more)
    assert got.dtype == np.float32
    close(got, want)


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize("name", INDEX)
def test_picks(run, backend, name):
    (batch, want), (options, extra) = example(name), CASES[name]
    lanes = LANES if backend.library == "numpy" else 18
    for lane, scores_of_lane in zip(batch.lanes()[:lanes], want[:lanes], strict=True):
        boxes, scores, more = lane.only(*extra)
        check_picks(run(anyops.soft_nms, boxes, scores, **options, **more), scores_of_lane)


def check_picks(got, want):
    """Boxes and scores as the reference's, in descending order, ties by the lower index."""
    indices, scores = got
    assert set(indices.tolist()) == set(np.flatnonzero(want).tolist())
    close(scores, want[indices])
    assert indices.tolist() == indices[np.lexsort([indices, -scores])].tolist()


@pytest.mark.op("soft_nms")
def test_order_is_that_of_the_picks(run):
    """In scenes where no two scores are near each other."""
    batch, _ = example("gaussian, sigma 2, labels")
    seen = 0
    for lane in batch.lanes()[:40]:
        boxes, scores, more = lane.only("labels")
        order, picked = reference.soft_nms(boxes, scores, sigma=2.0, **more)
        if np.min(-np.diff(picked), initial=1) > 1e-4:
            assert run(anyops.soft_nms, boxes, scores, sigma=2.0, **more)[0].tolist() == order
            seen += 1
    assert seen > 10


@pytest.mark.op("soft_nms")
def test_result(run, backend):
    boxes, scores = scenes.clustered(20)
    result = run.raw(anyops.soft_nms, boxes, scores)
    assert result._fields == ("indices", "scores")
    assert dtype_name(result.indices) == backend.default("indexing")
    assert dtype_name(result.scores) == "float32"


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
    """IoUs of 1/2, 1/4 and so on: every product is exact."""
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


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize("limit", [0, 1, 5, 10_000])
def test_max_output(run, limit):
    batch, want = example("gaussian")
    for lane, scores in zip(batch.lanes()[2:6], want[2:6], strict=True):
        everything = run(anyops.soft_nms, lane.boxes, lane.scores)
        some = run(anyops.soft_nms, lane.boxes, lane.scores, max_output=limit)
        assert [x.tolist() for x in some] == [x[:limit].tolist() for x in everything]
        assert len(some[0]) == min(limit, np.count_nonzero(scores))


@pytest.mark.op("soft_nms")
def test_scores_that_never_rank(run):
    boxes = np.tile(np.float32([[0, 0, 4, 4]]), (6, 1))
    scores = np.float32([NAN, -INF, -0.5, 0, 0.5, NAN])
    for decay in DECAYS:
        for threshold in (None, 0, 1e-3):
            got = run(anyops.soft_nms, boxes, scores, decay=decay, score_threshold=threshold)
            assert [x.tolist() for x in got] == [[4], [0.5]], (decay, threshold)


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
def test_scores_that_never_rank_in_the_static_form(run):
    boxes = np.tile(np.float32([[0, 0, 4, 4]]), (6, 1))
    scores = np.float32([NAN, -INF, -0.5, 0, 0.5, NAN])
    got = run(anyops.soft_nms_scores, boxes, scores, score_threshold=None)
    assert got.tolist() == [0, 0, 0, 0, 0.5, 0]


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("decay", DECAYS)
def test_padding_changes_nothing(run, decay):
    batch, _ = example("gaussian, labels, valid")
    more = batch.padded()
    valid = np.pad(np.ones(batch.scores.shape, bool), ((0, 0), (0, 3)))
    alone = run(anyops.soft_nms_scores, batch.boxes, batch.scores, decay=decay)
    got = run(anyops.soft_nms_scores, more.boxes, more.scores, decay=decay, valid=valid)
    close(got[:, :-3], alone)
    assert not got[:, -3:].any()


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("name", ["gaussian, labels, valid", "overlaps, linear"])
def test_permutation_equivariant_without_ties(run, name):
    options, extra = CASES[name]
    batch = scenes.mixed(LANES, accept=lambda s: len({*s.scores}) == len(s.scores) and clear(s, options, extra))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    (boxes, scores, more), (boxes2, scores2, more2) = batch.only(*extra), batch.permuted(order).only(*extra)
    plain = run(anyops.soft_nms_scores, boxes, scores, **options, **more)
    close(run(anyops.soft_nms_scores, boxes2, scores2, **options, **more2), plain[:, order])


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


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("decay", DECAYS)
def test_scores_never_rise(run, decay):
    batch = scenes.mixed(LANES)
    got = run(anyops.soft_nms_scores, batch.boxes, batch.scores, decay=decay)
    assert np.all((got >= 0) & (got <= np.fmax(batch.scores, 0)))
    assert np.all(np.max(got, axis=1) == np.nanmax(batch.scores, axis=1))  # the best of a scene stays as it is


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
def test_masks(run):
    masks = np.random.default_rng(0).random((3, 8, 5, 6)) < 0.4
    scores = scenes.scores(3, 8)
    got = run(lambda m, s: anyops.soft_nms_scores(None, s, overlaps=anyops.mask_iou(m, m, kind="iof")), masks, scores)
    for lane in range(3):
        overlaps = np.array([[reference.mask_overlap(a, b, "iof") for b in masks[lane]] for a in masks[lane]])
        close(got[lane], reference.soft_nms_scores(None, scores[lane], overlaps=overlaps))


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
def test_overlaps_beside_boxes_and_with_nan(run):
    batch, _ = example("overlaps")
    holes = np.where(batch.overlaps == 0.5, np.float32(NAN), batch.overlaps)
    got = run(anyops.soft_nms_scores, batch.boxes, batch.scores, overlaps=holes, decay="linear", iou_threshold=0.1)
    for lane, row, overlaps in zip(batch.lanes(), got, holes, strict=True):
        want = reference.soft_nms_scores(
            None, lane.scores, overlaps=np.where(np.isnan(overlaps), 0, overlaps), decay="linear", iou_threshold=0.1
        )
        close(row, want)


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(run, backend, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    for name in ("gaussian", "linear, labels, valid"):
        (batch, want), (options, extra) = example(name, coarse=True), CASES[name]
        boxes, scores, more = batch.only(*extra)
        if dtype == "float64":
            boxes, scores = boxes.astype(dtype), scores.astype(dtype)
            want = np.stack([expected(lane, options, extra, np.float64) for lane in batch.lanes()])
        got = run.raw(anyops.soft_nms_scores, boxes, scores, dtype=dtype, **options, **more)
        assert dtype_name(got) == dtype
        close(backend.to_numpy(got), want, {"float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}[dtype])


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_picks_of_16_bits(run, backend, dtype):
    """Computed in float32, in which the third outranks the second after it has decayed."""
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    boxes, scores = np.float32([[0, 0, 8, 8], [0, 0, 8, 1], [20, 0, 28, 8]]), np.float32([1, 0.5, 0.4375])
    got = run.raw(anyops.soft_nms, boxes, scores, dtype=dtype, decay="linear", iou_threshold=0.0)
    assert [backend.to_numpy(x).tolist() for x in got] == [[0, 1, 2], [1, 0.4375, 0.4375]]
    assert dtype_name(got.scores) == dtype


@pytest.mark.op("soft_nms")
def test_integers(run, backend):
    boxes = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 40_000], [60_000, 0, 61_000, 50_000]], np.int32)
    scores = np.array([3, 5, 2], np.int32)
    got = run.raw(anyops.soft_nms, boxes, scores)
    want = reference.soft_nms(boxes, scores)
    assert dtype_name(got.scores) == backend.default("real floating")
    assert backend.to_numpy(got.indices).tolist() == want[0]
    close(backend.to_numpy(got.scores), want[1])


@pytest.mark.op("soft_nms")
def test_scores_keep_their_dtype_beside_boxes_of_another(run, backend):
    boxes, scores = scenes.clustered(12)
    for dtypes in (("float32", "float64"), ("float64", "float32"), ("float16", "float32")):
        if all(map(backend.has_dtype, dtypes)):
            got = run(anyops.soft_nms, boxes.astype(dtypes[0]), scores.astype(dtypes[1]))
            assert got[1].dtype == dtypes[1]
            check_picks(got, reference.soft_nms_scores(boxes.astype(dtypes[0]), scores, dtype=np.float32))


@pytest.mark.op("soft_nms")
def test_nothing(run, backend):
    for options in ({}, {"decay": "hard", "labels": scenes.labels(0)}, {"max_output": 3}):
        indices, scores = run(anyops.soft_nms, *scenes.spread(0), **options)
        assert indices.shape == scores.shape == (0,)
        assert (dtype_name(indices), dtype_name(scores)) == (backend.default("indexing"), "float32")
    assert run(anyops.soft_nms, *scenes.spread(5), score_threshold=2)[0].shape == (0,)


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("shape", [(0,), (0, 5), (2, 0, 4), (2, 3, 4)])
def test_shapes(run, shape):
    boxes, scores = scenes.boxes(*shape), scenes.scores(*shape)
    got = run(anyops.soft_nms_scores, boxes, scores)
    assert got.shape == shape
    for lane in np.ndindex(shape[:-1]):
        close(got[lane], reference.soft_nms_scores(boxes[lane], scores[lane], dtype=np.float32))


SIZES = {"clustered": (scenes.clustered, ()), "labels": (scenes.clustered, ("labels",)), "spread": (scenes.spread, ())}


@functools.cache
def sized(name, n, decay):
    """The first of some scenes in which no rounding decides, and its scores by the reference."""
    make, extra = SIZES[name]
    options = {"decay": decay}
    for seed in range(50):
        scene = scenes.Scene(*make(n, seed=seed), scenes.labels(n, classes=20), None, None)
        if clear(scene, options, extra):
            return scene.only(*extra), options, expected(scene, options, extra)
    raise AssertionError("no scene is clear")


@pytest.mark.op("soft_nms")
@pytest.mark.parametrize("n", [200, 1700])
@pytest.mark.parametrize("scene", SIZES)
def test_large(run, n, scene):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    for decay in ("gaussian", "linear"):
        (boxes, scores, more), options, want = sized(scene, n, decay)
        check_picks(run(anyops.soft_nms, boxes, scores, **options, **more), want)


@pytest.mark.op("soft_nms_scores", transforms=(Transform.EAGER,))
def test_static_at_size(run):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    (boxes, scores, more), options, want = sized("labels", 700, "gaussian")
    close(run(anyops.soft_nms_scores, boxes, scores, **options, **more), want)


@pytest.mark.parametrize("decay", DECAYS)
def test_memory_does_not_follow_the_square(decay):
    boxes, scores = scenes.spread(20_000)
    tracemalloc.start()
    anyops.soft_nms(boxes, scores, decay=decay)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000**2 / 4  # a quarter of a matrix of bool


GRADIENTS = {
    "gaussian": {},
    "linear": {"decay": "linear", "iou_threshold": 0.2},
    "hard": {"decay": "hard", "iou_threshold": 0.2},
    "giou": {"kind": "giou", "sigma": 1.0},
}


@functools.cache
def smooth(name, n=7):
    """A scene in which no small step changes a pick, and weights that make a sum of its scores."""
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
    # Of the hard decay the boxes are no part, which PyTorch refuses to differentiate by.
    got = backend.gradient(lambda b, s: anyops.soft_nms_scores(b, s, **options) * w + 0 * b[:, 0], boxes, scores)
    want = reference.slopes(
        lambda b, s: float(np.sum(reference.soft_nms_scores(b, s, **options) * weights)), boxes, scores
    )
    for g, slope in zip(got, want, strict=True):
        np.testing.assert_allclose(g, slope, rtol=1e-3, atol=1e-5 if backend.has_dtype("float64") else 1e-3)
    assert np.any(want[0]) == (name != "hard")


@pytest.mark.op("soft_nms_scores", transforms=(Transform.GRAD,))
def test_gradients_are_finite_and_none_come_from_padding(backend, transform):
    batch = scenes.mixed(18)
    finite = np.isfinite(batch.boxes).all(axis=-1)
    more = batch.padded()
    valid = backend.asarray(np.pad(~np.isnan(batch.scores), ((0, 0), (0, 3))))
    for decay in DECAYS:
        gradients = backend.gradient(
            lambda b, s, decay=decay: anyops.soft_nms_scores(b, s, decay=decay, valid=valid), more.boxes, more.scores
        )
        for g in gradients:
            assert np.isfinite(g[:, :-3][finite]).all()
            assert not g[:, -3:].any()


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


@pytest.mark.parametrize("name", [name for name in INDEX if CASES[name][0].get("kind") in (None, "iof")])
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU], ids=str)
def test_picks_in_rounds(monkeypatch, place, name):
    """What a device runs whose values do not lie in the memory of the host."""
    if why := place.why_unavailable():
        pytest.skip(why)
    monkeypatch.setattr("anyops.suppression.soft.lies_on_host", lambda _x: False)
    (batch, want), (options, extra) = example(name), CASES[name]
    for lane, scores_of_lane in zip(batch.lanes()[:20], want[:20], strict=True):
        boxes, scores, more = lane.only(*extra)
        arrays = [None if x is None else place.asarray(x) for x in (boxes, scores, *more.values())]
        got = anyops.soft_nms(*arrays[:2], **options, **dict(zip(more, arrays[2:], strict=True)))
        check_picks([place.to_numpy(x) for x in got], scores_of_lane)


@pytest.mark.parametrize("dtypes", [("float16", "float16"), ("float64", "float32")])
def test_a_score_of_exactly_the_threshold_is_not_above_it(backend, dtypes):
    """In the dtype of the scores, to which the threshold is rounded, whatever they are computed in."""
    if not all(map(backend.has_dtype, dtypes)) or backend.library == "dask":
        pytest.skip(f"{backend} has no {' or '.join(dtypes)}, or cannot order")
    boxes = backend.asarray(np.array([[0, 0, 1, 1], [5, 5, 6, 6]], dtypes[0]))
    scores = backend.asarray(np.array([0.3, 0.9], dtypes[1]))
    assert backend.to_numpy(anyops.soft_nms_scores(boxes, scores, score_threshold=0.3))[0] == 0
    if backend is not Backend.STRICTEST:
        assert backend.to_numpy(anyops.soft_nms(boxes, scores, score_threshold=0.3).indices).tolist() == [1]


def test_functional_gradient_of_the_index_contract():
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


@pytest.mark.op("soft_nms_scores")
def test_nothing_is_left_of_an_infinite_score(run):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    np.testing.assert_array_equal(run(anyops.soft_nms_scores, boxes, scores, decay="linear"), [np.inf, 0, 0])


@pytest.mark.op("soft_nms", transforms=(Transform.EAGER,))
def test_of_equal_infinite_scores_one_is_left(backend, transform):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    found = anyops.soft_nms(*map(backend.asarray, (boxes, scores)), decay="linear")
    assert backend.to_numpy(found[0]).tolist() == [0]
    assert backend.to_numpy(found[1]).tolist() == [np.inf]
