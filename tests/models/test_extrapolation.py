"""Distances, repulsion and outputs beyond what training saw: against their sources, and nothing within the bounds."""

import copy
import itertools

import numpy as np
import pytest
import torch
from tiny import CUTOFF, SPECIES, cluster, crystal, deployed, float_model, forcefield, predict

from gaq.errors import DataError, ModelFileError, SpeciesError
from gaq.graph import build_graph
from gaq.models.transformer.extrapolation import (
    FAR,
    UNKNOWN,
    check_training_range,
    energy_bounds,
    levelled,
    pair_table,
    repulsion,
    seen_distances,
)
from gaq.nn.distances import shortest_distances
from gaq.nn.tensors import tensors
from gaq.structure import Structure
from gaq.training.fit import with_training_range


def table(closest: float, *species: int) -> torch.Tensor:
    return pair_table(torch.full((len(species),) * 2, closest, dtype=torch.float64), species, 5.0)


def derivatives(function, x: torch.Tensor, order: int) -> list[torch.Tensor]:
    """f and its derivatives at x, by automatic differentiation."""
    x = x.clone().requires_grad_()
    values = [function(x)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), x, create_graph=True)[0])
    return [v.detach() for v in values]


def test_the_repulsion_is_the_universal_one() -> None:
    """Carbon on carbon against the published form in atomic units: V = Z² / r φ(r / a), a = 0.8854 / (2 Z^0.23)."""
    _, _, strength, rate = table(1.0, 6)[:, 0]
    r = torch.tensor([0.05, 0.1, 0.3], dtype=torch.float64)
    bohr, hartree = r / 0.529177211, 27.211386
    x = bohr / (0.8854 / (2 * 6**0.23))
    screening = (0.1818 * torch.exp(-3.2 * x) + 0.5099 * torch.exp(-0.9423 * x) + 0.2802 * torch.exp(-0.4029 * x)
                 + 0.02817 * torch.exp(-0.2016 * x))
    whole = [torch.full_like(r, v) for v in (1.0, 0.9)]
    torch.testing.assert_close(repulsion(r, *whole, strength, rate), hartree * 36 / bohr * screening, rtol=1e-3, atol=0)


@pytest.mark.parametrize("closest", [0.0, 0.3, 0.7, 1.0, 2.5, 5.0])
def test_radii_are_in_order_for_every_pair(closest: float) -> None:
    everything = tuple(range(1, 119))
    on, inner, strength, rate = table(closest, *everything)
    assert bool((inner > 0).all())
    assert bool((inner < on).all())
    assert bool((on < 5.0).all())
    assert bool((strength > 0).all())
    assert bool((rate > 0).all())
    for part in (on, inner, strength, rate):
        assert torch.equal(part, part.T)
    if closest in (0.7, 1.0, 2.5):
        assert bool((on == 0.95 * closest).all())


@pytest.mark.parametrize("closest", [UNKNOWN, 0.74, 5.0])
def test_the_network_sees_no_change_below_half_an_angstrom(closest: float) -> None:
    """So that dimers of light elements rise there, whatever the network says; and bonds are left alone."""
    on, inner, _, _ = table(closest, *SPECIES)
    assert float(inner.min()) >= 0.5
    if closest == UNKNOWN:
        assert float(on[0, 0]) < 0.6  # H-H, 0.74 Å
        assert float(on[0, 1]) < 0.85  # C-H, 1.09 Å
        assert float(on[2, 2]) < 1.05  # N≡N, 1.10 Å


def test_distances_bend_smoothly_and_are_themselves_beyond() -> None:
    on, inner = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    r = torch.linspace(0.05, 5.0, 4951, dtype=torch.float64)
    seen = seen_distances(r, on, inner)
    assert torch.equal(seen[r >= on], r[r >= on])
    assert torch.equal(seen[r <= inner], torch.full_like(r[r <= inner], 0.85))
    assert bool((seen.diff() >= 0).all())
    assert bool((seen >= r).all())
    for edge in (1.0, 0.7):  # three continuous derivatives
        near = edge + torch.tensor([-1e-7, 1e-7], dtype=torch.float64)
        for below, above in (d.tolist() for d in derivatives(lambda x: seen_distances(x, on, inner), near, 3)):
            assert below == pytest.approx(above, abs=1e-3)


