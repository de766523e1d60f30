"""Low-bit forms of the leaves: the same class serves training and deployment, only the source of its codes differs.

Steps are factored out of the product: the input's step, one for each channel, is folded into the weight before that is
rounded, and the weight's step, one for each output, stands outside,

    y = (codes(x / s_x) · codes(W s_x / s_W)ᵀ) s_W + b.

So a model whose weights are master copies in float (`MasterWeight`), one whose weights are packed bytes (`PackedWeight`),
and integer hardware compute the same, and channels of any size get all the codes there are.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaq.leaves import Leaf
from gaq.nn.geometry import Geometry
from gaq.nn.leaves import FeatureFrame, mix_channels
from gaq.quant.affine import codes
from gaq.quant.formats import IntFormat
from gaq.quant.packing import pack, unpack
from gaq.quant.vector_formats import VectorFormat
from gaq.quant.vectors import quantizer_of
from gaq.so3 import degree_slices


class LearnedScale(nn.Module):
    """A step size s = exp(λ) with λ learned: positive, and equally easy to move at any size."""

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(initial.detach().clone().log())

    def forward(self) -> Tensor:
        """Return s."""
        return self.logarithm.exp()


class FixedScale(nn.Module):
    """A step size that training has settled."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value.detach().clone())

    def forward(self) -> Tensor:
        """Return s."""
        return self.value


class FloatWeight(nn.Module):
    """A weight that stays in float: its codes are its values times the input's step, with a scale of 1."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (codes, scale)."""
        weight = self.weight if step is None else self.weight * step
        return weight, weight.new_ones((1,) * weight.dim())

    def frozen(self, step: Tensor | None = None) -> "FloatWeight":
        """Return the deployed form."""
        return FloatWeight(self.weight)


