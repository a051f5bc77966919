"""Arrays in host memory: the NumPy version of greedy NMS, its views, and the kernels that run on devices instead."""

import importlib.metadata
import sys

import numpy as np
import pytest

import anyops
from anyops._array import mode as modes
from anyops._host import greedy
from anyops.boxes.geometry import SHARES
from anyops.suppression import edges
from anyops.suppression.detections import Detections
from tests import reference, scenes
from tests.backends import Backend
from tests.suppression.test_greedy import CASES, WORST, labels, worst

SEEN = {
    name: case
    for name, case in CASES.items()
    if case[2].keys() <= {"iou_threshold", "labels", "kind"} and case[2].get("kind", "iou") in SHARES
}
PLACES = pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU, Backend.JAX_CPU], ids=str)


@pytest.fixture
def here(place):
    """The backend `place` with its settings active, if it is installed."""
    if why := place.why_unavailable():
        pytest.skip(why)
    with place.active():
        yield place


def nasty(seed):
    """Boxes of a kind, some with coordinates of another kind, scores with ties, labels."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([0, 1, 3, 30, 64, 65, 130, 300]))
    scale = float(rng.choice([1, 1e-3, 1e6, 1e18]))
    corner, size = [
        lambda: (rng.random((n, 2)) * 30, rng.random((n, 2)) * 9),
        lambda: (rng.integers(0, 9, (n, 2)) - 4.0, rng.integers(1, 5, (n, 2))),
        lambda: (10 ** rng.uniform(-3, 3, (n, 2)), 10 ** rng.uniform(-3, 3, (n, 2))),
        lambda: (np.arange(n)[:, None] * [1.0, 0.0], np.full((n, 2), 4)),
        lambda: (np.arange(n)[:, None] * [0.0, 0.5], np.full((n, 2), [9, 3])),
        lambda: (rng.integers(0, 3, (n, 1)) * 40 + rng.normal(0, 1, (n, 2)), np.full((n, 2), 20)),
    ][rng.integers(6)]()
    boxes = (np.concatenate([corner, corner + size], 1) * scale).astype(rng.choice(["float32", "float64"]))
    if n and rng.random() < 0.5:
        for _ in range(5):
            largest = float(np.finfo(boxes.dtype).max)
            boxes[rng.integers(n), rng.integers(4)] = rng.choice([np.nan, np.inf, -np.inf, 0, largest, -largest])
        boxes[0] = boxes[0, [2, 3, 0, 1]]
    scores = rng.integers(0, 9, n) / 8 if rng.random() < 0.5 else rng.normal(size=n)
    scores = scores.astype(rng.choice(["float32", "float64", "float16"]))
    if n and rng.random() < 0.3:
        scores[rng.integers(0, n, 3)] = [np.nan, -0.0, np.inf]
    ids = None
    if rng.random() < 0.6:
        ids = rng.integers(0, rng.choice([1, 2, 9, 90]), n)
        ids = [ids, ids * 2**55 - 2**62, np.where(rng.random(n) < 0.2, np.nan, ids), ids * 1000][rng.integers(4)]
    options = {
        "iou_threshold": float(rng.choice([0, 1e-5, 0.1, 1 / 3, 0.5, 0.5, 0.7, 1])),
        "labels": ids,
        "score_threshold": None if rng.random() < 0.7 else 0.25,
        "kind": rng.choice([*SHARES, "iou"]),
    }
    return boxes, scores, options


TILES = {"DENSE": 0.0, "TILE": 8, "WHOLE": 8}
OF_LABELS = {**TILES, "RARE": 0, "CROWDED_LABELS": 0.0}
SWEEP = {"DENSE": 2.0, "FEW": 10**6, "RARE": 10**6, "TILE": 8, "WHOLE": 8}
SMALL = {"ROOM": 512, "WIDE": 1024}
# Constants with which small scenes take every path of large ones.
WAYS = {
    "as they are": {},
    "tiles": TILES,
    "tiles in pieces, gathered": {**TILES, **SMALL, "GATHERED": 0},
    "tiles in pieces, compared": {**TILES, **SMALL, "GATHERED": 10**6},
    "tiles of several labels": OF_LABELS,
    "tiles of several labels in pieces, gathered": {**OF_LABELS, **SMALL, "GATHERED": 0},
    "tiles of several labels in pieces, compared": {**OF_LABELS, **SMALL, "GATHERED": 10**6},
    "sweep": SWEEP,
    "sweep, as the last scene was": {**SWEEP, "_LATELY": {"spread": True}, "AS_ANYWHERE": 10**6},
    "sweep, few slices": {**SWEEP, "WIDEST": 2},
    "sweep in pieces, gathered": {**SWEEP, **SMALL, "GATHERED": 0},
    "sweep in pieces, compared": {**SWEEP, **SMALL, "GATHERED": 10**6},
    "sweep of few cells": {**SWEEP, "CELLS": 4},
    "sweep, decided in rounds": {**SWEEP, "edges.ONE_BY_ONE": 0},
    "each label by itself": {"FEW": 0, "CROWDED_LABELS": 2.0, "TILE": 8, "WHOLE": 8},
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(greedy, "_ROOMS", {dtype: [] for dtype in greedy._ROOMS})  # as large as ROOM
    for constant, value in WAYS[request.param].items():
        module, _, name = constant.rpartition(".")
        monkeypatch.setattr({"": greedy, "edges": edges}[module], name, value)


def kept(boxes, scores, labels, threshold, least, kind):
    """The boxes kept, and the box that represents each."""
    detections, mode = Detections(boxes, scores, labels), modes.mode_of(boxes=boxes)
    return [f(mode, detections, threshold, least, kind=kind).tolist() for f in (greedy.kept, greedy.groups)]


@pytest.mark.parametrize("name", SEEN)
def test_twin_is_the_definition(way, name):
    boxes, scores, options = SEEN[name]
    given = {"iou_threshold": 0.5, "labels": None, "kind": "iou", **options}
    got = kept(boxes, scores, given["labels"], given["iou_threshold"], None, given["kind"])
    assert got == [f(boxes, scores, dtype=np.float32, **options) for f in (reference.greedy, reference.nms_groups)]


@pytest.mark.parametrize("seed", range(20))
def test_twin_on_nasty_scenes(way, seed):
    for boxes, scores, options in map(nasty, range(10 * seed, 10 * seed + 10)):
        got = kept(boxes, scores, *(options[k] for k in ("labels", "iou_threshold", "score_threshold", "kind")))
        options["score_threshold"] = None if options["score_threshold"] is None else np.float16(0.25)
        assert got == [f(boxes, scores, dtype=boxes.dtype, **options) for f in (reference.greedy, reference.nms_groups)]


def test_no_sweep_of_an_extent_beyond_the_dtype():
    """The reach of the last two boxes is infinite relative to the first one."""
    boxes = np.float32([[2.9e38, 0, 3.38e38, 1], [2.9e38, 0, 3.38e38, 1], [-0.3e38, 0, -0.2e38, 1]])
    planes, proper = greedy._planes(boxes, "iou")
    assert proper is None
    threshold = greedy.Threshold(np.float32(0.5), "iou", 0.5)
    with np.errstate(over="ignore", invalid="ignore"):
        line = greedy._line(planes, threshold)._replace(axis=0)
        assert greedy._by_sweep(planes, line, None, threshold, 9.0, None) is None
    assert anyops.nms(boxes, np.float32([3, 2, 1])).tolist() == [0, 2]


def test_an_infinite_box_does_not_prevent_a_sweep(monkeypatch):
    """Tiles take 28 times as long for 3 000 boxes that are spread out."""
    monkeypatch.setattr(greedy, "_by_tiles", None)
    boxes, scores, *_ = scenes.spread(1000)
    boxes[7] = 0, 0, np.inf, np.inf
    assert 7 in anyops.nms(boxes, scores)


def test_the_last_scene_says_what_to_try_first(monkeypatch):
    """After a scene of spread boxes, another one is swept without comparing the best boxes; clustered boxes are not."""
    looked = []
    best = greedy._among_best
    monkeypatch.setattr(greedy, "_LATELY", {"spread": False})
    monkeypatch.setattr(greedy, "_among_best", lambda *given: looked.append(len(given[0][0])) or best(*given))
    for scene, looks in (
        (scenes.spread(300), True),
        (scenes.spread(300, seed=1), False),
        (scenes.clustered(299), True),
        (scenes.spread(300), True),
    ):
        looked.clear()
        assert anyops.nms(*scene).tolist() == reference.greedy(*scene, 0.5, dtype=np.float32)
        assert bool(looked) == looks


@pytest.mark.parametrize("count", [2, 64, 3000])
def test_many_labels(count):
    boxes, scores = scenes.clustered(6000, seed=4)
    ids = labels(6000, count)
    want = sorted(i for c in range(count) for i in _within(boxes, scores, np.flatnonzero(ids == c)))
    got = anyops.nms(boxes, scores, 0.4, labels=ids)
    assert sorted(got.tolist()) == want
    assert (np.diff(scores[got]) <= 0).all()


def _within(boxes, scores, some):
    return some[reference.greedy(boxes[some], scores[some], 0.4, dtype=np.float32)].tolist()


@PLACES
@pytest.mark.parametrize("name", SEEN)
def test_where_nothing_lies_on_the_host(monkeypatch, here, name):
    """On a device: operations of the library, with padded sizes if it compiles each shape."""
    monkeypatch.setattr(modes, "_VIEWS", {"numpy": modes._of_numpy})
    monkeypatch.setattr(greedy, "suits", lambda *_: False)
    boxes, scores, options = SEEN[name]
    arrays = {k: here.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    got = anyops.nms(here.asarray(boxes), here.asarray(scores), **arrays)
    assert here.to_numpy(got).tolist() == reference.greedy(boxes, scores, dtype=np.float32, **options)
    mask = anyops.nms_mask(here.asarray(boxes), here.asarray(scores), **arrays)
    np.testing.assert_array_equal(
        here.to_numpy(mask), reference.greedy_mask(boxes, scores, dtype=np.float32, **options)
    )


@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU], ids=str)
@pytest.mark.parametrize("name", [name for name in WORST if "labels" not in name])
def test_large_where_nothing_lies_on_the_host(monkeypatch, here, name):
    monkeypatch.setattr(modes, "_VIEWS", {"numpy": modes._of_numpy})
    monkeypatch.setattr(greedy, "suits", lambda *_: False)
    boxes, scores, options = WORST[name]
    got = anyops.nms(here.asarray(boxes), here.asarray(scores), **options)
    assert here.to_numpy(got).tolist() == worst(name)


@PLACES
@pytest.mark.parametrize("kind", ["iou", "giou"])
@pytest.mark.parametrize("overlaps", [False, True])
def test_mask_is_the_indices_marked(here, kind, overlaps):
    boxes, scores = (np.stack(x) for x in zip(*(scenes.clustered(90, seed=k) for k in range(6)), strict=True))
    ids, valid = labels(540).reshape(6, 90), np.random.default_rng(1).random((6, 90)) < 0.6
    valid[0], valid[1] = True, False
    boxes[3, ~valid[3]] = np.nan
    matrix = np.random.default_rng(2).random((6, 90, 90)).astype(np.float32) if overlaps else None
    given = {"labels": ids, "valid": valid, "overlaps": matrix}
    shaped = [x.reshape(2, 3, *x.shape[1:]) for x in (boxes, scores)]
    more = {k: None if x is None else here.asarray(x.reshape(2, 3, *x.shape[1:])) for k, x in given.items()}
    got = here.to_numpy(anyops.nms_mask(*map(here.asarray, shaped), 0.4, kind=kind, **more)).reshape(6, 90)
    for k in range(6):
        one = {name: None if x is None else x[k] for name, x in given.items()}
        want = reference.greedy_mask(boxes[k], scores[k], 0.4, kind=kind, dtype=np.float32, **one)
        np.testing.assert_array_equal(got[k], want)


CALLS = {Backend.NUMPY: 60, Backend.TORCH_CPU: 70, Backend.JAX_CPU: 160}


def jax_version():
    return tuple(int(x) for x in importlib.metadata.version("jax").split(".")[:2])


@pytest.mark.parametrize("place", CALLS, ids=str)
def test_few_calls(here):
    """Few Python-level calls, which cost as much as the boxes; counted, without a clock."""
    if here.library == "jax" and jax_version() < (0, 10):
        pytest.skip("older versions of JAX make more calls of their own")
    boxes, scores = map(here.asarray, scenes.clustered(200))
    anyops.nms(boxes, scores)
    calls, before = [], sys.getprofile()
    sys.setprofile(lambda frame, event, _: event == "call" and calls.append(frame.f_code.co_qualname))
    try:
        anyops.nms(boxes, scores)
    finally:
        sys.setprofile(before)
    assert len(calls) <= CALLS[here], calls


@PLACES
def test_no_copy_is_made(monkeypatch, here):
    boxes, scores = map(here.asarray, scenes.clustered(20))
    seen, enter = [], modes.enter

    def spy(*args, **options):
        made = enter(*args, **options)
        seen.extend(x for x in made[1] if x is not None)
        return made

    monkeypatch.setattr("anyops.suppression.arguments.enter", spy)
    anyops.nms(boxes, scores)
    assert all(isinstance(x, np.ndarray) for x in seen)
    for view, x in zip(seen, (boxes, scores), strict=True):
        assert np.shares_memory(view, x.numpy() if here is Backend.TORCH_CPU else np.asarray(x))


@PLACES
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_integers_are_ranked_as_such_and_decay_in_the_default_float(here, dtype):
    """Even for scores that are equal in float32."""
    scores = here.asarray(np.asarray([2**24, 2**24 + 1, 5]).astype("int32"))
    boxes = here.asarray(np.asarray([[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]]).astype(dtype))
    assert here.to_numpy(anyops.nms(boxes, scores)).tolist() == [1, 2]
    new = anyops.soft_nms(boxes, scores).scores
    assert here.to_numpy(new).dtype == (np.float64 if here is Backend.NUMPY else np.float32)


class TestTorch:
    torch = pytest.importorskip("torch")

    def scene(self, n=40):
        boxes, scores = scenes.clustered(n)
        return self.torch.from_numpy(boxes), self.torch.from_numpy(scores), reference.greedy(boxes, scores, 0.5)

    def test_indices_of_tensors_that_require_grad(self):
        boxes, scores, want = self.scene()
        got = anyops.nms(boxes.requires_grad_(), scores.requires_grad_())
        assert got.tolist() == want
        assert not got.requires_grad
        assert anyops.nms_mask(boxes, scores).nonzero()[:, 0].tolist() == sorted(want)

    def test_gradient_of_new_scores(self):
        boxes, scores, _ = self.scene()
        boxes.requires_grad_()
        new = anyops.soft_nms(boxes, scores).scores
        new.sum().backward()
        assert bool((boxes.grad != 0).any())
        with self.torch.no_grad():
            assert not anyops.soft_nms(boxes, scores).scores.requires_grad

    def test_inference_mode(self):
        with self.torch.inference_mode():
            boxes, scores, want = self.scene()
            boxes, scores = boxes.clone(), scores.clone()
            got = anyops.nms(boxes, scores)
            assert got.is_inference() and got.tolist() == want  # noqa: PT018
        assert anyops.nms(boxes, scores).tolist() == want

    def test_under_a_transform(self):
        boxes, scores, _ = self.scene()
        grad = self.torch.func.grad(lambda s: anyops.soft_nms(boxes, s).scores.sum())(scores)
        assert bool((grad > 0).any())
        grad = self.torch.func.grad(lambda x: (x * anyops.soft_nms(boxes, scores).scores).sum())(self.torch.ones(()))
        assert float(grad) > 0

    @pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own, in jvp
    @pytest.mark.parametrize("op", [anyops.nms, anyops.fast_nms, anyops.cluster_nms])
    @pytest.mark.parametrize("kind", ["iou", "giou"])
    def test_selection_under_a_derivative(self, op, kind):
        """Indices are constants: values selected by them have the derivative of the selection."""
        boxes, scores, _ = self.scene()

        def selected(s):
            found = op(boxes, s, 0.5, kind=kind)
            return s[found.indices if isinstance(found, tuple) else found].sum()

        got = op(boxes, scores, 0.5, kind=kind)
        got = got.indices if isinstance(got, tuple) else got
        want = self.torch.bincount(got, minlength=len(scores))
        grad = self.torch.func.grad(selected)
        assert self.torch.equal(grad(scores), want.to(scores.dtype))
        assert float(self.torch.func.jvp(selected, (scores,), (self.torch.ones_like(scores),))[1]) == len(got)
        assert not self.torch.func.grad(lambda s: grad(s).sum())(scores).any()

    def test_indices_of_lanes_are_refused(self):
        boxes, scores, _ = self.scene()
        lanes = self.torch.stack([scores, scores])
        for transform in (
            self.torch.func.vmap,
            lambda f: self.torch.func.grad(lambda x: self.torch.func.vmap(f)(x).sum()),
        ):
            with pytest.raises(TypeError, match=r"nms returns as many indices.*use nms_mask"):
                transform(lambda s: s[anyops.nms(boxes, s)])(lanes)

    def test_dispatch_modes_see_what_is_computed(self):
        from torch.utils._python_dispatch import TorchDispatchMode

        seen = []

        class Count(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                seen.append(function)
                return function(*args, **(kwargs or {}))

        boxes, scores, want = self.scene()
        with Count():
            got = anyops.nms(boxes, scores)
        assert got.tolist() == want
        assert seen

    def test_subclasses_and_odd_layouts(self):
        boxes, scores, want = self.scene()
        parameter = self.torch.nn.Parameter(boxes)
        assert anyops.nms(parameter, scores).tolist() == want
        spaced = boxes.repeat(1, 2)[:, ::2][:, [0, 2, 1, 3]]
        assert anyops.nms(spaced[:, [0, 2, 1, 3]], scores).tolist() == reference.greedy(
            spaced[:, [0, 2, 1, 3]].numpy(), scores.numpy(), 0.5
        )
        negated = self.torch.complex(boxes, boxes).conj().imag  # with the negative bit
        assert negated.is_neg()
        assert anyops.nms(-negated, scores).tolist() == want
        flipped = boxes.clone()
        assert anyops.nms(self.torch.complex(boxes, -flipped).conj().imag, scores).tolist() == want

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_short_floats(self, dtype):
        boxes, scores, _ = self.scene()
        boxes, scores = (x.to(getattr(self.torch, dtype)) for x in (boxes, scores))
        want = reference.greedy(boxes.float().numpy(), scores.float().numpy(), 0.5, dtype=np.float32)
        assert anyops.nms(boxes, scores).tolist() == want
        assert anyops.soft_nms(boxes, scores).scores.dtype == boxes.dtype


@pytest.mark.parametrize("dtype", [">f4", "float16"])
def test_dtypes_of_numpy_that_are_rare(dtype):
    boxes, scores = (x.astype(dtype) for x in scenes.clustered(40))
    want = reference.greedy(boxes.astype(np.float32), scores, 0.5, dtype=np.float32)
    assert anyops.nms(boxes, scores).tolist() == want


def test_subclasses_of_numpy():
    class Named(np.ndarray):
        pass

    boxes, scores = scenes.clustered(40)
    got = anyops.nms(boxes.view(Named), scores.view(Named))
    assert got.tolist() == reference.greedy(boxes, scores, 0.5)
