"""Simulations of toys: conservation, restart, and what happens when things go wrong."""

import errno
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones as AseLennardJones
from toys import Broken, LennardJones, Springs, molecule

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of
from gaq.dynamics.state import UnstableTrajectory
from gaq.errors import ConfigError, DataError, Interrupted, OutputError, SpeciesError, StructureError
from gaq.graph import Prediction
from gaq.simulation import run_md
from gaq.structure import Structure

FAST = {"steps": 30, "every": 5, "temperature_K": 200.0}


def fluctuation(result) -> float:
    """Root mean square of the total energy about its mean, meV/atom."""
    return 1000 * result.total_energy.std() / len(result.final)


def test_nve_conserves_energy_to_second_order_in_the_step():
    coarse = run_md(Springs(), molecule(), steps=100, every=1, timestep_fs=1.0)
    fine = run_md(Springs(), molecule(), steps=200, every=2, timestep_fs=0.5)
    assert fluctuation(fine) < 1.0
    assert fluctuation(coarse) / fluctuation(fine) == pytest.approx(4.0, rel=0.25)
    assert coarse.potential_energy.std() / coarse.total_energy.std() > 20
    assert coarse.time_ps[-1] == pytest.approx(0.1)
    assert abs(coarse.drift.slope_meV_atom_ps) < 5 * coarse.drift.standard_error_meV_atom_ps + 1
    assert coarse.ms_per_step > 0


def test_momentum_and_rotation_are_taken_out_and_stay_out(tmp_path):
    run_md(Springs(), molecule(), out=tmp_path / "a.xyz", **FAST)
    for atoms in ase.io.read(tmp_path / "a.xyz", ":"):
        assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-10
        assert np.abs(atoms.get_angular_momentum()).max() < 1e-8


def test_first_momenta_follow_maxwell_boltzmann():
    temperatures = [run_md(Springs(), molecule(), steps=1, temperature_K=400.0, seed=seed).temperature[0]
                    for seed in range(60)]
    assert np.mean(temperatures) == pytest.approx(400.0, abs=4 * 400.0 * np.sqrt(2 / 9 / 60))  # 3N - 6 = 9
    assert np.std(temperatures) > 50.0


@pytest.mark.parametrize("positions", [[[0, 0, 0], [0, 0, 1.3]], [[0, 0, 0], [0, 0, 0.9], [0, 0, 1.6]]])
def test_linear_molecules_lose_two_rotations(positions):
    line = Structure(species=np.array([6] * len(positions)), positions=positions)
    result = run_md(Springs(), line, steps=2, every=1)
    kinetic = (result.total_energy - result.potential_energy)[0]
    assert result.temperature[0] == pytest.approx(2 * kinetic / ((3 * len(positions) - 5) * 8.617333e-5), rel=1e-5)


def test_a_single_atom_stands_still():
    atom = Structure(species=np.array([18]), positions=[[0.0, 0, 0]])
    assert run_md(LennardJones(), atom, steps=3).temperature.max() == 0.0


def test_zero_temperature_starts_at_rest():
    assert run_md(Springs(), molecule(), steps=1, temperature_K=0).temperature[0] == 0.0


def test_nvt_reaches_the_temperature_of_the_bath():
    result = run_md(Springs(), molecule(), ensemble="nvt", temperature_K=600.0, steps=1500, every=5,
                    timestep_fs=1.0, friction_per_ps=50.0)
    assert result.drift is None
    assert np.mean(result.temperature[100:]) == pytest.approx(600.0, rel=0.25)


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_run_in_pieces_equals_one_run(tmp_path, ensemble):
    whole, pieces = tmp_path / "whole.xyz", tmp_path / "pieces.xyz"
    once = run_md(Springs(), molecule(), ensemble=ensemble, out=whole, **FAST)
    run_md(Springs(), molecule(), ensemble=ensemble, out=pieces, **{**FAST, "steps": 15})
    twice = run_md(Springs(), molecule(), ensemble=ensemble, out=pieces, resume=True, **FAST)
    assert whole.read_bytes() == pieces.read_bytes()
    np.testing.assert_array_equal(once.total_energy, twice.total_energy)
    np.testing.assert_array_equal(once.time_ps, twice.time_ps)
    np.testing.assert_array_equal(once.final.positions, twice.final.positions)


