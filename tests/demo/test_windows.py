import numpy as np
import pytest

from digits.codebook import CELLS, FAINT, MARGIN, PATCH
from digits.scenes import PAGE, resize
from digits.windows import GRID, POOLS, STEP, make_view, window_features

ANCHOR = np.asarray([33.0, 52.0])


@pytest.fixture(scope="module")
def view():
    return make_view(ANCHOR, np.asarray)


def test_boxes_have_the_size_of_the_anchor_and_cover_the_page(view):
    ny, nx = view.shape
    boxes = view.boxes.reshape(ny, nx, 4)
    sides = boxes[..., 2:] - boxes[..., :2]
    assert np.abs(sides / ANCHOR - 1).max() < 0.03
    assert np.array_equal(boxes % GRID, np.zeros_like(boxes))
    step = ANCHOR * STEP / (CELLS - 2 * MARGIN)
    assert np.abs(np.diff(boxes[0, :, 0]) / step[0] - 1).max() < 0.05
    assert np.abs(np.diff(boxes[:, 0, 1]) / step[1] - 1).max() < 0.05
    # The first and the last window touch the edges of the page with their margin, or nearly so.
    assert (boxes[0, 0, :2] <= ANCHOR / 4).all()
    assert (boxes[-1, -1, 2:] >= np.asarray(PAGE[::-1]) - ANCHOR / 4 - step).all()
    assert (boxes[-1, -1, 2:] <= PAGE[::-1]).all()


def test_features_are_correlations_of_patches_with_words(view, codebook, scenes):
    found = window_features(scenes[0].image, view, codebook.words)
    ny, nx = view.shape
    words = codebook.words.astype(np.float64)
    assert found.shape == (ny * nx, POOLS**2 * len(words))
    assert found.dtype == np.float32
    height, width = len(view.rows), len(view.columns)
    small = resize(scenes[0].image.astype(np.float64), height, width)
    rng = np.random.default_rng(0)
    for y, x in zip(rng.integers(ny, size=10), rng.integers(nx, size=10), strict=True):
        window = small[y * STEP : y * STEP + CELLS, x * STEP : x * STEP + CELLS]
        expected = np.zeros((POOLS, POOLS, len(words)))
        parts = (CELLS - PATCH + 1) // POOLS
        for i in range(CELLS - PATCH + 1):
            for j in range(CELLS - PATCH + 1):
                patch = window[i : i + PATCH, j : j + PATCH].ravel()
                contrast = np.hypot(patch.std(), FAINT) * PATCH
                expected[i // parts, j // parts] += np.maximum(words @ (patch - patch.mean()) / contrast, 0)
        assert np.allclose(found[y * nx + x], expected.ravel() / parts**2, atol=2e-5)
