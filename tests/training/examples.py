"""A tiny set of labelled frames, and runs over it."""

from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import torch
from toys import Springs, molecule

from gaq.data import Frames
from gaq.forcefield import ForceField
from gaq.graph import Graph, build_graph
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.nn.tensors import tensor, tensors
from gaq.recipe import Schedule
from gaq.structure import Structure
from gaq.training.batches import fit_offsets, force_scale, labelled_graphs
from gaq.training.config import Optimization
from gaq.training.loop import Loop, Watch

SHAPE = {"cutoff": 4.0, "scalars": 8, "vectors": 4, "max_degree": 2, "heads": 2, "layers": 1, "radial_functions": 6,
         "filter_width": 8}
SPECIES = (1, 6, 7, 8)


def frames(count: int = 20, seed: int = 0) -> Frames:
    """Five atoms on springs, shaken by 0.08 Å, with the energies and forces of the springs."""
    toy, rng, made = Springs(), np.random.default_rng(seed), []
    for _ in range(count):
        positions = molecule().positions + 0.08 * rng.normal(size=(5, 3))
        said = toy(toy.graph(molecule(positions)))
        made.append(molecule(positions, energy=said.energy.item() - 100.0, forces=said.forces))
    return Frames(tuple(made), source="springs")


def crystals(count: int = 6, seed: int = 0) -> list[Structure]:
    """Four atoms in skewed cells, with the energies, forces and stresses of a random model of another seed."""
    rng, made = np.random.default_rng(seed), []
    teacher = untrained(seed=5)
    for _ in range(count):
        cell = np.diag([3.4, 3.6, 3.8]) + 0.2 * rng.normal(size=(3, 3))
        places = np.array([[0.0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]) @ cell
        bare = Structure(species=np.array([6, 8, 1, 7]), positions=places + 0.1 * rng.normal(size=(4, 3)), cell=cell,
                         pbc=(True, True, True))
        said = teacher(tensors(build_graph(bare, 4.0)), stress=True)
        made.append(replace(bare, energy=float(said.energy), forces=said.forces.numpy(), stress=said.stress[0].numpy()))
    return made


def untrained(seed: int = 1) -> Transformer:
    torch.manual_seed(seed)
    made = Transformer(ModelConfig(species=SPECIES, **SHAPE)).double()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return made


def write(path: Path, given: Frames) -> Path:
    """Write frames as extended XYZ with the keys that gaq reads."""
    atoms = []
    for s in given:
        image = ase.Atoms(numbers=s.species, positions=s.positions)
        image.info["REF_energy"] = s.energy
        image.arrays["REF_forces"] = s.forces
        atoms.append(image)
    ase.io.write(path, atoms, format="extxyz")
    return path


def graphs(given: Frames) -> list[Graph]:
    return labelled_graphs(given, SHAPE["cutoff"], "cpu")


def optimization(**changes: object) -> Optimization:
    settings = {"steps": 12, "batch_size": 4, "warmup_steps": 2, "learning_rate": 5e-3, "validate_every": 4,
                "checkpoint_every": 4, "ema": 0.9}
    return Optimization(**(settings | changes))


def model(given: Frames, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    made = Transformer(ModelConfig(species=SPECIES, **SHAPE))
    made.energy_offsets.copy_(fit_offsets(given, SPECIES))
    made.energy_scale.fill_(force_scale(given))
    made.learn_distances(graphs(given))
    return made


def loop(settings: Optimization, folder: Path | None = None, watch: Watch = lambda progress: None,
         schedule: Schedule = Schedule(scalars_only=0.0), made: Transformer | None = None) -> Loop:
    given = frames()
    return Loop(made or model(given), graphs(given)[:16], graphs(given)[16:], settings, schedule, folder, "same", watch)


def weights(made: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach().clone() for name, t in made.state_dict().items()}


def stored_weights(field: ForceField) -> dict[str, torch.Tensor]:
    return {name: tensor(values) for name, values in field.stored.tensors.items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
