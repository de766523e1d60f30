"""`gaq md`: molecular dynamics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaq.cli import options
from gaq.cli.terminal import meter, say, show, steps_of

if TYPE_CHECKING:
    from gaq.md.drivers import MDResult

MANY_CLIPPED = 0.05  # of the values of one quantizer; learned steps clip about half a percent within their range


def md(
    model: options.Model,
    structure: Annotated[str, typer.Argument(metavar="STRUCTURE", help=(
        "Start: a structure file (its last frame), or a molecule by name, as ethanol."))],
    out: Annotated[Path, typer.Option("--out", metavar="TRAJECTORY.extxyz", help="Never overwritten.")],
    ensemble: Annotated[str, typer.Option("--ensemble", help=(
        "nve (constant energy) or nvt (constant temperature, Langevin)."))] = "nve",
    temperature: Annotated[float, typer.Option("--temperature", help="K, of the start and of the bath.")] = 300.0,
    timestep: Annotated[float, typer.Option("--timestep", help="fs.")] = 0.5,
    steps: Annotated[int, typer.Option("--steps", help="All steps, those before a restart included.")] = 1000,
    every: Annotated[int, typer.Option("--every", help="Steps between frames.")] = 10,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    backend: Annotated[str, typer.Option("--backend", help=(
        "engine (native), torch, or auto: the engine where it computes this model."))] = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Run molecular dynamics with a model.

    A run can be stopped with Ctrl-C or SIGTERM at any time, and goes on with --resume, the same model and settings.
    """
    from gaq.data.label import structure_from
    from gaq.md.drivers import run_md

    options.use_threads(threads)
    forcefield = options.load_model(model, device)
    start = structure_from(structure)
    if ensemble == "nve":
        _warn(forcefield.provenance.get("audit"))
    with meter(f"{ensemble.upper()} with {forcefield.recipe.name}", steps_of(timestep), "starting") as told:
        result = run_md(forcefield, start, ensemble=ensemble, temperature_K=temperature, timestep_fs=timestep,
                        steps=steps, every=every, out=out, seed=seed, resume=resume, backend=backend,
                        progress=lambda state: told(state.step, state.steps, f"{state.temperature_K:.0f} K"))
    _summary(result)
    show(f"computed by {result.backend}")


def _warn(audit: Any) -> None:
    """Say so where `gaq audit --write` found the model unfit for constant energy."""
    if isinstance(audit, dict) and audit.get("grade") == "screening-grade":
        say("warning: an audit graded this model screening-grade, not fit for constant energy; use recipe w4, or w4a16 "
            "where an audit passes it, or --ensemble nvt")


def _summary(result: "MDResult") -> None:
    show(f"{result.steps} steps, {result.steps * result.timestep_fs / 1000:g} ps; mean temperature "
         f"{result.temperature.mean():.0f} K")
    if result.ms_per_step:
        show(f"{result.ms_per_step:.3g} ms/step, {86.4 * result.timestep_fs / result.ms_per_step:.3g} ns/day")
    if result.drift is not None:
        error = result.drift.standard_error_meV_atom_ps  # unknown for very short runs
        show(f"drift of the total energy {result.drift.slope_meV_atom_ps:+.3g}"
             f"{'' if error is None else f' ± {error:.2g}'} meV/atom/ps")
    if result.most_clipped is not None:
        quantizer, share = result.most_clipped
        show(f"clipped: {100 * share:.2g} % of the values of {quantizer}, the most of all" if share else "clipped: nothing")
        if share > MANY_CLIPPED:
            say("warning: this is beyond the range that the codes of the model were made for; do not trust the forces")
    show(f"wrote {result.trajectory} ({len(result.time_ps)} frames)")
