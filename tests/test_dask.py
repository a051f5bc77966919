"""Costs of chunked arrays: numbers sent to the client, sizes of task results, memory of a worker."""

import importlib
import os
import pickle
import re
import signal
import tracemalloc
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

import anyops

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
ROWS, CHUNKS = 400, 10


def samples(n, d=4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) + 4 * rng.integers(0, 3, (n, 1))


def chunked(host):
    return da.from_array(host, chunks=(len(host) // CHUNKS, *host.shape[1:]))


@contextmanager
def results():
    """Bytes of the results of all tasks, and of each computation's result for the client."""
    found = SimpleNamespace(tasks=[], client=[])

    def get(graph, keys, **options):
        result = dask.get(graph, keys, **options)
        found.client.append(len(pickle.dumps(result)))
        return result

    def after(_key, result, *_):
        found.tasks.append(len(pickle.dumps(result)))

    with dask.config.set(scheduler=get), dask.callbacks.Callback(posttask=after):
        yield found


def fits():
    far = samples(3)
    far[0] = 1e3  # a centre that loses all samples
    starts = {"far": far, "array": samples(3), **{name: name for name in ("k-means++", "k-means||", "random")}}
    yield from ((f"kmeans {name}", lambda x, y, w, init=init: kmeans(x, w, init)) for name, init in starts.items())
    yield "kmeans cosine", lambda x, y, w: kmeans(x, w, "k-means||", metric="cosine")
    yield "kmeans iou", lambda x, y, w: kmeans(x, w, "k-means||", metric="iou")
    yield "kmeans unweighted", lambda x, y, w: kmeans(x, None, "k-means||")
    yield "kmeans integers", lambda x, y, w: kmeans(x, w, "k-means||")
    yield "kmeans_partial", lambda x, y, w: anyops.kmeans_partial(x, samples(3), sample_weight=w)
    yield "batch_stats", lambda x, y, w: anyops.batch_stats(x, sample_weight=w)
    for solver in ("newton", "lbfgs", "proximal"):
        yield (
            solver,
            lambda x, y, w, solver=solver: anyops.logistic_regression(
                x, y, l2=1.0, sample_weight=w, class_weight="balanced", solver=solver
            ),
        )
    yield "logistic_loss", lambda x, y, w: anyops.logistic_partial(x, y, np.ones(4), np.zeros(()), sample_weight=w)


def kmeans(x, w, init, **options):
    options = {"seed": 3, "max_iter": 4, "tol": 0.0, "n_init": 1, **options}
    return anyops.kmeans(x, 3, init=init, sample_weight=w, callback=lambda *_: None, **options)


def scores():
    estimators = pytest.importorskip("anyops.estimators", exc_type=ImportError)

    def score_kmeans(x, y, w):
        return estimators.KMeans(3, init=samples(3), max_iter=2).fit(x, sample_weight=w).score(x, sample_weight=w)

    def score_logistic(x, y, w):
        return estimators.LogisticRegression().fit(x, y, sample_weight=w).score(x, y, sample_weight=w)

    return {"KMeans.score": score_kmeans, "LogisticRegression.score": score_logistic}


@pytest.mark.parametrize("name", [*dict(fits()), "KMeans.score", "LogisticRegression.score"])
def test_no_number_of_each_sample_leaves_its_chunk(name):
    """The largest results of a computation and of a task do not grow with the rows of a fixed number of chunks."""
    call = dict(fits())[name] if name in dict(fits()) else scores()[name]
    tasks, client = [], []
    for n in (ROWS, 16 * ROWS):
        x = samples(n)
        y, w = (x[:, 0] > 4).astype(np.int64) ^ (np.arange(n) % 7 == 0), 0.5 + np.arange(n) % 3
        x = abs(x[:, :2]) + 1 if "iou" in name else (x * 100).astype(np.int64) + 2**55 if "integers" in name else x
        with results() as found:
            call(*map(chunked, (x, y, w)))
        tasks.append(max(found.tasks))
        client.append(max(found.client))
    assert client[1] < client[0] + 1_000 < 10_000
    if "score" not in name and "integers" not in name:  # these compare labels in each chunk
        assert tasks[1] < tasks[0] + 1_000


@pytest.mark.parametrize("init", ["array", "k-means++", "k-means||", "random"])
def test_a_fit_holds_less_than_three_chunks(init):
    size, d, weighted = 200_000, 4, init != "array"

    def make(seed, width):
        return np.random.default_rng(int(seed[0, 0])).random((size, width))

    seeds = da.from_array(np.arange(2.0)[:, None], chunks=1)
    x, w = (seeds.map_blocks(make, width, chunks=((size,) * 2, (width,)), dtype=np.float64) for width in (d, 1))
    start = np.random.default_rng(9).random((3, d)) if init == "array" else init
    kmeans(chunked(samples(40)), None, "k-means||")  # so that imports are done
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        try:
            weight = w[:, 0] if weighted else None
            anyops.kmeans(x, 3, init=start, max_iter=1, n_init=1, sample_weight=weight, seed=0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * 8 * d * size


def test_the_same_draws_wherever_chunks_end():
    x = samples(900)
    w = np.where(np.arange(900) % 5 == 0, 0.0, np.random.default_rng(2).random(900))
    for init in ("k-means++", "k-means||", "random"):
        for weight in (None, w):
            options = {"init": init, "seed": 5, "max_iter": 1}
            want = anyops.kmeans(x, 7, sample_weight=weight, **options)
            for chunks in ((900,), (300, 0, 600), (1, 499, 400)):
                lazy = None if weight is None else da.from_array(weight, chunks=(chunks,))
                got = anyops.kmeans(da.from_array(x, chunks=(chunks, 2)), 7, sample_weight=lazy, **options)
                np.testing.assert_allclose(got.centers, want.centers, rtol=1e-9, err_msg=f"{init} {chunks}")
                np.testing.assert_array_equal(got.labels.compute(), want.labels)


def test_empty_clusters_move_as_in_memory():
    x = np.concat([samples(300), samples(300)])  # twice, so that there are equal distances
    far = np.concat([x[:2], np.full((3, 4), 1e3)])
    want = anyops.kmeans(x, 5, init=far, tol=0.0)
    got = anyops.kmeans(da.from_array(x, chunks=(70, -1)), 5, init=far, tol=0.0)
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-9)
    assert got.n_iter == want.n_iter


def test_copies_of_few_samples():
    x = np.repeat(samples(3), 20, axis=0)
    for init in ("k-means++", "k-means||", "random"):
        got = anyops.kmeans(da.from_array(x, chunks=(7, -1)), 5, init=init, seed=0)
        assert got.inertia < 1e-20 or init == "random"


@pytest.mark.parametrize("method", ["transform", "predict_proba", "predict_log_proba", "decision_function", "three"])
def test_results_have_one_chunk_along_columns(method):
    estimators = pytest.importorskip("anyops.estimators", exc_type=ImportError)
    host = samples(60)
    x, y = da.from_array(host, chunks=(20, 2)), chunked((host[:, 0] > 4).astype(np.int64))
    if method == "transform":
        model = estimators.KMeans(3, init=host[:3]).fit(x)
    else:
        y = y if method != "three" else chunked(np.arange(60) % 3)
        model = estimators.LogisticRegression(max_iter=500).fit(x, y)
    got = getattr(model, "predict_proba" if method == "three" else method)(x)
    want = getattr(model, "predict_proba" if method == "three" else method)(host)
    np.testing.assert_allclose(got.compute(), want, rtol=1e-9)
    assert got.numblocks == (3, 1)[: got.ndim]


def test_score_is_that_of_memory():
    estimators = pytest.importorskip("anyops.estimators", exc_type=ImportError)
    x = samples(60)
    y, w = np.where(x[:, 0] > 4, "up", "down"), 1e300 * (1 + np.arange(60) % 3)
    y[::7] = "down"
    model = estimators.LogisticRegression().fit(x, y)
    for weight in (None, w):
        lazy = None if weight is None else chunked(weight)
        want = np.average(model.predict(x) == y, weights=None if weight is None else weight / 1e300)
        assert model.score(chunked(x), y, sample_weight=lazy) == pytest.approx(want, rel=1e-12)
        assert model.score(x, y, sample_weight=weight) == pytest.approx(want, rel=1e-12)
    for weight in (np.zeros(60), np.full(60, -1.0), np.full(60, np.nan)):
        with pytest.raises(ValueError, match="sample_weight must"):
            model.score(chunked(x), y, sample_weight=chunked(weight))


def test_batches_and_a_start_in_chunks():
    x = samples(120)
    want = anyops.minibatch_kmeans([x[:60], x[60:]], 3, init=x[:3])
    lazy = chunked(x)
    got = anyops.minibatch_kmeans([lazy[:60], lazy[60:]], 3, init=lazy[:3])
    np.testing.assert_array_equal(got.centers, want.centers)


# --- data frames -----------------------------------------------------------------------------------------------------


class Frame:
    """Looks like a dask data frame; converting it to an array would load it."""

    def to_dask_array(self, lengths=None):
        raise AssertionError

    def __array__(self, *_, **__):
        raise AssertionError


def test_data_frames_in_parts_are_refused():
    estimators = pytest.importorskip("anyops.estimators", exc_type=ImportError)
    x, y = samples(30), np.arange(30) % 2
    frame = Frame()
    models = estimators.KMeans(2, init=x[:2]).fit(x), estimators.LogisticRegression().fit(x, y)
    calls = [lambda: estimators.KMeans(2).fit(frame), lambda: estimators.LogisticRegression().fit(frame, y)]
    calls += [lambda m=model, f=method: getattr(m, f)(frame) for model in models for method in ("predict",)]
    calls += [lambda: models[0].transform(frame), lambda: models[1].predict_proba(frame)]
    calls += [lambda: models[0].score(frame), lambda: models[1].score(frame, y)]
    for call in calls:
        with pytest.raises(TypeError, match=r"X must be an array, .*X\.to_dask_array\(lengths=True\)"):
            call()
    for name, call in {
        "y": lambda: estimators.LogisticRegression().fit(x, frame),
        "sample_weight": lambda: estimators.KMeans(2).fit(x, sample_weight=frame),
    }.items():
        with pytest.raises(TypeError, match=rf"{name} must be an array, .*{name}\.to_dask_array"):
            call()


def test_a_frame_of_dask():
    frames = pytest.importorskip("dask.dataframe", exc_type=ImportError)
    pandas = importlib.import_module("pandas")
    estimators = pytest.importorskip("anyops.estimators", exc_type=ImportError)
    host = samples(60)
    frame = frames.from_pandas(pandas.DataFrame(host), npartitions=3)
    with pytest.raises(TypeError, match="to_dask_array"):
        estimators.KMeans(3).fit(frame)
    got = estimators.KMeans(3, init=host[:3]).fit(frame.to_dask_array(lengths=True))
    want = estimators.KMeans(3, init=host[:3]).fit(host)
    np.testing.assert_allclose(got.cluster_centers_, want.cluster_centers_, rtol=1e-9)


# --- chunks of unknown sizes -----------------------------------------------------------------------------------------

BOXES = np.concat([np.arange(20.0).reshape(10, 2), np.arange(20.0).reshape(10, 2) + 3], axis=1)
QUADS = BOXES[:, [0, 1, 2, 1, 2, 3, 0, 3]]
HALVES = np.linspace(0.0, 1.0, 10)
UNKNOWN = {
    "box_area": lambda f: anyops.box_area(f(BOXES)),
    "box_convert": lambda f: anyops.box_convert(f(BOXES), "xyxy", "xywh"),
    "clip_boxes": lambda f: anyops.clip_boxes(f(BOXES), (9, 9)),
    "masks_to_boxes": lambda f: anyops.masks_to_boxes(f(BOXES[:, :, None] > 2)),
    "box_iou": lambda f: anyops.box_iou(f(BOXES), f(BOXES)),
    "box_iou one to one": lambda f: anyops.box_iou(f(BOXES), f(BOXES), pairwise=False),
    "box_iou of polygons": lambda f: anyops.box_iou(f(QUADS), f(QUADS), fmt="xyxyxyxy"),
    "mask_iou": lambda f: anyops.mask_iou(f(BOXES[:, :, None] > 2), f(BOXES[:, :, None] > 2)),
    "keypoint_similarity": lambda f: anyops.keypoint_similarity(
        f(BOXES[:, :, None][:, :, [0, 0]]), f(BOXES[:, :, None][:, :, [0, 0]]), f(HALVES), sigmas=[1, 1, 1, 1]
    ),
    "sigmoid_focal_loss": lambda f: anyops.sigmoid_focal_loss(f(BOXES), f(0 * BOXES)),
    "sigmoid_focal_loss_and_grad": lambda f: anyops.sigmoid_focal_loss_and_grad(f(BOXES), f(0 * BOXES)),
    "softmax_focal_loss": lambda f: anyops.softmax_focal_loss(f(BOXES), f(np.arange(10) % 4)),
    "softmax_focal_loss of probabilities": lambda f: anyops.softmax_focal_loss(f(BOXES), f(0 * BOXES + 0.25)),
    "softmax_focal_loss_and_grad": lambda f: anyops.softmax_focal_loss_and_grad(f(BOXES), f(np.arange(10) % 4)),
    "box_iou_loss": lambda f: anyops.box_iou_loss(f(BOXES), f(BOXES)),
    "batch_norm": lambda f: anyops.batch_norm(f(BOXES), da.zeros(4), da.ones(4)),
    "batch_norm in training": lambda f: anyops.batch_norm(f(BOXES), da.zeros(4), da.ones(4), training=True),
    "batch_norm_grad": lambda f: anyops.batch_norm_grad(f(BOXES), f(BOXES)),
    "batch_stats": lambda f: anyops.batch_stats(f(BOXES)),
    "batch_stats weighted": lambda f: anyops.batch_stats(f(BOXES), sample_weight=f(HALVES)),
    "kmeans": lambda f: anyops.kmeans(f(BOXES), 2, init=BOXES[:2]).centers,
    "kmeans_assign": lambda f: anyops.kmeans_assign(f(BOXES), BOXES[:2]),
    "kmeans_partial": lambda f: anyops.kmeans_partial(f(BOXES), BOXES[:2]),
    "kmeans_step": lambda f: anyops.kmeans_step(f(BOXES), da.from_array(BOXES[:2])),
    "anchor_boxes": lambda f: anyops.anchor_boxes(f(BOXES[:, 2:]), 2, center="mean", seed=0).anchors,
    "minibatch_kmeans": lambda f: anyops.minibatch_kmeans([f(BOXES)], 2, init=BOXES[:2]).centers,
    "logistic_regression": lambda f: anyops.logistic_regression(f(BOXES), f(np.arange(10) % 2), l2=1.0).coef,
    "logistic_loss": lambda f: anyops.logistic_loss(f(BOXES), f(np.arange(10) % 2), np.ones(4), np.zeros(())),
    "logistic_predict_proba": lambda f: anyops.logistic_predict_proba(f(BOXES), np.ones(4), np.zeros(())),
    "logistic_log_proba": lambda f: anyops.logistic_log_proba(f(BOXES), np.ones(4), np.zeros(())),
    "logistic_predict_proba, classes": lambda f: anyops.logistic_predict_proba(f(BOXES), np.eye(4)[:3], np.zeros(3)),
    "nms": lambda f: anyops.nms(f(BOXES), f(HALVES)),
    "nms_mask": lambda f: anyops.nms_mask(f(BOXES), f(HALVES)),
    "weighted_boxes_fusion": lambda f: anyops.weighted_boxes_fusion(f(BOXES), f(HALVES), f(np.arange(10))),
}


@pytest.mark.parametrize("name", ["kmeans", "kmeans_partial", "kmeans_step", "batch_stats", "logistic_partial"])
def test_weights_that_do_not_fit_are_named(name):
    x, centers = chunked(BOXES), da.from_array(BOXES[:2])
    call = {
        "kmeans": lambda w: anyops.kmeans(x, 2, init=centers, sample_weight=w),
        "kmeans_partial": lambda w: anyops.kmeans_partial(x, BOXES[:2], sample_weight=w),
        "kmeans_step": lambda w: anyops.kmeans_step(x, centers, sample_weight=w),
        "batch_stats": lambda w: anyops.batch_stats(x, sample_weight=w),
        "logistic_partial": lambda w: anyops.logistic_partial(
            x, chunked(np.arange(10) % 2), np.ones(4), np.zeros(()), sample_weight=w
        ),
    }[name]
    for weight in (chunked(HALVES)[:9], chunked(HALVES)[:, None]):
        with pytest.raises(ValueError, match="sample_weight must have shape"):
            call(weight)
    remedy = r"pass dask\.array\.from_array\(sample_weight, chunks=\.\.\.\) with the chunks of x$"
    with pytest.raises(TypeError, match=f"x and sample_weight must be arrays of one library.*{remedy}"):
        call(HALVES)


def values(result):
    return [np.asarray(x) for x in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("name", [name for name in UNKNOWN if "nms" not in name and "fusion" not in name])
def test_chunks_that_are_empty_change_nothing(name):
    """dask's reductions over columns fail on chunks without rows."""

    def empty(host):
        return da.from_array(host, chunks=((0, 4, 0, 6), *((0, size) for size in host.shape[1:])))

    def whole(host):
        return da.from_array(host, chunks=-1)

    for a, b in zip(values(UNKNOWN[name](empty)), values(UNKNOWN[name](whole)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_sizes_of_chunks_are_named_or_do_not_matter(name):
    def unknown(host):
        return da.from_array(host, chunks=(4, *host.shape[1:]))[da.from_array(np.ones(10, bool), chunks=4)]

    def known(host):
        return da.from_array(host, chunks=(4, *host.shape[1:]))

    try:
        got = values(UNKNOWN[name](unknown))
    except ValueError as error:
        got, said = None, str(error)
    if got is None:
        assert re.search(r"must have chunks of known sizes.*compute_chunk_sizes\(\)", said), said
        return
    for a, b in zip(got, values(UNKNOWN[name](known)), strict=True):
        np.testing.assert_allclose(a, b)


# --- a cluster -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_worker_that_dies_in_the_middle_of_a_fit():
    distributed = pytest.importorskip("distributed")
    x = samples(3_000)
    want = anyops.kmeans(x, 8, init="k-means||", seed=0, max_iter=4, tol=0.0)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        killed = []

        def kill(iteration, *_):
            if iteration == 2:
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

        lazy = da.from_array(x, chunks=(700, -1))
        got = anyops.kmeans(lazy, 8, init="k-means||", seed=0, max_iter=4, tol=0.0, callback=kill)
        np.testing.assert_array_equal(got.labels.compute(), want.labels)
    assert killed
    np.testing.assert_allclose(got.centers, want.centers, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "proximal"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_logistic_fit_with_chunks_of_no_rows(solver, dtype):
    da = pytest.importorskip("dask.array")
    x = (np.random.default_rng(0).normal(size=(40, 2)) * 10).astype(dtype)
    y = np.arange(40) % 2
    want = anyops.logistic_regression(x, y, solver=solver)
    for chunks in ((20, 0, 20), (0, 40), (40, 0)):
        for weight in (None, da.from_array(np.ones(40), chunks=((40, 0),))):
            got = anyops.logistic_regression(
                da.from_array(x, chunks=(chunks, 2)), da.from_array(y, chunks=20), solver=solver, sample_weight=weight
            )
            np.testing.assert_allclose(got.coef, want.coef, rtol=1e-5, atol=1e-7)
