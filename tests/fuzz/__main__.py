"""`python -m tests.fuzz KIND [--cases N] [--seed S] [--first N] [--go-on]`, from the root of the checkout."""

import argparse
import sys

from tests.fuzz import harness


def main() -> None:
    """Run one fuzzer; exit with 1 where a case broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=harness.__doc__.splitlines()[0])
    parser.add_argument("kind", choices=harness.KINDS)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--go-on", action="store_true", help="report every failure, not only the first")
    given = parser.parse_args()
    if not harness.exists(given.kind):
        harness.fail(f"this checkout has no tests/fuzz/{given.kind}.py")
    sys.exit(bool(harness.run(given.kind, given.cases, given.seed, given.first, given.go_on)))


if __name__ == "__main__":
    main()
