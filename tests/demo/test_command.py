import json
import sys

import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("pycocotools")

import numpy as np
import typer
from rich.progress import Progress
from typer.testing import CliRunner

from anyops.cli import demo as module
from anyops.cli.nms import Library
from anyops.demo.evaluate import Precision
from anyops.demo.methods import METHODS, Suppression
from anyops.demo.run import Report, Settings


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Run `anyops demo` with these arguments in an empty folder; the result has exit_code, stdout, stderr."""
    app = typer.Typer()
    app.command()(module.demo)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_everything_is_written(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = demo("--backend", "numpy", "--scenes", "1", "--seed", "3")
    assert result.exit_code == 0
    folder = tmp_path / "demo"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert {path.name for path in folder.iterdir()} == {
        *("summary.json", "scene.png", "methods.png", "raw.json", "kept.json", "ground_truth.json")
    }
    contents = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    summary, raw, kept = contents["summary"], contents["raw"], contents["kept"]
    assert {key: summary[key] for key in ("scenes", "seed", "digits")} == {"scenes": 1, "seed": 3, "digits": 40}
    (backend,) = summary["backends"]
    assert (backend["backend"], backend["version"]) == ("numpy", np.__version__)
    rows = {row["method"]: row for row in summary["methods"]}
    assert list(rows) == ["nms", "fast", "soft", "cluster", "weighted", "matrix", "wbf"]
    assert (summary["raw"]["boxes"], rows["nms"]["boxes"]) == (len(raw), len(kept))
    for name, row in rows.items():
        assert summary["raw"]["ap"] + 0.05 < row["ap"] < 1
        assert row["milliseconds"]["numpy"] > 0
        (line,) = [line for line in result.stdout.splitlines() if f" {name} " in line]
        assert f"{row['boxes']:,}" in line
        assert f"{row['ap']:.3f}" in line
    assert "iou_threshold=0.3" in result.stdout
    assert len(contents["ground_truth"]["annotations"]) == 40
    assert all(record in raw for record in kept)
    for name in ("scene.png", "methods.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert f"demo/{name}" in result.stdout.replace("\\", "/")
    assert "Detecting" in result.stderr
    from pycocotools.coco import COCO

    truth = COCO(folder / "ground_truth.json")
    assert len(truth.loadRes(str(folder / "kept.json")).anns) == len(kept)


def test_filled_folder_is_refused_at_once(demo, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").touch()
    result = demo()
    assert result.exit_code == 2
    assert result.stderr == "anyops: demo: is not empty; --force replaces the files of an earlier run\n"


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib", "pycocotools"])
def test_missing_extra_is_named(missing, demo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    result = demo()
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert module._EXTRAS[missing] in result.stderr
    assert "pip install 'anyops[demo]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "--device needs --backend"),
        (["--backend", "numpy", "--device", "abacus"], "got 'abacus'"),
        (["--output", "none/demo"], "is not a folder"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(arguments, message, demo, tmp_path):
    result = demo(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_backend_is_told(demo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = demo("--backend", "cupy")
    assert result.exit_code == 2
    assert "cupy cannot be used" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_backends_that_do_not_work_are_left_out(monkeypatch):
    for name in ("torch", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)
    libraries = [Library.NUMPY, Library.TORCH, Library.CUPY]
    assert module._usable(libraries, None, Progress(disable=True)) == ["numpy"]


def test_disagreement_is_an_error(demo, scenes, raw, monkeypatch):
    def suppressions(count, factor=1.0):
        found = raw.take(np.arange(count))
        found = found._replace(scores=found.scores * factor)
        return {method.name: Suppression(np.arange(count), found, "cpu", 1.0) for method in METHODS}

    results = {"numpy": suppressions(60), "torch": suppressions(59), "jax": suppressions(60, 1.01)}
    precisions = {method.name: Precision(0.5, 0.7) for method in METHODS}
    report = Report(Settings(2), scenes, raw, results, Precision(0.3, 0.4), precisions)
    assert report.disagreeing() == [
        *("nms on torch", "fast on torch"),  # one more of many new scores may be above the limit, by rounding
        *("soft on jax", "cluster on jax", "weighted on jax", "matrix on jax", "wbf on jax"),
    ]
    monkeypatch.setattr(module, "run", lambda *args, **options: report)
    monkeypatch.setattr(module, "write", lambda *args: None)
    monkeypatch.setattr(module, "_print", lambda *args: None)
    monkeypatch.setattr(module, "summary", lambda report: {})
    result = demo("--backend", "numpy")
    assert result.exit_code == 1
    assert (
        "anyops: other boxes than on numpy, which is a bug: nms on torch, fast on torch, soft on jax" in result.stderr
    )
