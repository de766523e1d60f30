"""Ctrl-C, SIGTERM and SIGHUP: one way out, on which everything that was reached is saved."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from gaq.errors import Terminated

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
ONE_PRESS = 0.5  # s; torchrun hands a Ctrl-C on to processes that the terminal has told already


def terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Handle a signal by an exception; the same one again ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Terminated(number)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Terminated` in this block, where nobody else cares for them (nohup does)."""
    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL] if _in_main_thread() else []
    for number in ours:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class HeldInterrupts:
    """Holds signals back until a step is whole, for no checkpoint could hold half of one; a second one breaks in.

    Those are Ctrl-C and, within `terminable`, SIGTERM and SIGHUP.

    Attributes:
        received: number of the first signal, or 0.
        broke_in: whether a second one was raised.
    """

    def __init__(self) -> None:
        self.received, self.broke_in = 0, False
        self._before: dict[int, object] = {}
        self._when = 0.0

    def __enter__(self) -> "HeldInterrupts":
        for number in (signal.SIGINT, *ENDING) if _in_main_thread() else ():
            if signal.getsignal(number) in (signal.default_int_handler, terminate):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what was there before

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._when = number, now
        elif now - self._when > ONE_PRESS:
            self.broke_in = True
            raise interrupt(number)


def interrupt(number: int) -> KeyboardInterrupt:
    """Return the exception for a signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
