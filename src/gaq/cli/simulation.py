"""`gaq md` and `gaq relax`: molecular dynamics, and the nearest minimum of the energy."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.cli import options
from gaq.cli.terminal import Unit, meter, say, show, steps_of
from gaq.errors import ConfigError, ExtrapolationWarning, GaqError

if TYPE_CHECKING:
    from gaq.dynamics.driver import MDResult
    from gaq.dynamics.extrapolation import Extrapolation
    from gaq.forcefield import ForceField

MANY_CLIPPED = 0.05  # of the values of one quantizer; learned steps clip about half a percent within their range
NAMES = {"temperature_K": "--temperature", "timestep_fs": "--timestep", "pressure_bar": "--pressure", "cell=True": "--cell",
         "friction_per_ps": "--friction", "fmax": "--fmax", "resume=True": "--resume", "overwrite=True": "--overwrite"}
Start = Annotated[str, typer.Argument(metavar="STRUCTURE", help=f"Start: {options.STRUCTURE}.")]


def md(
    model: options.Model,
    structure: Start,
    out: Annotated[Path, typer.Option("--out", metavar="TRAJECTORY.extxyz", help="Never overwritten.")],
    ensemble: Annotated[str, typer.Option("--ensemble", metavar="NAME", parser=options.one_of("nve", "nvt", "npt"), help=(
        "nve (constant energy), nvt (constant temperature, Langevin) or npt (constant temperature and pressure, "
        "Martyna-Tobias-Klein)."))] = "nve",
    temperature: Annotated[float | None, typer.Option("--temperature", help=(
        "K, of the start and of the bath; 300 K, and the momenta in the file where it has them, otherwise."))] = None,
    pressure: Annotated[float, typer.Option("--pressure", help="bar, in npt.")] = 1.0,
    friction: Annotated[float, typer.Option("--friction", help=(
        "1/ps, of the Langevin bath; in npt its inverse is the time of the thermostat."))] = 10.0,
    timestep: Annotated[float, typer.Option("--timestep", help="fs.")] = 0.5,
    steps: Annotated[int, options.number("--steps", "All steps, those before a restart included.")] = 1000,
    every: Annotated[int, options.number("--every", "Steps between frames.")] = 10,
    file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help=(
        "Write energies and cost, for `gaq report`."))] = None,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Run molecular dynamics with a model.

    Fixed atoms in the file (move_mask) stay where they are. A run can be stopped with Ctrl-C or SIGTERM at any time, and
    goes on with --resume, the same model and settings.
    """
    from gaq.files import write_atomically
    from gaq.simulation import run_md, start_of

    if file is not None and options.check_writable(file) == options.check_writable(out):
        raise ConfigError(f"--out and --json are one file, {file}, and the energies would replace the trajectory; give two")
    options.check_outputs([file], overwrite, [model, structure], own=resume and out.exists())
    options.use_threads(threads)
    forcefield = _computing(model, device, backend)
    start = start_of(structure)
    if ensemble == "nve":
        _warn(forcefield.provenance.get("audit"))
    with (meter(f"{ensemble.upper()} with {forcefield.recipe.name}", steps_of(timestep), "starting") as told, _said(),
          _in_options()):
        result = run_md(forcefield, start, ensemble=ensemble, temperature_K=temperature, pressure_bar=pressure,
                        friction_per_ps=friction, timestep_fs=timestep, steps=steps, every=every, out=out, seed=seed,
                        resume=resume, progress=told)
    _summary(result)
    show(f"computed by {result.backend}")
    if file is not None:
        write_atomically(file, json.dumps(_as_json(result, model, forcefield), allow_nan=False))
        show(f"wrote {file}")


