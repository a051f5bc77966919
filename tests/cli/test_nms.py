"""The boxes that `anyops nms` keeps. Expected ones are made by hand or by the sequential definition in Python."""

import csv
import gzip
import io
import json
import random
import sys

import pytest

import anyops
from tests.backends import Backend


def detection(image, category, bbox, score, **others):
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score, **others}


# Two copies of one place and a third aside, twice: in two categories of image 1, then in image 2.
SCENE = [
    detection(1, 1, [0, 0, 10, 10], 0.5),
    detection(1, 1, [1, 0, 10, 10], 0.75),  # IoU with the first: 90 / 110
    detection(1, 1, [50, 50, 10, 10], 0.25),
    detection(1, 2, [0, 1, 10, 10], 0.625),  # overlaps both of category 1
    detection(2, 1, [0, 0, 10, 10], 0.5),
    detection(2, 1, [0, 0, 10, 10], 0.5),  # a tie goes to the first
    detection(2, 2, [5, 0, 10, 10], 0.875),  # IoU with the two before: 50 / 150
]

CASES = [
    ([], [1, 2, 3, 4, 6]),
    (["--class-agnostic"], [1, 2, 4, 6]),
    (["--class-agnostic", "--iou-threshold", "0.25"], [1, 2, 6]),
    (["--iou-threshold", "0.9"], [0, 1, 2, 3, 4, 6]),
    (["--iou-threshold", "1"], [0, 1, 2, 3, 4, 5, 6]),
    (["--score-threshold", "0.5"], [1, 3, 6]),
    (["--max-output", "2"], [1, 3, 4, 6]),
    (["--max-output", "1"], [1, 6]),
    (["--max-output", "0"], []),
    (["--max-output", "2", "--class-agnostic"], [1, 2, 4, 6]),
    (["--iou-threshold", "0.815"], [1, 2, 3, 4, 6]),
    (["--kind", "diou", "--iou-threshold", "0.815"], [0, 1, 2, 3, 4, 6]),  # 90 / 110 - 1 / 221 is less
]


@pytest.fixture
def survivors(run, tmp_path):
    """Return the indices of the records that the command keeps."""

    def kept(detections, *options):
        (tmp_path / "in.json").write_text(json.dumps([d | {"n": n} for n, d in enumerate(detections)]))
        result = run("nms", "in.json", "-o", "out.json", *options)
        assert result.exit_code == 0, result.stderr
        return [d["n"] for d in json.loads((tmp_path / "out.json").read_text())]

    return kept


@pytest.mark.parametrize(("options", "expected"), CASES, ids=lambda value: " ".join(map(str, value)))
def test_by_hand(survivors, options, expected):
    assert survivors(SCENE, *options) == expected


def test_a_small_box_inside_a_large_one_is_a_duplicate_by_ios_alone(survivors):
    nested = [detection(1, 1, [0, 0, 100, 100], 0.9), detection(1, 1, [10, 10, 10, 10], 0.8)]
    assert survivors(nested) == [0, 1]
    assert survivors(nested, "--kind", "ios", "--force") == [0]


def test_ids_of_two_types_are_two_ids(survivors):
    box = [0, 0, 10, 10]
    assert survivors([detection(1, 1, box, 0.9), detection("1", 1, box, 0.8), detection(1, "1", box, 0.7)]) == [0, 1, 2]


def test_boxes_without_area_stay(survivors):
    assert survivors([detection(1, 1, [5, 5, 0, 0], 0.9), detection(1, 1, [5, 5, 0, 0], 0.8)]) == [0, 1]


def sequential_nms(detections, class_agnostic):
    """Greedy NMS at 0.5 by its definition, in integers."""

    def overlap_by_more_than_half(a, b):
        (ax, ay, aw, ah), (bx, by, bw, bh) = a["bbox"], b["bbox"]
        inter = max(0, min(ax + aw, bx + bw) - max(ax, bx)) * max(0, min(ay + ah, by + bh) - max(ay, by))
        return 2 * inter > aw * ah + bw * bh - inter

    def rivals(a, b):
        return a["image_id"] == b["image_id"] and (class_agnostic or a["category_id"] == b["category_id"])

    kept = []
    for n in sorted(range(len(detections)), key=lambda n: (-detections[n]["score"], n)):
        if not any(
            rivals(detections[n], detections[m]) and overlap_by_more_than_half(detections[n], detections[m])
            for m in kept
        ):
            kept.append(n)
    return sorted(kept)


