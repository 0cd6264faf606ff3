"""Whether configurations are those of a model of Stable Diffusion v1's kind: checked before anything is loaded.

All functions raise UserError, whose message names the weights, what they are and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from its.errors import UserError
from its.weights import Source
from its_plugins.experts.cached_conditioning_unet import unsupported

Config = Mapping[str, Any]

EXPECTED = "Expected a model of Stable Diffusion v1's kind: latents of 4 channels, texts of width 768"
FAMILIES = {768: "Stable Diffusion v1", 1024: "Stable Diffusion v2", 2048: "Stable Diffusion XL"}
"""Model families by the width of the texts that their UNets read."""
INPUT_CHANNELS = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth-to-image model"}
"""What other UNets are, by their input channels."""
VAE_DEFAULTS = {"latent_channels": 4, "scaling_factor": 0.18215, "block_out_channels": (64,)}
"""What diffusers assumes where a `vae/config.json` is silent."""
STABLE_DIFFUSION_VAE = {"latent_channels": 4, "scaling_factor": 0.18215, "block_out_channels": [128, 256, 512, 512]}
"""Of Stable Diffusion v1."""


def refuse_adapter(source: Source) -> None:
    """Refuse Auffusion's adapter models, which condition their UNet in another way."""
    if source.matching("condition_adapter_0/*") or source.matching("text_encoder_0/*"):
        raise UserError(
            f"{source.name} is an adapter model of Auffusion (condition_adapter_0, text_encoder_0), which is not "
            "supported. Expected one with a plain text encoder: auffusion/auffusion-full-no-adapter"
        )


def check_unet(config: Config, *, where: str, channels: int = 4) -> None:
    """The UNet denoises latents of so many channels, conditioned by text alone."""
    _check_class(config, "UNet2DConditionModel", where=where)
    if config.get("addition_embed_type"):
        kind = " (Stable Diffusion XL)" if config["addition_embed_type"] == "text_time" else ""
        raise UserError(f"{where} has additional embeddings of {config['addition_embed_type']}{kind}. {EXPECTED}")
    got = config.get("in_channels", 4), config.get("out_channels", 4)
    if got[0] != channels:
        kind = f" ({INPUT_CHANNELS[got[0]]})" if got[0] in INPUT_CHANNELS else ""
        raise UserError(f"{where} has {got[0]} input channels{kind}, expected {channels}. {EXPECTED}")
    if got[1] != channels:
        raise UserError(f"{where} has {got[1]} output channels, expected {channels}. {EXPECTED}")
    width = config.get("cross_attention_dim", 1280)
    if not isinstance(width, int):
        raise UserError(f"{where} reads texts of the widths {width}, expected one number. {EXPECTED}")
    if width in FAMILIES and width != 768:
        raise UserError(f"{where} reads texts of width {width} ({FAMILIES[width]}). {EXPECTED}")
    if reason := unsupported(config):
        raise UserError(f"{where} has {reason}. {EXPECTED}")


def check_text_encoder(config: Config, unet: Config, *, where: str) -> None:
    """The text encoder is CLIP's, and as wide as the UNet reads."""
    kind = config.get("model_type", "clip_text_model")
    if kind not in ("clip_text_model", "clip"):
        raise UserError(f"{where} is of type {kind}, expected clip_text_model. {EXPECTED}")
    width, wanted = config.get("hidden_size", 512), unet.get("cross_attention_dim", 1280)
    if width != wanted:
        raise UserError(f"{where} gives texts of width {width}, but the UNet reads {wanted}. Take both from one model")


def check_vae(config: Config, *, where: str, channels: int | None = None) -> None:
    """The autoencoder is a plain AutoencoderKL, whose latents are scaled by one factor and have so many channels."""
    _check_class(config, "AutoencoderKL", where=where)
    got = {**VAE_DEFAULTS, **config}["latent_channels"]
    if channels not in (None, got):
        raise UserError(f"{where} has latents of {got} channels, but the UNet denoises {channels}. {EXPECTED}")
    if not isinstance(scale := config.get("scaling_factor", 0.18215), int | float):
        raise UserError(f"{where} has the scaling_factor {scale!r}, expected a number. {EXPECTED}")
    for key in ("shift_factor", "latents_mean"):
        if config.get(key):
            raise UserError(f"{where} has {key}, so its latents are not Stable Diffusion v1's. {EXPECTED}")


def latent_space(vae: Config) -> str:
    """Name of an autoencoder's latent space, by its configuration: channels, pixels a latent, scale."""
    known = {**VAE_DEFAULTS, **vae}
    factor = 2 ** (len(known["block_out_channels"]) - 1)
    return f"AutoencoderKL, {known['latent_channels']} channels, 1/{factor}, scale {known['scaling_factor']:g}"


def _check_class(config: Config, expected: str, *, where: str) -> None:
    found = config.get("_class_name", expected)
    if found != expected:
        raise UserError(f"{where} is of class {found}, expected {expected}. {EXPECTED}")
