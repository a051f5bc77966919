"""Area of the intersection of simple polygons, concave ones too: no sort, no clipping, no branch.

Above a base line that lies below both, a polygon is a sum of the strips under its edges, with sign s: under an edge
that runs to the right with one sign, to the left with the other. Two strips share the one under the lower edge,

    |a ∩ b| = |Σ_ij s_i s_j ∫ min(f_i, f_j) dx|  over the x that edge i of a and edge j of b share,

and the minimum of two lines has a closed form. An edge of no length adds nothing, so that polygons of few vertices are
padded by repeating one. An area is the integral of the winding number, where edges cross each other too.

The base line is the higher one of the lowest points of a and b, at which edges are cut: parts below it share nothing.

"""

import math
from typing import NamedTuple

from .._array.division import divide
from .._array.namespace import Array, Namespace, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions, bounded, enveloped, finite, rows_first, share


def signed_area(xp: Namespace, x: Array, y: Array) -> Array:
    """Area of polygons with vertices (V, ...) from their first one, negative where they run the other way around."""
    return xp.sum(x[:-1, ...] * y[1:, ...] - x[1:, ...] * y[:-1, ...], axis=0) / 2


def area(xp: Namespace, rows: Array) -> Array:
    """Areas of polygons as rows (2V, ...): infinite with an infinite coordinate, or beyond the largest number."""
    bounded = xp.all(xp.isfinite(rows), axis=0)
    rows = xp.where(bounded, rows, 0.0)
    # Large ones in another unit, a power of 2: differences of infinite products are undefined.
    unit = 2.0 ** (round(math.log2(float(xp.finfo(rows.dtype).max))) // 2 + 6)
    unit = xp.where(xp.max(xp.abs(rows), axis=0) > unit / 2**16, unit, xp.ones_like(rows[0, ...]))
    x, y = rows[::2, ...] / unit, rows[1::2, ...] / unit
    found = xp.abs(signed_area(xp, x - x[0, ...], y - y[0, ...]))
    return xp.where(bounded, found * unit * unit, math.inf)


def intersection(xp: Namespace, a: Array, b: Array) -> Array:
    """Areas of the intersections of polygons, as rows (2V + 3, ...) that broadcast.

    Rows: x, then y of the vertices from the first one; that vertex; 1 or −1, the direction around. By rounding areas
    may be outside [0, the smaller area].
    """
    n, m = (a.shape[0] - 3) // 2, (b.shape[0] - 3) // 2
    # Differences first: far from the origin they are exact.
    dx, dy = (a[2 * n + k, ...] - b[2 * m + k, ...] for k in (0, 1))
    a_x, a_y, b_x, b_y = a[:n, ...] + dx, a[n : 2 * n, ...] + dy, b[:m, ...], b[m : 2 * m, ...]
    # No area depends on where the base line is.
    base = stop_gradient(xp.maximum(xp.min(a_y, axis=0), xp.min(b_y, axis=0)))
    a_edges = _edges(xp, a_x, a_y - base)
    b_edges = _edges(xp, *xp.broadcast_arrays(b_x, b_y - base))
    a_edges, b_edges = PolygonEdges(*(e[:, None, ...] for e in a_edges)), PolygonEdges(*(e[None, ...] for e in b_edges))
    return xp.sum(_shared(xp, a_edges, b_edges), axis=(0, 1)) * a[-1, ...] * b[-1, ...]


class PolygonEdges(NamedTuple):
    """Edges (V, ...), from left to right."""

    begin: Array  # where the part above the base line begins and ends
    end: Array
    left: Array  # where the edge begins and ends, and its height where it begins
    right: Array
    low: Array
    width: Array  # 1 if it is upright
    rise: Array
    upright: Array  # 1 or 0
    sign: Array


def _edges(xp: Namespace, x: Array, y: Array) -> PolygonEdges:
    """Edges between vertices (V, ...) above the base line 0."""
    x1, y1 = xp.roll(x, -1, axis=0), xp.roll(y, -1, axis=0)
    turned = x1 < x
    left, right = xp.where(turned, x1, x), xp.where(turned, x, x1)
    low, high = xp.where(turned, y1, y), xp.where(turned, y, y1)
    width, rise = right - left, high - low
    upright = width < 4 * float(xp.finfo(width.dtype).smallest_normal)
    # Where the line meets the base.
    crosses = ((low < 0) & (high > 0)) | ((low > 0) & (high < 0))
    share = divide(xp, xp.where(crosses, -low, 0.0), xp.where(crosses, rise, 1.0))
    root = left + share * width
    root = xp.where(root > right, right, root)
    up, down = crosses & (low < 0), crosses & (low > 0)
    begin, end = xp.where(up, root, left), xp.where(down, root, right)
    # Of an upright edge, the heights of the part above the base line.
    first, last = xp.where(up, 0.0, low), xp.where(down, 0.0, high)
    low, rise = xp.where(upright, first, low), xp.where(upright, last - first, rise)
    # An edge on the base line has a height, of 0, that changes when the edge moves.
    under = (low <= 0) & (high <= 0) & ((low < 0) | (high < 0))
    end, low, rise = xp.where(under, begin, end), xp.where(under, 0.0, low), xp.where(under, 0.0, rise)
    width, sign = xp.where(upright, 1.0, width), xp.where(turned, -1.0, xp.ones_like(x))
    return PolygonEdges(begin, end, left, right, low, width, rise, xp.astype(upright, x.dtype), sign)


def _shared(xp: Namespace, a: PolygonEdges, b: PolygonEdges) -> Array:
    """Signed ∫ min(f, g) dx over the range of x that two edges share.

    Derivatives are those of the sum over all pairs of edges where ends coincide, too: half of the one on either side.
    Products in place of `where`, which is slow on NumPy.
    """

    def number(some: Array) -> Array:
        return xp.astype(some, a.begin.dtype)

    def within(x: Array, other: PolygonEdges) -> Array:
        """1 if x is in the range of an edge, ½ if it is an end."""
        return (number((other.begin < x) & (x <= other.end)) + number((other.begin <= x) & (x < other.end))) / 2

    begin, end = xp.maximum(a.begin, b.begin), xp.minimum(a.end, b.end)
    width = xp.maximum(end - begin, xp.zeros_like(begin)) * ((1 - a.upright) * (1 - b.upright))
    # An upright edge shares no area, but one that grows when its ends move apart.
    for edge, other in ((a, b), (b, a)):
        width = width + (edge.end - edge.begin) * edge.upright * (1 - other.upright) * within(edge.begin, other)

    def heights(edges: PolygonEdges) -> tuple[Array, Array]:
        # By shares of the edge: a slope may overflow, and its derivative all the more.
        first = divide(xp, xp.minimum(begin, edges.right) - edges.left, edges.width)
        last = divide(xp, xp.maximum(end, edges.left) - edges.left, edges.width) + edges.upright
        return edges.low + first * edges.rise, edges.low + last * edges.rise

    f0, f1 = heights(a)
    g0, g1 = heights(b)
    before, after = f0 - g0, f1 - g1
    lower = xp.minimum(f0, g0) + xp.minimum(f1, g1)
    # Of lines that meet in one end, the lower one is that which is lower in the other end.
    for apart, there in ((before, after), (after, before)):
        sign = number(there > 0) - number(there < 0)
        lower = lower - apart * (number(apart == 0) * sign / 2)
    # Between, the lower one of two lines that cross is above the line of its ends.
    cross = ((before > 0) & (after < 0)) | ((before < 0) & (after > 0))
    one, other = xp.abs(before), xp.abs(after)
    bulge = number(cross) * one * divide(xp, other, one + other + float(xp.finfo(one.dtype).smallest_normal))
    return a.sign * b.sign * width * (lower + bulge) / 2


def ready(xp: Namespace, regions: Array, _kind: str, _fmt: str, _look: bool = False) -> Regions:
    """Return polygons (..., 2V) as rows of vertices from the first one, that vertex, and the direction around."""
    points = finite(xp, rows_first(xp, regions))
    points = xp.reshape(points, (points.shape[0] // 2, 2, *points.shape[1:]))
    first = points[0, ...]
    x, y = points[:, 0, ...] - first[0, ...], points[:, 1, ...] - first[1, ...]
    area = signed_area(xp, x, y)
    shape = xp.concat((x, y, first, xp.where(area < 0, -1.0, xp.ones_like(area))[None, ...]))
    return enveloped(xp, xp.min(points, axis=0), xp.max(points, axis=0), xp.abs(area), shape)


def weight(a: Regions, b: Regions) -> int:
    """Return how many pairs of boxes take as much memory as a pair of polygons: all pairs of edges."""
    n, m = ((x.shape.shape[0] - 3) // 2 for x in (a, b))
    return max(n * m // 4, 1)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, _own: Operators = PLAIN) -> Array:
    """Overlap of polygons made ready, broadcast against each other."""
    return share(xp, a, b, bounded(xp, a, b, intersection(xp, a.shape, b.shape)), kind)


POLYGONS = Geometry(SHARES, ready, overlap, weight=weight)
