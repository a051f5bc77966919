"""Peak memory of a logistic regression beside its arguments, each library in a process of its own.

python benchmarks/logistic_memory.py                 numpy, torch and jax, float64 and float32, 1M x 20
python benchmarks/logistic_memory.py numpy float64   one of them, as JSON
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from memory import reset_high_water_mark, status

ROWS, COLUMNS = 1_000_000, 20


def arguments(library: str, dtype: str, rows: int) -> tuple[object, object]:
    """Samples and labels in a library, held once."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, COLUMNS), dtype)
    y = (x[:, 0] - x[:, 1] + rng.logistic(size=rows) > 0).astype(np.int32)
    if library == "torch":
        import torch

        return torch.from_numpy(x), torch.from_numpy(y)
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")
        return jax.block_until_ready((jax.numpy.array(x), jax.numpy.array(y)))
    return x, y


def peak(library: str, dtype: str) -> dict[str, object]:
    """Bytes: resident before the fit, the most during it, and the difference."""
    import anyops

    x, y = arguments(library, dtype, ROWS)
    # A fit of few rows first, so that imports and thread pools are not counted; what JAX compiles for the rest is.
    anyops.logistic_regression(x[:20_000], y[:20_000], l2=1.0)
    resettable = reset_high_water_mark()
    before = status("VmRSS")
    anyops.logistic_regression(x, y, l2=1.0)
    most = status("VmHWM") if resettable else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    method = "VmHWM, reset before the call" if resettable else "ru_maxrss, imports included"
    return {
        "library": library,
        "dtype": dtype,
        "before": before,
        "peak": most,
        "extra": most - before,
        "method": method,
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(peak(*sys.argv[1:])))
    else:
        for library in ("numpy", "torch", "jax"):
            for dtype in ("float64", "float32"):
                command = [sys.executable, str(Path(__file__).resolve()), library, dtype]
                said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                print(
                    f"{library:6} {dtype}: {said['extra'] / 2**20:6.1f} MiB more than before ({said['method']})",
                    flush=True,
                )
