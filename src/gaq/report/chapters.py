"""The parts of a page that are not about accuracy: audits, simulations, sensitivities, timings, each with its table."""

import math
from collections.abc import Sequence
from html import escape

from gaq.report import plots
from gaq.report.markup import Figures, section, table
from gaq.report.numbers import number, setting
from gaq.report.records import Audit, Benchmark, Record, Sensitivity, Simulation
from gaq.report.results import EnergySeries
from gaq.report.style import line_styles

VERDICTS = {True: "passes", False: "fails", None: "open"}
MOST_ROWS = 60  # of parts; the smallest are left out

Chapter = tuple[str, str, str]  # anchor, title, HTML


def chapters(records: Sequence[Record], figures: Figures) -> list[Chapter]:
    """Return the chapter of each kind of results that is there; figures of different frames never share a table."""
    written = [
        ("audit", "Audit", [_audit(r) for r in records if isinstance(r, Audit)]),
        ("simulation", "Simulation", [_simulations(runs, figures) for runs in _by_formula(records)]),
        ("sensitivity", "Sensitivity", [_sensitivity(r, figures) for r in records if isinstance(r, Sensitivity)]),
        ("speed", "Speed", [_speed(r, figures) for r in records if isinstance(r, Benchmark)]),
    ]
    return [(anchor, title, section(anchor, title, *parts)) for anchor, title, parts in written if parts]


def run_table(runs: Sequence[EnergySeries]) -> str:
    """Return length, drift and cost of runs at constant energy as a table."""
    length = [setting(r.time_ps[-1]) if r.time_ps else "n/a" for r in runs]
    columns = [[r.name for r in runs], [number(r.drift_meV_atom_ps) for r in runs], length,
               [setting(r.timestep_fs) for r in runs], [setting(r.temperature_K) for r in runs],
               [number(r.ms_per_step) for r in runs]]
    headings = [("Run", ""), ("drift", "meV/atom/ps"), ("length", "ps"), ("time step", "fs"),
                ("start temperature", "K"), ("cost", "ms/step")]
    return table(headings, columns)


def _audit(audit: Audit) -> str:
    judged = [check for check in audit.checks if math.isfinite(check.value) or math.isfinite(check.bound)]
    verdicts = [VERDICTS[c.passed] if math.isfinite(c.bound) and (math.isfinite(c.value) or c.passed is False) else ""
                for c in judged]
    headings = [("Quantity", ""), ("verdict", ""), ("unit", ""), ("value", ""), ("bound", "")]
    columns = [[c.name for c in judged], verdicts, [c.unit for c in judged], [number(c.value) for c in judged],
               ["" if not math.isfinite(c.bound) else setting(c.bound) for c in judged]]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in audit.reasons)
    computed = f"computed by {audit.backend}" if audit.backend else ""
    if audit.derivatives_backend not in ("", audit.backend):
        computed += f", derivatives by {audit.derivatives_backend}"
    return (f"<h3>{escape(audit.model or audit.recipe or 'model')}: {escape(audit.grade)}</h3>"
            + _origin(audit.recipe or "", _frames(audit.frames, audit.source), computed)
            + (f'<ul class="cautions">{reasons}</ul>' if reasons else "") + table(headings, columns, names=3))


def _by_formula(records: Sequence[Record]) -> list[list[Simulation]]:
    found: dict[tuple[str, int | None], list[Simulation]] = {}
    for record in records:
        if isinstance(record, Simulation):
            found.setdefault((record.formula, record.atoms), []).append(record)
    return list(found.values())


def _simulations(runs: Sequence[Simulation], figures: Figures) -> str:
    first = runs[0]
    trajectories = _numbered([simulation.run for simulation in runs])
    free = [t for t, simulation in zip(trajectories, runs, strict=True) if simulation.ensemble == "nve" and t.time_ps]
    figure = ""
    if free:
        drifts = ", ".join(f"{r.name} {number(r.drift_meV_atom_ps)} meV/atom/ps" for r in free)
        figure = figures.group(
            "Total energy along molecular dynamics at constant energy (NVE): every value faint, a running mean bold. The "
            "line should stay level.",
            [figures.panel(plots.conservation(free, line_styles((r.name, r.recipe) for r in free)),
                           f"Total energy in NVE runs; drift: {drifts}.")])
    headings = [("Run", ""), ("recipe", ""), ("ensemble", ""), ("computed by", ""), ("steps", ""), ("time step", "fs"),
                ("mean temperature", "K"), ("drift", "meV/atom/ps"), ("cost", "ms/step")]
    columns = [[t.name for t in trajectories], [t.recipe for t in trajectories], [s.ensemble.upper() for s in runs],
               [s.backend for s in runs], ["n/a" if s.steps is None else f"{s.steps:,}" for s in runs],
               [setting(t.timestep_fs) for t in trajectories], [number(s.mean_temperature_K) for s in runs],
               [number(t.drift_meV_atom_ps) for t in trajectories], [number(t.ms_per_step) for t in trajectories]]
    atoms = "" if first.atoms is None else f", {first.atoms} atoms"
    return f"<h3>{escape(first.formula or 'structure')}{atoms}</h3>" + figure + table(headings, columns, names=4)


