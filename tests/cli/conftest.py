"""Running the command in this process and in its own process."""

import subprocess
import sys

import pytest


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `anyops` with these arguments in an empty folder; the result has exit_code, stdout, stderr."""
    testing = pytest.importorskip("typer.testing")
    from anyops.cli._app import app

    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, stdin=b""):
        result = testing.CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def command():
    """Arguments for `subprocess` that start `anyops`."""
    pytest.importorskip("typer")
    return [sys.executable, "-m", "anyops"]


@pytest.fixture
def python(tmp_path):
    """Run a line of Python in its own process."""

    def invoke(code):
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120
        )

    return invoke
