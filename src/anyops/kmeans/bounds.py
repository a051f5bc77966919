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

import math
from typing import NamedTuple

from .._array.backends import to_host
from .._array.host import HOST, Host
from .._array.namespace import Array, Namespace, default_int, device
from .._array.nearest import Scratch, own_and_rest, put, row_dot, two_lowest
from .._array.segments import sum_rows
from .._array.selection import indices_of, items
from .._array.threads import in_parts, workers

# Bytes of the scores of a tile. Smaller ones would fit a closer cache, but threads take turns at the interpreter, and
# its calls then cost more than memory: a quarter of this was 1.5 times slower at 1M × 16, k = 64, and at 1M × 2, k = 9.
CACHE, MOST_BYTES = 1 << 22, 1 << 24
ROWS, FEW_ROWS = 1 << 16, 1 << 10
# With more centres the products take so long that to look at the own centre first, in the other layout, gains nothing;
# with fewer they take so little time that to look at some centres first gains nothing.
OWN_FIRST = 128
# A tile of which more than this share may have changed is computed whole: to gather its rows would cost as much.
NEARLY_ALL = 0.75
# While more than this share of the samples changes from pass to pass, bounds would settle next to nothing.
UNSETTLED = 0.15
# Samples from which a pass guesses how many may have changed.
SAMPLE = 1 << 13


class Sums(NamedTuple):
    """Of the samples of each centre, on the host in float64."""

    sums: Host  # (k, d) Σ w x
    weights: Host  # (k,) Σ w
    members: Host  # (k,) how many have a positive weight


def with_one(xp: Namespace, x: Array) -> Array:
    """Samples (n, d) with a one behind each: one product with (c, ‖c‖²) gives ‖c‖² − 2x·c."""
    n, d = x.shape
    rows = xp.ones((n, d + 1), dtype=x.dtype, device=device(x))
    rows[:, :d] = x
    return rows


