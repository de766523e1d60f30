"""Constant temperature and pressure: ASE's isotropic Martyna-Tobias-Klein barostat with Nosé-Hoover chains.

Of ASE's barostats it is the one whose averages are those of the isothermal-isobaric ensemble and that can be checked while
it runs: a quantity is conserved, whose drift shows a time step that is too long, or forces that are no gradient. That of
Berendsen (`NPTBerendsen`) gives the right pressure with fluctuations of no ensemble; Melchionna's needs an upper triangular
cell; `LangevinBAOAB` is sound, but conserves nothing that could be checked, and guesses the mass of its piston.

The cell keeps its shape, and its volume fluctuates: right for liquids and cubic crystals. The total momentum is zero and
stays so, hence 3 (N - 1) degrees of freedom, where ASE counts 3 N.

| symbol  | variable   | meaning                                                           |
|---------|------------|-------------------------------------------------------------------|
| p_ε     | memory[0]  | momentum of the logarithm of the edge of the cell                 |
| η, p_η  | memory[1:7]| chain that is coupled to the atoms, and its momenta               |
| ξ, p_ξ  | memory[7:] | chain that is coupled to the cell, and its momenta                |

Source: G. J. Martyna, D. J. Tobias, M. L. Klein, J. Chem. Phys. 101, 4177 (1994); M. E. Tuckerman et al., J. Phys. A 39,
5629 (2006).
"""

from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from gaq.dynamics.state import Bath, State
from gaq.dynamics.steppers import kinetic_energies, started, too_hot
from gaq.dynamics.surface import Surface
from gaq.errors import ConfigError, StructureError
from gaq.structure import Structure

Array = NDArray[np.float64]
CHAIN = 3  # thermostats in each chain
MEMORY = 1 + 4 * CHAIN
SLOWER = 10.0  # how many times as long the cell takes to answer as the thermostat


class BarostatStepper:
    """Steps at constant temperature and pressure on any surface that gives a stress.

    The thermostat answers within 1/friction, the barostat within ten times as long.

    Args:
        surface: gives forces and stresses.
        structure: periodic in three directions, without fixed atoms.
        bath: how to step.
        pressure: eV/Å³.

    Raises:
        StructureError: a structure without a volume, of one atom, or with fixed atoms.
        ConfigError: this ASE has no such barostat.
    """

    def __init__(self, surface: Surface, structure: Structure, bath: Bath, pressure: float) -> None:
        _check(structure)
        try:
            from ase.md import nose_hoover_chain  # it takes SciPy, and so half a second and 50 MB
            nose_hoover_chain.IsotropicMTKNPT  # noqa: B018 - older ones have the module, not the class
        except (ImportError, AttributeError) as error:
            raise ConfigError("ensemble 'npt' needs ASE 3.26 or later (pip install -U ase); 'nvt' needs none") from error
        self._chains = nose_hoover_chain
        self.surface, self.structure, self.bath, self.pressure = surface, structure, bath, pressure
        self.masses = structure.atomic_masses[:, None]

    def start(self, positions: Array, velocities: Array, step: int = 0, cell: Array | None = None,
              barostat: Array | None = None) -> State:
        """Return the state at these positions, velocities and cell."""
        memory = np.zeros(MEMORY) if barostat is None else np.array(barostat)
        return started(self.surface, self.masses, positions, velocities, step, cell, memory, stress=True)

    def run(self, state: State, steps: int) -> None:
        """Advance `state` in place; an error leaves it after the last whole step."""
        goal, dynamics = state.step + steps, self._dynamics(state)
        while state.step < goal:
            dynamics.step()
            atoms, asked = dynamics.atoms, dynamics.atoms.calc
            state.positions[:], state.cell = atoms.positions, atoms.cell.array.copy()
            state.velocities[:] = atoms.get_momenta() / self.masses
            state.forces[:], state.potential[:] = asked.get_forces(atoms), asked.get_potential_energy(atoms)
            state.kinetic[:] = kinetic_energies(self.masses, state.velocities, 1)
            state.barostat = _memory(dynamics)
            state.step += 1
            if too_hot(state, self.bath):
                return

    def conserved(self, state: State) -> float:
        """Return what is conserved, eV: the energies of atoms, chains and cell, and the work p V against the pressure."""
        return float(self._dynamics(state, known=True).get_conserved_energy())

    def forget(self) -> None:
        """Let what follows depend on the state alone."""
        self.surface.forget()

    def _dynamics(self, state: State, known: bool = False) -> Any:
        """Return ASE's barostat as it was after the last step of `state`."""
        atoms = Atoms(self.structure.species, positions=state.positions, cell=state.cell, pbc=True,
                      masses=self.structure.atomic_masses, momenta=self.masses * state.velocities)
        atoms.calc = _Asked(self.surface, float(state.potential[0]) if known else None)
        damping = 1.0 / self.bath.friction
        own: dict[str, Any] = {"temperature_K": self.bath.temperature / units.kB}
        dynamics = self._chains.IsotropicMTKNPT(atoms, self.bath.timestep, pressure_au=self.pressure, tdamp=damping,
                                                pdamp=SLOWER * damping, tchain=CHAIN, pchain=CHAIN, **own)
        free = len(self.structure) - 1
        dynamics._num_atoms_global = free
        dynamics._thermostat = self._chains.NoseHooverChainThermostat(
            num_atoms_global=free, masses=self.masses, tdamp=damping, tchain=CHAIN, **own)
        dynamics._barostat = self._chains.IsotropicMTKBarostat(
            num_atoms_global=free, pdamp=SLOWER * damping, pchain=CHAIN, **own)
        assert state.barostat is not None  # this stepper started the state
        dynamics._p_eps = float(state.barostat[0])
        for holder, values in zip(_chains(dynamics), np.split(state.barostat[1:], 4), strict=True):
            holder[:] = values
        return dynamics


