"""Boxes of other formats in the command: rotated boxes, four corners, corners instead of sizes."""

import csv
import json
import re

import numpy as np
import pytest

import anyops
from anyops.boxes.regions import FORMATS

pytest.importorskip("typer")
from anyops.cli.methods import BoxFormat
from anyops.cli.records import LAYOUTS

# The first two overlap by .9, upright and lying; the third crosses the first at a right angle, and shares 1/7 with it.
ROTATED = [[50, 50, 40, 10, 30], [50, 50, 10, 40, 120], [50, 50, 40, 10, 120], [90, 90, 40, 10, 30]]
SCORES = [0.9, 0.8, 0.7, 0.6]
KEPT = [0, 2, 3]


def in_format(fmt):
    """The scene in a format: rotated boxes, or for an axis-aligned format their envelopes."""
    boxes = np.array(ROTATED, np.float64)
    if fmt in ("xyxy", "xywh", "cxcywh"):
        boxes[:, 4] = 0
        boxes[1, 2:4] = 40, 9
    return boxes.tolist() if fmt == "cxcywhr" else anyops.box_convert(boxes, "cxcywhr", fmt).tolist()


def write(path, fmt, form, boxes=None):
    """A file of the scene in COCO's results, in columns of CSV, or in CSV with one column bbox."""
    boxes = in_format(fmt) if boxes is None else boxes
    rows = [{"image_id": 1, "category_id": 1, "bbox": b, "score": s} for b, s in zip(boxes, SCORES, strict=True)]
    if form == "json":
        path.write_text(json.dumps(rows))
        return rows
    columns = ["bbox"] if form == "bbox" else list(LAYOUTS[fmt].columns)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "category_id", *columns, "score"])
        for row in rows:
            writer.writerow([1, 1, *([json.dumps(row["bbox"])] if form == "bbox" else row["bbox"]), row["score"]])
    return path.read_text().splitlines()[1:]


@pytest.mark.parametrize("fmt", list(BoxFormat))
@pytest.mark.parametrize("form", ["json", "csv", "bbox"])
def test_every_format(run, tmp_path, fmt, form):
    suffix = "json" if form == "json" else "csv"
    rows = write(tmp_path / f"in.{suffix}", fmt, form)
    result = run("nms", f"in.{suffix}", "-o", f"out.{suffix}", "--fmt", fmt)
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / f"out.{suffix}").read_text()
    kept = json.loads(text) if form == "json" else text.splitlines()[1:]
    along = fmt in ("xyxy", "xywh", "cxcywh")  # there the third is the first
    assert kept == [rows[i] for i in ([0, 3] if along else KEPT)]


@pytest.mark.parametrize("method", ["nms", "fast", "soft", "cluster", "matrix"])
def test_every_method(run, tmp_path, method):
    write(tmp_path / "in.json", "cxcywhr", "json")
    options = ["--penalty", "score"] if method == "cluster" else []
    result = run("nms", "in.json", "-o", "out.json", "--fmt", "cxcywhr", "--method", method, *options)
    assert result.exit_code == 0, result.stderr
    kept = {tuple(row["bbox"]): row["score"] for row in json.loads((tmp_path / "out.json").read_text())}
    first, same, across, apart = map(tuple, in_format("cxcywhr"))
    assert (kept[first], kept[apart]) == (0.9, 0.6)
    if method in ("nms", "fast"):
        assert same not in kept
        assert kept[across] == 0.7
    else:
        assert kept.get(same, 0) < 0.3
        assert 0.6 < kept[across] < 0.7


