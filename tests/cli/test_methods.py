"""The output of the variants of suppression, and their options."""

import csv
import inspect
import io
import json
import math
import random
import re

import numpy as np
import pytest

import anyops
from anyops.boxes.aligned import KINDS
from anyops.suppression import cluster, fusion, matrix, soft
from tests.backends import Backend
from tests.cli.test_nms import OPTIONS, crowd, detection

pytest.importorskip("typer")
import typer

from anyops.cli import methods
from anyops.cli._app import app
from anyops.cli.methods import Method

# Half of the first overlaps the second, which overlaps nothing else; the third is alone.
PAIR = [
    detection(1, 1, [0, 0, 10, 10], 0.9),
    detection(1, 1, [0, 0, 10, 5], 0.8),
    detection(1, 1, [20, 0, 10, 10], 0.7),
]
# Of IoU 0.9.
NEAR = [detection(1, 1, [0, 0, 10, 10], 0.75), detection(1, 1, [0, 0, 10, 9], 0.25)]


@pytest.fixture
def suppressed(run, tmp_path):
    """Return the records that the command writes."""

    def written(detections, *options):
        (tmp_path / "in.json").write_text(json.dumps(detections))
        result = run("nms", "in.json", "-o", "out.json", "--force", *options)
        assert result.exit_code == 0, result.stderr
        return json.loads((tmp_path / "out.json").read_text())

    return written


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {0: 0.9, 1: 0.8, 2: 0.7}),
        (["--iou-threshold", "0.25"], {0: 0.9, 2: 0.7}),
        (["--method", "nms", "--iou-threshold", "0.25"], {0: 0.9, 2: 0.7}),
        (["--method", "fast", "--iou-threshold", "0.25"], {0: 0.9, 2: 0.7}),
        (["--method", "soft"], {0: 0.9, 1: 0.8 * math.exp(-0.5), 2: 0.7}),
        (["--method", "soft", "--sigma", "0.25"], {0: 0.9, 1: 0.8 * math.exp(-1), 2: 0.7}),
        (["--method", "soft", "--decay", "gaussian", "--sigma", "1"], {0: 0.9, 1: 0.8 * math.exp(-0.25), 2: 0.7}),
        (["--method", "soft", "--decay", "linear"], {0: 0.9, 1: 0.4, 2: 0.7}),
        (["--method", "soft", "--decay", "linear", "--iou-threshold", "0.5"], {0: 0.9, 1: 0.8, 2: 0.7}),
        (["--method", "soft", "--decay", "hard"], {0: 0.9, 2: 0.7}),
        (["--method", "soft", "--score-threshold", "0.5"], {0: 0.9, 2: 0.7}),
        (["--method", "soft", "--max-output", "2"], {0: 0.9, 2: 0.7}),  # the second fell behind the third
        (["--method", "cluster"], {0: 0.9, 1: 0.8, 2: 0.7}),
        (["--method", "cluster", "--iou-threshold", "0.25"], {0: 0.9, 2: 0.7}),
        (["--method", "cluster", "--penalty", "score"], {0: 0.9, 1: 0.8 * math.exp(-1.25), 2: 0.7}),
        (["--method", "cluster", "--penalty", "score", "--sigma", "1"], {0: 0.9, 1: 0.8 * math.exp(-0.25), 2: 0.7}),
        (
            ["--method", "cluster", "--penalty", "score+distance"],  # centres 2.5 apart, diagonal of √200
            {0: 0.9, 1: 0.8 * (math.exp(-1.25) + (2.5**2 / 200) ** 0.6), 2: 0.7},
        ),
        (["--method", "weighted"], {0: 0.9, 1: 0.8, 2: 0.7}),
        (["--method", "weighted", "--penalty", "score"], {0: 0.9, 1: 0.8 * math.exp(-1.25), 2: 0.7}),
        (["--method", "matrix"], {0: 0.9, 1: 0.8 * math.exp(-0.5), 2: 0.7}),
        (["--method", "matrix", "--sigma", "4"], {0: 0.9, 1: 0.8 * math.exp(-1), 2: 0.7}),
        (["--method", "matrix", "--kernel", "linear"], {0: 0.9, 1: 0.4, 2: 0.7}),
        (["--method", "matrix", "--kernel", "linear", "--kind", "ios"], {0: 0.9, 2: 0.7}),
        (["--method", "matrix", "--kernel", "linear", "--score-threshold", "0.4"], {0: 0.9, 2: 0.7}),
        (["--method", "matrix", "--max-output", "1"], {0: 0.9}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_new_scores_by_hand(suppressed, options, expected):
    written = suppressed([d | {"n": n} for n, d in enumerate(PAIR)], *options)
    assert {d["n"]: d["score"] for d in written} == pytest.approx(expected, rel=1e-11)
    assert [d["bbox"] for d in written] == [PAIR[d["n"]]["bbox"] for d in written]


def test_categories_leave_each_other_alone_unless_told(suppressed):
    pair = [PAIR[0], PAIR[1] | {"category_id": 2}]
    assert suppressed(pair, "--method", "soft") == pair
    assert suppressed(pair, "--method", "soft", "--class-agnostic")[1]["score"] == pytest.approx(0.8 * math.exp(-0.5))


def test_weighted_boxes_by_hand(suppressed):
    (written,) = suppressed([d | {"note": "mine"} for d in NEAR], "--method", "weighted")
    share = 0.25 * 0.9 / (0.75 + 0.25 * 0.9)
    assert written.pop("bbox") == pytest.approx([0, 0, 10, 10 - share], rel=1e-11)
    assert written == {"image_id": 1, "category_id": 1, "score": 0.75, "note": "mine"}


def test_most_output_counts_in_each_image_by_new_scores(suppressed):
    scene = [d | {"image_id": image, "n": n} for n, d in enumerate(PAIR) for image in ("a", "b")]
    written = suppressed(scene, "--method", "matrix", "--max-output", "2")
    assert [(d["image_id"], d["n"]) for d in written] == [("a", 0), ("b", 0), ("a", 2), ("b", 2)]


# Against the functions, called for each image and category by itself

VARIANTS = {
    "soft": (["--method", "soft"], {}),
    "soft linear": (["--method", "soft", "--decay", "linear", "--kind", "giou"], {"decay": "linear", "kind": "giou"}),
    "fast": (["--method", "fast"], {}),
    "cluster": (["--method", "cluster", "--penalty", "score+distance"], {"penalty": "score+distance"}),
    "weighted": (["--method", "weighted", "--iou-threshold", "0.3"], {"iou_threshold": 0.3}),
    "matrix": (["--method", "matrix", "--score-threshold", "0.1"], {"score_threshold": 0.1}),
}


def by_class(detections):
    classes = {}
    for n, d in enumerate(detections):
        classes.setdefault((d["image_id"], d["category_id"]), []).append(n)
    return classes


def arrays(detections):
    boxes = np.asarray([d["bbox"] for d in detections], dtype=np.float64)
    return anyops.box_convert(boxes, "xywh", "xyxy"), np.asarray([d["score"] for d in detections])


def expected_records(function, detections, options):
    found = {}
    for members in by_class(detections).values():
        boxes, scores = arrays([detections[n] for n in members])
        result = function(boxes, scores, **options)
        indices = result.indices if isinstance(result, tuple) else result
        scores = result.scores if isinstance(result, tuple) else scores[indices]
        boxes = anyops.box_convert(getattr(result, "boxes", boxes[indices]), "xyxy", "xywh")
        for i, score, bbox in zip(indices, scores, boxes, strict=True):
            found[members[i]] = (float(score), bbox.tolist())
    return {n: found[n] for n in sorted(found)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_functions_on_every_backend(suppressed, backend, variant):
    if backend not in OPTIONS:
        pytest.skip(f"anyops nms does not offer {backend}")
    options, keywords = VARIANTS[variant]
    detections = crowd(200, seed=3)
    function = getattr(anyops, Method(options[1]).function)
    expected = expected_records(function, detections, keywords)
    assert 20 < len(expected) <= 200
    written = suppressed([d | {"n": n} for n, d in enumerate(detections)], *options, *OPTIONS[backend])
    tolerance = (
        {"rel": 1e-4, "abs": 1e-5} if backend in (Backend.JAX_CPU, Backend.JAX_GPU) else {"rel": 1e-10, "abs": 1e-10}
    )
    assert [d["n"] for d in written] == list(expected)
    assert [d["score"] for d in written] == pytest.approx([score for score, _ in expected.values()], **tolerance)
    boxes = np.asarray([bbox for _, bbox in expected.values()])
    assert np.asarray([d["bbox"] for d in written]) == pytest.approx(boxes, **tolerance)


# Only changed numbers are rewritten

JSON_TEXT = """[
  {"image_id": 1, "category_id": 1, "score": 0.750, "bbox": [0, 0.0, 1e1, 10.000], "mask": {"score": 0.5, "bbox": []}},
  {"note": "\\u00e9é]}\\"", "rank"
    : 9, "bbox" :[ 0,0, 10,9 ]  , "image_id":1,"category_id":1,"score": 0.25 },
  {"image_id": 1, "category_id": 1, "score": 0.50, "bbox": [100, 0.10, 0.2, 10], "empty": {}}
]
"""


def test_json_but_for_new_numbers_is_untouched_to_the_character(run, tmp_path):
    (tmp_path / "in.json").write_text(JSON_TEXT)
    assert run("nms", "in.json", "-o", "out.json", "--method", "soft").exit_code == 0
    fallen = f"{0.25 * math.exp(-0.81 / 0.5):.12g}"
    assert (tmp_path / "out.json").read_text() == JSON_TEXT.replace("0.25 }", f"{fallen} }}")
    assert run("nms", "in.json", "-o", "out.json", "--force", "--method", "weighted").exit_code == 0
    first, others = JSON_TEXT.split("  {", 2)[1:]
    height = 10 - 0.25 * 0.9 / (0.75 + 0.25 * 0.9)
    moved = first.replace("[0, 0.0, 1e1, 10.000]", f"[0.0, 0.0, 10.0, {height:.12g}]")
    kept = "  {" + others.split("  {")[1]
    assert (tmp_path / "out.json").read_text() == f"[\n  {{{moved}{kept}"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("one_column", [False, True])
@pytest.mark.parametrize("method", ["soft", "weighted"])
def test_csv_but_for_new_numbers_is_untouched_to_the_character(run, tmp_path, newline, one_column, method):
    def text(first_box, second_score):
        boxes = [["0", "0.0", "1e1", first_box], ["0", "0", "10", "9"], ["100", "0.10", "0.2", "10"]]
        cells = [f'"[{", ".join(box)}]"' if one_column else ",".join(box) for box in boxes]
        rows = [
            "score,name,{},image_id,category_id,last".format("bbox" if one_column else "x,y,w,h"),
            f'0.750,"a, ""quoted"" name",{cells[0]}, 1 ,cat,',
            f'{second_score},"two\nlines",{cells[1]},1,cat,""',
            f'"0.50",é "x",{cells[2]},1,cat,0.25',
        ]
        return newline.join(rows)

    before = text("10.000", "0.25")
    (tmp_path / "in.csv").write_bytes(before.encode())
    result = run("nms", "in.csv", "-o", "out.csv", "--method", method)
    assert result.exit_code == 0, result.stderr
    after = (tmp_path / "out.csv").read_bytes().decode()
    if method == "soft":
        assert after == text("10.000", f"{0.25 * math.exp(-0.81 / 0.5):.12g}")
    else:
        height = f"{10 - 0.25 * 0.9 / (0.75 + 0.25 * 0.9):.12g}"
        moved = (
            text(height, "0.25").replace("[0, 0.0, 1e1, ", "[0.0, 0.0, 10.0, ").replace("0,0.0,1e1,", "0.0,0.0,10.0,")
        )
        rows = moved.split(newline)
        assert after == newline.join([*rows[:2], rows[-1]])


@pytest.mark.parametrize("method", ["soft", "weighted"])
def test_records_without_rivals_are_untouched(run, tmp_path, method, backend):
    if backend not in OPTIONS:
        pytest.skip(f"anyops nms does not offer {backend}")
    draw = random.Random(7)
    records = [detection(n, 1, [draw.random(), 1 / 3, 0.1, 1e5 / 7], draw.uniform(0.1, 1)) for n in range(50)]
    (tmp_path / "in.json").write_text(json.dumps(records))
    assert run("nms", "in.json", "-o", "out.json", "--method", method, *OPTIONS[backend]).exit_code == 0
    assert (tmp_path / "out.json").read_text() == (tmp_path / "in.json").read_text()


# Fusion

ONE = [detection(1, 3, [0, 0, 10, 10], 0.75, note="dropped"), detection("x", "y", [0, 0, 5, 5], 0.5)]
TWO = [detection(1, 3, [0, 0, 10, 12], 0.25), detection(1, 7, [20, 0, 10, 10], 0.5)]
FUSED = [0, 0, 10, 10.5]


@pytest.fixture
def fused(run, tmp_path):
    """Return the records that the command writes for several files, as JSON."""

    def written(files, *options):
        names = [f"{n}.json" for n in range(len(files))]
        for name, detections in zip(names, files, strict=True):
            (tmp_path / name).write_text(json.dumps(detections))
        result = run("nms", *names, "-o", "out.json", "--force", "--method", "wbf", *options)
        assert result.exit_code == 0, result.stderr
        assert result.stderr.startswith(f"{sum(map(len, files))} boxes in, ")
        return json.loads((tmp_path / "out.json").read_text())

    return written


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ([ONE, TWO], [], [(FUSED, 0.5), (TWO[1]["bbox"], 0.25), (ONE[1]["bbox"], 0.25)]),
        ([ONE, TWO, []], [], [(FUSED, 1 / 3), (TWO[1]["bbox"], 0.5 / 3), (ONE[1]["bbox"], 0.5 / 3)]),
        ([ONE, TWO], ["--conf-type", "max"], [(FUSED, 0.75), (TWO[1]["bbox"], 0.5), (ONE[1]["bbox"], 0.5)]),
        ([ONE, TWO], ["--max-output", "1"], [(FUSED, 0.5), (ONE[1]["bbox"], 0.25)]),
        ([ONE, TWO], ["--score-threshold", "0.5"], [(ONE[0]["bbox"], 0.375)]),
        (
            [ONE, TWO],  # weighted scores of 0.75 and 0.75; the tie goes to what was founded first, by 1.5
            ["--model-weight", "1", "--model-weight", "3"],
            [(TWO[1]["bbox"], 0.375), ([0, 0, 10, 11], 0.375), (ONE[1]["bbox"], 0.125)],
        ),
        (
            [ONE, TWO],
            ["--iou-threshold", "0.9"],
            [(ONE[0]["bbox"], 0.375), (TWO[1]["bbox"], 0.25), (TWO[0]["bbox"], 0.125), (ONE[1]["bbox"], 0.25)],
        ),
        ([ONE], [], [(ONE[0]["bbox"], 0.75), (ONE[1]["bbox"], 0.5)]),
        ([ONE], ["--model-weight", "2"], [(ONE[0]["bbox"], 0.75), (ONE[1]["bbox"], 0.5)]),
        ([[], []], [], []),
    ],
)
def test_fused_by_hand(fused, files, options, expected):
    written = fused(files, *options)
    assert [d["bbox"] for d in written] == [pytest.approx(bbox, rel=1e-11) for bbox, _ in expected]
    assert [d["score"] for d in written] == pytest.approx([score for _, score in expected], rel=1e-11)


