"""The state of a training run, whole: a run that is killed goes on from its last checkpoint exactly."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gaq.errors import ModelFileError
from gaq.files import write_atomically


@dataclass
class Progress:
    """Where a run stands.

    Args:
        step: steps done.
        steps: steps in all.
        settled: whether `steps` is final; a time budget settles it after a while.
        best: least validation score so far, and the step it was reached at.
        stale: validations since.
        history: one row for each validation.
        recent: losses of the steps since.
        seconds: time spent on steps and validations so far.
        preparation: time spent before, on compiling and timing the step.
        frames_per_second: training frames per second, "eager" and "compiled", as timed before.
        minutes: the time budget that `steps` came from, if it did.
        released: whether vector features are rounded, too.
    """

    steps: int
    settled: bool = False
    step: int = 0
    best: float = float("inf")
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    preparation: float = 0.0
    frames_per_second: dict[str, float] = field(default_factory=dict)
    minutes: float | None = None
    released: bool = False


class TrainingState:
    """Model, moving average, best weights and optimizer of a run."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.AdamW, decay: float) -> None:
        self.model, self.optimizer, self.decay = model, optimizer, decay
        self.parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.best = {name: p.detach().clone() for name, p in self.parameters.items()}

    def track(self, step: int) -> None:
        """Move the average: d = min(decay, (1 + step) / (10 + step)), so that early weights are soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def swap(self, weights: dict[str, Tensor]) -> None:
        """Exchange the model's weights with `weights`, in place."""
        with torch.no_grad():
            for name, p in self.parameters.items():
                kept = p.detach().clone()
                p.copy_(weights[name])
                weights[name] = kept

    def keep_best(self) -> None:
        """Remember the average as the best model."""
        self.best = {name: t.clone() for name, t in self.average.items()}

    def save(self, path: Path, progress: Progress, identity: str) -> None:
        """Write everything, atomically."""
        tensors = {f"{part}.{name}": t.detach() for part, source in
                   (("model", self.parameters), ("average", self.average), ("best", self.best))
                   for name, t in source.items()}
        for name, p in self.parameters.items():
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        tensors = {name: t.cpu().contiguous() for name, t in tensors.items()}
        text = json.dumps({"progress": asdict(progress), "identity": identity})
        write_atomically(path, save(tensors, metadata={"gaq-checkpoint": text}))

    def load(self, path: Path, identity: str) -> Progress:
        """Read everything back.

        Raises:
            ModelFileError: the file is damaged, or belongs to another configuration.
        """
        header, tensors = _read(path)
        if header.get("identity") != identity:
            raise ModelFileError(f"{path} belongs to another configuration or other data; "
                                 "resume with the ones it was started with, or choose another output folder")
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(tensors[f"model.{name}"])
                self.average[name].copy_(tensors[f"average.{name}"])
                self.best[name].copy_(tensors[f"best.{name}"])
                moments = {key: tensors[f"optimizer.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                           if f"optimizer.{key}.{name}" in tensors}
                if moments:
                    self.optimizer.state[p] = {key: t.to(p.device) if key != "step" else t for key, t in moments.items()}
        return _progress(path, header)


def peek(path: Path) -> Progress:
    """Return where the run of a checkpoint stands.

    Raises:
        ModelFileError: the file is damaged.
    """
    header, _ = _read(path, tensors=False)
    return _progress(path, header)


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as source:
            header = dict(json.loads((source.metadata() or {})["gaq-checkpoint"]))
            return header, {name: source.get_tensor(name) for name in source.keys() if tensors}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _progress(path: Path, header: dict[str, Any]) -> Progress:
    try:
        return Progress(**header["progress"])
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"{path} is not a whole checkpoint ({error}); remove it to start again")
