"""The documentation is true: its Python runs, its commands exist, its figures are those that were measured."""

import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from ase.build import molecule

import gaq
from gaq.data import write_frames
from gaq.report.numbers import number

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(<!-- not run: .+ -->\n)?```(\w*)\n(.*?)^```", re.DOTALL | re.M)
SHORTER = {"minutes=5": "steps=2", "minutes=60": "minutes=0.01", "minutes: 30": "minutes: 0.01",
           "rotations=64": "rotations=2", "run(1000)": "run(5)", "steps=1000": "steps=5"}


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page that are to be run, made quick."""
    found = [code for skipped, kind, code in FENCE.findall(page.read_text()) if kind == language and not skipped]
    return [re.sub("|".join(map(re.escape, SHORTER)), lambda match: SHORTER[match[0]], code) for code in found]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what pages take for granted: the models of a clone, and frames of ethanol."""
    for folder in ("models", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    field, ethanol, rng = gaq.load("models/ethanol-gfn2-fp32.safetensors"), molecule("CH3CH2OH"), np.random.default_rng(0)
    frames = []
    for _ in range(70):
        moved = gaq.Structure(ethanol.numbers, ethanol.positions + rng.normal(0, 0.03, ethanol.positions.shape))
        said = field.predict(field.graph(moved))
        frames.append(gaq.Structure(moved.species, moved.positions, energy=float(said.energy[0]),
                                    forces=said.forces))
    for name in ("frames", "my", "my-test"):
        write_frames(tmp_path / f"{name}.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_python_of_a_page_runs(page: Path, workplace: Path) -> None:
    for text in blocks(page, "yaml"):
        name = re.match(r"# (\S+\.yaml)\n", text)
        assert name, f"{page.name}: a YAML block begins with the name of its file"
        (workplace / name[1]).write_text(text)
    names: dict[str, Any] = {"gaq": gaq, "atoms": molecule("CH3CH2OH")}
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), names)
    assert np.isfinite(names["atoms"].positions).all()


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `gaq ...` on a page, in the text and in blocks."""
    text = page.read_text().replace("\\\n", " ")
    for line in [*re.findall(r"`(gaq [^`\n]+)`", text), *re.findall(r"^\s*(?:\.venv/bin/)?(gaq [^#\n]+)", text, re.M)]:
        yield shlex.split(line.replace("[", " ").replace("]", " "))


def test_commands_and_options_of_all_pages_exist() -> None:
    from gaq.cli.app import app

    seen = set()
    for page in PAGES:
        for words in commands(page):
            command, rest = typer.main.get_command(app), words[1:]
            while rest and hasattr(command, "commands") and not rest[0].startswith(("-", "COMMAND")):
                assert rest[0] in command.commands, f"{page.name}: {' '.join(words)}"
                command, rest = command.commands[rest[0]], rest[1:]
                seen.add(command.name)
            known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
            for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
                assert option in known, f"{page.name}: {' '.join(words)}: no option {option}"
    assert len(seen) >= 12


def test_names_and_paths_in_the_text_exist() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for name in re.findall(r"`(gaq\.[\w.]+\w)(?:\([^`]*)?`", text):
            pkgutil.resolve_name(name)
        for path in re.findall(r"`((?:src|tests|docs|models|configs|examples|benchmarks|csrc)/[\w./*-]+)`", text):
            assert "NAME" in path or list(ROOT.glob(path)), f"{page.name}: {path}"


def test_python_reference_has_every_public_name() -> None:
    assert sorted(re.findall(r"^::: gaq\.(\w+)$", (ROOT / "docs" / "python.md").read_text(), re.M)) == sorted(gaq.__all__)


def test_readme_is_short_and_its_table_is_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.split()) < 700
    (group, *_) = json.loads((ROOT / "docs" / "results" / "results.json").read_text())["accuracy"]
    assert group["group"] == "azobenzene"
    rows = {row["name"]: row for row in group["rows"]}
    for title, name in (("FP32", "fp32"), ("W4A16", "w4a16"), ("W4A8", "w4a8"), ("naive INT8", "int8-naive")):
        row, lee = rows[name], rows[name]["lee_forces_meV_A"]
        cells = (title, number(row["forces_mae_meV_A"]), f"{number(lee['mean'])} ({number(lee['median'])})",
                 f"{row['stored_bytes'] / row['fp32_bytes']:.2f}")
        assert f"| {' | '.join(cells)} |" in readme


def test_links_beside_the_site_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):  # those of the site are checked by `make docs`
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_configuration_page_has_every_key() -> None:
    from gaq.models import model_kind
    from gaq.training.config import DataConfig, Optimization, TrainConfig

    parts = {"data": DataConfig, "model": model_kind("transformer").shape, "optimization": Optimization}
    known = {name for name in TrainConfig.model_fields if name not in parts}
    known |= {f"{group}.{name}" for group, part in parts.items() for name in part.model_fields}
    listed, group = set(), ""
    cells = re.findall(r"^\| (`.+?) \|", (ROOT / "docs" / "configuration.md").read_text(), re.M)
    for key in re.findall(r"`([\w.]+)`", "".join(cells)):
        group = key.rpartition(".")[0] or group
        listed.add(f"{group}{key}" if key.startswith(".") else key)
    assert listed == known
