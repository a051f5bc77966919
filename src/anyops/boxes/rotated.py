"""Area of the intersection of rotated boxes, exact to rounding, without sorting, hulls, tolerances or branches.

In the frame of the longer box, b, with half sides (p, q), let X = clamp(x, −p, p) and Y = clamp(y, −q, q). The clamp
maps the plane onto b and keeps the inner points of b in place. So it does not change how often the boundary of a winds
around an inner point of b, and by Green's theorem

    |a ∩ b| = |∮ X dY|  along the boundary of a,

a sum over the edges of a. Only the part of an edge with |y| ≤ q contributes, because Y is constant on the rest. On that
part the mean of X is computed from three pieces: left of b, where X = −p; within b, where X = x; right of b, where
X = p.

A rotated box is given by centre, sides, and angle in degrees, counter-clockwise as seen in an image, where y points
down. Its unit axes are (cos, −sin) and (sin, cos).
"""

import math
from functools import reduce
from operator import add

from .._array.division import divide
from .._array.namespace import Array, Namespace, device, rows_of, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions, bounded, enveloped, finite, rows_first, share

# Corners of a box in units of its sides, in order around it.
CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


def direction(xp: Namespace, degrees: Array) -> tuple[Array, Array]:
    """Cosine and sine of an angle in degrees, exact for quarter turns; an error would matter for long boxes."""
    quarters = stop_gradient(xp.round(degrees / 90))
    # Not math.pi / 180: torch.compile(dynamic=True) makes symbols of a module's numbers, and its loops refuse those.
    turn = (degrees - 90 * quarters) * math.radians(1)
    cos, sin, quarters = xp.cos(turn), xp.sin(turn), quarters - 4 * xp.floor(quarters / 4)
    swaps = (quarters == 1) | (quarters == 3)
    left, low = (quarters == 1) | (quarters == 2), quarters >= 2
    x, y = xp.where(swaps, sin, cos), xp.where(swaps, cos, sin)
    return xp.where(left, -x, x), xp.where(low, -y, y)


def within_a_turn(xp: Namespace, degrees: Array) -> Array:
    """Angles beyond ±360° modulo 360°, exactly: the difference of large angles would be rounded."""
    return xp.where(xp.abs(degrees) > 360, xp.remainder(degrees, xp.full_like(degrees, 360.0)), degrees)


def intersection(xp: Namespace, a: Array, b: Array) -> Array:
    """Areas of the intersections of boxes with positive sides, given as rows (5, ...) that broadcast.

    Rounding may take an area outside [0, the smaller area].
    """
    ax, ay, a_width, a_height, a_angle = rows_of(a)
    bx, by, b_width, b_height, b_angle = rows_of(b)
    # In the frame of the longer box: in the other frame, errors of its corners would be proportional to its sides.
    longer = xp.maximum(a_width, a_height) > xp.maximum(b_width, b_height)
    sign = xp.where(longer, -1.0, xp.ones_like(a_width))
    width, other_width = xp.where(longer, b_width, a_width), xp.where(longer, a_width, b_width)
    height, other_height = xp.where(longer, b_height, a_height), xp.where(longer, a_height, b_height)
    # Differences first: far from the origin, and for nearly equal angles, they are exact.
    x, y = into_frame(xp, sign * (ax - bx), sign * (ay - by), xp.where(longer, a_angle, b_angle))
    cos, sin = direction(xp, sign * (a_angle - b_angle))
    wide, high = (cos * width, -sin * width), (sin * height, cos * height)
    # Corners of the shorter box and ends of the longer one, relative to the centre of the shorter one, so that a small
    # box in a large one is not rounded. All four edges at once: a quarter of the calls, and of the compiled program.
    begin, end = ((u * wide[0] + v * high[0], u * wide[1] + v * high[1]) for u, v in _edges(xp, x))
    p, q = other_width / 2, other_height / 2
    swept = _swept(xp, begin, end, (-p - x, p - x), (-q - y, q - y))
    first, second, third, fourth = rows_of(swept)
    return (first + third) + (second + fourth)


