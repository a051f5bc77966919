"""Timing: contenders take turns in bursts of calls; the result is the median of single calls."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Call = Callable[[], object]

SLOW = 5.0  # seconds per call: beyond this, two samples are enough
BURST = 0.02  # seconds of calls before the next contender's turn: a single short call would measure cold caches
LEAST_ROUNDS, MOST_ROUNDS, LONGEST_BURST = 3, 100, 50


@dataclass
class Entrant:
    """One timed call and its samples; `first` is the time of its very first call, if that was timed."""

    call: Call
    first: float = 0.0
    compiles: bool = False  # then the first call says nothing about the later ones
    samples: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float | int]:
        """Median, least and quartiles."""
        ordered = sorted(self.samples)
        quarter = (len(ordered) - 1) / 4
        return {
            "seconds": statistics.median(ordered),
            "least": ordered[0],
            "low": ordered[round(quarter)],
            "high": ordered[round(3 * quarter)],
            "repetitions": len(ordered),
        }


def timed(call: Call) -> tuple[float, object]:
    """Seconds of one call, and what it returned (so that freeing the result is not timed)."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then not again until the end of the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process that keeps one core busy during the block, and no longer than this process lives."""
    spin = (
        "import os\nparent = os.getppid()\nprint(flush=True)\n"
        "while os.getppid() == parent:\n    for _ in range(1_000_000): pass"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", spin], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()  # it has begun
            yield
        finally:
            neighbour.kill()


def measure(entrants: list[Entrant], budget: float) -> None:
    """Fill the samples of all entrants, taking turns, until the budget (seconds) is spent and each has had three."""
    for entrant in entrants:
        warm_up(entrant)
    with no_garbage_collection():
        start = time.perf_counter()
        for number in range(MOST_ROUNDS):
            # Reverse the order every other round, so that no contender always follows the same one.
            for entrant in entrants[:: -1 if number % 2 else 1]:
                one_turn(entrant)
            if number + 1 >= LEAST_ROUNDS and time.perf_counter() - start > budget:
                break


def warm_up(entrant: Entrant) -> None:
    """One untimed call; a very slow call that compiles nothing needs no warm-up, and its first call is a sample."""
    if entrant.first > SLOW and not entrant.compiles:
        entrant.samples.append(entrant.first)
    else:
        entrant.first, _ = timed(entrant.call)


def one_turn(entrant: Entrant) -> None:
    """A burst of samples, one for a slow call, none for a very slow one that has its two."""
    if entrant.first > SLOW and len(entrant.samples) >= 2:
        return
    for _ in range(min(max(int(BURST / max(entrant.first, 1e-9)), 1), LONGEST_BURST)):
        seconds, result = timed(entrant.call)
        entrant.samples.append(seconds)
        del result
