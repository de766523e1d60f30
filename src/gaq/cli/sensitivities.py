"""`gaq sensitivity`: what rounding each part of a model costs, and how many bits each part should have."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.cli import options
from gaq.cli.terminal import Unit, meter, show
from gaq.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from gaq.assess.allocate import Allocation, Budget
    from gaq.assess.sensitivity import Measures, Report
    from gaq.data import Frames
    from gaq.forcefield import ForceField

MODELS = Unit("models", "per second")
BUDGET = "Budget"  # heading in the help
COLUMNS = (("forces\nchange\nRMS", "forces_rms_change_meV_A"), ("forces\nchange\nMAE", "forces_mae_change_meV_A"),
           ("energy\nchange", "energy_change_meV"), ("forces\nMAE", "forces_mae_meV_A"),
           ("LEE of\nforces", "lee_forces_meV_A"), ("λ", "lambda_antisymmetry"),
           ("NVE\nfluctuation", "nve_fluctuation_ratio"))


def sensitivity(
    model: options.FloatModel,
    data: options.Data,
    recipe: Annotated[str, typer.Option("--recipe", help="What is quantized, and how: as for `quantize`.")] = "w4a8",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="ROLE.FIELD=VALUE", help=(
        "Change the recipe, e.g. --set scalar.input=12; may be repeated."))] = None,
    frames: Annotated[int, options.number("--frames", "Frames for the forces, evenly spread.")] = 16,
    rotations: Annotated[int, options.number("--rotations", "Random rotations of the first four of them.")] = 4,
    jacobian_frames: Annotated[int, options.number(
        "--jacobian-frames", "Frames for the antisymmetry λ of the Jacobian, the slowest figure; or 0.", least=0)] = 1,
    picoseconds: Annotated[float | None, typer.Option("--picoseconds", help=(
        "Also simulate each part at constant energy for this long; slow."))] = None,
    replicas: Annotated[int, options.number("--replicas", "Simulations of each part.")] = 4,
    forces: Annotated[float | None, typer.Option("--budget-forces", metavar="MEV/A", rich_help_panel=BUDGET, help=(
        "Choose bits so that the forces change by no more (RMS) against the float model."))] = None,
    antisymmetry: Annotated[float | None, typer.Option("--budget-antisymmetry", metavar="LAMBDA", rich_help_panel=BUDGET,
                                                       help="Choose bits of activations so that λ is no larger.")] = None,
    stored: Annotated[int | None, options.number(
        "--budget-bytes", "Choose bits of weights to take no more.", least=0, metavar="BYTES", panel=BUDGET)] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RECIPE.json", rich_help_panel=BUDGET, help=(
        "Write the recipe with these bits, for `gaq quantize --recipe`."))] = None,
    file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw the changes of the forces.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    energy_key: options.EnergyKey = "REF_energy",
    forces_key: options.ForcesKey = "REF_forces",
    energy_unit: options.EnergyUnit = "eV",
    length_unit: options.LengthUnit = "Ang",
    overwrite: options.Overwrite = False,
) -> None:
    """Quantize one part of a model at a time, and see what it costs.

    Every part (weights, inputs or vector features of a leaf) is rounded as the recipe says while all else stays in
    float. With a budget, every width is tried, and each part gets as few bits as the budget allows.
    """
    from gaq.assess.allocate import Budget
    from gaq.assess.sensitivity import SensitivityPlan
    from gaq.assess.sensitivity import sensitivity as measure
    from gaq.data import load_frames

    plan = SensitivityPlan(frames, rotations, jacobian_frames=jacobian_frames, picoseconds=picoseconds, replicas=replicas,
                           seed=seed)
    budget = None if forces is antisymmetry is stored is None else Budget(forces, antisymmetry, stored)
    _check_recipe(out, budget)
    options.check_outputs([out, file, plot], overwrite, [model, data, recipe])
    options.use_threads(threads)
    original = options.load_model(model, device)
    chosen = options.chosen_recipe(recipe, changes, original)
    structures = load_frames(data, options.key_map(energy_key, forces_key, energy_unit, length_unit))
    with meter(f"sensitivity of {chosen.name}", MODELS, "calibrating") as told:
        report = measure(original, chosen, structures, budget.planned(plan) if budget else plan, progress=told)
    show(_table(report))
    _write(plot, _drawn(report) if plot else "")
    result = {"model": str(model), **report.as_json(), "allocation": None}
    _write(file, json.dumps(result, allow_nan=False))
    if budget is not None:
        result["allocation"] = _allocated(original, structures, report, budget, out)
        _write(file, json.dumps(result, allow_nan=False))  # once more: a budget may have turned out impossible


def _check_recipe(out: Path | None, budget: "Budget | None") -> None:
    from gaq.recipe import check_recipe_path

    if out is not None:
        check_recipe_path(out)
        if budget is None:
            raise ConfigError("--out needs a budget: --budget-forces, --budget-antisymmetry or --budget-bytes")


def _allocated(original: "ForceField", frames: "Frames", report: "Report", budget: "Budget",
               out: Path | None) -> dict[str, Any]:
    """Choose bits, show them, and measure the recipe they make against what was predicted."""
    from dataclasses import asdict

    from gaq.assess.allocate import allocate
    from gaq.assess.sensitivity import Bench
    from gaq.recipe import save_recipe

    found = allocate(report, budget)
    if out is not None:
        save_recipe(found.recipe, out)
    bench = Bench(original, frames, report.plan)
    deployed = bench.deployed(found.recipe)
    measured, stored = bench.measure(deployed), sum(deployed.bytes_by_tensor().values())
    show("", f"{found.recipe.name}: {budget}", _choices(found), "", _comparison(report, found, measured, stored))
    if not budget.holds(measured.forces_rms_change_meV_A, measured.lambda_antisymmetry, stored):
        show("measured, the budget is not kept: parts add up to more than their sum of squares; give a smaller budget")
    if out is not None:
        show(f"wrote {out}; `gaq quantize MODEL --recipe {out} ...` makes a model of it")
    return {"budget": asdict(budget), "recipe": found.recipe.model_dump(mode="json"),
            "predicted": {"forces_rms_change_meV_A": found.forces_meV_A, "lambda_antisymmetry": found.antisymmetry,
                          "stored_bytes": found.bytes, "work": found.work},
            "measured": {**asdict(measured), "stored_bytes": stored}}


def _table(report: "Report") -> "Table":
    """Return one row for each part, the largest change of forces first, after those of the whole."""
    shown = [(title, name) for title, name in COLUMNS
             if any(getattr(row.measures, name) is not None for row in report.given) or name == COLUMNS[0][1]]
    table = _empty(("leaf", "part"), ("bits", "bytes", "MACs\nper atom", *(title for title, _ in shown)))

    def figures(measures: "Measures") -> list[str]:
        return [_figure(getattr(measures, name)) for _, name in shown]

    table.add_row("float", "", "", "", "", *figures(report.reference))
    table.add_row(report.recipe.name, "all", "", str(report.stored_bytes), "", *figures(report.whole), end_section=True)
    for row in sorted(report.given, key=lambda row: -row.measures.forces_rms_change_meV_A):
        table.add_row(row.leaf, row.kind, str(row.bits), "" if row.bytes is None else str(row.bytes),
                      "" if row.operations is None else f"{row.operations:.0f}", *figures(row.measures))
    table.caption = "forces and LEE in meV/Å, energy in meV; NVE fluctuation relative to float"
    return table


def _choices(found: "Allocation") -> "Table":
    """Return how many parts of each role got which width."""
    counts: dict[tuple[str, str], dict[int, int]] = {}
    for row in found.rows:
        widths = counts.setdefault((row.role, row.kind), {})
        widths[row.bits] = widths.get(row.bits, 0) + 1
    every = sorted({bits for widths in counts.values() for bits in widths})
    table = _empty(("role", "part"), tuple(f"{bits} bits" for bits in every))
    for names, widths in counts.items():
        table.add_row(*names, *(str(widths[bits]) if bits in widths else "" for bits in every))
    return table


def _comparison(report: "Report", found: "Allocation", measured: "Measures", stored: int) -> "Table":
    """Return what the sum over parts predicts beside what the allocated recipe does, calibrated only."""
    table = _empty(("",), (f"{report.recipe.name}\nmeasured", "allocated\npredicted", "allocated\nmeasured"))
    table.add_row("forces change RMS (meV/Å)", _figure(report.whole.forces_rms_change_meV_A), _figure(found.forces_meV_A),
                  _figure(measured.forces_rms_change_meV_A))
    table.add_row("energy change (meV)", _figure(report.whole.energy_change_meV), "", _figure(measured.energy_change_meV))
    table.add_row("forces MAE (meV/Å)", _figure(report.whole.forces_mae_meV_A), "", _figure(measured.forces_mae_meV_A))
    table.add_row("LEE of forces (meV/Å)", _figure(report.whole.lee_forces_meV_A), "", _figure(measured.lee_forces_meV_A))
    table.add_row("λ", _figure(report.whole.lambda_antisymmetry), _figure(found.antisymmetry),
                  _figure(measured.lambda_antisymmetry))
    table.add_row("bytes", str(report.stored_bytes), str(found.bytes), str(stored))
    work = sum((row.operations or 0.0) * row.bits for row in report.given)
    table.add_row("MACs · bits per atom", f"{work:.0f}", f"{found.work:.0f}", "")
    return table


def _empty(texts: tuple[str, ...], numbers: tuple[str, ...]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in texts:
        table.add_column(heading, no_wrap=True, vertical="bottom")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _drawn(report: "Report") -> str:
    from gaq.report.plots import part_bars
    from gaq.report.style import to_svg

    bars = [(row.leaf, row.kind, row.measures.forces_rms_change_meV_A) for row in report.given]
    return to_svg(part_bars(bars), "sensitivity")


def _write(path: Path | None, text: str) -> None:
    from gaq.files import write_atomically

    if path is not None:
        write_atomically(path, text)
        show(f"wrote {path}")
