"""What the rows of a comparison mean: how cost grows, which mode is fastest, what low-bit weights save."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gaq.bench.comparison import BenchRow, Comparison, Skip
from gaq.bench.steps import EAGER, ENGINE, FP32, TORCH
from gaq.bench.systems import is_water

W4A8 = "w4a8"
LARGE_ATOMS = 192  # from here on W4A8 is held against FP32


@dataclass(frozen=True)
class Growth:
    """Cost of one kind of rows over boxes of water, ms ∝ atoms^exponent."""

    label: str
    threads: int
    smallest: int
    largest: int
    exponent: float


@dataclass(frozen=True)
class Speed:
    """An engine recipe against the fastest FP32 row of the same system and threads, and against the engine's FP32.

    Ratios are the other's time divided by this one's: above 1 the recipe is faster. None where there is no such row.
    """

    system: str
    atoms: int
    threads: int
    recipe: str
    best_fp32: str
    ratio_to_best_fp32: float
    ratio_to_engine_fp32: float | None


@dataclass(frozen=True)
class Memory:
    """Peak memory of an engine recipe at the largest system, against eager FP32 there: measured, or on a line."""

    system: str
    recipe: str
    peak_MiB: float
    eager_MiB: float
    extrapolated: bool


@dataclass(frozen=True)
class Weights:
    """Weights in memory of an engine recipe, against FP32 in PyTorch (model file's tensors) and in the engine."""

    recipe: str
    MiB: float
    share_of_torch_fp32: float | None
    share_of_engine_fp32: float | None


@dataclass(frozen=True)
class Summary:
    """All of it."""

    growth: list[Growth]
    speed: list[Speed]
    weights: list[Weights]
    memory: list[Memory]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it in words."""
        return [*self._growth(), *self._speed(), *self._weights(), *self._memory()]

    def _growth(self) -> list[str]:
        by_range: dict[tuple[int, int, int], list[Growth]] = {}
        for g in self.growth:
            by_range.setdefault((g.smallest, g.largest, g.threads), []).append(g)
        return [f"time ∝ atoms^x from {low} to {high} atoms of water, {_threads(threads)}: "
                + ", ".join(f"{g.label} x = {g.exponent:.2f}" for g in found)
                for (low, high, threads), found in by_range.items()]

    def _speed(self) -> list[str]:
        lines = []
        for s in self.speed:
            if s.recipe == W4A8 and s.atoms >= LARGE_ATOMS and s.ratio_to_engine_fp32 is not None:
                lines.append(
                    f"{s.system}, {_threads(s.threads)}: engine {s.recipe} is {s.ratio_to_engine_fp32:.2f} times as fast "
                    f"as engine fp32, {s.ratio_to_best_fp32:.2f} times as fast as the best FP32 mode ({s.best_fp32})")
        return lines

    def _weights(self) -> list[str]:
        return [f"weights in memory, engine {w.recipe}: {w.MiB:.3f} MiB" + "".join(
            f", {share:.3f} of FP32's in {place}" for place, share in (
                ("PyTorch", w.share_of_torch_fp32), ("the engine", w.share_of_engine_fp32)) if share is not None)
            for w in self.weights if w.recipe != FP32]

    def _memory(self) -> list[str]:
        return [f"peak memory at {m.system}, engine {m.recipe}: {m.peak_MiB:.0f} MiB, {m.peak_MiB / m.eager_MiB:.3f} of "
                f"eager FP32's {m.eager_MiB:.0f} MiB{' (extrapolated)' if m.extrapolated else ''}" for m in self.memory]


def summarize(comparison: Comparison) -> Summary:
    """Return what follows from the rows; parts for which rows are missing are empty."""
    rows = comparison.rows
    return Summary(_growths(rows), _speeds(rows), _all_weights(rows), _memories(rows, comparison.skips))


def exponent(atoms: Sequence[float], times: Sequence[float]) -> float:
    """Return x of t ∝ N^x, by least squares in logarithms; at least two different N."""
    return float(np.polyfit(np.log(atoms), np.log(times), 1)[0])


def _growths(rows: Iterable[BenchRow]) -> list[Growth]:
    boxes: dict[tuple[str, int], list[BenchRow]] = {}
    for row in rows:
        if is_water(row.system):
            boxes.setdefault((row.label, row.threads), []).append(row)
    found = []
    for (label, threads), group in boxes.items():
        atoms = [row.atoms for row in group]
        if len(set(atoms)) > 1:
            found.append(Growth(label, threads, min(atoms), max(atoms),
                                exponent(atoms, [row.ms_per_step for row in group])))
    return found


def _speeds(rows: Sequence[BenchRow]) -> list[Speed]:
    found = []
    for row in rows:
        if row.backend != ENGINE or row.recipe == FP32:
            continue
        full = [r for r in rows if (r.system, r.threads, r.recipe) == (row.system, row.threads, FP32)
                and r.backend in (ENGINE, *TORCH[:2])]
        if full:
            best = min(full, key=lambda r: r.ms_per_step)
            own = next((r.ms_per_step / row.ms_per_step for r in full if r.backend == ENGINE), None)
            found.append(Speed(row.system, row.atoms, row.threads, row.recipe, best.label,
                               best.ms_per_step / row.ms_per_step, own))
    return found


def _all_weights(rows: Sequence[BenchRow]) -> list[Weights]:
    """Compare on the first system, for weights do not depend on it."""
    first = [row for row in rows if row.system == rows[0].system and row.threads == rows[0].threads]
    full = {row.backend: row.weights_MiB for row in first if row.recipe == FP32 and row.weights_MiB}
    in_torch = next((full[backend] for backend in TORCH if backend in full), None)
    in_engine = full.get(ENGINE)
    return [Weights(row.recipe, row.weights_MiB, in_torch and row.weights_MiB / in_torch,
                    in_engine and row.weights_MiB / in_engine)
            for row in first if row.backend == ENGINE and row.weights_MiB]


def _memories(rows: Sequence[BenchRow], skips: Sequence[Skip]) -> list[Memory]:
    measured = [row for row in rows if row.peak_MiB]
    if not measured:
        return []
    largest = max(measured, key=lambda row: row.atoms)
    there = [row for row in measured if (row.system, row.threads) == (largest.system, largest.threads)]
    eager = next((row.peak_MiB for row in there if row.backend == EAGER), None)
    extrapolated = eager is None
    if extrapolated and any(s.backend == EAGER and s.system == largest.system for s in skips):
        eager = _extrapolated(measured, largest.atoms)
    return [Memory(row.system, row.recipe, row.peak_MiB or 0.0, eager, extrapolated)
            for row in there if row.backend == ENGINE and eager]


def _extrapolated(rows: Iterable[BenchRow], atoms: int) -> float | None:
    """Return the memory of eager FP32 at this many atoms, on a line through the two largest boxes that were measured."""
    boxes = sorted((row.atoms, row.peak_MiB or 0.0) for row in rows if row.backend == EAGER and is_water(row.system))
    if len(boxes) < 2:
        return None
    (n1, m1), (n2, m2) = boxes[-2:]
    return m2 + (m2 - m1) / (n2 - n1) * (atoms - n2)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
