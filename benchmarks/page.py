"""The results page as Markdown, from the content of results.json and nothing else."""

from collections.abc import Sequence
from typing import Any

from benchmarks.coders import HEADROOM
from benchmarks.settings import COMMAND
from gaq.report.numbers import MISSING, interval, kilobytes, number, percent, setting

PAPER_DRIFT, PAPER = 0.15, "arXiv 2603.05343"  # meV/atom/ps, a quotation: the only figure that is not measured here


def page(results: dict[str, Any]) -> str:
    """Return the whole page."""
    parts = [_head(results), _accuracy(results), _conservation(results), _nanosecond(results), _coders(results),
             _ablation(results), _training(results), _machine(results)]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _head(results: dict[str, Any]) -> str:
    lines = ["# Results", "",
             "This page is written by `make results` from the model files in `models/`; do not edit it. Its figures "
             "were computed by that run, save those of the trainings, which the files carry, of the nanoseconds, which a "
             "command of their own leaves, and one quotation; all "
             "are in [results.json](results/results.json). MAE is the mean absolute error of total energies, and of "
             "force components, on test frames that no model was trained on."]
    if results["quick"]:
        lines += ["", "**This is a smoke run (`--quick`): a few frames, so that its figures say nothing.**"]
    if results["notes"]:
        lines += ["", *(f"* {note}" for note in results["notes"])]
    return "\n".join(lines)


def _accuracy(results: dict[str, Any]) -> str:
    s, groups = results["settings"], results["accuracy"]
    lines = ["## Accuracy, equivariance, bytes", "", _command("accuracy", results)]
    if not groups:
        return "\n".join([*lines, "", "No figures: no models, or not measured yet."])
    lines += ["", "The control is the FP32 model trained on for as many steps as the low-bit models. LEE is the local "
              "equivariance error of the forces, |F(R·G) − R·F(G)| averaged over atoms: "
              f"{s['rotations']} random rotations of {s['lee_frames']} test frames (of {setting(s['rival_share'])} times "
              f"as many for rivals, which run on PyTorch; seed {s['seed']}), the interval by bootstrap over frames. Naive "
              "INT8 is made on the spot: calibrated on the training frames, not trained.", "",
              _picture("error-bytes", "Force error against bytes", results)]
    for group in groups:
        rows = [(r["label"], number(r["energy_mae_meV"]), number(r["energy_mae_meV_over_control"]),
                 number(r["forces_mae_meV_A"]), number(r["forces_mae_meV_A_over_control"]),
                 number(r["lee_forces_meV_A"]["mean"]), interval(*r["lee_forces_meV_A"]["ci95"]),
                 number(r["lee_forces_meV_A"]["median"]), kilobytes(r["stored_bytes"]),
                 percent(r["stored_bytes"] / r["fp32_bytes"])) for r in group["rows"]]
        lines += ["", f"### {_title(group['group'])}", "",
                  f"`{group['source']}`, {group['rows'][0]['frames']} frames.", "",
                  _table(("model", "E MAE (meV)", "÷ control", "F MAE (meV/Å)", "÷ control", "LEE mean (meV/Å)",
                          "95 % CI", "LEE median", "kB", "% of FP32"), rows)]
        if group["naive_over_gaq"]:
            ratios = group["naive_over_gaq"]
            lines += ["", f"LEE of naive INT8 ÷ LEE of W4A8: {number(ratios.get('mean'))} (means), "
                          f"{number(ratios.get('median'))} (medians)."]
    return "\n".join([*lines, "", _picture("lee", "Distribution of the equivariance error", results)])