def test_going_on_does_not_depend_on_the_start(tmp_path):
    a, b = tmp_path / "a.xyz", tmp_path / "b.xyz"
    run_md(Springs(), molecule(), out=a, **FAST)
    run_md(Springs(), molecule(), out=b, **{**FAST, "steps": 10})
    moved = replace(molecule(), positions=molecule().positions + 0.3)
    run_md(Springs(), moved, out=b, resume=True, **FAST)
    assert a.read_bytes() == b.read_bytes()


def test_resume_where_nothing_is_starts_and_where_all_is_done_returns(tmp_path):
    out = tmp_path / "new" / "a.xyz"
    first = run_md(Springs(), molecule(), out=out, resume=True, **FAST)
    content = out.read_bytes()
    again = run_md(Springs(), molecule(), out=out, resume=True, **FAST)
    assert out.read_bytes() == content
    np.testing.assert_array_equal(first.total_energy, again.total_energy)
    assert again.ms_per_step == 0.0


@pytest.mark.parametrize("lost", [1, 40, 300, 700])
def test_a_torn_last_frame_is_cut_off_and_repeated(tmp_path, lost):
    whole, torn = tmp_path / "whole.xyz", tmp_path / "torn.xyz"
    run_md(Springs(), molecule(), out=whole, **FAST)
    torn.write_bytes(whole.read_bytes()[:-lost])
    run_md(Springs(), molecule(), out=torn, resume=True, **FAST)
    assert whole.read_bytes() == torn.read_bytes()


def test_every_cut_of_the_first_frame_starts_again(tmp_path):
    out = tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=out, steps=1)
    content = out.read_bytes()
    for size in (0, 1, 30, 200, 500):
        out.write_bytes(content[:size])
        run_md(Springs(), molecule(), out=out, steps=1, resume=True)
        assert out.read_bytes() == content


def test_zeros_after_a_power_failure_are_cut_off(tmp_path):
    out = tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=out, **FAST)
    content = out.read_bytes()
    out.write_bytes(content[:-500] + bytes(500))
    run_md(Springs(), molecule(), out=out, resume=True, **FAST)
    assert out.read_bytes() == content


def test_a_killed_process_loses_no_whole_frame(tmp_path):
    out, tests = tmp_path / "a.xyz", Path(__file__).parents[1]
    script = (f"import sys; sys.path.insert(0, {str(tests)!r})\n"
              "from toys import Springs, molecule; from gaq.simulation import run_md\n"
              f"run_md(Springs(), molecule(), out={str(out)!r}, steps=10**6, every=1, temperature_K=200.0)")
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        while process.poll() is None and not (out.exists() and out.stat().st_size > 20_000):
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    reached = len(ase.io.read(out, ":")) - 1
    settings = {"every": 1, "temperature_K": 200.0, "steps": reached + 5}
    run_md(Springs(), molecule(), out=out, resume=True, **settings)
    run_md(Springs(), molecule(), out=tmp_path / "whole.xyz", **settings)
    assert out.read_bytes() == (tmp_path / "whole.xyz").read_bytes()


def test_ase_reads_the_trajectory(tmp_path):
    result = run_md(Springs(), molecule(), out=tmp_path / "a.xyz", **FAST)
    frames = ase.io.read(tmp_path / "a.xyz", ":")
    assert [atoms.info["step"] for atoms in frames] == [0, 5, 10, 15, 20, 25, 30]
    np.testing.assert_array_equal([atoms.get_potential_energy() for atoms in frames], result.potential_energy)
    np.testing.assert_allclose([atoms.get_kinetic_energy() for atoms in frames],
                               result.total_energy - result.potential_energy, atol=1e-12)
    np.testing.assert_array_equal(frames[-1].positions, result.final.positions)
    checked = atoms_of(result.final)
    checked.calc = GaqCalculator(Springs())
    np.testing.assert_array_equal(frames[-1].get_forces(), checked.get_forces())


