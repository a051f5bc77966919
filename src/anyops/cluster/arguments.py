"""Argument checks shared by the k-means fits."""

from typing import Any, Literal, get_args

from .._array.chunked import check_known_chunks
from .._array.finite import describe_not_finite
from .._array.host import Host, beside
from .._array.mode import Mode, mode_of
from .._array.namespace import Array, as_numbers, check_dtype, check_has_values, namespace
from .._array.nearest import as_compared
from .._host.cluster.lazy import Extent, extent
from .._host.cluster.place import in_shares
from .._host.cluster.weights import weights_of

Init = Literal["k-means++", "k-means||", "random"]
Center = Literal["mean", "median"]
INITS: tuple[Init, ...] = get_args(Init)
CENTERS: tuple[Center, ...] = get_args(Center)
STATIC_FORM = "k-means decides by values, kmeans_step does not"


def check_samples(x: Array, k: int, sample_weight: Array | None) -> tuple[Mode, Host | Extent]:
    """Return the result of :func:`check_rows`; raise unless at least k samples have a positive weight."""
    mode, weight = check_rows("x", x, sample_weight)
    n = x.shape[0]
    if not n:
        raise ValueError(f"x must hold at least one sample, got shape {tuple(x.shape)}")
    if not 1 <= k <= n:
        raise ValueError(f"k must be in [1, {n}] for {n} samples, got {k}")
    positive = weight.positive if isinstance(weight, Extent) else int((weight > 0).sum())
    if positive == 0:
        raise ValueError("sample_weight must not be zero for all samples")
    if k > positive:
        raise ValueError(f"k must be at most the number of samples of positive weight, {positive}, got {k}")
    return mode, weight


def check_rows(name: str, x: Array, sample_weight: Array | None) -> tuple[Mode, Host | Extent]:
    """Return the mode of samples (n, d), and their weights on the host; raise unless both are valid.

    For a lazy array, an :class:`Extent` takes the place of the weights.
    """
    mode = mode_of(**{name: x})
    xp, shape = mode.xp, tuple(x.shape)
    check_dtype(xp, name, x, "real floating", "integral")
    if not mode.lazy:
        check_has_values(STATIC_FORM, **{name: x})
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"{name} must have shape (n, d), d ≥ 1, got {shape}")
    check_known_chunks(xp, name, x)
    if sample_weight is not None:
        namespace(**{name: x, "sample_weight": sample_weight})
        if not mode.lazy:
            check_has_values(STATIC_FORM, sample_weight=sample_weight)
        check_dtype(xp, "sample_weight", sample_weight, "real floating", "integral", "bool")
        check_known_chunks(xp, "sample_weight", sample_weight)
        if tuple(sample_weight.shape) != shape[:1]:
            raise ValueError(
                f"sample_weight must have shape {shape[:1]} to match {name}, got {tuple(sample_weight.shape)}"
            )
    if mode.lazy:
        return mode, extent(name, x, sample_weight)
    weight = weights_of(sample_weight, shape[0])
    if sample_weight is None:
        finite = all(in_shares(mode, x, lambda start, stop: bool(xp.all(xp.isfinite(x[start:stop, ...])))))
    else:
        finite = bool(xp.all(xp.isfinite(x) | ~beside(mode, weight > 0, x)[:, None]))
    if not finite:
        counted = None if sample_weight is None else beside(mode, weight > 0, x)
        raise ValueError(f"{name} must be finite, got {describe_not_finite(xp, x, counted)}")
    return mode, weight


def check_sides(mode: Mode, name: str, x: Array, weight: Host | Extent) -> None:
    """Raise ValueError unless samples are widths and heights."""
    if x.shape[1] != 2:
        raise ValueError(f"{name} must hold widths and heights, (n, 2), for metric 'iou', got {tuple(x.shape)}")
    if isinstance(weight, Extent):
        negative = float(weight.low.min()) < 0
    else:
        negative = bool(mode.xp.any((as_compared(mode.xp, x) < 0) & beside(mode, weight > 0, x)[:, None]))
    if negative:
        raise ValueError(f"{name} must hold widths and heights of at least 0 for metric 'iou', got a negative one")


def check_init(mode: Mode, name: str, x: Array, k: int, init: Any) -> Any:
    """Return `init`; raise unless it is the name of an initialisation or an array of k centres."""
    if isinstance(init, str):
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)} or an array, got {init!r}")
        return init
    if not mode.lazy:
        namespace(**{name: x, "init": init})
    shape = tuple(getattr(init, "shape", ()))
    if shape != (k, x.shape[1]):
        raise ValueError(f"init must have shape ({k}, {x.shape[1]}), got {shape}")
    init = as_numbers("init", init)
    of_init = mode_of(init=init)
    xp = of_init.xp
    if not of_init.lazy:
        check_has_values(STATIC_FORM, init=init)
    check_dtype(xp, "init", init, "real floating", "integral")
    if not bool(xp.all(xp.isfinite(init))):
        raise ValueError(f"init must be finite, got {describe_not_finite(xp, init)}")
    return init
