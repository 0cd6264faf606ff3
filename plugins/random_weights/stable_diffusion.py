"""Tiny random weights in the layout of Stable Diffusion v1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from its_plugins.experts.noise_schedule import STABLE_DIFFUSION

WORDS = ("a", "painting", "of", "castle", "towers", "grayscale", "bell", "ringing", "dog", "barking")
START, END = "<|startoftext|>", "<|endoftext|>"
TRANSFORMER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
"""Sizes of text and vision encoders."""

UNET: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}
"""Sizes of UNets and control nets."""

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    **STABLE_DIFFUSION,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""Scheduler settings of Stable Diffusion v1.5, for DDIM."""


def stable_diffusion(
    folder: Path,
    *,
    seed: int = 0,
    unets: Sequence[str] = ("unet",),
    variant: str | None = None,
    max_tokens: int = 77,
    max_shard_size: str = "5GB",
    channels: int = 4,
) -> Path:
    """Write a diffusers folder like Stable Diffusion v1's (4 latent channels, 8 x 8 pixels per latent), and return it.

    Args:
        folder: target, which is created if missing.
        seed: random seed of all weights. The global random generator is not changed.
        unets: subfolders of UNets, each with other weights.
        variant: variant in the names of the weights files.
        max_tokens: text length of tokenizer and text encoder.
        max_shard_size: larger UNets are split into several files.
        channels: channels of the UNets; 3 for pixel-space models.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder / "tokenizer", max_tokens=max_tokens)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        for unet in unets:
            UNet2DConditionModel(
                sample_size=8,
                in_channels=channels,
                out_channels=channels,
                # Attention at the higher resolution, as in the real model, but at the lower one for pixels.
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")[:: 1 if channels == 4 else -1],
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")[:: 1 if channels == 4 else -1],
                **UNET,
            ).save_pretrained(folder / unet, variant=variant, max_shard_size=max_shard_size)
        AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=64,
        ).save_pretrained(folder / "vae", variant=variant)
        config = CLIPTextConfig(
            **TRANSFORMER,
            vocab_size=len(vocabulary),
            max_position_embeddings=max_tokens,
            bos_token_id=vocabulary[START],
            eos_token_id=vocabulary[END],
            pad_token_id=vocabulary[END],
            initializer_factor=10.0,  # so that embeddings differ without training
        )
        CLIPTextModel(config).save_pretrained(folder / "text_encoder", variant=variant)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    components = {"scheduler": ["diffusers", "DDIMScheduler"], "unet": ["diffusers", "UNet2DConditionModel"],
                  "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
                  "tokenizer": ["transformers", "CLIPTokenizer"], "feature_extractor": [None, None],
                  "safety_checker": [None, None], "requires_safety_checker": False}  # fmt: skip
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"} | components)
    return folder


def control_net(folder: Path, *, seed: int = 0, **sizes: Any) -> Path:
    """Write a ControlNet for `stable_diffusion` with the file names of lllyasviel's, and return its folder.

    Unlike after the usual initialisation, all weights are random, so that the control has an effect.

    Args:
        folder: target, which is created if missing.
        seed: random seed of all weights. The global random generator is not changed.
        sizes: arguments of `ControlNetModel` that replace those of `UNET`.
    """
    from diffusers import ControlNetModel

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        model = ControlNetModel(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            conditioning_embedding_out_channels=(4, 4, 8, 8),
            **{**UNET, **sizes},
        )
        for name, parameter in model.named_parameters():
            if name.startswith("controlnet_cond_embedding") and parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)  # the default would leave little of the picture
            elif not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, *, words: Sequence[str] = WORDS, max_tokens: int = 77) -> dict[str, int]:
    """Write a CLIP tokenizer with the file names of Stable Diffusion v1.5.

    Args:
        folder: target, which is created if missing.
        words: lower-case words that become one token each. Other text is split into bytes.
        max_tokens: length to which texts are padded or cut.

    Returns:
        The number of each token.
    """
    merges: dict[tuple[str, str], None] = {}  # an ordered set
    for word in words:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces[:2] = [pieces[0] + pieces[1]]
    letters = byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(folder / "vocab.json", vocabulary)
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        special | {"model_max_length": max_tokens, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True},
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return vocabulary


def byte_letters() -> list[str]:
    """Return the 256 letters that represent bytes in byte-level tokenizers: printable ones, then U+0100 onwards."""
    printable = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    return printable + [chr(256 + number) for number in range(256 - len(printable))]


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, and create its folder if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