def test_the_repulsion_falls_to_nothing_smoothly() -> None:
    on, inner, strength, rate = table(1.3, 6)[:, 0, 0]
    r = torch.linspace(0.05, 3.0, 2951, dtype=torch.float64)
    energy, slope = derivatives(lambda x: repulsion(x, on, inner, strength, rate), r, 1)
    assert bool((energy[r < on - 1e-3] > 0).all())
    assert bool((slope[r < on - 1e-3] < 0).all())
    assert bool((energy[r >= on] == 0).all())
    assert bool((slope[r >= on] == 0).all())
    for edge in (float(on), float(inner)):  # two continuous derivatives
        near = edge + torch.tensor([-1e-8, 1e-8], dtype=torch.float64)
        for below, above in (d.tolist() for d in derivatives(lambda x: repulsion(x, on, inner, strength, rate), near, 2)):
            assert below == pytest.approx(above, rel=1e-4, abs=1e-3)


def test_outputs_level_off_beyond_the_bounds_alone() -> None:
    bounds = energy_bounds(torch.tensor([[-0.2, 0.3], [-8.0, 4.0], [0.0, 0.0]], dtype=torch.float64))
    low, below, high, above = bounds[:, 0].tolist()
    assert (low, below, high, above) == pytest.approx((-0.7, 0.5, 5.3, 5.0))
    assert bounds[:, 1].tolist() == pytest.approx([-20.0, 12.0, 16.0, 12.0])
    assert bounds[:, 2].tolist() == [-FAR, 0.5, FAR, 5.0]  # not known: no bounds
    x = torch.linspace(-4.0, 20.0, 24001, dtype=torch.float64)
    said, slope = derivatives(lambda x: levelled(x, *bounds[:, :1]), x, 1)
    inside = (x >= low) & (x <= high)
    assert torch.equal(said[inside], x[inside])
    assert bool((slope[inside] == 1).all())
    assert bool((said.diff() >= 0).all())
    assert (float(said.min()), float(said.max())) == pytest.approx((low - below, high + above))
    for edge in (low, low - 2 * below, high, high + 2 * above):
        near = edge + torch.tensor([-1e-7, 1e-7], dtype=torch.float64)
        for left, right in (d.tolist() for d in derivatives(lambda x: levelled(x, *bounds[:, :1]), near, 3)):
            assert left == pytest.approx(right, abs=1e-4)


def test_what_is_not_finite_is_not_hidden() -> None:
    bounds = energy_bounds(torch.tensor([[-0.2, 0.3]], dtype=torch.float64))
    given = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e38], dtype=torch.float64)
    assert torch.isfinite(levelled(given, *bounds)).tolist() == [False, False, False, True]


def test_shortest_distances_see_every_frame_every_pair_and_images() -> None:
    structures = [cluster(8, seed=s) for s in range(3)] + [crystal(2.6)]
    found = shortest_distances([tensors(build_graph(s, CUTOFF)) for s in structures], SPECIES, CUTOFF).numpy()
    expected = np.full((4, 4), CUTOFF)
    for s in structures:
        assert s.cell is not None
        shifts = itertools.product((-2, -1, 0, 1, 2), repeat=3) if any(s.pbc) else [(0, 0, 0)]
        images = [np.array(shift) @ s.cell for shift in shifts]
        for i, j, image in itertools.product(range(len(s)), range(len(s)), images):
            r = np.linalg.norm(s.positions[j] + image - s.positions[i])
            a, b = SPECIES.index(s.species[i]), SPECIES.index(s.species[j])
            if r > 0:
                expected[a, b] = min(expected[a, b], r)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)


def test_a_pair_that_was_never_near_is_held_at_the_sum_of_its_radii() -> None:
    apart = Structure(species=np.array([1, 6]), positions=np.array([[0.0, 0, 0], [CUTOFF + 1, 0, 0]]))
    found = shortest_distances([tensors(build_graph(apart, CUTOFF))], (1, 6), CUTOFF)
    assert bool((found == CUTOFF).all())
    assert float(pair_table(found, (1, 6), CUTOFF)[0, 0, 1]) == pytest.approx(0.95 * (0.31 + 0.76))
    caesium = pair_table(torch.full((1, 1), 2.0, dtype=torch.float64), (55,), 2.0)
    assert float(caesium[0]) == pytest.approx(0.95 * 2.0)  # radii beyond the cutoff


