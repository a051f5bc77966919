"""The claims of the page about rotated boxes, about other libraries and anyops."""

from pathlib import Path

import numpy as np
import pytest

import anyops
from tests import rotated
from tests.boxes.test_regions import LOOSE

ROOT = Path(__file__).parents[1]
KNOWN, WORST = (rotated.load()[part] for part in ("known", "worst"))
THEIRS = [name for name in rotated.LIBRARIES if name not in rotated.OURS]


def within(dtype, family=""):
    return {"float32": 2e-5, "float64": 1e-10}[dtype] * (20 if family in LOOSE else 1)


@pytest.mark.parametrize("name", rotated.OURS)
def test_ours_is_right_wherever_somebody_is_farthest_off(name):
    dtype = rotated.LIBRARIES[name][1]
    np.testing.assert_allclose(rotated.ask(name, KNOWN), [pair["right"] for pair in KNOWN], atol=within(dtype))
    for pair, got in zip(WORST, rotated.ask(name, WORST), strict=True):
        (want,) = rotated.exact(np.array([pair["a"]]), np.array([pair["b"]]), dtype)
        assert abs(got - want) < within(dtype, pair["family"]), pair


def test_what_is_right_is_exact():
    for pair in KNOWN:
        (want,) = rotated.exact(np.array([pair["a"]]), np.array([pair["b"]]), "float64")
        assert want == pytest.approx(pair["right"], abs=1e-12)
    for pair in WORST:
        dtype = rotated.LIBRARIES[pair["library"]][1]
        assert rotated.exact(np.array([pair["a"]]), np.array([pair["b"]]), dtype) == pytest.approx(
            [pair["right"]], abs=1e-15
        )


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_is_as_recorded(name):
    if why := rotated.missing():
        pytest.skip(why)
    np.testing.assert_allclose(rotated.ask(name, KNOWN), [pair["gives"][name] for pair in KNOWN], atol=1e-6)
    worst = [pair for pair in WORST if pair["library"] == name]
    np.testing.assert_allclose(rotated.ask(name, worst), [pair["gives"] for pair in worst], atol=1e-6)


def test_everyone_else_is_wrong_somewhere():
    for name in THEIRS:
        assert max(abs(pair["gives"] - pair["right"]) for pair in WORST if pair["library"] == name) > 0.5


def test_a_box_within_another_is_not_the_same():
    boxes, scores = np.array([[0.0, 0, 100, 50, 0], [0, 0, 20, 10, 0]]), np.array([0.9, 0.8])
    assert anyops.nms(boxes, scores, 0.5, fmt="cxcywhr").tolist() == [0, 1]
    if why := rotated.missing():
        pytest.skip(why)
    import cv2

    given = [((x, y), (width, height), -angle) for x, y, width, height, angle in boxes.tolist()]
    assert cv2.dnn.NMSBoxesRotated(given, scores.tolist(), 0.0, 0.5).tolist() == [0]


def test_page_is_up_to_date():
    page = ROOT / "docs" / "wrong_there_right_here.md"
    assert page.read_text(encoding="utf-8") == rotated.render(), (
        "run `python -m tests.rotated > docs/wrong_there_right_here.md`"
    )
