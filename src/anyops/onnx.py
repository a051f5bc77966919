"""Export torch functions as ONNX models of standard operators, which run without Python."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ._array.selection import POSITION_BITS


def export(
    function: Callable[..., Any],
    args: Sequence[Any],
    *,
    dynamic_shapes: Sequence[Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Any:
    """Export a torch function as an ONNX program; its ``save(path)`` writes the model.

    Parameters
    ----------
    function : callable, or torch.nn.Module
        Takes tensors. It may call static forms, `top_scores`, overlaps, losses and `batch_norm`. The model accepts an
        empty batch and scenes without boxes; `weighted_boxes_fusion_padded` needs at least one box.
    args : sequence of tensors
        Example arguments. The model gets their dtypes, and their shapes except dynamic ones.
    dynamic_shapes : sequence, optional
        For each argument None, or a dict from axes to names, or to ``torch.export.Dim``, such as
        ``{0: "batch", 1: "n"}``: the dynamic sizes. One name stands for one size.
    input_names, output_names : sequence of str, optional
        By default inputs have the names of the function's parameters.

    Returns
    -------
    torch.onnx.ONNXProgram

    Raises
    ------
    ImportError
        If torch or onnxscript is missing.
    TypeError, ValueError
        If `args` are not tensors, if `dynamic_shapes` or `input_names` do not have an entry for each, or an entry is
        invalid; or if `function` calls an op without a static shape, such as `nms`.

    Notes
    -----
    Uses torch's exporter, ``torch.onnx.export(..., dynamo=True)``, and adds missing operators, above all a stable sort:
    ONNX's TopK breaks ties by the lower index, as this library does.
    """
    try:
        import onnxscript  # noqa: F401
        import torch
    except ModuleNotFoundError as error:
        raise ImportError(f"anyops.onnx needs {error.name}: pip install 'anyops[torch,onnx]'") from error
    if not callable(function):
        raise TypeError(f"function must be callable, got {type(function).__name__}")
    args = _sequence("args", args, "torch tensors", torch.Tensor)
    if dynamic_shapes is not None:
        dynamic_shapes = _sequence("dynamic_shapes", dynamic_shapes, "dicts from axes to names", dict, type(None))
        if len(dynamic_shapes) != len(args):
            raise ValueError(f"dynamic_shapes must have as many items as args, {len(args)}, got {len(dynamic_shapes)}")
        for k, (x, sizes) in enumerate(zip(args, dynamic_shapes, strict=True)):
            _check_sizes(f"dynamic_shapes[{k}]", sizes or {}, x.ndim)
    if output_names is not None:
        output_names = _sequence("output_names", output_names, "names", str)
    if input_names is not None:
        input_names = _sequence("input_names", input_names, "names", str)
        if len(input_names) != len(args):
            raise ValueError(f"input_names must have as many items as args, {len(args)}, got {len(input_names)}")
    else:
        kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        called = function.forward if isinstance(function, torch.nn.Module) else function
        try:
            named = [p.name for p in inspect.signature(called).parameters.values() if p.kind in kinds]
        except ValueError:  # a builtin without a signature
            named = []
        input_names = named[: len(args)] if len(named) >= len(args) else [f"input_{k}" for k in range(len(args))]
    names = [*input_names, *(output_names or ())]
    if again := [name for k, name in enumerate(names) if not name or name in names[:k]]:
        raise ValueError(f"input_names and output_names must be different and not empty, got {again[0]!r} in {names}")

    class Call(torch.nn.Module):
        def forward(self, *args: Any) -> Any:
            return function(*args)

    call = Call()
    call.training = getattr(function, "training", False)  # not call.train(): submodules may have other modes
    if isinstance(function, torch.nn.Module):
        call.function = function  # so that its parameters become parameters of the model
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):  # torch's warnings about torch
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "# The axis name: ")  # about a size that two arguments share
        try:
            program = torch.onnx.export(
                call,
                args,
                dynamo=True,
                dynamic_shapes=None if dynamic_shapes is None else (dynamic_shapes,),
                input_names=input_names,
                output_names=output_names,
                custom_translation_table={
                    torch.ops.aten.sort.stable: _sort,
                    torch.ops.aten.amax.default: _largest,
                    torch.ops.aten.any.default: _any,
                    torch.ops.aten.any.dim: _any,
                    torch.ops.aten.searchsorted.Tensor: _searchsorted,
                    torch.ops.aten.sym_stride.int: _stride,
                },
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            if isinstance(error.__cause__, TypeError | ValueError | NotImplementedError):  # raised by an op
                raise type(error.__cause__)(f"cannot export to ONNX: {error.__cause__}") from error
            raise
    assert program is not None
    assert program.exported_program is not None
    for graph in program.exported_program.graph_module.modules():
        for node in graph.graph.nodes:
            if node.target is torch.ops.aten.sym_stride.int and not node.args[0].meta["val"].is_contiguous():
                raise NotImplementedError(f"cannot export to ONNX: {node} is a stride of a non-contiguous array")
    return program


def _check_sizes(name: str, sizes: dict[Any, Any], axes: int) -> None:
    import torch

    for axis, size in sizes.items():
        if type(axis) is not int or axis not in range(axes):
            raise ValueError(f"{name} must have axes from 0 to {axes - 1}, got {axis!r}")
        if not isinstance(size, str | torch.export.Dim | type(torch.export.Dim.AUTO)):
            raise TypeError(f"{name}[{axis}] must be a name, got {type(size).__name__}")


def _sequence(name: str, items: Any, what: str, *kinds: type) -> tuple[Any, ...]:
    """Return the items of a list or a tuple; raise TypeError unless all are of some kinds."""
    wrong = [x for x in items if not isinstance(x, kinds)] if isinstance(items, list | tuple) else [items]
    if wrong:
        raise TypeError(f"{name} must be a list or a tuple of {what}, got {type(wrong[0]).__name__}")
    return tuple(items)


def _sort(x: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> tuple[Any, Any]:
    """Return sorted values and their positions, ties to the lowest position; NaN is larger than all numbers."""
    import onnxscript

    op: Any = onnxscript.opset18
    size = op.Reshape(op.Gather(op.Shape(x), op.Constant(value_ints=[dim])), op.Constant(value_ints=[1]))
    if not x.dtype.is_floating_point():
        return op.TopK(x, size, axis=dim, largest=int(descending))
    # TopK does not define the order of NaN. They are sorted as infinities, then moved behind all infinities.
    nan = op.IsNaN(x)
    infinity = op.CastLike(op.Constant(value_float=float("inf")), x)
    _, first = op.TopK(op.Where(nan, infinity, x), size, axis=dim, largest=int(descending))
    last = op.GatherElements(op.Cast(nan, to=6), first, axis=dim)
    _, second = op.TopK(last, size, axis=dim, largest=int(descending))
    order = op.GatherElements(first, second, axis=dim)
    return op.GatherElements(x, order, axis=dim), order


def _largest(x: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Return the largest value along some axes, or along all."""
    import onnxscript

    op: Any = onnxscript.opset18
    return op.ReduceMax(x, op.Constant(value_ints=list(dim)) if dim else None, keepdims=int(keepdim))


