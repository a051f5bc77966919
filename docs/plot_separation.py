"""The picture of docs/logistic_regression.md: `python docs/plot_separation.py`."""

from pathlib import Path

import numpy as np

import anyops

X = np.array([-2.0, -1.4, -0.9, -0.5, 0.4, 0.8, 1.3, 2.1])
APART = np.array([0, 0, 0, 0, 1, 1, 1, 1])
MIXED = np.array([0, 0, 1, 0, 1, 0, 1, 1])
SLOPES = np.linspace(0.0, 12.0, 200)


def losses(y: np.ndarray, l2: float) -> list[float]:
    """The least loss over the intercept for each slope."""
    levels = np.linspace(-6.0, 6.0, 241)
    rows = X[:, None]
    return [
        min(float(anyops.logistic_loss(rows, y, np.array([s]), np.asarray(level), l2=l2).loss) for level in levels)
        for s in SLOPES
    ]


def draw(path: Path) -> None:
    """Curves that grow ever steeper, and the loss against the slope."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    at = np.linspace(-2.5, 2.5, 400)
    level = np.asarray(0.0)
    for slope, grey in zip((2.0, 6.0, 30.0), ("#bbbbbb", "#888888", "#444444"), strict=True):
        p = anyops.logistic_predict_proba(at[:, None], np.array([slope]), level)
        left.plot(at, p, color=grey, label=f"slope {slope:g}")
    found = anyops.logistic_regression(X[:, None], APART, l2=0.1)
    p = anyops.logistic_predict_proba(at[:, None], found.coef, found.intercept)
    left.plot(at, p, color="#0072b2", label=f"l2 = 0.1: slope {found.coef[0]:.2f}")
    left.plot(X, APART, "o", color="#d55e00")
    left.set(xlabel="x", ylabel="probability of the second class", title="separated: the steeper the better")

    mixed = anyops.logistic_regression(X[:, None], MIXED)
    right.plot(SLOPES, losses(MIXED, 0.0), color="#009e73", label="classes that overlap")
    right.plot(mixed.coef, [mixed.loss], "o", color="#009e73")
    right.plot(SLOPES, losses(APART, 0.0), color="#d55e00", label="separated: no minimum")
    right.plot(SLOPES, losses(APART, 0.1), color="#0072b2", label="separated, l2 = 0.1")
    right.plot(found.coef, [found.loss], "o", color="#0072b2")
    right.set(xlabel="slope", ylabel="mean loss, at the best intercept", ylim=(0, 1.5), title="loss against the slope")
    for axes in (left, right):
        axes.grid(color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    draw(Path(__file__).parent / "images" / "separation.png")
