"""Progress in words: rates, times, and not too many lines."""

import sys

import pytest

from gaq.cli.terminal import BYTES, STEPS, Lines, Pace, duration, meter, one_line, size, stages, steps_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_speed_is_that_of_the_last_half_minute():
    clock = Clock()
    pace = Pace(clock)
    assert pace.mark(100) is None  # a resumed run does not start at zero
    for clock.now in range(1, 101):
        speed = pace.mark(100 + 2 * clock.now)
    assert speed == pytest.approx(2.0)
    for clock.now in range(101, 141):
        speed = pace.mark(300 + 5 * (clock.now - 100))
    assert speed == pytest.approx(5.0)


def test_lines_become_rarer(capsys):
    clock = Clock()
    lines = Lines("training", STEPS, clock)
    for step in range(1, 36001):
        clock.now = 0.1 * step
        lines(step, 36000, milestone=step == 5)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("training: 5/36000 steps")
    assert told[1].startswith("training: 105/36000 steps, 10 it/s, 60 min left")  # 10 s later
    assert 30 < len(told) < 80


def test_speed_begins_anew_with_a_stage():
    clock = Clock()
    pace = Pace(clock)
    for clock.now in range(5):
        pace.mark(1000 * clock.now)
    clock.now = 6
    assert pace.mark(0) is None
    clock.now = 7
    assert pace.mark(3) == pytest.approx(3.0)


def test_every_stage_has_a_line(capsys):
    with stages("auditing") as told:
        for stage in ("loops", "simulations"):
            for done in range(3):
                told(done, 2, stage)
    assert capsys.readouterr().err.splitlines() == ["auditing", "auditing: 0/2 predictions, loops",
                                                    "auditing: 0/2 predictions, simulations"]


def test_quantities_have_units():
    assert STEPS.count(3, 10) == "3/10 steps"
    assert STEPS.rate(0.25) == "0.25 it/s"
    assert STEPS.rate(1234.5) == "1234 it/s"
    assert BYTES.count(1_500_000, None) == "1.5 MB"
    assert BYTES.rate(2e6) == "2 MB/s"
    assert steps_of(0.5).rate(100.0) == "4.32 ns/day"
    assert [duration(s) for s in (3, 600, 11100)] == ["3 s", "10 min", "3 h 05 min"]
    assert [size(n) for n in (2900, 1_482_240)] == ["2.9 kB", "1.48 MB"]


def test_errors_cannot_steer_the_terminal():
    assert one_line("two\n  lines \x1b[31m") == "two lines \ufffd[31m"


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with meter("training", STEPS, "reading [data]") as told:
        told(1, 4)
        told(4, 4, "validation", milestone=True)
    with stages("evaluating") as stage:
        stage(3, 9, "[w4a8]: accuracy")
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("reading [data]", "4/4 steps", "validation", "3/9 predictions", "[w4a8]: accuracy"):
        assert words in shown.err