def test_gaussians(run, tmp_path):
    write(tmp_path / "in.json", "cxcywhr", "json")
    result = run("nms", "in.json", "-o", "out.json", "--fmt", "cxcywhr", "--kind", "probiou", "--iou-threshold", "0.2")
    assert result.exit_code == 0, result.stderr
    over = anyops.box_iou(np.array(ROTATED, float), np.array(ROTATED, float), fmt="cxcywhr", kind="probiou")
    assert over[0, 1] == pytest.approx(1)
    assert over[0, 2] > 0.2
    assert [row["score"] for row in json.loads((tmp_path / "out.json").read_text())] == [0.9, 0.6]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fmt", "xyxyr"], ["--fmt", "xyxyr"]),
        (["--fmt", "cxcywhr", "--method", "weighted"], ["--fmt: belongs to --method", "not to weighted"]),
        (["--fmt", "cxcywhr", "--method", "wbf"], ["--fmt: belongs to --method", "not to wbf"]),
        (["--fmt", "cxcywhr", "--kind", "giou"], ["--kind: expected", "probiou for --fmt cxcywhr, got giou"]),
        (["--kind", "probiou"], ["--kind: expected", "ciou for --fmt xywh, got probiou"]),
        (
            ["--fmt", "xyxyxyxy", "--method", "cluster", "--penalty", "score+distance"],
            ["--penalty: expected score for --fmt xyxyxyxy, got score+distance"],
        ),
        (["--fmt", "xyxyxyxy"], ["record 0", "bbox: expected 8 numbers [x1, y1, x2, y2,", "got a list of 5"]),
        ([], ["record 0", "bbox: expected 4 numbers [x, y, w, h], got a list of 5; --fmt cxcywhr or xywhr takes 5"]),
    ],
)
def test_refusals(run, tmp_path, options, words):
    write(tmp_path / "in.json", "cxcywhr", "json")
    result = run("nms", "in.json", "-o", "out.json", *options)
    assert result.exit_code == 2
    assert [word for word in words if word not in " ".join(result.stderr.split())] == []
    assert not (tmp_path / "out.json").exists()


def test_a_negative_side_of_a_rotated_box(run, tmp_path):
    write(
        tmp_path / "in.csv", "cxcywhr", "csv", [[0, 0, 4, 2, 10], [0, 0, 4, -2, 10], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]
    )
    result = run("nms", "in.csv", "-o", "out.csv", "--fmt", "cxcywhr")
    assert result.exit_code == 2
    assert "line 3: h: expected a height of 0 or more, got -2.0" in result.stderr


@pytest.mark.parametrize("asked", [None, "another"])
@pytest.mark.parametrize("fmt", [fmt for fmt in LAYOUTS if fmt != "xywh"])
def test_columns_of_another_format_name_it(run, tmp_path, fmt, asked):
    write(tmp_path / "in.csv", fmt, "csv")
    other = "xywh" if fmt != "xywhr" else "cxcywhr"  # xywh takes its own columns, whatever other columns there are
    result = run("nms", "in.csv", "-o", "out.csv", *(["--fmt", other] if asked else []))
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert re.search(rf"line 1: columns? .*; --fmt {fmt} takes {', '.join(LAYOUTS[fmt].columns)}$", said), said
    assert not (tmp_path / "out.csv").exists()


def test_an_angle_may_be_ignored(run, tmp_path):
    write(tmp_path / "in.csv", "xywhr", "csv")
    assert run("nms", "in.csv", "-o", "out.csv", "--fmt", "xywh").exit_code == 0


def test_columns_are_named(run, tmp_path):
    (tmp_path / "in.csv").write_text("image_id,category_id,cx,cy,w,h,score\n1,1,0,0,1,1,.5\n")
    result = run("nms", "in.csv", "-o", "out.csv", "--fmt", "cxcywhr")
    assert result.exit_code == 2
    assert "column angle is missing; expected image_id, category_id, score and cx, cy, w, h, angle" in result.stderr


def test_formats_are_the_librarys():
    assert set(LAYOUTS) == set(BoxFormat) < set(FORMATS)
    for fmt, layout in LAYOUTS.items():
        assert (len(layout.columns),) == FORMATS[fmt].shape