def test_fused_records_have_four_fields_and_ids_as_they_were(fused):
    written = fused([ONE, TWO])
    assert [list(d) for d in written] == [["image_id", "category_id", "bbox", "score"]] * 3
    assert [(d["image_id"], d["category_id"]) for d in written] == [(1, 3), (1, 7), ("x", "y")]


MODELS = [d | {"model": "b=1"} for d in ONE] + [d | {"model": 2} for d in TWO]


@pytest.mark.parametrize(
    ("options", "as_files"),
    [
        ([], []),
        (["--model-weight", "2=3", "--model-weight", "b=1=1"], ["--model-weight", "1", "--model-weight", "3"]),
    ],
)
def test_a_field_that_names_the_model(fused, options, as_files):
    assert fused([MODELS], "--model-field", "model", *options) == fused([ONE, TWO], *as_files)


def test_a_named_model_that_found_nothing_counts(fused):
    weights = [f"--model-weight={name}=1" for name in ("b=1", "2", "idle")]
    assert fused([MODELS], "--model-field", "model", *weights) == fused([ONE, TWO, []])
    assert fused([[]], "--model-field", "model") == []


def test_fusion_on_every_backend(fused, backend):
    if backend not in OPTIONS:
        pytest.skip(f"anyops nms does not offer {backend}")
    detections = crowd(300, seed=4)
    expected = []
    for (image, category), members in by_class(detections).items():
        boxes, scores = arrays([detections[n] for n in members])
        models = np.asarray(members) // 100
        result = anyops.weighted_boxes_fusion(
            boxes, scores, np.zeros(len(members), dtype=int), model_ids=models, model_weights=[1, 1, 1]
        )
        expected += [
            (str(image), str(category), *(round(float(x), 4) for x in (*box, score)))
            for box, score in zip(anyops.box_convert(result.boxes, "xyxy", "xywh"), result.scores, strict=True)
        ]
    written = fused([detections[:100], detections[100:200], detections[200:]], *OPTIONS[backend])
    assert 20 < len(written) < 280
    images = [d["image_id"] for d in written]
    assert list(dict.fromkeys(images)) == list(dict.fromkeys(d["image_id"] for d in detections))
    assert images == sorted(images, key=list(dict.fromkeys(images)).index)
    found = [
        (str(d["image_id"]), str(d["category_id"]), *(round(x, 4) for x in (*d["bbox"], d["score"]))) for d in written
    ]
    for ours, theirs in zip(sorted(found), sorted(expected), strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2:] == pytest.approx(theirs[2:], abs=2e-3 if backend == Backend.JAX_CPU else 2e-4)


