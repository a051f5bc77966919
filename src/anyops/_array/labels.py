"""Class labels of any type: numbers of any library, and text, which only NumPy supports."""

import operator
from collections.abc import Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from .backends import to_host
from .chunked import chunks_like, is_chunked, over_chunks, reduce_chunks
from .host import Host, from_host
from .namespace import Array, DType, Namespace, compute_dtype, default_int, device, library, namespace, result_dtype

COUNTED = 1 << 10  # integers in a narrower range are counted, not sorted


class Survey(NamedTuple):
    """The classes in ascending order, with the total weight and the number of samples of each."""

    classes: Host
    weights: Host
    counts: Host


def is_text(y: Any) -> bool:
    """Tell whether labels have a type that only NumPy supports: strings, bytes, objects, dates."""
    return isinstance(y, np.ndarray) and not isinstance(y, np.ma.MaskedArray) and y.dtype.kind in "OSUTMm"


def labels_on_host(y: Array) -> Host:
    """Return labels of any library as a NumPy array; bfloat16, which NumPy does not support, as float32."""
    y = y if isinstance(y, np.ndarray) else to_host(y)
    return y.astype(np.float32) if y.dtype.name == "bfloat16" else y


def stays_on_host(y: Any, x: Array) -> bool:
    """Tell whether labels stay NumPy arrays: text, and numbers that a dtype of the library of `x` would change."""
    if is_text(y):
        return True
    if not isinstance(y, np.ndarray) or isinstance(y, np.ma.MaskedArray) or y.dtype.kind not in "iuf":
        return False
    xp = namespace(x=x)
    return library(xp) not in ("numpy", "dask") and label_dtype(xp, y, x) is None


def label_dtype(xp: Namespace, y: Host, x: Array) -> DType | None:
    """Return the dtype that host labels get in the library of `x`; None for labels that stay on the host.

    Integers get the index dtype, floats the dtype that `x` is computed in. Labels that would be rounded or wrap in that
    dtype stay on the host, because different classes could become equal.
    """
    if is_text(y):
        return None
    if y.dtype.kind == "b":
        return xp.bool
    if y.dtype.kind in "iu":
        dtype = default_int(xp, x)
        limits = xp.iinfo(dtype)
        return dtype if not y.size or limits.min <= int(y.min()) <= int(y.max()) <= limits.max else None
    dtype = compute_dtype(xp, result_dtype(xp, x=x))
    with np.errstate(over="ignore"):
        rounded = y.astype(np.float32 if xp.finfo(dtype).bits == 32 else np.float64)
    return dtype if np.all((rounded == y) | np.isnan(y)) else None


def check_no_missing(y: Host, *, part: bool = False) -> None:
    """Raise ValueError if a host label is missing: None, NaN, NA or NaT.

    The message names the row, except for a `part` of an array, whose first row number is unknown.
    """
    if y.dtype.kind in "mM":
        missing = np.isnat(y)
    elif y.dtype.kind == "O":
        try:
            missing = (np.not_equal(y, y) | np.equal(y, np.asarray(None, dtype=object))).astype(bool)
        except (TypeError, ValueError):  # a comparison with pandas.NA does not return a bool
            missing = np.fromiter(map(_is_missing, y.flat), bool, y.size)
    else:
        return
    if np.any(missing):
        number = int(np.argmax(missing))
        raise _missing(y.flat[number], None if part else number)


def _missing(label: Any, number: int | None) -> ValueError:
    where = "" if number is None else f" in row {number}"
    return ValueError(f"y must have no missing labels, got {label!r}{where}")


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(operator.ne(label, label))
    except TypeError:  # `pandas.NA != pandas.NA` is NA, which has no truth value
        return True
    except ValueError:  # an array, whose shape is refused elsewhere
        return False


