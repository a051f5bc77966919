"""Several scenes in one call: each gets the result of a separate call."""

from functools import partial
from inspect import signature

import numpy as np
import pytest

import anyops
from tests import scenes
from tests.backends import Backend, Transform
from tests.suppression.family import MEMBERS, by_member

EAGER = pytest.mark.calls(Transform.EAGER)
SIZES = (9, 1, 0, 14, 30)  # of the scenes, one of them without boxes
CASES = {
    "plain": ({}, ()),
    "labels": ({"iou_threshold": 0.25}, ("labels",)),
    "first two": ({"max_output": 2}, ("labels",)),
    "first of all": ({"max_output": 0}, ()),
    "above a score": ({"score_threshold": 0.5, "max_output": 4}, ()),
    "xywh": ({"fmt": "xywh", "max_output": 3}, ("labels",)),
    "overlaps": ({"max_output": 3}, ("overlaps",)),
}


def ids_of(backend):
    """Numbers of the scenes, including negative ones and the largest integers."""
    info = np.iinfo(np.int64 if backend.has_dtype("int64") else np.int32)
    return np.array([info.max, -7, 3, 0, info.min], info.dtype)


def some_scenes(sizes, ids, kind=scenes.clustered):
    """Boxes, tied scores, labels and scene numbers of scenes of given sizes, in random order."""
    found = [kind(n, seed=seed) for seed, n in enumerate(sizes)]
    boxes, scores = (np.concatenate(x) for x in zip(*found, strict=True))
    scores = np.round(scores * 32) / 32
    order = np.random.default_rng(1).permutation(len(scores))
    return boxes[order], scores[order], scenes.labels(len(scores), classes=2), np.repeat(ids, sizes)[order]


def check(call, boxes, scores, of_scenes, options, given):
    """The results (indices, new scores, new boxes) of one call of all scenes, against a call for each."""
    whole = call(boxes, scores, scenes=of_scenes, **options, **given)
    indices, new, _ = whole
    if new is not None:
        assert indices.tolist() == indices[np.lexsort([indices, -new])].tolist()
    seen = 0
    for scene in np.unique(of_scenes):
        at = np.flatnonzero(of_scenes == scene)
        some = {k: x[np.ix_(at, at)] if k == "overlaps" else x[at] for k, x in given.items()}
        want = call(None if boxes is None else boxes[at], scores[at], **options, **some)
        here = np.flatnonzero(of_scenes[indices] == scene)
        assert indices[here].tolist() == at[want[0]].tolist()
        seen += len(here)
        for got, alone in zip(whole[1:], want[1:], strict=True):
            if alone is not None:
                np.testing.assert_allclose(got[here], alone, rtol=2e-6, atol=1e-6)
    assert seen == len(indices)


@EAGER
@pytest.mark.parametrize("case", CASES)
@by_member(False, [m for m in MEMBERS if m.static])
def test_each_scene_is_a_call(run, backend, member, case):
    options, extra = CASES[case]
    parameters = signature(getattr(anyops, member.index)).parameters
    options = {k: v for k, v in options.items() if k in parameters}
    if "overlaps" not in extra:
        options = {**member.second, **options}
    boxes, scores, labels, of_scenes = some_scenes(SIZES, ids_of(backend))
    given = {"labels": labels} if "labels" in extra else {}
    if "overlaps" in extra:
        given["overlaps"] = scenes.quarters(len(scores), len(scores))
        boxes = boxes if member.fuses else None

    check(partial(member.call, run, False), boxes, scores, of_scenes, options, given)


@EAGER
@pytest.mark.op("nms_groups")
def test_groups_of_scenes(run, backend):
    boxes, scores, labels, of_scenes = some_scenes(SIZES, ids_of(backend))
    for given in ({}, {"labels": labels}):
        got = run(anyops.nms_groups, boxes, scores, 0.25, scenes=of_scenes, score_threshold=0.25, **given)
        for scene in np.unique(of_scenes):
            at = np.flatnonzero(of_scenes == scene)
            some = {k: x[at] for k, x in given.items()}
            want = run(anyops.nms_groups, boxes[at], scores[at], 0.25, score_threshold=0.25, **some)
            assert got[at].tolist() == np.where(want < 0, -1, at[want]).tolist()


