import numpy as np

from digits.codebook import (
    ANCHORS,
    CELLS,
    FAINT,
    MARGIN,
    PATCH,
    PATCHES,
    WORDS,
    box_sizes,
    learn_codebook,
    mean_iou,
    stroke_patches,
)
from digits.codebook import _window as window
from digits.scenes import INK, draw_digits


def test_ink_fills_a_window_up_to_its_margin(digits):
    for image in draw_digits(digits[0].images[:20], 64):
        seen = window(image)
        assert seen.shape == (CELLS, CELLS)
        inside = seen[MARGIN:-MARGIN, MARGIN:-MARGIN]
        assert np.isclose(seen.sum(), inside.sum())
        edges = [inside[0], inside[-1], inside[:, 0], inside[:, -1]]
        assert all(edge.max() > INK / 2 for edge in edges)


def test_patches_are_of_even_contrast(patches):
    assert patches.shape == (PATCHES, PATCH**2)
    assert patches.dtype == np.float32
    assert np.allclose(patches.mean(axis=1), 0, atol=1e-6)
    # s / √(s² + FAINT²) of a deviation s, of at least 0.15 and, in [0, 1], at most a half
    deviation = patches.std(axis=1)
    assert deviation.min() > 0.15 / np.hypot(0.15, FAINT) - 1e-6
    assert deviation.max() < 0.5 / np.hypot(0.5, FAINT) + 1e-6


def test_words_are_the_directions_of_their_patches(codebook, patches):
    words = codebook.words.astype(np.float64)
    assert words.shape == (WORDS, PATCH**2)
    assert np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-5)
    assert np.allclose(words.mean(axis=1), 0, atol=1e-5)
    units = patches / np.linalg.norm(patches.astype(np.float64), axis=1, keepdims=True)
    closest = (units @ words.T).argmax(axis=1)
    means = np.stack([units[closest == word].mean(axis=0) for word in range(WORDS)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (means * words).sum(axis=1).min() > 0.99  # a fixed point, but for the tolerance at which k-means stops


def test_anchors_are_sizes_by_area(codebook, training):
    sizes = box_sizes(training)
    assert sizes.shape == (80, 2)
    assert codebook.anchors.shape == (ANCHORS, 2)
    assert (np.diff(codebook.anchors.prod(axis=1)) > 0).all()
    assert (codebook.anchors >= sizes.min(axis=0)).all()
    assert (codebook.anchors <= sizes.max(axis=0)).all()
    common = np.minimum(sizes[:, None], codebook.anchors).astype(np.float64).prod(axis=2)
    areas = sizes.astype(np.float64).prod(axis=1)[:, None] + codebook.anchors.astype(np.float64).prod(axis=1)
    expected = (common / (areas - common)).max(axis=1).mean()
    assert 0.8 < expected < 1
    assert abs(mean_iou(sizes, codebook.anchors) - expected) < 1e-6


def test_seed_decides(digits, patches, codebook, training):
    assert np.array_equal(stroke_patches(digits[0]), patches)
    assert not np.array_equal(stroke_patches(digits[0], seed=1), patches)
    again = learn_codebook(patches, box_sizes(training))
    assert all(np.array_equal(a, b) for a, b in zip(again, codebook, strict=True))
