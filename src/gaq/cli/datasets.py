"""`gaq data get`, `gaq data label` and `gaq data info`."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaq.cli import options
from gaq.cli.terminal import BYTES, FRAMES, meter, show
from gaq.errors import ConfigError, DataError, GaqError, Interrupted

if TYPE_CHECKING:
    from gaq.data import Frames
    from gaq.data.label import Labelled
    from gaq.structure import Structure


def get(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="rmd17 or qm9.")],
    molecule: Annotated[str | None, typer.Argument(metavar="MOLECULE", help=(
        "For rmd17: azobenzene, ethanol, ..., or all for everything with the official splits (1 GB)."))] = None,
) -> None:
    """Download a public data set.

    A download that was cut goes on where it stopped.
    """
    from gaq.data.download import get as download

    with meter(" ".join(filter(None, ("downloading", dataset, molecule))), BYTES) as told:
        path = download(dataset, molecule, progress=lambda name, have, total: told(have, total, name))
    show(f"it is in {path}")


def label(
    out: Annotated[Path, typer.Option("--out", metavar="FRAMES.extxyz", help="The frames to write.")],
    structure: Annotated[str | None, typer.Argument(metavar="STRUCTURE", help=(
        f"Start: {options.STRUCTURE}."))] = None,
    relabel: Annotated[str | None, typer.Option("--relabel", metavar="FRAMES", help=(
        "Give these frames new energies and forces instead of making frames."))] = None,
    method: Annotated[str, typer.Option("--method", metavar="NAME", parser=str.lower, help=(
        "gfn2-xtb, gfn1-xtb or pyscf-pbe."))] = "gfn2-xtb",
    temperature: Annotated[float, typer.Option("--temperature", help="K.")] = 500.0,
    frames: Annotated[int, options.number("--frames", "How many.")] = 2000,
    interval: Annotated[float, typer.Option("--interval", help="fs between two frames of a trajectory.")] = 20.0,
    chains: Annotated[int, options.number("--chains", "Independent trajectories.")] = 4,
    seed: options.Seed = 0,
    workers: Annotated[int, options.number("--workers", "Processes, one core each.", most=options.MOST_THREADS)] = 1,
    charge: Annotated[int | None, options.number(
        "--charge", "In e; that in the file otherwise.", least=-1000, most=1000, metavar="E")] = None,
    multiplicity: Annotated[int | None, options.number(
        "--multiplicity", "2S + 1; that in the file, or the lowest, otherwise.")] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Make training data.

    Runs molecular dynamics at a level of theory and keeps frames with its energies and forces.
    """
    from gaq.data import KeyMap, load_frames
    from gaq.data.label import label as simulate
    from gaq.data.label import relabel as calculate
    from gaq.data.structures import structure_from

    options.check_outputs([out, _partial(out)], overwrite, [structure, relabel])
    if (structure is None) == (relabel is None):
        raise ConfigError("give either a STRUCTURE to start from, or --relabel FRAMES")
    if relabel is not None:
        given = load_frames(relabel, KeyMap(energy=None, forces=None))
        frames, made = len(given), calculate(given, method, charge=charge, multiplicity=multiplicity)
        title = f"{method} for {frames} frames"
    else:
        assert structure is not None  # one of the two is given
        made = simulate(structure_from(structure), method=method, temperature=temperature, frames=frames,
                        interval_fs=interval, seed=seed, chains=chains, workers=workers, charge=charge,
                        multiplicity=multiplicity)
        title = f"{frames} frames of {structure}, {method} at {temperature:g} K"
    _write(made, frames, out, title)


def info(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"Frames: {options.SOURCES}.")],
    energy_key: options.EnergyKey = "REF_energy",
    forces_key: options.ForcesKey = "REF_forces",
    stress_key: options.StressKey = "REF_stress",
    energy_unit: options.EnergyUnit = "eV",
    length_unit: options.LengthUnit = "Ang",
) -> None:
    """Show what is in a data set or file.

    Frames, elements, statistics of energies and forces, and a fingerprint.
    """
    from gaq.data import load_frames

    frames = load_frames(source, options.key_map(energy_key, forces_key, energy_unit, length_unit, stress=stress_key))
    for line in _statistics(frames):
        show(line)


def _partial(out: Path) -> Path:
    """Return where the frames of an interrupted run go."""
    return out.parent / f"partial-{out.name}"


def _write(made: "Labelled", count: int, out: Path, title: str) -> None:
    """Write frames as they come whole; what an interruption leaves goes to a file of its own."""
    from gaq.data import write_frames
    from gaq.files import locked

    done: list[Structure] = []
    partial = _partial(out)
    try:
        with locked(out), closing(made), meter(title, FRAMES, "preparing") as told:
            for structure in made:
                done.append(structure)
                told(len(done), count)
    except (KeyboardInterrupt, GaqError) as reason:
        if not done:
            raise
        write_frames(partial, done)
        kept = f"the {len(done)} frames before that are in {partial}"
        if isinstance(reason, KeyboardInterrupt):
            raise Interrupted(reason, f"after frame {len(done)} of {count}; {kept}") from None
        raise DataError(f"{reason}; {kept}") from reason
    write_frames(out, done)
    show(f"wrote {out} ({len(done)} frames)")


def _statistics(frames: "Frames") -> list[str]:
    import numpy as np
    from ase.data import chemical_symbols

    formulas = {frame.formula: len(frame) for frame in frames}
    species = sorted({int(z) for frame in frames for z in np.unique(frame.species)})
    energies = np.array([frame.energy for frame in frames if frame.energy is not None])
    forces = [frame.forces for frame in frames if frame.forces is not None]
    shown = ", ".join(f"{formula} ({atoms} atoms)" for formula, atoms in list(formulas.items())[:5])
    lines = [f"{frames.source}: {len(frames)} frames",
             f"molecules    {shown}" + (f" and {len(formulas) - 5} more" if len(formulas) > 5 else ""),
             f"elements     {' '.join(chemical_symbols[z] for z in species)}"]
    if any(any(frame.pbc) for frame in frames):
        lines.append(f"periodic     {sum(any(frame.pbc) for frame in frames)} frames")
    lines.append("energies     none" if not len(energies) else
                 f"energies     {len(energies)}: mean {energies.mean():.4f}, standard deviation {energies.std():.4f}, "
                 f"from {energies.min():.4f} to {energies.max():.4f} eV")
    if forces:
        components = np.concatenate(forces)
        lines.append(f"forces       {len(forces)}: r.m.s. {np.sqrt(np.square(components).mean()):.4f}, largest "
                     f"{np.abs(components).max():.4f} eV/Å")
    else:
        lines.append("forces       none")
    stresses = sum(frame.stress is not None for frame in frames)
    weights = [frame.weight for frame in frames if frame.weight != 1]
    atoms = len(frames.apart()[1])
    if stresses:
        lines.append(f"stresses     {stresses}")
    if weights:
        lines.append(f"weights      {len(weights)} frames with another than 1, from {min(weights):g} to {max(weights):g}")
    if atoms:
        lines.append(f"atoms        {atoms} isolated: not trained on, they give the energies of their elements")
    return [*lines, f"fingerprint  {frames.fingerprint}"]
