"""What a model does where training saw nothing: nuclei repel each other, and the network is asked and believed no further.

A model keeps the shortest distance of each pair of species in its training data. Somewhat below it the network sees a
distance that bends smoothly to a constant, while the screened repulsion of the nuclei is switched on. It also keeps the
range of what the network said of atoms of each species, and what goes far beyond that levels off. Within these bounds
nothing happens, to the last bit. All formulas take numpy arrays and tensors.
"""

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from gaq.arrays import Array, kind, namespace, power
from gaq.errors import ModelFileError
from gaq.lattice import MIN_DISTANCE

ONSET = 0.95  # of the shortest distance seen: frames that were held out come a little closer than those of training
INNER, LEAST, NARROWEST = 0.75, 0.5, 0.9  # r_in ÷ r_on; Å, r_in from there if r_on allows; the largest r_in ÷ r_on
BONDED, LEAST_BONDED = 0.75, 0.6  # of the sum of covalent radii; Å: inside of every bond, H-H and N≡N included
UNKNOWN = 0.0  # in place of a shortest distance: a model from before they were kept
COULOMB, BOHR = 14.399645, 0.529177211  # e²/(4πε₀) in eV Å; Å
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
SCREENING_LENGTH, SCREENING_POWER = 0.88534, 0.23
BELOW, ABOVE = 0.5, 5.0  # least width of a network's outputs beyond those of training, without unit, that pass as they are
LARGEST_OUTPUT = 1e9  # in magnitude; float64 tells its bounds apart
FAR = 1e300  # a bound that no float32 reaches


def check_training_range(closest: Array, energy_range: Array, cutoff: float) -> None:
    """Refuse what cannot have been seen in training.

    Raises:
        ModelFileError: shortest distances that are not symmetric, or neither 0 (not known) nor within the cutoff;
            a range of energies that is no range of numbers.
    """
    known = (closest >= MIN_DISTANCE) & (closest <= cutoff)
    if not bool((closest == closest.T).all() & (known | (closest == UNKNOWN)).all()):
        raise ModelFileError(f"closest must be symmetric distances, 0 (not known) or from {MIN_DISTANCE:g} Å to the cutoff "
                             f"{cutoff:g} Å")
    if not bool((abs(energy_range) <= LARGEST_OUTPUT).all() & (energy_range[:, 0] <= energy_range[:, 1]).all()):
        raise ModelFileError(f"energy_range must be numbers up to {LARGEST_OUTPUT:.0e}, the least before the largest")


def pair_table(closest: Array, species: Sequence[int], cutoff: float) -> Array:
    """Return r_on and r_in (Å), k Z_i Z_j (eV Å) and 1/a (1/Å) of each pair of species, float64, shape (4, S, S).

        r_on = 0.95 closest,   r_in = 0.75 r_on, but at least 0.5 Å and at most 0.9 r_on,
        a = 0.88534 a₀ / (Z_i^0.23 + Z_j^0.23)

    In place of `closest` stands the sum of the covalent radii for a pair that training never saw within the cutoff, and
    0.75 of it, at least 0.6 Å, for a model that does not know what was seen.

    Args:
        closest: Å, shape (S, S), as `shortest_distances` returns it; 0 where it is not known.
        species: atomic numbers.
        cutoff: Å.
    """
    xp = namespace(closest)
    exact = kind(closest) | {"dtype": xp.float64}
    radii = xp.asarray([float(covalent_radii[z]) for z in species], **exact)
    charges = xp.asarray(list(species), **exact)
    bond = radii[:, None] + radii
    distance = xp.where(closest > UNKNOWN, closest, xp.clip(BONDED * bond, LEAST_BONDED, None))
    on = ONSET * xp.clip(xp.where(closest < cutoff, distance, bond), None, cutoff)
    inner = xp.minimum(xp.clip(INNER * on, LEAST, None), NARROWEST * on)
    powers = power(charges, SCREENING_POWER)
    return xp.stack([on, inner, COULOMB * (charges[:, None] * charges),
                     (powers[:, None] + powers) / (SCREENING_LENGTH * BOHR)])


