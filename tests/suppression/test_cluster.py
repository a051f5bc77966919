import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, dtype_name

NAN, INF = np.nan, np.inf
PENALTIES = (None, "score", "score+distance")

# name: (options, what of a scene is passed beside boxes and scores)
CASES = {
    "plain": ({}, ()),
    "plain, labels, valid": ({"iou_threshold": 0.3}, ("labels", "valid")),
    "plain, giou": ({"kind": "giou", "iou_threshold": 0.3}, ()),
    "plain, overlaps": ({}, ("overlaps", "labels")),
    "score": ({"penalty": "score"}, ()),
    "score, labels, valid": ({"penalty": "score", "sigma": 0.5}, ("labels", "valid")),
    "score, iof": ({"penalty": "score", "kind": "iof"}, ()),
    "score, ios": ({"penalty": "score", "kind": "ios", "iou_threshold": 0.7}, ()),
    "score, ciou": ({"penalty": "score", "kind": "ciou"}, ()),
    "score, overlaps": ({"penalty": "score", "iou_threshold": 0.25}, ("overlaps", "labels", "valid")),
    "distance": ({"penalty": "score+distance"}, ()),
    "distance, labels, valid": ({"penalty": "score+distance", "sigma": 0.1}, ("labels", "valid")),
    "distance, diou": ({"penalty": "score+distance", "kind": "diou"}, ("labels",)),
}
COMPILED = ["plain, labels, valid", "distance, labels, valid"]
WEIGHTED = [name for name in CASES if "overlaps" not in name]
LANES = 60


# JAX compiles each case for a second or more: there it is a choice of tests and cases, and of x64 what is about dtypes.
ON_JAX = {
    "test_scores",
    "test_scores_where_each_case_is_compiled",
    "test_boxes",
    "test_boxes_where_each_case_is_compiled",
    "test_selection",
    "test_weighted_result",
    "test_shapes",
    "test_gradients",
    "test_gradients_of_fused_boxes",
    "test_gradients_are_finite_and_none_come_from_padding",
    "test_fused_with_odd_scores",
}
ON_X64 = {"test_weighted_result", "test_dtypes"}
CASES_ON_JAX = {"plain, overlaps", "score, iof", "distance"}


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
    """Whether no rounding decides: no overlap is nearly 0, the threshold, or that from which boxes are fused."""
    boxes, _, more = scene.only(*extra)
    act = reference.actions(boxes, kind=options.get("kind", "iou"), **more)
    rows = [act(i) for i in range(len(scene.scores))]
    return scenes.clear_of(rows, 0, options.get("iou_threshold", 0.5), 0.8)


@functools.cache
def example(name, coarse=False):
    """A batch, and what the reference makes of it."""
    options, extra = CASES[name]
    change = scenes.Scene.coarse if coarse else lambda scene: scene
    batch = change(scenes.mixed(LANES, accept=lambda scene: clear(change(scene), options, extra)))
    return batch, clusters(batch, options, extra)


def clusters(batch, options, extra, dtype=np.float32):
    """The reference, lane by lane."""
    calls = [lane.only(*extra) for lane in batch.lanes()]
    lanes = [reference.clusters(boxes, scores, dtype=dtype, **options, **more) for boxes, scores, more in calls]
    fused = None if "overlaps" in extra else np.stack([lane.boxes for lane in lanes])
    return reference.Clusters(np.stack([x.kept for x in lanes]), np.stack([x.scores for x in lanes]), fused)


