"""One HTML page that holds everything: it opens offline, loads nothing, and runs only the script it came with."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from gaq.errors import DataError
from gaq.files import write_atomically
from gaq.report.chapters import chapters
from gaq.report.markup import Figures, details, section
from gaq.report.records import parse
from gaq.report.results import FORMAT
from gaq.report.sections import StudySections, model_files
from gaq.report.tables import Study, gather


def write_page(results: Sequence[dict[str, Any]], path: str | Path,
               drawn: Callable[[int], None] = lambda figures: None) -> None:
    """Write results as one self-contained HTML page.

    Args:
        results: one or several contents of results files of any kind; models on the same data are compared in one study.
        path: the HTML file to write.
        drawn: called with the number of figures drawn so far.

    Raises:
        DataError: no results, or results that do not follow the schema.
        OutputError: the page could not be written.
    """
    write_atomically(path, render(results, drawn))


def render(results: Sequence[dict[str, Any]], drawn: Callable[[int], None] = lambda figures: None) -> str:
    """Return the HTML of `write_page`; the same results give the same text."""
    if not results:
        raise DataError("a page needs at least one results file, given none; "
                        "write one with `gaq evaluate --json PATH`")
    records = [parse(data, f"results[{i}]" if len(results) > 1 else "results") for i, data in enumerate(results)]
    studies = gather([data for data in results if data["format"] == FORMAT])
    figures = Figures(drawn)
    articles, links = [], []
    for i, study in enumerate(studies, start=1):
        sections = StudySections(study, figures, f"-{i}" if len(studies) > 1 else "")
        written = sections.all()
        head = _study_head(study, sections.viewer())
        articles.append(f'<article id="study-{i}">{head}{"".join(html for _, _, html in written)}</article>')
        links += [(anchor, title) for anchor, title, _ in written] if len(studies) == 1 else [
            (f"study-{i}", study.first.title)]
    more = chapters(records, figures)
    articles += [html for _, _, html in more]
    links += [(anchor, title) for anchor, title, _ in more]
    notes = _notes(studies)
    origin = _origin(studies)
    links += [("reading", "How to read this"), *([("notes", "Notes")] if notes else []),
              *([("origin", "Origin")] if origin else [])]
    navigation = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title in links)
    title = studies[0].first.title if len(studies) == 1 else f"gaq: {len(studies)} studies" if studies else "gaq report"
    script = _asset("viewer.js")
    return Template(_asset("page.html")).substitute(
        title=escape(title), style=_asset("page.css"), script=script, script_hash=_hash(script),
        navigation=navigation, articles="".join(articles), reading=_asset("reading.html"), notes=notes, origin=origin)


def _study_head(study: Study, viewer: str) -> str:
    first = study.first
    frames = f"{first.frames:,} frames" if first.frames is not None else ""
    hardware = first.hardware
    threads = f"{hardware.threads} thread{'s' if hardware.threads != 1 else ''}" if hardware.threads else ""
    parts = [f"gaq {first.version}" if first.version else "", first.source, frames, hardware.cpu, threads,
             f"torch {hardware.torch}" if hardware.torch else "",
             hardware.device if hardware.device != "cpu" else ""]
    provenance = "".join(f"<span>{escape(part)}</span>" for part in parts if part)
    return (f'<header class="study"><div><p class="eyebrow">Quantization report</p><h1>{escape(first.title)}</h1>'
            f'<p class="provenance">{provenance}</p>'
            '<p class="lead">Is the compressed force field as accurate, as blind to the orientation of the molecule, '
            'and as faithful to energy conservation as the original? '
            '<span>New to these figures? <a href="#reading">How to read this page</a>.</span></p></div>'
            f"{viewer}</header>")


def _notes(studies: Sequence[Study]) -> str:
    notes = dict.fromkeys(note for study in studies for result in study.results for note in result.notes)
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return section("notes", "Notes", f"<ul>{items}</ul>") if items else ""


def _origin(studies: Sequence[Study]) -> str:
    lines = []
    for study in studies:
        for result in study.results:
            fields = {"Title": result.title, "Data": result.source,
                      "Fingerprint of the data": result.source_fingerprint,
                      "Program": f"gaq {result.version}".strip(), "Processor": result.hardware.cpu,
                      "Device": result.hardware.device, "PyTorch": result.hardware.torch}
            lines.append("<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>"
                                          for key, value in fields.items() if value) + "</dl>")
        lines.append(details("Model files", model_files(study.models)))
    return section("origin", "Origin", *lines)


def _asset(name: str) -> str:
    return files("gaq.report").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what the content security policy of the page asks of the one script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
