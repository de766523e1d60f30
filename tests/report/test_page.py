"""The page: self-contained, escaped, complete, and its script runs."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from gaq.errors import DataError, OutputError
from gaq.report import page, write_page
from gaq.report.page import render

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects tags, ids and links, and checks that elements are closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.links, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def html(built):
    return render([built])


def test_the_page_loads_nothing_and_is_small(html):
    reader = read(html)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in reader.links)
    assert not re.search(r"@import|url\((?!#)", html)
    assert "default-src 'none'" in html
    assert len(html.encode()) < 2_000_000


def test_ids_are_unique_and_links_lead_somewhere(html):
    reader = read(html)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)


def test_every_section_is_there_and_every_plot_has_words(html):
    for title in ("Summary", "Accuracy", "Equivariance", "Energy conservation", "Training", "Size and range",
                  "How to read this page", "Notes", "Origin"):
        assert f"<h2>{title}</h2>" in html
    reader = read(html)
    assert all(len(a["aria-label"]) > 20 for t, a in reader.tags if a.get("role") == "img" and t != "svg")
    assert sum(tag == "svg" for tag, _ in reader.tags) == html.count('<div role="img"')


def test_provenance_and_notes_are_written(html, results):
    for text in ("gaq 0.1.0", "rmd17:azobenzene:test", "200 frames", "AMD EPYC 9B14", "2 threads", "torch 2.13.0",
                 results["source_fingerprint"], *results["notes"]):
        assert text in html


def test_the_same_results_give_the_same_page(results):
    small = {**results, "models": results["models"][:1]}
    assert render([small]) == render([small])


def test_nothing_from_the_file_becomes_markup(results):
    def poison(value):
        if isinstance(value, str):
            return value if value in ("gaq-results", "fp32", "int8-naive") else ATTACK
        if isinstance(value, dict):
            return {ATTACK if k.endswith(".weight") else k: poison(v) for k, v in value.items()}
        return [poison(v) for v in value] if isinstance(value, list) else value

    results["models"] = results["models"][2:]
    clean, poisoned = read(render([results])), read(render([poison(results)]))
    assert [t for t, _ in poisoned.tags].count("script") == [t for t, _ in clean.tags].count("script")
    assert not any(tag == "img" for tag, _ in poisoned.tags)
    assert not any(name.startswith("on") for _, attributes in poisoned.tags for name in attributes)


@pytest.mark.parametrize("part", ["lee_forces_meV_A", "lee_energy_meV", "lee_by_layer", "lee_map", "saturation",
                                  "stored_bytes", "stored_by_tensor", "parity", "curves", "forces_mae_meV_A"])
def test_a_part_that_is_missing_is_left_out(results, part):
    model = {"name": "W4A8", "recipe": "w4a8", part: results["models"][2][part]}
    alone = {"format": "gaq-results", "format_version": 1, "models": [model]}
    assert read(render([alone]))
    without = {k: v for k, v in results["models"][2].items() if k != part and k not in ("parity", "lee_map", "curves")}
    read(render([{**alone, "models": [without]}]))


def test_names_alone_make_a_page(results):
    bare = {"format": "gaq-results", "format_version": 1, "models": [{"name": "a", "recipe": "fp32"}]}
    html = render([bare])
    assert "<svg" not in html
    assert "<canvas" not in html
    for title in ("Accuracy", "Training", "Notes"):
        assert f"<h2>{title}</h2>" not in html


def test_numbers_that_are_not_known_are_na(results):
    results["models"] = results["models"][:1]
    for key in ("energy_mae_meV", "forces_rmse_meV_A"):
        results["models"][0][key] = float("nan")
    results["nve"][0]["drift_meV_atom_ps"] = None
    html = re.sub(r"<(script|style).*?</\1>|data:image[^\"]*|<svg.*?</svg>", "", render([results]), flags=re.DOTALL)
    assert html.count("n/a") >= 3
    assert not re.search(r"\b(nan|inf|infinity|none)\b", re.sub(r"<[^>]*>", " ", html), flags=re.IGNORECASE)


def test_studies_on_different_data_stand_apart(results):
    results["models"] = results["models"][:1]
    other = {**results, "source_fingerprint": "00" * 32, "title": "Ethanol"}
    reader = read(render([results, other]))
    assert {"study-1", "study-2", "accuracy-1", "accuracy-2"} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))


def test_no_results_are_an_error():
    with pytest.raises(DataError, match="at least one"):
        render([])


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, results):
    monkeypatch.setattr(page, "render", lambda results, drawn: "new")
    target = tmp_path / "page.html"
    target.write_text("old")
    with pytest.raises(OutputError):
        write_page([results], target / "below.html")
    assert target.read_text() == "old"
    write_page([results], target)
    assert target.read_text() == "new"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_script_runs_in_a_browser_without_errors(html, tmp_path):
    (tmp_path / "page.html").write_text(html)
    ran = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom",
         (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert 'data-scripts="ran"' in ran.stdout
    assert 'data-atoms="24"' in ran.stdout
    assert ":CONSOLE:" not in ran.stderr


def test_the_molecule_travels_as_data(html):
    data = re.search(r'<script type="application/json">(.*?)</script>', html)[1]
    assert len(json.loads(data)["atoms"]) == 24
