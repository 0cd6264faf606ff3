"""Export of the pack as a diffusers pipeline folder in float16."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
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
    """Write the models that exist in the work folder as a diffusers pipeline folder in float16."""
    out.mkdir(parents=True, exist_ok=True)
    polished = (work / "vae_polished").exists()
    parts = (
        ("vae_polished" if polished else "vae", "vae", AutoencoderKL),
        ("text_encoder", "text_encoder", CLIPTextModel),
        ("visual", "unet", UNet2DConditionModel),
        ("audio", "unet_audio", UNet2DConditionModel),
        ("color", "unet_color", UNet2DConditionModel),
    )
    for name, folder, kind in parts:
        if (work / name).exists():
            kind.from_pretrained(work / name).half().save_pretrained(out / folder)
    if (work / "tokenizer").exists():
        text.save_tokenizer(CLIPTokenizer.from_pretrained(work / "tokenizer"), out / "tokenizer")
    for folder, kind in (("unet", "visual"), ("unet_audio", "audio"), ("unet_color", "visual")):
        if (out / folder).exists():
            _write(out / folder / "known_words.json", words(kind))
    if (out / "unet_color").exists():
        _write(out / "unet_color" / "scheduler_config.json", colors.SAMPLER)
    for config in out.glob("*/config.json"):  # diffusers adds the local path of the weights
        content = json.loads(config.read_text())
        content.pop("_name_or_path", None)
        _write(config, content)
    (out / "scheduler").mkdir(exist_ok=True)
    _write(out / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write(out / "model_index.json", MODEL_INDEX)


def _write(path: Path, content: dict | list[str]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
