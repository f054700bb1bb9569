"""The training loop both models share: wall-clock budget, progress bar, checkpoints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from models.optimizers import LearningRates, build_optimizers, set_progress
from models.tokens import Batches

LossFunction: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

CHECKPOINT_EVERY_S = 180.0
LOG_EVERY_STEPS = 20
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and on what shapes to train.

    `budget_s` is wall-clock time without pauses between resumed runs. `lengths` are
    (share of the budget from which it holds, window length in tokens): short windows are
    cheaper, long ones teach the use of context.
    """

    budget_s: float
    batch_tokens: int = 8192
    lengths: tuple[tuple[float, int], ...] = ((0.0, 256), (0.4, 512), (0.8, 1024))
    rates: LearningRates = LearningRates()
    compiled: bool = True

    def length_at(self, progress: float) -> int:
        """Window length in tokens at `progress` in 0..1."""
        return max(length for start, length in self.lengths if progress >= start)


@dataclass(slots=True, kw_only=True)
class State:
    """What a checkpoint holds besides weights."""

    step: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    loss: float = 0.0


def training_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """The training device in a few words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads"


def compile_loss(loss: LossFunction, *, enabled: bool) -> LossFunction:
    """Fuse the loss with torch.compile where a C++ compiler exists."""
    if enabled and shutil.which("g++"):
        return torch.compile(loss, dynamic=False)
    return loss


class Trainer:
    """Runs optimizer steps until the plan's time is used up."""

    def __init__(
        self,
        *,
        name: str,
        model: torch.nn.Module,
        loss: LossFunction,
        windows: Batches,
        plan: Plan,
        checkpoint: Path,
    ) -> None:
        self.name = name
        self.model = model
        self.windows = windows
        self.plan = plan
        self.checkpoint = checkpoint
        self.loss = compile_loss(loss, enabled=plan.compiled)
        self.optimizers = build_optimizers(model, plan.rates)
        self.state = State()
        self.device = next(model.parameters()).device

    @property
    def progress(self) -> float:
        """Share of the time budget used."""
        return min(1.0, self.state.elapsed_s / self.plan.budget_s)

    def run(self) -> State:
        """Train to the end of the budget, from the last checkpoint if there is one."""
        self.restore()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(self.name, total=self.plan.budget_s)
            saved_at = self.state.elapsed_s
            while self.progress < 1.0:
                self.timed_step()
                label = f"{self.name} step {self.state.step} loss {self.state.loss:.3f}"
                bar.update(task, completed=self.state.elapsed_s, description=label)
                if self.state.elapsed_s - saved_at >= CHECKPOINT_EVERY_S:
                    self.save()
                    saved_at = self.state.elapsed_s
        self.save()
        return self.state

    def timed_step(self) -> None:
        """One step and its bookkeeping; the first, compiling, steps are charged as well."""
        begin = time.monotonic()
        loss = self.step()
        state = self.state
        state.elapsed_s += time.monotonic() - begin
        state.step += 1
        state.loss = loss if state.step == 1 else 0.9 * state.loss + 0.1 * loss
        if state.step % LOG_EVERY_STEPS == 0:
            rate = state.tokens / state.elapsed_s
            print(
                f"{self.name} step {state.step} loss {state.loss:.4f} "
                f"tokens {state.tokens / 1e6:.2f}M {rate:.0f}/s {state.elapsed_s:.0f}s",
                flush=True,
            )

    def step(self) -> float:
        """Forward, backward, update; returns the loss in nats."""
        length = self.plan.length_at(self.progress)
        sequences = self.plan.batch_tokens // length
        batch = self.windows.batch(self.state.tokens, sequences=sequences, length=length)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self.loss(batch.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        set_progress(self.optimizers, step=self.state.step, progress=self.progress)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.state.tokens += batch[:, 1:].numel()
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint atomically."""
        content = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "state": {name: getattr(self.state, name) for name in State.__slots__},
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(content, partial)
        partial.replace(self.checkpoint)

    def restore(self) -> None:
        """Continue from the checkpoint, if any."""
        if not self.checkpoint.exists():
            return
        # weights_only: a checkpoint is data, never code
        content: dict[str, Any] = torch.load(  # noqa: TID251
            self.checkpoint, map_location=self.device, weights_only=True
        )
        self.model.load_state_dict(content["model"])
        for optimizer, saved in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.state = State(**content["state"])