def _numbered(runs: Sequence[EnergySeries]) -> list[EnergySeries]:
    """Number runs of one name."""
    seen: dict[str, int] = {}
    named = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        again = seen[run.name] > 1
        named.append(run.model_copy(update={"name": f"{run.name} ({seen[run.name]})"}) if again else run)
    return named


def _sensitivity(found: Sensitivity, figures: Figures) -> str:
    rows = [row for row in found.rows if row.given]
    known = [row for row in rows if math.isfinite(row.measures.forces_rms_change_meV_A)]
    recipe = str(found.recipe.get("name", ""))[:80]
    figure = ""
    if known:
        worst = max(known, key=lambda row: row.measures.forces_rms_change_meV_A)
        figure = figures.group(
            "Change of the forces (RMS) with one part of the model rounded and all else in float.",
            [figures.panel(plots.part_bars([(r.leaf, r.kind, r.measures.forces_rms_change_meV_A) for r in known]),
                           f"Change of the forces by part; the largest is {worst.leaf} {worst.kind}.")])
    known.sort(key=lambda row: -row.measures.forces_rms_change_meV_A)
    known = known[:MOST_ROWS]
    headings = [("Leaf", ""), ("part", ""), ("bits", ""), ("forces", "meV/Å"), ("energy", "meV"), ("antisymmetry λ", "")]
    columns = [[r.leaf for r in known], [r.kind for r in known], [str(r.bits) for r in known],
               *([number(getattr(r.measures, name)) for r in known]
                 for name in ("forces_rms_change_meV_A", "energy_change_meV", "lambda_antisymmetry"))]
    return (f"<h3>{escape(found.model or 'model')}, {escape(recipe)}</h3>" + _origin(_frames(found.frames, found.source))
            + figure + (table(headings, columns, names=2) if known else ""))


def _speed(found: Benchmark, figures: Figures) -> str:
    lines: dict[str, list[tuple[int, float]]] = {}
    first = found.rows[0].threads if found.rows else 0
    for row in found.rows:
        drawable = math.isfinite(row.ms_per_step) and row.ms_per_step > 0 and row.atoms > 0
        if drawable and row.threads == first and not row.system.startswith("batch-"):
            lines.setdefault(f"{row.backend} {row.recipe}".strip(), []).append((row.atoms, row.ms_per_step))
    figure = figures.group("Time of energy and forces against the number of atoms.", [figures.panel(
        plots.times_by_size(lines, "", f"ms for each step, {first} thread{'s' if first > 1 else ''}"),
        "Time of a step by number of atoms.")]) if lines else ""
    headings = [("System", ""), ("backend", ""), ("recipe", ""), ("atoms", ""), ("threads", ""), ("time", "ms/step"),
                ("speed", "ns/day")]
    columns = [[r.system for r in found.rows], [r.backend for r in found.rows], [r.recipe for r in found.rows],
               [f"{r.atoms:,}" for r in found.rows], [str(r.threads) for r in found.rows],
               [number(r.ms_per_step) for r in found.rows], [number(r.ns_per_day) for r in found.rows]]
    return (f"<h3>{escape(str(found.machine.get('cpu', ''))[:120] or 'machine')}</h3>" + figure
            + (table(headings, columns, names=3) if found.rows else ""))


def _frames(count: int | None, source: str) -> str:
    return source if count is None else f"{count:,} frame{'' if count == 1 else 's'} of {source or 'unknown source'}"


def _origin(*parts: str) -> str:
    return '<p class="provenance">' + "".join(f"<span>{escape(part)}</span>" for part in parts if part) + "</p>"
