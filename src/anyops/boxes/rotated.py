"""Area of the intersection of rotated boxes, exact to rounding: no sort, no hull, no tolerance, no branch.

In the frame of the box b, the longer one, of half sides (p, q), let X = clamp(x, −p, p) and Y = clamp(y, −q, q). The
clamp maps the plane onto b and moves no inner point of it, so the boundary of a winds around an inner point of b as
often before the clamp as after it, and by Green's theorem

    |a ∩ b| = |∮ X dY|  along the boundary of a,

a sum over the edges of a. Of an edge only the part with |y| ≤ q counts, on which Y rises; there the mean of X is that
of three pieces: left of b, where X = −p, within it, where X = x, and right of it, where X = p.

A rotated box is centre, sides, and angle in degrees, counter-clockwise as seen in an image, where y points down: its
unit axes are (cos, −sin) and (sin, cos).
"""

import math

from .._array.division import divide
from .._array.namespace import Array, Namespace, device, rows_of, stop_gradient
from .._array.operators import PLAIN, Operators
from .geometry import SHARES, Geometry, Regions, bounded, enveloped, finite, rows_first, share

# Corners of a box in units of its sides, in order around it.
CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


def direction(xp: Namespace, degrees: Array) -> tuple[Array, Array]:
    """Cosine and sine of an angle in degrees."""
    whole = stop_gradient(xp.round(degrees / 360)) * 360
    turn = (degrees - whole) * (math.pi / 180)
    return xp.cos(turn), xp.sin(turn)


def within_a_turn(xp: Namespace, degrees: Array) -> Array:
    """Angles less whole turns, exactly, where there are some: a difference of large ones would be rounded."""
    return xp.where(xp.abs(degrees) > 360, xp.remainder(degrees, xp.full_like(degrees, 360.0)), degrees)


def intersection(xp: Namespace, a: Array, b: Array) -> Array:
    """Areas of the intersections of boxes with positive sides, as rows (5, ...) that broadcast.

    By rounding they may be outside [0, the smaller area].
    """
    ax, ay, a_width, a_height, a_angle = rows_of(a)
    bx, by, b_width, b_height, b_angle = rows_of(b)
    # In the frame of the longer box: the corners of a long one, seen from a short one, are rounded by its sides.
    longer = xp.maximum(a_width, a_height) > xp.maximum(b_width, b_height)
    sign = xp.where(longer, -1.0, xp.ones_like(a_width))
    width, other_width = xp.where(longer, b_width, a_width), xp.where(longer, a_width, b_width)
    height, other_height = xp.where(longer, b_height, a_height), xp.where(longer, a_height, b_height)
    # Differences first: far from the origin, and for nearly equal angles, they are exact.
    x, y = into_frame(xp, sign * (ax - bx), sign * (ay - by), xp.where(longer, a_angle, b_angle))
    cos, sin = direction(xp, sign * (a_angle - b_angle))
    along, across = (cos * width, -sin * width), (sin * height, cos * height)
    # All four edges at once: a quarter of the calls, and of what a compiler is given.
    (x0, y0), (x1, y1) = (
        (x + u * along[0] + v * across[0], y + u * along[1] + v * across[1]) for u, v in _edges(xp, x)
    )
    first, second, third, fourth = rows_of(_swept(xp, (x0, y0), (x1, y1), other_width / 2, other_height / 2))
    return (first + third) + (second + fourth)


