"""Random weights in the shapes of the paper's models, in the folders that the real loading code reads."""

from __future__ import annotations

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
    """Sizes of everything, and of the canvas."""

    canvas: tuple[int, int]
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    vocoder: dict[str, Any]


REAL = Shape(
    canvas=(256, 1024),
    # What is not said is diffusers' default, which is Stable Diffusion v1's.
    unet={"sample_size": 64, "cross_attention_dim": 768},
    vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512},
    text={"vocab_size": 49_408, "hidden_size": 768, "intermediate_size": 3072, "layers": 12, "heads": 12},
    vocoder=HIFI_GAN,
)
TINY = Shape(
    canvas=(64, 128),
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
    """Write `sd` and `auffusion`, each a diffusers folder. Weights are drawn on the device.

    The VAE is one and the same, as with the real ones.
    """
    for seed, name in enumerate(("sd", "auffusion")):
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            _save(unet(shape, device=device, dtype=dtype), folder / name / "unet")
            _save(_text_encoder(shape, device=device, dtype=dtype), folder / name / "text_encoder")
            torch.manual_seed(2)
            _save(_vae(shape, device=device, dtype=dtype), folder / name / "vae")
        random_weights.write_tokenizer(folder / name / "tokenizer")
    write_random_checkpoint(folder / "auffusion" / "vocoder", shape.vocoder)


def unet(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Any:
    """A UNet whose estimates have about the variance of noise, so that an error in them is seen in the latents."""
    model = plain_unet(shape, device=device, dtype=dtype)
    rows, columns = latent_size(shape)
    z = torch.randn(1, 4, rows, columns, device=device, dtype=dtype)
    text = torch.randn(1, 77, shape.unet["cross_attention_dim"], device=device, dtype=dtype)
    with torch.inference_mode():
        noise = model(z, torch.tensor([500], device=device), text, return_dict=False)[0]
    for parameter in model.conv_out.parameters():
        parameter.data.div_(noise.float().std())
    return model


def plain_unet(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Any:
    """A UNet as diffusers draws it."""
    from diffusers import UNet2DConditionModel

    return _built(lambda: UNet2DConditionModel(**shape.unet), device, dtype)


def latent_size(shape: Shape) -> tuple[int, int]:
    """Rows and columns of the latents: eight pixels each way."""
    return shape.canvas[0] // 8, shape.canvas[1] // 8


def _vae(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKL

    types = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return _built(lambda: AutoencoderKL(**types, **shape.vae, latent_channels=4), device, dtype)


def _text_encoder(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = dict(shape.text)
    config = CLIPTextConfig(
        num_hidden_layers=sizes.pop("layers"),
        num_attention_heads=sizes.pop("heads"),
        hidden_act="quick_gelu",
        bos_token_id=None,
        eos_token_id=2,  # the highest token is the end of a text, as in Stable Diffusion's
        initializer_factor=10.0,  # so that prompts lie apart without any training
        **sizes,
    )
    return _built(lambda: CLIPTextModel(config), device, dtype)


def _built(make: Any, device: torch.device, dtype: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def _save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
