"""The ``anyops`` app with its subcommands."""

from typing import Annotated

import typer

from .._version import __version__
from .anchors import anchors
from .backends import backends
from .nms import nms

# pretty_exceptions off: errors that a user can fix are one line (errors.py); a traceback is a bug, and looks like one.
app = typer.Typer(
    help="Detection ops on the array library of your choice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(nms)
app.command()(anchors)
app.command()(backends)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"anyops {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Detection ops on the array library of your choice."""
