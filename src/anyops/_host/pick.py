"""Picking from scores that fall while they are picked: sequential logic that is too fine for array operations."""

import math

import numpy as np

from .._array.backends import to_host
from .._array.namespace import Array, Namespace, device, library, namespace

# Scores among which the best is looked up at once.
BLOCK = 1024


def lies_on_host(x: Array) -> bool:
    """Tell whether the values of an eager array lie in the memory of the host, where reading them costs little."""
    name = library(namespace(x=x))
    if name != "torch":
        return name in ("numpy", "array_api_strict")
    import torch

    # Under torch.func.grad a tensor wraps another one, and has no memory of its own.
    return x.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(x)


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
    n = scores.shape[0]
    # In the order of their ties, so that of equal scores the first is picked.
    order = np.argsort(to_host(ties))
    place = np.empty_like(order)
    place[order] = np.arange(n)
    starts, neighbours, weights = _rows(n, [place[to_host(x)] for x in pairs], [to_host(x) for x in factors])
    values = to_host(scores)[order]
    width = min(max(n, 1), BLOCK)
    blocks = np.zeros((-(-n // width), width), dtype=values.dtype)
    current = blocks.reshape(-1)
    current[:n] = np.where(values > least, values, 0)  # what is 0 is never picked
    final, turn = np.zeros_like(current), np.full_like(current, n, dtype=order.dtype)
    # The best of each block, or what that was before others fell: then it is looked up anew when its turn comes.
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
            elif score > least:
                i = number * width + at
                final[i], turn[i], row[at] = score, picked, 0
                picked += 1
                start, stop = starts[i], starts[i + 1]
                if start < stop:
                    current[neighbours[start:stop]] *= weights[start:stop]
                best[number] = row.max()
            else:
                break
    return tuple(
        xp.asarray(x[place], dtype=like.dtype, device=device(scores)) for x, like in ((final, scores), (turn, ties))
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
