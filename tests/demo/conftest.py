"""Two scenes and what the detector finds in them, shared by the tests."""

import numpy as np
import pytest

from anyops.demo.detector import detect_all, learn_templates
from anyops.demo.scenes import load_digits, make_scenes


@pytest.fixture(scope="session")
def digits():
    pytest.importorskip("sklearn")
    return load_digits()


@pytest.fixture(scope="session")
def templates(digits):
    return learn_templates(digits[0])


@pytest.fixture(scope="session")
def scenes(digits):
    return make_scenes(digits[1], 2, np.random.default_rng(0))


@pytest.fixture(scope="session")
def raw(scenes, templates):
    return detect_all([scene.image for scene in scenes], templates)
