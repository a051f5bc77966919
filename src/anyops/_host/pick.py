"""Soft-NMS pick by pick, in NumPy; picking in rounds is faster only if each step is a kernel launch."""

import math
from typing import Any

import numpy as np

from .._array.backends import to_host
from .._array.mode import Mode
from .._array.namespace import Array, cast, device, stop_gradient
from .order import ascending_below

# Scores per block; the best score of each block is cached.
BLOCK = 1024


def pick_from_queue(mode: Mode, rivals: Any, scores: Array, least: Array, decay: Any) -> tuple[Array, Array]:
    """Score of each box when it is picked, and the number of its pick; 0 and N for boxes that are never picked.

    Pick the best score, multiply the scores of its neighbours, and continue while the best score is above `least`. Ties
    go to the box that comes first in the arguments.
    """
    xp, n = mode.xp, scores.shape[0]
    order = np.argsort(to_host(rivals.order))
    place = np.empty_like(order)
    place[order] = np.arange(n)
    edges = rivals.edges.map(stop_gradient)
    edges = edges.with_overlaps(lambda over: cast(xp, decay.factor(xp, over), scores.dtype)).map(to_host)
    starts, neighbours, weights = _rows(n, [place[x] for x in edges[:2]], list(edges[2:]))
    values, lowest = to_host(scores)[order], float(least)
    width = min(max(n, 1), BLOCK)
    blocks = np.zeros((-(-n // width), width), dtype=values.dtype)
    current = blocks.reshape(-1)
    current[:n] = np.where(values > lowest, values, 0)  # a score of 0 is never picked
    final, turn = np.zeros_like(current), np.full_like(current, n, dtype=order.dtype)
    # The best score of each block, which may be outdated because scores fall; it is updated when the block is chosen.
    best, rows, picked = np.max(blocks, axis=1), list(blocks), 0
    with np.errstate(invalid="ignore"):  # ∞ · 0
        while rows:
            number = int(best.argmax())
            row = rows[number]
            at = int(row.argmax())
            score = row.item(at)
            if score != best.item(number):
                if math.isnan(score):
                    row[at] = score = 0.0
                best[number] = score
            elif score > lowest:
                i = number * width + at
                final[i], turn[i], row[at] = score, picked, 0
                picked += 1
                start, stop = starts[i], starts[i + 1]
                if start < stop:
                    current[neighbours[start:stop]] *= weights[start:stop]
                best[number] = row.max()
            else:
                break
    turns = xp.asarray(turn[place], dtype=rivals.order.dtype, device=device(scores))
    return xp.asarray(final[place], dtype=scores.dtype, device=device(scores)), turns


def _rows(n: int, pairs: list[np.ndarray], factors: list[np.ndarray]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return, in compressed rows, the starts, neighbours and factors of each item."""
    of, neighbours = np.concatenate(pairs), np.concatenate(pairs[::-1])
    starts = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=n))))
    order = ascending_below(of, n)
    return starts.tolist(), neighbours[order], np.concatenate(factors)[order]
