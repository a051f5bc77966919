"""Declarations of ops: the kind of the result, and the calls that do not work, with the reason.

They decide which tests run, and docs/support.md is generated from them.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, TypeVar

# How an op may be called. STATIC: transforms with unknown values, and programs that contain the call, with dynamic
# sizes if exported ("export" is torch.export and jax.export).
OF_TORCH = frozenset({"dynamic", "export", "onnx", "make_fx", "aot_function", "fake", "trace"})
OF_JAX = frozenset({"scan", "shard_map", "export"})
PROGRAMS = OF_TORCH | OF_JAX
STATIC = frozenset({"jit", "vmap", "compile", "func.vmap"}) | PROGRAMS
# "mesh": on arrays on several devices of JAX.
CALLS = STATIC | {"eager", "grad", "mesh"}
CALLS_OF = {
    "numpy": {"eager"},
    "strict": {"eager"},
    "torch": OF_TORCH | {"eager", "grad", "compile", "func.vmap"},
    "jax": OF_JAX | {"eager", "grad", "jit", "vmap", "mesh"},
    "cupy": {"eager"},
    "dask": {"eager"},
}

F = TypeVar("F", bound=Callable[..., Any])


class SupportLimit(NamedTuple):
    """Calls that do not work, and the reason; in `places`, or everywhere if there are none.

    A place is a library, or a library with settings after a colon.
    """

    reason: str
    calls: frozenset[str]
    places: frozenset[str] = frozenset()


ON_DASK = frozenset({"eager"}), frozenset({"dask"})
WITHOUT_SHAPES = frozenset({"eager"}), frozenset({"strict:strictest"})

NO_GRADIENT = SupportLimit("masks, counts and indices have no gradient", frozenset({"grad"}))
LENGTH_BY_VALUE = (
    SupportLimit("the length of the result depends on the data: see the static form", STATIC),
    SupportLimit("the length of a lazy array cannot depend on its values", *ON_DASK),
)
ENDS_BY_VALUE = SupportLimit("the number of iterations depends on the data: see the static form", STATIC)

# Limits of single ops
LOOPS = SupportLimit(
    "`torch.jit.trace` would fix the number of loop steps to the number that its example takes",
    frozenset({"trace"}),
)
SHAPES_BY_VALUE = SupportLimit("the flag `data_dependent_shapes=False` forbids it", *WITHOUT_SHAPES)
ORDERS = SupportLimit("dask.array has no `take_along_axis`", *ON_DASK)
READS_OFTEN = SupportLimit("every step would read all of the data again", *ON_DASK)
SOLVES = SupportLimit(
    "it solves a linear system on the device of x; use `logistic_regression`",
    frozenset({"eager"}),
    frozenset({"dask"}),
)


class Kind(Enum):
    """Kind of an op's result, and the limits that follow from it."""

    VALUES = "values", ()
    MASK = "mask, counts or indices", (NO_GRADIENT,)
    INDICES = "indices, their number depends on the data", (*LENGTH_BY_VALUE, NO_GRADIENT)
    SELECTION = (
        "values, their number depends on the data",
        (
            *LENGTH_BY_VALUE,
            SupportLimit("the length of the result depends on traced values", frozenset({"grad"}), frozenset({"jax"})),
        ),
    )
    SEEDS = (
        "random samples",
        (
            SupportLimit("random draws depend on the values of the samples", STATIC),
            SupportLimit("random draws depend on the values of the samples", frozenset({"grad"}), frozenset({"jax"})),
        ),
    )
    FIT = "fit", (ENDS_BY_VALUE, SupportLimit("the optimum is returned without a gradient", frozenset({"grad"})))

    def __init__(self, text: str, limits: tuple[SupportLimit, ...]):
        self.text, self.limits = text, limits


class Support(NamedTuple):
    """Where an op runs: its kind of result, the name of its static form if it has one, and its limits."""

    name: str
    returns: str
    static: str | None
    limits: tuple[SupportLimit, ...]

    def why_not(self, call: str, place: str) -> str | None:
        """Return why the op cannot be called so in a place, None if it can; ValueError for other calls and places.

        Parameters
        ----------
        call : str
            "eager", "grad", "jit", "vmap", "scan", "shard_map", "mesh" or "export" of JAX; "compile", "dynamic"
            (``torch.compile(dynamic=True)``), "func.vmap",
            "export", "onnx", "make_fx", "aot_function", "fake" (shapes alone) or "trace" of torch.
        place : str
            "numpy", "torch", "jax", "cupy", "dask", or "strict" (array-api-strict); or one of them with settings, as
            "jax:x64".
        """
        if call not in CALLS:
            raise ValueError(f"call must be one of {', '.join(sorted(CALLS))}, got {call!r}")
        library = place.partition(":")[0]
        if library not in CALLS_OF:
            raise ValueError(f"place must be one of {', '.join(CALLS_OF)}, or one of them with settings, got {place!r}")
        if call not in CALLS_OF[library]:
            return f"{library} has no {call}"
        names = {place, library}
        for limit in self.limits:
            if call in limit.calls and (not limit.places or names & limit.places):
                return limit.reason
        return None


_DECLARED: dict[str, Support] = {}


def op(kind: Kind, *limits: SupportLimit, static: str | None = None) -> Callable[[F], F]:
    """Declare a public function: the kind of its result, its static form, and its limits beyond the kind's."""

    def declare(function: F) -> F:
        name = function.__name__
        _DECLARED[name] = Support(name, kind.text, static, (*limits, *kind.limits))
        return function  # not wrapped: a wrapper would slow down every call

    return declare


def support() -> dict[str, Support]:
    """Tell which op runs where, and why not.

    Returns
    -------
    dict of Support
        By the name of the op, ``(name, returns, static, limits)``; ``why_not(call, place)`` of each is the reason why
        it cannot be called so there, or None. docs/support.md shows all of them.

    Examples
    --------
    >>> import anyops
    >>> nms = anyops.support()["nms"]
    >>> nms.static, nms.why_not("eager", "torch"), nms.why_not("grad", "torch")
    ('nms_mask', None, 'masks, counts and indices have no gradient')
    """
    return dict(_DECLARED)
