"""Malformed input: one line that names the record and the field, exit code 2, nothing written."""

import gzip
import json

import pytest

GOOD = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}


def after_a_good_one(**changes):
    """Two records, the second of which is changed; None removes a field."""
    record = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return json.dumps([GOOD, record])


WHERE = "record 1 (counted from 0): "

JSON_CASES = {
    "key twice": (
        json.dumps([GOOD, GOOD]).replace("}]", ', "score": 0.25}]'),
        f"{WHERE}score: appears twice, in the object at line 1, column ",
    ),
    "key twice, once escaped": (
        json.dumps([GOOD, GOOD]).replace("}]", ', "sc\\u006fre": 0.25}]'),
        f"{WHERE}score: appears twice, in the object at line 1, column ",
    ),
    "empty": ("", "is empty"),
    "blank": (" \n", "is empty"),
    "BOM alone": ("\ufeff", "is empty"),
    "not JSON": ("hello", "not valid JSON: Expecting value at line 1, column 1"),
    "object": (json.dumps(GOOD), "expected a JSON list of detections, got an object"),
    "ground truth": (
        '{"annotations": []}',
        "expected a JSON list of detections, got an object; this is a file of annotations",
    ),
    "number": ("3", "expected a JSON list of detections, got 3"),
    "open list": ("[", "record 0 (counted from 0): not valid JSON: Expecting value at line 1, column 2"),
    "cut after a record": (
        f"[{json.dumps(GOOD)}",
        "after record 0 (counted from 0): not valid JSON: expected a comma or ]",
    ),
    "cut in a record": (after_a_good_one()[:-20], f"{WHERE}not valid JSON: "),
    "comma too many": ("[{},]".replace("{}", json.dumps(GOOD)), f"{WHERE}not valid JSON: Expecting value"),
    "no comma": (
        f"[{json.dumps(GOOD)}\n{json.dumps(GOOD)}]",
        "after record 0 (counted from 0): not valid JSON: expected a comma or ] at line 2, column 1",
    ),
    "more after the list": ("[]\n[]", "not valid JSON: expected nothing after the list at line 2, column 1"),
    "deep": ("[" * 100_000, "record 0 (counted from 0): not valid JSON: "),
    "integer of 5000 digits": (f"[{'9' * 5000}]", "record 0 (counted from 0): not valid JSON: "),
    "record is a list": (f"[{json.dumps(GOOD)}, [1, 2]]", f"{WHERE}expected an object, got a list of 2"),
    "record is null": (f"[{json.dumps(GOOD)}, null]", f"{WHERE}expected an object, got null"),
    **{
        f"no {name}": (after_a_good_one(**{name: None}), f"{WHERE}{name}: is missing")
        for name in ("image_id", "category_id", "bbox", "score")
    },
    **{
        f"{name} {text}": (
            after_a_good_one(**{name: "VALUE"}).replace('"VALUE"', text),
            f"{WHERE}{name}: expected an integer or a string, got {shown}",
        )
        for name in ("image_id", "category_id")
        for text, shown in {
            "null": "null",
            "1.5": "1.5",
            "true": "true",
            "[1]": "a list of 1",
            "{}": "an object",
        }.items()
    },
    **{
        f"score {text[:20]}": (
            after_a_good_one(score="VALUE").replace('"VALUE"', text),
            f"{WHERE}score: expected a finite number, got {shown}",
        )
        for text, shown in {
            '"0.5"': '"0.5"',
            "null": "null",
            "true": "true",
            "NaN": "NaN",
            "Infinity": "Infinity",
            "-Infinity": "-Infinity",
            "1e999": "Infinity",
            "1" + "0" * 400: "1" + "0" * 56 + "...",
            "[]": "a list of 0",
        }.items()
    },
    **{
        f"bbox {text}": (after_a_good_one(bbox="VALUE").replace('"VALUE"', text), f"{WHERE}bbox: {fault}")
        for text, fault in {
            '"0 0 1 1"': 'expected 4 numbers [x, y, w, h], got "0 0 1 1"',
            "null": "expected 4 numbers [x, y, w, h], got null",
            "7": "expected 4 numbers [x, y, w, h], got 7",
            '{"x": 0}': "expected 4 numbers [x, y, w, h], got an object",
            "[]": "expected 4 numbers [x, y, w, h], got a list of 0",
            "[0, 0, 1]": "expected 4 numbers [x, y, w, h], got a list of 3",
            "[0, 0, 1, 1, 1]": "expected 4 numbers [x, y, w, h], got a list of 5",
            '[0, "0", 1, 1]': 'expected a finite number, got "0"',
            "[0, 0, true, 1]": "expected a finite number, got true",
            "[0, 0, 1, null]": "expected a finite number, got null",
            "[[0], 0, 1, 1]": "expected a finite number, got a list of 1",
            "[NaN, 0, 1, 1]": "expected a finite number, got NaN",
            "[0, Infinity, 1, 1]": "expected a finite number, got Infinity",
            "[0, 0, -1, 1]": "expected a width of 0 or more, got -1.0",
            "[0, 0, 1, -0.5]": "expected a height of 0 or more, got -0.5",
        }.items()
    },
    "a line break in what came": (
        after_a_good_one(score="a\nb"),
        f'{WHERE}score: expected a finite number, got "a\\nb"',
    ),
    "lone surrogate": (after_a_good_one(score="\ud800"), f"{WHERE}score: expected a finite number, got "),
}

