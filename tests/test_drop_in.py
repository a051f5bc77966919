"""Facts about torchvision's nms, batched_nms, overlaps and focal loss, which hold for anyops on torch too.

Each fact is tested on anyops if torch is installed, and on torchvision if that is installed (`nox -s dropin`), so no
fact is unverified. Differences have their own table, with both sides tested.
"""

from collections.abc import Callable
from inspect import Parameter, isfunction, signature
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import anyops
from tests import reference

torch = pytest.importorskip("torch")

ANYOPS = SimpleNamespace(
    nms=anyops.nms,
    batched_nms=anyops.batched_nms,
    area=anyops.box_area,
    iou=anyops.box_iou,
    giou=lambda a, b: anyops.box_iou(a, b, kind="giou"),
    diou=lambda a, b: anyops.box_iou(a, b, kind="diou"),
    ciou=lambda a, b: anyops.box_iou(a, b, kind="ciou"),
    giou_loss=lambda *a, **o: anyops.box_iou_loss(*a, kind="giou", **o),
    diou_loss=lambda *a, **o: anyops.box_iou_loss(*a, kind="diou", **o),
    ciou_loss=lambda *a, **o: anyops.box_iou_loss(*a, kind="ciou", **o),
    focal=anyops.sigmoid_focal_loss,
    no_alpha=None,
)


def torchvision():
    """torchvision's functions by the same names."""
    ops = pytest.importorskip("torchvision").ops
    return SimpleNamespace(
        nms=ops.nms,
        batched_nms=ops.batched_nms,
        area=ops.box_area,
        iou=ops.box_iou,
        giou=ops.generalized_box_iou,
        diou=ops.distance_box_iou,
        ciou=ops.complete_box_iou,
        giou_loss=ops.generalized_box_iou_loss,
        diou_loss=ops.distance_box_iou_loss,
        ciou_loss=ops.complete_box_iou_loss,
        focal=ops.sigmoid_focal_loss,
        no_alpha=-1,
    )


LIBRARIES = {"anyops": lambda: ANYOPS, "torchvision": torchvision}


class Fact(NamedTuple):
    """A claim, a call that shows it, and its result, or the type of the exception if it is refused."""

    claim: str
    call: Callable[[Any], Any]
    gives: Any
    atol: float = 1e-6


