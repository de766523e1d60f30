"""The compiled step computes what the eager one does; several processes compute what one does."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import deployed, said

import examples
from examples import frames, graphs, loop, model, optimization, write
from gaq.compress.probe import release_vectors
from gaq.compress.swap import prepare
from gaq.errors import ConfigError
from gaq.forcefield import load
from gaq.graph import collate
from gaq.models.transformer.network import Transformer
from gaq.models.transformer.recipes import RECIPES
from gaq.training import TrainConfig, train
from gaq.training.batches import Batches
from gaq.training.loss import loss, loss_weights
from gaq.training.step import CompiledStep, EagerStep, padded
from gaq.training.workers import Workers

WEIGHTS = loss_weights(0.02, 1.0, 0.1, torch.tensor(0.3))


def prepared(recipe: str) -> Transformer:
    made = model(frames()).double()
    if recipe != "fp32":
        made = prepare(made, RECIPES[recipe], [collate(graphs(frames())[:8])])
    return made.train()


def gradients(made: Transformer) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in made.named_parameters()}


@pytest.mark.parametrize(("recipe", "rotated"), [("fp32", True), ("w4a8", False)])
def test_a_traced_step_is_the_eager_step(recipe: str, rotated: bool) -> None:
    made, given = prepared(recipe), graphs(frames())
    batches = Batches(given, 4, seed=3, rotated=rotated)
    eager, traced = EagerStep(made, WEIGHTS), CompiledStep(made, WEIGHTS, given, 4, backend="eager")
    for step in range(3):
        for active in (False, True):
            release_vectors(made, active)
            made.zero_grad()
            expected_loss = eager(batches[step])
            expected = gradients(made)
            assert torch.allclose(traced(batches[step]), expected_loss, rtol=1e-9)
            for name, gradient in gradients(made).items():
                torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-9)
        with torch.no_grad():  # weights are inputs, not constants of the trace
            for p in made.parameters():
                p.mul_(1.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_step_is_the_eager_step_and_trains_alike() -> None:
    """Through the C++ compiler; the rest of this file leaves it out, for it takes its time."""
    runs = {how: loop(optimization(steps=6, compile=how)) for how in ("never", "always")}
    progress = {how: run.run(resume=False) for how, run in runs.items()}
    assert isinstance(runs["always"].gradients, CompiledStep)
    assert set(progress["always"].frames_per_second) == {"eager", "compiled"}
    for first, second in zip(*(p.history for p in progress.values()), strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-3)
        assert first["forces_mae_meV_A"] == pytest.approx(second["forces_mae_meV_A"], rel=1e-3)


def test_padded_edges_change_nothing() -> None:
    made = model(frames()).double()
    graph = collate(graphs(frames())[:3])
    plain, more = made(graph), made(padded(graph, len(graph.centers) + 37, 4.0))
    assert torch.equal(plain.energy, more.energy)
    torch.testing.assert_close(plain.forces, more.forces, rtol=0, atol=1e-13)


def test_padding_keeps_the_cell_of_a_crystal() -> None:
    graph = graphs(frames())[0]
    cell = torch.tensor([[[7.0, 0.5, 0], [0, 8, 0], [0.2, 0, 9]]], dtype=torch.float64)
    whole = padded(replace(graph, cell=cell), len(graph.centers) + 2, 4.0)
    added = whole.shifts[-2:] @ whole.cell[0]
    assert torch.equal(whole.cell, cell)
    torch.testing.assert_close(added.norm(dim=1), torch.full((2,), 4.0, dtype=torch.float64))


def test_frames_of_several_sizes_are_not_compiled() -> None:
    given = graphs(frames())
    smaller = replace(given[0], species=given[0].species[:4], positions=given[0].positions[:4])
    with pytest.raises(ConfigError, match="one number of atoms"):
        CompiledStep(model(frames()), WEIGHTS, [given[1], smaller], 2)


def test_shares_add_up_to_the_batch() -> None:
    made, given = model(frames()).double(), graphs(frames())
    whole = Batches(given, 5, seed=1, rotated=True)
    shares = [Batches(given, 5, seed=1, workers=Workers(rank, 2), rotated=True) for rank in range(2)]
    parts = [loss(made, share[2], WEIGHTS) for share in shares]
    assert sum(parts).item() == pytest.approx(loss(made, whole[2], WEIGHTS).item(), rel=1e-12)
    assert [len(share[2].graph.energy) for share in shares] == [3, 2]


def test_more_processes_than_frames_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 processes cannot share batches of 2"):
        Batches(graphs(frames()), 2, seed=0, workers=Workers(0, 3))[0]


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    data = write(tmp_path / "frames.xyz", frames())
    config = {"data": {"train": str(data), "validation_frames": 4}, "model": examples.SHAPE, "threads": 1,
              "optimization": optimization(steps=8, batch_size=5).model_dump(exclude_none=True)}
    losses = {}
    for processes in (1, 2):
        out = tmp_path / f"run{processes}"
        path = tmp_path / f"config{processes}.yaml"
        path.write_text(yaml.safe_dump(config | {"out": str(out)}))
        started = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=29517",
             "-m", "gaq", "train", str(path)],
            capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert started.returncode == 0, started.stderr
        rows = list(csv.DictReader((out / "log.csv").read_text().splitlines()))
        losses[processes] = [float(row["train_loss"]) for row in rows]
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    assert started.stdout.count("model.safetensors") == 1  # one of them speaks


def test_training_goes_on_from_a_model(tmp_path: Path) -> None:
    data = write(tmp_path / "frames.xyz", frames())

    def config(out: str, **more: object) -> TrainConfig:
        return TrainConfig.model_validate({
            "data": {"train": str(data), "validation_frames": 4}, "model": examples.SHAPE, "out": str(tmp_path / out),
            "optimization": optimization(steps=40).model_dump(exclude_none=True), **more})

    first = train(config("first"))
    second = train(config("second", start=str(tmp_path / "first" / "model.safetensors"), model={}))
    batch = collate(graphs(frames()))
    error = [float((said(ff, batch).forces - batch.forces).abs().mean()) for ff in (first, second)]
    assert error[1] < error[0]
    assert second.config == first.config
    assert np.array_equal(first.stored.tensors["energy_scale"], second.stored.tensors["energy_scale"])
    assert load(tmp_path / "second" / "model.safetensors").provenance["config"]["start"].endswith("model.safetensors")


def test_training_does_not_go_on_from_a_low_bit_model(tmp_path: Path) -> None:
    from gaq.training import quantize

    low = quantize(deployed(model(frames())), "w4a8", frames())
    low.save(tmp_path / "low.safetensors")
    data = write(tmp_path / "frames.xyz", frames())
    config = TrainConfig.model_validate({"data": {"train": str(data)}, "out": str(tmp_path / "run"),
                                         "start": str(tmp_path / "low.safetensors"),
                                         "optimization": {"steps": 1}})
    with pytest.raises(ConfigError, match="is quantized"):
        train(config)


