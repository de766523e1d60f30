"""The harness of the fuzzers notices whatever breaks its rules, and says how to see it again."""

import pytest

from tests.fuzz import harness


def test_every_broken_rule_is_noticed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(harness, "SECONDS", 3.0)
    assert harness.run("faulty", cases=10, seed=3, go_on=True) == 7
    said = capfd.readouterr().out
    for number, rule in ((2, "ValueError: untyped"), (3, "SIGABRT"), (4, "takes 1."), (5, "ran out of memory"),
                         (6, "ran out of memory"), (7, "takes longer"), (8, "SystemExit")):
        assert f"case {number} of seed 3 " in said
        assert f"python -m tests.fuzz faulty --seed 3 --first {number} --cases 1" in said
        assert rule in said.split(f"case {number} of")[1].split("run it alone")[0]
    assert "1 accepted, 2 refused; 7 failures" in said


def test_it_stops_at_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    assert harness.run("faulty", cases=10, seed=3, first=1) == 1
    assert "case 2 of seed 3" in capfd.readouterr().out
