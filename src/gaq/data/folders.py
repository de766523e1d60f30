"""Where data sets are looked for, and where downloads go."""

import os
import sys
from pathlib import Path

from gaq.errors import DataError


def data_folders() -> list[Path]:
    """Return the folders where data sets are looked for: GAQ_DATA, where it is set, and the download cache.

    Raises:
        DataError: GAQ_DATA does not name a folder.
    """
    given = os.environ.get("GAQ_DATA")
    if not given:
        return [cache_folder()]
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(f"the environment variable GAQ_DATA must name a folder; there is none at {folder}")
    return [folder, cache_folder()]


def cache_folder() -> Path:
    """Return the folder that downloads go to: where the system keeps what programs can fetch again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "gaq" / "Cache"
    caches = "~/Library/Caches" if sys.platform == "darwin" else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "gaq"
