"""Inputs: structures, data files, configurations, recipes and reports, changed at random and read in process.

What is read must be used without harm: neighbours, a prediction by a tiny model, a few steps of dynamics; and frames that
are written and read again are the same.
"""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import write as ase_write

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of, structure_of
from gaq.backends.native.potential import NativePotential
from gaq.data import KeyMap, load_frames, write_frames
from gaq.data.structures import structure_from
from gaq.errors import GaqError
from gaq.graph import build_graph
from gaq.models import load_recipe
from gaq.models.transformer.schema import ROLES
from gaq.neighbours import find_neighbours
from gaq.report import comparison_table, read_results, write_page
from gaq.simulation import run_md
from gaq.structure import Structure
from gaq.training.config import load_config
from tests.tiny import forcefield

NUMBERS = ("nan", "inf", "-inf", "1e300", "-1e300", "1e308", "1e-320", "1e400", "0", "-0.0", "-1", "1", "2", "0.5", "3.5",
           "1e7", "1e8", "1e30", "99999999999999999999")
WORDS = (*NUMBERS, "", " ", "\0", "\n", "\t", "\ufeff", "é", "²", "٣", "T", "F", "[", "]", "{", "}", '"', "'", "=", ":",
         "None", "true", "X", "D", "Zz", "Uuo", "0x10", "1_000", "1d3", "*^-6", "!!", "&a", "*a", "<<", "charge=1",
         "spin=2", "multiplicity=0.5", "move_mask", "pbc", "Lattice", "momenta:R:3", "masses:R:1", "stress", "virial",
         "config_type=IsolatedAtom", "weight=-1")
FIGURES = (0, 1, -1, 2, 3, 118, 119, 1000, 100000, 10**6, 2**31, 2**63, 10**30, 0.0, -0.0, 0.5, 1e-320, 1e-30, 1e7, 1e30,
           1e300, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))
VALUES = (*FIGURES, True, None, "", "x", "\0", "auto", "none", "1e30", [], {}, [1], [[1]], {"a": 1}, "x" * 10**5)
LONGEST = 600  # characters of a message
EDGES = 20_000  # more are searched, but not predicted on
UNLABELLED = KeyMap(energy=None, forces=None)
FORMATS = ("vasp", "cif", "xyz", "xsf", "gen", "json", "traj", "proteindatabank", "cube")


def try_case(rng: np.random.Generator, folder: Path) -> str:
    """Make one input and use it; return its kind, and "read" where all went through."""
    kinds: tuple[Callable[[np.random.Generator, Path], None], ...] = (
        extended_xyz, extended_xyz, extended_xyz, other_format, other_format, arrays, official, configuration,
        configuration, recipe, report, geometry, geometry, ase_atoms, strange_path)
    kind = kinds[int(rng.integers(len(kinds)))]
    try:
        kind(rng, folder)
    except GaqError as error:
        said = str(error)
    else:
        return f"{kind.__name__}-read"
    assert "\n" not in said
    assert len(said) <= LONGEST
    return f"{kind.__name__}-refused"


@cache
def fields() -> tuple[Any, NativePotential]:
    field = forcefield("l1", "fp32")
    return field, NativePotential(field.stored)


def extended_xyz(rng: np.random.Generator, folder: Path) -> None:
    """Frames with all that a file can say, a few words of it changed."""
    path = folder / "frames.extxyz"
    write_frames(path, [frame(rng) for _ in range(int(rng.integers(1, 4)))])
    path.write_bytes(changed(rng, path.read_bytes()))
    _read(rng, path)


def other_format(rng: np.random.Generator, folder: Path) -> None:
    """A structure in another format that ASE reads."""
    form = str(rng.choice(FORMATS))
    path = folder / {"vasp": "POSCAR", "proteindatabank": "a.pdb"}.get(form, f"a.{form}")
    atoms = bulk("C") if rng.random() < 0.5 else molecule("CH3CH2OH", vacuum=4.0, pbc=True)
    atoms.rattle(0.01, seed=int(rng.integers(100)))
    ase_write(path, atoms, format=form)
    path.write_bytes(changed(rng, path.read_bytes()))
    _read(rng, path, UNLABELLED)


