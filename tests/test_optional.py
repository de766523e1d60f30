"""What only some work needs is named, with the command that installs it, where it is missing."""

import sys

import pytest

import gaq
from gaq.errors import GaqError, PackageMissing
from gaq.optional import extras


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    advice = r"^downloads need the package requests, .* pip install 'gaq\[train\]'$"
    with pytest.raises(PackageMissing, match=advice) as caught, extras():
        import requests  # noqa: F401
    assert isinstance(caught.value, GaqError)
    assert isinstance(caught.value, ImportError)


def test_what_another_package_lacks_is_not_called_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), extras():
        import no_such_module  # noqa: F401


def test_public_names_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gaq.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(vars(gaq), "quantize", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PackageMissing, match="quantizing and computing with PyTorch need the package torch"):
        gaq.quantize  # noqa: B018
