"""What people see while they wait: a live bar on a terminal, and a plain line now and then elsewhere.

Results go to standard output; progress, notices and errors go to standard error.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

WIDE = 160  # columns of what is no terminal: nothing is cut off in a file
QUIET, SHARE = 10.0, 0.1  # a line after 10 s, and then whenever a tenth of the time so far has passed
WINDOW = 30.0  # s that a rate is averaged over
REDRAW = 0.1  # s


@dataclass(frozen=True)
class Unit:
    """What a task counts, and how its speed is called.

    Args:
        name, scale: count shown = scale · count.
        speed, speed_scale: speed shown = speed_scale · count per second.
    """

    name: str
    speed: str
    scale: float = 1.0
    speed_scale: float = 1.0

    def count(self, done: float, total: float | None) -> str:
        """Return `12/100 steps`."""
        digits = 0 if self.scale == 1 else 1
        of = "" if total is None else f"/{total * self.scale:.{digits}f}"
        return f"{done * self.scale:.{digits}f}{of} {self.name}".rstrip()

    def rate(self, per_second: float) -> str:
        """Return `3.2 it/s`."""
        value = per_second * self.speed_scale
        return f"{value:.0f} {self.speed}" if value >= 100 else f"{value:.3g} {self.speed}"


PREDICTIONS = Unit("predictions", "per second")
COUNTS = Unit("", "per second")
STEPS = Unit("steps", "it/s")
FRAMES = Unit("frames", "frames/s")
BYTES = Unit("MB", "MB/s", scale=1e-6, speed_scale=1e-6)


def steps_of(timestep_fs: float) -> Unit:
    """Return the unit of a simulation; its speed is in ns/day."""
    return Unit("steps", "ns/day", speed_scale=timestep_fs * 86400e-6)


@dataclass
class Pace:
    """Speed over the last half minute."""

    clock: Callable[[], float] = time.monotonic
    marks: deque[tuple[float, float]] = field(default_factory=deque)

    def mark(self, done: float) -> float | None:
        """Note a count and return the speed per second, where it is known."""
        now = self.clock()
        if self.marks and done < self.marks[-1][1]:  # another stage has begun
            self.marks.clear()
        while len(self.marks) > 1 and now - self.marks[0][0] > WINDOW:
            self.marks.popleft()
        self.marks.append((now, done))
        begun, first = self.marks[0]
        return (done - first) / (now - begun) if now > begun and done > first else None


class Meter(Protocol):
    """Is told how far a task is; a milestone is worth a line of its own."""

    def __call__(self, done: float, total: float | None, note: str = "", milestone: bool = False) -> None: ...


@dataclass
class Lines:
    """Progress where nobody watches: milestones, and otherwise a line now and then."""

    title: str
    unit: Unit
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.pace = Pace(self.clock)
        self.begun = self.due = self.clock()
        self.due += QUIET

    def __call__(self, done: float, total: float | None, note: str = "", milestone: bool = False) -> None:
        """Write a line if one is due."""
        speed = self.pace.mark(done)
        now = self.clock()
        if milestone or now >= self.due:
            self.due = now + max(QUIET, SHARE * (now - self.begun))
            say(", ".join(part for part in (f"{self.title}: {self.unit.count(done, total)}",
                                            *_speed_and_rest(self.unit, speed, done, total), note) if part))


class _Bars(Progress):
    """A bar with its note below, so that 80 columns are enough."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["note"]:
                yield Text(f"  {task.fields['note']}", style="dim", no_wrap=True, overflow="ellipsis")


@dataclass
class Bar:
    """Progress on a terminal."""

    bars: Progress
    unit: Unit
    task: TaskID

    def __post_init__(self) -> None:
        self.pace, self.drawn = Pace(), 0.0

    def __call__(self, done: float, total: float | None, note: str = "", milestone: bool = False) -> None:
        """Redraw, but not more often than the eye can see."""
        now = time.monotonic()
        if now - self.drawn < REDRAW and not milestone and done != total:
            return
        self.drawn = now
        speed, rest = _speed_and_rest(self.unit, self.pace.mark(done), done, total)
        self.bars.update(self.task, completed=done, total=total, count=self.unit.count(done, total), speed=speed,
                         rest=rest, note=note)


@contextmanager
def meter(title: str, unit: Unit, note: str = "") -> Iterator[Meter]:
    """Show the progress of one task: `note` is what happens before the first count."""
    if not first_process():
        yield lambda done, total, note="", milestone=False: None
        return
    if not watched():
        say(f"{title}: {note}" if note else title)
        yield Lines(title, unit)
        return
    columns = [TextColumn(title), BarColumn(bar_width=20),
               *(TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "speed", "rest"))]
    with _Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Bar(bars, unit, bars.add_task("", total=None, count="", speed="", rest="", note=note))


@contextmanager
def stages(title: str, unit: Unit = PREDICTIONS) -> Iterator[Callable[[float, float, str], None]]:
    """Show the progress of a task of several stages; each is worth a line when it begins."""
    with meter(title, unit) as told:
        begun = ""

        def tell(done: float, total: float, stage: str) -> None:
            nonlocal begun
            told(done, total, stage, milestone=stage != begun)
            begun = stage

        yield tell


def first_process() -> bool:
    """Return whether this is the first of the processes that torchrun started: it alone writes, and shows progress."""
    return os.environ.get("RANK", "0") == "0"


def watched() -> bool:
    """Return whether a person sees both streams."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def say(line: str) -> None:
    """Write a line to standard error."""
    print(line, file=sys.stderr, flush=True)


def show(*parts: RenderableType) -> None:
    """Write results to standard output: texts as they are, tables as wide as they need to be."""
    if not first_process():
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, (str, Text)))


def one_line(text: str) -> str:
    """Return the text on one line, without characters that could steer a terminal."""
    joined = " ".join(line.strip() for line in text.splitlines())
    return "".join(c if c.isprintable() else "\ufffd" for c in joined)


def duration(seconds: float) -> str:
    """Return `45 s`, `12 min` or `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """Return `263.4 kB`."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _speed_and_rest(unit: Unit, speed: float | None, done: float, total: float | None) -> tuple[str, str]:
    if speed is None:
        return "", ""
    rest = "" if total is None or done >= total else f"{duration((total - done) / speed)} left"
    return unit.rate(speed), rest