def t(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


def boxes(count, seed=0, dtype=torch.float32, side=100.0):
    """Boxes that overlap much."""
    draw = torch.Generator().manual_seed(seed)
    corner = side * torch.rand((count, 2), generator=draw)
    made = torch.cat((corner, corner + 10 + side / 2 * torch.rand((count, 2), generator=draw)), dim=1)
    return made.to(dtype)


def scores(count, seed=1):
    """A permutation, so that the order is unique."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).to(torch.float32) / count


def textbook(b, s, threshold):
    """Textbook greedy NMS, in float32."""
    return reference.greedy(b.numpy(), s.numpy(), threshold, dtype=np.float32)


PAIR = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]]  # an overlap of exactly 1/2
SMALL = [[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 50.0, 50.0], [200.0, 200.0, 300.0, 300.0]]
LOGITS, TARGETS = t([-5.0, -1.0, 0.0, 0.5, 2.0, 8.0]), t([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])


def bce(x, y, reduction="none"):
    return torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction=reduction)


def slope(loss, x):
    """The derivative of the sum of a loss."""
    x = x.clone().requires_grad_()
    loss(x).sum().backward()
    return x.grad


NMS = [
    Fact("the better of two that overlap stays", lambda lib: lib.nms(t(PAIR), t([0.1, 0.9]), 0.4), [1]),
    Fact(
        "an overlap of exactly the threshold suppresses nothing",
        lambda lib: lib.nms(t(PAIR), t([0.9, 0.1]), 0.5),
        [0, 1],
    ),
    Fact("one a little above it does", lambda lib: lib.nms(t(PAIR), t([0.9, 0.1]), 0.4999), [0]),
    Fact("indices come by descending score", lambda lib: lib.nms(t(SMALL), t([0.2, 0.5, 0.9]), 0.5), [2, 1, 0]),
    Fact(
        "of equal boxes one stays", lambda lib: lib.nms(t([[1.0, 2, 3, 4]] * 5), t([0.1, 0.3, 0.9, 0.2, 0.4]), 0.9), [2]
    ),
    Fact("threshold 1 drops nothing", lambda lib: lib.nms(t([[1.0, 2, 3, 4]] * 2), t([0.5, 0.6]), 1.0), [1, 0]),
    Fact(
        "threshold 0 drops whatever overlaps",
        lambda lib: lib.nms(t([[0.0, 0, 4, 4], [3, 3, 7, 7]]), t([0.5, 0.6]), 0.0),
        [1],
    ),
    Fact(
        "boxes that touch do not overlap",
        lambda lib: lib.nms(t([[0.0, 0, 4, 4], [4, 0, 8, 4]]), t([0.5, 0.6]), 0.0),
        [1, 0],
    ),
    Fact("points stay", lambda lib: lib.nms(t([[1.0, 1, 1, 1]] * 3), t([0.5, 0.7, 0.6]), 0.5), [1, 2, 0]),
    Fact("no boxes, no indices", lambda lib: lib.nms(torch.zeros((0, 4)), torch.zeros(0), 0.5), []),
    Fact("indices are int64", lambda lib: lib.nms(t(SMALL), t([0.2, 0.5, 0.9]), 0.5).dtype == torch.int64, True),
    Fact("of nothing too", lambda lib: lib.nms(torch.zeros((0, 4)), torch.zeros(0), 0.5).dtype == torch.int64, True),
    Fact(
        "what is dropped drops nothing",
        lambda lib: lib.nms(t([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]), t([0.9, 0.8, 0.7]), 0.4),
        [0, 2],
    ),
    Fact(
        "arguments stay as they are",
        lambda lib: [(b := t(PAIR)), lib.nms(b, t([0.1, 0.9]), 0.4), b == t(PAIR)][-1].all(),
        True,
    ),
    Fact("boxes need two dimensions", lambda lib: lib.nms(torch.rand(4), torch.rand(1), 0.5), Exception),
    Fact("boxes need four coordinates", lambda lib: lib.nms(torch.rand((3, 5)), torch.rand(3), 0.5), Exception),
    Fact("scores need one dimension", lambda lib: lib.nms(torch.rand((3, 4)), torch.rand((3, 2)), 0.5), Exception),
    Fact("as many scores as boxes", lambda lib: lib.nms(torch.rand((3, 4)), torch.rand(4), 0.5), Exception),
    *(
        Fact(
            f"by the book at {threshold}, {count} boxes",
            lambda lib, n=count, h=threshold: lib.nms(boxes(n), scores(n), h),
            textbook(boxes(count), scores(count), threshold),
        )
        for threshold in (0.2, 0.5, 0.8)
        for count in (1, 10, 300, 2000)
    ),
    Fact(
        "float64 gives what float32 gives where no overlap is close to the threshold",
        lambda lib: lib.nms(t(SMALL, torch.float64), t([0.2, 0.5, 0.9], torch.float64), 0.2),
        [2, 1],
    ),
    Fact(
        "boxes of another layout in memory",
        lambda lib: lib.nms(boxes(50).T.contiguous().T, scores(50), 0.5),
        textbook(boxes(50), scores(50), 0.5),
    ),
]
CLASSES = torch.arange(200) % 5


def each_class(h):
    """NMS of each class separately, merged by score."""
    b, s = boxes(200), scores(200)
    kept = [
        i
        for c in range(5)
        for i in torch.where(c == CLASSES)[0][textbook(b[c == CLASSES], s[c == CLASSES], h)].tolist()
    ]
    return sorted(kept, key=lambda i: -s[i])


BATCHED = [
    Fact(
        "other classes do not suppress",
        lambda lib: lib.batched_nms(t(PAIR), t([0.1, 0.9]), torch.tensor([0, 1]), 0.1),
        [1, 0],
    ),
    Fact("the same class does", lambda lib: lib.batched_nms(t(PAIR), t([0.1, 0.9]), torch.tensor([3, 3]), 0.1), [1]),
    Fact(
        "nothing of nothing",
        lambda lib: lib.batched_nms(torch.zeros((0, 4)), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5),
        [],
    ),
    *(
        Fact(
            f"class by class at {h}",
            lambda lib, h=h: lib.batched_nms(boxes(200), scores(200), CLASSES, h),
            each_class(h),
        )
        for h in (0.2, 0.5, 0.8)
    ),
    Fact(
        "class by class for more boxes than the shift is used for",
        lambda lib: lib.batched_nms(boxes(1500), scores(1500), torch.zeros(1500, dtype=torch.int64), 0.5),
        textbook(boxes(1500), scores(1500), 0.5),
    ),
]

INTEGERS = [[0, 0, 100, 100], [0, 0, 50, 50], [200, 200, 300, 300]]
FLOATS = boxes(7, seed=3)
OVERLAPS = [
    *(
        Fact(
            f"{kind} of {str(dtype).partition('.')[2]} boxes",
            lambda lib, kind=kind, dtype=dtype: getattr(lib, kind)(
                torch.tensor(INTEGERS, dtype=dtype), torch.tensor(INTEGERS, dtype=dtype)
            ),
            reference.pairwise(np.asarray(INTEGERS), np.asarray(INTEGERS), kind),
            1e-4,
        )
        for kind in ("iou", "giou", "diou", "ciou")
        for dtype in (torch.int32, torch.int64, torch.float32, torch.float64)
    ),
    *(
        Fact(
            f"{kind} of boxes with many digits",
            lambda lib, kind=kind: getattr(lib, kind)(FLOATS, FLOATS.flip(0)),
            reference.pairwise(FLOATS.numpy(), FLOATS.flip(0).numpy(), kind),
            1e-5,
        )
        for kind in ("iou", "giou", "diou", "ciou")
    ),
    Fact("all with all", lambda lib: list(lib.iou(torch.rand((3, 4)), torch.rand((5, 4))).shape), [3, 5]),
    Fact("none with some", lambda lib: list(lib.giou(torch.zeros((0, 4)), torch.rand((5, 4))).shape), [0, 5]),
    Fact("a box with itself", lambda lib: lib.iou(t([[0.0, 0, 3, 4]]), t([[0.0, 0, 3, 4]])), [[1.0]]),
    Fact("boxes that touch", lambda lib: lib.giou(t([[0.0, 0, 4, 4]]), t([[4.0, 0, 8, 4]])), [[0.0]]),
    Fact("float32 stays", lambda lib: lib.iou(FLOATS, FLOATS).dtype == torch.float32, True),
    Fact("float64 stays", lambda lib: lib.ciou(FLOATS.double(), FLOATS.double()).dtype == torch.float64, True),
    *(
        Fact(f"{kind} of equal boxes is 0", lambda lib, kind=kind: getattr(lib, kind)(FLOATS, FLOATS), [0.0] * 7, 1e-5)
        for kind in ("giou_loss", "diou_loss", "ciou_loss")
    ),
    *(
        Fact(
            f"{kind}, {reduction}",
            lambda lib, kind=kind, reduction=reduction: getattr(lib, kind)(FLOATS, FLOATS.flip(0), reduction=reduction),
            getattr(1 - np.diag(reference.pairwise(FLOATS.numpy(), FLOATS.flip(0).numpy(), kind[:4])), reduction)(),
            1e-4,
        )
        for kind in ("giou_loss", "diou_loss", "ciou_loss")
        for reduction in ("mean", "sum")
    ),
    *(
        Fact(
            f"{kind}: the mean of nothing is 0",
            lambda lib, kind=kind: getattr(lib, kind)(torch.zeros((0, 4)), torch.zeros((0, 4)), reduction="mean"),
            0.0,
        )
        for kind in ("giou_loss", "diou_loss", "ciou_loss")
    ),
    Fact("an unknown reduction is refused", lambda lib: lib.giou_loss(FLOATS, FLOATS, reduction="xyz"), ValueError),
    Fact("another format", lambda lib: lib.iou(t([[0.0, 0, 3, 4]]), t([[1.0, 0, 3, 4]]), fmt="xywh"), [[0.5]]),
    Fact("of an area too", lambda lib: lib.area(t([[1.0, 1, 3, 4]]), fmt="cxcywh"), [12.0]),
    Fact("the reduction by position", lambda lib: lib.diou_loss(t(PAIR), t(PAIR[::-1]), "sum"), 1.0 + 2 * 6.25 / 200),
]


def p_t():
    p = torch.sigmoid(LOGITS)
    return p * TARGETS + (1 - p) * (1 - TARGETS)


def weight(alpha):
    return alpha * TARGETS + (1 - alpha) * (1 - TARGETS)


FOCAL = [
    Fact(
        "γ = 0 without α is cross-entropy",
        lambda lib: lib.focal(LOGITS, TARGETS, alpha=lib.no_alpha, gamma=0),
        bce(LOGITS, TARGETS),
    ),
    Fact(
        "and so is its gradient",
        lambda lib: slope(lambda x: lib.focal(x, TARGETS, alpha=lib.no_alpha, gamma=0), LOGITS),
        slope(lambda x: bce(x, TARGETS), LOGITS),
    ),
    Fact(
        "α is 0.25 and γ is 2 if not said",
        lambda lib: lib.focal(LOGITS, TARGETS),
        0.25 * 0 + weight(0.25) * (1 - p_t()) ** 2 * bce(LOGITS, TARGETS),
    ),
    *(
        Fact(
            f"cross-entropy is lowered by α_t (1 − p_t)^γ: α = {alpha}, γ = {gamma}",
            lambda lib, a=alpha, g=gamma: lib.focal(LOGITS, TARGETS, alpha=a, gamma=g) / bce(LOGITS, TARGETS),
            weight(alpha) * (1 - p_t()) ** gamma,
        )
        for alpha in (0.0, 0.25, 0.58, 1.0)
        for gamma in (0.0, 1.0, 2.0, 3.0)
    ),
    Fact("α = 1 silences the negatives", lambda lib: lib.focal(LOGITS, torch.zeros(6), alpha=1.0), torch.zeros(6)),
    Fact("α = 0 silences the positives", lambda lib: lib.focal(LOGITS, torch.ones(6), alpha=0.0), torch.zeros(6)),
    Fact("none keeps the shape", lambda lib: list(lib.focal(torch.zeros((2, 3)), torch.zeros((2, 3))).shape), [2, 3]),
    Fact(
        "mean",
        lambda lib: lib.focal(LOGITS, TARGETS, reduction="mean"),
        (weight(0.25) * (1 - p_t()) ** 2 * bce(LOGITS, TARGETS)).mean(),
    ),
    Fact(
        "sum",
        lambda lib: lib.focal(LOGITS, TARGETS, reduction="sum"),
        (weight(0.25) * (1 - p_t()) ** 2 * bce(LOGITS, TARGETS)).sum(),
    ),
    Fact(
        "soft targets",
        lambda lib: lib.focal(t([0.3]), t([0.6]), alpha=0.25, gamma=2.0),
        [reference.value(lambda x: reference.sigmoid_focal(x, 0.6, 0.25, 2), 0.3)],
    ),
    Fact(
        "a large logit on the wrong side costs itself",
        lambda lib: lib.focal(t([100.0]), t([0.0]), alpha=lib.no_alpha),
        [100.0],
    ),
    Fact(
        "α, γ and the reduction by position",
        lambda lib: lib.focal(LOGITS, TARGETS, 0.3, 1.5, "sum"),
        (weight(0.3) * (1 - p_t()) ** 1.5 * bce(LOGITS, TARGETS)).sum(),
    ),
    Fact("float64 stays", lambda lib: lib.focal(LOGITS.double(), TARGETS.double()).dtype == torch.float64, True),
    Fact("an unknown reduction is refused", lambda lib: lib.focal(LOGITS, TARGETS, reduction="xyz"), ValueError),
]
FACTS = {"nms": NMS, "batched_nms": BATCHED, "overlaps": OVERLAPS, "focal": FOCAL}


class Difference(NamedTuple):
    """A difference: a call, torchvision's result, and anyops's result."""

    claim: str
    call: Callable[[Any], Any]
    theirs: Any
    ours: Any


# After a shift by a class number of five million, float32 coordinates have steps of 0.5 or 1.
FAR = t([[0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 1.25, 1.0]])
BEHIND_ZERO = t([[-20.0, -20.0, 0.0, 0.0], [-21.0, -21.0, -1.0, -1.0]])
DIFFERENCES = [
    Difference(
        "uint8 boxes that lie apart: sides wrap around there",
        lambda lib: lib.iou(
            torch.tensor([[100, 100, 110, 110]], dtype=torch.uint8), torch.tensor([[0, 0, 50, 50]], dtype=torch.uint8)
        ),
        [[-1.065268]],
        [[0.0]],
    ),
    Difference(
        "int32 boxes: areas wrap around there",
        lambda lib: lib.area(torch.tensor([[0, 0, 50_000, 50_000]], dtype=torch.int32)),
        [-1_794_967_296],
        [2.5e9],
    ),
    Difference(
        "negative coordinates: the shift by class does not part the classes there",
        lambda lib: lib.batched_nms(BEHIND_ZERO, t([0.9, 0.8]), torch.tensor([0, 1]), 0.5),
        [0],
        [0, 1],
    ),
    Difference(
        "a class number of five millions: the shift loses what is behind the point there",
        lambda lib: lib.batched_nms(FAR, t([0.9, 0.8]), torch.tensor([5_000_000, 5_000_000]), 0.7),
        [0],
        [0, 1],
    ),
    Difference(
        "two equal points overlap by 0 / 0 there",
        lambda lib: lib.iou(t([[1.0, 1, 1, 1]]), t([[1.0, 1, 1, 1]])),
        [[np.nan]],
        [[0.0]],
    ),
    Difference(
        "α = −1 switches it off there, None does here",
        lambda lib: lib.focal(t([0.0]), t([1.0]), alpha=-1, gamma=0),
        [np.log(2)],
        ValueError,
    ),
    Difference(
        "a threshold above 1 is a mistake here", lambda lib: lib.nms(t(PAIR), t([0.9, 0.1]), 1.5), [0, 1], ValueError
    ),
]


def check(call, lib, gives, atol=1e-6):
    if isinstance(gives, type):
        with pytest.raises(gives):
            call(lib)
        return
    got = call(lib)
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
    want = gives.detach().numpy() if isinstance(gives, torch.Tensor) else np.asarray(gives)
    np.testing.assert_allclose(got, want.reshape(got.shape) if want.size == got.size else want, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "fact", [pytest.param(f, id=f"{family}: {f.claim}") for family, fs in FACTS.items() for f in fs]
)
def test_fact(library, fact):
    check(fact.call, LIBRARIES[library](), fact.gives, fact.atol)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("difference", [pytest.param(d, id=d.claim) for d in DIFFERENCES])
def test_difference(library, difference):
    check(difference.call, LIBRARIES[library](), difference.theirs if library == "torchvision" else difference.ours)


def test_places_of_arguments():
    """Functions of torchvision with our names have our order of arguments; `fmt` is our own keyword."""
    theirs = pytest.importorskip("torchvision").ops
    shared = [name for name in anyops.__all__ if isfunction(getattr(theirs, name, None))]
    assert {"nms", "batched_nms", "box_area", "box_convert", "box_iou", "sigmoid_focal_loss"} <= {*shared}
    for name in shared:
        ours, there = (list(signature(getattr(lib, name)).parameters.values()) for lib in (anyops, theirs))
        for p, q in zip(ours, there, strict=False):
            if q.name == "fmt":
                assert signature(getattr(anyops, name)).parameters["fmt"].kind is Parameter.KEYWORD_ONLY
                continue
            assert p.kind is q.kind, name
            assert p.name == q.name or q.default is Parameter.empty, name
        assert len(ours) >= len(there), name
