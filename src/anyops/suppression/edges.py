"""Greedy suppression on edges: which boxes are kept, given the pairs that overlap.

Boxes are numbered by rank, so in each pair the box with the smaller number is the better one. In each round, boxes
without an undecided better rival are kept, the boxes that they overlap are dropped, and the pairs of all these removed.
"""

import math

from .._array.backends import to_host
from .._array.loop import while_loop
from .._array.namespace import Array, Namespace, device
from .._array.segments import mark
from .._array.selection import indices_of
from .._host.walk import walk_pairs

# Number of pairs up to which deciding one by one is faster than rounds.
ONE_BY_ONE = 500
# Largest number of rounds in a fixed shape; then tiles decide.
ROUNDS = 64


def kept_of_edges(xp: Namespace, better: Array, worse: Array, n: int) -> Array:
    """Whether each of n boxes is kept, given the pairs of ranks that overlap."""
    size, before, gone = better.shape[0], math.inf, None
    # A chain, in which each box overlaps the next, would take about as many rounds as it has boxes.
    while size > ONE_BY_ONE and size <= before / 2:
        wins = ~xp.take(mark(xp, worse, n), better)
        new = mark(xp, xp.take(worse, indices_of(xp, wins)), n)
        gone = new if gone is None else gone | new
        live = indices_of(xp, ~(wins | xp.take(gone, better) | xp.take(gone, worse)))
        better, worse = xp.take(better, live), xp.take(worse, live)
        size, before = better.shape[0], size
    if size == 0 and gone is not None:
        return ~gone
    kept = xp.asarray(walk_pairs(to_host(better), to_host(worse), n), device=device(better))
    return kept if gone is None else kept & ~gone


def kept_in_fixed_shape(xp: Namespace, better: Array, worse: Array, n: int) -> tuple[Array, Array]:
    """Whether each of n boxes is kept, and whether ROUNDS rounds decided all boxes; `worse` is n for padding."""
    nobody = xp.full_like(worse, n)

    def undecided(_gone: Array, pending: Array, done: Array) -> Array:
        return xp.any(pending) & (done < ROUNDS)

    def decide(gone: Array, pending: Array, done: Array) -> tuple[Array, Array, Array]:
        wins = pending & ~xp.take(mark(xp, xp.where(pending, worse, nobody), n), better)
        gone = gone | mark(xp, xp.where(wins, worse, nobody), n)
        over = wins | xp.take(gone, better) | xp.take(gone, xp.minimum(worse, nobody - 1))
        return gone, pending & ~over, done + 1

    state = xp.zeros((n,), dtype=xp.bool), worse < n, xp.zeros((), dtype=worse.dtype)
    gone, pending, _ = while_loop(undecided, decide, state)
    return ~gone, ~xp.any(pending)
