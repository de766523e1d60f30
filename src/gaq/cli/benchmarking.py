"""`gaq bench`: how fast a model computes, on every backend."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from gaq.cli import options
from gaq.cli.terminal import say, show

SYSTEMS, RECIPES = "CH3CH2OH,water-64,water-512", "fp32,w4a16,w4a8"
COLUMNS = ("system", "atoms", "edges", "backend", "recipe", "ms/step", "quartiles", "µs/atom", "ns/day", "× compiled",
           "MiB")


def bench(
    model: options.Model,
    systems: Annotated[str, typer.Option("--systems", metavar="NAMES", help=(
        "Molecules by name, water-N for a periodic box, batch-N:MOLECULE; separated by commas."))] = SYSTEMS,
    recipes: Annotated[str, typer.Option("--recipes", help="Recipes of the engine, separated by commas.")] = RECIPES,
    repeats: Annotated[int, typer.Option("--repeats", min=3, help="Timed rounds.")] = 15,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Also torch.compile; takes minutes.")] = True,
    eager: Annotated[bool, typer.Option("--eager/--no-eager", help="Also PyTorch as it is.")] = True,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Also the memory of fresh processes.")] = True,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    threads: options.Threads = 1,
) -> None:
    """Time energy and forces of an FP32 model: PyTorch, compiled PyTorch, and the native engine at several bit widths.

    Rounds are interleaved; figures are medians.
    """
    from gaq.bench import as_json, ceilings, compare
    from gaq.evaluate import hardware
    from gaq.files import write_atomically

    rows = compare(options.load_model(model, "cpu"), [s.strip() for s in systems.split(",") if s.strip()],
                   threads=threads or 1, compiled=compiled, eager=eager, recipes=[r.strip() for r in recipes.split(",")],
                   repeats=repeats, memory=memory, progress=say)
    table = Table(box=box.SIMPLE_HEAD)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("system", "backend", "recipe") else "right")
    for r in rows:
        table.add_row(r.system, str(r.atoms), str(r.edges), r.backend, r.recipe, f"{r.ms_per_step:.3g}",
                      f"{r.ms_q1:.3g}-{r.ms_q3:.3g}", f"{r.us_per_atom:.3g}", f"{r.ns_per_day:.3g}",
                      "" if r.ratio_to_compiled_fp32 is None else f"{r.ratio_to_compiled_fp32:.3g}",
                      "" if r.peak_MiB is None else f"{r.peak_MiB:.0f}")
    limits = ceilings()
    show(table, f"one core of this machine now: float32 {limits['float32']:.0f}, int16 {limits['int16']:.0f}, int8 "
                f"{limits['int8']:.0f} Gop/s, memory {limits['bandwidth']:.1f} GB/s")
    if out is not None:
        write_atomically(out, json.dumps(as_json(rows, hardware()), indent=1).encode())
        show(f"wrote {out}")