def _conservation(results: dict[str, Any]) -> str:
    s, part = results["settings"], results["conservation"]
    lines = ["## Energy conservation", "", _command("conservation", results)]
    if not part["rows"]:
        return "\n".join([*lines, "", "No figures: no models, or not measured yet."])
    bounds, fs = part["bounds"], s["timesteps_fs"]
    others = ", ".join(f"{setting(step)} fs" for step in fs[1:])
    lines += ["", f"{part['molecule'].capitalize()}, as `gaq audit` measures it on the deployed model: packed weights, "
              "rounded activations. λ = |J − Jᵀ|/|J + Jᵀ| of the force Jacobian and the forces against central "
              f"differences of the energy in float64, at {s['derivative_frames']} test frames, the largest; work "
              f"around {s['loops']} closed loops at each, relative, the largest. NVE: velocity Verlet from the first test "
              f"frame, {s['replicas']} replicas at {setting(s['temperature_K'])} K (seed {s['seed']}), "
              f"{setting(s['picoseconds'])} ps at {setting(fs[0])} fs, first tenth left out (and "
              f"{setting(s['picoseconds'] * s['other_share'])} ps at {others}; FP32 {setting(s['reference_share'])} and "
              f"W4A8, whose λ settles its grade, {setting(s['staircase_share'])} times as long). Bounds for MD-grade: λ ≤ "
              f"{number(bounds['lambda'])}, |drift| + 2 standard errors ≤ {number(bounds['drift_meV_atom_ps'])} "
              f"meV/atom/ps, fluctuation ≤ {setting(bounds['fluctuation_ratio'])} × FP32.", ""]
    steps = list(part["rows"][0]["force_fd_meV_A"])
    lines += [_table(("model", "λ", *(f"F − ΔE/Δx at {step} Å (meV/Å)" for step in steps), "loop work",
                      "angular momentum", "grade"),
                     [(r["label"], number(r["lambda_antisymmetry"]["max"]),
                       *(number(r["force_fd_meV_A"][step]) for step in steps), number(r["loop_work_relative"]["max"]),
                       number(r["angular_momentum_relative"]), r["grade"]) for r in part["rows"]]), "",
              _table(("model", "time step (fs)", "length (ps)", "drift (meV/atom/ps)", "standard error",
                      "fluctuation (meV/atom)", "÷ FP32"),
                     [_run(r["label"], run) for r in part["rows"] for run in r["nve"]]), "",
              f"For comparison, {PAPER} reports a drift below {PAPER_DRIFT} meV/atom/ps over 1 ns for its W4A8 model.",
              "", _picture("nve", "Total energy along one replica", results)]
    reasons = [f"* {r['label']}: {reason}." for r in part["rows"] for reason in r["reasons"]]
    return "\n".join([*lines, *(["", "Why not better:", "", *reasons] if reasons else [])])


def _nanosecond(results: dict[str, Any]) -> str:
    rows = results["nanosecond"]
    if not rows:
        return ""
    first = rows[0]
    return "\n".join([
        "## One nanosecond", "",
        "Not part of `make results`: `python -m benchmarks.nanosecond MODEL...` runs `gaq md` once for each model, on the "
        f"native engine, one thread ({first['hardware']['cpu']}), velocity Verlet with {setting(first['timestep_fs'])} fs, "
        f"velocities of {setting(first['temperature_K'])} K. Drift: slope of the total energy, first tenth left out, its "
        "error from block means; one trajectory has no other. Angular momentum: largest change, relative to Σ|x||p|.", "",
        _table(("model", "length (ps)", "wall time (min)", "ns/day", "drift (meV/atom/ps)", "standard error",
                "fluctuation (meV/atom)", "angular momentum"),
               [(r["label"], setting(r["picoseconds"]), number(r["wall_seconds"] / 60),
                 number(86.4 * r["picoseconds"] / r["wall_seconds"]), number(r["drift_meV_atom_ps"]),
                 number(r["drift_stderr"]), number(r["fluctuation_meV_atom"]), number(r["angular_momentum_relative"]))
                for r in rows]), "",
        _picture("nanosecond", "Total energy along a nanosecond", results), "",
        *(f"* {r['label']}: `{r['command']}`" for r in rows)])


def _run(label: str, run: dict[str, Any]) -> tuple[str, ...]:
    if run["exploded"]:
        return (label, setting(run["timestep_fs"]), setting(run["picoseconds"]), "exploded", MISSING, MISSING, MISSING)
    return (label, setting(run["timestep_fs"]), setting(run["picoseconds"]), number(run["nve_drift_meV_atom_ps"]),
            number(run["nve_drift_stderr"]), number(run["nve_fluctuation_meV_atom"]),
            number(run["nve_fluctuation_ratio"]))


def _coders(results: dict[str, Any]) -> str:
    s, rows = results["settings"], results["coders"]
    lines = ["## Vector coders at equal bits", "", _command("coders", results)]
    if not rows:
        return "\n".join([*lines, "", "No figures: no FP32 model of azobenzene, or not measured yet."])
    degrees = range(1, len(rows[0]["bits_per_vector"]) + 1)
    lines += ["", "The FP32 model of azobenzene with its vector features rounded and everything else in float, "
              f"calibrated (a range of {setting(HEADROOM)} × the largest value seen), not trained. Raw: along the axes of "
              "space; aligned: in each atom's local frame. Coders marked "
              f"* know degree 1 only; there, higher degrees are rounded in local frames. {rows[0]['frames']} frames "
              f"for the force error; {s['coder_rotations']} rotations of {s['coder_lee_frames']} frames for LEE.", "",
              _table(("coder", "axes", *(f"bits, degree {k}" for k in degrees), "change of F MAE (meV/Å)",
                      "LEE median, float32", "mean, float32", "median, float64", "mean, float64"),
                     [(r["coder"] + (" *" if r["only_first_degree"] else ""), "aligned" if r["aligned"] else "raw",
                       *(setting(bits) for bits in r["bits_per_vector"]), _signed(_change(r)),
                       *(number(r["lee_forces_meV_A"][p][q]) for p in ("float32", "float64") for q in ("median", "mean")))
                      for r in rows]), "", _picture("coders", "Equivariance error of vector coders", results)]
    return "\n".join(lines)