def plain(y: Any) -> Any:
    """Return labels of pandas as a NumPy array of the corresponding dtype; others as they are.

    Raises
    ------
    ValueError
        If a label is missing. Lists are checked too: beside text, NumPy would convert NaN to the text "nan".
    """
    if isinstance(y, list | tuple):
        for number, label in enumerate(y):
            if _is_missing(label):
                raise _missing(label, number)
    if not hasattr(y, "isna"):
        return y
    if len(y.shape) == 2:  # a data frame
        return plain(y.iloc[:, 0])[:, None] if y.shape[1] == 1 else y
    missing = np.asarray(y.isna())
    if np.any(missing):
        number = int(np.argmax(missing))
        raise _missing(np.asarray(y, dtype=object)[number], number)
    if hasattr(y.dtype, "categories"):
        return plain(y.astype(y.dtype.categories.dtype))
    own = getattr(y.dtype, "numpy_dtype", None)
    return np.asarray(y) if own is None else np.asarray(y.to_numpy(dtype=own))


def survey(xp: Namespace, y: Array, sample_weight: Array | None) -> Survey:
    """Return the classes of labels, in one pass; samples of weight 0 are ignored.

    Raises
    ------
    ValueError
        If a label is not finite, or a weight not finite and at least 0.
    """
    if not is_chunked(xp):
        return _survey(labels_on_host(y), None if sample_weight is None else to_host(sample_weight))
    if is_text(y):
        y = chunks_like(y, sample_weight) if sample_weight is not None else chunks_like(y, None)
    return reduce_chunks(_survey, _merge, 1, y, sample_weight)


def _survey(y: Host, w: Host | None) -> Survey:
    if w is not None:
        w = w.astype(np.float64)
        if not np.all(np.isfinite(w)) or np.any(w < 0):
            wrong = w[~np.isfinite(w) | (w < 0)]
            raise ValueError(f"sample_weight must be finite and at least 0, got {wrong[0]}")
        y, w = (y, w) if np.all(w > 0) else (y[w > 0], w[w > 0])
    if y.dtype.kind == "f" and not np.all(np.isfinite(y)):
        wrong = int(np.argmin(np.isfinite(y)))
        place = "" if w is not None else f" in row {wrong}"  # rows of weight 0 are gone
        raise ValueError(f"y must be finite, got {y[wrong]}{place}")
    check_no_missing(y, part=True)
    classes = _classes(y)
    codes = encode(y, classes)
    counts = np.bincount(codes, minlength=len(classes)).astype(np.float64)
    return Survey(classes, counts if w is None else np.bincount(codes, w, len(classes)), counts)


def _merge(a: Survey, b: Survey) -> Survey:
    classes = np.union1d(a.classes, b.classes)
    sums = np.zeros((2, len(classes)))
    for part in (a, b):
        sums[:, np.searchsorted(classes, part.classes)] += part[1:]
    return Survey(classes, *sums)


def _classes(y: Host) -> Host:
    if len(y) and y.dtype.kind in "biuf":
        least, most = y.min(), y.max()
        if np.all((y == least) | (y == most)):  # two classes are the common case, and need no sort
            return np.asarray([least, most] if least != most else [least], dtype=y.dtype)
        if y.dtype.kind in "iu" and int(most) - int(least) < COUNTED:
            above = (y - least).view(f"u{y.itemsize}")  # a difference that wraps in y's dtype is right as unsigned
            return np.flatnonzero(np.bincount(above.astype(np.intp))).astype(y.dtype) + least
    try:
        return np.unique(y)
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in y.tolist()}))
        raise TypeError(f"y must hold labels that can be ordered, got {kinds}") from error


def encode(y: Host, classes: Host) -> Host:
    """Return the class index of each host label; arbitrary for unknown labels."""
    if len(classes) == 2 and y.dtype.kind in "biuf":
        return (y == classes[1]).astype(np.intp)
    if y.dtype.kind == "O":  # ignored rows, of weight 0, may hold None, which cannot be ordered
        numbers = {label: number for number, label in enumerate(classes.tolist())}
        return np.fromiter(map(numbers.get, y.tolist(), repeat(0)), np.intp, len(y))
    return np.minimum(np.searchsorted(classes, y), len(classes) - 1)


