"""Blobs of the native engine: their arrays, directory and bytes changed, most of them with a checksum that fits.

What the engine takes must compute in every instruction set. With `--sanitized` a program does it, csrc/tests/fuzz.cpp.
"""

import contextlib
import os
import resource
import struct
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from gaq.backends.native.engine import NativeEngine
from gaq.backends.native.errors import BadBlob, NoSuchInstructionSet
from gaq.backends.native.potential import emitter
from gaq.errors import GaqError
from gaq.graph import Graph, build_graph
from gaq.lowering.blob import ENTRY, HEADER, TYPES, written
from gaq.structure import Structure
from tests.fuzz.harness import DRIVER
from tests.sealing import arrays_of, sealed
from tests.tiny import CUTOFF, SPECIES, forcefield

BASES = (("l1", "fp32"), ("l1", "w4a8"), ("robust", "w4a8"), ("robust", "w4"), ("robust-l3", "w4a16"),
         ("so3krates", "w8a8"))
SETS = ("scalar", "avx2", "avx512")
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-40, 1.2e-38, 1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e30, 3.4e38, -1e10, np.nan,
          np.inf, -np.inf)
DOUBLES = (*FLOATS, 5e-324, 1e-300, 1e300, 1.7e308, 100.0, 1000.0)
WHOLE = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 25, 31, 32, 33, 63, 64, 65, 77, 118, 119, 255, 4096, 4097, 65535,
         65536, 65537, 2**30, 2**31 - 1, -1, -2, -77, -(2**31))


@cache
def base(number: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """A sound blob, whole and as its arrays."""
    data = emitter(forcefield(*BASES[number]).stored).blob().data
    return data, arrays_of(data)


def try_case(rng: np.random.Generator, folder: Path) -> str:
    """Change a blob and use it."""
    whole, arrays = base(int(rng.integers(len(BASES))))
    blob = with_bytes_changed(rng, whole) if rng.random() < 0.3 else with_arrays_changed(rng, dict(arrays))
    driver = os.environ.get(DRIVER)
    return driven(driver, blob) if driver else used(blob)


def used(blob: bytes) -> str:
    """Compute in every instruction set that there is."""
    words = set()
    for isa in SETS:
        try:
            engine = NativeEngine(blob, isa=isa)
        except NoSuchInstructionSet:
            continue
        except BadBlob:
            assert not words, "the instruction sets do not agree"
            raise
        for graph in graphs(engine):
            try:
                engine.set_graph(graph)
                energies, forces, _ = engine.compute(graph.positions, virial=True)
            except MemoryError:  # which is a GaqError too
                raise
            except GaqError:
                words.add("overflowed")
            else:
                assert np.isfinite(energies).all()
                assert np.isfinite(forces).all()
                words.add("computed")
    return words.pop() if len(words) == 1 else "mixed"


def graphs(engine: NativeEngine) -> list[Graph]:
    """A few atoms and a crystal, of species that the engine knows."""
    alone, cluster, crystal = shapes()
    known: list[int] = []
    for z in (*SPECIES, *range(1, 119)):
        with contextlib.suppress(GaqError):
            engine.set_graph(replace(alone, species=np.array([z])))
            known.append(z)
        if len(known) == len(SPECIES):
            break
    species = np.resize(known, 5)
    return [replace(cluster, species=species), replace(crystal, species=species[:2])]


@cache
def shapes() -> tuple[Graph, Graph, Graph]:
    """Graphs of an atom, of five, and of a crystal."""
    corners = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0.1], [0.1, 0, 1.3], [1.2, 1.1, 0.9]])
    hydrogen = np.ones(5, int)
    crystal = Structure(species=hydrogen[:2], positions=corners[:2], cell=3.5 * np.eye(3), pbc=(True,) * 3)
    return (build_graph(Structure(species=hydrogen[:1], positions=corners[:1]), CUTOFF),
            build_graph(Structure(species=hydrogen, positions=corners), CUTOFF), build_graph(crystal, CUTOFF))


@cache
def _process(driver: str) -> subprocess.Popen:
    room = resource.getrlimit(resource.RLIMIT_AS)[1]  # sanitizers reserve much
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([driver], bufsize=0, **pipes,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (room, room)))


