"""The rows of a data set, for the solvers in NumPy: each pass over the rows, in their library, returns sums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import prod
from typing import NamedTuple

import numpy as np

from ..._array.chunked import over_rows, reduce_chunks
from ..._array.host import from_host, on_host
from ..._array.mode import Mode, mode_of
from ..._array.namespace import Array, DType, Namespace, cast, default_int, namespace, widest_dtype
from ..._array.nearest import taken
from ..._array.random import generator
from ..._array.rows import rows_in_cache
from ..._array.threads import in_parts, workers
from ...logistic.gap import dual_sums
from ...logistic.objective import assembled, row_sums
from ...logistic.passes import (
    largest_norm,
    losses,
    merge_added,
    merge_largest,
    merge_moments,
    merge_sums,
    merge_triangular,
    moments,
    read_rows,
    triangular,
)
from .columns import EXPONENTS, FAR, Columns, Whitened, powers, unshifted

ROUGH, ALIKE = 128.0, 5  # factor by which a guess of a spread may be off; exponents of 2 for which scale 1 is kept
GUESS = 64  # rows used for a first guess of centres and scales
THIN_LEAST = 16  # rows per coefficient that a sample needs, so that its minimum is near the minimum over all rows
SHARED = 1 << 18  # numbers in x above which a pass with matrix products is worth starting threads
SHARED_ROWS = 1 << 18  # rows above which a light pass is: BLAS uses threads for its products anyway
WORTH_THINNING = 1 << 20  # numbers in x above which starting on a sample of the rows saves more than it costs
TALL = 1 << 15  # numbers in the R of a chunk of rows; the chunk has about four times as many
ROWS_AT_ONCE = 1 << 16  # rows whose margins are compared at once


class LossSums(NamedTuple):
    """The least margin, and the sums of loss, gradient (D,) and curvature, over all rows, on the host.

    The curvature is the Hessian (D, D), its diagonal (D,), or None, as requested.
    """

    margin: float
    loss: float
    grad: Array
    curvature: Array | None


class Closest(NamedTuple):
    """Rows with the smallest margins: (z, 1), the class of the row, the class it is compared with, and the margin."""

    rows: Array
    own: Array
    rival: Array
    margin: Array
    largest: float  # the largest |margin| of all rows


@dataclass(frozen=True)
class Dataset:
    """Rows, their targets (±1, or class indices) and weights; `lines` is 1 for two classes, else the number of classes.

    Passes read z, which `columns` computes from x.
    """

    mode: Mode
    x: Array
    target: Array
    weight: Array | None
    lines: int
    dtype: DType  # of the computation
    columns: Columns
    ignored: bool  # whether some rows may have weight 0, and any values

    @property
    def coefficients(self) -> int:
        """D, the number of coefficients of all classes, intercepts included."""
        return self.lines * (self.x.shape[1] + 1)

    def sums(self, theta: Array, curvature: str) -> LossSums:
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
        options = {"curvature": curvature}
        parts = self._read(
            row_sums, merge_sums, self._folded(theta), shapes, width=width, light=curvature == "none", **options
        )
        margin, loss, grad, level, *rest = parts
        unit = self._unit
        unit = None if unit is None else np.tile(np.concat([unit, np.ones(1)]), k)
        if curvature == "full":
            flat, bend = assembled(np, grad, level, *rest)
            bend = bend if unit is None else bend / unit[:, None] / unit[None, :]
        else:
            flat = _with_intercepts(grad, level)
            bend = _with_intercepts(*rest) if rest else None
            bend = bend if unit is None or bend is None else bend / unit**2
        return LossSums(float(margin), float(loss), flat if unit is None else flat / unit, bend)

    def gram(self) -> Array:
        """Σ w (z, 1)(z, 1)ᵀ: four times the Hessian of two equally probable classes."""
        sign = self.mode.xp.ones_like(self.target, dtype=self.dtype)
        alike = replace(self, lines=1, target=sign)
        curvature: Array = alike.sums(np.zeros((1, self.x.shape[1] + 1)), "full").curvature
        return 4.0 * curvature

    def triangle(self, *, level_first: bool, weighted: bool) -> Array:
        """R of QR = √w (1, z) or √w (z, 1): it keeps digits that Σ w (z, 1)(z, 1)ᵀ loses to rounding."""
        size = self.x.shape[1] + 1
        options = {"level_first": level_first, "weighted": weighted}
        width = max(1, min(2 * size, TALL // size))  # chunks of more rows than columns, each of which has an R to merge
        found = self._read(triangular, merge_triangular, [], [(size, size)], width=width, **options)[0]
        if self._unit is None:
            return found
        one = np.ones(1)
        return found / np.concat([one, self._unit] if level_first else [self._unit, one])

    def whitened(self, columns: Whitened) -> "Dataset":
        """The same rows with whitened columns, computed once unless x is lazy."""
        make = partial(_whitened_rows, columns, self.dtype)
        if self.mode.lazy:
            u = over_rows(make, self.x, columns.turn.shape[1], self.dtype)
        elif self.mode.host:
            n = self.x.shape[0]
            u = np.concat([make(self.x[i : i + ROWS_AT_ONCE, :]) for i in range(0, n, ROWS_AT_ONCE)])
        else:
            u = make(self.x)
        found = replace(self, mode=mode_of(x=u), x=u, columns=columns)
        longest = found._moments(np.zeros(u.shape[1]), np.ones(u.shape[1]))[3]
        return replace(found, columns=replace(columns, radius=float(np.hypot(1.0, longest))))

    def along(self, theta: Array, move: Array, steps: tuple[float, ...]) -> Array:
        """The losses at all trial steps of a line search, in one pass."""
        width = self.x.shape[1] + 4 * self.lines
        at = [*self._folded(theta), *self._folded(move)]
        return self._read(losses, merge_added, at, [(len(steps),)], width=width, light=True, steps=steps)[0]

    def dual(self, theta: Array, factors: Array) -> list[Array]:
        """The sums of :func:`~anyops.logistic.gap.dual_sums` over all rows, with slopes by the coefficients of z."""
        p, k = self.x.shape[1], self.lines
        shapes = [(), (), (k, p) if k > 1 else (p,), (len(factors), len(factors))]
        loss, divergence, slope, levels = self._read(
            dual_sums, merge_added, [*self._folded(theta), factors], shapes, width=p + 6 * k
        )
        slope = slope if self._unit is None else slope / self._unit
        return [loss, divergence, np.reshape(slope, (k, p)), levels]

    def largest_norm(self, form: Array) -> float:
        """The largest √(aᵀ form a) over rows a = (z, 1), or with K classes a bound over differences of two classes."""
        k, size = self.lines, self.x.shape[1] + 1
        own = np.stack([form[i * size : (i + 1) * size, i * size : (i + 1) * size] for i in range(k)])
        if (unit := self._unit) is not None:
            unit = np.concat([unit, np.ones(1)])
            own = own / unit[:, None] / unit[None, :]
        at = [own[:, :-1, :-1], own[:, :-1, -1], own[:, -1, -1]]
        largest = self._read(largest_norm, merge_largest, at, [()], width=3 * size)[0]
        return float(np.maximum(largest, 0.0)) ** 0.5 * (1.0 if k == 1 else 2.0)

    def scaled(self, fit_intercept: bool) -> "Dataset":
        """The same rows with centres and scales; centres are 0 without an intercept to absorb the shift.

        Raises FloatingPointError if x is not finite, ValueError if no scale keeps its squares in range.
        """
        eps = float(self.mode.xp.finfo(self.dtype).eps)
        near, far = EXPONENTS[8 if eps < 1e-10 else 4]
        size = 8 if far > 126 else 4
        origin, unit = self._guess(fit_intercept, size)
        for trial in range(4):
            total, first, second, longest = self._moments(origin, unit)
            if not np.all(np.isfinite(first)):
                raise FloatingPointError
            mean, square = first / total, second / total
            spread = np.sqrt(np.maximum(square - mean**2 if fit_intercept else square, np.zeros_like(mean)))
            lost = ~((spread > 1 / ROUGH) & (spread < ROUGH) & (np.abs(mean) < 1e3 * spread)) & (square > 0)
            hidden = (square == 0) & (trial == 0)  # a constant, or numbers whose squares underflow
            if not np.any(lost | hidden):
                break
            # The guess was too far off for these columns: start again at their mean, in units of their spread.
            origin = np.where(lost & fit_intercept, self._rounded(origin + unit * mean), origin)
            spread = np.where(spread > 0.01 * np.abs(mean), spread, np.sqrt(square))
            unit = np.where(lost, powers(unit * np.clip(spread, 0.0, longest), size), unit)
            unit = np.where(hidden, 0.5 ** (2 * far // 3), unit)
        beyond = (square > 0) & ~(np.abs(np.log2(unit) + np.log2(np.where(spread > 0, spread, 1.0))) < far + 30)
        if np.any(beyond):
            raise ValueError(
                f"x must have columns whose spread is from {0.5**far:.0e} to {2.0**far:.0e}, got "
                f"{(unit * spread)[beyond][0]:.2g} in column {int(np.argmax(beyond))}"
            )
        middle = origin + unit * mean
        spread = unit * spread
        rms = np.hypot(middle, spread)
        far = (np.abs(middle) > FAR * rms) & fit_intercept
        centre = np.where(far, np.where(square > 0, self._rounded(middle), origin), 0.0)
        scale = powers(spread, size)
        noise = _rounding(self.mode.xp, self.x, eps) * rms / scale
        extreme = bool(np.any(np.abs(np.log2(scale)) > near))
        away = np.linalg.vector_norm((origin - centre) / scale)
        radius = float(np.hypot(1.0, np.max(unit / scale, initial=0.0) * longest + away))
        found = Columns(centre, scale, radius, noise, extreme, self.columns.origin)
        return replace(self, columns=found)

    def _guess(self, fit_intercept: bool, size: int) -> tuple[Array, Array]:
        """A value of each column near its middle, and a power of 2 near its spread, from a few rows.

        0 and 1 where these do as well, which saves two operations on all rows.
        """
        n, p = self.x.shape
        if self.mode.lazy:
            some = slice(0, min(GUESS, n))
            rows, weight = (None if a is None else a[some].compute() for a in (self.x, self.weight))
        else:
            drawn = generator(0).integers(0, n, min(GUESS, n))
            rows, weight = (None if a is None else on_host(self._take(a, drawn)) for a in (self.x, self.weight))
        rows = np.asarray(rows, dtype=np.float64)
        if weight is not None:
            rows = rows[np.asarray(weight) > 0, :]
        if not len(rows):
            return np.zeros(p), np.ones(p)
        middle = np.sort(rows, axis=0)[len(rows) // 2, :]
        origin = np.where(np.isfinite(middle) & fit_intercept, middle, 0.0)
        spread = np.mean(np.abs(rows - origin), axis=0)
        if np.all(np.abs(origin) < spread):
            origin = np.zeros(p)
        unit = powers(spread, size)
        alike = np.all(np.abs(np.log2(unit)) < ALIKE)
        return origin, np.ones(p) if alike else unit

    def _moments(self, origin: Array, unit: Array) -> tuple[float, Array, Array, float]:
        """Σw, Σw z, Σw z² and the largest ‖z‖ of z = (x − origin) / unit."""
        p = self.x.shape[1]
        plain = replace(unshifted(p), centre=origin, scale=unit, extreme=bool(np.any(unit != 1)))
        shapes = [(), (p,), (p,), ()]
        total, first, second, longest = replace(self, columns=plain)._read(
            moments, merge_moments, [], shapes, width=2 * p
        )
        return float(total), first, second, float(np.sqrt(longest))

    def _rounded(self, values: Array) -> Array:
        """Values rounded to the dtype of the computation."""
        return on_host(from_host(self.mode.xp, values, self.dtype, self.x))

    # --- subsets of rows and columns ---

    def thinned(self, step: int) -> "Dataset":
        """A random sample of one row in `step` of each class, more of rare classes, with weights scaled to match.

        The seed is fixed. Rows are drawn, not taken at a stride, because their order may be periodic.
        """
        target = on_host(self.target)
        rng, rows, factors = generator(0), [], []
        for label in np.unique_values(target):
            own = np.nonzero(target == label)[0]
            many = min(len(own), max(-(-len(own) // step), THIN_LEAST * (self.x.shape[1] + 1)))
            rows.append(own if many == len(own) else own[rng.choice(len(own), many, replace=False)])
            factors.append(np.full(many, len(own) / many))
        chosen = np.concat(rows)
        order = np.argsort(chosen)
        chosen, factor = chosen[order], np.concat(factors)[order]
        if self.weight is not None:
            factor = factor * on_host(self._take(self.weight, chosen))
            chosen, factor = chosen[factor > 0], factor[factor > 0]
        x, target = self._take(self.x, chosen), self._take(self.target, chosen)
        weight = from_host(self.mode.xp, factor, self.dtype, self.x)
        return replace(self, x=x, target=target, weight=weight, ignored=False)

    def thinning(self) -> int:
        """The largest `step` with which thinned rows still locate the minimum roughly; 1 if there is none."""
        if self.mode.lazy or self.mode.sharded or self.x.shape[0] * self.x.shape[1] < WORTH_THINNING:
            return 1
        return thin(self.x.shape[0] / (THIN_LEAST * self.coefficients))

    def closest(self, theta: Array, many: int) -> Closest:
        """The rows, with the class they are compared with, whose margins at coefficients `theta` are smallest."""
        if self.mode.lazy:
            read = partial(_closest_of_chunk, replace(self, x=None, target=None, weight=None), theta, many)
            return reduce_chunks(read, partial(_merge_closest, many), 1, self.x, self.target, self.weight)
        n = self.x.shape[0]
        blocks = (self._rows(slice(i, min(i + ROWS_AT_ONCE, n))) for i in range(0, n, ROWS_AT_ONCE))
        return reduce(partial(_merge_closest, many), (_closest(block, theta, many) for block in blocks))

    def ranges(self) -> Array:
        """The minimum of each column in each class, and minus the maximum, as (2, K, p)."""
        k = max(self.lines, 2)
        if self.mode.lazy:
            return reduce_chunks(partial(_ranges, k), np.minimum, 1, self.x, self.target, self.weight)
        n = self.x.shape[0]
        blocks = (self._rows(slice(i, min(i + ROWS_AT_ONCE, n))) for i in range(0, n, ROWS_AT_ONCE))
        return reduce(np.minimum, (_ranges(k, block.x, block.target, block.weight) for block in blocks))

    def of_columns(self, some: Array) -> "Dataset":
        """The same rows with some of the columns, by index."""
        c = self.columns
        x = self._take(self.x, some, axis=1)
        return replace(self, x=x, columns=replace(c, centre=c.centre[some], scale=c.scale[some], noise=c.noise[some]))

    def _take(self, a: Array, index: Array, axis: int = 0) -> Array:
        """Take rows, or columns, by indices on the host."""
        index = index if self.mode.host else from_host(self.mode.xp, index, default_int(self.mode.xp, a), a)
        return taken(self.mode, a, index, axis=axis)

    def _rows(self, rows: slice) -> "Dataset":
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, x=self.x[rows, ...], target=self.target[rows], weight=weight)

    # --- a pass ---

    @property
    def _unit(self) -> Array | None:
        """Scales to apply to coefficients in place of rows; None if rows are scaled."""
        return None if self.columns.extreme else self.columns.scale

    def _folded(self, theta: Array) -> list[Array]:
        """Coefficients and intercepts in the form that kernels take; for two classes (p,) and ()."""
        coef, intercept = theta[:, :-1], theta[:, -1]
        coef = coef if self.columns.extreme else coef / self.columns.scale
        return [coef, intercept] if len(theta) > 1 else [coef[0, :], intercept[0, ...]]

    def _read(
        self,
        kernel: Callable[..., tuple[Array, ...]],
        merge: Callable[[tuple[Array, ...], tuple[Array, ...]], tuple[Array, ...]],
        at: list[Array],
        shapes: Sequence[tuple[int, ...]],
        *,
        width: int,
        light: bool = False,
        **options: object,
    ) -> list[Array]:
        """The sums of a kernel over all rows, in `shapes`; a row needs `width` intermediate numbers.

        A `light` pass is two matrix-vector products, which BLAS runs on all cores.
        """
        joined = partial(_merge_flat, merge, shapes)
        if self.mode.lazy:
            read = partial(
                _read_chunk,
                kernel,
                merge,
                at=at,
                dtype=self.dtype,
                columns=self.columns,
                ignored=self.ignored,
                width=width,
                light=light,
                options=options,
            )
            found = on_host(reduce_chunks(read, joined, 1, self.x, self.target, self.weight))
        else:
            least = SHARED_ROWS if light else SHARED // max(self.x.shape[1], 1)
            found = self._in_parts(
                lambda part: _read_rows(part, kernel, merge, at, width, light, options), joined, least
            )
        return _unflatten(found, shapes)

    def _in_parts(
        self, read: Callable[["Dataset"], Array], merge: Callable[[Array, Array], Array], least: int
    ) -> Array:
        """Read all rows; from `least` rows on, they are split over threads."""
        n = self.x.shape[0]
        parts = workers(self.x) if n >= least and self.mode.at_hand else 1
        if parts == 1:
            return on_host(read(self))
        ends = [n * part // parts for part in range(parts + 1)]
        made = in_parts(self.x, lambda part: on_host(read(self._rows(slice(*ends[part : part + 2])))), parts)
        return reduce(merge, made)


def thin(most: float) -> int:
    """The largest of 1, 2, 4, 8, 16 that is at most `most`; 1 if none is."""
    step = 16
    while step > max(most, 1.0):
        step //= 2
    return step


def _rounding(xp: Namespace, x: Array, eps: float) -> float:
    """The relative rounding error of x, 0 for integers."""
    own = float(xp.finfo(x.dtype).eps) if xp.isdtype(x.dtype, "real floating") else 0.0
    return 0.5 * max(own, eps if own else 0.0)


def _whitened_rows(columns: Whitened, dtype: DType, x: Array) -> Array:
    """(z − mean) turn, in the library of x."""
    xp = namespace(x=x)
    inner = columns.inner
    centre = inner.centre + columns.mean * inner.scale
    turn = columns.turn if inner.extreme else columns.turn / inner.scale[:, None]
    centre, scale, turn = (from_host(xp, a, dtype, x) for a in (centre, inner.scale, turn))
    z = cast(xp, x, dtype) - centre
    return xp.matmul(z / scale if inner.extreme else z, turn)


def _read_rows(
    data: Dataset,
    kernel: Callable[..., object],
    merge: Callable[..., object],
    at: list[Array],
    width: int,
    light: bool,
    options: dict,
) -> Array:
    mode, x, columns = data.mode, data.x, data.columns
    rows = 0 if mode.sharded else rows_in_cache(mode.xp, x, width, close=not light)
    centre = columns.centre if columns.shifted else None
    factor = 1.0 / columns.scale if columns.extreme else None
    shipped = (None if a is None else from_host(mode.xp, a, data.dtype, x) for a in (centre, factor, *at))
    wide = widest_dtype(mode.xp, data.dtype, x)
    return mode.run(
        read_rows, x, data.target, data.weight, *shipped,
        kernel=kernel, merge=merge, rows=rows, ignored=data.ignored, dtype=data.dtype, wide=wide, **options,
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
    columns: Columns,
    ignored: bool,
    width: int,
    light: bool,
    options: dict,
) -> Array:
    """The sums over a chunk of a lazy array, in the library of the chunk."""
    data = Dataset(mode_of(x=x), x, target, weight, 0, dtype, columns, ignored)
    return on_host(_read_rows(data, kernel, merge, at, width, light, options))


def _merge_flat(
    merge: Callable[..., tuple[Array, ...]], shapes: Sequence[tuple[int, ...]], a: Array, b: Array
) -> Array:
    merged = merge(tuple(_unflatten(a, shapes)), tuple(_unflatten(b, shapes)))
    return np.concat([np.reshape(part, (-1,)) for part in merged])


def _unflatten(values: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    parts, start = [], 0
    for shape in shapes:
        size = prod(shape)
        parts.append(np.reshape(values[start : start + size], shape))
        start += size
    return parts


def _with_intercepts(by_coef: Array, by_intercept: Array) -> Array:
    k = by_intercept.size
    columns = np.reshape(by_coef, (k, -1)), np.reshape(by_intercept, (k, 1))
    return np.reshape(np.concat(columns, axis=1), (-1,))


# --- margins ---------------------------------------------------------------------------------------------------------


def _ranges(k: int, x: Array, target: Array, weight: Array | None) -> Array:
    x, target = on_host(x), on_host(target)
    counts = np.ones(len(x), dtype=bool) if weight is None else on_host(weight) > 0
    labels = (-1, 1) if k == 2 else range(k)
    each = [x[counts & (target == label), :] for label in labels]
    return np.stack([np.stack([np.min(sign * own, axis=0, initial=np.inf) for own in each]) for sign in (1.0, -1.0)])


def _closest_of_chunk(data: Dataset, theta: Array, many: int, x: Array, target: Array, weight: Array | None) -> Closest:
    part = replace(data, mode=mode_of(x=x), x=x, target=target, weight=weight)
    return _closest(part, theta, many)


def _closest(data: Dataset, theta: Array, many: int) -> Closest:
    """The smallest margins, in float64 on the host: near 0 they decide whether classes touch or overlap."""
    z = (on_host(data.x) - data.columns.centre) / data.columns.scale
    target = on_host(data.target)
    if data.weight is not None:
        kept = on_host(data.weight) > 0
        z, target = z[kept, :], target[kept]
    rows = np.concat([z, np.ones((len(z), 1))], axis=1)
    logits = rows @ theta.T
    if data.lines == 1:
        own = np.astype(target > 0, np.int64)
        margin, rival, row = logits[:, 0] * target, 1 - own, np.arange(len(z))
    else:
        own = np.astype(target, np.int64)
        each = np.arange(len(z))
        margin = logits[each, own][:, None] - logits
        margin[each, own] = np.inf
        row, rival = (np.reshape(a, (-1,)) for a in np.indices(margin.shape))
        margin = np.reshape(margin, (-1,))
        keep = np.isfinite(margin)
        margin, rival, row = margin[keep], rival[keep], row[keep]
    first = np.argpartition(margin, many)[:many] if len(margin) > many else np.arange(len(margin))
    chosen = row[first]
    largest = float(np.max(np.abs(margin), initial=0.0))
    return Closest(rows[chosen, :], own[chosen], rival[first], margin[first], largest)


def _merge_closest(many: int, a: Closest, b: Closest) -> Closest:
    rows, own, rival, margin = (np.concat(pair) for pair in zip(a[:4], b[:4], strict=True))
    first = np.argpartition(margin, many)[:many] if len(margin) > many else np.arange(len(margin))
    return Closest(rows[first, :], own[first], rival[first], margin[first], max(a.largest, b.largest))
