"""The ``anyops`` command (extra ``cli``): :func:`main` is its entry point."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the ``anyops`` command with the arguments of the process."""
    try:
        from ._app import app
    except ModuleNotFoundError as error:
        # Any other missing module is a bug of anyops, not a fault of the installation.
        if (error.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        print("anyops: the command line needs typer and rich: pip install 'anyops[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    app(prog_name="anyops")
