"""Model files and blobs taken apart and put together again with checksums that fit, whatever they then hold."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gaq.lowering.blob import ENTRY, HEADER, TYPES
from gaq.tensorfile import digest


def contents(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Header and tensors of a model file."""
    with safe_open(path, framework="pt") as source:
        state = {name: source.get_tensor(name).clone() for name in source.keys()}  # noqa: SIM118 - not a mapping
        return json.loads(source.metadata()["gaq"]), state


def rewrite(path: Path, header: object, state: dict[str, torch.Tensor]) -> Path:
    """A model file whose checksum is right."""
    if isinstance(header, dict):
        bare = {key: value for key, value in header.items() if key != "sha256"}
        header = bare | {"sha256": digest(bare, {name: _array(t) for name, t in state.items()})}
    save_file(state, path, metadata={"gaq": json.dumps(header)})
    return path


def _array(t: torch.Tensor) -> np.ndarray:
    """The tensor, or bytes in place of what numpy has no type for."""
    return t.numpy() if t.dtype not in (torch.bfloat16, torch.float8_e4m3fn) else t.view(torch.uint8).numpy()


def sealed(data: bytearray) -> bytes:
    """A blob with the checksum that belongs to its bytes."""
    data[24:28] = zlib.crc32(bytes(data[HEADER:])).to_bytes(4, "little")
    return bytes(data)


def arrays_of(blob: bytes) -> dict[str, np.ndarray]:
    """The arrays of a blob by name, in their order; `gaq.lowering.blob.written` makes a blob of them again."""
    kinds = {code: dtype for dtype, code in TYPES.items()}
    arrays = {}
    for n in range(int.from_bytes(blob[12:16], "little")):
        name, kind, _, count, offset = struct.unpack_from("<64sIIQQ", blob, HEADER + ENTRY * n)
        arrays[name.rstrip(b"\0").decode()] = np.frombuffer(blob, kinds[kind], count, offset)
    return arrays
