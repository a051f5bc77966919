"""The matrix itself: declarations of ops are true and published, and untested backends are reported."""

import itertools
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from inspect import getdoc, isfunction, signature
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import anyops
import conftest
from anyops._array.support import Kind
from tests import record
from tests.backends import Backend, Run, Transform, is_due, is_thinned, named_in, optimized, why_not
from tests.examples import BOXES, EXAMPLES, example
from tests.programs import Program

ROOT = Path(__file__).parents[1]
ALL_OF_JAX = Backend.JAX_CPU in named_in("ANYOPS_BACKENDS")  # as in `nox -s jax`


def as_one(results):
    """The result to differentiate, for an op with several results."""
    return sum((y**3).sum() for y in results) if isinstance(results, tuple) else results


def gradients(backend, f, args):
    """Gradients by each floating array of a call, or, if there is none, by the first argument as floats."""
    args = dict(enumerate(args))
    if not any(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in args.values()):
        args[0] = args[0].astype(np.float32)
    by = {k: a for k, a in args.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    rest = {k: backend.asarray(a) if isinstance(a, np.ndarray) else a for k, a in args.items() if k not in by}

    def call(*leaves):
        full = rest | dict(zip(by, leaves, strict=True))
        return as_one(f(*(full[k] for k in args)))

    return backend.gradient(call, *by.values())


@pytest.mark.parametrize("op", record.OPS)
def test_declarations_are_true(backend, op):
    """Calls that an op declares to run do run; the others raise, so that outdated limits are found."""
    if is_thinned(backend):
        pytest.skip("`nox -s jax` runs the examples under x64")
    f, *args = example(op)
    for transform in Transform:
        if not is_due(backend, transform):
            continue
        reason = why_not(op, backend, transform)
        if transform is Transform.JIT and why_not(op, backend, Transform.VMAP) is reason is None:
            continue  # the lanes of a vmap are compared with a jit
        if reason is not None:
            with pytest.raises(Exception):  # noqa: B017, PT011
                call(backend, transform, f, args)
        else:
            call(backend, transform, f, args)


def call(backend, transform, f, args):
    """Call an example as users would; gradients must not all be 0."""
    if transform is not Transform.GRAD:
        with optimized(True) if transform in (Transform.JIT, Transform.VMAP) else nullcontext():
            return Run(backend, transform, compiler="aot_eager").raw(f, *args)
    found = gradients(backend, f, args)
    assert all(np.any(g != 0) for g in found)
    return found


@pytest.mark.parametrize(
    "op",
    [  # outside a jit, JAX compiles every operation separately
        *("nms_mask", "sigmoid_focal_loss", "kmeans_step"),
        *(("box_iou", "soft_nms_scores", "cluster_nms_scores", "batch_norm", "logistic_loss") if ALL_OF_JAX else ()),
    ],
)
def test_vmap_without_jit(op):
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    f, *args = example(op)
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    rest = args[len(arrays) :]
    with Backend.JAX_CPU.active():
        got = jax.vmap(lambda *xs: f(*xs, *rest))(*(Backend.JAX_CPU.asarray(np.stack([a, a])) for a in arrays))
        want = f(*map(Backend.JAX_CPU.asarray, arrays), *rest)
    for lanes, one in zip(*((r if isinstance(r, tuple) else (r,)) for r in (got, want)), strict=True):
        np.testing.assert_allclose(np.array(lanes), np.stack([one, one]), rtol=1e-6, atol=1e-6)


def test_every_public_function_declares_itself():
    functions = {name for name in anyops.__all__ if isfunction(getattr(anyops, name))}
    assert functions - {"backends", "support"} == set(record.OPS)
    assert set(EXAMPLES) <= set(record.OPS)


@pytest.mark.parametrize("op", record.OPS)
def test_docstrings_name_the_parameters(op):
    f = getattr(anyops, op)
    section = re.search(r"\nParameters\n-+\n(.*?)(?:\n\n[A-Z]\w+\n-+\n|\Z)", getdoc(f), re.DOTALL)[1]
    lines = re.findall(r"^(\w[\w, ]*?)(?: :.*)?$", section, re.MULTILINE)
    assert {name.strip() for line in lines for name in line.split(",")} == {*signature(f).parameters}


@pytest.mark.parametrize("op", record.OPS)
def test_static_forms(op):
    """An op whose shapes depend on values names an op whose shapes do not."""
    found = anyops.support()[op]
    by_value = found.returns in {kind.text for kind in (Kind.INDICES, Kind.SELECTION, Kind.FIT)}
    assert (found.static is not None) == by_value
    if by_value:
        assert anyops.support()[found.static].why_not("jit", "jax") is None


def test_an_unknown_call_is_an_error():
    with pytest.raises(ValueError, match=r"call must be one of .*, got 'jut'"):
        anyops.support()["nms"].why_not("jut", "jax")


def test_an_unknown_place_is_an_error():
    with pytest.raises(ValueError, match=r"place must be one of numpy, .*, got 'jaxx'"):
        anyops.support()["nms_mask"].why_not("jit", "jaxx")


@pytest.mark.parametrize(("call", "place"), [("jit", "numpy"), ("compile", "jax:x64"), ("vmap", "torch")])
def test_a_call_of_another_library_is_not_supported(call, place):
    assert anyops.support()["box_iou"].why_not(call, place) == f"{place.partition(':')[0]} has no {call}"


@pytest.mark.parametrize("op", record.OPS)
def test_every_limit_excludes_something(op):
    for limit in anyops.support()[op].limits:
        places = [b for b in Backend if not limit.places or {b.value, b.library} & limit.places]
        denied = any(t.value in limit.calls and t.belongs_to(b) for t in Transform for b in places)
        assert denied or any(p.call in limit.calls and p.library == b.library for p in Program for b in places), limit
        assert limit.calls <= {t.value for t in Transform} | {p.call for p in Program}


def test_support_page_is_not_stale():
    assert record.PAGE.read_text(encoding="utf-8") == record.render(), "run: python -m tests.record --page"


def test_support_page_rests_on_runs():
    """Each op was run on each backend that needs no GPU; `python -m tests.record -k OP` runs new ones.

    For backends that need a GPU, the page lists the ops that have not been run.
    """
    known = record.load()
    everywhere = {"numpy", "strict", "torch:cpu", "jax:cpu", "dask"}
    assert everywhere <= set(known)
    missing = {b: lost for b in everywhere if (lost := set(record.OPS) - set(known[b]["ops"]))}
    assert not missing, f"run `python -m tests.record`, for {missing}"


def test_support_page_is_well_formed():
    lines, tables = record.render().splitlines(), []
    for many, rows in itertools.groupby(lines, key=lambda line: line.startswith("|") * line.count("|")):
        if many:
            tables.append([re.findall(r"`(\w+)`", row)[0] for row in [*rows][2:]])
    everywhere, in_programs = tables
    assert everywhere == list(record.OPS)
    assert in_programs == [op for op in record.OPS if anyops.support()[op].why_not("scan", "jax") is None]


def pytest_run(*args, **environment):
    """Run a small test file without a GPU, on NumPy and on two backends that need a GPU."""
    settings = {"ANYOPS_BACKENDS": "numpy,jax:gpu,cupy", "ANYOPS_REQUIRE_BACKENDS": ""}
    without_gpu = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}  # importing JAX is faster than torch
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment = outer | settings | without_gpu | environment
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/_array/test_segments.py", *args]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_absent_backends_are_counted_and_listed(workers):
    """One skip represents all cases of a test."""
    done = pytest_run(*workers, "-k", "test_mark or test_extremes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"21 passed, 4 skipped", done.stdout), done.stdout
    assert re.search(r"NOT TESTED: jax:gpu \(.+\): 21 tests", done.stdout)
    assert re.search(r"NOT TESTED: cupy \(.+\): 21 tests", done.stdout)
    assert "numpy (" not in done.stdout
    assert "left out by ANYOPS_BACKENDS" in done.stdout


def test_a_required_backend_that_is_absent_is_an_error():
    done = pytest_run(ANYOPS_REQUIRE_BACKENDS="cupy, numpy, jax:gpu")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    message = r"ANYOPS_REQUIRE_BACKENDS: cannot test cupy \(.+\), jax:gpu \(.+\)\n"
    assert re.search(message, done.stderr + done.stdout), done.stderr
    assert "passed" not in done.stdout


def configure(monkeypatch, selected, required):
    monkeypatch.setenv("ANYOPS_BACKENDS", selected)
    monkeypatch.setenv("ANYOPS_REQUIRE_BACKENDS", required)
    conftest.pytest_configure(SimpleNamespace(addinivalue_line=lambda *_: None))


@pytest.mark.parametrize(
    ("selected", "required", "message"),
    [
        ("numpy,cupy", "strict", r"ANYOPS_REQUIRE_BACKENDS: cannot test strict \(.+\)$"),  # absent, or left out
        ("numpy", "numpi", "ANYOPS_REQUIRE_BACKENDS names numpi; the backends are numpy, "),
        ("torch", "", "ANYOPS_BACKENDS names torch; the backends are numpy, "),
    ],
)
def test_a_backend_that_cannot_be_tested_is_an_error(monkeypatch, selected, required, message):
    with pytest.raises(pytest.UsageError, match=message):
        configure(monkeypatch, selected, required)


def test_a_required_backend_that_is_there_is_none(monkeypatch):
    configure(monkeypatch, "numpy,cupy", "numpy")


def test_backends_put_inputs_where_libraries_do_not(backend):
    """The devices and flags of the matrix are active."""
    x = backend.asarray(np.zeros(2, np.float32))
    assert backend.owns(x)
    match backend:
        case Backend.NUMPY_READONLY:
            with pytest.raises(ValueError, match="read-only"):
                x[0] = 1
        case Backend.STRICT | Backend.STRICTEST:
            assert x.device != backend.xp.zeros(2).device
            if backend is Backend.STRICTEST:
                with pytest.raises(RuntimeError):
                    backend.xp.nonzero(x)
        case Backend.JAX_CPU | Backend.JAX_X64:
            assert backend.default("indexing") == ("int64" if backend is Backend.JAX_X64 else "int32")
        case Backend.TORCH_CUDA:
            assert x.device.type == "cuda"


def test_a_modified_input_is_noticed():
    def spoil(x):
        x += 1
        return x

    with pytest.raises(AssertionError, match="modified"):
        Run(Backend.NUMPY, Transform.EAGER)(spoil, BOXES)
    with pytest.raises(ValueError, match="read-only"):
        Run(Backend.NUMPY_READONLY, Transform.EAGER)(spoil, BOXES)


def test_a_result_of_another_kind_is_noticed():
    with pytest.raises(AssertionError, match="came back"):
        Run(Backend.NUMPY, Transform.EAGER)(lambda x: x.tolist(), BOXES)
