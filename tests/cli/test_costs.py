"""The cost of a large file: calls and memory per record, and progress."""

import json
import random
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("typer")

from anyops.cli import records, suppress
from anyops.cli.files import Format
from anyops.cli.models import Models
from anyops.cli.records import parse
from anyops.cli.suppress import fused, survivors
from tests.calls import counted

N = 5_000


def text_of(form, n=N):
    rng = random.Random(0)
    rows = [
        (i // 10, i % 3, *(round(rng.random() * 90, 2) for _ in range(2)), 30.5, 20, rng.random()) for i in range(n)
    ]
    if form is Format.CSV:
        return "image_id,category_id,x,y,w,h,score\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    keys = ("image_id", "category_id", "bbox", "score")
    return json.dumps([dict(zip(keys, (i, c, box, s), strict=True)) for i, c, *box, s in rows])


@pytest.mark.parametrize("form", Format)
def test_calls_and_memory_of_a_record(form):
    text = text_of(form)
    parse(text, form)
    _, calls = counted(lambda: parse(text, form), ("call",))
    # Of JSON fewer than one; of CSV the line and the row are generated, and so they were before, of 12.
    assert calls < (0.2 if form is Format.JSON else 3.2) * N
    tracemalloc.start()
    try:
        kept = parse(text, form)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 90 * N
    assert len(kept.scores) == N


@pytest.mark.parametrize("form", Format)
def test_signs_of_life(form, monkeypatch):
    monkeypatch.setattr(suppress, "AT_ONCE", 400)
    shares = []
    detections = parse(text_of(form), form, tick=shares.append)
    assert len(shares) == -(-N // records.AT_ONCE)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1, abs=1e-3)
    shares = []
    survivors(
        detections, suppress.Method.NMS, {}, np.asarray, class_agnostic=False, max_output=None, tick=shares.append
    )
    assert len(shares) > 10
    assert shares[-1] == 1


@pytest.mark.parametrize("method", suppress.Method)
def test_scenes_of_some_images_at_a_time_change_nothing(method, monkeypatch):
    """The order of the images in the file does not matter either."""

    def outcome(at_once):
        monkeypatch.setattr(suppress, "AT_ONCE", at_once)
        items = json.loads(text_of(Format.JSON, 300))
        random.Random(1).shuffle(items)
        detections = parse(json.dumps(items), Format.JSON)
        common = {"max_output": 7, "tick": lambda share: None}
        if method is suppress.Method.WBF:
            got = fused([detections], Format.JSON, Models.of([], ["a.json"], None), {}, np.asarray, **common)
        else:
            got = survivors(detections, method, {}, np.asarray, class_agnostic=False, **common)
        return "".join(got.text), got.boxes

    assert outcome(25) == outcome(1 << 18)


def test_the_first_fault_of_a_file_is_told():
    """Although invalid values are found block by block, and invalid text at once."""
    good, bad = '{"image_id":1,"category_id":1,"bbox":[0,0,1,1],"score":0.5}', '{"image_id":true}'
    for items, index in (([good, bad, good], 1), ([good] * 600 + [bad], 600), ([bad] + [good] * 600, 0)):
        for end in ("]", ",,]", "", "x]"):
            with pytest.raises(records.CommandError, match=rf"^record {index} .*image_id"):
                parse("[" + ",".join(items) + end, Format.JSON)
    rows = ["1,1,0,0,1,1,0.5\n"] * 3
    with pytest.raises(records.CommandError, match=r"^line 3: w: expected a width"):
        parse("image_id,category_id,x,y,w,h,score\n" + rows[0] + "1,1,0,0,-1,1,1\n" + rows[0] + '"', Format.CSV)
