"""The program as a whole: bad input of every kind is one line and an exit status, never a traceback."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from invocation import invoke, one_error

import gaq.forcefield
from gaq.data import write_frames
from gaq.structure import Structure


@pytest.fixture
def damaged(model, frames, tmp_path):
    """Files that are not what they should be, by name."""
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:2000])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "empty.extxyz").write_bytes(b"")
    count, header, _, *rows = frames.read_text().splitlines()
    (tmp_path / "nan.extxyz").write_text("\n".join([count, header, "C nan 0 0 0 0 0", *rows]))
    write_frames(tmp_path / "chlorine.extxyz", [Structure(species=[17, 17], positions=[[0, 0, 0], [0, 0, 2.0]],
                                                          energy=0.0, forces=[[0, 0, 0], [0, 0, 0]])])
    (tmp_path / "broken.yaml").write_text("data: [")
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    return tmp_path


@pytest.mark.parametrize(("name", "words"), [
    ("none.safetensors", "no model file"), ("pickle.safetensors", "never opens"), ("cut.safetensors", "not a whole"),
    ("empty.safetensors", "not a whole"), ("nothing", "no model file"),
    (".", "several models; give one of them: cut.safetensors")])
def test_models_that_are_none(damaged, frames, name, words):
    path, out = damaged / name, damaged / "out"
    for command in (("info", path), ("evaluate", path, "--data", frames), ("md", path, "water", "--out", out),
                    ("quantize", path, "--data", frames, "--out", out)):
        assert words in one_error(invoke(*command), 2 if name == "." else 1), command
    assert not out.exists()


@pytest.mark.parametrize(("name", "words"), [
    ("none.extxyz", "no file"), ("empty.extxyz", "cannot read"), ("nan.extxyz", "frame 0: positions must be finite"),
    ("chlorine.extxyz", "does not know Cl"), (".", "is a folder")])
def test_data_that_are_none(damaged, model, name, words):
    assert words in one_error(invoke("evaluate", model, "--data", damaged / name))


@pytest.mark.parametrize("name", ["none.yaml", "broken.yaml", "list.yaml", "binary.yaml", "."])
def test_configurations_that_are_none(damaged, name):
    assert str(damaged / name) in one_error(invoke("train", damaged / name))


def test_outputs_that_cannot_be_written(model, frames, config):
    nowhere = frames / "below" / "out"  # a file is no folder
    for command in (("quantize", model, "--data", frames, "--out", nowhere), ("md", model, frames, "--out", nowhere),
                    ("evaluate", model, "--data", frames, "--json", nowhere),
                    ("data", "label", "water", "--out", nowhere), ("train", config, "--set", f"out={nowhere}")):
        assert "cannot write" in one_error(invoke(*command)), command


@pytest.mark.parametrize(("arguments", "words"), [
    (["trian"], "'train'"), (["train", "c.yaml", "--resum"], "--resume"), (["md", "m", "s"], "--out"),
    (["evaluate", "m", "--data", "d", "--frames", "many"], "--frames"), (["data", "lable"], "'label'")])
def test_usage_errors_have_status_2(arguments, words):
    line = one_error(invoke(*arguments), 2)
    assert words in line
    assert "--help" in line


def test_help_and_version():
    for command in ((), ("train",), ("quantize",), ("evaluate",), ("md",), ("data",), ("data", "label")):
        asked, bare = invoke(*command, "--help"), invoke(*command)
        assert asked.exit_code == 0
        for shown in (asked.stdout, bare.output):
            assert "Usage: gaq" in shown
    for command in ("train", "info", "demo"):
        assert f"Example: gaq {command}" in invoke(command, "--help").stdout
    assert invoke("--version").stdout.startswith("gaq 0.")


@pytest.mark.parametrize(("error", "status", "line"), [
    (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    (PermissionError(13, "Permission denied", "secret"), 1, "error: secret: Permission denied"),
    (MemoryError(), 1, "error: out of memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB"), 1, "error: out of memory")])
def test_what_can_happen_anywhere(monkeypatch, error, status, line):
    def fails(path):
        raise error

    monkeypatch.setattr(gaq.forcefield, "load", fails)
    assert one_error(invoke("info", "model"), status).startswith(line)


def test_mistakes_of_ours_are_not_hidden(monkeypatch):
    def fails(path):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(gaq.forcefield, "load", fails)
    with pytest.raises(RuntimeError, match="a mistake"):
        invoke("info", "model")


def started(*arguments, **settings):
    command = [sys.executable, "-c", "from gaq.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"}, **settings)


def test_a_real_process_fails_in_one_line(tmp_path):
    process = started("info", tmp_path / "line\nbreak.safetensors")
    out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert told.startswith("error: there is no model file")
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [("info",), ("--help",), ("md", "--help")])
def test_a_pipe_that_closes_is_no_error(arguments):
    process = started(*arguments)
    process.stdout.close()
    with process.stderr as told:
        assert told.read() == ""
    process.wait(timeout=60)


def test_python_with_warnings_as_errors(model):
    done = subprocess.run([sys.executable, "-W", "error", "-c", "from gaq.cli import main; main()", "info", str(model)],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def working(command, config, model, frames, folder):
    """A command that works for long, and the file that shows that it does, or None."""
    if command == "train":
        return (("train", config, "--set", f"out={folder}", "--set", "optimization.steps=100000", "--set",
                 "optimization.compile=never"), "checkpoint.safetensors")
    if command == "quantize":
        return (("quantize", model, "--data", frames, "--out", folder / "q.safetensors", "--folder", folder, "--steps",
                 3900), "events.out*")
    if command == "md":
        return ("md", model, frames, "--out", folder / "t.extxyz", "--steps", 10**8), "t.extxyz"
    if command == "label":
        return ("data", "label", "water", "--out", folder / "f.extxyz", "--frames", 10**6, "--workers", 2), None
    return ("audit", model, "--data", frames, "--json", folder / "a.json"), None


@pytest.mark.parametrize(("command", "number"), [
    ("train", signal.SIGINT), ("train", signal.SIGTERM), ("quantize", signal.SIGTERM), ("md", signal.SIGTERM),
    ("label", signal.SIGTERM), ("audit", signal.SIGTERM)])
def test_a_real_process_stops_at_a_signal(config, model, frames, tmp_path, command, number):
    """It saves, says how to go on, and leaves neither processes nor temporary files behind."""
    if command == "label":
        pytest.importorskip("tblite")
    arguments, sign = working(command, config, model, frames, tmp_path)
    process = started(*arguments, start_new_session=True)
    limit = time.monotonic() + 60
    if sign is not None:
        while not list(tmp_path.glob(sign)) and time.monotonic() < limit:
            time.sleep(0.05)
    else:
        assert process.stderr.readline()  # the first line of progress
    time.sleep(0.3)
    os.killpg(process.pid, number)  # as batch systems and terminals do, workers included
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    last = told.splitlines()[-1]
    assert last.startswith(f"stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}"), told
    assert "--resume" in last or command in ("label", "audit")
    assert "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
