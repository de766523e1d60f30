"""The comparison of recipes as columns, written once and shown in the terminal and on the page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from gaq.errors import DataError
from gaq.report.numbers import MISSING, aligned, interval, kilobytes, number, percent, ratio
from gaq.report.records import parse_results
from gaq.report.results import FORMAT, ErrorStatistics, Model, Results

FULL_PRECISION = "fp32"
NAIVE = "int8-naive"
LEE = "Equivariance (LEE of forces)"


@dataclass(frozen=True)
class Column:
    """One column of the comparison: what it is, its unit, and a formatted cell per model.

    Args:
        group: the heading that neighbouring columns share.
        title: the heading of the column.
        unit: the unit of every cell, or "".
        cells: one text per model.
        hint: one plain sentence that explains the column.
        brief: whether a terminal shows it too.
    """

    group: str
    title: str
    unit: str
    cells: tuple[str, ...]
    hint: str
    brief: bool = True

    @property
    def name(self) -> str:
        """The column on its own, where its group is not in sight."""
        return f"{'LEE' if self.group == LEE else self.group} {self.title}"


@dataclass(frozen=True)
class Study:
    """Models measured on the same data, gathered from one or several results files."""

    results: tuple[Results, ...]
    models: tuple[Model, ...]

    @property
    def first(self) -> Results:
        """The results whose source, molecule and hardware stand for the study."""
        return self.results[0]


def gather(results: Sequence[dict[str, Any]]) -> list[Study]:
    """Check results and group them by the data they were measured on; numbers are compared only within a group.

    Raises:
        DataError: a results dict does not follow the schema.
    """
    parsed = [parse_results(data, f"results[{i}]" if len(results) > 1 else "results") for i, data in enumerate(results)]
    by_data: dict[tuple[str, ...], list[Results]] = {}
    for result in parsed:
        by_data.setdefault(_frame_set(result), []).append(result)
    return [Study(tuple(group), _unique([model for result in group for model in result.models]))
            for group in by_data.values()]


def check_same_frames(results: Sequence[dict[str, Any]], names: Sequence[str], way_out: str) -> None:
    """Refuse models that were evaluated on different frames.

    Args:
        results: contents of results files; those that are not of `gaq evaluate` may be of any frames.
        names: what errors call them, one for each.
        way_out: what to do about it, in the words of the caller.

    Raises:
        DataError: fingerprints, or where these are not known sources and numbers of frames, differ.
    """
    first: tuple[str, Results] | None = None
    for data, name in zip(results, names, strict=True):
        if data["format"] != FORMAT:
            continue
        result = parse_results(data, name)
        if first is None:
            first = name, result
        elif _frame_set(result) != _frame_set(first[1]):
            raise DataError(f"{first[0]} and {name} were measured on different frames, which no one table may compare: "
                            f"{_described(first[1])} against {_described(result)}; evaluate the models on the same "
                            f"frames, or {way_out}")


def _frame_set(result: Results) -> tuple[str, ...]:
    return (result.source_fingerprint,) if result.source_fingerprint else (result.source, str(result.frames))


def _described(result: Results) -> str:
    count = "an unknown number of" if result.frames is None else str(result.frames)
    mark = result.source_fingerprint[:8] or "no fingerprint"
    return f"{count} frames of {result.source[:80] or 'unknown source'} ({mark})"


def _unique(models: list[Model]) -> tuple[Model, ...]:
    """Number models of one name, so that every row, colour and legend entry can be told apart."""
    seen: dict[str, int] = {}
    named = []
    for model in models:
        seen[model.name] = seen.get(model.name, 0) + 1
        again = seen[model.name] > 1
        named.append(model.model_copy(update={"name": f"{model.name} ({seen[model.name]})"}) if again else model)
    return tuple(named)


def summary_columns(models: Sequence[Model]) -> list[Column]:
    """Return the comparison of `models` as columns; a column that nobody has a number for is left out."""
    naive = next((m for m in models if m.recipe == NAIVE), None)
    full = next((m for m in models if m.recipe == FULL_PRECISION), None)

    def column(group: str, title: str, unit: str, cell: Callable[[Model], str], hint: str,
               brief: bool = True) -> Column:
        return Column(group, title, unit, tuple(cell(m) for m in models), hint, brief)

    columns = [
        column("Energy", "MAE", "meV", lambda m: number(m.energy_mae_meV), "mean absolute error of the energy"),
        column("Energy", "MAE", "meV/atom", lambda m: number(m.energy_mae_meV_atom),
               "mean absolute error of the energy per atom"),
        column("Energy", "RMSE", "meV", lambda m: number(m.energy_rmse_meV), "root mean square energy error", False),
        column("Forces", "MAE", "meV/Å", lambda m: number(m.forces_mae_meV_A), "mean absolute error of the forces"),
        column("Forces", "RMSE", "meV/Å", lambda m: number(m.forces_rmse_meV_A), "root mean square force error", False),
        column("Forces", "÷ FP32", "",
               lambda m: number(ratio(m.forces_mae_meV_A, full.forces_mae_meV_A if full else None)),
               "MAE relative to the full-precision row", False),
        column("Stress", "MAE", "meV/Å³", lambda m: number(m.stress_mae_meV_A3), "mean absolute error of the stress"),
        column(LEE, "mean", "meV/Å", lambda m: number(_lee(m).mean),
               "mean change of the forces when the molecule is turned; 0 is ideal"),
        column(LEE, "95 % CI", "meV/Å", lambda m: interval(*_lee(m).ci95),
               "95 % confidence interval of the mean"),
        column(LEE, "p99", "meV/Å", lambda m: number(_lee(m).p99),
               "one rotation in a hundred is worse", False),
        column(LEE, "max", "meV/Å", lambda m: number(_lee(m).max),
               "worst rotation seen", False),
        column(LEE, "÷ naive", "",
               lambda m: number(ratio(_lee(m).mean, _lee(naive).mean if naive else None)),
               "mean relative to the int8-naive row"),
        column("Size", "stored", "kB", lambda m: kilobytes(m.stored_bytes), "bytes of the weights as stored"),
        column("Size", "÷ FP32", "", lambda m: number(ratio(m.stored_bytes, m.fp32_bytes)),
               "fraction of the same model in FP32"),
        column("Range", "clipped", "%", lambda m: percent(worst_saturation(m)),
               "largest fraction of values that one quantizer clips", False),
    ]
    return [c for c in columns if any(cell != MISSING for cell in c.cells)]


def worst_saturation(model: Model) -> float | None:
    """Return the largest clipped fraction among the quantizers of a model, or None."""
    known = [s.clipped for s in model.saturation if math.isfinite(s.clipped)]
    return max(known, default=None)


def cautions(models: Sequence[Model]) -> list[str]:
    """Return what a reader must know before ranking these rows: overlapping intervals, different frames."""
    lines = []
    quantized = [m for m in models if m.recipe != FULL_PRECISION]
    for i, one in enumerate(quantized):
        for other in quantized[i + 1:]:
            low, high = zip(_lee(one).ci95, _lee(other).ci95, strict=True)
            if max(low) <= min(high):
                lines.append(f"The LEE intervals of {one.name} and {other.name} overlap: this measurement does not "
                             "safely tell them apart.")
    frames = sorted({m.frames for m in models if m.frames is not None})
    if len(frames) > 1:
        lines.append(f"The rows were measured on different numbers of frames ({', '.join(map(str, frames))}): "
                     "compare them with care.")
    return lines


def comparison_table(results: Sequence[dict[str, Any]]) -> Table:
    """Return the comparison of all models in `results` as a table for the terminal.

    Args:
        results: one or several contents of results files; rows on different data are set apart.

    Raises:
        DataError: a results dict does not follow the schema.
    """
    studies = gather(results)
    columns = [summary_columns(study.models) for study in studies]
    headings = list(dict.fromkeys((c.group, c.title, c.unit) for study in columns for c in study if c.brief))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("Model", overflow="fold", vertical="bottom")
    for group, title, unit in headings:
        table.add_column(_heading(group, title, unit), justify="right", no_wrap=True, vertical="bottom")
    for study, known in zip(studies, columns, strict=True):
        if len(studies) > 1:
            table.add_section()
            table.add_row(Text(study.first.source or study.first.title, style="italic"))
        cells = {(c.group, c.title, c.unit): aligned(c.cells) for c in known}
        for i, model in enumerate(study.models):
            table.add_row(Text(model.name), *(cells[h][i] if h in cells else MISSING for h in headings))
    return table


def _heading(group: str, title: str, unit: str) -> str:
    word = {"Energy": "E", "Forces": "F", LEE: "LEE"}.get(group, group)
    return f"{word}\n{title}\n{unit}"


def _lee(model: Model) -> ErrorStatistics:
    return model.lee_forces_meV_A or ErrorStatistics()
