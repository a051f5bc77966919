"""``anyops nms``: non-maximum suppression of a file of detections."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import anyops

from .._array.backends import to_backend, to_host
from .errors import CommandError, one_line_errors
from .files import STREAM, Format, check_destination, check_same_format, display_name, format_of, read_text, write_text
from .records import Detections, parse


class Library(StrEnum):
    """Array libraries that the command computes with."""

    NUMPY = "numpy"
    TORCH = "torch"
    JAX = "jax"
    CUPY = "cupy"


class Kind(StrEnum):
    """Overlap measures, as in :func:`anyops.box_iou`."""

    IOU = "iou"
    IOF = "iof"
    IOS = "ios"
    GIOU = "giou"
    DIOU = "diou"
    CIOU = "ciou"


def _finite(value: float | None) -> float | None:
    # A range alone lets NaN pass, which is neither below its start nor above its end.
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, got {value}")
    return value


def nms(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Detections: COCO results (.json, .json.gz) or CSV (.csv, .csv.gz); - is standard input.",
        ),
    ],
    *,
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="Where the survivors go; - is standard output.")
    ],
    iou_threshold: Annotated[
        float, typer.Option(min=0, max=1, callback=_finite, help="A box goes if a better one overlaps it by more.")
    ] = 0.5,
    score_threshold: Annotated[
        float | None, typer.Option(min=0, callback=_finite, help="Drop first what does not score above this.")
    ] = None,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Boxes of one image suppress each other whatever their category.")
    ] = False,
    kind: Annotated[Kind, typer.Option(help="Measure of overlap.")] = Kind.IOU,
    max_output: Annotated[
        int | None, typer.Option(min=0, help="Keep at most so many boxes of each image, the best first.")
    ] = None,
    backend: Annotated[Library, typer.Option(help="Array library to compute with.")] = Library.NUMPY,
    device: Annotated[
        str | None, typer.Option(help="Device of that library, such as cuda:0; its default device if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Suppress overlapping detections, image by image and category by category.

    The survivors are written in the format and order of FILE, every field as it was.

    If the input is malformed, one line says where, nothing is written, and the exit code is 2.
    """
    start = time.perf_counter()
    with one_line_errors():
        check_destination(out, force=force)
        if file != STREAM:
            check_same_format(format_of(file), out)
        with _progress() as begin:
            begin("load")
            send = _loaded(backend, device)
            begin("read")
            detections, form = _read(file)
            check_same_format(form, out)
            begin("group")
            images = _numbered(detections.image_ids)
            pairs = zip(detections.image_ids, detections.category_ids, strict=True)
            groups = images if class_agnostic else _numbered(pairs)
            begin("suppress")
            # One call for all: boxes with different labels leave each other alone.
            kept = to_host(
                anyops.nms(
                    anyops.box_convert(send(detections.xywh()), "xywh", "xyxy"),
                    send(np.asarray(detections.scores, dtype=np.float64)),
                    iou_threshold,
                    labels=send(groups),
                    kind=kind.value,
                    score_threshold=score_threshold,
                )
            )
            if max_output is not None:
                kept = kept[_rank_in_group(images[kept]) < max_output]
            begin("write")
            write_text(detections.text(np.sort(kept).tolist()), out, force=force)
    seconds = time.perf_counter() - start
    typer.echo(f"{len(images)} boxes in, {len(kept)} boxes out, {seconds:.3f} seconds", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show a bar of the stages on a terminal; what is yielded begins the stage of the name it is given."""
    stages = ("load", "read", "group", "suppress", "write")
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage: None
        return
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(stages))
        yield lambda stage: progress.update(task, description=stage, completed=stages.index(stage))


def _loaded(backend: Library, device: str | None) -> Callable[[NDArray[Any]], Any]:
    """Load an array library; return what ships host arrays to it."""
    send = partial(to_backend, name=backend.value, device=device)
    try:
        send(np.empty(0))
    except (RuntimeError, ValueError, TypeError) as error:  # not installed, no such device, no float64 on the device
        raise CommandError(str(error)) from None
    return send


def _read(file: str) -> tuple[Detections, Format]:
    text, form = read_text(file)
    try:
        return parse(text, form), form
    except CommandError as error:
        raise CommandError(f"{display_name(file)}: {error}") from None


def _numbered(keys: Iterable[Hashable]) -> NDArray[np.int64]:
    """Replace each key by its number in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _rank_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell how many before each entry belong to the same group."""
    order = np.argsort(groups, stable=True)
    counts = np.unique_counts(groups).counts
    ranks = np.empty_like(groups)
    ranks[order] = np.arange(len(groups)) - np.repeat(np.cumulative_sum(counts) - counts, counts)
    return ranks
