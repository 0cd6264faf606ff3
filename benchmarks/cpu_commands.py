"""Parts of `cpu.py`: start-up of the commands, measured from outside, and the cost of writing files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import models
import torch
import yaml
from cpu_loop import PREDICT_ONLY
from environment import ROOT
from lightning.pytorch import Callback, Trainer
from measuring import Figure, figure, interleave, ratios
from ours import specs
from plain_command import write_overlay

from its import registry
from its.instantiate import construct
from its.methods.denoising import MultimodalDenoising
from its.runs.writer import SampleWriter
from its.specs.prompts import PromptGrid
from its.specs.spec import assign_ids

IMPORTS = (
    "import torch, lightning.pytorch, lightning.pytorch.cli, soundfile, PIL.Image; "
    "from diffusers import AutoencoderKL, UNet2DConditionModel; from transformers import CLIPTextModel, CLIPTokenizer"
)
STEPS = 6
"""Number of steps, fewer than in practice, so that the share of writing is larger."""
BATCHES = 3


def start_up(rounds: int) -> dict[str, Figure]:
    """Time of `its --help`, and time until the first file of a tiny job."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models.write(folder, models.TINY, device=torch.device("cpu"), dtype=torch.float32)
        overlay = write_overlay(folder, models.TINY)
        turns = {
            "python": lambda: _run([sys.executable, "-c", "pass"]),
            "help": lambda: _run([sys.executable, "-m", "its", "--help"]),
            "imports": lambda: _run([sys.executable, "-c", IMPORTS]),
            "first": lambda: _first_file(overlay, folder),
        }
        seconds = interleave(turns, rounds=rounds)
    without_imports = [first - imports for first, imports in zip(seconds["first"], seconds["imports"], strict=True)]
    return {
        "python alone": figure(seconds["python"], "s"),
        "its --help": figure(seconds["help"], "s"),
        "importing torch, Lightning, diffusers, transformers": figure(seconds["imports"], "s"),
        "its predict, tiny, from start to first file": figure(seconds["first"], "s"),
        "its predict, tiny, from start to first file, less the imports": figure(without_imports, "s"),
    }


def writing(rounds: int) -> dict[str, Figure]:
    """Additional wall time of writing PNG, WAV and JSON; embedded pack, 6 instead of 30 steps, batch size 1."""
    registry.load_plugins()
    config = yaml.safe_load(registry.packs()["mini"].config.read_text())["model"]
    method = construct(MultimodalDenoising, config | {"steps": STEPS}, key="model")
    method.prepare()
    turns = {"with": lambda: _predict(method, writes=True), "without": lambda: _predict(method, writes=False)}
    seconds = interleave(turns, rounds=rounds)
    return {
        "writing adds": figure([r - 1 for r in ratios(seconds["with"], seconds["without"])], "%", scale=100),
        "a sample with files": figure(seconds["with"], "s", scale=1 / BATCHES),
        "a sample without": figure(seconds["without"], "s", scale=1 / BATCHES),
    }


class Clock(Callback):
    """Measures the time from the end of the first batch, a warm-up, to the end of the run with all files written."""

    begin = 0.0
    seconds = 0.0

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        self.begin = self.begin or time.perf_counter()

    def on_predict_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.begin


def _predict(method: MultimodalDenoising, *, writes: bool) -> float:
    """Measure `BATCHES` batches in Lightning's predict loop, after a warm-up batch, with or without writing files."""
    clock = Clock()
    grid = PromptGrid(prompts=[], batch_size=1)
    grid.rows = assign_ids(specs(range(BATCHES + 1)), method.definition)
    with tempfile.TemporaryDirectory() as output:
        config = {"method": "MultimodalDenoising", "model": {}, "save": ["image"]}
        writer = [SampleWriter(Path(output), ["image"], config=config, metadata=True)] if writes else []
        trainer = Trainer(accelerator="cpu", devices=1, callbacks=[*writer, clock], **PREDICT_ONLY)
        trainer.predict(method, datamodule=grid, return_predictions=False)
        written = len(list(Path(output).glob("samples/*/sample.json")))
    if written != (len(grid.rows) if writes else 0):
        raise RuntimeError(f"{written} of {len(grid.rows)} samples were written")
    return clock.seconds


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def _first_file(overlay: Path, folder: Path) -> float:
    """Measure the seconds from the start of `its predict` to the first file in a sample's folder."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = [sys.executable, "-m", "its", "predict", "--config=configs/castle_bell.yaml", f"--config={overlay}"]
        command += [f"--model.steps={STEPS}", "--data.seeds=[1]", "--trainer.accelerator=cpu", "--trainer.devices=1"]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--output={output}"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        seconds = None
        while seconds is None and process.poll() is None:
            time.sleep(0.005)
            if next(Path(output).glob("samples/*/*"), None) is not None:
                seconds = time.perf_counter() - begin
        _, error = process.communicate()
    if process.returncode or seconds is None:
        raise RuntimeError(f"its predict failed:\n{error}")
    return seconds
