"""The ops on one GPU beside torchvision and PyTorch, in one process: medians, and the agreement of results.

    PYTHONPATH=src python benchmarks/gpu.py [results.json]

Arrays are on the device before the clock starts, and every call is waited for. The first call, which compiles, is not
counted. Libraries that are not installed are skipped.
"""

from __future__ import annotations

import datetime
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import results
import scenes

import anyops

BUDGET = 0.2  # seconds of one row, after its first call
Call = Callable[[], Any]


class Library(NamedTuple):
    """Conversion to arrays on the device, waiting for results, and jit."""

    asarray: Callable[[np.ndarray], Any]
    wait: Callable[[Any], Any]
    jit: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function


def libraries() -> Iterator[tuple[str, Library]]:
    """The installed libraries that find a GPU."""
    for name in ("torch", "cupy", "jax"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if name == "torch" and module.cuda.is_available():
            yield "anyops torch", Library(_torch, lambda _: _torch().cuda.synchronize())
        elif name == "cupy" and module.cuda.is_available():
            yield "anyops cupy", Library(module.asarray, lambda _, m=module: m.cuda.Device().synchronize())
        elif name == "jax" and any(d.platform == "gpu" for d in module.devices()):
            yield "anyops jax", Library(module.numpy.asarray, module.block_until_ready, module.jit)


def _torch(x: np.ndarray | None = None) -> Any:
    import torch

    return torch if x is None else torch.from_numpy(x).cuda()


def seconds(call: Call, wait: Callable[[Any], Any]) -> tuple[float, float, Any]:
    """The median, the first call, and the result."""
    samples: list[float] = []
    result = None
    while len(samples) < 4 or (sum(samples[1:]) < BUDGET and len(samples) < 200):
        start = time.perf_counter()
        result = call()
        wait(result)
        samples.append(time.perf_counter() - start)
        if samples[0] > 20 and len(samples) > 1:
            break
    return statistics.median(samples[1:]), samples[0], result


def host(x: Any) -> np.ndarray:
    """An array of any library, on the host."""
    if hasattr(x, "get"):
        return x.get()
    return np.asarray(x.cpu() if hasattr(x, "cpu") else x)


def ours(function: Callable[..., Any], *arrays: np.ndarray, jit: bool = False) -> dict[str, tuple[Call, Any]]:
    """The calls of one function through each library."""
    calls = {}
    for name, library in libraries():
        shipped = [library.asarray(x) for x in arrays]
        call = library.jit(function) if jit else function
        calls[name] = ((lambda call=call, shipped=shipped: call(*shipped)), library.wait)
    return calls


def torchvision(function: Callable[..., Any], *arrays: np.ndarray, name: str = "torchvision") -> dict[str, Any]:
    """The call of a peer on torch's CUDA arrays."""
    try:
        torch = _torch()
        importlib.import_module("torchvision")
    except ImportError:
        return {}
    shipped = [_torch(x) for x in arrays]
    return {name: ((lambda: function(*shipped)), lambda _: torch.cuda.synchronize())}


def suppression(name: str, scene: scenes.Scene) -> tuple[str, dict[str, Any]]:
    """nms in its index form."""
    import torchvision as tv

    if scene.labels is None:
        arrays = scene.boxes, scene.scores
        return f"nms {name}", torchvision(lambda b, s: tv.ops.nms(b, s, 0.5), *arrays) | ours(anyops.nms, *arrays)
    return f"batched_nms {name}", torchvision(lambda b, s, i: tv.ops.batched_nms(b, s, i, 0.5), *scene) | ours(
        lambda b, s, i: anyops.batched_nms(b, s, i, 0.5), *scene
    )


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows to time: a name, and the competing calls."""
    import torch
    import torchvision as tv

    for name, scene in (
        ("clustered-1k", scenes.clustered(1_000, 40)),
        ("clustered-10k", scenes.clustered(10_000)),
        ("spread-10k", scenes.spread(10_000)),
        ("aerial-100k", scenes.aerial(100_000)),
        ("classes-50k", scenes.classes(scenes.clustered(50_000, 1_500, 4_000.0))),
        ("images-64x1k", scenes.images()),
    ):
        yield suppression(name, scene)
    boxes, scores, _ = scenes.clustered(1_000, 40)
    yield "nms_mask clustered-1k", ours(anyops.nms_mask, boxes, scores, jit=True)
    yield "soft_nms clustered-10k", ours(anyops.soft_nms, *scenes.clustered(10_000)[:2])
    pair = scenes.pair(2_000, 2_000)
    yield "box_iou 2000 x 2000", torchvision(tv.ops.box_iou, *pair) | ours(anyops.box_iou, *pair, jit=True)
    logits = scenes.logits(1_000_000)
    yield (
        "sigmoid_focal_loss 1M",
        torchvision(tv.ops.sigmoid_focal_loss, *logits) | ours(anyops.sigmoid_focal_loss, *logits, jit=True),
    )
    batch = scenes.batch(32, 64, 56, 56)
    arrays = (batch.x, batch.mean, batch.var, batch.weight, batch.bias)
    yield (
        "batch_norm 32 x 64 x 56 x 56",
        torchvision(
            lambda x, m, v, w, b: torch.nn.functional.batch_norm(x, m.clone(), v.clone(), w, b, training=True),
            *arrays,
            name="F.batch_norm",
        )
        | ours(lambda *a: anyops.batch_norm(*a, training=True)[0], *arrays, jit=True),
    )
    for n, d, k in ((1_000_000, 16, 64), (100_000, 128, 256), (1_000_000, 2, 9), (200_000, 64, 1_000)):
        arrays = scenes.mixture(n, d, k)
        yield (
            f"kmeans_step {n} x {d}, k = {k}",
            ours(lambda x, c: anyops.kmeans_step(x, c).centers, *arrays, jit=True),
        )
        yield (
            f"kmeans {n} x {d}, k = {k}, 20 iterations",
            ours(lambda x, c, k=k: anyops.kmeans(x, k, init=c, max_iter=20, tol=0).centers, *arrays),
        )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_000_000, 20)).astype(np.float32)
    y = (x @ (rng.normal(size=20) * 0.5) + rng.logistic(size=len(x)) > 0).astype(np.int32)
    yield "logistic_regression 1M x 20", ours(lambda x, y: anyops.logistic_regression(x, y, l2=1.0).coef, x, y)


def agreement(reference: Any, result: Any) -> str:
    """The agreement of a result with the first one."""
    a, b = (host(r[0] if isinstance(r, tuple) else r) for r in (reference, result))
    if a.shape != b.shape:
        return f"shape {b.shape}, not {a.shape}"
    if a.dtype.kind in "iub":
        return "equal" if bool(np.all(a == b)) else f"{int(np.sum(a != b))} of {a.size} differ"
    return f"{float(np.max(np.abs(a.astype(np.float64) - b)) / max(float(np.max(np.abs(a))), 1e-30)):.0e}"


def main() -> None:
    """Time all rows; print each as it comes, and save all so far if a file is given."""
    torch = _torch()
    device = torch.cuda.get_device_name()
    versions = {m: importlib.import_module(m).__version__ for m in ("torch", "torchvision", "cupy", "jax", "numpy")}
    print(device, versions, flush=True)
    found: list[dict[str, Any]] = []
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    for name, calls in rows():
        reference = None
        for who, (call, wait) in calls.items():
            try:
                median, first, result = seconds(call, wait)
            except Exception as error:  # other libraries get their rows even if one fails
                print(f"{name:45} {who:14} {type(error).__name__}: {str(error)[:200]}", flush=True)
                continue
            reference = result if reference is None else reference
            same = agreement(reference, result)
            found.append({"case": name, "who": who, "seconds": median, "first": first, "agreement": same})
            print(f"{name:45} {who:14} {median * 1e3:9.3f} ms  first {first:6.2f} s  {same}", flush=True)
            if len(sys.argv) > 1:
                record = {"schema": 1, "date": today, "device": device, "versions": versions, "rows": found}
                results.save(Path(sys.argv[1]), record)


if __name__ == "__main__":
    main()
