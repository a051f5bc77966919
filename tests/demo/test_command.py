import base64
import html
import html.parser
import json
import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from pycocotools.coco import COCO

import demo as module
from digits.methods import METHODS
from digits.training import RATIO


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """Run the demonstration with these arguments in an empty folder; return exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        code = 0
        try:
            module.main(arguments)
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return invoke


@pytest.fixture
def coarse(monkeypatch):
    """Pictures of few pixels, because the pictures of all methods take half a minute otherwise."""
    fine = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *args, **options: fine(*args, **options | {"dpi": 20}))


def test_everything_is_written(demo, tmp_path, monkeypatch, coarse):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = demo("--backend", "numpy", "--scenes", "1", "--training-scenes", "1", "--seed", "3")
    assert code == 0
    folder = tmp_path / "demo"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert {path.name for path in folder.iterdir()} == {
        *("report.html", "summary.json", "scene.png", "methods.png", "raw.json", "kept.json", "ground_truth.json")
    }
    contents = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    summary, raw, kept = contents["summary"], contents["raw"], contents["kept"]
    settings = {"scenes": 1, "training_scenes": 1, "seed": 3, "digits": 40}
    assert {key: summary[key] for key in settings} == settings
    (backend,) = summary["backends"]
    assert (backend["backend"], backend["version"]) == ("numpy", np.__version__)
    assert all(seconds > 0 for seconds in backend["seconds"].values())
    assert summary["training"]["background"] == RATIO * summary["training"]["on_digits"]
    focal, plain = (summary["training"]["classifiers"][loss] for loss in ("focal", "cross-entropy"))
    assert focal["easy_background_share_of_loss"] < plain["easy_background_share_of_loss"] / 3
    assert 10 < plain["digits_found_above_one_half"] <= 40
    rows = {row["method"]: row for row in summary["methods"]}
    assert list(rows) == [method.name for method in METHODS]
    assert (summary["raw"]["boxes"], rows["nms"]["boxes"]) == (len(raw), len(kept))
    for name, row in rows.items():
        for loss in ("cross-entropy", "focal"):
            assert 0.1 < row["ap"][loss] < row["ap50"][loss] < 1
        assert row["milliseconds"]["numpy"] > 0
        (line,) = [line for line in out.splitlines() if f" {name} " in line]
        assert f"{row['boxes']:,}" in line
        assert all(f"{row['ap'][loss]:.3f}" in line for loss in ("cross-entropy", "focal"))
    assert len(contents["ground_truth"]["annotations"]) == 40
    assert all(record in raw for record in kept)
    for name in ("scene.png", "methods.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "demo/report.html" in out.replace("\\", "/")
    assert "sliding windows" in err
    truth = COCO(folder / "ground_truth.json")
    assert len(truth.loadRes(str(folder / "kept.json")).anns) == len(kept)
    _check_page((folder / "report.html").read_text(encoding="utf-8"), summary)


def _check_page(page, summary):
    """It is well-formed, loads nothing from elsewhere, and has the numbers of the summary."""
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.pictures) == 10 + len(METHODS)
    for source in parser.pictures:
        kind, data = source.split(";base64,")
        content = base64.b64decode(data)
        if kind == "data:image/png":
            assert content.startswith(b"\x89PNG")
        else:
            assert kind == "data:image/svg+xml"
            assert content.startswith(b"<?xml")
            assert content.rstrip().endswith(b"</svg>")
    without_pictures = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"https?:|url\(|<script|<link|@import", without_pictures)
    for row in summary["methods"]:
        assert html.escape(row["call"]) in page
        assert f"{row['ap']['cross-entropy']:.3f}" in without_pictures
    found = summary["training"]["classifiers"]["focal"]["digits_found_above_one_half"]
    assert f"above one half find {found} digits" in without_pictures


class Page(html.parser.HTMLParser):
    """Elements that are open, and the sources of pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.pictures = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])
            assert dict(attrs)["alt"]
        if tag not in ("img", "input", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_filled_folder_is_refused_at_once(demo, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").touch()
    code, _, told = demo("--backend", "numpy")
    assert code == 2
    assert told.endswith("error: demo: is not empty; --force replaces the files of an earlier run\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "--device needs --backend"),
        (["--backend", "numpy", "--device", "abacus"], "--device must be one of cpu for numpy, got 'abacus'"),
        (["--backend", "numpy", "--output", "none/demo"], "is not a folder"),
        (["--scenes", "0"], "--scenes: expected an integer of at least 1, got '0'"),
        (["--seed", "one"], "--seed: expected an integer of at least 0, got 'one'"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(arguments, message, demo, tmp_path):
    code, _, told = demo(*arguments)
    assert code == 2
    assert message in told
    assert list(tmp_path.iterdir()) == []


def test_missing_library_is_told(demo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, _, told = demo("--backend", "cupy")
    assert code == 2
    assert "cupy cannot be used: not installed" in told
    assert list(tmp_path.iterdir()) == []


def test_libraries_that_do_not_work_are_left_out(monkeypatch):
    for name in ("torch", "jax", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert module.usable(None, None) == ["numpy"]


def test_devices_are_known_by_their_kind_too():
    assert module.usable("numpy", "cpu") == ["numpy"]
    pytest.importorskip("jax")
    assert module.usable("jax", "cpu") == module.usable("jax", "cpu:0") == ["jax"]


def test_disagreement_is_an_error(demo, monkeypatch):
    class Report:
        def disagreeing(self):
            return ["nms after focal on torch", "wbf after focal on jax"]

    monkeypatch.setattr(module, "run", lambda *args, **options: Report())
    monkeypatch.setattr(module, "write", lambda *args: None)
    monkeypatch.setattr(module, "_print", lambda *args: None)
    monkeypatch.setattr(module, "summary", lambda report: {})
    told = "AP differs from numpy, which is a bug: nms after focal on torch, wbf after focal on jax"
    assert demo("--backend", "numpy")[0] == told  # which Python prints, with exit code 1
