"""Train a small network on handwritten digits with closed-form gradients, on any array library.

    python examples/train_digits.py                       on NumPy, PyTorch and JAX, if installed
    python examples/train_digits.py --backend numpy       on one of them
    python examples/train_digits.py --plot curves.png     and draw the loss curves

linear → batch norm → relu → linear, softmax focal loss, momentum. Nothing here needs automatic differentiation: the
gradients of the loss and of batch norm come from anyops, the other gradients are one line each, so it also runs on
NumPy. One function trains on all libraries, with the same random numbers, so the loss curves coincide.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from sklearn.datasets import load_digits

import anyops

HIDDEN, CLASSES, BATCH, EPOCHS = 64, 10, 64, 12
RATE, MOMENTUM = 0.1, 0.9


class Run(NamedTuple):
    """The loss of every step, and the share of held-out digits that are recognised."""

    losses: list[float]
    accuracy: float


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels in [0, 1] and labels: three quarters to train on, one to hold out."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    cut = len(x) * 3 // 4
    return x[:cut], y[:cut], x[cut:], y[cut:]


def initial(features: int) -> dict[str, np.ndarray]:
    """Weights drawn on the host, so the same for every library. Batch norm makes a bias before it superfluous."""
    rng = np.random.default_rng(1)
    return {
        "w1": rng.normal(0, (2 / features) ** 0.5, (features, HIDDEN)).astype(np.float32),
        "gamma": np.ones(HIDDEN, np.float32),
        "beta": np.zeros(HIDDEN, np.float32),
        "w2": rng.normal(0, HIDDEN**-0.5, (HIDDEN, CLASSES)).astype(np.float32),
        "b2": np.zeros(CLASSES, np.float32),
    }


def gradients(xp: Any, p: dict[str, Any], state: tuple[Any, Any], x: Any, y: Any) -> tuple[Any, dict[str, Any], Any]:
    """Loss, its gradient by every parameter, and the new running statistics."""
    h = x @ p["w1"]
    n, *state = anyops.batch_norm(h, *state, p["gamma"], p["beta"], training=True)
    zero = xp.zeros_like(n)
    a = xp.where(n > 0, n, zero)
    loss, dlogits = anyops.softmax_focal_loss_and_grad(a @ p["w2"] + p["b2"], y, reduction="mean")

    dn = xp.where(n > 0, dlogits @ p["w2"].T, zero)
    dh, dgamma, dbeta = anyops.batch_norm_grad(dn, h, p["gamma"])
    grads = {"w1": x.T @ dh, "gamma": dgamma, "beta": dbeta, "w2": a.T @ dlogits, "b2": xp.sum(dlogits, axis=0)}
    return loss, grads, tuple(state)


def predict(xp: Any, p: dict[str, Any], state: tuple[Any, Any], x: Any) -> Any:
    """The most probable class, batch norm with the running statistics."""
    n, *_ = anyops.batch_norm(x @ p["w1"], *state, p["gamma"], p["beta"])
    return xp.argmax(xp.where(n > 0, n, xp.zeros_like(n)) @ p["w2"] + p["b2"], axis=1)


def train(asarray: Any, epochs: int = EPOCHS) -> Run:
    """Stochastic gradient descent with momentum, the order of the digits drawn on the host."""
    x, y, held_x, held_y = digits()
    xp = array_api_compat.array_namespace(asarray(x))
    p = {name: asarray(value) for name, value in initial(x.shape[1]).items()}
    speed = {name: xp.zeros_like(value) for name, value in p.items()}
    state = asarray(np.zeros(HIDDEN, np.float32)), asarray(np.ones(HIDDEN, np.float32))
    rng, losses = np.random.default_rng(2), []
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            some = order[start : start + BATCH]
            loss, grads, state = gradients(xp, p, state, asarray(x[some]), asarray(y[some]))
            speed = {name: MOMENTUM * speed[name] + grads[name] for name in p}
            p = {name: p[name] - RATE * speed[name] for name in p}
            losses.append(float(loss))
    found = predict(xp, p, state, asarray(held_x))
    return Run(losses, float(xp.mean(xp.astype(found == asarray(held_y), xp.float32))))


LIBRARIES = {"numpy": ("numpy", "asarray"), "torch": ("torch", "asarray"), "jax": ("jax.numpy", "asarray")}


def converter(name: str) -> Any:
    """Return the function that converts host data to a library; raise ImportError if it is not installed."""
    module, function = LIBRARIES[name]
    return getattr(importlib.import_module(module), function)


def plot(runs: dict[str, Run], path: str) -> None:
    """The loss of every step, one line on top of another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Wide to narrow, so that lines which coincide are all seen.
    for (name, run), width, colour in zip(runs.items(), (6, 3.5, 1.2), ("#56b4e9", "#e69f00", "#000000"), strict=False):
        axes.plot(run.losses, linewidth=width, color=colour, label=f"{name}: {run.accuracy:.1%} of held-out digits")
    axes.set(yscale="log", xlabel="step", ylabel="softmax focal loss, γ = 2")
    axes.grid(which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> dict[str, Run]:
    parser = argparse.ArgumentParser(description="Train on digits with closed-form gradients.")
    parser.add_argument("--backend", choices=LIBRARIES, help="default: each that is installed")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args(argv)
    runs: dict[str, Run] = {}
    for name in [options.backend] if options.backend else LIBRARIES:
        try:
            asarray = converter(name)
        except ImportError as error:
            if options.backend:
                raise SystemExit(f"{name}: {error}") from None
            continue
        run = runs[name] = train(asarray, options.epochs)
        print(f"{name:6} loss {run.losses[0]:.4f} -> {run.losses[-1]:.4f}, {run.accuracy:.1%} held out")
    first = next(iter(runs.values()))
    for name, run in runs.items():
        difference = np.max(np.abs(np.subtract(run.losses, first.losses)))
        print(f"{name:6} largest difference of a loss from the first library's: {difference:.1e}")
    if options.plot:
        plot(runs, options.plot)
    return runs


if __name__ == "__main__":
    main()
