import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_ci_runs_the_command_of_the_readme():
    command = CI.strip().splitlines()[-1]
    assert "nox" in command
    assert command in README.splitlines()


def test_ci_stops_at_the_first_failure():
    assert "set -euo pipefail" in CI
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_nox_is_the_pinned_one():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"nox==([\d.]+)", CI) == re.findall(r"^nox==([\d.]+)$", pins, re.M)