class _Asked:
    """The part of an ASE calculator that the barostat asks: one prediction for each geometry, forces and stress at once."""

    def __init__(self, surface: Surface, energy: float | None) -> None:
        self._surface, self._energy = surface, energy
        self._at: tuple[Array, Array] | None = None

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = True) -> float:
        return float(self._predicted(atoms).energy[0]) if self._energy is None else self._energy

    def get_forces(self, atoms: Atoms) -> Array:
        return np.asarray(self._predicted(atoms).forces)

    def get_stress(self, atoms: Atoms) -> Array:
        stress = self._predicted(atoms).stress
        assert stress is not None  # it was asked for
        return np.asarray(stress[0].ravel()[[0, 4, 8, 5, 2, 1]])

    def _predicted(self, atoms: Atoms) -> Any:
        x, cell = atoms.positions, atoms.cell.array
        if self._at is None or not (np.array_equal(self._at[0], x) and np.array_equal(self._at[1], cell)):
            self._prediction = self._surface(x, cell, stress=True)
            self._at = x.copy(), cell.copy()
        return self._prediction


def _chains(dynamics: Any) -> tuple[Array, Array, Array, Array]:
    thermostat, barostat = dynamics._thermostat, dynamics._barostat
    return thermostat._eta, thermostat._p_eta, barostat._xi, barostat._p_xi


def _memory(dynamics: Any) -> Array:
    return np.concatenate([[dynamics._p_eps], *_chains(dynamics)])


def _check(structure: Structure) -> None:
    if not all(structure.pbc):
        raise StructureError(f"ensemble 'npt' needs periodicity in all three directions, and pbc is {list(structure.pbc)}; "
                             "give a periodic structure, or take 'nvt'")
    if structure.fixed is not None:
        raise StructureError(f"ensemble 'npt' scales all positions with the cell, and {int(structure.fixed.sum())} atoms "
                             "are fixed; release them, or take 'nvt'")
    if len(structure) < 2:
        raise StructureError("ensemble 'npt' needs two atoms or more, whose relative motion has a temperature")
