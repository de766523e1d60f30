"""Running `gaq` in this process, and reading what it says."""

import os
from unittest.mock import patch

from typer.testing import CliRunner, Result

from gaq.cli import app


def invoke(*arguments: object) -> Result:
    """Run `gaq` in this process; an exception that the command line should have caught goes on.

    What `--threads` says to the environment of a process of its own is taken back.
    """
    with patch.dict(os.environ):
        result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="gaq")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def one_error(result: Result, status: int = 1) -> str:
    """Return the only line on standard error that a failed command leaves, apart from progress."""
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error: ", "stopped "))]
    assert len(lines) == 1, result.output
    assert result.stderr.rstrip().endswith(lines[0])
    assert "Traceback" not in result.output
    return lines[0]
