"""Write each batch of samples into the run directory, on its rank, during the run."""

from __future__ import annotations

import copy
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from its import __version__
from its.errors import UserError
from its.interfaces import Vocoder
from its.methods.base import Method, method_of
from its.methods.sample import Sample
from its.runs.replay import sample_config
from its.runs.sample_files import write_sample

MAX_QUEUED = 4
"""Maximum number of batches that wait to be written; more would fill the memory if writing is slow."""


class SampleWriter(BasePredictionWriter):
    """Writes the folder `OUTPUT/samples/ID/` of each sample in a thread, while the next batch is made.

    Args:
        output: the run directory.
        save: keys of `its.runs.sample_files.EXTRAS`.
        config: resolved config of the run. Each record includes the values that reproduce its sample.
        metadata: whether the files also include these values.
    """

    def __init__(self, output: Path, save: Sequence[str], *, config: Mapping[str, Any], metadata: bool) -> None:
        super().__init__(write_interval="batch")
        self.samples = output / "samples"
        self.save = tuple(save)
        self.config = config
        self.metadata = metadata
        self._thread: ThreadPoolExecutor | None = None
        self._queue: deque[Future[None]] = deque()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the thread."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Sequence[Sample],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Queue the samples of a batch. If an earlier sample could not be written, stop the method."""
        method = method_of(pl_module)
        if self._thread is None:
            return
        records = [make_record(sample, method, self.config) for sample in prediction]
        method.startup = {}  # only in the records of the first batch
        self._queue.append(self._thread.submit(self._write, prediction, records))
        self._wait(method, max_queued=MAX_QUEUED)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until all samples are written."""
        self._wait(method_of(pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the queued samples before the process ends."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the queued samples after an error or Ctrl-C."""
        self._stop()

    def _write(self, samples: Sequence[Sample], records: Sequence[dict[str, Any]]) -> None:
        for sample, record in zip(samples, records, strict=True):
            write_sample(self.samples / record["id"], sample, record, self.save, metadata=self.metadata)

    def _stop(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def _wait(self, method: Method, *, max_queued: int = 0) -> None:
        while len(self._queue) > max_queued:
            try:
                self._queue.popleft().result()
            except (OSError, UserError) as error:
                # After an exception, other ranks would wait for this one.
                method.stopped = method.stopped or str(error)


def make_record(sample: Sample, method: Method, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a sample, without its status.

    Args:
        sample: sample of the method.
        method: method of the run.
        config: resolved config of the run. The record includes the values that reproduce the sample.
    """
    spec, precision = sample.spec, sample.precision or method.precision
    return {
        "id": spec.id,
        "prompts": dict(spec.prompts),
        "negative_prompts": dict(spec.negative_prompts),
        "seed": spec.seed,
        "roles": method.roles(),
        "settings": {
            "guidance_scale": dict(spec.guidance_scale),
            **spec.definition["settings"],
            "precision": precision,
            "device": method.device.type,
        },
        "config": sample_config(spec, config, precision=precision),
        "format": _format(method),
        "weights": copy.deepcopy(method.provenance),
        "fallback": method.fallback_taken,
        "scores": dict(sample.scores),
        "timings": {**sample.timings, **_startup(method)},
        **({} if sample.evaluations is None else {"evaluations": dict(sample.evaluations)}),
        "versions": versions(),
    }


def _startup(method: Method) -> dict[str, Any]:
    return {"startup": {name: round(s, 2) for name, s in method.startup.items()}} if method.startup else {}


def _format(method: Method) -> dict[str, Any] | None:
    """Return the vocoder's spectrogram format, which axes in Hz and cycle consistency need."""
    vocoders = (component for _, component in method.components() if isinstance(component, Vocoder))
    return next((asdict(vocoder.format) for vocoder in vocoders), None)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    numbers = {"python": platform.python_version(), "its": __version__}
    for package in ("torch", "torchaudio", "lightning", "diffusers", "transformers"):
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            numbers[package] = "not installed"
    return numbers
