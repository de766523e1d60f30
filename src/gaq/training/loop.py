"""The training loop, for float models and for quantization-aware training alike."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from gaq.compress.probe import protect, release_vectors
from gaq.errors import ConfigError, GaqError, Interrupted
from gaq.files import locked
from gaq.graph import Graph
from gaq.interrupts import HeldInterrupts, interrupt
from gaq.metrics.accuracy import accuracy
from gaq.metrics.stresses import stress_accuracy
from gaq.models.network import Network
from gaq.recipe import Schedule
from gaq.training.batches import Batches, completed
from gaq.training.checkpoint import Progress, TrainingState
from gaq.training.config import Optimization
from gaq.training.log import RunLog
from gaq.training.loss import loss_weights
from gaq.training.step import CompiledStep, EagerStep, fits, seconds_per_step
from gaq.training.workers import ALONE, Workers

Watch = Callable[[Progress], None]
TIMED_STEPS = 8
COMPILED_STEPS, COMPILED_MINUTES = 4000, 20.0  # compiling takes minutes, and makes a step about three times faster
SETTLED = 0.05  # share of a time budget after which the number of steps is settled by the rate until then


@dataclass
class Loop:
    """One run of training.

    Args:
        model: float or prepared; its parameters are changed.
        train, validation: graphs with labels, neighbour lists made.
        settings: how to train.
        schedule: phases of quantization-aware training; the default for float models changes nothing.
        folder: where checkpoint and logs go; None for a run in memory.
        identity: fingerprint of configuration and data, so that a checkpoint is not resumed by mistake.
        watch: called after every step.
        workers: the processes that share the batches; the first one writes the files.
    """

    model: Network
    train: Sequence[Graph]
    validation: Sequence[Graph]
    settings: Optimization
    schedule: Schedule
    folder: Path | None = None
    identity: str = ""
    watch: Watch = lambda progress: None
    workers: Workers = ALONE

    def __post_init__(self) -> None:
        s = self.settings
        self.batches = Batches(completed(self.train, stress=s.stress_weight > 0), s.batch_size, s.seed, self.workers,
                               bool(self.schedule.lee_weight))
        weights = loss_weights(s.energy_weight, s.forces_weight, self.schedule.lee_weight, self.model.energy_scale,
                               s.stress_weight)
        self.gradients: EagerStep | CompiledStep = EagerStep(self.model, weights)
        if self._pays():
            self.gradients = CompiledStep(self.model, weights, self.batches.graphs,
                                          len(self.workers.share(range(self.batches.batch_size))))
        self.optimizer = _adamw(self.model, s)
        self.state = TrainingState(self.model, self.optimizer, s.ema)
        self.checkpoint = self.folder / "checkpoint.safetensors" if self.folder else None

    def run(self, resume: bool) -> Progress:
        """Train, and leave the best weights in the model.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the checkpoint holds everything.
            OutputError: another process trains in the folder.
            ConfigError: fewer steps are asked for than a resumed run has taken.
            GaqError: the loss is no longer finite.
        """
        with locked(self.checkpoint) if self.checkpoint and self.workers.writes else nullcontext():
            found = resume and self.checkpoint is not None and self.checkpoint.exists()
            progress = self._resumed() if found else self._begin()
            log = RunLog(self.folder if self.workers.writes else None, progress.history)
            with HeldInterrupts() as interrupts:
                try:
                    self._advance(progress, log, interrupts)
                    self._save(progress)
                    self._heed(interrupts)
                except KeyboardInterrupt as cause:
                    if not interrupts.broke_in:  # else half a step may be taken, and the last checkpoint is what counts
                        self._save(progress)
                    where = f"saved in {self.checkpoint}; go on with --resume" if self.checkpoint else "nothing was saved"
                    raise Interrupted(cause, f"at step {progress.step} of {progress.steps}; {where}") from None
                finally:
                    log.close()
        self.state.swap(self.state.best)
        release_vectors(self.model, True)
        return progress

    def _advance(self, progress: Progress, log: RunLog, interrupts: HeldInterrupts) -> None:
        started = time.perf_counter() - progress.seconds
        while progress.step < progress.steps and not self._is_stale(progress):
            self._step(progress)
            progress.seconds = time.perf_counter() - started
            self._settle(progress)
            if progress.step % self.settings.validate_every == 0 or progress.step == progress.steps:
                self._validate(progress, log)
            if progress.step % self.settings.checkpoint_every == 0:
                self._save(progress)
            self.watch(progress)
            self._heed(interrupts)

    def _heed(self, interrupts: HeldInterrupts) -> None:
        """Stop where any of the processes got a signal: all of them at the same step."""
        received = self.workers.largest(interrupts.received)
        if received:
            raise interrupt(received)

    def _step(self, progress: Progress) -> None:
        s, step = self.settings, progress.step
        release_vectors(self.model, self._vectors_released(progress))
        batch = self.batches[step]
        if self.schedule.protection:
            protect(self.model, batch.graph, self.schedule.protection, self.batches.generator(step))
        self.model.train()
        rate = s.learning_rate * rate_at(step, progress.steps, s.warmup_steps, s.final_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.workers.sum_gradients(self.model, self.gradients(batch))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        if not bool(torch.isfinite(norm)):
            raise GaqError(f"the gradient is not finite at step {step}; lower optimization.learning_rate, or look for "
                           f"broken frames in the data (the last checkpoint is {self.checkpoint})")
        self.optimizer.step()
        progress.step += 1
        self.state.track(progress.step)
        progress.recent.append(float(loss))

    def _pays(self) -> bool:
        """Return whether to compile the step: where it is asked for, or long training will earn it back."""
        s = self.settings
        if s.compile == "auto":
            long = (s.steps or 0) >= COMPILED_STEPS or (s.minutes or 0) >= COMPILED_MINUTES
            return long and fits(self.batches.graphs) and not self.schedule.protection and shutil.which("c++") is not None
        return s.compile == "always"

    def _is_stale(self, progress: Progress) -> bool:
        return self.settings.patience is not None and progress.stale >= self.settings.patience

    def _vectors_released(self, progress: Progress) -> bool:
        """Whether vectors are rounded, too; once they are, a longer run does not take that back."""
        progress.released = progress.released or progress.step >= self.schedule.scalars_only * progress.steps
        return progress.released

    def _validate(self, progress: Progress, log: RunLog) -> None:
        release_vectors(self.model, True)
        self.model.eval()
        self.state.swap(self.state.average)
        s, size = self.settings, max(self.settings.batch_size, 16)
        found = accuracy(self.model, self.validation, batch_size=size)
        stress = stress_accuracy(self.model, self.validation, batch_size=size) if s.stress_weight else None
        self.state.swap(self.state.average)
        score = (found.energy_mae or 0.0) * s.energy_weight + (found.forces_mae or 0.0) * s.forces_weight
        if stress is not None:
            score += stress.virial_mae * s.stress_weight
        progress.stale += 1
        if score < progress.best or progress.best_step == 0:
            progress.best, progress.best_step, progress.stale = score, progress.step, 0
            self.state.keep_best()
        row = {"step": progress.step, "phase": "all" if self._vectors_released(progress) else "scalars only",
               "train_loss": sum(progress.recent) / max(len(progress.recent), 1),
               "energy_mae_meV": None if found.energy_mae is None else found.energy_mae * 1e3,
               "forces_mae_meV_A": None if found.forces_mae is None else found.forces_mae * 1e3,
               "seconds": round(progress.seconds, 1)}
        if stress is not None:
            row["stress_mae_meV_A3"] = stress.mae_meV_A3
        progress.recent.clear()
        progress.history.append(row)
        log.update(progress.history)

    def _save(self, progress: Progress) -> None:
        if self.checkpoint and self.workers.writes:
            self.state.save(self.checkpoint, progress, self.identity)

    def _settle(self, progress: Progress) -> None:
        """Fix the number of steps of a time budget, once its rate is known better than from the first few steps."""
        budget = 60 * (self.settings.minutes or 0.0) - progress.preparation
        if not progress.settled and self.workers.agree(progress.seconds >= SETTLED * budget):
            progress.settled = True
            if self.settings.minutes:
                progress.steps = max(self.workers.agree(int(progress.step * budget / progress.seconds)), progress.step, 1)

    def _resumed(self) -> Progress:
        """Read the checkpoint; where another length is asked for, the run goes on on the schedule of that length."""
        assert self.checkpoint is not None
        progress, s = self.state.load(self.checkpoint, self.identity), self.settings
        wanted = s.steps or progress.steps
        if s.minutes and s.minutes != progress.minutes and progress.step:
            wanted = int(progress.step * (60 * s.minutes - progress.preparation) / progress.seconds)
        if wanted < progress.step:
            raise ConfigError(f"the run in {self.folder} has taken {progress.step} steps ({progress.seconds / 60:.3g} "
                              "minutes); to extend it, give more than that, or choose another folder")
        if wanted != progress.steps:
            progress.steps, progress.settled, progress.stale = wanted, True, 0
        progress.minutes = s.minutes
        return progress

    def _begin(self) -> Progress:
        """Plan the run: compile the step, and turn a time budget into steps by the rate of a few of them."""
        minutes, steps = self.settings.minutes, self.settings.steps
        if steps and isinstance(self.gradients, EagerStep):
            return Progress(steps=steps)
        begun = time.perf_counter()
        batches = [self.batches[step] for step in range(TIMED_STEPS)]
        frames, rates = self.batches.batch_size, {}
        if isinstance(self.gradients, CompiledStep):
            self.gradients(batches[0])
            rates["eager"] = frames / seconds_per_step(EagerStep(self.model, self.gradients.weights), batches[:3])
        typical = seconds_per_step(self.gradients, batches)
        rates["compiled" if rates else "eager"] = frames / typical
        spent = time.perf_counter() - begun
        steps = steps or max(int((60 * (minutes or 0.0) - spent) / (1.05 * typical)), 1)  # 5 % for the optimizer
        return Progress(steps=self.workers.agree(steps), minutes=minutes, preparation=spent, frames_per_second=rates)


def rate_at(step: int, steps: int, warmup: int, final: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine down to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _adamw(model: Network, s: Optimization) -> torch.optim.AdamW:
    """Weight decay acts on matrices, not on biases, normalizations and step sizes."""
    parameters = dict(model.named_parameters())
    matrices = [p for name, p in parameters.items() if p.dim() >= 2 and not name.endswith("logarithm")]
    others = [p for name, p in parameters.items() if p.dim() < 2 or name.endswith("logarithm")]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": s.weight_decay},
                              {"params": others, "weight_decay": 0.0}], lr=s.learning_rate, betas=(0.9, 0.99))
