"""`python -m benchmarks.tips MODEL...`: which codes tip by the noise of float32, and what that does to forces.

The definition runs in float32 and in float64, and every code of one is held against that of the other. Then float64 is
given the codes of float32, so that a code which it would have chosen otherwise was tipped by noise, and not by another code
before it. At last float64 runs with one such code alone in place of its own: the change of the forces is what it costs.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gaq
from gaq.backends.torch import TorchPotential
from gaq.data.structures import waters
from gaq.errors import GaqError
from gaq.forcefield import ForceField
from gaq.graph import Graph
from gaq.nn.quantized import QuantizedLinear, QuantizedVectors
from gaq.quant import affine, magnitude

MEV = 1000.0
SINGLES = 40  # codes of each kind and system whose cost is measured
FINEST = 2**15  # largest code of 16 bits: what has more of them tips all the time, by steps that nothing hears


@dataclass(frozen=True, eq=False)
class Rounded:
    """One rounding: values in steps of the codes, float64, and the codes that they get."""

    leaf: str
    low: int
    high: int
    values: Tensor
    codes: Tensor

    @property
    def kind(self) -> str:
        """The leaf without its layer, and the bits; a vector has a magnitude and a direction."""
        bits = (self.high - self.low).bit_length()
        part = "" if not self.leaf.endswith("feature") else " magnitude" if self.low == 0 else " direction"
        return f"{re.sub(r'[.][0-9]+', '', self.leaf)}{part}, {bits} bits"

    @property
    def beyond(self) -> Tensor:
        """Which values have no gradient, for they are beyond the range."""
        return (self.values > self.high + 0.5) | (self.values < self.low - 0.5)


class Tape:
    """Stands in for `round_through`, which every code passes: notes codes, and replaces them by given ones.

    Args:
        models: their leaves say where codes belong.
    """

    def __init__(self, *models: nn.Module) -> None:
        self.leaf, self.noted, self.given = "", list[Rounded](), dict[int, Tensor]()
        for model in models:
            for name, leaf in model.named_modules():
                if isinstance(leaf, QuantizedLinear | QuantizedVectors):
                    leaf.register_forward_pre_hook(self._entering(name))

    def run(self, field: TorchPotential, graph: Graph, given: dict[int, Tensor]
            ) -> tuple[NDArray[np.float64], list[Rounded]]:
        """Return forces, meV/Å, and every rounding in order, with the codes that it would have chosen itself."""
        self.noted, self.given = [], given
        with patch.object(affine, "round_through", self._round), patch.object(magnitude, "round_through", self._round):
            forces = field.predict(graph).forces
        return MEV * forces, self.noted

    def _entering(self, name: str) -> Callable[[nn.Module, tuple], None]:
        def enter(leaf: nn.Module, given: tuple) -> None:
            self.leaf = name

        return enter

    def _round(self, t: Tensor, low: int, high: int) -> Tensor:
        within = t.clamp(low - 0.5, high + 0.5)
        code = within.detach().round().clamp(low, high)
        place = len(self.noted)
        self.noted.append(Rounded(self.leaf, low, high, t.detach().double(), code.double()))
        return self.given.get(place, code).to(code) + (within - within.detach())


@dataclass
class Tipped:
    """Codes of one kind: how many, |Δt| by noise alone, tipped by it, tipped in all, edges of the range, costs in meV/Å."""

    codes: int = 0
    noise: float = 0.0
    alone: int = 0
    all: int = 0
    edges: int = 0
    costs: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table for each system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="named by molecule, as models/ethanol-w4a8.safetensors")
    parser.add_argument("--frames", type=int, default=20, help="of rMD17; then 64 waters, if H and O are known")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        for path in given.models:
            field = gaq.load(path)
            known = gaq.load_frames(f"rmd17:{path.stem.split('-')[0]}:1:test").spread(given.frames)
            study(field, [field.graph(frame) for frame in known], f"{path.stem}, {len(known)} test frames")
            if set(field.species) >= {1, 8}:
                study(field, [field.graph(waters(64))], f"{path.stem}, 64 waters")
    except GaqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def study(field: ForceField, graphs: list[Graph], title: str) -> None:
    """Print what tips on structures, added up."""
    usual, exact = (TorchPotential(field.stored, dtype=dtype) for dtype in ("float32", "float64"))
    tape = Tape(usual.network, exact.network)
    found: dict[str, Tipped] = {}
    apart, alike = 0.0, 0.0
    for graph in graphs:
        plain, single = tape.run(usual, graph, {})
        precise, double = tape.run(exact, graph, {})
        told, own = tape.run(exact, graph, {n: r.codes for n, r in enumerate(single)})
        apart, alike = max(apart, float(np.abs(plain - precise).max())), max(alike, float(np.abs(plain - told).max()))
        for n, (a, b, c) in enumerate(zip(single, double, own, strict=True)):
            tips = found.setdefault(a.kind, Tipped())
            tipped = (a.codes != c.codes).flatten().nonzero().flatten().tolist()
            tips.codes += a.codes.numel()
            tips.noise += float((a.values - c.values).abs().sum())
            tips.alone += len(tipped)
            tips.all += int((a.codes != b.codes).sum())
            tips.edges += int((a.beyond != b.beyond).sum())
            for place in tipped[: SINGLES - len(tips.costs)] if a.high < FINEST else ():
                codes = b.codes.clone()
                codes.view(-1)[place] = a.codes.view(-1)[place]
                tips.costs.append(float(np.abs(tape.run(exact, graph, {n: codes})[0] - precise).max()))
    table = Table("input", "codes", "mean |Δt|", "tipped by noise", "expected", "tipped in all", "edges of range",
                  "ΔF of one: median", "largest", title=(
        f"{title}: float32 and float64 differ by up to {apart:.3g} meV/Å, {alike:.2g} with the same codes"))
    for kind, tips in found.items():
        costs = [f"{value:.2g}" for value in (np.median(tips.costs), max(tips.costs))] if tips.costs else ["", ""]
        table.add_row(kind, f"{tips.codes}", f"{tips.noise / tips.codes:.1e}", f"{tips.alone}", f"{tips.noise:.1f}",
                      f"{tips.all}", f"{tips.edges}", *costs)
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
