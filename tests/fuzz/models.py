"""Model files: headers, recipes, tensors and bytes changed, most of them with a checksum that fits.

What `load` takes must compute on both backends: finite numbers, or one clear error. No blob of it is refused by the engine.
"""

import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from gaq.backends.native.errors import BadBlob
from gaq.backends.native.potential import NativePotential
from gaq.errors import GaqError
from gaq.forcefield import ForceField, load
from gaq.lowering.blob import NotLowered
from gaq.structure import Structure
from gaq.tensorfile import digest
from tests.sealing import contents
from tests.tiny import forcefield

MODELS = Path(__file__).resolve().parents[2] / "models"
BASES = (("l1", "fp32"), ("l1", "w4a8"), ("l1", "int8-naive"), ("l1", "degree-quant"), ("robust", "fp32"), ("robust", "w4"),
         ("robust", "w4a8"), ("robust", "svq-kmeans"), ("robust-l3", "w4a16"), ("so3krates", "w8a8"))
COMMITTED, SHARE = ("ethanol-w4a8", "ethanol-gfn2-fp32"), 0.03
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-40, 1.2e-38, 1e-30, 1e-20, 1e-10, 1e5, 1e10, 1e20, 1e30, 3e38, -1e10,
           -3e38, np.nan, np.inf, -np.inf)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int32, torch.int64,
          torch.bool, torch.complex64, torch.float8_e5m2)
UNKNOWN_TO_NUMPY = (torch.bfloat16, torch.float8_e5m2)
WHOLE = (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 63, 64, 65, 100, 118, 119, 255, 4096, 4097, 10**6, 2**31, 2**63,
         10**30, -1, -2)
CROWDED = 12.0  # Å; in a crystal a larger cutoff meets thousands of images


@cache
def base(number: int) -> tuple[dict, dict[str, torch.Tensor]]:
    """Header and tensors of a sound model; those beyond `BASES` are committed ones."""
    if number >= len(BASES):
        return contents(MODELS / f"{COMMITTED[number - len(BASES)]}.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        forcefield(*BASES[number]).save(Path(folder) / "m")
        return contents(Path(folder) / "m")


def try_case(rng: np.random.Generator, folder: Path) -> str:
    """Change a model file in one to three ways, load it, and predict on both backends."""
    number = int(rng.integers(len(BASES))) if rng.random() > SHARE else len(BASES) + int(rng.integers(len(COMMITTED)))
    header, state = base(number)
    header, state = json.loads(json.dumps(header)), dict(state)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.5:
            change_header(rng, header)
        else:
            change_tensors(rng, state)
    path = folder / "m.safetensors"
    path.write_bytes(written(rng, header, state))
    return use(load(path, "torch"), rng, folder)


def use(field: ForceField, rng: np.random.Generator, folder: Path) -> str:
    """Store the model again, and predict with both backends."""
    field.save(folder / "again.safetensors")
    load(folder / "again.safetensors")
    try:
        native = NativePotential(field.stored, isa=str(rng.choice(("", "scalar", "avx2", "avx512"))) or None)
    except NotLowered:
        native = None
    except BadBlob as refused:
        raise AssertionError("the engine refuses a model that PyTorch computes") from refused
    said = set()
    for structure in structures(rng, field):
        answers = {predicted(backend, structure) for backend in (field, native) if backend is not None}
        if len(answers) == 2:  # on the way to overflow; float sums of another order
            return "differs"
        said |= answers
    return "computed" if said == {True} else "overflowed" if said == {False} else "mixed"


def predicted(field: Any, structure: Structure) -> bool:
    """Return whether a prediction is made, rather than refused; what is made is finite."""
    try:
        made = field.predict(field.graph(structure))
    except GaqError:
        return False
    assert np.isfinite(made.energy).all()
    assert np.isfinite(made.atom_energies).all()
    assert np.isfinite(made.forces).all()
    return True


def structures(rng: np.random.Generator, field: ForceField) -> list[Structure]:
    """An atom, a few atoms, and a crystal where the cutoff allows it."""
    species = rng.choice(field.species, 5)
    corners = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0.1], [0.1, 0, 1.3], [1.2, 1.1, 0.9]])
    made = [Structure(species=species[:1], positions=corners[:1]),
            Structure(species=species, positions=corners + rng.uniform(-0.1, 0.1, (5, 3)))]
    if field.cutoff < CROWDED:
        made.append(Structure(species=species[:2], positions=corners[:2], cell=3.5 * np.eye(3), pbc=(True,) * 3))
    return made


