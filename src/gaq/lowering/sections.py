"""Leaves of any model as sections of a blob: linear maps keep their codes, vector features say their formats."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from gaq.leaves import Schema, VectorLinearLeaf, VectorQuantizerLeaf
from gaq.lowering.blob import NotLowered
from gaq.quant.formats import int_format
from gaq.quant.packing import unpack
from gaq.quant.vector_formats import MDDQ, ComponentDirection, Components, LinearMagnitude, VectorFormat
from gaq.recipe import Recipe

MOST_CODE_BITS = 8  # weights of more bits are kept as whole numbers in float32
MOST_WHOLE_BITS = 16  # inputs of more bits are multiplied in float32
LARGEST_SUM = 2**31 - 1
FORMATS = {"none": 0, "components": 1, "mddq": 2}
GRADIENTS = {"geometric": 0, "plain": 1, "none": 2}


class Sections:
    """The arrays of one blob, collected by name.

    Args:
        schema, recipe, tensors: of a stored model.
        active: leaves whose activation quantizers round; None for all.

    Attributes:
        arrays: what was collected.
        quantizers: names of the activation quantizers, in the order of the engine's counters.
        frames: whether vector features are rounded in local frames.
    """

    def __init__(self, schema: Schema, recipe: Recipe, tensors: Mapping[str, NDArray],
                 active: Collection[str] | None = None) -> None:
        self.leaves, self.rules = schema.leaves, schema.rules(recipe)
        self.tensors, self.active = tensors, active
        self.arrays: dict[str, NDArray] = {}
        self.quantizers: list[str] = []
        self.frames = False

    def put(self, name: str, values: NDArray | list, dtype: type) -> None:
        """Keep an array under a name.

        Raises:
            NotLowered: numbers beyond the range of their type.
        """
        with np.errstate(over="ignore"):
            self.arrays[name] = np.ascontiguousarray(np.asarray(values).astype(dtype).ravel())
        if not np.isfinite(self.arrays[name]).all():
            raise NotLowered(f"{name}: numbers beyond the range of float32")

    def weight(self, name: str, step: NDArray | None = None) -> tuple[NDArray, NDArray]:
        """Return the codes of a leaf's weight, whole numbers in float32, and their scale.

        Those of a float weight are its values times the input's step, with a scale of 1.
        """
        leaf, rule = self.leaves[name], self.rules[name]
        if rule.weight is not None and leaf.rounds(rule):
            codes = unpack(self.tensors[f"{name}.weight.packed"], int_format(rule.weight), leaf.weight)
            return codes.astype(np.float32), self.tensors[f"{name}.weight.scale"]
        values = self.tensors[f"{name}.weight.weight" if leaf.rounds(rule) else f"{name}.weight"]
        return (values if step is None else values * step), np.ones((1,) * values.ndim, np.float32)

    def norm(self, name: str) -> None:
        """Put weight and bias of a layer normalization."""
        for part in ("weight", "bias"):
            self.put(f"{name}.{part}", self.tensors[f"{name}.{part}"], np.float32)

    def embedding(self, name: str) -> None:
        """Put the rows of an embedding."""
        codes, scale = self.weight(name)
        self.put(name, codes * scale, np.float32)

    def linear(self, name: str) -> None:
        """Put weight, bias and input steps of a linear map."""
        rule, step, input_bits, counter, bits = self.rules[name], None, 0, -1, 0
        if rule.input is not None:
            step = self.tensors[f"{name}.inputs.scale.value"]
            if self._active(name):
                input_bits, counter = int(rule.input), self._counter(name)
        if step is not None and not input_bits:  # inputs are released: the step that is in the weights comes out again
            codes, scale = self.weight(name, step)
            self.put(f"{name}.weight", codes * scale / step, np.float32)
        else:
            bits = self._codes(name, name, *self.weight(name, step), input_bits)
        if input_bits and step is not None:
            self.put(f"{name}.step", np.broadcast_to(step, self.leaves[name].weight[1]), np.float32)
        if f"{name}.bias" in self.tensors:
            self.put(f"{name}.bias", self.tensors[f"{name}.bias"], np.float32)
        self.put(f"{name}.bits", [bits, input_bits, counter], np.int32)

    def mixing(self, name: str) -> None:
        """Put the weights of a map of vector channels, one matrix for each degree."""
        leaf, bits = self.leaves[name], 0
        assert isinstance(leaf, VectorLinearLeaf)
        codes, scales = self.weight(name)
        scales = np.broadcast_to(scales, (leaf.max_degree, scales.shape[1], 1))
        for index in range(leaf.max_degree):
            bits = self._codes(name, f"{name}.{index + 1}", codes[index], scales[index], 0)
        self.put(f"{name}.bits", [bits, 0, -1], np.int32)

    def vectors(self, name: str) -> None:
        """Put format and steps of each degree of vector features."""
        leaf, rule = self.leaves[name], self.rules[name]
        assert isinstance(leaf, VectorQuantizerLeaf)
        if not leaf.rounds(rule) or not self._active(name):
            for degree in range(1, leaf.max_degree + 1):
                self.put(f"{name}.{degree}.format", [0, 0, 0, 0, 0, -1], np.int32)
            return
        for degree, fmt in enumerate(leaf.formats(name, rule), start=1):
            self.frames |= fmt.aligned
            self.put(f"{name}.{degree}.format", [*_row(name, fmt), self._counter(f"{name}.l{degree}")], np.int32)
            steps = self.tensors[f"{name}.scales.{degree - 1}.value"]
            self.put(f"{name}.{degree}.step", np.broadcast_to(steps, leaf.channels), np.float32)

    def dense(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight and bias of a linear map whose input stays in float, as tables need them.

        Raises:
            NotLowered: its input is rounded.
        """
        if self.rules[name].input is not None:
            raise NotLowered(f"{name}: activations of the radial network are rounded, so that it is no smooth function of "
                             "the distance, and the engine tabulates it")
        codes, scale = self.weight(name)
        bias = self.tensors.get(f"{name}.bias", np.zeros(len(codes), np.float32))
        return codes.astype(np.float64) * scale.astype(np.float64), bias.astype(np.float64)

    def _codes(self, name: str, place: str, codes: NDArray, scale: NDArray, input_bits: int) -> int:
        """Keep weights (out, in) as codes with a scale for each output, or as floats; return their bits."""
        rule = self.rules[name]
        if rule.weight is None or rule.weight > MOST_CODE_BITS or not self.leaves[name].rounds(rule):
            self.put(f"{place}.weight", codes * scale, np.float32)
            return 0
        if input_bits <= MOST_WHOLE_BITS and float(np.abs(codes).sum(-1).max()) * 2.0 ** (input_bits - 1) > LARGEST_SUM:
            raise NotLowered(f"{name}: sums of products of {input_bits}-bit inputs may leave the engine's 32 bits")
        self.put(f"{place}.codes", codes, np.int8)
        self.put(f"{place}.scale", np.broadcast_to(scale, (len(codes), 1)), np.float32)
        return int(rule.weight)

    def _active(self, name: str) -> bool:
        return self.active is None or name in self.active

    def _counter(self, name: str) -> int:
        self.quantizers.append(name)
        return len(self.quantizers) - 1


def _row(name: str, fmt: VectorFormat) -> list[int]:
    """Return format, gradient, frame, and bits of magnitude and direction, as the engine numbers them."""
    if isinstance(fmt, Components):
        return [FORMATS["components"], 0, int(fmt.aligned), 0, fmt.bits]
    if (isinstance(fmt, MDDQ) and isinstance(fmt.magnitude, LinearMagnitude)
            and isinstance(fmt.direction, ComponentDirection)):
        return [FORMATS["mddq"], GRADIENTS[fmt.gradient], int(fmt.aligned), fmt.magnitude.bits, fmt.direction.bits]
    raise NotLowered(f"{name}: the engine codes vectors by component or by MDDQ with a linear magnitude and rounded "
                     f"components, not as {fmt.model_dump()}")
