"""`anyops anchors` on COCO annotations. Expected anchors are made by hand."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

# Twenty boxes of each of three sizes, in images of 640 × 480 and of 300 × 600.
SIZES = [(10.0, 20.0), (100.0, 50.0), (300.0, 300.0)]
IMAGES = [{"id": 1, "width": 640, "height": 480}, {"id": "b", "width": 300, "height": 600}]
ANNOTATIONS = [
    {"id": n, "image_id": 1 if n % 2 else "b", "category_id": n % 4, "bbox": [5, 5, *SIZES[n % 3]], "iscrowd": 0}
    for n in range(60)
]
CATEGORIES = [{"id": n, "name": name} for n, name in enumerate(("cat", "dog", "bird", "cat"))]
COCO = {"info": {}, "images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES}


@pytest.fixture
def find(run, tmp_path):
    """Return what the command writes for some contents, and its result."""

    def found(contents, *options):
        (tmp_path / "in.json").write_text(json.dumps(contents))
        result = run("anchors", "in.json", "-o", "out.json", "--force", *options)
        assert result.exit_code == 0, result.stderr
        return json.loads((tmp_path / "out.json").read_text()), result

    return found


def test_by_hand(find):
    written, result = find(COCO, "-k", "3")
    assert written == {
        **{"anchors": [list(size) for size in SIZES], "boxes": [20, 20, 20], "mean_iou": 1.0},
        **{"best_possible_recall": 1.0, "center": "median", "ratio": 4.0, "size": None, "seed": 0},
    }
    rows = [line.split() for line in result.stdout.splitlines() if "33.3%" in line]
    assert [[cell for cell in row if cell not in "│┃|"] for row in rows] == [
        ["1", "10.00", "20.00", "200", "20", "33.3%"],
        ["2", "100.00", "50.00", "5,000", "20", "33.3%"],
        ["3", "300.00", "300.00", "90,000", "20", "33.3%"],
    ]
    assert "mean IoU 1.0000, best possible recall 1.0000 at ratio 4\n" in result.stdout
    assert result.stderr == ""


def test_what_is_left_out_is_told(find):
    others = [
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 7, 0]},
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 0, 7.5]},
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 600, 7], "iscrowd": 1},
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 600, 7], "iscrowd": True},
    ]
    written, result = find(COCO | {"annotations": ANNOTATIONS + others}, "-k", "3")
    assert written["boxes"] == [20, 20, 20]
    assert result.stderr == "ignored: 2 crowds, 2 boxes without area\n"


@pytest.mark.parametrize(
    ("options", "count"),
    [(["dog"], 15), (["1"], 15), (["cat"], 30), (["cat", "--category", "dog"], 45), (["0", "--category", "cat"], 30)],
)
def test_categories_by_name_or_id(find, options, count):
    written, result = find(COCO, "-k", "3", "--category", *options)
    assert sum(written["boxes"]) == count
    assert result.stderr == f"ignored: {60 - count} of other categories\n"


def test_sizes_in_letterboxed_images(find):
    images = [{"id": 1, "width": 640, "height": 480}, {"id": "b", "width": 600, "height": 1280}]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [0, 0, w, h]} for i, w, h in ((1, 60, 40), ("b", 120, 80))]
    written, _ = find({"images": images, "annotations": boxes}, "-k", "1", "--size", "320")
    assert written["anchors"] == [[30.0, 20.0]]
    assert (written["mean_iou"], written["size"]) == (1.0, 320)


def test_the_mean_and_the_ratio(find):
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, w, 10]} for w in (10, 10, 10, 50)]
    options = ["-k", "1", "--ratio", "2.5"]
    (median, _), (mean, _) = (find({"annotations": boxes}, *options, "--center", c) for c in ("median", "mean"))
    assert (median["anchors"], median["best_possible_recall"]) == ([[10.0, 10.0]], 0.75)
    assert (mean["anchors"], mean["best_possible_recall"]) == ([[20.0, 10.0]], 0.75)
    assert median["mean_iou"] == pytest.approx((3 + 0.2) / 4)
    assert mean["mean_iou"] == pytest.approx((1.5 + 0.4) / 4)


def test_another_library(find):
    pytest.importorskip("torch")
    written, _ = find(COCO, "-k", "3", "--backend", "torch")
    assert written["anchors"] == [list(size) for size in SIZES]


def test_standard_streams(run, tmp_path):
    result = run("anchors", "-", "-k", "3", "-o", "-", stdin=gzip.compress(json.dumps(COCO).encode()))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["boxes"] == [20, 20, 20]
    assert "mean IoU" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_picture(run, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "in.json").write_text(json.dumps(COCO))
    assert run("anchors", "in.json", "-k", "3", "--plot", "out.png").exit_code == 0
    assert (tmp_path / "out.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    result = run("anchors", "in.json", "-k", "3", "--plot", "out.png")
    assert (result.exit_code, result.stderr) == (2, "anyops: out.png: exists already; --force replaces it\n")
    assert run("anchors", "in.json", "-k", "1", "--plot", "out.png", "--force").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.json", "out.png"]


def test_a_picture_without_matplotlib_is_refused_before_reading(run, tmp_path, monkeypatch):
    from anyops.cli import anchors

    monkeypatch.setattr(anchors, "find_spec", lambda name: None)
    result = run("anchors", "absent.json", "--plot", "out.png")
    assert (result.exit_code, result.stderr) == (2, "anyops: --plot needs matplotlib: pip install matplotlib\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_on_a_terminal_a_bar_shows_the_iterations(command, tmp_path):
    import pty

    (tmp_path / "in.json").write_text(json.dumps(COCO))
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*command, "anchors", "in.json", "-k", "3"], stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"}, check=True, timeout=120, text=True,
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "iteration" in shown
    assert "mean IoU 1.0000" in shown
    assert "9 anchors" not in done.stdout
    assert "3 anchors for 60 boxes" in done.stdout


def one(**changes):
    """COCO annotations whose second has these fields instead; a field of None is missing."""
    changed = {name: value for name, value in (ANNOTATIONS[1] | changes).items() if value is not None}
    return COCO | {"annotations": [ANNOTATIONS[0], changed, *ANNOTATIONS[2:]]}


def boxes(*sizes, width=640, height=480):
    """COCO annotations of one image with boxes of these sizes."""
    annotations = [{"image_id": 1, "bbox": [0, 0, *size]} for size in sizes]
    return {"images": [{"id": 1, "width": width, "height": height}], "annotations": annotations}


BAD = {
    "a list": ([], [], "in.json: expected COCO annotations, an object with a list of annotations, got a list of 0"),
    "no list": ({}, [], "annotations: is missing"),
    "annotations": ({"annotations": {}}, [], "annotations: expected a list, got an object"),
    "an annotation": ({"annotations": [3]}, [], "annotations[0]: expected an object, got 3"),
    "no bbox": (one(bbox=None), [], "annotations[1]: bbox: is missing"),
    "short bbox": (one(bbox=[1, 2, 3]), [], "annotations[1]: bbox: expected 4 numbers [x, y, w, h], got a list of 3"),
    "text in bbox": (one(bbox=[0, 0, "1", 1]), [], 'annotations[1]: bbox: expected a finite number, got "1"'),
    "negative side": (one(bbox=[0, 0, -1, 1]), [], "annotations[1]: bbox: expected a width of 0 or more, got -1.0"),
    "too few boxes": ({"annotations": ANNOTATIONS[:5]}, [], "in.json: expected at least 9 boxes for 9 anchors, got 5"),
    "unknown image": (one(image_id=7), ["--size", "64"], "annotations[1]: image_id: expected the id of one of the"),
    "no images": ({"annotations": ANNOTATIONS}, ["--size", "64"], "images: is missing"),
    "no size": (COCO | {"images": [{"id": 1, "width": 2}]}, ["--size", "64"], "images[0]: height: is missing"),
    "size of 0": (COCO | {"images": [{"id": 1, "width": 2, "height": 0}]}, ["--size", "64"], "got 2 and 0"),
    "unknown category": (
        COCO,
        ["--category", "cow"],
        "name or id cow, got the names and ids 0, 1, 2, 3, bird, cat, dog",
    ),
    "no categories": ({"annotations": ANNOTATIONS}, ["--category", "cat"], "categories: is missing"),
    "huge box": (boxes([1e300, 1e300], [1, 1]), ["-k", "1"], "numpy cannot compute with these boxes: wh must hold"),
    "tiny image": (
        boxes([1, 1], width=1e-320, height=1e-320),
        ["-k", "1", "--size", "640"],
        "images[0]: expected a width and a height that can be scaled to 640, got 9.99989e-321 and",
    ),
    "side that vanishes": (
        boxes([1, 1], [1e-50, 1], width=1e300, height=1e300),
        ["-k", "1", "--size", "640"],
        "annotations[1]: bbox: expected sides that a float can hold when scaled by 6.4e-298, got 1e-50 and 1",
    ),
    "side that overflows": (
        boxes([1, 1], [1e300, 1], width=1e-10, height=1e-10),
        ["-k", "1", "--size", "640"],
        "annotations[1]: bbox: expected sides that a float can hold when scaled by 6.4e+12, got 1e+300 and 1",
    ),
    **{
        f"iscrowd {value!r}": (
            COCO | {"annotations": [*ANNOTATIONS, ANNOTATIONS[0] | {"iscrowd": value}]},
            [],
            f"annotations[60]: iscrowd: expected 0, 1, true or false, got {json.dumps(value)}",
        )
        for value in (None, "no", 2, 1.0)
    },
    "an image twice": (
        COCO | {"images": [*IMAGES, IMAGES[0]]},
        ["--size", "64"],
        "images[2]: id: expected a unique id, got 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed(run, tmp_path, name):
    contents, options, message = BAD[name]
    (tmp_path / "in.json").write_text(json.dumps(contents))
    result = run("anchors", "in.json", "-o", "out.json", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("anyops: in.json: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("size", [[1e39, 1e39], [1e-50, 1]])
def test_sides_beyond_float32(run, tmp_path, size):
    pytest.importorskip("jax")
    (tmp_path / "in.json").write_text(json.dumps(boxes(size)))
    result = run("anchors", "in.json", "-k", "1", "-o", "out.json", "--backend", "jax")
    assert result.exit_code == 2
    assert result.stderr.startswith("anyops: in.json: jax cannot compute with these boxes: wh must be ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_a_size_beyond_floats(run, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(COCO))
    result = run("anchors", "in.json", "--size", "9" * 309)
    message = "anyops: --size: expected an integer that a float can hold, got one of 309 digits\n"
    assert (result.exit_code, result.stderr) == (2, message)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_is_full(command, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(COCO))
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*command, "anchors", "in.json", "-k", "3"],
            stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, check=False, timeout=120,
        )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == b"anyops: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'in.json: is empty; write {"annotations": []} for no annotations'),
        ('{"annotations": [', "in.json: not valid JSON"),
        ('{"annotations": []} x', "expected nothing after the object at line 1, column 21"),
    ],
)
def test_no_json(run, tmp_path, text, message):
    (tmp_path / "in.json").write_text(text)
    result = run("anchors", "in.json")
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-k", "0"], "-k"),
        (["--ratio", "0.5"], "--ratio"),
        (["--ratio", "nan"], "--ratio"),
        (["--center", "mode"], "--center"),
        (["--size", "0"], "--size"),
        (["--output", "out.csv"], "out.csv"),
        (["--plot", "out.svg"], "out.svg"),
        (["--output", "none/out.json"], "none/out.json"),
        (["--device", "cuda:0"], "device"),
    ],
)
def test_a_wrong_option_is_named(run, tmp_path, options, word):
    (tmp_path / "in.json").write_text(json.dumps(COCO))
    result = run("anchors", "in.json", *options)
    assert result.exit_code == 2
    assert word in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]
