"""Auffusion, the audio expert of the paper."""

from __future__ import annotations

from typing import Any

from its.audio.spectrogram import AUFFUSION
from its.registry import register
from its_plugins.experts.attention_backend import Attention
from its_plugins.experts.stable_diffusion import StableDiffusion


@register
class Auffusion(StableDiffusion):
    """Auffusion (Xue et al., arXiv 2401.01044): Stable Diffusion v1.5 fine-tuned on log-mel spectrograms.

    Args:
        weights: `pack:NAME`, a diffusers folder, a checkpoint file, `owner/name` on the hub, or `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        unet_folder: subfolder of the UNet; some folders hold several UNets with one text encoder and VAE.
        channels_last: use the channels-last memory layout, which is often faster. Results differ by rounding.
        attention: attention kernel of torch; `auto` measures and uses the fastest. Results differ by rounding.
        lora: LoRA files to fuse, in order: `[{weights: FILE_OR_HUB_ID, scale: 0.8}]`.
    """

    format = AUFFUSION

    def __init__(
        self,
        *,
        weights: str = "auffusion/auffusion-full-no-adapter",
        revision: str | None = None,
        variant: str | None = None,
        unet_folder: str = "unet",
        channels_last: bool = False,
        attention: Attention = "default",
        lora: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            weights=weights,
            revision=revision,
            variant=variant,
            unet_folder=unet_folder,
            channels_last=channels_last,
            attention=attention,
            lora=lora,
        )