def _ablation(results: dict[str, Any]) -> str:
    part = results["ablation"]
    lines = ["## Ablation", "", _command("ablation", results)]
    if not part["rows"]:
        return "\n".join([*lines, "", "No figures: there are no files `models/ablation/ethanol-*.safetensors`, or they "
                                      "were not measured yet."])
    s = results["settings"]
    lines += ["", f"Ethanol, `{part['source']}`, measured as above; λ at {s['derivative_frames']} frames, the largest. "
              "`benchmarks/ablation.py` makes these models.", "",
              _table(("row", "changed", "steps", "E MAE (meV)", "F MAE (meV/Å)", "F ÷ control", "LEE mean (meV/Å)",
                      "LEE median", "λ"),
                     [(r["label"], " ".join(f"`{change}`" for change in r["changes"]) or "nothing",
                       str(r["steps"] or MISSING), number(r["energy_mae_meV"]), number(r["forces_mae_meV_A"]),
                       number(r["forces_mae_meV_A_over_control"]), number(r["lee_forces_meV_A"]["mean"]),
                       number(r["lee_forces_meV_A"]["median"]), number(r["lambda_antisymmetry"]["max"]))
                      for r in part["rows"]])]
    return "\n".join(lines)


def _training(results: dict[str, Any]) -> str:
    rows = results["training"]
    lines = ["## How the models were trained", "", "As their own headers say; times are of the machine that trained them. "
             "Frames per second were timed before each training, on that machine while it was doing whatever it did.", "",
             _table(("model", "steps", "best step", "seconds", "frames/s, eager", "frames/s, compiled", "device"),
                    [(_name(r), str(r["steps"] or MISSING), str(r["best_step"] or MISSING), number(r["seconds"], 4),
                      *(number((r["frames_per_second"] or {}).get(how)) for how in ("eager", "compiled")),
                      r["device"] or MISSING) for r in rows]), "", _picture("training", "Training curves", results), "",
             "Commands that make them again:", ""]
    return "\n".join([*lines, *(f"* {_name(r)}: " + (f"`{r['command']}`" if r["command"] else "not recorded in the file")
                                for r in rows)])


def _machine(results: dict[str, Any]) -> str:
    h, seconds = results["hardware"], results["section_seconds"]
    spent = ", ".join(f"{name} {number(value / 60)}" for name, value in seconds.items() if value)
    backends = sorted({row["inference"] for group in results["accuracy"] for row in group["rows"]})
    return "\n".join([
        "## This run", "",
        f"`{results['command']}` on {h['cpu']} ({h['system']}), {h['workers']} worker processes of one thread; gaq "
        f"{results['version']}, Python {h['python']}, PyTorch {h['torch']}, NumPy {h['numpy']}; inference: "
        f"{'; '.join(backends) or MISSING}. {results['measurements']} measurements, {results['kept']} of them kept from "
        f"an earlier, interrupted run; {number(results['wall_seconds'] / 60)} minutes. Worker minutes by section: "
        f"{spent or MISSING}."])


def _command(section: str, results: dict[str, Any]) -> str:
    quick = " --quick" if results["quick"] else ""
    return f"Measured by `make results`; this section alone: `{COMMAND} --only {section}{quick}`."


def _picture(name: str, title: str, results: dict[str, Any]) -> str:
    file = results["pictures"].get(name)
    return f"![{title}](results/{file})" if file else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _title(group: str) -> str:
    molecule, _, seed = group.partition("-seed")
    return molecule.capitalize() + (f", training seed {seed}" if seed else "")


def _name(row: dict[str, Any]) -> str:
    return f"`{row['path'].rpartition('models/')[2]}`"


def _change(row: dict[str, Any]) -> float | None:
    errors = row["forces_mae_meV_A"]
    return None if errors["coded"] is None else errors["coded"] - errors["float"]


def _signed(value: float | None) -> str:
    return number(value) if value is None or value < 0 else f"+{number(value)}"
