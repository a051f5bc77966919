"""Area of the intersection of simple polygons, concave ones too: no sort, no clipping, no branch.

Above a base line that lies below both, a polygon is a sum of the strips under its edges, with sign s: under an edge
that runs to the right with one sign, to the left with the other. Two strips share the one under the lower edge,

    |a ∩ b| = |Σ_ij s_i s_j ∫ min(f_i, f_j) dx|  over the x that edge i of a and edge j of b share,

and the minimum of two lines has a closed form. An edge of no length adds nothing, so that polygons of few vertices are
padded by repeating one. An area is the integral of the winding number, where edges cross each other too.

The base line is the higher one of the lowest points of a and b, at which edges are cut: parts below it share nothing.

"""

from .._array.division import divide
from .._array.namespace import Array, Namespace
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions, bounded, enveloped, finite, rows_first, share


def signed_area(xp: Namespace, x: Array, y: Array) -> Array:
    """Area of polygons with vertices (V, ...) from their first one, negative where they run the other way around."""
    return xp.sum(x[:-1, ...] * y[1:, ...] - x[1:, ...] * y[:-1, ...], axis=0) / 2


def intersection(xp: Namespace, a: Array, b: Array) -> Array:
    """Areas of the intersections of polygons, as rows (2V + 3, ...) that broadcast.

    Rows: x, then y of the vertices from the first one; that vertex; 1 or −1, the direction around. By rounding areas
    may be outside [0, the smaller area].
    """
    n, m = (a.shape[0] - 3) // 2, (b.shape[0] - 3) // 2
    # Differences first: far from the origin they are exact.
    dx, dy = (a[2 * n + k, ...] - b[2 * m + k, ...] for k in (0, 1))
    a_x, a_y, b_x, b_y = a[:n, ...] + dx, a[n : 2 * n, ...] + dy, b[:m, ...], b[m : 2 * m, ...]
    base = xp.maximum(xp.min(a_y, axis=0), xp.min(b_y, axis=0))
    a_edges = tuple(e[:, None, ...] for e in _edges(xp, a_x, a_y - base))
    b_edges = tuple(e[None, ...] for e in _edges(xp, *xp.broadcast_arrays(b_x, b_y - base)))
    return xp.sum(_shared(xp, a_edges, b_edges), axis=(0, 1)) * a[-1, ...] * b[-1, ...]


def _edges(xp: Namespace, x: Array, y: Array) -> tuple[Array, ...]:
    """Edges (V, ...) above the base line 0: where they begin and end, from left to right, as given, and directions.

    Of an edge as given: its left end, its height there, its width, and how far it rises.
    """
    x1, y1 = xp.roll(x, -1, axis=0), xp.roll(y, -1, axis=0)
    turned = x1 < x
    left, right = xp.where(turned, x1, x), xp.where(turned, x, x1)
    low, high = xp.where(turned, y1, y), xp.where(turned, y, y1)
    width, rise = right - left, high - low
    upright = width < 4 * float(xp.finfo(width.dtype).smallest_normal)
    width = xp.where(upright, 1.0, width)
    # Where the line meets the base.
    crosses = ((low < 0) & (high > 0)) | ((low > 0) & (high < 0))
    share = divide(xp, xp.where(crosses, -low, 0.0), xp.where(crosses, rise, 1.0))
    root = xp.minimum(left + share * width, right)
    begin, end = xp.where(crosses & (low < 0), root, left), xp.where(crosses & (low > 0), root, right)
    nothing = upright | ((low <= 0) & (high <= 0))
    end = xp.where(nothing, begin, end)
    sign = xp.where(turned, -1.0, xp.ones_like(x))
    return begin, end, left, low, width, rise, sign


def _shared(xp: Namespace, a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
    """Signed ∫ min(f, g) dx over the range of x that two edges share."""
    a_begin, a_end, *a_line, a_sign = a
    b_begin, b_end, *b_line, b_sign = b
    begin, end = xp.maximum(a_begin, b_begin), xp.minimum(a_end, b_end)
    width = xp.maximum(end - begin, xp.zeros_like(begin))
    some = width > 0
    begin, end = xp.where(some, begin, 0.0), xp.where(some, end, 0.0)

    def heights(left: Array, low: Array, width: Array, rise: Array) -> tuple[Array, Array]:
        left, low = xp.where(some, left, 0.0), xp.where(some, low, 0.0)
        width = xp.where(some, width, 1.0)
        # By shares of the edge: a slope may overflow, and its derivative all the more.
        return low + divide(xp, begin - left, width) * rise, low + divide(xp, end - left, width) * rise

    f0, f1 = heights(*a_line)
    g0, g1 = heights(*b_line)
    before, after = f0 - g0, f1 - g1
    cross = ((before > 0) & (after < 0)) | ((before < 0) & (after > 0))
    one, other = xp.abs(xp.where(cross, before, 1.0)), xp.abs(xp.where(cross, after, 1.0))
    # Between, the lower one of two lines that cross is above the line of its ends.
    bulge = xp.where(cross, one * divide(xp, other, one + other), 0.0)
    return a_sign * b_sign * width * (xp.minimum(f0, g0) + xp.minimum(f1, g1) + bulge) / 2


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