HEADER = "image_id,category_id,x,y,w,h,score,name\n"
ROW = "1,1,0,0,1,1,0.5,a\n"
TWO_LINES = '1,1,0,0,1,1,0.5,"a\nb"\n'
NEEDED = "expected image_id, category_id, score and x, y, w, h (or bbox), got "

CSV_CASES = {
    "empty": ("", "is empty"),
    "blank": ("\r\n\n", "is empty"),
    "no header": (ROW, f"line 1: column image_id is missing; {NEEDED}1,1,0,0,1,1,0.5,a"),
    **{
        f"no column {name}": (
            HEADER.replace(f",{name},", ","),
            f"line 1: column {'bbox' if name == 'bbox' else name} is missing; {NEEDED}",
        )
        for name in ("category_id", "x", "h", "score")
    },
    "two descriptions of a box": (
        HEADER.replace("name", "bbox"),
        "line 1: columns bbox and x, y, w, h: expected one description of the box, got both; remove one",
    ),
    "column twice": (HEADER.replace("name", "score"), f"line 1: column score appears twice; {NEEDED}"),
    "semicolons": (HEADER.replace(",", ";"), f"line 1: column image_id is missing; {NEEDED}image_id;category_id;x"),
    "too few cells": (HEADER + ROW + "1,1,0,0,1,1,0.5\n", "line 3: expected 8 cells as in the header, got 7"),
    "too many cells": (HEADER + ROW + "1,1,0,0,1,1,0.5,a,b\n", "line 3: expected 8 cells as in the header, got 9"),
    "after a row of two lines": (HEADER + TWO_LINES + "1\n", "line 4: expected 8 cells as in the header, got 1"),
    "row of two lines": (HEADER + TWO_LINES.replace("0.5", "?"), 'line 2: score: expected a finite number, got "?"'),
    "open quote": (HEADER + ROW + '1,1,0,0,1,1,0.5,"a\n', "line 3: not valid CSV: "),
    "text after a quote": (HEADER + '1,1,0,0,1,1,0.5,"a"b\n', "line 2: not valid CSV: "),
    "no image_id": (HEADER + ROW + ROW.replace("1", "", 1), "line 3: image_id: expected an id, got an empty cell"),
    "no category_id": (HEADER + "1, ,0,0,1,1,0.5,a\n", "line 2: category_id: expected an id, got an empty cell"),
    **{
        f"score {cell!r}": (
            HEADER + ROW + ROW.replace("0.5", cell),
            f'line 3: score: expected a finite number, got "{cell}"',
        )
        for cell in ("", "high", "nan", "inf", "-Infinity", "1e999", "1_0", "0x1", "True")
    },
    **{
        f"{name} {cell!r}": (HEADER + row, f"line 2: {name}: expected {fault}")
        for name, cell, row, fault in [
            ("x", "?", "1,1,?,0,1,1,0.5,a", 'a finite number, got "?"'),
            ("y", "nan", "1,1,0,nan,1,1,0.5,a", 'a finite number, got "nan"'),
            ("w", "-1", "1,1,0,0,-1,1,0.5,a", "a width of 0 or more, got -1.0"),
            ("h", "-2", "1,1,0,0,1,-2,0.5,a", "a height of 0 or more, got -2.0"),
        ]
    },
    **{
        f"bbox {cell}": (f'image_id,category_id,score,bbox\n1,1,0.5,"{cell}"\n', f"line 2: bbox: {fault}")
        for cell, fault in {
            "": 'expected 4 numbers [x, y, w, h], got ""',
            "0 0 1 1": 'expected 4 numbers [x, y, w, h], got "0 0 1 1"',
            "[0, 0, 1]": "expected 4 numbers [x, y, w, h], got a list of 3",
            "[0, 0, 1, NaN]": "expected a finite number, got NaN",
            "[0, 0, 1, true]": "expected a finite number, got true",
            "[0, 0, -1, 1]": "expected a width of 0 or more, got -1.0",
        }.items()
    },
}

