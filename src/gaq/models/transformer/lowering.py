"""The transformer for the native engine: linear maps keep their codes; all that depends on one distance becomes a table."""

from collections.abc import Collection
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gaq.lowering.blob import Blob, written
from gaq.lowering.sections import Sections
from gaq.lowering.tables import Table, tabulate
from gaq.models.contract import Tensors
from gaq.models.transformer.config import MAX_TEMPERATURE, ModelConfig
from gaq.models.transformer.extrapolation import energy_bounds, pair_table
from gaq.models.transformer.schema import schema
from gaq.radial import BASES, CUTOFFS, CosineCutoff, PolynomialCutoff
from gaq.recipe import Recipe
from gaq.so3 import SPREAD, SPREADING, solvable_directions


class Emitter:
    """Lowers one stored model, as a whole or with some of its activation quantizers alone; tables are made once.

    Args:
        config, recipe, tensors: of the model.
    """

    def __init__(self, config: ModelConfig, recipe: Recipe, tensors: Tensors) -> None:
        self.config, self.recipe, self.tensors = config, recipe, tensors

    def blob(self, active: Collection[str] | None = None) -> Blob:
        """Return what the engine reads.

        Args:
            active: leaves whose activation quantizers round; None for all.

        Raises:
            NotLowered: a leaf computes what the engine does not, such as a codebook.
        """
        made = Sections(schema(self.config), self.recipe, self.tensors, active)
        self._put_tables(made)
        made.embedding("embedding.own")
        made.embedding("embedding.other")
        for layer in range(self.config.layers):
            self._attention(made, f"attention.{layer}")
            self._interaction(made, f"interaction.{layer}")
        made.linear("head.first")
        made.linear("head.second")
        self._wigner(made)
        self._constants(made)
        return Blob(written(self.config.kind, made.arrays), tuple(made.quantizers), self._table.error)

    def _attention(self, made: Sections, name: str) -> None:
        made.norm(f"{name}.norm")
        for part in ("query", "key", "value", "output"):
            made.linear(f"{name}.{part}")
        made.vectors(f"{name}.feature")
        made.mixing(f"{name}.mix")
        made.mixing(f"{name}.filters.project")
        made.linear(f"{name}.filters.contraction")
        temperature = np.ones(self.config.heads)
        if self.config.attention == "robust":
            logit = self.tensors[f"{name}.attention.temperature_logit"]
            decay = np.exp(-logit.astype(np.float64)).astype(np.float32)  # rounded as PyTorch rounds it
            temperature = MAX_TEMPERATURE * (1 / (1 + decay))
        made.put(f"{name}.temperature", temperature, np.float32)

    def _interaction(self, made: Sections, name: str) -> None:
        made.norm(f"{name}.norm")
        made.vectors(f"{name}.feature")
        made.mixing(f"{name}.mix")
        made.linear(f"{name}.update.first")
        made.linear(f"{name}.update.second")

    def _constants(self, made: Sections) -> None:
        c, table, envelope = self.config, self._table, CUTOFFS[self.config.envelope](self.config.cutoff)
        power = envelope.power if isinstance(envelope, PolynomialCutoff) else 2
        made.put("config", [
            c.scalars, c.vectors, c.max_degree, c.heads, c.layers, len(c.species), int(c.attention != "robust"),
            int(isinstance(envelope, CosineCutoff)), power, table.knots, int(made.frames), SPREADING,
            len(made.quantizers)], np.int32)
        scale = float(self.tensors["energy_scale"])
        made.put("constants", [c.cutoff, table.start, table.bend, table.spacing, scale, SPREAD], np.float64)
        made.put("species", list(c.species), np.int32)
        made.put("energy_offsets", self.tensors["energy_offsets"], np.float64)
        made.put("repulsion", pair_table(self.tensors["closest"], c.species, c.cutoff), np.float64)
        made.put("bounds", energy_bounds(self.tensors["energy_range"]), np.float64)

    @cached_property
    def _table(self) -> Table:
        """Filters of the embedding and of all layers, with one spacing for all."""
        c, made = self.config, Sections(schema(self.config), self.recipe, self.tensors)
        embedding = made.dense("embedding.filters")[0]
        layers = [[made.dense(f"attention.{n}.filters.radial.{part}") for part in ("first", "second")]
                  for n in range(c.layers)]
        basis_of, envelope = BASES[c.basis](c.cutoff, c.radial_functions), CUTOFFS[c.envelope](c.cutoff)

        def filters(r: NDArray[np.float64]) -> NDArray[np.float64]:
            basis = basis_of(r)
            parts = [basis @ embedding.T * envelope(r)[:, None]]
            for (first, first_bias), (second, second_bias) in layers:
                hidden = basis @ first.T + first_bias
                parts.append(hidden / (1 + np.exp(-hidden)) @ second.T + second_bias)
            return np.concatenate(parts, -1)

        return tabulate(filters, c.cutoff)

    def _put_tables(self, made: Sections) -> None:
        c, start = self.config, 0
        widths = [("embedding.table", c.scalars + c.gates), *((f"attention.{n}.table", c.width) for n in range(c.layers))]
        for name, width in widths:
            made.put(name, self._table.coefficients[:, start : start + width], np.float32)
            start += width

    def _wigner(self, made: Sections) -> None:
        """Directions X and a matrix P with D^l(R) = (P Y^l(R X))ᵀ: as many as components, and well conditioned."""
        for degree in range(2, self.config.max_degree + 1):
            if not made.frames:
                return
            directions, inverse = solvable_directions(degree)
            made.put(f"wigner.{degree}.directions", directions, np.float64)
            made.put(f"wigner.{degree}.inverse", inverse, np.float64)


EMITTER = Emitter
