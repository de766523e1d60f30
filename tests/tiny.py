"""Tiny random models of every kind, and structures to try them on."""

import copy
from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from ase.build import molecule
from numpy.typing import ArrayLike

from gaq.compress.swap import prepare, stored
from gaq.forcefield import ForceField
from gaq.graph import Graph, Potential, Prediction, build_graph, collate
from gaq.models.network import Network
from gaq.models.transformer.config import ModelConfig
from gaq.models.transformer.network import Transformer
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.tensors import tensor, tensors
from gaq.recipe import FLOAT, Recipe
from gaq.structure import Structure

CUTOFF = 4.0
SPECIES = (1, 6, 7, 8)
SHAPES = {
    "robust": ModelConfig(species=SPECIES, cutoff=CUTOFF, scalars=16, vectors=8, max_degree=2, heads=2, layers=2,
                          radial_functions=6, filter_width=8),
    "robust-l3": ModelConfig(species=SPECIES, cutoff=CUTOFF, scalars=8, vectors=4, max_degree=3, heads=2, layers=2,
                             radial_functions=6, filter_width=8, basis="gaussian"),
    "so3krates": ModelConfig(species=SPECIES, cutoff=CUTOFF, scalars=16, vectors=1, max_degree=3, heads=1, layers=2,
                             radial_functions=6, filter_width=8, basis="bernstein", envelope="cosine",
                             attention="so3krates"),
    "l1": ModelConfig(species=SPECIES, cutoff=CUTOFF, scalars=8, vectors=4, max_degree=1, heads=2, layers=1,
                      radial_functions=6, filter_width=8),
}
MODELS = ("robust", "robust-l3", "so3krates")  # enough where every recipe is tried
FORCE = 1.0  # eV/Å, the size of the forces that the random models give
CLOSEST = 1.0  # Å, what the random models take for the shortest distance of any two atoms that training saw
CODED = ("w4a16", "w4a8", "w8a8", "int8-naive", "svq-kmeans", "degree-quant")  # activations and vectors are rounded
ALIGNED = ("w4a16", "w4a8", "w8a8")  # vectors are rounded in local frames
SMOOTH = ("fp32", "w4")  # the energy is a smooth function of the positions


@cache
def float_model(shape: str, seed: int = 1) -> Transformer:
    """A model of random weights, none of them zero, whose forces are about 1 eV/Å. Shared: do not change it."""
    torch.manual_seed(seed)
    model = Transformer(SHAPES[shape])
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.7).add_(0.05 * torch.randn_like(p))
        model.energy_offsets.copy_(-10.0 * torch.arange(1, len(SPECIES) + 1))
        forces = model(calibration()).forces
        model.energy_scale.mul_(FORCE / forces.square().mean().sqrt())
        model.closest.fill_(CLOSEST)
        model.learn_energies([calibration()])
    return model


@cache
def prepared(shape: str, recipe: str) -> Transformer:
    """The model of this shape ready for quantization-aware training. Shared: do not change it."""
    return prepare(float_model(shape), RECIPES[recipe], [calibration()]).eval()


@cache
def forcefield(shape: str, recipe: str, dtype: str = "float32") -> ForceField:
    """The deployed form of this model, on PyTorch. Shared: do not change it."""
    return deployed(prepared(shape, recipe), RECIPES[recipe]).on("torch", dtype=dtype)


def deployed(model: Network, recipe: Recipe = FLOAT) -> ForceField:
    """The force field of a float or prepared model, on PyTorch."""
    return ForceField(stored(model, recipe), "torch")


def copied(field: ForceField) -> ForceField:
    """The force field with tensors of its own, on PyTorch, which may be changed in place: nothing checks them again."""
    return ForceField(copy.deepcopy(field.stored), "torch")


@cache
def calibration() -> Graph:
    return tensors(collate([build_graph(cluster(6 + seed, seed), CUTOFF) for seed in range(4)]))


def cluster(atoms: int = 6, seed: int = 0, spacing: float = 1.0) -> Structure:
    """Atoms at random places, none closer than `spacing` Å, each within 2.5 Å of the first ones."""
    rng = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < atoms:
        x = rng.uniform(-1, 1, 3) * spacing * (atoms ** (1 / 3))
        if all(np.linalg.norm(x - p) > spacing for p in places):
            places.append(x)
    return Structure(species=rng.choice(SPECIES, atoms), positions=np.array(places))


def named(name: str) -> Structure:
    """A molecule of ASE's collection, turned away from the axes."""
    atoms = molecule(name)
    atoms.rotate(37.0, (1.0, 2.0, 3.0))
    return Structure(species=atoms.numbers, positions=atoms.positions)


def crystal(edge: float = 3.3) -> Structure:
    """Two atoms in a triclinic cell that is smaller than the cutoff."""
    cell = edge * np.array([[1.0, 0.0, 0.0], [0.2, 1.1, 0.0], [-0.1, 0.15, 0.95]])
    return Structure(species=np.array([6, 8]), positions=np.array([[0.1, 0.0, 0.2], [1.5, 1.9, 1.4]]), cell=cell,
                     pbc=(True, True, True))


def dimers(first: int, second: int, distances: Iterable[float]) -> list[Structure]:
    """Two atoms at these distances, Å, on a line away from the axes."""
    line = np.array([0.36, 0.48, 0.8])
    return [Structure(species=np.array([first, second]), positions=np.outer([-0.5, 0.5], r * line)) for r in distances]


def at(structure: Structure, positions: ArrayLike) -> Structure:
    """The structure with its atoms moved."""
    return Structure(species=structure.species, positions=np.asarray(positions), cell=structure.cell, pbc=structure.pbc)


def predict(field: Potential, structure: Structure, stress: bool = False) -> Prediction:
    """What a potential says of a structure, as tensors."""
    return said(field, field.graph(structure), stress)


def said(field: Potential, graph: Graph, stress: bool = False) -> Prediction:
    """What a potential says of a graph, as tensors."""
    return field.predict(graph, stress).mapped(tensor)
