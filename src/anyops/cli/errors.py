"""Errors that a user can correct: one line on standard error, with exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


class CommandError(Exception):
    """The call, its input or the path of its output is wrong; the message says which and how."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a :class:`CommandError` into its message on standard error and exit code 2."""
    try:
        yield
    except CommandError as error:
        # Messages quote file names and other libraries, either of which may hold line breaks.
        typer.echo(f"anyops: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None
