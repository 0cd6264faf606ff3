"""Random weights in the shapes and file layouts of the paper's models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from its_plugins.random_weights import stable_diffusion as random_weights
from its_plugins.vocoders.hifi_gan import write_random_checkpoint

HIFI_GAN = {
    "resblock": "1",
    "upsample_rates": [5, 4, 4, 2],
    "upsample_kernel_sizes": [11, 8, 8, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "num_mels": 256,
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a run, and arguments of the models."""

    canvas: tuple[int, int]  # rows and columns, in pixels
    steps: int  # steps of DDIM
    fast_steps: int  # steps of the second-order solver
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    vocoder: dict[str, Any]


REAL = Shape(
    canvas=(256, 1024),
    steps=100,
    fast_steps=25,
    unet={"sample_size": 64, "cross_attention_dim": 768},  # diffusers' defaults are those of Stable Diffusion v1
    vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512},
    text={"vocab_size": 49_408, "hidden_size": 768, "intermediate_size": 3072, "layers": 12, "heads": 12},
    vocoder=HIFI_GAN,
)
TINY = Shape(
    canvas=(64, 128),
    steps=10,
    fast_steps=5,
    unet={
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    vae={"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "sample_size": 64, "norm_num_groups": 4},
    text={"vocab_size": 1000, "hidden_size": 16, "intermediate_size": 32, "layers": 2, "heads": 2},
    vocoder=HIFI_GAN
    | {
        "upsample_initial_channel": 32,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]],
        "num_mels": 64,
    },
)


def write(folder: Path, shape: Shape, *, device: torch.device, dtype: torch.dtype) -> None:
    """Write the diffusers folders `sd` and `auffusion` with equal VAEs. Weights are drawn on the device."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = dict(shape.text)
    config = CLIPTextConfig(
        num_hidden_layers=sizes.pop("layers"),
        num_attention_heads=sizes.pop("heads"),
        hidden_act="quick_gelu",
        bos_token_id=None,
        eos_token_id=2,  # the highest token ends a text, as in Stable Diffusion
        initializer_factor=10.0,  # so that prompts differ without training
        **sizes,
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = blocks | {"latent_channels": 4} | shape.vae
    for seed, name in enumerate(("sd", "auffusion")):
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            _scaled_unet(shape, device=device, dtype=dtype).save_pretrained(folder / name / "unet")
            _build(lambda: CLIPTextModel(config), device, dtype).save_pretrained(folder / name / "text_encoder")
            torch.manual_seed(2)
            _build(lambda: AutoencoderKL(**vae), device, dtype).save_pretrained(folder / name / "vae")
        random_weights.write_tokenizer(folder / name / "tokenizer")
    write_random_checkpoint(folder / "auffusion" / "vocoder", shape.vocoder)


def unet(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Build a UNet with diffusers' initial weights."""
    from diffusers import UNet2DConditionModel

    return _build(lambda: UNet2DConditionModel(**shape.unet), device, dtype)


def unet_inputs(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Draw random inputs of a UNet: latents of a canvas, timestep, text."""
    z = torch.randn(1, 4, shape.canvas[0] // 8, shape.canvas[1] // 8, device=device, dtype=dtype)
    text = torch.randn(1, 77, shape.unet["cross_attention_dim"], device=device, dtype=dtype)
    return z, torch.tensor([500], device=device), text


def _scaled_unet(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Build a UNet whose estimates have about the variance of noise, so that errors affect the latents."""
    model = unet(shape, device=device, dtype=dtype)
    with torch.inference_mode():
        noise = model(*unet_inputs(shape, device=device, dtype=dtype), return_dict=False)[0]
    for parameter in model.conv_out.parameters():
        parameter.data.div_(noise.float().std())
    return model


def _build(make: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
