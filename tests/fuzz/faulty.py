"""What the harness must notice, for its own test: case n breaks the rules in the nth way."""

import os
from pathlib import Path

import numpy as np

from gaq.errors import ConfigError, OutputError
from tests.fuzz.harness import MEMORY, ROOM


class OutOfMemory(ConfigError, MemoryError):
    """As the engine's: an error of ours, and of Python."""


def try_case(rng: np.random.Generator, folder: Path) -> str:
    """The folder is named after the case."""
    match int(folder.name):
        case 0:
            (folder / "left").write_text("behind")
            return "accepted"
        case 1:
            raise ConfigError("no")
        case 2:
            raise ValueError("untyped")
        case 3:
            os.abort()
        case 4:
            return str(len(np.ones(MEMORY // 8 + 10**7)))
        case 5:
            return str(len(np.ones(ROOM)))
        case 6:
            raise OutOfMemory("no memory for it")
        case 7:
            while True:
                pass
        case 8:
            raise SystemExit(0)
    raise OutputError("the last")
