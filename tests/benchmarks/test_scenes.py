"""The scenes are the published ones: values computed independently, by the script that the targets were set with."""

import numpy as np
import pytest
import scenes
from cases import CASES

# (first box, last box, first score, last score, sum of all coordinates)
PUBLISHED = {
    "clustered-200": (
        [1113.68017578125, 661.2530517578125, 1183.120361328125, 777.6056518554688],
        [597.8839721679688, 1158.47998046875, 831.5415649414062, 1337.3338623046875],
        0.49624329805374146,
        0.3741268813610077,
        574914.5743106306,
    ),
    "clustered-1k": (
        [675.6414184570312, 377.4369201660156, 717.8844604492188, 440.3067626953125],
        [797.4232788085938, 1315.5452880859375, 857.3309326171875, 1337.406982421875],
        0.675442636013031,
        0.5653190612792969,
        2708353.7337486893,
    ),
    "clustered-10k": (
        [826.8751831054688, 951.7593994140625, 882.5730590820312, 1030.4530029296875],
        [996.4404907226562, 1203.298828125, 1174.2943115234375, 1259.6524658203125],
        0.6531163454055786,
        0.9217579960823059,
        28109255.666129313,
    ),
    "spread-10k": (
        [636.961669921875, 269.7867126464844, 733.2018432617188, 319.49383544921875],
        [748.3103637695312, 566.6985473632812, 805.8694458007812, 665.3842163085938],
        0.05330508574843407,
        0.1876576542854309,
        21124087.257740118,
    ),
    "clustered-50k": (
        [2117.3203125, 460.2958984375, 2169.364013671875, 500.1548156738281],
        [600.208251953125, 1602.8587646484375, 730.4465942382812, 1678.695556640625],
        0.5145359039306641,
        0.7713503837585449,
        397531395.7813421,
    ),
    "aerial-100k": (
        [12739.2333984375, 5395.734375, 12767.59375, 5422.17529296875],
        [14758.76953125, 8935.966796875, 14764.724609375, 9020.4970703125],
        0.4320601224899292,
        0.02431066520512104,
        4004446232.604334,
    ),
}


def case(name):
    return next(each for each in CASES if each.name == name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_draws_are_the_published_ones(name):
    boxes, scores, labels = case(name).make()
    first, last, first_score, last_score, total = PUBLISHED[name]
    np.testing.assert_allclose(boxes[[0, -1]], [first, last], rtol=1e-6)
    np.testing.assert_allclose(scores[[0, -1]], [first_score, last_score], rtol=1e-6)
    assert boxes.sum(dtype=np.float64) == pytest.approx(total, rel=1e-9)
    assert labels is None


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_every_case_is_as_large_as_it_says(each):
    problem = each.make()
    if isinstance(problem, scenes.Pair):
        assert len(problem.first) * len(problem.second) == each.n
    elif isinstance(problem, scenes.Poses):
        assert len(problem.found) * len(problem.true) == each.n
    elif isinstance(problem, scenes.Mixture | scenes.Labelled | scenes.Linear):
        assert len(problem.x) == each.n
    elif isinstance(problem, scenes.Logits | scenes.Classes | scenes.Batch | scenes.Backward):
        assert problem[0].size == each.n
    elif isinstance(problem, scenes.Matched):
        assert len(problem.pred) == len(problem.target) == each.n
    else:
        assert problem.scores.shape == (each.n,)
        assert (problem.scores >= 0).all()
    for part in problem:
        assert part is None or part.dtype in (np.float32, np.int64, np.bool_) or "float64" in each.name
    if isinstance(problem, scenes.Scene | scenes.Models | scenes.Padded):
        assert problem.boxes.shape == (each.n, 4)
        assert np.isfinite(problem.boxes).all()
        assert (problem.boxes[:, 2:] >= problem.boxes[:, :2]).all()
    if isinstance(problem, scenes.Masks):
        assert problem.masks.shape[0] == each.n
        assert problem.masks.any(axis=(1, 2)).mean() > 0.9
    if each.operation in ("batched_nms", "images", "images_mask", "weighted_boxes_fusion"):
        assert problem.labels.shape == (each.n,)


def test_case_names_are_unique():
    names = [each.name for each in CASES]
    assert len(set(names)) == len(names)


def test_constant_density():
    def density(n):
        boxes, _, _ = scenes.aerial(n)
        return n / np.prod(boxes[:, :2].max(axis=0))

    assert density(20_000) == pytest.approx(density(2_000), rel=0.01)
    assert density(2_000) == pytest.approx(100_000 / 20_000**2, rel=0.01)


def test_most_boxes_are_padding():
    boxes, scores, valid = scenes.padded(1_000, 10)
    np.testing.assert_array_equal(boxes, scenes.clustered(1_000, 10).boxes)
    assert 30 < valid.sum() < 70
    assert scores[valid].min() > scores[~valid].max()


def test_images_differ_and_the_first_is_the_published_one():
    boxes, scores, labels = scenes.images(3, 1_000)
    np.testing.assert_allclose(boxes[0], PUBLISHED["clustered-1k"][0], rtol=1e-6)
    assert labels.tolist() == [0] * 1_000 + [1] * 1_000 + [2] * 1_000
    assert not np.array_equal(scores[:1_000], scores[1_000:2_000])


def test_labels_are_all_classes():
    scene = scenes.classes(scenes.clustered(10_000))
    assert set(scene.labels.tolist()) == set(range(80))


def test_chain_overlaps_only_its_neighbours():
    boxes, scores, _ = scenes.chain(5)
    x1, _, x2, _ = boxes.astype(np.float64).T
    shared = np.maximum(np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1), 0)
    iou = shared / (8 - shared)
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    assert ((iou > 0.5) == (distance <= 1)).all()
    assert (np.diff(scores) < 0).all()


def test_giant_covers_the_small_ones_and_ranks_first():
    boxes, scores, _ = scenes.giant(1_000)
    assert (boxes[0, :2] <= boxes[:, :2]).all()
    assert (boxes[0, 2:] >= boxes[:, 2:]).all()
    assert scores[0] > scores[1:].max()


def test_sides_of_all_sizes():
    boxes, _, _ = scenes.all_sizes(5_000)
    sides = (boxes[:, 2:] - boxes[:, :2]).ravel()
    assert sides.max() > 5e5
    assert np.quantile(sides[sides > 0], 0.05) < 1e-2
