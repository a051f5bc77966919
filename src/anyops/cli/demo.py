"""``anyops demo``: what suppression is worth, by each method, shown on handwritten digits."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .._array.backends import to_backend
from ..demo.folder import check_folder, filled_at_once
from ..demo.run import Settings, run, summary, write
from .errors import CommandError, one_line_errors
from .nms import Library

_EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "pycocotools": "pycocotools"}


def demo(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the results go; made if it is not there.")
    ] = Path("demo"),
    backend: Annotated[
        Library | None, typer.Option(help="Array library to compute with; if not given, all that work here.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of that library, such as cuda:0; its default device if not given.")
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes; each yields about 2,000 boxes.")] = 12,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed draws other scenes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the files of an earlier run in FOLDER.")] = False,
) -> None:
    """Find handwritten digits on crowded pages, suppress by each method on each array library, and compare them.

    FOLDER gets scene.png (a page before and after nms), methods.png (a part of it after each method, their precision
    and time), summary.json, and the raw boxes, those that nms kept and the true ones as COCO JSON.
    """
    with one_line_errors():
        _check_extras()
        if device is not None and backend is None:
            raise CommandError("--device needs --backend, for each library names devices in its own way")
        try:
            check_folder(output, force=force)
            with filled_at_once(output) as folder, _progress() as progress:
                usable = _usable(list(Library) if backend is None else [backend], device, progress)
                report = run(Settings(scenes, seed), usable, progress, device=device)
                write(report, folder)
        except OSError as error:
            raise CommandError(str(error)) from None
    _print(summary(report), output)
    if disagreeing := report.disagreeing():
        typer.echo(f"anyops: other boxes than on {usable[0]}, which is a bug: {', '.join(disagreeing)}", err=True)
        raise typer.Exit(1)


def _check_extras() -> None:
    missing = [name for module, name in _EXTRAS.items() if find_spec(module) is None]
    if missing:
        raise CommandError(f"the demonstration needs {', '.join(missing)}: pip install 'anyops[demo]'")


def _progress() -> Progress:
    columns = (TextColumn("{task.description:11}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _usable(libraries: list[Library], device: str | None, progress: Progress) -> list[str]:
    """Load array libraries; leave out those that do not work here, unless it is the only one."""
    usable = []
    for library in progress.track(libraries, description="Loading"):
        try:
            to_backend(np.empty(0, dtype=np.float32), library.value, device)
        except (RuntimeError, ValueError, TypeError) as error:  # not installed, no such device, not this dtype there
            if len(libraries) == 1:
                raise CommandError(str(error)) from None
        else:
            usable.append(library.value)
    return usable


def _print(figures: dict[str, Any], output: Path) -> None:
    backends = [entry["backend"] for entry in figures["backends"]]
    title = f"{figures['digits']} digits in {figures['scenes']} scenes; boxes and AP on {backends[0]}"
    table = Table("method", "parameters", title=title)
    for heading in ("boxes", "AP", "AP50", *(f"{backend}\nms" for backend in backends)):
        table.add_column(heading, justify="right")
    rows = [{"method": "raw", "parameters": {}, **figures["raw"], "milliseconds": {}}, *figures["methods"]]
    for row in rows:
        table.add_row(
            row["method"],
            " ".join(f"{name}={value}" for name, value in row["parameters"].items()),
            f"{row['boxes']:,}",
            *(f"{row[name]:.3f}" for name in ("ap", "ap50")),
            *(f"{row['milliseconds'][name]:,.1f}" if row["milliseconds"] else "" for name in backends),
        )
    Console().print(table)
    typer.echo(f"Look at {output / 'methods.png'} and {output / 'scene.png'}")
