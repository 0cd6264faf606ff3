"""The pack's folder: a diffusers pipeline layout in half precision, with the training log beside it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini.captions import words
from its_plugins.mini.training import colors, text

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
        model = UNet2DConditionModel.from_pretrained(work / name)
        prefer_pictures(model, work / "latents")
        model.half().save_pretrained(out / folder)
        _write(out / folder / "known_words.json", words(name))
    UNet2DConditionModel.from_pretrained(work / "color").half().save_pretrained(out / "unet_color")
    _write(out / "unet_color" / "known_words.json", words("visual"))
    _write(out / "unet_color" / "scheduler_config.json", colors.SAMPLER)
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


PREFERENCE = 0.022
"""How far towards products the networks take what they see to lie; found by trying, see docs/embedded-pack.md."""


@torch.no_grad()
def prefer_pictures(model: UNet2DConditionModel, latents: Path) -> None:
    """Shift what a network sees by a constant, a small step from the mean sound to the mean product.

    At the last timestep a little of the clean latents (0.07) is left under the noise, so a network learns to read
    their mean off the noise's. Of pure noise that mean is chance, yet it decided whether a canvas became a picture
    that sounds or a sound without picture. The step is twice its standard deviation (1/64), and nothing to latents.
    """
    shards = [load_file(path) for path in sorted(latents.glob("*.safetensors"))]

    def mean(source: str) -> Tensor:
        return torch.cat([shard[source].float() for shard in shards if source in shard]).mean((0, 2, 3))

    step = PREFERENCE * (mean("products") - mean("sounds"))
    model.conv_in.bias += torch.einsum("o c k l, c -> o", model.conv_in.weight, step)


def _write(path: Path, content: dict | list[str]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
