"""Tiles of an index space, small enough that temporary arrays stay in cache or fit in memory."""

import math
from collections.abc import Callable
from itertools import groupby, product
from typing import Any, TypeVar

from .mode import Mode
from .namespace import Array, Namespace, device

T = TypeVar("T")
Tile = tuple[slice, ...]


def tiles(shape: tuple[int, ...], grain: int, axes: tuple[int, ...]) -> list[Tile]:
    """Cut an index space into tiles of at most `grain` elements, along `axes`, the first of them first.

    One tile if `grain` is 0; larger tiles if the other axes are longer than `grain`. The last axis varies fastest.
    """
    if not grain or math.prod(shape) <= grain:
        return [(slice(None),) * len(shape)]
    steps = list(shape)
    for axis in axes:
        steps[axis] = max(1, min(steps[axis], grain * steps[axis] // math.prod(steps)))
    cuts = ([slice(i, min(i + step, n)) for i in range(0, n, step)] for n, step in zip(shape, steps, strict=True))
    return list(product(*cuts))


def map_tiles(
    xp: Namespace, kernel: Callable[..., Any], shape: tuple[int, ...], cut: list[Tile], *, last: bool = False
) -> Any:
    """Return ``kernel(*tile)`` of all tiles, assembled into one array, or into a tuple of arrays.

    Results may have more axes than the index space; its axes are their first ones, or their `last` ones. Each tile is
    written into the result, which spares a second copy.
    """
    first = kernel(*cut[0])
    if len(cut) == 1:
        return first
    several = isinstance(first, tuple)
    whole, leads = [], []
    for y in first if several else (first,):
        lead = y.ndim - len(shape) if last else 0
        size = (*y.shape[:lead], *shape, *y.shape[lead + len(shape) :])
        whole.append(xp.empty(size, dtype=y.dtype, device=device(y)))
        leads.append((slice(None),) * lead)
    for number, tile in enumerate(cut):
        made = kernel(*tile) if number else first
        for y, lead, part in zip(whole, leads, made if several else (made,), strict=True):
            y[(*lead, *tile, ...)] = part
    return tuple(whole) if several else whole[0]


def stack_tiles(xp: Namespace, kernel: Callable[..., tuple[Array, ...]], cut: list[Tile]) -> tuple[Array, ...]:
    """Return the results (C,) of each tile of (A, C): side by side along C, and stacked along A to (parts, C)."""
    rows = [[kernel(*tile) for tile in row] for _, row in groupby(cut, key=lambda tile: tile[0].start)]
    columns = [[xp.concat(list(parts)) for parts in zip(*row, strict=True)] for row in rows]
    return tuple(xp.stack(list(parts)) for parts in zip(*columns, strict=True))


def by_rows(
    mode: Mode, kernel: Callable[..., tuple[Array, ...]], x: Array, *others: Array, whole: int = 0, grain: int
) -> tuple[Array, ...]:
    """Return `kernel` of arrays, in pieces of the leading axes that stay in cache; items are independent.

    The last `whole` axes of `x` are not cut. The other arrays and the results start with the leading axes of `x`. On a
    device, with a graph for a gradient, or under a compiler that fuses the chain, all is one piece.
    """
    shape = tuple(x.shape)
    grain = grain if mode.host else grain // 8  # on torch all cores share a piece, which has many temporaries
    if not (mode.at_hand and grain) or math.prod(shape) <= grain:
        return kernel(x, *others)
    axes = len(shape) - whole
    count = math.prod(shape[:axes])
    flat = [mode.xp.reshape(y, (count, *y.shape[axes:])) for y in (x, *others)]
    cut = [tile[:1] for tile in tiles((count, math.prod(shape[axes:])), grain, (0,))]
    made = map_tiles(mode.xp, lambda part: kernel(*(y[part, ...] for y in flat)), (count,), cut)
    return tuple(mode.xp.reshape(y, (*shape[:axes], *y.shape[1:])) for y in made)
