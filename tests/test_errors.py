"""One base for all errors a user can act on, and suggestions that help."""

import inspect

import pytest

from gaq import errors


def test_every_error_has_the_one_base() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == "gaq.errors"]
    assert len(classes) >= 9
    assert all(issubclass(c, errors.GaqError) for c in classes)


@pytest.mark.parametrize(("error", "builtin"), [
    (errors.StructureError, ValueError), (errors.SpeciesError, errors.StructureError), (errors.DataError, ValueError),
    (errors.DownloadError, errors.DataError), (errors.ConfigError, ValueError), (errors.ModelFileError, ValueError),
    (errors.OutputError, OSError)])
def test_errors_are_what_python_programmers_expect(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


def test_ctrl_c_is_not_mistaken_for_a_value() -> None:
    assert not issubclass(errors.Interrupted, (ValueError, OSError))


def test_suggestions() -> None:
    assert errors.did_you_mean("layrs", ["layers", "heads"]) == "; did you mean 'layers'?"
    assert errors.did_you_mean("zzz", ["layers", "heads"]) == ""
    assert errors.did_you_mean("x", []) == ""
