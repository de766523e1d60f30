"""`python -m benchmarks.results`: measure the committed models and write docs/results.md, its pictures and results.json."""

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import nanosecond
from benchmarks.catalogue import Catalogue, find_models
from benchmarks.origin import origins
from benchmarks.page import page
from benchmarks.pictures import draw
from benchmarks.plan import Planner, settings_of
from benchmarks.settings import COMMAND, QUICK, SECTIONS, Settings
from benchmarks.workers import Outcome, recall, run_jobs, say
from gaq.errors import ConfigError, GaqError
from gaq.files import write_atomically
from gaq.machine import hardware

FORMAT, FORMAT_VERSION = "gaq-results-page", 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and return the status of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        run(options, shlex.join([*COMMAND.split(), *given]))
    except GaqError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"stopped by Ctrl-C; results so far are kept in {options.cache}, and the same command goes on")
        return 130
    return 0


def run(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Measure what is asked for, write page, pictures and JSON, and return the content of the JSON."""
    begun = time.perf_counter()
    torch.set_num_threads(1)
    settings = QUICK if options.quick else Settings()
    if options.picoseconds is not None:
        if not options.picoseconds > 0:
            raise ConfigError(f"--picoseconds must be a positive number, not {options.picoseconds}")
        settings = replace(settings, picoseconds=options.picoseconds)
    out = options.out or Path("runs/results-quick" if options.quick else "docs")
    catalogue = find_models(options.models)
    if not catalogue.entries:
        raise ConfigError(f"--models {options.models}: no model such as azobenzene-fp32.safetensors is in this folder")
    planner = Planner(catalogue, settings)
    outcome = _measured(planner, options)
    results = _results(planner, outcome, options, command, time.perf_counter() - begun)
    folder = out / "results"
    results["pictures"] = draw(results, folder)
    write_atomically(folder / "results.json", json.dumps(results, allow_nan=False))
    write_atomically(out / "results.md", page(results))
    say(f"wrote {out / 'results.md'}, {folder / 'results.json'} and {len(results['pictures'])} pictures "
        f"in {(time.perf_counter() - begun) / 60:.1f} minutes")
    return results


def _measured(planner: Planner, options: argparse.Namespace) -> Outcome:
    """Do the jobs of the chosen section, and take what is kept of the others."""
    chosen = {job.name: job for section in SECTIONS if options.only in (None, section) for job in planner.jobs(section)}
    others = {job.name: job for section in SECTIONS for job in planner.jobs(section) if job.name not in chosen}
    outcome = run_jobs(list(chosen.values()), options.workers, options.cache, say)
    kept = recall(list(others.values()), options.cache)
    outcome.results |= kept.results
    outcome.seconds |= kept.seconds
    outcome.kept += kept.kept
    return outcome


def _results(planner: Planner, outcome: Outcome, options: argparse.Namespace, command: str,
             seconds: float) -> dict[str, Any]:
    catalogue: Catalogue = planner.catalogue
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION, "version": version("gaq"), "command": command,
        "quick": options.quick, "settings": settings_of(planner.settings),
        "hardware": hardware() | {"python": platform.python_version(), "numpy": version("numpy"),
                                  "system": f"{platform.system()} {platform.machine()}", "workers": options.workers},
        "measurements": len(outcome.results), "kept": outcome.kept, "wall_seconds": round(seconds, 1),
        "section_seconds": {section: round(sum(outcome.seconds.get(job.name, 0.0) for job in planner.jobs(section)), 1)
                            for section in SECTIONS},
        "notes": [*catalogue.notes, *(f"Left out: {name}: {why}." for name, why in outcome.failures.items())],
        **{section: planner.content(section, outcome.results) for section in SECTIONS if section != "training"},
        "training": origins(catalogue), "nanosecond": _long_runs(catalogue),
    }


def _long_runs(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return the simulations of `benchmarks.nanosecond`, of models that are still the same."""
    runs = nanosecond.read(nanosecond.FILE)
    return [runs[entry.path.name] | {"name": entry.name} for entry in catalogue.entries
            if entry.recipe is None and runs.get(entry.path.name, {}).get("sha256") == entry.sha256]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Measure the committed models and write the results page.")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the model files")
    parser.add_argument("--out", type=Path, help="folder for results.md and results/ (docs, or runs/results-quick)")
    parser.add_argument("--cache", type=Path, default=Path(".gaq-results"), help="folder of finished measurements")
    parser.add_argument("--workers", type=int, default=2, choices=range(1, 65), metavar="N",
                        help="processes of one thread each; 1 works in this process")
    parser.add_argument("--picoseconds", type=float, help="length of the NVE simulations at the judged time step")
    parser.add_argument("--only", choices=SECTIONS, help="measure one section; others show what is kept of them")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few frames, figures that say nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
