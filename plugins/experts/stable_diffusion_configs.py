"""Check that configurations describe a model of Stable Diffusion v1's architecture, before weights are loaded.

All checks raise UserError with the name of the weights, their value and the expected value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from its.errors import UserError
from its.weights import Source
from its_plugins.experts.cached_conditioning_unet import unsupported_feature

Config = Mapping[str, Any]

EXPECTED = "Use a model of Stable Diffusion v1's architecture: 4 latent channels, cross-attention of width 768"
FAMILIES = {768: "Stable Diffusion v1", 1024: "Stable Diffusion v2", 2048: "Stable Diffusion XL"}
"""Model families by the cross-attention width of their UNets."""
INPUT_CHANNELS = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth-to-image model"}
"""Other model types by the input channels of their UNets."""
VAE_DEFAULTS = {"latent_channels": 4, "scaling_factor": 0.18215, "block_out_channels": (64,)}
"""Defaults of diffusers for keys that `vae/config.json` omits."""
STABLE_DIFFUSION_VAE = VAE_DEFAULTS | {"block_out_channels": (128, 256, 512, 512)}
"""Settings of Stable Diffusion v1's autoencoder."""


def refuse_adapter(source: Source) -> None:
    """Refuse Auffusion's adapter models, whose UNet is conditioned differently."""
    if source.matching("condition_adapter_0/*") or source.matching("text_encoder_0/*"):
        raise UserError(
            f"{source.name} is an adapter model of Auffusion (condition_adapter_0, text_encoder_0), which is not "
            "supported. Use a model with a plain text encoder: auffusion/auffusion-full-no-adapter"
        )


def check_unet(config: Config, *, where: str, channels: int = 4) -> None:
    """Check that a UNet has this number of latent channels and is conditioned by text alone."""
    _check_class(config, "UNet2DConditionModel", where=where)
    if config.get("addition_embed_type"):
        kind = " (Stable Diffusion XL)" if config["addition_embed_type"] == "text_time" else ""
        raise UserError(f"{where} has additional embeddings of {config['addition_embed_type']}{kind}. {EXPECTED}")
    for side in ("in", "out"):
        if (count := config.get(f"{side}_channels", 4)) != channels:
            kind = f" ({INPUT_CHANNELS[count]})" if side == "in" and count in INPUT_CHANNELS else ""
            raise UserError(f"{where} has {count} {side}put channels{kind}, expected {channels}. {EXPECTED}")
    width = config.get("cross_attention_dim", 1280)
    if not isinstance(width, int):
        raise UserError(f"{where} has cross-attentions of the widths {width}, expected one number. {EXPECTED}")
    if width in FAMILIES and width != 768:
        raise UserError(f"{where} has cross-attention of width {width} ({FAMILIES[width]}). {EXPECTED}")
    if feature := unsupported_feature(config):
        raise UserError(f"{where} has {feature}, which is not supported. {EXPECTED}")


def check_text_encoder(config: Config, unet: Config, *, where: str) -> None:
    """Check that a text encoder is CLIP's and has the width of the UNet's cross-attention."""
    kind = config.get("model_type", "clip_text_model")
    if kind not in ("clip_text_model", "clip"):
        raise UserError(f"{where} is of type {kind}, expected clip_text_model. {EXPECTED}")
    width, expected = config.get("hidden_size", 512), unet.get("cross_attention_dim", 1280)
    if width != expected:
        raise UserError(f"{where} has width {width}, but the UNet expects {expected}. Use both from one model")


def check_vae(config: Config, *, where: str, channels: int | None = None) -> None:
    """Check that an autoencoder is a plain AutoencoderKL with one scaling factor and this number of latent channels."""
    _check_class(config, "AutoencoderKL", where=where)
    count = {**VAE_DEFAULTS, **config}["latent_channels"]
    if channels not in (None, count):
        raise UserError(f"{where} has {count} latent channels, but the UNet has {channels}. {EXPECTED}")
    if not isinstance(scale := config.get("scaling_factor", 0.18215), int | float):
        raise UserError(f"{where} has the scaling_factor {scale!r}, expected a number. {EXPECTED}")
    for key in ("shift_factor", "latents_mean"):
        if config.get(key):
            raise UserError(f"{where} has {key}, so its latents are not Stable Diffusion v1's. {EXPECTED}")


def latent_space(vae: Config) -> str:
    """Name an autoencoder's latent space by its configuration: channels, downsampling factor, scaling factor."""
    config = {**VAE_DEFAULTS, **vae}
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    return f"AutoencoderKL, {config['latent_channels']} channels, 1/{factor}, scale {config['scaling_factor']:g}"


def _check_class(config: Config, expected: str, *, where: str) -> None:
    if (name := config.get("_class_name", expected)) != expected:
        raise UserError(f"{where} is of class {name}, expected {expected}. {EXPECTED}")