class Bounded:
    """Samples (n, d) that know which centre is closest to them, and for how long that is certain."""

    def __init__(self, xp: Namespace, rows: Array, weight: Array | None, k: int):
        """Take (n, d + 1) of :func:`with_one`, around 0."""
        n, d = rows.shape[0], rows.shape[1] - 1
        self.xp, self.rows, self.weight, self.k = xp, rows, weight, k
        self.place = {"dtype": rows.dtype, "device": device(rows)}
        self.eps = float(xp.finfo(rows.dtype).eps)
        row_bytes = k * xp.finfo(rows.dtype).bits // 8
        self.tile = max(min(ROWS, CACHE // row_bytes), min(FEW_ROWS, MOST_BYTES // row_bytes), 16)
        self.tiles = [slice(start, min(start + self.tile, n)) for start in range(0, n, self.tile)]
        self.square = xp.empty(n, **self.place)
        parts = min(workers(rows), len(self.tiles))

        def squares(part: int) -> None:
            for tile in self.tiles[part::parts]:
                self.square[tile] = row_dot(xp, self.rows[tile, :d], self.rows[tile, :d])

        in_parts(rows, squares, parts)
        self.labels = xp.zeros(n, dtype=default_int(xp, rows), device=device(rows))
        self.gap = xp.full(n, -math.inf, **self.place)
        self.upper = xp.zeros(n, **self.place)
        self.radius = float(xp.max(self.square)) ** 0.5
        self.centers: Host | None = None  # of the last pass, as rounded to the dtype of the samples
        self.own, self.other = HOST.zeros(k), HOST.zeros(k)
        self.moving = True  # whether so many samples still change that bounds are not kept yet
        self._sums = Sums(HOST.zeros((k, d)), HOST.zeros(k), HOST.zeros(k))

    def update(self, centers: Host, *, last: bool = False) -> tuple[Sums, int]:
        """Give each sample the closest of (k, d) centres; return the sums, and how many samples changed.

        A pass that is the last one leaves no bounds for another.
        """
        look = _Pass(self, centers, keeps=not (self.moving or last))
        parts = min(workers(self.rows), len(self.tiles))
        for delta in (done := in_parts(self.rows, lambda part: look.over(self.tiles[part::parts]), parts)):
            self._sums = Sums(*(a + b for a, b in zip(self._sums, delta[0], strict=True)))
        empty = self._sums.members == 0  # rounding must leave no remainder
        zero = HOST.asarray(0.0)
        self._sums = self._sums._replace(
            sums=HOST.where(empty[:, None], zero, self._sums.sums), weights=HOST.where(empty, zero, self._sums.weights)
        )
        changed = sum(count for _, count in done)
        self.moving = self.moving and changed > UNSETTLED * self.rows.shape[0]
        return self._sums, changed

    def inertia(self) -> float:
        """Σ w · squared distance by the labels and the centres of the last pass: no distance is a difference."""
        xp = self.xp
        centers = xp.asarray(self.centers, **self.place)
        step = max(1024, (1 << 18) // self.rows.shape[1])  # rows whose temporaries stay in cache
        n = self.rows.shape[0]
        tiles = [slice(start, min(start + step, n)) for start in range(0, n, step)]

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
        self.keeps = keeps
        xp, place = samples.xp, samples.place
        self.of, self.xp = samples, xp
        rounded = xp.asarray(centers, **place)
        exact = HOST.astype(to_host(rounded), HOST.float64)
        squares = HOST.sum(exact * exact, axis=1)
        self.centers = xp.concat([-2.0 * rounded, xp.asarray(squares, **place)[:, None]], axis=1)
        # What a computed squared distance may be off by: rounding of the product and of the squares.
        scale = samples.radius + float(HOST.max(squares)) ** 0.5
        self.error = (samples.rows.shape[1] + 8) * samples.eps * scale * scale
        self.first = samples.centers is None
        self.far: Host | None = None
        self.far_centers: Array = None
        self.far_names: Array = None
        if not self.first:
            moved = HOST.sqrt(HOST.sum((exact - samples.centers) ** 2, axis=1))
            order = HOST.argsort(-moved, stable=True)
            # The largest of the others: the second largest for the one that moved farthest.
            most = HOST.full(moved.shape[0], moved[order[0]])
            most[order[0]] = moved[order[1]] if moved.shape[0] > 1 else 0.0
            samples.own, samples.other = samples.own + moved, samples.other + most
        samples.centers = exact
        self.own, self.other = samples.table(samples.own), samples.table(samples.other)
        self.drift = self.own + self.other
        # Beside which the gaps are rounded.
        self.slack = 16 * samples.eps * (scale + float(HOST.max(samples.own + samples.other)))
        if not self.first:
            self.most = xp.asarray(most * (1 - samples.eps), **place)
            self._choose(moved, order)

    def _choose(self, moved: Host, order: Host) -> None:
        """Guess on a few samples how many of the centres that moved farthest are best looked at first, if any."""
        of, xp, k = self.of, self.xp, self.of.k
        n, width = of.rows.shape
        if n < 4 * SAMPLE or k <= OWN_FIRST or not self.keeps:
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
        k, d = of.k, of.rows.shape[1] - 1
        total = HOST.zeros((k, d + 1))
        members = HOST.zeros((k, 1))
        if not moves:
            return Sums(total[:, :d], total[:, d], members[:, 0]), 0
        index, old, new = (xp.concat(list(part)) for part in zip(*moves, strict=True))
        step = max(1024, (1 << 18) // (d + 1))
        for start in range(0, index.shape[0], step):
            part = slice(start, min(start + step, index.shape[0]))
            rows = items(xp, of.rows, index[part])
            there = rows[:, d:]
            if of.weight is not None:
                weight = items(xp, of.weight, index[part])[:, None]
                rows, there = rows * weight, xp.astype(weight > 0, rows.dtype)
            for labels, sign in ((new, 1), *(() if self.first else ((old, -1),))):
                total = total + sign * sum_rows(rows, labels[part], k)
                if of.weight is not None:
                    members = members + sign * sum_rows(there, labels[part], k)
        if of.weight is None:
            members = total[:, d:]
        return Sums(total[:, :d], total[:, d], members[:, 0]), index.shape[0]

    def _tile(self, tile: slice, room: Scratch) -> tuple[Array, Array, Array] | None:
        """Bring a tile up to date; return the samples that changed, their old and their new labels."""
        of, xp = self.of, self.xp
        labels, gap, upper, square, rows = (x[tile, ...] for x in (of.labels, of.gap, of.upper, of.square, of.rows))
        index = None
        if not self.first:
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
            after, least, next_ = self._closest(rows, before, room)
            u, low = self._above(least + square), self._below(next_ + square)
            own, drift = items(xp, self.own, after), items(xp, self.drift, after)
            _store(xp, gap, index, low - u + drift - self.slack)
            _store(xp, upper, index, u - own)
        else:
            after = xp.argmin(room.product(rows, self.centers.T), axis=1)
            _store(xp, gap, index, -math.inf)
        changed = (
            indices_of(xp, after != before)
            if not self.first
            else xp.arange(after.shape[0], dtype=after.dtype, device=of.place["device"])
        )
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

    def _closest(self, rows: Array, labels: Array, room: Scratch) -> tuple[Array, Array, Array]:
        """Return the closest centre of each row, ties to the lowest number, its score ‖c‖² − 2x·c, and the next one."""
        xp = self.xp
        if self.first or self.of.k > OWN_FIRST:
            return two_lowest(xp, room.product(rows, self.centers.T))
        own, rest = own_and_rest(xp, room.product(self.centers, rows.T), labels)
        contested = indices_of(xp, ~(rest > own))
        if contested.shape[0] == 0:
            return labels, own, rest
        found = two_lowest(xp, room.product(items(xp, rows, contested), self.centers.T))
        labels = xp.asarray(labels, copy=True)
        for known, new in zip((labels, own, rest), found, strict=True):
            put(xp, known, contested, new)
        return labels, own, rest


def _store(xp: Namespace, x: Array, index: Array | None, values: Array | float) -> None:
    if index is None:
        x[...] = values
    else:
        put(xp, x, index, values)
