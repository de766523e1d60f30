"""Kill a run with SIGKILL at random moments, again and again: what comes out is what comes out undisturbed, bit for bit.

    python -m benchmarks.kills train|quantize|md --times 50 --seed 0

The work runs in a forked child, is killed, and goes on from what is there until it comes to its end; then the next round
begins in a new folder. After each kill, files must be whole; at the end of a round, models, checkpoints, logs and
trajectories must be those of a run that was left alone, and nothing else may lie beside them. Exits with 1 at a difference.
"""

import argparse
import csv
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.tensorboard
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gaq.cli
import gaq.dynamics.driver
from gaq.data import load_frames, write_frames
from gaq.data.structures import structure_from
from gaq.forcefield import load
from gaq.structure import Structure
from gaq.training.config import LOW_BIT
from gaq.training.fit import quantize as compress

MODEL = Path(__file__).parents[1] / "models" / "ethanol-gfn2-fp32.safetensors"
SHAPE = "{scalars: 8, vectors: 4, heads: 2, layers: 1, radial_functions: 6, filter_width: 8}"
CONFIG = """
data: {{train: {frames}, validation_frames: 4}}
model: {shape}
optimization: {{steps: {steps}, validate_every: 3, checkpoint_every: 2, batch_size: 4, warmup_steps: 5, compile: never}}
out: run
"""
TIMED = {"seconds", "frames_per_second", "preparation"}  # what may differ: how long things took
LEFT_ALONE = 3600.0  # s
Result = dict[str, Any]
Command = Callable[[Path], None]


def train(folder: Path) -> None:
    """Train a small model."""
    program("train", str(folder / "config.yaml"), "--resume")


def quantize(folder: Path) -> None:
    """Quantize a small model; as `gaq quantize` does, with more checkpoints."""
    settings = LOW_BIT.model_copy(update={"steps": 24, "batch_size": 4, "validate_every": 3, "checkpoint_every": 2})
    low_bit = compress(load(folder / "float" / "model.safetensors"), "w4a8",
                       load_frames(str(folder / "frames.extxyz")), settings, folder="run", resume=True)
    low_bit.save("run/model.safetensors")


def md(folder: Path) -> None:
    """Simulate ethanol."""
    program("md", str(MODEL), "ethanol", "--ensemble", "nvt", "--temperature", "300", "--steps", "1000", "--every", "2",
            "--out", "run/trajectory.extxyz", "--resume")


def program(*arguments: str) -> None:
    """Run `gaq`."""
    sys.argv = ["gaq", *arguments]
    gaq.cli.main()


COMMANDS = {"train": train, "quantize": quantize, "md": md}


def main() -> None:
    """Kill, resume and compare, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_child(lambda: prepare(folder), LEFT_ALONE)
        kills, faults = rounds(folder, COMMANDS[given.command], given.times, given.seed)
    print(f"{given.command}, seed {given.seed}: {kills} kills, {len(faults)} faults")
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


def rounds(folder: Path, command: Command, times: int, seed: int) -> tuple[int, list[str]]:
    """Kill `times` times, and print a line for each round; return the number of kills and what was wrong."""
    random = np.random.default_rng(seed)
    length, status = timed(folder / "whole", command, LEFT_ALONE)
    assert status == 0, (folder / "whole" / "stderr").read_text()
    expected, kills, number = found(folder / "whole" / "run"), 0, 0
    faults: list[str] = []
    print(f"{'round':>5} {'kills':>5}  result     after, s")
    while kills < times and not faults:
        here, status = folder / str(number), -1
        moments: list[float] = []
        while status != 0 and not faults:
            moment = float(random.uniform(0.0, length)) if kills + len(moments) < times else LEFT_ALONE
            seconds, status = timed(here, command, moment)
            if status == -signal.SIGKILL:
                moments.append(moment)
                faults += [f"round {number}, after a kill: {fault}" for fault in torn(here / "run")]
            elif status:
                faults.append(f"round {number}: status {status}: {(here / 'stderr').read_text()[-500:]}")
            elif not moments:
                length = min(length, seconds)  # the machine is less busy than it was
        if status == 0:
            faults += [f"round {number}: {difference}" for difference in compared(expected, found(here / "run"))]
        print(f"{number:>5} {len(moments):>5}  {'different' if faults else 'the same':<9}  "
              + " ".join(f"{moment:.2f}" for moment in moments), flush=True)
        kills, number = kills + len(moments), number + 1
    return kills, faults


def timed(folder: Path, command: Command, seconds: float) -> tuple[float, int]:
    """Work in a folder, kill that after so many seconds; return how long it took, and its status."""
    folder.mkdir(exist_ok=True)

    def work() -> None:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        command(folder.parent)

    begun = time.monotonic()
    status = in_child(work, seconds)
    return time.monotonic() - begun, status


def in_child(work: Callable[[], None], seconds: float) -> int:
    """Fork, work, and return the exit status; negative is the signal that ended it. Nothing here has started threads."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        finally:
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(0.002, max(deadline - time.monotonic(), 0.0)))
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare(folder: Path) -> None:
    """Make frames with the shipped model, and a float model to quantize."""
    forcefield, start, random = load(MODEL), structure_from("ethanol"), np.random.default_rng(0)
    frames = []
    for _ in range(24):
        moved = Structure(start.species, start.positions + 0.05 * random.normal(size=start.positions.shape))
        said = forcefield.predict(forcefield.graph(moved))
        frames.append(Structure(moved.species, moved.positions, energy=said.energy.item(), forces=said.forces))
    write_frames(folder / "frames.extxyz", frames)
    (folder / "config.yaml").write_text(CONFIG.format(frames=folder / "frames.extxyz", shape=SHAPE, steps=30))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    program("train", str(folder / "config.yaml"), "--set", f"out={folder / 'float'}")


def torn(run: Path) -> list[str]:
    """Return which files a kill left in pieces."""
    faults = []
    for path in run.glob("*.safetensors"):
        if not path.name.startswith("."):
            try:
                load(path) if path.stem == "model" else _tensors(path)
            except Exception as error:  # whatever a torn file raises is a fault, and is reported
                faults.append(f"{path.name}: {error}")
    return faults


def found(run: Path) -> Result:
    """Return everything in the folder of a run, apart from how long things took."""
    result: Result = {}
    for path in sorted(run.iterdir()):
        if path.suffix == ".safetensors" and not path.name.startswith("."):
            result[path.name] = _tensors(path)
        elif path.name == "log.csv":
            with open(path) as file:
                result[path.name] = [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]
        elif path.name.startswith("events"):
            events = EventAccumulator(str(path)).Reload()
            result["events"] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        else:
            result[path.name] = path.read_bytes()
    return result


def compared(expected: Result, result: Result) -> list[str]:
    """Return how a result differs."""
    odd = sorted(expected.keys() ^ result.keys())
    return [f"{name} is {'missing' if name in expected else 'left over'}" for name in odd] + [
        f"{name} differs" for name in sorted(expected.keys() & result.keys()) if expected[name] != result[name]]


def _tensors(path: Path) -> Result:
    with safe_open(path, framework="pt") as file:
        header = {key: _untimed(json.loads(text)) for key, text in (file.metadata() or {}).items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    return header | {name: (str(t.dtype), tuple(t.shape), t.reshape(-1).view(torch.uint8).numpy().tobytes())
                     for name, t in tensors.items()}


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in TIMED | {"sha256"}}
    return [_untimed(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
