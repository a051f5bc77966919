"""Which op runs on which backend under which transform, or why not: drives the skips and writes docs/support.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.backends import Backend, Transform

T = Transform
STATIC = frozenset({T.JIT, T.VMAP, T.COMPILE, T.FUNC_VMAP})

LOSSES = (
    *("sigmoid_focal_loss", "sigmoid_focal_loss_and_grad", "softmax_focal_loss", "softmax_focal_loss_and_grad"),
    "box_iou_loss",
)
NORM = ("batch_norm", "batch_norm_grad", "batch_stats", "merge_batch_stats")
LOGISTIC = (
    *("logistic_loss", "logistic_partial", "logistic_merge", "logistic_step"),
    *("logistic_predict_proba", "logistic_log_proba"),
)
RESCORING = (
    "soft_nms_scores",
    "cluster_nms_scores",
    "weighted_cluster_nms_boxes",
    "matrix_nms_scores",
    "weighted_boxes_fusion_padded",
)
DIFFERENTIABLE = ("box_area", "box_convert", "clip_boxes", "box_iou", *LOSSES, *NORM, *LOGISTIC, *RESCORING)
NO_GRADIENT = ("masks_to_boxes", "mask_iou", "nms_mask", "fast_nms_mask", "top_scores")
RESCORED = ("soft_nms", "cluster_nms", "weighted_cluster_nms", "matrix_nms")
INDICES = ("nms", "batched_nms", "fast_nms", "nms_groups")
INDEX_CONTRACT = (*INDICES, *RESCORED, "weighted_boxes_fusion")
KMEANS_FIT, KMEANS_STATIC = (
    ("kmeans", "kmeans_plusplus", "minibatch_kmeans", "anchor_boxes"),
    ("kmeans_assign", "kmeans_partial", "kmeans_merge", "kmeans_step"),
)
FITS = ("logistic_regression",)
OPS = (*DIFFERENTIABLE, *NO_GRADIENT, *INDEX_CONTRACT, *KMEANS_FIT, *KMEANS_STATIC, *FITS)

# (ops, backends or libraries, transforms, reason); the first row that fits is the answer, none means supported.
EVERYWHERE = tuple(b.library for b in Backend)
UNSUPPORTED: tuple[tuple[tuple[str, ...], tuple[str, ...], frozenset[Transform], str], ...] = (
    (
        FITS,
        EVERYWHERE,
        STATIC | {T.GRAD},
        "a fit decides by values on the host when to end; static form: `logistic_step`",
    ),
    (("logistic_step",), ("dask",), frozenset({T.EAGER}), "it solves on the device of x; use `logistic_regression`"),
    (
        INDEX_CONTRACT,
        EVERYWHERE,
        STATIC,
        "the length of the result depends on the data; static forms: `*_mask`, `*_scores`, `*_boxes`, `*_padded`",
    ),
    (KMEANS_FIT, EVERYWHERE, STATIC, "it ends when values say so; `kmeans_step` is the static form"),
    (
        ("kmeans", "minibatch_kmeans", "anchor_boxes"),
        EVERYWHERE,
        frozenset({T.GRAD}),
        "centres at the fixed point are given without a gradient",
    ),
    (("kmeans_plusplus",), ("jax",), frozenset({T.GRAD}), "draws need the values of the samples"),
    (
        ("kmeans",),
        ("strict:strictest",),
        frozenset({T.EAGER}),
        "the flag `data_dependent_shapes=False` forbids to look at some samples only",
    ),
    (("kmeans_plusplus",), ("dask",), frozenset({T.EAGER}), "every step would read the data anew"),
    (INDICES, EVERYWHERE, frozenset({T.GRAD}), "indices have no gradient"),
    (
        (*RESCORED, "weighted_boxes_fusion"),
        ("jax",),
        frozenset({T.GRAD}),
        "the length of the result depends on traced values",
    ),
    (NO_GRADIENT, EVERYWHERE, frozenset({T.GRAD}), "masks, counts and indices have no gradient"),
    (INDEX_CONTRACT, ("dask",), frozenset({T.EAGER}), "the length of a lazy array cannot depend on its values"),
    (
        ("nms_mask", "fast_nms_mask", "top_scores", *RESCORING),
        ("dask",),
        frozenset({T.EAGER}),
        "dask.array has no `take_along_axis`",
    ),
    (
        (*INDICES, *RESCORED),
        ("strict:strictest",),
        frozenset({T.EAGER}),
        "the flag `data_dependent_shapes=False` forbids it",
    ),
)


def why_not(op: str, backend: Backend, transform: Transform) -> str | None:
    """Why `op` does not run there, or None if it does."""
    if op not in OPS:
        raise KeyError(f"{op!r} is not in the capability table")
    if not transform.belongs_to(backend):
        return f"{backend.library} has no {transform}"
    for ops, places, transforms, reason in UNSUPPORTED:
        if op in ops and transform in transforms and {backend.value, backend.library} & set(places):
            return reason
    return None


RECORD = Path(__file__).with_name("vectors") / "matrix.json"


def load() -> dict[str, Any]:
    """What tests/record.py has kept, by backend: version, Python, date, and the ops whose examples have passed."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def runs() -> list[str]:
    """Which run the table rests on, a line for each library, and what was not run."""
    known = load()
    lines = [
        f"- {backend}: {entry['version']}, Python {entry['python']}, {entry['date']}"
        for backend in map(str, Backend)
        if (entry := known.get(backend))
    ]
    missing = [f"`{b}`" for b in Backend if str(b) not in known]
    return [*lines, *([f"- **Not run**: {', '.join(missing)}. Their columns say what is expected."] if missing else [])]


def render() -> str:
    """The table as Markdown."""
    known = load()
    backends = [b for b in Backend if b is not Backend.NUMPY_READONLY]
    notes: list[str] = []

    def cell(op: str, backend: Backend) -> str:
        supported = [str(t) for t in Transform if t.belongs_to(backend) and why_not(op, backend, t) is None]
        reasons = [why_not(op, backend, t) for t in Transform if t.belongs_to(backend)]
        for reason in reasons:
            if reason and reason not in notes:
                notes.append(reason)
        marks = sorted({notes.index(reason) + 1 for reason in reasons if reason})
        return (", ".join(supported) or "no") + (f" <sup>{', '.join(map(str, marks))}</sup>" if marks else "")

    rows = [[f"`{op}`", *(cell(op, b) for b in backends)] for op in OPS]
    head = ["op", *(f"{b}" if str(b) in known else f"{b} (not run)" for b in backends)]
    lines = [
        "# What runs where",
        "",
        "Generated by `python -m tests.capabilities > docs/support.md`; the same table decides which tests run.",
        "A small number is the reason why something is missing from a cell. What the table promises has run, and what",
        "it denies has failed, in these runs (`python -m tests.record`):",
        "",
        *runs(),
        "",
        *("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)),
        "",
        *(f"{i}. {note}" for i, note in enumerate(notes, 1)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
