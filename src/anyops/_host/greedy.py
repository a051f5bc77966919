"""Greedy NMS by iou, iof and ios, in NumPy: the host version of `suppression.greedy`, with few calls per scene.

Boxes are stored by rank in planes (5, n): x2, y2, −x1, −y1 and the area, so one minimum gives all four sides of an
intersection. Three algorithms give the same result:

* Tiles: the best 48 boxes are decided among themselves, by the definition, on the bits of integers. Those kept suppress
  others, and the next 48 follow. Best if most boxes are suppressed, with one or
  several labels.
* A sweep along an axis. Boxes are sorted by their start. The partners of a box are the next ones within its reach: the
  fraction 1 − t of its width for an IoU above t, the whole width for iof and ios. The d-th next boxes of all boxes are
  one shifted slice. Best if most boxes are kept. Boxes are sorted by label first, so labels need no calls of their own.
* Each label separately, if labels have many boxes each.

Along each axis the later of two boxes must start within the reach of the other. Two comparisons per axis rule out most
pairs, and overlaps are computed only for the others.
"""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .._array.host import Host
from ..boxes.geometry import SHARES
from ..suppression.edges import kept_of_edges
from ..suppression.overlaps import SLACK
from .labels import numbered
from .order import ascending
from .walk import HANDFUL, walk, walk_pairs

TILE = 48  # boxes decided at once
WHOLE = 128  # boxes decided at once if no others are left, because a second tile would cost more calls
ROOM = WHOLE * WHOLE  # pairs whose overlaps are computed at once, within the L2 cache
GATHERED = 6  # cost of a pair whose boxes are gathered, in pairs of a slice or a tile
WIDE = 1 << 16  # pairs that are tested for intersection at once, in a quarter of the memory
LARGE = 4096  # more boxes of one label are left to a graph, unless nearly all are suppressed or few overlap
WORTHWHILE = 1 / 16  # fraction of many boxes that a step of the tiles must suppress for another step to follow
CROWDED_LABELS = 0.015  # fraction of overlapping pairs within labels above which tiles are faster than a long sweep
RARE = 20  # candidates per box within its label up to which the sweep is faster than tiles
FEW = 32  # candidates per box up to which the sweep is used for any number of boxes
DENSE = 0.01  # fraction of overlapping pairs above which tiles are always better
WIDEST = 256  # shifted slices of a sweep; further candidates are gathered
CELLS = 1 << 16  # at most, per axis: 16-bit numbers, which NumPy sorts by radix
CELLS_PER_BOX = 4  # per axis
AS_ANYWHERE = 1.2  # candidates, as a multiple of the expected number, up to which boxes count as spread out

# Whether the best boxes of the last scene did not overlap. The next scene of a video or a dataset is usually similar.
# So a sweep is tried first, without the overlaps of the best boxes, and given up if there are too many candidates.
_LATELY = {"spread": False}
_ONE = np.asarray(1)  # an operation with an array takes less time than one with a Python number
_NUMBERS = np.arange(1, LARGE + 1)
_ZEROS = {np.dtype(dtype): np.zeros(ROOM, dtype) for dtype in (np.float32, np.float64)}
# Reused memory for the pairs compared at once: new memory costs a page fault every 4 KiB.
_ROOMS: dict[Any, list[Host]] = {dtype: [] for dtype in _ZEROS}


class Line(NamedTuple):
    """The axis along which boxes are swept, and how they are spread along it."""

    axis: int  # 0: x, 1: y
    low: float  # the first start
    extent: float  # from the first start to the last end
    candidates: float  # expected per box if boxes are spread evenly; 0 if the extent is infinite


class Threshold(NamedTuple):
    """The overlap above which a pair suppresses."""

    value: Any  # in the dtype of the boxes
    kind: str  # of overlap: iou, iof, ios
    reach: float  # fraction of a side, at its start, within which a later partner must start


def suits(detections: Any, measure: Any) -> bool:
    """Whether this module supports the boxes, their dtype and the kind of overlap."""
    boxes = detections.boxes
    if boxes is None or detections.overlaps is not None or measure.fmt != "xyxy" or measure.kind not in SHARES:
        return False
    return boxes.dtype in _ZEROS or boxes.dtype == np.float16


