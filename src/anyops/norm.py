"""Batch normalisation, its gradient, and mergeable statistics of parts of a batch.

Notation: μ, v mean and biased variance of a channel, s = 1/√(v + ε), x̂ = (x − μ)s; w the weight of a sample, N = Σw.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ._array.arguments import check_axis, check_parameter, check_parts
from ._array.chunked import reduce_chunks
from ._array.integers import check_held
from ._array.loop import branch
from ._array.mode import Mode, mode_of, sized_mode_of
from ._array.namespace import (
    Array,
    DType,
    Namespace,
    cast,
    check_dtype,
    compute_dtype,
    device,
    divisor,
    is_array,
    namespace,
    number_in,
    result_dtype,
    stop_gradient,
)
from ._array.pieces import Tile, map_tiles, stack_tiles, tiles
from ._array.support import Kind, op
from ._math import present, quotient

ROUNDINGS = 1 << 14  # standard deviation, in roundings of the mean, up to which the mean is corrected


class BatchNorm(NamedTuple):
    """A normalised batch and the running statistics after it."""

    y: Array
    running_mean: Array
    running_var: Array


class BatchNormGrad(NamedTuple):
    """Derivatives with respect to the input, weight and bias of batch norm."""

    dx: Array
    dweight: Array
    dbias: Array


class BatchStats(NamedTuple):
    """Statistics of the samples of a channel: their number or weight Σw, their mean, and m2 = Σ w(x − mean)²."""

    count: Array
    mean: Array
    m2: Array


class Moments(NamedTuple):
    """As :class:`BatchStats`; the mean is `mean` + `rest`, the rounded mean and its rounding error."""

    count: Array
    mean: Array
    rest: Array
    m2: Array


# --- public functions ------------------------------------------------------------------------------------------------


@op(Kind.VALUES)
def batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = False,
    momentum: float | Array = 0.9,
    eps: float | Array = 1e-5,
    axis: int = 1,
    correction: float | Array = 0,
    sample_weight: Array | None = None,
) -> BatchNorm:
    """y = (x − μ) / √(v + ε) · weight + bias, with mean and variance of each channel over all other axes [1]_.

    In training μ and v are the mean and the biased variance of the batch; otherwise the running statistics.

    Parameters
    ----------
    x : array (..., C, ...)
        Floating or integer; integers become the namespace's default float, 16-bit floats are computed in float32.
    running_mean, running_var : floating array (C,)
        The running statistics; zeros and ones at the start.
    weight : array (C,), optional
        Scale; 1 if not given.
    bias : array (C,), optional
        Shift; 0 if not given.
    training : bool
        Whether to normalise by the statistics of the batch, and to update the running ones.
    momentum : float
        Weight of the *old* running value: running ← momentum · running + (1 − momentum) · batch, as in TensorFlow,
        Keras and flax; torch's is one minus this. Any finite number.
    eps : float ≥ 0
        ε, added to the variance.
    axis : int
        The channel axis of `x`.
    correction : float ≥ 0
        running_var is updated with m2 / (N − correction): 0 gives the biased variance (Keras, flax), 1 the unbiased one
        (torch). The biased one is used if N ≤ correction.
    sample_weight : array, optional
        Bool or numbers ≥ 0, in the shape of `x` without the channel axis or its leading part, (N,) included. A sample
        of weight 0 is ignored, even if it holds NaN.

    Returns
    -------
    y : array
        In the shape and dtype of `x`. One value per channel in training gives `bias`. A sample of weight 0 is
        normalised by the same formula; NaN and infinities in it are read as 0.
    running_mean, running_var : array (C,)
        The new running statistics, in their old dtype. In evaluation the given arrays themselves; for an empty batch
        their values. No gradient goes through them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape, or an option is out of its range.

    Notes
    -----
    Moments take two passes over each part of the batch that fits in cache; the second one also measures the error of
    the first. Parts merge as in [2]_. So an offset does not spoil the variance, and constant channels have variance 0.

    References
    ----------
    .. [1] Ioffe and Szegedy, Batch Normalization, arXiv:1502.03167, algorithms 1 and 2.
    .. [2] Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, The American Statistician 37 (1983),
       equations 1.5 and 1.7.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.asarray([[1.0, 10.0], [3.0, 30.0]])
    >>> y, mean, var = anyops.batch_norm(x, np.zeros(2), np.ones(2), training=True)
    >>> y.round(4), mean, var
    (array([[-1., -1.],
           [ 1.,  1.]]), array([0.2, 2. ]), array([ 1. , 10.9]))
    """
    named = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    momentum = check_parameter("momentum", momentum)
    eps, correction = check_parameter("eps", eps, least=0), check_parameter("correction", correction, least=0)
    numbers = {"momentum": momentum, "eps": eps, "correction": correction}
    mode, axis = _check(x, named, axis, sample_weight, numbers=numbers, required=("running_mean", "running_var"))
    _check_training(training)
    options = {"axis": axis, "training": training, "dtype": result_dtype(mode.xp, x=x)}
    arrays = (x, running_mean, running_var, weight, bias, sample_weight)
    return BatchNorm(*mode.run(_batch_norm, *arrays, momentum, eps, correction, **options))


@op(Kind.VALUES)
def batch_norm_grad(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    eps: float | Array = 1e-5,
    axis: int = 1,
    sample_weight: Array | None = None,
) -> BatchNormGrad:
    """Derivatives of Σ dy · y with respect to the arguments of :func:`batch_norm`, in closed form.

    dβ = Σ dy, dγ = Σ dy · x̂, and dx_i = γs(dy_i − (w_i / N)(dβ + x̂_i dγ)) in training, γs · dy_i otherwise [1]_.

    Parameters
    ----------
    dy : array (..., C, ...)
        The derivative with respect to y, in the shape of `x`.
    x : array (..., C, ...)
        The input of the forward pass.
    weight : array (C,), optional
    running_mean, running_var : array (C,), optional
        The running statistics of the forward pass, needed unless in training.
    training, eps, axis
        As in :func:`batch_norm`.
    sample_weight
        As in :func:`batch_norm`. A sample of weight 0 is ignored: its dy has no effect, and its dx is 0.

    Returns
    -------
    dx : array
        In the shape and dtype of `x`.
    dweight, dbias : array (C,)
        Returned even if the forward pass had no weight or bias; in the dtype of `weight`, or of `x`.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm`, or if running statistics are missing.

    References
    ----------
    .. [1] Ioffe and Szegedy, Batch Normalization, arXiv:1502.03167, section 3.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x, dy = np.asarray([[1.0], [2.0], [6.0]]), np.asarray([[1.0], [0.0], [0.0]])
    >>> dx, dweight, dbias = anyops.batch_norm_grad(dy, x)
    >>> dx.round(4), dweight.round(4), dbias
    (array([[ 0.1763],
           [-0.2204],
           [ 0.0441]]), array([-0.9258]), array([1.]))
    """
    named = {"weight": weight, "running_mean": running_mean, "running_var": running_var}
    _check_training(training)
    if not training and (running_mean is None or running_var is None):
        raise TypeError("running_mean and running_var must be arrays for training=False, got None")
    eps = check_parameter("eps", eps, least=0)
    mode, axis = _check(x, named, axis, sample_weight, dy, numbers={"eps": eps})
    dtype = result_dtype(mode.xp, x=x)
    options = {
        "axis": axis,
        "training": training,
        "dtype": dtype,
        "of_weight": dtype if weight is None else result_dtype(mode.xp, weight=weight),
    }
    arrays = (dy, x, weight, running_mean, running_var, sample_weight)
    return BatchNormGrad(*mode.run(_batch_norm_grad, *arrays, eps, **options))


@op(Kind.VALUES)
def batch_stats(x: Array, *, axis: int = 1, sample_weight: Array | None = None) -> BatchStats:
    """Σw, mean and Σ w(x − mean)² of each channel of a part of a batch, for :func:`merge_batch_stats`.

    Parameters
    ----------
    x : array (..., C, ...)
        Floating or integer. A dask array is read chunk by chunk.
    axis : int
        The channel axis.
    sample_weight : array, optional
        As in :func:`batch_norm`.

    Returns
    -------
    count : array ()
    mean, m2 : array (C,)
        At least float32, also for a 16-bit `x`. Zeros if there are no samples. NumPy arrays for dask.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an array or has the wrong shape.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> anyops.batch_stats(np.asarray([[1.0, 10.0], [3.0, 30.0]]))
    BatchStats(count=array(2.), mean=array([ 2., 20.]), m2=array([  2., 200.]))
    """
    count, mean, _, m2 = _moments_of(x, axis, sample_weight)
    return BatchStats(count, mean, m2)


@op(Kind.VALUES)
def merge_batch_stats(a: BatchStats, b: BatchStats) -> BatchStats:
    """Combine the statistics of two parts: with δ = mean_b − mean_a, m2 = m2_a + m2_b + δ² n_a n_b / n [1]_.

    Parameters
    ----------
    a, b : BatchStats
        Of any sizes; a part without samples changes nothing.

    Returns
    -------
    BatchStats
        Associative up to rounding, so parts may be chunks, devices or ranks, merged in any order.

    Raises
    ------
    TypeError, ValueError
        If the parts differ in library or number of channels.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, The American Statistician 37 (1983),
       equation 1.5.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> x = np.asarray([[1.0], [2.0], [6.0]])
    >>> count, mean, m2 = anyops.merge_batch_stats(anyops.batch_stats(x[:1]), anyops.batch_stats(x[1:]))
    >>> float(count), mean, m2
    (3.0, array([3.]), array([14.]))
    """
    check_parts(BatchStats, a=a, b=b)
    parts = {f"{name}.{field}": x for name, part in (("a", a), ("b", b)) for field, x in part._asdict().items()}
    mode = mode_of(**parts)
    result_dtype(mode.xp, **parts)
    if tuple(a.mean.shape) != tuple(b.mean.shape):
        raise ValueError(
            f"a and b must have the same number of channels, got {tuple(a.mean.shape)} and {tuple(b.mean.shape)}"
        )
    return BatchStats(*mode.run(_merge, *a, *b))


def _moments_of(x: Array, axis: int, sample_weight: Array | None) -> Moments:
    mode, axis = _check(x, {}, axis, sample_weight)
    options = {"axis": axis, "dtype": compute_dtype(mode.xp, result_dtype(mode.xp, x=x))}
    if mode.lazy:
        return reduce_chunks(
            lambda part, weight: _moments_of(part, axis, weight), _merge_moments, axis, x, sample_weight
        )
    return Moments(*mode.run(_batch_moments, x, sample_weight, **options))


# --- checks ----------------------------------------------------------------------------------------------------------


def _check(
    x: Array,
    channels: dict[str, Array | None],
    axis: int,
    sample_weight: Array | None,
    *dy: Array,
    numbers: Mapping[str, float | Array] = MappingProxyType({}),
    required: tuple[str, ...] = (),
) -> tuple[Mode, int]:
    """Return the mode and the channel axis, at least 0; raise unless all arrays have the same channels and samples."""
    arrays = {"x": x, **channels, "sample_weight": sample_weight, **dict(zip(("dy",), dy, strict=False))}
    given = {k: v for k, v in arrays.items() if v is not None or k in ("x", "dy") or k in required}
    given |= {k: v for k, v in numbers.items() if is_array(v)}
    mode = mode_of(**given) if len(given) == 1 else sized_mode_of(**given)
    xp = mode.xp
    check_dtype(xp, "x", x, "real floating", "integral")
    wide = compute_dtype(xp, result_dtype(xp, x=x))
    check_held(mode, "x", x, wide)
    shape = tuple(x.shape)
    if not shape:
        raise ValueError("x must have shape (..., C, ...), got ()")
    axis = check_axis("axis", axis, len(shape))
    for name, value in channels.items():
        if value is None:
            continue
        check_dtype(xp, name, value, "real floating", *([] if name.startswith("running") else ["integral"]))
        if tuple(value.shape) != (shape[axis],):
            raise ValueError(
                f"{name} must have shape ({shape[axis]},) for x of shape {shape} with channels along axis {axis}, "
                f"got {tuple(value.shape)}"
            )
    for slope in dy:
        check_dtype(xp, "dy", slope, "real floating", "integral")
        check_held(mode, "dy", slope, wide)
        if tuple(slope.shape) != shape:
            raise ValueError(f"dy must have the shape of x, {shape}, got {tuple(slope.shape)}")
    if sample_weight is not None:
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
        samples, got = shape[:axis] + shape[axis + 1 :], tuple(sample_weight.shape)
        if got != samples[: len(got)] or (samples and not got):
            raise ValueError(
                f"sample_weight must have shape {samples} or its first axes for x of shape {shape} with channels along "
                f"axis {axis}, got {got}"
            )
    return mode, axis


def _check_training(training: bool) -> None:
    if not isinstance(training, bool):
        raise TypeError(f"training must be True or False, got {training!r}")


# --- kernels: x as (A, C, B), the channels in the middle -------------------------------------------------------------


def _around(xp: Namespace, x: Array, axis: int) -> Array:
    shape = x.shape
    return xp.reshape(x, (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])))


def _tiles(mode: Mode, x: Array) -> list[Tile]:
    """Cut (A, C, B) along A, and then along C, if that is faster.

    The system maps and zeroes large temporaries anew each time, which takes longer than computing them.
    """
    return tiles(x.shape, mode.grain, (0, 1))


def _weights(xp: Namespace, sample_weight: Array | None, x: Array, axis: int, dtype: DType) -> Array | None:
    """Return weights as (A, 1, B)."""
    if sample_weight is None:
        return None
    samples = x.shape[:axis] + x.shape[axis + 1 :]
    w = xp.reshape(cast(xp, sample_weight, dtype), (*sample_weight.shape, *(1,) * (len(samples) - sample_weight.ndim)))
    w = xp.broadcast_to(w, samples)
    return xp.reshape(w, (math.prod(samples[:axis]), 1, math.prod(samples[axis:])))


def _batch_norm(
    mode: Mode,
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None,
    bias: Array | None,
    sample_weight: Array | None,
    momentum: float | Array,
    eps: float | Array,
    correction: float | Array,
    *,
    training: bool,
    axis: int,
    dtype: DType,
) -> tuple[Array, Array, Array]:
    xp, own, wide = mode.xp, mode.own, compute_dtype(mode.xp, dtype)
    x3 = _around(xp, x, axis)
    w3 = _weights(xp, sample_weight, x, axis, wide)
    state = stop_gradient(running_mean), stop_gradient(running_var)
    if training:
        stats = _whole(mode, x, x3, w3, sample_weight, axis, wide)
        mean, rest, var = stats.mean, stats.rest, quotient(xp, stats.m2, stats.count)
        correction = number_in(xp, correction, wide)
        unbiased = xp.where(stats.count > correction, quotient(xp, stats.m2, stats.count - correction), var)
        news = (cast(xp, stop_gradient(new), old.dtype) for new, old in zip((mean, unbiased), state, strict=True))
        state = tuple(
            xp.where(stats.count > 0, share * old + (1.0 - share) * new, old)
            for old, new in zip(state, news, strict=True)
            for share in (number_in(xp, momentum, old.dtype),)
        )
    else:
        (mean, var), rest = (cast(xp, a, wide) for a in state), None
    scale = _inverse_deviation(xp, var, eps)
    if weight is not None:
        scale = scale * cast(xp, weight, wide)
    shift = None if bias is None else cast(xp, bias, wide)
    if rest is not None:
        shift = (0.0 if shift is None else shift) - rest * scale

    def tile(i: slice, j: slice, _: slice) -> Array:
        part = present(xp, cast(xp, x3[i, j, :], wide), None if w3 is None else w3[i, ...])
        y = own.multiply(part - mean[j, None], scale[j, None])
        return cast(xp, y if shift is None else own.add(y, shift[j, None]), dtype)

    y = map_tiles(xp, tile, x3.shape, _tiles(mode, x3))
    return xp.reshape(y, x.shape), *state


def _batch_norm_grad(
    mode: Mode,
    dy: Array,
    x: Array,
    weight: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    sample_weight: Array | None,
    eps: float | Array,
    *,
    training: bool,
    axis: int,
    dtype: DType,
    of_weight: DType,
) -> tuple[Array, Array, Array]:
    xp, own, wide = mode.xp, mode.own, compute_dtype(mode.xp, dtype)
    x3, dy3 = _around(xp, x, axis), _around(xp, dy, axis)
    w3 = _weights(xp, sample_weight, x, axis, wide)
    if training:
        stats = _whole(mode, x, x3, w3, sample_weight, axis, wide)
        mean, rest, var = stats.mean, stats.rest, quotient(xp, stats.m2, stats.count)
    else:
        mean, rest, var = cast(xp, running_mean, wide), 0.0, cast(xp, running_var, wide)
    inverse = _inverse_deviation(xp, var, eps)

    def parts(i: slice, j: slice) -> tuple[Array, Array]:
        """dy and x − mean of a tile; zeros for samples of weight 0."""
        d, g = cast(xp, x3[i, j, :], wide) - mean[j, None], cast(xp, dy3[i, j, :], wide)
        if w3 is None:
            return g, d
        there = w3[i, ...] > 0
        return xp.where(there, g, 0.0), xp.where(there, d, 0.0)

    def sums(i: slice, j: slice, _: slice) -> tuple[Array, Array]:
        g, d = parts(i, j)
        return _channel_sum(mode, g), _channel_sum(mode, g, d)

    cut = _tiles(mode, x3)
    dbias, product = (xp.sum(part, axis=0) for part in stack_tiles(xp, sums, cut))
    dweight = (product - rest * dbias) * inverse
    scale = inverse if weight is None else inverse * cast(xp, weight, wide)
    if training:
        slope = quotient(xp, dweight * inverse, stats.count)
        level = quotient(xp, dbias, stats.count) - rest * slope

    def tile(i: slice, j: slice, _: slice) -> Array:
        g, d = parts(i, j)
        if training:
            drift = own.add(own.multiply(d, -slope[j, None]), -level[j, None])
            g = own.add(drift if w3 is None else own.multiply(drift, w3[i, ...]), g)
        return cast(xp, g * scale[j, None], dtype)

    dx = xp.reshape(map_tiles(xp, tile, x3.shape, cut), x.shape)
    return dx, cast(xp, dweight, of_weight), cast(xp, dbias, of_weight)


def _batch_moments(mode: Mode, x: Array, sample_weight: Array | None, *, axis: int, dtype: DType) -> Moments:
    xp = mode.xp
    return _statistics(mode, _around(xp, x, axis), _weights(xp, sample_weight, x, axis, dtype), dtype)


def _whole(
    mode: Mode, x: Array, x3: Array, w3: Array | None, sample_weight: Array | None, axis: int, dtype: DType
) -> Moments:
    """Return the moments of a batch; if it is lazy, they are computed in one pass over its chunks."""
    if not mode.lazy:
        return _statistics(mode, x3, w3, dtype)
    return Moments(*(mode.xp.asarray(part) for part in _moments_of(x, axis, sample_weight)))


def _statistics(mode: Mode, x: Array, w: Array | None, dtype: DType) -> Moments:
    """Σw, mean and m2 over A and B of (A, C, B), merged from its tiles."""
    xp, cut = mode.xp, _tiles(mode, x)

    def moments(i: slice, j: slice, _: slice) -> Moments:
        return _moments(mode, cast(xp, x[i, j, :], dtype), None if w is None else w[i, ...])

    if len(cut) == 1:
        return moments(*cut[0])

    def of_channels(*tile: slice) -> tuple[Array, ...]:
        count, *others = moments(*tile)
        return xp.zeros_like(others[0]) + count, *others

    count, mean, rest, m2 = stack_tiles(xp, of_channels, cut)
    # Relative to the first mean, so that merging equal means is exact.
    total, apart = xp.sum(count, axis=0), (mean - mean[:1, ...]) + rest
    off = quotient(xp, xp.sum(count * apart, axis=0), total)
    m2 = xp.sum(m2, axis=0) + xp.sum(count * (apart - off) ** 2, axis=0)
    return Moments(total[0, ...], *_two_sum(mean[0, ...], off), m2)


def _moments(mode: Mode, x: Array, w: Array | None) -> Moments:
    """Σw, mean and m2 over the first and last of three axes, by two passes.

    The second pass also averages the deviations, which is the error of the first mean.
    """
    xp = mode.xp
    if w is None:
        number = x.shape[0] * x.shape[2]
        count = xp.full((), number * 1.0, dtype=x.dtype, device=device(x))  # float() makes a constant of a dynamic size
        over = 1.0 / divisor(xp, number, x)
        mean = _channel_sum(mode, x) * over
        d = x - mean[:, None]
        squares = _channel_sum(mode, d, d)
        if mode.fused and number:
            # One more reduction would cost an eighth of a batch norm, so it is done only if deviations are small enough
            # for the rounding of the mean to matter.
            few = squares <= number * (ROUNDINGS * float(xp.finfo(x.dtype).eps) * mean) ** 2

            def corrected(again: int) -> tuple[Array, Array]:
                if not again:
                    return xp.zeros_like(mean), squares
                off = stop_gradient(_channel_sum(mode, x - mean[:, None]) * over)
                constant = xp.all(x == x[:1, :, :1], axis=(0, 2))
                m2 = xp.where(constant, 0.0, _positive(xp, squares - count * off * off))
                return xp.where(constant, stop_gradient(x[0, :, 0] - mean), off), m2

            off, m2 = branch(xp.sum(xp.astype(few, xp.int32)), (0, 1), corrected)
            return Moments(count, *_two_sum(mean, off), m2)
        off = _channel_sum(mode, d) * over
    else:
        count = xp.sum(w)
        there = w > 0
        x = xp.where(there, x, 0.0)
        mean = quotient(xp, _channel_sum(mode, w * x), count)
        d = xp.where(there, x - mean[:, None], 0.0)
        off = quotient(xp, _channel_sum(mode, w * d), count)
        squares = _channel_sum(mode, w * d, d)
    center, rest = _two_sum(mean, off)
    # For a constant channel the rest is only the rounding error of sums.
    rest = xp.where(xp.abs(rest) > math.sqrt(xp.finfo(x.dtype).eps) * xp.abs(off), rest, 0.0)
    return Moments(count, center, rest, _positive(xp, squares - count * off * off))


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b, rounded, and the rounding error, for |a| ≥ |b| (Dekker's fast two-sum)."""
    total = a + b
    return total, stop_gradient((a - total) + b)


def _positive(xp: Namespace, m2: Array) -> Array:
    """Return sums of squares with 0 for negative values, which come from rounding."""
    return xp.where(m2 < 0, 0.0, m2)


def _channel_sum(mode: Mode, x: Array, y: Array | None = None) -> Array:
    """Return Σ x, or Σ xy, over A and B of arrays (A, C, B).

    On NumPy the longer axis is reduced first, through BLAS: NumPy's reductions take twice as long, and twenty times as
    long over two axes that are not adjacent.
    """
    xp = mode.xp
    if not mode.host or 0 in x.shape:
        return xp.sum(x if y is None else x * y, axis=(0, 2))
    a, c, b = x.shape
    if b > a:
        return xp.sum(xp.vecdot(x, xp.ones(b, dtype=x.dtype) if y is None else y), axis=0)
    product = xp.reshape(x if y is None else x * y, (a, c * b))
    return xp.sum(xp.reshape(xp.ones(a, dtype=x.dtype) @ product, (c, b)), axis=-1)


def _merge(
    mode: Mode, count_a: Array, mean_a: Array, m2_a: Array, count_b: Array, mean_b: Array, m2_b: Array
) -> tuple[Array, Array, Array]:
    count = count_a + count_b
    delta, share = mean_b - mean_a, quotient(mode.xp, count_b, count)
    return count, mean_a + delta * share, m2_a + m2_b + delta * delta * (count_a * share)


def _merge_moments(a: Moments, b: Moments) -> Moments:
    """:func:`merge_batch_stats` for parts on the host whose means have a `rest`."""
    count = a.count + b.count
    delta, share = (b.mean - a.mean) + (b.rest - a.rest), quotient(namespace(count=count), b.count, count)
    center, rest = _two_sum(a.mean, a.rest + delta * share)
    return Moments(count, center, rest, a.m2 + b.m2 + delta * delta * (a.count * share))


def _inverse_deviation(xp: Namespace, var: Array, eps: float | Array) -> Array:
    """1 / √(var + eps); 0 for a constant channel without eps; NaN if var + eps is negative, as in a broken state."""
    spread = var + number_in(xp, eps, var.dtype)
    none = spread == 0
    return xp.where(none, 0.0, 1.0 / xp.sqrt(xp.where(none, 1.0, spread)))
