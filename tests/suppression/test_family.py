"""Properties of every suppression op: each test runs over the rows of tests/suppression/family.py."""

import functools
import tracemalloc

import numpy as np
import pytest

import anyops
from tests import reference, scenes
from tests.backends import Backend, Transform, dtype_name
from tests.suppression.family import FAMILY, LANES, MEMBERS, by_case, by_member

NAN, INF = np.nan, np.inf
STATIC = [m for m in MEMBERS if m.static]
RESCORES = [m for m in MEMBERS if m.rescores]
EAGER = pytest.mark.calls(Transform.EAGER)


def untied(scene):
    """Whether no two scores are equal."""
    return len(np.unique(scene.scores)) == len(scene.scores)


def alone(member, boxes, scores, **options):
    """The reference of one scene in float32, without a score threshold."""
    return member.reference(boxes, scores, dtype=np.float32, **options)


# Both forms equal the reference


@pytest.mark.parametrize(("index", "case"), [(m.index, case) for m in MEMBERS for case in m.cases])
def test_cases_decide(index, case):
    """In each case some boxes are unchanged, some dropped or lowered, and some moved."""
    member = FAMILY[index]
    (batch, wants), (_, extra) = member.example(case), member.cases[case]
    present = (batch.scores > 0) & (batch.valid if "valid" in extra else True)
    new = np.stack([want.new for want in wants])
    if member.static is None:
        stays, falls = new == np.arange(new.shape[1]), (new >= 0) & (new != np.arange(new.shape[1]))
    else:
        stays, falls = (new, ~new) if new.dtype == bool else (new == batch.scores, new < batch.scores)
    assert np.sum(stays & present) > LANES
    assert np.sum(falls & present) > LANES / 2 or "threshold 1" in case
    if member.fuses:
        kept, boxes = np.stack([want.kept for want in wants]), np.stack([want.boxes for want in wants])
        moved = ~np.isclose(boxes, batch.boxes, atol=1e-3, equal_nan=True).all(axis=-1)
        assert np.sum(moved & kept & present) > LANES / 6


@pytest.mark.calls(Transform.EAGER, Transform.FUNC_VMAP)
@by_case(True, lambda member: member.cases)
def test_static_form(run, member, case):
    check_static(run, member, case)


@pytest.mark.calls(Transform.JIT, Transform.COMPILE, Transform.VMAP)
@by_case(True, lambda member: member.compiled)
def test_static_form_where_each_case_is_compiled(run, member, case):
    check_static(run, member, case)


def check_static(run, member, case):
    (batch, wants), (options, extra) = member.example(case), member.cases[case]
    boxes, scores, more = batch.only(*extra)
    new, moved = member.call(run, True, boxes, scores, **options, **more)
    assert new.dtype == (bool if wants[0].new.dtype == bool else np.float32)
    for k, want in enumerate(wants):
        member.check((new[k], None if moved is None else moved[k]), want)


@EAGER
@by_case(False, lambda member: [name for name, (_, extra) in member.cases.items() if "valid" not in extra])
def test_index_form(run, member, case):
    (batch, wants), (options, extra) = member.example(case), member.cases[case]
    lanes = LANES if run.backend is Backend.NUMPY else 12
    for lane, want in zip(batch.lanes()[:lanes], wants[:lanes], strict=True):
        boxes, scores, more = lane.only(*extra)
        got = member.call(run, False, boxes, scores, **options, **more)
        member.check_index(got, want, scores, options.get("score_threshold"))


@EAGER
@by_member(False)
def test_result(run, member):
    result = run.raw(getattr(anyops, member.index), *scenes.clustered(20))
    fields = (*(["boxes", "scores"] if member.fuses else []), "indices", *([] if member.fuses else ["scores"]))
    if not member.rescores:
        result, fields = (result,), ("indices",)
    else:
        assert result._fields == fields
    kinds = dict(zip(fields, map(dtype_name, result), strict=True))
    assert kinds.pop("indices") == run.backend.default("indexing")
    assert set(kinds.values()) <= {"float32"}


# The better box of a pair, and ranking


@EAGER
@by_member(True, STATIC)
def test_the_better_box_comes_first(run, member):
    """Overlaps need not be symmetric: the better box is the first one."""
    overlaps, boxes = np.float32([[0, 0.75], [0.25, 0]]), np.float32([[0, 0, 4, 4], [0, 0, 4, 1]])  # iof 1/4 and 1
    for scores in (np.float32([2, 1]), np.float32([1, 2])):
        for options in ({"overlaps": overlaps}, {"kind": "iof"}):
            got = member.call(run, True, boxes, scores, **options)
            member.check(got, alone(member, boxes, scores, **options))


