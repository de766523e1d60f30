"""One base for all errors a user can act on, and suggestions that help."""

import inspect

import pytest

from gaq import errors


def test_every_error_has_the_one_base() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == "gaq.errors"]
    assert len(classes) >= 9
    assert all(issubclass(c, (errors.GaqError, Warning, KeyboardInterrupt)) for c in classes)


@pytest.mark.parametrize(("error", "builtin"), [
    (errors.StructureError, ValueError), (errors.SpeciesError, errors.StructureError), (errors.DataError, ValueError),
    (errors.DownloadError, errors.DataError), (errors.ConfigError, ValueError), (errors.ModelFileError, ValueError),
    (errors.OutputError, OSError)])
def test_errors_are_what_python_programmers_expect(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


@pytest.mark.parametrize("kind", [errors.GaqError, errors.ModelFileError, errors.OutputError])
def test_a_message_is_one_line_that_can_be_printed_whatever_was_given(kind: type) -> None:
    text = str(kind("layers is 7\n\x1b[31m\ud800 and should be " + "9" * 10**6 + "; take fewer"))
    assert text.startswith("layers is 7  [31m  and should be 999")
    assert text.endswith("999; take fewer")
    assert len(text) < errors.LONGEST
    assert text.isprintable()
    assert text.encode()
    assert str(kind("short")) == "short"


def test_ctrl_c_is_not_mistaken_for_a_value() -> None:
    assert not issubclass(errors.Interrupted, (ValueError, OSError))


def test_suggestions() -> None:
    assert errors.did_you_mean("layrs", ["layers", "heads"]) == "; did you mean 'layers'?"
    assert errors.did_you_mean("zzz", ["layers", "heads"]) == ""
    assert errors.did_you_mean("x", []) == ""
