"""Isolated atoms: told apart from frames, and what they say of energies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gaq.data import Frames, KeyMap, load_frames
from gaq.data.atomic_energies import atomic_energies
from gaq.data.frames import check_training_size, joined
from gaq.errors import DataError
from gaq.structure import Structure


def atom(number: int, energy: float | None, **more: object) -> Structure:
    return Structure(species=np.array([number]), positions=np.zeros((1, 3)), energy=energy, **more)


def pair(energy: float = -1.0) -> Structure:
    return Structure(species=np.array([1, 8]), positions=np.array([[0.0, 0, 0], [1.0, 0, 0]]), energy=energy)


def test_isolated_atoms_are_told_apart() -> None:
    crystal = atom(26, -3.0, cell=3 * np.eye(3), pbc=(True,) * 3)
    frames = Frames((pair(), atom(1, -13.6), crystal, pair(), atom(8, -2040.0)), "here")
    kept, alone = frames.apart()
    assert [len(frame) for frame in kept] == [2, 1, 2]
    assert [frame.energy for frame in alone] == [-13.6, -2040.0]
    assert kept.place(2) == "frame 3 of here"
    assert alone.place(1) == "frame 4 of here"
    whole, none = frames.subset([0, 3]).apart()
    assert (len(whole), len(none)) == (2, 0)


def test_energies_of_atoms_and_given_ones() -> None:
    atoms = Frames((atom(1, -13.6), atom(8, None), atom(1, -13.6004), atom(6, -1000.0, charge=1.0), atom(7, -3.0)), "a.xyz")
    assert atomic_energies(atoms, {6: -1029.0, 7: -3.0}) == {1: -13.6, 6: -1029.0, 7: -3.0}
    with pytest.raises(DataError, match=r"H atom has -13.7 eV in frame 1 of b.xyz, and -13.6 eV in frame 0 of b.xyz"):
        atomic_energies(Frames((atom(1, -13.6), atom(1, -13.7)), "b.xyz"), {})
    with pytest.raises(DataError, match=r"H atom has -13.6 eV in frame 0 of a.xyz, and -0.5 eV in data.atomic_energies"):
        atomic_energies(atoms, {1: -0.5})


def test_several_sources_are_one() -> None:
    first, second = Frames((pair(-1.0), pair(-2.0)), "a"), Frames((pair(-3.0), pair(-4.0), pair(-5.0)), "b")
    both = joined([first, second])
    assert both.source == "a, b"
    assert [frame.energy for frame in both] == [-1.0, -2.0, -3.0, -4.0, -5.0]
    chosen = both.subset([4, 0, 2])[1:]
    assert [chosen.place(k) for k in range(2)] == ["frame 0 of a", "frame 0 of b"]
    nested = joined([both.subset([3, 1]), first])
    assert [nested.place(k) for k in range(4)] == ["frame 1 of b", "frame 1 of a", "frame 0 of a", "frame 1 of a"]
    assert joined([first]) is first
    assert len({joined([first, second]).fingerprint, joined([second, first]).fingerprint, first.fingerprint}) == 3


def test_weights_and_stresses_are_in_the_fingerprint() -> None:
    plain = replace(pair(), cell=5 * np.eye(3), pbc=(True,) * 3)
    others = [replace(plain, weight=2.0), replace(plain, stress=np.eye(3))]
    assert len({Frames((frame,), "x").fingerprint for frame in (plain, *others)}) == 3


def test_the_limit_of_rmd17_holds_over_all_sources() -> None:
    def some(count: int, origin: str) -> Frames:
        return Frames((pair(),) * count, origin, origin)  # type: ignore[arg-type]

    check_training_size(joined([some(1000, "rmd17"), some(5000, "file")]), allow_more=False)
    with pytest.raises(DataError, match="1001 training frames from rmd17: the"):
        check_training_size(joined([some(900, "rmd17"), some(5000, "file"), some(101, "rmd17")]), allow_more=False)
    check_training_size(joined([some(2000, "rmd17"), some(1, "file")]).subset(range(1001, 2001)), allow_more=False)


def test_one_bad_source_of_several_is_named(tmp_path: Path, shared_data: Path) -> None:
    good, keys = shared_data / "3bpa" / "iso_atoms.xyz.gz", KeyMap("energy", "forces")
    (tmp_path / "bad.xyz").write_text("2\n\nH 0 0 0\n")
    with pytest.raises(DataError, match=r"cannot read .*bad.xyz"):
        load_frames([good, tmp_path / "bad.xyz"], keys)
    with pytest.raises(DataError, match=r"no file at nothing.xyz"):
        load_frames([str(good), "nothing.xyz"], keys)
    with pytest.raises(DataError, match="different names"):
        load_frames([good, str(good)], keys)
    with pytest.raises(DataError, match="different names"):
        load_frames([], keys)


def test_the_atoms_of_3bpa(shared_data: Path) -> None:
    frames = load_frames([shared_data / "3bpa" / name for name in ("train_300K.xyz.gz", "iso_atoms.xyz.gz")],
                         KeyMap("energy", "forces"))
    molecules, atoms = frames.apart()
    assert (len(molecules), len(atoms)) == (500, 4)
    energies = atomic_energies(atoms, {})
    assert set(energies) == {1, 6, 7, 8}
    bound = [(frame.energy - sum(energies[z] for z in frame.species.tolist())) / len(frame) for frame in molecules]
    assert -8.0 < min(bound) < max(bound) < -3.0