def close(got, want, rtol=4e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_cases_keep_and_fall(name):
    (batch, want), (options, extra) = example(name), CASES[name]
    present = (batch.scores > 0) & (batch.valid if "valid" in extra else True)
    assert np.sum(want.kept & present) > LANES
    falls = ~want.kept if options.get("penalty") is None else want.scores < batch.scores
    assert np.sum(falls & present) > LANES / 2
    if name in WEIGHTED:
        moved = ~np.isclose(want.boxes, batch.boxes, atol=1e-3, equal_nan=True).all(axis=-1)
        assert np.sum(moved & present) > LANES / 6


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@pytest.mark.parametrize("name", CASES)
def test_scores(run, name):
    check_scores(run, name)


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@pytest.mark.parametrize("name", COMPILED)
def test_scores_where_each_case_is_compiled(run, name):
    check_scores(run, name)


def check_scores(run, name):
    (batch, want), (options, extra) = example(name), CASES[name]
    boxes, scores, more = batch.only(*extra)
    got = run(anyops.cluster_nms_scores, boxes, scores, **options, **more)
    assert got.dtype == np.float32
    close(got, np.where(want.kept, want.scores, 0))


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER, Transform.FUNC_VMAP))
@pytest.mark.parametrize("name", WEIGHTED)
def test_boxes(run, name):
    check_boxes(run, name)


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.JIT, Transform.COMPILE, Transform.VMAP))
@pytest.mark.parametrize("name", COMPILED[1:])
def test_boxes_where_each_case_is_compiled(run, name):
    check_boxes(run, name)


def check_boxes(run, name):
    """Of all boxes that a score was left; the others are nobody's."""
    (batch, want), (options, extra) = example(name), CASES[name]
    boxes, scores, more = batch.only(*extra)
    fused, new = run(anyops.weighted_cluster_nms_boxes, boxes, scores, **options, **more)
    assert (fused.dtype, new.dtype) == (np.float32, np.float32)
    close(new, np.where(want.kept, want.scores, 0))
    close(fused[want.kept], want.boxes[want.kept])


def calls(name, backend):
    """The arguments of one scene after the other, and its part of the reference."""
    (batch, want), (options, extra) = example(name), CASES[name]
    for k, lane in enumerate(batch.lanes()[: LANES if backend.library == "numpy" else 18]):
        boxes, scores, more = lane.only(*extra)
        yield boxes, scores, options | more, [None if x is None else x[k] for x in want]


INDEX = [name for name in CASES if "valid" not in CASES[name][1]]


@pytest.mark.op("cluster_nms")
@pytest.mark.parametrize("name", INDEX)
def test_selection(run, backend, name):
    for boxes, scores, options, (kept, new, _) in calls(name, backend):
        check_selection(run(anyops.cluster_nms, boxes, scores, **options), np.where(kept, new, -1))


@pytest.mark.op("weighted_cluster_nms")
@pytest.mark.parametrize("name", [name for name in INDEX if name in WEIGHTED])
def test_weighted_selection(run, backend, name):
    for boxes, scores, options, (kept, new, fused) in calls(name, backend):
        got, *selection = run(anyops.weighted_cluster_nms, boxes, scores, **options)
        check_selection(selection[::-1], np.where(kept, new, -1))
        close(got, fused[selection[1]])


def check_selection(got, want, threshold=0.01):
    """What is above the threshold, as the reference's, in descending order, ties by the lower index."""
    indices, scores = got
    near = {*np.flatnonzero(np.abs(want - threshold) < 1e-5).tolist()}  # a rounding decides
    assert {*indices.tolist()} - near == {*np.flatnonzero(want > threshold).tolist()} - near
    close(scores, want[indices])
    assert indices.tolist() == indices[np.lexsort([indices, -scores])].tolist()


@pytest.mark.op("cluster_nms")
def test_result(run, backend):
    result = run.raw(anyops.cluster_nms, *scenes.clustered(20))
    assert result._fields == ("indices", "scores")
    assert dtype_name(result.indices) == backend.default("indexing")
    assert dtype_name(result.scores) == "float32"


