"""Object keypoint similarity: distances of the keypoints of two poses, relative to the size of the second pose.

With K keypoints at distances d_k, the area A of the second pose and v_k = 1 if its keypoint k is visible,

    OKS = Σ_k v_k exp(−d_k² / (8 σ_k² A)) / Σ_k v_k.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._array.arguments import check_number
from .._array.division import divide
from .._array.integers import check_held
from .._array.mode import Mode, sized_mode_of
from .._array.namespace import A, Array, DType, Namespace, cast, check_dtype, compute_dtype, device, result_dtype
from .._array.pieces import map_tiles, tiles
from .._array.support import Kind, op
from .iou import check_broadcast

# Scaled distance beyond which exp(−d²) is 0 even in float64.
VANISHED = 30.0


@op(Kind.VALUES)
def keypoint_similarity(keypoints1: A, keypoints2: Array, areas: Array, *, sigmas: Sequence[float] | Array) -> A:
    """COCO's object keypoint similarity (OKS), all-to-all: Σ_k v_k exp(−d_k² / (8 σ_k² A)) / Σ_k v_k.

    d_k is the distance of keypoint k of two poses, A the area of the second pose; v_k = 1 if keypoint k is visible in
    it.

    Parameters
    ----------
    keypoints1 : array (..., N, K, 2) or (..., N, K, 3)
        x and y of the keypoints of each pose, as detected; a third number is ignored. Floating or integer.
    keypoints2 : array (..., M, K, 2) or (..., M, K, 3)
        Poses to compare with, as annotated. A keypoint is visible if it has no third number or one above 0; others are
        ignored. Leading dimensions broadcast.
    areas : array (..., M)
        Areas of the objects of `keypoints2`; COCO uses the areas of their segmentation masks.
    sigmas : sequence or array (K,)
        σ of each keypoint, positive.

    Returns
    -------
    array (..., N, M)
        In [0, 1], in the dtype of the keypoints, the default float for integers. 0 if the second pose has no visible
        keypoint or its area is not positive and finite; NaN for exactly the pairs with a NaN in the first pose, in a
        visible keypoint of the second or in its area.

    Raises
    ------
    TypeError, ValueError
        If arguments are not arrays of one library and device, shapes do not match, or a number in `sigmas` is not
        positive and finite.

    Notes
    -----
    Equal to ``COCOeval.computeOks`` of pycocotools [2]_ for detected and annotated poses, except for annotations
    without a visible keypoint. For these pycocotools measures how far keypoints lie outside the annotated box, enlarged
    to twice its size; the box is not known here. COCO ignores such annotations.

    References
    ----------
    .. [1] https://cocodataset.org/#keypoints-eval
    .. [2] https://github.com/cocodataset/cocoapi/blob/master/PythonAPI/pycocotools/cocoeval.py

    Examples
    --------
    >>> import numpy as np, anyops
    >>> poses = np.asarray([[[10.0, 10.0], [30.0, 10.0]], [[12.0, 10.0], [30.0, 14.0]]])
    >>> anyops.keypoint_similarity(poses, poses, np.asarray([400.0, 400.0]), sigmas=(0.1, 0.1)).round(3)
    array([[1.   , 0.745],
           [0.745, 1.   ]])
    """
    given = {"keypoints1": keypoints1, "keypoints2": keypoints2, "areas": areas}
    mode = sized_mode_of(**given, **({} if isinstance(sigmas, Sequence) else {"sigmas": sigmas}))
    xp, dtype = mode.xp, result_dtype(mode.xp, keypoints1=keypoints1, keypoints2=keypoints2)
    wide = compute_dtype(xp, dtype)
    for name, points in (("keypoints1", keypoints1), ("keypoints2", keypoints2)):
        if points.ndim < 3 or points.shape[-1] not in (2, 3):
            raise ValueError(f"{name} must have shape (..., N, K, 2) or (..., N, K, 3), got {tuple(points.shape)}")
        check_held(mode, name, points, wide)
    count = keypoints1.shape[-2]
    if keypoints2.shape[-2] != count:
        raise ValueError(f"keypoints2 must have {count} keypoints, as keypoints1, got {keypoints2.shape[-2]}")
    check_broadcast("keypoints1", keypoints1.shape[:-3], "keypoints2", keypoints2.shape[:-3])
    check_dtype(xp, "areas", areas, "real floating", "integral")
    if tuple(areas.shape) != tuple(keypoints2.shape[:-2]):
        raise ValueError(
            f"areas must have shape {tuple(keypoints2.shape[:-2])}, one for each pose of keypoints2, "
            f"got {tuple(areas.shape)}"
        )
    sigmas = _sigmas(xp, sigmas, count)
    return mode.run(_similarity, keypoints1, keypoints2, areas, sigmas=sigmas, dtype=dtype)


def _sigmas(xp: Namespace, sigmas: Any, count: int) -> Array | tuple[float, ...]:
    """Return `sigmas` as an array (K,), or a sequence as a tuple of K floats; raise if they are invalid."""
    if isinstance(sigmas, Sequence):
        numbers = [check_number(f"sigmas[{k}]", sigma) for k, sigma in enumerate(sigmas)]
        if wrong := [sigma for sigma in numbers if sigma <= 0]:
            raise ValueError(f"sigmas must be positive, got {wrong[0]}")
        sigmas, shape = tuple(numbers), (len(numbers),)
    else:
        check_dtype(xp, "sigmas", sigmas, "real floating", "integral")
        shape = tuple(sigmas.shape)
    if shape != (count,):
        raise ValueError(f"sigmas must have shape ({count},), one for each keypoint, got {shape}")
    return sigmas


class Poses(NamedTuple):
    """Poses as rows."""

    points: Array  # (2, K, ...), 0 if not finite
    counts: Array  # (K, ...): 1 for a visible, finite keypoint, else 0
    mark: Array  # (...): NaN for a pose with a NaN, else 0

    def map(self, function: Callable[[Array], Array]) -> "Poses":
        """Return these poses with a function of the trailing axes applied."""
        return Poses(*map(function, self))


def _poses(xp: Namespace, points: Array, visible: Array, dtype: DType) -> Poses:
    """Return poses (..., K, numbers) as rows; a keypoint at infinity has count 0, as if far from all others."""
    rows = cast(xp, _rows_first(xp, points)[:2, ...], dtype)
    finite = xp.all(xp.isfinite(rows), axis=0)
    nan = xp.any(visible & xp.any(xp.isnan(rows), axis=0), axis=0)
    return Poses(xp.where(finite, rows, 0.0), xp.astype(visible & finite, dtype), _mark(xp, nan, dtype))


def _rows_first(xp: Namespace, points: Array) -> Array:
    """Return poses (..., K, numbers) as (numbers, K, ...)."""
    return xp.permute_dims(points, (points.ndim - 1, points.ndim - 2, *range(points.ndim - 2)))


def _mark(xp: Namespace, nan: Array, dtype: DType) -> Array:
    """NaN or 0, to be added to the similarities of each pose; in a sum, a NaN does not reach gradients."""
    return xp.where(nan, math.nan, xp.zeros_like(nan, dtype=dtype))


def _similarity(
    mode: Mode,
    keypoints1: Array,
    keypoints2: Array,
    areas: Array,
    *,
    sigmas: Array | tuple[float, ...],
    dtype: DType,
) -> Array:
    xp, wide, rank = mode.xp, compute_dtype(mode.xp, dtype), max(keypoints1.ndim, keypoints2.ndim)
    keypoints1, keypoints2 = (xp.reshape(x, (1,) * (rank - x.ndim) + tuple(x.shape)) for x in (keypoints1, keypoints2))
    areas = cast(xp, xp.reshape(areas, keypoints2.shape[:-2]), wide)
    if isinstance(sigmas, tuple):
        sigmas = xp.asarray(sigmas, dtype=wide, device=device(keypoints1))
    sigmas = xp.reshape(cast(xp, sigmas, wide), (-1,) + (1,) * (rank - 2))
    every = xp.ones_like(_rows_first(xp, keypoints1)[0, ...], dtype=xp.bool)
    rows = _rows_first(xp, keypoints2)
    visible = rows[2, ...] > 0 if rows.shape[0] == 3 else xp.ones_like(rows[0, ...], dtype=xp.bool)
    a, b = _poses(xp, keypoints1, every, wide), _poses(xp, keypoints2, visible, wide)

    # A pose without a positive finite area is similar to none. No gradient passes through undefined expressions.
    proper = (areas > 0) & (areas < math.inf)
    # The scale is at least one whose square is representable. A smaller one would give the same similarities, but its
    # derivatives would overflow.
    tiny = float(xp.finfo(wide).smallest_normal)
    held = proper & (areas >= tiny)
    scale = sigmas * xp.sqrt(8 * xp.where(held, areas, 1.0))
    scale = xp.where(held & (scale > 4 * math.sqrt(tiny)), scale, 4 * math.sqrt(tiny))
    unit = divide(xp, xp.ones_like(scale), scale)
    number = xp.sum(xp.astype(visible, wide), axis=0)
    share = xp.where(proper, b.counts, 0.0) / xp.where(number > 0, number, 1.0)
    mark = b.mark + _mark(xp, xp.isnan(areas), wide)

    def block(i: slice, j: slice) -> Array:
        one, other = a.map(lambda x: x[..., i, None]), b.map(lambda x: x[..., None, j])
        apart = (one.points - other.points) * unit[..., None, j]
        far = ~xp.all(xp.abs(apart) <= VANISHED, axis=0)
        near = xp.exp(-xp.sum(xp.where(far, 0.0, apart) ** 2, axis=0)) * one.counts
        near = xp.where(far, 0.0, near) * share[..., None, j]
        return cast(xp, xp.sum(near, axis=0) + one.mark + mark[..., None, j], dtype)

    shape = keypoints1.shape[-3], keypoints2.shape[-3]
    numbers = max(1, 2 * sigmas.shape[0])  # per pair
    return map_tiles(xp, block, shape, tiles(shape, mode.grain // numbers, (0, 1)), last=True)