def nearest_known(closest: NDArray, species: Sequence[int], cutoff: float) -> NDArray[np.float64]:
    """Return the distance below which a pair of atomic numbers was not seen, Å, shape (largest + 1, largest + 1).

    It is r_on; and 0.95 of the cutoff for a pair that training never saw within the cutoff. Arguments as for `pair_table`.
    """
    known = np.where(closest < cutoff, pair_table(closest, species, cutoff)[0], ONSET * cutoff)
    whole = np.zeros((max(species) + 1,) * 2)
    whole[np.ix_(species, species)] = known
    return whole


def seen_distances(distances: Array, on: Array, inner: Array) -> Array:
    """Return the distances that the network sees, Å: r itself from r_on, and a constant up to r_in, joined in C³.

        r̃ = ½(r_on + r_in) + (r_on - r_in) t⁴ (5/2 - 3 t + t²),   t = (r - r_in)/(r_on - r_in) in [0, 1],

    whose slope is the step t³ (10 - 15 t + 6 t²).
    """
    xp, width = namespace(distances), on - inner
    t = xp.clip((distances - inner) / width, 0, 1)
    bent = 0.5 * (on + inner) + width * t**4 * (2.5 - t * (3 - t))
    return xp.where(distances < on, bent, distances)


def repulsion(distances: Array, on: Array, inner: Array, strength: Array, rate: Array) -> Array:
    """Return the energy of each pair of nuclei, eV: universal screening, switched off smoothly (C²) from r_in to r_on.

        V = (1 - t³ (10 - 15 t + 6 t²)) k Z_i Z_j / r · Σ_m c_m exp(-b_m r / a)

    | symbol       | argument       | meaning                                    |
    |--------------|----------------|--------------------------------------------|
    | r            | distances      | Å, shape (E,)                              |
    | r_on, r_in   | on, inner      | Å; zero from r_on, whole up to r_in        |
    | k Z_i Z_j    | strength       | eV Å                                       |
    | 1/a          | rate           | 1/Å                                        |
    | c_m, b_m     | SCREENING      | of the universal potential                 |

    Source: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids, Pergamon (1985).
    """
    xp = namespace(distances)
    t = xp.clip((distances - inner) / (on - inner), 0, 1)
    off = 1 - t**3 * (10 - t * (15 - 6 * t))
    shares, decays = xp.asarray(SCREENING, **kind(distances)).T
    screening = xp.exp((-rate * distances)[:, None] * decays) @ shares
    return off * screening * strength / distances


def energy_bounds(energy_range: Array) -> Array:
    """Return where the outputs of a network begin to level off: lower bound and width, upper bound and width, (4, S).

    A width is that of the range seen in training, or `BELOW` and `ABOVE` where that is more: an energy that is wrong by
    being too low pulls atoms in. The bounds are as far beyond the range.

    Args:
        energy_range: least and largest output for each species, shape (S, 2); both 0 where it is not known.
    """
    xp = namespace(energy_range)
    low, high = energy_range.T
    known = (energy_range != 0).any(-1)
    below, above = (xp.clip(high - low, least, None) for least in (BELOW, ABOVE))
    return xp.stack([xp.where(known, low - below, -FAR), below, xp.where(known, high + above, FAR), above])


def levelled(outputs: Array, low: Array, below: Array, high: Array, above: Array) -> Array:
    """Return x itself within the bounds, and what levels off beyond them, in C³, at one more width.

        x > b:   b + 2 w (t - t⁴ (5/2 - 3 t + t²)),   t = (x - b) / 2w in [0, 1],

    with the upper bound b and width w, and likewise below. What is not finite stays so.

    Args:
        outputs: x of each atom, shape (N,), float64.
        low, below, high, above: as `energy_bounds` returns them, of each atom.
    """
    xp = namespace(outputs)
    up = outputs > high
    bound, span = xp.where(up, high, low), xp.where(up, 2 * above, -2 * below)
    t = xp.clip((outputs - bound) / span, 0, 1)
    bounded = bound + span * (t - t**4 * (2.5 - t * (3 - t)))
    inside = ((outputs >= low) & (outputs <= high)) | ~xp.isfinite(outputs)
    return xp.where(inside, outputs, bounded)
