"""`gaq info`: what this installation has, and what is in a model file."""

import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich import box
from rich.table import Table

from gaq.cli import options
from gaq.cli.terminal import duration, one_line, show, size

if TYPE_CHECKING:

    from gaq.forcefield import ForceField
    from gaq.leaves import Leaf
    from gaq.quant.vector_formats import VectorFormat
    from gaq.recipe import Rule

FLOAT = "float"


def info(
    model: Annotated[Path | None, options.model()] = None,
) -> None:
    """Show the program and this machine, or what is in a model file.

    Of a model: its shape, the bits of every part, its size, and how it was made.
    """
    if model is None:
        show(_facts(_installation()))
        return
    forcefield = options.load_model(model, "cpu")
    show(_facts(_identity(forcefield, model)), "", _leaf_table(forcefield), "",
         _facts(_origin(forcefield.provenance) or {"origin": "not recorded"}))


def _installation() -> dict[str, str]:
    from gaq.data.folders import data_folders
    from gaq.machine import hardware, installed

    machine = hardware()
    return {"gaq": version("gaq"), "python": sys.version.split()[0], "torch": machine["torch"], "cpu": machine["cpu"],
            "threads": str(machine["threads"]), "devices": ", ".join(_devices()),
            "engine": _engine(), "labels": ", ".join(f"{levels} {installed(package)}" for levels, package in
                                (("gfn2-xtb and gfn1-xtb: tblite", "tblite"), ("pyscf-pbe: pyscf", "pyscf"))),
            "data folders": ", ".join(str(folder) for folder in data_folders())}


def _devices() -> list[str]:
    if find_spec("torch") is None:
        return ["cpu"]
    import torch

    return ["cpu", *(f"cuda:{k} ({torch.cuda.get_device_name(k)})" for k in range(torch.cuda.device_count()))]


def _engine() -> str:
    """Say which native library and instruction set compute, or why none does."""
    from gaq.backends.native.errors import EngineMissing
    from gaq.backends.native.library import library

    try:
        found = library()
    except EngineMissing as missing:
        return f"none: {missing}"
    return f"{found.path}, instruction set {os.environ.get('GAQ_ISA') or found.best_isa}"


def _identity(forcefield: "ForceField", path: Path) -> dict[str, str]:
    from ase.data import chemical_symbols

    from gaq.files import sha256

    c, stored = forcefield.config, forcefield.stored
    taken, full = sum(stored.bytes_by_tensor().values()), stored.bytes_in_float32()
    audit = forcefield.provenance.get("audit")
    return {
        "file": f"{path}, {size(path.stat().st_size)}", "sha256": sha256(path),
        "species": " ".join(chemical_symbols[z] for z in c.species), "cutoff": f"{c.cutoff:g} Å",
        **c.described(),
        "recipe": f"{forcefield.recipe.name}: {forcefield.recipe.description}".rstrip(": "),
        "tensors": f"{size(taken)}, {taken / full:.0%} of {size(full)} in FP32",
        "audit": f"{audit.get('grade')}, {audit.get('source')}" if isinstance(audit, dict) else "none: `gaq audit --write`",
    }


def _leaf_table(forcefield: "ForceField") -> Table:
    """Return one row for each leaf: how many bits its weights and inputs have, and how vectors are stored."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("leaf", "role", "weight\nbits", "input\nbits", "vector format", "bits per vector"):
        table.add_column(heading, justify="right" if "bits" in heading else "left", vertical="bottom")
    schema = forcefield.stored.schema
    for name, rule in schema.rules(forcefield.recipe).items():
        table.add_row(name, schema.leaves[name].role, *_leaf(name, schema.leaves[name], rule))
    return table


def _leaf(name: str, leaf: "Leaf", rule: "Rule") -> tuple[str, str, str, str]:
    from gaq.leaves import VectorQuantizerLeaf

    if not isinstance(leaf, VectorQuantizerLeaf):
        coded = "" if not leaf.takes_codes else FLOAT if rule.input is None else str(rule.input)
        return FLOAT if rule.weight is None else str(rule.weight), coded, "", ""
    if not leaf.rounds(rule):
        return "", "", FLOAT, ""
    formats = list(enumerate(leaf.formats(name, rule), start=1))
    kinds = [_vector_format(fmt) for _, fmt in formats]
    each = (f"l={d}: {kind}" for d, kind in enumerate(kinds, start=1))
    text = kinds[0] if len(set(kinds)) == 1 else "; ".join(each)
    return "", "", text, ", ".join(f"l={d}: {fmt.bits_per_vector(d):g}" for d, fmt in formats)


def _vector_format(fmt: "VectorFormat") -> str:
    """Return e.g. `mddq: linear 8 × component 8, aligned`."""
    def words(part: Any) -> str:
        return " ".join(str(value) for value in part.model_dump().values())

    if fmt.kind == "components":
        text = f"components {fmt.bits}"
    else:
        text = f"mddq: {words(fmt.magnitude)} × {words(fmt.direction)}"
    return text + (", aligned" if fmt.aligned else "")


def _origin(provenance: dict[str, Any], of: str = "") -> dict[str, str]:
    """Return what the file says of how the model was made; a low-bit model remembers its float one."""
    said = {f"{of}data": f"{provenance['training_frames']} frames of {provenance.get('source') or 'unknown source'}"
             if "training_frames" in provenance else "",
            f"{of}fingerprint": provenance.get("fingerprint"),
            f"{of}training": f"{provenance['steps']} steps in {duration(float(provenance.get('seconds') or 0))}, "
             f"best at {provenance.get('best_step')}" if "steps" in provenance else "",
            f"{of}made with": f"torch {provenance['torch']} on {provenance.get('device', 'cpu')}"
             if "torch" in provenance else ""}
    facts = {name: one_line(str(value)) for name, value in said.items() if value}
    original = provenance.get("float")
    return facts | (_origin(original, "FP32 ") if isinstance(original, dict) else {})


def _facts(facts: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    return table