@pytest.mark.parametrize("box", [["bbox"], ["x", "y", "w", "h"]])
def test_fused_csv(run, tmp_path, box):
    for name, detections in {"one.csv": ONE, "two.csv": TWO}.items():
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["score", "other", *box, "category_id", "image_id"])
            for d in detections:
                cells = [d["bbox"]] if len(box) == 1 else d["bbox"]
                writer.writerow([d["score"], "?", *cells, f"a, {d['category_id']}", d["image_id"]])
    result = run("nms", "one.csv", "two.csv", "-o", "out.csv", "--method", "wbf")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert "\r" not in text
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["image_id", "category_id", *box, "score"]
    cells = ["[0.0, 0.0, 10.0, 10.5]"] if len(box) == 1 else ["0.0", "0.0", "10.0", "10.5"]
    assert rows[0] == ["1", "a, 3", *cells, "0.5"]
    assert [row[0] for row in rows] == ["1", "1", "x"]
    assert run("nms", "out.csv", "-o", "again.csv").exit_code == 0


def test_fusion_through_the_standard_streams(run, tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(ONE))
    result = run("nms", "one.json", "-", "-o", "-", "--method", "wbf", stdin=json.dumps(TWO).encode())
    assert json.loads(result.stdout)[0]["score"] == 0.5


