"""The cases of the benchmark: problems, operations, and target ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from typing import Any

import scenes

IOU_THRESHOLD = 0.5
EXPONENT_TARGET = 1.2  # time against n, from the first to the last size of EXPONENT_SIZES
EXPONENT_SIZES = (10_000, 1_000_000)
MEMORY_TARGET = 1.5e9  # bytes, the whole process
MEMORY_SCENES = {"aerial-10k": 10_000, "aerial-100k": 100_000, "aerial-1M": 1_000_000}
QUICK_MEMORY_SCENES = {"aerial-100k": 100_000}

# The operations. Each contender (contenders.py) lists the ones it supports.
NMS, BATCHED_NMS, IMAGES, BOX_IOU = "nms", "batched_nms", "images", "box_iou"
# The static form: on one scene, under jit if the library has one; on a batch, and on a scene that is mostly padding.
NMS_MASK, IMAGES_MASK, IMAGES_MASK_JIT = "nms_mask", "images_mask", "images_mask_jit"
PADDED, PADDED_JIT = "padded", "padded_jit"
SOFT, FAST, MATRIX, MASKS, FUSION = "soft_nms", "fast_nms", "matrix_nms", "matrix_nms_masks", "weighted_boxes_fusion"
# The static forms under jit, by the function each of them calls.
STATIC = (
    "soft_nms_scores",
    "fast_nms_mask",
    "cluster_nms_scores",
    "weighted_cluster_nms_boxes",
    "matrix_nms_scores",
    "weighted_boxes_fusion_padded",
)
FOCAL, FOCAL_TRAIN = "focal", "focal_train"  # the loss of each logit; the gradient of their sum
FOCAL_COMPILED, FOCAL_TRAIN_COMPILED = "focal_compiled", "focal_train_compiled"
BATCH_NORM = "batch_norm"
KMEANS, KMEANS_FIXED, KMEANS_STEP, LOGISTIC = "kmeans", "kmeans_iterations", "kmeans_step", "logistic_regression"
KMEANS_SHORT = "kmeans_short"
SEEDS, MINIBATCH = "kmeans_plusplus", "minibatch_kmeans"
# Their answer is the logarithm of an objective.
FITS = (KMEANS, KMEANS_FIXED, KMEANS_SHORT, KMEANS_STEP, LOGISTIC, SEEDS, MINIBATCH)
# The ops that are one call (ops.py).
BOX_AREA, BOX_CONVERT, CLIP_BOXES = "box_area", "box_convert", "clip_boxes"
MASKS_TO_BOXES, MASK_IOU = "masks_to_boxes", "mask_iou"
KINDS = ("giou", "diou", "ciou")
IOU_KINDS = tuple(f"box_iou {kind}" for kind in KINDS)
CLUSTER, CLUSTER_SCORE, WEIGHTED_CLUSTER = "cluster_nms", "cluster_nms score", "weighted_cluster_nms score"
GROUPS, MERGE = "nms_groups", "non_max_merge"
ROTATED_IOU, POLYGON_IOU = "box_iou cxcywhr", "box_iou polygon"
ROTATED_NMS, ROTATED_GROUPS = "nms cxcywhr", "nms_groups cxcywhr"
KEYPOINTS = "keypoint_similarity"
BOX_LOSSES = tuple(f"box_iou_loss {kind}" for kind in KINDS)
BOX_LOSSES_TRAIN = tuple(f"{operation} train" for operation in BOX_LOSSES)
SOFTMAX, SOFTMAX_TRAIN, BATCH_NORM_GRAD = "softmax_focal_loss", "softmax_focal_loss train", "batch_norm_grad"
KMEANS_ASSIGN, LOGISTIC_PROBA, LOGISTIC_LOSS = "kmeans_assign", "logistic_predict_proba", "logistic_loss"
SELECTIONS = (
    NMS,
    BATCHED_NMS,
    IMAGES,
    NMS_MASK,
    IMAGES_MASK,
    IMAGES_MASK_JIT,
    PADDED,
    PADDED_JIT,
    SOFT,
    FAST,
    MATRIX,
    MASKS,
    ROTATED_NMS,
)  # their answer is the kept boxes; the answer of other operations is numbers


@dataclass(frozen=True)
class Case:
    """One row of the benchmark."""

    name: str
    group: str  # the table of docs/performance.md it goes to
    operation: str
    n: int  # boxes (box_iou: pairs; losses, batch norm: values)
    make: Callable[..., scenes.Problem]
    targets: dict[str, float] = field(default_factory=dict)  # least (peer's time / ours), by our contender's name
    against: dict[str, str] = field(default_factory=dict)  # peers by our contender's name, if each has its own
    tolerance: float = 1e-5  # of a numeric answer
    curve: str | None = None  # the plot that shows it as a point
    quick: bool = False  # part of --quick
    busy: bool = False  # timed once more while another process keeps a core busy; the peer is the quiet time
    share: float = 1.0  # of the sampling time
    seeds: int = 1  # problems, made by seed: each call gets the next

    def problems(self) -> list[scenes.Problem]:
        """The problems that calls get in turn.

        If all calls get the same few hundred boxes, a processor learns to predict every branch, which takes up to two
        thirds off a loop of C++. Real images all differ.
        """
        return [self.make()] if self.seeds == 1 else [self.make(seed=seed) for seed in range(self.seeds)]

    @property
    def compiled(self) -> bool:
        """Whether every contender compiles in its first call, so that its time says nothing about later ones."""
        return self.operation in (FOCAL_COMPILED, FOCAL_TRAIN_COMPILED)

    @property
    def numeric(self) -> bool:
        """Whether answers are arrays of numbers, which are equal up to rounding."""
        return self.operation not in SELECTIONS


def targets(numpy: float, torch: float | None = None, jax: float | None = None) -> dict[str, float]:
    """Least ratios by contender."""
    wanted = {"anyops numpy": numpy, "anyops torch": torch, "anyops jax": jax}
    return {name: ratio for name, ratio in wanted.items() if ratio is not None}


def against(numpy: str | None = None, torch: str | None = None, jax: str | None = None) -> dict[str, str]:
    """Peers by contender."""
    peers = {"anyops numpy": numpy, "anyops torch": torch, "anyops jax": jax}
    return {name: peer for name, peer in peers.items() if peer is not None}


# name, n, d, k, targets
MIXTURES = (
    ("1M x 16", 1_000_000, 16, 64, targets(1.6, 0.8, 0.5)),
    ("100k x 16", 100_000, 16, 64, targets(1.2, 0.8, 0.5)),
    ("100k x 128", 100_000, 128, 256, targets(0.8, 0.8, 0.5)),
    ("1M x 2", 1_000_000, 2, 9, targets(1, 0.6, 0.5)),
    ("200k x 64", 200_000, 64, 1_000, targets(0.8, 0.8, 0.5)),
)
TEN_CLASSES = ("100k x 50, ten classes", 100_000, 50, 10)


def million() -> scenes.Logits:
    """The logits of every case of a loss."""
    return scenes.logits(1_000_000)


FORMULAS = against("numpy formula", "torch formula", "jnp formula")
NMS_OF_EACH = against("nms numpy", "nms torch", "nms jax")
# operation, problem, n, its maker, and other fields of the case
OPS: dict[str, tuple[tuple[str, str, int, Callable[[], scenes.Problem], dict[str, Any]], ...]] = {
    "boxes": (
        *(
            (operation, "1M", 1_000_000, lambda: scenes.spread(1_000_000), {})
            for operation in (BOX_AREA, BOX_CONVERT, CLIP_BOXES)
        ),
        *((operation, "1000x1000", 1_000_000, lambda: scenes.pair(1_000, 1_000), {}) for operation in IOU_KINDS),
        (MASKS_TO_BOXES, "200 of 200x300", 200, lambda: scenes.masks(200, 200, 300), {}),
        (MASK_IOU, "200 of 200x300", 200, lambda: scenes.masks(200, 200, 300), {"against": FORMULAS}),
    ),
    "cluster": (
        (CLUSTER, "clustered-10k", 10_000, lambda: scenes.clustered(10_000), {}),
        (CLUSTER_SCORE, "clustered-1k", 1_000, lambda: scenes.clustered(1_000, 40), {}),
        # Averages of coordinates that reach 1e3.
        (WEIGHTED_CLUSTER, "clustered-1k", 1_000, lambda: scenes.clustered(1_000, 40), {"tolerance": 1e-2}),
        (GROUPS, "clustered-5k", 5_000, lambda: scenes.clustered(5_000), {}),
    ),
    "regions": (
        # Peers have errors of this size where sides of two boxes are nearly parallel.
        (
            ROTATED_IOU,
            "1000x1000",
            1_000_000,
            lambda: scenes.turned_pair(1_000, 1_000),
            {"targets": targets(1, 2), "tolerance": 1e-3},
        ),
        (POLYGON_IOU, "300x300 of 8", 90_000, lambda: scenes.polygons(300, 300), {"tolerance": 1e-4}),
        *(
            (
                ROTATED_NMS,
                name,
                n,
                partial(scenes.oriented, n),
                {"targets": wanted, "against": against(*["opencv, rotated"] * 3)},
            )
            for name, n, wanted in (("oriented-1k", 1_000, {}), ("oriented-10k", 10_000, targets(10, 10, 10)))
        ),
        (ROTATED_GROUPS, "oriented-1k", 1_000, partial(scenes.oriented, 1_000), {}),
        *(
            (MERGE, name, n, make, {"targets": wanted, "tolerance": 1e-6})
            for name, n, make, wanted in (
                ("clustered-1k", 1_000, lambda: scenes.clustered(1_000, 40), {}),
                ("clustered-10k", 10_000, lambda: scenes.clustered(10_000), targets(20, 20, 20)),
                ("spread-10k", 10_000, lambda: scenes.spread(10_000), targets(20, 20, 20)),
            )
        ),
        (KEYPOINTS, "100x100 of 17", 10_000, lambda: scenes.poses(100, 100), {}),
    ),
    "training": (
        *(
            # torchvision sums corners before it subtracts centres: it is off by 1e-5 far from the origin
            (operation, "100k", 100_000, lambda: scenes.matched(100_000), {"tolerance": 1e-4})
            for operation in (*BOX_LOSSES, *BOX_LOSSES_TRAIN)
        ),
        *(
            (operation, "20k x 80", 1_600_000, lambda: scenes.class_logits(20_000, 80), {"against": peers})
            for operation, peers in (
                (SOFTMAX, against("numpy formula", "torch formula", "optax")),
                (SOFTMAX_TRAIN, against("torch formula", "torch formula", "optax")),
            )
        ),
        (
            BATCH_NORM_GRAD,
            "32x64x56x56",
            32 * 64 * 56 * 56,
            lambda: scenes.backward(32, 64, 56, 56),
            {"against": against("numpy formula", "torch kernel", "jnp formula")},
        ),
    ),
    "parts": (
        # Random draws differ between libraries, and so do seeds and batches.
        (SEEDS, "20k x 16, k = 64", 20_000, lambda: scenes.mixture(20_000, 16, 64), {"tolerance": 0.1}),
        (MINIBATCH, "100k x 16, k = 64", 100_000, lambda: scenes.mixture(100_000, 16, 64), {"tolerance": 0.1}),
        (KMEANS_ASSIGN, "100k x 16, k = 64", 100_000, lambda: scenes.mixture(100_000, 16, 64), {"tolerance": 1e-3}),
        (LOGISTIC_PROBA, "200k x 20", 200_000, lambda: scenes.linear(200_000, 20, 2), {}),
        (LOGISTIC_PROBA, TEN_CLASSES[0], 100_000, lambda: scenes.linear(*TEN_CLASSES[1:]), {}),
        (LOGISTIC_LOSS, "200k x 20", 200_000, lambda: scenes.linear(200_000, 20, 2), {"against": FORMULAS}),
    ),
}

SEEN = 31  # different images that calls get in turn
# name, n, maker and targets of scenes of the size of one image
DAILY = (
    ("clustered-100", 100, partial(scenes.clustered, 100, 10), targets(0.4, 0.35, 0.15)),
    ("clustered-200", 200, partial(scenes.clustered, 200, 20), targets(0.5, 0.4, 0.2)),
    ("clustered-500", 500, partial(scenes.clustered, 500, 30), targets(0.75, 0.7, 0.4)),
    ("clustered-1k", 1_000, partial(scenes.clustered, 1_000, 40), targets(1, 1, 0.7)),
    ("clustered-3k", 3_000, partial(scenes.clustered, 3_000, 100), targets(2, 2, 1.5)),
    ("spread-300", 300, partial(scenes.spread, 300), targets(2.2, 2, 1)),
    ("spread-1k", 1_000, partial(scenes.spread, 1_000), targets(5, 5, 3.5)),
    ("aerial-1k", 1_000, partial(scenes.aerial, 1_000), targets(5.5, 5, 3.5)),
    ("aerial-3k", 3_000, partial(scenes.aerial, 3_000), targets(14, 14, 10)),
)
# Of these, the cases that are also timed beside a busy process, with targets of quiet time / busy time
BUSY = {"clustered-200": targets(1 / 2.5, 1 / 3, 1 / 3), "clustered-1k": {}, "spread-1k": {}}

CASES = (
    *(
        Case(name, "scenes", NMS, n, make, wanted, curve="aerial" if "aerial" in name else None, quick=True, seeds=SEEN)
        for name, n, make, wanted in DAILY
    ),
    *(
        Case(f"{name}, busy", "busy", NMS, n, make, BUSY[name], quick=True, busy=True, share=0.5, seeds=SEEN)
        for name, n, make, _ in DAILY
        if name in BUSY
    ),
    Case(
        "clustered-10k",
        "scenes",
        NMS,
        10_000,
        lambda: scenes.clustered(10_000),
        targets(2, 1.5, 1),
        curve="crowd",
        quick=True,
    ),
    Case("spread-10k", "scenes", NMS, 10_000, lambda: scenes.spread(10_000), targets(18, 10, 6), quick=True),
    Case("clustered-50k", "scenes", NMS, 50_000, lambda: scenes.clustered(50_000, 1_500, 4_000.0), targets(6, 4, 1)),
    Case("aerial-100k", "scenes", NMS, 100_000, lambda: scenes.aerial(100_000), targets(350, 200, 8), curve="aerial"),
    Case("images-64x1k", "images", IMAGES, 64_000, scenes.images, targets(1.2, 1.2, 1.1), quick=True),
    Case("images-64x1k-mask", "images", IMAGES_MASK, 64_000, scenes.images, targets(1, 1, 0.9), quick=True),
    Case("images-64x1k-mask, jit", "images", IMAGES_MASK_JIT, 64_000, scenes.images, {"anyops jax": 0.3}, quick=True),
    *(
        Case(f"nms_mask {name}", "mask", NMS_MASK, n, make, {"anyops jax": least}, quick=True, seeds=seeds)
        for name, n, make, least, seeds in (
            ("clustered-1k", 1_000, partial(scenes.clustered, 1_000, 40), 0.6, SEEN),
            ("clustered-10k", 10_000, lambda: scenes.clustered(10_000), 0.8, 1),
            ("spread-10k", 10_000, lambda: scenes.spread(10_000), 6, 1),
        )
    ),
    # A ratio above 1 / 2 is at most twice the time of `nms`.
    *(
        Case(name, "padded", operation, 8_400, scenes.padded, wanted, NMS_OF_EACH, quick=True)
        for name, operation, wanted in (
            ("one in 20 of 8400", PADDED, targets(1 / 2, 1 / 2, 1 / 2)),
            ("one in 20 of 8400, jit", PADDED_JIT, {"anyops jax": 1 / 8}),
        )
    ),
    Case(
        "classes-1k",
        "labelled",
        BATCHED_NMS,
        1_000,
        lambda seed=0: scenes.classes(scenes.clustered(1_000, 40, seed=seed)),
        targets(1, 1, 0.7),
        quick=True,
        seeds=SEEN,
    ),
    Case(
        "classes-10k",
        "labelled",
        BATCHED_NMS,
        10_000,
        lambda: scenes.classes(scenes.clustered(10_000)),
        targets(2.5, 2.5, 2),
        quick=True,
    ),
    Case(
        "classes-50k",
        "labelled",
        BATCHED_NMS,
        50_000,
        lambda: scenes.classes(scenes.clustered(50_000, 1_500, 4_000.0)),
        targets(3.5, 3.5, 3),
    ),
    Case("iou-2000x2000", "box_iou", BOX_IOU, 4_000_000, lambda: scenes.pair(2_000, 2_000), targets(2), quick=True),
    Case("iou-10x100k", "box_iou", BOX_IOU, 1_000_000, lambda: scenes.pair(10, 100_000), targets(1.2, 1.1), quick=True),
    Case(
        "focal-1M",
        "losses",
        FOCAL,
        1_000_000,
        million,
        targets(0.4, 0.8, 5),
        against("exp, log1p", "torchvision", "optax"),
        quick=True,
    ),
    Case(
        "focal-1M-train",
        "losses",
        FOCAL_TRAIN,
        1_000_000,
        million,
        targets(0.625, 1, 5),
        against("loss alone", "torchvision", "optax"),
        quick=True,
    ),
    Case(
        "focal-1M-compiled",
        "losses",
        FOCAL_COMPILED,
        1_000_000,
        million,
        {"anyops torch": 0.9, "anyops jax": 0.5},
        against(None, "torchvision", "jnp formula"),
    ),
    Case(
        "focal-1M-train-compiled",
        "losses",
        FOCAL_TRAIN_COMPILED,
        1_000_000,
        million,
        {"anyops jax": 0.5},
        against(None, "torchvision", "jnp formula"),
    ),
    Case(
        "batch-norm-32x64x56x56",
        "norm",
        BATCH_NORM,
        32 * 64 * 56 * 56,
        lambda: scenes.batch(32, 64, 56, 56),
        targets(1.3, 0.5, 0.9),
        against("numpy formula", "torch kernel", "jnp formula"),
        quick=True,
    ),
    *(
        Case(f"{operation} {name}", "family", operation, n, make, wanted, against(peer, peer, peer), quick=True)
        for operation, peer, rows in (
            (
                SOFT,
                "ensemble-boxes",
                (
                    ("clustered-1k", 1_000, lambda: scenes.clustered(1_000, 40), targets(6)),
                    ("clustered-10k", 10_000, lambda: scenes.clustered(10_000), targets(4)),
                    ("spread-10k", 10_000, lambda: scenes.spread(10_000), targets(1.6)),
                ),
            ),
            # "Under 1.5 times the time" is a ratio above 1 / 1.5.
            (FAST, "overlap graph", (("clustered-10k", 10_000, lambda: scenes.clustered(10_000), targets(1 / 1.5)),)),
            (MATRIX, "overlap graph", (("clustered-10k", 10_000, lambda: scenes.clustered(10_000), targets(1 / 1.5)),)),
            (MASKS, "mask products", (("500 of 200x300", 500, lambda: scenes.masks(500, 200, 300), targets(1 / 1.3)),)),
            (FUSION, "ensemble-boxes", (("5x2k", 10_000, lambda: scenes.models(5, 2_000), targets(5)),)),
        )
        for name, n, make, wanted in rows
    ),
    *(
        Case(
            f"{operation} 1k",
            "static",
            operation,
            1_000,
            lambda: scenes.clustered(1_000, 40),
            {"anyops jax": 1 / 3},
            against(jax="nms_mask"),
            quick=True,
        )
        for operation in STATIC
    ),
    *(
        Case(
            f"kmeans {name}, k = {k}",
            "kmeans",
            KMEANS,
            n,
            lambda n=n, d=d, k=k: scenes.mixture(n, d, k),
            wanted,
            tolerance=1e-3,
        )
        for name, n, d, k, wanted in MIXTURES
    ),
    *(
        Case(
            f"kmeans_step {name}, k = {k}",
            "kmeans",
            KMEANS_STEP,
            n,
            lambda n=n, d=d, k=k: scenes.mixture(n, d, k),
            {"anyops jax": 0.25},  # of two passes of scikit-learn's Lloyd: half the speed of one
            against(*["scikit-learn"] * 3),
            tolerance=1e-3,
        )
        for name, n, d, k, _ in MIXTURES
    ),
    *(
        Case(
            f"kmeans {n:,} x 16, 25 iterations",
            "kmeans",
            KMEANS_FIXED,
            n,
            lambda n=n: scenes.mixture(n, 16, 64),
            against=against(*["faiss"] * 3),
            tolerance=1e-2,
            curve="kmeans",
        )
        for n in (10_000, 100_000, 1_000_000)
    ),
    Case(
        "kmeans_step beside its products",
        "kmeans",
        KMEANS_STEP,
        1_000_000,
        lambda: scenes.mixture(1_000_000, 16, 64),
        {"anyops jax": 0.5},
        against(jax="two products"),
        tolerance=1e-3,
    ),
    # Fits that end before bounds pay off.
    *(
        Case(
            f"kmeans {name}, k = {k}, 3 iterations beside {peer}",
            "kmeans",
            KMEANS_SHORT,
            n,
            lambda n=n, d=d, k=k: scenes.mixture(n, d, k),
            targets(least),
            against(*[peer] * 3),
            tolerance=1e-2,
        )
        for peer, least in (("scikit-learn", 0.9), ("faiss", 0.6))
        for name, n, d, k, _ in MIXTURES
        if name in ("1M x 16", "100k x 128", "200k x 64")
    ),
    Case(
        "25 iterations, 100k x 128, k = 256",
        "kmeans",
        KMEANS_FIXED,
        100_000,
        lambda: scenes.mixture(100_000, 128, 256),
        against=against(*["faiss"] * 3),
        tolerance=1e-2,
    ),
    *(
        Case(
            f"logistic {name}, {dtype}",
            "logistic",
            LOGISTIC,
            n,
            lambda n=n, p=p, classes=classes, dtype=dtype: scenes.labelled(n, p, classes, dtype),
            targets(1, 1, 0.8),
            tolerance=1e-6,
            curve="logistic" if (p, dtype) == (20, "float32") else None,
        )
        for name, n, p, classes in (("1M x 20", 1_000_000, 20, 2), ("100k x 200", 100_000, 200, 2), TEN_CLASSES)
        for dtype in ("float64", "float32")
    ),
    *(
        Case(
            f"logistic {n:,} x 20",
            "logistic",
            LOGISTIC,
            n,
            lambda n=n: scenes.labelled(n, 20, 2, "float32"),
            wanted,
            tolerance=1e-6,
            curve="logistic",
        )
        for n, wanted in ((10_000, targets(1, 1, 0.8)), (100_000, {}))
    ),
    *(
        Case(f"{operation} {name}", group, operation, n, make, quick=True, share=0.25, **more)
        for group, rows in OPS.items()
        for operation, name, n, make, more in rows
    ),
    Case("identical-20k", "adversarial", NMS, 20_000, scenes.identical),
    Case("chain-20k", "adversarial", NMS, 20_000, scenes.chain),
    Case("giant-100k", "adversarial", NMS, 100_001, scenes.giant),
    Case("all-sizes-20k", "adversarial", NMS, 20_000, scenes.all_sizes),
    Case("aerial-10k", "scaling", NMS, 10_000, lambda: scenes.aerial(10_000), curve="aerial", quick=True),
    Case("aerial-30k", "scaling", NMS, 30_000, lambda: scenes.aerial(30_000), curve="aerial"),
    Case("aerial-300k", "scaling", NMS, 300_000, lambda: scenes.aerial(300_000), curve="aerial"),
    Case("aerial-1M", "scaling", NMS, 1_000_000, lambda: scenes.aerial(1_000_000), curve="aerial"),
    Case("crowd-1k", "scaling", NMS, 1_000, lambda: scenes.crowd(1_000), curve="crowd", quick=True),
    Case("crowd-30k", "scaling", NMS, 30_000, lambda: scenes.crowd(30_000), curve="crowd"),
    Case("crowd-100k", "scaling", NMS, 100_000, lambda: scenes.crowd(100_000), curve="crowd"),
)


def select(only: str | None = None, *, groups: Container[str] | None = None, quick: bool = False) -> list[Case]:
    """The cases to run: of --quick, of the given groups, and with names that contain or match `only`."""
    return [
        case
        for case in CASES
        if (case.quick or not quick) and (groups is None or case.group in groups) and matches(case.name, only)
    ]


def matches(name: str, only: str | None) -> bool:
    """Whether `only` picks this name: a shell pattern, or a part of the name."""
    return only is None or fnmatch(name, only) or only in name


def growth(sizes: list[int], seconds: list[float]) -> dict[str, float]:
    """Exponents of time against n: from the first size to the last, and of the steepest step on the way."""
    steps = [math.log(seconds[i + 1] / seconds[i]) / math.log(sizes[i + 1] / sizes[i]) for i in range(len(sizes) - 1)]
    whole = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
    return {"exponent": whole, "steepest": max(steps)}
