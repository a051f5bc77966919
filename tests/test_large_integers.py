"""Integers beyond the precision of a float: every fit, and its parts, gives the exact result, or refuses them.

The reference is the same call with float64 numbers after subtracting the offset.
"""

import re

import numpy as np
import pytest

import anyops
from tests.backends import Backend

RNG = np.random.default_rng(0)
GROUPS = np.asarray([[0], [1], [2], [100], [102], [104]])  # inertia 2 and 8
LINE = np.arange(40)[:, None]
Y = (RNG.random(40) < 1 / (1 + np.exp(-(LINE[:, 0] - 20) / 5))).astype(np.int32)
W = (np.arange(40) % 3 + 1).astype(np.float32)
PLACES = [Backend.NUMPY, Backend.STRICT, Backend.TORCH_CPU, Backend.JAX_CPU, Backend.JAX_X64]

# Name, dtype, offset, and a factor for the numbers above.
COLUMNS = {
    "seconds": ("int32", 1_700_000_001, 1),
    "seconds of years": ("int32", 1_000_000_001, 100_003),
    "above 2**24": ("uint32", 2**24 - 1, 1),
    "above 2**53": ("int64", 2**53 - 1, 1),
    "nanoseconds": ("int64", 1_700_000_000_000_000_001, 10**9 + 1),
    "2**60": ("int64", 2**60 + 1, 1),
    "the largest": ("int64", 2**63 - 1 - 104, 1),
    "the smallest": ("int64", -(2**63), 1),
    "unsigned": ("uint64", 2**64 - 1 - 104, 1),
    "unsigned, far apart": ("uint64", 2**63 + 1, 10**14),
    "nearly all": ("int64", -(2**63), 2**63 // 60),
}
# JAX compiles each call, so with float64 only a few are tested.
CELLS = [(p, c) for p in PLACES for c in COLUMNS if p is not Backend.JAX_X64 or c in ("seconds", "2**60", "unsigned")]
EASY = ("seconds", "seconds of years", "above 2**24", "nanoseconds")  # in float64


def integers(values, dtype, offset, factor):
    return np.asarray([[int(v) * factor + offset for v in row] for row in values.tolist()], dtype=dtype)


def ship(place, x):
    """Convert to the library's array; skip if it has no such integers."""
    shipped = place.asarray(x)
    if not np.array_equal(place.to_numpy(shipped).astype(object), x.astype(object)):
        pytest.skip(f"{place} has no {x.dtype}")
    return shipped


def on_host(place, a):
    a = place.to_numpy(a) if hasattr(a, "shape") and not isinstance(a, np.ndarray | np.generic) else a
    return np.asarray(a, np.float64)


def cluster(call):
    """A call of integers (6, 1) and initial centres, with results without the offset."""
    return lambda place, x, y: call(place, ship(place, x), ship(place, x[::3]))


def _fit(place, x, start):
    found = anyops.kmeans(x, 2, init=start)
    return found.inertia, found.labels


def _partial(place, x, start):
    found = anyops.kmeans_partial(x, start)
    middle = place.to_numpy(found.sums) / place.to_numpy(found.counts)[:, None]
    return found.inertia, middle[1] - middle[0]


def _step(place, x, start):
    found = anyops.kmeans_step(x, start)
    centers = place.to_numpy(found.centers)
    return found.inertia, found.labels, centers[1] - centers[0]


def _stream(place, x, start):
    found = anyops.minibatch_kmeans([x, x, x], 2, init=start)
    return anyops.kmeans_assign(x, found.centers).labels, found.inertia  # for rounded centres


def _model(place, x, start):
    model = pytest.importorskip("anyops.estimators").KMeans(2, init=start).fit(x)
    return model.inertia_, model.labels_, model.predict(x), -model.score(x)


def regression(**options):
    def call(place, x, y):
        found = anyops.logistic_regression(ship(place, x), place.asarray(y), **options)
        assert found.converged
        errors = () if found.stderr is None else (found.stderr[0],)
        logits = place.to_numpy(found.coef)[0] * (x[:, 0] - x[0, 0]).astype(float)
        return found.loss, logits, *(place.to_numpy(e) * float(x[-1, 0] - x[0, 0]) for e in errors)

    return call


def _chances(op):
    """Probabilities of a model whose decision boundary is in the middle of the rows."""

    def call(place, x, y):
        slope = 8 / float(int(x[-1, 0]) - int(x[0, 0]))
        level = -slope * float(int(x[20, 0]))
        at = place.asarray(np.asarray([slope])), place.asarray(np.asarray(level))
        at = at if op is not anyops.logistic_loss else (place.asarray(y), *at)
        if op is anyops.logistic_loss:
            return (anyops.logistic_loss(ship(place, x), *at).probs,)
        return (op(ship(place, x), *at),)

    return call


def _newton(place, x, y):
    at = place.asarray(np.zeros(1, np.float32)), place.asarray(np.zeros((), np.float32))
    found = anyops.logistic_step(ship(place, x), place.asarray(y), *at, sample_weight=place.asarray(W))
    return found.loss, place.to_numpy(found.coef)[0] * (x[:, 0] - x[0, 0]).astype(float)


def _classifier(place, x, y):
    model = pytest.importorskip("anyops.estimators").LogisticRegression(C=np.inf)
    x, y = ship(place, x), place.asarray(y)
    model.fit(x, y)
    return model.predict_proba(x), model.decision_function(x), model.score(x, y)


CALLS = {
    "kmeans": (GROUPS, cluster(_fit)),
    "kmeans_partial": (GROUPS, cluster(_partial)),
    "kmeans_step": (GROUPS, cluster(_step)),
    "minibatch_kmeans": (GROUPS, cluster(_stream)),
    "KMeans": (GROUPS, cluster(_model)),
    "newton": (LINE, regression(solver="newton")),
    "lbfgs": (LINE, regression(solver="lbfgs")),
    "logistic_predict_proba": (LINE, _chances(anyops.logistic_predict_proba)),
    "logistic_log_proba": (LINE, _chances(anyops.logistic_log_proba)),
    "logistic_loss": (LINE, _chances(anyops.logistic_loss)),
    "logistic_step": (LINE, _newton),
    "LogisticRegression": (LINE, _classifier),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("place", "column"), CELLS, ids=str)
def test_large_integers_are_exact_or_refused(place, column, name):
    if why := place.why_unavailable():
        pytest.skip(why)
    values, call = CALLS[name]
    dtype, offset, factor = COLUMNS[column]
    if column == "nearly all" and values is GROUPS:
        factor = factor // 2
    x = integers(values, dtype, offset, factor)
    with np.errstate(all="ignore"):
        want = [on_host(Backend.NUMPY, a) for a in call(Backend.NUMPY, values * float(factor), Y)]
    error = ""
    with place.active():
        wide = place.default("real floating") == "float64"
        converted = place.has_dtype("float64") and not wide
        try:
            got = [on_host(place, a) for a in call(place, x, Y)]
        except ValueError as caught:
            error = str(caught)
    if error:
        assert re.search(r"must hold integers .* got .*; (subtract an offset|remove the outliers)", error)
        assert not (wide and column in EASY), error
        assert "convert" not in error or (converted and column in (*EASY, "above 2**53")), error
    else:
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)