def kept(_mode: Any, detections: Any, threshold: float, least: float | None, *, kind: str) -> Host | None:
    """Positions kept, by descending score; None if a graph is faster."""
    found = _decided(detections, threshold, least, kind, led=False)
    return None if found is None else found[0].take(found[1])


def groups(_mode: Any, detections: Any, threshold: float, least: float | None, *, kind: str) -> Host | None:
    """Position of the box that represents each box, −1 for scores up to `least`; None if a graph is faster."""
    found = _decided(detections, threshold, least, kind, led=True)
    if found is None:
        return None
    order, _, leads = found
    standing = np.full(detections.scores.shape, -1, order.dtype)
    standing[order] = order[leads]
    return standing


def _decided(
    detections: Any, threshold: float, least: float | None, kind: str, *, led: bool
) -> tuple[Host, Host, Host | None] | None:
    """Positions by rank, the ranks kept, and, if `led`, the rank of the box that represents each rank."""
    boxes, scores, labels, *_ = detections
    if boxes.dtype not in _ZEROS:
        boxes = boxes.astype(np.float32)
    # Never beyond a side, so that a place is finite if the extent is.
    reach = min((1 - threshold * SLACK) * (1 + 1e-6), 1.0) if kind == "iou" else 1.0
    over = Threshold(boxes.dtype.type(threshold), kind, reach)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if labels is not None and scores.shape[0]:
            labels = numbered(labels)
        if scores.shape[0] > LARGE and not _worthwhile(boxes, labels, over):
            return None
        order = ascending(np.negative(scores) if scores.dtype.kind == "f" else ~scores)
        if least is not None:  # scores above the threshold come first
            order = order[: np.count_nonzero(scores > least)]
        leads = np.arange(order.shape[0]) if led else None
        if order.shape[0] == 0:
            return order, order, leads
        planes, proper = _planes(boxes.take(order, axis=0), kind)
        labels = None if labels is None else labels.take(order)
        if proper is None:
            keep = _keep(planes, labels, over, leads)
            return None if keep is None else (order, keep, leads)
        # Boxes that cannot overlap are kept, and suppress none.
        some = proper.nonzero()[0]
        own = np.arange(some.shape[0]) if led else None
        keep = _keep(planes.take(some, axis=1), None if labels is None else labels.take(some), over, own)
    if keep is None:
        return None
    is_kept = ~proper
    is_kept[some.take(keep)] = True
    if leads is not None and own is not None:
        leads[some] = some.take(own)
    return order, is_kept.nonzero()[0], leads