def arrays(rng: np.random.Generator, folder: Path) -> None:
    """Arrays in the layout of rMD17 or of QM9."""
    path = folder / "a.npz"
    atoms, count = molecule("CH3CH2OH"), int(rng.integers(1, 4))
    positions = np.repeat(atoms.positions[None], count, 0) + rng.normal(scale=0.02, size=(count, len(atoms), 3))
    if rng.random() < 0.5:
        made = {"nuclear_charges": atoms.numbers, "coords": positions, "energies": rng.normal(-97000.0, 5, count),
                "forces": rng.normal(scale=20.0, size=positions.shape)}
    else:
        made = {"n_atoms": np.full(count, len(atoms)), "z": np.tile(atoms.numbers, count),
                "pos_A": positions.reshape(-1, 3), "U0_Ha": rng.normal(-155.0, 0.1, count)}
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(list(made)))
        made[name] = other_array(rng, made[name])
    np.savez(path, **made)
    if rng.random() < 0.3:
        path.write_bytes(changed(rng, path.read_bytes()))
    _read(rng, path)


def official(rng: np.random.Generator, folder: Path) -> None:
    """One molecule of QM9 as its authors wrote it."""
    water = molecule("H2O")
    rows = [f"{symbol}\t{x:.6f}\t{y:.6f}\t{z:.6f}\t-0.1*^-1" for symbol, (x, y, z) in zip(water.symbols, water.positions,
                                                                                    strict=True)]
    head = "gdb 3\t" + "\t".join(["1.0"] * 10 + ["-76.404702"] * 4 + ["6.0"])
    path = folder / "dsgdb9nsd_000003.xyz"
    path.write_bytes(changed(rng, "\n".join(["3", head, *rows, "1 2 3", "O\tO", "InChI"]).encode()))
    _read(rng, path)


def configuration(rng: np.random.Generator, folder: Path) -> None:
    """A configuration of a training run."""
    data = {"data": {"train": "a.extxyz", "frames": 100, "energy_key": "E", "atomic_energies": {"H": -13.6}},
            "model": {"scalars": 16, "vectors": 8, "cutoff": 4.0, "layers": 2, "basis": "bessel"},
            "optimization": {"steps": 100, "seed": 1, "learning_rate": 1e-3, "ema": 0.9}, "out": "run", "threads": 2}
    path = folder / "run.yaml"
    if rng.random() < 0.5:
        change(rng, data)
    text = yaml.safe_dump(data)
    if rng.random() < 0.1:
        deep = int(rng.choice((10, 100, 10_000)))
        text += "start: " + str(rng.choice(("[" * deep + "]" * deep, "{a: " * deep + "}" * deep)))
    if rng.random() < 0.1:
        laughs = (f"x{k + 1}: &x{k + 1} [{', '.join([f'*x{k}'] * 9)}]\n" for k in range(1, 30))
        text = "x1: &x1 1\n" + "".join(laughs) + text
    path.write_bytes(changed(rng, text.encode()) if rng.random() < 0.5 else text.encode("utf-8", "surrogatepass"))
    overrides = [f"optimization.{rng.choice(('seed', 'steps', 'clip', 'nothing'))}={rng.choice(WORDS)}"]
    load_config(path, overrides if rng.random() < 0.3 else None)


def recipe(rng: np.random.Generator, folder: Path) -> None:
    """A recipe of compression."""
    data = json.loads(load_recipe(str(rng.choice(("w4a8", "svq-kmeans", "fp32")))).model_dump_json())
    change(rng, data)
    path = folder / "a.json"
    text = _json(data)
    path.write_bytes(changed(rng, text.encode()) if rng.random() < 0.3 else text.encode())
    read = load_recipe(str(path))
    if rng.random() < 0.5:
        field = f"{rng.choice((*ROLES, 'schedule', '*'))}.{rng.choice(('weight', 'lee_weight', 'input'))}"
        read = read.with_overrides([f"{field}={rng.choice(WORDS)}"])
    for role in ROLES:
        read.rule_for("attention.0.query", role)