def test_rows_of_weight_0_may_hold_any_integers():
    w = np.asarray([1.0, 1, 1, 0, 0, 1, 1, 1])
    far = np.asarray([np.iinfo(np.int64).min, np.iinfo(np.int64).max])[:, None]
    x = 10**15 + 3 + np.concatenate([GROUPS[:3], far - 10**15 - 3, GROUPS[3:]])
    assert anyops.kmeans(x, 2, init=x[[0, 5]], sample_weight=w).inertia == 10
    assert anyops.kmeans_step(x, x[[0, 5]], sample_weight=w).inertia == 5 + 20
    assert anyops.kmeans_partial(x, x[[0, 5]], sample_weight=w).inertia == 5 + 20
    y = np.asarray([0, 0, 1, 0, 0, 0, 1, 1])
    want = anyops.logistic_regression((x - x[0]).astype(float), y, sample_weight=w)
    got = anyops.logistic_regression(x, y, sample_weight=w)
    np.testing.assert_allclose(got.coef, want.coef, rtol=1e-9)
    at = np.zeros(1), np.zeros(())
    want = anyops.logistic_step((x - x[0]).astype(float), y, *at, sample_weight=w)
    np.testing.assert_allclose(anyops.logistic_step(x, y, *at, sample_weight=w).coef, want.coef, rtol=1e-9)


