"""Properties for any numbers: each family equals a float64 reference, and agrees on NumPy, torch and JAX.

By default few examples, the same every time and only on NumPy; `nox -s fuzz` runs more.
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anyops
from tests import reference
from tests import strategies as draw
from tests.backends import Backend, selected
from tests.suppression.family import MEMBERS

LONG = settings.get_current_profile_name() == "fuzz"
OTHERS = [b for b in selected() if LONG and b in (Backend.TORCH_CPU, Backend.JAX_CPU) and not b.why_unavailable()]
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def on(backend, op, *host, **options):
    """The results of an op on a backend, as NumPy arrays."""
    with backend.active():
        put = [backend.asarray(x) if isinstance(x, np.ndarray) else x for x in host]
        options = {k: backend.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        found = op(*put, **options)
        return [backend.to_numpy(y) for y in (found if isinstance(found, tuple) else (found,))]


def alike(op, *host, close=None, **options):
    """The results on NumPy, after a check that other libraries give equal results, or results within a tolerance."""
    first = on(Backend.NUMPY, op, *host, **options)
    for backend in OTHERS:
        for one, other in zip(first, on(backend, op, *host, **options), strict=True):
            if close is None:
                np.testing.assert_array_equal(other, one, str(backend))
            else:
                np.testing.assert_allclose(other, one, err_msg=str(backend), **close)
    return first


# --- overlaps --------------------------------------------------------------------------------------------------------


@given(boxes=draw.plain_boxes(), other=draw.plain_boxes(), kind=st.sampled_from(draw.KINDS))
def test_overlaps_of_plain_boxes(boxes, other, kind):
    (got,) = alike(partial(anyops.box_iou, kind=kind), boxes, other, close=CLOSE)
    np.testing.assert_allclose(got, reference.pairwise(boxes, other, kind), **CLOSE)


@given(boxes=draw.wild_boxes(), other=draw.any_boxes(), kind=st.sampled_from(draw.KINDS))
def test_overlaps_of_wild_boxes(boxes, other, kind):
    (got,) = alike(partial(anyops.box_iou, kind=kind), boxes, other, close=CLOSE)
    nan = np.isnan(boxes).any(axis=1)[:, None] | np.isnan(other).any(axis=1)
    np.testing.assert_array_equal(np.isnan(got), nan)
    assert np.all(got[~nan] <= 1 + 1e-6)
    # The centre of an inverted box may be far outside of the enclosing box, so diou and ciou have no bound.
    proper = (boxes[:, :2] <= boxes[:, 2:]).all(axis=1)[:, None] & (other[:, :2] <= other[:, 2:]).all(axis=1)
    bounded = ~nan & (proper | (kind not in ("diou", "ciou")))
    assert np.all(got[bounded] >= {"iou": 0, "iof": 0, "ios": 0}.get(kind, -3))


@given(boxes=draw.any_boxes(), other=draw.any_boxes(), kind=st.sampled_from(["iou", "giou", "diou", "ciou"]))
def test_gradients_of_overlaps_are_finite(boxes, other, kind):
    """Except if sides overflow, and for diou and ciou of an inverted box with a tiny one: see the conventions."""
    for x in (boxes, other):
        np.nan_to_num(x, copy=False, nan=1.0, posinf=1e3, neginf=-1e3)
        x[np.abs(x) > 1e9] = 1e9
        x[np.abs(x) < 1e-3] = 0
    if kind in ("diou", "ciou"):
        boxes, other = draw.ordered(boxes), draw.ordered(other)
    for backend in (b for b in OTHERS if b is Backend.TORCH_CPU):  # JAX would compile each example
        with backend.active():
            found = backend.gradient(partial(anyops.box_iou, kind=kind), boxes, other)
        assert all(np.isfinite(g).all() for g in found)


@given(boxes=draw.rotated_boxes(), other=draw.rotated_boxes())
def test_overlaps_of_rotated_boxes(boxes, other):
    op = partial(anyops.box_iou, fmt="cxcywhr", pairwise=False)
    (got,) = alike(op, boxes, other, close={"rtol": 0, "atol": 2e-5})
    for found, a, b in zip(got, boxes.tolist(), other.tolist(), strict=True):
        shared = reference.shared_area(*map(reference.rotated_corners, (a, b)))
        assert found == pytest.approx(reference.region_overlap(shared, a[2] * a[3], b[2] * b[3], "iou"), abs=2e-5)


@given(one=draw.polygons(), other=draw.polygons())
def test_overlaps_of_polygons(one, other):
    op = partial(anyops.box_iou, fmt="polygon", pairwise=False)
    (got,) = alike(op, one, other, close={"rtol": 0, "atol": 2e-5})
    for found, a, b in zip(got, one.tolist(), other.tolist(), strict=True):
        sizes = [reference.polygon_area([tuple(map(reference.mpf, p)) for p in x]) for x in (a, b)]
        assert found == pytest.approx(reference.region_overlap(reference.shared_area(a, b), *sizes, "iou"), abs=2e-5)


@given(
    boxes=draw.wild_rotated_boxes(), other=draw.rotated_boxes(), kind=st.sampled_from(["iou", "iof", "ios", "probiou"])
)
def test_overlaps_of_wild_rotated_boxes(boxes, other, kind):
    (got,) = alike(partial(anyops.box_iou, fmt="cxcywhr", kind=kind), boxes, other, close={"rtol": 1e-3, "atol": 1e-4})
    nan = np.isnan(boxes).any(axis=1)
    np.testing.assert_array_equal(np.isnan(got), np.broadcast_to(nan[:, None], got.shape))
    assert np.all((got[~nan] >= 0) & (got[~nan] <= 1))
    if kind != "iof":
        back = anyops.box_iou(other, boxes, fmt="cxcywhr", kind=kind).T
        np.testing.assert_allclose(got, back, rtol=1e-3, atol=1e-4)


# --- suppression -----------------------------------------------------------------------------------------------------

# The op, its static form, and its reference, for each kind of op.
INDICES = {
    m.index: (getattr(anyops, m.index), getattr(anyops, m.static), m.reference)
    for m in MEMBERS
    if m.static and not m.rescores
}
LEAST = {"soft_nms": 0.01}  # score thresholds that the static form has too
RESCORED = {
    f"{m.index} {options}": (
        partial(getattr(anyops, m.index), score_threshold=LEAST.get(m.index, 0.0), **options),
        *(
            partial(form, **options, **({"score_threshold": LEAST[m.index]} if m.index in LEAST else {}))
            for form in (getattr(anyops, m.static), m.reference)
        ),
    )
    for m in MEMBERS
    if m.rescores and not m.fuses
    for options in m.kinds
}


@pytest.mark.parametrize("name", INDICES)
@given(boxes=draw.exact_boxes(), scores=draw.tied_scores(), labels=draw.labels(), t=draw.THRESHOLDS)
def test_masks_of_exact_boxes(name, boxes, scores, labels, t):
    """Ties, and overlaps of exactly the threshold, are decided equally everywhere."""
    (got,) = alike(INDICES[name][1], boxes, scores, t, labels=labels)
    np.testing.assert_array_equal(got, INDICES[name][2](boxes, scores, t, labels=labels, dtype=np.float32).new)
    (kept,) = alike(INDICES[name][0], boxes, scores, t, labels=labels)
    assert sorted(kept.tolist()) == np.flatnonzero(got).tolist()


@pytest.mark.parametrize("name", INDICES)
@given(
    boxes=st.one_of(draw.rotated_boxes(), draw.wild_rotated_boxes()),
    scores=draw.wild_scores(),
    t=draw.THRESHOLDS,
    kind=st.sampled_from(["iou", "iof", "ios", "probiou"]),
)
def test_masks_of_rotated_boxes(name, boxes, scores, t, kind):
    """As with a matrix of overlaps; boxes with a NaN, without a side or with an infinite side are kept."""
    index, static, _ = INDICES[name]
    matrix = anyops.box_iou(boxes, boxes, fmt="cxcywhr", kind=kind)
    kept, mask = (op(boxes, scores, t, fmt="cxcywhr", kind=kind) for op in (index, static))
    assert kept.tolist() == index(None, scores, t, overlaps=matrix).tolist()
    assert sorted(kept.tolist()) == np.flatnonzero(mask).tolist()
    assert mask[~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:4] <= 0).any(axis=1)].all()


@pytest.mark.parametrize("name", INDICES)
@given(boxes=draw.wild_boxes(), scores=draw.wild_scores(), t=draw.THRESHOLDS, kind=st.sampled_from(draw.KINDS))
def test_masks_of_wild_boxes(name, boxes, scores, t, kind):
    index, static, _ = INDICES[name]
    kept, mask = index(boxes, scores, t, kind=kind), static(boxes, scores, t, kind=kind)
    assert sorted(kept.tolist()) == np.flatnonzero(mask).tolist()
    places = {j: i for i, j in enumerate(reference.rank(scores.tolist()))}
    assert [places[i] for i in kept.tolist()] == sorted(places[i] for i in kept.tolist())
    assert mask[np.isnan(boxes).any(axis=1)].all()
    groups = anyops.nms_groups(boxes, scores, t, kind=kind)
    if name == "nms":
        assert np.array_equal(groups[groups], groups)
        np.testing.assert_array_equal(groups == np.arange(draw.N), mask)
    for backend in OTHERS:
        (other,) = on(backend, partial(index, kind=kind), boxes, scores, t)
        (masked,) = on(backend, partial(static, kind=kind), boxes, scores, t)
        assert sorted(other.tolist()) == np.flatnonzero(masked).tolist(), str(backend)


@pytest.mark.parametrize("name", RESCORED)
@given(boxes=draw.plain_boxes(), scores=draw.plain_scores(), labels=draw.labels())
def test_scores_of_plain_boxes(name, boxes, scores, labels):
    """Equal to the reference if no decision depends on a rounding error."""
    index, static, expected = RESCORED[name]
    got = static(boxes, scores, labels=labels)
    want = expected(boxes, scores, labels=labels, dtype=np.float32).new
    lower = (scores * np.float32(1 - 2e-6)).astype(np.float32)
    moved = expected(boxes, lower, labels=labels, dtype=np.float64).new
    if np.allclose(want, moved, rtol=1e-4, atol=1e-5):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        for backend in OTHERS:
            (other,) = on(backend, static, boxes, scores, labels=labels)
            np.testing.assert_allclose(other, got, rtol=1e-4, atol=1e-5, err_msg=str(backend))
    indices, new = index(boxes, scores, labels=labels)
    np.testing.assert_allclose(new, got[indices], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RESCORED)
@given(boxes=draw.wild_boxes(), scores=draw.wild_scores())
def test_scores_of_wild_boxes(name, boxes, scores):
    """Scores never rise, and both forms agree."""
    index, static, _ = RESCORED[name]
    for backend in (Backend.NUMPY, *OTHERS):
        (got,) = on(backend, static, boxes, scores)
        indices, new = on(backend, index, boxes, scores)
        there = ~np.isnan(scores)
        assert np.all(got[there] <= np.maximum(scores[there], 0)), str(backend)
        np.testing.assert_allclose(new, got[indices], rtol=1e-5, atol=1e-6, err_msg=str(backend))
        assert len(set(indices.tolist())) == len(indices)


@given(boxes=draw.any_boxes(), scores=draw.plain_scores(), labels=draw.labels())
def test_weighted_boxes(boxes, scores, labels):
    """A moved box is within the range of its averaged boxes, and both forms agree."""
    moved, new = anyops.weighted_cluster_nms_boxes(boxes, scores, labels=labels)
    found = anyops.weighted_cluster_nms(boxes, scores, labels=labels, score_threshold=0.0)
    np.testing.assert_allclose(found.scores, new[found.indices], rtol=1e-5)
    finite = np.isfinite(boxes).all(axis=1)
    if not finite.any():
        return
    lowest = boxes[finite].min(axis=0, initial=np.inf)
    highest = boxes[finite].max(axis=0, initial=-np.inf)
    slack = 1e-5 * np.maximum(np.abs(lowest), np.abs(highest))
    assert np.all((moved[finite] >= lowest - slack) & (moved[finite] <= highest + slack))
    there = finite[found.indices]  # sums over pairs and over tiles have different orders
    assert np.all(np.abs(found.boxes[there] - moved[found.indices][there]) <= slack)
    np.testing.assert_array_equal(moved[~finite], boxes[~finite])


@given(
    boxes=st.one_of(draw.plain_boxes(), draw.wild_boxes()),
    scores=draw.plain_scores(),
    labels=draw.labels(),
    models=st.lists(st.integers(0, 2), min_size=draw.N, max_size=draw.N).map(lambda m: np.asarray(m, np.int32)),
    conf_type=st.sampled_from(["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]),
)
def test_fusion(boxes, scores, labels, models, conf_type):
    boxes = np.where(np.isfinite(boxes), boxes, np.float32(1))
    options = {"model_ids": models, "conf_type": conf_type}
    got = anyops.weighted_boxes_fusion(boxes, scores, labels, **options)
    want = reference.weighted_boxes_fusion(boxes, scores, labels, dtype=np.float32, **options)
    assert np.isfinite(got.boxes).all()
    assert np.isfinite(got.scores).all()
    if want.clear > 1e-6:
        np.testing.assert_allclose(got.boxes, want.boxes, rtol=1e-5, atol=1e-5 * np.abs(boxes).max(initial=1))
        np.testing.assert_allclose(got.scores, want.scores, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(got.labels, want.labels)
        for backend in OTHERS:
            other = on(backend, anyops.weighted_boxes_fusion, boxes, scores, labels, **options)
            np.testing.assert_allclose(other[1], got.scores, rtol=1e-5, atol=1e-6, err_msg=str(backend))


# --- losses ----------------------------------------------------------------------------------------------------------

GAMMAS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])
ALPHAS = st.sampled_from([None, 0.25, 0.9])


@given(x=draw.logits((6,)), t=draw.soft_targets((6,)), alpha=ALPHAS, gamma=GAMMAS)
def test_sigmoid_focal_loss(x, t, alpha, gamma):
    op = partial(anyops.sigmoid_focal_loss_and_grad, alpha=alpha, gamma=gamma)
    loss, grad = alike(op, x, t, close={"rtol": 1e-4, "atol": 1e-30})
    want = [
        reference.value(lambda v, u=u: reference.sigmoid_focal(v, u, alpha, gamma), v)
        for v, u in zip(x, t, strict=True)
    ]
    np.testing.assert_allclose(loss, want, rtol=1e-4, atol=1e-30)
    assert np.isfinite(grad).all()
    both = anyops.sigmoid_focal_loss(-x, 1 - t, alpha=None if alpha is None else 1 - alpha, gamma=gamma)
    np.testing.assert_allclose(both, loss, rtol=1e-4, atol=1e-30)


@given(
    x=draw.logits((4, 3)),
    y=st.lists(st.integers(0, 2), min_size=4, max_size=4).map(lambda y: np.asarray(y, np.int32)),
    gamma=GAMMAS,
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_softmax_focal_loss(x, y, gamma, smoothing):
    op = partial(anyops.softmax_focal_loss_and_grad, gamma=gamma, label_smoothing=smoothing)
    loss, grad = alike(op, x, y, close={"rtol": 1e-4, "atol": 1e-30})
    target = (1 - smoothing) * np.eye(3)[y] + smoothing / 3
    want = [
        reference.value(lambda *v, t=t: reference.softmax_focal(v, t, [1] * 3, gamma), *row)
        for row, t in zip(x, target, strict=True)
    ]
    np.testing.assert_allclose(loss, want, rtol=1e-4, atol=1e-30)
    assert np.isfinite(grad).all()
    np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-4 * np.abs(grad).max(initial=1))


# --- batch norm ------------------------------------------------------------------------------------------------------


def moments(x, w):
    """Mean and biased variance in float64 of the samples with positive weight."""
    x, w = x[w > 0].astype(np.float64), w[w > 0].astype(np.float64)
    mean = (w[:, None] * x).sum(axis=0) / w.sum()
    return mean, (w[:, None] * (x - mean) ** 2).sum(axis=0) / w.sum()


@given(x=draw.samples(8, 3), w=draw.weights(8), cut=st.integers(0, 8), absent=st.sampled_from([0.0, np.nan, np.inf]))
def test_batch_norm(x, w, cut, absent):
    mean, variance = moments(x, w)
    scale = np.abs(x).max(initial=1.0)
    x = np.where(w[:, None] > 0, x, np.float32(absent))
    close = {"rtol": 1e-4, "atol": 1e-6 * scale}
    count, found, m2 = alike(lambda x, w: anyops.batch_stats(x, sample_weight=w), x, w, close=close)
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6 * scale)
    # The samples are float32 themselves, so the variance is as accurate as the deviations.
    spread = 1e-6 * scale * np.sqrt(variance) + 1e-12 * scale**2
    assert np.all(np.abs(m2 / count - variance) <= 1e-4 * variance + spread)
    parts = [anyops.batch_stats(x[s], sample_weight=w[s]) for s in (slice(None, cut), slice(cut, None))]
    merged = anyops.merge_batch_stats(*parts)
    np.testing.assert_allclose(merged.mean, found, rtol=1e-5, atol=1e-6 * scale)
    assert np.all(np.abs(merged.m2 - m2) <= (1e-4 * variance + 4 * spread) * count)
    y = anyops.batch_norm(x, np.zeros(3, np.float32), np.ones(3, np.float32), training=True, sample_weight=w).y
    there = w > 0
    assert np.isfinite(y).all()
    assert np.abs(y[there]).max() <= np.sqrt(w.sum() / w[there].min()) * 1.01 + 1e-3


@given(x=draw.samples(8, 3), dy=draw.array((8, 3), draw.HALVES), w=draw.weights(8))
def test_batch_norm_grad(x, dy, w):
    # float32 rounds the mean of samples at an offset; the error grows with the offset and with dy, as `scale` does.
    scale = np.abs(dy).max(initial=1.0) * (1 + np.abs(x).max(initial=0.0) / 100)
    op = partial(anyops.batch_norm_grad, eps=1e-2)
    dx, _, dbias = alike(
        lambda dy, x, w: op(dy, x, sample_weight=w), dy, x, w, close={"rtol": 1e-3, "atol": 2e-3 * scale}
    )
    there = w > 0
    np.testing.assert_allclose(dbias, dy[there].sum(axis=0), rtol=1e-4, atol=1e-5 * scale)
    assert np.all(dx[~there] == 0)
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=2e-3 * scale)  # a shift of all samples changes nothing


# --- k-means ---------------------------------------------------------------------------------------------------------


@given(x=draw.samples(10, 2), w=draw.weights(10), k=st.integers(1, 4), cut=st.integers(0, 10))
def test_kmeans_parts(x, w, k, cut):
    centers = x[:k].copy()
    scale = np.abs(x).max(initial=1.0)
    every = reference.distance_to_centers(x, centers)
    best, slack = every.min(axis=1), 4e-6 * scale**2
    for backend in (Backend.NUMPY, *OTHERS):
        found, far = on(backend, anyops.kmeans_assign, x, centers)
        assert np.all(every[np.arange(10), found] <= best + slack), str(backend)
        np.testing.assert_allclose(far, every[np.arange(10), found], rtol=1e-4, atol=1e-5, err_msg=str(backend))
    whole = anyops.kmeans_partial(x, centers, sample_weight=w)
    parts = (anyops.kmeans_partial(x[s], centers, sample_weight=w[s]) for s in (slice(None, cut), slice(cut, None)))
    merged = anyops.kmeans_merge(*parts)
    np.testing.assert_allclose(whole.counts.sum(), w.sum(), rtol=1e-6)
    np.testing.assert_allclose(merged.counts.sum(), w.sum(), rtol=1e-6)
    np.testing.assert_allclose(whole.sums.sum(axis=0), w @ x, rtol=1e-5, atol=1e-5 * scale * w.sum())
    np.testing.assert_allclose(merged.inertia, w @ best, rtol=1e-3, atol=4 * slack * w.sum())
    step = anyops.kmeans_step(x, centers, sample_weight=w)
    after = reference.distance_to_centers(x, step.centers).min(axis=1)
    assert w @ after <= w @ best + 4 * slack * w.sum()  # Lloyd's step never increases the inertia


@given(x=draw.samples(10, 2), w=draw.weights(10), k=st.integers(1, 3), tied=st.booleans())
def test_kmeans_fits(x, w, k, tied):
    if tied:
        x = np.round(x)
    w = np.maximum(w, np.float32(0.5))
    found = anyops.kmeans(x, k, init=x[:k].copy(), sample_weight=w)
    scale = np.abs(x).max(initial=1.0)
    every = reference.distance_to_centers(x, found.centers)
    assert np.all(every[np.arange(10), found.labels] <= every.min(axis=1) + 4e-6 * scale**2)
    start = reference.distance_to_centers(x, x[:k]).min(axis=1)
    assert found.inertia <= (w @ start) * (1 + 1e-4) + 4e-6 * scale**2 * w.sum()
    np.testing.assert_allclose(
        found.inertia, w @ every[np.arange(10), found.labels], rtol=1e-3, atol=1e-5 * scale**2 * w.sum()
    )


# --- logistic regression ---------------------------------------------------------------------------------------------


@given(
    x=draw.samples(9, 2),
    y=st.lists(st.integers(0, 1), min_size=9, max_size=9).map(lambda y: np.asarray(y, np.int32)),
    coef=draw.array(2, st.one_of(draw.HALVES, st.sampled_from([1e3, -1e3]))),
    w=draw.weights(9),
    l2=st.sampled_from([0.0, 0.5]),
    cut=st.integers(0, 9),
)
def test_logistic_loss(x, y, coef, w, l2, cut):
    level = np.asarray(0.5, np.float32)
    scale = float(np.abs(x).max(initial=1.0) * np.abs(coef).max(initial=1.0)) + 1
    close = {"rtol": 1e-4, "atol": 1e-6 * scale}

    def op(x, c, b, y, w):
        return anyops.logistic_loss(x, y, c, b, sample_weight=w, l2=l2)

    loss = on(Backend.NUMPY, op, x, coef, level, y, w)
    r = x.astype(np.float64) @ coef.astype(np.float64) + 0.5
    each = y * np.logaddexp(0, -r) + (1 - y) * np.logaddexp(0, r)
    want = (w @ each + l2 / 2 * (coef.astype(np.float64) ** 2).sum()) / w.sum()
    for backend in OTHERS:
        other = on(backend, op, x, coef, level, y, w)
        np.testing.assert_allclose(other[1], want, err_msg=str(backend), **close)
        assert all(np.isfinite(part).all() for part in other)
    np.testing.assert_allclose(loss[1], want, **close)
    assert all(np.isfinite(part).all() for part in loss)
    assert np.all((loss[0] >= 0) & (loss[0] <= 1))
    parts = (
        anyops.logistic_partial(x[s], y[s], coef, level, sample_weight=w[s])
        for s in (slice(None, cut), slice(cut, None))
    )
    merged = anyops.logistic_merge(*parts)
    np.testing.assert_allclose(merged.loss, w @ each, rtol=1e-4, atol=1e-6 * scale * w.sum())
    np.testing.assert_allclose(merged.weight, w.sum(), rtol=1e-6)


@given(
    x=draw.samples(9, 2),
    y=st.lists(st.integers(0, 2), min_size=9, max_size=9).map(lambda y: np.asarray(y, np.int32)),
    l2=st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_logistic_fits_end(x, y, l2):
    """For any classes, columns that are constant or copies, and separable classes."""
    y = np.concatenate([y[:7], [0, 1]]).astype(np.int32)
    found = anyops.logistic_regression(x, y, l2=l2)
    assert np.isfinite(found.coef).all()
    assert np.isfinite(found.intercept).all()
    assert np.isfinite(found.loss)
    assert found.loss <= np.log(len(np.unique(y))) + 1e-5  # at most the loss of the null model
