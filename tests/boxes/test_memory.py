"""Masks are converted to numbers a slice at a time: extra memory does not grow with their number or size."""

import tracemalloc

import numpy as np
import pytest

import anyops
from anyops.boxes import formats, iou
from tests.backends import Backend

OPS = {
    "mask_iou": lambda masks: anyops.mask_iou(masks, masks),
    "mask_iou of two": lambda masks: anyops.mask_iou(masks, masks[:1, ...]),
    "masks_to_boxes": anyops.masks_to_boxes,
}


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    for module in (formats, iou):
        monkeypatch.setattr(module, "PIXELS", 1 << 14)


def many(dtype):
    return (np.random.default_rng(0).random((30, 190, 230)) < 0.3).astype(dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("name", OPS)
def test_memory_of_numpy(name, dtype):
    masks = many(dtype)
    OPS[name](masks)  # so that imports of a first call are not counted
    tracemalloc.start()
    try:
        OPS[name](masks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < masks.size / 4


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("name", OPS)
def test_memory_of_a_program_of_jax(name, dtype):
    if why := Backend.JAX_CPU.why_unavailable():
        pytest.skip(why)
    import jax

    masks = many(dtype)
    memory = jax.jit(OPS[name]).lower(jax.numpy.asarray(masks)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < masks.size / 4


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("name", OPS)
def test_slices_change_nothing(backend, name, dtype):
    masks = many(dtype)[:5, :90, :]
    got = backend.to_numpy(OPS[name](backend.asarray(masks)))
    inside = masks.reshape(5, -1) != 0
    if name == "masks_to_boxes":
        places = [np.nonzero(mask) for mask in masks]
        want = [[x.min(), y.min(), x.max(), y.max()] for y, x in places]
    else:
        want = [[(a & b).sum() / (a | b).sum() for b in inside] for a in inside]
        want = np.asarray(want) if name == "mask_iou" else np.asarray(want)[:, :1]
    np.testing.assert_allclose(got, want, rtol=1e-6)
