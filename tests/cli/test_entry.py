import json
import re

import pytest

import anyops


@pytest.mark.parametrize("absent", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(python, absent):
    result = python(f"import sys; sys.modules[{absent!r}] = None; from anyops.cli import main; main()")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "pip install 'anyops[cli]'" in result.stderr


def test_a_fault_of_another_import_is_not_blamed_on_the_extra(python):
    pytest.importorskip("typer", reason="without the extra, that is the fault which is found first")
    result = python("import sys; sys.modules['anyops.cli.files'] = None; from anyops.cli import main; main()")
    assert "pip install" not in result.stderr
    assert "anyops.cli.files" in result.stderr


def test_importing_anyops_does_not_import_the_command_line(python):
    result = python("import anyops, sys; print(sorted({'typer', 'rich', 'anyops.cli'} & sys.modules.keys()))")
    assert result.stdout.strip() == "[]", result.stderr


def test_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"anyops {anyops.__version__}\n")


def test_backends_as_json(run):
    result = run("backends", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert [list(entry) for entry in told] == [["name", "version", "devices", "reason"]] * len(anyops.backends())
    assert told[0] == {
        "name": "numpy",
        "version": pytest.importorskip("numpy").__version__,
        "devices": ["cpu"],
        "reason": None,
    }


def test_backends_as_a_table_gives_versions_and_reasons_without_colour(run, monkeypatch):
    entries = (
        anyops.Backend("numpy", "9.8.7", ("cpu",), None),
        anyops.Backend("cupy", None, (), "not installed: [cupy]"),
    )
    monkeypatch.setattr(anyops, "backends", lambda: entries)
    result = run("backends")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    rows = [re.findall(r"[^│┃|]+", line) for line in result.stdout.splitlines() if "numpy" in line or "cupy" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["numpy", "9.8.7", "cpu", "usable"],
        ["cupy", "-", "-", "not installed: [cupy]"],
    ]