def targets(xp: Namespace, y: Array, classes: Host, dtype: DType, x: Array) -> Array:
    """Return −1 and 1 in `dtype` for the first and second of two classes, class indices for more, like `x`."""
    if is_chunked(xp):
        lazy = chunks_like(y, x) if is_text(y) else y
        return over_chunks(lambda part: _targets(part, classes, dtype), lazy)
    if library(xp) == "numpy":
        return _targets(y, classes, dtype)
    if len(classes) == 2:
        signs = _targets(labels_on_host(y), classes, np.float32)
        return xp.asarray(signs, dtype=dtype, device=device(x))
    return xp.asarray(_targets(labels_on_host(y), classes, None), dtype=default_int(xp, x), device=device(x))


def _targets(y: Host, classes: Host, dtype: Any) -> Host:
    codes = encode(y, classes)
    return codes if len(classes) > 2 else (2 * codes - 1).astype(dtype)


def class_weights(
    xp: Namespace, y: Array, classes: Host, by_class: Host, sample_weight: Array | None, dtype: DType, x: Array
) -> Array:
    """Return each sample's weight times the weight of its class, like `x`; 0 for unknown labels."""

    def weights(y: Host, w: Host | None = None) -> Host:
        codes = encode(y, classes)
        each = np.where(classes[codes] == y, by_class[codes], 0.0)
        return each if w is None else each * w.astype(np.float64)

    given = () if sample_weight is None else (sample_weight,)
    if is_chunked(xp):
        lazy = chunks_like(y, x) if is_text(y) else y
        return over_chunks(lambda *parts: weights(*parts).astype(dtype), lazy, *given)
    return xp.asarray(weights(labels_on_host(y), *map(to_host, given)), dtype=dtype, device=device(x))


def by_class(class_weight: Mapping[Any, float] | str | None, found: Survey) -> tuple[Survey, Host]:
    """Return the classes with a class weight above 0, and these class weights; all are 1 if `class_weight` is None.

    "balanced" is Σw / (K · weight of the class). A class that the mapping does not name has class weight 1.

    Raises
    ------
    ValueError
        If a class weight is not finite and at least 0, or is for an unknown class.
    """
    if class_weight is None:
        return found, np.ones(len(found.classes))
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight must be None, 'balanced' or a mapping, got {class_weight!r}")
        return found, found.weights.sum() / (len(found.weights) * found.weights)
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight must be None, 'balanced' or a mapping, got {type(class_weight).__name__}")
    classes = found.classes.tolist()
    weights = np.ones(len(classes))
    for label, weight in class_weight.items():
        if label not in classes:
            raise ValueError(f"class_weight must name classes of y, got {label!r}; they are {classes}")
        try:
            weights[classes.index(label)] = float(weight)
        except (TypeError, ValueError):
            raise TypeError(f"class_weight must hold numbers, got {weight!r} for class {label!r}") from None
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if np.any(wrong):
        number = int(np.argmax(wrong))
        raise ValueError(
            f"class_weight must be finite and at least 0, got {weights[number]:g} for class {classes[number]!r}"
        )
    kept = weights > 0
    return Survey(*(a[kept] for a in found)), weights[kept]


def ship_classes(xp: Namespace, classes: Host, y: Array) -> Array:
    """Return the classes as an array of the labels' library; those of a lazy array as a NumPy array."""
    if isinstance(y, np.ndarray) or is_chunked(xp):
        return classes
    return from_host(xp, classes, y.dtype, y)


def take_classes(xp: Namespace, classes: Array, numbers: Array) -> Array:
    """Return the classes with the given indices."""
    if isinstance(classes, np.ndarray):
        if is_chunked(xp):
            return over_chunks(lambda part: classes[part], numbers)
        return classes[to_host(numbers)]
    if library(xp) == "torch" and classes.dtype in (xp.uint16, xp.uint32, xp.uint64):
        # torch has no gather for these dtypes. Values above the range of int64 wrap, and wrap back.
        return xp.astype(xp.take(xp.astype(classes, xp.int64), numbers, axis=0), classes.dtype)
    return xp.take(classes, numbers, axis=0)
