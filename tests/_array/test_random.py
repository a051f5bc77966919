import numpy as np
import pytest

from anyops._array.random import generator


def test_the_same_seed_gives_the_same_draws():
    np.testing.assert_array_equal(generator(7).random(50), np.random.default_rng(7).random(50))


def test_a_generator_goes_on():
    rng = np.random.default_rng(3)
    parts = [generator(rng).random(4) for _ in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), np.random.default_rng(3).random(8))


def test_no_seed_means_other_draws():
    assert generator(None).random() != generator(None).random()


@pytest.mark.parametrize(("seed", "error"), [("7", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)])
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="seed"):
        generator(seed)