# Errors: one line that names the option or the file, and nothing written

VALUES = {
    "iou_threshold": ["0.5"],
    "class_agnostic": [],
    "kind": ["iou"],
    "decay": ["linear"],
    "penalty": ["score"],
    "kernel": ["linear"],
    "sigma": ["1"],
    "conf_type": ["avg"],
    "model_weight": ["1"],
    "model_field": ["model"],
}


@pytest.fixture
def refused(run, tmp_path):
    """Assert that the command fails with one line that has these words."""

    def check(*arguments, words, stdin=b""):
        before = sorted(tmp_path.iterdir())
        result = run("nms", *arguments, "-o", "out.json", stdin=stdin)
        assert result.exit_code == 2
        assert result.stderr.startswith("anyops: ")
        assert result.stderr.count("\n") == 1
        assert [word for word in words if word not in result.stderr] == [], result.stderr
        assert sorted(tmp_path.iterdir()) == before

    return check


@pytest.mark.parametrize("method", Method)
def test_an_option_belongs_to_the_methods_whose_functions_take_it(refused, suppressed, method):
    taken = set(inspect.signature(getattr(anyops, method.function)).parameters)
    if method == Method.WBF:
        taken |= {"model_weight", "model_field"}
    else:
        taken.add("class_agnostic")
    beside = {"iou_threshold": ["--decay", "hard"]} if method == Method.SOFT else {}
    if method in {Method.CLUSTER, Method.WEIGHTED}:
        beside["sigma"] = ["--penalty", "score"]
    for name, values in VALUES.items():
        arguments = ["--method", method.value, methods.flag(name), *values, *beside.get(name, [])]
        if name in taken:
            suppressed([d | {"model": "m"} for d in PAIR], *arguments)
        else:
            refused("in.json", *arguments, words=[f"{methods.flag(name)}: ", f"not to {method}"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "soft", "--iou-threshold", "0.5"], ["--iou-threshold", "--decay linear or hard", "got gaussian"]),
        (["--method", "soft", "--sigma", "1", "--decay", "hard"], ["--sigma", "--decay gaussian", "got hard"]),
        (["--method", "matrix", "--sigma", "1", "--kernel", "linear"], ["--sigma", "--kernel gaussian", "got linear"]),
        (["--method", "cluster", "--sigma", "1"], ["--sigma", "--penalty score or score+distance", "got none"]),
        (["--method", "weighted", "--sigma", "1"], ["--sigma", "--penalty score or score+distance", "got none"]),
        (["--sigma", "1"], ["--sigma", "soft, cluster, weighted or matrix", "not to nms"]),
        (["--model-field", ""], ["--model-field", "wbf", "not to nms"]),
        (["two.json"], ["FILE", "wbf", "--method nms", "got 2"]),
        (["two.json", "--method", "wbf", "--model-field", "m"], ["--model-field", "one FILE", "got 2"]),
        (["two.json", "--method", "wbf", "--model-weight", "1"], ["--model-weight", "expected 2", "got 1"]),
        (["--method", "wbf", "--model-weight", "a=1"], ["--model-weight", "number", "got a=1"]),
        (["--method", "wbf", "--model-weight", "-1"], ["--model-weight", "at least 0", "got -1"]),
        (["--method", "wbf", "--model-weight", "nan"], ["--model-weight", "finite", "got nan"]),
        (["--method", "wbf", "--model-weight", "inf"], ["--model-weight", "finite", "got inf"]),
        (["--method", "wbf", "--model-weight", "0"], ["--model-weight", "above 0"]),
        (["--method", "wbf", "--model-field", "m", "--model-weight", "1"], ["--model-weight", "MODEL=WEIGHT", "got 1"]),
        (
            ["--method", "wbf", "--model-field", "m", "--model-weight", "a=1", "--model-weight", "a=2"],
            ["--model-weight", "two for a"],
        ),
        (["-", "-", "--method", "wbf"], ["FILE", "-", "once"]),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit_are_refused_before_reading(refused, options, words):
    refused("absent.json", *options, words=words)


