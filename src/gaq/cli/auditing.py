"""`gaq audit`: is a model good for molecular dynamics at constant energy?"""

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.cli import options
from gaq.cli.terminal import show, stages
from gaq.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from rich.table import Table

    from gaq.assess.audit import AuditPlan
    from gaq.graph import Predictor
    from gaq.metrics.calculators import CalculatorPredictor

VERDICTS = {True: "passes", False: "fails", None: "open"}


def audit(
    data: options.Data,
    model: Annotated[Path | None, options.model()] = None,
    calculator: Annotated[str | None, typer.Option("--calculator", metavar="MODULE:FACTORY", help=(
        "Audit an ASE calculator instead, which a function without arguments makes."))] = None,
    reference: Annotated[Path | None, typer.Option("--reference", metavar="MODEL", parser=options.model_file, help=(
        "Model in full precision, whose energy fluctuation is the measure."))] = None,
    replicas: Annotated[int | None, options.number("--replicas", (
        "Simulations; 16 (8 above 32 atoms), or 4 with --quick."))] = None,
    picoseconds: Annotated[float | None, typer.Option("--picoseconds", help=(
        "Length of each; 20 ps (10 ps above 32 atoms), or 1 ps with --quick."))] = None,
    timesteps: Annotated[str, typer.Option("--timesteps", metavar="FS,...", help=(
        "Time steps in fs, as 1,0.5,0.25; the first one is judged."))] = "0.5",
    temperature: Annotated[float, typer.Option("--temperature", help="K, of the first velocities.")] = 300.0,
    frames: Annotated[int | None, options.number(
        "--frames", "Frames for derivatives and loops; 8, or 3 with --quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=(
        "A first look; it can find faults, and never exclude them."))] = False,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Store grade and figures in the model file.")] = False,
    batch_size: Annotated[int, options.number("--batch-size", "Structures in one prediction.")] = 32,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    length_unit: options.LengthUnit = "Ang",
    overwrite: options.Overwrite = False,
) -> None:
    """Measure how well a model conserves energy, and grade it for molecular dynamics.

    Compares forces with differences of the energy, looks for forces that are no gradient at all, and simulates at
    constant energy, always with the model as it is deployed.
    """
    from gaq.assess.audit import audit as measure
    from gaq.assess.audit import usual_plan
    from gaq.data import KeyMap, load_frames
    from gaq.files import write_atomically

    if (model is None) == (calculator is None):
        raise ConfigError("an audit needs either a MODEL file or --calculator module:factory, and not both")
    if write and model is None:
        raise ConfigError("--write stores the result in a model file, and a calculator has none; use --json FILE")
    options.check_outputs([out], overwrite, [model, reference, data])
    options.use_threads(threads)
    subject, identity = _subject(model, calculator or "", device)
    if write and model is not None:
        options.check_writable(model)
        _check_unaudited(model, subject, overwrite)
    standard = None if reference is None else options.load_model(reference, device)
    structures = load_frames(data, KeyMap(None, None, length_unit=length_unit))
    plan = _plan(usual_plan(len(structures[0]), quick), timesteps, replicas=replicas, picoseconds=picoseconds,
                 frames=frames, temperature_K=temperature, batch_size=batch_size, seed=seed)
    identity["reference"] = None if reference is None else str(reference)
    with stages("auditing") as stage:
        result = identity | measure(subject, structures, plan, reference=standard, progress=stage)
    show(_table(result), f"{identity['model']}: {result['grade']}", *(f"- {reason}" for reason in result["reasons"]))
    if out is not None:
        write_atomically(out, json.dumps(result, allow_nan=False))
        show(f"wrote {out}")
    if write and model is not None:
        _store(model, result)


def _store(model: Path, result: dict[str, Any]) -> None:
    """Keep the result in the file of the model that it is about."""
    from gaq.files import sha256

    stored = options.load_model(model, "cpu")
    if sha256(model) != result["model_sha256"]:
        raise OutputError(f"{model} has changed while it was audited, so that nothing was stored in it; audit it again")
    stored.provenance["audit"] = result
    stored.save(model)
    show(f"stored in {model}")


def _check_unaudited(model: Path, subject: "Predictor", overwrite: bool) -> None:
    """Keep the result of an earlier audit.

    Raises:
        OutputError: the model holds one, and the user did not say that it may go.
    """
    earlier = getattr(subject, "provenance", {}).get("audit")
    if earlier is not None and not overwrite:
        raise OutputError(f"{model} holds an earlier audit; replace it with --overwrite, or leave out --write")


def _subject(model: Path | None, calculator: str, device: str) -> "tuple[Predictor, dict[str, str | None]]":
    """Return what is audited, and how the result names it."""
    from gaq.files import sha256

    if model is None:
        return _calculator(calculator), {"model": calculator, "model_sha256": None, "recipe": None}
    forcefield = options.load_model(model, device)
    return forcefield, {"model": str(model), "model_sha256": sha256(model), "recipe": forcefield.recipe.name}


def _plan(usual: "AuditPlan", timesteps: str, **given: Any) -> "AuditPlan":
    """Return the usual plan with everything that was given."""
    from dataclasses import replace

    try:
        steps = tuple(float(part) for part in timesteps.split(","))
    except ValueError:
        raise ConfigError(f"--timesteps must be numbers of fs with commas between, as 1,0.5,0.25; given {timesteps!r}"
                          ) from None
    said = {name: value for name, value in given.items() if value is not None}
    return replace(usual, timesteps_fs=steps, **said)


def _calculator(target: str) -> "CalculatorPredictor":
    """Return the calculator that `module:factory` makes; modules in the working directory are found.

    Raises:
        ConfigError: no such module or function, or what it makes is no ASE calculator.
    """
    from ase.calculators.calculator import BaseCalculator

    from gaq.metrics.calculators import CalculatorPredictor

    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise ConfigError(f"--calculator must be module:factory, as tblite.ase:TBLite; given {target!r}")
    sys.path.insert(0, "")
    try:
        factory = getattr(importlib.import_module(name), attribute)
    except ImportError as error:
        raise ConfigError(f"--calculator {target}: the module {name} cannot be imported ({error})") from error
    except AttributeError as error:
        raise ConfigError(f"--calculator {target}: the module {name} has no {attribute!r}") from error
    finally:
        sys.path.remove("")
    made = factory() if callable(factory) else factory
    if not isinstance(made, BaseCalculator):
        raise ConfigError(f"--calculator {target} must make an ASE calculator, not {type(made).__name__}")
    return CalculatorPredictor(made)


def _table(result: dict[str, Any]) -> "Table":
    """Return one row for each quantity, its bound and what comes of it."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("Quantity", no_wrap=True)
    for heading in ("value", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for check in result["checks"]:
        value, bound = check["value"], check["bound"]
        judged = bound is not None and (value is not None or check["passed"] is False)
        table.add_row(check["name"], "unknown" if value is None else f"{value:.3g}",
                      "" if bound is None else f"{bound:g}", check["unit"],
                      VERDICTS[check["passed"]] if judged else "")
    for run in result["nve"][1:]:
        for name in ("nve_drift_meV_atom_ps", "nve_fluctuation_meV_atom", "nve_fluctuation_ratio"):
            if run[name] is not None:
                table.add_row(f"{name} at {run['timestep_fs']:g} fs", f"{run[name]:.3g}", "", "", "")
    return table
