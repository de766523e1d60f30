"""Any ASE calculator with the face of a predictor, so that every metric can look at it."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError

from gaq.errors import ConfigError
from gaq.graph import Graph, Prediction
from gaq.lattice import MIN_DISTANCE
from gaq.metrics.batches import single_graphs


class CalculatorPredictor:
    """Energies and forces of an ASE calculator, which finds its neighbours itself.

    Energies are those that the forces belong to (`free_energy`) where the calculator has them.

    Args:
        calculator: of the Atomic Simulation Environment.
    """

    cutoff = MIN_DISTANCE  # the edges of a graph are not used

    def __init__(self, calculator: BaseCalculator) -> None:
        self.calculator = calculator
        self.consistent = "free_energy" in getattr(calculator, "implemented_properties", ())

    def __call__(self, graph: Graph) -> Prediction:
        """Return energy (eV) and forces (eV/Å), one structure after another.

        Raises:
            ConfigError: the calculator has no energies or no forces.
        """
        energies, forces = [], []
        for member in single_graphs(self, [graph]):
            cell = member.cell[0].cpu().numpy()
            atoms = Atoms(member.species.cpu().numpy(), positions=member.positions.cpu().numpy(), cell=cell,
                          pbc=np.abs(cell).sum(1) > 0)
            atoms.calc = self.calculator
            try:
                energies.append(float(atoms.get_potential_energy(force_consistent=self.consistent)))
                forces.append(np.array(atoms.get_forces(), dtype=np.float64))
            except PropertyNotImplementedError as error:
                raise ConfigError(f"the calculator {type(self.calculator).__name__} lacks a property ({error}); "
                                  "energies and forces are both needed") from error
        return Prediction(np.array(energies), np.concatenate(forces))
