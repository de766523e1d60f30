"""`python -m benchmarks.parity MODEL...`: the engine against the definition in PyTorch, on rMD17 test frames and water.

For each instruction set of this processor: the differences of the force components, and the errors of both against the
reference. Beside them stands how far the definition in float32 is from itself in float64: rounding to codes passes the
noise of float sums on, so that no other order of sums can come closer. Models that know H and O are compared on grids of
64 waters too, which have no reference. `python -m benchmarks.tips` says which codes the noise tips.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import gaq
from gaq.backends.native.errors import NoSuchInstructionSet
from gaq.backends.native.potential import NativePotential
from gaq.data.structures import waters
from gaq.errors import GaqError
from gaq.forcefield import ForceField
from gaq.graph import Graph, collate
from gaq.machine import hardware
from gaq.structure import Structure

SETS = ("scalar", "avx2", "avx512")
MEV, BATCH = 1000.0, 10
WATER, GRIDS = {1, 8}, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="named by molecule, as models/ethanol-w4a8.safetensors")
    parser.add_argument("--frames", type=int, default=100)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    machine = hardware()
    columns = ("median |ΔF|", "99.9 %", "max, meV/Å", "force MAE", "energy MAE, meV")
    table = Table("model", "structures", "computed by", *columns, title=(
        f"ΔF against PyTorch in float32; {machine['cpu']}, torch {machine['torch']}"))
    try:
        for path in given.models:
            compare(path, given.frames, table)
            table.add_section()
    except GaqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console(width=130).print(table)
    return 0


def compare(path: Path, count: int, table: Table) -> None:
    """Add the rows of one model."""
    field = gaq.load(path)
    known = gaq.load_frames(f"rmd17:{path.stem.split('-')[0]}:1:test")
    frames = [known[n] for n in range(0, len(known), max(len(known) // count, 1))][:count]
    add_rows(field, frames, (path.stem, f"{len(frames)} test frames"), table)
    if set(field.species) >= WATER:
        add_rows(field, [waters(64, seed) for seed in range(GRIDS)], (path.stem, f"{GRIDS} grids of 64 waters"), table)


def add_rows(field: ForceField, frames: list[Structure], names: tuple[str, str], table: Table) -> None:
    """Add a row for each way to compute; errors where the frames have labels."""
    graphs = [collate([field.graph(frame) for frame in frames[n : n + BATCH]]) for n in range(0, len(frames), BATCH)]
    labelled = all(frame.forces is not None for frame in frames)
    reference = np.concatenate([frame.forces for frame in frames if frame.forces is not None]) if labelled else None
    energies = np.array([frame.energy for frame in frames])

    def row(name: str, energy: NDArray[np.float64], forces: NDArray[np.float64], plain: NDArray[np.float64] | None) -> None:
        shown = ["", "", "", "", ""]
        if plain is not None:
            shown[:3] = [f"{gap:.2g}" for gap in np.quantile(MEV * np.abs(forces - plain), (0.5, 0.999, 1.0))]
        if reference is not None:
            shown[3:] = [f"{MEV * np.abs(a - b).mean():.4g}" for a, b in ((forces, reference), (energy, energies))]
        table.add_row(*names, name, *shown)

    energy, plain = computed(field.on("torch"), graphs)
    row("PyTorch, float32", energy, plain, None)
    row("PyTorch, float64", *computed(field.on("torch", dtype="float64"), graphs), plain)
    for isa in SETS:
        try:
            row(f"engine, {isa}", *computed(NativePotential(field.stored, isa=isa), graphs), plain)
        except NoSuchInstructionSet:
            continue


def computed(field: ForceField | NativePotential, graphs: list[Graph]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies (frames,) and forces (atoms, 3)."""
    found = [field.predict(graph) for graph in graphs]
    return np.concatenate([p.energy for p in found]), np.concatenate([p.forces for p in found])


if __name__ == "__main__":
    sys.exit(main())
