"""Work in parts on all cores, for libraries that run all or some of their operations on one core."""

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
_running: list[Any] = []  # what to restore when the last of those that run at once ends


def workers(x: Array) -> int:
    """Return in how many parts to do work on an array that is at hand."""
    name = library(namespace(x=x))
    return _cores() if name in ("numpy", "torch") else 1


def in_parts(x: Array, work: Callable[[int], T], parts: int) -> list[T]:
    """Return ``[work(0), ..., work(parts - 1)]``, computed at once, each on one core.

    NumPy runs elementwise operations on one core and only products on all; torch starts threads for each operation,
    which is slow for small ones. So each core gets a part of the whole chain, and the libraries' own threads pause.
    """
    if parts == 1:
        return [work(0)]
    name = library(namespace(x=x))
    states = [copy_context() for _ in range(parts)]  # as where NumPy warns, which threads do not inherit
    with _one_thread_each(name):
        return list(_pool().map(lambda part: states[part].run(_alone, name, work, part), range(parts)))


WORTH_BLAS = 1 << 19  # numbers in a matrix from which a second thread of BLAS pays


def blas_of(x: Array) -> AbstractContextManager[None]:
    """Keep BLAS on one thread for products of a small NumPy matrix.

    A product waits for the slowest thread. On two cores, while the threads of scikit-learn or torch still spin after
    their work, 10 000 × 20 took two and a half times as long with two.
    """
    return _one_thread_each("numpy") if x.size <= WORTH_BLAS else nullcontext()


def _alone(name: str, work: Callable[[int], T], part: int) -> T:
    if name != "torch":
        return work(part)
    import torch

    torch.set_num_threads(1)  # of this thread
    with torch.no_grad():  # which is a state of each thread as well
        return work(part)


@contextmanager
def _one_thread_each(name: str) -> Iterator[None]:
    """Keep BLAS from starting threads of its own; the setting is one for the whole process."""
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

            # torch tells BLAS of the number of threads whenever one asks for it.
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


if hasattr(os, "register_at_fork"):  # a child has the pool and none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