GZIPPED = gzip.compress(json.dumps([GOOD] * 100).encode())

BYTES_CASES = {
    "not UTF-8": ("in.json", b'["\xff"]', "expected UTF-8 text, got byte 0xff at offset 2"),
    "UTF-16": ("in.csv", HEADER.encode("utf-16"), "expected UTF-8 text, got byte 0xff at offset 0"),
    "gzip under a plain name": ("in.json", GZIPPED, "expected UTF-8 text, got byte 0x8b at offset 1"),
    "plain under a gzip name": ("in.json.gz", json.dumps([GOOD]).encode(), "not a valid gzip file: "),
    "gzip cut off": ("in.json.gz", GZIPPED[:-10], "not a valid gzip file: "),
    "gzip cut in its header": ("in.csv.gz", GZIPPED[:5], "not a valid gzip file: "),
    "gzip of wrong contents": ("in.json.gz", GZIPPED[:20] + b"\0\0\0\0" + GZIPPED[24:], "not a valid gzip file: "),
    "gzip of wrong checksum": ("in.json.gz", GZIPPED[:-8] + b"\0" * 8, "not a valid gzip file: "),
    "gzip with more after it": ("in.json.gz", GZIPPED + b"more", "not a valid gzip file: "),
    "empty gzip": ("in.csv.gz", gzip.compress(b""), "is empty"),
    "empty file called gzip": ("in.csv.gz", b"", "is empty"),
}

CASES = (
    [pytest.param("in.json", text.encode(), fault, id=f"json: {name}") for name, (text, fault) in JSON_CASES.items()]
    + [pytest.param("in.csv", text.encode(), fault, id=f"csv: {name}") for name, (text, fault) in CSV_CASES.items()]
    + [pytest.param(*case, id=f"bytes: {name}") for name, case in BYTES_CASES.items()]
)


def assert_one_line(result, message):
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"anyops: {message}"), result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    assert len(result.stderr) < 300


@pytest.mark.parametrize(("name", "data", "fault"), CASES)
def test_one_line_and_nothing_written(run, tmp_path, name, data, fault):
    (tmp_path / name).write_bytes(data)
    result = run("nms", name, "-o", name.replace("in", "out"))
    assert_one_line(result, f"{name}: {fault}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"[1]", "record 0 (counted from 0): expected an object, got 1", id="JSON"),
        pytest.param(b'\n {"a": 1}', "expected a JSON list of detections, got an object", id="JSON object"),
        pytest.param(b"hello", f"line 1: column image_id is missing; {NEEDED}hello", id="CSV"),
        pytest.param(GZIPPED[:-10], "not a valid gzip file: ", id="gzip"),
    ],
)
def test_on_standard_input(run, tmp_path, data, fault):
    assert_one_line(run("nms", "-", "-o", "-", stdin=data), f"standard input: {fault}")
    assert list(tmp_path.iterdir()) == []
