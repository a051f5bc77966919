"""From the raw output of a detector to its boxes: in NumPy alone, compiled, and as an ONNX model without Python.

    python examples/postprocess.py                         every way that is installed, and whether all agree
    python examples/postprocess.py --images 8              more images
    python examples/postprocess.py --times                 the timings in docs/deploy.md, which take minutes

The raw output (head) has the layout of the YOLO family, (images, 4 + 80, 8 400): for each of 8 400 predictions a box in
pixels of the network's 640 × 640 image (centre, width, height) and 80 probabilities. The images were pictures of
1280 × 720 pixels, scaled by a half and padded above and below (a letterbox).

`detections` is all that is deployed: one function for every library, with static shapes. `listed` does the same with
indices, for programs that are not compiled, in which shapes may depend on values.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

import anyops

SIDE, PICTURE = 640, (720, 1280)  # of the network's image; height and width of the pictures
SCALE = SIDE / max(PICTURE)
LEFT, TOP = (SIDE - SCALE * PICTURE[1]) / 2, (SIDE - SCALE * PICTURE[0]) / 2
CELLS, CLASSES = (80, 40, 20), 80  # of the head: 80² + 40² + 20² predictions
LEAST, OVERLAP = 0.25, 0.5  # scores above it are detections; boxes that overlap by more are duplicates


class Sizes(NamedTuple):
    """How many boxes enter suppression, and how many leave it at most."""

    best: int = 1000
    kept: int = 300


# --- the deployed code -----------------------------------------------------------------------------------------------


def detections(head: Any, sizes: Sizes) -> tuple[Any, Any, Any, Any]:
    """Boxes (images, kept, 4) in pixels of the pictures, scores, classes, and which of them are valid; best first."""
    xp = array_namespace(head)
    boxes, scores, classes = decoded(head)
    top = anyops.top_scores(scores, sizes.best, score_threshold=LEAST)
    boxes, scores, classes = (taken(x, top.indices) for x in (boxes, scores, classes))
    stays = anyops.nms_mask(boxes, scores, OVERLAP, labels=classes, valid=top.valid)
    first = anyops.top_scores(xp.where(stays, scores, xp.nan), sizes.kept)
    boxes, scores, classes = (taken(x, first.indices) for x in (boxes, scores, classes))
    return in_picture(boxes), scores, classes, first.valid


def decoded(head: Any) -> tuple[Any, Any, Any]:
    """Boxes (images, predictions, 4) by their corners, the best probability of each, and its class."""
    xp = array_namespace(head)
    boxes = anyops.box_convert(xp.matrix_transpose(head[:, :4, :]), "cxcywh", "xyxy")
    return boxes, xp.max(head[:, 4:, :], axis=1), xp.argmax(head[:, 4:, :], axis=1)


def taken(x: Any, indices: Any) -> Any:
    """The items of each image at indices (images, k)."""
    images = array_namespace(x).arange(x.shape[0], device=device(x))
    return x[images[:, None], indices]


def in_picture(boxes: Any) -> Any:
    """Convert boxes in the network's image to pixels of the picture, clipped to its borders."""
    x1, y1, x2, y2 = (boxes[..., k] for k in range(4))
    corners = (x1 - LEFT) / SCALE, (y1 - TOP) / SCALE, (x2 - LEFT) / SCALE, (y2 - TOP) / SCALE
    return anyops.clip_boxes(array_namespace(boxes).stack(corners, axis=-1), PICTURE)


def listed(head: np.ndarray, sizes: Sizes) -> tuple[Any, Any, Any, Any]:
    """The same without padding: the image of each detection, boxes (K, 4), scores, classes, by descending score.

    One call suppresses in all images, because they are its scenes.
    """
    boxes, scores, classes = decoded(head)
    top = anyops.top_scores(scores, sizes.best, score_threshold=LEAST)
    images, ranks = np.nonzero(top.valid)
    boxes, scores, classes = (x[images, top.indices[images, ranks]] for x in (boxes, scores, classes))
    kept = anyops.nms(boxes, scores, OVERLAP, labels=classes, scenes=images, max_output=sizes.kept)
    return images[kept], in_picture(boxes[kept]), scores[kept], classes[kept]


# --- ways to deploy it -----------------------------------------------------------------------------------------------

Way = Callable[[np.ndarray], tuple[Any, ...]]  # from a head to what was found, on the host


def by_index(_head: np.ndarray, sizes: Sizes) -> Way:
    return lambda head: listed(head, sizes)


def by_mask(_head: np.ndarray, sizes: Sizes) -> Way:
    return lambda head: detections(head, sizes)


def by_jax(head: np.ndarray, sizes: Sizes) -> Way:
    import jax

    compiled = jax.jit(lambda x: detections(x, sizes))
    jax.block_until_ready(compiled(head))
    return lambda head: tuple(map(np.asarray, compiled(head)))