@pytest.mark.parametrize(
    "option",
    [
        *(("--sigma", value) for value in ("0", "-1", "nan", "inf")),
        *(("--decay", "cubic"), ("--kernel", "cubic"), ("--penalty", "none"), ("--conf-type", "mean")),
        ("--method", "greedy"),
    ],
)
def test_a_wrong_value_is_named(run, tmp_path, option):
    result = run("nms", "absent.json", "-o", "out.json", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("contents", "options", "words"),
    [
        ({"a.json": "[]", "b.json": "[1]"}, [], ["b.json: record 0"]),
        ({"a.json": "[]", "b.csv": "x"}, [], ["out.json: the input is CSV"]),
        ({"a.json": "[]", "-": "x"}, [], ["standard input: expected JSON as in a.json, got CSV"]),
        ({"a.json": json.dumps(ONE)}, ["--model-field", "model"], ["a.json: record 0", "model: is missing"]),
        (
            {"a.json": json.dumps([ONE[0] | {"model": 1.5}])},
            ["--model-field", "model"],
            ["a.json: record 0", "model: expected an integer or a string, got 1.5"],
        ),
        (
            {"a.json": json.dumps(MODELS)},
            ["--model-field", "model", "--model-weight", "b=1=1"],
            ["a.json: record 2", "model: expected one of b=1, which have a --model-weight, got 2"],
        ),
        (
            {"a.json": "[]", "b.json": json.dumps([detection(1, 1, [1e308, 0, 1e308, 1], 1)])},
            [],
            ["a.json, b.json: image 1: ", "too large"],
        ),
    ],
)
def test_files_that_cannot_be_fused(refused, tmp_path, contents, options, words):
    for name, text in contents.items():
        if name != "-":
            (tmp_path / name).write_text(text)
    refused(*contents, "--method", "wbf", *options, words=words, stdin=contents.get("-", "").encode())