def relax(
    model: options.Model,
    structure: Start,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.extxyz", help="The last geometry.")],
    fmax: Annotated[float, typer.Option("--fmax", help="eV/Å, the largest force that is left.")] = 0.02,
    steps: Annotated[int, options.number("--steps", "The most steps.")] = 500,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell too.")] = False,
    pressure: Annotated[float, typer.Option("--pressure", help="bar, on the cell.")] = 0.0,
    optimizer: Annotated[str, typer.Option("--optimizer", metavar="NAME", parser=options.one_of("fire", "bfgs", "lbfgs"),
                                           help="fire (best for models of a few bits), bfgs or lbfgs.")] = "fire",
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Move atoms, and with --cell the cell, to the nearest minimum of the energy.

    Where forces stay larger than --fmax after all steps, the last geometry is written, and the exit status is 1.
    """
    from gaq.relaxation import relax as relaxed

    options.check_outputs([out], overwrite, [model, structure])
    options.use_threads(threads)
    forcefield = _computing(model, device, backend)
    with (meter(f"relaxing with {forcefield.recipe.name}", Unit("steps", "it/s"), "starting") as told, _said(),
          _in_options()):
        found = relaxed(forcefield, structure, fmax=fmax, steps=steps, cell=cell, pressure_bar=pressure,
                        optimizer=optimizer, out=out, overwrite=overwrite, progress=told)
    show(f"{found.steps} steps; energy {found.energies[0]:.6f} -> {found.energies[-1]:.6f} eV, largest force "
         f"{found.largest_force:.3g} eV/Å")
    show(f"computed by {found.backend}")
    show(f"wrote {out}")
    if not found.converged:
        raise GaqError(f"not converged: the largest force is {found.largest_force:.3g} eV/Å after {found.steps} steps, and "
                       f"--fmax is {fmax:g}; go on from {out} with more --steps, or take a larger --fmax")


def _computing(model: Path, device: str, backend: str) -> "ForceField":
    forcefield = options.load_model(model, device)
    return forcefield.on(backend) if device == "cpu" else forcefield


def _as_json(result: "MDResult", model: Path, forcefield: "ForceField") -> dict[str, Any]:
    """Return what `gaq report` reads."""
    from importlib.metadata import version

    from gaq.files import sha256

    return {"format": "gaq-md", "format_version": 1, "version": version("gaq"), "model": str(model),
            "model_sha256": sha256(model), "ensemble": result.ensemble, "steps": result.steps, "backend": result.backend,
            "formula": result.final.formula, "atoms": len(result.final),
            "mean_temperature_K": float(result.temperature.mean()),
            "run": result.to_results(options.short_name(model), forcefield.recipe.name)}


def _warn(audit: Any) -> None:
    """Say so where `gaq audit --write` found the model unfit for constant energy."""
    if isinstance(audit, dict) and audit.get("grade") == "screening-grade":
        say("warning: an audit graded this model screening-grade, not fit for constant energy; use recipe w4, or w4a16 "
            "where an audit passes it, or --ensemble nvt")


@contextmanager
def _in_options() -> Iterator[None]:
    """Let errors speak of options where they speak of arguments."""
    try:
        yield
    except GaqError as error:
        pattern = "|".join(map(re.escape, NAMES))
        error.args = tuple(re.sub(rf"\b({pattern})(?!\w| =)", lambda name: NAMES[name[0]], a) if isinstance(a, str) else a
                           for a in error.args)
        raise


@contextmanager
def _said() -> Iterator[None]:
    """Write the warning that a structure leaves the training data as one line, when it happens."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ExtrapolationWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {message}")
        yield


def _beyond(found: "Extrapolation") -> str:
    from gaq.dynamics.extrapolation import named

    pairs = ", ".join(f"{named(pair)} {distance:.2f} Å" for pair, distance in sorted(found.shortest.items()))
    return f"outside of the training data: {found.beyond} of {found.structures} structures looked at; nearest {pairs}"


def _summary(result: "MDResult") -> None:
    show(f"{result.steps} steps, {result.steps * result.timestep_fs / 1000:g} ps; mean temperature "
         f"{result.temperature.mean():.0f} K")
    if result.ms_per_step:
        show(f"{result.ms_per_step:.3g} ms/step, {86.4 * result.timestep_fs / result.ms_per_step:.3g} ns/day")
    if result.drift is not None:
        error = result.drift.standard_error_meV_atom_ps  # unknown for very short runs
        what = "conserved energy of atoms and barostat" if result.ensemble == "npt" else "total energy"
        show(f"drift of the {what} {result.drift.slope_meV_atom_ps:+.3g}"
             f"{'' if error is None else f' ± {error:.2g}'} meV/atom/ps")
    if result.volume is not None:
        show(f"mean volume {result.volume.mean():.1f} Å³, at the end {result.volume[-1]:.1f} Å³")
    if result.extrapolation is not None and result.extrapolation.beyond:
        show(_beyond(result.extrapolation))
    if result.most_clipped is not None:
        quantizer, share = result.most_clipped
        show(f"clipped: {100 * share:.2g} % of the values of {quantizer}, the most of all" if share else "clipped: nothing")
        if share > MANY_CLIPPED:
            say("warning: this is beyond the range that the codes of the model were made for; do not trust the forces")
    show(f"wrote {result.trajectory} ({len(result.time_ps)} frames)")
