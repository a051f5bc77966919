import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import anyops
from digits import training as module
from digits.imbalance import HARDEST, loss_shares
from digits.training import BACKGROUND, L2, RATIO, Classifier, Windows, minimise, pick_windows, train_focal
from tests.reference import pairwise


def test_a_hundred_windows_on_none_for_each_on_a_digit(training, views):
    picked, classes = pick_windows(training[0], views, np.random.default_rng(0), np.asarray)
    on = classes != BACKGROUND
    assert len(np.unique(picked)) == len(picked)
    assert (~on).sum() == RATIO * on.sum()
    assert on.sum() > len(training[0].labels)
    boxes = np.concatenate([view.boxes for view in views])[picked].astype(np.float64)
    overlaps = pairwise(boxes[on], training[0].boxes)
    assert overlaps.max(axis=1).min() > module.OFF
    assert np.array_equal(training[0].labels[overlaps.argmax(axis=1)], classes[on])
    assert pairwise(boxes[~on][:2000], training[0].boxes).max() < module.OFF


def test_features_are_normalised(learnt):
    windows, normalisation = learnt
    y = windows.features.astype(np.float64)
    assert np.abs(y.mean(axis=0)).max() < 1e-4
    seen = normalisation.var > 1e-4  # eps is 1e-5
    assert np.abs(y.var(axis=0) / (normalisation.var / (normalisation.var + 1e-5)) - 1)[seen].max() < 1e-3
    assert windows.labels.shape == y.shape[:1]


def test_lbfgs_finds_the_minimum():
    # Rosenbrock's function in a scaled form: a bent valley, with its minimum of 0 at (1, 1)
    def objective(theta):
        a, b = theta[0, 0], theta[0, 1]
        slope = np.asarray([[2 * (a - 1) - 40 * a * (b - a * a), 20 * (b - a * a)]])
        return float((1 - a) ** 2 + 10 * (b - a * a) ** 2), slope

    theta, n_iter = minimise(objective, np.asarray([[-1.2, 1.0]]), tol=0.0)
    assert np.allclose(theta, 1, atol=1e-6)
    assert 5 < n_iter < 60


@pytest.fixture(scope="module")
def few(learnt):
    """All windows on digits and ten times as many on none, of which a fit is quick, in double precision."""
    features, labels = learnt[0]
    on = np.flatnonzero(labels != BACKGROUND)
    some = np.concatenate([on, np.flatnonzero(labels == BACKGROUND)[: 10 * len(on)]])
    return Windows(features[some, ::4].astype(np.float64), labels[some])


def softmax(windows, classifier):
    logits = windows.features @ classifier.coef.T + classifier.intercept
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def objective(windows, classifier, gamma):
    """The objective, by its definition."""
    p = softmax(windows, classifier)[np.arange(len(windows.labels)), windows.labels]
    return np.sum(-((1 - p) ** gamma) * np.log(p)) + L2 / 2 * np.sum(classifier.coef**2)


def test_without_focus_it_is_scikit_learns_logistic_regression(few, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 400)
    theirs = LogisticRegression(C=1 / L2, tol=1e-6, max_iter=500).fit(*few)
    expected = objective(few, Classifier(theirs.coef_, theirs.intercept_), 0)
    for ours in (train_focal(few, gamma=0.0), module.train_cross_entropy(few)):
        assert abs(objective(few, ours, 0) / expected - 1) < 1e-3
        assert np.abs(softmax(few, ours) - theirs.predict_proba(few.features)).max() < 0.02


def test_focal_loss_is_at_a_minimum(few):
    found = train_focal(few)
    least = objective(few, found, module.GAMMA)
    rng = np.random.default_rng(0)
    for _ in range(10):
        move = rng.normal(size=found.coef.shape), rng.normal(size=found.intercept.shape)
        for size in (-0.01, 0.01):
            moved = Classifier(found.coef + size * move[0], found.intercept + size * move[1])
            assert objective(few, moved, module.GAMMA) > least


def test_shares_of_the_losses():
    # Logits by hand: one feature, which is the logit of the background, the others being 0.
    coef = np.zeros((11, 1))
    coef[BACKGROUND] = 1.0
    features = np.asarray([[0.0], [8.0], [2.0], [1.0]])
    labels = np.asarray([3, BACKGROUND, BACKGROUND, BACKGROUND])
    p = np.exp(features[:, 0]) / (10 + np.exp(features[:, 0]))
    p[0] = 1 / 11
    cross_entropy, focal = loss_shares(Windows(features, labels), Classifier(coef, np.zeros(11)))
    for found, loss in ((cross_entropy, -np.log(p)), (focal, -((1 - p) ** module.GAMMA) * np.log(p))):
        assert found.background == pytest.approx(loss[1:].sum() / loss.sum())
        assert found.easy == pytest.approx(loss[1] / loss.sum())
        assert found.curve[-1] == pytest.approx(1)
        assert found.curve[np.searchsorted(HARDEST, 0.5)] == pytest.approx(loss[2:].max() / loss[1:].sum(), rel=0.7)
        assert (np.diff(found.curve) >= 0).all()
    assert focal.easy < cross_entropy.easy


def test_normalisation_is_that_of_the_library(learnt, training, codebook, views):
    windows, (mean, var) = learnt
    again = module.gather_windows(training, codebook, views, np.asarray).features
    assert np.allclose(anyops.batch_norm(again, mean, var).y, windows.features, atol=1e-4)