class MasterWeight(nn.Module):
    """A float weight that is rounded in every forward pass, straight-through, with a learned step for each output."""

    def __init__(self, weight: Tensor, scale: Tensor, fmt: IntFormat) -> None:
        super().__init__()
        self.fmt = fmt
        self.weight = nn.Parameter(weight.detach().clone())
        self.scale = LearnedScale(scale)

    def forward(self, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (codes, scale), whole numbers in float, with the input's step folded in."""
        scale = self.scale()
        return codes(self.weight if step is None else self.weight * step, scale, self.fmt), scale

    def frozen(self, step: Tensor | None = None) -> "PackedWeight":
        """Return the deployed form."""
        whole, scale = self(step)
        packed = torch.from_numpy(pack(whole.detach().cpu().numpy(), self.fmt))
        return PackedWeight(packed, scale, self.fmt, tuple(whole.shape))


class PackedWeight(nn.Module):
    """A weight of a shape as bytes at its bit width; the codes are unpacked once, when first used."""

    packed: Tensor
    scale: Tensor

    def __init__(self, packed: Tensor, scale: Tensor, fmt: IntFormat, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.fmt, self.shape = fmt, shape
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale.detach().clone())
        self._unpacked: Tensor | None = None

    def forward(self, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (codes, scale), whole numbers in float; the input's step is in them already."""
        if self._unpacked is None or self._unpacked.dtype != self.scale.dtype or (
                self._unpacked.device != self.scale.device):
            whole = unpack(self.packed.detach().cpu().numpy(), self.fmt, self.shape)
            self._unpacked = torch.from_numpy(whole).to(self.scale)
        return self._unpacked, self.scale

    def frozen(self, step: Tensor | None = None) -> "PackedWeight":
        """Return itself."""
        return self

    def _load_from_state_dict(self, *arguments, **keywords) -> None:  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(*arguments, **keywords)
        self._unpacked = None


Weight = FloatWeight | MasterWeight | PackedWeight
Scale = LearnedScale | FixedScale


class InputCodes(nn.Module):
    """Codes of an activation with static steps, one or one for each channel: a batch changes nothing."""

    def __init__(self, scale: Scale, fmt: IntFormat) -> None:
        super().__init__()
        self.scale, self.fmt = scale, fmt
        self.active = True

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (codes, scale)."""
        scale = self.scale()
        if not self.active:
            return x / scale, scale
        return codes(x, scale, self.fmt), scale


class ProtectedInputCodes(InputCodes):
    """Degree-Quant: in training, rows of atoms drawn by their number of neighbours stay in float.

    Source: Tailor et al., Degree-Quant, ICLR 2021.
    """

    atoms: Tensor | None = None  # (N,) whether each atom is protected in this step
    centers: Tensor | None = None  # (E,) the atom that each edge row belongs to

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (codes, scale)."""
        whole, scale = super().forward(x)
        if not self.training or self.atoms is None or self.centers is None:
            return whole, scale
        rows = self.atoms if len(x) == len(self.atoms) else self.atoms[self.centers]
        return torch.where(rows[:, None], x / scale, whole), scale


class QuantizedLinear(nn.Module):
    """Low-bit `leaves.Linear`: y = (codes(x / s_x) · codes(W s_x / s_W)ᵀ) s_W + b."""

    def __init__(self, leaf: Leaf, weight: Weight, bias: Tensor | None, inputs: InputCodes | None) -> None:
        super().__init__()
        self.leaf = leaf
        self.weight = weight
        self.inputs = inputs
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (..., out)."""
        step = None
        if self.inputs is not None:
            x, step = self.inputs(x)
        whole, scale = self.weight(step)
        y = functional.linear(x, whole) * scale.squeeze(-1)
        return y if self.bias is None else y + self.bias


class QuantizedVectorLinear(nn.Module):
    """Low-bit `leaves.VectorLinear`: the weights are codes; the vectors come rounded from a `QuantizedVectors`."""

    def __init__(self, leaf: Leaf, weight: Weight, max_degree: int) -> None:
        super().__init__()
        self.leaf = leaf
        self.weight = weight
        self.slices = degree_slices(max_degree)

    def forward(self, v: Tensor) -> Tensor:
        """Return shape (N, M, out)."""
        whole, scale = self.weight()
        scale = scale.expand(len(self.slices), -1, 1).squeeze(-1)
        return torch.cat([mix_channels(v[:, part], w) * s
                          for part, w, s in zip(self.slices, whole, scale, strict=True)], 1)


class QuantizedEmbedding(nn.Module):
    """Low-bit `leaves.Embedding`: one scale for each species."""

    def __init__(self, leaf: Leaf, weight: Weight) -> None:
        super().__init__()
        self.leaf = leaf
        self.weight = weight

    def forward(self, indices: Tensor) -> Tensor:
        """Return shape (N, width)."""
        whole, scale = self.weight()
        return (whole * scale).index_select(0, indices)


class LocalFrame(FeatureFrame):
    """The local frames of atoms, for those degrees that are given in them: v = D(F) v'.

    Args:
        aligned: for each degree, whether it is.
    """

    def __init__(self, geometry: Geometry, aligned: tuple[bool, ...]) -> None:
        self.geometry, self.aligned = geometry, aligned
        self.slices = degree_slices(len(aligned))

    def of(self, v: Tensor) -> Tensor:
        """Return features of the molecule's coordinates in the frames."""
        return self._turned(v, lambda d: d.mT)

    def back(self, v: Tensor, exact: bool = False) -> Tensor:
        """Return features of the frames in the molecule's coordinates."""
        return self._turned(v.double() if exact else v, lambda d: d)

    def _turned(self, v: Tensor, side: Callable[[Tensor], Tensor]) -> Tensor:
        parts = enumerate(zip(self.slices, self.aligned, strict=True), start=1)
        return torch.cat([side(self.geometry.wigner(degree, v.dtype)) @ v[:, part] if aligned else v[:, part]
                          for degree, (part, aligned) in parts], 1)


class QuantizedVectors(nn.Module):
    """Low-bit `leaves.VectorQuantizer`: each degree rounded in its format, in the atom's local frame if aligned.

    Aligned, Q(v) = D(F) Q₀(D(F)ᵀ v): the rounding turns with the molecule, so Q(D(R) v) = D(R) Q(v) at any bit width. The
    gradient takes the frame as constant. What comes out is still in the frame, Q₀.
    """

    rounding: Tensor

    def __init__(self, leaf: Leaf, formats: tuple[VectorFormat, ...], scales: list[Scale],
                 points: list[Tensor | None]) -> None:
        super().__init__()
        self.leaf, self.formats = leaf, formats
        self.quantizers = tuple(quantizer_of(fmt) for fmt in formats)
        self.slices = degree_slices(len(formats))
        self.scales = nn.ModuleList(scales)
        for index, table in enumerate(points):
            self.register_buffer(f"points{index + 1}", table)
        self.register_buffer("rounding", torch.ones((), dtype=torch.bool, device="cpu"), persistent=False)

    @property
    def active(self) -> bool:
        """Whether features are rounded; the schedule of training keeps them in float for a while.

        It is held as a tensor, so that a compiled step is one and the same function in both phases.
        """
        return bool(self.rounding)

    @active.setter
    def active(self, active: bool) -> None:
        self.rounding.fill_(active)

    def forward(self, v: Tensor, geometry: Geometry) -> tuple[Tensor, FeatureFrame]:
        """Return rounded features (N, M, C), and where their components are given."""
        frame = LocalFrame(geometry, tuple(fmt.aligned for fmt in self.formats))
        local = frame.of(v)
        rounded = torch.cat([quantizer.quantize(local[:, part], scale(), degree, getattr(self, f"points{degree}"))
                             for degree, (part, quantizer, scale) in enumerate(
                                 zip(self.slices, self.quantizers, self.scales, strict=True), start=1)], 1)
        return torch.where(self.rounding, rounded, local), frame

    def frozen(self) -> "QuantizedVectors":
        """Return the deployed form."""
        points = [getattr(self, f"points{degree}") for degree in range(1, len(self.formats) + 1)]
        return QuantizedVectors(self.leaf, self.formats, [FixedScale(s()) for s in self.scales], points)


QUANTIZED = (QuantizedLinear, QuantizedVectorLinear, QuantizedEmbedding, QuantizedVectors)
