import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, dtype_name

NAN = np.nan
KERNELS = ("gaussian", "linear")

# name: (options, what of a scene is passed beside boxes and scores)
CASES = {
    "gaussian": ({}, ()),
    "gaussian, sigma 1/2, labels": ({"sigma": 0.5}, ("labels",)),
    "gaussian, labels, valid": ({}, ("labels", "valid")),
    "linear": ({"kernel": "linear"}, ()),
    "linear, labels": ({"kernel": "linear"}, ("labels",)),
    "linear, labels, valid": ({"kernel": "linear"}, ("labels", "valid")),
    "iof": ({"kind": "iof"}, ()),
    "ios": ({"kind": "ios", "sigma": 1.0}, ()),
    "giou": ({"kind": "giou", "kernel": "linear"}, ()),
    "diou": ({"kind": "diou"}, ("labels",)),
    "ciou": ({"kind": "ciou"}, ()),
    "overlaps": ({}, ("overlaps",)),
    "overlaps, linear": ({"kernel": "linear"}, ("overlaps", "labels", "valid")),
}
COMPILED = ["gaussian, labels, valid", "overlaps, linear"]
INDEX = [name for name, (_, extra) in CASES.items() if "valid" not in extra]
LANES = 60


# JAX compiles each case for a second or more: there it is a choice of tests and cases, and of x64 what is about dtypes.
ON_JAX = {
    "test_scores",
    "test_scores_where_each_case_is_compiled",
    "test_selection",
    "test_result",
    "test_equal_boxes",
    "test_padding_changes_nothing",
    "test_scores_that_never_rank",
    "test_shapes",
    "test_gradients",
    "test_gradients_are_finite_and_none_come_from_padding",
    "test_static_at_size",
}
ON_X64 = {"test_result", "test_dtypes", "test_scores_keep_their_dtype_beside_boxes_of_another"}
CASES_ON_JAX = {"gaussian", "linear", "iof", "overlaps"}


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
    """Whether no rounding decides: 1 − o is 0 or far from it."""
    boxes, _, more = scene.only(*extra)
    act = reference.actions(boxes, kind=options.get("kind", "iou"), **more)
    rows = np.array([act(i) for i in range(len(scene.scores))])
    return options.get("kernel") != "linear" or not np.any((rows > 0.99) & (rows < 1))


@functools.cache
def example(name, coarse=False):
    """A batch, and its scores by the reference."""
    options, extra = CASES[name]
    change = scenes.Scene.coarse if coarse else lambda scene: scene
    batch = change(scenes.mixed(LANES, accept=lambda scene: clear(change(scene), options, extra)))
    return batch, np.stack([expected(lane, options, extra) for lane in batch.lanes()])


def expected(lane, options, extra, dtype=np.float32):
    boxes, scores, more = lane.only(*extra)
    return reference.matrix_nms_scores(boxes, scores, dtype=dtype, **options, **more)


