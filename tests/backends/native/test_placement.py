"""The result of a structure is the same to the last bit wherever it lies in a batch, and whatever lies beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from engines import LOWERED, SETS, native
from tiny import CUTOFF, MODELS, cluster, crystal, named, said

from gaq.backends.native.potential import NativePotential
from gaq.dynamics.skin import SKIN
from gaq.graph import Graph, Prediction, build_graph, collate
from gaq.structure import Structure


def gas(molecules: int, seed: int) -> Structure:
    """Molecules too far apart to feel each other."""
    rng, parts = np.random.default_rng(seed), [named(n) for n in ("CH3OH", "H2O", "C6H6")]
    chosen = [parts[k] for k in rng.integers(3, size=molecules)]
    return Structure(species=np.concatenate([s.species for s in chosen]),
                     positions=np.concatenate([s.positions + np.array([12.0 * k, 0, 0]) for k, s in enumerate(chosen)]))


def chain(atoms: int) -> Structure:
    """Atoms in a row: each block feels only the next ones."""
    x = np.arange(atoms)
    return Structure(species=np.array([1, 6, 7, 8])[x % 4], positions=np.stack([1.2 * x, 0.3 * (x % 3), 0.2 * (x % 5)], 1))


SIZES = [gas(9, seed=0), chain(70), crystal(), Structure(species=np.array([8]), positions=np.zeros((1, 3))),
         *[cluster(n, seed=n) for n in (2, 7, 9, 31, 32, 33, 45)], named("C6H6"), named("CH3OH")]


def parts(graph: Graph, prediction: Prediction) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Energy, energies of atoms and forces of each structure."""
    return [(prediction.energy[k].numpy(), prediction.atom_energies[graph.batch == k].numpy(),
             prediction.forces[graph.batch == k].numpy()) for k in range(graph.structures)]


def compare(field: NativePotential, graphs: list[Graph], seed: int, batches: int = 3) -> None:
    alone = [parts(g, said(field, g))[0] for g in graphs]
    rng = np.random.default_rng(seed)
    for _ in range(batches):
        chosen = rng.permutation(rng.integers(len(graphs), size=rng.integers(2, 3 * len(graphs))))
        batch = collate([graphs[k] for k in chosen])
        for k, found in zip(chosen, parts(batch, said(field, batch)), strict=True):
            for one, other in zip(alone[k], found, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=f"structure {k}")


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("recipe", LOWERED)
@pytest.mark.parametrize("shape", MODELS)
def test_place_in_a_batch_changes_no_bit(shape: str, recipe: str, isa: str) -> None:
    field = native(shape, recipe, isa, threads=1 if isa == "scalar" else 2)
    compare(field, [field.graph(s) for s in SIZES], seed=len(recipe), batches=1 if isa == "scalar" else 3)


@pytest.mark.parametrize("recipe", LOWERED)
def test_stress_too(recipe: str) -> None:
    field = native("robust", recipe)
    graphs = [field.graph(crystal(edge)) for edge in (3.3, 2.1, 4.5)]
    alone = [said(field, g, stress=True).stress for g in graphs]
    together = said(field, collate([graphs[k] for k in (1, 0, 2, 0, 1)]), stress=True).stress
    assert together is not None
    for place, k in enumerate((1, 0, 2, 0, 1)):
        assert torch.equal(together[place], alone[k][0])


@pytest.mark.parametrize("recipe", LOWERED)
def test_edges_beyond_the_cutoff_change_no_bit_of_a_molecule(recipe: str) -> None:
    """Where a structure has more than the 32 atoms of a block, they may change the order of sums."""
    field = native("robust", recipe)
    for structure in (*SIZES[3:9], named("C6H6")):
        graph = field.graph(structure)
        wide = replace(build_graph(structure, CUTOFF + SKIN), positions=graph.positions)
        for one, other in zip(parts(graph, said(field, graph))[0], parts(wide, said(field, wide))[0], strict=True):
            np.testing.assert_array_equal(one, other)
