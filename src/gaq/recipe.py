"""Recipes: which leaf gets which number format, as frozen data.

A recipe is a list of rules; a leaf takes the first rule whose pattern matches its role or its name. A leaf that no rule
matches stays in float.
"""

import fnmatch
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gaq.errors import ConfigError, did_you_mean
from gaq.files import write_atomically
from gaq.quant.formats import Bits, InputBits
from gaq.quant.vector_formats import (
    VectorFormat,
)
from gaq.reading import read_text

FILE_ENDING = ".json"
MOST_RULES = 4096  # or changes, of a recipe: several for each leaf of the largest models


Pattern = Annotated[str, Field(max_length=200)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rule(_Frozen):
    """Formats of the leaves that a pattern matches.

    Args:
        match: a role ("scalar"), or a glob over module names ("attention.0.*").
        weight: bits of the weights; None for float.
        input: bits of the input activations of a linear leaf; None for float.
        vectors: format of vector features; None for float.
        higher: format of the degrees above 1 where `vectors` cannot code them; None for the same.
        granularity: a step for each channel (output channels of weights, channels of activations and of vector features),
            or one for the tensor.
        calibration: first steps of weights from the largest value ("max") or from the least squared error ("mse").
        headroom: range of activations and vector features, relative to the largest value seen in calibration. A value
            beyond the range loses its gradient, and with it a force; a little coarser is the lesser evil.
    """

    match: Pattern
    weight: Bits | None = None
    input: InputBits | None = None
    vectors: VectorFormat | None = None
    higher: VectorFormat | None = None
    granularity: Literal["channel", "tensor"] = "channel"
    calibration: Literal["max", "mse"] = "mse"
    headroom: float = Field(default=1.0, ge=1.0)

    def matches(self, name: str, role: str) -> bool:
        """Return whether the rule is meant for this leaf."""
        return _matches(self.match, name, role)


class Change(_Frozen):
    """One field of the rules that leaves get, changed for the leaves that a pattern matches.

    Args:
        match: a role, or a glob over module names.
        field: of `Rule`.
        value: as the field takes it.
    """

    match: Pattern
    field: str
    value: Any = None

    @model_validator(mode="after")
    def _fits(self) -> "Change":
        if self.field == "match" or self.field not in Rule.model_fields:
            raise ValueError(f"a change needs a field of Rule, not {self.field!r}")
        Rule.model_validate({"match": self.match, self.field: self.value})
        return self


class Schedule(_Frozen):
    """How quantization-aware training goes.

    Args:
        train: whether the recipe is trained at all (else calibrated only, post-training).
        scalars_only: share of the steps in which vector features stay in float (10 of 80 epochs in the paper).
        lee_weight: weight of the local equivariance error in the loss, in units of the force loss.
        distillation: weight of the FP32 teacher's energies and forces against the reference labels. None by default: it
            ties the student to the errors of its teacher, which training on the labels still lessens.
        displaced: copies of each frame that are displaced at random and labelled by the teacher alone, and
        displacement: by how much, Å for each coordinate (standard deviation).
        protection: Degree-Quant's largest probability that an atom stays in float; 0 for none.
    """

    train: bool = True
    scalars_only: float = Field(default=0.125, ge=0, le=1)
    lee_weight: float = Field(default=0.0, ge=0)
    distillation: float = Field(default=0.0, ge=0, le=1)
    displaced: int = Field(default=0, ge=0)
    displacement: float = Field(default=0.02, gt=0)
    protection: float = Field(default=0.0, ge=0, le=1)


class Recipe(_Frozen):
    """Rules and a schedule under a name.

    Args:
        name: what reports call it.
        rules: the first that matches a leaf counts.
        changes: applied to it in order.
        schedule: how it is trained.
        description: one line for people.
    """

    name: str = Field(max_length=200)
    rules: tuple[Rule, ...] = Field(default=(), max_length=MOST_RULES)
    changes: tuple[Change, ...] = Field(default=(), max_length=MOST_RULES)
    schedule: Schedule = Schedule()
    description: str = Field(default="", max_length=2000)

    def rule_for(self, name: str, role: str) -> Rule:
        """Return the first rule that matches the leaf, or one that keeps it in float, with the changes made."""
        rule = next((rule for rule in self.rules if rule.matches(name, role)), Rule(match="*"))
        made = {c.field: c.value for c in self.changes if _matches(c.match, name, role)}
        return Rule.model_validate(rule.model_dump() | made) if made else rule

    def with_overrides(self, assignments: list[str], roles: Sequence[str] = ()) -> "Recipe":
        """Return the recipe with `PATTERN.field=value` set on top, e.g. `scalar.input=12` or `schedule.lee_weight=0.1`.

        Args:
            assignments: as said.
            roles: of the model, so that a misspelt one is told; none takes any.

        Raises:
            ConfigError: an assignment that does not follow this form, an unknown field, a value out of range.
        """
        data = self.model_dump()
        for assignment in assignments:
            target, _, text = assignment.partition("=")
            pattern, _, field = target.strip().rpartition(".")
            if not pattern or not text:
                raise ConfigError(f"{assignment}: the form is ROLE.field=value, e.g. scalar.input=12")
            value = None if text.strip().lower() in ("none", "float") else _value(text.strip())
            if pattern == "schedule":
                _known(field, Schedule.model_fields, assignment)
                data["schedule"][field] = value
                continue
            _known(field, Rule.model_fields, assignment)
            if roles and "." not in pattern and "*" not in pattern and pattern not in roles:
                raise ConfigError(f"{assignment}: unknown role {pattern!r}{did_you_mean(pattern, roles)}; "
                                  f"roles are {', '.join(roles)}")
            data["changes"] = [*data["changes"], {"match": pattern, "field": field, "value": value}]
        return _validated(data)


def _matches(pattern: str, name: str, role: str) -> bool:
    return pattern == role or fnmatch.fnmatchcase(name, pattern)


def read_recipe(given: "str | Recipe | dict", named: Mapping[str, "Recipe"]) -> Recipe:
    """Return a recipe from its name, its data, or the path of a JSON file (`*.json`), as `save_recipe` writes it.

    Args:
        named: those that can be given by name.

    Raises:
        ConfigError: an unknown name, no such file, or data that do not follow the schema.
    """
    if isinstance(given, Recipe):
        return given
    if isinstance(given, dict):
        return _validated(given)
    given = str(given)
    if given.endswith(FILE_ENDING):
        return _read(Path(given))
    name = given.lower()
    if name not in named:
        raise ConfigError(f"unknown recipe {given[:80]!r}{did_you_mean(name[:80], named)}; recipes are "
                          f"{', '.join(named)}, or a file *{FILE_ENDING}")
    return named[name]


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as JSON, for `read_recipe`.

    Raises:
        ConfigError: the name of the file does not say that it is JSON.
        OutputError: it cannot be written.
    """
    check_recipe_path(Path(path))
    write_atomically(path, recipe.model_dump_json(indent=2) + "\n")


def check_recipe_path(path: Path) -> None:
    """Raise `ConfigError` for a recipe file that `read_recipe` would not know as one."""
    if not path.name.endswith(FILE_ENDING):
        raise ConfigError(f"the name of a recipe file ends in {FILE_ENDING}; given {path}")


def _read(path: Path) -> Recipe:
    others = path.parent.glob(f"*{FILE_ENDING}") if not os.path.exists(path) and path.parent.is_dir() else ()
    near = did_you_mean(path.name, [other.name for other in others])
    text = read_text(path, ConfigError, f"give the path of a recipe file{near}")
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"recipe {path}: {first_fault(error)}") from error


def _validated(data: dict) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"recipe: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong with data, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    given = repr(first["input"])
    return f"{where + ': ' if where else ''}{first['msg']} (given {given[:80]})"


def _known(field: str, fields: object, assignment: str) -> None:
    if field not in fields:  # type: ignore[operator]
        names = list(fields)  # type: ignore[call-overload]
        raise ConfigError(f"{assignment}: unknown field {field!r}{did_you_mean(field, names)}; "
                          f"fields are {', '.join(names)}")


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


FLOAT = Recipe(name="fp32", description="everything in float32", schedule=Schedule(train=False))
