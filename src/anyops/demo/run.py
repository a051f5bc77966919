"""The demonstration from the digits to the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .detector import Detections, detect_all, learn_templates
from .evaluate import Precision, average_precision, coco_ground_truth, coco_results
from .methods import METHODS, Suppression, suppress
from .picture import draw_before_after, draw_methods
from .scenes import Scene, load_digits, make_scenes

if TYPE_CHECKING:
    from rich.progress import Progress


class Settings(NamedTuple):
    """How many scenes, drawn from which seed."""

    scenes: int = 12
    seed: int = 0


class Report(NamedTuple):
    """What came of it: the suppressions by backend and method, and the precisions by method, on the first backend."""

    settings: Settings
    scenes: list[Scene]
    raw: Detections
    suppressions: dict[str, dict[str, Suppression]]
    before: Precision
    after: dict[str, Precision]

    @property
    def first(self) -> dict[str, Suppression]:
        """Suppressions on the first backend, by method."""
        return next(iter(self.suppressions.values()))

    def disagreeing(self) -> list[str]:
        """Return the methods, and the backends on which they did not find what they find on the first one."""
        return [
            f"{method.name} on {backend}"
            for method in METHODS
            for backend, suppressions in self.suppressions.items()
            if not suppressions[method.name].agrees(self.first[method.name], method)
        ]


def run(settings: Settings, backends: Sequence[str], progress: Progress, *, device: str | None = None) -> Report:
    """Detect the digits of the scenes, suppress by each method on each of `backends`, and evaluate before and after."""
    to_learn, to_paste = load_digits()
    templates = learn_templates(to_learn, progress.track(range(10), description="Learning"), seed=settings.seed)
    scenes = make_scenes(to_paste, settings.scenes, np.random.default_rng(settings.seed))
    raw = detect_all((scene.image for scene in progress.track(scenes, description="Detecting")), templates)
    suppressions: dict[str, dict[str, Suppression]] = {backend: {} for backend in backends}
    steps = [(backend, method) for backend in backends for method in METHODS]
    for backend, method in progress.track(steps, description="Suppressing"):
        suppressions[backend][method.name] = suppress(raw, method, backend, device)
    found = [raw, *(suppression.found for suppression in suppressions[backends[0]].values())]
    truth = coco_ground_truth(scenes)
    before, *after = (
        average_precision(truth, coco_results(each)) for each in progress.track(found, description="Evaluating")
    )
    names = [method.name for method in METHODS]
    return Report(settings, scenes, raw, suppressions, before, dict(zip(names, after, strict=True)))


def summary(report: Report) -> dict[str, Any]:
    """Return the settings and figures, with an entry for each method."""
    return {
        **report.settings._asdict(),
        "digits": sum(len(scene.labels) for scene in report.scenes),
        "backends": [
            {"backend": name, "version": import_module(name).__version__, "device": suppressions["nms"].device}
            for name, suppressions in report.suppressions.items()
        ],
        "raw": {"boxes": len(report.raw.scores), **_rounded(report.before)},
        "methods": [
            {
                "method": method.name,
                "parameters": method.parameters,
                "boxes": len(report.first[method.name].kept),
                **_rounded(report.after[method.name]),
                "milliseconds": {
                    backend: round(suppressions[method.name].milliseconds, 3)
                    for backend, suppressions in report.suppressions.items()
                },
            }
            for method in METHODS
        ],
    }


def _rounded(precision: Precision) -> dict[str, float]:
    return {name: round(value, 4) for name, value in precision._asdict().items()}


def write(report: Report, folder: Path) -> None:
    """Write the summary, the true, raw and kept boxes in COCO's formats, and the pictures of the first scene."""
    figures = summary(report)
    contents = {
        "summary.json": json.dumps(figures, indent=2),
        "ground_truth.json": json.dumps(coco_ground_truth(report.scenes)),
        "raw.json": _one_a_line(coco_results(report.raw)),
        "kept.json": _one_a_line(coco_results(report.first["nms"].found)),
    }
    for name, text in contents.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    scene = report.scenes[0]
    raw = report.raw.take(report.raw.scenes == 0)
    found = {name: each.found.take(each.found.scenes == 0) for name, each in report.first.items()}
    draw_before_after(folder / "scene.png", scene, raw, found["nms"])
    draw_methods(folder / "methods.png", scene, raw, found, figures)


def _one_a_line(records: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(map(json.dumps, records)) + "\n]"
