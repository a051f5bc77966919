"""Lloyd's iteration that looks only at samples that may have changed their centre, exactly.

Each sample keeps an upper bound u of the distance to its centre and a lower bound l of that to any other. When centres
move by p_j, u grows by p of its own, l falls by the largest p of the others [1]_. While l > u nothing of the sample has
to be computed. Both bounds change by sums over passes that depend on the label a alone,

    own_a = Σ p_a,    other_a = Σ max_{j≠a} p_j,

so the sample keeps `gap` = l − u + own_a + other_a and `upper` = u − own_a, as they are when it is looked at. A pass
reads one number of it: it may have moved iff gap ≤ own_a + other_a now. Of those samples the exact distances to the own
centre and to the few centres that moved farthest settle many, for the others moved less [2]_.

References
----------
.. [1] Hamerly, Making k-means even faster, SDM 2010, section 3.
.. [2] After Ding et al., Yinyang K-Means, ICML 2015, section 3.2, with two groups that are chosen anew in each pass.
"""

import functools
import math
import operator
from typing import NamedTuple

from .._array.backends import to_host
from .._array.host import HOST, Host
from .._array.namespace import Array, Namespace, default_int, device
from .._array.nearest import Scratch, lowest_down, put, row_dot, two_lowest, two_lowest_down
from .._array.segments import sum_rows
from .._array.selection import indices_of, items
from .._array.threads import in_parts, workers

# Bytes of the scores of a tile. Smaller ones would fit a closer cache, but threads take turns at the interpreter, and
# its calls then cost more than memory: a quarter of this was 1.5 times slower at 1M × 16, k = 64, and at 1M × 2, k = 9.
CACHE, MOST_BYTES = 1 << 22, 1 << 24
ROWS, FEW_ROWS = 1 << 16, 1 << 10
# Rows by which tiles fall short of a power of two: scores of a sample that lie a power of two apart share few lines of
# the cache, and the product took 1.7 times as long.
OFF_BEAT = 48
# With at most so many centres, scores are laid out (centres, samples). With more of them the product takes longer that
# way round, and with fewer it takes so little time that to look at some centres first gains nothing.
FEW_CENTERS = 128
# Rows a centre that are summed at once, at least: a run of few takes as long as one of many.
RUN = 16
# A tile of which more than this share may have changed is computed whole: to gather its rows would cost as much.
NEARLY_ALL = 0.75
# While more than this share of the samples changes from pass to pass, bounds would settle next to nothing.
UNSETTLED = 0.15
# If more than this share changed in the last pass, all samples are summed anew; else the changed ones are moved from
# the sums of one centre to those of another.
MOST = 0.5
# Samples from which a pass guesses how many may have changed.
SAMPLE = 1 << 13


class Sums(NamedTuple):
    """Of the samples of each centre, on the host in float64."""

    sums: Host  # (k, d) Σ w x
    weights: Host  # (k,) Σ w
    members: Host  # (k,) how many have a positive weight