def close(got, want, rtol=2e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_cases_decay_and_compensate(name):
    """Some scores stay, some fall, and some fall less than the overlaps alone would have them."""
    (batch, want), (options, extra) = example(name), CASES[name]
    present = (batch.scores > 0) & (batch.valid if "valid" in extra else True)
    assert np.sum((want == batch.scores) & present) > LANES
    assert np.sum((want < batch.scores) & present) > LANES / 2
    compensated = 0
    for lane, scores in zip(batch.lanes(), want, strict=True):
        boxes, _, more = lane.only(*extra)
        order, x = reference.triangle(boxes, lane.scores, kind=options.get("kind", "iou"), **more)
        o = x.max(axis=0)
        alone = 1 - o if options.get("kernel") == "linear" else np.exp(-options.get("sigma", 2.0) * o**2)
        compensated += np.sum(scores[order] > 1.01 * alone * lane.scores[order])
    assert compensated > LANES / 2


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@pytest.mark.parametrize("name", CASES)
def test_scores(run, name):
    check_scores(run, name)


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@pytest.mark.parametrize("name", COMPILED)
def test_scores_where_each_case_is_compiled(run, name):
    check_scores(run, name)


def check_scores(run, name):
    (batch, want), (options, extra) = example(name), CASES[name]
    boxes, scores, more = batch.only(*extra)
    got = run(anyops.matrix_nms_scores, boxes, scores, **options, **more)
    assert got.dtype == np.float32
    close(got, want)


@pytest.mark.op("matrix_nms")
@pytest.mark.parametrize("name", INDEX)
def test_selection(run, backend, name):
    (batch, want), (options, extra) = example(name), CASES[name]
    lanes = LANES if backend.library == "numpy" else 18
    for lane, row in zip(batch.lanes()[:lanes], want[:lanes], strict=True):
        boxes, scores, more = lane.only(*extra)
        check_selection(run(anyops.matrix_nms, boxes, scores, **options, **more), row)


def check_selection(got, want, threshold=0.05):
    """What is above the threshold, as the reference's, in descending order, ties by the lower index."""
    indices, scores = got
    near = {*np.flatnonzero(np.abs(want - threshold) < 1e-5).tolist()}  # a rounding decides
    assert {*indices.tolist()} - near == {*np.flatnonzero(want > threshold).tolist()} - near
    close(scores, want[indices])
    assert indices.tolist() == indices[np.lexsort([indices, -scores])].tolist()


@pytest.mark.op("matrix_nms")
def test_result(run, backend):
    result = run.raw(anyops.matrix_nms, *scenes.clustered(20))
    assert result._fields == ("indices", "scores")
    assert dtype_name(result.indices) == backend.default("indexing")
    assert dtype_name(result.scores) == "float32"


HALVES = np.float32([[0, 0, 8, 1], [0, 0, 4, 1], [0, 0, 2, 1]])  # IoUs 1/2, 1/4 and 1/2


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_by_hand(run):
    scores = np.float32([1, 0.5, 0.25])
    linear = run(anyops.matrix_nms_scores, HALVES, scores, kernel="linear")
    # The third: by the first 1 − 1/4 over 1, by the second (1 − 1/2) / (1 − 1/2) as that was decayed itself.
    close(linear, [1, 0.25, 0.1875], 1e-6)
    gaussian = run(anyops.matrix_nms_scores, HALVES, scores)
    close(gaussian, [1, 0.5 * np.exp(-2 / 4), 0.25 * np.exp(-2 / 16)], 1e-6)
    half = run(anyops.matrix_nms_scores, HALVES, scores, sigma=1.0)
    close(half, [1, 0.5 * np.exp(-1 / 4), 0.25 * np.exp(-1 / 16)], 1e-6)


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_equal_boxes(run):
    """With the linear kernel the second falls to 0 and, by 0/0, holds no other; the first still does."""
    boxes, scores = scenes.identical(4)
    order = reference.rank(scores.tolist())
    linear = run(anyops.matrix_nms_scores, boxes, scores, kernel="linear")
    assert linear[order].tolist() == [scores[order[0]], 0, 0, 0]
    gaussian = run(anyops.matrix_nms_scores, boxes, scores)
    close(gaussian[order], scores[order] * [1, *[np.exp(-2)] * 3], 1e-6)
    boxes = np.concatenate([boxes[:2], np.float32([[1, 2, 5, 5.5]])])  # half of them
    linear = run(anyops.matrix_nms_scores, boxes, np.float32([1, 0.75, 0.5]), kernel="linear")
    assert linear.tolist() == [1, 0, 0.25]


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_the_better_box_comes_first(run):
    overlaps = np.float32([[0, 0.75], [0.25, 0]])
    close(run(anyops.matrix_nms_scores, None, np.float32([2, 1]), kernel="linear", overlaps=overlaps), [2, 0.25])
    close(run(anyops.matrix_nms_scores, None, np.float32([1, 2]), kernel="linear", overlaps=overlaps), [0.75, 2])
    boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 1]])  # iof 1/4 and 1
    close(run(anyops.matrix_nms_scores, boxes, np.float32([2, 1]), kernel="linear", kind="iof"), [2, 0.75])
    close(run(anyops.matrix_nms_scores, boxes, np.float32([1, 2]), kernel="linear", kind="iof"), [0, 2])


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


@pytest.mark.op("matrix_nms")
@pytest.mark.parametrize("limit", [0, 1, 5, 10_000])
def test_max_output(run, limit):
    boxes, scores = scenes.crowd(12)
    everything = run(anyops.matrix_nms, boxes, scores)
    some = run(anyops.matrix_nms, boxes, scores, max_output=limit)
    assert len(everything[0]) > 5
    assert [x.tolist() for x in some] == [x[:limit].tolist() for x in everything]