def _edges(xp: Namespace, like: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """First and last corners (4, ...) of the edges of a box, in units of its sides."""
    k = xp.reshape(xp.arange(4, device=device(like)), (4, *(1,) * like.ndim))
    half = xp.full((4, *(1,) * like.ndim), 0.5, dtype=like.dtype, device=device(like))
    right, low = xp.where((k == 1) | (k == 2), half, -half), xp.where(k >= 2, half, -half)
    next_low, next_right = right, xp.where(k < 2, half, -half)
    return (right, low), (next_right, next_low)


def into_frame(xp: Namespace, x: Array, y: Array, degrees: Array) -> tuple[Array, Array]:
    """Components of vectors along the axes of rotated boxes."""
    cos, sin = direction(xp, degrees)
    return x * cos - y * sin, x * sin + y * cos


def reach(xp: Namespace, boxes: Array) -> Array:
    """Half sizes (2, ...) of the axis-aligned envelopes of boxes, given as rows (5, ...), rounded up."""
    x, y, width, height, angle = rows_of(boxes)
    cos, sin = (xp.abs(z) for z in direction(xp, angle))
    far = xp.stack((cos * width + sin * height, sin * width + cos * height)) / 2
    return far + (4 * float(xp.finfo(far.dtype).eps)) * (xp.abs(xp.stack((x, y))) + far)


def corners(xp: Namespace, boxes: Array) -> Array:
    """Return the corners (4, 2, ...) of boxes as rows (5, ...), in order around each.

    A box with a negative side has all corners at its centre, because corners have no sign and would give it an area.
    """
    x, y, width, height, angle = rows_of(boxes)
    inverted = (width < 0) | (height < 0)
    width, height = (xp.where(inverted, 0.0, side) for side in (width, height))
    cos, sin = direction(xp, within_a_turn(xp, angle))
    found = [(x + u * width * cos + v * height * sin, y - u * width * sin + v * height * cos) for u, v in CORNERS]
    return xp.stack([xp.stack(corner) for corner in found])


def centre_from_corner(xp: Namespace, boxes: Array) -> Array:
    """Centres (2, ...) of boxes as rows (5, ...) of "xywhr", whose first two are the top left corner at 0 degrees."""
    x, y, *half = _to_centre(xp, boxes)
    return xp.stack((x + half[0], y + half[1]))


def corner_from_centre(xp: Namespace, boxes: Array) -> Array:
    """Corners (2, ...) of "xywhr", of boxes as rows (5, ...) of "cxcywhr"."""
    x, y, *half = _to_centre(xp, boxes)
    return xp.stack((x - half[0], y - half[1]))


def _to_centre(xp: Namespace, boxes: Array) -> tuple[Array, Array, Array, Array]:
    """The first two rows of boxes, and the vector from the corner to the centre."""
    x, y, width, height, angle = rows_of(boxes)
    cos, sin = direction(xp, within_a_turn(xp, angle))
    return x, y, (cos * width + sin * height) / 2, (cos * height - sin * width) / 2


def gaussian_similarity(xp: Namespace, a: Array, b: Array) -> Array:
    """1 − √(1 − exp(−B)), B the Bhattacharyya distance of the Gaussians with the moments of two boxes.

    With sides w, h and c, s the cosine and sine of the angle between the boxes, B is ¼ Δᵀ(Σ₁ + Σ₂)⁻¹Δ + ½ ln(1 + r),

        4 w₁h₁w₂h₂ r = (w₁h₁ − w₂h₂)² + c²(w₂h₁ − w₁h₂)² + s²(w₁w₂ − h₁h₂)²,

    a sum of squares, so that equal boxes have B = 0 [1]_.

    References
    ----------
    .. [1] Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection,
       arXiv:2106.06072, equations 4 to 8; the logarithm's argument is written as 1 + r here.
    """
    ax, ay, a_width, a_height, a_angle = rows_of(a)
    bx, by, b_width, b_height, b_angle = rows_of(b)
    x, y = into_frame(xp, ax - bx, ay - by, b_angle)
    cos, sin = direction(xp, a_angle - b_angle)
    # B does not depend on the unit; with the longest side as the unit, no square overflows.
    unit = stop_gradient(xp.maximum(xp.maximum(a_width, a_height), xp.maximum(b_width, b_height)))
    # Beyond 40 sides, centres are more than 20 standard deviations apart, B is at least 1200, and exp(−B) is 0.
    apart = xp.maximum(xp.abs(x), xp.abs(y)) > 40 * unit
    x, y = (divide(xp, xp.where(apart, 0.0, z), unit) for z in (x, y))
    w1, h1, w2, h2 = (divide(xp, z, unit) for z in (a_width, a_height, b_width, b_height))

    # 144 |Σ₁ + Σ₂| and 4 w₁h₁w₂h₂ r, in units of their largest term.
    one, other, c, s = w1 * h1, w2 * h2, xp.abs(cos), xp.abs(sin)
    terms = (one, other, c * w2 * h1, c * w1 * h2, s * w1 * w2, s * h1 * h2)
    scale = stop_gradient(reduce(xp.maximum, terms))
    # In float32, a box 10³⁵ times as long as wide is a line.
    tiny = float(xp.finfo(scale.dtype).smallest_normal)
    line = scale < 1e3 * tiny
    scale = xp.where(line, 1.0, scale)
    one, other = divide(xp, one, scale), divide(xp, other, scale)
    turned = (cos * divide(xp, w2 * h1 - w1 * h2, scale)) ** 2 + (sin * divide(xp, w1 * w2 - h1 * h2, scale)) ** 2
    squares, determinant = (one - other) ** 2 + turned, xp.where(line, 1.0, (one + other) ** 2 + turned)
    alike = one * other > 1e-6
    spread = divide(xp, xp.where(alike, squares, 0.0), 4 * xp.where(alike, one * other, 1.0))
    # If r may overflow, log(1 + r) is computed from the logarithms of its factors.
    sides = (xp.log(xp.maximum(z, xp.full_like(z, tiny))) for z in (a_width, a_height, b_width, b_height))
    unlike = xp.log(determinant) + 2 * xp.log(scale) + 4 * xp.log(unit) - math.log(4) - reduce(add, sides)
    ratio = xp.where(alike, xp.log1p(spread), unlike)

    # 12 (Σ₁ + Σ₂) in the frame of b; Δ along the axis with the larger variance, and perpendicular to it.
    xx = (cos * w1) ** 2 + (sin * h1) ** 2 + w2**2
    yy = (sin * w1) ** 2 + (cos * h1) ** 2 + h2**2
    xy = cos * sin * (h1**2 - w1**2)
    upright = yy > xx
    variance = xp.where(upright, yy, xx)
    along, beside = xp.where(upright, y, x), xp.where(upright, x, y)
    beside = beside - divide(xp, xy, variance) * along
    deviation = scale * xp.sqrt(determinant) / xp.sqrt(variance)
    apart = apart | line | (xp.abs(beside) > 20 * deviation)
    beside = divide(xp, xp.where(apart, 0.0, beside), xp.where(apart, 1.0, deviation))
    distance = 3 * (divide(xp, along**2, variance) + beside**2) + ratio / 2
    some = distance > 0
    distance = xp.where(some, distance, 1.0)
    similarity = xp.exp(-distance) / (1 + xp.sqrt(-xp.expm1(-distance)))
    return xp.where(apart, 0.0, xp.where(some, similarity, 1.0))


def _swept(
    xp: Namespace,
    begin: tuple[Array, Array],
    end: tuple[Array, Array],
    x_ends: tuple[Array, Array],
    y_ends: tuple[Array, Array],
) -> Array:
    """∫ (X − c) dY along edges, for a box from `x_ends[0]` to `x_ends[1]` and `y_ends[0]` to `y_ends[1]`.

    The sum around does not depend on c. With c the X nearest to 0, no term is larger than either box. Quotients are
    fractions of an edge, so neither they nor their derivatives overflow.
    """
    (x0, y0), (x1, y1), (low_end, high_end) = begin, end, x_ends
    nearest = _clamp(xp, xp.zeros_like(low_end), x_ends)
    least = 4 * float(xp.finfo(x0.dtype).smallest_normal)
    run, rise = x1 - x0, y1 - y0
    bottom, top = _clamp(xp, y0, y_ends), _clamp(xp, y1, y_ends)
    # An edge entirely above or below b: its distance to b in units of the edge may have an infinite derivative.
    beside = (top == bottom) & (top != y0) & (top != y1)
    level = (xp.abs(rise) < least) | beside
    rise = xp.where(level, 1.0, rise)
    before, after = (divide(xp, xp.where(level, 0.0, z), rise) for z in (bottom - y0, y1 - top))
    # x at the ends of the part of an edge on which Y = y.
    first, last = x0 + before * run, x1 - after * run
    low, high = xp.minimum(first, last), xp.maximum(first, last)
    left, right = _clamp(xp, low, x_ends), _clamp(xp, high, x_ends)
    width = high - low
    steep = width < least
    width = xp.where(steep, 1.0, width)
    # Lengths along x of the parts of the edge within b, to its right, where X = right, and to its left, where X = left.
    zero = xp.zeros_like(width)
    within, beyond = right - left, xp.maximum(high - xp.maximum(low, high_end), zero)
    short = xp.maximum(xp.minimum(high, low_end) - low, zero)
    inside, outside, behind = (divide(xp, xp.where(steep, zero, z), width) for z in (within, beyond, short))
    left, right = left - nearest, right - nearest
    mean = (left + right) / 2 * inside + right * outside + left * behind
    mean = xp.where(steep, left, mean)
    # Clamped because of rounding. Where `mean` equals an end, the derivative is taken from `mean`.
    mean = xp.where(mean < left, left, xp.where(mean > right, right, mean))
    return mean * (top - bottom)


def _clamp(xp: Namespace, x: Array, ends: tuple[Array, Array]) -> Array:
    low, high = ends
    return xp.minimum(xp.maximum(x, low), high)


def ready(xp: Namespace, regions: Array, _kind: str, fmt: str, _look: bool = False) -> Regions:
    """Return rotated boxes as rows of centre, sides and angle; rotated 3D boxes also have z and depth."""
    rows = finite(xp, rows_first(xp, regions))
    rows = xp.concat((rows[:-1, ...], within_a_turn(xp, rows[-1:, ...])))
    if fmt == "xywhr":
        rows = xp.concat((centre_from_corner(xp, rows), rows[2:, ...]))
    upright: tuple[Array, ...] = ()
    if fmt == "cxcyczwhdr":
        x, y, z, width, height, depth, angle = rows_of(rows)
        rows, upright = xp.stack((x, y, width, height, angle)), (z, depth)
    sides = xp.stack((rows[2, ...], rows[3, ...], *upright[1:]))
    # Gradients must not pass through a product that overflows.
    proper = xp.all(sides > 0, axis=0) & (xp.prod(stop_gradient(sides), axis=0) < math.inf)
    size = xp.prod(xp.where(proper, sides, 0.0), axis=0)
    far = reach(xp, rows)
    shape = xp.concat((rows, xp.stack(upright))) if upright else rows
    return enveloped(xp, rows[:2, ...] - far, rows[:2, ...] + far, size, shape)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, _own: Operators = PLAIN) -> Array:
    """Overlap of rotated 2D or 3D boxes from `ready`, broadcast against each other."""
    if kind == "probiou":
        points = [x.columns[2, ...] <= x.columns[0, ...] for x in (a, b)]
        # Boxes without area get sides of 1, so that no gradient passes through an undefined expression.
        boxes = (xp.where(point, 1.0, x.shape) for point, x in zip(points, (a, b), strict=True))
        return xp.where(points[0] | points[1], 0.0, gaussian_similarity(xp, *boxes))
    shared = intersection(xp, a.shape[:5, ...], b.shape[:5, ...])
    if a.shape.shape[0] > 5:
        shared = shared * _common_height(xp, a.shape[5:, ...], b.shape[5:, ...])
    return share(xp, a, b, bounded(xp, a, b, shared), kind)


