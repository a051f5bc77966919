"""The demonstration from the digits to the table."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import array_api_compat
import numpy as np

import anyops

from .._array.backends import to_backend, to_host
from .detector import Detections, detect_all, learn_templates
from .evaluate import Precision, average_precision, coco_ground_truth, coco_results
from .picture import draw_before_after
from .scenes import Scene, load_digits, make_scenes

if TYPE_CHECKING:
    from rich.progress import Progress

IOU_THRESHOLD = 0.3
"""A box goes if a better one in its scene overlaps it by more."""

REPEATS = 5
"""Timed calls of NMS on each backend, of which the median counts; fewer if they take more than a second together."""


class Suppression(NamedTuple):
    """What NMS did on one backend: the indices it kept, where it ran, and how long one call took."""

    kept: np.ndarray
    device: str
    milliseconds: float


class Settings(NamedTuple):
    """How many scenes, drawn from which seed."""

    scenes: int = 12
    seed: int = 0


class Report(NamedTuple):
    """What came of it; the suppressions, and the precision after them, go by the name of the backend."""

    settings: Settings
    scenes: list[Scene]
    raw: Detections
    suppressions: dict[str, Suppression]
    before: Precision
    after: dict[str, Precision]

    def disagreeing(self) -> list[str]:
        """Return the backends that did not keep the same boxes, in the same order, as the first one."""
        first, *others = self.suppressions
        expected = self.suppressions[first].kept
        return [name for name in others if not np.array_equal(self.suppressions[name].kept, expected)]


def run(settings: Settings, backends: Sequence[str], progress: Progress, *, device: str | None = None) -> Report:
    """Detect the digits of the scenes, run NMS on each of `backends`, and evaluate before and after it."""
    to_learn, to_paste = load_digits()
    templates = learn_templates(to_learn, progress.track(range(10), description="Learning"), seed=settings.seed)
    scenes = make_scenes(to_paste, settings.scenes, np.random.default_rng(settings.seed))
    raw = detect_all((scene.image for scene in progress.track(scenes, description="Detecting")), templates)
    suppressions = {
        backend: suppress(raw, backend, device) for backend in progress.track(backends, description="Suppressing")
    }
    results = [raw, *(raw.take(suppression.kept) for suppression in suppressions.values())]
    truth = coco_ground_truth(scenes)
    before, *after = (
        average_precision(truth, coco_results(result)) for result in progress.track(results, description="Evaluating")
    )
    return Report(settings, scenes, raw, suppressions, before, dict(zip(suppressions, after, strict=True)))


def suppress(raw: Detections, backend: str, device: str | None = None) -> Suppression:
    """Run NMS over all scenes in one call.

    A place holds one digit, so boxes compete whatever their digits, but only within their scene: the labels are
    the scenes. The time is that until the indices are on the host, without the first call, which may compile.
    """
    boxes, scores, labels = (to_backend(x, backend, device) for x in (raw.boxes, raw.scores, raw.scenes))

    def call() -> np.ndarray:
        return to_host(anyops.nms(boxes, scores, IOU_THRESHOLD, labels=labels))

    kept = call()
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < 1:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Suppression(kept, str(array_api_compat.device(boxes)), 1000 * statistics.median(seconds))


def summary(report: Report) -> dict[str, Any]:
    """Return the settings and figures, with an entry for each backend."""
    return {
        **report.settings._asdict(),
        "digits": sum(len(scene.labels) for scene in report.scenes),
        "iou_threshold": IOU_THRESHOLD,
        "backends": [
            {
                "backend": name,
                "version": import_module(name).__version__,
                "device": suppression.device,
                "boxes_in": len(report.raw.scores),
                "boxes_out": len(suppression.kept),
                "ap_before": round(report.before.ap, 4),
                "ap_after": round(report.after[name].ap, 4),
                "ap50_before": round(report.before.ap50, 4),
                "ap50_after": round(report.after[name].ap50, 4),
                "milliseconds": round(suppression.milliseconds, 3),
            }
            for name, suppression in report.suppressions.items()
        ],
    }


def write(report: Report, folder: Path) -> None:
    """Write the summary, the true, raw and kept boxes in COCO's formats, and the picture of the first scene."""
    kept = report.raw.take(next(iter(report.suppressions.values())).kept)
    contents = {
        "summary.json": json.dumps(summary(report), indent=2),
        "ground_truth.json": json.dumps(coco_ground_truth(report.scenes)),
        "raw.json": _one_a_line(coco_results(report.raw)),
        "kept.json": _one_a_line(coco_results(kept)),
    }
    for name, text in contents.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    first = (detections.take(detections.scenes == 0) for detections in (report.raw, kept))
    draw_before_after(folder / "scene.png", report.scenes[0], *first)


def _one_a_line(records: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(map(json.dumps, records)) + "\n]"
