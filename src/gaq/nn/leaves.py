"""The modules whose arithmetic depends on precision, in float; `quantized.py` holds their low-bit forms.

Each leaf has a `role`, by which a recipe addresses it. Leaves take and return float tensors.

| role        | leaf                    | what it computes                                              |
|-------------|-------------------------|---------------------------------------------------------------|
| first       | Embedding, Linear       | species to scalars; filters of the first messages             |
| radial      | Linear                  | filters from the radial basis (a function of one distance)    |
| contraction | VectorLinear, Linear    | filters from rotation-invariant contractions of vectors       |
| scalar      | Linear                  | queries and keys of attention                                 |
| update      | Linear                  | values and outputs of attention, updates of scalars           |
| junction    | Linear                  | where scalars meet invariants of vectors, before an update    |
| vector      | VectorLinear            | channel mixing of each degree, which commutes with rotations  |
| feature     | VectorQuantizer         | nothing in float: where vector features are rounded           |
| last        | Linear                  | per-atom energies                                             |
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaq.nn.geometry import Geometry
from gaq.so3 import degree_slices


def _initial(*shape: int, times: float = 1.0, over: float = 1.0) -> nn.Parameter:
    """Return scaled normal random numbers; none on the "meta" device, where values are still to be loaded."""
    empty = torch.empty(shape)
    return nn.Parameter(empty if empty.is_meta else torch.randn(shape) * times / over)


class Linear(nn.Module):
    """y = x Wᵀ + b on scalars; weight (out, in), x (..., in)."""

    def __init__(self, inputs: int, outputs: int, role: str, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.role = role
        self.weight = _initial(outputs, inputs, times=gain / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (..., out)."""
        return functional.linear(x, self.weight, self.bias)


class VectorLinear(nn.Module):
    """v'^l_m = v^l_m W_lᵀ: channels mix, components never do; weight (L, out, in), v (N, M, in)."""

    def __init__(self, inputs: int, outputs: int, max_degree: int, role: str = "vector") -> None:
        super().__init__()
        self.role = role
        self.slices = degree_slices(max_degree)
        self.weight = _initial(max_degree, outputs, inputs, over=math.sqrt(inputs))

    def forward(self, v: Tensor) -> Tensor:
        """Return shape (N, M, out)."""
        return torch.cat([mix_channels(v[:, part], w) for part, w in zip(self.slices, self.weight, strict=True)], 1)


def mix_channels(v: Tensor, weight: Tensor) -> Tensor:
    """Return v Wᵀ on the last axis of (N, 2l+1, in), always as one matrix product, so that the sums have one order."""
    return functional.linear(v.flatten(0, 1), weight).unflatten(0, v.shape[:2])


class Embedding(nn.Module):
    """Row Z of a table for each atom; weight (species, width)."""

    def __init__(self, species: int, width: int, role: str = "first") -> None:
        super().__init__()
        self.role = role
        self.weight = _initial(species, width)

    def forward(self, indices: Tensor) -> Tensor:
        """Return shape (N, width)."""
        return self.weight.index_select(0, indices)


class Frame:
    """Where an atom's vector features are given: here the coordinates of the molecule; `quantized.LocalFrame` turns."""

    def back(self, v: Tensor, exact: bool = False) -> Tensor:
        """Return (N, M, C) features in the coordinates of the molecule; `exact` asks for float64 where they are turned."""
        return v


class VectorQuantizer(nn.Module):
    """The place where vector features (N, M, C) are rounded in a low-bit model; the identity in float.

    What comes out may be given in local frames. Channels mix, and components are contracted, before features are turned
    back: an invariant that never leaves the frame is the same number for a molecule and its rotated copy, to the last bit.
    """

    def __init__(self, channels: int, max_degree: int, role: str = "feature") -> None:
        super().__init__()
        self.role = role
        self.channels, self.max_degree = channels, max_degree

    def forward(self, v: Tensor, geometry: Geometry) -> tuple[Tensor, Frame]:
        """Return v unchanged, and where its components are given."""
        return v, Frame()


LEAVES = (Linear, VectorLinear, Embedding, VectorQuantizer)
