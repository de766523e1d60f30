"""What training does: it learns, stops in time, follows its phases and refuses what cannot be trained on."""

import csv
import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tiny import deployed

import examples
from examples import assert_equal, frames, graphs, loop, model, optimization, stored_weights, weights, write
from gaq.compress.probe import protect
from gaq.compress.swap import prepare
from gaq.data import Frames
from gaq.errors import ConfigError, DataError, GaqError, Interrupted
from gaq.forcefield import ForceField, load
from gaq.graph import Graph, collate
from gaq.metrics.accuracy import accuracy
from gaq.models.transformer.recipes import RECIPES
from gaq.nn.quantized import ProtectedInputCodes, QuantizedVectors
from gaq.recipe import Schedule
from gaq.rotations import random_rotations
from gaq.training import TrainConfig, quantize, train
from gaq.training.batches import Batch, Batches, fit_offsets, force_scale
from gaq.training.checkpoint import Progress
from gaq.training.fit import centre_energies, distillation_targets, distilled
from gaq.training.loop import rate_at
from gaq.training.loss import loss, loss_weights
from gaq.training.selection import split


def float_field() -> ForceField:
    return deployed(model(frames()))


def test_training_learns(tmp_path: Path) -> None:
    run = loop(optimization(steps=150, learning_rate=1e-2, validate_every=50, ema=0.9), tmp_path)
    before = accuracy(run.model, run.validation)
    progress = run.run(resume=False)
    after = accuracy(run.model.eval(), run.validation)
    assert after.forces_mae < 0.5 * before.forces_mae
    losses = [row["train_loss"] for row in progress.history]
    assert losses[2] < losses[1] < losses[0]
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [50, 100, 150]
    assert float(rows[-1]["forces_mae_meV_A"]) == pytest.approx(progress.history[-1]["forces_mae_meV_A"])


def test_the_same_seed_gives_the_same_model_and_another_does_not() -> None:
    first, second, other = loop(optimization()), loop(optimization()), loop(optimization(seed=1))
    for run in (first, second, other):
        run.run(resume=False)
    assert_equal(weights(first.model), weights(second.model))
    assert not torch.equal(first.model.head.first.weight, other.model.head.first.weight)


def test_the_best_average_is_kept_not_the_last() -> None:
    run = loop(optimization(steps=20, validate_every=4, learning_rate=0.3, warmup_steps=0))
    progress = run.run(resume=False)
    best = min(progress.history, key=lambda row: row["energy_mae_meV"] * 0.02 + row["forces_mae_meV_A"])
    assert progress.best_step == best["step"]
    assert accuracy(run.model.eval(), run.validation).forces_mae_meV_A == pytest.approx(best["forces_mae_meV_A"])


def test_it_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    settings = optimization(steps=400, validate_every=1, learning_rate=1e-12, patience=3)
    progress = loop(settings, tmp_path).run(resume=False)
    assert progress.step < 400
    assert progress.stale == 3
    assert loop(settings, tmp_path).run(resume=True).step == progress.step  # resuming does not wake it up


def test_a_time_budget_becomes_a_number_of_steps() -> None:
    run = loop(optimization(steps=None, minutes=0.005))
    start = weights(run.model)
    progress = run._begin()
    assert 1 <= progress.steps < 1000
    assert progress.preparation > 0
    assert set(progress.frames_per_second) == {"eager"}
    assert all(p.grad is None for p in run.model.parameters())
    assert_equal(start, weights(run.model))


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    run = loop(optimization(), tmp_path)
    broken = run.batches.graphs[3]
    run.batches.graphs = [*run.batches.graphs[:3], replace(broken, forces=broken.forces * torch.nan),
                          *run.batches.graphs[4:]]
    start = weights(run.model)
    with pytest.raises(GaqError, match=r"gradient is not finite at step \d+; lower optimization.learning_rate"):
        run.run(resume=False)
    assert all(torch.isfinite(t).all() for t in weights(run.model).values())
    assert start.keys() == weights(run.model).keys()


