"""`python -m tests.fuzz KIND [--cases N] [--seed S] [--first N] [--go-on] [--sanitized]`, from the root of the checkout."""

import argparse
import os
import sys
from pathlib import Path

from tests.fuzz import harness


def main() -> None:
    """Run one fuzzer; exit with 1 where a case broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=harness.__doc__.splitlines()[0])
    parser.add_argument("kind", choices=harness.KINDS)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--go-on", action="store_true", help="report every failure, not only the first")
    parser.add_argument("--sanitized", nargs="?", const="build/sanitize/fuzz", metavar="PROGRAM",
                        help="blobs: use them in this program, which `make sanitize` builds, not in Python")
    given = parser.parse_args()
    if given.sanitized:
        if given.kind != "blobs" or not Path(given.sanitized).is_file():
            harness.fail(f"only blobs can be sanitized, by a program that `make sanitize` builds; given {given.sanitized}")
        os.environ[harness.DRIVER] = given.sanitized
    if not harness.exists(given.kind):
        harness.fail(f"this checkout has no tests/fuzz/{given.kind}.py")
    sys.exit(bool(harness.run(given.kind, given.cases, given.seed, given.first, given.go_on)))


if __name__ == "__main__":
    main()
