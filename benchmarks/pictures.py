"""The plots of the page, drawn from results.json alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.catalogue import CONSERVATION, EXPECTED, FULL, LABELS, NAIVE
from benchmarks.measurements import BINS
from gaq.files import atomic_path
from gaq.report.style import FONT_SIZE, INK, LineStyle, legend, new_figure, plain_log, tidy

DPI = 144
STYLES = {  # colours of the package's own reports, with one of its own for every row
    "fp32": LineStyle("#6b7685", "solid"), "fp32-control": LineStyle("#243040", (0, (2, 1.4))),
    "w4a8": LineStyle("#0072b2", "solid"), "w4a16": LineStyle("#00896a", (0, (6, 1.5, 1.5, 1.5))),
    "w4": LineStyle("#b0568a", (0, (2, 1.4))), NAIVE: LineStyle("#d55e00", (0, (4, 1.6))),
    "svq-kmeans": LineStyle("#a6761d", (0, (8, 2))), "degree-quant": LineStyle("#2f9fd8", (0, (1.2, 1.2)))}
OTHER = LineStyle("#444444", (0, (1, 1)))
MARKERS = "osD^vPpX"
RAW, ALIGNED = "#d55e00", "#0072b2"  # vermilion and blue, told apart by colour-blind readers


def draw(results: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write every picture that there are figures for, and return names and file names; older ones are removed."""
    figures = {
        "error-bytes": _error_bytes(results["accuracy"]), "lee": _lee(results["accuracy"]),
        "nve": _nve(results["conservation"]["rows"]), "coders": _coders(results["coders"]),
        "training": _training(results["training"]), "nanosecond": _nve(results["nanosecond"]),
    }
    written = {}
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        written[name] = path.name
    return written


def _style(name: str) -> LineStyle:
    return STYLES.get(name, OTHER)


def _error_bytes(groups: Sequence[dict[str, Any]]) -> Figure | None:
    """Force error against bytes, one panel for each molecule."""
    shown = [group for group in groups if len(group["rows"]) > 1 and group["group"] == group["molecule"]]
    if not shown:
        return None
    figure, panels = _panels(len(shown), 300, 290, extra=90)
    for axes, group in zip(panels, shown, strict=True):
        for row in group["rows"]:
            axes.plot(row["stored_bytes"] / 1000, row["forces_mae_meV_A"], color=_style(row["name"]).color,
                      marker=_marker(row["name"]), markersize=8, linestyle="none", markeredgecolor="white")
        axes.set_xlim(0, 1.08 * max(row["stored_bytes"] for row in group["rows"]) / 1000)
        errors = [row["forces_mae_meV_A"] for row in group["rows"]]
        axes.set_yscale("log")
        axes.set_ylim(0.8 * min(errors), 1.25 * max(errors))
        _ticks(axes)
        tidy(axes, f"{group['molecule']}: force MAE (meV/Å)", "stored weights (kB)")
    names = dict.fromkeys(row["name"] for group in shown for row in group["rows"])
    figure.legend(handles=[Line2D([], [], color=_style(name).color, marker=_marker(name), markersize=8,
                                  linestyle="none", markeredgecolor="white", label=LABELS.get(name, name))
                           for name in names],
                  loc="outside right center", frameon=False, fontsize=FONT_SIZE - 1, labelcolor=INK)
    return figure


