"""Programs that contain a call: loops and meshes of JAX, graphs of torch, exported models; each op in each of them.

    python -m tests.programs SCAN:nms_mask MESH:nms,kmeans     JAX cells, on several devices, as JSON

JAX has several CPU devices only if this is set before it starts, so tests run this file in a separate process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

import anyops
from tests.examples import BATCH, MODEL, ROWS, example

DEVICES = 2
ROOT = Path(__file__).parents[1]


class Program(Enum):
    """The library of a program, and its name in `Support.why_not`."""

    SCAN = "jax", "scan"
    SHARD_MAP = "jax", "shard_map"
    MESH = "jax", "mesh"
    JAX_EXPORT = "jax", "export"
    DYNAMIC = "torch", "dynamic"
    EXPORT = "torch", "export"
    ONNX = "torch", "onnx"
    MAKE_FX = "torch", "make_fx"
    AOT = "torch", "aot_function"
    FAKE = "torch", "fake"
    TRACE = "torch", "trace"

    def __init__(self, library: str, call: str):
        self.library, self.call = library, call

    def __str__(self) -> str:
        return f"{self.library} {self.call}"

    def why_not(self, op: str) -> str | None:
        """Why `op` does not run so, as it declares, or None if it does."""
        return anyops.support()[op].why_not(self.call, self.library)

    def run(self, op: str) -> None:
        """Run the example of an op so, and compare."""
        f, arrays = whole(op)
        getattr(sys.modules[__name__], f"_{self.name.lower()}")(f, arrays)


def _merges() -> dict[str, tuple[Any, ...]]:
    """Merges of two parts with arrays as arguments, because examples must not slice sharded arrays."""

    def of(merge: Callable[..., Any], a: Any, b: Any) -> tuple[Any, ...]:
        parts = [np.asarray(x) for x in (*a, *b)]
        return lambda *x: merge(type(a)(*x[: len(a)]), type(a)(*x[len(a) :])), *parts

    x, y, *model = MODEL
    few, all_ = slice(5), slice(12)
    return {
        "kmeans_merge": of(anyops.kmeans_merge, *(anyops.kmeans_partial(x[i], x[:3]) for i in (few, all_))),
        "merge_batch_stats": of(anyops.merge_batch_stats, anyops.batch_stats(BATCH), anyops.batch_stats(BATCH[:2])),
        "logistic_merge": of(
            anyops.logistic_merge, *(anyops.logistic_partial(x[i], y[i], *model) for i in (few, all_))
        ),
        "minibatch_kmeans": (lambda x: anyops.minibatch_kmeans([x, x], 2, seed=0)[:1], ROWS),
        "batch_norm": (lambda x, w: anyops.batch_norm(x, w, w, training=True), BATCH, np.float32([1, 2, 3])),
    }


def whole(op: str) -> tuple[Callable[..., list[Any]], list[np.ndarray]]:
    """The example of an op as a function of its arrays that returns a list of arrays."""
    f, *args = _merges().get(op) or example(op)
    arrays = {i: x for i, x in enumerate(args) if isinstance(x, np.ndarray)}

    def call(*leaves: Any) -> list[Any]:
        given = dict(zip(arrays, leaves, strict=True))
        return leaves_of(f(*(given.get(i, x) for i, x in enumerate(args))))

    return call, list(arrays.values())


def leaves_of(x: Any) -> list[Any]:
    return [z for y in x for z in leaves_of(y)] if isinstance(x, tuple | list) else [x]


def close(found: Any, wanted: Any) -> None:
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-5, atol=1e-5)


def reversed_rows(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Other values of the same shapes."""
    return [np.ascontiguousarray(np.flip(x, 0)) if x.ndim else x for x in arrays]


