"""How plots look, and how they become SVG: colours safe for colour-blind readers, text that follows the page."""

import io
import itertools
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import ArrayLike, NDArray

INK = "#243040"  # text and axes; a page may redefine both of these through CSS
GRID = "#d3d9e0"
FONT_SIZE = 11.0
SMALLEST, LARGEST = 1e-15, 1e15  # of what a plot shows: beyond, axes and ticks are out of floating-point range
_DPI = 72  # one point is one CSS pixel
_RASTER_DPI = 160


@dataclass(frozen=True)
class LineStyle:
    """What one model looks like in every plot; the dashes tell lines apart without colour."""

    color: str
    dash: str | tuple[int, tuple[float, ...]]


_FIXED = {"fp32": LineStyle("#6b7685", "solid"), "int8-naive": LineStyle("#d55e00", (0, (4, 1.6)))}
_OTHERS = (  # after Okabe & Ito (2008), darkened where white paper needs it
    LineStyle("#0072b2", "solid"),
    LineStyle("#00896a", (0, (6, 1.5, 1.5, 1.5))),
    LineStyle("#b0568a", (0, (2, 1.4))),
    LineStyle("#a6761d", (0, (8, 2))),
    LineStyle("#2f9fd8", (0, (1.2, 1.2))),
)


def line_styles(models: Iterable[tuple[str, str]]) -> dict[str, LineStyle]:
    """Return one style per name, from pairs (name, recipe); FP32 and naive INT8 look the same on every page."""
    styles: dict[str, LineStyle] = {}
    others = itertools.cycle(_OTHERS)
    taken: set[str] = set()
    for name, recipe in models:
        if name in styles:
            continue
        fixed = recipe in _FIXED and recipe not in taken
        styles[name] = _FIXED[recipe] if fixed else next(others)
        taken.add(recipe)
    return styles


def drawable(values: ArrayLike) -> NDArray[np.float64]:
    """Return values with those of no size that a plot could show brought to its ends, or to 0; NaN stays."""
    array = np.asarray(values, dtype=np.float64)
    return np.clip(np.where(np.abs(array) < SMALLEST, 0.0, array), -LARGEST, LARGEST)


def new_figure(width: float, height: float, margins: tuple[float, float, float, float] | None = None) -> Figure:
    """Return an empty figure; no pyplot, so nothing global is touched.

    Args:
        width, height: in CSS pixels.
        margins: left, right, bottom and top in CSS pixels; without them matplotlib finds them, at twice the time.
    """
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="none")
    if margins is None:
        figure.set_layout_engine("constrained")
    else:
        left, right, bottom, top = margins
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure


def tidy(axes: Axes, title: str = "", xlabel: str = "", grid: Literal["both", "x", "y"] = "both") -> None:
    """Give axes the house look: no box, a light grid, the y quantity written flat above the axis."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE - 1, length=3, color=GRID, which="both")
    axes.grid(True, axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, color=INK, pad=7)
    axes.set_xlabel(xlabel, fontsize=FONT_SIZE, color=INK)


def plain_log(axes: Axes, which: str) -> None:
    """Write the decades of a logarithmic axis as 0.1, 1, 10; no labels between them."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, **options: Any) -> None:
    """Add a frameless legend in the ink of the page."""
    axes.legend(frameon=False, fontsize=FONT_SIZE - 1, labelcolor=INK, **options)


def short(text: str, length: int = 30) -> str:
    """Return a text for a plot: shortened in the middle, with no character read as mathematics."""
    if len(text) > length:
        head = (length - 1) // 2
        text = f"{text[:head]}…{text[head + 1 - length:]}"
    return text.replace("$", r"\$")


def to_svg(figure: Figure, prefix: str, inline: bool = False) -> str:
    """Return a figure as SVG text, the same bytes for the same figure.

    Args:
        figure: what a function of `gaq.report.plots` returned.
        prefix: makes the ids unique among the SVGs of one page.
        inline: for use inside HTML: no XML header, no fixed size, page fonts, and colours that a page may redefine with
            the CSS variables --plot-ink and --plot-grid.
    """
    buffer = io.StringIO()
    # The salt and the kind of text have no other door than rcParams; the context puts them back.
    with matplotlib.rc_context({"svg.hashsalt": "gaq", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page's fonts have it
        figure.savefig(buffer, format="svg", dpi=_RASTER_DPI, transparent=True,
                       metadata={"Date": None, "Creator": None})
    svg = _own_ids(buffer.getvalue(), prefix)
    return _inlined(svg) if inline else svg


def _own_ids(svg: str, prefix: str) -> str:
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(|href=")#([^)"]+)', rf"\g<1>#{prefix}-\g<2>", svg)


def _inlined(svg: str) -> str:
    svg = svg[svg.index("<svg"):]
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]+(; )?", "", body)
    body = re.sub(r'(?<= d=")[^"]+', lambda m: re.sub(r"(\d+\.\d\d)\d+", r"\1", m[0]).replace("\n", " "), body)
    body = body.replace(INK, f"var(--plot-ink, {INK})").replace(GRID, f"var(--plot-grid, {GRID})")
    return f'{head} aria-hidden="true" focusable="false">{body}'