@pytest.mark.op("weighted_cluster_nms")
def test_weighted_result(run, backend):
    result = run.raw(anyops.weighted_cluster_nms, *scenes.clustered(20))
    assert result._fields == ("boxes", "scores", "indices")
    assert dtype_name(result.indices) == backend.default("indexing")
    assert {dtype_name(result.scores), dtype_name(result.boxes)} == {"float32"}


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
    """A chain: the second is dropped, so that the third is not penalised."""
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
    """With a penalty the threshold decides only who is dropped, and the dropped penalise no more."""
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


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_the_better_box_comes_first(run):
    overlaps = np.float32([[0, 0.75], [0.25, 0]])
    kept = [run(anyops.cluster_nms_scores, None, np.float32(s), overlaps=overlaps) for s in ([2, 1], [1, 2])]
    assert [x.tolist() for x in kept] == [[2, 0], [1, 2]]
    for scores, factor in (([2, 1], [1, np.exp(-(0.75**2) / 0.2)]), ([1, 2], [np.exp(-(0.25**2) / 0.2), 1])):
        got = run(anyops.cluster_nms_scores, None, np.float32(scores), penalty="score", overlaps=overlaps)
        close(got, np.float32(scores) * factor)


STACK = np.float32([[0, 0, 10, 1], [0, 0, 9, 1], [1, 0, 10, 1], [0, 0, 7, 1]])  # the first: 9/10, 9/10, 7/10


@pytest.mark.op("weighted_cluster_nms")
def test_fused_by_hand(run):
    """With overlap times score of all that it overlaps by more than 0.8."""
    scores = np.float32([1, 0.5, 0.25, 0.125])
    boxes, new, indices = run(anyops.weighted_cluster_nms, STACK, scores)
    assert (new.tolist(), indices.tolist()) == ([1], [0])
    w = np.array([1, 0.9 * 0.5, 0.9 * 0.25])
    close(boxes[0], w @ STACK[:3] / w.sum(), 1e-6)
    # Those that the threshold cuts are fused all the same.
    boxes, new, indices = run(anyops.weighted_cluster_nms, STACK, scores, penalty="score", score_threshold=0.5)
    w[1:] *= np.exp(-(0.9**2) / 0.2)
    assert (new.tolist(), indices.tolist()) == ([1], [0])
    close(boxes[0], w @ STACK[:3] / w.sum(), 1e-6)


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
def test_fused_with_odd_scores(run):
    """NaN weighs nothing, nor does 0; where nothing weighs anything the box is what it was."""
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


@pytest.mark.op("cluster_nms")
@pytest.mark.parametrize("limit", [0, 1, 5, 10_000])
def test_max_output(run, limit):
    boxes, scores = scenes.crowd(12)
    everything = run(anyops.cluster_nms, boxes, scores, penalty="score")
    some = run(anyops.cluster_nms, boxes, scores, penalty="score", max_output=limit)
    assert len(everything[0]) > 5
    assert some[0].tolist() == everything[0][:limit].tolist()
    rtol = 1e-5 if run.backend is Backend.TORCH_CUDA else 0  # torch on CUDA sums in any order
    np.testing.assert_allclose(some[1], everything[1][:limit], rtol=rtol)


@pytest.mark.op("weighted_cluster_nms")
def test_weighted_max_output(run):
    boxes, scores = scenes.crowd(12)
    everything = run(anyops.weighted_cluster_nms, boxes, scores, penalty="score")
    some = run(anyops.weighted_cluster_nms, boxes, scores, penalty="score", max_output=2)
    assert len(everything[0]) > 5
    assert [x.tolist() for x in some] == [x[:2].tolist() for x in everything]