def test_a_model_without_a_weight_is_named_by_its_line(run, tmp_path):
    rows = ["image_id,category_id,x,y,w,h,score,model", "1,1,0,0,9,9,1,a", "", "1,1,0,0,9,9,1,yol"]
    (tmp_path / "in.csv").write_text("\n".join(rows))
    options = ["--method", "wbf", "--model-field", "model", "--model-weight", "a=2"]
    result = run("nms", "in.csv", "-o", "out.csv", *options)
    assert result.exit_code == 2
    assert "in.csv: line 4: model: expected one of a" in result.stderr


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("image_id,category_id,x,y,w,h,score", ["column model is missing", "and model"]),
        ("image_id,model,category_id,x,y,w,h,score,model", ["column model appears twice"]),
    ],
)
def test_the_column_of_the_model_must_be_there(run, tmp_path, header, words):
    (tmp_path / "in.csv").write_text(header)
    result = run("nms", "in.csv", "-o", "out.csv", "--method", "wbf", "--model-field", "model")
    assert result.exit_code == 2
    assert [word for word in words if word not in result.stderr] == []


def test_a_negative_score_is_no_weight(refused, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps([PAIR[0], PAIR[1] | {"score": -0.5}]))
    refused("in.json", "--method", "weighted", words=["in.json: record 1", "score: expected 0 or more", "got -0.5"])


# The command's help against the functions

ENUMS = {
    methods.OverlapKind: (*KINDS, "probiou"),
    methods.Decay: soft.DECAYS,
    methods.Kernel: matrix.KERNELS,
    methods.Penalty: tuple(penalty for penalty in cluster.PENALTIES if penalty is not None),
    methods.ConfType: fusion.CONF_TYPES,
}


@pytest.mark.parametrize("enum", ENUMS)
def test_choices_are_those_of_the_functions(enum):
    assert tuple(enum) == tuple(ENUMS[enum])


def test_help_tells_methods_and_defaults():
    options = {option.name: option.help for option in typer.main.get_command(app).commands["nms"].params}
    for method in Method:
        for name, parameter in inspect.signature(getattr(anyops, method.function)).parameters.items():
            if name in VALUES and name != "kind":
                assert re.search(rf"\b{method}\b", options[name]), (method, name)
            if (name in VALUES or name == "score_threshold") and parameter.default is not None:
                assert str(parameter.default).removesuffix(".0") in options[name], (method, name)
