"""Distances of samples from centres: squared Euclidean, 1 − cos, and 1 − IoU of co-centred boxes."""

from typing import Literal, NamedTuple, get_args

from .._array.mode import Mode
from .._array.namespace import Array, DType, Namespace, cast
from .._array.nearest import less, lowest, row_dot, rows_at
from .._math import inverse_scale, quotient

Metric = Literal["euclidean", "cosine", "iou"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def check_metric(metric: str) -> None:
    """Raise ValueError for an unknown metric."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")


def unit(xp: Namespace, x: Array) -> Array:
    """x / ‖x‖ along the last axis, zeros where x is 0; scaled first, so that squares do not overflow."""
    x = quotient(xp, x, xp.max(xp.abs(x), axis=-1, keepdims=True))
    return quotient(xp, x, xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True)))


def is_zero(xp: Namespace, x: Array) -> Array:
    """Whether vectors along the last axis are zero, and so have no direction."""
    return xp.max(xp.abs(x), axis=-1) == 0


def iou(xp: Namespace, a: Array, b: Array) -> Array:
    """IoU of boxes around one point by their widths and heights; negative sides count as 0."""
    a, b = xp.maximum(a, xp.zeros_like(a)), xp.maximum(b, xp.zeros_like(b))
    (a0, a1), (b0, b1) = ((side[..., 0], side[..., 1]) for side in (a, b))
    inter = xp.minimum(a0, b0) * xp.minimum(a1, b1)
    union = a0 * a1 + b0 * b1 - inter
    return xp.where(union > 0, quotient(xp, inter, union), 0.0)


def explicit(xp: Namespace, x: Array, centers: Array, metric: Metric) -> Array:
    """Distance of each sample from the matching centre; shapes broadcast.

    Computed from x − c: a difference of squares would cancel. For "cosine", twice 1 − cos of unit vectors.
    """
    if metric == "iou":
        return 1 - iou(xp, x, centers)
    difference = x - centers
    return xp.sum(difference * difference, axis=-1)


def to_each(mode: Mode, centers: Array, x: Array, metric: Metric) -> Array:
    """Distances (k, n) of each sample from each centre; both near 0, or of unit length."""
    xp = mode.xp
    if metric == "iou":
        return 1 - iou(xp, centers[:, None, :], x[None, :, :])
    found = xp.matmul(-2.0 * centers, xp.matrix_transpose(x))
    found = found + row_dot(xp, centers, centers)[:, None]
    found = found + row_dot(xp, x, x)
    found = xp.maximum(found, xp.zeros_like(found))
    if metric == "euclidean":
        return found
    # A zero vector has distance 1 from every vector.
    orthogonal = is_zero(xp, centers)[:, None] | is_zero(xp, x)
    return xp.where(orthogonal, 1.0, found / 2)


class Ready(NamedTuple):
    """Centres (..., k, d) prepared for comparison, and the shift and scale of samples."""

    at: Array  # centres minus `middle`; for "iou", times `scale`
    factors: Array  # −2 c, scaled so that products do not overflow
    squares: Array  # ‖c‖², with the same scale
    middle: Array | None  # subtracted from the samples
    whole: Array | None  # `middle` in the integer dtype of the samples, if floats may round integers of that dtype
    scale: Array | None  # multiplies widths and heights, for "iou"
    zero: Array | None  # mask of zero centres, for "cosine"

    def transformed(self, xp: Namespace, x: Array, metric: Metric, wide: DType) -> Array:
        """Samples minus `middle`; for "cosine", scaled to unit length first."""
        if self.whole is not None:
            return less(xp, x, self.whole, wide)
        x = cast(xp, x, wide)
        if metric == "cosine":
            x = unit(xp, x)
        return x if self.middle is None else x - self.middle

    def closest(self, xp: Namespace, x: Array, metric: Metric, *, down: bool) -> Array:
        """Index of the closest centre of each sample; scores have shape (k, n) for `down`, else (n, k)."""
        if metric == "iou":
            return lowest(xp, 1 - iou(xp, x[..., :, None, :], self.at[..., None, :, :]), -1)
        if down:
            product = xp.matmul(self.factors, xp.matrix_transpose(x))
            return lowest(xp, product + self.squares[..., :, None], -2)
        product = xp.matmul(x, xp.matrix_transpose(self.factors))
        return lowest(xp, product + self.squares[..., None, :], -1)


def ready(xp: Namespace, x: Array, given: Array, metric: Metric, wide: DType, *, recenter: bool = True) -> Ready:
    """Prepare centres; `recenter` subtracts one of them from all, so rounding is small even far from 0."""
    centers = cast(xp, given, wide)
    if metric == "iou":
        scale = inverse_scale(xp, xp.max(xp.abs(centers), axis=-2, keepdims=True))
        return Ready(centers * scale, centers, centers, None, None, scale, None)
    middle = whole = zero = None
    if metric == "cosine":
        centers, zero = unit(xp, centers), is_zero(xp, centers)
    if recenter or metric == "cosine":
        # Relative to the most central centre, squares and their rounding are small. Unlike the mean, it keeps integers
        # integer, and equal distances equal.
        away = centers - xp.mean(centers, axis=-2, keepdims=True)
        index = lowest(xp, xp.sum(away * away, axis=-1), -1)[..., None]
        middle = rows_at(xp, centers, index)
        if recenter and metric == "euclidean" and xp.isdtype(x.dtype, "integral") and xp.iinfo(x.dtype).bits > 16:
            whole, middle, centers = _around_integers(xp, x, given, index, wide)
        else:
            centers = centers - middle
    inverse = inverse_scale(xp, xp.max(xp.abs(centers), axis=(-2, -1), keepdims=True))
    scaled = centers * inverse
    squares = xp.sum(centers * scaled, axis=-1)
    if zero is not None:
        squares = squares + xp.astype(zero, squares.dtype)  # a zero centre scores like an orthogonal one
    return Ready(centers, -2.0 * scaled, squares, middle, whole, None, zero)


def _around_integers(xp: Namespace, x: Array, given: Array, index: Array, wide: DType) -> tuple[Array, Array, Array]:
    """Return an integer point near the middle in the dtype of `x`, the same as floats, and the centres minus it."""
    info = xp.iinfo(x.dtype)
    middle = rows_at(xp, given, index)
    if given.dtype == x.dtype:
        return middle, cast(xp, middle, wide), less(xp, given, middle, wide)
    given, middle = cast(xp, given, wide), cast(xp, middle, wide)
    # The largest float below 2^31 or 2^63; the power of two itself is out of range of the dtype.
    most = float(info.max) * (1 - float(xp.finfo(wide).eps))
    inside = xp.where(xp.isfinite(middle), xp.round(middle), xp.zeros_like(middle))
    inside = xp.minimum(xp.maximum(inside, xp.full_like(inside, float(info.min))), xp.full_like(inside, most))
    return xp.astype(inside, x.dtype), inside, given - inside
