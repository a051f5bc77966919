"""Run the examples of all ops, record the runs in tests/vectors/matrix.json, and write docs/support.md.

    python -m tests.record [PYTEST OPTIONS]
    python -m tests.record -k "kmeans or logistic"    some ops only; the others keep their earlier runs
    python -m tests.record --page                     only the page, after a declaration has changed

Missing backends keep their entries from earlier runs, perhaps on another machine.
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
    """The record by backend: version, Python, date, and the ops whose examples have passed."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def write(path: Path, text: str) -> None:
    """Write a file atomically."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


# Columns of the first table; the backends of a column differ only in device and precision.
PLACES = {
    "NumPy": (Backend.NUMPY,),
    "strict": (Backend.STRICT,),
    "strictest": (Backend.STRICTEST,),
    "torch": (Backend.TORCH_CPU, Backend.TORCH_CUDA),
    "JAX": (Backend.JAX_CPU, Backend.JAX_X64, Backend.JAX_GPU),
    "CuPy": (Backend.CUPY,),
    "dask": (Backend.DASK,),
}


def runs(known: dict[str, Any]) -> list[str]:
    """The runs behind the table, one line for each library, and the backends that were not run."""
    lines = []
    for backend in map(str, Backend):
        if entry := known.get(backend):
            late = ", ".join(f"`{op}`" for op in OPS if op not in entry["ops"])
            newer = f"; without {late}" if late else ""
            lines.append(f"- {backend}: {entry['version']}, Python {entry['python']}, {entry['date']}{newer}")
    missing = [f"`{b}`" for b in Backend if str(b) not in known]
    return [*lines, *([f"- **Not run**: {', '.join(missing)}. Their columns say what is expected."] if missing else [])]


def render() -> str:
    """The declarations of all ops, as Markdown."""
    notes: list[str] = []

    def marked(word: str, *reasons: str | None) -> str:
        found = list(dict.fromkeys(reason for reason in reasons if reason))
        notes.extend(reason for reason in found if reason not in notes)
        marks = ",".join(str(number) for number in sorted(notes.index(reason) + 1 for reason in found))
        return f"{word}&nbsp;<sup>{marks}</sup>" if marks else word

    def cell(op: str, backends: tuple[Backend, ...]) -> str:
        reasons, *others = ({t: why_not(op, b, t) for t in Transform if t.belongs_to(b)} for b in backends)
        assert all(other == reasons for other in others)
        runs, fails = (
            [str(t) for t, reason in reasons.items() if (reason is None) == there] for there in (True, False)
        )
        word = ("no " + ", ".join(fails) if fails else "✓") if len(fails) < len(runs) else ", ".join(runs) or "no"
        return marked(word, *reasons.values())

    rows = [
        [f"`{op}`" + (f" (`{s.static}`)" if s.static else ""), *(cell(op, backends) for backends in PLACES.values())]
        for op, s in anyops.support().items()
    ]
    programs = [p.call if [q.call for q in Program].count(p.call) == 1 else f"{p.call} ({p.library})" for p in Program]
    static = [op for op in OPS if Program.SCAN.why_not(op) is None]
    held = [
        [f"`{op}`", *(marked("no", reason) if (reason := p.why_not(op)) else "✓" for p in Program)] for op in static
    ]
    lines = [
        "# What runs where",
        "",
        "<!-- written by `python -m tests.record`; with `--page`, from the runs that were kept -->",
        "",
        "Each op on each array library, such as NumPy, PyTorch, JAX and CuPy. ✓: it runs when called directly and",
        "inside the transforms of the library: `jit`, `vmap` and `grad` of JAX; `torch.compile`, `torch.func.vmap`",
        "and autograd. Otherwise the cell says which of these run or do not; *eager* means called directly. For",
        "instance *eager, grad*: it runs directly and under autograd, but not compiled or under `vmap`; *no grad*: it",
        "runs everywhere, also on tensors that need a gradient, but has none; *no*: it raises an error. The",
        "[number](#notes) gives the reason.",
        "",
        "*strict* is array-api-strict; *strictest* is the same with all optional parts of the standard switched off.",
        "`anyops.support()` returns the table in Python. Every supported cell was run successfully, and every",
        "unsupported cell was confirmed to fail, in the [runs below](#runs), which name the ops that they leave out.",
        "",
        *table(["op (its static form)", *PLACES], rows),
        "",
        "## In a program",
        "",
        "Loops and meshes of JAX, graphs of torch, and exported programs. Exported programs were tested with a",
        "number of rows or boxes that varies. [Inside jit, vmap and compile](transforms.md) explains what each",
        "program needs.",
        "",
        "Index ops and fits are not in this table. They run on a mesh, because there they are called eagerly. In all",
        "other programs they raise an error, which names the static form to use instead.",
        "",
        *table(["op", *(name.replace("_", "_<wbr>") for name in programs)], held),
        "",
        "## Notes",
        "",
        *(f"{i}. {note}" for i, note in enumerate(notes, 1)),
        "",
        "## Runs",
        "",
        *runs(load()),
    ]
    return "\n".join(lines) + "\n"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table."""
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


class Passed:
    """Collect the ops that have passed on each backend."""

    def __init__(self) -> None:
        self.ops: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by the controller for reports of every worker."""
        if report.when == "call" and report.passed and report.nodeid.startswith(TEST):
            parts = report.nodeid.partition("[")[2].rstrip("]").split("-")
            backend = next(b.value for b in Backend if b.value in parts)
            self.ops.setdefault(backend, []).append(next(op for op in OPS if op in parts))


def version(backend: Backend) -> str:
    """The library's version, and the device if it is not the host."""
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
    os.environ.setdefault("ANYOPS_BACKENDS", ",".join(map(str, Backend)))  # so that every cell runs
    passed = Passed()
    if status := pytest.main([str(ROOT / TEST), "-q", "-p", "no:cacheprovider", *options], plugins=[passed]):
        return int(status)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    known = load()
    for backend, ops in passed.ops.items():
        entry = {"version": version(Backend(backend)), "python": platform.python_version()}
        old = known.get(backend, {})
        if any(old.get(key) != entry[key] for key in entry):
            old = {}  # runs of another version do not count
        known[backend] = entry | {"date": today, "ops": sorted({*old.get("ops", ()), *ops} & set(OPS))}
    write(RECORD, json.dumps(known, indent=1, sort_keys=True) + "\n")
    write(PAGE, render())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
