import math

import numpy as np
import pytest

from anyops._array.mode import mode_of
from anyops._array.pieces import by_rows, map_tiles, stack_tiles, tiles

SHAPES = [((7, 5), (0, 1)), ((7, 5), (1,)), ((1, 40), (0, 1)), ((40, 1), (0, 1)), ((3, 4, 5), (0, 1)), ((6,), (0,))]


@pytest.mark.parametrize("grain", [1, 2, 7, 12, 1000])
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_tiles_cover_each_element_once(shape, axes, grain):
    count, cut = np.zeros(shape, int), tiles(shape, grain, axes)
    for tile in cut:
        count[tile] += 1
    np.testing.assert_array_equal(count, 1)
    others = math.prod(n for axis, n in enumerate(shape) if axis not in axes)
    assert max(count[tile].size for tile in cut) <= max(grain, others)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_nothing_is_one_tile(shape):
    assert len(tiles(shape, 10, (0,))) == 1


def test_one_tile_where_a_compiler_decides():
    assert tiles((None, 5), 0, (0, 1)) == [(slice(None), slice(None))]


def test_results_lie_where_their_tiles_are():
    x = np.arange(35.0).reshape(7, 5)
    cut = tiles(x.shape, 3, (0, 1))
    assert len(cut) > 7
    np.testing.assert_array_equal(map_tiles(np, lambda i, j: x[i, j], x.shape, cut), x)
    pair = map_tiles(np, lambda i, j: (x[i, j], x[i, j, None] * [1, 2]), x.shape, cut)
    np.testing.assert_array_equal(pair[1], x[..., None] * [1, 2])
    batch = np.stack([x, -x])
    np.testing.assert_array_equal(map_tiles(np, lambda i, j: batch[:, i, j], x.shape, cut, last=True), batch)


def test_results_are_stacked_by_rows_of_tiles():
    x = np.arange(24.0).reshape(4, 6)
    for cut in ([(slice(0, 2), slice(0, 4)), (slice(0, 2), slice(4, 6)), (slice(2, 4), slice(0, 6))],):
        (sums,) = stack_tiles(np, lambda i, j: (x[i, j].sum(axis=0),), cut)
        np.testing.assert_array_equal(sums, x.reshape(2, 2, 6).sum(axis=1))


@pytest.mark.parametrize("whole", [0, 1])
def test_rows_in_pieces_are_rows_at_once(whole):
    x, y = np.arange(24.0).reshape(2, 3, 4), np.arange(6.0).reshape(2, 3)
    others = (y,) if whole else (x + 1,)
    calls = []

    def kernel(x, y):
        calls.append(x.shape)
        return (x.sum(axis=-1) * y, x) if whole else (x * y,)

    want = kernel(x, *others)
    calls.clear()
    found = by_rows(mode_of(x=x), kernel, x, *others, whole=whole, grain=9)
    assert len(calls) > 1
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)
