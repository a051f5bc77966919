"""Compile each op with torch, in a process where nothing was called before: ``python -m tests.compiled_once nms_mask``.

A second call, and one after an eager call, must not compile again: nothing that the program depends on may change.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

from tests.backends import compile_fullgraph
from tests.programs import ROOT, whole


def again(ops: list[str]) -> dict[str, str]:
    """Return the reason why an op is compiled again, or an empty text, by name."""
    command = [sys.executable, "-m", "tests.compiled_once", *ops]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(map(json.loads, done.stdout.splitlines()))


def _error(op: str) -> str:
    import torch

    torch._dynamo.config.error_on_recompile = True
    call, arrays = whole(op)
    given = [torch.asarray(x) for x in arrays]
    compiled = compile_fullgraph(call, "eager")
    try:
        for f in (compiled, compiled, call, compiled):
            f(*given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(ops: list[str]) -> None:
    import torch._dynamo  # noqa: F401  # here, so that its copies need not

    warnings.simplefilter("ignore")  # torch's warnings about torch
    for op in ops:
        # Each op in a copy of this process, in which no other op has been called.
        if os.fork() == 0:
            print(json.dumps((op, _error(op))), flush=True)
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
