import numpy as np

from digits.picture import _VIEW, _most_crowded
from digits.scenes import PAGE, Scene


def test_the_crowded_part_is_where_most_digits_are_whole():
    alone = [[0, 0, 30, 40], [600, 430, 640, 480]]
    crowd = [[310, 205, 350, 250], [400, 300, 430, 340], [500, 220, 535, 260]]
    scene = Scene(np.zeros(PAGE), np.asarray(alone + crowd, dtype=float), np.zeros(5, dtype=int))
    top, left = _most_crowded(scene)
    assert 0 <= top <= PAGE[0] - _VIEW[0]
    assert 0 <= left <= PAGE[1] - _VIEW[1]
    for x1, y1, x2, y2 in crowd:
        assert left <= x1 < x2 <= left + _VIEW[1]
        assert top <= y1 < y2 <= top + _VIEW[0]
