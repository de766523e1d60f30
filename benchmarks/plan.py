"""Which measurements the page needs, and how their results come together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import gaq
from benchmarks.catalogue import ABLATION, CONSERVATION, CONTROL, FULL, GAQ, NAIVE, RIVALS, SIMULATED, Catalogue, Entry
from benchmarks.coders import CODERS
from benchmarks.origin import changes
from benchmarks.settings import Settings
from benchmarks.workers import Job
from gaq.assess.audit import DRIFT_BOUND, FLUCTUATION_RATIO_BOUND, LAMBDA_BOUND, STEPS, AuditPlan, judge
from gaq.metrics.loops import POINTS

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Planner:
    """Turns models and settings into jobs, and results of jobs into the content of the page."""

    catalogue: Catalogue
    settings: Settings

    def jobs(self, section: str) -> list[Job]:
        """Return what a section needs."""
        match section:
            case "accuracy":
                return [self._accuracy(entry) for entry in self.catalogue.entries]
            case "conservation":
                return [job for entry in self._simulated()
                        for job in (self._derivatives(entry), *(self._nve(entry, step) for step in
                                                                self.settings.timesteps_fs))]
            case "coders":
                full = self.catalogue.find(CONSERVATION, FULL)
                return [] if full is None else [self._coder(full, index) for index in range(len(CODERS))]
            case "ablation":
                return [job for entry in self._ablated() for job in (self._accuracy(entry), self._derivatives(entry))]
        return []

    def _simulated(self) -> list[Entry]:
        found = (self.catalogue.find(CONSERVATION, name) for name in SIMULATED)
        return [entry for entry in found if entry is not None]

    def _ablated(self) -> list[Entry]:
        if not self.catalogue.ablation:
            return []
        whole = (self.catalogue.find(ABLATION, name) for name in (CONTROL, GAQ))
        return [entry for entry in whole if entry is not None] + self.catalogue.ablation

    def _job(self, name: str, kind: str, entry: Entry, predictions: float, **options: Any) -> Job:
        s = self.settings
        return Job(name, kind, entry.path, entry.sha256, options | {
            "source": entry.source("test"), "batch_size": s.batch_size, "seed": s.seed}, predictions, _atoms(entry))

    def _accuracy(self, entry: Entry) -> Job:
        s = self.settings
        turned = max(round(s.lee_frames * s.rival_share), 1) if entry.name in RIVALS else s.lee_frames
        return self._job(f"accuracy {entry.key}", "accuracy", entry, s.frames + turned * (s.rotations + 1),
                         recipe=entry.recipe, training=entry.source("train"), frames=s.frames, lee_frames=turned,
                         rotations=s.rotations)

    def _derivatives(self, entry: Entry) -> Job:
        s = self.settings
        displaced = (len(STEPS) + 1) * 2 * 3 * _atoms(entry)
        return self._job(f"derivatives {entry.key}", "derivatives", entry,
                         s.derivative_frames * (displaced + len(STEPS) + s.loops * POINTS), frames=s.derivative_frames,
                         loops=s.loops)

    def _nve(self, entry: Entry, timestep_fs: float) -> Job:
        s = self.settings
        share = {FULL: s.reference_share, GAQ: s.staircase_share}.get(entry.name, 1.0)
        length = s.length(timestep_fs) * share
        return self._job(f"NVE {entry.key} {timestep_fs:g} fs", "nve", entry, 1000 * length / timestep_fs * s.replicas,
                         replicas=s.replicas, picoseconds=length, timestep_fs=timestep_fs,
                         temperature_K=s.temperature_K)

    def _coder(self, full: Entry, index: int) -> Job:
        s = self.settings
        place = "aligned" if CODERS[index].vectors.aligned else "raw"
        return self._job(f"coder {CODERS[index].name}, {place}", "coder", full,
                         2 * s.coder_frames + 2 * s.coder_lee_frames * (s.coder_rotations + 1), coder=index,
                         training=full.source("train"), frames=s.coder_frames, lee_frames=s.coder_lee_frames,
                         rotations=s.coder_rotations)

    def content(self, section: str, results: Results) -> Any:
        """Return a section of results.json; rows without results are left out."""
        match section:
            case "accuracy":
                groups = (self._group(group, results) for group in self.catalogue.groups())
                return [group for group in groups if group["rows"]]
            case "conservation":
                return self._conservation(results)
            case "coders":
                found = (results.get(job.name) for job in self.jobs("coders"))
                return [row for row in found if row]
            case "ablation":
                return self._ablation(results)
        return None

    def _group(self, group: str, results: Results) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for entry in self.catalogue.of(group):
            measured = results.get(self._accuracy(entry).name)
            if measured:
                rows.append({"name": entry.name, "label": entry.label, "path": str(entry.path),
                             "on_the_spot": entry.recipe is not None} | measured)
        _compare(rows)
        by_name: dict[str, Any] = {row["name"]: row["lee_forces_meV_A"] for row in rows}
        naive, low = by_name.get(NAIVE), by_name.get(GAQ)
        entry = self.catalogue.of(group)[0]
        return {"group": group, "molecule": entry.molecule, "source": entry.source("test"), "rows": rows,
                "naive_over_gaq": {part: naive[part] / low[part] for part in ("mean", "median") if low[part]}
                if naive and low else None}

    def _conservation(self, results: Results) -> dict[str, Any]:
        s, rows = self.settings, []
        smooth: dict[float, float | None] = {}  # fluctuations of FP32, the first row, by time step
        plan = AuditPlan(replicas=s.replicas, picoseconds=s.picoseconds, timesteps_fs=s.timesteps_fs,
                    temperature_K=s.temperature_K, frames=s.derivative_frames, loops=s.loops, seed=s.seed)
        for entry in self._simulated():
            figures = results.get(self._derivatives(entry).name)
            measured = [results.get(self._nve(entry, step).name) for step in s.timesteps_fs]
            if not figures or not all(measured):
                continue
            runs = [{name: value for name, value in run.items() if name != "series"} for run in measured if run]
            for run in runs:
                own = run["nve_fluctuation_meV_atom"]
                scale = smooth.setdefault(run["timestep_fs"], own) if entry.name == FULL else smooth.get(
                    run["timestep_fs"])
                run["nve_fluctuation_ratio"] = own / scale if own is not None and scale else None
            series = measured[0]["series"] if measured[0] else None
            rows.append({"name": entry.name, "label": entry.label, "path": str(entry.path), "series": series}
                        | judge(figures, runs, plan))
        return {"molecule": CONSERVATION, "source": f"rmd17:{CONSERVATION}:1:test", "rows": rows, "bounds": {
            "lambda": LAMBDA_BOUND, "drift_meV_atom_ps": DRIFT_BOUND, "fluctuation_ratio": FLUCTUATION_RATIO_BOUND}}

    def _ablation(self, results: Results) -> dict[str, Any]:
        rows = []
        for entry in self._ablated():
            measured = results.get(self._accuracy(entry).name)
            figures = results.get(self._derivatives(entry).name)
            if measured and figures:
                forcefield = self.catalogue.forcefields[entry.key]
                rows.append({"name": entry.name, "label": entry.label, "path": str(entry.path),
                             "changes": changes(forcefield), "steps": forcefield.provenance.get("steps"),
                             "lambda_antisymmetry": figures["lambda_antisymmetry"]} | measured)
        _compare(rows)
        return {"molecule": ABLATION, "source": f"rmd17:{ABLATION}:1:test", "rows": rows}


def settings_of(settings: Settings) -> dict[str, Any]:
    """Return settings as plain JSON."""
    return asdict(settings) | {"timesteps_fs": list(settings.timesteps_fs)}


def _compare(rows: Sequence[dict[str, Any]]) -> None:
    """Add what each row's errors are relative to the control's."""
    control = next((row for row in rows if row["name"] == CONTROL), None)
    for row in rows:
        for name in ("energy_mae_meV", "forces_mae_meV_A"):
            row[f"{name}_over_control"] = row[name] / control[name] if control else None


@cache
def _atoms_of(source: str) -> int:
    return len(gaq.load_frames(source)[0])


def _atoms(entry: Entry) -> int:
    return _atoms_of(entry.source("test"))
