"""`python -m benchmarks.parity MODEL...`: the engine against the definition in PyTorch, on rMD17 test frames.

For each instruction set of this processor: the differences of the force components, and the errors of both against the
reference. Beside them stands how far the definition in float32 is from itself in float64: rounding to codes passes the
noise of float sums on, so that no other order of sums can come closer.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import gaq
from gaq.engine.errors import NoSuchInstructionSet
from gaq.engine.native import NativeForceField
from gaq.errors import GaqError
from gaq.evaluate import hardware
from gaq.forcefield import ForceField
from gaq.graph import Graph, collate

SETS = ("scalar", "avx2", "avx512")
MEV, BATCH = 1000.0, 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="named by molecule, as models/ethanol-w4a8.safetensors")
    parser.add_argument("--frames", type=int, default=100)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    machine = hardware()
    table = Table("model", "computed by", "median |ΔF|", "99.9 %", "max, meV/Å", "force MAE", "energy MAE, meV", title=(
        f"ΔF against PyTorch in float32; {given.frames} test frames; {machine['cpu']}, torch {machine['torch']}"))
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
    graphs = [collate([field.graph(frame) for frame in frames[n : n + BATCH]]) for n in range(0, len(frames), BATCH)]
    reference = np.concatenate([frame.forces for frame in frames if frame.forces is not None])
    energies = np.array([frame.energy for frame in frames])

    def row(name: str, energy: NDArray[np.float64], forces: NDArray[np.float64], plain: NDArray[np.float64] | None) -> None:
        shown = ["", "", ""]
        if plain is not None:
            shown = [f"{gap:.2g}" for gap in np.quantile(MEV * np.abs(forces - plain), (0.5, 0.999, 1.0))]
        table.add_row(path.stem, name, *shown, f"{MEV * np.abs(forces - reference).mean():.4g}",
                      f"{MEV * np.abs(energy - energies).mean():.4g}")

    energy, plain = computed(field, graphs)
    row("PyTorch, float32", energy, plain, None)
    row("PyTorch, float64", *computed(ForceField(copy.deepcopy(field.model).double(), field.recipe), graphs), plain)
    for isa in SETS:
        try:
            row(f"engine, {isa}", *computed(NativeForceField(field, isa=isa), graphs), plain)
        except NoSuchInstructionSet:
            continue


def computed(field: ForceField | NativeForceField, graphs: list[Graph]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies (frames,) and forces (atoms, 3)."""
    found = [field.predict(graph) for graph in graphs]
    return (np.concatenate([np.asarray(p.energy, dtype=np.float64) for p in found]),
            np.concatenate([np.asarray(p.forces, dtype=np.float64) for p in found]))


if __name__ == "__main__":
    sys.exit(main())
