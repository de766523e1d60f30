"""Which models there are: found by file name, checked against what their headers say."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gaq.errors import GaqError
from gaq.files import sha256
from gaq.forcefield import ForceField, load

MOLECULES = ("azobenzene", "aspirin", "ethanol")
CONSERVATION = "azobenzene"  # the molecule of simulations and vector coders
ABLATION = "ethanol"
NAIVE = "int8-naive"  # needs no training, and is made on the spot
RIVALS = (NAIVE, "svq-kmeans", "degree-quant")
EXPECTED = ("fp32", "fp32-control", "w4a8", "w4a16", *RIVALS)
SIMULATED = ("fp32", "w4", "w4a16", "w4a8")
FULL, CONTROL, GAQ = "fp32", "fp32-control", "w4a8"
LABELS = {"fp32": "FP32", "fp32-control": "FP32 control", "w4a8": "GAQ W4A8", "w4a16": "GAQ W4A16", "w4": "GAQ W4",
          "w8a8": "GAQ W8A8", NAIVE: "naive INT8", "svq-kmeans": "SVQ-KMeans", "degree-quant": "Degree-Quant"}


@dataclass(frozen=True)
class Entry:
    """One model of the page.

    Args:
        group: molecule and seed, "azobenzene" or "azobenzene-seed1", or "ablation".
        molecule: name in rMD17.
        name: what follows the group in the file name: "w4a8", "fp32-control".
        path: the file; for a model made on the spot, the float one that it is made from.
        recipe: of a model made on the spot; None for a file.
        sha256: of the file.
    """

    group: str
    molecule: str
    name: str
    path: Path
    sha256: str
    recipe: str | None = None

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        return LABELS.get(self.name, self.name)

    @property
    def key(self) -> str:
        """Unique among the models of a page."""
        return f"{self.group}-{self.name}"

    def source(self, part: str) -> str:
        """Return the name of the training or test frames of its molecule."""
        return f"rmd17:{self.molecule}:1:{part}"


@dataclass
class Catalogue:
    """All models, in the order of the page, and what was left out."""

    entries: list[Entry] = field(default_factory=list)
    ablation: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    forcefields: dict[str, ForceField] = field(default_factory=dict)

    def groups(self) -> list[str]:
        """Return the groups, in the order of the page."""
        return list(dict.fromkeys(entry.group for entry in self.entries))

    def of(self, group: str) -> list[Entry]:
        """Return the models of one group."""
        return [entry for entry in self.entries if entry.group == group]

    def find(self, group: str, name: str) -> Entry | None:
        """Return one model, or None."""
        return next((entry for entry in self.of(group) if entry.name == name), None)


def find_models(folder: Path) -> Catalogue:
    """Return the models in a folder; files that are absent or cannot be read become notes."""
    found = Catalogue()
    for path in sorted(folder.glob("*.safetensors")):
        match = re.fullmatch(rf"(({'|'.join(MOLECULES)})(?:-seed\d+)?)-(.+)", path.stem)
        if match:
            _add(found, found.entries, Entry(match[1], match[2], match[3], path, sha256(path)))
    for path in sorted((folder / "ablation").glob(f"{ABLATION}-*.safetensors")):
        _add(found, found.ablation, Entry("ablation", ABLATION, path.stem.removeprefix(f"{ABLATION}-"), path,
                                          sha256(path)))
    for group in found.groups():
        full = found.find(group, FULL)
        if full is not None and found.find(group, NAIVE) is None:
            found.entries.append(Entry(group, full.molecule, NAIVE, full.path, full.sha256, recipe=NAIVE))
    found.entries.sort(key=_place)
    for molecule in MOLECULES:
        absent = [name for name in EXPECTED if found.find(molecule, name) is None]
        if absent == list(EXPECTED):
            found.notes.append(f"No models of {molecule} are in `{folder}`; its rows are left out.")
        elif absent:
            found.notes.append(f"Left out of the rows of {molecule}, since there is no such file in `{folder}`: "
                               + _listed(f"`{molecule}-{name}`" for name in absent) + ".")
    if not found.ablation:
        found.notes.append(f"There are no ablations in `{folder / 'ablation'}`.")
    return found


def _add(found: Catalogue, entries: list[Entry], entry: Entry) -> None:
    try:
        forcefield = load(entry.path)
    except GaqError as error:
        found.notes.append(f"Left out: {error}.")
        return
    if entry.group != "ablation" and not entry.name.startswith(forcefield.recipe.name):
        return  # as ethanol-gfn2-fp32, which belongs to the demo
    found.forcefields[entry.key] = forcefield
    entries.append(entry)


def _place(entry: Entry) -> tuple[int, str, int, str]:
    order = EXPECTED.index(entry.name) if entry.name in EXPECTED else len(EXPECTED)
    return MOLECULES.index(entry.molecule), entry.group, order, entry.name


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
