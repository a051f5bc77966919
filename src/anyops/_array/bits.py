"""Small bool matrices as Python integers, for sequential logic that is too fine for array operations."""

import numpy as np

from .backends import to_host
from .namespace import Array


def rows_as_bits(matrix: Array) -> list[int]:
    """Return each row of a bool (N, M) as an integer, bit j standing for column j."""
    packed = np.packbits(to_host(matrix), axis=1, bitorder="little")
    width = packed.shape[1]
    if width > 8:
        data = packed.tobytes()
        return [int.from_bytes(data[start : start + width], "little") for start in range(0, len(data), width)]
    word = np.zeros((packed.shape[0], 8), dtype=np.uint8)
    word[:, :width] = packed
    return word.view("<u8")[:, 0].tolist()
