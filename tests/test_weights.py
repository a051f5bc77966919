"""Sample weights are relative, in every function that takes them: in units from 2⁻¹⁴⁰ to 2¹²⁰, in float32."""

import numpy as np
import pytest

import anyops
from tests.backends import Backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2)).astype(np.float32)
Y = (X[:, 0] + RNG.logistic(size=40) > 0).astype(np.int32)
Y3 = np.arange(40, dtype=np.int32) % 3
W = (np.arange(40) % 7 + 1).astype(np.float32) / 4
CENTERS = X[:3]
AT = np.asarray([0.5, -0.25], np.float32), np.asarray(0.125, np.float32)
AT3 = RNG.normal(size=(3, 2)).astype(np.float32), RNG.normal(size=3).astype(np.float32)


def estimator(name, method):
    def call(ship, w, penalty):
        estimators = pytest.importorskip("anyops.estimators")
        made = {"KMeans": lambda: estimators.KMeans(3, init=ship(CENTERS)), "Logistic": estimators.LogisticRegression}
        options = {"C": 1 / penalty} if name == "Logistic" and method == "fit" else {}
        model = made[name]().set_params(**options)
        data = (ship(X),) if name == "KMeans" else (ship(X), ship(Y))
        if method == "fit":
            model.fit(*data, sample_weight=w)
            found = (model.cluster_centers_, model.labels_) if name == "KMeans" else (model.coef_, model.intercept_)
            return 0.0, *found
        score = model.fit(*data).score(*data, sample_weight=w)
        return (score, 0.0) if name == "KMeans" else (0.0, score)

    return call


def kmeans(ship, w, penalty):
    found = anyops.kmeans(ship(X), 3, init=ship(CENTERS), sample_weight=w)
    return found.inertia, found.centers


def partial(ship, w, penalty):
    found = anyops.kmeans_partial(ship(X), ship(CENTERS), sample_weight=w)
    return (found.inertia, found.counts, found.sums), found.sums / found.counts[:, None]


def step(ship, w, penalty):
    found = anyops.kmeans_step(ship(X), ship(CENTERS), sample_weight=w)
    return found.inertia, found.centers, found.labels, found.shift


def seeds(ship, w, penalty):
    return 0.0, anyops.kmeans_plusplus(ship(X), 3, seed=0, sample_weight=w).indices


def stream(ship, w, penalty):
    batches = [(ship(X[i : i + 20]), w[i : i + 20]) for i in (0, 20)]
    found = anyops.minibatch_kmeans(batches, 3, init=ship(CENTERS))
    return found.inertia, found.centers


def regression(**options):
    def call(ship, w, penalty):
        found = anyops.logistic_regression(
            ship(X), ship(Y), sample_weight=w, **{name: value * penalty for name, value in options.items()}
        )
        return 0.0, found.coef, found.intercept, found.loss

    return call


def loss(ship, w, penalty):
    return 0.0, *anyops.logistic_loss(ship(X), ship(Y), *map(ship, AT), sample_weight=w, l2=penalty)


def loss_of_classes(ship, w, penalty):
    return 0.0, *anyops.logistic_loss(ship(X), ship(Y3), *map(ship, AT3), sample_weight=w, l2=penalty)


def sums(ship, w, penalty):
    found = anyops.logistic_partial(ship(X), ship(Y), *map(ship, AT), sample_weight=w)
    return (found.loss, found.grad, found.hessian, found.weight), 0.0


def newton(ship, w, penalty):
    return 0.0, *anyops.logistic_step(ship(X), ship(Y), *map(ship, AT), sample_weight=w, l2=penalty)


def newton_of_classes(ship, w, penalty):
    return 0.0, *anyops.logistic_step(ship(X), ship(Y3), *map(ship, AT3), sample_weight=w, l2=penalty)


def stats(ship, w, penalty):
    found = anyops.batch_stats(ship(X), axis=1, sample_weight=w)
    return (found.count, found.m2), found.mean


def focal(ship, w, penalty):
    found = anyops.sigmoid_focal_loss_and_grad(ship(X), ship((X > 0) * 1), reduction="mean", sample_weight=w[:, None])
    return 0.0, *found


def focal_of_classes(ship, w, penalty):
    return 0.0, *anyops.softmax_focal_loss_and_grad(ship(X), ship(Y), reduction="mean", sample_weight=w)


def box_loss(ship, w, penalty):
    boxes = np.concatenate([X, X + 1 + np.abs(X)], axis=1)
    return 0.0, anyops.box_iou_loss(ship(boxes), ship(boxes[::-1].copy()), "mean", sample_weight=w)


# Each returns the results in the unit of the weights, and the results without a unit.
CALLS = {
    "kmeans": kmeans,
    "kmeans_partial": partial,
    "kmeans_step": step,
    "kmeans_plusplus": seeds,
    "minibatch_kmeans": stream,
    "KMeans.fit": estimator("KMeans", "fit"),
    "KMeans.score": estimator("KMeans", "score"),
    "logistic_regression": regression(),
    "logistic_regression, l2": regression(l2=1.0),
    "logistic_regression, l1": regression(l1=1.0),
    "logistic_loss": loss,
    "logistic_loss, classes": loss_of_classes,
    "logistic_partial": sums,
    "logistic_step": newton,
    "logistic_step, classes": newton_of_classes,
    "LogisticRegression.fit": estimator("Logistic", "fit"),
    "LogisticRegression.score": estimator("Logistic", "score"),
    "batch_stats": stats,
    "sigmoid_focal_loss": focal,
    "softmax_focal_loss": focal_of_classes,
    "box_iou_loss": box_loss,
}

# XLA treats sums below the normal range as 0, others have few digits there; NumPy warns of overflow.
SUMS = {"kmeans_partial", "logistic_partial", "batch_stats"}


def told(backend, found):
    """Host numbers: results in the unit of the weights, and results without a unit."""
    of_weights, *others = found
    of_weights = of_weights if isinstance(of_weights, tuple) else (of_weights,)
    on_host = [[backend.to_numpy(a) if hasattr(a, "shape") else a for a in part] for part in (of_weights, others)]
    return [[np.asarray(a, np.float64) for a in part] for part in on_host]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", [Backend.NUMPY, Backend.TORCH_CPU, Backend.JAX_CPU], ids=str)
def test_the_unit_of_the_weights_does_not_matter(place, name):
    if why := place.why_unavailable():
        pytest.skip(why)
    with place.active():
        scaled, plain = told(place, CALLS[name](place.asarray, place.asarray(W), 1.0))
        for power in (-140, -126, -60, 120):
            unit = 2.0**power
            if name in SUMS and power < -100:
                continue
            got, same = told(place, CALLS[name](place.asarray, place.asarray(W * np.float32(unit)), unit))
            rounding = 1e-3 if power == -140 else 1e-5  # a subnormal float32 near 2⁻¹⁴⁰ has 9 bits
            pairs = [(a, b) for a, b in zip(same, plain, strict=True)]
            pairs += [(a / unit, b) for a, b in zip(got, scaled, strict=True) if power >= -100]
            for a, b in pairs:
                largest = np.max(np.abs(b))
                np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding * largest, err_msg=f"2**{power}")
