"""Lloyd's iteration that compares only samples whose centre may have changed. The result is exact.

Each sample has an upper bound u on the distance to its own centre, and a lower bound l on the distance to any other
centre. When the centres move by p_j, u grows by p of the own centre and l falls by the largest p of the others [1]_.
While l > u the label cannot change. Both bounds change by sums over passes that depend on the label a alone,

    own_a = Σ p_a,    other_a = Σ max_{j≠a} p_j.

So each sample stores `gap` = l − u + own_a + other_a and `upper` = u − own_a, by the sums at the time of its last
comparison. A later pass reads one number per sample: the label may have changed if gap ≤ own_a + other_a. For many of
these samples, distances to their own centre and to the few centres that moved farthest are enough to prove that it has
not, because all other centres moved less [2]_.

References
----------
.. [1] Hamerly, Making k-means even faster, SDM 2010, section 3.
.. [2] After Ding et al., Yinyang K-Means, ICML 2015, section 3.2, with two groups, chosen in each pass.
"""

import math
from typing import Any

import numpy as np

from ..._array.host import Host
from ..._array.nearest import row_dot
from ..._array.threads import in_parts, workers
from .nearest import FEW_CENTERS, Scratch, closest, two_closest
from .sums import CenterSums, Totals, added, no_sums, sum_by_label, without_remainder

# Numbers in rows and scores above which samples are split over threads. Below it, threads would wait for the
# interpreter longer than they compute, and only BLAS uses all cores.
WORTH_CORES = 1 << 23
# Bytes of a tile's scores. Smaller tiles would fit a faster cache, but threads contend for the interpreter, whose calls
# then cost more than memory: a quarter of this was 1.5 times slower at 1M × 16, k = 64, and at 1M × 2, k = 9.
SCORES, MOST_SCORES = 1 << 22, 1 << 24
MOST_ROWS, FEW_ROWS = 1 << 16, 1 << 10
# Rows that tiles are shorter than a power of two: scores of a sample at strides of a power of two compete for the same
# cache lines, and the product took 1.7 times as long.
OFF_BEAT = 48
# Numbers per centre that are summed in one call: a call for few takes as long as one for many.
SUMMED = 1 << 14
# Numbers in copied rows: how many stay in cache, and the most that are copied at once.
COPIED, MOST_COPIED = 1 << 18, 1 << 22
# Samples whose bounds are read at once.
SAMPLES_AT_ONCE = 1 << 20
# If more than this share of a block may have changed, all its rows are compared: gathering some would cost as much.
NEARLY_ALL = 0.75
# While more than this share of the labels changes per pass, bounds would exclude almost nothing.
UNSETTLED = 0.15
# If more than this share of the labels changed in the last pass, sums are recomputed; otherwise the changed samples are
# subtracted from the sums of the old centre and added to the sums of the new one.
MOST_CHANGED = 0.5
# Samples from which a pass estimates how many may have changed.
ESTIMATE = 1 << 13


