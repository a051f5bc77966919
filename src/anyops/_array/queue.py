"""Picking from scores that fall while they are picked: sequential logic that is too fine for array operations."""

from heapq import heapify, heappop, heapreplace

import numpy as np

from .backends import to_host
from .namespace import Array, Namespace, device, library, namespace


def lies_on_host(x: Array) -> bool:
    """Tell whether the values of an eager array lie in the memory of the host, where reading them costs little."""
    name = library(namespace(x=x))
    return name in ("numpy", "array_api_strict") or (name == "torch" and x.device.type == "cpu")


def pick_falling(
    xp: Namespace, scores: Array, ties: Array, least: float, pairs: tuple[Array, Array], factors: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Pick the best score, let it lower those of its neighbours, and go on while the best is above `least`.

    Parameters
    ----------
    scores, ties : array (N,)
        Of equal scores the one with the smaller tie is picked.
    least : float
    pairs : tuple of array (E,)
        Neighbours a and b.
    factors : tuple of array (E,)
        By which b falls when a is picked, and a when b is.

    Returns
    -------
    tuple of array (N,)
        Each score when it was picked, 0 for those that never are, and the number of its pick, N for those.
    """
    current, rank_of_tie = np.array(to_host(scores)), to_host(ties).tolist()
    n = current.shape[0]
    starts, neighbours, weights = _rows(n, list(map(to_host, pairs)), list(map(to_host, factors)))
    final, number = np.zeros_like(current), np.full(n, n, dtype=np.intp)
    # The queue holds scores that may have fallen since: what comes first is put back with its score of now.
    score_of, picked = current.item, 0
    queue = [(-score, rank_of_tie[i], i) for i, score in enumerate(current.tolist()) if score > least]
    heapify(queue)
    while queue:
        falling, tie, i = queue[0]
        score = score_of(i)
        if score != -falling:
            if score > least:
                heapreplace(queue, (-score, tie, i))
            else:
                heappop(queue)
            continue
        heappop(queue)
        final[i], number[i] = score, picked
        picked += 1
        start, stop = starts[i], starts[i + 1]
        if start < stop:
            current[neighbours[start:stop]] *= weights[start:stop]
    return tuple(
        xp.asarray(x, dtype=dtype, device=device(scores)) for x, dtype in ((final, scores.dtype), (number, ties.dtype))
    )


def _rows(n: int, pairs: list[np.ndarray], factors: list[np.ndarray]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Return where the neighbours of each item start, who they are, and by how much they fall when it is picked."""
    of, neighbours = np.concatenate(pairs), np.concatenate(pairs[::-1])
    starts = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=n))))
    order = _argsort_small(of, n)
    return starts.tolist(), neighbours[order], np.concatenate(factors)[order]


def _argsort_small(x: np.ndarray, bound: int) -> np.ndarray:
    """Return the order of non-negative integers below a bound: NumPy sorts 16 bits by radix, and more by comparing."""
    order = np.argsort((x & 0xFFFF).astype(np.uint16), kind="stable")
    if bound > 1 << 16:
        order = order[np.argsort((x[order] >> 16).astype(np.uint16), kind="stable")]
    return order
