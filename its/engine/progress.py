"""How far the work is: a bar on a terminal, a line now and then anywhere else, and the same for loggers."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from its.interfaces import Step
from its.methods.base import method_of

PATIENCE = 60.0
"""Seconds for a sample beyond which somebody without an accelerator is told what to expect, and what else there is."""

INTERVAL = 10.0
"""Least seconds between two lines. After a while it is a sixtieth of the time gone: a log is read, not watched."""


class Progress(Callback):
    """Shows samples done, the current step, speed, time left and memory, on rank 0.

    Samples that were there before count as done, but not for the speed.
    """

    def __init__(self) -> None:
        self.total = 0
        self.earlier = 0
        self.made = 0
        self._config: Mapping[str, Any] = {}
        self._began = 0.0
        self._said = 0.0
        self._told = 0
        self._loggers: list[Any] = []
        self._bar: Any = None
        self._device = torch.device("cpu")
        self._warn = False
        self._first_step: float | None = None

    def expect(self, rows: int, *, earlier: int = 0, config: Mapping[str, Any] | None = None) -> None:
        """Say what is coming.

        Args:
            rows: how many samples all ranks make together.
            earlier: how many more there are that need not be made.
            config: of the run, for loggers.
        """
        self.total, self.earlier, self._config = rows + earlier, earlier, config or {}

    @property
    def done(self) -> int:
        """Samples that are there, by what rank 0 has made: the others are about as fast."""
        return min(self.earlier + self.made, self.total)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, and listen to the method's steps."""
        self._began = self._said = time.monotonic()
        self._told = self.earlier
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total, initial=self.earlier, unit="sample", desc="images that sound", dynamic_ncols=True
            )
        self._loggers = trainer.loggers
        for logger in self._loggers:
            logger.log_hyperparams(dict(self._config))
        method_of(pl_module).on_step = self._on_step
        self._device = pl_module.device
        self._warn = self._device.type == "cpu"

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count what is done."""
        self.made += len(outputs) * trainer.world_size  # none, of batches after the run was stopped
        if trainer.is_global_zero:
            self._show()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last line is always there."""
        if trainer.is_global_zero and self.done != self._told:
            self._say("")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """After an error too."""
        self._close()

    def _on_step(self, step: Step, batch: int) -> None:
        if self._warn:
            self._warn_if_slow(step, batch)
        self._show(f"step {step.index + 1}/{step.steps}", part=batch * (step.index + 1) / step.steps)

    def _show(self, step: str = "", *, part: float = 0.0) -> None:
        """Move the bar; or print a line, if it is time for one."""
        if self._bar is not None:
            # The fraction moves the bar within a batch; the count of whole samples is in `done`.
            self._bar.n = round(min(self.done + part, self.total), 2)
            self._bar.set_postfix_str(", ".join(filter(None, (step, _memory(self._device)))))
        elif (now := time.monotonic()) - self._said >= max(INTERVAL, (now - self._began) / 60):
            self._say(step)

    def _say(self, step: str) -> None:
        self._said, self._told = time.monotonic(), self.done
        seconds = max(self._said - self._began, 1e-9)
        made = self.done - self.earlier
        rate = made / seconds
        if self._bar is None:
            speed = [f"{rate:.3g}/s", f"{_duration((self.total - self.done) / rate)} left"] if made else []
            words = [f"{self.done}/{self.total} samples", step, *speed, _memory(self._device)]
            print(f"its: {', '.join(filter(None, words))}", file=sys.stderr, flush=True)
        for logger in self._loggers:
            logger.log_metrics({"samples": self.done, "samples_per_second": rate}, step=self.done)

    def _warn_if_slow(self, step: Step, batch: int) -> None:
        """After two steps, since the first one warms up."""
        now = time.monotonic()
        if step.index == 0:
            self._first_step = now
        elif step.index == 1 and self._first_step is not None:
            # Experts that join later take as long as those that run now.
            seconds = (now - self._first_step) * len(step.experts) / max(len(step.ran), 1) * step.steps / batch
            if seconds > PATIENCE:
                print(
                    f"its: on this CPU a sample takes about {seconds / 60:.0f} minutes. To look at the embedded pack "
                    "instead: --config configs/models/mini.yaml",
                    file=sys.stderr,
                )
            self._warn = False  # once

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _memory(device: torch.device) -> str:
    """Memory that this process has reserved on the device, or the most that it used of the host's; empty if unknown."""
    if device.type == "cuda":
        return f"{torch.cuda.memory_reserved(device) / 2**30:.1f} GiB"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"
