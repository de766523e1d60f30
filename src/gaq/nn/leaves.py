"""The modules whose arithmetic depends on precision, in float; `quantized.py` holds their low-bit forms.

Each takes its shape and role from a `gaq.leaves.Leaf`; a recipe addresses it by name or role. Leaves take and return float
tensors.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaq.leaves import EmbeddingLeaf, Leaf, LinearLeaf, VectorLinearLeaf, VectorQuantizerLeaf
from gaq.nn.geometry import Geometry
from gaq.so3 import degree_slices


def _initial(*shape: int, times: float = 1.0, over: float = 1.0) -> nn.Parameter:
    """Return scaled normal random numbers; none on the "meta" device, where values are still to be loaded."""
    empty = torch.empty(shape)
    return nn.Parameter(empty if empty.is_meta else torch.randn(shape) * times / over)


class Linear(nn.Module):
    """y = x Wᵀ + b on scalars; weight (out, in), x (..., in)."""

    def __init__(self, leaf: LinearLeaf) -> None:
        super().__init__()
        self.leaf = leaf
        self.weight = _initial(*leaf.weight, times=leaf.gain / math.sqrt(leaf.inputs))
        self.bias = nn.Parameter(torch.zeros(leaf.outputs)) if leaf.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (..., out)."""
        return functional.linear(x, self.weight, self.bias)


class VectorLinear(nn.Module):
    """v'^l_m = v^l_m W_lᵀ: channels mix, components never do; weight (L, out, in), v (N, M, in)."""

    def __init__(self, leaf: VectorLinearLeaf) -> None:
        super().__init__()
        self.leaf = leaf
        self.slices = degree_slices(leaf.max_degree)
        self.weight = _initial(*leaf.weight, over=math.sqrt(leaf.inputs))

    def forward(self, v: Tensor) -> Tensor:
        """Return shape (N, M, out)."""
        return torch.cat([mix_channels(v[:, part], w) for part, w in zip(self.slices, self.weight, strict=True)], 1)


def mix_channels(v: Tensor, weight: Tensor) -> Tensor:
    """Return v Wᵀ on the last axis of (N, 2l+1, in), always as one matrix product, so that the sums have one order."""
    return functional.linear(v.flatten(0, 1), weight).unflatten(0, v.shape[:2])


class Embedding(nn.Module):
    """Row Z of a table for each atom; weight (species, width)."""

    def __init__(self, leaf: EmbeddingLeaf) -> None:
        super().__init__()
        self.leaf = leaf
        self.weight = _initial(*leaf.weight)

    def forward(self, indices: Tensor) -> Tensor:
        """Return shape (N, width)."""
        return self.weight.index_select(0, indices)


class FeatureFrame:
    """Where an atom's vector features are given: here the coordinates of the molecule; `quantized.LocalFrame` turns."""

    def back(self, v: Tensor, exact: bool = False) -> Tensor:
        """Return (N, M, C) features in the coordinates of the molecule; `exact` asks for float64 where they are turned."""
        return v


class VectorQuantizer(nn.Module):
    """The place where vector features (N, M, C) are rounded in a low-bit model; the identity in float.

    What comes out may be given in local frames. Channels mix, and components are contracted, before features are turned
    back: an invariant that never leaves the frame is the same number for a molecule and its rotated copy, to the last bit.
    """

    def __init__(self, leaf: VectorQuantizerLeaf) -> None:
        super().__init__()
        self.leaf = leaf

    def forward(self, v: Tensor, geometry: Geometry) -> tuple[Tensor, FeatureFrame]:
        """Return v unchanged, and where its components are given."""
        return v, FeatureFrame()


LEAVES = (Linear, VectorLinear, Embedding, VectorQuantizer)
MODULES = dict(zip((LinearLeaf, VectorLinearLeaf, EmbeddingLeaf, VectorQuantizerLeaf), LEAVES, strict=True))


class Leaves:
    """Makes the float modules of a schema's leaves, by the names they have within a part of the network.

    Args:
        leaves: of the whole model.
        part: name of the part, e.g. `attention.0`; "" for the whole.
    """

    def __init__(self, leaves: Mapping[str, Leaf], part: str = "") -> None:
        self.leaves, self.part = leaves, part

    def __call__(self, name: str) -> nn.Module:
        """Return a new module for the leaf of that name within the part."""
        leaf = self.leaves[self._whole(name)]
        return MODULES[type(leaf)](leaf)  # type: ignore[arg-type]

    def within(self, name: str) -> "Leaves":
        """Return what makes the leaves of a part of this part."""
        return Leaves(self.leaves, self._whole(name))

    def _whole(self, name: str) -> str:
        return f"{self.part}.{name}" if self.part else name
