"""Find the first non-finite element of an array for an error message, after a check has failed."""

import math

from .chunked import is_chunked
from .namespace import Array, Namespace, default_int, namespace


def describe_not_finite(xp: Namespace, x: Array, counted: Array | None = None, start: int = 0) -> str | None:
    """Return the first non-finite value of (n, d) as "NaN in row 17, column 2"; None if all are finite.

    Only rows that are `counted` are searched. `start` is the index of the first row.
    """
    if not is_chunked(xp):
        return _first(xp, x, counted, start)
    for rows in x.chunks[0]:  # one by one, because the search ends at the first non-finite value
        part = slice(start, start + rows)
        values, some = x[part, :].compute(), None if counted is None else counted[part].compute()
        found = _first(namespace(x=values), values, some, start)
        if found is not None:
            return found
        start += rows
    return None


def _first(xp: Namespace, x: Array, counted: Array | None, start: int) -> str | None:
    wrong = ~xp.isfinite(x)
    if counted is not None:
        wrong = wrong & counted[:, None]
    rows = xp.any(wrong, axis=1)
    if not bool(xp.any(rows)):
        return None
    row = int(xp.argmax(xp.astype(rows, default_int(xp, x))))
    column = int(xp.argmax(xp.astype(wrong[row, :], default_int(xp, x))))
    value = float(x[row, column])
    name = "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
    return f"{name} in row {start + row}, column {column}"