def test_the_rate_warms_up_and_cools_down() -> None:
    rates = [rate_at(step, 100, 10, 0.01) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert all(late < early for early, late in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert rate_at(100, 100, 10, 0.01) == pytest.approx(0.01)
    assert rate_at(3, 4, 0, 1.0) == 1.0


def test_every_frame_is_seen_once_in_an_epoch() -> None:
    given = graphs(frames(12))
    batches = Batches(given, 4, seed=3)
    epochs = [[batches[step].graph.energy.tolist() for step in range(3 * e, 3 * e + 3)] for e in range(2)]
    for epoch in epochs:
        assert sorted(itertools.chain.from_iterable(epoch)) == sorted(g.energy.item() for g in given)
    assert epochs[0] != epochs[1]
    assert batches[1].graph.energy.tolist() == Batches(given, 4, seed=3)[1].graph.energy.tolist()
    assert Batches(given, 100, seed=0).batch_size == 12


def test_offsets_and_scale_come_from_the_frames() -> None:
    given = frames()
    assert float(fit_offsets(given, (1, 6, 7, 8)) @ torch.tensor([2.0, 1, 1, 1], dtype=torch.float64)) == pytest.approx(
        np.mean([s.energy for s in given]))
    assert force_scale(given) == pytest.approx(np.sqrt(np.mean(np.concatenate([s.forces for s in given]) ** 2)))
    bare = [replace(s, forces=None) for s in given]
    assert force_scale(bare) == pytest.approx(np.std([s.energy / 5 for s in given]))
    assert force_scale(bare[:1]) == 1.0


def test_energies_alone_can_be_trained_on() -> None:
    run = loop(optimization(steps=4))
    run.batches.graphs = [replace(g, forces=None) for g in run.batches.graphs]
    run.validation = [replace(g, forces=None) for g in run.validation]
    assert run.run(resume=False).history[-1]["forces_mae_meV_A"] is None


def test_validation_frames_are_not_trained_on() -> None:
    training, validation = split(frames(20), 5, seed=1)
    assert (len(training), len(validation)) == (16, 4)  # at most a fifth is held out
    assert not {s.energy for s in training} & {s.energy for s in validation}
    with pytest.raises(DataError, match="at least 2 frames"):
        split(frames(1), 5, seed=0)


def test_phases_keep_vectors_in_float_first() -> None:
    seen: list[tuple[int, bool]] = []
    prepared = prepare(model(frames()), RECIPES["w4a8"], graphs(frames())[:8])
    run = loop(optimization(steps=8), made=prepared, schedule=Schedule(scalars_only=0.5))

    def watch(progress: Progress) -> None:
        seen.extend((progress.step, leaf.active) for leaf in prepared.modules() if isinstance(leaf, QuantizedVectors))

    run.watch = watch
    progress = run.run(resume=False)
    assert {active for step, active in seen if step < 4} == {False}
    assert {active for step, active in seen if step > 4} == {True}
    assert [row["phase"] for row in progress.history] == ["all", "all"]  # validated at steps 4 and 8
    assert all(leaf.active for leaf in prepared.modules() if isinstance(leaf, QuantizedVectors))


def test_in_the_first_phase_the_steps_of_vectors_do_not_move() -> None:
    prepared = prepare(model(frames()), RECIPES["w4a8"], graphs(frames())[:8])
    start = weights(prepared)
    run = loop(optimization(steps=8), made=prepared, schedule=Schedule(scalars_only=1.0))
    run.run(resume=False)
    run.state.swap({name: p.detach().clone() for name, p in run.state.parameters.items()})
    vectors = [name for name in start if ".feature.scales." in name]
    assert vectors
    assert all(torch.equal(start[name], prepared.state_dict()[name]) for name in vectors)


def of_batch(graph: Graph, seed: int | None = None) -> Batch:
    rotation = None if seed is None else random_rotations(graph.structures, torch.Generator().manual_seed(seed))
    return Batch(graph, graph.structures, len(graph.species), rotation)


def test_the_equivariance_term_acts_where_there_is_an_error() -> None:
    batch = collate(graphs(frames())[:4])

    def value(recipe: str, weight: float) -> float:
        prepared = prepare(model(frames()), RECIPES[recipe], [batch]).double() if recipe != "fp32" else model(
            frames()).double()
        return float(loss(prepared, of_batch(batch, seed=0), loss_weights(0.02, 1.0, weight, torch.tensor(0.1))).detach())

    for recipe in ("fp32", "w4a8"):
        assert value(recipe, 1.0) == pytest.approx(value(recipe, 0.0), rel=1e-9)
    assert value("int8-naive", 1.0) > value("int8-naive", 0.0) * (1 + 1e-9)


def test_the_equivariance_term_lowers_the_error() -> None:
    batch = graphs(frames())[:4]
    prepared = prepare(model(frames()), RECIPES["int8-naive"].with_overrides(["feature.vectors=none"]), batch)
    naive = RECIPES["int8-naive"].rules[-1].vectors.model_copy(update={"bits": 4})
    recipe = RECIPES["fp32"].model_copy(update={"rules": (
        RECIPES["int8-naive"].rules[-1].model_copy(update={"vectors": naive}),)})
    prepared = prepare(model(frames()), recipe, batch)
    term = loss_weights(0.0, 0.0, 1.0, torch.tensor(0.1))
    labels = collate([replace(g, energy=None, forces=None) for g in batch])
    optimizer = torch.optim.Adam(prepared.parameters(), lr=2e-3)

    def error() -> float:
        return sum(float(loss(prepared, of_batch(labels, seed=s), term).detach()) for s in range(5))

    before = error()
    for step in range(30):
        optimizer.zero_grad()
        loss(prepared, of_batch(labels, seed=100 + step), term).backward()
        optimizer.step()
    assert error() < 0.8 * before


def test_the_loss_is_free_of_units() -> None:
    batch = collate(graphs(frames())[:4])
    said = model(frames())(batch)
    by_hand = 0.5 * ((said.energy - batch.energy) / 0.25).square().mean() + 2 * (
        (said.forces - batch.forces) / 0.25).square().mean()
    value = loss(model(frames()), of_batch(batch), loss_weights(0.5, 2.0, 0.0, torch.tensor(0.25)))
    assert value.item() == pytest.approx(float(by_hand))


def test_degree_quant_protects_atoms_in_training_only() -> None:
    batch = collate(graphs(frames())[:4])
    prepared = prepare(model(frames()), RECIPES["degree-quant"], [batch])
    assert any(isinstance(m, ProtectedInputCodes) for m in prepared.modules())
    plain = prepared.eval()(batch).energy
    protect(prepared, batch, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(prepared.eval()(batch).energy, plain)
    assert not torch.equal(prepared.train()(batch).energy, plain)
    protect(prepared, batch, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(prepared.train()(batch).energy, plain)


def test_the_teacher_is_mixed_into_the_labels() -> None:
    graph, teacher = graphs(frames())[0], model(frames())
    said = teacher(graph)
    for share in (0.0, 0.25, 1.0):
        mixed = distilled(graph, said, share)
        torch.testing.assert_close(mixed.forces, (1 - share) * graph.forces + share * said.forces)
        torch.testing.assert_close(mixed.energy, (1 - share) * graph.energy + share * said.energy)
    bare = distilled(replace(graph, energy=None, forces=None), said, 0.5)
    assert torch.equal(bare.forces, said.forces)
    assert torch.equal(bare.energy, said.energy)


def test_distillation_targets_are_taught_frames_and_displaced_copies() -> None:
    teacher, given = float_field(), frames(4)
    known = graphs(given)
    made = distillation_targets(given, known, teacher, Schedule(distillation=0.25, displaced=2, displacement=0.05), seed=3)
    assert len(made) == 12
    for graph, lesson in zip(known, made[:4], strict=True):
        assert torch.equal(lesson.positions, graph.positions)
        torch.testing.assert_close(lesson.forces, 0.75 * graph.forces + 0.25 * tiny.said(teacher, graph).forces,
                                   rtol=1e-4, atol=1e-5)
    for index, copy in enumerate(made[4:]):
        moved = copy.positions - known[index % 4].positions
        assert 0.01 < moved.std() < 0.1
        torch.testing.assert_close(copy.forces, tiny.said(teacher, copy).forces, rtol=1e-4, atol=1e-5)
    again = distillation_targets(given, known, teacher, Schedule(displaced=1, displacement=0.05), 3)
    assert torch.equal(made[4].positions, again[4].positions)
    assert distillation_targets(given, known, teacher, Schedule(), 3) == known


def test_the_mean_energy_error_is_removed() -> None:
    made = model(frames())
    made.energy_offsets += 3.0
    centre_energies(made, graphs(frames()))
    assert accuracy(made, graphs(frames())).energy_offset == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("recipe", ["w4", "w4a8", "svq-kmeans", "degree-quant", "int8-naive"])
def test_quantizing_with_and_without_training(recipe: str, tmp_path: Path) -> None:
    start = float_field()
    kept = stored_weights(start)
    given, seen = frames(), []
    after = quantize(start, recipe, given)
    trained = quantize(start, recipe, given, optimization(steps=6), validation_frames=4, folder=tmp_path / "run",
                       watch=lambda progress: seen.append(progress.step))
    assert_equal(kept, stored_weights(start))
    assert seen == (list(range(1, 7)) if RECIPES[recipe].schedule.train else [])
    assert after.recipe.name == trained.recipe.name == recipe
    assert trained.provenance["fingerprint"] == given.fingerprint
    trained.save(tmp_path / "model.safetensors")
    batch = collate(graphs(given)[:3])
    assert np.array_equal(load(tmp_path / "model.safetensors", "torch").predict(batch).forces,
                          trained.on("torch").predict(batch).forces)


def test_quantizing_twice_is_refused() -> None:
    low = quantize(float_field(), "w4a8", frames())
    with pytest.raises(ConfigError, match=r"quantized already \(w4a8\)"):
        quantize(low, "w4a8", frames())
    with pytest.raises(ConfigError, match="did you mean 'w4a8'"):
        quantize(float_field(), "w4a9", frames())
    with pytest.raises(DataError, match="at least one frame"):
        quantize(float_field(), "w4a8", [])


def configuration(folder: Path, given: Frames, **data: object) -> TrainConfig:
    source = write(folder / "frames.xyz", given)
    return TrainConfig.model_validate({"data": {"train": str(source), "validation_frames": 4} | data,
                                       "model": examples.SHAPE, "optimization": optimization(steps=4).model_dump(),
                                       "out": str(folder / "run")})


def test_a_run_from_a_file_leaves_a_model_and_says_how_it_was_made(tmp_path: Path) -> None:
    field = train(configuration(tmp_path, frames()))
    again = load(tmp_path / "run" / "model.safetensors")
    assert_equal(stored_weights(field), stored_weights(again))
    assert again.species == (1, 6, 7, 8)
    assert again.recipe.name == "fp32"
    assert again.provenance["steps"] == 4
    assert again.provenance["training_frames"] == 16
    assert again.provenance["config"]["optimization"]["steps"] == 4
    assert {"checkpoint.safetensors", "log.csv", "model.safetensors"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_other_frames_can_be_given_for_validation(tmp_path: Path) -> None:
    write(tmp_path / "other.xyz", frames(6, seed=9))
    field = train(configuration(tmp_path, frames(), validation=str(tmp_path / "other.xyz"), frames=10))
    assert field.provenance["training_frames"] == 10


def test_more_than_a_thousand_frames_of_rmd17_are_refused(tmp_path: Path) -> None:
    few = frames(3)
    tile = 340
    arrays = {"nuclear_charges": few[0].species, "coords": np.tile(np.stack([s.positions for s in few]), (tile, 1, 1)),
              "energies": np.full(3 * tile, -97000.0), "forces": np.tile(np.stack([s.forces for s in few]), (tile, 1, 1))}
    np.savez(tmp_path / "rmd17_ethanol.npz", **arrays)
    config = configuration(tmp_path, frames(), train=str(tmp_path / "rmd17_ethanol.npz"))
    with pytest.raises(DataError, match="1020 training frames"):
        train(config)
    limited = config.model_copy(update={"data": config.data.model_copy(update={"frames": 12})})
    assert train(limited).provenance["training_frames"] == 10  # two held out, a fifth


def test_ctrl_c_is_reported_and_nothing_is_lost(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    config = configuration(tmp_path, frames())
    with pytest.raises(Interrupted, match="stopped by Ctrl-C at step 2 of 4"):
        train(config, watch=stop)
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = train(config, resume=True)
    assert_equal(stored_weights(resumed), stored_weights(train(config)))


def test_in_memory_a_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted, match="nothing was saved"):
        loop(optimization(), watch=lambda progress: (_ for _ in ()).throw(KeyboardInterrupt)).run(resume=False)
    assert list(tmp_path.iterdir()) == []
    assert math.isfinite(loop(optimization(steps=2)).run(resume=False).best)
