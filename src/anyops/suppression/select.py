"""Selection by score: ranking, and the static top-k."""

from typing import NamedTuple

from .._array.arguments import check_parameter
from .._array.mode import Mode, mode_of
from .._array.namespace import (
    Array,
    Namespace,
    cast,
    check_can_order,
    check_dtype,
    default_float,
    default_int,
    is_array,
    number_in,
)
from .._array.nearest import lowered_by, with_arithmetic
from .._array.order import descending
from .._array.selection import take_along
from .._array.support import ORDERS, Kind, op
from .arguments import check_count, check_score_threshold, whole


class TopScores(NamedTuple):
    """Best scores of each row: their positions, and which of these are valid."""

    indices: Array
    valid: Array


def ranked_above(xp: Namespace, scores: Array, least: float | None) -> Array:
    """Positions, by rank, of the scores above a threshold, or of all scores if it is None."""
    order = descending(xp, scores)
    if least is None:
        return order
    return order[: int(xp.sum(xp.astype(scores > least, default_int(xp, order))))]


def as_floating(xp: Namespace, scores: Array) -> Array:
    """Return integer scores as floats of the default dtype, floating scores as they are."""
    return scores if xp.isdtype(scores.dtype, "real floating") else cast(xp, scores, default_float(xp, scores))


@op(Kind.MASK, ORDERS)
def top_scores(scores: Array, max_output: int, *, score_threshold: float | Array | None = None) -> TopScores:
    """Select the `max_output` best scores of each row, in a fixed shape.

    Parameters
    ----------
    scores : array (..., N)
    max_output : int
        k, at most N. If rows may be shorter, pass ``min(k, scores.shape[-1])``, or pad them with NaN to length k.
    score_threshold : float ≥ 0, optional
        Scores must be strictly greater to be valid.

    Returns
    -------
    indices : array (..., k)
        By descending score, ties to the lowest index, NaN last; in the namespace's index dtype.
    valid : bool array (..., k)
        Whether the score is a number, and above the threshold if there is one.

    Raises
    ------
    ValueError
        If ``max_output`` is negative or greater than N.

    Examples
    --------
    >>> import numpy as np, anyops
    >>> indices, valid = anyops.top_scores(np.asarray([0.1, 0.9, 0.5]), 2, score_threshold=0.6)
    >>> indices.tolist(), valid.tolist()
    ([1, 2], [True, False])
    """
    least = None if score_threshold is None else check_score_threshold(score_threshold, check=check_parameter)
    mode = mode_of(scores=scores, **({"score_threshold": least} if is_array(least) else {}))
    xp = mode.xp
    if scores.ndim == 0:
        raise ValueError("scores must have shape (..., N), got ()")
    check_dtype(xp, "scores", scores, "real floating", "integral")
    count = check_count("max_output", max_output)
    if count > scores.shape[-1]:
        raise ValueError(f"max_output must be at most N = {scores.shape[-1]}, got {count}")
    check_can_order(xp, "top_scores")
    given = scores.dtype
    if not xp.isdtype(given, "real floating"):
        scores = with_arithmetic(xp, scores)
    if least is not None:
        least = whole(mode, least, scores, lowered_by(xp, given, scores.dtype))
    return TopScores(*mode.run(_top, scores, least, count=count))


def _top(mode: Mode, scores: Array, least: float | Array | None, *, count: int) -> tuple[Array, Array]:
    xp = mode.xp
    indices = descending(xp, scores)[..., :count]
    best = take_along(xp, scores, indices, axis=-1)
    valid = ~xp.isnan(best) if xp.isdtype(best.dtype, "real floating") else xp.ones_like(best, dtype=xp.bool)
    return indices, valid if least is None else valid & (best > number_in(xp, least, best.dtype))
