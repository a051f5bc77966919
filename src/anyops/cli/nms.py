"""``anyops nms``: suppression of overlapping detections in a file, by any of the variants."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._array.backends import to_backend
from .errors import CommandError, one_line_errors
from .files import STREAM, Format, check_destination, check_same_format, display_name, format_of, read_text, write_text
from .methods import BoxFormat, ConfType, Decay, Kernel, Method, OverlapKind, Penalty, check_options
from .models import Models
from .records import LAYOUTS, Detections, Layout, parse
from .suppress import fused, survivors


class Library(StrEnum):
    """Array libraries that the command computes with."""

    NUMPY = "numpy"
    TORCH = "torch"
    JAX = "jax"
    CUPY = "cupy"


def finite(value: float | None) -> float | None:
    """Raise if the value of an option is NaN or infinite."""
    # The check of a range lets NaN pass, which is neither below its minimum nor above its maximum.
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"expected a positive finite number, got {value}")
    return value


_SOME = "Options of some methods"


def nms(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Detections: COCO results (.json, .json.gz) or CSV (.csv, .csv.gz); - is standard input. "
            "Several, one for each model, with --method wbf only.",
        ),
    ],
    *,
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="File for the kept detections; - is standard output.")
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="nms is greedy. In fast, suppressed boxes suppress others too. soft and matrix lower scores instead; "
            "so does cluster with a --penalty, and without one it is greedy. weighted is cluster, and also moves each "
            "box to the mean of itself and the boxes that overlap it most. wbf fuses the boxes of several models."
        ),
    ] = Method.NMS,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            callback=finite,
            help="Drop detections with a score not above this: the score in FILE for nms and fast (no limit by "
            "default) and wbf (0); the new score for soft (0.001), cluster and weighted (0.01), matrix (0.05).",
        ),
    ] = None,
    max_output: Annotated[
        int | None, typer.Option(min=0, help="Keep at most this number of boxes per image, the best ones.")
    ] = None,
    iou_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            callback=finite,
            rich_help_panel=_SOME,
            help="nms, fast, cluster, weighted (0.5 by default), soft with --decay linear or hard (0.3), wbf (0.55): "
            "boxes affect each other if they overlap by more than this.",
        ),
    ] = None,
    class_agnostic: Annotated[
        bool,
        typer.Option(
            "--class-agnostic",
            rich_help_panel=_SOME,
            help="All but wbf: boxes of one image affect each other, whatever their category.",
        ),
    ] = False,
    kind: Annotated[
        OverlapKind | None,
        typer.Option(rich_help_panel=_SOME, help="All but wbf: measure of overlap (iou by default)."),
    ] = None,
    fmt: Annotated[
        BoxFormat | None,
        typer.Option(
            rich_help_panel=_SOME,
            help="All but weighted and wbf: format of bbox, or of columns of CSV. xywh by default: left, top, width, "
            "height; another column named angle is refused, unless --fmt xywh is given to ignore it. cxcywhr is a "
            "rotated box: centre, width, height, and angle in degrees, counter-clockwise as seen; xywhr has a corner "
            "instead of the centre, xyxyxyxy is four corners. "
            "Columns are named x, y, w, h; x1, y1, x2, y2 ...; cx, cy, w, h, angle.",
        ),
    ] = None,
    decay: Annotated[
        Decay | None, typer.Option(rich_help_panel=_SOME, help="soft: how scores fall (gaussian by default).")
    ] = None,
    penalty: Annotated[
        Penalty | None,
        typer.Option(rich_help_panel=_SOME, help="cluster, weighted: lower scores by this instead of dropping boxes."),
    ] = None,
    kernel: Annotated[
        Kernel | None, typer.Option(rich_help_panel=_SOME, help="matrix: how scores fall (gaussian by default).")
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            callback=_positive,
            rich_help_panel=_SOME,
            help="soft with --decay gaussian (0.5 by default), cluster and weighted with a --penalty (0.2): width of "
            "the Gaussian. matrix with --kernel gaussian (2.0): its inverse.",
        ),
    ] = None,
    conf_type: Annotated[
        ConfType | None, typer.Option(rich_help_panel=_SOME, help="wbf: score of a fused box (avg by default).")
    ] = None,
    model_weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MODEL=]WEIGHT",
            rich_help_panel=_SOME,
            help="wbf: weight of a model (1 by default), once per FILE in the same order; with --model-field as "
            "MODEL=WEIGHT, once per model, including models that found nothing.",
        ),
    ] = None,
    model_field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_SOME, help="wbf: field or column of FILE that names the model of each box."
        ),
    ] = None,
    backend: Annotated[Library, typer.Option(help="Array library to compute with.")] = Library.NUMPY,
    device: Annotated[
        str | None, typer.Option(help="Device of that library, such as cuda:0; its default device if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Suppress overlapping detections, image by image and category by category.

    Kept detections are written in the format and order of FILE. Only new scores and new boxes change a field.

    With --method wbf, OUT has new records with only image_id, category_id, bbox and score, image by image, best first.

    If the input is malformed, one line names the place, nothing is written, and the exit code is 2.
    """
    start = time.perf_counter()
    # Options not given are left to the function, because the defaults differ between methods.
    options = _given(
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        kind=kind,
        fmt=fmt,
        decay=decay,
        penalty=penalty,
        kernel=kernel,
        sigma=sigma,
        conf_type=conf_type,
    )
    others = _given(class_agnostic=class_agnostic or None, model_weight=model_weight or None, model_field=model_field)
    with one_line_errors(), _in_float64(backend):
        check_options(method, options | others)
        _check_files(files, method)
        models = Models.of(model_weight or [], files, model_field)
        check_destination(out, force=force)
        for file in files:
            if file != STREAM:
                check_same_format(format_of(file), out)
        with _progress() as begin:
            begin("load", 0)
            send = loaded(backend, device)
            layout = LAYOUTS[options.pop("fmt")] if fmt else None
            parts, form = _read(files, layout, model_field, partial(begin, "read"))
            check_same_format(form, out)
            count = sum(len(part.scores) for part in parts)
            tick = partial(begin, "suppress")
            tick(0)
            with _about(*files):
                if method == Method.WBF:
                    outcome = fused(parts, form, models, options, send, max_output=max_output, tick=tick)
                else:
                    (detections,) = parts
                    outcome = survivors(
                        detections,
                        method,
                        options,
                        send,
                        fmt=fmt or BoxFormat.XYWH,
                        class_agnostic=class_agnostic,
                        max_output=max_output,
                        tick=tick,
                    )
            begin("write", 0)
            write_text(outcome.text, out, force=force)
    seconds = time.perf_counter() - start
    typer.echo(f"{count} boxes in, {outcome.boxes} boxes out, {seconds:.3f} seconds", err=True)