class Bounded:
    """Samples, their closest centres, and bounds on how far centres can move before a label may change.

    While many samples change their centre from pass to pass, each pass compares all samples with all centres. Bounds
    are kept as soon as few do. The twin of :class:`~anyops._host.cluster.passes.Compared` for NumPy arrays.
    """

    def __init__(self, rows: Host, weight: Host | None, k: int):
        """Take samples near 0 with a column of ones, (n, d + 1): the product with (−2c, ‖c‖²) is ‖c‖² − 2x·c."""
        n, width = rows.shape
        self.rows, self.weight, self.k = rows, weight, k
        self.eps = float(np.finfo(rows.dtype).eps)
        row_bytes = k * rows.itemsize
        most = max(min(MOST_ROWS, SCORES // row_bytes), min(FEW_ROWS, MOST_SCORES // row_bytes), 16)
        if k <= FEW_CENTERS:
            most = max(most - OFF_BEAT, 16)
        self.parts = min(workers(rows), -(-n // most)) if n * max(width + k, 64) > WORTH_CORES else 1
        self.tiles = _slices(0, n, most, self.parts)
        self.tile = self.tiles[0].stop
        self.labels = np.zeros(n, np.int64)
        self.centers = np.zeros((k, width - 1))  # of the last pass, rounded to the dtype of the samples
        self.changed = math.inf  # number of labels that changed in the last pass; infinite before the first
        self.moving = True  # whether too many labels still change for bounds to help
        self.square: Any = None  # ‖x‖² of each sample, and its bounds, once they are kept
        self.gap: Any = None
        self.upper: Any = None
        self.radius = 0.0
        self.own, self.other = np.zeros(k), np.zeros(k)
        self.nothing = no_sums(k, width - 1)
        self._sums = self.nothing

    def assign_and_sum(self, centers: Host) -> Totals:
        """Assign each sample to the closest of (k, d) centres; return the sums, and whether all labels repeat."""
        sums = self._compare_all(centers) if self.moving else [self._sums, *self._compare_some(centers, keeps=True)]
        self._sums = without_remainder(added(sums))
        return Totals(self._sums.sums, self._sums.weights, repeats=self.changed == 0)

    def assign(self, centers: Host) -> Host:
        """Return the index of the closest centre of each sample. Only :meth:`assign` may be called afterwards."""
        if self.moving:
            table, self.centers, _ = self.scoring(centers)

            def share(part: int) -> None:
                scratch = Scratch(self.rows.dtype, self.tile * self.k)
                for tile in self.tiles[part :: self.parts]:
                    self.labels[tile] = closest(self.rows[tile, :], table, scratch)

            in_parts(self.rows, share, self.parts)
        else:
            self._compare_some(centers, keeps=False)
        return self.labels

    def inertia(self) -> float:
        """Σ w · squared distance by the labels and centres of the last pass, computed from x − c."""
        centers = self.centers.astype(self.rows.dtype)
        tiles = _slices(0, self.rows.shape[0], self._rows_copied())

        def lost(part: int) -> float:
            total = 0.0
            for tile in tiles[part :: self.parts]:
                difference = self.rows[tile, :-1] - centers.take(self.labels[tile], axis=0)
                squared = row_dot(np, difference, difference)
                total += float(np.sum(squared if self.weight is None else squared * self.weight[tile]))
            return total

        return sum(in_parts(self.rows, lost, self.parts))

    # --- comparison of all samples ---

    def _compare_all(self, centers: Host) -> list[CenterSums]:
        """Label all samples; return the terms of the new sums."""
        n, width = self.rows.shape
        table, self.centers, _ = self.scoring(centers)
        anew = self.changed > MOST_CHANGED * n
        first = self.changed == math.inf
        most = max(self.tile, min(SUMMED * self.k, MOST_COPIED) // width)

        def share(part: int) -> tuple[list[CenterSums], int]:
            scratch, found, changed = Scratch(self.rows.dtype, self.tile * self.k), [self.nothing], 0
            for block in _slices(*self._share(part), most):
                after = self.labels[block]
                before = after.copy()
                for tile in _slices(block.start, block.stop, self.tile):
                    self.labels[tile] = closest(self.rows[tile, :], table, scratch)
                if anew:
                    changed += int(np.count_nonzero(after != before))
                    found.append(self._sums_of(self.rows[block, :], self._weight_of(block), after))
                else:
                    moved = np.flatnonzero(after != before)
                    changed += moved.shape[0]
                    found.append(self.differences(moved + block.start, before[moved], after[moved]))
            return found, changed

        done = in_parts(self.rows, share, self.parts)
        self.changed = n if first else sum(count for _, count in done)
        self.moving = self.changed > UNSETTLED * n
        return [self.nothing if anew else self._sums, *(sums for found, _ in done for sums in found)]

    def scoring(self, centers: Host) -> tuple[Host, Host, Host]:
        """Return (−2c, ‖c‖²) of each centre, the centres rounded to the dtype of the samples, and their ‖c‖²."""
        rounded = centers.astype(self.rows.dtype)
        exact = rounded.astype(np.float64)
        squares = np.sum(exact * exact, axis=1)
        return np.concat([-2.0 * rounded, squares.astype(rounded.dtype)[:, None]], axis=1), exact, squares

    def _sums_of(self, rows: Host, weight: Host | None, labels: Host) -> CenterSums:
        """Return the sums of rows that end in a one."""
        if weight is None:
            total = sum_by_label(rows, labels, self.k)
            return CenterSums(total[:, :-1], total[:, -1], total[:, -1])
        total = sum_by_label(rows * weight[:, None], labels, self.k)
        return CenterSums(total[:, :-1], total[:, -1], np.bincount(labels, weight > 0, self.k))

    def differences(self, index: Host, old: Host, new: Host) -> CenterSums:
        """Return the change of the sums when some samples change from old labels to new ones."""
        found = [self.nothing]
        for part in _slices(0, index.shape[0], self._rows_copied()):
            rows, weight = self.rows_at(index[part]), self._weight_of(index[part])
            lost = self._sums_of(rows, weight, old[part])
            found += [self._sums_of(rows, weight, new[part]), CenterSums(*(-x for x in lost))]
        return added(found)

    def _weight_of(self, samples: Host | slice) -> Host | None:
        return None if self.weight is None else self.weight[samples]

    def rows_at(self, place: Any) -> Host:
        """Rows of samples, by indices or a slice."""
        return self.rows[place, :] if isinstance(place, slice) else self.rows.take(place, axis=0)

    def _share(self, part: int) -> tuple[int, int]:
        n = self.rows.shape[0]
        return n * part // self.parts, n * (part + 1) // self.parts

    def _rows_copied(self) -> int:
        return max(1024, COPIED // self.rows.shape[1])

    # --- comparison of samples whose label may have changed ---

    def _compare_some(self, centers: Host, *, keeps: bool) -> list[CenterSums]:
        """Relabel the samples whose label may have changed; return the changes of the sums."""
        if self.square is None:
            self._allocate_bounds()
        look = _Pass(self, centers, keeps=keeps)
        done = in_parts(self.rows, lambda part: look.over(*self._share(part)), self.parts)
        self.changed = sum(count for _, count in done)
        return [sums for sums, _ in done]

    def _allocate_bounds(self) -> None:
        """Allocate the bounds; none is known yet."""
        n, dtype = self.rows.shape[0], self.rows.dtype
        self.square = np.empty(n, dtype)

        def squares(part: int) -> None:
            for tile in self.tiles[part :: self.parts]:
                self.square[tile] = row_dot(np, self.rows[tile, :-1], self.rows[tile, :-1])

        in_parts(self.rows, squares, self.parts)
        self.radius = float(np.max(self.square)) ** 0.5
        self.gap, self.upper = np.full(n, -math.inf, dtype), np.zeros(n, dtype)

    def by_center(self, values: Host) -> Host:
        """Values per centre in the dtype of the samples, rounded up."""
        return (values * (1 + 2 * self.eps)).astype(self.rows.dtype)


class _Pass:
    """One pass over the samples: the centres, and how far they moved since the last one."""

    def __init__(self, samples: Bounded, centers: Host, *, keeps: bool):
        self.of, self.keeps, self.dtype = samples, keeps, samples.rows.dtype
        self.table, exact, squares = samples.scoring(centers)
        # Rounding error of a squared distance, from the product and the squares.
        scale = samples.radius + float(np.max(squares)) ** 0.5
        self.error = (samples.rows.shape[1] + 8) * samples.eps * scale * scale
        moved = np.sqrt(np.sum((exact - samples.centers) ** 2, axis=1))
        order = np.argsort(-moved, stable=True)
        # The farthest movement of any other centre: the second farthest for the centre that moved farthest.
        most = np.full(moved.shape[0], moved[order[0]])
        most[order[0]] = moved[order[1]] if moved.shape[0] > 1 else 0.0
        samples.own, samples.other, samples.centers = samples.own + moved, samples.other + most, exact
        self.own, self.other = samples.by_center(samples.own), samples.by_center(samples.other)
        self.drift = self.own + self.other
        # Rounding error of the gaps.
        self.slack = 16 * samples.eps * (scale + float(np.max(samples.own + samples.other)))
        self.most = (most * (1 - samples.eps)).astype(self.dtype)
        self.far: Any = None  # the centres that moved farthest, if they are checked first
        self._choose(moved, order)

    def _choose(self, moved: Host, order: Host) -> None:
        """Estimate from a sample how many of the farthest-moving centres to check first."""
        of, k = self.of, self.of.k
        n, width = of.rows.shape
        if n < 4 * ESTIMATE or k <= FEW_CENTERS or not self.keeps:
            return
        every = slice(0, n, n // ESTIMATE)
        labels = of.labels[every]
        index = np.flatnonzero(of.gap[every] <= self.drift.take(labels))
        if index.shape[0] == 0:
            return
        labels = labels[index]
        upper = self._upper_of(of.rows[every, :].take(index, axis=0), labels, of.square[every][index])
        room = self._lower_of_rest(labels, of.gap[every][index], of.upper[every][index]) - upper
        # Nanoseconds per row, measured on one core: for each centre, for all centres, for the own centre.
        each = width / 20 + 0.4
        whole, own = 40 + k * each, 40 + width
        best, f = whole, 0
        while f <= k // 2:
            cost = own + f * each + whole * float(np.mean(room <= moved[order[f]]))
            if cost < best:
                best, self.far = cost, order[:f]
                self.rest = float(moved[order[f]]) * (1 + 1e-6)
            f = max(1, 2 * f)
        if self.far is not None:
            self.far_table = self.table.take(self.far, axis=0)

    def _upper_of(self, rows: Host, labels: Host, square: Host) -> Host:
        return self._above(row_dot(np, rows, self.table.take(labels, axis=0)) + square)

    def _above(self, square: Host) -> Host:
        return np.sqrt(np.maximum(square, 0.0) + self.error)

    def _below(self, square: Host) -> Host:
        return np.sqrt(np.maximum(square - self.error, 0.0))

    def _lower_of_rest(self, labels: Host, gap: Host, upper: Host) -> Host:
        """The lower bound before the centres moved in this pass."""
        return gap + upper + (self.most - self.other).take(labels) - self.slack

    def over(self, start: int, stop: int) -> tuple[CenterSums, int]:
        """Relabel a range of samples; return the change of the sums, and how many labels changed."""
        of, scratch = self.of, Scratch(self.dtype, self.of.tile * self.of.k)
        moves = []
        for block in _slices(start, stop, SAMPLES_AT_ONCE):
            doubtful = np.flatnonzero(of.gap[block] <= self.drift.take(of.labels[block]))
            places: list[Any]
            if doubtful.shape[0] > NEARLY_ALL * (block.stop - block.start):
                places = _slices(block.start, block.stop, of.tile)
            else:
                doubtful += block.start
                places = [doubtful[part] for part in _slices(0, doubtful.shape[0], of.tile)]
            moves += [self._relabel(place, scratch) for place in places]
        index, old, new = (
            (np.concat(part) for part in zip(*moves, strict=True)) if moves else [np.zeros(0, np.int64)] * 3
        )
        return of.differences(index, old, new) if self.keeps else of.nothing, index.shape[0]

    def _relabel(self, place: Any, scratch: Scratch) -> tuple[Host, Host, Host]:
        """Compare samples (indices or a slice) with all centres; return changed indices, old and new labels."""
        of = self.of
        if self.far is not None:
            place = self._unsettled(place, scratch)
        rows, before = of.rows_at(place), of.labels[place]
        if self.keeps:
            square = of.square[place]
            after, least, next_ = two_closest(rows, self.table, scratch)
            u, low = self._above(least + square), self._below(next_ + square)
            of.gap[place] = low - u + self.drift.take(after) - self.slack
            of.upper[place] = u - self.own.take(after)
        else:
            after = closest(rows, self.table, scratch)
            of.gap[place] = -math.inf
        changed = np.flatnonzero(after != before)
        old, new = before[changed], after[changed]
        where = _indices(place, changed)
        of.labels[where] = new
        return where, old, new

    def _unsettled(self, place: Any, scratch: Scratch) -> Host:
        """Return the samples whose label may change according to their own centre and the `far` centres."""
        of = self.of
        rows, labels, square = of.rows_at(place), of.labels[place], of.square[place]
        u = self._upper_of(rows, labels, square)
        low = self._lower_of_rest(labels, of.gap[place], of.upper[place]) - self.rest
        if self.far.shape[0]:
            scores = scratch.product(self.far_table, rows.T)
            np.copyto(scores, math.inf, where=self.far[:, None] == labels)
            low = np.minimum(low, self._below(np.min(scores, axis=0) + square))
        settled = low > u
        done = np.flatnonzero(settled)
        labels, where = labels[done], _indices(place, done)
        of.gap[where] = (low - u)[done] + self.drift.take(labels) - self.slack
        of.upper[where] = u[done] - self.own.take(labels)
        return _indices(place, np.flatnonzero(~settled))


def _indices(place: Any, index: Host) -> Host:
    """Sample indices at some positions in an array of sample indices, or in a slice."""
    found: Host = index + place.start if isinstance(place, slice) else place[index]
    return found


def _slices(start: int, stop: int, most: int, multiple: int = 1) -> list[slice]:
    """Cut a range into equal slices of at most `most`; their count is a multiple of `multiple`, or nearly."""
    count = -(-(stop - start) // (most * multiple)) * multiple
    step = max(1, -(-(stop - start) // max(count, 1)))
    return [slice(at, min(at + step, stop)) for at in range(start, stop, step)]