def report(rng: np.random.Generator, folder: Path) -> None:
    """Results of an evaluation."""
    numbers = rng.normal(size=6).tolist()
    statistics = {"mean": 1.0, "median": 1.0, "p99": 2.0, "max": 3.0, "ci95": [0.9, 1.1], "rotations": 4, "frames": 2}
    models = [{
        "name": name, "recipe": name, "energy_mae_meV": 1.0, "forces_mae_meV_A": 2.0, "stored_bytes": 1000,
        "fp32_bytes": 4000, "stored_by_tensor": {"a": 500, "b": 500}, "lee_forces_meV_A": dict(statistics),
        "lee_by_layer": [{"quantizer": "a", "lee_forces_meV_A": 0.1}], "saturation": [{"quantizer": "a", "clipped": 0.1}],
        "lee_map": {"axes": np.eye(3).tolist(), "lee_forces_meV_A": [1.0, 2.0, 3.0], "angle_deg": 45.0},
        "parity": {"forces_ref": list(numbers), "forces_pred": list(numbers), "energy_ref": [1.0], "energy_pred": [1.1]},
        "curves": {"step": [0, 1, 2], "train_loss": [3.0, 2.0, 1.0], "phase": ["float"] * 3}} for name in ("fp32", "w4a8")]
    for model in models:  # a whole page of plots takes seconds
        for part in ("lee_forces_meV_A", "lee_by_layer", "saturation", "lee_map", "parity", "curves"):
            if rng.random() < 0.7:
                del model[part]
    water = molecule("H2O")
    data = {"format": "gaq-results", "format_version": 1, "title": "T", "hardware": {"cpu": "c", "threads": 2}, "frames": 2,
            "structure": {"species": water.numbers.tolist(), "positions": water.positions.tolist()}, "models": models,
            "nve": [{"name": "a", "time_ps": [0.0, 0.1, 0.2], "total_energy_meV_atom": [0.0, 0.1, 0.2]}], "notes": ["n"]}
    for _ in range(int(rng.integers(1, 4))):
        change(rng, data)
    path = folder / "r.json"
    text = _json(data)
    path.write_bytes(changed(rng, text.encode()) if rng.random() < 0.2 else text.encode())
    results = read_results(path)
    comparison_table([results])
    write_page([results], folder / "r.html")


def geometry(rng: np.random.Generator, folder: Path) -> None:
    """A structure of arrays."""
    count = int(rng.choice((1, 2, 3, 10, 300)))
    scale = 10.0 ** float(rng.choice((-3, 0, 0, 0, 0.5, 1, 2, 4, 6, 8, 300)))
    positions = rng.normal(size=(count, 3)) * scale * count ** (1 / 3)
    cell = rng.normal(size=(3, 3)) * 10.0 ** float(rng.choice((-2, 0, 0.5, 1, 1, 3, 6, 9)))
    match int(rng.integers(6)):
        case 0:
            cell[2] = cell[0] * float(rng.choice((1, 2, 2**0.5, -1)))
        case 1:
            cell[2] = rng.integers(-2000, 2000) * cell[0] + rng.integers(-9, 9) * cell[1]
            cell[2] += float(rng.choice((1e-9, 0.03, 1)))
        case 2:
            cell[int(rng.integers(3))] = float(rng.choice((0, 1e-300, 1e300, np.nan, np.inf)))
        case 3:
            positions[int(rng.integers(count)), int(rng.integers(3))] = float(rng.choice((1e6, 1e9, 1e300, np.nan, 0)))
        case 4:
            positions[:, int(rng.integers(3))] *= float(rng.choice((0, 1e-9, 1e3, 1e6)))
        case _:
            cell = np.diag(10.0 ** rng.uniform(-2, 7, 3))
    pbc = tuple(bool(p) for p in rng.random(3) < 0.6)
    _use(rng, Structure(species=rng.choice((1, 6, 8), count), positions=positions, cell=cell, pbc=pbc))