def test_a_periodic_run_keeps_its_cell(tmp_path):
    rng = np.random.default_rng(0)
    grid = 4.0 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3) + 0.05 * rng.normal(size=(8, 3))
    crystal = Structure(species=np.full(8, 18), positions=grid, cell=8.0 * np.eye(3), pbc=(True, True, True))
    result = run_md(LennardJones(), crystal, out=tmp_path / "a.xyz", steps=20, every=10, temperature_K=50.0)
    atoms = ase.io.read(tmp_path / "a.xyz")
    assert atoms.pbc.all()
    np.testing.assert_array_equal(atoms.cell.array, crystal.cell)
    assert fluctuation(result) < 0.01
    assert run_md(LennardJones(), crystal, out=tmp_path / "a.xyz", steps=30, temperature_K=50.0,
                  resume=True).steps == 30
    with pytest.raises(DataError, match="another cell"):
        run_md(LennardJones(), replace(crystal, cell=9.0 * np.eye(3)), out=tmp_path / "a.xyz", steps=30,
               temperature_K=50.0, resume=True)


def test_an_existing_file_is_never_overwritten(tmp_path):
    out = tmp_path / "a.xyz"
    out.write_text("precious")
    with pytest.raises(OutputError, match="resume=True"):
        run_md(Springs(), molecule(), out=out, **FAST)
    with pytest.raises(DataError, match="not the trajectory"):
        run_md(Springs(), molecule(), out=out, resume=True, **FAST)
    assert out.read_text() == "precious"


@pytest.mark.parametrize(("change", "message"), [
    ({"timestep_fs": 0.25}, "timestep_fs = 0.5, not 0.25"),
    ({"ensemble": "nvt"}, "ensemble = nve, not nvt"),
    ({"structure": Structure(species=np.array([6, 8, 1, 7, 9]), positions=molecule().positions)}, "other atoms"),
    ({"structure": Structure(species=np.array([6, 8]), positions=molecule().positions[:2])}, "no step|other atoms"),
    ({"forcefield": Springs(stiffness=2.9)}, "another model"),
])
def test_going_on_with_other_settings_is_refused(tmp_path, change, message):
    out = tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=out, **FAST)
    content = out.read_bytes()
    arguments = {"forcefield": Springs(), "structure": molecule(), **FAST, "steps": 60, **change}
    with pytest.raises(DataError, match=message):
        run_md(arguments.pop("forcefield"), arguments.pop("structure"), out=out, resume=True, **arguments)
    assert out.read_bytes() == content


def test_ctrl_c_leaves_whole_frames_and_says_how_to_go_on(tmp_path):
    def stop(done, total, note):
        if done == 15:
            raise KeyboardInterrupt

    whole, out = tmp_path / "whole.xyz", tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=whole, **FAST)
    with pytest.raises(Interrupted, match=r"after step 15 of 30.*resume=True.*a\.xyz"):
        run_md(Springs(), molecule(), out=out, progress=stop, **FAST)
    run_md(Springs(), molecule(), out=out, resume=True, **FAST)
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(Interrupted, match="no trajectory"):
        run_md(Springs(), molecule(), progress=stop, **FAST)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_within_a_write_leaves_whole_frames(tmp_path, monkeypatch, failure):
    whole, out = tmp_path / "whole.xyz", tmp_path / "a.xyz"
    run_md(Springs(), molecule(), out=whole, **FAST)
    write, calls = os.write, []

    def failing(handle: int, content: bytes) -> int:
        calls.append(content)
        if len(calls) == 4:
            return write(handle, content[:100])  # as a disk with 100 bytes left does
        if len(calls) == 5:
            raise failure
        return write(handle, content)

    monkeypatch.setattr("gaq.dynamics.trajectory.os.write", failing)
    with pytest.raises(OutputError if isinstance(failure, OSError) else Interrupted, match="resume=True"):
        run_md(Springs(), molecule(), out=out, **FAST)
    monkeypatch.undo()
    assert len(ase.io.read(out, ":")) == 3
    assert whole.read_bytes().startswith(out.read_bytes())
    run_md(Springs(), molecule(), out=out, resume=True, **FAST)
    assert out.read_bytes() == whole.read_bytes()


