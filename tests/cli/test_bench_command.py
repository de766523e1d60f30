"""`gaq bench` from the command line."""

import json
from pathlib import Path

from invocation import invoke, one_error
from tiny import forcefield


def test_the_command_shows_a_table_and_writes_figures_and_a_plot(tmp_path: Path) -> None:
    model, figures, plot = (tmp_path / name for name in ("fp32.safetensors", "bench.json", "bench.svg"))
    forcefield("robust", "fp32").save(model)
    shown = invoke("bench", model, "--systems", "H2O,CH4", "--backends", "torch-eager,engine", "--threads", "1",
                   "--repeats", "3", "--no-memory", "--largest-torch", "10", "--json", figures, "--plot", plot)
    assert shown.exit_code == 0
    assert "left out: torch-eager CH4: 20 edges" in shown.stdout
    assert "weights in memory, engine w4a8" in shown.stdout
    data = json.loads(figures.read_text())
    assert {"rows", "skipped", "ceilings", "machine", "summary"} <= set(data)
    assert len(data["rows"]) == 1 + 2 * 3
    assert "<svg" in plot.read_text()
    nothing = invoke("bench", model, "--systems", "CH4", "--backends", "torch-eager", "--largest-torch", "0")
    assert nothing.exit_code == 0
    assert "left out: torch-eager CH4" in nothing.stdout
    counted = invoke("bench", model, "--costs").stdout
    assert "interaction.update.first" in counted
    assert "engine adjoint" in counted
    assert "--plot draws .svg or .png" in one_error(invoke("bench", model, "--plot", tmp_path / "bench.pdf"))
