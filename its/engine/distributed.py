"""The processes of one run: they meet before the first batch and after the last one, and can be told to stop."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from its.methods.base import method_of

PATIENCE = timedelta(days=7)
"""How long a process waits for the others at the end. Their shares are equal, their speeds need not be."""


class Peers(Callback):
    """Waits for the other processes at the end, and stops after the current batch where SIGTERM asks for it.

    Lightning answers SIGTERM with a collective in the signal handler, and its predict loop goes on all the same.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._before: Any = None
        self._ours: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Meet the others: a group of its own, since the usual one gives up after half an hour."""
        if trainer.world_size > 1:  # here, since a rank without rows never comes to `on_predict_start`
            self._group = dist.new_group(timeout=PATIENCE)
            dist.barrier(self._group)  # connections are made now, by the usual patience

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to SIGTERM, instead of Lightning."""
        method = method_of(pl_module)

        def stop(number: int, frame: FrameType | None) -> None:
            method.stopped = "SIGTERM; the same command goes on where this stopped"
            launcher: Any = trainer.strategy.launcher
            if hasattr(launcher, "procs"):  # processes that Lightning started here: nobody else tells them
                launcher.kill(number)

        if threading.current_thread() is threading.main_thread():
            self._before, self._ours = signal.signal(signal.SIGTERM, stop), stop

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the signal as it was, unless Lightning has done so."""
        if self._ours is not None and signal.getsignal(signal.SIGTERM) is self._ours:
            signal.signal(signal.SIGTERM, self._before)
        self._ours = None

    def wait(self) -> None:
        """Until all of them have written their samples."""
        if self._group is not None:
            dist.barrier(self._group)
