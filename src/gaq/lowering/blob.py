"""Lowering: a frozen force field as one contiguous blob that the engine reads. The format is in docs/format.md.

Linear maps keep their codes; all that depends on one distance becomes a table, exact to float rounding.
"""

import copy
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gaq.backends.native.errors import NotLowered
from gaq.lowering.tables import Table, tabulate
from gaq.models.transformer.attention import MAX_TEMPERATURE, RobustAttention
from gaq.models.transformer.blocks import AttentionBlock, EdgeFilter, InteractionBlock
from gaq.models.transformer.extrapolation import energy_bounds, pair_table
from gaq.nn.leaves import Embedding, Linear, VectorLinear, VectorQuantizer
from gaq.nn.quantized import (
    FixedScale,
    FloatWeight,
    InputCodes,
    PackedWeight,
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedVectorLinear,
    QuantizedVectors,
)
from gaq.quant.direction import ComponentDirection
from gaq.quant.magnitude import LinearMagnitude
from gaq.quant.vectors import MDDQ, Components
from gaq.radial import CosineCutoff, PolynomialCutoff
from gaq.so3 import SPREAD, SPREADING, harmonics

if TYPE_CHECKING:
    from gaq.models.transformer.network import Transformer

MAGIC, VERSION = b"GAQBLOB1", 3
HEADER, ENTRY, ALIGNMENT = 64, 88, 64
TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1, np.dtype(np.int8): 2, np.dtype(np.int32): 3}
MOST_CODE_BITS = 8  # weights of more bits are kept as whole numbers in float32
MOST_WHOLE_BITS = 16  # inputs of more bits are multiplied in float32
LARGEST_SUM = 2**31 - 1
FORMATS = {"none": 0, "components": 1, "mddq": 2}
GRADIENTS = {"geometric": 0, "plain": 1, "none": 2}


@dataclass(eq=False)
class Blob:
    """A lowered force field.

    Args:
        data: what the engine reads.
        quantizers: names of the activation quantizers, in the order of the engine's counters.
        table_error: largest error of a table, relative to its largest value.
    """

    data: bytes
    quantizers: tuple[str, ...]
    table_error: float


def lower(model: "Transformer") -> Blob:
    """Return the blob of a float or frozen model.

    Raises:
        NotLowered: a leaf computes what the engine does not, such as a codebook.
    """
    return _Lowering(copy.deepcopy(model).cpu().eval()).run()


