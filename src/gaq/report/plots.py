"""Plots of results. Each function returns a matplotlib figure: save it, or turn it into SVG with `style.to_svg`."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from gaq.report.numbers import kilobytes, number
from gaq.report.results import Curves, EnergySeries, Model, QuantizerError
from gaq.report.style import (
    FONT_SIZE,
    INK,
    SMALLEST,
    LineStyle,
    drawable,
    legend,
    line_styles,
    new_figure,
    plain_log,
    short,
    tidy,
)

MILLI = 1000.0  # meV per eV
MAX_BARS = 24
_FEW_DOTS = 600  # fewer dots are drawn larger
_MARKERS = "os^Dv<>"  # seven, and five styles of other lines: the first 35 lines differ in one of the two
_LOG_RATIO = 20.0  # runs this unequal get a symmetric logarithmic axis


def parity(reference: ArrayLike, predicted: ArrayLike, unit: str, color: str,
           error_limit: float | None = None) -> Figure:
    """Predicted against reference above, and their difference below, where small errors can be seen.

    Args:
        reference: reference values in eV or eV/Å.
        predicted: predicted values in the same unit.
        unit: "eV" or "eV/Å".
        color: of the dots.
        error_limit: half range of the difference in meV or meV/Å; give several plots one limit to compare them.
    """
    x, y = _finite(reference, predicted)
    error = MILLI * (y - x)
    limit = error_limit or (1.05 * float(np.abs(error).max()) if len(error) else 1.0) or 1.0
    few = len(x) < _FEW_DOTS
    figure = new_figure(340, 400, margins=(46, 6, 40, 22))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, 1), gridspec_kw={"hspace": 0.22})
    span = (float(min(x.min(), y.min())), float(max(x.max(), y.max()))) if len(x) else (0.0, 1.0)
    upper.plot(span, span, color=INK, linewidth=0.8, alpha=0.6)
    lower.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    for axes, values in ((upper, y), (lower, error)):
        axes.plot(x, values, "o", color=color, markersize=3.4 if few else 2, markeredgewidth=0,
                  alpha=0.7 if few else 0.35, rasterized=True)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    lower.set_ylim(-limit, limit)
    tidy(upper, f"predicted ({unit})")
    tidy(lower, f"predicted − reference (m{unit})", f"reference ({unit})")
    return figure


def error_limit(pairs: Sequence[tuple[ArrayLike, ArrayLike]]) -> float | None:
    """Return the half range in meV that shows every error of several parity plots, or None if there is none."""
    largest = [float(np.abs(y - x).max()) for x, y in (_finite(a, b) for a, b in pairs) if len(x)]
    return 1.05 * MILLI * max(largest) if largest and max(largest) > 0 else None


def force_errors(models: Sequence[Model], styles: Mapping[str, LineStyle]) -> Figure:
    """Distribution of the absolute errors of single force components, on a logarithmic axis.

    Args:
        models: those with parity data are drawn.
        styles: from `gaq.report.style.line_styles`.
    """
    errors = {}
    for model in models:
        if model.parity:
            x, y = _finite(model.parity.forces_ref, model.parity.forces_pred)
            errors[model.name] = MILLI * np.abs(y - x)
    positive = np.concatenate([e[e > 0] for e in errors.values()] or [np.empty(0)])
    low, high = (np.quantile(positive, 0.002), positive.max()) if len(positive) else (0.1, 10.0)
    bins = np.geomspace(low * 0.999, max(high * 1.001, low * 1.01), 41)
    figure = new_figure(460, 280, margins=(38, 10, 42, 24))
    axes = figure.subplots()
    for name, values in errors.items():
        if not len(values):
            continue
        share = 100 * np.histogram(np.maximum(values, low), bins)[0] / len(values)
        style = styles[name]
        axes.stairs(share, bins, color=style.color, linewidth=1.8, linestyle=style.dash, label=short(name))
        axes.stairs(share, bins, color=style.color, fill=True, alpha=0.08)
    axes.set_xscale("log")
    plain_log(axes, "x")
    axes.set_ylim(bottom=0)
    tidy(axes, "share of force components (%)", "absolute error (meV/Å)")
    if axes.get_legend_handles_labels()[0]:
        legend(axes, loc="upper left")
    return figure


def quantizer_bars(contributions: Sequence[QuantizerError], color: str) -> Figure:
    """Equivariance error of the forces by quantizer, in the order of the model; at most `MAX_BARS`, the largest.

    Args:
        contributions: names and errors in meV/Å.
        color: of the bars.
    """
    known = [c for c in contributions if math.isfinite(c.lee_forces_meV_A)]
    largest = {id(c) for c in sorted(known, key=lambda c: c.lee_forces_meV_A, reverse=True)[:MAX_BARS]}
    rows = [(short(c.quantizer, 34), c.lee_forces_meV_A) for c in known if id(c) in largest]
    return _bars(rows, [color] * len(rows), [number(v) for _, v in rows], "LEE of the forces (meV/Å)")


def part_bars(parts: Sequence[tuple[str, str, float]]) -> Figure:
    """Change of the forces by part of a model, in the order of the model; at most `MAX_BARS`, the largest.

    Args:
        parts: leaf, kind of the part (bars of one kind have one colour), and change in meV/Å.
    """
    styles = line_styles((kind, kind) for _, kind, _ in parts)
    largest = sorted(sorted(range(len(parts)), key=lambda k: -parts[k][2])[:MAX_BARS])
    rows = [(short(f"{parts[k][0]} {parts[k][1]}", 40), parts[k][2]) for k in largest]
    return _bars(rows, [styles[parts[k][1]].color for k in largest], [number(v) for _, v in rows],
                 "RMS change of the forces (meV/Å)")


def stored_bytes(models: Sequence[Model], styles: Mapping[str, LineStyle]) -> Figure:
    """Bytes of the weights as stored, and what fraction of FP32 that is."""
    known = [m for m in models if m.stored_bytes is not None]
    rows = [(short(m.name), (m.stored_bytes or 0) / 1000) for m in known]
    labels = [f"{kilobytes(m.stored_bytes)} kB" + (
        f"  ({number(m.stored_bytes / m.fp32_bytes, 2)} of FP32)"
        if m.stored_bytes and m.fp32_bytes and m.stored_bytes != m.fp32_bytes else "") for m in known]
    return _bars(rows, [styles[m.name].color for m in known], labels, "stored weights (kB)", room=1.45)


def training(curves: Curves, color: str, loss_limits: tuple[float, float] | None = None,
             error_limits: tuple[float, float] | None = None) -> Figure:
    """Training loss above and validation errors below; the phases of the training (`phases`) are numbered and shaded.

    Args:
        curves: what was logged.
        color: of the lines.
        loss_limits, error_limits: ranges of the two axes, so that several plots can be compared.
    """
    step = np.asarray(curves.step, dtype=float)
    figure = new_figure(340, 380, margins=(46, 8, 40, 24))
    panels = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.26})
    _line(panels[0], step, curves.train_loss, color, "solid", "")
    _line(panels[1], step, curves.forces_mae_meV_A, color, "solid", "forces (meV/Å)")
    _line(panels[1], step, curves.energy_mae_meV, color, (0, (3, 1.5)), "energy (meV)")
    titles = ("training loss", "validation mean absolute error")
    for panel, title, limits in zip(panels, titles, (loss_limits, error_limits), strict=True):
        if panel.lines:
            panel.set_yscale("log")
            plain_log(panel, "y")
            if limits:
                panel.set_ylim(*limits)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        tidy(panel, title)
    panels[1].set_xlabel("step", fontsize=FONT_SIZE, color=INK)
    if panels[1].lines:
        legend(panels[1], loc="upper right")
    found = phases(curves)
    for i, (_, start, end) in enumerate(found if len(found) > 1 else []):
        for panel in panels:
            panel.axvspan(start, end, color=INK, alpha=0.07 if i % 2 else 0.0, linewidth=0)
        panels[0].annotate(str(i + 1), ((start + end) / 2, 0.97), xycoords=panels[0].get_xaxis_transform(),
                           ha="center", va="top", fontsize=FONT_SIZE - 1, fontweight="bold", color=INK)
    return figure


def phases(curves: Curves) -> list[tuple[str, float, float]]:
    """Return (name, first step, last step) of each run of equal phases; a phase ends where the next begins."""
    starts = [i for i, name in enumerate(curves.phase) if i == 0 or name != curves.phase[i - 1]]
    ends = [*starts[1:], len(curves.phase) - 1] if starts else []
    return [(curves.phase[i], float(curves.step[i]), float(curves.step[j])) for i, j in zip(starts, ends, strict=True)]


def log_limits(series: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return the limits of a logarithmic axis that shows all of several series, or None if nothing is positive."""
    values = drawable([v for one in series for v in one])
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()) / 1.3, float(values.max()) * 1.6) if len(values) else None


