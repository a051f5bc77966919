"""The demonstration from the digits to the report: every step on every backend."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from rich.progress import Progress
from threadpoolctl import threadpool_limits

import anyops

from .arrays import shipper, to_host
from .codebook import Codebook, box_sizes, learn_codebook, mean_iou, stroke_patches
from .detector import Detections, detect_all
from .evaluate import Precision, average_precision, coco_ground_truth, coco_results, digits_found
from .imbalance import LossShares, loss_shares
from .methods import METHODS, Suppression, suppress
from .picture import before_after, methods
from .report import compose
from .scenes import Material, Scene, Settings, prepare
from .training import Classifier, Windows, gather_windows, normalise, train_cross_entropy, train_focal
from .windows import make_views

LOSSES = ("cross-entropy", "focal")
"""Names of the two classifiers; the pictures and times are of what the first finds."""

TOLERANCE = 0.005
"""The largest difference of the AP of a backend from the AP of the first one that is accepted.

Neither training reaches its minimum, so rounding affects the coefficients: it changed an AP by up to 0.0024, and after
twice as many steps by up to 0.0006.
"""


class Outcome(NamedTuple):
    """The results of one backend, and the seconds that it took for each step.

    `raw`, `suppressions` and `precisions` have the loss of the classifier as a key, the latter two then the method;
    "raw" is among the precisions. `shares` are of both losses at the cross-entropy classifier.
    """

    device: str
    codebook: Codebook
    windows: tuple[int, int]
    classifiers: dict[str, Classifier]
    shares: dict[str, LossShares]
    raw: dict[str, Detections]
    suppressions: dict[str, dict[str, Suppression]]
    precisions: dict[str, dict[str, Precision]]
    seconds: dict[str, float]


class Report(NamedTuple):
    """The outcomes by backend."""

    settings: Settings
    material: Material
    outcomes: dict[str, Outcome]

    @property
    def first(self) -> Outcome:
        """The outcome of the first backend."""
        return next(iter(self.outcomes.values()))

    def disagreeing(self) -> list[str]:
        """Return the classifiers, methods and backends whose AP differs from the first backend's."""
        return [
            f"{method} after {loss} on {backend}"
            for backend, outcome in self.outcomes.items()
            for loss, precisions in outcome.precisions.items()
            for method, precision in precisions.items()
            if abs(precision.ap - self.first.precisions[loss][method].ap) > TOLERANCE
        ]


def run(settings: Settings, backends: Sequence[str], progress: Progress, *, device: str | None = None) -> Report:
    """Learn, detect, suppress and evaluate on each of `backends`."""
    waiting = progress.add_task("Drawing scenes", total=1)
    material = prepare(settings)
    progress.advance(waiting)
    # Matrices this small gain little from threads, and on a busy machine the threads wait for each other.
    with threadpool_limits(1):
        outcomes = {backend: run_on(backend, material, settings.seed, progress, device=device) for backend in backends}
    return Report(settings, material, outcomes)


def run_on(backend: str, material: Material, seed: int, progress: Progress, *, device: str | None = None) -> Outcome:
    """Run every step on one backend."""
    ship = shipper(backend, device)
    seconds: dict[str, float] = {}

    def track(steps: Iterable[Any], doing: str) -> Iterator[Any]:
        yield from progress.track(list(steps), description=f"{backend:6} {doing}")

    with _timed(seconds, "codebook"):
        patches, sizes = ship(stroke_patches(material.digits, seed=seed)), ship(box_sizes(material.training))
        codebook = learn_codebook(patches, sizes, seed=seed)
        views = make_views(codebook.anchors, ship)
    with _timed(seconds, "windows"):
        scenes = track(material.training, "reading training windows")
        windows, normalisation = normalise(gather_windows(scenes, codebook, views, ship, seed=seed))
    trainers: dict[str, Callable[[Windows], Classifier]] = dict(
        zip(LOSSES, (train_cross_entropy, train_focal), strict=True)
    )
    classifiers = {}
    for loss in track(LOSSES, "training twice"):
        with _timed(seconds, loss):
            classifiers[loss] = trainers[loss](windows)
            to_host(classifiers[loss].coef)
    with _timed(seconds, "detection"):
        scenes = track(material.scenes, "sliding windows")
        found = detect_all(scenes, codebook, views, normalisation, list(classifiers.values()), ship)
        raw = dict(zip(LOSSES, found, strict=True))
    suppressions: dict[str, dict[str, Suppression]] = {loss: {} for loss in LOSSES}
    with _timed(seconds, "suppression"):
        for loss, method in track([(a, b) for a in LOSSES for b in METHODS], "suppressing"):
            suppressions[loss][method.name] = suppress(raw[loss], method, ship, timed=loss == LOSSES[0])
    truth = coco_ground_truth(material.scenes)
    precisions: dict[str, dict[str, Precision]] = {loss: {} for loss in LOSSES}
    every = [
        (loss, name, each)
        for loss in LOSSES
        for name, each in {"raw": raw[loss], **{k: v.found for k, v in suppressions[loss].items()}}.items()
    ]
    for loss, name, each in track(every, "evaluating"):
        precisions[loss][name] = average_precision(truth, coco_results(each))
    shares = dict(zip(LOSSES, loss_shares(windows, classifiers[LOSSES[0]]), strict=True))
    where = str(array_api_compat.device(patches))
    on = int(np.sum(to_host(windows.labels) < 10))
    counts = (on, windows.labels.shape[0] - on)
    return Outcome(where, codebook, counts, classifiers, shares, raw, suppressions, precisions, seconds)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start


