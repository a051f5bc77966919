"""The rows of a data set, read in passes: each pass sums over chunks of rows, and its sums come to the host at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import prod
from typing import NamedTuple

from .._array.chunked import is_chunked, reduce_chunks
from .._array.compiled import compiled
from .._array.host import HOST, from_host, on_host
from .._array.namespace import Array, DType, Namespace, cast, is_at_hand, namespace, widest_dtype
from .._array.rows import fold_rows, is_sharded, rows_in_cache
from .._array.threads import in_parts, workers
from .objective import assembled, losses_along, row_sums

THIN_LEAST = 16  # rows a coefficient that a part of the data must have to say where the whole has its minimum
FAR = 0.3  # of the root of the mean square of a column, which its mean is when it matters where 0 is
CONSTANT = 64.0  # roundings of the mean that a column must spread over to be no constant
SHARED = 1 << 17  # numbers in x from which a pass is worth the start of threads


class Sums(NamedTuple):
    """Of all rows, on the host: the least margin, the loss, its gradient (D,), and its curvature.

    The curvature is the Hessian (D, D), its diagonal (D,), or None, as it was asked for.
    """

    margin: float
    loss: float
    grad: Array
    curvature: Array | None


class Along(NamedTuple):
    """The losses at some steps along a direction, and the least and the largest change of a margin by it."""

    losses: Array
    least: float
    most: float


@dataclass(frozen=True)
class Samples:
    """Rows, their targets (±1, or numbers of classes) and weights; `lines` is 1 for two classes, else their number.

    What is read of the rows is x − centre, where there is a centre (p,).
    """

    xp: Namespace
    x: Array
    target: Array
    weight: Array | None
    lines: int
    dtype: DType  # that of the computation
    centre: Array | None = None

    @property
    def coefficients(self) -> int:
        """D: those of all classes, and their intercepts."""
        return self.lines * (self.x.shape[1] + 1)

    def sums(self, theta: Array, curvature: str) -> Sums:
        """The sums at coefficients (lines, p + 1), the intercept last; `curvature` is "none", "diagonal" or "full"."""
        p, k = self.x.shape[1], self.lines
        width = k * p if curvature == "full" else p + 4 * k
        line = (k,) if k > 1 else ()
        shapes = [(), (), (*line, p), line]
        if curvature == "diagonal":
            shapes += [(*line, p), line]
        elif curvature == "full":
            d = k * p
            shapes += [(p, p), (p,), ()] if k == 1 else [(k, p, p), (k, p), (k,), (d, d), (d, k), (k, k)]
        parts = self._read(_sums, _merge_sums, theta, None, shapes, width=width, curvature=curvature)
        margin, loss, grad, level, *rest = parts
        if curvature == "full":
            flat, hessian = assembled(HOST, grad, level, *rest)
            return Sums(float(margin), float(loss), flat, hessian)
        flat = _with_intercepts(grad, level)
        return Sums(float(margin), float(loss), flat, _with_intercepts(*rest) if rest else None)

    def gram(self) -> Array:
        """Σ w (x, 1)(x, 1)ᵀ: four times the Hessian of two classes where both are as likely."""
        curvature: Array = self._moments("full").curvature
        return 4.0 * curvature

    def centred(self) -> "Samples":
        """The same rows less the means of their columns; as they are where no mean is far from 0 beside its column.

        Constant columns stay: the mean would leave nothing of them but its rounding.
        """
        eps = float(self.xp.finfo(self.dtype).eps)
        mean, square = self._means()
        if not HOST.any(HOST.abs(mean) > FAR * HOST.sqrt(square)):
            return self
        centre = on_host(from_host(self.xp, mean, self.dtype, self.x))
        spread = replace(self, centre=centre)._means()[1]
        return replace(self, centre=HOST.where(HOST.sqrt(spread) > CONSTANT * eps * HOST.abs(centre), centre, 0.0))

    def _means(self) -> tuple[Array, Array]:
        """The means of the columns and of their squares."""
        sums = self._moments("diagonal")
        curvature: Array = sums.curvature
        return sums.grad[:-1] / sums.grad[-1], curvature[:-1] / curvature[-1]

    def _moments(self, curvature: str) -> Sums:
        """The sums of one class at no coefficients: −½ Σ w (x, 1), and ¼ Σ w of the products."""
        sign = self.xp.ones_like(self.target, dtype=self.dtype)
        return replace(self, lines=1, target=sign).sums(HOST.zeros((1, self.x.shape[1] + 1)), curvature)

    def along(self, theta: Array, move: Array, steps: tuple[float, ...]) -> Along:
        """All trial steps of a line search, in one pass."""
        shapes = [(len(steps),), (), ()]
        width = self.x.shape[1] + 4 * self.lines
        losses, least, most = self._read(_along, _merge_along, theta, move, shapes, width=width, steps=steps)
        return Along(losses, float(least), float(most))

    def thinned(self, step: int) -> "Samples":
        """Every so manieth row."""
        return self._rows(slice(None, None, step))

    def _rows(self, rows: slice) -> "Samples":
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, x=self.x[rows, ...], target=self.target[rows], weight=weight)

    def thinning(self) -> int:
        """How far the rows can be thinned and still say where the minimum is, roughly; 1 where they cannot."""
        if is_chunked(self.xp) or is_sharded(self.x) or self.x.shape[0] * self.x.shape[1] < SHARED:
            return 1
        return thin(self.x.shape[0] / (THIN_LEAST * self.coefficients))

    def _read(
        self,
        kernel: Callable[..., tuple[Array, ...]],
        merge: Callable[[tuple[Array, ...], tuple[Array, ...]], tuple[Array, ...]],
        theta: Array,
        move: Array | None,
        shapes: list[tuple[int, ...]],
        *,
        width: int,
        **options: object,
    ) -> list[Array]:
        at = [*_split(theta), *(_split(move) if move is not None else ())]
        joined = partial(_merge_flat, merge, shapes)
        if is_chunked(self.xp):
            how = {"dtype": self.dtype, "centre": self.centre, "width": width, "options": options}
            read = partial(_read_chunk, kernel, merge, at=at, **how)
            found = on_host(reduce_chunks(read, joined, 1, self.x, self.target, self.weight))
        else:
            found = self._in_parts(lambda part: _read_rows(part, kernel, merge, at, width, options), joined)
        return _unflatten(found, shapes)

    def _in_parts(self, read: Callable[["Samples"], Array], merge: Callable[[Array, Array], Array]) -> Array:
        """What is read of all rows: on each core of some of them, where they are at hand."""
        n, p = self.x.shape
        parts = workers(self.x) if n * p >= SHARED and is_at_hand(self.x) else 1
        if parts == 1:
            return on_host(read(self))
        ends = [n * part // parts for part in range(parts + 1)]
        made = in_parts(self.x, lambda part: on_host(read(self._rows(slice(*ends[part : part + 2])))), parts)
        return reduce(merge, made)


def thin(most: float) -> int:
    """The largest of 1, 2 … 16 that is no more than a number; 1 if none is."""
    step = 16
    while step > max(most, 1.0):
        step //= 2
    return step


def _read_rows(
    samples: Samples,
    kernel: Callable[..., object],
    merge: Callable[..., object],
    at: list[Array],
    width: int,
    options: dict,
) -> Array:
    xp, x = samples.xp, samples.x
    rows = 0 if is_sharded(x) else rows_in_cache(xp, x, width)
    centre, *shipped = (None if a is None else from_host(xp, a, samples.dtype, x) for a in (samples.centre, *at))
    wide = widest_dtype(xp, samples.dtype, x)
    return compiled(
        _pass, xp, x, samples.target, samples.weight, centre, *shipped,
        kernel=kernel, merge=merge, rows=rows, dtype=samples.dtype, wide=wide, **options,
    )  # fmt: skip


def _read_chunk(
    kernel: Callable[..., object],
    merge: Callable[..., object],
    x: Array,
    target: Array,
    weight: Array | None,
    *,
    at: list[Array],
    dtype: DType,
    centre: Array | None,
    width: int,
    options: dict,
) -> Array:
    """What a chunk of a lazy array gives, from the library that the chunk is of."""
    xp = namespace(x=x)
    return on_host(_read_rows(Samples(xp, x, target, weight, 0, dtype, centre), kernel, merge, at, width, options))


def _pass(
    xp: Namespace,
    x: Array,
    target: Array,
    w: Array | None,
    centre: Array | None,
    *at: Array,
    kernel: Callable[..., tuple[Array, ...]],
    merge: Callable[..., tuple[Array, ...]],
    rows: int,
    dtype: DType,
    wide: DType,
    **options: object,
) -> Array:
    """One vector of all sums, so that they are one transfer."""

    def chunk(x: Array, target: Array, w: Array | None) -> tuple[Array, ...]:
        x = cast(xp, x, dtype)
        return kernel(xp, x if centre is None else x - centre, target, w, *at, wide=wide, **options)

    parts = fold_rows(xp, chunk, merge, rows, x, target, w)
    return xp.concat([xp.reshape(part, (-1,)) for part in parts])


def _sums(xp: Namespace, *arrays: Array, wide: DType, curvature: str) -> tuple[Array, ...]:
    return row_sums(xp, *arrays, curvature=curvature, wide=wide)


def _merge_sums(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return _least(a[0], b[0]), *(s + t for s, t in zip(a[1:], b[1:], strict=True))


def _along(xp: Namespace, *arrays: Array, wide: DType, steps: tuple[float, ...]) -> tuple[Array, ...]:
    losses, least, most = losses_along(xp, *arrays, steps=steps, wide=wide)
    return xp.stack(losses), cast(xp, least, wide), cast(xp, most, wide)


def _merge_along(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return a[0] + b[0], _least(a[1], b[1]), -_least(-a[2], -b[2])


def _least(a: Array, b: Array) -> Array:
    return namespace(a=a).where(a < b, a, b)


def _merge_flat(merge: Callable[..., tuple[Array, ...]], shapes: list[tuple[int, ...]], a: Array, b: Array) -> Array:
    merged = merge(tuple(_unflatten(a, shapes)), tuple(_unflatten(b, shapes)))
    return HOST.concat([HOST.reshape(part, (-1,)) for part in merged])


def _unflatten(values: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    parts, start = [], 0
    for shape in shapes:
        size = prod(shape)
        parts.append(HOST.reshape(values[start : start + size], shape))
        start += size
    return parts


def _split(theta: Array) -> tuple[Array, Array]:
    """Coefficients and intercepts of (lines, p + 1); for two classes (p,) and ()."""
    coef, intercept = theta[:, :-1], theta[:, -1]
    return (coef, intercept) if len(theta) > 1 else (coef[0, :], intercept[0, ...])


def _with_intercepts(by_coef: Array, by_intercept: Array) -> Array:
    k = by_intercept.size
    columns = HOST.reshape(by_coef, (k, -1)), HOST.reshape(by_intercept, (k, 1))
    return HOST.reshape(HOST.concat(columns, axis=1), (-1,))
