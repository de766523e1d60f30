"""Results files of every command: read, checked once, and seen through frozen values."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from gaq.errors import DataError
from gaq.reading import read_text
from gaq.report.results import FORMAT, FORMAT_VERSION, Count, EnergySeries, Label, Number, Part, Results


class AuditCheck(Part):
    """One quantity of an audit against its bound; `passed` is None where it is open or not judged."""

    name: Label
    value: Number = math.nan
    bound: Number = math.nan
    unit: Label = ""
    passed: bool | None = None


class Audit(Part):
    """What `gaq audit` found of one model."""

    model: Label = ""
    recipe: Label | None = None
    grade: Label
    reasons: tuple[Label, ...] = ()
    source: Label = ""
    frames: Count | None = None
    backend: Label = ""
    derivatives_backend: Label = ""
    checks: tuple[AuditCheck, ...] = ()


class Simulation(Part):
    """A run of `gaq md`."""

    ensemble: Label
    formula: Label = ""
    atoms: Count | None = None
    steps: Count | None = None
    backend: Label = ""
    mean_temperature_K: Number = math.nan
    run: EnergySeries


class PartMeasures(Part):
    """What rounding one part does."""

    forces_rms_change_meV_A: Number = math.nan
    energy_change_meV: Number = math.nan
    lambda_antisymmetry: Number = math.nan


class PartRow(Part):
    """One part of a model at one width."""

    leaf: Label
    kind: Label
    bits: Count
    given: bool = True
    measures: PartMeasures = PartMeasures()


class Sensitivity(Part):
    """What `gaq sensitivity` found."""

    model: Label = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    source: Label = ""
    frames: Count | None = None
    rows: tuple[PartRow, ...] = ()


class Timing(Part):
    """One row of `gaq bench`."""

    system: Label
    atoms: Count
    threads: Count
    backend: Label
    recipe: Label = ""
    ms_per_step: Number = math.nan
    ns_per_day: Number = math.nan


class Benchmark(Part):
    """What `gaq bench` measured."""

    machine: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[Timing, ...] = ()


Record = Results | Audit | Simulation | Sensitivity | Benchmark
KINDS: dict[str, tuple[type[Record], str]] = {  # by the key `format`: the schema, and the command that writes it
    FORMAT: (Results, "gaq evaluate --json"), "gaq-audit": (Audit, "gaq audit --json"),
    "gaq-md": (Simulation, "gaq md --json"), "gaq-sensitivity": (Sensitivity, "gaq sensitivity --json"),
    "gaq-bench": (Benchmark, "gaq bench --json")}


def read_results(path: str | Path) -> dict[str, Any]:
    """Read the JSON file that a command wrote, and check it.

    Args:
        path: of `gaq evaluate`, `audit`, `md`, `sensitivity` or `bench`, each with --json, or of `gaq demo`.

    Returns:
        The content of the file, unchanged.

    Raises:
        DataError: the file is missing, truncated, not JSON, not a results file, or newer than this program.
    """
    text = read_text(path, DataError, "give the JSON file that `gaq evaluate --json PATH` or another command "
                     "wrote, not a model or a data file")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"results {path} are not valid JSON ({str(error)[:200]}): the file is truncated or was edited; "
                        "write it again with `gaq evaluate --json PATH`") from error
    parse(data, str(path))
    return dict(data)


def parse_results(data: Any, where: str = "results") -> Results:
    """AuditCheck the content of a file of `gaq evaluate --json` and return it as frozen values.

    Raises:
        DataError: as `parse`, or another kind of results.
    """
    found = parse(data, where)
    if not isinstance(found, Results):
        raise DataError(f"{where}: these are results of `{KINDS[data['format']][1]}`, and the key 'format' must be "
                        f"{FORMAT!r}; give the file that `gaq evaluate --json` wrote")
    return found


def parse(data: Any, where: str = "results") -> Record:
    """AuditCheck the content of a results file of any kind and return it as frozen values.

    Args:
        data: what `json.load` gave.
        where: how errors name the source, usually its path.

    Raises:
        DataError: a foreign or newer format, or an entry that does not follow the schema.
    """
    form = data.get("format") if isinstance(data, dict) else None
    if not isinstance(form, str) or form not in KINDS:
        given = repr(form)[:60] if isinstance(data, dict) else type(data).__name__
        raise DataError(f"{where}: not a gaq results file: the key 'format' must be one of {', '.join(KINDS)}, given "
                        f"{given}; give a file that one of these wrote: {', '.join(wrote for _, wrote in KINDS.values())}")
    schema, command = KINDS[form]
    version = data.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise DataError(f"{where}: format_version is {str(version)[:20]}, and this gaq reads up to {FORMAT_VERSION}; "
                        "update gaq, or write the results again with this version")
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:120] or "results"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DataError(f"{where}: {place}: {first['msg'][:200]}{more}; write the results again with `{command}`"
                        ) from error
