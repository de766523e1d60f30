"""`gaq evaluate` and `gaq report`: how good models are, in the terminal, as a file and as a page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaq.cli import options
from gaq.cli.terminal import Unit, meter, show, stages

if TYPE_CHECKING:
    from rich.table import Table

    from gaq.data import Frames
    from gaq.forcefield import ForceField

DISPLACEMENTS = (1e-4, 1e-3, 1e-2)  # Å
CHECKED_FRAMES = 3
PRECISIONS = ("float32", "float64")


def evaluate(
    models: Annotated[list[Path], options.model("One or more model files, or folders of runs.")],
    data: options.Data,
    frames: Annotated[int | None, options.number(
        "--frames", "Take so many frames at random; all of them otherwise.")] = None,
    rotations: Annotated[int, options.number("--rotations", "Random rotations of each frame.")] = 64,
    lee_frames: Annotated[int, options.number("--lee-frames", "Frames that are rotated.")] = 32,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help=(
        "Write the results, with all details, for `gaq report`."))] = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the report.")] = "Force fields compared",
    check_forces: Annotated[bool, typer.Option("--check-forces", help=(
        "Also compare forces with finite differences of the energy."))] = False,
    dtype: Annotated[str, typer.Option("--dtype", metavar="NAME", parser=options.one_of(*PRECISIONS), help=(
        "Compute in float32, or in float64, which PyTorch does."))] = "float32",
    batch_size: Annotated[int, options.number("--batch-size", "Structures in one prediction.")] = 16,
    seed: options.Seed = 0,
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    energy_key: options.EnergyKey = "REF_energy",
    forces_key: options.ForcesKey = "REF_forces",
    stress_key: options.StressKey = "REF_stress",
    energy_unit: options.EnergyUnit = "eV",
    length_unit: options.LengthUnit = "Ang",
    overwrite: options.Overwrite = False,
) -> None:
    """Compare models with reference data.

    Shows errors of energies and forces, and how far rotations of the molecule change the forces (LEE; 0 is ideal).
    """

    from gaq.assess.evaluate import evaluate as measure
    from gaq.data import load_frames
    from gaq.files import write_atomically
    from gaq.report import comparison_table

    options.check_outputs([out], overwrite, [*models, data])
    options.use_threads(threads)
    stored = [options.load_model(path, device) for path in models]
    reference = load_frames(data, options.key_map(energy_key, forces_key, energy_unit, length_unit, stress=stress_key))
    if frames is not None:
        reference = reference.take(frames, seed)
    names = _names(models)
    computing = [forcefield if dtype == "float32" else forcefield.on("torch", device=device, dtype=dtype)
                 for forcefield in stored]
    with stages("evaluating") as told:
        results = measure(list(zip(names, computing, models, strict=True)), reference, rotations=rotations,
                          lee_frames=lee_frames, batch_size=batch_size, seed=seed, title=title,
                          backend=backend if dtype == "float32" and device == "cpu" else None,
                          progress=told)
    results["hardware"]["device"] = device
    if dtype != "float32":
        results["notes"].append(f"Models were evaluated in {dtype}; sizes are those of the files.")
    computed = "; ".join(f"{found['name']}: {found['backend']}" for found in results["models"])
    show(comparison_table([results]), f"computed by {computed}", *results["notes"])
    if check_forces:
        show("", "Forces against finite differences of the energy", _differences(names, computing, reference))
    if out is not None:
        write_atomically(out, json.dumps(results, allow_nan=False))
        show(f"wrote {out}; `gaq report {out} --out report.html` makes a page of it")


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS.json", help=(
        "Files that evaluate, audit, md, sensitivity or bench wrote with --json."))],
    out: Annotated[Path, typer.Option("--out", metavar="PAGE.html", help="The page to write.")],
    apart: Annotated[bool, typer.Option("--apart", help=(
        "Give models that were evaluated on different frames tables of their own."))] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Make one HTML page of results.

    Tables, plots and a 3D view of the molecule; the page opens offline and loads nothing.
    """
    from gaq.report import read_results, write_page
    from gaq.report.tables import check_same_frames

    options.check_outputs([out], overwrite, results)
    contents = [read_results(path) for path in results]
    if not apart:
        check_same_frames(contents, [str(path) for path in results], "give --apart to set them apart")
    with meter("drawing", Unit("figures", "figures/s")) as told:
        write_page(contents, out, lambda figures: told(figures, None))
    show(f"wrote {out}")


def _names(paths: list[Path]) -> list[str]:
    """Return short names that tell the models apart: of the file, or of its folder where that says more."""
    short = [options.short_name(path) for path in paths]
    return [str(path) if short.count(name) > 1 else name for name, path in zip(short, paths, strict=True)]


def _differences(names: list[str], forcefields: "list[ForceField]", frames: "Frames") -> "Table":
    """Return the error of forces against central differences, the worst over a few frames."""
    from rich import box
    from rich.table import Table

    from gaq.metrics.batches import Counted, adding_up
    from gaq.metrics.finite_differences import force_error_by_differences

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("Model", vertical="bottom")
    for heading in ("displacement\nÅ", "largest\nmeV/Å", "mean\nmeV/Å"):
        table.add_column(heading, justify="right", no_wrap=True)
    few = frames[:CHECKED_FRAMES]
    total = sum(1 + 6 * len(DISPLACEMENTS) * len(frame) for frame in few)
    with stages("displacing atoms") as told:
        for name, forcefield in zip(names, forcefields, strict=True):
            counted = Counted(forcefield, adding_up(told, total, name))
            rows = [force_error_by_differences(counted, forcefield.graph(frame), DISPLACEMENTS) for frame in few]
            for step in zip(*rows, strict=True):
                table.add_row(name, f"{step[0].step:g}", f"{1000 * max(row.max for row in step):.3g}",
                              f"{1000 * sum(row.mean for row in step) / len(step):.3g}")
    return table