@EAGER
@pytest.mark.op("non_max_merge")
@pytest.mark.parametrize("transitive", [False, True])
def test_merges_of_scenes(run, backend, transitive):
    boxes, scores, labels, of_scenes = some_scenes(SIZES, ids_of(backend))
    options = {"overlap_threshold": 0.25, "transitive": transitive}
    given = {"labels": labels, "scenes": of_scenes}
    merged, best, classes, rows = run(anyops.non_max_merge, boxes, scores, **given, **options)
    of_rows = np.zeros(len(best), of_scenes.dtype)
    of_rows[rows] = of_scenes
    for scene in np.unique(of_scenes):
        at, here = np.flatnonzero(of_scenes == scene), np.flatnonzero(of_rows == scene)
        want = run(anyops.non_max_merge, boxes[at], scores[at], labels=labels[at], **options)
        for x, y in zip((merged, best, classes), want[:3], strict=True):
            np.testing.assert_array_equal(x[here], y)
        assert rows[at].tolist() == here[want[3]].tolist()


@EAGER
@by_member(False, [m for m in MEMBERS if m.static])
def test_large_scenes(run, backend, member):
    """Scenes large enough for a search in strips."""
    if not backend.is_fast:
        pytest.skip("not for scenes of thousands")
    boxes, scores, _, of_scenes = some_scenes((900, 1, 0, 1700, 40), ids_of(backend))
    check(partial(member.call, run, False), boxes, scores, of_scenes, {"max_output": 50}, {})


@EAGER
@by_member(False, [m for m in MEMBERS if m.index in ("nms", "nms_groups", "matrix_nms", "weighted_cluster_nms")])
def test_scenes_on_a_device(run, backend, member):
    """With bfloat16, which NumPy lacks, torch computes itself, and JAX in bucketed shapes."""
    if not backend.has_dtype("bfloat16"):
        pytest.skip("no bfloat16")
    boxes, scores, labels, of_scenes = some_scenes((9, 20, 0, 1, 14), ids_of(backend))
    call = partial(member.call, run, False, dtype="bfloat16")
    boxes, scores = np.round(boxes), np.round(scores * 16) / 16
    if member.static:
        check(call, boxes, scores, of_scenes, {"max_output": 3}, {"labels": labels})
    else:
        got = call(boxes, scores, scenes=of_scenes, labels=labels)[0]
        want = anyops.nms_groups(boxes, scores, labels=np.unique_inverse(of_scenes).inverse_indices * 2 + labels)
        assert got.tolist() == want.tolist()


@EAGER
@by_member(False)
def test_no_boxes_in_no_scene(run, backend, member):
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    for options in ({}, {"labels": np.zeros(0, np.int32)}, {"max_output": 3} if member.static else {}):
        indices, *_ = member.call(run, False, *empty, scenes=np.zeros(0, np.int32), **options)
        assert indices.tolist() == []


@EAGER
@by_member(False, [m for m in MEMBERS if m.static])
def test_dtypes_of_scenes(run, backend, member):
    boxes, scores, labels, of_scenes = some_scenes((5, 6, 7), np.array([0, 255, 127]))
    want = member.call(run, False, boxes, scores, scenes=of_scenes.astype(np.int32), labels=labels, max_output=2)
    for dtype in ("uint8", "int16", "uint32", "uint64"):
        got = member.call(run, False, boxes, scores, scenes=of_scenes.astype(dtype), labels=labels, max_output=2)
        for x, y in zip(got, want, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("of_labels", [None, "integers", "floats"])
def test_scenes_that_torch_records(of_labels):
    """Without NumPy views; each NaN label is a separate label."""
    if why := Backend.TORCH_CPU.why_unavailable():
        pytest.skip(why)
    import torch

    boxes, scores, labels, of_scenes = some_scenes(SIZES, ids_of(Backend.TORCH_CPU))
    given = {} if of_labels is None else {"labels": labels}
    if of_labels == "floats":
        given["labels"] = np.where(np.arange(len(labels)) % 5 == 0, np.nan, labels)
    want = anyops.soft_nms(boxes, scores, scenes=of_scenes, max_output=4, **given)
    tensors = torch.asarray(boxes), torch.asarray(scores, requires_grad=True)
    given = {k: torch.asarray(x) for k, x in {**given, "scenes": of_scenes}.items()}
    got = anyops.soft_nms(*tensors, max_output=4, **given)
    assert got.indices.tolist() == want.indices.tolist()
    np.testing.assert_allclose(got.scores.detach(), want.scores, rtol=2e-6)
    assert torch.isfinite(torch.autograd.grad(got.scores.sum(), tensors[1])[0]).all()
