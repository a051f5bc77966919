"""Area of the intersection of simple polygons, convex or concave, without sorting, clipping or branches.

Above a base line below both, a polygon is a signed sum of the strips under its edges; the sign s depends on whether the
edge runs right or left. The intersection of two strips is the strip under the lower edge, so

    |a ∩ b| = |Σ_ij s_i s_j ∫ min(f_i, f_j) dx|  over the x range that edge i of a and edge j of b share,

and the minimum of two lines has a closed form. An edge of length 0 adds nothing, so polygons can be padded by repeating
a vertex. If edges of a polygon cross, the area is the integral of its winding number.

The base line is the higher one of the lowest points of a and b. Edges are cut there, because the parts below it do not
intersect the other polygon.
"""

import math
from typing import NamedTuple

from .._array.division import divide
from .._array.namespace import Array, Namespace, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions, bounded, enveloped, finite, rows_first, share


def signed_area(xp: Namespace, x: Array, y: Array) -> Array:
    """Area of polygons with vertices (V, ...) relative to the first one; negative for one of the two orientations."""
    return xp.sum(x[:-1, ...] * y[1:, ...] - x[1:, ...] * y[:-1, ...], axis=0) / 2


def area(xp: Namespace, rows: Array) -> Array:
    """Areas of polygons, given as rows (2V, ...); infinite with an infinite coordinate, or by overflow."""
    bounded = xp.all(xp.isfinite(rows), axis=0)
    rows = xp.where(bounded, rows, 0.0)
    # Large polygons are scaled by a power of 2: products that overflow would have undefined differences.
    unit = 2.0 ** (round(math.log2(float(xp.finfo(rows.dtype).max))) // 2 + 6)
    unit = xp.where(xp.max(xp.abs(rows), axis=0) > unit / 2**16, unit, xp.ones_like(rows[0, ...]))
    x, y = rows[::2, ...] / unit, rows[1::2, ...] / unit
    found = xp.abs(signed_area(xp, x - x[0, ...], y - y[0, ...]))
    return xp.where(bounded, found * unit * unit, math.inf)


def intersection(xp: Namespace, a: Array, b: Array) -> Array:
    """Areas of the intersections of polygons, given as rows (2V + 3, ...) that broadcast.

    Rows: x, then y of the vertices relative to the first one; that vertex; 1 or −1 for the orientation. Rounding may
    take an area outside [0, the smaller area].
    """
    n, m = (a.shape[0] - 3) // 2, (b.shape[0] - 3) // 2
    # Differences first: far from the origin they are exact.
    dx, dy = (a[2 * n + k, ...] - b[2 * m + k, ...] for k in (0, 1))
    a_x, a_y, b_x, b_y = a[:n, ...] + dx, a[n : 2 * n, ...] + dy, b[:m, ...], b[m : 2 * m, ...]
    # Areas do not depend on the base line, so gradients need not pass through it.
    base = stop_gradient(xp.maximum(xp.min(a_y, axis=0), xp.min(b_y, axis=0)))
    a_edges = _edges(xp, a_x, a_y - base)
    b_edges = _edges(xp, *xp.broadcast_arrays(b_x, b_y - base))
    a_edges, b_edges = PolygonEdges(*(e[:, None, ...] for e in a_edges)), PolygonEdges(*(e[None, ...] for e in b_edges))
    return xp.sum(_shared(xp, a_edges, b_edges), axis=(0, 1)) * a[-1, ...] * b[-1, ...]


class PolygonEdges(NamedTuple):
    """Edges (V, ...), from left to right."""

    begin: Array  # x range of the part above the base line
    end: Array
    left: Array  # x range of the edge, and its height at `left`
    right: Array
    low: Array
    width: Array  # 1 for a vertical edge
    rise: Array
    upright: Array  # 1 for a vertical edge, else 0
    sign: Array


def _edges(xp: Namespace, x: Array, y: Array) -> PolygonEdges:
    """Edges between vertices (V, ...) above the base line 0."""
    x1, y1 = xp.roll(x, -1, axis=0), xp.roll(y, -1, axis=0)
    turned = x1 < x
    left, right = xp.where(turned, x1, x), xp.where(turned, x, x1)
    low, high = xp.where(turned, y1, y), xp.where(turned, y, y1)
    width, rise = right - left, high - low
    upright = width < 4 * float(xp.finfo(width.dtype).smallest_normal)
    # x at which the edge crosses the base line.
    crosses = ((low < 0) & (high > 0)) | ((low > 0) & (high < 0))
    share = divide(xp, xp.where(crosses, -low, 0.0), xp.where(crosses, rise, 1.0))
    root = left + share * width
    root = xp.where(root > right, right, root)
    up, down = crosses & (low < 0), crosses & (low > 0)
    begin, end = xp.where(up, root, left), xp.where(down, root, right)
    # For a vertical edge, the heights of the part above the base line.
    first, last = xp.where(up, 0.0, low), xp.where(down, 0.0, high)
    low, rise = xp.where(upright, first, low), xp.where(upright, last - first, rise)
    # An edge below the base line has no part above it. An edge on the line keeps its part, of height 0, because its
    # derivative is not 0.
    under = (low <= 0) & (high <= 0) & ((low < 0) | (high < 0))
    end, low, rise = xp.where(under, begin, end), xp.where(under, 0.0, low), xp.where(under, 0.0, rise)
    width, sign = xp.where(upright, 1.0, width), xp.where(turned, -1.0, xp.ones_like(x))
    return PolygonEdges(begin, end, left, right, low, width, rise, xp.astype(upright, x.dtype), sign)


def _shared(xp: Namespace, a: PolygonEdges, b: PolygonEdges) -> Array:
    """Signed ∫ min(f, g) dx over the x range that two edges share.

    Where ends of edges coincide, derivatives are the mean of both one-sided derivatives, so that their sum over all
    pairs of edges is right. Products replace `where`, which is slow on NumPy.
    """

    def number(some: Array) -> Array:
        return xp.astype(some, a.begin.dtype)

    def within(x: Array, other: PolygonEdges) -> Array:
        """1 if x is inside the range of an edge, ½ at its ends, else 0."""
        return (number((other.begin < x) & (x <= other.end)) + number((other.begin <= x) & (x < other.end))) / 2

    begin, end = xp.maximum(a.begin, b.begin), xp.minimum(a.end, b.end)
    width = xp.maximum(end - begin, xp.zeros_like(begin)) * ((1 - a.upright) * (1 - b.upright))
    # The strip under a vertical edge has area 0, but its derivative by the x of the ends is not 0.
    for edge, other in ((a, b), (b, a)):
        width = width + (edge.end - edge.begin) * edge.upright * (1 - other.upright) * within(edge.begin, other)

    def heights(edges: PolygonEdges) -> tuple[Array, Array]:
        # As fractions of the edge, because a slope and its derivative may overflow.
        first = divide(xp, xp.minimum(begin, edges.right) - edges.left, edges.width)
        last = divide(xp, xp.maximum(end, edges.left) - edges.left, edges.width) + edges.upright
        return edges.low + first * edges.rise, edges.low + last * edges.rise

    f0, f1 = heights(a)
    g0, g1 = heights(b)
    before, after = f0 - g0, f1 - g1
    lower = xp.minimum(f0, g0) + xp.minimum(f1, g1)
    # If two lines meet at one end, the lower line is the one that is lower at the other end.
    for apart, opposite in ((before, after), (after, before)):
        sign = number(opposite > 0) - number(opposite < 0)
        lower = lower - apart * (number(apart == 0) * sign / 2)
    # If the lines cross, their minimum is above the line between its values at the ends.
    cross = ((before > 0) & (after < 0)) | ((before < 0) & (after > 0))
    one, other = xp.abs(before), xp.abs(after)
    bulge = number(cross) * one * divide(xp, other, one + other + float(xp.finfo(one.dtype).smallest_normal))
    return a.sign * b.sign * width * (lower + bulge) / 2


def ready(xp: Namespace, regions: Array, _kind: str, _fmt: str, _look: bool = False) -> Regions:
    """Return polygons (..., 2V) as rows: vertices relative to the first one, that vertex, and the orientation."""
    points = finite(xp, rows_first(xp, regions))
    points = xp.reshape(points, (points.shape[0] // 2, 2, *points.shape[1:]))
    first = points[0, ...]
    x, y = points[:, 0, ...] - first[0, ...], points[:, 1, ...] - first[1, ...]
    area = signed_area(xp, x, y)
    shape = xp.concat((x, y, first, xp.where(area < 0, -1.0, xp.ones_like(area))[None, ...]))
    return enveloped(xp, xp.min(points, axis=0), xp.max(points, axis=0), xp.abs(area), shape)


def weight(a: Regions, b: Regions) -> int:
    """Return the memory for a pair of polygons, which is for all pairs of edges, in pairs of boxes."""
    n, m = ((x.shape.shape[0] - 3) // 2 for x in (a, b))
    return max(n * m // 4, 1)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, _own: Operators = PLAIN) -> Array:
    """Overlap of polygons from `ready`, broadcast against each other."""
    return share(xp, a, b, bounded(xp, a, b, intersection(xp, a.shape, b.shape)), kind)


POLYGONS = Geometry(SHARES, ready, overlap, weight=weight)
