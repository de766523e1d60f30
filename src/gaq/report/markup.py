"""Small pieces of HTML; every text that comes from a results file goes through `escape` here or where it is used."""

from collections.abc import Callable, Sequence
from html import escape

from matplotlib.figure import Figure

from gaq.report.numbers import aligned
from gaq.report.style import LineStyle, to_svg


class Figures:
    """Numbers the figures of one page and turns each into HTML with a caption and a text for screen readers.

    Args:
        told: called with the number of panels drawn so far.
    """

    def __init__(self, told: Callable[[int], None] = lambda panels: None) -> None:
        self._numbered = 0
        self._drawn = 0
        self._told = told

    def group(self, caption: str, panels: Sequence[str], kind: str = "wide") -> str:
        """Return panels under one numbered caption, or nothing without panels.

        Args:
            caption: HTML.
            panels: what `panel` returned.
            kind: CSS class: "wide" for one panel over the full width, "small" for several side by side.
        """
        if not panels:
            return ""
        self._numbered += 1
        return (f'<figure class="{kind}"><div class="panels">{"".join(panels)}</div>'
                f"<figcaption><b>Figure {self._numbered}.</b> {caption}</figcaption></figure>")

    def panel(self, figure: Figure, alt: str, title: str = "", note: str = "") -> str:
        """Return one plot.

        Args:
            figure: drawn and then forgotten.
            alt: what the plot says, in words and numbers (plain text).
            title: HTML above the plot.
            note: HTML below the plot.
        """
        self._drawn += 1
        svg = to_svg(figure, f"f{self._drawn}", inline=True)
        self._told(self._drawn)
        above = f'<p class="panel-title">{title}</p>' if title else ""
        below = f'<p class="panel-note">{note}</p>' if note else ""
        return f'<div class="panel">{above}<div role="img" aria-label="{escape(alt)}">{svg}</div>{below}</div>'


def swatch(style: LineStyle) -> str:
    """Return the colour mark that ties a model's name to its lines in the plots."""
    return f'<i class="swatch" style="background:{style.color}"></i>'


def named(name: str, style: LineStyle) -> str:
    """Return a model's name with its colour mark."""
    return f"{swatch(style)}{escape(name)}"


def table(headings: Sequence[tuple[str, str]], columns: Sequence[Sequence[str]], names: int = 1) -> str:
    """Return a plain table whose first `names` columns are text and whose other columns are aligned numbers.

    Args:
        headings: title and unit of each column.
        columns: cells (plain text) by column.
        names: how many columns are text.
    """
    padded = [list(column) if i < names else aligned(column) for i, column in enumerate(columns)]
    head = "".join(f'<th scope="col"{"" if i < names else " class=num"}>{heading(title, unit)}</th>'
                   for i, (title, unit) in enumerate(headings))
    body = "".join(
        "<tr>" + "".join(f'<th scope="row">{escape(cell)}</th>' if i == 0 else
                         f'<td{"" if i < names else " class=num"}>{escape(cell)}</td>' for i, cell in enumerate(row))
        + "</tr>" for row in zip(*padded, strict=True))
    return f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def heading(title: str, unit: str) -> str:
    """Return the heading of a column with its unit under it."""
    return escape(title) + (f'<span class="unit">{escape(unit)}</span>' if unit else "")


def details(summary: str, content: str) -> str:
    """Return a part that opens on a click, or nothing if it is empty; `summary` is plain text, `content` HTML."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""


def section(anchor: str, title: str, *content: str) -> str:
    """Return a titled section, or nothing if all its content is empty."""
    inside = "".join(content)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{inside}</section>' if inside else ""
