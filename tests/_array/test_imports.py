import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import anyops

PACKAGE = Path(anyops.__file__).parent
OPTIONAL = (
    "torch",
    "jax",
    "cupy",
    "dask",
    "ndonnx",
    "array_api_strict",
    "sklearn",
    "scipy",
    "typer",
    "rich",
    "matplotlib",
)
NAMES_LIBRARIES = ("_array", "_host", "cli", "estimators.py")
LIBRARIES = {"torch", "jax", "jnp", "cupy", "numpy", "np", "dask", "ndonnx", "array_api_strict"}


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


def kernels():
    files = [f.relative_to(PACKAGE) for f in sorted(PACKAGE.rglob("*.py"))]
    return [f for f in files if f.parts[0] not in NAMES_LIBRARIES]


def libraries_named(source):
    """Libraries that occur in code: as a name, or as a string that is no docstring."""
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