def longer(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Other values of other shapes: first axes as long as the first axis of the first array become longer."""
    return [np.concatenate((x, x[:2])) if grows else x for x, grows in zip(arrays, _growing(arrays), strict=True)]


def _growing(arrays: list[np.ndarray]) -> list[bool]:
    return [x.ndim > 0 and x.shape[:1] == arrays[0].shape[:1] for x in arrays]


# --- JAX -------------------------------------------------------------------------------------------------------------


def _lanes(f: Callable[..., Any], arrays: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two sets of arguments, stacked, and the results of each, stacked."""
    import jax

    both = [np.stack(pair) for pair in zip(arrays, reversed_rows(arrays), strict=True)]
    each = [jax.jit(f)(*(x[i] for x in both)) for i in range(2)]
    return both, [np.stack(pair) for pair in zip(*each, strict=True)]


def _scan(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    import jax

    both, wanted = _lanes(f, arrays)
    close(jax.jit(lambda *xs: jax.lax.scan(lambda k, x: (k + 1, f(*x)), 0, xs)[1])(*both), wanted)


def _shard_map(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    import jax

    both, wanted = _lanes(f, arrays)

    def lane(*xs: Any) -> list[Any]:
        return [y[None] for y in f(*(x[0] for x in xs))]

    split = jax.sharding.PartitionSpec("lanes")
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
        mesh = jax.make_mesh((DEVICES,), ("lanes",), axis_types=(kind,), devices=jax.devices()[:DEVICES])
        there = [jax.device_put(x, jax.sharding.NamedSharding(mesh, split)) for x in both]
        close(jax.jit(jax.shard_map(lane, mesh=mesh, in_specs=split, out_specs=split))(*there), wanted)


def _mesh(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    """Rows sharded or replicated on several devices; called eagerly and, if supported, in a jit."""
    import jax

    wanted = f(*map(jax.numpy.asarray, arrays))
    automatic, explicit = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
    for kind, axis in ((automatic, "rows"), (explicit, None), (explicit, "rows")):
        mesh = jax.make_mesh((DEVICES,), ("rows",), axis_types=(kind,), devices=jax.devices()[:DEVICES])
        splits = [(axis,) if x.ndim and x.shape[0] % DEVICES == 0 else () for x in arrays]
        there = [
            jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*split)))
            for x, split in zip(arrays, splits, strict=True)
        ]
        found = f(*there)
        close(found, wanted)
        assert all(x.sharding.device_set == {*mesh.devices} for x in found if isinstance(x, jax.Array))
    try:
        compiled = jax.jit(f)(*there)
    except TypeError:  # the length of the result depends on the data
        return
    close(compiled, wanted)


def _jax_export(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    import jax
    from jax import export

    (n,) = export.symbolic_shape("n", constraints=["n >= 3"])
    shapes = [
        jax.ShapeDtypeStruct((n, *x.shape[1:]) if grows else x.shape, x.dtype)
        for x, grows in zip(arrays, _growing(arrays), strict=True)
    ]
    program = export.export(jax.jit(f))(*shapes)
    for given in (arrays, longer(arrays)):
        close(program.call(*given), f(*map(jax.numpy.asarray, given)))


# --- torch -----------------------------------------------------------------------------------------------------------


def _tensors(arrays: list[np.ndarray]) -> list[Any]:
    import torch

    return [torch.asarray(x.copy()) for x in arrays]


def _same(program: Callable[..., Any], f: Callable[..., Any], *several: list[np.ndarray]) -> None:
    for arrays in several:
        close(leaves_of(program(*_tensors(arrays))), f(*_tensors(arrays)))


def _module(f: Callable[..., Any]) -> Any:
    import torch

    class Module(torch.nn.Module):
        def forward(self, *args: Any) -> Any:
            return f(*args)

    return Module()


def _export(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    import torch

    n = torch.export.Dim("n", min=3)
    sizes = tuple({0: n} if grows else {} for grows in _growing(arrays))
    program = torch.export.export(_module(f), tuple(_tensors(arrays)), dynamic_shapes={"args": sizes}, strict=False)
    _same(program.module(), f, arrays, longer(arrays))


def _onnx(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    import onnxruntime

    import anyops.onnx

    sizes = [{0: "n"} if grows else {} for grows in _growing(arrays)]
    program = anyops.onnx.export(f, _tensors(arrays), dynamic_shapes=sizes)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    taken = {x.name for x in session.get_inputs()}
    for given in (arrays, longer(arrays)):
        named = {f"input_{k}": x for k, x in enumerate(given)}
        close(session.run(None, {k: x for k, x in named.items() if k in taken}), f(*_tensors(given)))


def _dynamic(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    """All sizes, and numbers of the op, are symbols from the first call on."""
    import torch

    torch._dynamo.reset()
    _same(torch.compile(f, fullgraph=True, dynamic=True, backend="eager"), f, arrays, longer(arrays))


def _make_fx(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    _same(make_fx(f, tracing_mode="symbolic")(*_tensors(arrays)), f, arrays, reversed_rows(arrays))


def _aot(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    from functorch.compile import aot_function, nop

    _same(aot_function(f, nop, dynamic=True), f, arrays, reversed_rows(arrays))


def _fake(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    """Shapes and dtypes only: fake tensors, and tensors on the "meta" device."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    wanted = f(*_tensors(arrays))
    with FakeTensorMode() as mode:
        fakes = f(*map(mode.from_tensor, _tensors(arrays)))
    for found in (fakes, f(*(x.to("meta") for x in _tensors(arrays)))):
        assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in wanted]


def _trace(f: Callable[..., Any], arrays: list[np.ndarray]) -> None:
    import torch

    _same(torch.jit.trace(f, tuple(_tensors(arrays))), f, arrays, reversed_rows(arrays), longer(arrays))


# --- several devices of JAX ------------------------------------------------------------------------------------------


def on_several_devices(cells: dict[Program, list[str]]) -> dict[str, dict[str, str]]:
    """The error, or an empty text, by the names of the program and the op; in a process with several devices."""
    settings = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "tests.programs", *(f"{p.name}:{','.join(ops)}" for p, ops in cells.items())]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def main(cells: list[str]) -> None:
    found: dict[str, dict[str, str]] = {}
    for cell in cells:
        program, _, ops = cell.partition(":")
        for op in ops.split(","):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    Program[program].run(op)
                error = ""
            except Exception as e:
                error = f"{type(e).__name__}: {e}"
            found.setdefault(program, {})[op] = error
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