def _worthwhile(boxes: Host, labels: Host | None, threshold: Threshold) -> bool:
    """Whether tiles or a sweep are worthwhile for these boxes, judged by a sample."""
    n = boxes.shape[0]
    planes, proper = _planes(boxes[:: max(n // 1024, 1)], threshold.kind)
    planes = planes if proper is None else planes[:, proper]
    if planes.shape[1] == 0:
        return False
    expected = _line(planes, threshold).candidates * n / planes.shape[1]
    if labels is not None:
        count = np.bincount(labels)
        return bool(count.max() <= LARGE or 0 < expected <= np.count_nonzero(count) * FEW / 2)
    return 0 < expected <= FEW / 2 or _dense(_among_best(planes, threshold)) >= DENSE


def _planes(boxes: Host, kind: str) -> tuple[Host, Host | None]:
    """Return boxes (n, 4) as planes, and which of them have a finite area; None if all have.

    An infinite box suppresses none by iou. It has to go, because an infinite extent cannot be swept.
    """
    room = np.empty((7, boxes.shape[0]), boxes.dtype)
    planes, area, sides, corners = room[:5], room[4], room[5:], boxes.T
    planes[:2] = corners[2:]
    np.negative(corners[:2], out=planes[2:4])
    np.add(planes[:2], planes[2:4], out=sides)
    np.multiply(sides[0], sides[1], out=area)
    if np.minimum.reduce(room[4:], axis=None) > 0 and np.maximum.reduce(area) < math.inf:
        return planes, None
    proper = (sides > 0).all(axis=0) & (area > 0)
    return planes, proper & (area < math.inf) if kind == "iou" else proper  # iof and ios may divide by a finite area


def _keep(planes: Host, labels: Host | None, threshold: Threshold, leads: Host | None) -> Host | None:
    """Ranks kept, ascending, of boxes that all have an area.

    `leads`, if given, contains each rank; for a suppressed box it is replaced by the best kept rank that suppresses it.
    """
    n = planes.shape[1]
    if n == 0:
        return np.arange(0)
    if labels is not None:
        count = np.bincount(labels)
        largest, some = int(count.max()), int(np.count_nonzero(count))
        if some > 1:
            line = _line(planes, threshold)
            few = largest <= TILE or 0 < line.candidates <= some * FEW / 2
            keep = _by_sweep(planes, line, labels, threshold, n * RARE, leads) if few else None
            if keep is None and n <= LARGE:
                over = _among_best(planes, threshold, labels)
                if _dense(over) >= CROWDED_LABELS:
                    return _by_tiles(planes, over, threshold, leads, labels)
            if keep is None and few:
                keep = _by_sweep(planes, line, labels, threshold, n * max(min(largest, TILE), FEW), leads)
            return keep if keep is not None else _by_label(planes, labels, count, threshold, leads)
    return _of_one_label(planes, threshold, leads)


def _line(planes: Host, threshold: Threshold) -> Line:
    """The axis along which boxes have fewer candidates."""
    right, bottom, left, top, _ = np.maximum.reduce(planes, axis=1).tolist()
    total = np.add.reduce(planes, axis=1).tolist()
    width, height = right + left, bottom + top
    x = (total[0] + total[2]) / width if width < math.inf else 0.0
    y = (total[1] + total[3]) / height if height < math.inf else 0.0
    if 0 < y < x:
        return Line(1, -top, height, y * threshold.reach)
    return Line(0, -left, width, x * threshold.reach)


def _of_one_label(planes: Host, threshold: Threshold, leads: Host | None) -> Host | None:
    """Ranks kept, by tiles or by a sweep, whichever seems faster, judged by the overlaps of the best boxes."""
    n = planes.shape[1]
    if _LATELY["spread"] and WHOLE < n <= LARGE:
        line = _line(planes, threshold)
        if 0 < line.candidates <= FEW:
            swept = _by_sweep(planes, line, None, threshold, n * AS_ANYWHERE * line.candidates, leads)
            if swept is not None:
                return swept
        _LATELY["spread"] = False
    over = _among_best(planes, threshold)
    if over.shape[0] == n:
        keep = np.asarray(walk(over))
        if leads is not None:
            _lead_tile(leads, None, over, keep)
        return keep
    share = _dense(over)
    if n > LARGE or share < DENSE:
        line = _line(planes, threshold)
        expected = line.candidates
        # In compared pairs: deciding a pair costs as much as 16, a step of the tiles as much as 48 boxes against all.
        sweep = 2 * expected * n + 16 * share * n * n / 2
        few = expected <= FEW / 2 if n > LARGE else sweep < n * max(TILE, 1 / max(share, 1e-6))
        if expected > 0 and few:
            swept = _by_sweep(planes, line, None, threshold, n * 2 * max(FEW, int(expected)), leads)
            if swept is not None:
                _LATELY["spread"] = share == 0
                return swept
    return None if n > LARGE and share < DENSE else _by_tiles(planes, over, threshold, leads)


def _among_best(planes: Host, threshold: Threshold, labels: Host | None = None) -> Host:
    """Whether each of the best boxes overlaps each other one of its label; of all boxes, if these are few."""
    size = WHOLE if planes.shape[1] <= WHOLE else TILE
    over = _overlap(planes[:, :size, None], planes[:, None, :size], threshold)
    return over if labels is None else over & (labels[:size, None] == labels[:size])


def _dense(over: Host) -> float:
    """Fraction of the pairs of the best boxes that overlap."""
    size = over.shape[0]
    return max(int(np.count_nonzero(over)) - size, 0) / max(size * (size - 1), 1)


def _overlap(a: Host, b: Host, threshold: Threshold) -> Host:
    """Whether pairs overlap by more than a threshold, for planes that broadcast to (5, k, m) with k·m ≤ ROOM."""
    k, m = max(a.shape[1], b.shape[1]), b.shape[2]
    pool = _ROOMS[a.dtype]
    try:
        room = pool.pop()
    except IndexError:  # not asked before, because another thread may take the last one in between
        room = np.empty(4 * ROOM, a.dtype)
    sides = np.minimum(a[:4], b[:4], out=room[: 4 * k * m].reshape(4, k, m))
    width, height = np.add(sides[:2], sides[2:], out=sides[:2])
    # Zeros as an array, because NumPy has no fast loop for a scalar. Clamping one side suffices: if the other one is
    # negative, the product is not positive.
    np.maximum(width, _ZEROS[a.dtype][: k * m].reshape(k, m), out=width)
    inter = np.multiply(width, height, out=width)
    if threshold.kind == "iou":
        whole = np.add(a[4], b[4], out=height)
        whole -= inter
    else:
        whole = a[4] if threshold.kind == "iof" else np.minimum(a[4], b[4], out=height)
    inter /= whole
    over = inter > threshold.value
    pool.append(room)
    return over


def _starts(stop: Host, negated: Host, threshold: Threshold) -> Host:
    """Starts of boxes and ends of their reach, (2, ...), given their ends and negated starts."""
    places = np.empty((2, *stop.shape), stop.dtype)
    begin, cut = places
    np.negative(negated, out=begin)
    if threshold.reach == 1:  # iof and ios, for which sides may be infinite
        cut[...] = stop
        return places
    np.add(stop, negated, out=cut)
    cut *= cut.dtype.type(threshold.reach)
    cut += begin
    return places


def _by_tiles(
    planes: Host, over: Host, threshold: Threshold, leads: Host | None, labels: Host | None = None
) -> Host | None:
    """Ranks kept, given the overlaps among the best boxes; None if there are many boxes and few are suppressed."""
    ranks, parts = None, []
    while True:
        keep = np.asarray(walk(over))
        parts.append(keep if ranks is None else ranks.take(keep))
        size, first = over.shape[0], None
        if leads is not None:
            _lead_tile(leads, ranks, over, keep)
            first = np.empty(planes.shape[1] - size, np.intp)
        if size == planes.shape[1]:
            break
        own = None if labels is None else (labels.take(keep), labels[size:])
        gone = _suppressed(planes.take(keep, axis=1), planes[:, size:], threshold, first, own)
        if leads is not None and first is not None:
            dropped = gone.nonzero()[0]
            to, by = dropped + size, parts[-1].take(first.take(dropped))
            leads[to if ranks is None else ranks.take(to)] = by
        live = (~gone).nonzero()[0]
        if live.shape[0] == 0:
            break
        if live.shape[0] > LARGE and live.shape[0] > (1 - WORTHWHILE) * (planes.shape[1] - size):
            return None
        live += size
        planes, ranks = planes.take(live, axis=1), live if ranks is None else ranks.take(live)
        labels = None if labels is None else labels.take(live)
        over = _among_best(planes, threshold, labels)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _lead_tile(leads: Host, ranks: Host | None, over: Host, keep: Host) -> None:
    """Write the first kept box that overlaps each suppressed box of a tile into `leads`."""
    first = keep.take(over.take(keep, axis=0).argmax(axis=0))
    first[keep] = keep
    size = over.shape[0]
    leads[slice(size) if ranks is None else ranks[:size]] = first if ranks is None else ranks.take(first)


def _suppressed(
    winners: Host, rest: Host, threshold: Threshold, first: Host | None, labels: tuple[Host, Host] | None
) -> Host:
    """Whether any of a few boxes overlaps each of the rest; `first`, if given, gets the index of the first such box.

    With `labels`, of the few boxes and of the rest, only pairs with equal labels count.
    """
    k, n = winners.shape[1], rest.shape[1]
    if k * n <= ROOM:
        over = _overlap(winners[:, :, None], rest[:, None, :], threshold)
        if labels is not None:
            over &= labels[0][:, None] == labels[1]
        if first is not None:
            over.argmax(axis=0, out=first)
        return np.logical_or.reduce(over, axis=0)
    gone, step = np.zeros(n, bool), WIDE // k
    begins, cuts = _starts(winners[:2], winners[2:4], threshold)[..., None]
    for i in range(0, n, step):
        some = rest[:, None, i : i + step]
        other_begins, other_cuts = _starts(some[:2], some[2:4], threshold)
        near: Host = (cuts >= other_begins) & (other_cuts >= begins)
        meet = near[0] & near[1]
        if labels is not None:
            meet &= labels[0][:, None] == labels[1][i : i + step]
        if np.count_nonzero(meet) * GATHERED < meet.size:
            one, other = _divided(meet.reshape(-1).nonzero()[0], meet.shape[1])
            hit = _exceeding(winners, one, some[:, 0], other, threshold)
            at = other.take(hit)
            gone[i:].put(at, True)
            if first is not None:  # in reverse, so that the best of several is written last
                first[i:][at[::-1]] = one.take(hit[::-1])
        else:
            for j in range(i, min(i + step, n), ROOM // k):
                over = _overlap(winners[:, :, None], rest[:, None, j : min(j + ROOM // k, i + step)], threshold)
                over &= meet[:, j - i : j - i + over.shape[1]]
                gone[j : j + over.shape[1]] = over.any(axis=0)
                if first is not None:
                    over.argmax(axis=0, out=first[j : j + over.shape[1]])
    return gone


def _divided(number: Host, by: int) -> tuple[Host, Host]:
    """Quotients and remainders; NumPy has a fast loop for //, but not for divmod."""
    quotient = number // by
    return quotient, number - quotient * by


def _exceeding(a: Host, first: Host, b: Host, second: Host, threshold: Threshold) -> Host:
    """Positions of the pairs (a[first], b[second]) that overlap by more than a threshold."""
    parts = [
        _overlap(
            a.take(first[i : i + ROOM], axis=1)[:, None], b.take(second[i : i + ROOM], axis=1)[:, None], threshold
        )[0].nonzero()[0]
        + i
        for i in range(0, first.shape[0], ROOM)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate((first[:0], *parts))


def _by_label(planes: Host, number: Host, count: Host, threshold: Threshold, leads: Host | None) -> Host | None:
    """Ranks kept, each label separately."""
    order = number.astype(np.uint16 if count.shape[0] <= 1 << 16 else number.dtype).argsort(kind="stable")
    planes = planes.take(order, axis=1)
    is_kept = np.zeros(order.shape[0], bool)
    # One by one, because on several cores calls as short as these would wait for each other.
    for end, size in zip(count.cumsum().tolist(), count.tolist(), strict=True):
        if size:
            own = slice(end - size, end)
            ranks, led = order[own], None if leads is None else np.arange(size)
            keep = _of_one_label(planes[:, own], threshold, led)
            if keep is None:
                return None
            is_kept[ranks.take(keep)] = True
            if leads is not None and led is not None:
                leads[ranks] = ranks.take(led)
    return is_kept.nonzero()[0]


def _by_sweep(
    planes: Host, line: Line, number: Host | None, threshold: Threshold, most: float, leads: Host | None
) -> Host | None:
    """Ranks kept, of boxes with one label or with labels `number`; None if there are more than `most` candidates."""
    n = planes.shape[1]
    # A sweep does not know the better box of a pair, which iof needs. So it first uses ios, which is symmetric and at
    # least as large.
    seen, threshold = threshold, threshold._replace(kind="ios") if threshold.kind == "iof" else threshold
    axis = line.axis
    cells = _cells(_starts(planes[axis], planes[axis + 2], threshold), line, number)
    if cells is None:
        return None
    (first, last), size = cells
    order = first.argsort(kind="stable")  # a radix sort for 16 bits
    count = np.bincount(first, minlength=size).cumsum().take(last.take(order))
    count -= _NUMBERS[:n] if n <= LARGE else np.arange(1, n + 1)
    top, total = int(np.maximum.reduce(count)), int(np.add.reduce(count))
    if total > most:
        return None
    if top <= 0:
        return np.arange(n)
    slices, usual = min(top, WIDEST), total // n + 1
    if n * slices > ROOM and slices > 3 * usual:
        slices = 2 * usual  # most boxes have fewer candidates; further ones are gathered
    ranked = np.zeros((5, n + slices), planes.dtype)  # padded with zeros, which overlap nothing
    planes.take(order, axis=1, out=ranked[:, :n], mode="clip")
    pairs = _in_slices(ranked, 1 - axis, n, slices, count, threshold)
    if top > slices:
        pairs = chain(pairs, _gathered(ranked, slices, count, threshold))
    parts = [(order.take(first), order.take(second)) for first, second in pairs]
    first, second = parts[0] if len(parts) == 1 else (np.concatenate(x) for x in zip(*parts, strict=True))
    if number is not None:  # slices may reach into the next label
        same = (number.take(first) == number.take(second)).nonzero()[0]
        first, second = first.take(same), second.take(same)
    better, worse = np.minimum(first, second), np.maximum(first, second)
    if seen.kind == "iof":
        hit = _exceeding(planes, better, planes, worse, seen)
        better, worse = better.take(hit), worse.take(hit)
    is_kept = kept_of_edges(np, better, worse, n) if better.shape[0] > HANDFUL else walk_pairs(better, worse, n)
    if leads is not None:
        some = is_kept.take(better).nonzero()[0]
        dropped = worse.take(some)
        leads[dropped] = n
        np.minimum.at(leads, dropped, better.take(some))
    return is_kept.nonzero()[0]


def _cells(places: Host, line: Line, number: Host | None) -> tuple[Host, int] | None:
    """Return the cells along a line in which boxes start and their reach ends, (2, n), and the number of cells.

    Rounding keeps the order of places, so it loses no candidate. Each label has its own cells. None if the extent is
    infinite, or too small to be divided.
    """
    labels = 1 if number is None else int(np.maximum.reduce(number)) + 1
    each = max(min(CELLS, CELLS_PER_BOX * places.shape[1]) // labels, 1)
    number_of = places.dtype.type
    scale = number_of((each - 1) / line.extent if line.extent > 0 else 0.0)
    if not (number_of(line.extent) < math.inf and scale < math.inf):
        return None
    scaled = places - number_of(line.low)
    scaled *= scale
    cells = scaled.astype(np.uint16 if labels * each <= CELLS else np.int64)
    if number is not None:
        cells += (number * each).astype(cells.dtype)
    return cells, labels * each


def _in_slices(
    ranked: Host, other: int, n: int, slices: int, count: Host, threshold: Threshold
) -> Iterator[tuple[Host, Host]]:
    """Overlapping pairs of boxes that are at most `slices` apart in the order along one axis.

    If there are many candidates, those that are far apart along the other axis are removed first.
    """
    plane, item = ranked.strides
    length, places = n, None
    if n * slices > ROOM:
        length = max(WIDE // slices, 1)
        places = _starts(ranked[other], ranked[other + 2], threshold)
    for i in range(0, n, length):
        some = min(length, n - i)
        depth = slices if n <= length else min(int(np.maximum.reduce(count[i : i + some])), slices)
        if depth <= 0:
            continue
        # Row d holds the boxes d + 1 places behind.
        offset, shape = (i + 1) * item, (depth, some)
        if places is not None:
            begins, ends = places
            near = np.ndarray(shape, ends.dtype, ends, offset, (item, item)) >= begins[i : i + some]
            near &= np.ndarray(shape, begins.dtype, begins, offset, (item, item)) <= ends[i : i + some]
            if np.count_nonzero(near) * GATHERED < near.size:
                step, first = _divided(near.reshape(-1).nonzero()[0], some)
                first += i
                step += first
                step += 1
                hit = _exceeding(ranked, first, ranked, step, threshold)
                yield first.take(hit), step.take(hit)
                continue
        behind = np.ndarray((5, *shape), ranked.dtype, ranked, offset, (plane, item, item))
        for j in range(0, some, max(ROOM // depth, 1)):
            part = behind[:, :, j : j + max(ROOM // depth, 1)]
            over = _overlap(ranked[:, None, i + j : i + j + part.shape[2]], part, threshold)
            step, first = _divided(over.reshape(-1).nonzero()[0], part.shape[2])
            first += i + j
            step += first
            step += _ONE
            yield first, step


def _gathered(ranked: Host, slices: int, count: Host, threshold: Threshold) -> Iterator[tuple[Host, Host]]:
    """Overlapping pairs of candidates that are more than `slices` apart in the order along one axis."""
    some = (count > slices).nonzero()[0]
    ends = (count.take(some) - slices).cumsum()
    targets = np.arange(WIDE, ends[-1] + WIDE, WIDE)
    begin, done = 0, 0
    for cut in np.minimum(ends.searchsorted(targets) + 1, some.shape[0]).tolist():
        # At least one box at a time, even with very many candidates.
        own, size = some[begin:cut], int(ends[cut - 1]) - done if cut > begin else 0
        if size == 0:
            continue
        many = count.take(own) - slices
        second = np.arange(size)
        second += (own + (slices + 1) - (ends[begin:cut] - done - many)).repeat(many)
        first = own.repeat(many)
        hit = _exceeding(ranked, first, ranked, second, threshold)
        yield first.take(hit), second.take(hit)
        begin, done = cut, int(ends[cut - 1])