@EAGER
@by_member(False)
def test_scores_that_never_rank(run, member):
    """NaN and scores not above the threshold; without a threshold all are returned, NaN last."""
    boxes = np.float32([[0, 0, 4, 4]]) + np.float32([[0], [9], [18], [27], [36]])
    scores = np.float32([NAN, -INF, -0.5, 0.5, NAN])
    for threshold in (0, 0.01):
        indices, new, _ = member.call(run, False, boxes, scores, score_threshold=threshold)
        if member.static is None:
            assert indices.tolist() == [-1, -1, -1, 3, -1]
        else:
            assert indices.tolist() == [3]
            assert new is None or new.tolist() == [0.5]
    everything = member.call(run, False, boxes, scores, score_threshold=None)[0].tolist()
    assert everything == {"nms_groups": [0, 1, 2, 3, 4], "soft_nms": [3]}.get(member.index, [3, 2, 1, 0, 4])


@EAGER
@by_member(False)
def test_score_threshold_is_strict(run, member):
    boxes = np.float32([[0, 0, 4, 4], [9, 0, 10, 4], [20, 0, 24, 4], [40, 0, 44, 4]])
    scores = np.float32([0.25, 0.5, 0.125, 0.0625])
    for least in (0, 0.0625, 0.125, 0.2, 0.25, 0.5, 1):
        got = member.call(run, False, boxes, scores, score_threshold=least)[0].tolist()
        above = [i for i in (1, 0, 2, 3) if scores[i] > least]
        assert got == ([i if i in above else -1 for i in range(4)] if member.static is None else above), least


@EAGER
@by_member(False, [m for m in MEMBERS if m.static])
@pytest.mark.parametrize("limit", [0, 1, 5, 10_000])
def test_max_output(run, member, limit):
    """The first results of the call without it."""
    for boxes, scores in (scenes.crowd(12), scenes.spread(30)):
        everything = member.call(run, False, boxes, scores, score_threshold=0.01)
        some = member.call(run, False, boxes, scores, score_threshold=0.01, max_output=limit)
        assert len(everything[0]) >= 2
        for whole, part in zip(everything, some, strict=True):
            assert (whole is None) == (part is None)
            if whole is not None and whole.dtype.kind == "i":
                assert part.tolist() == whole[:limit].tolist()
            elif whole is not None:  # torch on CUDA sums in any order
                np.testing.assert_allclose(part, whole[:limit], rtol=1e-5 if run.backend is Backend.TORCH_CUDA else 0)


@EAGER
@by_member(False, [m for m in MEMBERS if m.total])
def test_of_equal_infinite_scores_one_is_left(backend, transform, member):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    found = getattr(anyops, member.index)(*map(backend.asarray, (boxes, scores)), **member.total)
    assert backend.to_numpy(found.indices).tolist() == [0]
    assert backend.to_numpy(found.scores).tolist() == [np.inf]


@pytest.mark.calls(Transform.EAGER, Transform.JIT, Transform.COMPILE)
@by_member(True, [m for m in MEMBERS if m.total])
def test_nothing_is_left_of_an_infinite_score(run, member):
    boxes, scores = np.tile(np.float32([0, 0, 1, 1]), (3, 1)), np.full(3, np.inf, np.float32)
    new, _ = member.call(run, True, boxes, scores, **member.total)
    np.testing.assert_array_equal(new, [np.inf, 0, 0])


# Changes without an effect


@EAGER
@by_member(True, STATIC)
def test_padding_changes_nothing(run, member):
    """Padding with boxes that would suppress all others."""
    batch, _ = member.example(next(iter(member.cases)))
    more = batch.padded()
    valid = np.pad(np.ones(batch.scores.shape, bool), ((0, 0), (0, 3)))
    for options in member.kinds:
        plain = member.call(run, True, batch.boxes, batch.scores, **options)
        padded = member.call(run, True, more.boxes, more.scores, valid=valid, **options)
        for got, want in zip(padded, plain, strict=True):
            if want is not None:
                np.testing.assert_allclose(got[:, :-3], want, rtol=member.rtol, atol=1e-7)
        assert not padded[0][:, -3:].any()


