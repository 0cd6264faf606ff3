"""The pack's folder: a diffusers pipeline layout in half precision, with the training log beside it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini import text

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}


def export(work: Path, out: Path) -> None:
    """A diffusers pipeline folder in half precision."""
    out.mkdir(parents=True, exist_ok=True)
    AutoencoderKL.from_pretrained(work / "vae_polished").half().save_pretrained(out / "vae")
    CLIPTextModel.from_pretrained(work / "text_encoder").half().save_pretrained(out / "text_encoder")
    text.save_tokenizer(CLIPTokenizer.from_pretrained(work / "tokenizer"), out / "tokenizer")
    for name, folder in (("visual", "unet"), ("audio", "unet_audio")):
        UNet2DConditionModel.from_pretrained(work / name).half().save_pretrained(out / folder)
    for config in out.glob("*/config.json"):  # diffusers writes where the weights came from, a path of this machine
        content = json.loads(config.read_text())
        content.pop("_name_or_path", None)
        _write(config, content)
    (out / "scheduler").mkdir(exist_ok=True)
    _write(out / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write(out / "model_index.json", MODEL_INDEX)
    lines = [line for path in sorted(work.glob("log*.jsonl")) for line in path.read_text().splitlines()]
    kind = {"machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    (out / "training_log.jsonl").write_text("\n".join([json.dumps(kind), *lines]) + "\n")


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
