"""What is not finite inside of a model ends as an error, on every instruction set, never as a plausible number."""

import copy
from collections.abc import Callable

import pytest
import torch
from engines import on_engine
from tiny import cluster, forcefield

from gaq.errors import GaqError
from gaq.forcefield import ForceField


def changed(field: ForceField, change: Callable[[dict[str, torch.Tensor]], None]) -> ForceField:
    model = copy.deepcopy(field.model)
    with torch.no_grad():
        change(model.state_dict())
    return ForceField(model, field.recipe)


def refused(field: ForceField, isa: str) -> None:
    """Neither backend gives a number."""
    engine = on_engine(field, isa)
    for structure in (cluster(8, seed=1), cluster(3, seed=2)):
        graph = field.graph(structure)
        with pytest.raises(GaqError, match="not finite"):
            engine.predict(graph)
        with pytest.raises(GaqError, match="not finite"):
            engine.predict(graph)  # nor the second time
        with pytest.raises(GaqError, match="not finite"):
            field.predict(graph)


def steps(field: ForceField) -> list[str]:
    return [name for name, t in field.model.state_dict().items() if "step" in name or "scale" in name]


def test_show() -> None:
    print({n: (tuple(t.shape), t.dtype) for n, t in forcefield("robust", "w4a8").model.state_dict().items()})
