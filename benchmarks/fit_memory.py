"""Peak memory of a fit in addition to its arguments, each library in its own process.

    python benchmarks/fit_memory.py                          k-means and logistic regression on NumPy, torch and JAX
    python benchmarks/fit_memory.py kmeans numpy float32     one of them, as JSON

k-means: 1M x 16, k = 1000, three iterations; logistic regression: 1M x 20, float64 and float32.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import reset_high_water_mark, status

ROWS, SMALL, CENTERS = 1_000_000, 20_000, 1_000
CASES = (("kmeans", ("float32",)), ("logistic", ("float64", "float32")))

Fit = Callable[..., Any]


def kmeans(dtype: str, asarray: Callable[[Any], Any]) -> tuple[Fit, tuple[Any, ...]]:
    """A fit from given centres, and the only copy of its samples."""
    import anyops

    x = np.random.default_rng(0).standard_normal((ROWS, 16), dtype)
    start = asarray(x[:CENTERS].copy())
    return lambda x: anyops.kmeans(x, CENTERS, init=start, max_iter=3, tol=0.0), (asarray(x),)


def logistic(dtype: str, asarray: Callable[[Any], Any]) -> tuple[Fit, tuple[Any, ...]]:
    """A fit, and the only copy of its samples and labels."""
    import anyops

    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 20), dtype)
    y = (x[:, 0] - x[:, 1] + rng.logistic(size=ROWS) > 0).astype(np.int32)
    return lambda x, y: anyops.logistic_regression(x, y, l2=1.0), (asarray(x), asarray(y))


def into(library: str, dtype: str) -> Callable[[Any], Any]:
    """Return the function that converts arrays to a library."""
    if library == "torch":
        import torch

        return torch.from_numpy
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")
        return lambda x: jax.block_until_ready(jax.numpy.array(x))
    return np.asarray


def peak(what: str, library: str, dtype: str) -> dict[str, object]:
    """Bytes: resident before the fit, the most during it, and the difference."""
    fit, arguments = {"kmeans": kmeans, "logistic": logistic}[what](dtype, into(library, dtype))
    # A fit of few rows first, so that imports and thread pools are not counted; JAX's compilation for all rows is.
    fit(*(x[:SMALL] for x in arguments))
    resettable = reset_high_water_mark()
    before = status("VmRSS")
    fit(*arguments)
    most = status("VmHWM") if resettable else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    method = "VmHWM, reset before the call" if resettable else "ru_maxrss, imports included"
    sizes = {"before": before, "peak": most, "extra": most - before}
    return {"what": what, "library": library, "dtype": dtype, **sizes, "method": method}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(peak(*sys.argv[1:])))
        sys.exit()
    for what, dtypes in CASES:
        for library in ("numpy", "torch", "jax"):
            for dtype in dtypes:
                command = [sys.executable, str(Path(__file__).resolve()), what, library, dtype]
                said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                extra = f"{said['extra'] / 2**20:6.1f} MiB more than before"
                print(f"{what:8} {library:6} {dtype}: {extra} ({said['method']})", flush=True)
