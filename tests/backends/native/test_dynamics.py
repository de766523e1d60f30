"""Simulations inside the engine: the same physics as through ASE, restarts to the last bit, and typed ends."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from ase import units
from engines import SETS, native, on_engine, stepper
from tiny import SPECIES, cluster, deployed, float_model, forcefield

from gaq.dynamics.replicas import SAMPLED, simulate_replicas
from gaq.dynamics.skin import SKIN
from gaq.dynamics.state import Bath, UnstableTrajectory
from gaq.errors import GaqError, StructureError
from gaq.forcefield import ForceField
from gaq.simulation import run_md
from gaq.structure import Structure

pytestmark = pytest.mark.filterwarnings("ignore::gaq.errors.ExtrapolationWarning")  # random clusters are crowded
FS = units.fs


def scaled(factor: float) -> ForceField:
    model = copy.deepcopy(float_model("robust"))
    model.energy_scale.mul_(factor)
    return deployed(model)


@pytest.fixture(scope="module")
def soft() -> ForceField:
    """A model whose forces are weak enough for a simulation of any structure, for a while."""
    return scaled(0.1)


def crystal(count: int = 3) -> Structure:
    rng = np.random.default_rng(0)
    grid = 2.6 * np.stack(np.meshgrid(*[np.arange(count)] * 3), -1).reshape(-1, 3)
    return Structure(species=rng.choice(SPECIES, count**3), positions=grid + 0.05 * rng.normal(size=(count**3, 3)),
                     cell=2.6 * count * np.eye(3), pbc=(True, True, True))


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("structure", [cluster(8, seed=2), crystal()], ids=["molecule", "crystal"])
def test_it_follows_the_trajectory_of_python(soft: ForceField, structure: Structure, ensemble: str) -> None:
    """In NVT too: the noise is the same."""
    settings = {"steps": 40, "every": 10, "temperature_K": 100.0, "timestep_fs": 0.5, "ensemble": ensemble,
                "seed": 2**33 + 1}
    inside = run_md(soft.on("engine"), structure, **settings)
    through = run_md(soft.on("torch"), structure, **settings)
    np.testing.assert_allclose(inside.final.positions, through.final.positions, atol=1e-5)
    np.testing.assert_allclose(inside.total_energy, through.total_energy, atol=1e-4)


def test_energy_is_conserved_to_second_order(soft: ForceField) -> None:
    spread = []
    for dt in (1.0, 0.5):
        run = run_md(soft.on("engine"), cluster(8, seed=2, spacing=1.5), steps=round(60 / dt), every=round(1 / dt),
                     timestep_fs=dt, temperature_K=100.0)
        spread.append((run.total_energy - run.total_energy.mean()).std())
    assert spread[0] / spread[1] == pytest.approx(4.0, rel=0.5)


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("structure", [cluster(8, seed=2), cluster(40, seed=1, spacing=1.6), crystal(4)],
                         ids=["molecule", "drop", "crystal"])
def test_a_run_in_pieces_equals_one_run(tmp_path, soft: ForceField, structure: Structure, ensemble: str) -> None:
    whole, pieces = tmp_path / "whole.xyz", tmp_path / "pieces.xyz"
    settings = {"every": 5, "temperature_K": 300.0, "ensemble": ensemble, "seed": 3}
    field = soft.on("engine")
    run_md(field, structure, out=whole, steps=30, **settings)
    run_md(field, structure, out=pieces, steps=10, **settings)
    run_md(field, structure, out=pieces, steps=30, resume=True, **settings)
    assert whole.read_bytes() == pieces.read_bytes()


def test_langevin_reaches_the_temperature_of_the_bath() -> None:
    run = run_md(scaled(1e-3).on("engine"), crystal(), ensemble="nvt", temperature_K=400.0, steps=3000, every=10,
                 timestep_fs=1.0, friction_per_ps=50.0)
    assert np.mean(run.temperature[100:]) == pytest.approx(400.0, rel=0.1)


def test_the_neighbours_are_found_again_when_atoms_have_moved(soft: ForceField) -> None:
    """A single run of many steps equals one whose neighbours are found anew in every step."""
    structure = crystal()
    field, masses = soft.on("engine").potential, np.full(27, 12.0)
    ends = []
    for steps in (120, 1):
        dynamics = stepper(field, structure, masses, Bath(2.0 * FS))
        rng = np.random.default_rng(5)
        state = dynamics.start(structure.positions, rng.normal(size=(27, 3)) * np.sqrt(units.kB * 1000 / 12.0))
        while state.step < 120:
            dynamics.run(state, steps)
            dynamics.forget()
        ends.append(state.positions)
    assert np.linalg.norm(ends[0] - structure.positions, axis=1).max() > SKIN
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)


def test_a_step_as_wide_as_the_skin_is_refused() -> None:
    field, structure = native("robust", "fp32"), cluster(40, seed=3)
    dynamics = stepper(field, structure, np.ones(40), Bath(1.0))
    state = dynamics.start(structure.positions, np.full((40, 3), 5.0))
    with pytest.raises(GaqError, match="in one step"):
        dynamics.run(state, 3)


@pytest.mark.parametrize("isa", SETS)
def test_a_failing_step_leaves_the_last_whole_one(isa: str) -> None:
    """Atom 0 meets atom 1 in the third step; both are so heavy that no force turns them aside."""
    structure, dt = cluster(8, seed=2), 0.1
    field = on_engine(scaled(1e-6), isa)
    velocities = np.zeros((8, 3))
    velocities[0] = (structure.positions[1] - structure.positions[0]) / (3 * dt)
    states = []
    for steps in (2, 9):
        dynamics = stepper(field, structure, np.full(8, 1e18), Bath(dt))
        state = dynamics.start(structure.positions, velocities)
        with pytest.raises(StructureError) if steps == 9 else nullcontext():
            dynamics.run(state, steps)
        states.append(state)
    for name in ("step", "positions", "velocities", "forces", "potential", "kinetic"):
        np.testing.assert_array_equal(getattr(states[0], name), getattr(states[1], name), err_msg=name)


def test_explosions_are_told_from_results() -> None:
    with pytest.raises(UnstableTrajectory, match="exploded"):
        run_md(forcefield("robust", "fp32").on("engine"), cluster(8, seed=2), steps=500, every=50, timestep_fs=20.0)


def test_what_codes_clip_is_told() -> None:
    settings: dict = {"steps": 4, "every": 2, "timestep_fs": 0.01}
    assert run_md(forcefield("robust", "fp32").on("engine"), cluster(6, seed=1), **settings).most_clipped is None
    assert run_md(forcefield("robust", "w4a8").on("torch"), cluster(6, seed=1), **settings).most_clipped is None
    as_trained = run_md(forcefield("robust", "w4a8").on("engine"), cluster(6, seed=1), **settings).most_clipped
    crowd = cluster(6, seed=1)
    crowd = Structure(species=crowd.species, positions=0.5 * crowd.positions)
    beyond = run_md(forcefield("robust", "w4a8").on("engine"), crowd, **settings).most_clipped
    assert as_trained is not None
    assert beyond is not None
    assert beyond[1] > as_trained[1]


def test_every_recipe_of_the_engine_runs() -> None:
    for recipe in ("w4", "w4a16", "w4a8"):
        field = forcefield("robust", recipe)
        assert run_md(field.on("engine"), cluster(6, seed=1), steps=4, every=2, timestep_fs=0.1).steps == 4
    assert torch.get_default_dtype() == torch.float32


def test_replicas_are_those_of_the_definition(soft: ForceField) -> None:
    structure, settings = cluster(8, seed=2), {"replicas": 2, "picoseconds": 0.02, "temperature_K": 100.0, "seed": 3}
    inside = simulate_replicas(soft.on("engine").potential, structure, soft.cutoff, **settings)
    through = simulate_replicas(soft.on("torch").potential, structure, soft.cutoff, **settings)
    np.testing.assert_allclose(inside.time_ps, through.time_ps[::SAMPLED])
    np.testing.assert_allclose(inside.energy, through.energy[:, ::SAMPLED], atol=1e-4)
    np.testing.assert_allclose(inside.angular_scale, through.angular_scale)
    assert inside.exploded is through.exploded is None


def test_a_replica_that_explodes_is_told() -> None:
    done = simulate_replicas(scaled(1e4).on("engine").potential, cluster(8, seed=2), 4.0, replicas=2, picoseconds=0.1)
    assert "replica 0 after" in done.exploded
