"""Numbers of any size, and none at all, make a page: whole, and without a word that is no number."""

import copy
import json
import re

import pytest

from gaq.errors import DataError
from gaq.report.page import render
from gaq.report.records import parse

AUDIT = {
    "format": "gaq-audit", "format_version": 1, "model": "w4.safetensors", "recipe": "w4", "grade": "MD-grade",
    "reasons": [], "source": "frames.extxyz", "frames": 8, "backend": "engine (avx512)",
    "derivatives_backend": "torch, float64",
    "checks": [{"name": "lambda_antisymmetry (max)", "value": 1e-6, "bound": 1e-3, "unit": "", "passed": True},
               {"name": "nve_drift_meV_atom_ps", "value": -0.01, "bound": 5e-3, "unit": "meV/atom/ps", "passed": False}]}
MD = {
    "format": "gaq-md", "format_version": 1, "model": "w4.safetensors", "ensemble": "nve", "steps": 100, "atoms": 9,
    "formula": "C2H6O", "backend": "engine (avx512)", "mean_temperature_K": 151.0,
    "run": {"name": "w4", "recipe": "w4", "timestep_fs": 0.5, "temperature_K": 300.0, "time_ps": [0.0, 0.1, 0.2],
            "total_energy_meV_atom": [0.0, 0.01, -0.02], "drift_meV_atom_ps": 0.05, "ms_per_step": 0.4}}
SENSITIVITY = {
    "format": "gaq-sensitivity", "format_version": 1, "model": "fp32.safetensors", "recipe": {"name": "w4a8"},
    "source": "frames.extxyz", "frames": 16, "rows": [
        {"leaf": "attention.0.key", "role": "scalar", "kind": kind, "bits": 8, "given": True, "measures": {
            "forces_rms_change_meV_A": 1.5, "energy_change_meV": 0.1, "lambda_antisymmetry": 1e-3}}
        for kind in ("weight", "input")]}
BENCH = {
    "format": "gaq-bench", "format_version": 1, "machine": {"cpu": "a processor"}, "rows": [
        {"system": "water-64", "atoms": 192, "threads": 1, "backend": backend, "recipe": "fp32", "ms_per_step": 3.0,
         "ns_per_day": 14.4} for backend in ("engine", "torch-compile")]}
OTHERS = {"audit": AUDIT, "md": MD, "sensitivity": SENSITIVITY, "bench": BENCH}


def changed(value, new, every=True):
    """The value with every number that is not whole replaced, or only the first of each list."""
    if isinstance(value, dict):
        return {key: changed(part, new, every) for key, part in value.items()}
    if isinstance(value, list):
        return [changed(part, new, every) if every or k == 0 or not isinstance(part, float) else part
                for k, part in enumerate(value)]
    return new if isinstance(value, float) else value


def paths(value, place=()):
    """The places of all kinds of numbers: the first of each list stands for the others."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from paths(part, (*place, key))
    elif isinstance(value, list):
        for part in value[:1]:
            yield from paths(part, (*place, 0))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield place


def put(data, place, new):
    *way, last = place
    for step in way:
        data = data[step]
    data[last] = new


def refusal(data) -> str:
    try:
        parse(data)
    except DataError as error:
        return str(error)
    return ""


def check(html: str) -> None:
    text = re.sub(r"<[^>]*>", " ", re.sub(r"<(script|style).*?</\1>|data:image[^\"]*", "", html, flags=re.DOTALL))
    assert not re.search(r"(?<![\w-])(nan|inf|infinity)(?![\w-])", text, flags=re.IGNORECASE)
    assert html.rstrip().endswith("</html>")


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("new", [1e308, -1e308, 1e-320, -1e-320, 0.0, None, 1e20])
def test_numbers_of_any_size(results, new, every):
    results["models"] = results["models"][1:2]  # one that has everything
    if new is None:  # positions and axes must be there
        results = results | {"structure": None, "models": [m | {"lee_map": None} for m in results["models"]]}
    for data in (results, *OTHERS.values()):
        check(render([json.loads(json.dumps(changed(data, new, every)))]))


@pytest.mark.parametrize("new", [1e308, -1, 10**400, -(10**400), "x", [], 1.5])
def test_counts_and_numbers_that_are_none_are_refused_in_a_line(results, new):
    refused = []
    for data in (results, *OTHERS.values()):
        for place in paths(data):
            other = copy.deepcopy(data)
            put(other, place, new)
            refused.append(refusal(other))
    assert any(refused)
    assert max(map(len, refused)) < 500
    assert not any("\n" in line for line in refused)


def test_every_command_has_its_part_of_the_page(results):
    results["models"], results["nve"] = results["models"][:1], []
    together = render([results, *OTHERS.values()])
    assert results["title"] in together
    for name, words in {"audit": "MD-grade", "md": "C2H6O, 9 atoms", "sensitivity": "attention.0.key",
                        "bench": "water-64"}.items():
        alone = render([OTHERS[name]])
        assert words in alone
        assert words in together
        check(alone)
    check(together)


def test_foreign_files_are_refused_with_what_is_right():
    for data in ({"format": "gaq-train"}, {"format": ["gaq-md"]}, {}, [], None, {"format": "x" * 10**6}):
        with pytest.raises(DataError, match="gaq audit --json") as refused:
            parse(data)
        assert len(str(refused.value)) < 500
    with pytest.raises(DataError, match="reads up to"):
        parse(AUDIT | {"format_version": 2})
