import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from inspect import isclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import anyops

PACKAGE = Path(anyops.__file__).parent
OPTIONAL = (
    "torch",
    "jax",
    "cupy",
    "dask",
    "ndonnx",
    "onnxscript",
    "array_api_strict",
    "sklearn",
    "scipy",
    "typer",
    "rich",
    "matplotlib",
)
NAMES_LIBRARIES = ("_array", "_host", "cli", "estimators.py", "onnx.py")
LIBRARIES = {"torch", "jax", "jnp", "cupy", "numpy", "np", "dask", "ndonnx", "array_api_strict"}
# Attributes of one library that tell where an array is; only `mode_of` and `enter` read them.
ATTRIBUTES = {
    *("committed", "sharding", "device_set", "devices", "platform", "addressable_shards"),
    *("requires_grad", "is_cuda", "data_ptr", "detach", "cpu", "numpy"),
    *("_meta", "chunks", "numblocks", "rechunk", "map_blocks", "compute"),
}
PREDICATES = {
    *("is_eager_jax", "is_traced", "is_chunked", "is_sharded", "is_at_hand", "lies_on_host", "on_cpu"),
    *("reads_are_free", "records_nothing", "may_be_differentiated", "hides_values", "refines_means"),
    *("workers", "chunk_size", "across", "consuming", "library", "library_of_jax"),
}
NUMPY_BY_ANOTHER_NAME = {"HOST"}


def test_import_brings_no_other_library():
    code = f"import sys, anyops; print(*(m for m in {OPTIONAL} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_public_names():
    assert {
        *("box_area", "box_convert", "clip_boxes", "masks_to_boxes", "box_iou", "mask_iou"),
        *("sigmoid_focal_loss", "sigmoid_focal_loss_and_grad", "softmax_focal_loss", "softmax_focal_loss_and_grad"),
        *("box_iou_loss", "batch_norm", "batch_norm_grad", "batch_stats", "merge_batch_stats"),
        *("nms", "nms_mask", "batched_nms", "top_scores", "backends"),
    } <= set(anyops.__all__)
    assert all(hasattr(anyops, name) for name in anyops.__all__)
    assert (PACKAGE / "py.typed").exists()


def test_a_name_means_one_thing():
    """Each constant and each class of the kernels is defined in one module only."""
    given = [
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"^(?:class )?([A-Z]\w+)(?: = |\(|:$)", file.read_text(), re.MULTILINE)
        if "cli" not in file.parts  # the command has its own names
    ]
    assert [name for name, count in Counter(given).items() if count > 1] == []


def classes_in(hint):
    """The classes of an annotation: `tuple[A, B] | None` has three."""
    return {hint} if isclass(hint) else set().union(*map(classes_in, get_args(hint)), [])


def test_every_result_type_is_public():
    ops = [getattr(anyops, name) for name in anyops.__all__ if name.islower() and not name.startswith("_")]
    results = {c for f in ops for c in classes_in(get_type_hints(f)["return"]) if c.__module__.startswith("anyops.")}
    assert len(results) > 15
    fields = {c for result in results for hint in get_type_hints(result).values() for c in classes_in(hint)}
    named = {c for c in results | fields if c.__module__.startswith("anyops.")}
    assert {c.__name__ for c in named} <= set(anyops.__all__)


def kernels():
    files = [f.relative_to(PACKAGE) for f in sorted(PACKAGE.rglob("*.py"))]
    return [f for f in files if f.parts[0] not in NAMES_LIBRARIES]


def libraries_named(source):
    """Libraries named in code, as an identifier or in a string that is not a docstring."""
    found, before = set(), tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind, text = token.type, token.string
        starts_statement = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if kind == tokenize.NAME and text in LIBRARIES:
            found.add(text)
        if kind == tokenize.STRING and not starts_statement:
            found |= {name for name in LIBRARIES if text.strip("rbfu'\"").split(".")[0] == name}
        if kind not in (tokenize.NL, tokenize.COMMENT):
            before = kind
    return found


def places_asked(source):
    """Predicates about where values are, in a kernel: their names, attributes of one library, `HOST`."""
    found, before = set(), ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            found |= {token.string} & (PREDICATES | NUMPY_BY_ANOTHER_NAME | (ATTRIBUTES if before == "." else set()))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.string
    return found


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("import torch\n", {"torch"}),
        ("from jax import numpy as jnp\n", {"jax", "numpy", "jnp"}),
        ("def f():\n    import cupy.cuda\n", {"cupy"}),
        ("x = import_module('dask.array')\n", {"dask"}),
        ('"""On torch and numpy."""\n# jax\nx = 1\n', set()),
        ('def f():\n    """As numpy does."""\n    return "numpy does it"\n', set()),
    ],
)
def test_search_finds_code_and_nothing_else(source, want):
    assert libraries_named(source) == want


@pytest.mark.parametrize("file", kernels(), ids=str)
def test_kernels_name_no_library(file):
    assert libraries_named((PACKAGE / file).read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("if is_traced(x):\n    y = x\n", {"is_traced"}),
        ("y = x._meta\n", {"_meta"}),
        ("y = (\n    x.\n    committed\n)\n", {"committed"}),
        ("y = HOST.sum(x)\n", {"HOST"}),
        ("chunks = 3\ny = mode.at_hand, mode.xp.sum(chunks)\n", set()),
        ('"""As `is_traced`."""  # HOST.sum, x.committed\n', set()),
    ],
)
def test_search_finds_what_a_kernel_asks(source, want):
    assert places_asked(source) == want


@pytest.mark.parametrize("file", kernels(), ids=str)
def test_kernels_do_not_ask_where_values_live(file):
    asked = places_asked((PACKAGE / file).read_text(encoding="utf-8"))
    assert asked == set(), f"{file} asks {sorted(asked)}; the mode of the call knows"