def driven(driver: str, blob: bytes) -> str:
    """Give the blob to the sanitized program; what a sanitizer finds ends it, and is this case's failure."""
    process = _process(driver)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(struct.pack("<Q", len(blob)) + blob)
    except BrokenPipeError:
        line = b""
    else:
        line = process.stdout.readline()
    if not line:
        raise AssertionError(process.stderr.read().decode(errors="replace")[:3000])
    word, kilobytes = line.decode().split()
    assert int(kilobytes) < 10**6, f"the process takes {kilobytes} kB"
    return word


def with_arrays_changed(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> bytes:
    """Change one to three arrays: sizes and formats often, values mostly."""
    for _ in range(int(rng.choice((1, 1, 2, 3)))):
        names = sorted(arrays)
        telling = [n for n in names if n in ("config", "constants", "species") or n.endswith((".bits", ".format"))]
        pool = telling if rng.random() < 0.5 and telling else names
        name = pool[int(rng.integers(len(pool)))]
        array = arrays[name].copy()
        match int(rng.integers(16)):
            case 0:
                del arrays[name]
                continue
            case 1:
                arrays[str(rng.choice((f"{name}.bias", f"{name}.step", "x" * 63, "")))] = array
                continue
            case 2:
                array = np.resize(array, int(rng.choice((0, 1, len(array) + 1, max(len(array) - 1, 0), 2 * len(array)))))
            case 3:
                array = array.astype(list(TYPES)[int(rng.integers(4))], casting="unsafe")
            case 4 if array.dtype.kind == "f":
                array = (array.astype(float) * 10.0 ** rng.integers(-40, 39)).astype(array.dtype)
            case 5:
                array = rng.permutation(array)
            case _:
                change_values(rng, array)
        arrays[name] = array
    with np.errstate(all="ignore"):
        return written("transformer", arrays)


def change_values(rng: np.random.Generator, array: np.ndarray) -> None:
    """Put other values into an array, in place."""
    if not len(array):
        return
    value: float = float(rng.choice(DOUBLES if array.itemsize == 8 else FLOATS))
    if array.dtype.kind == "i":
        value = int(rng.choice(WHOLE)) if array.itemsize == 4 else int(rng.integers(-128, 128))
        if rng.random() < 0.3:  # close to what was there
            value = int(array[0]) + int(rng.integers(-2, 3))
    if array.dtype.kind == "i":
        value = min(max(int(value), int(np.iinfo(array.dtype).min)), int(np.iinfo(array.dtype).max))
    if rng.random() < 0.15:
        array.fill(value)
    else:
        array[rng.integers(len(array), size=int(rng.choice((1, 1, 3))))] = value


def with_bytes_changed(rng: np.random.Generator, whole: bytes) -> bytes:
    """Change bytes of the header, the directory or the arrays, or where the blob ends; mostly sealed."""
    data = bytearray(whole)
    directory = HEADER + ENTRY * int.from_bytes(data[12:16], "little")
    kind = rng.random()
    if kind < 0.1:
        del data[int(rng.integers(len(data))):]
    elif kind < 0.15:
        data += bytes(int(rng.integers(1, 200)))
    elif kind < 0.5:
        entry = HEADER + ENTRY * int(rng.integers((directory - HEADER) // ENTRY))
        fields = ((entry + 64, 4), (entry + 68, 4), (entry + 72, 8), (entry + 80, 8), (12, 4), (16, 8))
        field, size = fields[int(rng.integers(len(fields)))]
        values = (0, 1, 3, 4, 64, 128, 2**31, 2**32 - 1, 2**62, 2**64 - 1, 2**64 - 64, len(data), len(data) // 64 * 64)
        data[field : field + size] = (values[int(rng.integers(len(values)))] % 2 ** (8 * size)).to_bytes(size, "little")
    else:
        region = ((8, 28), (HEADER, directory), (directory, len(data)))[int(rng.integers(3))]
        for _ in range(int(rng.integers(1, 5))):
            data[int(rng.integers(*region))] = int(rng.choice((0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256)))))
    if rng.random() < 0.9 and len(data) >= HEADER:
        if rng.random() < 0.9:
            data[16:24] = len(data).to_bytes(8, "little")
        return sealed(data)
    return bytes(data)
