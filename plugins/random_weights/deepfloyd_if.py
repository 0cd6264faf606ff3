"""Tiny random weights in the layout of DeepFloyd IF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from its_plugins.random_weights.stable_diffusion import WORDS, write_json

NOISING = {
    "_class_name": "DDPMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "num_train_timesteps": 1000,
}
"""Noise schedule of stage II for the small picture."""

SAMPLER = NOISING | {
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.95,
    "prediction_type": "epsilon",
    "sample_max_value": 1.5,
    "thresholding": True,
    "variance_type": "learned_range",
}
"""Sampler of stage I. In stage II, `sample_max_value` is 1."""

UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 6,  # noise and variance
    "layers_per_block": 1,
    "block_out_channels": (8, 8, 8, 16),  # attention only at the lowest resolution, since pictures may be large
    "down_block_types": (*("ResnetDownsampleBlock2D",) * 3, "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", *("ResnetUpsampleBlock2D",) * 3),
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "cross_attention_dim": 32,  # its group norm has 32 groups
    "encoder_hid_dim": 16,
    "attention_head_dim": 8,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "norm_num_groups": 4,
    "act_fn": "gelu",
}


def deepfloyd_if(folder: Path, *, seed: int = 0, variant: str | None = None) -> Path:
    """Write a diffusers folder like stage I's, and return it.

    Args:
        folder: target, which is created if missing.
        seed: random seed of all weights. The global random generator is not changed.
        variant: variant in the names of the weights files.
    """
    from diffusers import UNet2DConditionModel
    from transformers import T5Config, T5EncoderModel

    folder.mkdir(parents=True, exist_ok=True)
    tokens = write_t5_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        UNet2DConditionModel(**UNET).save_pretrained(folder / "unet", variant=variant)
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        config = T5Config(vocab_size=tokens, feed_forward_proj="gated-gelu", initializer_factor=1.0, **sizes)
        T5EncoderModel(config).save_pretrained(folder / "text_encoder", variant=variant)
    write_json(folder / "scheduler" / "scheduler_config.json", SAMPLER)
    return folder


def deepfloyd_if_upscaler(folder: Path, *, seed: int = 1, variant: str | None = None) -> Path:
    """Write a diffusers folder like stage II's, without a text encoder, and return it."""
    from diffusers import UNet2DConditionModel

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**UNET | {"in_channels": 6, "class_embed_type": "timestep"})
        unet.save_pretrained(folder / "unet", variant=variant)
    write_json(folder / "scheduler" / "scheduler_config.json", SAMPLER | {"sample_max_value": 1.0})
    write_json(folder / "image_noising_scheduler" / "scheduler_config.json", NOISING)
    return folder


def write_t5_tokenizer(folder: Path) -> int:
    """Write a T5 tokenizer of words and letters, and return its number of tokens."""
    from transformers import T5Tokenizer

    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -6.0) for letter in letters]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)
