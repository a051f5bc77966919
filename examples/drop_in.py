"""An application written for torchvision, run with anyops after a swap of three lines.

    python examples/drop_in.py [--boxes 20000]          needs torch

`detections` is the application: it knows `torchvision.ops.nms` and nothing of anyops. `swapped` holds the three lines.
If torchvision is installed, both are run, and must find exactly the same boxes; otherwise the application uses anyops
only.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

import anyops

if importlib.util.find_spec("torchvision"):
    from torchvision import ops
else:
    ops = SimpleNamespace(nms=anyops.nms)


def detections(boxes: torch.Tensor, scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The application: from the raw boxes of a detector to the 100 best after suppression."""
    height, width = size
    inside = (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < width) & (boxes[:, 1] < height)
    boxes, scores = boxes[inside], scores[inside]
    return boxes[ops.nms(boxes, scores, 0.5)[:100]]


@contextmanager
def swapped() -> Iterator[None]:
    """The swap, undone at the end of a block; an application would leave it in place."""
    theirs = ops.nms
    ops.nms = anyops.nms  # with the two imports, `import anyops` and `from torchvision import ops`: three lines
    try:
        yield
    finally:
        ops.nms = theirs


def scene(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes in clusters of ten, as a detector gives them."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.rand((count // 10 + 1, 2), generator=draw) * 2000
    corners = centres.repeat_interleave(10, dim=0)[:count] + 4 * torch.randn((count, 2), generator=draw)
    sides = 30 + 10 * torch.rand((count, 2), generator=draw)
    return torch.cat((corners, corners + sides), dim=1), torch.rand(count, generator=draw)


def timed(*arguments: Any) -> tuple[torch.Tensor, float]:
    """The application's result, and its milliseconds."""
    detections(*arguments)
    start = time.perf_counter()
    found = detections(*arguments)
    return found, 1e3 * (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> torch.Tensor:
    parser = argparse.ArgumentParser(description="Swap torchvision.ops.nms for anyops.nms.")
    parser.add_argument("--boxes", type=int, default=20_000, metavar="N")
    boxes, scores = scene(parser.parse_args(argv).boxes)
    arguments = boxes, scores, (2000, 2000)
    with swapped():
        ours, milliseconds = timed(*arguments)
    print(f"anyops       {len(ours)} boxes in {milliseconds:.1f} ms")
    if ops.nms is anyops.nms:
        print("torchvision  is not installed")
        return ours
    theirs, milliseconds = timed(*arguments)
    print(f"torchvision  {len(theirs)} boxes in {milliseconds:.1f} ms")
    if not torch.equal(ours, theirs):
        raise SystemExit("the boxes differ")
    print("exactly the same boxes")
    return ours


if __name__ == "__main__":
    main()
