"""scikit-learn's array API checks on CUDA, skipped where there is no GPU."""

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def without_cuda_unless_there_is_a_gpu(monkeypatch):
    """scikit-learn only asks whether torch was built with CUDA, which is also true on machines without a GPU."""
    if importlib.util.find_spec("torch"):
        import torch

        if not torch.cuda.is_available():
            monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
