"""The command line: `gaq train`, `gaq quantize`, `gaq evaluate`, ...

Commands import what they need when they run, so that help and typing mistakes are answered at once.
"""

import io
import sys
import warnings

from gaq.cli.app import app


def main() -> None:
    """Run the command line: the entry point `gaq`."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries mean nothing to people who run simulations
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Å shows another sign instead of a traceback
    app(prog_name="gaq")
