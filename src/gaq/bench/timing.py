"""Times of functions called in turn, and the ceilings of the machine."""

import ctypes
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gaq.backends.native.library import Ceilings, library

MOST_CALLS, ROUND_SECONDS = 50, 0.01  # of a fast function in each round
Key = TypeVar("Key", bound=Hashable)


def interleaved(steps: Mapping[Key, Callable[[], object]], repeats: int,
                done: Callable[[], None] = lambda: None) -> dict[Key, NDArray[np.float64]]:
    """Return the times in ms of each function, called in turn so that a busy machine is as unfair to all.

    Args:
        steps: what to call; fast functions are called several times in a row.
        repeats: rounds.
        done: told after the warm-up and after each round.
    """
    calls = {}
    for key, step in steps.items():
        step()
        calls[key] = max(1, min(MOST_CALLS, round(ROUND_SECONDS / _seconds(step, 1))))
    done()
    times: dict[Key, list[float]] = {key: [] for key in steps}
    for _ in range(repeats):
        for key, step in steps.items():
            times[key].append(1000.0 * _seconds(step, calls[key]) / calls[key])
        done()
    return {key: np.array(values) for key, values in times.items()}


def ceilings() -> dict[str, float]:
    """Return what one core can do at most: 1e9 operations (float32, int16, int8) or bytes (bandwidth) a second."""
    found = Ceilings()
    library().functions.gaq_measure_ceilings(None, ctypes.byref(found))
    return {name: float(getattr(found, name)) for name, _ in Ceilings._fields_}


def _seconds(step: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return time.perf_counter() - begin
