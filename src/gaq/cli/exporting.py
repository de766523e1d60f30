"""`gaq export`: a model as one file for programs in C and C++."""

from pathlib import Path
from typing import Annotated

import typer

from gaq.cli import options
from gaq.cli.terminal import show, size


def export(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", metavar="MODEL.gaqblob", help="The file to write.")],
    overwrite: options.Overwrite = False,
) -> None:
    """Write a model as the one file that the native engine reads.

    It is what programs in C and C++ load by the functions of gaq_engine.h; nothing else is needed beside the library.
    """
    options.check_outputs([out], overwrite, [model])
    options.load_model(model, "cpu").export(out)
    show(f"wrote {out} ({size(out.stat().st_size)})")
