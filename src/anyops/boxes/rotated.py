"""Area of the intersection of rotated boxes, exact to rounding: no sort, no hull, no tolerance, no branch.

In the frame of the box b, of half sides (p, q), let X = clamp(x, −p, p) and Y = clamp(y, −q, q). The clamp maps the
plane onto b and moves no inner point of it, so the boundary of a winds around an inner point of b as often before the
clamp as after it, and by Green's theorem

    |a ∩ b| = |∮ X dY|  along the boundary of a,

a sum over the edges of a. Of an edge only the part with |y| ≤ q counts, on which Y rises; there the mean of X is that
of three pieces: left of b, where X = −p, within it, where X = x, and right of it, where X = p.

Boxes are rows of an array (6, ...): centre, sides, angle in degrees, counter-clockwise as seen in an image, and area. A
box that overlaps nothing has sides 0 and area 1.
"""

import math

from .._array.division import divide
from .._array.namespace import Array, Namespace, rows_of, stop_gradient

# Corners of a box in units of its sides, in order around it.
CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))


def direction(xp: Namespace, degrees: Array) -> tuple[Array, Array]:
    """Cosine and sine of an angle in degrees."""
    whole = stop_gradient(xp.round(degrees / 360)) * 360
    turn = (degrees - whole) * (math.pi / 180)
    return xp.cos(turn), xp.sin(turn)


def canonical(xp: Namespace, boxes: Array) -> Array:
    """Return boxes (..., 5) as rows (6, ...); those without area, or with an infinite number, overlap nothing."""
    x, y, width, height, angle = (boxes[..., k] for k in range(5))
    area = width * height
    proper = (width > 0) & (height > 0) & (area > 0) & (area < math.inf)
    for z in (x, y, angle):
        proper = proper & xp.isfinite(z)
    x, y, width, height, angle = (xp.where(proper, z, 0.0) for z in (x, y, width, height, angle))
    return xp.stack((x, y, width, height, angle, xp.where(proper, width * height, 1.0)))


def intersection(xp: Namespace, a: Array, b: Array) -> Array:
    """Areas of the intersections of boxes, as rows that broadcast."""
    ax, ay, a_width, a_height, a_angle, a_area = rows_of(a)
    bx, by, b_width, b_height, b_angle, b_area = rows_of(b)
    # Differences first: far from the origin, and for nearly equal angles, they are exact.
    dx, dy = ax - bx, ay - by
    cos, sin = direction(xp, b_angle)
    x, y = dx * cos - dy * sin, dx * sin + dy * cos
    cos, sin = direction(xp, a_angle - b_angle)
    along = cos * a_width, -sin * a_width
    across = sin * a_height, cos * a_height
    corners = [(x + u * along[0] + v * across[0], y + u * along[1] + v * across[1]) for u, v in CORNERS]
    half_width, half_height = b_width / 2, b_height / 2
    total = _swept(xp, *corners[3], *corners[0], half_width, half_height)
    for begin, end in zip(corners[:3], corners[1:], strict=True):
        total = total + _swept(xp, *begin, *end, half_width, half_height)
    # By rounding it may be beyond its bounds.
    return xp.minimum(xp.maximum(total, xp.zeros_like(total)), xp.minimum(a_area, b_area))


def _swept(xp: Namespace, x0: Array, y0: Array, x1: Array, y1: Array, p: Array, q: Array) -> Array:
    """∫ X dY along an edge."""
    rise = y1 - y0
    level = rise == 0
    bottom, top = _clamp(xp, y0, q), _clamp(xp, y1, q)
    slope = divide(xp, x1 - x0, xp.where(level, 1.0, rise))
    begin, end = x0 + (bottom - y0) * slope, x1 - (y1 - top) * slope
    begin, end = xp.where(level, x0, begin), xp.where(level, x1, end)
    low, high = xp.minimum(begin, end), xp.maximum(begin, end)
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
