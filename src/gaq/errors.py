"""Errors a user can act on: each message names the argument, the rule, what was given and the next step."""

import difflib
import signal
from collections.abc import Iterable

LONGEST = 500  # characters of a message: it names what was given, and that may be a whole file


class GaqError(Exception):
    """Base of every error that gaq raises on purpose; the command line prints it as one line, without a traceback."""

    def __str__(self) -> str:
        """Return the message as one printable line; of one that is too long, its beginning and its end."""
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST * 2 // 3]} [...] {text[-LONGEST // 4 :]}"
        return "".join(c if c.isprintable() else " " for c in text)


class StructureError(GaqError, ValueError):
    """A structure that has no physical meaning: no atoms, NaN or infinite coordinates, two atoms at one place."""


class SpeciesError(StructureError):
    """A chemical species that the force field was not made for."""


class DataError(GaqError, ValueError):
    """A data source that cannot be read: missing keys, wrong shapes, wrong units, object arrays."""


class DownloadError(DataError):
    """A download that failed: offline, or a checksum that does not match."""


class ConfigError(GaqError, ValueError):
    """A configuration, recipe or option that does not follow its schema."""


class ModelFileError(GaqError, ValueError):
    """A model file or checkpoint that is truncated, damaged, foreign, or newer than this program."""


class OutputError(GaqError, OSError):
    """An output that could not be written; whatever was at its path before is untouched."""


class PackageMissing(GaqError, ImportError):
    """An optional package that is not installed, and that was needed."""


class Terminated(KeyboardInterrupt):
    """A signal that asks the process to end; whatever saves at Ctrl-C saves then, too.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupted(GaqError):
    """The user pressed Ctrl-C, or a signal asked to end; what was reached is saved, and the message says how to go on.

    Args:
        cause: what stopped the work.
        where: how far it got, and how to go on: "at step 12 of 20; ...".

    Attributes:
        status: exit status of the process by the custom of shells.
    """

    def __init__(self, cause: KeyboardInterrupt, where: str = "") -> None:
        number = cause.number if isinstance(cause, Terminated) else signal.SIGINT
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name} {where}".rstrip())
        self.status = 128 + number


class ExtrapolationWarning(UserWarning):
    """A structure outside of what the training data of a model showed it: its energies and forces are a guess."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(given[:100], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
