"""Keypoint similarity against a loop over pairs and keypoints, and against pycocotools."""

import types

import numpy as np
import pytest

import anyops
from tests import reference
from tests.backends import Transform, dtype_name

# COCO's σ for the 17 keypoints of a person.
COCO = (
    0.026,
    *[0.025] * 2,
    *[0.035] * 2,
    *[0.079] * 2,
    *[0.072] * 2,
    *[0.062] * 2,
    *[0.107] * 2,
    *[0.087] * 2,
    0.089,
    0.089,
)
SOME = (0.1, 0.05, 0.2)
NAN, INF = np.nan, np.inf


def poses(*shape, seed=0, numbers=3):
    """Poses near each other, with visibilities 0, 1 or 2."""
    rng = np.random.default_rng(seed)
    points = np.random.default_rng(9).uniform(0, 60, (shape[-1], 2)) + rng.normal(0, 4, (*shape, 2))
    return np.concatenate((points, rng.integers(0, 3, (*shape, 1))), -1)[..., :numbers].astype(np.float32)


@pytest.mark.op("keypoint_similarity")
@pytest.mark.parametrize("numbers", [2, 3])
def test_poses(run, numbers):
    a, b = poses(4, 17), poses(4, 17, seed=1, numbers=numbers)
    areas = np.float32([900, 2500, 10, 4e4])
    got = run(anyops.keypoint_similarity, a, b, areas, sigmas=COCO)
    want = reference.keypoint_similarity(a, b, areas, COCO)
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert want.max() > 0.5
    assert want.min() < 0.05


def test_pycocotools():
    """`COCOeval.computeOks`, by descending scores, with some annotated keypoints not visible."""
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    found, there = poses(5, 17).astype(float), poses(3, 17, seed=1).astype(float)
    areas = np.array([900.0, 2500.0, 4e4])
    evaluation = types.SimpleNamespace(
        params=cocoeval.Params("keypoints"),
        _gts={
            (1, 1): [
                {"keypoints": k.ravel(), "bbox": [0, 0, 9, 9], "area": a} for k, a in zip(there, areas, strict=True)
            ]
        },
        _dts={(1, 1): [{"keypoints": k.ravel(), "score": 1 - i / 9} for i, k in enumerate(found)]},
    )
    want = cocoeval.COCOeval.computeOks(evaluation, 1, 1)
    sigmas = evaluation.params.kpt_oks_sigmas
    np.testing.assert_allclose(sigmas, COCO)
    np.testing.assert_allclose(anyops.keypoint_similarity(found, there, areas, sigmas=sigmas), want, rtol=1e-12)


@pytest.mark.op("keypoint_similarity", transforms=(Transform.EAGER,))
def test_what_is_not_seen_and_what_has_no_size(run):
    b = poses(7, 3)
    b[..., 2] = 1
    b[0, :, 2] = 0
    b[1, 1, 2], b[1, 1, :2] = 0, NAN  # a keypoint that is not visible may have any value
    b[2, 0, 0] = INF
    b[3, 0, 0] = NAN
    areas = np.float32([100, 100, 100, 100, 0, NAN, INF])
    a = b[1:2].copy()
    a[0, 1, :2] = 7
    got = run(anyops.keypoint_similarity, a, b, areas, sigmas=SOME)[0]
    near = np.where(np.isfinite(b), b, 1e9)
    want = reference.keypoint_similarity(a, near, np.where(areas > 0, areas, 1), SOME)[0]
    want[[3, 4, 5, 6]] = NAN, 0, NAN, 0
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert got[1] == 1
    for wrong in (NAN, INF):
        a[0, 1, 0] = wrong
        got = run(anyops.keypoint_similarity, a, b[4:], np.float32([100] * 3), sigmas=SOME)
        want = reference.keypoint_similarity(np.where(np.isfinite(a), a, 1e9), b[4:], [100] * 3, SOME)
        np.testing.assert_allclose(got, want if wrong == INF else want * NAN, atol=2e-6)


