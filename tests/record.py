"""Run the examples of all ops, keep what was run in tests/vectors/matrix.json, and write docs/support.md.

    python -m tests.record [PYTEST OPTIONS]
    python -m tests.record -k "kmeans or logistic"    some ops only, beside those of an earlier run
    python -m tests.record --page                     the page from the last runs, after a declaration has changed

Backends that are not here keep the entry that an earlier run, on another machine perhaps, has made.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import anyops
from tests.backends import Backend, Transform, why_not
from tests.programs import Program

ROOT = Path(__file__).parents[1]
TEST = "tests/test_matrix.py::test_declarations_are_true"
RECORD, PAGE = ROOT / "tests" / "vectors" / "matrix.json", ROOT / "docs" / "support.md"
OPS = tuple(anyops.support())


def load() -> dict[str, Any]:
    """What has been kept, by backend: version, Python, date, and the ops whose examples have passed."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def runs(known: dict[str, Any]) -> list[str]:
    """Which run the table rests on, a line for each library, and what was not run."""
    lines = [
        f"- {backend}: {entry['version']}, Python {entry['python']}, {entry['date']}"
        for backend in map(str, Backend)
        if (entry := known.get(backend))
    ]
    missing = [f"`{b}`" for b in Backend if str(b) not in known]
    return [*lines, *([f"- **Not run**: {', '.join(missing)}. Their columns say what is expected."] if missing else [])]


def render() -> str:
    """What all ops declare, as Markdown."""
    known = load()
    backends = [b for b in Backend if b is not Backend.NUMPY_READONLY]
    notes: list[str] = []

    def cell(op: str, backend: Backend) -> str:
        reasons = {t: why_not(op, backend, t) for t in Transform if t.belongs_to(backend)}
        notes.extend(dict.fromkeys(reason for reason in reasons.values() if reason and reason not in notes))
        marks = sorted({notes.index(reason) + 1 for reason in reasons.values() if reason})
        supported = ", ".join(str(t) for t, reason in reasons.items() if reason is None)
        # An op that is newer than the last run there.
        late = " (not run)" if str(backend) in known and op not in known[str(backend)]["ops"] else ""
        return (supported or "no") + late + (f" <sup>{', '.join(map(str, marks))}</sup>" if marks else "")

    rows = [
        [f"`{op}`", s.returns, f"`{s.static}`" if s.static else "", *(cell(op, b) for b in backends)]
        for op, s in anyops.support().items()
    ]
    head = ["op", "returns", "static form", *(f"{b}" if str(b) in known else f"{b} (not run)" for b in backends)]
    programs = [p.call if [q.call for q in Program].count(p.call) == 1 else f"{p.call} ({p.library})" for p in Program]

    def runs_in(op: str, program: Program) -> str:
        reason = program.why_not(op)
        notes.extend([reason] if reason and reason not in notes else [])
        return f"no <sup>{notes.index(reason) + 1}</sup>" if reason else "yes"

    static = [op for op in OPS if Program.SCAN.why_not(op) is None]
    held = [[f"`{op}`", *(runs_in(op, p) for p in Program)] for op in static]
    lines = [
        "# What runs where",
        "",
        "Each op declares this beside its definition (`anyops.support()`); the declarations decide which tests run.",
        "A small number is the reason why something is missing from a cell. What is declared to run has run, and what",
        "is denied has failed, in these runs (`python -m tests.record`; with `--page` it only writes this page):",
        "",
        *runs(known),
        "",
        *table(head, rows),
        "",
        "## In a program",
        "",
        "Loops and meshes of JAX, graphs of torch, and exported programs, all with a number of rows or boxes that may",
        "vary where they are exported. The other ops, whose results have a length by value or end when values say so,",
        "run in none of them and name their static form; on a mesh, which is called eagerly, all of them run.",
        "`nox -s programs` runs every cell. [Inside jit, vmap and compile](transforms.md) says what each needs.",
        "",
        *table(["op", *programs], held),
        "",
        *(f"{i}. {note}" for i, note in enumerate(notes, 1)),
    ]
    return "\n".join(lines) + "\n"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


class Passed:
    """Collects which op has passed on which backend."""

    def __init__(self) -> None:
        self.ops: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """From every worker, as the controller hears of it."""
        if report.when == "call" and report.passed and report.nodeid.startswith(TEST):
            parts = report.nodeid.partition("[")[2].rstrip("]").split("-")
            backend = next(b.value for b in Backend if b.value in parts)
            self.ops.setdefault(backend, []).append(next(op for op in OPS if op in parts))


def version(backend: Backend) -> str:
    """The library's version, and the kind of device where it is not the host."""
    package = {"strict": "array-api-strict", "cupy": "cupy-cuda13x"}.get(backend.library, backend.library)
    found = f"{package} {metadata.version(package)}"
    if backend is Backend.TORCH_CUDA:
        return f"{found}, {importlib.import_module('torch').cuda.get_device_name()}"
    if backend is Backend.JAX_GPU:
        return f"{found}, {backend.device.device_kind}"
    return found


def main(options: list[str]) -> int:
    """Run, and write unless something failed."""
    if options == ["--page"]:
        write(PAGE, render())
        return 0
    os.environ.setdefault("ANYOPS_BACKENDS", ",".join(map(str, Backend)))  # every cell is due then
    passed = Passed()
    if status := pytest.main([str(ROOT / TEST), "-q", "-p", "no:cacheprovider", *options], plugins=[passed]):
        return int(status)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    known = load()
    for backend, ops in passed.ops.items():
        entry = {"version": version(Backend(backend)), "python": platform.python_version()}
        old = known.get(backend, {})
        if any(old.get(key) != entry[key] for key in entry):
            old = {}  # what another version has passed says nothing
        known[backend] = entry | {"date": today, "ops": sorted({*old.get("ops", ()), *ops} & set(OPS))}
    write(RECORD, json.dumps(known, indent=1, sort_keys=True) + "\n")
    write(PAGE, render())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
