"""Maps of the equivariance error over the sphere of rotation axes, in the equal-area Mollweide projection."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gaq.report.results import AxisMap
from gaq.report.style import FONT_SIZE, GRID, INK, drawable, new_figure, plain_log

MAP_DECADES = 3.0  # a shared colour scale reaches at most this far below its top
_MAP_ROWS = 110  # of pixels in a map


def map_scale(maps: Sequence[AxisMap]) -> tuple[float, float]:
    """Return the limits (meV/Å) of one logarithmic colour scale for several maps."""
    values = drawable([v for m in maps for v in m.lee_forces_meV_A])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0.1, 1.0
    low, high = float(values.min()), float(values.max())
    return max(low, high / 10**MAP_DECADES, 1e-12), max(high, low * 1.01, 1e-11)


def sphere_map(axis_map: AxisMap, scale: tuple[float, float]) -> Figure:
    """Equivariance error of the forces over the sphere of rotation axes, in the equal-area Mollweide projection.

    Between the measured axes (dots) the logarithm is smoothed with a Gaussian of the width of their spacing.

    Args:
        axis_map: unit vectors and errors in meV/Å.
        scale: limits of the logarithmic colours in meV/Å, from `map_scale`.
    """
    vectors, values = _measured(axis_map)
    norm = LogNorm(*scale)
    return _mollweide(vectors, np.maximum(values, scale[0] * 1e-6), norm, "LEE of the forces (meV/Å)")


def anisotropy_map(axis_map: AxisMap, spread: float) -> Figure:
    """The same map relative to its own mean: the pattern that an even colour on a wide scale hides.

    Args:
        axis_map: unit vectors and errors in meV/Å.
        spread: the colours reach from 1/spread to spread, from `map_spread`.
    """
    vectors, values = _measured(axis_map)
    values = values / values.mean() if len(values) and values.mean() > 0 else np.ones(len(values))
    return _mollweide(vectors, np.maximum(values, 1e-6), LogNorm(1 / spread, spread), "LEE ÷ mean over the axes")


def map_spread(maps: Sequence[AxisMap]) -> float:
    """Return the one factor that holds nearly all ratios of error to mean in several maps, at least 1.25."""
    ratios = [np.maximum(v, 1e-9) / v.mean() for v in (_measured(m)[1] for m in maps) if len(v) and v.mean() > 0]
    if not ratios:
        return 1.25
    return float(np.clip(np.exp(np.quantile(np.abs(np.log(np.concatenate(ratios))), 0.98)), 1.25, 10.0))


def _measured(axis_map: AxisMap) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    vectors = drawable(axis_map.axes).reshape(-1, 3)
    values = drawable(axis_map.lee_forces_meV_A)
    known = np.isfinite(values) & np.isfinite(vectors).all(axis=1)
    return vectors[known], values[known]


def _mollweide(vectors: NDArray, values: NDArray, norm: LogNorm, label: str) -> Figure:
    """Draw positive values, known along some unit vectors, on the whole sphere; x looks at the reader, z is up.

    Source:
        The inverse projection: J. P. Snyder, Map Projections: A Working Manual, 1987, page 251.
    """
    figure = new_figure(340, 226, margins=(0, 0, 0, 0))
    axes = figure.add_axes((0.02, 0.25, 0.96, 0.73))
    half_width, half_height = 2 * math.sqrt(2), math.sqrt(2)
    edge = Ellipse((0, 0), 2 * half_width, 2 * half_height, facecolor="none", edgecolor=GRID, linewidth=1)
    axes.add_patch(edge)
    if len(values):
        height = np.linspace(half_height, -half_height, _MAP_ROWS)[:, None]
        across = np.linspace(-1, 1, 2 * _MAP_ROWS)[None]
        theta = np.arcsin(height / half_height)
        lat = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1))
        lon = np.clip(np.pi * across / np.maximum(np.cos(theta), 1e-9), -np.pi, np.pi)
        targets = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon], axis=-1)
        image = axes.imshow(np.exp(_on_sphere(vectors, np.log(values), targets)), norm=norm, cmap="cividis",
                            extent=(-half_width, half_width, -half_height, half_height), aspect="equal")
        image.set_clip_path(edge)
        axes.plot(*_projected(vectors), "o", color="white", markersize=1.6, markeredgewidth=0, alpha=0.5)
    marks = {"+x": (1, 0, 0), "+y": (0, 1, 0), "−y": (0, -1, 0), "+z": (0, 0, 1), "−z": (0, 0, -1)}
    for name, axis in marks.items():
        x, y = _projected(np.array([axis], dtype=float))
        axes.text(x[0], 0.9 * y[0], name, color="white", fontsize=FONT_SIZE - 1, ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.2", "color": "#1b2430", "alpha": 0.6})
    axes.set_xlim(-1.01 * half_width, 1.01 * half_width)
    axes.set_ylim(-1.01 * half_height, 1.01 * half_height)
    axes.axis("off")
    _colour_bar(figure, norm, label)
    return figure


def _colour_bar(figure: Figure, norm: LogNorm, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, "cividis"), cax=figure.add_axes((0.1, 0.185, 0.8, 0.03)),
                          orientation="horizontal", extend="both")
    bar.ax.tick_params(colors=INK, labelsize=FONT_SIZE - 1, length=3)
    low, high = norm.vmin or 1.0, norm.vmax or 1.0
    if high / low < 50:
        nice = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        bar.set_ticks([float(tick) for tick in nice if low <= tick <= high])
        bar.minorticks_off()
    plain_log(bar.ax, "x")
    bar.outline.set_visible(False)
    bar.set_label(label, color=INK, fontsize=FONT_SIZE)


def _projected(vectors: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Mollweide coordinates of unit vectors, by Newton steps on 2θ + sin 2θ = π sin(latitude)."""
    sine = np.clip(vectors[:, 2], -1, 1)
    theta = np.arcsin(sine)
    inner = np.abs(sine) < 1 - 1e-12  # at the poles the start is the solution, and the slope is zero
    for _ in range(50):
        value = 2 * theta + np.sin(2 * theta) - np.pi * sine
        theta = np.where(inner, theta - value / np.where(inner, 2 + 2 * np.cos(2 * theta), 1.0), theta)
    lon = np.arctan2(vectors[:, 1], vectors[:, 0])
    return 2 * math.sqrt(2) / np.pi * lon * np.cos(theta), math.sqrt(2) * np.sin(theta)


def _on_sphere(points: NDArray, values: NDArray, targets: NDArray) -> NDArray[np.float64]:
    """Return Gaussian-weighted means of `values` at `targets`, with the width of the mean spacing of `points`."""
    width = 0.5 * math.sqrt(4 * math.pi / len(points))
    smooth = np.empty(targets.shape[:-1])
    for row, target in enumerate(targets):  # row by row: all at once would take much memory for many points
        exponent = (target @ points.T - 1) / width**2
        weights = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
        smooth[row] = weights @ values / weights.sum(axis=-1)
    return smooth