def _lee(groups: Sequence[dict[str, Any]]) -> Figure | None:
    """Distribution of the equivariance error over frames and rotations."""
    group = next((group for group in groups if group["group"] == CONSERVATION), groups[0] if groups else None)
    if group is None:
        return None
    figure = new_figure(640, 300)
    axes = figure.subplots()
    used = np.zeros(len(BINS) - 1, dtype=bool)
    for row in group["rows"]:
        counts = np.array(row["lee_histogram"])
        style = _style(row["name"])
        axes.stairs(100 * counts / counts.sum(), BINS, color=style.color, linestyle=style.dash, linewidth=1.7,
                    label=row["label"])
        if row["name"] in (FULL, "w4a8", NAIVE):
            axes.stairs(100 * counts / counts.sum(), BINS, color=style.color, fill=True, alpha=0.12)
        used |= counts > 0
    axes.set_xscale("log")
    places = np.flatnonzero(used)
    axes.set_xlim(BINS[places[0]] / 1.5, BINS[places[-1] + 1] * 1.5)
    axes.set_ylim(bottom=0)
    plain_log(axes, "x")
    tidy(axes, f"{group['molecule']}: share of rotations (%), ten bins for each decade",
         "equivariance error of the forces, mean over atoms (meV/Å)")
    legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _nve(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """Total energy along one simulation: all models, and those that move little."""
    shown = [row for row in rows if row["series"]]
    if not shown:
        return None
    spans = {row["name"]: float(np.ptp(row["series"]["energy_meV_atom"])) for row in shown}
    calm = [row for row in shown if spans[row["name"]] <= 3 * min(spans.values())]
    two = len(calm) < len(shown)
    figure, panels = _panels(2 if two else 1, 370 if two else 520, 290, extra=90)
    chosen = [("one simulation: total energy (meV/atom)", sorted(shown, key=lambda row: -spans[row["name"]]))]
    if two:
        chosen.append(("the same, enlarged, without the others", calm))
    for axes, (title, lines) in zip(panels, chosen, strict=True):
        for row in lines:
            style = _style(row["name"])
            axes.plot(row["series"]["time_ps"], row["series"]["energy_meV_atom"], color=style.color, linewidth=1.0,
                      label=row["label"])
        tidy(axes, title, "time (ps)")
    figure.legend(handles=[Line2D([], [], color=_style(row["name"]).color, linewidth=2, label=row["label"])
                           for row in shown],
                  loc="outside right center", frameon=False, fontsize=FONT_SIZE - 1, labelcolor=INK)
    return figure


def _coders(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """Equivariance error of each coder against its bits, in both precisions."""
    if not rows:
        return None
    figure, panels = _panels(2, 300, 320, extra=210)
    families = list(dict.fromkeys(row["family"] for row in rows))
    for axes, precision in zip(panels, ("float32", "float64"), strict=True):
        for row in rows:
            colour = ALIGNED if row["aligned"] else RAW
            axes.plot(row["bits_per_vector"][0], max(row["lee_forces_meV_A"][precision]["median"], 1e-14),
                      marker=MARKERS[families.index(row["family"])], color=colour, markersize=8, linestyle="none",
                      markerfacecolor=colour if row["aligned"] else "white", markeredgewidth=1.6)
        axes.set_yscale("log")
        tidy(axes, f"{precision}: median LEE of forces (meV/Å)", "bits for a vector of degree 1")
    handles = [Line2D([], [], marker=MARKERS[k], color=INK, linestyle="none", markersize=8, label=family)
               for k, family in enumerate(families)]
    handles += [Line2D([], [], marker="s", color=RAW, markerfacecolor="white", markeredgewidth=1.6, linestyle="none",
                       markersize=8, label="raw axes (hollow)"),
                Line2D([], [], marker="s", color=ALIGNED, linestyle="none", markersize=8, label="local frames (full)")]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=FONT_SIZE - 1, labelcolor=INK)
    return figure


def _training(rows: Sequence[dict[str, Any]]) -> Figure | None:
    """Validation error of the forces along each training, one panel for each group of models."""
    drawn = [row for row in rows if row["curves"] and row["group"] != "ablation"]
    groups = list(dict.fromkeys(row["group"] for row in drawn))
    if not groups:
        return None
    figure, panels = _panels(len(groups), 300, 290, extra=100)
    for axes, group in zip(panels, groups, strict=True):
        for row in (row for row in drawn if row["group"] == group):
            known = [(step, error) for step, error in zip(row["curves"]["step"], row["curves"]["forces_mae_meV_A"],
                                                          strict=True) if error is not None]
            style = _style(row["name"])
            axes.plot(*zip(*known, strict=True), color=style.color, linestyle=style.dash, linewidth=1.6)
        axes.set_yscale("log")
        _ticks(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        tidy(axes, f"{group}: validation force MAE (meV/Å)", "step of this training")
    names = dict.fromkeys(row["name"] for row in drawn)
    handles = [Line2D([], [], color=_style(name).color, linewidth=1.6, label=LABELS.get(name, name)) for name in names]
    for handle, name in zip(handles, names, strict=True):
        handle.set_linestyle(_style(name).dash)  # type: ignore[arg-type]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=FONT_SIZE - 1, labelcolor=INK)
    return figure


def _panels(count: int, width: float, height: float, extra: float) -> tuple[Figure, list[Axes]]:
    """Return panels side by side, at most three in a row, with room for a legend beside them."""
    columns = min(count, 3)
    lines = -(-count // columns)
    figure = new_figure(width * columns + extra, height * lines)
    panels = np.atleast_1d(figure.subplots(lines, columns)).ravel().tolist()
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, panels[:count]


def _ticks(axes: Axes) -> None:
    """Label round numbers on a logarithmic axis: more of them where errors span less than a decade."""
    low, high = axes.get_ylim()
    steps = (1, 2, 5) if high > 20 * low else (1, 1.2, 1.5, 2, 3, 4, 5, 7)
    ticks = [m * 10.0**k for k in range(-4, 6) for m in steps if low <= m * 10.0**k <= high]
    plain_log(axes, "y")
    axes.set_yticks(ticks)
    axes.set_yticks([], minor=True)


def _marker(name: str) -> str:
    return MARKERS[EXPECTED.index(name) % len(MARKERS)] if name in EXPECTED else "h"
