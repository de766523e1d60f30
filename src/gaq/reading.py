"""Reading text that others wrote: regular files alone, of a size that text has, and YAML that is plain data."""

import os
import stat
from pathlib import Path
from typing import Any

import yaml

from gaq.errors import GaqError

LARGEST = 256 * 2**20  # bytes of a configuration, recipe or report
DEEPEST, MOST = 32, 100_000  # levels and values of YAML


def require_file(path: str | Path, kind: type[GaqError], advice: str = "give the path of a file") -> Path:
    """Return `path` if a regular file is there: a pipe or a device could keep us waiting, or never end.

    Raises:
        kind: nothing there, something else, or a path that no file can have.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise kind(f"no file at {path}; {advice}") from error
    except (OSError, ValueError) as error:  # links in a circle, a name that is too long, a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise kind(f"cannot read {str(path)!r}: {reason}; {advice}") from error
    if not stat.S_ISREG(mode):
        raise kind(f"cannot read {path}: it is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}; {advice}")
    return Path(path)


def read_text(path: str | Path, kind: type[GaqError], advice: str = "give the path of a file") -> str:
    """Return the text of a regular file in UTF-8.

    Raises:
        kind: no such file, one that is too large for text or cannot be read, or that is not text.
    """
    file = require_file(path, kind, advice)
    try:
        if file.stat().st_size > LARGEST:
            raise kind(f"cannot read {path}: it has {file.stat().st_size / 1e6:.0f} MB, too much for text; {advice}")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise kind(f"cannot read {path}: {error.strerror}; {advice}") from error
    except UnicodeDecodeError as error:
        raise kind(f"cannot read {path}: it is not text in UTF-8; {advice}") from error


class _Plain(yaml.SafeLoader):
    """YAML without aliases, which a few lines can multiply to more than a machine holds, and not too deep."""

    depth, values = 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value out")
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.depth > DEEPEST or self.values > MOST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels or {MOST} values are not read")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse_yaml(text: str) -> Any:
    """Return what YAML holds, as `yaml.safe_load`.

    Raises:
        yaml.YAMLError: text that is not YAML, an alias, too many levels or values, or a value that Python cannot hold.
    """
    try:
        loader = _Plain(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:  # a date of month 13, ...
        raise yaml.YAMLError(str(error)) from error
