"""Which leaf gets which format: names, rules, overrides, and what is said about mistakes."""

import json
from pathlib import Path

import pytest
from tiny import SHAPES, float_model

from gaq.compress.swap import leaves
from gaq.errors import ConfigError
from gaq.models import load_recipe
from gaq.models.transformer.recipes import RECIPES
from gaq.models.transformer.schema import ROLES
from gaq.recipe import Recipe, Rule, Schedule, save_recipe


def test_roles_are_those_of_the_models_leaves() -> None:
    for shape in SHAPES:
        assert {leaf.leaf.role for _, leaf in leaves(float_model(shape))} == set(ROLES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_found_by_name_and_survive_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert load_recipe(json.loads(recipe.model_dump_json())) == recipe
    assert load_recipe(recipe) is recipe
    assert {rule.match for rule in recipe.rules} <= set(ROLES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_kept_in_json_files(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name].with_overrides(["scalar.input=12", "schedule.lee_weight=0.1"])
    save_recipe(recipe, tmp_path / "a.json")
    assert load_recipe(str(tmp_path / "a.json")) == recipe
    with pytest.raises(ConfigError, match=r"ends in \.json; given .*a\.yaml"):
        save_recipe(recipe, tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"b\.json; .*did you mean 'a\.json'"):
        load_recipe(str(tmp_path / "b.json"))
    (tmp_path / "b.json").write_text('{"name": "x", "rules": 3}')
    with pytest.raises(ConfigError, match=r"b\.json: rules: .*given 3"):
        load_recipe(str(tmp_path / "b.json"))


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'w4a9'; did you mean 'w4a8'\?; recipes are fp32"):
        load_recipe("w4a9")


@pytest.mark.parametrize(("data", "message"), [
    ({"name": "x", "rules": [{"match": "scalar", "weight": 5.5}]}, r"rules.0.weight: .*given 5.5"),
    ({"name": "x", "rules": [{"match": "scalar", "wieght": 8}]}, r"rules.0.wieght: Extra inputs"),
    ({"name": "x", "rules": [{"match": "feature", "vectors": {"kind": "spiral"}}]}, r"rules.0.vectors: .*'spiral'"),
    ({"name": "x", "schedule": {"scalars_only": 2}}, r"schedule.scalars_only: .*given 2"),
    ({}, "name: Field required"),
])
def test_bad_data(data: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(data)


def test_the_first_rule_that_matches_counts() -> None:
    recipe = Recipe(name="x", rules=(Rule(match="attention.0.*", weight=3), Rule(match="scalar", weight=4),
                                     Rule(match="*.query", weight=5)))
    assert recipe.rule_for("attention.0.query", "scalar").weight == 3
    assert recipe.rule_for("attention.1.query", "scalar").weight == 4
    assert recipe.rule_for("other.query", "vector").weight == 5
    nothing = recipe.rule_for("head.second", "last")
    assert (nothing.weight, nothing.input, nothing.vectors) == (None, None, None)


def test_overrides_change_one_field_and_keep_the_rest() -> None:
    base = RECIPES["w4a8"]
    changed = base.with_overrides(["scalar.input=12", "schedule.lee_weight=0.25", "radial.weight=none"])
    assert changed.rule_for("q", "scalar") == base.rule_for("q", "scalar").model_copy(update={"input": 12})
    assert changed.rule_for("r", "radial").weight is None
    assert changed.schedule == base.schedule.model_copy(update={"lee_weight": 0.25})
    assert base.rule_for("q", "scalar").input == 8
    later = base.with_overrides(["scalar.weight=8", "scalar.weight=2"])
    assert (later.rule_for("q", "scalar").weight, later.rule_for("q", "scalar").input) == (2, 8)


def test_a_star_stands_for_all_roles() -> None:
    changed = RECIPES["w4a8"].with_overrides(["*.weight=8"])
    assert {changed.rule_for("x", role).weight for role in ROLES} == {8}
    assert changed.rule_for("x", "feature").vectors == RECIPES["w4a8"].rule_for("x", "feature").vectors
    assert changed.rule_for("x", "scalar").input == 8


def test_names_of_leaves_can_be_given() -> None:
    changed = RECIPES["w4a8"].with_overrides(["head.*.weight=16"])
    assert changed.rule_for("head.first", "scalar").weight == 16
    assert changed.rule_for("attention.0.query", "scalar").weight == 4


@pytest.mark.parametrize(("assignment", "message"), [
    ("scalar", r"scalar: the form is ROLE.field=value"),
    ("weight=8", "the form is ROLE.field=value"),
    ("scalar.weight=", "the form is ROLE.field=value"),
    ("scaler.weight=8", r"unknown role 'scaler'; did you mean 'scalar'\?"),
    ("scalar.wieght=8", r"unknown field 'wieght'; did you mean 'weight'\?"),
    ("schedule.lee=1", r"unknown field 'lee'; did you mean|unknown field 'lee'; fields are"),
    ("scalar.weight=9", r"changes.0.weight: .*given 9"),
    ("scalar.granularity=row", r"granularity: .*given 'row'"),
    ("schedule.scalars_only=1.5", r"schedule.scalars_only: .*given 1.5"),
])
def test_mistaken_overrides(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RECIPES["w4a8"].with_overrides([assignment], ROLES)


def test_recipes_are_frozen_values() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RECIPES["w4a8"].name = "other"
    assert RECIPES["w4a8"] == load_recipe("w4a8")
    assert Schedule() == Schedule(train=True)


def test_geometry_aware_recipes_round_vectors_in_local_frames() -> None:
    for name, bits in (("w4a8", 8), ("w8a8", 8), ("w4a16", 16)):
        vectors = RECIPES[name].rule_for("f", "feature").vectors
        assert vectors.aligned
        assert (vectors.magnitude.bits, vectors.direction.bits) == (bits, bits)
    assert RECIPES["w4"].rule_for("f", "feature").vectors is None
    assert not RECIPES["int8-naive"].schedule.train
    assert RECIPES["degree-quant"].schedule.protection > 0
    assert RECIPES["svq-kmeans"].rule_for("f", "feature").vectors.gradient == "none"