def _common_height(xp: Namespace, a: Array, b: Array) -> Array:
    """Height of the intersection of rotated 3D boxes, given rows of z and depth."""
    apart, p, q = a[0, ...] - b[0, ...], a[1, ...] / 2, b[1, ...] / 2
    height = xp.minimum(apart + p, q) - xp.maximum(apart - p, -q)
    return xp.maximum(height, xp.zeros_like(height))


def gaussian_envelopes(xp: Namespace, regions: Regions, threshold: Array | float) -> Regions:
    """Return rotated boxes with envelopes that intersect for each pair with `gaussian_similarity` above a threshold.
    Along either axis B ≥ ¼ Δ² / (σ₁² + σ₂²), and √(σ₁² + σ₂²) ≤ σ₁ + σ₂. So centres of boxes with a similarity above t
    are at most 2√B (σ₁ + σ₂) apart along the axis, for the B with similarity t.
    """
    proper = regions.columns[2:4, ...] > regions.columns[:2, ...]
    x, y, width, height, angle = rows_of(regions.shape)
    cos, sin = (xp.abs(z) for z in direction(xp, angle))
    deviation = xp.stack((xp.hypot(cos * width, sin * height), xp.hypot(sin * width, cos * height))) / math.sqrt(12)
    info = xp.finfo(deviation.dtype)
    # A similarity of t means exp(−B) = t(2 − t) = 1 − (1 − t)². For t = 0, the smallest similarity of the dtype counts.
    least = float(info.smallest_normal)
    like = xp.asarray(threshold, dtype=deviation.dtype, device=device(deviation))
    some, high = like > least, like > 0.5
    apart, like = xp.where(high, 1 - like, 0.5), xp.where(some & ~high, like, 0.5)
    furthest = xp.where(high, -xp.log1p(-(apart**2)), -xp.log(like * (2 - like)))
    furthest = xp.where(some, furthest, 1 - math.log(least) - math.log(info.eps))
    far = deviation * (2 * xp.sqrt(furthest) * (1 + 1e-4))
    centre = xp.stack((x, y))
    far = far + (4 * float(info.eps)) * (xp.abs(centre) + far) + least
    low, high = (xp.where(proper, z, 0.0) for z in (centre - far, centre + far))
    return regions._replace(columns=xp.concat((low, high, regions.columns[4:, ...])))


TURNED_BOXES = Geometry((*SHARES, "probiou"), ready, overlap, weight=lambda _a, _b: 4)  # of edges
TURNED_BLOCKS = TURNED_BOXES._replace(kinds=SHARES)
