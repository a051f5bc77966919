"""Parallel work on all cores, for libraries that run all or some of their operations on one core."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import cache
from typing import Any, TypeVar

from .namespace import Array, library, namespace

T = TypeVar("T")

_lock = threading.Lock()
_running: list[Any] = []  # BLAS limits of the sections that run at the same time; the last one to end restores them


def workers(x: Array) -> int:
    """Return the number of parts in which to process an array that is at hand."""
    name = library(namespace(x=x))
    return _cores() if name in ("numpy", "torch") else 1


def in_parts(x: Array, work: Callable[[int], T], parts: int) -> list[T]:
    """Return ``[work(0), ..., work(parts - 1)]``, computed in parallel, each on one core.

    NumPy runs elementwise operations on one core and only products on all; torch starts threads for each operation,
    which is slow for small ones. So each core runs the whole chain on its part, and the libraries' threads are off.
    """
    if parts == 1:
        return [work(0)]
    name = library(namespace(x=x))
    states = [copy_context() for _ in range(parts)]  # NumPy's errstate, for one, is not inherited by threads
    with _one_thread_each(name):
        return list(_pool().map(lambda part: states[part].run(_alone, name, work, part), range(parts)))


WORTH_BLAS = 1 << 19  # elements of a matrix above which several BLAS threads are faster


def blas_of(x: Array) -> AbstractContextManager[None]:
    """Keep BLAS on one thread for products of a small NumPy matrix.

    A product waits for the slowest thread. On two cores, while threads of scikit-learn or torch were still spinning
    after their work, 10 000 × 20 took two and a half times as long with two threads.
    """
    return _one_thread_each("numpy") if x.size <= WORTH_BLAS else nullcontext()


def _alone(name: str, work: Callable[[int], T], part: int) -> T:
    if name != "torch":
        return work(part)
    import torch

    torch.set_num_threads(1)  # of this thread
    with torch.no_grad():  # also set per thread
        return work(part)


@contextmanager
def _one_thread_each(name: str) -> Iterator[None]:
    """Keep BLAS from starting threads; the setting applies to the whole process."""
    with _lock:
        _running.append(_limited() if not _running else _running[-1])
    try:
        yield
    finally:
        with _lock:
            limit = _running.pop()
            if not _running:
                limit.restore_original_limits()
        if name == "torch":
            import torch

            # set_num_threads also sets the number of BLAS threads.
            torch.set_num_threads(torch.get_num_threads())


def _limited() -> Any:
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="anyops")


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool without its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
