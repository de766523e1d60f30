"""Labels that some frames lack, weights of frames, and stresses: what they do to the loss and to training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from examples import assert_equal, crystals, frames, graphs, model, optimization, untrained, weights
from gaq.data import Frames
from gaq.graph import Graph, build_graph, collate
from gaq.nn.tensors import tensors
from gaq.recipe import Schedule
from gaq.structure import Structure
from gaq.training.batches import Batch, Batches, completed, fit_offsets, force_scale
from gaq.training.fit import centre_energies
from gaq.training.loop import Loop
from gaq.training.loss import loss, loss_weights
from gaq.training.step import CompiledStep, EagerStep, fits
from gaq.training.workers import Workers

WEIGHTS = loss_weights(0.3, 1.0, 0.0, torch.tensor(0.5), stress=0.7)


def whole(given: list[Graph], stress: bool = False) -> Batch:
    graph = collate(completed(given, stress))
    return Batch(graph, graph.structures, len(graph.species))


def value(given: list[Graph], stress: bool = False) -> float:
    return float(loss(untrained(), whole(given, stress), WEIGHTS).detach())


def of(structures: list[Structure]) -> list[Graph]:
    return [tensors(build_graph(s, 4.0)) for s in structures]


def test_graphs_with_all_labels_and_one_weight_are_left_as_they_are() -> None:
    given = graphs(frames())
    assert all(new.weights is None and new.energy is old.energy and new.forces is old.forces
               for old, new in zip(given, completed(given), strict=True))
    equal = of([replace(s, weight=3.0) for s in frames()])
    assert all(g.weights is None for g in completed(equal))
    assert value(equal) == value(given)


@pytest.mark.parametrize("stress", [False, True])
def test_the_loss_is_a_mean_over_what_is_labelled(stress: bool) -> None:
    given = [*crystals(4), *frames(2)]
    bare = [replace(given[0], forces=None), replace(given[1], energy=None, stress=None), replace(given[2], stress=None),
            *given[3:5], replace(given[5], forces=None)]
    said = [untrained()(g, stress=bool(g.cell.any())) for g in of(bare)]
    room = [abs(np.linalg.det(s.cell)) / len(s) for s in bare]
    terms = {
        "energy": [(float(p.energy) - s.energy) ** 2 for p, s in zip(said, bare, strict=True) if s.energy is not None],
        "forces": np.concatenate([(p.forces.numpy() - s.forces).ravel() ** 2 for p, s in zip(said, bare, strict=True)
                                  if s.forces is not None]),
        "stress": [(v * (p.stress[0].numpy() - s.stress)) ** 2 for p, s, v in zip(said, bare, room, strict=True)
                   if s.stress is not None]}
    by_hand = float(WEIGHTS[0] * np.mean(terms["energy"]) + WEIGHTS[1] * np.mean(terms["forces"])
                    + stress * WEIGHTS[3] * np.mean(terms["stress"]))
    assert value(of(bare), stress) == pytest.approx(by_hand, rel=1e-10)


def test_a_frame_of_weight_two_counts_as_twice_that_frame() -> None:
    given = [*crystals(3), *frames(2)]
    for index in range(5):
        heavy = [replace(s, weight=2.0 if k == index else 1.0) for k, s in enumerate(given)]
        assert value(of(heavy), stress=True) == pytest.approx(value(of([*given, given[index]]), stress=True), rel=1e-10)
    thousand = [replace(s, weight=1000.0) for s in given]
    assert value(of(thousand), stress=True) == pytest.approx(value(of(given), stress=True), rel=1e-12)


def test_weights_count_in_offsets_scale_and_centre_as_repetitions_do() -> None:
    given, species = list(frames(4)), (1, 6, 7, 8)
    heavy, twice = [replace(given[0], weight=2.0), *given[1:]], [given[0], *given]
    torch.testing.assert_close(fit_offsets(heavy, species), fit_offsets(twice, species), rtol=1e-12, atol=1e-9)
    assert force_scale(heavy) == pytest.approx(force_scale(twice), rel=1e-12)
    bare = [[replace(s, forces=None) for s in chosen] for chosen in (heavy, twice)]
    assert force_scale(bare[0]) == pytest.approx(force_scale(bare[1]), rel=1e-9)
    offsets = []
    for chosen in (heavy, twice):
        made = untrained()
        centre_energies(made, of(chosen))
        offsets.append(made.energy_offsets)
    torch.testing.assert_close(*offsets, rtol=0, atol=1e-10)


def test_the_loss_of_stresses_has_the_right_gradient() -> None:
    """Against central differences by single parameters, in float64."""
    made = untrained()
    batch, only = whole(of(crystals(2)), stress=True), loss_weights(0.0, 0.0, 0.0, torch.tensor(1.0), stress=1.0)
    loss(made, batch, only).backward()
    step, checked = 1e-5, 0
    for name, p in made.named_parameters():
        if p.grad is None or not p.grad.any():
            continue
        index = int(p.grad.abs().argmax())
        flat, gradient = p.data.view(-1), float(p.grad.view(-1)[index])
        start = float(flat[index])
        sides = []
        for sign in (1, -1):
            flat[index] = start + sign * step
            sides.append(float(loss(made, batch, only).detach()))
        flat[index] = start
        assert gradient == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-9), name
        checked += 1
    assert checked > 10


def test_shares_of_a_batch_of_mixed_labels_add_up() -> None:
    mixed = [replace(crystals(1)[0], forces=None), *crystals(3), replace(frames(1)[0], energy=None, weight=3.0)]
    given = completed(of(mixed), stress=True)
    shares = [Batches(given, 5, 0, workers=Workers(rank, 2))[0] for rank in range(2)]
    parts = [loss(untrained(), share, WEIGHTS).item() for share in shares]
    assert sum(parts) == pytest.approx(loss(untrained(), Batches(given, 5, 0)[0], WEIGHTS).item(), rel=1e-12)


@pytest.mark.parametrize("stress", [False, True])
def test_a_traced_step_takes_mixed_labels_weights_and_stresses(stress: bool) -> None:
    given = [replace(s, forces=None if k % 2 else s.forces, energy=s.energy if k % 3 else None, weight=1.0 + k)
             for k, s in enumerate(crystals(6))]
    given[1:3] = [replace(s, cell=None, pbc=(False,) * 3, stress=None) for s in given[1:3]]
    known = completed(of(given), stress)
    assert fits(known)
    made = untrained().train()
    batches = Batches(known, 3, seed=0)
    eager, traced = EagerStep(made, WEIGHTS), CompiledStep(made, WEIGHTS, known, 3, backend="eager")
    for step in range(4):
        made.zero_grad()
        expected_loss = eager(batches[step])
        expected = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
        assert torch.isfinite(expected_loss)
        torch.testing.assert_close(traced(batches[step]), expected_loss, rtol=1e-9, atol=1e-12)
        for name, gradient in expected.items():
            torch.testing.assert_close(made.get_parameter(name).grad, gradient, rtol=1e-7, atol=1e-9)


def test_padding_takes_a_periodic_direction() -> None:
    """A slab: one lattice vector is zero, so that its cell has no inverse."""
    slab = [replace(s, pbc=(False, True, True), stress=None) for s in crystals(2)]
    known = of(slab)
    made = untrained()
    batch = whole(known)
    traced = CompiledStep(made, WEIGHTS, known, 2, backend="eager")(batch)
    torch.testing.assert_close(traced, EagerStep(made, WEIGHTS)(batch), rtol=1e-9, atol=1e-12)


def run(training: list[Structure], validation: list[Structure], steps: int = 60, **settings: object) -> Loop:
    made = model(Frames(tuple(training), "made"))
    made.learn_distances(of([*training, *validation]))
    return Loop(made, of(training), of(validation), optimization(steps=steps, learning_rate=1e-2, **settings),
                Schedule(scalars_only=0.0))


def test_stresses_are_learned() -> None:
    given = crystals(10)
    maes = {}
    for weight in (0.0, 1.0):
        loop = run(given[:8], given[8:], energy_weight=0.0, forces_weight=1e-6, stress_weight=weight, validate_every=20)
        history = loop.run(resume=False).history
        maes[weight] = [row.get("stress_mae_meV_A3") for row in history]
    assert maes[0.0] == [None] * 3
    assert maes[1.0][-1] < 0.7 * maes[1.0][0]


def test_energies_alone_are_learned() -> None:
    given = [replace(s, forces=None) for s in frames(24)]
    loop = run(given[:20], given[20:], steps=200, validate_every=50)
    history = loop.run(resume=False).history
    assert [row["forces_mae_meV_A"] for row in history] == [None] * 4
    assert history[-1]["energy_mae_meV"] < 0.7 * history[0]["energy_mae_meV"]


def test_validation_with_other_labels_than_training_chooses_by_what_it_has() -> None:
    given = list(frames(12))
    for lacking, key in (("forces", "energy_mae_meV"), ("energy", "forces_mae_meV_A")):
        loop = run(given[:8], [replace(s, **{lacking: None}) for s in given[8:]], steps=12)
        progress = loop.run(resume=False)
        best = min(progress.history, key=lambda row, key=key: row[key])
        assert progress.best_step == best["step"]
        assert progress.history[0]["forces_mae_meV_A" if lacking == "forces" else "energy_mae_meV"] is None


def test_a_weight_changes_what_is_learned_and_equal_weights_do_not() -> None:
    given = list(frames(12))
    learned = {}
    for name, weight in (("plain", 1.0), ("equal", 4.0)):
        learned[name] = run([replace(s, weight=weight) for s in given[:8]], given[8:], steps=4)
    learned["heavy"] = run([replace(given[0], weight=50.0), *given[1:8]], given[8:], steps=4)
    for loop in learned.values():
        loop.run(resume=False)
    assert_equal(weights(learned["plain"].model), weights(learned["equal"].model))
    assert not torch.equal(learned["plain"].model.head.first.weight, learned["heavy"].model.head.first.weight)


def test_stresses_turn_with_the_structure() -> None:
    from gaq.rotations import random_rotations

    given = of(crystals(2))
    matrices = random_rotations(2, torch.Generator().manual_seed(0))
    turned = collate(given).rotated(matrices)
    said = untrained()(replace(turned, stress=None), stress=True).stress
    plain = untrained()(collate(given), stress=True).stress
    torch.testing.assert_close(matrices @ plain @ matrices.mT, said, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(turned.stress[1], matrices[1] @ given[1].stress[0] @ matrices[1].T)


def test_a_run_with_stresses_and_weights_resumes_to_the_bit(tmp_path: Path) -> None:
    given = [replace(s, weight=1.0 + k % 3) for k, s in enumerate(crystals(8))]

    def loop(folder: Path | None) -> Loop:
        made = run(given[:6], given[6:], steps=8, stress_weight=0.5)
        made.checkpoint = folder / "checkpoint.safetensors" if folder else None
        return made

    straight = loop(None)
    straight.run(resume=False)
    first = loop(tmp_path)

    def stop(progress: object) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    first.watch = stop
    with pytest.raises(Exception, match="at step 5 of 8"):
        first.run(resume=False)
    second = loop(tmp_path)
    second.run(resume=True)
    assert_equal(weights(straight.model), weights(second.model))
