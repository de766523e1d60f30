"""`gaq bench`: how fast a model computes, on every backend."""

import json
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaq.cli import options
from gaq.cli.terminal import Unit, meter, show
from gaq.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from gaq.bench import BenchRow, Comparison
    from gaq.models.contract import Config

PARTS = Unit("parts", "parts/s")
RECIPES = "fp32,w4a16,w4a8"
PICTURES = (".svg", ".png")
TEXTS = ("system", "backend", "recipe")
CAPTION = (
    "times of energy and forces at neighbours that are known: median and quartiles of interleaved rounds, without the "
    "neighbour list. neighb.: finding the neighbours and giving them to the backend, which MD does when its Verlet skin "
    "is used up; + neighb.: a step that does so too. Other packages run through their ASE calculators, whose times contain "
    "the neighbour list. x compiled: time of torch-compile divided by that of the row. MiB: growth of a fresh process. "
    "ceiling, memory: share of what as many cores as threads could do at most (docs/engine.md).")


def bench(
    model: options.Model,
    systems: Annotated[str | None, typer.Option("--systems", metavar="NAMES", help=(
        "Molecules by name, water-N for a periodic box, batch-N:MOLECULE; separated by commas. Otherwise molecules of 9 "
        "and 24 atoms, 64 and 512 waters, and a batch of 64 molecules."))] = None,
    large: Annotated[bool, typer.Option("--large", help="Also 4,096 waters.")] = False,
    backends: Annotated[str | None, typer.Option("--backends", metavar="NAMES", help=(
        "Of torch-eager, torch-compile (which takes minutes), torch-bf16, engine, and other packages: mace-torch, sevenn, "
        "so3krates-torch. Otherwise all that are installed."))] = None,
    recipes: Annotated[str, typer.Option("--recipes", metavar="NAMES", help="Recipes of the engine.")] = RECIPES,
    threads: Annotated[str, typer.Option("--threads", metavar="N,N", help=(
        "Numbers of threads, each with its own rows."))] = "1,2",
    repeats: Annotated[int, options.number("--repeats", "Timed rounds.", least=3)] = 15,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Also the memory of fresh processes.")] = True,
    largest_torch: Annotated[int, options.number(
        "--largest-torch", "PyTorch and other packages compute systems of up to so many edges.", least=0,
        metavar="EDGES")] = 200_000,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help=(
        "Draw time against atoms, as .svg or .png."))] = None,
    costs: Annotated[bool, typer.Option("--costs", help="Only count operations of the model; time nothing.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Time energy and forces of an FP32 model: PyTorch, the native engine at several bit widths, other packages.

    Rounds are interleaved; figures are medians.
    """
    from gaq.bench import BenchPlan, as_json, compare
    from gaq.bench.summary import summarize
    from gaq.bench.systems import LARGE, SYSTEMS
    from gaq.files import write_atomically
    from gaq.machine import hardware

    chosen = SYSTEMS if systems is None else _names(systems)
    plan = BenchPlan((*chosen, LARGE) if large and LARGE not in chosen else chosen, thread_counts(threads),
                None if backends is None else _names(backends), _names(recipes), repeats, memory, largest_torch)
    if plot is not None and plot.suffix not in PICTURES:
        raise ConfigError(f"--plot draws {' or '.join(PICTURES)}, not {plot.name}")
    options.check_outputs([out, plot], overwrite, [model])
    forcefield = options.load_model(model, "cpu")
    if costs:
        show(_costs(forcefield.config))
        return
    with meter("bench", PARTS, "measuring the machine") as told:
        found = compare(forcefield, plan, told)
    summary = summarize(found)
    show(_table(found), CAPTION, *(f"left out: {' '.join(filter(None, (s.backend, s.system)))}: {s.reason}"
                                   for s in found.skips), *summary.lines())
    if out is not None:
        write_atomically(out, json.dumps(as_json(found, hardware()) | {"summary": summary.as_json()}, indent=1))
        show(f"wrote {out}")
    if plot is not None and found.rows:
        _draw(found.rows, plot)
        show(f"wrote {plot}")


def thread_counts(text: str) -> tuple[int, ...]:
    """Return the numbers in "1,2".

    Raises:
        ConfigError: something that is no number of threads.
    """
    names = _names(text)
    if not names:
        raise ConfigError(f"--threads takes whole numbers separated by commas, such as 1,2; given {text!r}")
    return tuple(map(options.whole(1, options.MOST_THREADS), names))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _table(found: "Comparison") -> "Table":
    """Return one line for each row, systems and numbers of threads set apart."""
    limits = found.ceilings
    table = _empty(("system", "atoms", "edges", "threads", "backend", "recipe", "ms/step", "quartiles", "neighb.",
                    "+\nneighb.", "µs/atom", "ns/day", "x\ncompiled", "MiB", "ceiling", "memory"))
    table.title = (f"one core of this machine now: float32 {limits['float32']:.0f}, int16 {limits['int16']:.0f}, int8 "
                   f"{limits['int8']:.0f} Gop/s, memory {limits['bandwidth']:.1f} GB/s")
    for row, following in zip_longest(found.rows, found.rows[1:]):
        last = following is None or (following.system, following.threads) != (row.system, row.threads)
        table.add_row(row.system, str(row.atoms), str(row.edges), str(row.threads), row.backend, row.recipe,
                      _figure(row.ms_per_step), f"{_figure(row.ms_q1)}-{_figure(row.ms_q3)}", _figure(row.neighbours_ms),
                      _figure(row.ms_per_step_with_neighbours), _figure(row.us_per_atom), _figure(row.ns_per_day),
                      _figure(row.ratio_to_compiled_fp32), "" if row.peak_MiB is None else f"{row.peak_MiB:.0f}",
                      _percent(row.share_of_ceiling), _percent(row.share_of_bandwidth), end_section=last)
    return table


def _costs(config: "Config") -> "Table":
    """Return the multiply-adds of a model, the parts of all its layers together."""
    from gaq.bench.costs import parts_of

    together: dict[tuple[str, str], list[float]] = {}
    for part in parts_of(config):
        name = ".".join(word for word in part.module.split(".") if not word.isdecimal())
        numbers = together.setdefault((part.per, name), [0.0, 0.0, 0.0])
        for k, value in enumerate((part.definition, part.forward, part.adjoint)):
            numbers[k] += value
    table = _empty(("for each", "part, all layers", "PyTorch forward", "engine forward", "engine adjoint"))
    for per in ("atom", "edge"):
        rows = [(name, numbers) for (whose, name), numbers in together.items() if whose == per]
        for name, numbers in [*rows, ("sum", [sum(values) for values in zip(*(n for _, n in rows), strict=True)])]:
            table.add_row(per, name, *(f"{value:,.0f}" for value in numbers), end_section=name == "sum")
    table.caption = "multiply-adds; edges are directed, and the engine does both directions of a pair at once"
    return table


def _empty(columns: tuple[str, ...]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, title_justify="left", padding=(0, 1, 0, 0))
    for name in columns:
        left = name in (*TEXTS, "for each", "part, all layers")
        table.add_column(name, justify="left" if left else "right", no_wrap=True, vertical="bottom")
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _draw(rows: "list[BenchRow]", path: Path) -> None:
    from gaq.files import atomic_path, write_atomically
    from gaq.report.style import to_svg

    figure = _figure_of(rows)
    if path.suffix == ".svg":
        write_atomically(path, to_svg(figure, "bench"))
        return
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=160, facecolor="white")


def _figure_of(rows: "list[BenchRow]") -> "Figure":
    """Draw the rows of the first number of threads."""
    from gaq.bench.steps import COMPILED
    from gaq.report.plots import times_by_size

    first = rows[0].threads
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.threads == first and not row.system.startswith("batch-"):
            lines.setdefault(row.label if row.backend == "engine" else row.backend, []).append((row.atoms, row.ms_per_step))
    return times_by_size(lines, COMPILED, f"ms for each step, {first} thread{'s' if first > 1 else ''}")
