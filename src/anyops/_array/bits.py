"""Small bool matrices as Python integers, for sequential logic that is too fine for array operations."""

import numpy as np

from .backends import to_host
from .namespace import Array


def rows_as_bits(matrix: Array) -> list[int]:
    """Return each row of a bool (N, M) as an integer, bit j standing for column j."""
    packed = np.packbits(to_host(matrix), axis=1, bitorder="little")
    words = np.zeros((packed.shape[0], -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    first, *others = words.view("<u8").T.tolist()
    for k, word in enumerate(others, start=1):
        first = [low | high << 64 * k for low, high in zip(first, word, strict=True)]
    return first
