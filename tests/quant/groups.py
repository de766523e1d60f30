"""The symmetry groups that quantizers of directions are exact under."""

import itertools

import numpy as np
import torch

from gaq.quant.codebooks import icosahedral


def signed_permutations() -> torch.Tensor:
    """The 48 symmetries of the cube."""
    rows = [np.diag(signs)[list(order)] for order in itertools.permutations(range(3))
            for signs in itertools.product([1, -1], repeat=3)]
    return torch.from_numpy(np.array(rows, dtype=np.float64))


def icosahedral_rotations() -> torch.Tensor:
    """The 60 rotations: all that carry one edge (a, b) of the icosahedron to another."""
    corners = icosahedral(1)
    cosines = corners @ corners.T
    edges = [(a, b) for a in range(12) for b in range(12) if abs(cosines[a, b] - cosines[0].sort().values[-2]) < 1e-6]

    def frame(a: int, b: int) -> torch.Tensor:
        return torch.stack([corners[a], corners[b], torch.linalg.cross(corners[a], corners[b])], dim=1)

    start = torch.linalg.inv(frame(*edges[0]))
    return torch.stack([frame(*edge) @ start for edge in edges])
