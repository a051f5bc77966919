"""The picture of docs/losses.md: `python docs/plot_focal.py`."""

from pathlib import Path

import numpy as np

import anyops

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
COLOURS = ("#000000", "#0072b2", "#009e73", "#d55e00", "#cc79a7")


def draw(path: Path) -> None:
    """Loss, and its derivative by the logit, against the probability given to the target."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    p = np.linspace(0.001, 0.999, 999)
    logits, targets = np.log(p / (1 - p)), np.ones_like(p)
    for gamma, colour in zip(GAMMAS, COLOURS, strict=True):
        loss, slope = anyops.sigmoid_focal_loss_and_grad(logits, targets, alpha=None, gamma=gamma)
        label = f"γ = {gamma:g}" + (", cross-entropy" if gamma == 0 else "")
        left.plot(p, loss, color=colour, label=label)
        right.plot(p, slope, color=colour, label=label)
    left.set(ylim=(0, 4), ylabel="loss")
    right.set(ylabel="derivative by the logit")
    for axes in (left, right):
        axes.set(xlabel="probability p of the target", xlim=(0, 1))
        axes.grid(color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    draw(Path(__file__).parent / "images" / "focal.png")