def ase_atoms(rng: np.random.Generator, folder: Path) -> None:
    """`ase.Atoms` with what programs leave in them."""
    atoms: Atoms = atoms_of(frame(rng))
    for _ in range(int(rng.integers(0, 3))):
        key = str(rng.choice(("charge", "total_charge", "spin", "total_spin", "multiplicity", "weight")))
        atoms.info[key] = VALUES[int(rng.integers(len(VALUES)))]
    if rng.random() < 0.2:
        atoms.set_initial_charges(rng.normal(size=len(atoms)) * float(rng.choice((1e-5, 1.0, 1e300))))
    if rng.random() < 0.2:
        atoms.set_masses(rng.choice((0.0, 1.0, np.nan, 1e300, -1.0), len(atoms)))
    structure_of(atoms)
    atoms.calc = GaqCalculator(fields()[1])
    assert np.isfinite(atoms.get_potential_energy())
    assert np.isfinite(atoms.get_forces()).all()


def strange_path(rng: np.random.Generator, folder: Path) -> None:
    """What is no file, given to every reader."""
    (folder / "empty").touch()
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "broken").symlink_to(folder / "nothing")
    here = (str(folder / name) for name in (".", "empty", "pipe", "circle", "broken", "a\0b", "x" * 5000))
    places = (*here, "", ".", "~nobody-here/x", "/dev/null", "/dev/zero", "/dev/stdin", "rmd17:x", "qm9:²", "-", "a@b")
    path = places[int(rng.integers(len(places)))]
    readers: tuple[Callable[[Any], Any], ...] = (
        load_frames, structure_from, load_config, read_results, lambda given: load_recipe(f"{given}.json"),
        lambda given: load_frames(Path(given)), lambda given: load_frames(f"{given}.npz"))
    readers[int(rng.integers(len(readers)))](path)


def frame(rng: np.random.Generator) -> Structure:
    """A structure with all that a file can say of it."""
    atoms = molecule(str(rng.choice(("CH3CH2OH", "H2O", "CH4")))) if rng.random() < 0.7 else bulk("C", cubic=True)
    atoms.rattle(0.02, seed=int(rng.integers(1000)))
    count = len(atoms)
    if rng.random() < 0.5:
        atoms.set_momenta(rng.normal(size=(count, 3)))
    if rng.random() < 0.3:
        atoms.set_masses(np.where(atoms.numbers == 1, 2.014, atoms.get_masses()))
    if rng.random() < 0.3:
        atoms.set_constraint(FixAtoms([0]))
    said = structure_of(atoms)
    labels: dict[str, Any] = {"energy": -20.0 * count, "forces": rng.normal(size=(count, 3))}
    if all(said.pbc):
        labels["stress"] = np.diag(rng.normal(size=3))
    if rng.random() < 0.03:
        labels |= {"charge": 1.0, "spin": 0.5}
    return Structure(**vars(said) | labels)


def changed(rng: np.random.Generator, content: bytes) -> bytes:
    """Text or bytes with words, lines or bytes changed, lost or repeated."""
    for _ in range(int(rng.choice((0, 1, 1, 1, 2, 3)))):
        lines = content.split(b"\n")
        line = int(rng.integers(len(lines)))
        words = lines[line].split(b" ")
        word = int(rng.integers(len(words)))
        odd = str(rng.choice(WORDS)).encode()
        match int(rng.integers(12)):
            case 0:
                words[word] = odd
            case 1 | 2 | 3 | 4 | 5:  # a number for a number, which is often read
                numeric = [k for k, given in enumerate(words) if given.strip(b"-0123456789.") == b"" and given]
                word = numeric[int(rng.integers(len(numeric)))] if numeric else word
                words[word] = str(rng.choice(NUMBERS)).encode()
            case 6:
                words.insert(word, odd)
            case 7:
                del words[word]
            case 8:
                lines.insert(line, lines[int(rng.integers(len(lines)))])
            case 9:
                words[word] *= int(rng.choice((2, 100, 10**5)))
            case 10:
                content = content[: int(rng.integers(len(content) + 1))]
                continue
            case _:
                at = int(rng.integers(len(content) + 1))
                content = content[:at] + rng.bytes(int(rng.integers(1, 5))) + content[at + int(rng.integers(3)) :]
                continue
        lines[line] = b" ".join(words)
        content = b"\n".join(lines)
    return content