def crowd(n, seed):
    """Many boxes on few places: images interleaved, scores with ties, coordinates below zero too."""
    draw = random.Random(seed)
    return [
        detection(
            draw.choice([3, 1, "b", 7]),
            draw.choice(["cat", 2]),
            [draw.randrange(-20, 20), draw.randrange(-20, 20), draw.randrange(8, 16), draw.randrange(8, 16)],
            draw.randrange(64) / 64,
        )
        for _ in range(n)
    ]


OPTIONS = {
    Backend.NUMPY: [],
    Backend.TORCH_CPU: ["--backend", "torch", "--device", "cpu"],
    Backend.TORCH_CUDA: ["--backend", "torch", "--device", "cuda:0"],
    Backend.JAX_CPU: ["--backend", "jax", "--device", "cpu:0"],
    Backend.JAX_X64: ["--backend", "jax", "--device", "cpu"],
    Backend.JAX_GPU: ["--backend", "jax", "--device", "gpu"],
    Backend.CUPY: ["--backend", "cupy"],
}


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_sequential_definition_on_every_backend(survivors, backend, class_agnostic):
    if backend not in OPTIONS:
        pytest.skip(f"anyops nms does not offer {backend}")
    detections = crowd(400, seed=5)
    expected = sequential_nms(detections, class_agnostic)
    assert 50 < len(expected) < 350  # else the case proves nothing
    agnostic = ["--class-agnostic"] if class_agnostic else []
    assert survivors(detections, *OPTIONS[backend], *agnostic) == expected


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_the_default_device(survivors, library):
    pytest.importorskip(library)
    assert survivors(SCENE, "--backend", library) == [1, 2, 3, 4, 6]


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_every_library_computes_in_float64(survivors, library):
    """Boxes that are equal in float32, and scores that differ in the eleventh digit."""
    pytest.importorskip(library)
    records = [
        {"image_id": 1, "category_id": 1, "bbox": [1e9, 1e9, 10, 10], "score": score}
        for score in (0.30000000001, 0.30000000002)
    ]
    assert survivors(records, "--backend", library) == [1]


