"""Puts every sample into its own folder as soon as it is made, on whatever rank made it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from its.methods.base import method_of
from its.outputs.sample import Sample, sample_id, write_sample


class SampleWriter(BasePredictionWriter):
    """Writes `OUTPUT/samples/ID/` for each sample of a batch.

    Args:
        output: the run folder.
        save: extras of `its.outputs.sample.EXTRAS` to write beside the spectrogram and the sound.
    """

    def __init__(self, output: Path, save: Sequence[str] = ()) -> None:
        super().__init__(write_interval="batch")
        self.samples = output / "samples"
        self.save = tuple(save)

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
        """Write the samples of one batch."""
        method = method_of(pl_module)
        definition = method.definition()
        for sample in prediction:
            row = sample.row
            name = sample_id(row, definition)
            record = {
                "id": name,
                "prompts": dict(row.prompts),
                "negative_prompts": dict(row.negative_prompts),
                "seed": row.seed,
                "settings": {
                    "guidance_scale": dict(row.guidance_scale),
                    **definition["settings"],
                    "precision": str(trainer.precision),
                    "device": method.device.type,
                },
                "weights": method.provenance,
                "fallback": method.fallback_taken,
                "scores": {},
                "timings": dict(sample.timings),
                "versions": versions(),
            }
            write_sample(self.samples / name, sample, record, self.save)


@cache
def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("its", "torch", "torchaudio", "lightning", "diffusers", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
