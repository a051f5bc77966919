"""The picture of anchors: over the sizes of all boxes, and to scale around one centre."""

import io

import numpy as np
from numpy.typing import NDArray

_SHOWN = 20_000
"""The most points that are drawn: more only hide each other."""


def draw_anchors(
    wh: NDArray[np.float64], labels: NDArray[np.int64], anchors: NDArray[np.float64], title: str, unit: str
) -> bytes:
    """Return a PNG of boxes by width and height in the colour of their anchor, and of the anchors around one centre."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import LogLocator, NullFormatter

    colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(anchors))) * [0.92, 0.92, 0.92, 1]
    figure = Figure(figsize=(13, 6.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=14)
    points, frames = figure.subplots(1, 2)

    some = np.arange(len(wh))
    if len(wh) > _SHOWN:
        some = np.random.default_rng(0).choice(len(wh), _SHOWN, replace=False)
    opacity = float(np.clip(2_000 / len(some), 0.2, 0.8))
    points.scatter(*wh[some].T, s=9, color=colors[labels[some]], alpha=opacity, linewidths=0)
    points.scatter(*anchors.T, s=190, color=colors, edgecolors="white", linewidths=4, zorder=3)
    points.scatter(*anchors.T, s=190, color=colors, edgecolors="black", linewidths=1.2, zorder=4)
    for number, place in enumerate(anchors, 1):
        text = points.annotate(
            str(number), place, ha="center", va="center_baseline", fontsize=9, color="white", zorder=5
        )
        text.set(weight="bold", path_effects=[withStroke(linewidth=1.8, foreground="black")])
    # Limits without outliers, such as slivers at the border of an image.
    low = np.minimum(np.quantile(wh, 0.002, axis=0), anchors.min(axis=0)) / 1.4
    high = np.maximum(np.quantile(wh, 0.998, axis=0), anchors.max(axis=0)) * 1.4
    points.set(xscale="log", yscale="log", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    points.set(xlabel=f"width, {unit}", ylabel=f"height, {unit}")
    drawn = f"{len(some):,} of {len(wh):,} boxes" if len(some) < len(wh) else f"{len(wh):,} boxes"
    points.set_title(f"{drawn}, each in the colour of its anchor", fontsize=12)
    points.grid(color="0.88", linewidth=0.7)
    points.set_axisbelow(True)
    for axis in (points.xaxis, points.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())

    for number, ((w, h), color) in reversed(list(enumerate(zip(anchors, colors, strict=True), 1))):
        name = f"{number}:  {w:.1f} × {h:.1f}"
        frames.add_patch(Rectangle((-w / 2, -h / 2), w, h, facecolor=(*color[:3], 0.08), linewidth=0))
        frames.add_patch(Rectangle((-w / 2, -h / 2), w, h, fill=False, edgecolor=color, linewidth=2.2, label=name))
    handles, names = frames.get_legend_handles_labels()
    frames.legend(
        handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=1.2,
        ncols=1 + (len(anchors) - 1) // 24, title="width × height", alignment="left",
    )  # fmt: skip
    half = 0.53 * float(anchors.max())
    frames.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xlabel=unit)
    frames.set_title("Anchors around one centre, to scale", fontsize=12)
    for axes in (points, frames):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"optimize": True})
    return buffer.getvalue()