@pytest.mark.op("matrix_nms")
def test_scores_that_never_rank(run):
    boxes = np.tile(np.float32([[0, 0, 4, 4]]), (5, 1))
    scores = np.float32([NAN, -2, -0.5, 0.5, NAN])
    for kernel in KERNELS:
        for threshold in (0, 0.05):
            got = run(anyops.matrix_nms, boxes, scores, kernel=kernel, score_threshold=threshold)
            assert [x.tolist() for x in got] == [[3], [0.5]], (kernel, threshold)
    assert run(anyops.matrix_nms, boxes, scores, score_threshold=None)[0].tolist() == [3, 2, 1, 0, 4]


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kernel", KERNELS)
def test_padding_changes_nothing(run, kernel):
    batch, _ = example("linear")
    more = batch.padded()
    valid = np.pad(np.ones(batch.scores.shape, bool), ((0, 0), (0, 3)))
    alone = run(anyops.matrix_nms_scores, batch.boxes, batch.scores, kernel=kernel)
    got = run(anyops.matrix_nms_scores, more.boxes, more.scores, kernel=kernel, valid=valid)
    close(got[:, :-3], alone)
    assert not got[:, -3:].any()


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("name", ["gaussian, labels, valid", "overlaps, linear"])
def test_permutation_equivariant_without_ties(run, name):
    options, extra = CASES[name]
    batch = scenes.mixed(LANES, accept=lambda s: len({*s.scores}) == len(s.scores) and clear(s, options, extra))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    (boxes, scores, more), (boxes2, scores2, more2) = batch.only(*extra), batch.permuted(order).only(*extra)
    plain = run(anyops.matrix_nms_scores, boxes, scores, **options, **more)
    close(run(anyops.matrix_nms_scores, boxes2, scores2, **options, **more2), plain[:, order])


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("kernel", KERNELS)
def test_scores_never_rise_and_the_best_stays(run, kernel):
    batch = scenes.mixed(LANES)
    got = run(anyops.matrix_nms_scores, batch.boxes, batch.scores, kernel=kernel)
    assert np.all((np.abs(got) <= np.abs(batch.scores)) | np.isnan(batch.scores))
    best = np.array([reference.rank(s.tolist())[0] for s in batch.scores])[:, None]
    np.testing.assert_array_equal(*(np.take_along_axis(x, best, 1) for x in (got, batch.scores)))


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_masks(run):
    masks, scores = np.random.default_rng(0).random((3, 8, 5, 6)) < 0.4, scenes.scores(3, 8)
    got = run(lambda m, s: anyops.matrix_nms_scores(None, s, overlaps=anyops.mask_iou(m, m)), masks, scores)
    for lane in range(3):
        overlaps = np.array([[reference.mask_overlap(a, b) for b in masks[lane]] for a in masks[lane]])
        close(got[lane], reference.matrix_nms_scores(None, scores[lane], overlaps=overlaps))


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_overlaps_beside_boxes_negative_and_nan(run):
    batch, _ = example("overlaps")
    holes = np.where(batch.overlaps == 0.75, np.float32(NAN), batch.overlaps - np.float32(0.25))
    got = run(anyops.matrix_nms_scores, batch.boxes, batch.scores, overlaps=holes, kernel="linear")
    for lane, row, overlaps in zip(batch.lanes(), got, holes, strict=True):
        plain = np.where(overlaps > 0, overlaps, 0)
        close(row, reference.matrix_nms_scores(None, lane.scores, overlaps=plain, kernel="linear"))


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(run, backend, dtype):
    if not backend.has_dtype(dtype) or (backend is Backend.JAX_X64 and dtype != "float64"):
        pytest.skip(f"{backend} has no {dtype}, or is not where it is tried")
    for name in ("gaussian", "linear, labels, valid"):
        (batch, want), (options, extra) = example(name, coarse=True), CASES[name]
        boxes, scores, more = batch.only(*extra)
        if dtype == "float64":
            boxes, scores = boxes.astype(dtype), scores.astype(dtype)
            want = np.stack([expected(lane, options, extra, np.float64) for lane in batch.lanes()])
        got = run.raw(anyops.matrix_nms_scores, boxes, scores, dtype=dtype, **options, **more)
        assert dtype_name(got) == dtype
        close(backend.to_numpy(got), want, {"float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}[dtype])


@pytest.mark.op("matrix_nms")
def test_integers(run, backend):
    boxes = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 40_000], [60_000, 0, 61_000, 50_000]], np.int32)
    scores = np.array([3, 5, 2], np.int32)
    got = run.raw(anyops.matrix_nms, boxes, scores)
    assert dtype_name(got.scores) == backend.default("real floating")
    check_selection(tuple(map(backend.to_numpy, got)), reference.matrix_nms_scores(boxes, scores))


