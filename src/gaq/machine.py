"""What this machine is, as reports name it."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gaq.threads import usual_threads


def hardware() -> dict[str, Any]:
    """Return processor, threads and version of PyTorch, as `results.json` names them."""
    return {"cpu": _cpu_name(), "threads": usual_threads(), "torch": installed("torch"), "device": "cpu"}


def installed(package: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