def test_copies_far_apart_have_no_inertia():
    x = np.asarray([[-(2**63)], [2**63 - 1], [-(2**63)], [5]])
    for given, k in ((x, 3), (x[:3, :], 2)):
        assert anyops.kmeans(given, k, init=given[[0, 1, 3][:k]]).inertia == 0
        assert anyops.kmeans_step(given, given[[0, 1, 3][:k]]).inertia == 0
    with pytest.raises(ValueError, match=r"further apart than .*; remove the outliers"):
        anyops.kmeans(np.concatenate([x, x + np.asarray([[1], [-1], [1], [1]])]), 3, init=x[[0, 1, 3]])


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_copies_far_apart_have_no_inertia_in_chunks_either(chunk):
    """As in memory: equal samples are accepted, and neighbours that would be rounded together are refused."""
    da = pytest.importorskip("dask.array")
    x = np.asarray([[-(2**63)], [2**63 - 1], [-(2**63)], [2**63 - 1]])
    got, want = anyops.kmeans(da.from_array(x, chunks=(chunk, 1)), 2, seed=0), anyops.kmeans(x, 2, seed=0)
    assert got.inertia == want.inertia == 0
    np.testing.assert_array_equal(np.sort(got.centers, axis=0), np.sort(want.centers, axis=0))
    near = x + np.asarray([[5], [0], [0], [-11]])
    weights = np.asarray([0.0, 1, 1, 0])
    lazy = da.from_array(weights, chunks=chunk)
    assert anyops.kmeans(da.from_array(near, chunks=(chunk, 1)), 2, seed=0, sample_weight=lazy).inertia == 0
    for given in (near, da.from_array(near, chunks=(chunk, 1))):
        with pytest.raises(ValueError, match="x must hold integers whose distances"):
            anyops.kmeans(given, 2, seed=0)


@pytest.mark.parametrize("chunk", [None, 4], ids=["whole", "chunks"])
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_centres_to_start_from_are_not_rounded(dtype, chunk):
    """Not in chunks, and not in another dtype than the samples: float64 represents every second of these integers."""
    near = np.asarray([11, 10, 10, 14, 18, 14, 9, 20, 17, 20])[:, None]
    x = near + 2**53 - 2
    want = anyops.kmeans(near.astype(float), 3, init=near[:3].astype(float))
    given = x if chunk is None else pytest.importorskip("dask.array").from_array(x, chunks=(chunk, 1))
    got = anyops.kmeans(given, 3, init=x[:3].astype(dtype))
    np.testing.assert_array_equal(np.asarray(got.labels), want.labels)
    np.testing.assert_allclose(got.inertia, want.inertia)


@pytest.mark.parametrize("op", [anyops.kmeans_assign, anyops.kmeans_partial, anyops.kmeans_step])
def test_samples_and_centres_of_two_integer_dtypes(op):
    x = np.asarray([[9], [10], [17]]) + 2**53
    np.testing.assert_array_equal(anyops.kmeans_assign(x, x[:2]).labels, [0, 1, 1])
    with pytest.raises(ValueError, match="x must hold integers up to 9007199254740992 if centers has another dtype"):
        op(x, x[:2].astype(np.uint64))
    np.testing.assert_array_equal(op(x - 2**53, x[:2].astype(np.uint64) - 2**53)[0], op(x - 2**53, x[:2] - 2**53)[0])


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("base", [10**17 + 9, 10**17 + 1, 2**60 + 1, 2**62 - 7, -(10**17) - 9])
def test_averages_of_integer_boxes_lie_among_them(base, dtype):
    """The average of equal boxes is the rounded box; the average of different boxes is within their hull."""
    if base < 0 and dtype == "uint64":
        pytest.skip("negative")
    boxes = np.asarray([[-500, -500, -400, -410], [0, 0, 100, 90], [8, 8, 108, 98], [8, 8, 108, 98]]).astype(dtype)
    boxes, scores = boxes + np.asarray(base).astype(dtype), np.asarray([0.5, 0.75, 0.5, 0.5])
    held = boxes.astype(np.float64)
    for some in (slice(2, 4), slice(0, 4), slice(1, 4), slice(0, 3)):
        given, n = boxes[some], len(boxes[some])
        low, high = held[some].min(0), held[some].max(0)
        fused = anyops.weighted_boxes_fusion(given, scores[some], np.zeros(n, int)).boxes
        moved = anyops.weighted_cluster_nms(given, scores[some], 0.5).boxes
        assert np.all((fused >= low) & (fused <= high))
        assert np.all((moved >= low) & (moved <= high))
    for equal in (np.stack([boxes[0], boxes[2], boxes[3]]), boxes[2:]):
        fused = anyops.weighted_boxes_fusion(equal, scores[: len(equal)], np.zeros(len(equal), int)).boxes
        assert {tuple(row) for row in fused.tolist()} == {tuple(row) for row in equal.astype(float).tolist()}


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_step_of_integers_under_a_transform_subtracts_them_first(library):
    x = (1_700_000_000 + LINE * 100_003).astype(np.int32)
    want = anyops.logistic_step((x - x[0]).astype(float), Y, np.zeros(1), np.zeros(())).coef
    place = {"numpy": Backend.NUMPY, "torch": Backend.TORCH_CPU, "jax": Backend.JAX_CPU}[library]
    if why := place.why_unavailable():
        pytest.skip(why)

    def step(x, y, w):
        at = place.asarray(np.zeros(1, "f4")), place.asarray(np.zeros((), "f4"))
        return anyops.logistic_step(x, y, *at, sample_weight=w)

    weights = np.asarray([np.ones(40), np.repeat([0, 1, 1, 1], 10)], np.float32)
    if library == "torch":
        import torch

        step = torch.func.vmap(step, in_dims=(None, None, 0))
    elif library == "jax":
        import jax

        step = jax.jit(jax.vmap(step, in_axes=(None, None, 0)))
    else:
        weights = weights[0]
    got = place.to_numpy(step(place.asarray(x), place.asarray(Y), place.asarray(weights)).coef)
    np.testing.assert_allclose(np.reshape(got, (-1,))[0], want[0], rtol=1e-5)