@EAGER
@by_member(True, STATIC)
def test_order_of_the_boxes_does_not_matter(run, member):
    """If no two scores are equal."""
    name = [name for name, (_, extra) in member.cases.items() if "valid" in extra][-1]
    options, extra = member.cases[name]
    batch = scenes.mixed(LANES, accept=lambda s: untied(s) and member.clear(s, options, extra))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    (boxes, scores, more), (boxes2, scores2, more2) = batch.only(*extra), batch.permuted(order).only(*extra)
    plain = member.call(run, True, boxes, scores, **options, **more)
    shuffled = member.call(run, True, boxes2, scores2, **options, **more2)
    present = batch.valid[:, order]
    for got, want in zip(shuffled, plain, strict=True):
        if want is not None:
            np.testing.assert_allclose(got[present], want[:, order][present], rtol=member.rtol, atol=1e-7)


@EAGER
@by_member(False)
def test_order_of_the_boxes_does_not_matter_to_the_index_form(run, member):
    batch = scenes.mixed(9, accept=lambda s: untied(s) and member.clear(s, {}, ("labels",)))
    order = np.random.default_rng(0).permutation(batch.scores.shape[1])
    for lane, other in zip(batch.lanes(), batch.permuted(order).lanes(), strict=True):
        plain = member.call(run, False, lane.boxes, lane.scores, labels=lane.labels)[0]
        got = order[member.call(run, False, other.boxes, other.scores, labels=other.labels)[0]]
        assert got.tolist() == (plain[order] if member.static is None else plain).tolist()


@EAGER
@by_member(True, STATIC)
def test_nothing_rises_and_the_best_stays(run, member):
    batch = scenes.mixed(LANES)
    new, _ = member.call(run, True, batch.boxes, batch.scores)
    best = np.array([reference.rank(s.tolist())[0] for s in batch.scores])[:, None]
    if new.dtype == bool:
        assert np.take_along_axis(new, best, 1).all()
        return
    assert np.all((np.abs(new) <= np.abs(batch.scores)) | np.isnan(batch.scores))
    np.testing.assert_array_equal(*(np.take_along_axis(x, best, 1) for x in (new, batch.scores)))


def test_settings_of_the_caller_do_not_matter():
    """With NumPy set to raise floating-point errors, except underflow, results are the same."""
    boxes, scores = scenes.odd(60)
    for member in MEMBERS:
        for op in filter(None, (member.index, member.static)):
            want = getattr(anyops, op)(boxes, scores)
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                got = getattr(anyops, op)(boxes, scores)
            for x, y in zip(*((r if isinstance(r, tuple) else (r,)) for r in (got, want)), strict=True):
                np.testing.assert_array_equal(x, y, op)


# Overlaps instead of boxes


@EAGER
@by_member(True, [m for m in STATIC if not m.fuses])
def test_masks(run, member):
    masks, scores = np.random.default_rng(0).random((3, 8, 5, 6)) < 0.4, scenes.scores(3, 8)

    options = {} if member.second.get("penalty") == "score+distance" else member.second

    def by_masks(m, s):
        return getattr(anyops, member.static)(None, s, overlaps=anyops.mask_iou(m, m, kind="ios"), **options)

    got = run(by_masks, masks, scores)
    for lane in range(3):
        overlaps = np.array([[reference.mask_overlap(a, b, "ios") for b in masks[lane]] for a in masks[lane]])
        member.check((got[lane], None), member.reference(None, scores[lane], overlaps=overlaps, **options))


@EAGER
@by_member(True, STATIC)
def test_overlaps_beside_boxes_negative_and_nan(run, member):
    """The given overlaps decide, and only those above 0 count; boxes are averaged."""
    batch = scenes.mixed(LANES, accept=lambda s: bool(np.isfinite(s.boxes).all()))
    overlaps = np.where(batch.overlaps == 0.5, np.float32(NAN), batch.overlaps * np.float32(1.25))
    overlaps = np.where(batch.overlaps == 0.25, np.float32(-1), overlaps)  # -1, 0, NaN and 15/16
    new, moved = member.call(run, True, batch.boxes, batch.scores, overlaps=overlaps)
    for k, lane in enumerate(batch.lanes()):
        want = member.reference(lane.boxes, lane.scores, overlaps=np.where(overlaps[k] > 0, overlaps[k], 0))
        member.check((new[k], None if moved is None else moved[k]), want)


# Dtypes and shapes

