"""Which part of a model costs how much when it alone is rounded: forces, equivariance, conservation.

A part is one kind of codes of one leaf: its weights, its input activations, or the vector features it rounds. For each
part a model is made in which that part is quantized as the recipe says, on calibrated steps, and all else is float.
Weights are rounded with the steps of their inputs folded in, as they are where those are rounded too.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from gaq.backends.torch import TorchPotential
from gaq.compress.calibrate import calibration_batches
from gaq.compress.probe import observe
from gaq.compress.swap import network, prepare, stored
from gaq.data import Frames, check_frames
from gaq.dynamics.replicas import simulate_replicas
from gaq.errors import ConfigError, DataError
from gaq.forcefield import ForceField
from gaq.graph import Graph, collate
from gaq.leaves import Schema, VectorLinearLeaf, VectorQuantizerLeaf
from gaq.metrics.accuracy import MEV, accuracy
from gaq.metrics.batches import batches, checked_prediction, unlabelled
from gaq.metrics.conservation import replica_drift
from gaq.metrics.equivariance import local_equivariance_error
from gaq.metrics.jacobian import jacobian_antisymmetry
from gaq.nn.tensors import tensors
from gaq.recipe import Recipe, Rule, Schedule
from gaq.stored import StoredModel

FORMAT, FORMAT_VERSION = "gaq-sensitivity", 1
Kind = Literal["weight", "input", "vectors"]  # the fields of a `Rule` that say how many bits
WIDTHS: dict[Kind, tuple[int, ...]] = {"weight": (4, 8), "input": (8, 12, 16), "vectors": (8, 12, 16)}
TIMESTEP = 0.5  # fs

Told = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SensitivityPlan:
    """How much is measured.

    Args:
        frames: most frames for the forces, evenly spread.
        rotations, lee_frames: for the equivariance error, of so many of those frames.
        jacobian_frames: of those frames, for the antisymmetry of the force Jacobian; 0 leaves it out.
        picoseconds, replicas: of simulations at constant energy, from the first frame; None leaves them out.
        alternatives: kinds of parts of which every width in `WIDTHS` is measured too, for their forces alone.
        alternative_jacobians: whether the antisymmetry of those is measured as well.
        batch_size: structures in one prediction.
        seed: of rotations and velocities.

    Raises:
        ConfigError: a number without meaning.
    """

    frames: int = 16
    rotations: int = 4
    lee_frames: int = 4
    jacobian_frames: int = 1
    picoseconds: float | None = None
    replicas: int = 4
    alternatives: tuple[Kind, ...] = ()
    alternative_jacobians: bool = False
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "rotations", "lee_frames", "replicas", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.jacobian_frames < 0:
            raise ConfigError(f"jacobian_frames must be 0 or more, not {self.jacobian_frames}")
        if self.picoseconds is not None and not 0 < self.picoseconds < np.inf:
            raise ConfigError(f"picoseconds must be a positive number, not {self.picoseconds}")


@dataclass(frozen=True)
class Measures:
    """What rounding does to a model; None is what was not measured.

    Args:
        forces_rms_change_meV_A, forces_mae_change_meV_A: of force components, against the float model.
        energy_change_meV: standard deviation of the change of total energies against the float model; a constant is no
            change. Rounded inputs of the last layer show here alone: straight-through forces do not see them.
        forces_mae_meV_A: of force components, against reference labels.
        lee_forces_meV_A: mean local equivariance error.
        lambda_antisymmetry: |J - Jᵀ| / |J + Jᵀ|, the largest over frames; None too where only weights are rounded, which
            leaves forces the gradient of an energy.
        nve_fluctuation_meV_atom: of the total energy; None too where a simulation exploded.
        nve_fluctuation_ratio: the same relative to the float model.
    """

    forces_rms_change_meV_A: float
    forces_mae_change_meV_A: float
    energy_change_meV: float | None = None
    forces_mae_meV_A: float | None = None
    lee_forces_meV_A: float | None = None
    lambda_antisymmetry: float | None = None
    nve_fluctuation_meV_atom: float | None = None
    nve_fluctuation_ratio: float | None = None


@dataclass(frozen=True)
class SensitivityRow:
    """One part at one width, quantized alone.

    Args:
        leaf, role: name and role of the leaf.
        kind: what is rounded.
        bits: width of a code.
        given: whether this is the width of the recipe.
        bytes: that its weights take, steps included; None for activations.
        operations: multiply-accumulate operations per atom that take these activations; None for weights.
        measures: of the model in which nothing else is rounded.
    """

    leaf: str
    role: str
    kind: Kind
    bits: int
    given: bool
    bytes: int | None
    operations: float | None
    measures: Measures


@dataclass(frozen=True, eq=False)
class Report:
    """Sensitivities of the parts of a float force field under one recipe.

    Args:
        recipe: which parts there are, and their widths.
        source, fingerprint: of the frames.
        frames: so many were used.
        plan: how much was measured.
        reference: the float model's own measures.
        whole: those of the model with all parts quantized.
        stored_bytes: of that model.
        rows: parts in the order of the model, each at the width of the recipe and then at the alternatives.
    """

    recipe: Recipe
    source: str
    fingerprint: str
    frames: int
    plan: SensitivityPlan
    reference: Measures
    whole: Measures
    stored_bytes: int
    rows: tuple[SensitivityRow, ...]

    @property
    def given(self) -> tuple[SensitivityRow, ...]:
        """The parts at the widths of the recipe."""
        return tuple(row for row in self.rows if row.given)

    def parts(self) -> list[list[SensitivityRow]]:
        """Return the rows of each part."""
        found: dict[tuple[str, str], list[SensitivityRow]] = {}
        for row in self.rows:
            found.setdefault((row.leaf, row.kind), []).append(row)
        return list(found.values())

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, "version": version("gaq"),
                "recipe": self.recipe.model_dump(mode="json"), "source": self.source,
                "source_fingerprint": self.fingerprint, "frames": self.frames, "plan": asdict(self.plan),
                "float": asdict(self.reference), "whole": asdict(self.whole), "stored_bytes": self.stored_bytes,
                "rows": [asdict(row) for row in self.rows]}


def sensitivity(forcefield: ForceField, recipe: Recipe, frames: Frames, plan: SensitivityPlan = SensitivityPlan(), *,
                progress: Told = lambda done, total, note: None) -> Report:
    """Quantize one part of a float force field at a time, and measure what comes of it.

    Args:
        forcefield: float.
        recipe: which parts are quantized, and how; it is calibrated, never trained.
        frames: for calibration (up to 64) and for the measures; labels are used where there are any.
        plan: how much is measured.
        progress: called with the models measured so far, their number, and the next one.

    Raises:
        ConfigError: the force field is quantized already, or a rule matches no leaf.
        DataError: no frames.
        SpeciesError: frames with an element that the model was not made for.
        GaqError: a prediction that is not finite.
    """
    bench = Bench(forcefield, frames, plan)
    schema = forcefield.stored.schema
    chosen = list(_parts(schema, recipe, plan.alternatives))
    total, rows = len(chosen) + 2, []
    progress(0, total, "float model")
    reference = bench.measure(forcefield.stored)
    progress(1, total, f"{recipe.name} as a whole")
    deployed = bench.deployed(recipe)
    whole = bench.measure(deployed)
    counts = _operations(schema, bench.graphs[0])
    for done, part in enumerate(chosen, start=2):
        progress(done, total, f"{part.leaf}: {part.kind} in {part.bits} bits")
        rows.append(_row(bench, part, counts[part.leaf]))
    progress(total, total, "")
    return Report(recipe, frames.source, frames.fingerprint, len(bench.graphs), plan, reference, whole,
                  sum(deployed.bytes_by_tensor().values()), tuple(rows))


class Bench:
    """A float force field on frames, and the measure of its quantized forms against it.

    Args:
        forcefield: float.
        frames, plan: as for `sensitivity`.
    """

    def __init__(self, forcefield: ForceField, frames: Frames, plan: SensitivityPlan) -> None:
        if forcefield.recipe.rules:
            raise ConfigError(f"the force field is quantized already ({forcefield.recipe.name}); give its float original")
        if not len(frames):
            raise DataError(f"{frames.source} holds no frames; sensitivities need at least one structure")
        frames = frames.apart()[0] or frames
        check_frames(frames, forcefield.species)
        self.forcefield, self.plan, self.start = forcefield, plan, replace(frames[0], energy=None, forces=None)
        self.network = network(forcefield.stored, forcefield.device)
        self.seen = observe(self.network, calibration_batches(frames, forcefield.cutoff, forcefield.device))
        self.graphs = [tensors(forcefield.graph(frame)) for frame in frames.spread(plan.frames)]
        labels = [graph.forces.flatten() for graph in self.graphs if graph.forces is not None]
        self._labels = torch.cat(labels).numpy() if len(labels) == len(self.graphs) else None
        self._labelled: list[Graph] = []  # by the float model
        for members in batches([unlabelled(graph) for graph in self.graphs], plan.batch_size):
            said = checked_prediction(self._computed(forcefield.stored), collate(members))
            forces = said.forces.split([len(graph.species) for graph in members])
            self._labelled += [replace(graph, energy=energy[None], forces=part)
                             for graph, energy, part in zip(members, said.energy, forces, strict=True)]

    def deployed(self, recipe: Recipe) -> StoredModel:
        """Return the model quantized by a recipe, calibrated only."""
        return stored(prepare(self.network, recipe, self.seen), recipe)

    def measure(self, model: StoredModel, *, active: Collection[str] | None = None, forces_only: bool = False,
                jacobian: bool = True) -> Measures:
        """Return what was asked for in the plan, or a part of it.

        Args:
            active: leaves whose activation quantizers round; None for all.
        """
        subject, whole = self._computed(model, active), model is self.forcefield.stored
        count = sum(graph.positions.numel() for graph in self._labelled)
        found = accuracy(subject, self._labelled, batch_size=self.plan.batch_size, parity_samples=count)
        assert found.forces_rmse_meV_A is not None  # for mypy: the float model gave a label to every frame
        assert found.forces_mae_meV_A is not None
        scatter = MEV * float(found.frame_energy_errors.std()) if len(self._labelled) > 1 else None
        measures = Measures(found.forces_rmse_meV_A, found.forces_mae_meV_A, scatter)
        if self._labels is not None:
            error = float(np.abs(found.forces_parity[1] - self._labels).mean())
            measures = replace(measures, forces_mae_meV_A=MEV * error)
        if jacobian and (whole or (active is None and model.schema.quantizers(model.recipe))):
            measures = replace(measures, lambda_antisymmetry=self._antisymmetry(model))
        if forces_only:
            return measures
        lee = local_equivariance_error(subject, self.graphs[: self.plan.lee_frames], rotations=self.plan.rotations,
                                       seed=self.plan.seed, batch_size=self.plan.batch_size).forces_meV_A.mean
        fluctuation = self._float_fluctuation if whole else self._fluctuation(subject)
        ratio = (fluctuation / self._float_fluctuation) if fluctuation and self._float_fluctuation else None
        return replace(measures, lee_forces_meV_A=lee, nve_fluctuation_meV_atom=fluctuation, nve_fluctuation_ratio=ratio)

    def _computed(self, model: StoredModel, active: Collection[str] | None = None,
                  dtype: str = "float32") -> TorchPotential:
        return TorchPotential(model, self.forcefield.device, dtype, active)

    def _antisymmetry(self, model: StoredModel) -> float | None:
        precise = self._computed(model, dtype="float64")  # rounding of single precision would hide derivatives
        values = [jacobian_antisymmetry(precise, graph, batch_size=self.plan.batch_size)
                  for graph in self.graphs[: self.plan.jacobian_frames]]
        return max(values, default=None)

    @cached_property
    def _float_fluctuation(self) -> float | None:
        return self._fluctuation(self._computed(self.forcefield.stored))

    def _fluctuation(self, subject: TorchPotential) -> float | None:
        if self.plan.picoseconds is None:
            return None
        done = simulate_replicas(subject, self.start, subject.cutoff, replicas=self.plan.replicas, seed=self.plan.seed,
                                 picoseconds=self.plan.picoseconds, timestep_fs=TIMESTEP)
        if done.exploded is not None:
            return None
        return replica_drift(done.time_ps, done.energy, len(self.start)).fluctuation_meV_atom


def at_width(rule: Rule, kind: Kind, bits: int) -> Any:
    """Return what the field `kind` of a rule becomes at another width, as plain data."""
    if kind != "vectors" or rule.vectors is None:
        return bits
    data = rule.vectors.model_dump(mode="json")
    for holder in (data, data.get("magnitude", {}), data.get("direction", {})):
        if "bits" in holder:
            holder["bits"] = bits
    return data


class _Part(NamedTuple):
    leaf: str
    role: str
    kind: Kind
    bits: int
    given: bool
    recipe: Recipe


def _parts(schema: Schema, recipe: Recipe, alternatives: tuple[Kind, ...]) -> Iterator[_Part]:
    """Yield every part, with a recipe that quantizes it alone."""
    for name, rule in schema.rules(recipe).items():
        role = schema.leaves[name].role
        for kind in _kinds(schema, name):
            own, adjustable = _bits(rule, kind)
            if own is None:
                continue
            others = [bits for bits in WIDTHS[kind] if bits != own] if adjustable and kind in alternatives else []
            for bits in (own, *others):
                value = getattr(rule, kind) if bits == own else at_width(rule, kind, bits)
                yield _Part(name, role, kind, bits, bits == own, _only(rule, name, kind, value))


def _kinds(schema: Schema, name: str) -> tuple[Kind, ...]:
    """Return what can be rounded in a leaf: the parts that `prepare` heeds."""
    leaf = schema.leaves[name]
    if isinstance(leaf, VectorQuantizerLeaf):
        return ("vectors",)
    return ("weight", "input") if leaf.takes_codes else ("weight",)


def _bits(rule: Rule, kind: Kind) -> tuple[int | None, bool]:
    """Return the width that a rule gives to a kind of codes, and whether other widths are possible."""
    if kind != "vectors":
        return getattr(rule, kind), True
    if rule.vectors is None:
        return None, False
    if rule.vectors.kind == "components":
        return rule.vectors.bits, True
    bits: int | None = getattr(rule.vectors.direction, "bits", None)
    return (rule.vectors.magnitude.width, False) if bits is None else (bits, True)


def _only(rule: Rule, name: str, kind: Kind, value: Any) -> Recipe:
    kept = rule.input if kind == "weight" else None  # its step is folded into the weight; `_row` lets it go
    bare = rule.model_dump() | {"match": name, "weight": None, "input": kept, "vectors": None}
    return Recipe(name=f"{name} {kind}", rules=(Rule.model_validate(bare | {kind: value}),),
                  schedule=Schedule(train=False))


def _row(bench: Bench, part: _Part, operations: float) -> SensitivityRow:
    subject = bench.deployed(part.recipe)
    weights = part.kind == "weight"
    measures = bench.measure(subject, active=() if weights else None, forces_only=not part.given,
                             jacobian=part.given or bench.plan.alternative_jacobians)
    size = sum(size for name, size in subject.bytes_by_tensor().items() if name.startswith(f"{part.leaf}.weight."))
    return SensitivityRow(part.leaf, part.role, part.kind, part.bits, part.given, size if weights else None,
               None if weights else operations, measures)


def _operations(schema: Schema, graph: Graph) -> dict[str, float]:
    """Return the multiply-adds per atom that take the activations of each leaf; leaves on edges count once for each edge.

    Rounded vector features multiply nothing where they are rounded; the maps that take them are those of their block.
    """
    edges = len(graph.centers) / len(graph.species)
    counts = {name: leaf.products * (edges if leaf.rows == "edge" else 1.0) for name, leaf in schema.leaves.items()}
    maps = [name for name, leaf in schema.leaves.items() if isinstance(leaf, VectorLinearLeaf)]
    for name in counts:
        if "vectors" in _kinds(schema, name):
            block = name.rpartition(".")[0]
            counts[name] = sum(counts[other] for other in maps if other.startswith(f"{block}."))
    return counts
