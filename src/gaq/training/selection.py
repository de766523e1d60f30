"""Which frames are trained on, which ones choose the best model, and what isolated atoms say."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from gaq.data import Frames, check_training_size, load_frames
from gaq.data.atomic_energies import atomic_energies
from gaq.errors import ConfigError, DataError
from gaq.training.config import Optimization, TrainConfig


@dataclass(frozen=True)
class Selection:
    """What a training run is made of.

    Args:
        frames: all that were taken from the sources; isolated atoms and frames of weight 0 are not among them.
        training, validation: disjoint, or validation from other sources.
        atomic_energies: of isolated atoms, in eV, by atomic number, for elements of `training`.
    """

    frames: Frames
    training: Frames
    validation: Frames
    atomic_energies: dict[int, float]

    @property
    def species(self) -> tuple[int, ...]:
        """The elements that are trained on."""
        return elements(self.training)


def select(config: TrainConfig) -> Selection:
    """Read the sources of a run, and choose.

    Raises:
        DataError, ConfigError: bad sources, labels that are missing, or too few frames.
    """
    data, seed = config.data, config.optimization.seed
    frames, atoms = usable(load_frames(data.train, data.keys))
    if data.frames is not None:
        frames = frames.take(data.frames, seed)
    check_training_size(frames, data.allow_more_than_1000)
    if data.validation is None:
        training, validation = split(frames, data.validation_frames, seed)
    else:
        other, _ = usable(load_frames(data.validation, data.keys))
        training, validation = frames, other.take(min(data.validation_frames, len(other)), seed)
    check_labels(training, validation, config.optimization)
    given = {atomic_numbers[symbol]: energy for symbol, energy in data.atomic_energies.items()}
    known, species = atomic_energies(atoms, given), elements(training)
    return Selection(frames, training, validation, {z: energy for z, energy in known.items() if z in species})


def usable(frames: Frames) -> tuple[Frames, Frames]:
    """Return the frames that have a weight, and the isolated atoms, which are never among them.

    Raises:
        DataError: nothing is left.
    """
    molecules, atoms = frames.apart()
    weighted = molecules
    if not all(frame.weight for frame in molecules):
        weighted = molecules.subset(i for i, frame in enumerate(molecules) if frame.weight)
    if not len(weighted):
        raise DataError(f"{frames.source} holds no frames to train on: {len(atoms)} isolated atoms, and "
                        f"{len(molecules)} frames of weight 0")
    return weighted, atoms


def elements(frames: Frames) -> tuple[int, ...]:
    """Return the atomic numbers in frames, ascending."""
    return tuple(sorted({int(z) for s in frames for z in np.unique(s.species)}))


def split(frames: Frames, held_out: int, seed: int) -> tuple[Frames, Frames]:
    """Return training and validation frames, drawn at random without overlap; no element is in validation frames alone.

    Raises:
        DataError: too few frames.
    """
    held_out = min(held_out, max(len(frames) // 5, 1))
    if len(frames) < 2:
        raise DataError(f"training needs at least 2 frames, one of them for validation; there are {len(frames)}")
    order = np.random.default_rng(seed).permutation(len(frames))
    seen = {z for i in order[held_out:] for z in frames[int(i)].species.tolist()}
    held = [i for i in order[:held_out] if seen.issuperset(frames[int(i)].species.tolist())]
    if not held:
        raise DataError(f"each of the {held_out} frames of {frames.source} that were drawn for validation has an element "
                        "that no other frame has; raise data.validation_frames, or give data.validation")
    return frames.subset(sorted(set(order) - set(held))), frames.subset(sorted(held))


def check_labels(training: Frames, validation: Frames, settings: Optimization) -> None:
    """Refuse frames that have nothing to train on, or nothing to choose the best model by.

    Raises:
        DataError: a frame without energy and forces, named; or no energy in any training frame.
        ConfigError: no frame has a label whose weight in the loss is not 0.
    """
    for frames in (training, validation):
        for index, frame in enumerate(frames):
            if frame.energy is None and frame.forces is None:
                raise DataError(f"{frames.place(index)} has no reference energy and no forces; training needs one of them "
                                "in every frame: remove the frame, or give it weight 0")
    if all(frame.energy is None for frame in training):
        raise DataError(f"no training frame of {training.source} has a reference energy, without which energies have no "
                        "zero; name it with energy_key")
    if settings.stress_weight and all(frame.stress is None for frame in training):
        raise ConfigError(f"optimization.stress_weight is {settings.stress_weight:g}, but no training frame of "
                          f"{training.source} has a stress and a periodic cell; name it with data.stress_key")
    weights = {name: getattr(settings, f"{name}_weight") for name in ("energy", "forces", "stress")}
    for what, frames in (("training", training), ("validation", validation)):
        there = [name for name in weights if any(getattr(frame, name) is not None for frame in frames)]
        if not any(weights[name] for name in there):
            raise ConfigError(f"the {what} frames of {frames.source} have {' and '.join(there)} alone, which the loss "
                              f"gives weight 0; raise optimization.{there[0]}_weight")
