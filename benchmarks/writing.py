"""What writing adds to the wall time: Lightning's predict loop with the command's writer, and without."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from ours import specs

from its.methods.denoising import MultimodalDenoising
from its.runs.writer import SampleWriter
from its.specs.prompts import PromptGrid
from its.specs.spec import assign_ids


class Clock(Callback):
    """From the end of the first batch, which warms up, to the end of everything, the last file included."""

    begin = 0.0
    seconds = 0.0

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        self.begin = self.begin or time.perf_counter()

    def on_predict_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.begin


def predict(method: MultimodalDenoising, *, batches: int, batch: int, writes: bool, **trainer_options: Any) -> float:
    """Seconds of `batches` batches, one more going before them.

    Args:
        method: prepared.
        batches: that count.
        batch: samples in each.
        writes: whether PNG, WAV and JSON are written, into a folder that goes away again.
        trainer_options: Lightning's.
    """
    clock = Clock()
    grid = PromptGrid(prompts=[], batch_size=batch)
    grid.rows = assign_ids(specs(range((batches + 1) * batch)), method.definition)
    with tempfile.TemporaryDirectory() as output:
        config = {"method": "MultimodalDenoising", "model": {}, "save": ["image"]}
        writer = [SampleWriter(Path(output), ["image"], config=config, metadata=True)] if writes else []
        trainer = Trainer(
            callbacks=[*writer, clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **trainer_options,
        )
        trainer.predict(method, datamodule=grid, return_predictions=False)
        written = len(list(Path(output).glob("samples/*/sample.json")))
    if written != (len(grid.rows) if writes else 0):
        raise RuntimeError(f"{written} samples were written of {len(grid.rows)}")
    return clock.seconds