@pytest.mark.op("cluster_nms")
def test_scores_that_never_rank(run):
    boxes = np.tile(np.float32([[0, 0, 4, 4]]), (5, 1)) + np.float32([[0], [9], [18], [27], [36]])
    scores = np.float32([NAN, -INF, -0.5, 0.5, NAN])
    for penalty in PENALTIES:
        for threshold in (0, 0.01):
            got = run(anyops.cluster_nms, boxes, scores, penalty=penalty, score_threshold=threshold)
            assert [x.tolist() for x in got] == [[3], [0.5]], penalty
        got = run(anyops.cluster_nms, boxes, scores, penalty=penalty, score_threshold=None)
        assert got[0].tolist() == [3, 2, 1, 0, 4]


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_padding_changes_nothing(run, penalty):
    batch, _ = example("distance")
    more = batch.padded()
    valid = np.pad(np.ones(batch.scores.shape, bool), ((0, 0), (0, 3)))
    boxes, scores = run(anyops.weighted_cluster_nms_boxes, batch.boxes, batch.scores, penalty=penalty)
    padded = run(anyops.weighted_cluster_nms_boxes, more.boxes, more.scores, penalty=penalty, valid=valid)
    close(padded[0][:, :-3], boxes)
    close(padded[1][:, :-3], scores)
    assert not padded[1][:, -3:].any()


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("name", ["distance, labels, valid"])
def test_permutation_equivariant_without_ties(run, name):
    options, extra = CASES[name]
    batch = scenes.mixed(LANES, accept=lambda s: len({*s.scores}) == len(s.scores) and clear(s, options, extra))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    (boxes, scores, more), (boxes2, scores2, more2) = batch.only(*extra), batch.permuted(order).only(*extra)
    plain = run(anyops.weighted_cluster_nms_boxes, boxes, scores, **options, **more)
    shuffled = run(anyops.weighted_cluster_nms_boxes, boxes2, scores2, **options, **more2)
    present = batch.valid[:, order]
    for got, want in zip(shuffled, plain, strict=True):
        close(got[present], want[:, order][present])


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("penalty", ["score", "score+distance"])
def test_penalties_only_lower(run, penalty):
    batch = scenes.mixed(LANES)
    got = run(anyops.cluster_nms_scores, batch.boxes, batch.scores, penalty=penalty)
    assert np.all((np.abs(got) <= np.abs(batch.scores)) | np.isnan(batch.scores))
    best = np.array([reference.rank(s.tolist())[0] for s in batch.scores])[:, None]
    np.testing.assert_array_equal(*(np.take_along_axis(x, best, 1) for x in (got, batch.scores)))


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_a_distance_lowers_less(run):
    batch = scenes.mixed(LANES)
    score, distance = (
        run(anyops.cluster_nms_scores, batch.boxes, batch.scores, penalty=penalty) for penalty in PENALTIES[1:]
    )
    assert np.all((np.abs(score) <= np.abs(distance)) | np.isnan(score))
    assert np.sum(score < distance) > LANES


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("penalty", [None, "score"])
def test_masks(run, penalty):
    masks, scores = np.random.default_rng(0).random((3, 8, 5, 6)) < 0.4, scenes.scores(3, 8)

    def by_masks(m, s):
        return anyops.cluster_nms_scores(None, s, 0.3, penalty=penalty, overlaps=anyops.mask_iou(m, m))

    got = run(by_masks, masks, scores)
    for lane in range(3):
        overlaps = np.array([[reference.mask_overlap(a, b) for b in masks[lane]] for a in masks[lane]])
        close(got[lane], reference.cluster_nms_scores(None, scores[lane], 0.3, penalty=penalty, overlaps=overlaps))


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_overlaps_beside_boxes_negative_and_nan(run, penalty):
    """What decides is given; what is fused, and how far apart it is, are the boxes."""
    batch = scenes.mixed(LANES, accept=lambda s: bool(np.isfinite(s.boxes).all()))
    overlaps = np.where(batch.overlaps == 0.5, np.float32(NAN), batch.overlaps * np.float32(1.25))
    overlaps = np.where(batch.overlaps == 0.25, np.float32(-1), overlaps)  # -1, 0, NaN and 15/16
    fused, new = run(anyops.weighted_cluster_nms_boxes, batch.boxes, batch.scores, penalty=penalty, overlaps=overlaps)
    for k, lane in enumerate(batch.lanes()):
        plain = np.where(overlaps[k] > 0, overlaps[k], 0)
        want = reference.clusters(lane.boxes, lane.scores, penalty=penalty, overlaps=plain)
        close(new[k], np.where(want.kept, want.scores, 0))
        close(fused[k][want.kept], want.boxes[want.kept])


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(run, backend, dtype):
    if not backend.has_dtype(dtype) or (backend is Backend.JAX_X64 and dtype != "float64"):
        pytest.skip(f"{backend} has no {dtype}, or is not where it is tried")
    for name in ("plain", "distance, labels, valid"):
        (batch, want), (options, extra) = example(name, coarse=True), CASES[name]
        if dtype == "float64":
            batch = batch._replace(boxes=batch.boxes.astype(dtype), scores=batch.scores.astype(dtype))
            want = clusters(batch, options, extra, np.float64)
        boxes, scores, more = batch.only(*extra)
        got = run.raw(anyops.weighted_cluster_nms_boxes, boxes, scores, dtype=dtype, **options, **more)
        assert [dtype_name(x) for x in got] == [dtype, dtype]
        fused, new = map(backend.to_numpy, got)
        rtol = {"float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
        close(new, np.where(want.kept, want.scores, 0), rtol)
        close(fused[want.kept], want.boxes[want.kept], rtol)


@pytest.mark.op("weighted_cluster_nms")
def test_integers(run, backend):
    boxes = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 45_000], [60_000, 0, 61_000, 50_000]], np.int32)
    scores = np.array([3, 5, 2], np.int32)
    got = run.raw(anyops.weighted_cluster_nms, boxes, scores)
    assert {dtype_name(got.scores), dtype_name(got.boxes)} == {backend.default("real floating")}
    fused, new, indices = map(backend.to_numpy, got)
    want = reference.clusters(boxes, scores)
    assert (indices.tolist(), new.tolist()) == ([1, 2], [5, 2])
    close(fused, want.boxes[[1, 2]])


