"""Files that are none, or not what they seem: refused in one line, at once, by every reader."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import write

from gaq.data import KeyMap, load_frames, write_frames
from gaq.data.structures import structure_from
from gaq.errors import ConfigError, DataError, GaqError
from gaq.models import load_recipe
from gaq.report import read_results
from gaq.structure import Structure
from gaq.training.config import load_config

UNLABELLED = KeyMap(energy=None, forces=None)
READERS = (load_frames, structure_from, load_config, read_results, lambda path: load_recipe(f"{path}.json"),
           lambda path: load_frames(f"{path}.npz"))


@pytest.mark.parametrize("reader", range(len(READERS)))
@pytest.mark.parametrize("name", [".", "empty", "pipe", "circle", "broken", "a\0b", "x" * 5000, "none"])
def test_what_is_no_file_is_refused_at_once(tmp_path, reader, name):
    for ending in ("", ".json", ".npz"):
        (tmp_path / f"empty{ending}").touch()
        os.mkfifo(tmp_path / f"pipe{ending}")
        (tmp_path / f"circle{ending}").symlink_to(tmp_path / f"circle{ending}")
        (tmp_path / f"broken{ending}").symlink_to(tmp_path / "nothing")
    begin = time.perf_counter()
    with pytest.raises(GaqError) as caught:
        READERS[reader](str(tmp_path / name))
    assert len(str(caught.value)) <= 600
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - begin < 5.0


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/stdin", "~nobody-of-this-name/x", ""])
def test_devices_and_places_that_are_none(path):
    for reader in READERS[:4]:
        with pytest.raises(GaqError):
            reader(path)


def test_frames_that_announce_more_atoms_than_there_are(tmp_path):
    path = tmp_path / "a.xyz"
    for count in ("3", "1000000000000", "9" * 30):
        path.write_text(f"{count}\n\nH 0 0 0\nH 0 0 1\n")
        with pytest.raises(DataError, match=r"frame 0 announces \d+ atoms, and 2 lines follow"):
            load_frames(path, UNLABELLED)


def test_frames_behind_an_empty_line_are_not_lost(tmp_path):
    path = tmp_path / "a.xyz"
    frame = "2\n\nH 0 0 0\nH 0 0 0.74\n"
    path.write_text(frame + frame + "\n\n")
    assert len(load_frames(path, UNLABELLED)) == 2
    path.write_text(frame + "\n" + frame)
    with pytest.raises(DataError, match="an empty line after 1 frames"):
        load_frames(path, UNLABELLED)


def test_lines_that_would_take_minutes_are_refused(tmp_path):
    for name, form in (("a.cif", "cif"), ("a.extxyz", "extxyz")):
        path = tmp_path / name
        write(path, bulk("C"), format=form)
        path.write_text(path.read_text() + "_word" * 10**6 + "\n")
        begin = time.perf_counter()
        with pytest.raises(DataError, match="characters, and at most"):
            load_frames(path, UNLABELLED)
        assert time.perf_counter() - begin < 5.0


@pytest.mark.parametrize("damage", ["symbols", "huge", "cell", "words"])
def test_a_poscar_that_is_damaged(tmp_path, damage):
    path = tmp_path / "POSCAR"
    write(path, bulk("C"), format="vasp")
    lines = path.read_text().splitlines()
    match damage:
        case "symbols":
            lines[0], lines[5] = "crystal", "2"
            del lines[6]
        case "huge":
            lines[-1] = "1e300 0 0"
        case "cell":
            lines[2:5] = ["1 0 0", "2 0 0", "0 0 1"]
        case _:
            lines[2] = "a b c"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError):
        load_frames(path, UNLABELLED)


def test_a_bad_frame_is_named(tmp_path):
    water = molecule("H2O")
    good = Structure(species=water.numbers, positions=water.positions, cell=8 * np.eye(3), pbc=(True, True, False))
    path = tmp_path / "a.extxyz"
    write_frames(path, [good, good, good])
    text = path.read_text().splitlines()
    text[6] = text[6].replace("0.0 8.0 0.0 0.0", "16.0 0.0 0.0 0.0", 1).replace("8.0 0.0 0.0 16.0", "8.0 0.0 0.0 16.0")
    path.write_text("\n".join(text) + "\n")
    with pytest.raises(DataError, match=r"a\.extxyz, frame 1: the cell has no volume"):
        load_frames(path, UNLABELLED)


def test_messages_do_not_repeat_what_was_given(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"out: {'x' * 10**6}\nseed: [{'1, ' * 10**4}]\n{'k' * 10**5}: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(str(caught.value)) <= 600
    with pytest.raises(DataError) as missing:
        load_frames("y" * 10**6)
    assert len(str(missing.value)) <= 600
    assert load_recipe("w4a8").name == "w4a8"
    assert Path(path).exists()


@pytest.mark.parametrize("kind", ["complex128", "U5", "M8[s]", "bool"])
@pytest.mark.parametrize("layout", ["rmd17", "qm9"])
def test_arrays_that_hold_no_numbers(tmp_path, kind, layout):
    water = molecule("H2O")
    rmd17 = {"nuclear_charges": water.numbers, "coords": water.positions[None], "energies": np.array([-47000.0]),
             "forces": np.zeros((1, 3, 3))}
    qm9 = {"n_atoms": np.array([3]), "z": water.numbers, "pos_A": water.positions, "U0_Ha": np.array([-76.4])}
    good = {"rmd17": rmd17, "qm9": qm9}[layout]
    path = tmp_path / "a.npz"
    np.savez(path, **good)
    assert len(load_frames(path)) == 1
    for name, array in good.items():
        np.savez(path, **good | {name: array.astype(int).astype(kind)})
        with pytest.raises(DataError, match=f"the array '{name}' must hold"):
            load_frames(path)


def test_sizes_that_are_none(tmp_path):
    path = tmp_path / "a.npz"
    for sizes in ([3, -1, 1], [0, 3], [], 3):
        np.savez(path, n_atoms=np.array(sizes, dtype=int), z=np.array([8, 1, 1]), pos_A=np.zeros((3, 3)),
                 U0_Ha=np.zeros(np.shape(sizes)))
        with pytest.raises(DataError):
            load_frames(path)


def test_labels_beyond_reason(tmp_path):
    water = molecule("H2O")
    frame = Structure(species=water.numbers, positions=water.positions, energy=-400.0, forces=np.zeros((3, 3)))
    path = tmp_path / "a.extxyz"
    write_frames(path, [frame])
    text = path.read_text()
    for before, after in (("REF_energy=-400.0", "REF_energy=-1e300"), ("0.0 0.0 0.0\n", "0.0 1e200 0.0\n")):
        path.write_text(text.replace(before, after, 1))
        with pytest.raises(DataError, match=r"frame 0: .*(energy|forces)"):
            load_frames(path)