@pytest.mark.op("matrix_nms")
def test_scores_keep_their_dtype_beside_boxes_of_another(run, backend):
    boxes, scores = scenes.clustered(12)
    for dtypes in (("float32", "float64"), ("float64", "float32"), ("float16", "float32")):
        if all(map(backend.has_dtype, dtypes)):
            got = run(anyops.matrix_nms, boxes.astype(dtypes[0]), scores.astype(dtypes[1]))
            assert got[1].dtype == dtypes[1]
            check_selection(got, reference.matrix_nms_scores(boxes.astype(dtypes[0]), scores, dtype=np.float32))


@pytest.mark.op("matrix_nms")
def test_nothing(run, backend):
    for options in ({}, {"kernel": "linear", "labels": scenes.labels(0)}, {"max_output": 3}):
        indices, scores = run(anyops.matrix_nms, *scenes.spread(0), **options)
        assert indices.shape == scores.shape == (0,)
        assert (dtype_name(indices), dtype_name(scores)) == (backend.default("indexing"), "float32")


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("shape", [(0,), (0, 5), (2, 0, 4), (2, 3, 4)])
def test_shapes(run, shape):
    boxes, scores = scenes.boxes(*shape), scenes.scores(*shape)
    got = run(anyops.matrix_nms_scores, boxes, scores)
    assert got.shape == shape
    for lane in np.ndindex(shape[:-1]):
        close(got[lane], reference.matrix_nms_scores(boxes[lane], scores[lane]))


SIZES = {s.__name__: s for s in (scenes.clustered, scenes.spread, scenes.tied)}


@functools.cache
def sized(scene, n):
    boxes, scores = SIZES[scene](n, seed=n)
    labels = scenes.labels(n, classes=5)
    options = {"kernel": "linear", "labels": labels}
    plain, labelled = (reference.matrix_nms_scores(boxes, scores, dtype=np.float32, **o) for o in ({}, options))
    return boxes, scores, options, plain, labelled


@pytest.mark.op("matrix_nms")
@pytest.mark.parametrize("n", [150, 600])
@pytest.mark.parametrize("scene", SIZES)
def test_large(run, n, scene):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores, options, plain, labelled = sized(scene, n)
    check_selection(run(anyops.matrix_nms, boxes, scores), plain)
    check_selection(run(anyops.matrix_nms, boxes, scores, **options), labelled)


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.EAGER,))
def test_static_at_size(run):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores, options, plain, labelled = sized("clustered", 600)
    close(run(anyops.matrix_nms_scores, boxes, scores), plain)
    close(run(anyops.matrix_nms_scores, boxes, scores, **options), labelled)


@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_does_not_follow_the_square(kernel):
    boxes, scores = scenes.spread(20_000)
    tracemalloc.start()
    anyops.matrix_nms(boxes, scores, kernel=kernel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000**2 / 4  # a quarter of a matrix of bool


GRADIENTS = {"gaussian": {}, "linear": {"kernel": "linear"}, "giou": {"kind": "giou", "sigma": 1.0}}


@functools.cache
def smooth(name, n=7):
    """A scene in which the same two boxes decide about a third after a small step."""
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


@pytest.mark.op("matrix_nms_scores", transforms=(Transform.GRAD,))
def test_gradients_are_finite_and_none_come_from_padding(backend, transform):
    batch = scenes.mixed(18)
    finite = np.isfinite(batch.boxes).all(axis=-1)
    more = batch.padded()
    valid = backend.asarray(np.pad(~np.isnan(batch.scores), ((0, 0), (0, 3))))
    for kernel in KERNELS:
        gradients = backend.gradient(
            lambda b, s, kernel=kernel: anyops.matrix_nms_scores(b, s, kernel=kernel, valid=valid),
            more.boxes,
            more.scores,
        )
        for g in gradients:
            assert np.isfinite(g[:, :-3][finite]).all()
            assert not g[:, -3:].any()


@pytest.mark.op("matrix_nms_scores")
def test_nothing_is_left_of_an_infinite_score(run):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    np.testing.assert_array_equal(run(anyops.matrix_nms_scores, boxes, scores, kernel="linear"), [np.inf, 0, 0])


@pytest.mark.op("matrix_nms", transforms=(Transform.EAGER,))
def test_of_equal_infinite_scores_one_is_left(backend, transform):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    found = anyops.matrix_nms(*map(backend.asarray, (boxes, scores)), kernel="linear")
    assert backend.to_numpy(found[0]).tolist() == [0]
    assert backend.to_numpy(found[1]).tolist() == [np.inf]
