"""The demonstration: every step on each usable array library, with times, and a page with pictures.

    python examples/detector/demo.py                      on all libraries; open demo/report.html
    python examples/detector/demo.py --backend torch --device cuda:0 --output demo-gpu
    python examples/detector/demo.py --scenes 2 --training-scenes 3 --force

The folder gets report.html; scene.png (a page before and after nms), methods.png (a part of it after each method, their
precision and time), summary.json, and the raw boxes, the boxes that nms kept and the true boxes as COCO JSON. The exit
code is 1 if the libraries disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import anyops
from digits.arrays import LIBRARIES
from digits.folder import check_folder, filled_at_once
from digits.run import run, summary, write
from steps import common_parser, settings


def main(argv: Sequence[str] | None = None) -> None:
    parser = common_parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="created if it does not exist"
    )
    parser.add_argument("--force", action="store_true", help="replace the files of an earlier run in FOLDER")
    given = parser.parse_args(argv)
    try:
        libraries = usable(given.backend, given.device)
        check_folder(given.output, force=given.force)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    with filled_at_once(given.output) as folder, _progress() as progress:
        report = run(settings(given), libraries, progress, device=given.device)
        write(report, folder)
    _print(summary(report), given.output)
    if disagreeing := report.disagreeing():
        raise SystemExit(f"AP differs from {libraries[0]}, which is a bug: {', '.join(disagreeing)}")


def usable(library: str | None, device: str | None) -> list[str]:
    """Return the array libraries to run on: the given one, or else all that can be used.

    Raises
    ------
    ValueError
        If the given library, or its device, cannot be used.
    """
    if library is None and device is not None:
        raise ValueError("--device needs --backend, because each library has its own names for devices")
    found = {each.name: each for each in anyops.backends() if each.name in LIBRARIES}
    if library is None:
        return [name for name, each in found.items() if each.reason is None]
    if (why := found[library].reason) is not None:
        raise ValueError(f"{library} cannot be used: {why}")
    places = found[library].devices
    if device is not None and device not in {*places, *(place.partition(":")[0] for place in places)}:
        raise ValueError(f"--device must be one of {', '.join(places)} for {library}, got {device!r}")
    return [library]


def _progress() -> Progress:
    columns = (TextColumn("{task.description:39}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _print(figures: Mapping[str, Any], output: Path) -> None:
    libraries = [entry["backend"] for entry in figures["backends"]]
    main, other = figures["losses"]
    title = f"{figures['digits']} digits in {figures['scenes']} scenes; boxes and AP on {libraries[0]}"
    table = Table("method", title=title)
    for heading in ("boxes", f"AP\n{main}", "AP50\n", f"AP\n{other}", *(f"{library}\nms" for library in libraries)):
        table.add_column(heading, justify="right")
    rows = [{"method": "raw", **figures["raw"], "milliseconds": {}}, *figures["methods"]]
    for row in rows:
        table.add_row(
            row["method"],
            f"{row['boxes']:,}",
            *(f"{row[field][loss]:.3f}" for field, loss in (("ap", main), ("ap50", main), ("ap", other))),
            *(f"{row['milliseconds'][name]:,.1f}" if row["milliseconds"] else "" for name in libraries),
        )
    Console().print(table)
    for entry in figures["backends"]:
        seconds = sum(entry["seconds"].values())
        difference = f"AP within {entry['largest_ap_difference']:.4f} of {libraries[0]}"
        print(f"{entry['backend']}: {seconds:.0f} s, {difference}")
    print(f"open {output / 'report.html'}")


if __name__ == "__main__":
    main()