FORMS = {
    "array": lambda x, pandas: x,
    "list": lambda x, pandas: x.tolist(),
    "objects": lambda x, pandas: x.astype(object),
    "frame": lambda x, pandas: pandas.DataFrame({"a": x[:, 0]}),
    "nullable frame": lambda x, pandas: pandas.DataFrame({"a": x[:, 0]}).astype("Int64"),
}


@pytest.mark.parametrize("form", FORMS)
def test_estimators_keep_integers(form):
    estimators, pandas = pytest.importorskip("anyops.estimators"), pytest.importorskip("pandas")
    x = 10**17 + GROUPS * 10**4 + 1
    X = FORMS[form](x, pandas)
    want = anyops.kmeans(x, 2, init=x[::3])
    model = estimators.KMeans(2, init=x[::3].tolist()).fit(X)
    assert model.inertia_ == want.inertia == 10 * 10**8
    np.testing.assert_array_equal(model.predict(X), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(model.labels_, [0, 0, 0, 1, 1, 1])
    assert hasattr(model, "feature_names_in_") == ("frame" in form)
    distances = model.transform(X)
    np.testing.assert_allclose(distances[:, 0], np.abs(GROUPS[:, 0] - 1) * 1e4, atol=16)
    y = [0, 0, 1, 0, 1, 1]
    found = estimators.LogisticRegression(C=np.inf).fit(X, y)
    exact = anyops.logistic_regression(x - x[0], np.asarray(y))
    np.testing.assert_allclose(found.coef_[0], exact.coef, rtol=1e-6)
    near = FORMS[form](10**18 + GROUPS // 10, pandas)
    with pytest.raises(ValueError, match="X must hold integers whose centres float64 can tell apart"):
        estimators.KMeans(2, random_state=0).fit(near)
    with pytest.raises(ValueError, match="X must hold integers that float64 can tell apart"):
        estimators.LogisticRegression().fit(near, y)
    with pytest.raises(ValueError, match="X must hold integers that float64 can tell apart"):
        found.set_params(C=1.0).fit(FORMS[form](GROUPS, pandas), y).predict(near)


def test_integers_beside_floats_are_not_rounded_away():
    estimators, pandas = pytest.importorskip("anyops.estimators"), pytest.importorskip("pandas")
    for made in (lambda x: pandas.DataFrame({"a": x[:, 0]}).assign(b=0.5), lambda x: [[int(v), 0.5] for v in x[:, 0]]):
        with pytest.raises(ValueError, match=r"X must hold integers that float64 can tell apart, got .* in column 0"):
            estimators.KMeans(2, random_state=0).fit(made(10**18 + GROUPS))
        assert estimators.KMeans(2, random_state=0).fit(made(10**18 + GROUPS * 10**9)).inertia_ == 10 * 10**18