@pytest.mark.op("weighted_cluster_nms")
def test_scores_and_boxes_keep_their_dtypes(run, backend):
    boxes, scores = scenes.clustered(12)
    for dtypes in (("float32", "float64"), ("float64", "float32"), ("float16", "float32"), ("float32", "float16")):
        if all(map(backend.has_dtype, dtypes)):
            b, s = boxes.astype(dtypes[0]), scores.astype(dtypes[1])
            fused, new, indices = run(anyops.weighted_cluster_nms, b, s, penalty="score")
            assert (fused.dtype, new.dtype) == dtypes
            want = reference.clusters(b, s, penalty="score", dtype=np.float32)
            close(new, want.scores[indices], 1e-3 if "float16" in dtypes else 4e-5)
            close(fused, want.boxes[indices], 1e-3 if "float16" in dtypes else 4e-5)


@pytest.mark.op("weighted_cluster_nms")
def test_nothing(run, backend):
    for options in ({}, {"penalty": "score+distance", "labels": scenes.labels(0)}, {"max_output": 3}):
        boxes, scores, indices = run(anyops.weighted_cluster_nms, *scenes.spread(0), **options)
        assert (boxes.shape, scores.shape, indices.shape) == ((0, 4), (0,), (0,))
        assert [dtype_name(x) for x in (boxes, scores, indices)] == ["float32"] * 2 + [backend.default("indexing")]


@pytest.mark.op("cluster_nms")
def test_nothing_of_nothing(run, backend):
    indices, scores = run(anyops.cluster_nms, *scenes.spread(0))
    assert indices.shape == scores.shape == (0,)
    assert (dtype_name(indices), dtype_name(scores)) == (backend.default("indexing"), "float32")


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("shape", [(0,), (0, 5), (2, 0, 4), (2, 3, 4)])
def test_shapes(run, shape):
    boxes, scores = scenes.boxes(*shape), scenes.scores(*shape)
    fused, new = run(anyops.weighted_cluster_nms_boxes, boxes, scores, penalty="score")
    assert (fused.shape, new.shape) == ((*shape, 4), shape)
    for lane in np.ndindex(shape[:-1]):
        want = reference.clusters(boxes[lane], scores[lane], penalty="score")
        close(new[lane], want.scores)
        close(fused[lane], want.boxes)


