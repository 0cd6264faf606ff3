"""Riffusion: an audio expert that knows music, in a picture of its own kind."""

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
"""Riffusion's format, as its `SpectrogramParams` has it: 44.1 kHz, 512 bands up to 10 kHz, 100 columns a second.

Dark is loud, white is silence. Its pictures are scaled to the loudest of each clip and played at full volume, so that
no level is right or wrong; the ceiling is the one that its `spectrogram_from_image` takes, 30e6 in 16-bit samples.
It draws 0 as white; the floor here is 0.05 of 255 grays away from that.
"""

RIFFUSION_STEREO = replace(RIFFUSION, name="Riffusion in stereo", channels=2)
"""The same, with the left channel in the green of the picture and the right one in its blue."""

# The default branch holds pickles alone; this commit is its conversion to safetensors (refs/pr/11).
pin({"riffusion/riffusion-model-v1": Pin(revision="ea2085a79829d34f529dbec1906321335c49195b")})


@register
class Riffusion(StableDiffusion):
    """Riffusion (Forsgren and Martiros, 2022): Stable Diffusion v1.5 tuned to draw spectrograms of music.

    It was trained on canvases of 512 x 512, 5.12 s; wider ones work.

    Args:
        weights: `pack:NAME`, a diffusers folder, a checkpoint file, `owner/name` on the hub, or `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned one.
        variant: such as `fp16`, for weights files that carry this word in their names; null takes full precision, or
            else what is there.
        unet_folder: where the UNet is; some folders keep several beside one text encoder and one VAE.
        channels_last: another layout in memory, often faster; results differ by rounding.
        attention: which of torch's kernels; `auto` takes the fastest of a few runs. Results differ by rounding.
        lora: LoRA files to fuse, in order: `[{weights: FILE_OR_HUB_ID, scale: 0.8}]`.
        stereo: the picture keeps its colour, and is heard from the left by its green and from the right by its blue.
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
