"""The program that kills runs finds what it should find."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_runs_are_killed_and_come_out_the_same() -> None:
    ended = subprocess.run([sys.executable, "-m", "benchmarks.kills", "md", "--times", "2", "--seed", "1"], cwd=REPOSITORY,
                           capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "md, seed 1: 2 kills, 0 faults" in ended.stdout


@pytest.mark.slow
def test_differences_and_torn_files_are_faults(tmp_path: Path) -> None:
    program = """
from pathlib import Path
from benchmarks.kills import compared, found, in_child, torn
run = Path("run")
run.mkdir()
(run / "trajectory.extxyz").write_bytes(b"1")
(run / "log.csv").write_text("step,seconds\\n1,2.5\\n")
before = found(run)
(run / "log.csv").write_text("step,seconds\\n1,9.5\\n")
assert compared(before, found(run)) == []
(run / "log.csv").write_text("step,seconds\\n2,2.5\\n")
(run / ".left.01234567.tmp").write_bytes(b"")
(run / "trajectory.extxyz").unlink()
assert compared(before, found(run)) == [".left.01234567.tmp is left over", "trajectory.extxyz is missing",
                                        "log.csv differs"]
(run / "model.safetensors").write_bytes(b"half")
assert len(torn(run)) == 1
assert in_child(lambda: 1 / 0, 10.0) == 1
assert in_child(lambda: __import__("time").sleep(10), 0.05) == -9
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                           check=False, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert ended.returncode == 0, ended.stderr
