"""Ctrl-C, SIGTERM and SIGHUP take one way out."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from gaq import interrupts
from gaq.errors import Interrupted, Terminated
from gaq.interrupts import HeldInterrupts, interrupt, terminable

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_an_exception_within_the_block_alone(number: int) -> None:
    with terminable():
        with pytest.raises(Terminated) as caught:  # a KeyboardInterrupt, so that whatever saves then saves now
            send(number)
        assert isinstance(caught.value, KeyboardInterrupt)
        assert caught.value.number == number
        assert signal.getsignal(number) == signal.SIG_DFL  # the second one ends the process at once
    assert signal.getsignal(number) == signal.SIG_DFL


def test_what_others_decided_about_signals_stays() -> None:
    """As `nohup` does: it ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            send(signal.SIGHUP)
            with HeldInterrupts() as held:
                send(signal.SIGHUP)
        assert not held.received
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ALL)
def test_signals_are_held_and_a_second_one_breaks_in(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ONE_PRESS", -1.0)
    with terminable():
        held, before = HeldInterrupts(), [signal.getsignal(n) for n in ALL]
        with pytest.raises(KeyboardInterrupt), held:  # noqa: PT012
            send(number)
            assert held.received == number
            assert not held.broke_in
            send(number)
        assert held.broke_in
        assert [signal.getsignal(n) for n in ALL] == before


def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """torchrun hands a Ctrl-C on to processes that the terminal has told already."""
    with HeldInterrupts() as held:
        send(signal.SIGINT)
        send(signal.SIGINT)
    assert held.received == signal.SIGINT
    assert not held.broke_in


def test_a_library_leaves_sigterm_alone() -> None:
    with HeldInterrupts():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_other_threads_leave_signals_alone() -> None:
    found: list[object] = []

    def work() -> None:
        with terminable(), HeldInterrupts():
            found.extend(signal.getsignal(number) for number in ALL)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]


def test_messages_and_statuses() -> None:
    stopped = [Interrupted(interrupt(number), "at step 1 of 2") for number in ALL]
    assert [(error.status, str(error)) for error in stopped] == [
        (130, "stopped by Ctrl-C at step 1 of 2"), (143, "stopped by SIGTERM at step 1 of 2"),
        (129, "stopped by SIGHUP at step 1 of 2")]


def test_the_second_sigterm_ends_a_process_at_once() -> None:
    program = ("import time\nfrom gaq.interrupts import terminable\n"
               "with terminable():\n    try:\n        print('ready', flush=True)\n        time.sleep(60)\n"
               "    except KeyboardInterrupt:\n        print('saving', flush=True)\n        time.sleep(60)\n")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for word in ("ready\n", "saving\n"):
        assert process.stdout.readline() == word
        process.terminate()
    assert process.wait(timeout=20) == -signal.SIGTERM
    process.stdout.close()
