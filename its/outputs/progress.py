"""How far the work is: a bar on a terminal, a line for each batch anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from its.interfaces import Step
from its.methods.base import method_of
from its.sampling import participates

PATIENCE = 60.0
"""Seconds for a sample beyond which somebody without an accelerator is told what to expect, and what else there is."""


class Progress(Callback):
    """Shows samples done, the current step, speed and time left, on rank 0.

    Args:
        rows: how many samples all ranks make together.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.done = 0
        self.began = 0.0
        self._bar: Any = None
        self._on_cpu = False
        self._first_step: float | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, and listen to the method's steps."""
        self.began = time.monotonic()
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.rows, unit="sample", desc="images that sound", dynamic_ncols=True)
        method_of(pl_module).on_step = self._on_step
        self._on_cpu = pl_module.device.type == "cpu"

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
        self.done = min(self.done + len(batch) * trainer.world_size, self.rows)
        if not trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.refresh()
        else:
            rate = self.done / (time.monotonic() - self.began)
            left = (self.rows - self.done) / rate
            print(
                f"{self.done}/{self.rows} samples, {rate:.3g}/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """After an error too."""
        self._close()

    def _warn_if_slow(self, step: Step, batch: int) -> None:
        """After two steps, since the first one warms up."""
        now = time.monotonic()
        if step.index == 0:
            self._first_step = now
        elif step.index == 1 and self._first_step is not None:
            # Experts that join later will cost as much as those that run now.
            running = sum(participates(weight) for weight in step.weights.values())
            seconds = (now - self._first_step) * len(step.weights) / max(running, 1) * step.steps / batch
            if seconds > PATIENCE:
                print(
                    f"its: on this CPU a sample takes about {seconds / 60:.0f} minutes. To look at the embedded pack "
                    "instead: --config configs/models/mini.yaml",
                    file=sys.stderr,
                )
            self._on_cpu = False  # once

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _on_step(self, step: Step, batch: int) -> None:
        if self._on_cpu:
            self._warn_if_slow(step, batch)
        if self._bar is not None:
            # The fraction moves the bar within a batch; the count of whole samples is in `done`.
            self._bar.n = round(min(self.done + batch * (step.index + 1) / step.steps, self.rows), 2)
            self._bar.set_postfix_str(f"step {step.index + 1}/{step.steps}")
