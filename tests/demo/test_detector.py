import numpy as np

import anyops
from digits.detector import PER_SCENE, class_probabilities, detect, detect_all
from digits.scenes import PAGE
from digits.training import BACKGROUND
from digits.windows import GRID


def test_detections_are_many_and_well_formed(raw, scenes):
    count = PER_SCENE * len(scenes)
    assert raw.boxes.shape == (count, 4)
    assert raw.boxes.dtype == raw.scores.dtype == np.float32
    assert raw.scenes.shape == raw.labels.shape == (count,)
    assert np.array_equal(raw.scenes, np.repeat(np.arange(len(scenes)), PER_SCENE))
    assert (raw.boxes[:, :2] >= 0).all()
    assert (raw.boxes[:, :2] < raw.boxes[:, 2:]).all()
    assert (raw.boxes[:, 2:] <= PAGE[::-1]).all()
    assert np.array_equal(raw.boxes % GRID, np.zeros_like(raw.boxes))
    assert (raw.scores > 0).all()
    assert (raw.scores <= 1).all()
    assert (np.diff(raw.of(0).scores) <= 0).all()
    assert set(raw.labels) <= set(range(10))


def test_most_digits_are_found(raw, scenes):
    for number, scene in enumerate(scenes):
        ours = raw.of(number)
        overlaps = anyops.box_iou(ours.boxes.astype(np.float64), scene.boxes)
        found = ((overlaps > 0.5) & (ours.labels[:, None] == scene.labels)).any(axis=0)
        assert found.mean() > 0.75


def test_probabilities_are_the_softmax(learnt, classifier):
    features = learnt[0].features[:50]
    logits = features.astype(np.float64) @ classifier.coef.T + classifier.intercept
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert expected.shape == (50, BACKGROUND + 1)
    assert np.allclose(class_probabilities(features, classifier), expected, atol=1e-5)


def test_blank_page_scores_low(codebook, views, learnt, classifier):
    page = np.full(PAGE, 0.1, dtype=np.float32)
    (found,) = detect(page, codebook, views, learnt[1], [classifier], scene=7)
    assert found.scores.max() < 0.1
    assert (found.scenes == 7).all()


def test_detection_of_a_scene_is_the_same_alone(raw, scenes, codebook, views, learnt, classifier):
    alone, twice = detect_all(scenes[1:], codebook, views, learnt[1], [classifier] * 2, np.asarray)
    among_others = raw.of(1)
    assert np.array_equal(alone.scenes, np.zeros_like(among_others.scenes))
    assert all(np.array_equal(a, b) for a, b in zip(alone[1:], among_others[1:], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(alone, twice, strict=True))
