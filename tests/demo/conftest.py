"""A detector trained on two scenes, and its detections in two others, shared by the tests.

`pythonpath` in pyproject.toml makes its modules, in examples/detector/, known by their bare names.
"""

from importlib.util import find_spec

import numpy as np
import pytest

collect_ignore_glob = []
if all(map(find_spec, ("digits", "sklearn", "pycocotools", "matplotlib", "rich"))):
    from digits.codebook import box_sizes, learn_codebook, stroke_patches
    from digits.detector import detect_all
    from digits.scenes import load_digits, make_scenes
    from digits.training import gather_windows, normalise, train_cross_entropy
    from digits.windows import make_views
else:  # what the detector needs is installed for the session of all tests alone
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture(scope="session")
def scenes(digits):
    return make_scenes(digits[1], 2, np.random.default_rng(0))


@pytest.fixture(scope="session")
def training(digits):
    return make_scenes(digits[0], 2, np.random.default_rng(1))


@pytest.fixture(scope="session")
def patches(digits):
    return stroke_patches(digits[0])


@pytest.fixture(scope="session")
def codebook(patches, training):
    return learn_codebook(patches, box_sizes(training))


@pytest.fixture(scope="session")
def views(codebook):
    return make_views(codebook.anchors, np.asarray)


@pytest.fixture(scope="session")
def learnt(training, codebook, views):
    """Windows and their normalisation."""
    return normalise(gather_windows(training, codebook, views, np.asarray))


@pytest.fixture(scope="session")
def classifier(learnt):
    return train_cross_entropy(learnt[0])


@pytest.fixture(scope="session")
def raw(scenes, codebook, views, learnt, classifier):
    return detect_all(scenes, codebook, views, learnt[1], [classifier], np.asarray)[0]
