"""`gaq data`: what is in data, making data, getting data."""

import gzip

import pytest
from invocation import invoke, one_error

import gaq.data.download
import gaq.data.label
from gaq import load_frames
from gaq.errors import DataError


def test_data_are_described(frames):
    shown = invoke("data", "info", frames).stdout
    assert "24 frames" in shown
    assert "CH2NO (5 atoms)" in shown
    assert load_frames(str(frames)).fingerprint in shown
    assert "eV/Å" in shown


def test_data_without_labels_are_described(tmp_path):
    (tmp_path / "bare.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    assert "energy_key" in one_error(invoke("data", "info", tmp_path / "bare.xyz"))
    shown = invoke("data", "info", tmp_path / "bare.xyz", "--energy-key", "none", "--forces-key", "none").stdout
    assert "energies     none" in shown
    assert "forces       none" in shown


def scripted(frames, ending=None):
    """Make `label` return known frames, and then end in some way."""
    made = list(load_frames(str(frames)))[:3]

    def label(structure, **settings):
        label.structure, label.settings = structure, settings
        yield from made
        if ending is not None:
            raise ending

    return label


@pytest.mark.parametrize("name", ["f.extxyz", "f.extxyz.gz"])
def test_labelling_writes_frames(frames, tmp_path, monkeypatch, name):
    label = scripted(frames)
    monkeypatch.setattr(gaq.data.label, "label", label)
    result = invoke("data", "label", "ethanol", "--frames", 3, "--temperature", 400, "--seed", 7, "--out",
                    tmp_path / "new" / name)
    assert result.exit_code == 0, result.output
    assert label.structure.formula == "C2H6O"
    assert (label.settings["temperature"], label.settings["seed"], label.settings["method"]) == (400.0, 7, "gfn2-xtb")
    assert (tmp_path / "new" / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")
    assert load_frames(str(tmp_path / "new" / name))[2].energy == load_frames(str(frames))[2].energy


@pytest.mark.parametrize(("ending", "status", "words"), [
    (KeyboardInterrupt(), 130, "stopped by Ctrl-C after frame 3 of 9"),
    (DataError("the molecule reacted"), 1, "error: the molecule reacted")])
def test_labelling_that_is_cut_short_keeps_what_it_has(frames, tmp_path, monkeypatch, ending, status, words):
    monkeypatch.setattr(gaq.data.label, "label", scripted(frames, ending))
    out, kept = tmp_path / "f.extxyz.gz", tmp_path / "partial-f.extxyz.gz"
    out.write_text("made before")
    command = ("data", "label", "ethanol", "--frames", 9, "--out", out)
    assert "exists already; replace it with --overwrite" in one_error(invoke(*command))
    line = one_error(invoke(*command, "--overwrite"), status)
    assert words in line
    assert str(kept) in line
    assert out.read_text() == "made before"
    assert len(load_frames(str(kept))) == 3
    assert gzip.decompress(kept.read_bytes())
    out.unlink()
    assert f"{kept} exists already" in one_error(invoke(*command))  # a shorter run would lose some of these frames


def test_frames_are_labelled_anew(tmp_path):
    pytest.importorskip("tblite")
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n" * 2)
    result = invoke("data", "label", "--relabel", tmp_path / "water.xyz", "--method", "gfn1-xtb",
                    "--out", tmp_path / "new.extxyz")
    assert result.exit_code == 0, result.output
    found = load_frames(str(tmp_path / "new.extxyz"))
    assert len(found) == 2
    assert -170 < found[0].energy < -140


def test_downloads_show_how_far_they_are(tmp_path, monkeypatch):
    def get(dataset, molecule, *, progress):
        progress("rmd17_ethanol.npz", 10, 100)
        return tmp_path / dataset / molecule

    monkeypatch.setattr(gaq.data.download, "get", get)
    result = invoke("data", "get", "rmd17", "ethanol")
    assert result.stdout == f"it is in {tmp_path / 'rmd17' / 'ethanol'}\n"
    assert "downloading rmd17 ethanol" in result.stderr


def test_wrong_arguments(frames, tmp_path):
    out = ("--out", tmp_path / "f.extxyz")
    assert "did you mean 'gfn2-xtb'" in one_error(invoke("data", "label", "water", "--method", "gfn2-xbt", *out))
    assert "ethanol" in one_error(invoke("data", "label", "ethanoll", *out))
    assert "'--frames'" in one_error(invoke("data", "label", "water", "--frames", 0, *out), 2)
    assert "either a STRUCTURE" in one_error(invoke("data", "label", *out))
    assert "either a STRUCTURE" in one_error(invoke("data", "label", "water", "--relabel", frames, *out))
    assert "did you mean 'qm9'" in one_error(invoke("data", "get", "qm99"))
    assert "did you mean 'ethanol'" in one_error(invoke("data", "get", "rmd17", "ethanoll"))
    assert "did you mean 'rmd17'" in one_error(invoke("data", "info", "rmd71:ethanol:1:test"))