def by_torch(head: np.ndarray, sizes: Sizes, compiler: str = "inductor") -> Way:
    import torch

    compiled = torch.compile(lambda x: detections(x, sizes), fullgraph=True, backend=compiler)
    with warnings.catch_warnings():
        # array-api-compat caches namespaces: https://github.com/pytorch/pytorch/issues/155352
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        compiled(torch.from_numpy(head))
    return lambda head: tuple(x.numpy() for x in compiled(torch.from_numpy(head)))


def exported(head: np.ndarray, sizes: Sizes) -> Any:
    """An ONNX program for any number of images, and any number of predictions above `sizes.best`."""
    import torch

    import anyops.onnx

    axes = {0: "images", 2: torch.export.Dim("predictions", min=sizes.best + 1)}
    return anyops.onnx.export(
        lambda head: detections(head, sizes),
        [torch.from_numpy(head)],
        dynamic_shapes=[axes],
        output_names=["boxes", "scores", "classes", "valid"],
    )


def run_by_onnx(model: Path) -> Way:
    """All that a deployment needs: onnxruntime and a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda head: tuple(session.run(None, {"head": head}))


def by_onnx(head: np.ndarray, sizes: Sizes) -> Way:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "detections.onnx"
        exported(head, sizes).save(model)
        return run_by_onnx(model)


WAYS = {
    "NumPy, `listed`": (by_index, ()),
    "NumPy": (by_mask, ()),
    "jax.jit": (by_jax, ("jax",)),
    "torch.compile": (by_torch, ("torch",)),
    "ONNX": (by_onnx, ("torch", "onnxscript", "onnxruntime")),
}


def by_image(found: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """The image of each detection, its box, score and class: image by image, best first."""
    if found[-1].dtype == bool:
        boxes, scores, classes, valid = found
        images, predictions = np.nonzero(valid)
        return images, boxes[images, predictions], scores[images, predictions], classes[images, predictions]
    order = np.argsort(found[0], kind="stable")
    return tuple(x[order] for x in found)


# --- a head to try it on ---------------------------------------------------------------------------------------------


def raw_head(
    images: int, cells: tuple[int, ...] = CELLS, classes: int = CLASSES, objects: int = 30, seed: int = 0
) -> np.ndarray:
    """The head of an imaginary network: each object is found at many places, other places have low probabilities."""
    rng = np.random.default_rng(seed)
    places = [np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * SIDE / n] * 2), axis=-1).reshape(-1, 2) for n in cells]
    place = np.concatenate(places)
    centre = rng.random((images, objects, 2)) * [SIDE, SCALE * PICTURE[0]] + [LEFT, TOP]
    sides = np.exp(rng.normal(4, 0.6, (images, objects, 2)))
    away = np.abs(place[None, :, None, :] - centre[:, None]) / sides[:, None]  # from each object, relative to its sides
    nearest = away.max(axis=-1).argmin(axis=-1)  # (images, places)
    row = np.arange(images)[:, None]
    near = np.exp(-4 * away[row, np.arange(len(place)), nearest].max(axis=-1) ** 2)
    box = np.concatenate((centre[row, nearest], sides[row, nearest]), axis=-1)
    box *= 1 + 0.08 * rng.normal(size=box.shape) * sides[row, nearest][..., [0, 1, 0, 1]] / np.maximum(box, 1)
    probabilities = 0.05 * rng.random((images, len(place), classes))
    kind = rng.integers(0, classes, (images, objects))[row, nearest]
    found = near * (0.3 + 0.65 * rng.random((images, len(place))))
    np.put_along_axis(probabilities, kind[..., None], np.maximum(found, 0.05)[..., None], axis=-1)
    return np.concatenate((box, probabilities), axis=-1).transpose(0, 2, 1).astype(np.float32)


# --- times -----------------------------------------------------------------------------------------------------------


def by_eager_torch(_head: np.ndarray, sizes: Sizes) -> Way:
    import torch

    return lambda head: detections(torch.from_numpy(head), sizes)


def one_by_torchvision(head: Any, sizes: Sizes) -> tuple[Any, Any, Any]:
    """The usual code, with torchvision, for one image."""
    from torchvision import ops

    scores, classes = head[4:].max(dim=0)
    scores, predictions = scores.topk(sizes.best)
    boxes, classes = ops.box_convert(head[:4, predictions].T, "cxcywh", "xyxy"), classes[predictions]
    kept = ops.batched_nms(boxes, scores, classes, OVERLAP)
    kept = kept[scores[kept] > LEAST][: sizes.kept]
    return in_picture(boxes[kept]), scores[kept], classes[kept]


def by_torchvision(head: np.ndarray, sizes: Sizes) -> Way:
    import torch

    one_by_torchvision(torch.from_numpy(head[0]), sizes)
    return lambda head: [one_by_torchvision(one, sizes) for one in torch.from_numpy(head)]


def by_torchvision_in_onnx(head: np.ndarray, sizes: Sizes) -> Way:
    """With ONNX's NonMaxSuppression, image by image."""
    import onnxruntime
    import torch
    import torchvision  # noqa: F401

    import anyops.onnx

    program = anyops.onnx.export(lambda head: one_by_torchvision(head, sizes), [torch.from_numpy(head[0])])
    assert any(node.op_type == "NonMaxSuppression" for node in program.model.graph.all_nodes())
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda head: [session.run(None, {"head": one}) for one in head]


