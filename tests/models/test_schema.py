"""A schema says what a network holds: its tensors, deployed and not, and its leaves in their order."""

import numpy as np
import pytest
from tiny import SHAPES, float_model, forcefield, prepared
from torch import nn

from gaq.compress.probe import leaves
from gaq.compress.swap import empty
from gaq.models.transformer.recipes import RECIPES
from gaq.models.transformer.schema import ROLES, schema
from gaq.recipe import Recipe

Types = dict[str, tuple[np.dtype, tuple[int, ...]]]


def held(network: nn.Module) -> Types:
    """Type and shape of every tensor of a network that is stored."""
    return {name: (np.dtype(str(values.dtype).removeprefix("torch.")), tuple(values.shape))
            for name, values in network.state_dict().items()}


def said(shape: str, recipe: Recipe) -> Types:
    return {name: (kind.dtype, kind.shape) for name, kind in schema(SHAPES[shape]).tensors(recipe).items()}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_schema_says_every_tensor_of_a_deployed_network(shape: str, recipe: str) -> None:
    expected, field = said(shape, RECIPES[recipe]), forcefield(shape, recipe)
    assert held(empty(SHAPES[shape], RECIPES[recipe])) == expected
    assert held(field.potential.network) == expected
    assert {name: (values.dtype, values.shape) for name, values in field.stored.tensors.items()} == expected
    assert field.stored.bytes_by_tensor() == {name: kind.itemsize * int(np.prod(size))
                                              for name, (kind, size) in expected.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_schema_says_the_tensors_of_a_float_network(shape: str) -> None:
    assert held(float_model(shape)) == said(shape, RECIPES["fp32"])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_leaves_have_the_order_of_the_schema(shape: str, recipe: str) -> None:
    names = list(schema(SHAPES[shape]).leaves)
    for network in (float_model(shape), prepared(shape, recipe), forcefield(shape, recipe).potential.network,
                    empty(SHAPES[shape], RECIPES[recipe])):
        found = dict(leaves(network))
        assert list(found) == names
        assert all(found[name].leaf == leaf for name, leaf in schema(SHAPES[shape]).leaves.items())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_role_has_a_leaf(shape: str) -> None:
    assert set(schema(SHAPES[shape]).roles) == set(ROLES)
