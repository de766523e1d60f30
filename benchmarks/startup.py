"""`python -m benchmarks.startup`: what starting costs, in time and memory.

Each figure is of fresh processes, the best of a few. This process imports nothing but the standard library, since the
system counts its memory into the peak of the processes that it starts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FULL, LOW = "ethanol-fp32.safetensors", "ethanol-w4a8.safetensors"
FIRST_FORCES = """
import time
begun = time.perf_counter()
import gaq
from ase import Atoms
atoms = Atoms("CH4", [(0, 0, 0), (0.63, 0.63, 0.63), (-0.63, -0.63, 0.63), (0.63, -0.63, -0.63), (-0.63, 0.63, -0.63)])
atoms.calc = gaq.load({model!r}).calculator()
atoms.get_forces()
print(time.perf_counter() - begun)
"""
LOADING = """
import time
import gaq
def seconds(path):
    begun = time.perf_counter()
    gaq.load(path).calculator()
    return time.perf_counter() - begun
rounds = [[seconds(path) for path in {models!r}] for _ in range(6)]
print(*map(min, zip(*rounds[1:])))
"""


@dataclass(frozen=True)
class Startup:
    """What starting costs.

    Args:
        first_forces: s from `import gaq` to the forces of methane in W4A8, importing `ase.Atoms` included.
        memory: largest resident memory of `gaq md`, MB.
        load: s for `gaq.load(...).calculator()` of FP32 and W4A8, in a process that has done it before.
    """

    first_forces: float
    memory: float
    load: tuple[float, float]

    def __str__(self) -> str:
        """Return the figures, one a line."""
        return (f"import gaq, load W4A8, first forces of methane: {self.first_forces:.2f} s\n"
                f"largest resident memory of a short gaq md: {self.memory:.0f} MB\n"
                f"load: FP32 {self.load[0] * 1e3:.0f} ms, W4A8 {self.load[1] * 1e3:.0f} ms, "
                f"{self.load[1] / self.load[0]:.2f} ×")


def measure(python: Path, models: Path, repeats: int = 3) -> Startup:
    """Start processes of a Python that has gaq, and measure them.

    Args:
        python: the interpreter.
        models: folder of the model files.
        repeats: processes for each figure.

    Raises:
        subprocess.CalledProcessError: one of them failed.
    """
    full, low = str(models / FULL), str(models / LOW)
    first = min(_numbers(python, FIRST_FORCES.format(model=low))[0] for _ in range(repeats))
    loads = [_numbers(python, LOADING.format(models=(full, low))) for _ in range(repeats)]
    load_full, load_low = (min(column) for column in zip(*loads, strict=True))
    memory = min(_memory_of_md(python, low) for _ in range(repeats))
    return Startup(first, memory, (load_full, load_low))


def _numbers(python: Path, program: str) -> list[float]:
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, timeout=300)
    return [float(word) for word in done.stdout.split()]


def _memory_of_md(python: Path, model: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), "-m", "gaq", "md", model, "ethanol", "--ensemble", "nve", "--temperature", "300",
                   "--steps", "200", "--out", f"{folder}/md.extxyz"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB here


def main() -> None:
    """Measure this Python, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the model files")
    print(measure(Path(sys.executable), parser.parse_args().models))


if __name__ == "__main__":
    main()
