"""`python -m tests.install WHEEL`: installs the wheel without torch and without a compiler; the same bits come out.

For every Python from 3.11 to 3.13 on this machine: a new environment, the base installation, no program on the PATH but its
own. There the README's first simulation and `gaq md` give what they give in this environment, which has torch; memory and
time stay in their bounds (benchmarks/startup.py); what needs torch says so. Then the installation from source: without a
compiler it fails, and says how to go on; GAQ_ENGINE=off goes on. Run it from the repository's root.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.startup import measure

MINORS = (11, 12, 13)
MEMORY, FIRST_FORCES = 130.0, 3.0  # MB; s: it is 1 s on a machine that does nothing else
MODELS = ("fp32", "w4a16", "w4a8")
ENERGIES = """
import gaq
from ase.build import molecule
for recipe in {models!r}:
    atoms = molecule("CH3CH2OH")
    atoms.calc = gaq.load(f"models/ethanol-{{recipe}}.safetensors").calculator()
    print(recipe, atoms.get_potential_energy().hex(), atoms.get_forces().tobytes().hex())
"""
NO_TORCH = re.compile(r"^error: .* the package torch, which is not installed; run: pip install 'gaq\[train\]'$")


class Failed(Exception):
    """An installation that is not as it should be."""


def main() -> int:
    """Install and check, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    try:
        with tempfile.TemporaryDirectory() as folder:
            check_name(wheel)
            with_torch = results(Path(sys.executable), Path(folder), "with-torch")
            for minor in MINORS:
                check_wheel(minor, wheel, Path(folder), with_torch)
            check_source(Path(folder))
    except (Failed, subprocess.TimeoutExpired) as error:
        print(f"failed: {error}")
        return 1
    return 0


def check_name(wheel: Path) -> None:
    """Refuse a wheel for Linux that asks for a newer system than manylinux_2_28; say how large it is."""
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    version = re.search(r"manylinux_2_(\d+)_", wheel.name)
    if sys.platform == "linux" and (version is None or int(version[1]) > 28):
        raise Failed(f"{wheel.name} does not run on the systems of manylinux_2_28")


def check_wheel(minor: int, wheel: Path, folder: Path, with_torch: str) -> None:
    """Install the wheel into a new environment of Python 3.`minor`, where there is one, and use it."""
    interpreter = next(interpreters(minor), None)
    if interpreter is None:
        print(f"Python 3.{minor}: skipped, there is none here")
        return
    python = install(interpreter, wheel, folder / f"3.{minor}")
    if "ModuleNotFoundError: No module named 'torch'" not in run(python, "-c", "import torch", status=1):
        raise Failed(f"Python 3.{minor}: the base installation has torch")
    if results(python, folder, f"3.{minor}") != with_torch:
        raise Failed(f"Python 3.{minor}: energies or forces differ from those with torch")
    needs_torch = run(python, "-m", "gaq", "train", "configs/ethanol-gfn2.yaml", status=1).strip()
    if not NO_TORCH.match(needs_torch):
        raise Failed(f"Python 3.{minor}: gaq train without torch says: {needs_torch}")
    found = measure(python, Path("models"), repeats=1)
    print(f"Python 3.{minor}: the bits of the installation with torch\n{found}", flush=True)
    if found.memory > MEMORY or found.first_forces > FIRST_FORCES:
        raise Failed(f"Python 3.{minor}: more than {MEMORY:g} MB or {FIRST_FORCES:g} s")


def check_source(folder: Path) -> None:
    """Build a wheel without a compiler: it fails with advice, and the advice holds."""
    build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", "-C")
    said = run(*build, f"build-dir={folder / 'broken'}", ".", CXX="/bin/false", status=1)
    if "CMake Error" not in said or "GAQ_ENGINE=off pip install" not in said:
        raise Failed(f"a failed compilation does not say what failed and how to go on: {said}")
    run(*build, f"build-dir={folder / 'off'}", ".", CXX="/bin/false", GAQ_ENGINE="off")
    pure = next((folder / "wheels").glob("*-none-any.whl"))
    python = install(Path(sys.executable), pure, folder / "off")
    if "the native engine is not installed" not in run(python, "-m", "gaq", "info"):
        raise Failed("gaq info does not say that the engine is missing")
    print("from source: a failed compilation is loud, and GAQ_ENGINE=off installs without the engine")


def interpreters(minor: int) -> Iterator[Path]:
    """Yield what runs as Python 3.`minor`: on the PATH, or among the versions of pyenv."""
    shims = [Path(place).parent for place in os.environ["PATH"].split(os.pathsep) if Path(place).name == "shims"]
    roots = [Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser(), *shims]
    installed = {place for root in roots for place in root.glob(f"versions/3.{minor}.*/bin/python3")}
    for place in (shutil.which(f"python3.{minor}"), *sorted(installed)):
        ask = "import sys, venv, ensurepip; print(sys.version_info.minor)"
        if place and subprocess.run([place, "-c", ask], capture_output=True, text=True).stdout.strip() == str(minor):
            yield Path(place)


def install(interpreter: Path, wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel and what it depends on, nothing compiled; return its Python."""
    run(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel, PATH=str(python.parent))
    return python


def results(python: Path, folder: Path, name: str) -> str:
    """Return what an installation computes: the README's first simulation, energies and forces, and a run of `gaq md`."""
    readme = re.search(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert readme is not None
    out = folder / f"{name}.extxyz"
    found = run(python, "-c", f"import numpy\nnumpy.random.seed(0)\n{readme[1]}")
    found += run(python, "-c", ENERGIES.format(models=MODELS))
    run(python, "-m", "gaq", "md", "ethanol-w4a16", "ethanol", "--ensemble", "nvt", "--steps", "200",
        "--out", out)
    return found + out.read_text()


def run(*command: object, status: int = 0, **environment: str) -> str:
    """Run a command and return what it says, on both streams.

    Raises:
        Failed: its exit status is another than `status`.
    """
    done = subprocess.run([str(word) for word in command], env=os.environ | environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600)
    if done.returncode != status:
        raise Failed(f"{' '.join(map(str, command))} gave exit status {done.returncode}: {done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
