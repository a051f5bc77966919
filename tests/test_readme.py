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


def test_workflow_runs_what_everyone_runs():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "- run: .ci/run" in workflow


def test_hooks_are_of_the_pinned_versions():
    pins = set((ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"[\w-]+==[\w.]+", hooks)) <= pins


def test_checklist_is_that_of_the_template():
    checks = [
        re.findall(r"^- \[ \] .*$", (ROOT / name).read_text(encoding="utf-8"), re.M)
        for name in ("CONTRIBUTING.md", ".github/pull_request_template.md")
    ]
    assert checks[0] == checks[1]
    assert len(checks[0]) > 5
