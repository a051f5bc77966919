"""The file of results: written whole or not at all, with everything needed to interpret the numbers later."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import re
import resource
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = 1
ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "benchmarks" / "results" / "cpu.json"
PARTIAL = PUBLISHED.with_name("quick.json")
PACKAGES = (
    "anyops",
    "numpy",
    "torch",
    "torchvision",
    "jax",
    "jaxlib",
    "array-api-compat",
    "opencv-python-headless",
    "supervision",
    "pycocotools",
    "optax",
    "scikit-learn",
    "faiss-cpu",
)


def load(path: Path) -> dict[str, Any]:
    """Read results; raise SystemExit with one line if that fails."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}; `python benchmarks/run.py` writes it") from None
    except ValueError as error:
        raise SystemExit(f"{path}: not JSON ({error})") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: not results of schema {SCHEMA}")
    return data


def save(path: Path, data: dict[str, Any]) -> None:
    """Write results to a temporary file, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
        os.chmod(name, 0o644)  # mkstemp makes it private
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def require_same(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise SystemExit if machine or versions differ: the numbers of one table must be comparable."""
    otherwise = [
        f"{name}: {old[part].get(name)} -> {new[part][name]}"
        for part, names in (("machine", ("cpu", "cores", "system")), ("versions", new["versions"]))
        for name in names
        if name != "anyops" and old[part].get(name) != new[part][name]
    ]
    if otherwise:
        raise SystemExit(f"machine or versions differ from the old results, so run everything: {'; '.join(otherwise)}")


def merged(old: dict[str, Any], new: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """Replace results of a run by a later partial run; cases that `order` does not name are dropped.

    `updates` records which results are from which later run.
    """
    whole = {part: new[part] for part in ("memory", "counts") if new[part]}
    what = [*(case["name"] for case in new["cases"]), *whole]
    updates = []
    for earlier in old.get("updates", ()):
        if left := [each for each in earlier["what"] if each not in what]:
            updates.append({**earlier, "what": left})
    others = new["machine"]["cores_used_by_others"]
    updates.append({"date": new["date"], "git": new["git"], "cores_used_by_others": others, "what": what})
    cases = {case["name"]: case for case in (*old["cases"], *new["cases"])}
    return {**old, **whole, "cases": [cases[name] for name in order if name in cases], "updates": updates}


def environment() -> dict[str, Any]:
    """The environment that the numbers depend on, without the names of the machine or its folders."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "machine": {
            "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), **versions()},
    }


def seconds_of_others() -> float | None:
    """CPU seconds that other processes have used since the machine started; None if unknown."""
    try:
        ticks = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return None
    idle = ticks[3] + ticks[4]
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(each.ru_utime + each.ru_stime for each in usage)
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK") - own


def versions() -> dict[str, str | None]:
    """Versions of the measured packages; None for absent ones."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = version_of_uninstalled(package)
    return found


def version_of_uninstalled(package: str) -> str | None:
    """The version of a package that runs from a source tree."""
    try:
        return getattr(importlib.import_module(package), "__version__", None)
    except ImportError:
        return None


def git_state() -> dict[str, Any]:
    """The commit that was measured, and whether the tree differed from it."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def cpu_model() -> str:
    """The model name of the processor."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
