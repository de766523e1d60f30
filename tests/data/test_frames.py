"""Frames keep their order and their identity."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaq.data.frames import Frames, check_training_size
from gaq.errors import DataError
from gaq.structure import Structure


def some(count: int, origin: str = "file") -> Frames:
    rng = np.random.default_rng(1)
    return Frames(tuple(Structure(species=np.array([1, 8]), positions=rng.normal(size=(2, 3)), energy=float(k),
                                  forces=rng.normal(size=(2, 3))) for k in range(count)), "made.xyz", origin)  # type: ignore[arg-type]


def test_is_a_sequence() -> None:
    frames = some(5)
    assert len(frames) == 5
    assert [frame.energy for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[-1].energy == 4
    assert [frame.energy for frame in frames[1:3]] == [1, 2]
    assert [frame.energy for frame in frames.subset([3, 0])] == [3, 0]
    assert frames.subset(np.array([3])).source == "made.xyz"


@given(st.integers(1, 25))
def test_spread_frames_reach_from_the_first_to_the_last(n: int) -> None:
    chosen = [frame.energy for frame in some(20).spread(n)]
    assert len(chosen) == min(n, 20)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert n == 1 or chosen[-1] == 19


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_take_is_a_choice_without_repetition(n: int, seed: int) -> None:
    frames = some(20)
    taken = [frame.energy for frame in frames.take(n, seed)]
    assert len(set(taken)) == n
    assert taken == [frame.energy for frame in frames.take(n, seed)]


@pytest.mark.parametrize("n", [0, -1, 6])
def test_take_more_than_there_is(n: int) -> None:
    with pytest.raises(DataError, match="1 to 5"):
        some(5).take(n, 0)


def test_fingerprint_sees_every_value() -> None:
    base = some(3)
    assert base.fingerprint == some(3).fingerprint
    assert len(base.fingerprint) == 64
    frame = base[0]
    forces, positions = frame.forces.copy(), frame.positions.copy()
    forces[0, 0] += 1e-12
    positions[1, 2] += 1e-12
    box = 5 * np.eye(3)
    variants: list[dict[str, Any]] = [
        {"energy": frame.energy + 1e-12}, {"energy": None}, {"forces": None}, {"forces": forces},
        {"positions": positions}, {"species": np.array([1, 9])}, {"cell": box, "pbc": (True, True, True)},
        {"cell": box, "pbc": (True, True, False)}, {"cell": 1.001 * box, "pbc": (True, True, True)}]
    prints = {Frames((replace(frame, **variant), *base.structures[1:]), "x").fingerprint for variant in variants}
    assert len(prints | {base.fingerprint}) == len(variants) + 1
    assert base.subset([1, 0, 2]).fingerprint != base.fingerprint


def test_the_limit_of_rmd17() -> None:
    check_training_size(some(1000, "rmd17"), allow_more=False)
    check_training_size(some(1001, "rmd17"), allow_more=True)
    check_training_size(some(1001), allow_more=False)
    with pytest.raises(DataError, match=r"1001 training frames.*authors of rMD17"):
        check_training_size(some(1001, "rmd17"), allow_more=False)