@contextmanager
def _in_float64(library: Library) -> Iterator[None]:
    """Let JAX compute in float64 during a command, as the other libraries do."""
    if library is not Library.JAX or find_spec("jax") is None:
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


def _given(**options: Any) -> dict[str, Any]:
    return {name: x.value if isinstance(x, StrEnum) else x for name, x in options.items() if x is not None}


def _check_files(files: list[str], method: Method) -> None:
    if len(files) > 1 and method != Method.WBF:
        raise CommandError(f"FILE: expected one for --method {method}, got {len(files)}; only wbf takes several")
    if files.count(STREAM) > 1:
        raise CommandError("FILE: expected - at most once, because standard input can be read only once")


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """Show a bar of the stages on a terminal; yield a function of a stage and the share of it that is done."""
    stages = ("load", "read", "suppress", "write")
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, share: None
        return
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(stages))
        yield lambda stage, share: progress.update(task, description=stage, completed=stages.index(stage) + share)


def loaded(backend: Library, device: str | None) -> Callable[[NDArray[Any]], Any]:
    """Load an array library; return a function that sends host arrays to it."""
    send = partial(to_backend, name=backend.value, device=device)
    try:
        send(np.empty(0))
    except (RuntimeError, ValueError, TypeError) as error:  # not installed, no such device, no float64 on the device
        raise CommandError(str(error)) from None
    return send


def _read(
    files: list[str], layout: Layout | None, model_field: str | None, tick: Callable[[float], None]
) -> tuple[list[Detections], Format]:
    """Read all files, which must have one format; `tick` is called with the share that has been read."""
    tick(0)
    read = [read_text(file) for file in files]
    form = read[0][1]
    parts = []
    for number, (file, (text, its_form)) in enumerate(zip(files, read, strict=True)):
        with _about(file):
            if its_form != form:
                raise CommandError(f"expected {form.upper()} as in {display_name(files[0])}, got {its_form.upper()}")
            part = partial(_share_of, tick, number, len(files))
            parts.append(parse(text, form, layout=layout, model_field=model_field, tick=part))
    return parts, form


def _share_of(tick: Callable[[float], None], number: int, count: int, share: float) -> None:
    tick((number + share) / count)


@contextmanager
def _about(*files: str) -> Iterator[None]:
    """Begin errors with the names of the files."""
    try:
        yield
    except CommandError as error:
        raise CommandError(f"{', '.join(map(display_name, files))}: {error}") from None
