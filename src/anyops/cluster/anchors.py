"""Anchor boxes: a few sizes that represent the boxes of a data set."""

from collections.abc import Callable
from typing import NamedTuple

from .._array.arguments import check_integer, check_number
from .._array.chunked import without_empty_chunks
from .._array.host import Host, from_host, on_host
from .._array.namespace import Array, Namespace, default_int, working
from .._array.nearest import as_compared
from .._array.random import Seed
from .._array.support import Kind, op
from .arguments import Center, check_rows
from .lloyd import kmeans


class AnchorResult(NamedTuple):
    """Anchors, the mean over boxes of the IoU with the best anchor, and the fraction of boxes that match an anchor."""

    anchors: Array
    mean_iou: float
    best_possible_recall: float


@op(Kind.FIT, static="kmeans_step")
def anchor_boxes(
    wh: Array,
    k: int,
    *,
    center: Center = "median",
    seed: Seed = None,
    max_iter: int = 300,
    ratio: float = 4.0,
    callback: Callable[[int, float, float], None] | None = None,
) -> AnchorResult:
    """Maximise the mean IoU of co-centred boxes with the best of k anchors by k-means with the distance 1 − IoU [1]_.

    The iteration stops when no box changes its anchor.

    Parameters
    ----------
    wh : array (n, 2)
        Widths and heights, positive and finite. The anchors are in the same unit.
    k : int in [1, n]
        Number of anchors.
    center : {"median", "mean"}
        Whether each side of an anchor is the median or the mean of its boxes. The median reproduces the figures of
        [1]_; the mean gives a lower mean IoU.
    seed : int, numpy.random.Generator or None
        The k-means++ start is drawn on the host, so it is the same on every library.
    max_iter : int ≥ 1
        Largest number of iterations.
    ratio : float ≥ 1
        An anchor matches a box if both sides differ by a factor of less than `ratio` [2]_.
    callback : callable, optional
        Called with iteration, Σ (1 − IoU) by the anchors of that iteration, and Σ ‖Δ anchors‖².

    Returns
    -------
    anchors : array (k, 2)
        In ascending order of area, in the dtype of `wh`, the default float for integers.
    mean_iou : float
        Mean over the boxes of the IoU with their best anchor.
    best_possible_recall : float
        Fraction of boxes that match some anchor.

    Raises
    ------
    TypeError, ValueError
        If `wh` is not an array (n, 2) of positive finite numbers, `k` is not in [1, n], or an option is out of its
        range.

    References
    ----------
    .. [1] Redmon and Farhadi, YOLO9000: Better, Faster, Stronger, CVPR 2017, section 2, "Dimension Clusters".
    .. [2] Jocher, YOLOv5, 2020: `anchor_t` of its training, 4.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> wh = np.asarray([[10.0, 10.0], [12.0, 12.0], [11.0, 11.0], [60.0, 30.0], [70.0, 30.0], [300.0, 30.0]])
    >>> anchors, mean_iou, best_possible_recall = anyops.anchor_boxes(wh, 2, seed=0)
    >>> anchors, round(mean_iou, 3), best_possible_recall
    (array([[11., 11.],
           [70., 30.]]), 0.793, 0.8333333333333334)
    """
    mode, _ = check_rows("wh", wh, None)
    xp = mode.xp
    n = int(wh.shape[0])
    if wh.shape[1] != 2:
        raise ValueError(f"wh must hold widths and heights, (n, 2), got {tuple(wh.shape)}")
    if not n:
        raise ValueError(f"wh must hold at least one box, got shape {tuple(wh.shape)}")
    k = check_integer("k", k)
    if not 1 <= k <= n:
        raise ValueError(f"k must be in [1, {n}] for {n} boxes, got {k}")
    wh = without_empty_chunks(wh)
    sides = as_compared(xp, wh)
    if not bool(xp.all(sides > 0)):
        raise ValueError("wh must be positive, got a side that is not; remove boxes without area")
    largest = float(xp.max(sides))
    if not largest * largest < 1e300:
        raise ValueError(f"wh must hold boxes of finite area, got a side of {largest:g}")
    ratio = check_number("ratio", ratio, least=1)
    found = kmeans(wh, k, max_iter=max_iter, tol=0.0, metric="iou", center=center, seed=seed, callback=callback)
    # By area; of equal areas, the narrower first.
    sizes = on_host(found.centers)
    sizes = sizes[sizes[:, 0].argsort(stable=True), :]
    sizes = sizes[sizes.prod(axis=1).argsort(stable=True), :]
    anchors = from_host(xp, sizes, found.centers.dtype, wh)
    return AnchorResult(anchors, 1 - found.inertia / n, _matched(xp, working(xp, wh), sizes, ratio) / n)


def _matched(xp: Namespace, wh: Array, sizes: Host, ratio: float) -> int:
    """Number of boxes that match some anchor; one anchor at a time, so memory does not grow with k."""
    w, h = wh[:, 0], wh[:, 1]
    matched = None
    for aw, ah in sizes.tolist():
        now = (w < aw * ratio) & (w > aw / ratio) & (h < ah * ratio) & (h > ah / ratio)
        matched = now if matched is None else matched | now
    return int(xp.sum(xp.astype(matched, default_int(xp, wh))))
