"""`gaq demo`: the whole of it on one molecule."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from gaq.cli import options
from gaq.cli.terminal import COUNTS, Meter, meter, show
from gaq.errors import OutputError


def demo(
    structure: Annotated[str | None, typer.Option("--structure", help=(
        f"A molecule of yours: {options.STRUCTURE}. Otherwise ethanol and its ready FP32 model."))] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for everything it makes.")] = Path("gaq-demo"),
    overwrite: options.Overwrite = False,
) -> None:
    """Show all of it on one molecule, in about ten minutes.

    Labels frames, quantizes a model, compares it with FP32 and naive INT8, simulates, and writes page.html.
    """
    from gaq.demo import run_demo
    from gaq.report import comparison_table

    def stage(title: str) -> AbstractContextManager[Meter]:
        return meter(title, COUNTS)

    options.check_writable(out / "page.html")
    if any(out.iterdir()) and not overwrite:
        raise OutputError(f"the folder {out} is not empty; replace what an earlier demo left there with --overwrite, or "
                          "choose another one with --out")
    options.use_threads(1)  # a second thread slows a molecule of this size down
    results = run_demo(structure, out, stage)
    show(comparison_table([results]), f"wrote {out / 'page.html'}")
