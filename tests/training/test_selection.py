"""What people have in their files: energies alone, isolated atoms, weights, several files; and what is refused by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import SPECIES, forcefield

import examples
from examples import crystals, frames, optimization
from gaq.assess.audit import QUICK, audit
from gaq.assess.evaluate import evaluate
from gaq.assess.sensitivity import SensitivityPlan, sensitivity
from gaq.data import Frames, load_frames, write_frames
from gaq.errors import ConfigError, DataError, SpeciesError, StructureError
from gaq.forcefield import ForceField, load
from gaq.structure import Structure
from gaq.training import TrainConfig, quantize, train
from gaq.training.selection import select, split

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
ATOMS = {1: -13.0, 6: -20.0, 7: -25.0, 8: -30.0}  # eV; the frames on springs have -100 eV, two hydrogens among five atoms


def case(name: str) -> Path:
    if not CASES.is_dir():
        pytest.skip("the inputs that went wrong are not at ../shared/cases")
    return CASES / name


def saved(path: Path, structures: Sequence[Structure]) -> str:
    write_frames(path, structures)
    return str(path)


def config(folder: Path, train: object, start: str | None = None, settings: dict[str, object] | None = None,
           **data: object) -> TrainConfig:
    return TrainConfig.model_validate({
        "data": {"train": train, "validation_frames": 4} | data, "model": examples.SHAPE, "out": str(folder / "run"),
        "start": start, "optimization": optimization(steps=4).model_dump() | (settings or {})})


def atom(number: int, energy: float | None = None, **more: object) -> Structure:
    return Structure(species=np.array([number]), positions=np.zeros((1, 3)),
                     energy=ATOMS[number] if energy is None else energy, **more)


def with_fluorine(structure: Structure) -> Structure:
    return replace(structure, species=np.where(structure.species == 8, 9, structure.species))


def offsets(field: ForceField) -> dict[int, float]:
    return dict(zip(field.species, field.stored.tensors["energy_offsets"].tolist(), strict=True))


def test_energies_only(tmp_path: Path) -> None:
    field = train(config(tmp_path, str(case("energies-only.extxyz")), forces_key="none"))
    assert field.provenance["labels"] == {"energy": 16, "forces": 0, "stress": 0}
    assert load(tmp_path / "run" / "model.safetensors").provenance["curves"]["forces_mae_meV_A"] == [None]
    data = load_frames(case("energies-only.extxyz"), config(tmp_path, "x", forces_key=None).data.keys)
    quantize(field, "w4a8", data, optimization(steps=2))
    found = evaluate([("m", field, "")], data, rotations=2, lee_frames=1)
    assert found["models"][0]["forces_mae_meV_A"] is None
    assert found["models"][0]["energy_mae_meV"] > 0
    assert any("no reference forces" in note for note in found["notes"])


def test_forces_key_none_leaves_forces_out_that_are_there(tmp_path: Path) -> None:
    source = saved(tmp_path / "f.xyz", frames())
    assert all(s.forces is None for s in select(config(tmp_path, source, forces_key="none")).training)


def test_frames_of_which_some_lack_a_label(tmp_path: Path) -> None:
    mixed = [replace(s, forces=None if k % 3 == 0 else s.forces, energy=None if k % 3 == 1 else s.energy)
             for k, s in enumerate(frames())]
    field = train(config(tmp_path, saved(tmp_path / "f.xyz", mixed)))
    labels = field.provenance["labels"]
    assert 0 < labels["energy"] < 16
    assert 0 < labels["forces"] < 16
    low = quantize(field, "w4a8", mixed, optimization(steps=2))
    found = evaluate([("m", low, "")], Frames(tuple(mixed), "f"), rotations=2, lee_frames=1)
    assert found["models"][0]["forces_mae_meV_A"] > 0
    assert [note for note in found["notes"] if "13 of 20" in note]


def test_validation_without_forces(tmp_path: Path) -> None:
    bare = saved(tmp_path / "v.xyz", [replace(s, forces=None) for s in frames(5, seed=9)] + [frames(1)[0]])
    field = train(config(tmp_path, saved(tmp_path / "f.xyz", frames()), validation=bare, validation_frames=3))
    assert field.provenance["curves"]["energy_mae_meV"][0] > 0


@pytest.mark.parametrize("count", [1, 3])
def test_validation_of_one_frame_and_training_on_one(tmp_path: Path, count: int) -> None:
    first = saved(tmp_path / "f.xyz", frames(count))
    field = train(config(tmp_path, first, validation=saved(tmp_path / "v.xyz", frames(1, seed=2))))
    assert field.provenance["training_frames"] == count
    if count == 1:
        with pytest.raises(DataError, match="at least 2 frames"):
            train(config(tmp_path, first))


def test_the_isolated_atoms_of_a_file_give_the_energies(tmp_path: Path) -> None:
    source = str(case("with-isolated-atoms.extxyz"))
    field = train(config(tmp_path, source))
    assert offsets(field) == {1: -13.6, 6: -1029.0, 8: -2043.0}
    assert field.provenance["atomic_energies"] == {"H": -13.6, "C": -1029.0, "O": -2043.0}
    assert field.provenance["training_frames"] == 23
    chosen = select(config(tmp_path, source))
    assert {len(s) for s in [*chosen.training, *chosen.validation]} == {9}
    found = evaluate([("m", field, "")], load_frames(source), rotations=2, lee_frames=1)
    assert found["frames"] == 27
    assert any("3 isolated atoms" in note for note in found["notes"])
    assert found["models"][0]["energy_mae_meV"] < 1000  # the network holds the energy of bonds, 27 eV


def test_isolated_atoms_wherever_they_are(tmp_path: Path) -> None:
    """In a file of their own, in several of them, in validation, and boxed by a plane-wave program."""
    boxed = tmp_path / "boxed.xyz"
    boxed.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 REF_energy=-20.0 '
                     'config_type=IsolatedAtom pbc="T T T"\nC 0 0 0\n')
    sources = [saved(tmp_path / "f.xyz", frames()), saved(tmp_path / "a.xyz", [atom(1), atom(7)]),
               saved(tmp_path / "b.xyz", [atom(8), atom(1)]), str(boxed)]
    other = saved(tmp_path / "v.xyz", [*frames(3, seed=4), atom(1, -5.0)])
    field = train(config(tmp_path, sources, validation=other))
    assert offsets(field) == ATOMS
    assert field.provenance["source"] == ", ".join(sources)
    assert field.provenance["training_frames"] == 20


def test_isolated_atoms_of_some_elements(tmp_path: Path) -> None:
    source = saved(tmp_path / "f.xyz", [atom(1), *frames(), atom(6)])
    field = train(config(tmp_path, source))
    found = offsets(field)
    assert (found[1], found[6]) == (-13.0, -20.0)
    assert found[7] + found[8] == pytest.approx(-100.0 + 2 * 13.0 + 20.0, abs=1.0)  # fitted with the others fixed
    assert set(field.provenance["atomic_energies"]) == {"H", "C"}


def test_atomic_energies_can_be_given(tmp_path: Path) -> None:
    source = saved(tmp_path / "f.xyz", frames())
    field = train(config(tmp_path, source, atomic_energies={"H": -13.0, "C": -20.0, 7: -25.0, "8": -30.0, "Fe": -3000.0}))
    assert offsets(field) == ATOMS
    with pytest.raises(DataError, match=r"H atom has -13 eV in frame 0 of .*, and -12 eV in data.atomic_energies"):
        train(config(tmp_path, saved(tmp_path / "a.xyz", [atom(1), *frames()]), atomic_energies={"H": -12.0}))
    with pytest.raises(DataError, match=r"the atomic energies leave .* eV per atom for bonds"):
        train(config(tmp_path, source, atomic_energies={"H": -0.5, "C": -37.8, "N": -54.6, "O": -2043.0}))
    with pytest.raises(DataError, match="isolated H atom has -14 eV"):
        train(config(tmp_path, saved(tmp_path / "d.xyz", [atom(1), *frames(), atom(1, -14.0)])))
    with pytest.raises(DataError, match="2 isolated atoms, and 0 frames of weight 0"):
        train(config(tmp_path, saved(tmp_path / "o.xyz", [atom(1), atom(8)])))


def test_3bpa_with_its_isolated_atoms(tmp_path: Path, shared_data: Path) -> None:
    sources = [str(shared_data / "3bpa" / name) for name in ("train_300K.xyz.gz", "iso_atoms.xyz.gz")]
    field = train(config(tmp_path, sources, frames=20, energy_key="energy", forces_key="forces"))
    assert offsets(field)[6] == -1029.4889999855063
    assert field.provenance["labels"] == {"energy": 16, "forces": 16, "stress": 0}


def test_frames_of_weight_zero_are_left_out(tmp_path: Path) -> None:
    weighted = [replace(s, weight=float(k % 2), energy=s.energy + 1e4 * (k % 2 == 0)) for k, s in enumerate(frames())]
    chosen = select(config(tmp_path, saved(tmp_path / "f.xyz", weighted)))
    assert {s.weight for s in [*chosen.training, *chosen.validation]} == {1.0}
    assert len(chosen.frames) == 10
    with pytest.raises(DataError, match="0 isolated atoms, and 20 frames of weight 0"):
        select(config(tmp_path, saved(tmp_path / "z.xyz", [replace(s, weight=0.0) for s in frames()])))


def test_training_with_weights_and_stresses_from_a_file(tmp_path: Path) -> None:
    given = [replace(s, weight=1.0 + k) for k, s in enumerate(crystals(8))]
    field = train(config(tmp_path, saved(tmp_path / "f.xyz", given), settings={"stress_weight": 0.1}))
    assert field.provenance["labels"]["stress"] == 7
    assert field.provenance["curves"]["stress_mae_meV_A3"][0] > 0
    found = evaluate([("m", field, "")], load_frames(tmp_path / "f.xyz"), rotations=2, lee_frames=1)["models"][0]
    said = [field.predict(field.graph(s), stress=True).stress[0] - s.stress for s in given]
    assert found["stress_mae_meV_A3"] == pytest.approx(1000 * np.abs(said).mean())
    low = quantize(field, "w4", given, optimization(steps=2, stress_weight=0.1))
    assert "stress_mae_meV_A3" in low.provenance["curves"]


@pytest.mark.parametrize(("change", "settings", "error", "message"), [
    ({"energy": None, "forces": None}, {}, DataError, r"frame 3 of .* has no reference energy and no forces"),
    ({}, {"stress_weight": 1.0}, ConfigError, r"stress_weight is 1, but no training frame .* data.stress_key"),
    ({"charge": 1.0}, {}, StructureError, r"frame 3 of .* has charge 1 and spin 0"),
    ({"spin": 0.5}, {}, StructureError, r"frame 3 of .* has charge 0 and spin 0.5"),
])
def test_what_cannot_be_trained_on_is_named(tmp_path: Path, change: dict[str, object], settings: dict[str, object],
                                            error: type[Exception], message: str) -> None:
    given = list(frames())
    given[3] = replace(given[3], **change)
    source = saved(tmp_path / "f.xyz", given)
    with pytest.raises(error, match=message):
        train(config(tmp_path, source, settings=settings))
    assert not (tmp_path / "run").exists()
    if "stress_weight" not in settings:
        with pytest.raises(error, match=r"frame 3 of the frames"):
            quantize(forcefield("robust", "fp32"), "w4a8", given, optimization())


def test_labels_that_the_loss_does_not_weigh(tmp_path: Path) -> None:
    energies = saved(tmp_path / "e.xyz", [replace(s, forces=None) for s in frames()])
    with pytest.raises(ConfigError, match=r"training frames of .* have energy alone.*raise optimization.energy_weight"):
        train(config(tmp_path, energies, settings={"energy_weight": 0.0}, forces_key=None))
    with pytest.raises(ConfigError, match=r"validation frames of .* have energy alone"):
        train(config(tmp_path, saved(tmp_path / "f.xyz", frames()), settings={"energy_weight": 0.0},
                     validation=saved(tmp_path / "v.xyz", [*(replace(s, forces=None) for s in frames(9)),
                                                           replace(frames(1)[0], weight=0.0)])))
    with pytest.raises(DataError, match=r"no training frame of .* has a reference energy.*energy_key"):
        train(config(tmp_path, saved(tmp_path / "n.xyz", frames()), energy_key="none"))


def test_elements_are_never_in_validation_alone() -> None:
    given = Frames((with_fluorine(frames(1)[0]), *frames(19)), "f")
    for seed in range(20):
        training, validation = split(given, 4, seed)
        assert 9 in {int(z) for s in training for z in s.species}
        assert not any(9 in s.species for s in validation)
        assert len(training) + len(validation) == 20
    both = Frames((with_fluorine(frames(1)[0]), frames(1)[0]), "f")
    with pytest.raises(DataError, match="has an element that no other frame has"):
        split(both, 1, 0)


def test_elements_that_the_model_does_not_know_are_refused_before_work(tmp_path: Path) -> None:
    strange = Frames((*frames(4), with_fluorine(frames(1)[0])), "f.xyz")
    message = r"frame 4 of .*f.xyz: the model does not know F; it is made for H, C, N, O"
    path = saved(tmp_path / "f.xyz", strange)
    good = saved(tmp_path / "good.xyz", frames())
    with pytest.raises(SpeciesError, match=message):
        train(config(tmp_path, good, validation=path, validation_frames=5))
    field = forcefield("robust", "fp32")
    assert field.species == SPECIES
    field.save(tmp_path / "m.safetensors")
    with pytest.raises(SpeciesError, match=message):
        train(config(tmp_path, path, start=str(tmp_path / "m.safetensors")))
    with pytest.raises(SpeciesError, match=message):
        train(config(tmp_path, good, start=str(tmp_path / "m.safetensors"), validation=path, validation_frames=5))
    for settings in (None, optimization()):
        with pytest.raises(SpeciesError, match=message):
            quantize(field, "w4a8", strange, settings)
    with pytest.raises(SpeciesError, match=message):
        sensitivity(field, "w4a8", strange, SensitivityPlan(frames=1))
    with pytest.raises(SpeciesError, match=message):
        audit(field, strange, QUICK)
    with pytest.raises(SpeciesError, match=message):
        audit(lambda graph: field(graph), strange, QUICK, cutoff=4.0, reference=field)
    with pytest.raises(SpeciesError, match=message):
        evaluate([("m", field, "")], strange)
    assert not (tmp_path / "run").exists()


def test_energies_of_the_elements_are_not_given_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"atomic_energies cannot be given with start"):
        config(tmp_path, "f.xyz", start="m.safetensors", atomic_energies={"H": -13.6})


def test_going_on_keeps_the_energies_of_the_model(tmp_path: Path) -> None:
    first = train(config(tmp_path, saved(tmp_path / "f.xyz", frames())))
    source = saved(tmp_path / "a.xyz", [atom(1), *frames()])
    second = train(config(tmp_path, source, start=str(tmp_path / "run" / "model.safetensors"), settings={"steps": 1}))
    shift = second.stored.tensors["energy_offsets"] - first.stored.tensors["energy_offsets"]
    assert len(shift) == 4
    np.testing.assert_allclose(shift, shift[0], rtol=0, atol=1e-9)
    assert second.provenance["training_frames"] == 16
