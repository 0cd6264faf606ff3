"""Export the pack as a diffusers pipeline folder in float16."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel

from its_plugins.mini.captions import words
from its_plugins.mini.training import colors, text
from its_plugins.random_weights.stable_diffusion import SCHEDULER as STABLE_DIFFUSION_SCHEDULER
from its_plugins.random_weights.stable_diffusion import write_json

SCHEDULER = STABLE_DIFFUSION_SCHEDULER | {"timestep_spacing": "trailing"}
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
    """Write the models in the work folder as a diffusers pipeline folder in float16. Missing models are skipped."""
    polished = (work / "vae_polished").exists()
    models = (
        ("vae_polished" if polished else "vae", "vae", AutoencoderKL),
        ("text_encoder", "text_encoder", CLIPTextModel),
        ("visual", "unet", UNet2DConditionModel),
        ("audio", "unet_audio", UNet2DConditionModel),
        ("color", "unet_color", UNet2DConditionModel),
    )
    for name, folder, model_class in models:
        if (work / name).exists():
            export_network(model_class, work / name, out / folder)
    if (work / "tokenizer").exists():
        text.save_tokenizer(CLIPTokenizer.from_pretrained(work / "tokenizer"), out / "tokenizer")
    for folder, kind in (("unet", "visual"), ("unet_audio", "audio"), ("unet_color", "visual")):
        if (out / folder).exists():
            write_json(out / folder / "known_words.json", words(kind))
    if (out / "unet_color").exists():
        write_json(out / "unet_color" / "scheduler_config.json", colors.SAMPLER)
    write_json(out / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(out / "model_index.json", MODEL_INDEX)


def export_network(model_class: type[ModelMixin] | type[PreTrainedModel], source: Path, folder: Path) -> None:
    """Write the network in `source` in float16, without what its libraries add to the configuration."""
    model_class.from_pretrained(source).half().save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    for key in ("_name_or_path", "_use_default_values"):
        content.pop(key, None)
    write_json(folder / "config.json", content)
