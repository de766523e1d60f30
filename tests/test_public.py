"""The face of the package, and the rules its source holds to."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gaq

SOURCE = Path(gaq.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
CSRC = Path(__file__).parents[1] / "csrc"
NATIVE = sorted(path for path in CSRC.rglob("*") if path.suffix in (".c", ".cpp", ".h"))


def test_public_names_exist_and_are_explained() -> None:
    assert sorted(gaq.__all__) == list(gaq.__all__)
    for name in gaq.__all__:
        assert inspect.getdoc(getattr(gaq, name)), name


IMPORT = """
import os, sys
import numpy, torch
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), dict(os.environ), torch.initial_seed(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), numpy.geterr(), os.getcwd())
before = state()
import gaq, gaq.adapters.ase, gaq.simulation, gaq.assess.evaluate, gaq.report.page
assert state() == before
assert "matplotlib.pyplot" not in sys.modules
"""


def test_importing_changes_nothing_outside() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def calls(tree: ast.AST) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_read_from_a_file_is_executed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    forbidden = {"eval", "exec", "torch.load", "yaml.load", "pickle.load", "pickle.loads", "os.system"}
    assert not forbidden & set(calls(tree))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
                for alias in node.names} | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {"pickle", "dill", "joblib", "marshal"} & imported
    keywords = {(k.arg, ast.unparse(k.value)) for node in ast.walk(tree) if isinstance(node, ast.Call)
                for k in node.keywords}
    assert ("allow_pickle", "True") not in keywords
    assert ("shell", "True") not in keywords


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("path", NATIVE, ids=lambda p: str(p.relative_to(CSRC)))
def test_native_files_and_functions_stay_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    opened: list[int] = []
    for number, line in enumerate(lines):
        for brace in re.sub(r"//.*|/\*.*|\"(\\.|[^\"])*\"|'(\\.|[^'])*'", "", line):
            if brace == "{":
                opened.append(number)
            elif brace == "}":
                begin = opened.pop()
                scope = lines[begin].split()[0] in ("namespace", "struct", "class", "extern", "typedef", "template")
                assert scope or number - begin < 60, f"line {begin + 1}: {lines[begin].strip()}"
    assert not opened


def test_native_includes_go_down_only() -> None:
    """Rooms in their order; the folder of a model knows no other model."""
    rooms = ("include", "simd", "gemm", "runtime", "models")
    for path in NATIVE:
        room, *folders = path.relative_to(CSRC).parts
        for name in re.findall(r'#include "(.+)"', path.read_text()) if room in rooms else ():
            other, *places = name.split("/") if "/" in name else ("include", name)
            assert rooms.index(other) <= rooms.index(room), f"{path} includes {name}"
            assert other != "models" or len(folders) == 1 or places[0] == folders[0], f"{path} includes {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_errors_are_not_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            passed_on = any(isinstance(n, ast.Raise) for n in (*ast.walk(node.body[-1]), *node.body))
            assert passed_on or ast.unparse(node.type) not in ("Exception", "BaseException"), f"line {node.lineno}"


WITHOUT = """
import importlib, pkgutil, sys
import numpy, torch
sys.path[:0] = [{tests!r}, {source!r}]
import gaq, gaq.models
assert gaq.__file__.startswith({source!r})
gaq.models.__path__.append({second!r})
assert gaq.models.kinds() == ("pair",)
for module in pkgutil.walk_packages(gaq.__path__, "gaq."):
    if module.name != "gaq.__main__":
        importlib.import_module(module.name)
from gaq.backends import compute
from gaq.compress.swap import prepare, stored
from gaq.nn.tensors import tensors
from toys import molecule
config = gaq.models.model_kind("pair").shape().with_species((1, 6, 7, 8))
network = gaq.models.network_of("pair")(config)
graph = gaq.graph.build_graph(molecule(), config.cutoff)
recipe = gaq.load_recipe("pair-w4")
model = stored(prepare(network, recipe, [tensors(graph)]), recipe)
model.save({out!r})
assert numpy.isfinite(gaq.load({out!r}, "torch").predict(graph).forces).all()
"""


def test_nothing_outside_of_its_folder_needs_the_transformer(tmp_path: Path) -> None:
    copy = tmp_path / "gaq"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "transformer"))
    tests = Path(__file__).parent
    script = WITHOUT.format(tests=str(tests), source=str(tmp_path), second=str(tests / "second"), out=str(tmp_path / "m"))
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n" + script],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_class_name_occurs_once() -> None:
    nodes = [node for path in MODULES for node in ast.walk(ast.parse(path.read_text()))]
    names = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))
