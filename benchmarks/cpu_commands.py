"""Parts of `cpu.py` that look at the commands from outside, and at what writing costs."""

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
from bring import ROOT
from measuring import Figure, figure, interleaved, ratios
from writing import predict

from its import registry

IMPORTS = (
    "import torch, lightning.pytorch, lightning.pytorch.cli, soundfile, PIL.Image; "
    "from diffusers import AutoencoderKL, UNet2DConditionModel; from transformers import CLIPTextModel, CLIPTokenizer"
)
STEPS = 6
"""Fewer than anybody takes: writing weighs the more."""


def start_up(rounds: int) -> dict[str, Figure]:
    """How soon the command answers, and how soon a tiny job's first file is there."""
    with tempfile.TemporaryDirectory() as folder:
        config = _tiny_job(Path(folder))
        turns = {
            "python": lambda: _whole([sys.executable, "-c", "pass"]),
            "help": lambda: _whole([sys.executable, "-m", "its", "--help"]),
            "imports": lambda: _whole([sys.executable, "-c", IMPORTS]),
            "first": lambda: _first_file(config, Path(folder)),
        }
        seconds = interleaved(turns, rounds=rounds)
    own = [first - imports for first, imports in zip(seconds["first"], seconds["imports"], strict=True)]
    return {
        "python alone": figure(seconds["python"], "s"),
        "its --help": figure(seconds["help"], "s"),
        "importing torch, Lightning, diffusers, transformers": figure(seconds["imports"], "s"),
        "its predict, tiny, from start to first file": figure(seconds["first"], "s"),
        "its predict, tiny, from start to first file, less the imports": figure(own, "s"),
    }


def writing(rounds: int) -> dict[str, Figure]:
    """Wall time that PNG, WAV and JSON add; the embedded pack in 6 steps instead of its 30, one sample a batch."""
    method = _pack()

    def run(writes: bool) -> float:
        return predict(method, batches=3, batch=1, writes=writes, accelerator="cpu", devices=1)

    seconds = interleaved({"with": lambda: run(True), "without": lambda: run(False)}, rounds=rounds)
    return {
        "writing adds": figure([r - 1 for r in ratios(seconds["with"], seconds["without"])], "%", scale=100),
        "a sample with files": figure(seconds["with"], "s", scale=1 / 3),
        "a sample without": figure(seconds["without"], "s", scale=1 / 3),
    }


def _pack() -> Any:
    registry.load_plugins()
    from its.methods.denoising import MultimodalDenoising
    from its_plugins.combiners.warm_start_average import WarmStartAverage
    from its_plugins.experts.auffusion import Auffusion
    from its_plugins.experts.stable_diffusion import StableDiffusion
    from its_plugins.schedulers.ddim import DDIM
    from its_plugins.vocoders.griffin_lim import GriffinLim

    method = MultimodalDenoising(
        experts={
            "visual": StableDiffusion(weights="pack:mini", channels_last=True),
            "audio": Auffusion(weights="pack:mini", unet_folder="unet_audio", channels_last=True),
        },
        combiner=WarmStartAverage(t={"visual": 1.0, "audio": 0.82}),
        scheduler=DDIM(spacing="trailing"),
        vocoder=GriffinLim(),
        steps=STEPS,
    )
    method.prepare()
    return method


def _tiny_job(folder: Path) -> Path:
    models.write(folder, models.TINY, device=torch.device("cpu"), dtype=torch.float32)
    vocoder = {"class_path": "HiFiGAN", "init_args": {"weights": str(folder / "auffusion")}}
    experts = {
        "visual": {"class_path": "StableDiffusion", "init_args": {"weights": str(folder / "sd")}},
        "audio": {"class_path": "Auffusion", "init_args": {"weights": str(folder / "auffusion")}},
    }
    combiner = {"class_path": "WarmStartAverage", "init_args": {"t": {"visual": 0.9, "audio": 1.0}}}
    job = {
        "model": {"experts": experts, "combiner": combiner, "scheduler": {"class_path": "DDIM"}, "vocoder": vocoder},
        "data": {"prompts": [{"visual": "castle towers", "audio": "bell ringing"}]},
        "trainer": {"accelerator": "cpu", "devices": 1},
    }
    job["model"] |= {"steps": STEPS, "canvas": list(models.TINY.canvas)}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def _whole(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin


def _first_file(config: Path, folder: Path) -> float:
    """Seconds from the start of the command until something lies in a sample's folder."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = [sys.executable, "-m", "its", "predict", "--config", str(config), "--output", output]
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seconds = None
        while seconds is None and process.poll() is None:
            time.sleep(0.005)
            if next(Path(output).glob("samples/*/*"), None) is not None:
                seconds = time.perf_counter() - begin
        _, error = process.communicate()
    if process.returncode or seconds is None:
        raise RuntimeError(f"its predict failed:\n{error}")
    return seconds
