"""A mistake in a configuration is found before hours of training, and named."""

import time
from pathlib import Path

import pytest
import yaml

from gaq.errors import ConfigError
from gaq.training import load_config

GOOD = {"data": {"train": "frames.xyz"}, "optimization": {"steps": 100}, "out": "run"}


def write(folder: Path, data: object) -> Path:
    path = folder / "train.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def test_defaults_fill_what_is_not_said(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.model.cutoff == 5.0
    assert config.optimization.batch_size == 5
    assert config.data.keys.energy == "REF_energy"
    assert config.data.keys.forces == "REF_forces"


def test_overrides_are_applied(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), ["model.layers=2", "optimization.learning_rate=1e-3", "out=elsewhere",
                                                 "optimization.minutes=3", "data.frames=null"])
    assert (config.model.layers, config.optimization.learning_rate, config.out) == (2, 1e-3, "elsewhere")
    assert (config.optimization.steps, config.optimization.minutes) == (None, 3)  # one budget replaces the other


@pytest.mark.parametrize(("override", "message"), [
    ("model.layrs=2", r"unknown key 'model.layrs'; did you mean 'layers'\?"),
    ("modell.layers=2", r"unknown key 'modell'; did you mean 'model'\?"),
    ("optimization.learning_rate=-1", r"optimization.learning_rate: .*greater than 0.*given -1"),
    ("optimization.batch_size=many", r"optimization.batch_size: .*integer.*given 'many'"),
    ("model.basis=fourier", r"model.basis: .*'bessel'.*given 'fourier'"),
    ("model.heads=3", r"heads \(3\) must divide scalars \(64\)"),
    ("model.max_degree=5", r"max_degree.*less than or equal to 4"),
    ("optimization.steps=null", r"give either steps or minutes"),
    ("data.train.more=1", r"'train' is a value, not a group of keys"),
    ("model.layers", r"the form is a.b=value"),
    ("model.layers=[1", r"the value is not YAML"),
    ("data.train=[]", r"data.train: .*at least 1 item"),
    ("data.train=3", r"data.train: .*list.*given 3"),
    ("data.train=[a.xyz, 3]", r"data.train.1: .*string.*given 3"),
    ("data.validation={a: b}", r"data.validation: .*list"),
    ("data.atomic_energies={Hh: -13.6}", r"data.atomic_energies: .*'Hh' is no element; did you mean"),
    ("data.atomic_energies={0: -13.6}", r"data.atomic_energies: .*0 is no element"),
    ("data.atomic_energies={119: -13.6}", r"data.atomic_energies: .*119 is no element"),
    ("data.atomic_energies={No: -13.6}", r"data.atomic_energies: .*False is what YAML makes of No"),
    ("data.atomic_energies={H: -13.6, 1: -13}", r"data.atomic_energies: .*H is given twice"),
    ("data.atomic_energies={H: .inf}", r"data.atomic_energies.H: .*finite number"),
    ("data.atomic_energies={H: low}", r"data.atomic_energies.H: .*number.*given 'low'"),
    ("data.atomic_energies=-13.6", r"data.atomic_energies: .*must be a mapping"),
    ("optimization.stress_weight=-1", r"optimization.stress_weight: .*greater than or equal to 0"),
    ("data.stres_key=x", r"unknown key 'data.stres_key'; did you mean 'stress_key'\?"),
])
def test_mistakes_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, GOOD), [override])


@pytest.mark.parametrize(("content", "message"), [
    ("- a\n- b\n", "must hold a mapping with the keys data, model"),
    ("", "must hold a mapping"),
    ("a: [1\n", "is not YAML"),
    ({"optimization": {"steps": 1}, "out": "x"}, "data: Field required"),
    (GOOD | {"optimization": {"steps": 1, "minutes": 2}}, "give either steps or minutes"),
    (GOOD | {"extra": 1}, "unknown key 'extra'"),
    (GOOD | {"model": 3}, "model: "),
])
def test_bad_files(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file at .*configuration"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="not text"):
        load_config(tmp_path / "binary.yaml")


def test_nothing_in_a_configuration_is_executed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(write(tmp_path, "out: !!python/object/apply:os.system ['touch hacked']\n"))
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(write(tmp_path, GOOD), ["out=!!python/name:os.system"])


def test_keys_and_units_reach_the_reader(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), ["data.energy_key=E", "data.forces_key=F", "data.energy_unit=kcal/mol"])
    assert (config.data.keys.energy, config.data.keys.forces, config.data.keys.energy_unit) == ("E", "F", "kcal/mol")


def test_several_sources_and_energies_of_atoms(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), [
        "data.train=[a.xyz, b.xyz]", "data.validation=c.xyz", "data.forces_key=none", "data.atomic_energies.H=-13.6",
        "data.atomic_energies.8=-2043", "data.stress_key=REF_virial", "data.weight_key=null"])
    assert config.data.train == ["a.xyz", "b.xyz"]
    assert config.data.validation == ["c.xyz"]
    assert config.data.atomic_energies == {"H": -13.6, "O": -2043.0}
    assert (config.data.keys.forces, config.data.keys.stress, config.data.keys.weight) == (None, "REF_virial", None)
    assert load_config(write(tmp_path, GOOD)).data.train == ["frames.xyz"]
    with pytest.raises(ConfigError, match="atomic_energies cannot be given with start"):
        load_config(write(tmp_path, GOOD), ["data.atomic_energies.H=-13.6", "start=m.safetensors"])


@pytest.mark.parametrize(("override", "place"), [
    ("optimization.seed=-1", "seed"), ("optimization.seed=1e30", "seed"), ("optimization.seed=4294967296", "seed"),
    ("threads=100000", "threads"), ("threads=0", "threads"), ("out=''", "out"), ("out=' '", "out"), ('out="a\\0b"', "out"),
    ("optimization.learning_rate=.inf", "learning_rate"), ("optimization.learning_rate=.nan", "learning_rate"),
    ("optimization.clip=.inf", "clip"), ("optimization.minutes=.inf", "minutes"), ("optimization.ema=.nan", "ema"),
    ("model.layers=1000000", "layers"), ("model.cutoff=.inf", "cutoff"), ("model.scalars=1e30", "scalars"),
    ("optimization.steps=" + "9" * 30, "steps"), ("optimization.batch_size=" + "9" * 30, "batch_size"),
])
def test_numbers_and_names_without_a_meaning_are_refused_by_place(tmp_path: Path, override: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"\b{place}: "):
        load_config(write(tmp_path, GOOD), [override])


@pytest.mark.parametrize("text", [
    "a: &a [x]\nb: [*a, *a]\n", "a: &a {x: 1}\nb:\n  <<: *a\n", "a: &a [*a]\n",
    "".join(f"x{k + 1}: &x{k + 1} [{', '.join([f'*x{k}'] * 9)}]\n" for k in range(40)),
    "[" * 100_000, "a: " + "[" * 1000 + "]" * 1000, "{a: " * 1000 + "}" * 1000, "- " * 5000 + "x",
    "a: [" + "1, " * 200_000 + "]", "a: 2020-13-45\n", "a: 0:99:99:99e\nb: !!int x\n", "? [a]\n: 1\n", "\0",
])
def test_yaml_that_is_no_plain_data_of_moderate_size_is_refused_at_once(tmp_path: Path, text: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, text))
    assert time.perf_counter() - begin < 10.0