def test_all_images_go_through_one_call(survivors, monkeypatch):
    calls = []
    true_nms = anyops.nms
    monkeypatch.setattr(anyops, "nms", lambda *args, **options: calls.append(args) or true_nms(*args, **options))
    survivors(crowd(50, seed=1))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "numpy", "--device", "cuda:0"], ["device", "numpy", "cpu", "cuda:0"]),
        (["--backend", "cupy"], ["cupy", "not installed"]),
    ],
)
def test_what_cannot_be_computed_with_is_told_before_reading(run, tmp_path, monkeypatch, options, words):
    monkeypatch.setitem(sys.modules, "cupy", None)
    result = run("nms", "absent.json", "-o", "out.json", *options)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option",
    [
        ("--iou-threshold", "nan"),
        ("--iou-threshold", "1.5"),
        ("--iou-threshold", "-0.1"),
        ("--score-threshold", "nan"),
        ("--score-threshold", "inf"),
        ("--max-output", "-1"),
        ("--kind", "jaccard"),
        ("--backend", "fortran"),
    ],
)
def test_a_wrong_option_is_named(run, tmp_path, option):
    (tmp_path / "in.json").write_text("[]")
    result = run("nms", "in.json", "-o", "out.json", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr
    assert not (tmp_path / "out.json").exists()


def test_summary_counts_boxes_and_seconds_on_standard_error(run, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(SCENE))
    result = run("nms", "in.json", "-o", "out.json")
    assert result.stdout == ""
    words = result.stderr.split()
    assert words[:6] == ["7", "boxes", "in,", "5", "boxes", "out,"]
    assert (0 < float(words[6]) < 60, words[7:]) == (True, ["seconds"])


# Output equals input, to the character

JSON_TEXT = """ [
  {"image_id": 1, "category_id": 1, "score": 0.50, "bbox": [0, 0.0, 1e1, 10.000], "mask": {"counts": "\\u00e9é]}"}},
  {
    "score": 0.12345678901234567890, "category_id": 1, "image_id": 1, "bbox": [
      50, 0, 10, 10], "note": null, "big": 123456789012345678901234567890
  },
  {"image_id": 1, "category_id": 1, "score": 0.25, "bbox": [1, 0, 10, 10], "dropped": true},
  {"image_id":1,"category_id":1,"bbox":[0,50,10,10],"score":2E-1,"nan":NaN,"empty":[]}
] \n"""


@pytest.mark.parametrize("text", [JSON_TEXT, "\ufeff" + JSON_TEXT, JSON_TEXT.replace("\n", "\r\n")])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_is_untouched_to_the_character(run, tmp_path, text, suffix):
    data = text.encode()
    (tmp_path / f"in.json{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    assert run("nms", f"in.json{suffix}", "-o", "out.json").exit_code == 0
    dropped = next(line for line in text.splitlines(keepends=True) if "dropped" in line)
    assert (tmp_path / "out.json").read_bytes() == text.replace(dropped, "").encode()


@pytest.mark.parametrize("text", ["[]", " [ ]\n", "[\n]"])
def test_no_detections_in_json(run, tmp_path, text):
    (tmp_path / "in.json").write_text(text)
    result = run("nms", "in.json", "-o", "out.json")
    assert result.exit_code == 0
    assert result.stderr.startswith("0 boxes in, 0 boxes out, ")
    assert (tmp_path / "out.json").read_text() == text


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_json_with_the_first_the_last_or_all_records_dropped_is_json(run, tmp_path, layout):
    best, worse = detection(1, 1, [0, 0, 9, 9], 0.9), detection(1, 1, [0, 0, 9, 9], 0.1)
    for records in ([worse, best], [best, worse], [worse, worse, best, worse]):
        (tmp_path / "in.json").write_text(json.dumps(records, **layout))
        for options, expected in (([], [best]), (["--max-output", "0"], [])):
            assert run("nms", "in.json", "-o", "out.json", "--force", *options).exit_code == 0
            assert json.loads((tmp_path / "out.json").read_text()) == expected


CSV_TEXT = """\
score,name,x,y,w,h,image_id,category_id
0.50,"a, ""quoted"" name",0,0.0,1e1,10.000, 1 ,cat
 0.9 ,"two
lines",50,0,10,10,1,cat
0.25,dropped,1,0,10,10,1,cat

0.125,é,1,0,10,10,1,"dog"
0.0625,,1,0,10,10,01,cat"""


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_csv_is_untouched_to_the_character(run, tmp_path, newline, start, end):
    text = (start + CSV_TEXT + end).replace("\n", newline)
    (tmp_path / "in.csv").write_bytes(text.encode())
    result = run("nms", "in.csv", "-o", "out.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("5 boxes in, 4 boxes out, ")
    dropped = f"0.25,dropped,1,0,10,10,1,cat{newline}{newline}"  # the blank line goes too: it is no record
    assert (tmp_path / "out.csv").read_bytes() == text.replace(dropped, "").encode()


def test_csv_with_the_box_in_one_column_as_pandas_writes_it(run, tmp_path):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(SCENE[0]))
    writer.writeheader()
    writer.writerows(SCENE)
    assert '"[0, 0, 10, 10]"' in text.getvalue()
    (tmp_path / "in.csv").write_bytes(text.getvalue().encode())
    assert run("nms", "in.csv", "-o", "out.csv").exit_code == 0
    lines = text.getvalue().splitlines(keepends=True)
    assert (tmp_path / "out.csv").read_bytes() == "".join([lines[0], *(lines[n + 1] for n in [1, 2, 3, 4, 6])]).encode()


def test_a_csv_cell_may_be_long(run, tmp_path):
    limit = csv.field_size_limit()
    text = f"image_id,category_id,x,y,w,h,score,mask\n1,1,0,0,1,1,0.5,{'1' * (limit + 1)}\n"
    (tmp_path / "in.csv").write_text(text)
    assert run("nms", "in.csv", "-o", "out.csv").exit_code == 0
    assert (tmp_path / "out.csv").read_text() == text
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("end", ["", "\n"])
def test_no_detections_in_csv(run, tmp_path, end):
    text = "image_id,category_id,x,y,w,h,score" + end
    (tmp_path / "in.csv").write_text(text)
    assert run("nms", "in.csv", "-o", "out.csv").exit_code == 0
    assert (tmp_path / "out.csv").read_text() == text