def _any(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return whether any value is true, along an axis or along all; torch's translation is wrong for empty arrays."""
    import onnxscript

    op: Any = onnxscript.opset18
    along = None if dim is None else op.Constant(value_ints=[dim])
    return op.Cast(op.ReduceSum(op.Cast(op.Cast(x, to=9), to=7), along, keepdims=int(keepdim)), to=9)


def _searchsorted(
    x: Any,
    value: Any,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """Return how many of the sorted numbers (n,) are below each value, or at most equal to it, by bisection."""
    import onnxscript

    op: Any = onnxscript.opset18
    if len(x.shape) != 1 or sorter is not None or out_int32:
        raise NotImplementedError("cannot export to ONNX: searchsorted of several rows, with a sorter or to int32")
    below = op.LessOrEqual if right or side == "right" else op.Less
    size = op.Shape(x)
    found = op.Mul(op.Cast(value, to=7), op.Constant(value_int=0))
    for bit in range(POSITION_BITS - 1, -1, -1):
        beyond = op.Add(found, op.Constant(value_int=1 << bit))
        at = op.Sub(op.Min(beyond, size), op.Constant(value_int=1))
        more = op.And(op.LessOrEqual(beyond, size), below(op.Gather(x, at), value))
        found = op.Where(more, beyond, found)
    return found


def _stride(x: Any, dim: int) -> Any:
    """Return the stride of a contiguous array along an axis, in elements; torch derives dynamic sizes from it."""
    import onnxscript

    op: Any = onnxscript.opset18
    if dim == -1:
        return op.Constant(value_int=1)
    return op.ReduceProd(op.Shape(x, start=dim + 1), keepdims=0)
