"""Numbers in a readable form."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    if seconds <= 0:
        return "0 s"
    # Round first, so that 0.9996 ms becomes 1.00 ms and not 1000 us.
    seconds = float(f"{seconds:.3g}")
    unit, scale = next(((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e-3)) if seconds >= scale), ("us", 1e-6))
    value = seconds / scale
    return f"{value:.{min(2, max(0, 2 - math.floor(math.log10(value) + 1e-9)))}f} {unit}"


def number(value: float) -> str:
    """Two or three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