def _edges(xp: Namespace, like: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Corners (4, ...) where the edges of a box begin, and where they end, in units of its sides."""
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
    """How far boxes, as rows (5, ...), reach from their centres along x and y: (2, ...), no less by rounding."""
    x, y, width, height, angle = rows_of(boxes)
    cos, sin = (xp.abs(z) for z in direction(xp, angle))
    far = xp.stack((cos * width + sin * height, sin * width + cos * height)) / 2
    return far + (4 * float(xp.finfo(far.dtype).eps)) * (xp.abs(xp.stack((x, y))) + far)


def corners(xp: Namespace, boxes: Array) -> Array:
    """Return the corners (4, 2, ...) of boxes as rows (5, ...), in order around each."""
    x, y, width, height, angle = rows_of(boxes)
    cos, sin = direction(xp, within_a_turn(xp, angle))
    found = [(x + u * width * cos + v * height * sin, y - u * width * sin + v * height * cos) for u, v in CORNERS]
    return xp.stack([xp.stack(corner) for corner in found])


def centre_from_corner(xp: Namespace, boxes: Array) -> Array:
    """Centres (2, ...) of boxes as rows (5, ...) whose first two are the corner that has both axes ahead of it."""
    x, y, width, height, angle = rows_of(boxes)
    cos, sin = direction(xp, within_a_turn(xp, angle))
    return xp.stack((x + (cos * width + sin * height) / 2, y + (cos * height - sin * width) / 2))


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
    # B is the same in any unit; in that of the longest side no fourth power overflows.
    unit = stop_gradient(xp.maximum(xp.maximum(a_width, a_height), xp.maximum(b_width, b_height)))
    x, y, w1, h1, w2, h2 = (divide(xp, z, unit) for z in (x, y, a_width, a_height, b_width, b_height))
    squares = (w1 * h1 - w2 * h2) ** 2 + (cos * (w2 * h1 - w1 * h2)) ** 2 + (sin * (w1 * w2 - h1 * h2)) ** 2
    spread = divide(xp, squares, 4 * (w1 * h1) * (w2 * h2))
    # Of Σ₁ + Σ₂ in the frame of b, times twelve.
    xx = (cos * w1) ** 2 + (sin * h1) ** 2 + w2**2
    yy = (sin * w1) ** 2 + (cos * h1) ** 2 + h2**2
    xy = cos * sin * (h1**2 - w1**2)
    determinant = 4 * (w1 * h1) * (w2 * h2) + squares
    distance = divide(xp, 3 * (yy * x**2 - 2 * xy * x * y + xx * y**2), determinant) + xp.log1p(spread) / 2
    some = distance > 0
    root = xp.sqrt(-xp.expm1(-xp.where(some, distance, 1.0)))
    return xp.where(some, 1 - root, 1.0)


def _swept(xp: Namespace, begin: tuple[Array, Array], end: tuple[Array, Array], p: Array, q: Array) -> Array:
    """∫ X dY along edges."""
    (x0, y0), (x1, y1) = begin, end
    rise = y1 - y0
    level = rise == 0
    bottom, top = _clamp(xp, y0, q), _clamp(xp, y1, q)
    slope = divide(xp, x1 - x0, xp.where(level, 1.0, rise))
    # Where the part with |y| ≤ q begins and ends.
    first = xp.where(level, x0, x0 + (bottom - y0) * slope)
    last = xp.where(level, x1, x1 - (y1 - top) * slope)
    low, high = xp.minimum(first, last), xp.maximum(first, last)
    left, right = _clamp(xp, low, p), _clamp(xp, high, p)
    width = high - low
    steep = width <= 0
    beside = xp.maximum(high - xp.maximum(low, p), xp.zeros_like(p)) - xp.maximum(
        xp.minimum(high, -p) - low, xp.zeros_like(p)
    )
    mean = divide(xp, (left + right) / 2 * (right - left) + p * beside, xp.where(steep, 1.0, width))
    mean = xp.minimum(xp.maximum(xp.where(steep, left, mean), left), right)  # against rounding
    return mean * (top - bottom)


def _clamp(xp: Namespace, x: Array, limit: Array) -> Array:
    return xp.minimum(xp.maximum(x, -limit), limit)


def ready(xp: Namespace, regions: Array, _kind: str, fmt: str, _look: bool = False) -> Regions:
    """Return rotated boxes as rows of centre, sides and angle; of turned blocks also z and depth."""
    rows = finite(xp, rows_first(xp, regions))
    rows = xp.concat((rows[:-1, ...], within_a_turn(xp, rows[-1:, ...])))
    if fmt == "xywhr":
        rows = xp.concat((centre_from_corner(xp, rows), rows[2:, ...]))
    upright: tuple[Array, ...] = ()
    if fmt == "cxcyczwhdr":
        x, y, z, width, height, depth, angle = rows_of(rows)
        rows, upright = xp.stack((x, y, width, height, angle)), (z, depth)
    sides = (rows[2, ...], rows[3, ...], *upright[1:])
    size = sides[0] * sides[1] * (sides[2] if upright else 1)
    for side in sides:
        size = xp.where(side > 0, size, 0.0)
    far = reach(xp, rows)
    shape = xp.concat((rows, xp.stack(upright))) if upright else rows
    return enveloped(xp, rows[:2, ...] - far, rows[:2, ...] + far, size, shape)


def overlap(xp: Namespace, a: Regions, b: Regions, kind: str, _own: Operators = PLAIN) -> Array:
    """Overlap of rotated boxes or turned blocks made ready, broadcast against each other."""
    if kind == "probiou":
        points = [x.columns[2, ...] <= x.columns[0, ...] for x in (a, b)]
        # Any sides do for those without: no gradient may pass through an undefined expression.
        boxes = (xp.where(point, 1.0, x.shape) for point, x in zip(points, (a, b), strict=True))
        return xp.where(points[0] | points[1], 0.0, gaussian_similarity(xp, *boxes))
    shared = intersection(xp, a.shape[:5, ...], b.shape[:5, ...])
    if a.shape.shape[0] > 5:
        shared = shared * _common_height(xp, a.shape[5:, ...], b.shape[5:, ...])
    return share(xp, a, b, bounded(xp, a, b, shared), kind)


def _common_height(xp: Namespace, a: Array, b: Array) -> Array:
    """Height that turned blocks share, given rows of z and depth."""
    apart, p, q = a[0, ...] - b[0, ...], a[1, ...] / 2, b[1, ...] / 2
    height = xp.minimum(apart + p, q) - xp.maximum(apart - p, -q)
    return xp.maximum(height, xp.zeros_like(height))


def gaussian_envelopes(xp: Namespace, regions: Regions, threshold: float) -> Regions:
    """Return rotated boxes with envelopes that meet wherever `gaussian_similarity` is above a threshold.

    B ≥ ¼ Δ² / (σ₁² + σ₂²) along either axis, and √(σ₁² + σ₂²) ≤ σ₁ + σ₂: boxes that are alike by more than t are no
    more than 2√B (σ₁ + σ₂) apart along it, at the B that makes them alike by t.
    """
    proper = regions.columns[2:4, ...] > regions.columns[:2, ...]
    x, y, width, height, angle = rows_of(regions.shape)
    cos, sin = (xp.abs(z) for z in direction(xp, angle))
    deviation = xp.stack((xp.hypot(cos * width, sin * height), xp.hypot(sin * width, cos * height))) / math.sqrt(12)
    info = xp.finfo(deviation.dtype)
    # A similarity of t has exp(−B) = t(2 − t); that of one below the rounding of 1 is 0.
    furthest = -math.log(max(threshold * (2 - threshold), float(info.eps) / 8))
    far = deviation * (2 * math.sqrt(max(furthest, 0.0)) * (1 + 1e-4))
    centre = xp.stack((x, y))
    far = far + (4 * float(info.eps)) * (xp.abs(centre) + far) + float(info.smallest_normal)
    low, high = (xp.where(proper, z, 0.0) for z in (centre - far, centre + far))
    return regions._replace(columns=xp.concat((low, high, regions.columns[4:, ...])))


GEOMETRY = Geometry((*SHARES, "probiou"), ready, overlap, weight=lambda _a, _b: 4)  # of edges
TURNED = GEOMETRY._replace(kinds=SHARES)