RTOL = {"float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}


@EAGER
@by_member(True, STATIC)
@pytest.mark.parametrize("dtype", RTOL)
def test_dtypes(run, backend, member, dtype):
    """16-bit inputs are computed in float32, and rounded once."""
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    for name in (next(iter(member.cases)), *member.compiled[:1]):
        (batch, wants), (options, extra) = member.example(name, coarse=True), member.cases[name]
        boxes, scores, more = batch.only(*extra)
        if dtype == "float64":
            boxes, scores = None if boxes is None else boxes.astype(dtype), scores.astype(dtype)
            wants = [member.want(lane, options, extra, np.float64) for lane in batch.lanes()]
        got = run.raw(getattr(anyops, member.static), boxes, scores, dtype=dtype, **options, **more)
        got = got if isinstance(got, tuple) else (got,)
        assert [dtype_name(x) for x in got] == ["bool" if wants[0].new.dtype == bool else dtype] * len(got)
        new, moved = (*map(backend.to_numpy, got[::-1]), None)[:2]
        for k, want in enumerate(wants):
            member.check((new[k], None if moved is None else moved[k]), want, RTOL[dtype])


@EAGER
@by_member(False)
def test_integers(run, backend, member):
    """Integer boxes whose areas overflow 32 bits are computed in the default float."""
    boxes = np.array([[0, 0, 50_000, 50_000], [0, 0, 50_000, 45_000], [60_000, 0, 61_000, 50_000]], np.int32)
    scores = np.array([3, 5, 2], np.int32)
    got = member.call(run, False, boxes, scores)
    member.check_index(got, member.reference(boxes, scores), scores)
    assert {str(x.dtype) for x in got[1:] if x is not None} <= {backend.default("real floating")}


@EAGER
@by_member(False)
def test_boxes_and_scores_keep_their_dtypes(run, backend, member):
    boxes, scores = scenes.clustered(12)
    for dtypes in (("float32", "float64"), ("float64", "float32"), ("float16", "float32"), ("float32", "float16")):
        if all(map(backend.has_dtype, dtypes)):
            b, s = boxes.astype(dtypes[0]), scores.astype(dtypes[1])
            indices, new, moved = member.call(run, False, b, s)
            assert [str(x.dtype) for x in (moved, new) if x is not None] == [
                dtype for dtype, x in zip(dtypes, (moved, new), strict=True) if x is not None
            ]
            rtol = 1e-3 if "float16" in dtypes else None
            member.check_index((indices, new, moved), member.reference(b, s, dtype=np.float32), s, rtol=rtol)


@EAGER
@by_member(False)
def test_nothing_and_one(run, backend, member):
    for options in ({}, {"labels": scenes.labels(0)}, {"score_threshold": 0.5}, {"max_output": 3}):
        if member.static is None and "max_output" in options:
            continue
        indices, new, moved = member.call(run, False, *scenes.spread(0), **options)
        assert (indices.shape, dtype_name(indices)) == ((0,), backend.default("indexing"))
        assert new is None or (new.shape, dtype_name(new)) == ((0,), "float32")
        assert moved is None or (moved.shape, dtype_name(moved)) == ((0, 4), "float32")
    boxes, scores = scenes.spread(1)
    for some in (boxes, boxes[:, [2, 3, 0, 1]], boxes * np.float32(NAN)):
        indices, new, moved = member.call(run, False, some, scores)
        assert indices.tolist() == [0]
        assert new is None or new.tolist() == scores.tolist()
        if moved is not None:
            np.testing.assert_allclose(moved, some, rtol=1e-6)


@EAGER
@by_member(True, STATIC)
@pytest.mark.parametrize("shape", [(0,), (1,), (0, 5), (2, 0, 4), (2, 3, 4)])
def test_a_batch_is_a_loop(run, member, shape):
    boxes, scores = scenes.boxes(*shape), scenes.scores(*shape)
    options = {} if member.rescores else {"iou_threshold": 0.1}
    new, moved = member.call(run, True, boxes, scores, **options)
    assert new.shape == shape
    assert moved is None or moved.shape == (*shape, 4)
    for lane in np.ndindex(shape[:-1]):
        want = alone(member, boxes[lane], scores[lane], **options)
        member.check((new[lane], None if moved is None else moved[lane]), want)


# Size

SIZES = {s.__name__: s for s in (scenes.clustered, scenes.spread, scenes.tied)}


@functools.cache
def sized(index, scene, n, *, labelled):
    """The first scene in which no decision depends on rounding, with options and the reference."""
    member = FAMILY[index]
    options, extra = (member.second, ("labels",)) if labelled else ({}, ())
    clear = (lambda *_: True) if index != "soft_nms" else member.clear
    for seed in range(50):
        made = scenes.Scene(*SIZES[scene](n, seed=seed), scenes.labels(n, classes=5), None, None)
        if clear(made, options, extra):
            return made.only(*extra), options, member.want(made, options, extra)
    raise AssertionError("no scene is clear")


@EAGER
@by_member(False, [m for m in MEMBERS if m.index != "nms"])  # nms is tested with other sizes
@pytest.mark.parametrize(("scene", "n"), [("clustered", 150), ("tied", 150), ("clustered", 600), ("spread", 600)])
def test_large(run, member, scene, n):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    if member.index == "soft_nms" and scene == "tied":
        pytest.skip("decays make scores of tied scenes nearly equal")
    for labelled in (False, True):
        (boxes, scores, more), options, want = sized(member.index, scene, n, labelled=labelled)
        got = member.call(run, False, boxes, scores, **options, **more)
        member.check_index(got, want, scores, options.get("score_threshold"))


@EAGER
@by_member(True, [m for m in STATIC if m.index != "nms"])
def test_static_at_size(run, member):
    if not run.backend.is_fast:
        pytest.skip("large scenes run once for each library, not on array-api-strict")
    (boxes, scores, more), options, want = sized(member.index, "clustered", 600, labelled=True)
    member.check(member.call(run, True, boxes, scores, **options, **more), want)


@pytest.mark.parametrize("index", FAMILY)
def test_memory_does_not_follow_the_square(index):
    boxes, scores = scenes.spread(20_000)
    for options in FAMILY[index].kinds:
        tracemalloc.start()
        getattr(anyops, index)(boxes, scores, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000**2 / 4  # a quarter of a matrix of bool


# If nearly all boxes overlap, tiles replace the graph, so memory grows with the boxes.


@pytest.mark.parametrize("index", FAMILY)
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU], ids=str)
def test_answers_of_the_tiles(monkeypatch, place, index):
    if why := place.why_unavailable():
        pytest.skip(why)
    monkeypatch.setattr("anyops.suppression.rescoring.PAIRS", 0)
    monkeypatch.setattr("anyops.suppression.rescoring.PAIRS_PER_BOX", 0)
    member = FAMILY[index]

    def run(op, *arrays, **options):
        given = {k: place.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        got = op(*map(place.asarray, arrays), **given)
        return tuple(map(place.to_numpy, got)) if isinstance(got, tuple) else place.to_numpy(got)

    made = [(*scenes.clustered(40, seed), scenes.labels(40, classes=2, seed=seed)) for seed in range(12)]
    made.append((*scenes.nested(600), np.zeros(600, np.int32)))  # all boxes of a tile overlap each later box
    for seed, (*arrays, labels) in enumerate(made):
        boxes, scores = (x.astype(np.float64) for x in arrays)
        options = {"labels": labels} | (member.second if seed % 2 else {})
        got = member.call(run, False, boxes, scores, **options)
        want = member.reference(boxes, scores, **options)
        member.check_index(got, want, scores, options.get("score_threshold"), rtol=1e-12)


@pytest.mark.parametrize("index", [index for index in FAMILY if index != "nms"])
def test_memory_follows_the_boxes(index):
    for options in FAMILY[index].kinds:
        peaks = []
        for n in (3_000, 6_000):
            boxes, scores = scenes.identical(n)
            tracemalloc.start()
            getattr(anyops, index)(boxes, scores, **options)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 3 * peaks[0]  # it would be four times with the pairs


# Gradients


@pytest.mark.calls(Transform.GRAD)
@by_member(True, RESCORES)
def test_gradients_are_finite_and_none_come_from_padding(backend, transform, member):
    batch = scenes.mixed(18)
    finite = np.isfinite(batch.boxes).all(axis=-1)
    more = batch.padded()
    valid = np.pad(~np.isnan(batch.scores), ((0, 0), (0, 3)))
    among = backend.asarray(valid)

    def total(options):
        def f(b, s):
            got = getattr(anyops, member.static)(b, s, valid=among, **options)
            if not member.fuses:
                return got
            return backend.xp.where(among[..., None], got.boxes, 0 * s[..., None]) + got.scores[..., None]

        return f

    for options in member.kinds[-1:] if member.fuses else member.kinds:
        for g in backend.gradient(total(options), more.boxes, np.where(np.isnan(more.scores), 0, more.scores)):
            assert np.isfinite(g[:, :-3][finite]).all()
            assert not g[:, -3:].any()