PEERS = {
    "torch, eagerly": (by_eager_torch, ("torch",)),
    "torchvision, image by image": (by_torchvision, ("torchvision",)),
    "torchvision in ONNX, image by image": (by_torchvision_in_onnx, ("torchvision", "onnxscript", "onnxruntime")),
}


def print_times(sizes: Sizes) -> None:
    """Print a table: seconds to compile or export, milliseconds per call with one image and with eight."""
    heads = [raw_head(images) for images in (1, 8)]
    print("| | to compile or export, s | 1 image, ms | 8 images, ms |\n| --- | --- | --- | --- |")
    for name, (way, needs) in (WAYS | PEERS).items():
        if missing(needs):
            continue
        start = time.perf_counter()
        call = way(heads[0], sizes)
        cells, calls = [time.perf_counter() - start], (call, call if "ONNX" in name else way(heads[1], sizes))
        cells += [1e3 * median_seconds(call, head) for call, head in zip(calls, heads, strict=True)]
        print(f"| {name} | " + " | ".join(f"{x:.3g}" if x > 1e-3 else "–" for x in cells) + " |", flush=True)
    if not missing(WAYS["ONNX"][1]):
        nodes = [node.op_type for node in exported(heads[0], sizes).model.graph.all_nodes()]
        print(f"\nThe ONNX model has {len(nodes)} nodes of {len(set(nodes))} kinds.")


def print_steps(head: np.ndarray, sizes: Sizes) -> None:
    """Milliseconds of each step of `detections` in NumPy."""
    boxes, scores, classes = decoded(head)
    predictions, valid = anyops.top_scores(scores, sizes.best, score_threshold=LEAST)
    best, values, kinds = [taken(x, predictions) for x in (boxes, scores, classes)]
    stays = anyops.nms_mask(best, values, OVERLAP, labels=kinds, valid=valid)
    steps: dict[str, Callable[[], Any]] = {
        "decode": lambda: decoded(head),
        f"best {sizes.best}": lambda: anyops.top_scores(scores, sizes.best, score_threshold=LEAST),
        "take them": lambda: [taken(x, predictions) for x in (boxes, scores, classes)],
        "suppress": lambda: anyops.nms_mask(best, values, OVERLAP, labels=kinds, valid=valid),
        f"best {sizes.kept}": lambda: anyops.top_scores(np.where(stays, values, np.nan), sizes.kept),
        "scale back": lambda: in_picture(best[:, : sizes.kept]),
    }
    print("steps in NumPy: " + ", ".join(f"{name} {1e3 * median_seconds(f):.2f} ms" for name, f in steps.items()))


def median_seconds(call: Callable[..., Any], *arguments: Any, repeats: int = 15) -> float:
    call(*arguments)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(*arguments)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def missing(needs: tuple[str, ...]) -> list[str]:
    return [name for name in needs if importlib.util.find_spec(name) is None]


def main(argv: list[str] | None = None) -> dict[str, tuple[np.ndarray, ...]]:
    parser = argparse.ArgumentParser(description="From the raw head of a detector to its boxes, in every way.")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), help="default: each that is installed")
    parser.add_argument("--times", action="store_true", help="the table of the documentation, with peers; minutes")
    options = parser.parse_args(argv)
    sizes, found = Sizes(), {}
    if options.times:
        print_times(sizes)
        return found
    head = raw_head(options.images)
    print_steps(head, sizes)
    for name in options.only:
        way, needs = WAYS[name]
        if absent := missing(needs):
            print(f"{name:15} not run: {', '.join(absent)} is not installed")
            continue
        start = time.perf_counter()
        call = way(head, sizes)
        compiled = time.perf_counter() - start
        found[name] = by_image(call(head))
        boxes, seconds = found[name][1], median_seconds(call, head, repeats=3)
        print(f"{name:15} {len(boxes)} boxes in {1e3 * seconds:.1f} ms, prepared in {compiled:.1f} s")
        if not all(map(np.allclose, found[name], found[options.only[0]])):
            raise SystemExit(f"{name}: other boxes than {options.only[0]}")
    return found


if __name__ == "__main__":
    main()
