"""Several scenes in one call of the index form: boxes of different scenes do not interact."""

from .._array.labels import labels_on_host
from .._array.mode import Mode
from .._array.namespace import Array, device
from .._array.selection import indices_of
from .._host import labels as host


def in_scenes(mode: Mode, scenes: Array, labels: Array | None) -> Array:
    """Labels that differ between scenes: numbers of the (scene, label) pairs.

    `scenes` are integers of the index dtype, on the host if arrays are padded.
    """
    if mode.host:
        return scenes if labels is None else host.paired(scenes, labels)
    if mode.padded:
        numbers = scenes if labels is None else host.paired(scenes, labels_on_host(labels))
        return mode.back(numbers)
    return scenes if labels is None else mode.run(_paired, scenes, labels)


def _paired(mode: Mode, scenes: Array, labels: Array) -> Array:
    xp = mode.xp
    order = xp.argsort(labels, stable=True)
    order = xp.take(order, xp.argsort(xp.take(scenes, order), stable=True))
    scenes, labels = xp.take(scenes, order), xp.take(labels, order)
    place = xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    before = xp.maximum(place - 1, xp.zeros_like(place))
    begins = (scenes != xp.take(scenes, before)) | (labels != xp.take(labels, before))
    return xp.take(xp.cumulative_sum(xp.astype(begins, order.dtype)), xp.argsort(order))


def first_of_each(mode: Mode, scenes: Array, limit: int) -> Array | None:
    """Positions of the first `limit` items of each scene, ascending; None if these are all items."""
    if mode.host or mode.padded:
        return host.first_of_each(scenes, limit)
    xp, order = mode.xp, mode.xp.argsort(scenes, stable=True)
    scenes = xp.take(scenes, order)
    place = xp.arange(order.shape[0], dtype=order.dtype, device=device(order))
    first = xp.searchsorted(scenes, scenes, side="left")
    return xp.sort(xp.take(order, indices_of(xp, place - first < limit)))
