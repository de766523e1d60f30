"""What a forward pass knows of the edges, computed once and shared by all layers."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gaq.rotations import local_frames, wigner_d


@dataclass(eq=False)
class Geometry:
    """Edges of a batch: i, j, envelope φ (E,), radial basis (E, K), directions r̂ (E, 3), harmonics Y (E, M).

    Weights of the frames (E,) and the repulsion of pairs of nuclei (E,), eV, are float64.
    """

    atoms: int
    centers: Tensor
    neighbours: Tensor
    envelope: Tensor
    basis: Tensor
    directions: Tensor
    harmonics: Tensor
    frame_weights: Tensor
    repulsion: Tensor

    @cached_property
    def frames(self) -> Tensor:
        """A rotation for each atom that turns with the molecule, shape (N, 3, 3), float64 (`rotations.local_frames`)."""
        return local_frames(self.directions, self.frame_weights, self.centers, self.neighbours, self.atoms)

    def wigner(self, degree: int, dtype: torch.dtype | None = None) -> Tensor:
        """D^l of the local frames, shape (N, 2l+1, 2l+1), in the dtype of the features unless another one is given."""
        key = degree, dtype or self.basis.dtype
        if key not in self._wigner:
            self._wigner[key] = wigner_d(self.frames, degree).to(key[1])
        return self._wigner[key]

    @cached_property
    def _wigner(self) -> dict[tuple[int, torch.dtype], Tensor]:
        return {}

    def sum_at_centers(self, messages: Tensor) -> Tensor:
        """Sum edge values (E, ...) at their centers, shape (N, ...)."""
        return torch.zeros(self.atoms, *messages.shape[1:], dtype=messages.dtype,
                           device=messages.device).index_add(0, self.centers, messages)
