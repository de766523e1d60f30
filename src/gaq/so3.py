"""Real spherical harmonics, of numpy arrays and tensors alike: the one feature layout of the package.

Features of degree l have 2l+1 components on the second-to-last axis, channels on the last; degrees 1..L are stacked, so
that a feature array has shape (atoms, M, channels) with M = (L+1)² - 1. Components follow e3nn's order: degree 1 is
(x, y, z). Harmonics are Racah-normalized, |Y^l(u)| = 1 for unit vectors u.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gaq.arrays import Array, namespace
from gaq.errors import ConfigError

MAX_DEGREE = 4
SPREAD, SPREADING = 0.01, 3  # ε and rounds of `rotations.local_frames`: how far its surroundings reach


def components(max_degree: int) -> int:
    """Return M = (L+1)² - 1, the number of components of degrees 1..L."""
    return (max_degree + 1) ** 2 - 1


def degree_slices(max_degree: int) -> tuple[slice, ...]:
    """Return the slice of the component axis that holds each degree 1..L."""
    return tuple(slice(l * l - 1, (l + 1) ** 2 - 1) for l in range(1, max_degree + 1))


def harmonics(directions: Array, max_degree: int) -> Array:
    """Return the real spherical harmonics Y^1..Y^L of unit vectors, |Y^l| = 1.

    Args:
        directions: unit vectors, shape (..., 3).
        max_degree: L, from 1 to 4.

    Returns:
        Shape (..., (L+1)² - 1), degrees stacked, components in e3nn's order.

    Raises:
        ConfigError: a degree beyond 4.

    Source: the closed forms of the solid harmonics, e.g. Varshalovich et al., Quantum Theory of Angular Momentum (1988);
    e3nn's order is the textbook one with axes renamed (x, y, z) <- (z, x, y).
    """
    if not 1 <= max_degree <= MAX_DEGREE:
        raise ConfigError(f"max_degree must be from 1 to {MAX_DEGREE}, not {max_degree}")
    xp = namespace(directions)
    y, z, x = xp.moveaxis(directions, -1, 0)  # textbook axes: polar axis z is e3nn's y
    terms = [y, z, x]
    if max_degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        r3 = 3**0.5
        terms += [r3 * x * y, r3 * y * z, 1.5 * zz - 0.5, r3 * x * z, (r3 / 2) * (xx - yy)]
    if max_degree >= 3:
        a, b, c = (5 / 8) ** 0.5, 15**0.5, (3 / 8) ** 0.5
        terms += [a * y * (3 * xx - yy), b * x * y * z, c * y * (5 * zz - 1), 0.5 * z * (5 * zz - 3),
                  c * x * (5 * zz - 1), (b / 2) * z * (xx - yy), a * x * (xx - 3 * yy)]
    if max_degree >= 4:
        a, b, c, d = 35**0.5 / 2, (35 / 8) ** 0.5, 5**0.5 / 2, (5 / 8) ** 0.5
        terms += [a * x * y * (xx - yy), b * y * z * (3 * xx - yy), c * x * y * (7 * zz - 1), d * y * z * (7 * zz - 3),
                  (35 * zz * zz - 30 * zz + 3) / 8, d * x * z * (7 * zz - 3), (c / 2) * (xx - yy) * (7 * zz - 1),
                  b * x * z * (xx - 3 * yy), (a / 4) * (xx * xx - 6 * xx * yy + yy * yy)]
    return xp.stack(terms, -1)


@lru_cache
def solvable_directions(degree: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return unit vectors X, as many as components, and the inverse P of Y^l(X): then D^l(R) = (P Y^l(R X))ᵀ.

    They are the best conditioned of 2000 random draws, with a fixed seed.

    Returns:
        Shapes (2l+1, 3) and (2l+1, 2l+1).
    """
    draws = np.random.default_rng(degree).normal(size=(2000, 2 * degree + 1, 3))
    draws /= np.linalg.norm(draws, axis=-1, keepdims=True)
    values = harmonics(draws, degree)[..., degree_slices(degree)[-1]]
    best = int(np.linalg.cond(values).argmin())
    return draws[best], np.linalg.inv(values[best])
