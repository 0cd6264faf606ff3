"""Show progress: a bar on a terminal or else lines in the log, and metrics for loggers."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from its.interfaces import Step
from its.methods.base import method_of

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds per sample above which a run on a CPU logs a warning with the alternative."""

INTERVAL = 10.0
"""Minimum seconds between two lines; in long runs it is a sixtieth of the elapsed time."""


class Progress(Callback):
    """Callback that shows finished samples, the current step, speed, time left and memory, on rank 0.

    Samples of an earlier run count as finished, but not for the speed. Before the first sample is finished, the time
    left is estimated on a CPU and on MPS from the second step of the first batch, without decoding.
    """

    def __init__(self) -> None:
        self.total = 0
        self.earlier = 0
        self.made = 0
        self.seconds_a_sample: float | None = None
        """Estimate from one step."""
        self._config: Mapping[str, Any] = {}
        self._start_time = 0.0
        self._last_time = 0.0
        """Time of the last line."""
        self._last_done = 0
        """Finished samples in the last line."""
        self._loggers: list[Any] = []
        self._bar: Any = None
        self._device = torch.device("cpu")
        self._ranks = 1
        self._embedded = False
        self._first_step: float | None = None

    def expect(self, samples: int, *, earlier: int = 0, config: Mapping[str, Any] | None = None) -> None:
        """Set the number of samples.

        Args:
            samples: number of samples that all ranks make together.
            earlier: number of samples that are finished already.
            config: the run's config, for loggers.
        """
        self.total, self.earlier, self._config = samples + earlier, earlier, config or {}

    @property
    def done(self) -> int:
        """Number of finished samples, assuming that all ranks are as fast as this one."""
        return min(self.earlier + self.made, self.total)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar, and register for the method's steps."""
        self._start_time = self._last_time = time.monotonic()
        self._last_done, self._ranks = self.earlier, trainer.world_size
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total, initial=self.earlier, unit="sample", desc="images that sound", dynamic_ncols=True
            )
        self._loggers = trainer.loggers
        for metrics in self._loggers:
            metrics.log_hyperparams(dict(self._config))
        method = method_of(pl_module)
        method.on_step = self._on_step
        self._embedded = any(weights.get("embedded") for weights in method.provenance.values())
        self._device = pl_module.device

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count finished samples."""
        self.made += len(outputs) * trainer.world_size  # batches after a stop have no outputs
        if trainer.is_global_zero:
            self._show()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the last line."""
        if trainer.is_global_zero and self.done != self._last_done:
            self._log("")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _on_step(self, step: Step, batch: int) -> None:
        unfinished = batch * (step.index + 1) / step.steps * self._ranks
        if self.seconds_a_sample is None:
            self._estimate(step, batch)
        self._show(f"step {step.index + 1}/{step.steps}", unfinished=unfinished)

    def _show(self, step: str = "", *, unfinished: float = 0.0) -> None:
        """Move the bar, or log a line if the interval has passed. `unfinished` counts fractions of samples."""
        if self._bar is not None:
            self._bar.n = round(min(self.done + unfinished, self.total), 2)
            self._bar.set_postfix_str(", ".join(filter(None, (step, _memory(self._device)))))
        elif (now := time.monotonic()) - self._last_time >= max(INTERVAL, (now - self._start_time) / 60):
            self._log(step, unfinished)

    def _log(self, step: str, unfinished: float = 0.0) -> None:
        self._last_time, self._last_done = time.monotonic(), self.done
        seconds = max(self._last_time - self._start_time, 1e-9)
        made = self.done - self.earlier
        rate = made / seconds
        if self._bar is None:
            speed = [f"{rate:.3g}/s", f"{_duration((self.total - self.done) / rate)} left"] if made else []
            if not made and self.seconds_a_sample is not None:
                speed = [f"about {_duration((self.total - self.done - unfinished) * self.seconds_a_sample)} left"]
            fields = [f"{self.done}/{self.total} samples", step, *speed, _memory(self._device)]
            logger.info(", ".join(filter(None, fields)))
        for metrics in self._loggers:
            metrics.log_metrics({"samples": self.done, "samples_per_second": rate}, step=self.done)

    def _estimate(self, step: Step, batch: int) -> None:
        """Estimate the time per sample from the second step of a batch; the first one warms up."""
        # On CUDA the loop must not wait for the device, and the first batch takes seconds.
        if self._device.type not in ("cpu", "mps") or step.index > 1:
            return
        if self._device.type == "mps":
            torch.mps.synchronize()
        now = time.monotonic()
        if step.index == 0:
            self._first_step = now
        if step.index == 0 or self._first_step is None:
            return
        # Assumes that experts that are not active yet are as slow as the active ones.
        batch_seconds = (now - self._first_step) * len(step.experts) / max(len(step.ran), 1) * step.steps
        self.seconds_a_sample = batch_seconds / batch / self._ranks
        if self._device.type == "cpu" and batch_seconds / batch > PATIENCE:
            sample, run = _duration(batch_seconds / batch), _duration((self.total - self.done) * self.seconds_a_sample)
            faster = "" if self._embedded else "; the embedded demo weights are faster: --config models/mini"
            logger.warning(f"on this CPU a sample takes about {sample}, and this run {run}{faster}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _duration(seconds: float) -> str:
    rounded = round(seconds)
    hours, minutes = rounded // 3600, rounded // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rounded % 60} s" if minutes else f"{rounded} s"


def _memory(device: torch.device) -> str:
    """Memory reserved on a CUDA device, or otherwise the peak memory of the process; empty if unknown."""
    if device.type == "cuda":
        return f"{torch.cuda.memory_reserved(device) / 2**30:.1f} GiB"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"