def conservation(runs: Sequence[EnergySeries], styles: Mapping[str, LineStyle]) -> Figure:
    """Total energy along runs at constant energy (faint) and its running mean; a sound force field gives a flat line.

    The axis is linear up to the quieter runs and logarithmic beyond, where one run leaves the others far behind.

    Args:
        runs: time in ps, total energy relative to the first in meV/atom, drift in meV/atom/ps.
        styles: from `gaq.report.style.line_styles`.
    """
    figure = new_figure(460, 290 + 17 * len(runs), margins=(44, 12, 44 + 17 * len(runs), 24))
    axes = figure.subplots()
    spans = {}
    for run in runs:
        time, energy = _finite(run.time_ps, run.total_energy_meV_atom)
        style = styles[run.name]
        if not len(time):
            continue
        spans[run.name] = span = max(float(np.abs(energy).max()), 1e-9)
        order = 3 - 1 / (1 + span)  # quieter runs lie on top of wilder ones
        drift = f"{number(run.drift_meV_atom_ps)} meV/atom/ps" if math.isfinite(run.drift_meV_atom_ps) else "n/a"
        axes.plot(*_thinned(time, energy), color=style.color, linewidth=0.8, alpha=0.35, zorder=order)
        axes.plot(*_running_mean(time, energy), color=style.color, linestyle=style.dash, linewidth=1.8,
                  zorder=order + 2, label=f"{short(run.name, 24)}: drift {drift}")
    if spans and max(spans.values()) > _LOG_RATIO * min(spans.values()):
        quiet = max(span for span in spans.values() if span <= _LOG_RATIO * min(spans.values()))
        _linear_then_log(axes, quiet, max(spans.values()))
    axes.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
    axes.margins(x=0.01)
    tidy(axes, "total energy − start (meV/atom)", "time (ps)")
    if spans:
        legend(axes, loc="upper left", bbox_to_anchor=(-0.01, -38 / 222), borderaxespad=0, handlelength=2.6,
               labelspacing=0.35)
    return figure


