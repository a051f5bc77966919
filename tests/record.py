"""Run the examples of the capability table, and keep what was run, with versions and date: tests/vectors/matrix.json.

    python -m tests.record [PYTEST OPTIONS]
    python -m tests.record -k "kmeans or logistic"    some ops only, beside those of an earlier run
    python -m tests.capabilities > docs/support.md

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

from tests import capabilities
from tests.backends import Backend
from tests.capabilities import RECORD, load

ROOT = Path(__file__).parents[1]
TEST = "tests/test_matrix.py::test_table_is_true"


class Passed:
    """Collects which op has passed on which backend."""

    def __init__(self) -> None:
        self.ops: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """From every worker, as the controller hears of it."""
        if report.when == "call" and report.passed and report.nodeid.startswith(TEST):
            parts = report.nodeid.partition("[")[2].rstrip("]").split("-")
            backend = next(b.value for b in Backend if b.value in parts)
            self.ops.setdefault(backend, []).append(next(op for op in capabilities.OPS if op in parts))


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
        known[backend] = entry | {"date": today, "ops": sorted({*old.get("ops", ()), *ops} & set(capabilities.OPS))}
    part = RECORD.with_suffix(".part")
    part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(RECORD)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
