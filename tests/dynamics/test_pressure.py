"""Constant pressure: what is conserved, what the averages are, restarts to the last bit, and what is refused."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import units
from toys import LennardJones, molecule

from gaq.errors import ConfigError, DataError, StructureError
from gaq.simulation import run_md
from gaq.structure import Structure

ARGON = {"ensemble": "npt", "timestep_fs": 4.0, "friction_per_ps": 4.0}


def argon(count: int = 3, edge: float = 4.2) -> Structure:
    rng = np.random.default_rng(0)
    grid = edge * np.stack(np.meshgrid(*[np.arange(count)] * 3), -1).reshape(-1, 3) + 0.05 * rng.normal(size=(count**3, 3))
    return Structure(np.full(count**3, 18), grid, cell=edge * count * np.eye(3), pbc=(True, True, True))


def test_energy_of_atoms_and_barostat_is_conserved_to_second_order() -> None:
    drifts = []
    for timestep in (8.0, 4.0):
        run = run_md(LennardJones(), argon(), steps=round(800 / timestep), every=round(8 / timestep), temperature_K=60.0,
                     **ARGON | {"timestep_fs": timestep, "pressure_bar": 500.0})
        assert run.drift is not None
        assert run.volume is not None
        drifts.append(run.drift.slope_meV_atom_ps)
        assert 1000 * run.total_energy.std() / len(run.final) > 0.3  # meV/atom: atoms and bath do exchange energy
        assert run.volume.std() > 100.0
    assert abs(drifts[0]) < 0.02
    assert drifts[0] / drifts[1] == pytest.approx(4.0, rel=0.3)


def test_temperature_and_volume_are_those_of_the_ensemble() -> None:
    """A dilute gas fills what pV = NkT gives it, and 7 % more as its atoms repel; the volume scatters by V/√N."""
    pressure, temperature = 100.0, 400.0
    ideal = 27 * units.kB * temperature / (pressure * units.bar)
    run = run_md(LennardJones(epsilon=0.003), argon(edge=(ideal / 27) ** (1 / 3)), steps=3000, every=10, seed=1,
                 temperature_K=temperature, pressure_bar=pressure, **ARGON | {"timestep_fs": 5.0, "friction_per_ps": 20.0})
    assert run.volume is not None
    assert run.temperature.mean() == pytest.approx(temperature, rel=0.03)
    assert run.volume[30:].mean() == pytest.approx(1.07 * ideal, rel=0.2)
    assert run.volume[30:].std() / ideal == pytest.approx(27**-0.5, rel=0.5)


def test_a_run_in_pieces_equals_one_run(tmp_path) -> None:
    whole, pieces, settings = tmp_path / "a.xyz", tmp_path / "b.xyz", {"every": 4, "temperature_K": 50.0, **ARGON}
    once = run_md(LennardJones(), argon(), out=whole, steps=20, **settings)
    run_md(LennardJones(), argon(), out=pieces, steps=8, **settings)
    twice = run_md(LennardJones(), argon(), out=pieces, steps=20, resume=True, **settings)
    assert whole.read_bytes() == pieces.read_bytes()
    np.testing.assert_array_equal(once.final.cell, twice.final.cell)
    np.testing.assert_array_equal(once.volume, twice.volume)
    assert once.drift == twice.drift
    frames = ase.io.read(whole, ":")
    np.testing.assert_array_equal([abs(np.linalg.det(atoms.cell.array)) for atoms in frames], once.volume)
    whole.write_bytes(whole.read_bytes()[:-700])
    run_md(LennardJones(), argon(), out=whole, steps=20, resume=True, **settings)
    assert whole.read_bytes() == pieces.read_bytes()


def test_going_on_with_another_pressure_cell_or_ensemble_is_refused(tmp_path) -> None:
    out, settings = tmp_path / "a.xyz", {"every": 4, "steps": 8, "temperature_K": 50.0, **ARGON}
    run_md(LennardJones(), argon(), out=out, **settings)
    for change, words in (({"pressure_bar": 2.0}, "pressure_bar = 1.0, not 2.0"), ({"ensemble": "nvt"}, "ensemble = npt")):
        with pytest.raises(DataError, match=words):
            run_md(LennardJones(), argon(), out=out, resume=True, **settings | change)
    with pytest.raises(DataError, match="another cell"):
        run_md(LennardJones(), argon(edge=4.3), out=out, resume=True, **settings)


@pytest.mark.parametrize(("structure", "error", "message"), [
    (molecule(), StructureError, "periodicity in all three directions"),
    (replace(argon(), pbc=(True, True, False)), StructureError, "periodicity in all three directions"),
    (replace(argon(), fixed=np.arange(27) < 2), StructureError, "2 atoms are fixed"),
    (Structure(np.array([18]), np.zeros((1, 3)), cell=9 * np.eye(3), pbc=(True,) * 3), StructureError, "two atoms or more"),
])
def test_what_has_no_pressure_is_refused_before_any_file_is_made(tmp_path, structure, error, message) -> None:
    with pytest.raises(error, match=message):
        run_md(LennardJones(), structure, out=tmp_path / "a.xyz", steps=2, **ARGON)
    assert list(tmp_path.iterdir()) == []


def test_a_calculator_without_stress_says_so() -> None:
    from ase.calculators.calculator import Calculator, PropertyNotImplementedError

    class Plain(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            if "stress" in properties:
                raise PropertyNotImplementedError("stress")
            self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}

    with pytest.raises(ConfigError, match="Plain lacks a property"):
        run_md(Plain(), argon(), steps=2, **ARGON)
