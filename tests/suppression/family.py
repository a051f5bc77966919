"""The family of suppression ops: one row for each op, used by test_family.py, test_inputs.py and test_fuzz.py.

A row has the two forms of the op, the options to test, and its reference. A case is a name, options, and the fields of
a scene to pass in addition to boxes and scores.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import anyops
from tests import reference, scenes

LANES = 60


class Want(NamedTuple):
    """The expected result of the static form for each box of a scene."""

    new: np.ndarray  # whether each box is kept, its new score (0 if dropped), or the box that represents it
    kept: np.ndarray | None = None  # the boxes to compare
    boxes: np.ndarray | None = None


class Member(NamedTuple):
    """An op of the family."""

    index: str
    static: str | None  # None if the index form has the shape of its arguments
    cases: dict[str, tuple[dict[str, Any], tuple[str, ...]]]
    clear: Callable[..., bool]  # whether no decision in a scene depends on rounding
    reference: Callable[..., Want]
    compiled: tuple[str, ...] = ()  # cases for transforms that compile each case
    second: Mapping[str, Any] = MappingProxyType({})  # options of another variant, in addition to the defaults
    total: dict[str, Any] | None = None  # options that drop a box equal to a better one
    rtol: float = 2e-5

    @property
    def rescores(self) -> bool:
        """Whether it returns new scores."""
        return self.index in ("soft_nms", "cluster_nms", "weighted_cluster_nms", "matrix_nms")

    @property
    def kinds(self) -> tuple[Mapping[str, Any], ...]:
        """Options of all variants."""
        return ({}, self.second) if self.second else ({},)

    @property
    def fuses(self) -> bool:
        """Whether it takes and returns boxes."""
        return self.index == "weighted_cluster_nms"

    def call(self, run, static, boxes, scores, **options):
        """The parts to compare: (new, boxes) of the static form, (indices, new, boxes) of the index form."""
        got = run(getattr(anyops, self.static if static else self.index), boxes, scores, **options)
        if not isinstance(got, tuple):
            return (got, None) if static else (got, None, None)
        if static:
            return got[::-1]
        return got[::-1] if self.fuses else (*got, None)

    def want(self, lane, options, extra, dtype=np.float32):
        """The reference of one scene."""
        boxes, scores, more = lane.only(*extra)
        return self.reference(boxes, scores, dtype=dtype, **options, **more)

    def example(self, name, coarse=False):
        """A batch of scenes in which no decision depends on rounding, and the reference of each."""
        return _example(self.index, name, coarse)

    def check(self, got, want, rtol=None):
        """Compare a lane of the static form."""
        new, boxes = got
        if want.new.dtype.kind in "bi":
            np.testing.assert_array_equal(new, want.new)
        else:
            np.testing.assert_allclose(new, want.new, rtol=rtol or self.rtol, atol=1e-7)
        if boxes is not None:
            np.testing.assert_allclose(boxes[want.kept], want.boxes[want.kept], rtol=rtol or self.rtol, atol=1e-7)

    def check_index(self, got, want, scores, threshold=None, rtol=None):
        """Compare the index form: scores above the threshold, by descending new score, ties by the lower index."""
        indices, new, boxes = got
        if self.static is None:
            assert indices.tolist() == want.new.tolist()
            return
        if new is None:
            assert indices.tolist() == [i for i in reference.rank(scores.tolist()) if want.new[i]]
            return
        default = {"cluster_nms": 0.01, "weighted_cluster_nms": 0.01, "matrix_nms": 0.05}.get(self.index, 0)
        least = default if threshold is None else threshold
        near = {*np.flatnonzero(np.abs(want.new - least) < 1e-5).tolist()} if least else set()  # rounding decides
        assert {*indices.tolist()} - near == {*np.flatnonzero(want.new > least).tolist()} - near
        np.testing.assert_allclose(new, want.new[indices], rtol=rtol or self.rtol, atol=1e-7)
        assert indices.tolist() == indices[np.lexsort([indices, -new])].tolist()
        if boxes is not None:
            np.testing.assert_allclose(boxes, want.boxes[indices], rtol=rtol or self.rtol, atol=1e-7)


@functools.cache
def _example(index, name, coarse):
    member = FAMILY[index]
    options, extra = member.cases[name]
    change = scenes.Scene.coarse if coarse else lambda scene: scene
    batch = change(scenes.mixed(LANES, accept=lambda scene: member.clear(change(scene), options, extra)))
    return batch, [member.want(lane, options, extra) for lane in batch.lanes()]


def rows_of(scene, options, extra, dtype=np.float64):
    """The effect of each box on each other one."""
    boxes, scores, more = scene.only(*extra)
    act = reference.actions(boxes, kind=options.get("kind", "iou"), dtype=dtype, **more)
    return np.array([act(i) for i in range(len(scores))])


def clear_of_threshold(scene, options, extra):
    return scenes.clear_of(rows_of(scene, options, extra), options.get("iou_threshold", 0.5))


def clear_of_clusters(scene, options, extra):
    """No overlap is close to 0, to the threshold, or to the threshold of averaging."""
    return scenes.clear_of(rows_of(scene, options, extra), 0, options.get("iou_threshold", 0.5), 0.8)


def clear_of_matrix(scene, options, extra):
    """1 − o is 0 or far from it."""
    rows = rows_of(scene, options, extra)
    return options.get("kernel") != "linear" or not np.any((rows > 0.99) & (rows < 1))


NEAR = 2e-5  # scores that differ by less may be tied in float32 after dozens of decays


def clear_of_picks(scene, options, extra):
    """No score is close to the threshold, no overlapping boxes have close scores, no overlap is close to t."""
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


def _new(f):
    return lambda *args, **options: Want(np.asarray(f(*args, **options)))


def _clusters(*args, **options):
    found = reference.clusters(*args, **options)
    return Want(np.where(found.kept, found.scores, 0), found.kept, found.boxes)


SOFT = {
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
CLUSTER = {
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
MATRIX = {
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
FAST = {
    "plain": ({}, ()),
    "labels, valid": ({}, ("labels", "valid")),
    "threshold 0": ({"iou_threshold": 0.0}, ("labels",)),
    "threshold 1/4": ({"iou_threshold": 0.25}, ("valid",)),
    "threshold 1": ({"iou_threshold": 1.0}, ()),
    "iof": ({"kind": "iof"}, ()),
    "ios": ({"kind": "ios"}, ("labels",)),
    "giou": ({"kind": "giou", "iou_threshold": 0.3}, ()),
    "diou": ({"kind": "diou"}, ()),
    "ciou": ({"kind": "ciou"}, ()),
    "overlaps": ({}, ("overlaps",)),
    "overlaps, labels, valid": ({"iou_threshold": 0.25}, ("overlaps", "labels", "valid")),
}
GROUPS = {
    "plain": ({}, ()),
    "labels": ({}, ("labels",)),
    "threshold 0": ({"iou_threshold": 0.0}, ("labels",)),
    "threshold 1/4": ({"iou_threshold": 0.25}, ()),
    "threshold 1": ({"iou_threshold": 1.0}, ()),
    "score threshold": ({"score_threshold": 0.25}, ("labels",)),
    "score threshold 0": ({"score_threshold": 0, "iou_threshold": 0.25}, ()),
    "iof": ({"kind": "iof"}, ()),
    "ios": ({"kind": "ios"}, ("labels",)),
    "giou": ({"kind": "giou", "iou_threshold": 0.3}, ()),
    "diou": ({"kind": "diou", "iou_threshold": 0.3}, ()),
    "overlaps": ({}, ("overlaps",)),
    "overlaps, labels": ({"iou_threshold": 0.25, "score_threshold": 0.25}, ("overlaps", "labels")),
}

MEMBERS = (
    Member(
        "nms",
        "nms_mask",
        {name: FAST[name] for name in ("plain", "labels, valid", "iof", "overlaps, labels, valid")},
        clear_of_threshold,
        _new(reference.greedy_mask),
        second={"iou_threshold": 0.25},
    ),
    Member(
        *("fast_nms", "fast_nms_mask", FAST, clear_of_threshold, _new(reference.fast_nms_mask)),
        compiled=("labels, valid", "overlaps"),
        second={"iou_threshold": 0.25},
    ),
    Member(
        *("soft_nms", "soft_nms_scores", SOFT, clear_of_picks, _new(reference.soft_nms_scores)),
        compiled=("gaussian, labels, valid", "overlaps, linear"),
        second={"decay": "linear"},
        total={"decay": "linear"},
    ),
    Member(
        *("cluster_nms", "cluster_nms_scores", CLUSTER, clear_of_clusters, _new(reference.cluster_nms_scores)),
        compiled=("plain, labels, valid", "distance, labels, valid"),
        second={"penalty": "score+distance"},
        total={"penalty": "score", "sigma": 1e-4},
        rtol=4e-5,
    ),
    Member(
        "weighted_cluster_nms",
        "weighted_cluster_nms_boxes",
        {name: case for name, case in CLUSTER.items() if "overlaps" not in name},
        clear_of_clusters,
        _clusters,
        compiled=("distance, labels, valid",),
        second={"penalty": "score+distance"},
        total={"penalty": "score", "sigma": 1e-4},
        rtol=4e-5,
    ),
    Member(
        *("matrix_nms", "matrix_nms_scores", MATRIX, clear_of_matrix, _new(reference.matrix_nms_scores)),
        compiled=("gaussian, labels, valid", "overlaps, linear"),
        second={"kernel": "linear"},
        total={"kernel": "linear"},
    ),
    Member(
        *("nms_groups", None, GROUPS, clear_of_threshold, _new(reference.nms_groups)),
        second={"iou_threshold": 0.25, "score_threshold": 0.125},
    ),
)
FAMILY = {member.index: member for member in MEMBERS}


def by_member(static, members=MEMBERS):
    """Parametrize a test by members, with the marks of their static forms or of their index forms."""
    return pytest.mark.parametrize(
        "member",
        [pytest.param(m, id=_form(m, static), marks=pytest.mark.op(_form(m, static))) for m in members],
    )


def by_case(static, cases):
    """Parametrize a test by members and their cases."""
    return pytest.mark.parametrize(
        ("member", "case"),
        [
            pytest.param(
                member, case, id=f"{_form(member, static)}-{case}", marks=pytest.mark.op(_form(member, static))
            )
            for member in MEMBERS
            if member.static or not static
            for case in cases(member)
        ],
    )


def _form(member, static):
    return member.static if static else member.index
