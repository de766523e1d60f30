"""The sections of the page: each takes a study and returns HTML, or nothing where the results have no such part."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from gaq.report import plots, sphere
from gaq.report.chapters import run_table
from gaq.report.markup import Figures, details, heading, named, section, table
from gaq.report.molecule import scene
from gaq.report.numbers import aligned, interval, kilobytes, number, percent, setting
from gaq.report.results import Curves, ErrorStatistics, Model
from gaq.report.style import LineStyle, line_styles
from gaq.report.tables import Study, cautions, summary_columns


class StudySections:
    """Writes the sections of one study; `figures` numbers the figures of the whole page.

    Args:
        study: models measured on the same data.
        figures: shared by all studies of a page.
        suffix: makes anchors unique where a page has several studies.
    """

    def __init__(self, study: Study, figures: Figures, suffix: str = "") -> None:
        self.study = study
        self.models = study.models
        self.runs = [run for result in study.results for run in result.nve]
        self.figures = figures
        self.suffix = suffix
        pairs = [(m.name, m.recipe) for m in self.models] + [(r.name, r.recipe) for r in self.runs]
        self.styles: Mapping[str, LineStyle] = line_styles(pairs)

    def all(self) -> list[tuple[str, str, str]]:
        """Return (anchor, title, HTML) of every section that has something to show."""
        written = [
            ("summary", "Summary", (self.summary(),)),
            ("accuracy", "Accuracy", (self.parity("forces"), self.parity("energy"), self.force_errors(),
                                      self.elements())),
            ("equivariance", "Equivariance", (self.maps(), self.quantizers(), self.lee_statistics())),
            ("conservation", "Energy conservation", (self.conservation(),)),
            ("training", "Training", (self.training(),)),
            ("size", "Size and range", (self.size(), self.tensors(), self.saturation())),
        ]
        parts = [(anchor + self.suffix, title, section(anchor + self.suffix, title, *content))
                 for anchor, title, content in written]
        return [part for part in parts if part[2]]

    def summary(self) -> str:
        """The comparison table, with what must be known before ranking its rows."""
        columns = summary_columns(self.models)
        groups = [(name, len(list(members))) for name, members in groupby(columns, key=lambda c: c.group)]
        top = "".join(f'<th scope="colgroup" colspan="{n}">{escape(name)}</th>' for name, n in groups)
        starts = {sum(n for _, n in groups[:i]) for i in range(len(groups))}
        edge = ["edge" if i in starts else "" for i in range(len(columns))]
        head = "".join(f'<th scope="col" class="num {edge[i]}" title="{escape(c.hint)}">{heading(c.title, c.unit)}</th>'
                       for i, c in enumerate(columns))
        cells = [aligned(c.cells) for c in columns]
        rows = []
        for k, model in enumerate(self.models):
            row = "".join(
                f'<td class="num {edge[i]}" data-label="{escape(c.name)}" data-unit="{escape(c.unit)}">'
                f'{escape(c.cells[k])}<span class="pad">{cells[i][k][len(c.cells[k]):]}</span></td>'
                for i, c in enumerate(columns))
            rows.append(f'<tr><th scope="row">{named(model.name, self.styles[model.name])}'
                        f'<span class="recipe">{escape(model.recipe)}</span></th>{row}</tr>')
        warnings = "".join(f"<li>{escape(line)}</li>" for line in cautions(self.models))
        return ('<div class="scroll"><table class="summary"><thead>'
                f'<tr><th rowspan="2" scope="col">Model</th>{top}</tr><tr>{head}</tr></thead>'
                f'<tbody>{"".join(rows)}</tbody></table></div>'
                '<p class="fine">Lower is better for errors and LEE. Errors come without an interval: differences of a '
                "few percent may be chance of the frames or of the training seed.</p>"
                + (f'<ul class="cautions">{warnings}</ul>' if warnings else ""))

    def parity(self, quantity: str) -> str:
        """Parity plots of one quantity ("forces" or "energy"), one per model on one error scale."""
        found = [(m, getattr(m.parity, f"{quantity}_ref"), getattr(m.parity, f"{quantity}_pred"))
                 for m in self.models if m.parity and getattr(m.parity, f"{quantity}_ref")]
        limit = plots.error_limit([(ref, pred) for _, ref, pred in found])
        unit = "eV/Å" if quantity == "forces" else "eV"
        what = "force components" if quantity == "forces" else "energies relative to their mean"
        panels = []
        for model, ref, pred in found:
            mae = number(model.forces_mae_meV_A if quantity == "forces" else model.energy_mae_meV)
            offset = ""
            if quantity == "energy" and math.isfinite(model.energy_offset_meV):
                offset = f", mean offset {number(model.energy_offset_meV)} meV"
            panels.append(self.figures.panel(
                plots.parity(ref, pred, unit, self.styles[model.name].color, limit),
                f"{model.name}: predicted against reference {what}; mean absolute error {mae} m{unit}.",
                title=named(model.name, self.styles[model.name]), note=f"MAE {mae} m{unit}{offset}"))
        return self.figures.group(
            f"{what.capitalize()}: prediction against reference above, their difference below. All models share the "
            "scale of the difference. A tilt or a curve there is a systematic error; an even band is noise.",
            panels, "small")

    def force_errors(self) -> str:
        """Distributions of the force errors of all models."""
        known = [m for m in self.models if m.parity and m.parity.forces_ref]
        if not known:
            return ""
        alt = "Distribution of absolute force errors of " + ", ".join(m.name for m in known) + "."
        return self.figures.group(
            "How large single force errors are. A tail to the right means rare but large errors, which a mean hides "
            "and a simulation meets sooner or later.",
            [self.figures.panel(plots.force_errors(known, self.styles), alt)])

    def elements(self) -> str:
        """Force errors on each element, collapsed."""
        rows = [(m.name, element, errors) for m in self.models for element, errors in m.forces_by_element.items()]
        if not rows:
            return ""
        columns = [[name for name, _, _ in rows], [element for _, element, _ in rows],
                   [number(errors.mae_meV_A) for _, _, errors in rows],
                   [number(errors.rmse_meV_A) for _, _, errors in rows]]
        return details("Force errors by element", table(
            [("Model", ""), ("element", ""), ("MAE", "meV/Å"), ("RMSE", "meV/Å")], columns, names=2))

    def maps(self) -> str:
        """Equivariance error over the sphere of rotation axes."""
        found = [(m, m.lee_map) for m in self.models if m.lee_map and m.lee_map.axes]
        scale = sphere.map_scale([axis_map for _, axis_map in found])
        panels = []
        for model, axis_map in found:
            values = [v for v in axis_map.lee_forces_meV_A if math.isfinite(v)]
            low, high = (number(f(values)) if values else "n/a" for f in (min, max))
            panels.append(self.figures.panel(
                sphere.sphere_map(axis_map, scale),
                f"{model.name}: map of the equivariance error over rotation axes, from {low} to {high} meV/Å.",
                title=named(model.name, self.styles[model.name]), note=f"lowest {low}, highest {high} meV/Å"))
        angles = sorted({setting(m.angle_deg) for _, m in found if math.isfinite(m.angle_deg)})
        turn = f"by {' or '.join(angles)}° " if angles else ""
        size = self.figures.group(
            f"Equivariance error when the molecule is turned {turn}around each axis (dots: measured axes). "
            "The colour scale is logarithmic and shared by all models.", panels, "small")
        spread = sphere.map_spread([axis_map for _, axis_map in found])
        pattern = [self.figures.panel(
            sphere.anisotropy_map(axis_map, spread),
            f"{model.name}: equivariance error over rotation axes relative to its mean.",
            title=named(model.name, self.styles[model.name])) for model, axis_map in found]
        return size + self.figures.group(
            "The same maps, each relative to its own mean. A pattern tied to x, y and z is the mark of rounding vector "
            "components on a grid; blobs without such symmetry are chance of the few frames measured. "
            "How large the error is stands in the figure before.", pattern, "small")

    def quantizers(self) -> str:
        """What each quantizer contributes to the equivariance error."""
        panels = []
        for model in self.models:
            known = [q for q in model.lee_by_layer if math.isfinite(q.lee_forces_meV_A)]
            if not known:
                continue
            worst = max(known, key=lambda q: q.lee_forces_meV_A)
            left_out = len(known) - plots.MAX_BARS
            panels.append(self.figures.panel(
                plots.quantizer_bars(known, self.styles[model.name].color),
                f"{model.name}: equivariance error by quantizer; largest {number(worst.lee_forces_meV_A)} meV/Å "
                f"in {worst.quantizer}.", title=named(model.name, self.styles[model.name]),
                note=f"{left_out} smaller ones are not shown" if left_out > 0 else ""))
        return self.figures.group("Equivariance error of the forces with one quantizer switched on and all others "
                                  "off; the parts need not add up to the whole. Each model has a scale of its own: "
                                  "read which part dominates, not which model is better.", panels, "pair")

    def lee_statistics(self) -> str:
        """All statistics of the equivariance errors, collapsed."""
        kinds = (("forces", "meV/Å", "lee_forces_meV_A"), ("energy", "meV", "lee_energy_meV"))
        rows: list[tuple[str, str, ErrorStatistics]] = [
            (m.name, f"{kind} ({unit})", s) for kind, unit, key in kinds for m in self.models
            if (s := getattr(m, key)) is not None]
        if not rows:
            return ""
        columns = [[name for name, _, _ in rows], [kind for _, kind, _ in rows],
                   *([number(getattr(s, key)) for _, _, s in rows] for key in ("mean", "median", "p99", "max")),
                   [interval(*s.ci95) for _, _, s in rows],
                   *([str(v) if (v := getattr(s, key)) is not None else "n/a" for _, _, s in rows]
                     for key in ("rotations", "frames"))]
        headings = [(title, "") for title in ("Model", "LEE of", "mean", "median", "p99", "max", "95 % CI of the mean",
                                              "rotations", "frames")]
        return details("All equivariance statistics", table(headings, columns, names=2))

    def conservation(self) -> str:
        """Total energy along runs at constant energy."""
        if not self.runs:
            return ""
        drifts = ", ".join(f"{r.name} {number(r.drift_meV_atom_ps)} meV/atom/ps" for r in self.runs)
        figure = self.figures.group(
            "Total energy along molecular dynamics at constant energy (NVE): every value faint, a running mean bold. "
            "The line should stay level; a slope (drift) heats or cools the molecule. Where one run leaves the others "
            "far behind, the axis is linear near zero and logarithmic beyond.",
            [self.figures.panel(plots.conservation(self.runs, self.styles),
                                f"Total energy in NVE runs; drift: {drifts}.")])
        return figure + run_table(self.runs)

    def training(self) -> str:
        """Training curves, one plot per model on the same scales."""
        found = [(m, m.curves) for m in self.models if m.curves and m.curves.step]
        loss = plots.log_limits([c.train_loss for _, c in found])
        error = plots.log_limits([s for _, c in found for s in (c.forces_mae_meV_A, c.energy_mae_meV)])
        panels = []
        for model, curves in found:
            last = next((v for v in reversed(curves.forces_mae_meV_A) if math.isfinite(v)), None)
            panels.append(self.figures.panel(
                plots.training(curves, self.styles[model.name].color, loss, error),
                f"{model.name}: training curves over {curves.step[-1]} steps; last force error {number(last)} meV/Å.",
                title=named(model.name, self.styles[model.name]), note=_phase_note(curves)))
        return self.figures.group("Training loss and errors on validation frames; shading separates the phases. "
                                  "A curve that still falls at its end was stopped early.", panels, "small")

    def size(self) -> str:
        """Bytes of the stored weights."""
        known = [m for m in self.models if m.stored_bytes is not None]
        if not known:
            return ""
        alt = "Stored bytes: " + ", ".join(f"{m.name} {kilobytes(m.stored_bytes)} kB" for m in known) + "."
        return self.figures.group("Bytes of the weights as stored, scales and everything kept at higher precision "
                                  "included.", [self.figures.panel(plots.stored_bytes(known, self.styles), alt)])

    def tensors(self) -> str:
        """Stored bytes by tensor, collapsed, largest first."""
        parts = []
        for model in self.models:
            rows = sorted(model.stored_by_tensor.items(), key=lambda item: -item[1])
            total = sum(size for _, size in rows)
            if rows:
                shares = [percent(size / total) if total else "n/a" for _, size in rows]
                parts.append(f"<h3>{named(model.name, self.styles[model.name])}</h3>" + table(
                    [("Tensor", ""), ("stored", "bytes"), ("share", "%")],
                    [[name for name, _ in rows], [f"{size:,}" for _, size in rows], shares]))
        return details("Stored bytes by tensor", "".join(parts))

    def saturation(self) -> str:
        """Fraction of the values that each quantizer clips, collapsed, largest first."""
        parts = []
        for model in self.models:
            rows = sorted(model.saturation, key=lambda s: -s.clipped if math.isfinite(s.clipped) else 1)
            if rows:
                parts.append(f"<h3>{named(model.name, self.styles[model.name])}</h3>" + table(
                    [("Quantizer", ""), ("clipped", "%")],
                    [[s.quantizer for s in rows], [percent(s.clipped) for s in rows]]))
        return details("Values clipped by each quantizer", "".join(parts))

    def viewer(self) -> str:
        """The molecule in 3D, or nothing without a structure."""
        molecule = next((r.structure for r in self.study.results if r.structure and r.structure.species), None)
        if molecule is None:
            return ""
        drawn = scene(molecule)
        data = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
        elements = "".join(f'<span><i class="swatch ball" style="background:{color}"></i>{symbol}</span>'
                           for symbol, color in sorted({(a["symbol"], a["color"]) for a in drawn["atoms"]}))
        formula = re.sub("([0-9]+)", r"<sub>\1</sub>", drawn["formula"])
        label = f"Ball-and-stick model of {drawn['formula']}, {len(drawn['atoms'])} atoms"
        return (f'<div class="viewer"><canvas tabindex="0" role="img" aria-label="{label}. Drag or use the arrow keys '
                'to turn it, plus and minus to zoom, 0 to reset."></canvas>'
                f'<script type="application/json">{data}</script>'
                f'<p class="legend"><b>{formula}</b>{elements}<span class="keys">'
                '<button type="button" data-key="+" aria-label="zoom in">+</button>'
                '<button type="button" data-key="-" aria-label="zoom out">−</button>'
                '<button type="button" data-key="0" aria-label="reset the view">reset</button></span></p></div>')


def _phase_note(curves: Curves) -> str:
    found = plots.phases(curves)
    if len(found) < 2:
        return ""
    return "phases: " + ", ".join(f"<b>{i}</b> {escape(name)} (to step {end:,.0f})"
                                  for i, (name, _, end) in enumerate(found, start=1))


def model_files(models: Sequence[Model]) -> str:
    """Return where each model came from, as a table."""
    if not any(m.path or m.model_sha256 or m.source for m in models):
        return ""
    keys = ("name", "recipe", "path", "model_sha256", "backend", "source")
    columns = [[getattr(m, key) for m in models] for key in keys]
    columns.append(["n/a" if m.frames is None else str(m.frames) for m in models])
    headings = [(title, "") for title in ("Model", "recipe", "file", "SHA-256", "computed by", "data", "frames")]
    return table(headings, columns, names=6)
