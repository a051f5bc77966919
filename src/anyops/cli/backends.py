"""``anyops backends``: the array libraries on this machine."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import anyops


def backends(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell which array libraries can be used here, their versions and devices, or why one cannot."""
    found = anyops.backends()
    if as_json:
        typer.echo(json.dumps([backend._asdict() for backend in found], indent=2))
        return
    table = Table("backend", "version", "devices", "status")
    for backend in found:
        status = "usable" if backend.reason is None else backend.reason
        table.add_row(backend.name, backend.version or "-", " ".join(backend.devices) or "-", Text(status))
    Console().print(table)