class Bounded:
    """Samples (n, d) that know which centre is closest to them, and for how long that is certain.

    While many samples change their centre from pass to pass, bounds would settle next to nothing: each pass compares
    all samples with all centres. Bounds are kept as soon as few do.
    """

    def __init__(self, xp: Namespace, rows: Array, weight: Array | None, k: int):
        """Take samples around 0 with a one behind each, (n, d + 1): with (−2c, ‖c‖²) that gives ‖c‖² − 2x·c."""
        n = rows.shape[0]
        self.xp, self.rows, self.weight, self.k = xp, rows, weight, k
        self.place = {"dtype": rows.dtype, "device": device(rows)}
        self.eps = float(xp.finfo(rows.dtype).eps)
        row_bytes = k * xp.finfo(rows.dtype).bits // 8
        self.tile = max(min(ROWS, CACHE // row_bytes), min(FEW_ROWS, MOST_BYTES // row_bytes), 16)
        if k <= FEW_CENTERS:
            self.tile = max(self.tile - OFF_BEAT, 16)
        self.tiles = _slices(0, n, self.tile)
        self.labels = xp.zeros(n, dtype=default_int(xp, rows), device=device(rows))
        self.centers: Host | None = None  # of the last pass, as rounded to the dtype of the samples
        self.changed = math.inf  # the share of the samples that did in the last pass: none had a label before the first
        self.moving = True  # whether so many samples still change that bounds are not kept yet
        self.square: Array = None  # ‖x‖² of each sample, and its bounds, once they are kept
        self.gap: Array = None
        self.upper: Array = None
        self.radius = 0.0
        self.own, self.other = HOST.zeros(k), HOST.zeros(k)
        self.nothing = Sums(HOST.zeros((k, rows.shape[1] - 1)), HOST.zeros(k), HOST.zeros(k))
        self._sums = self.nothing

    def update(self, centers: Host, *, last: bool = False) -> tuple[Sums, int]:
        """Give each sample the closest of (k, d) centres; return the sums, and how many samples changed.

        A pass that is the last one leaves neither bounds nor sums for another.
        """
        if self.moving:
            return self._compare_all(centers, sums=not last)
        if self.gap is None:
            self._keep()
        look = _Pass(self, centers, keeps=not last)
        parts = min(workers(self.rows), len(self.tiles))
        done = in_parts(self.rows, lambda part: look.over(self.tiles[part::parts]), parts)
        self._sums = _without_remainder(_added([self._sums, *(delta for delta, _ in done)]))
        return self._sums, sum(count for _, count in done)

    def _compare_all(self, centers: Host, *, sums: bool) -> tuple[Sums, int]:
        """Compare all samples with all centres; each core has an equal share of the samples."""
        xp, n = self.xp, self.rows.shape[0]
        table, self.centers, _ = self.scoring(centers)
        anew = self.changed > MOST
        step = self.tile * -(-RUN * self.k // self.tile)
        parts = min(workers(self.rows), len(self.tiles))

        def share(part: int) -> tuple[Sums, int]:
            room, found, changed = Scratch(xp, self.rows, self.tile * self.k), [self.nothing], 0
            for block in _slices(n * part // parts, n * (part + 1) // parts, step):
                before, after = xp.asarray(self.labels[block], copy=True), self.labels[block]
                for tile in _slices(block.start, block.stop, self.tile):
                    self.labels[tile] = _closest(xp, self.rows[tile, :], table, room)
                moved = indices_of(xp, after != before)
                changed += moved.shape[0]
                if sums and anew:
                    weight = None if self.weight is None else self.weight[block]
                    found.append(self._sums_of(self.rows[block, :], weight, after))
                elif sums:
                    old, new = items(xp, before, moved), items(xp, after, moved)
                    found.append(self.differences(moved + block.start, old, new))
            return _added(found), changed

        done = in_parts(self.rows, share, parts)
        changed = n if self.changed > 1 else sum(count for _, count in done)
        if sums:
            start = self.nothing if anew else self._sums
            self._sums = _without_remainder(_added([start, *(found for found, _ in done)]))
            self.changed = changed / n
            self.moving = self.changed > UNSETTLED
        return self._sums, changed

    def _keep(self) -> None:
        """Make room for bounds, none of which holds yet."""
        xp, n = self.xp, self.rows.shape[0]
        self.square = xp.empty(n, **self.place)
        parts = min(workers(self.rows), len(self.tiles))

        def squares(part: int) -> None:
            for tile in self.tiles[part::parts]:
                self.square[tile] = row_dot(xp, self.rows[tile, :-1], self.rows[tile, :-1])

        in_parts(self.rows, squares, parts)
        self.radius = float(xp.max(self.square)) ** 0.5
        self.gap = xp.full(n, -math.inf, **self.place)
        self.upper = xp.zeros(n, **self.place)

    def scoring(self, centers: Host) -> tuple[Array, Host, Host]:
        """Return (−2c, ‖c‖²) of each centre, the centres as rounded to the dtype of the samples, and their squares."""
        rounded = self.xp.asarray(centers, **self.place)
        exact = HOST.astype(to_host(rounded), HOST.float64)
        squares = HOST.sum(exact * exact, axis=1)
        column = self.xp.asarray(squares, **self.place)[:, None]
        return self.xp.concat([-2.0 * rounded, column], axis=1), exact, squares

    def _sums_of(self, rows: Array, weight: Array | None, labels: Array) -> Sums:
        """Return the sums of some rows, which have a one behind them."""
        if weight is not None:
            rows = rows * weight[:, None]
        total = sum_rows(rows, labels, self.k)
        members = total[:, -1]
        if weight is not None:
            members = sum_rows(self.xp.astype(weight > 0, rows.dtype)[:, None], labels, self.k)[:, 0]
        return Sums(total[:, :-1], total[:, -1], members)

    def differences(self, index: Array, old: Array, new: Array) -> Sums:
        """Return what the sums change by when the samples at some positions change from old labels to new ones."""
        xp, found = self.xp, [self.nothing]
        step = max(1024, (1 << 18) // self.rows.shape[1])  # rows whose copies stay in cache
        for part in _slices(0, index.shape[0], step):
            rows = items(xp, self.rows, index[part])
            weight = None if self.weight is None else items(xp, self.weight, index[part])
            lost = self._sums_of(rows, weight, old[part])
            found += [self._sums_of(rows, weight, new[part]), Sums(*(-x for x in lost))]
        return _added(found)

    def inertia(self) -> float:
        """Σ w · squared distance by the labels and the centres of the last pass: no distance is a difference."""
        xp = self.xp
        centers = xp.asarray(self.centers, **self.place)
        step = max(1024, (1 << 18) // self.rows.shape[1])  # rows whose temporaries stay in cache
        tiles = _slices(0, self.rows.shape[0], step)

        def lost(part: int) -> float:
            total = 0.0
            for tile in tiles[part::parts]:
                difference = self.rows[tile, :-1] - items(xp, centers, self.labels[tile])
                squared = row_dot(xp, difference, difference)
                total += float(xp.sum(squared if self.weight is None else squared * self.weight[tile]))
            return total

        parts = min(workers(self.rows), len(tiles))
        return sum(in_parts(self.rows, lost, parts))

    def table(self, values: Host) -> Array:
        """A number for each centre in the dtype of the samples, rounded up."""
        return self.xp.asarray(values * (1 + 2 * self.eps), **self.place)


class _Pass:
    """What one pass over the samples needs: the centres, and how far they moved since the last one."""

    def __init__(self, samples: Bounded, centers: Host, *, keeps: bool):
        self.of, self.xp, self.keeps = samples, samples.xp, keeps
        self.centers, exact, squares = samples.scoring(centers)
        # What a computed squared distance may be off by: rounding of the product and of the squares.
        scale = samples.radius + float(HOST.max(squares)) ** 0.5
        self.error = (samples.rows.shape[1] + 8) * samples.eps * scale * scale
        self.far: Host | None = None
        self.far_centers: Array = None
        self.far_names: Array = None
        moved = HOST.sqrt(HOST.sum((exact - samples.centers) ** 2, axis=1))
        order = HOST.argsort(-moved, stable=True)
        # The largest of the others: the second largest for the one that moved farthest.
        most = HOST.full(moved.shape[0], moved[order[0]])
        most[order[0]] = moved[order[1]] if moved.shape[0] > 1 else 0.0
        samples.own, samples.other, samples.centers = samples.own + moved, samples.other + most, exact
        self.own, self.other = samples.table(samples.own), samples.table(samples.other)
        self.drift = self.own + self.other
        # Beside which the gaps are rounded.
        self.slack = 16 * samples.eps * (scale + float(HOST.max(samples.own + samples.other)))
        self.most = self.xp.asarray(most * (1 - samples.eps), **samples.place)
        self._choose(moved, order)

    def _choose(self, moved: Host, order: Host) -> None:
        """Guess on a few samples how many of the centres that moved farthest are best looked at first, if any."""
        of, xp, k = self.of, self.xp, self.of.k
        n, width = of.rows.shape
        if n < 4 * SAMPLE or k <= FEW_CENTERS or not self.keeps:
            return
        every = slice(0, n, n // SAMPLE)
        labels = of.labels[every]
        index = indices_of(xp, of.gap[every] <= items(xp, self.drift, labels))
        if index.shape[0] == 0:
            return
        rows = items(xp, of.rows[every, :], index)
        labels, square = items(xp, labels, index), items(xp, of.square[every], index)
        upper = self._upper_of(rows, labels, square)
        room = to_host(
            self._lower_of_rest(labels, items(xp, of.gap[every], index), items(xp, of.upper[every], index)) - upper
        )
        # Nanoseconds a row, measured on one core: per centre looked at, for all of them, for the own one.
        each = width / 20 + 0.4
        whole, own = 40 + k * each, 40 + width
        best = whole
        f = 0
        while f <= k // 2:
            cost = own + f * each + whole * float(HOST.mean(HOST.astype(room <= moved[order[f]], HOST.float64)))
            if cost < best:
                best, self.far = cost, order[:f]
                self.rest = float(moved[order[f]]) * (1 + 1e-6)
            f = max(1, 2 * f)
        if self.far is not None:
            self.far_centers = items(xp, self.centers, self._ship(self.far))
            self.far_names = self._ship(self.far)

    def _ship(self, index: Host) -> Array:
        return self.xp.asarray(index, dtype=self.of.labels.dtype, device=self.of.place["device"])

    def _upper_of(self, rows: Array, labels: Array, square: Array) -> Array:
        score = row_dot(self.xp, rows, items(self.xp, self.centers, labels))
        return self._above(score + square)

    def _above(self, square: Array) -> Array:
        return self.xp.sqrt(self.xp.maximum(square, self.xp.zeros_like(square)) + self.error)

    def _below(self, square: Array) -> Array:
        square = square - self.error
        return self.xp.sqrt(self.xp.maximum(square, self.xp.zeros_like(square)))

    def _lower_of_rest(self, labels: Array, gap: Array, upper: Array) -> Array:
        """The lower bound as if no other centre had moved in this pass."""
        table = self.most - self.other
        return gap + upper + items(self.xp, table, labels) - self.slack

    def over(self, tiles: list[slice]) -> tuple[Sums, int]:
        """Bring the samples of some tiles up to date; return what their sums change by, and how many samples did."""
        of, xp = self.of, self.xp
        room = Scratch(xp, of.rows, of.tile * of.k)
        moves = [move for tile in tiles if (move := self._tile(tile, room)) is not None]
        if not moves:
            return of.nothing, 0
        index, old, new = (xp.concat(list(part)) for part in zip(*moves, strict=True))
        return of.differences(index, old, new), index.shape[0]

    def _tile(self, tile: slice, room: Scratch) -> tuple[Array, Array, Array] | None:
        """Bring a tile up to date; return the samples that changed, their old and their new labels."""
        of, xp = self.of, self.xp
        labels, gap, upper, square, rows = (x[tile, ...] for x in (of.labels, of.gap, of.upper, of.square, of.rows))
        index = indices_of(xp, gap <= items(xp, self.drift, labels))
        if index.shape[0] == 0:
            return None
        if index.shape[0] > NEARLY_ALL * labels.shape[0]:
            index = None
        if self.far is not None:
            index = self._unsettled(index, labels, gap, upper, square, rows, room)
            if index.shape[0] == 0:
                return None
        if index is not None:
            rows, square, before = items(xp, rows, index), items(xp, square, index), items(xp, labels, index)
        else:
            before = labels
        if self.keeps:
            after, least, next_ = _two_closest(xp, rows, self.centers, room)
            u, low = self._above(least + square), self._below(next_ + square)
            own, drift = items(xp, self.own, after), items(xp, self.drift, after)
            _store(xp, gap, index, low - u + drift - self.slack)
            _store(xp, upper, index, u - own)
        else:
            after = _closest(xp, rows, self.centers, room)
            _store(xp, gap, index, -math.inf)
        changed = indices_of(xp, after != before)
        if changed.shape[0] == 0:
            return None
        where = changed if index is None else items(xp, index, changed)
        old, new = items(xp, before, changed), items(xp, after, changed)
        put(xp, labels, where, new)
        return where + tile.start, old, new

    def _unsettled(
        self, index: Array | None, labels: Array, gap: Array, upper: Array, square: Array, rows: Array, room: Scratch
    ) -> Array:
        """Of the samples that may have changed, those of which the own centre and the far ones do not settle it."""
        xp = self.xp
        if index is not None:
            labels, square, rows = items(xp, labels, index), items(xp, square, index), items(xp, rows, index)
            before = items(xp, gap, index), items(xp, upper, index)
        else:
            before = gap, upper
        u = self._upper_of(rows, labels, square)
        low = self._lower_of_rest(labels, *before) - self.rest
        if self.far_names.shape[0]:
            scores = room.product(self.far_centers, rows.T)
            scores = xp.where(self.far_names[:, None] == labels[None, :], xp.full_like(scores, math.inf), scores)
            low = xp.minimum(low, self._below(xp.min(scores, axis=0) + square))
        settled = low > u
        done = indices_of(xp, settled)
        own, drift = items(xp, self.own, labels), items(xp, self.drift, labels)
        where = done if index is None else items(xp, index, done)
        put(xp, gap, where, items(xp, low - u + drift - self.slack, done))
        put(xp, upper, where, items(xp, u - own, done))
        left = indices_of(xp, ~settled)
        return left if index is None else items(xp, index, left)


def _closest(xp: Namespace, rows: Array, table: Array, room: Scratch) -> Array:
    """The closest centre of each row, ties to the lowest number."""
    if table.shape[0] <= FEW_CENTERS:
        return lowest_down(xp, room.product(table, rows.T))[0]
    return xp.argmin(room.product(rows, table.T), axis=1)


def _two_closest(xp: Namespace, rows: Array, table: Array, room: Scratch) -> tuple[Array, Array, Array]:
    """The closest centre of each row, ties to the lowest number, its score ‖c‖² − 2x·c, and the next one."""
    if table.shape[0] <= FEW_CENTERS:
        return two_lowest_down(xp, room.product(table, rows.T))
    return two_lowest(xp, room.product(rows, table.T))


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(at, min(at + step, stop)) for at in range(start, stop, step)]


def _added(found: list[Sums]) -> Sums:
    return Sums(*(functools.reduce(operator.add, parts) for parts in zip(*found, strict=True)))


def _without_remainder(found: Sums) -> Sums:
    """Sums of which those of empty clusters are 0: differences left rounding there."""
    empty, zero = found.members == 0, HOST.asarray(0.0)
    sums, weights = HOST.where(empty[:, None], zero, found.sums), HOST.where(empty, zero, found.weights)
    return found._replace(sums=sums, weights=weights)


def _store(xp: Namespace, x: Array, index: Array | None, values: Array | float) -> None:
    if index is None:
        x[...] = values
    else:
        put(xp, x, index, values)
