"""What is simulated: ensemble, temperature, pressure, time step and seed, checked once."""

from dataclasses import dataclass, field

import numpy as np
from ase import units

from gaq.dynamics.state import Bath, bound_K
from gaq.errors import ConfigError, did_you_mean

ENSEMBLES = ("nve", "nvt", "npt")
ROOM_TEMPERATURE = 300.0  # K


@dataclass(frozen=True)
class Conditions:
    """The conditions of a simulation; they do not change when it is continued.

    Args:
        ensemble: "nve", "nvt" or "npt".
        temperature_K: K; None for the momenta of the structure, and 300 K where it has none, and for the bath.
        timestep_fs: fs.
        friction_per_ps: 1/ps, of the Langevin bath; in NPT its inverse is the time of the thermostat.
        pressure_bar: bar, in NPT.
        seed: of the first momenta and of the noise.

    Raises:
        ConfigError: a setting without meaning.
    """

    ensemble: str = "nve"
    temperature_K: float | None = None
    timestep_fs: float = 0.5
    friction_per_ps: float = 10.0
    pressure_bar: float = 1.0
    seed: int = 0
    flexible: bool = field(init=False)  # whether the cell changes

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise ConfigError(f"ensemble must be {', '.join(map(repr, ENSEMBLES[:-1]))} or {ENSEMBLES[-1]!r}, not "
                              f"{self.ensemble!r}{did_you_mean(self.ensemble, ENSEMBLES)}")
        temperature = self.temperature_K
        npt = self.ensemble == "npt"
        check_settings(
            ("temperature_K", temperature, "positive in 'npt'" if npt else "zero or a positive number of kelvin",
             temperature is None or (0 <= temperature < np.inf and not (npt and temperature == 0))),
            ("timestep_fs", self.timestep_fs, "a positive number of femtoseconds, such as 0.5",
             0 < self.timestep_fs < np.inf),
            ("friction_per_ps", self.friction_per_ps, "positive, such as 10", 0 < self.friction_per_ps < np.inf),
            ("pressure_bar", self.pressure_bar, "a number of bar, such as 1", bool(np.isfinite(self.pressure_bar))),
            ("seed", self.seed, "a whole number from 0", self.seed >= 0))
        object.__setattr__(self, "flexible", npt)

    @property
    def pressure(self) -> float:
        """eV/Å³."""
        return self.pressure_bar * units.bar

    def bath(self, temperature_K: float, freedom: int, atoms: int) -> Bath:
        """Return how a simulation of so many atoms and degrees of freedom steps."""
        friction = 0.0 if self.ensemble == "nve" else self.friction_per_ps / (1000.0 * units.fs)
        return Bath(self.timestep_fs * units.fs, friction, units.kB * temperature_K, self.seed,
                    0.5 * freedom * units.kB * bound_K(temperature_K) / atoms)


def check_settings(*rules: tuple[str, object, str, bool]) -> None:
    """Raise `ConfigError` for the first setting, of (name, value, rule, whether it holds), without meaning."""
    for name, value, rule, holds in rules:
        if not holds:
            raise ConfigError(f"{name} must be {rule}, not {value}")
