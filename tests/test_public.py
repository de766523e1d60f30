"""The face of the package, and the rules its source holds to."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gaq

SOURCE = Path(gaq.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))


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
import gaq, gaq.adapters.ase, gaq.dynamics.drivers, gaq.assess.evaluate, gaq.report.page
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


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_errors_are_not_swallowed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            passed_on = any(isinstance(n, ast.Raise) for n in (*ast.walk(node.body[-1]), *node.body))
            assert passed_on or ast.unparse(node.type) not in ("Exception", "BaseException"), f"line {node.lineno}"
