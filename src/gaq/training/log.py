"""The validations of a run, for people: log.csv and TensorBoard events.

Both hold the whole history at any time: after a run was killed and went on, no row is missing and none is there twice.
"""

import csv
import io
from pathlib import Path
from typing import Any

from gaq.files import write_atomically

Row = dict[str, Any]
SHOWN = ("train_loss", "energy_mae_meV", "forces_mae_meV_A", "stress_mae_meV_A3")


class RunLog:
    """The logs of one run.

    Args:
        folder: of the run, or None for no logs.
        history: rows of the validations so far.
    """

    def __init__(self, folder: Path | None, history: list[Row]) -> None:
        self._folder, self._writer = folder, _tensorboard(folder)
        self._draw(history)

    def update(self, history: list[Row]) -> None:
        """Write the history with its new last row."""
        if self._folder is not None:
            write_atomically(self._folder / "log.csv", _csv(history))
        self._draw(history[-1:])

    def close(self) -> None:
        """Finish the events."""
        if self._writer is not None:
            self._writer.close()

    def _draw(self, rows: list[Row]) -> None:
        if self._writer is None:
            return
        for row in rows:
            for key in SHOWN:
                if row.get(key) is not None:
                    self._writer.add_scalar(key, row[key], row["step"])
        self._writer.flush()


def _csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tensorboard(folder: Path | None) -> Any:
    """Return a new writer of events, which replace those of earlier starts of the run."""
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink(missing_ok=True)
    return SummaryWriter(str(folder))