def test_an_old_model_learns_its_training_range_from_frames() -> None:
    old = copy.deepcopy(float_model("robust"))
    old.closest.fill_(UNKNOWN)
    old.energy_range.zero_()
    new, frames = copy.deepcopy(old), [cluster(8, seed=s) for s in range(4)]
    graphs = [tensors(build_graph(frame, CUTOFF)) for frame in frames]
    new.start_training(graphs)
    assert bool((new.energy_range == UNKNOWN).all())
    new.finish_training(graphs)
    assert bool((old.closest == UNKNOWN).all())
    assert float(new.closest.min()) == min(np.linalg.norm(s.positions[:, None] - s.positions, axis=-1)[
        np.triu_indices(8, 1)].min() for s in frames)
    assert bool((new.energy_range[:, 0] < new.energy_range[:, 1]).all())
    for frame in frames:
        before, after = (predict(deployed(model), frame) for model in (old, new))
        assert torch.equal(before.energy, after.energy)
        assert torch.equal(before.forces, after.forces)
    made = with_training_range(deployed(old), frames)
    assert np.array_equal(made.stored.tensors["closest"], new.closest.numpy())
    assert np.array_equal(made.stored.tensors["energy_range"], new.energy_range.numpy())
    low = forcefield("robust", "w4a8")
    again = with_training_range(low, frames).stored.tensors
    assert all(np.array_equal(again[name], t) for name, t in low.stored.tensors.items()
               if name not in ("closest", "energy_range"))
    with pytest.raises(SpeciesError):
        with_training_range(made, [Structure(species=np.array([2]), positions=np.zeros((1, 3)))])
    with pytest.raises(DataError, match="at least one structure"):
        with_training_range(made, [])


@pytest.mark.parametrize("closest", [-1.0, 6.0, np.nan, np.inf])
def test_distances_that_are_none_are_refused(closest: float) -> None:
    fine = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ModelFileError, match="closest"):
        check_training_range(torch.full((1, 1), closest, dtype=torch.float64), fine, 5.0)
    with pytest.raises(ModelFileError, match="energy_range"):
        check_training_range(torch.ones(1, 1), torch.tensor([[1.0, 0.0]]), 5.0)
    with pytest.raises(ModelFileError, match="symmetric"):
        check_training_range(torch.tensor([[1.0, 2.0], [1.0, 1.0]]), torch.zeros(2, 2), 5.0)


def test_arrays_give_what_tensors_give() -> None:
    rng = np.random.default_rng(0)
    closest = rng.uniform(0.5, 5.5, (4, 4)).clip(max=CUTOFF)
    closest = np.minimum(closest, closest.T)
    closest[0, 0] = UNKNOWN
    energy_range = np.sort(rng.normal(size=(4, 2)) * 4, axis=-1)
    energy_range[1] = 0.0
    pairs, bounds = pair_table(closest, SPECIES, CUTOFF), energy_bounds(energy_range)
    check_training_range(closest, energy_range, CUTOFF)
    r, x = rng.uniform(0.3, CUTOFF, 400), rng.normal(size=400) * 20
    i, j = rng.integers(4, size=(2, 400))
    on, inner, strength, rate = pairs[:, i, j]
    for found, expected in (
            (pairs, pair_table(torch.from_numpy(closest), SPECIES, CUTOFF)),
            (bounds, energy_bounds(torch.from_numpy(energy_range))),
            (seen_distances(r, on, inner), seen_distances(*map(torch.from_numpy, (r, on, inner)))),
            (repulsion(r, on, inner, strength, rate), repulsion(*map(torch.from_numpy, (r, on, inner, strength, rate)))),
            (levelled(x, *bounds[:, i]), levelled(*map(torch.from_numpy, (x, *bounds[:, i]))))):
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-14, atol=1e-14)