@dataclass(eq=False)
class _Lowering:
    """The arrays of one blob, collected by name."""

    model: "Transformer"
    arrays: dict[str, NDArray] = field(default_factory=dict)
    quantizers: list[str] = field(default_factory=list)
    frames: bool = False
    error: float = 0.0

    def run(self) -> Blob:
        """Collect everything and write it down."""
        model = self.model
        if model.dtype != torch.float32:
            raise NotLowered(f"the engine computes in float32, and the model is {model.dtype}")
        tables = self._tables()
        self._embedding()
        for index, (attention, interaction) in enumerate(zip(model.attention, model.interaction, strict=True)):
            self._attention(f"attention.{index}", attention)  # type: ignore[arg-type]
            self._interaction(f"interaction.{index}", interaction)  # type: ignore[arg-type]
        self._linear("head.first", model.head.first)
        self._linear("head.second", model.head.second)
        self._wigner()
        self._config(tables)
        return Blob(_written(self.arrays), tuple(self.quantizers), self.error)

    def put(self, name: str, values: Tensor | NDArray | list, dtype: type) -> None:
        """Keep an array under a name."""
        array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
        with np.errstate(over="ignore"):
            self.arrays[name] = np.ascontiguousarray(array.astype(dtype).ravel())
        if not np.isfinite(self.arrays[name]).all():
            raise NotLowered(f"{name}: numbers beyond the range of float32")

    def _config(self, table: Table) -> None:
        c, envelope = self.model.config, self.model.envelope
        power = envelope.power if isinstance(envelope, PolynomialCutoff) else 2
        self.put("config", [
            c.scalars, c.vectors, c.max_degree, c.heads, c.layers, len(c.species), int(c.attention != "robust"),
            int(isinstance(envelope, CosineCutoff)), power, table.knots, int(self.frames), SPREADING,
            len(self.quantizers)], np.int32)
        self.put("constants", [c.cutoff, table.start, table.bend, table.spacing, float(self.model.energy_scale), SPREAD],
                 np.float64)
        self.put("species", list(c.species), np.int32)
        self.put("energy_offsets", self.model.energy_offsets, np.float64)
        self.put("repulsion", pair_table(self.model.closest, c.species, c.cutoff), np.float64)
        self.put("bounds", energy_bounds(self.model.energy_range), np.float64)

    def _tables(self) -> Table:
        """Tabulate the filters of all layers and of the embedding, with one spacing for all."""
        model = self.model
        embedding = self._dense("embedding.filters")[0]
        layers = [[self._dense(f"attention.{n}.filters.radial.{part}") for part in ("first", "second")]
                  for n in range(model.config.layers)]

        def filters(r: Tensor) -> Tensor:
            basis = model.basis(r)
            parts = [functional.linear(basis, embedding) * model.envelope(r)[:, None]]
            hidden = [functional.silu(functional.linear(basis, *first)) for first, _ in layers]
            parts += [functional.linear(h, *second) for h, (_, second) in zip(hidden, layers, strict=True)]
            return torch.cat(parts, -1)

        with torch.no_grad():
            table = tabulate(filters, model.config.cutoff)
        self.error = table.error
        start = 0
        for name, width in (("embedding.table", len(embedding)),
                            *((f"attention.{n}.table", len(layer[1][0])) for n, layer in enumerate(layers))):
            self.put(name, table.coefficients[:, start : start + width], np.float32)
            start += width
        return table

    def _embedding(self) -> None:
        for name, leaf in (("own", self.model.embedding.own), ("other", self.model.embedding.other)):
            if not isinstance(leaf, (Embedding, QuantizedEmbedding)):
                raise _unknown(f"embedding.{name}", leaf)
            whole, scale = (leaf.weight, torch.ones(())) if isinstance(leaf, Embedding) else leaf.weight()
            self.put(f"embedding.{name}", whole * scale, np.float32)

    def _attention(self, name: str, block: AttentionBlock) -> None:
        self._norm(f"{name}.norm", block.norm)
        for part in ("query", "key", "value", "output"):
            self._linear(f"{name}.{part}", getattr(block, part))
        self._vectors(f"{name}.feature", block.feature)
        self._mixing(f"{name}.mix", block.mix)
        filters = block.filters
        assert isinstance(filters, EdgeFilter)
        self._mixing(f"{name}.filters.project", filters.project)
        self._linear(f"{name}.filters.contraction", filters.contraction)
        attention, temperature = block.attention, torch.ones(self.model.config.heads)
        if isinstance(attention, RobustAttention):
            temperature = MAX_TEMPERATURE * torch.sigmoid(attention.temperature_logit)
        self.put(f"{name}.temperature", temperature, np.float32)

    def _interaction(self, name: str, block: InteractionBlock) -> None:
        self._norm(f"{name}.norm", block.norm)
        self._vectors(f"{name}.feature", block.feature)
        self._mixing(f"{name}.mix", block.mix)
        self._linear(f"{name}.update.first", block.update.first)
        self._linear(f"{name}.update.second", block.update.second)

    def _norm(self, name: str, norm: torch.nn.Module) -> None:
        if not isinstance(norm, torch.nn.LayerNorm) or norm.eps != 1e-5:
            raise _unknown(name, norm)
        self.put(f"{name}.weight", norm.weight, np.float32)
        self.put(f"{name}.bias", norm.bias, np.float32)

    def _weights(self, name: str, weight: Tensor | FloatWeight | PackedWeight, step: Tensor | None, place: str,
                 input_bits: int = 0) -> int:
        """Keep weights as codes with their scales, or as floats; return their bits."""
        if isinstance(weight, Tensor):
            self.put(f"{place}.weight", weight, np.float32)
            return 0
        whole, scale = weight(step)
        if isinstance(weight, PackedWeight) and weight.fmt.bits <= MOST_CODE_BITS:
            if input_bits <= MOST_WHOLE_BITS and float(whole.abs().sum(-1).max()) * 2.0 ** (input_bits - 1) > LARGEST_SUM:
                raise NotLowered(f"{name}: sums of products of {input_bits}-bit inputs may leave the engine's 32 bits")
            self.put(f"{place}.codes", whole, np.int8)
            self.put(f"{place}.scale", scale.squeeze(-1).expand(len(whole)) if scale.dim() else scale.expand(len(whole)),
                     np.float32)
            return weight.fmt.bits
        if not isinstance(weight, (FloatWeight, PackedWeight)):
            raise _unknown(name, weight)
        self.put(f"{place}.weight", whole * scale, np.float32)
        return 0

    def _linear(self, name: str, leaf: torch.nn.Module) -> None:
        if isinstance(leaf, Linear):
            bits, inputs, weight = 0, None, leaf.weight
        elif isinstance(leaf, QuantizedLinear):
            bits, inputs, weight = 0, leaf.inputs, leaf.weight  # type: ignore[assignment]
        else:
            raise _unknown(name, leaf)
        step, input_bits, counter = None, 0, -1
        if inputs is not None:
            if not isinstance(inputs, InputCodes) or not isinstance(inputs.scale, FixedScale):
                raise _unknown(name, inputs)
            step = inputs.scale()
            if inputs.active:
                input_bits, counter = inputs.fmt.bits, self._counter(name)
        if step is not None and not input_bits:  # inputs are released: the step that is in the weights comes out again
            whole, scale = weight(step)  # type: ignore[operator]
            self.put(f"{name}.weight", whole * scale / step, np.float32)
        else:
            bits = self._weights(name, weight, step, name, input_bits)
        if input_bits and step is not None:
            columns = weight(step)[0].shape[1]  # type: ignore[operator]
            self.put(f"{name}.step", step.expand(columns), np.float32)
        if leaf.bias is not None:
            self.put(f"{name}.bias", leaf.bias, np.float32)
        self.put(f"{name}.bits", [bits, input_bits, counter], np.int32)

    def _mixing(self, name: str, leaf: torch.nn.Module) -> None:
        if not isinstance(leaf, (VectorLinear, QuantizedVectorLinear)):
            raise _unknown(name, leaf)
        bits = 0
        for index in range(len(leaf.slices)):
            place = f"{name}.{index + 1}"
            if isinstance(leaf, VectorLinear):
                self.put(f"{place}.weight", leaf.weight[index], np.float32)
                continue
            whole, scale = leaf.weight()
            scale = scale.expand(len(leaf.slices), -1, 1).squeeze(-1)[index].expand(whole.shape[1])
            if isinstance(leaf.weight, PackedWeight) and leaf.weight.fmt.bits <= MOST_CODE_BITS:
                bits = leaf.weight.fmt.bits
                self.put(f"{place}.codes", whole[index], np.int8)
                self.put(f"{place}.scale", scale, np.float32)
            else:
                self.put(f"{place}.weight", whole[index] * scale[:, None], np.float32)
        self.put(f"{name}.bits", [bits, 0, -1], np.int32)

    def _vectors(self, name: str, leaf: torch.nn.Module) -> None:
        degrees = self.model.config.max_degree
        if isinstance(leaf, VectorQuantizer) or (isinstance(leaf, QuantizedVectors) and not leaf.active):
            for degree in range(1, degrees + 1):
                self.put(f"{name}.{degree}.format", [0, 0, 0, 0, 0, -1], np.int32)
            return
        if not isinstance(leaf, QuantizedVectors):
            raise _unknown(name, leaf)
        for degree, fmt in enumerate(leaf.formats, start=1):
            self.frames |= fmt.aligned
            counter = self._counter(f"{name}.l{degree}")
            if isinstance(fmt, Components):
                row = [FORMATS["components"], 0, int(fmt.aligned), 0, fmt.bits, counter]
            elif (isinstance(fmt, MDDQ) and isinstance(fmt.magnitude, LinearMagnitude)
                  and isinstance(fmt.direction, ComponentDirection)):
                row = [FORMATS["mddq"], GRADIENTS[fmt.gradient], int(fmt.aligned), fmt.magnitude.bits,
                       fmt.direction.bits, counter]
            else:
                raise NotLowered(f"{name}: the engine codes vectors by component or by MDDQ with a linear magnitude and "
                                 f"rounded components, not as {fmt.model_dump()}")
            self.put(f"{name}.{degree}.format", row, np.int32)
            self.put(f"{name}.{degree}.step", leaf.scales[degree - 1]().expand(self.model.config.vectors), np.float32)

    def _wigner(self) -> None:
        """Directions X and a matrix P with D^l(R) = (P Y^l(R X))ᵀ: as many as components, and well conditioned."""
        for degree in range(2, self.model.config.max_degree + 1):
            if not self.frames:
                return
            directions, inverse = _solvable(degree)
            self.put(f"wigner.{degree}.directions", directions, np.float64)
            self.put(f"wigner.{degree}.inverse", inverse, np.float64)

    def _dense(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the float64 weight and bias of a linear leaf whose input stays in float."""
        leaf = self.model.get_submodule(name)
        if isinstance(leaf, Linear):
            whole, scale = leaf.weight, torch.ones(())
        elif not isinstance(leaf, QuantizedLinear):
            raise _unknown(name, leaf)
        elif leaf.inputs is not None:
            raise NotLowered(f"{name}: activations of the radial network are rounded, so that it is no smooth function of "
                             "the distance, and the engine tabulates it")
        else:
            whole, scale = leaf.weight()
        bias = torch.zeros(len(whole)) if leaf.bias is None else leaf.bias
        return (whole.double() * scale.double()).detach(), bias.detach().double()

    def _counter(self, name: str) -> int:
        self.quantizers.append(name)
        return len(self.quantizers) - 1


def _solvable(degree: int) -> tuple[Tensor, Tensor]:
    """Return 2l+1 directions whose harmonics of degree l are as independent as random draws make them."""
    generator = torch.Generator().manual_seed(degree)
    count, part = 2 * degree + 1, slice(degree * degree - 1, (degree + 1) ** 2 - 1)
    draws = torch.nn.functional.normalize(torch.randn(2000, count, 3, generator=generator, dtype=torch.float64), dim=-1)
    values = harmonics(draws, degree)[..., part]
    best = int(torch.linalg.cond(values).argmin())
    return draws[best], torch.linalg.inv(values[best])


def _unknown(name: str, what: object) -> NotLowered:
    return NotLowered(f"{name}: the engine does not compute a {type(what).__name__}")


def _written(arrays: dict[str, NDArray]) -> bytes:
    """Return header, directory and arrays as bytes."""
    place = HEADER + ENTRY * len(arrays)
    directory, payload = [], []
    for name, array in arrays.items():
        padding = -place % ALIGNMENT
        place += padding
        directory.append(struct.pack("<64sIIQQ", name.encode(), TYPES[array.dtype], 0, array.size, place))
        payload += [bytes(padding), array.astype(array.dtype.newbyteorder("<")).tobytes()]
        place += array.nbytes
    body = b"".join([*directory, *payload])
    header = struct.pack("<8sIIQII", MAGIC, VERSION, len(arrays), HEADER + len(body), zlib.crc32(body), 0)
    return header.ljust(HEADER, b"\0") + body
