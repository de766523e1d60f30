"""Models, each in a folder of its own that is named by its kind; `contract` says what such a folder holds."""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from gaq.errors import ConfigError, did_you_mean
from gaq.models.contract import ModelKind
from gaq.recipe import FLOAT, Recipe, read_recipe

USUAL = "transformer"  # where a file or a configuration does not say which


def kinds() -> tuple[str, ...]:
    """Return the kinds of models that there are."""
    return tuple(sorted(found.name for found in iter_modules(__path__) if found.ispkg))


def model_kind(name: str) -> ModelKind:
    """Return a kind of model by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    known = kinds()
    if name not in known:
        raise ConfigError(f"unknown kind of model {str(name)[:80]!r}{did_you_mean(str(name)[:80], known)}; there are "
                          f"{', '.join(known)}")
    kind: ModelKind = import_module(f"{__name__}.{name}").KIND
    return kind


def network_of(name: str) -> Any:
    """Return the class of a kind's network; needs PyTorch."""
    return import_module(f"{__name__}.{name}.network").NETWORK


def emitter_of(name: str) -> Any | None:
    """Return the class that lowers a kind of model for the native engine, or None where only PyTorch computes it."""
    return _offered(name, "lowering", "EMITTER")


def costs_of(name: str) -> Any | None:
    """Return the function that says the multiply-adds of a kind's parts, or None where nobody wrote it."""
    return _offered(name, "costs", "parts")


def named_recipes(kind: str | None = None) -> dict[str, Recipe]:
    """Return the recipes that have a name: those of one kind of model, or of all."""
    found = {FLOAT.name: FLOAT}
    for each in kinds() if kind is None else (kind,):
        found |= model_kind(each).recipes
    return found


def load_recipe(given: str | Recipe | dict, kind: str | None = None) -> Recipe:
    """Return a recipe from its name, its data, or the path of a JSON file (`*.json`), as `save_recipe` writes it.

    Args:
        kind: of the model that it is for; None knows the names of all.

    Raises:
        ConfigError: an unknown name, no such file, or data that do not follow the schema.
    """
    return read_recipe(given, named_recipes(kind))


def _offered(kind: str, module: str, name: str) -> Any | None:
    if find_spec(f"{__name__}.{kind}.{module}") is None:
        return None
    return getattr(import_module(f"{__name__}.{kind}.{module}"), name)
