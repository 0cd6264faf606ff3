"""Riffusion, an audio expert for music, and its spectrogram format."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from its.audio.spectrogram import SpectrogramFormat
from its.registry import register
from its.weights import Pin, pin
from its_plugins.experts.attention_backend import Attention
from its_plugins.experts.stable_diffusion import StableDiffusion

RIFFUSION = SpectrogramFormat(
    name="Riffusion",
    sample_rate=44_100,
    n_fft=17_640,
    win_length=4_410,
    hop_length=441,
    epsilon=1e-24,
    n_mels=512,
    f_min=0.0,
    f_max=10_000.0,
    mel_scale="htk",
    mel_norm=None,
    power=0.25,
    floor=1e-12,
    ceiling=30e6 / 2**15,
    silence=1,
)
"""Format of Riffusion's `SpectrogramParams`: 44.1 kHz, 512 bands up to 10 kHz, 100 columns per second.

Black is loud, white is silent. Riffusion scales each clip to its peak and plays it at full volume, so it defines no
absolute level; the ceiling is the default of its `spectrogram_from_image`, 30e6 in 16-bit samples. Riffusion draws 0 as
white; the floor used here differs from that by 0.05 of 255 gray levels.
"""

RIFFUSION_STEREO = replace(RIFFUSION, name="Riffusion in stereo", channels=2)
"""Riffusion's format in stereo: the left channel is green and the right channel is blue."""

# The default branch has only pickled tensors; this commit is its conversion to safetensors (refs/pr/11).
pin({"riffusion/riffusion-model-v1": Pin(revision="ea2085a79829d34f529dbec1906321335c49195b")})


@register
class Riffusion(StableDiffusion):
    """Riffusion (Forsgren and Martiros, 2022): Stable Diffusion v1.5 fine-tuned on spectrograms of music.

    It was trained on canvases of 512 x 512 (5.12 s), but also works on wider ones.

    Args:
        weights: `pack:NAME`, a diffusers folder, a checkpoint file, `owner/name` on the hub, or `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        unet_folder: subfolder of the UNet; some folders hold several UNets with one text encoder and VAE.
        channels_last: use the channels-last memory layout, which is often faster. Results differ by rounding.
        attention: attention kernel of torch; `auto` measures and uses the fastest. Results differ by rounding.
        lora: LoRA files to fuse, in order: `[{weights: FILE_OR_HUB_ID, scale: 0.8}]`.
        stereo: use the stereo format, in which the green channel is left and the blue channel right.
    """

    def __init__(
        self,
        *,
        weights: str = "riffusion/riffusion-model-v1",
        revision: str | None = None,
        variant: str | None = None,
        unet_folder: str = "unet",
        channels_last: bool = False,
        attention: Attention = "default",
        lora: list[dict[str, Any]] | None = None,
        stereo: bool = False,
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
        self.format = RIFFUSION_STEREO if stereo else RIFFUSION
