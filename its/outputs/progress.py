"""How far the work is: a bar on a terminal, a line for each batch anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from its.interfaces import Step
from its.methods.base import method_of


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

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, and listen to the method's steps."""
        self.began = time.monotonic()
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.rows, unit="sample", desc="images that sound", dynamic_ncols=True)
        method_of(pl_module).on_step = self._on_step

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

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _on_step(self, step: Step, batch: int) -> None:
        if self._bar is not None:
            # The fraction moves the bar within a batch; the count of whole samples is in `done`.
            self._bar.n = round(min(self.done + batch * (step.index + 1) / step.steps, self.rows), 2)
            self._bar.set_postfix_str(f"step {step.index + 1}/{step.steps}")
