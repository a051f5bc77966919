"""Peak memory of one NMS, measured in its own process: `python benchmarks/memory.py N LIBRARY` prints JSON."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import scenes
from cases import NMS
from contenders import CONTENDERS


def peak_in_fresh_process(n: int, contender: str) -> dict[str, object]:
    """Run this file as a script and read its output."""
    command = [sys.executable, str(Path(__file__).resolve()), str(n), contender]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"the process that measures memory ended with status {done.returncode}")
    return json.loads(done.stdout)


def peak(n: int, contender: str) -> dict[str, object]:
    """Bytes: resident before the call, the most during it, and the difference."""
    prepare = next(each for each in CONTENDERS if each.name == contender).operations[NMS]
    # A small call first, so that imports and thread pools are not counted.
    prepare(scenes.aerial(1_000))()
    call = prepare(scenes.aerial(n))
    method = "VmHWM, reset before the call" if reset_high_water_mark() else "ru_maxrss, imports included"
    before = status("VmRSS")
    result = call()
    most = status("VmHWM") if method.startswith("VmHWM") else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    del result
    return {"n": n, "before": before, "peak": most, "extra": most - before, "method": method}


def reset_high_water_mark() -> bool:
    """Reset the recorded peak to the memory resident now; Linux only, and containers may forbid it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def status(field: str) -> int:
    """One size of /proc/self/status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(peak(int(sys.argv[1]), sys.argv[2])))