def _linear_then_log(axes: Axes, quiet: float, loud: float) -> None:
    """Make y linear up to just above `quiet` (1, 2 or 5 times a power of ten) and logarithmic from there to `loud`."""
    power = 10.0 ** math.floor(math.log10(quiet))
    threshold = next(step * power for step in (1, 2, 5, 10) if step * power >= quiet)
    decades = range(math.ceil(math.log10(threshold * 1.5)), math.ceil(math.log10(loud)) + 1)
    upper = [threshold / 2, threshold, *(10.0**k for k in decades)]
    low, high = axes.get_ylim()
    axes.set_yscale("symlog", linthresh=threshold, linscale=1.6)
    axes.set_yticks([v for v in sorted([0.0, *upper, *(-v for v in upper)]) if low <= v <= high])
    axes.set_ylim(low, high)
    axes.yaxis.set_minor_locator(NullLocator())
    plain_log(axes, "y")


def times_by_size(lines: Mapping[str, Sequence[tuple[int, float]]], emphasized: str, title: str) -> Figure:
    """Time of a step against the number of atoms, both logarithmic, one line for each way to compute.

    Args:
        lines: pairs (atoms, ms) by name, in any order.
        emphasized: name of the line that others are compared with; drawn in ink and thicker.
        title: what the times are.
    """
    styles = line_styles((name, "") for name in lines if name != emphasized) | {emphasized: LineStyle(INK, "solid")}
    figure = new_figure(600, 340)
    axes = figure.subplots()
    for (name, points), marker in zip(lines.items(), itertools.cycle(_MARKERS), strict=False):
        atoms, times = zip(*sorted(points), strict=True)
        thick = name == emphasized
        axes.plot(atoms, np.maximum(drawable(times), SMALLEST), color=styles[name].color,
                  linestyle=styles[name].dash, marker=marker, markeredgewidth=0,
                  linewidth=2.6 if thick else 1.5, markersize=6 if thick else 4.5, label=short(name),
                  zorder=3 if thick else 2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({n for points in lines.values() for n, _ in points})
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    plain_log(axes, "y")
    tidy(axes, title, "atoms")
    handles, names = axes.get_legend_handles_labels()
    at_smallest = [min(points)[1] for points in lines.values()]
    order = sorted(range(len(names)), key=lambda k: -at_smallest[k])  # slowest on top, as the lines are
    legend(axes, handles=[handles[k] for k in order], labels=[names[k] for k in order], loc="center left",
           bbox_to_anchor=(1.01, 0.5))
    return figure


def _bars(rows: Sequence[tuple[str, float]], colors: Sequence[str], labels: Sequence[str], xlabel: str,
          room: float = 1.2) -> Figure:
    figure = new_figure(460, 62 + 23 * max(len(rows), 1))
    axes = figure.subplots()
    values = drawable([value for _, value in rows]).tolist()
    axes.barh(range(len(rows)), values, color=list(colors), height=0.64)
    for i, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.annotate(label, (value, i), xytext=(5, 0), textcoords="offset points", va="center", color=INK,
                      fontsize=FONT_SIZE - 1)
    axes.set_xlim(0, room * max([*values, 0]) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    tidy(axes, "", xlabel, grid="x")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _line(axes: Axes, x: NDArray, y: Sequence[float], color: str, dash: Any, label: str) -> None:
    values = drawable(y)
    if len(values):
        known = np.isfinite(values) & (values > 0)
        if known.any():
            axes.plot(*_thinned(x[known], values[known]), color=color, linestyle=dash, linewidth=1.5, label=label)


def _finite(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = drawable(first), drawable(second)
    known = np.isfinite(a) & np.isfinite(b)
    return a[known], b[known]


def _thinned(x: NDArray, y: NDArray, points: int = 1200) -> tuple[NDArray, NDArray]:
    """Keep the lowest and the highest value of each short interval: fewer points, the same picture."""
    if len(x) <= points:
        return x, y
    edges = np.linspace(0, len(x), points // 2 + 1).astype(int)
    keep = sorted({i for a, b in itertools.pairwise(edges)
                   for i in (a + int(np.argmin(y[a:b])), a + int(np.argmax(y[a:b])))})
    return x[keep], y[keep]


def _running_mean(x: NDArray, y: NDArray, windows: int = 40) -> tuple[NDArray, NDArray]:
    width = max(1, len(x) // windows)
    kernel = np.ones(width) / width
    x, y = np.convolve(x, kernel, "valid"), np.convolve(y, kernel, "valid")
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), 300)).astype(int))
    return x[keep], y[keep]
