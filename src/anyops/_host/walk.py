"""Greedy suppression by its definition, box by box, on the bits of a small matrix or on pairs."""

from collections.abc import Iterable, Iterator

import numpy as np

from .._array.host import Host

HANDFUL = 64  # pairs up to which Python sorts faster than NumPy
AT_ONCE = 1 << 16  # pairs converted to Python integers at a time


def walk(over: Host) -> list[int]:
    """Ranks kept, given the bool matrix (n, n) of overlapping pairs."""
    n = over.shape[0]
    packed = np.packbits(over, axis=1, bitorder="little")
    width, data = packed.shape[1], packed.tobytes()
    kept, live = [], (1 << n) - 1
    while live:
        first = live & -live
        rank = first.bit_length() - 1
        kept.append(rank)
        live &= ~(int.from_bytes(data[rank * width : (rank + 1) * width], "little") | first)
    return kept


def walk_pairs(better: Host, worse: Host, n: int) -> Host:
    """Whether each of n ranks is kept, given the pairs that overlap."""
    kept = bytearray(b"\1") * n
    few = better.shape[0] <= HANDFUL
    for pairs in [sorted(zip(better.tolist(), worse.tolist(), strict=True))] if few else _by_better(better, worse, n):
        for a, b in pairs:
            if kept[a]:
                kept[b] = 0
    return np.frombuffer(kept, bool)


def _by_better(better: Host, worse: Host, n: int) -> Iterator[Iterable[tuple[int, int]]]:
    """Pairs in the order of their better ranks, in parts."""
    pairs = better * n + worse
    pairs.sort()
    for i in range(0, pairs.shape[0], AT_ONCE):
        some = pairs[i : i + AT_ONCE]
        first = some // n
        yield zip(first.tolist(), (some - first * n).tolist(), strict=True)
