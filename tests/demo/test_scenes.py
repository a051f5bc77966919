import numpy as np
import pytest

from digits import scenes as module
from digits.scenes import (
    DIGITS_ON_PAGE,
    INK,
    MAX_COVERED,
    PAGE,
    SIDES,
    Scene,
    draw_digits,
    ink_box,
    make_scenes,
    resize,
)


def test_split_is_of_all_digits_and_by_writer(digits):
    learn, paste = digits
    assert len(learn.labels) + len(paste.labels) == 1797
    assert set(learn.labels) == set(paste.labels) == set(range(10))
    assert not {image.tobytes() for image in learn.images} & {image.tobytes() for image in paste.images}
    assert learn.images.min() == 0
    assert learn.images.max() == 1


def test_boxes_bound_the_pasted_digits_tightly(digits, monkeypatch):
    monkeypatch.setattr(module, "_paper", lambda rng: np.zeros(PAGE))
    monkeypatch.setattr(module, "MAX_COVERED", 0.0)
    monkeypatch.setattr(module, "DIGITS_ON_PAGE", 15)
    (scene,) = make_scenes(digits[1], 1, np.random.default_rng(3))
    assert scene.boxes.shape == (15, 4)
    ink = scene.image >= INK
    for x1, y1, x2, y2 in scene.boxes.astype(int):
        inside = ink[y1:y2, x1:x2]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
    covered = np.zeros_like(ink)
    for x1, y1, x2, y2 in scene.boxes.astype(int):
        covered[y1:y2, x1:x2] = True
    assert not (ink & ~covered).any()


def test_scenes_are_crowded_pages(scenes):
    for scene in scenes:
        assert isinstance(scene, Scene)
        assert scene.image.shape == PAGE
        assert 0 <= scene.image.min() < 0.1
        assert 0.9 < scene.image.max() <= 1
        assert len(scene.boxes) == len(scene.labels) == DIGITS_ON_PAGE
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= PAGE[::-1]).all()
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert (sides > 0).all()
        assert sides.max() <= SIDES[1]
        assert _covered(scene.boxes).max() > 0.1  # some do overlap
        assert _covered(scene.boxes).max() <= MAX_COVERED


def _covered(boxes):
    """Share of the smaller box that two boxes have in common, for each two of them."""
    first, second = np.triu_indices(len(boxes), 1)
    a, b = boxes[first], boxes[second]
    common = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), axis=1)
    return common / np.minimum(np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1))


def test_seed_decides_the_scenes(digits, scenes):
    same = make_scenes(digits[1], 2, np.random.default_rng(0))
    assert all(
        np.array_equal(a, b) for one, other in zip(scenes, same, strict=True) for a, b in zip(one, other, strict=True)
    )
    (other,) = make_scenes(digits[1], 1, np.random.default_rng(1))
    assert not np.array_equal(scenes[0].image, other.image)


def test_more_scenes_begin_with_the_same(digits, scenes):
    (first,) = make_scenes(digits[1], 1, np.random.default_rng(0))
    assert np.array_equal(first.image, scenes[0].image)


@pytest.mark.parametrize("shape", [(5, 9), (40, 23), (8, 8)])
def test_resize_keeps_a_constant_and_a_centre(shape):
    assert np.allclose(resize(np.full((8, 8), 0.3), *shape), 0.3)
    symmetric = np.outer([1, 2, 3, 4, 4, 3, 2, 1], [1.0, 0, 2, 5, 5, 2, 0, 1])
    resized = resize(symmetric, *shape)
    assert resized.shape == shape
    assert np.allclose(resized, resized[::-1, ::-1])


def test_drawn_digits_have_a_margin(digits):
    drawn = draw_digits(digits[1].images[:50], 60)
    assert drawn.shape == (50, 60, 60)
    assert drawn.min() == 0
    assert drawn.max() == 1
    boxes = np.stack([ink_box(image) for image in drawn])
    assert (boxes > 0).all()
    assert (boxes < 60).all()