@pytest.mark.op("keypoint_similarity", transforms=(Transform.GRAD,))
def test_gradients_are_finite(backend, transform):
    """For equal, invisible and far poses, and for invalid and tiny areas."""
    a, b = poses(3, 3), poses(8, 3)
    b[0, :, 2], b[1, 0, 0], a[1, 0, 0] = 0, NAN, INF
    a[2], b[2, 0, :2] = b[2], 1e30
    a[0, 1:], b[6:] = 1e30, a[0]
    areas = np.float32([9, 9, 9, 0, INF, NAN, 1e-30, 1e-40])
    for found in backend.gradient(
        lambda a, b, areas: anyops.keypoint_similarity(a, b, areas, sigmas=SOME), a, b, areas
    ):
        assert np.isfinite(found).all()


@pytest.mark.op("keypoint_similarity", transforms=(Transform.EAGER,))
def test_shapes_and_batches(run):
    for lead1, lead2, n, m in (((), (), 0, 3), ((), (), 3, 0), ((2, 1), (3,), 2, 4), ((), (5,), 2, 3)):
        a, b = poses(*lead1, n, 3), poses(*lead2, m, 3, seed=1)
        areas = np.full((*lead2, m), 100, np.float32)
        got = run(anyops.keypoint_similarity, a, b, areas, sigmas=np.float32(SOME))
        lead = np.broadcast_shapes(lead1, lead2)
        assert got.shape == (*lead, n, m)
        each = [np.broadcast_to(x, (*lead, *x.shape[x.ndim - k :])) for x, k in ((a, 3), (b, 3), (areas, 1))]
        for lane in np.ndindex(lead):
            want = reference.keypoint_similarity(*(x[lane] for x in each), SOME)
            np.testing.assert_allclose(got[lane], want, atol=2e-6)


@pytest.mark.op("keypoint_similarity", transforms=(Transform.EAGER,))
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_dtypes(run, backend, dtype):
    if not backend.has_dtype(dtype):
        pytest.skip(f"{backend} has no {dtype}")
    a, b = (np.rint(poses(3, 3, seed=seed)).astype(dtype) for seed in (0, 1))
    areas = np.array([100, 200, 300], "int32" if dtype == "int32" else "float32")
    got = run.raw(anyops.keypoint_similarity, a, b, areas, sigmas=SOME)
    assert dtype_name(got) == (backend.default("real floating") if dtype == "int32" else dtype)
    want = reference.keypoint_similarity(a, b, areas, SOME)
    atol = {"float16": 1e-3, "float64": 1e-12}.get(dtype, 2e-6)
    np.testing.assert_allclose(backend.to_numpy(got), want, atol=atol)


def test_integers_that_floats_do_not_hold(backend):
    far = backend.asarray(np.full((1, 3, 2), 2**24 + 1, np.int32))
    areas = backend.asarray(np.ones(1, np.float32))
    if backend.default("real floating") == "float64":
        assert backend.to_numpy(anyops.keypoint_similarity(far, far, areas, sigmas=SOME)) == 1
    elif backend.library != "dask":
        with pytest.raises(ValueError, match="keypoints1 must hold integers up to 16777216"):
            anyops.keypoint_similarity(far, far, areas, sigmas=SOME)


@pytest.mark.op("nms")
def test_suppression_of_poses(run):
    a = poses(12, 17, seed=5) + np.repeat(np.float32([[[0, 0, 0]], [[9, 4, 0]], [[60, 0, 0]]]), 4, axis=0)
    areas, scores = np.full(12, 3e4, np.float32), np.linspace(1, 0.5, 12, dtype=np.float32)
    got = run(
        lambda a, areas, s: anyops.nms(None, s, 0.7, overlaps=anyops.keypoint_similarity(a, a, areas, sigmas=COCO)),
        *(a, areas, scores),
    )
    overlaps = reference.keypoint_similarity(a, a, areas, COCO)
    assert got.tolist() == reference.greedy(None, scores, 0.7, overlaps=overlaps)
    assert 1 < len(got) < 9
