"""Errors a user can act on: each message names the argument, the rule, what was given and the next step."""

import difflib
from collections.abc import Iterable


class GaqError(Exception):
    """Base of every error that gaq raises on purpose; the command line prints it as one line, without a traceback."""


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


class Interrupted(GaqError):
    """The user pressed Ctrl-C; what was reached is saved, and the message says how to go on."""


class ExtrapolationWarning(UserWarning):
    """A structure outside of what the training data of a model showed it: its energies and forces are a guess."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
