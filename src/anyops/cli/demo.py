"""``anyops demo``: a detector made of the library's parts, on each array library, and a report of it."""

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
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes to find digits in.")] = 24,
    training_scenes: Annotated[int, typer.Option(min=1, help="Number of scenes to learn from.")] = 12,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed draws other scenes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the files of an earlier run in FOLDER.")] = False,
) -> None:
    """Build a detector of handwritten digits from k-means, batch norm, logistic regression and the focal loss, on each
    array library; find digits on crowded pages, suppress by each method, and compare them all.

    FOLDER gets report.html, which tells it with pictures; scene.png (a page before and after nms), methods.png (a part
    of it after each method, their precision and time), summary.json, and the raw boxes, those that nms kept and the
    true ones as COCO JSON.
    """
    with one_line_errors():
        _check_extras()
        if device is not None and backend is None:
            raise CommandError("--device needs --backend, for each library names devices in its own way")
        try:
            check_folder(output, force=force)
            with filled_at_once(output) as folder, _progress() as progress:
                usable = _usable(list(Library) if backend is None else [backend], device, progress)
                report = run(Settings(scenes, training_scenes, seed), usable, progress, device=device)
                write(report, folder)
        except OSError as error:
            raise CommandError(str(error)) from None
    _print(summary(report), output)
    if disagreeing := report.disagreeing():
        typer.echo(f"anyops: another AP than on {usable[0]}, which is a bug: {', '.join(disagreeing)}", err=True)
        raise typer.Exit(1)


def _check_extras() -> None:
    missing = [name for module, name in _EXTRAS.items() if find_spec(module) is None]
    if missing:
        raise CommandError(f"the demonstration needs {', '.join(missing)}: pip install 'anyops[demo]'")


def _progress() -> Progress:
    columns = (TextColumn("{task.description:39}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
    main, other = figures["losses"]
    title = f"{figures['digits']} digits in {figures['scenes']} scenes; boxes and AP on {backends[0]}"
    table = Table("method", title=title)
    for heading in ("boxes", f"AP\n{main}", "AP50\n", f"AP\n{other}", *(f"{backend}\nms" for backend in backends)):
        table.add_column(heading, justify="right")
    rows = [{"method": "raw", **figures["raw"], "milliseconds": {}}, *figures["methods"]]
    for row in rows:
        table.add_row(
            row["method"],
            f"{row['boxes']:,}",
            *(f"{row[field][loss]:.3f}" for field, loss in (("ap", main), ("ap50", main), ("ap", other))),
            *(f"{row['milliseconds'][name]:,.1f}" if row["milliseconds"] else "" for name in backends),
        )
    Console().print(table)
    for entry in figures["backends"]:
        seconds = sum(entry["seconds"].values())
        typer.echo(
            f"{entry['backend']}: {seconds:.0f} s, AP within {entry['largest_ap_difference']:.4f} of {backends[0]}"
        )
    typer.echo(f"Look at {output / 'report.html'}")
