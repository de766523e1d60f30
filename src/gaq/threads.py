"""Threads: how many there may be, and locks of objects that are copied, pickled and inherited by forked processes."""

import os
import sys
import threading
import weakref
from types import TracebackType

MOST_THREADS = 256


def usual_threads() -> int:
    """Return how many threads share out work where nobody says: PyTorch's number, OMP_NUM_THREADS, or all cores."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return min(int(torch.get_num_threads()), MOST_THREADS)
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(asked) if asked.isdecimal() and int(asked) else cores, MOST_THREADS)


class Lock:
    """A lock that its thread may take again. A copy, an unpickled one and a forked child's begin free."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["Lock"], tuple[()]]:
        return Lock, ()

    def renew(self) -> None:
        """Forget a holder that the fork did not copy; the forking thread itself keeps what it holds."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


_LOCKS: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_LOCKS):
        lock.renew()
    torch = sys.modules.get("torch")
    if torch is not None:  # it would wait for ever for the threads of a pool that stayed behind
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