def change(rng: np.random.Generator, data: Any) -> None:
    """Change, remove or add one value somewhere in plain data."""
    part = data
    while True:
        inside = part.values() if isinstance(part, dict) else part
        deeper = [value for value in inside if isinstance(value, (dict, list)) and value]
        if not deeper or rng.random() < 0.3:
            break
        part = deeper[int(rng.integers(len(deeper)))]
    keys: list[Any] = list(part) if isinstance(part, dict) else list(range(len(part)))
    key, odd = keys[int(rng.integers(len(keys)))], VALUES[int(rng.integers(len(VALUES)))]
    if isinstance(part[key], (int, float)) and rng.random() < 0.8:
        part[key] = FIGURES[int(rng.integers(len(FIGURES)))]
        return
    match int(rng.integers(8)):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[str(rng.choice(("match", "colour", "", "weight")))] = odd
        case 2 if isinstance(part, list):
            part *= int(rng.choice((0, 2, 3)))
        case _:
            part[key] = odd


def other_array(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """An array of other numbers, another kind or another shape."""
    made = array.copy()
    match int(rng.integers(7)):
        case 0:
            made.reshape(-1)[int(rng.integers(made.size))] = FIGURES[int(rng.integers(8))]
        case 1:
            kind = str(rng.choice(("float16", "int8", "complex128", "U5", "bool", "S3", "uint64", "M8[s]")))
            with np.errstate(all="ignore"):
                return made.astype(kind)
        case 2:
            return np.atleast_1d(made)[..., :-1]
        case 3:
            return np.array(FIGURES[int(rng.integers(len(FIGURES)))])
        case 4:
            made = made.astype(float)
            made.reshape(-1)[int(rng.integers(made.size))] = float(rng.choice((np.nan, np.inf, 1e300, -1e308, 1e-320)))
        case 5:
            return made[None]
        case _:
            return made * float(rng.choice((0, 1e-3, 0.04, 20, 1e6, -1)))
    return made


def _json(data: Any) -> str:
    return json.dumps(data).encode("utf-8", "replace").decode()


def _read(rng: np.random.Generator, path: Path, keys: KeyMap = KeyMap()) -> None:
    frames = load_frames(path, keys) if rng.random() < 0.8 else [structure_from(path)]
    again = path.parent / "again.extxyz"
    write_frames(again, frames)
    written = KeyMap(energy=None if all(frame.energy is None for frame in frames) else "REF_energy",
                     forces=None if all(frame.forces is None for frame in frames) else "REF_forces")
    for before, after in zip(frames, load_frames(again, written), strict=True):
        for name, value in vars(before).items():
            assert np.array_equal(value, getattr(after, name)) or name == "cell", (name, value, getattr(after, name))
    for structure in list(frames)[:3]:
        _use(rng, structure)


def _use(rng: np.random.Generator, structure: Structure) -> None:
    found = find_neighbours(structure, 4.0)
    assert np.isfinite(found.distances).all()
    assert len(found.distances) == 0 or found.distances.max() <= 4.0 + 1e-6 * (1 + np.abs(structure.positions).max())
    build_graph(structure, 4.0)
    if len(found.distances) > EDGES or len(structure) > 1000:
        return
    for field in fields():
        made = field.predict(field.graph(structure))
        assert np.isfinite(made.energy).all()
        assert np.isfinite(made.forces).all()
    if rng.random() < 0.1 and len(structure) < 50:
        ensemble = str(rng.choice(("nve", "nvt")))
        result = run_md(fields()[int(rng.integers(2))], structure, steps=2, every=1, ensemble=ensemble)
        assert np.isfinite(result.total_energy).all()
        if structure.fixed is not None:
            assert np.array_equal(result.final.positions[structure.fixed], structure.positions[structure.fixed])