def summary(report: Report) -> dict[str, Any]:
    """Return the settings and figures: what was learnt and how fast, and an entry for each method."""
    first = report.first
    return {
        **report.settings._asdict(),
        "anyops": anyops.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "digits": sum(len(scene.labels) for scene in report.material.scenes),
        "losses": list(LOSSES),
        "backends": [
            {
                "backend": name,
                "version": import_module(name).__version__,
                "device": outcome.device,
                "seconds": {step: round(seconds, 2) for step, seconds in outcome.seconds.items()},
                "largest_ap_difference": round(_largest_difference(outcome, first), 5),
            }
            for name, outcome in report.outcomes.items()
        ],
        "training": {
            "on_digits": first.windows[0],
            "background": first.windows[1],
            "mean_iou_of_anchors": round(
                mean_iou(box_sizes(report.material.training), to_host(first.codebook.anchors)), 4
            ),
            "classifiers": {
                loss: {
                    "iterations": classifier.n_iter,
                    "background_share_of_loss": round(float(first.shares[loss].background), 4),
                    "easy_background_share_of_loss": round(float(first.shares[loss].easy), 4),
                    **_confident(report.material.scenes, first.suppressions[loss]["nms"].found),
                }
                for loss, classifier in first.classifiers.items()
            },
        },
        "raw": {"boxes": len(first.raw[LOSSES[0]].scores), **_precisions(first, "raw")},
        "methods": [
            {
                "method": method.name,
                "call": method.call,
                "boxes": len(first.suppressions[LOSSES[0]][method.name].kept),
                **_precisions(first, method.name),
                "milliseconds": {
                    backend: round(outcome.suppressions[LOSSES[0]][method.name].milliseconds or 0.0, 3)
                    for backend, outcome in report.outcomes.items()
                },
            }
            for method in METHODS
        ],
    }


def _largest_difference(outcome: Outcome, first: Outcome) -> float:
    return max(
        abs(precision.ap - first.precisions[loss][method].ap)
        for loss, precisions in outcome.precisions.items()
        for method, precision in precisions.items()
    )


def _precisions(outcome: Outcome, name: str) -> dict[str, dict[str, float]]:
    return {
        field: {loss: round(getattr(outcome.precisions[loss][name], field), 4) for loss in LOSSES}
        for field in ("ap", "ap50")
    }


def _confident(scenes: Sequence[Scene], found: Detections) -> dict[str, int]:
    """Count the digits found by boxes of a probability above one half, and such boxes that are wrong."""
    sure = found.take(found.scores > 0.5)
    right = [digits_found(scene, sure.of(number)) for number, scene in enumerate(scenes)]
    return {
        "digits_found_above_one_half": int(sum(len(np.unique(each[each >= 0])) for each in right)),
        "wrong_above_one_half": int(sum((each < 0).sum() for each in right)),
    }


def write(report: Report, folder: Path) -> None:
    """Write the report, the summary, boxes in COCO's formats (true, raw and kept), and pictures of the first scene."""
    figures, first = summary(report), report.first
    contents = {
        "summary.json": json.dumps(figures, indent=2),
        "ground_truth.json": json.dumps(coco_ground_truth(report.material.scenes)),
        "raw.json": _one_a_line(coco_results(first.raw[LOSSES[0]])),
        "kept.json": _one_a_line(coco_results(first.suppressions[LOSSES[0]]["nms"].found)),
    }
    for name, text in contents.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    scene, raw = report.material.scenes[0], first.raw[LOSSES[0]].of(0)
    found = {name: each.found.of(0) for name, each in first.suppressions[LOSSES[0]].items()}
    for name, picture in {
        "scene.png": before_after(scene, raw, found["nms"]),
        "methods.png": methods(scene, raw, found, figures),
    }.items():
        picture.savefig(folder / name, dpi=100, pil_kwargs={"optimize": True})
    page = compose(
        figures,
        scene=scene,
        raw=raw,
        found=found,
        words=to_host(first.codebook.words),
        anchors=to_host(first.codebook.anchors),
        sizes=box_sizes(report.material.training),
        precisions=first.precisions,
        shares={loss: each.curve for loss, each in first.shares.items()},
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _one_a_line(records: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(map(json.dumps, records)) + "\n]"