def change_header(rng: np.random.Generator, header: dict) -> None:
    """Change, remove or add one value somewhere in the header."""
    part = header
    for _ in range(int(rng.integers(1, 6))):
        inside = part.values() if isinstance(part, dict) else part
        deeper = [inner for inner in inside if isinstance(inner, (dict, list)) and inner]
        if not deeper or (part is not header and rng.random() < 0.2):
            break
        part = deeper[int(rng.integers(len(deeper)))]
    if part is header and rng.random() < 0.5:
        part = header.get("model") or header
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if not keys:
        return
    key = keys[int(rng.integers(len(keys)))]
    match int(rng.integers(10)):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[str(rng.choice(("match", "weight", "colour", "", "bits")))] = odd(rng)
        case 2 if isinstance(part, list):
            part *= int(rng.choice((0, 2, 300)))
        case 3 | 4 if isinstance(part[key], (int, float)):
            scaled = part[key] * float(rng.choice((0.5, 2, -1, 10)))
            part[key] = scaled if rng.random() < 0.3 else int(rng.choice(WHOLE[1:12]))
        case _:
            part[key] = odd(rng)


def odd(rng: np.random.Generator) -> Any:
    """A value that does not belong there."""
    deep: Any = 1
    for _ in range(int(rng.choice((3, 60, 900)))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    pool = (None, True, False, "", "x" * int(rng.choice((1, 100, 10**6))), [], {}, deep, "\ud800", "1", "*",
            float(rng.choice(NUMBERS)), 1e308, 5e-324, [1] * 1000, "attention.*", "mddq", "component")
    return int(rng.choice(WHOLE[:-5])) if rng.random() < 0.4 else pool[int(rng.integers(len(pool)))]


def change_tensors(rng: np.random.Generator, state: dict[str, torch.Tensor]) -> None:
    """Change one tensor, mostly its values."""
    name = sorted(state)[int(rng.integers(len(state)))] if state else "lost"
    t = state.pop(name, torch.zeros(3))
    match int(rng.integers(14)):
        case 0:
            return
        case 1:
            state["other" if rng.random() < 0.5 else f"{name}.more"] = t.clone()
            if rng.random() < 0.5:
                return
        case 2:
            t = t.to(DTYPES[int(rng.integers(len(DTYPES)))])
        case 3:
            t = (t[None], t.mT if t.dim() > 1 else t.reshape(-1, 1), t.flatten(), t.flatten()[: t.numel() // 2],
                 torch.cat([t.flatten()] * 2), t.flatten()[:0], t.sum().to(t.dtype))[int(rng.integers(7))]
        case 4:
            t = torch.full_like(t, t.flatten()[0].item()) if t.numel() else t
        case 5 | 6:
            t = with_bits_flipped(rng, t)
        case 7 | 8 if t.is_floating_point():
            t = t * float(10.0 ** rng.integers(-45, 39))
        case _:
            t = t.clone()
            where = rng.integers(t.numel(), size=int(rng.choice((1, 1, 3, 50)))) if t.numel() else []
            value = float(rng.choice(NUMBERS))
            if not t.is_floating_point():
                value = float(rng.integers(256))
            if rng.random() < 0.2:
                t.fill_(value)
            else:
                t.view(-1)[torch.as_tensor(where, dtype=torch.int64)] = value
    state[name] = t.contiguous()


def with_bits_flipped(rng: np.random.Generator, t: torch.Tensor) -> torch.Tensor:
    raw = bytearray(t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for _ in range(int(rng.choice((1, 3, 30))) if raw else 0):
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
    return torch.frombuffer(raw, dtype=t.dtype).reshape(t.shape).clone() if raw else t


def written(rng: np.random.Generator, header: dict, state: dict[str, torch.Tensor]) -> bytes:
    """The bytes of the file, mostly sealed; some are then damaged."""
    header.pop("sha256", None)
    if rng.random() < 0.97:
        known = {name: t.numpy() for name, t in state.items() if t.dtype not in UNKNOWN_TO_NUMPY}  # others are not read
        header["sha256"] = digest(header, known)
    text = json.dumps(header)
    if rng.random() < 0.03:
        broken = ("[" * 10**5, '{"a":' * 10**5, text[:-1], "", "null", text.replace("1", "1e999", 1), "NaN", text * 2)
        text = broken[int(rng.integers(len(broken)))]
    data = bytearray(save(state, metadata={str(rng.choice(("gaq", "gaq", "gaq", "gaq", "gaq", "other"))): text}))
    kind = rng.random()
    if kind < 0.05:
        del data[int(rng.integers(len(data))):]
    elif kind < 0.1:
        for _ in range(int(rng.choice((1, 10)))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif kind < 0.12:
        data[:8] = struct.pack("<Q", int(rng.choice((0, 1, 2**31, 2**62, len(data)))))
    elif kind < 0.14:
        data += bytes(int(rng.integers(1, 100)))
    return bytes(data)