def test_a_disk_that_is_full_from_the_start_leaves_no_file(tmp_path, monkeypatch):
    def full(handle: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gaq.dynamics.trajectory.os.write", full)
    with pytest.raises(OutputError, match="disk is full"):
        run_md(Springs(), molecule(), out=tmp_path / "a.xyz", **FAST)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        run_md(Springs(), molecule(), out=tmp_path / "file" / "a.xyz", **FAST)
    with pytest.raises(OutputError):
        run_md(Springs(), molecule(), out=tmp_path, resume=True, **FAST)


def test_nan_forces_name_the_step_and_the_file(tmp_path):
    out = tmp_path / "a.xyz"
    with pytest.raises(UnstableTrajectory, match=r"step 7.*not finite.*up to step 5.*a\.xyz") as caught:
        run_md(Broken(after=8), molecule(), out=out, **FAST)
    assert "shorter time step" in str(caught.value)
    assert len(ase.io.read(out, ":")) == 2


def test_a_heating_simulation_is_stopped():
    class Pump(Springs):
        def predict(self, graph, stress=False):
            prediction = super().predict(graph)
            return Prediction(prediction.energy, prediction.forces + 20.0 * graph.positions)

    with pytest.raises(UnstableTrajectory, match=r"temperature is \d+ K, and 3000 K"):
        run_md(Pump(), molecule(), **{**FAST, "steps": 2000})


def test_a_structure_that_cannot_be_simulated_makes_no_file(tmp_path):
    class Picky(Springs):
        def predict(self, graph, stress=False):
            raise SpeciesError("the force field does not know N")

    with pytest.raises(SpeciesError):
        run_md(Picky(), molecule(), out=tmp_path / "a.xyz", **FAST)
    collapsed = molecule([[0, 0, 0], [0, 0, 0.01], [1, 0, 0], [0, 1, 0], [2, 2, 2]])
    with pytest.raises(StructureError):
        run_md(Springs(), collapsed, out=tmp_path / "a.xyz", **FAST)
    assert list(tmp_path.iterdir()) == []


def test_any_ase_calculator_will_do():
    crystal = Structure(species=np.array([18, 18]), positions=[[0.0, 0, 0], [0, 0, 1.2]])
    result = run_md(AseLennardJones(), crystal, steps=20, every=4, timestep_fs=0.2)
    assert len(result.time_ps) == 6


def test_progress_reports_steps_and_temperature():
    told = []
    run_md(Springs(), molecule(), progress=lambda *said: told.append(said), **{**FAST, "steps": 12})
    assert [(done, total) for done, total, _ in told] == [(5, 12), (10, 12), (12, 12)]
    assert all(re.fullmatch(r"[1-9]\d* K", note) for _, _, note in told)


def test_results_entry_is_relative_to_the_first_frame():
    result = run_md(Springs(), molecule(), **FAST)
    entry = result.to_results("toy", "fp32")
    assert entry["total_energy_meV_atom"][0] == 0.0
    assert len(entry["time_ps"]) == len(entry["total_energy_meV_atom"]) == 7
    assert entry["drift_meV_atom_ps"] == result.drift.slope_meV_atom_ps


@pytest.mark.parametrize(("setting", "message"), [
    ({"ensemble": "nph"}, "ensemble must be 'nve', 'nvt' or 'npt'"), ({"pressure_bar": float("inf")}, "pressure_bar"),
    ({"ensemble": "npt", "temperature_K": 0.0}, "temperature_K"),
    ({"timestep_fs": 0.0}, "timestep_fs"), ({"timestep_fs": float("nan")}, "timestep_fs"),
    ({"temperature_K": -1.0}, "temperature_K"), ({"steps": 0}, "steps"), ({"every": 0}, "every"),
    ({"seed": -1}, "seed must be"), ({"friction_per_ps": 0.0}, "friction_per_ps"), ({"resume": True}, "resume needs"),
])
def test_settings_without_meaning(setting, message):
    with pytest.raises(ConfigError, match=message):
        run_md(Springs(), molecule(), **setting)