SIZES = {s.__name__: s for s in (scenes.clustered, scenes.spread, scenes.tied)}


@functools.cache
def sized(scene, n):
    boxes, scores = SIZES[scene](n, seed=n)
    options = {"penalty": "score+distance", "labels": scenes.labels(n, classes=5)}
    plain, labelled = (reference.clusters(boxes, scores, dtype=np.float32, **o) for o in ({}, options))
    return boxes, scores, options, plain, labelled


@pytest.mark.op("weighted_cluster_nms")
@pytest.mark.parametrize("n", [150, 600])
@pytest.mark.parametrize("scene", SIZES)
def test_large(run, n, scene):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores, options, plain, labelled = sized(scene, n)
    for more, want in (({}, plain), (options, labelled)):
        fused, new, indices = run(anyops.weighted_cluster_nms, boxes, scores, **more)
        check_selection((indices, new), np.where(want.kept, want.scores, -1))
        close(fused, want.boxes[indices])


@pytest.mark.op("cluster_nms_scores", transforms=(Transform.EAGER,))
def test_static_at_size(run):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    boxes, scores, options, plain, labelled = sized("clustered", 600)
    close(run(anyops.cluster_nms_scores, boxes, scores), np.where(plain.kept, plain.scores, 0))
    close(run(anyops.cluster_nms_scores, boxes, scores, **options), labelled.scores)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("op", ["cluster_nms", "weighted_cluster_nms"])
def test_memory_does_not_follow_the_square(op, penalty):
    boxes, scores = scenes.spread(20_000)
    tracemalloc.start()
    getattr(anyops, op)(boxes, scores, penalty=penalty)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000**2 / 4  # a quarter of a matrix of bool


GRADIENTS = {
    "plain": {},
    "score": {"penalty": "score"},
    "distance": {"penalty": "score+distance"},
    "giou": {"penalty": "score", "kind": "giou", "iou_threshold": 0.2},
}


@functools.cache
def smooth(name, n=7):
    """A scene in which no small step changes who is kept, who overlaps whom, or which factor is cut at 1."""
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
    # Without a penalty the boxes are no part, which PyTorch refuses to differentiate by.
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


@pytest.mark.op("weighted_cluster_nms_boxes", transforms=(Transform.GRAD,))
def test_gradients_are_finite_and_none_come_from_padding(backend, transform):
    batch = scenes.mixed(18)
    finite = np.isfinite(batch.boxes).all(axis=-1)
    more = batch.padded()
    valid = np.pad(~np.isnan(batch.scores), ((0, 0), (0, 3)))
    present, among = backend.asarray(np.float32(valid)), backend.asarray(valid)

    def total(b, s):
        fused, scores = anyops.weighted_cluster_nms_boxes(b, s, penalty="score+distance", valid=among)
        return backend.xp.where(among[..., None], fused, 0 * present[..., None]) + scores[..., None]

    for g in backend.gradient(total, more.boxes, more.scores):
        assert np.isfinite(g[:, :-3][finite]).all()
        assert not g[:, -3:].any()


@pytest.mark.op("cluster_nms_scores")
def test_nothing_is_left_of_an_infinite_score(run):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    np.testing.assert_array_equal(
        run(anyops.cluster_nms_scores, boxes, scores, penalty="score", sigma=1e-4), [np.inf, 0, 0]
    )


@pytest.mark.op("cluster_nms", transforms=(Transform.EAGER,))
def test_of_equal_infinite_scores_one_is_left(backend, transform):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    found = anyops.cluster_nms(*map(backend.asarray, (boxes, scores)), penalty="score", sigma=1e-4)
    assert backend.to_numpy(found[0]).tolist() == [0]
    assert backend.to_numpy(found[1]).tolist() == [np.inf]
