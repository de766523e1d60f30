"""Peak memory of a fresh process that computes one system on one backend."""

import contextlib
import multiprocessing
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from gaq.bench.steps import step_of
from gaq.bench.systems import System
from gaq.errors import GaqError
from gaq.forcefield import ForceField

MIB = 2**20


class MemoryNotMeasured(GaqError):
    """The process whose memory was to be measured ended early."""


def peak_MiB(backend: str, system: System, form: ForceField, threads: int) -> float:
    """Return how much a fresh process grows by computing once, MiB; what torch itself takes is not in it.

    Raises:
        MemoryNotMeasured: the process ended early, as it does where memory is short.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(send, backend, system, form, threads))
    child.start()
    send.close()
    try:
        return float(receive.recv())
    except EOFError:
        raise MemoryNotMeasured("the process whose memory was to be measured ended early; perhaps there is not enough of it"
                                ) from None
    finally:
        child.kill()  # it has sent all it had to, or nobody waits for it any more
        child.join()


def _measure(send: Any, backend: str, system: System, form: ForceField, threads: int) -> None:
    torch.set_num_threads(threads)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew from what is in use
    begin = _largest_MiB()
    step_of(backend, system, form, threads).compute()
    send.send(_largest_MiB() - begin)


def _largest_MiB() -> float:
    """Return the largest memory of this process; Linux' ru_maxrss would start with that of the process before."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 2**10)
