"""Batches in host memory, one scene after the other: the static contract at the cost of the index contract."""

from collections.abc import Callable
from itertools import product

from .._array.namespace import Array
from .._array.selection import indices_of
from .._array.threads import on_cores
from .arguments import Call

# Boxes of a batch from which on its scenes are worth a thread.
CORES = 8192


def each_scene(call: Call, work: Callable[[Call, tuple[int, ...], Array | None], None]) -> None:
    """Call ``work(scene, lane, at)`` for the valid boxes of each scene, which are those `at` of a lane; None if all."""
    xp, shape = call.mode.xp, call.scores.shape

    def decide(lane: tuple[int, ...]) -> None:
        boxes, scores, labels, overlaps, valid = (None if x is None else x[lane] for x in call[1:6])
        at = None
        if valid is not None and not xp.all(valid):
            at = indices_of(xp, valid)
            boxes, scores, labels = (None if x is None else xp.take(x, at, axis=0) for x in (boxes, scores, labels))
            overlaps = None if overlaps is None else xp.take(xp.take(overlaps, at, axis=0), at, axis=1)
        work(Call(call.mode, boxes, scores, labels, overlaps), lane, at)

    lanes = list(product(*map(range, shape[:-1])))
    if call.scores.size >= CORES:
        on_cores(decide, lanes)
    else:
        for lane in lanes:
            decide(lane)
