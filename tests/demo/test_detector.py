import numpy as np

import anyops
from anyops.demo.detector import CELLS, GRID, MIN_SCORE, detect, detect_all
from anyops.demo.scenes import INK, PAGE, draw_digits, ink_box


def test_templates_are_normalised(templates):
    assert templates.patterns.shape == (100, CELLS**2)
    assert np.allclose(templates.patterns.mean(axis=1), 0, atol=1e-6)
    assert np.allclose(np.linalg.norm(templates.patterns, axis=1), 1)
    assert np.array_equal(templates.labels, np.repeat(np.arange(10), 10))
    assert (templates.boxes[:, :2] > 0).all()
    assert (templates.boxes[:, :2] < templates.boxes[:, 2:]).all()
    assert (templates.boxes[:, 2:] < 1).all()


def test_detections_are_many_and_well_formed(raw, scenes):
    count = len(raw.scores)
    assert count > 1000 * len(scenes)
    assert raw.boxes.shape == (count, 4)
    assert raw.boxes.dtype == raw.scores.dtype == np.float32
    assert raw.scenes.shape == raw.labels.shape == (count,)
    assert np.isfinite(raw.boxes).all()
    assert (raw.boxes[:, :2] >= 0).all()
    assert (raw.boxes[:, :2] < raw.boxes[:, 2:]).all()
    assert (raw.boxes[:, 2:] <= PAGE[::-1]).all()
    assert np.array_equal(raw.boxes % GRID, np.zeros_like(raw.boxes))
    assert (raw.scores > MIN_SCORE).all()
    assert (raw.scores < 1.001).all()
    assert set(raw.labels) <= set(range(10))


def test_most_digits_are_found(raw, scenes):
    for number, scene in enumerate(scenes):
        ours = raw.take(raw.scenes == number)
        overlaps = anyops.box_iou(ours.boxes.astype(np.float64), scene.boxes)
        found = ((overlaps > 0.5) & (ours.labels[:, None] == scene.labels)).any(axis=0)
        assert found.mean() > 0.75


def test_best_box_of_a_digit_alone_is_right(digits, templates):
    page = np.zeros((160, 200))
    page[40:100, 90:150] = draw_digits(digits[1].images[0], 60)
    found = detect(page, templates)
    best = found.take(found.scores.argmax())
    assert best.labels == digits[1].labels[0]
    truth = ink_box(np.where(page >= INK, page, 0))
    assert anyops.box_iou(best.boxes[None].astype(np.float64), truth[None]) > 0.7


def test_blank_page_has_none(templates):
    found = detect(np.full((160, 200), 0.1), templates, scene=7)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == found.scenes.shape == (0,)


def test_detection_of_a_scene_is_the_same_alone(raw, scenes, templates):
    alone = detect_all([scenes[1].image], templates)
    among_others = raw.take(raw.scenes == 1)
    assert np.array_equal(alone.scenes, np.zeros_like(among_others.scenes))
    assert all(np.array_equal(a, b) for a, b in zip(alone[1:], among_others[1:], strict=True))
