"""``anyops anchors``: anchor sizes for a detector, from its training annotations."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import anyops

from .._array.backends import to_host
from .annotations import Sizes, parse_sizes
from .errors import CommandError, one_line_errors
from .files import (
    STREAM,
    Format,
    check_destination,
    check_place,
    check_same_format,
    display_name,
    read_text,
    write_bytes,
    write_text,
)
from .nms import Library, finite, loaded
from .scatter import draw_anchors


class Center(StrEnum):
    """How an anchor is computed from the sizes of its boxes."""

    MEDIAN = "median"
    MEAN = "mean"


_MAX_ITER = 300


def anchors(
    file: Annotated[
        str,
        typer.Argument(metavar="ANNOTATIONS", help="COCO instance annotations (.json, .json.gz); - is standard input."),
    ],
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of anchors.")] = 9,
    center: Annotated[
        Center, typer.Option(help="Whether an anchor is the median or mean of its boxes; mean fits less well.")
    ] = Center.MEDIAN,
    ratio: Annotated[
        float,
        typer.Option(min=1, callback=finite, help="An anchor matches a box if no side differs by this factor or more."),
    ] = 4.0,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Scale each image, and its boxes, to this longer side in pixels."),
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME|ID", help="Use only this category; may be given repeatedly.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random start.")] = 0,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="Write the anchors as JSON; - is standard output."),
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="PNG", help="Draw the anchors over the sizes of the boxes; needs matplotlib.")
    ] = None,
    backend: Annotated[Library, typer.Option(help="Array library to compute with.")] = Library.NUMPY,
    device: Annotated[
        str | None, typer.Option(help="Device of that library, such as cuda:0; its default device if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT and PNG if they exist.")] = False,
) -> None:
    """Find the anchor sizes that boxes overlap most, by k-means with the distance 1 - IoU.

    Crowds and boxes without area are ignored; their number is printed on standard error.

    If the input is malformed, one line names the place, nothing is written, and the exit code is 2.
    """
    with one_line_errors():
        if size is not None and size > sys.float_info.max:
            raise CommandError(f"--size: expected an integer that a float can hold, got one of {len(str(size))} digits")
        _check_destinations(output, plot, force=force)
        send = loaded(backend, device)
        sizes = _read(file, category or [], size)
        boxes = len(sizes.wh)
        if k > boxes:
            raise CommandError(f"{display_name(file)}: expected at least {k} boxes for {k} anchors, got {boxes}")
        with np.errstate(over="ignore"):  # numbers that overflow float32 raise the error below
            wh = send(sizes.wh)
        try:
            with _progress(boxes) as callback:
                found = anyops.anchor_boxes(
                    wh, k, center=center.value, seed=seed, max_iter=_MAX_ITER, ratio=ratio, callback=callback
                )
            labels = to_host(anyops.kmeans_assign(wh, found.anchors, metric="iou").labels)
        except ValueError as error:  # the options are checked; sides may be too large or small for the library's floats
            raise CommandError(f"{display_name(file)}: {backend} cannot compute with these boxes: {error}") from None
        sides = to_host(found.anchors).astype(np.float64)
        counts = np.bincount(labels, minlength=k)
        unit = "pixels" if size is None else f"pixels in images of {size}"
        if output is not None:
            settings = {"center": center.value, "ratio": ratio, "size": size, "seed": seed}
            write_text([_json(found, sides, counts, settings)], output, force=force)
        if plot is not None:
            figures = f"mean IoU {found.mean_iou:.3f}, best possible recall {found.best_possible_recall:.4f}"
            picture = draw_anchors(sizes.wh, labels, sides, f"{k} anchors: {figures}", unit)
            write_bytes([picture], plot, force=force)
    _report(sizes)
    with one_line_errors():
        _print(found, sides, counts, unit, ratio, to_stderr=output == STREAM)


def _check_destinations(output: str | None, plot: str | None, *, force: bool) -> None:
    if output is not None:
        check_destination(output, force=force)
        check_same_format(Format.JSON, output)
    if plot is not None:
        if not plot.lower().endswith(".png"):
            raise CommandError(f"{plot}: expected a name ending in .png")
        check_place(plot, force=force)
        if find_spec("matplotlib") is None:
            raise CommandError("--plot needs matplotlib: pip install matplotlib")


def _read(file: str, categories: list[str], size: int | None) -> Sizes:
    text, form = read_text(file, nothing='write {"annotations": []} for no annotations')
    try:
        if form != Format.JSON:
            raise CommandError(f"expected COCO annotations in JSON, got {form.upper()}")
        return parse_sizes(text, categories, size)
    except CommandError as error:
        raise CommandError(f"{display_name(file)}: {error}") from None


@contextmanager
def _progress(boxes: int) -> Iterator[Callable[[int, float, float], None] | None]:
    """Show the iterations and their mean IoU on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    # The number of iterations is unknown, so the bar has no end.
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("start", total=None)

        def show(iteration: int, inertia: float, _shift: float) -> None:
            progress.update(task, description=f"iteration {iteration:3}, mean IoU {1 - inertia / boxes:.4f}")

        yield show


def _json(
    found: anyops.AnchorResult, sides: NDArray[np.float64], counts: NDArray[np.int64], settings: dict[str, Any]
) -> str:
    rows = ",\n".join(f"    {json.dumps(row)}" for row in sides.tolist())
    others = {
        "boxes": counts.tolist(),
        "mean_iou": found.mean_iou,
        "best_possible_recall": found.best_possible_recall,
        **settings,
    }
    lines = [f'  "anchors": [\n{rows}\n  ]', *(f'  "{name}": {json.dumps(value)}' for name, value in others.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _report(sizes: Sizes) -> None:
    ignored = {"crowds": sizes.crowds, "boxes without area": sizes.flat, "of other categories": sizes.other_categories}
    if some := [f"{count:,} {what}" for what, count in ignored.items() if count]:
        typer.echo(f"ignored: {', '.join(some)}", err=True)


def _print(
    found: anyops.AnchorResult,
    sides: NDArray[np.float64],
    counts: NDArray[np.int64],
    unit: str,
    ratio: float,
    *,
    to_stderr: bool,
) -> None:
    table = Table(title=f"{len(sides)} anchors for {counts.sum():,} boxes", caption=unit)
    for heading in ("", "width", "height", "area", "boxes", "share"):
        table.add_column(heading, justify="right")
    for number, ((w, h), count) in enumerate(zip(sides.tolist(), counts.tolist(), strict=True), 1):
        share = f"{count / counts.sum():.1%}"
        table.add_row(str(number), f"{w:,.2f}", f"{h:,.2f}", f"{w * h:,.0f}", f"{count:,}", share)
    summary = f"mean IoU {found.mean_iou:.4f}, best possible recall {found.best_possible_recall:.4f} at ratio {ratio:g}"
    console = Console(stderr=to_stderr)
    if to_stderr:
        console.print(table)
        typer.echo(summary, err=True)
        return
    # Drawn for the terminal, but written like any other output, so that a write error is one line.
    drawn = io.BytesIO()
    console.file = io.TextIOWrapper(drawn, encoding=console.encoding, errors="replace")
    console.print(table)
    write_bytes([drawn.getvalue(), f"{summary}\n".encode()], STREAM, force=False)
