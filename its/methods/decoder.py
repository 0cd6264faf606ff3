"""Decode latents to the picture and the spectrogram, and encode pictures and sounds to latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from its.audio.spectrogram import AUFFUSION
from its.diffusion.windows import Layout, downsampling
from its.interfaces import Component, LatentCodec, NoiseExpert

MAX_PIXELS = 2 * 256 * 1024
"""Pixels per decoder call: two of the paper's canvases, 1.2 GiB in Stable Diffusion's float16 decoder. A batch of 16 in
one call takes 10 GiB and a sixth less time."""


class Decoder(nn.Module):
    """Codecs of the picture and of the spectrogram. They are one object if they have the same weights.

    Attributes:
        picture_expert: first expert without a spectrogram format, or the first expert if all have one.
        sound_expert: first expert with a spectrogram format, or the first expert if none has one.
        picture: codec of `picture_expert`.
        sound: codec of `sound_expert`.
        format: spectrogram format of `sound_expert`; Auffusion's by default.
        loop: whether the end of the canvas continues at its beginning.
    """

    picture: LatentCodec
    sound: LatentCodec

    def __init__(self, experts: Mapping[str, NoiseExpert], codec: LatentCodec | None, *, loop: bool = False) -> None:
        """Args:
        experts: experts by name.
        codec: codec for all latents; None to use the experts' own.
        loop: see the attribute.
        """
        super().__init__()
        self.loop = loop
        self.picture_expert = first_expert(experts, audio=False)
        self.sound_expert = first_expert(experts, audio=True)
        self.picture = codec or experts[self.picture_expert].codec()
        self.format = experts[self.sound_expert].format or AUFFUSION
        single = codec is not None or self.sound_expert == self.picture_expert
        self.sound = self.picture if single else experts[self.sound_expert].codec()

    def components(self) -> list[tuple[str, Component]]:
        """Return the codecs with their config keys, each once."""
        both: list[tuple[str, Component]] = [("codec", self.picture), ("sound_codec", self.sound)]
        return both[:1] if self.sound is self.picture else both

    def codecs(self) -> dict[str, LatentCodec]:
        """Return the codecs by the name of their expert."""
        return {self.picture_expert: self.picture, self.sound_expert: self.sound}

    def deduplicate(self, *, loaded: bool = False) -> None:
        """Replace the sound codec by the picture codec if both have the same weights.

        Args:
            loaded: also compare tensors, to find equal weights from different sources.
        """
        provenance = self.picture.provenance()
        same_source = provenance is not None and self.sound.provenance() == provenance
        if same_source or (loaded and _same_tensors(self.sound, self.picture)):
            self.sound = self.picture

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Decode latents (b, c, h, w) to picture (b, 3, H, W) and spectrogram (b, 1, H, W), float32 in [0, 1].

        In a stereo format the spectrogram is (b, 3, H, W).
        """
        sound = decode(self.sound, latents, loop=self.loop)
        picture = sound if self.picture is self.sound else decode(self.picture, latents, loop=self.loop)
        return picture, self.format.select_channels(sound)


def decode(codec: LatentCodec, latents: Tensor, *, loop: bool = False) -> Tensor:
    """Decode latents (b, c, h, w) in slices to bound memory. Returns pictures (b, 3, H, W), float32 in [0, 1].

    Wide latents are decoded in overlapping windows, and so are those of a loop, to join its ends.
    """
    factor = downsampling(codec)
    layout, size = _layout(*latents.shape[2:], factor=factor, loop=loop)
    windows = torch.split(layout.split(latents).flatten(0, 1), size)
    pictures = torch.cat([codec.decode(z).float() for z in windows])
    return layout.scaled(factor).merge(torch.unflatten(pictures, 0, (len(latents), -1)))


def encode(codec: LatentCodec, pictures: Tensor, *, loop: bool = False) -> Tensor:
    """Encode pictures (b, 3, H, W) in [0, 1] to latents (b, c, h, w), float32, in windows like `decode`."""
    factor = downsampling(codec)
    layout, size = _layout(pictures.shape[2] // factor, pictures.shape[3] // factor, factor=factor, loop=loop)
    windows = torch.split(layout.scaled(factor).split(pictures).flatten(0, 1), size)
    latents = torch.cat([codec.encode(x).float() for x in windows])
    return layout.merge(torch.unflatten(latents, 0, (len(pictures), -1)))


def _layout(rows: int, columns: int, *, factor: int, loop: bool) -> tuple[Layout, int]:
    """Return the windows of latents, and the number of windows in a call."""
    largest = MAX_PIXELS // factor**2
    width = min(columns, max(2, largest // rows))
    layout = Layout.of(columns, width=width, stride=width // 2, circular=loop)
    return layout, max(1, largest // (rows * width))


def first_expert(experts: Mapping[str, NoiseExpert], *, audio: bool) -> str:
    """Return the name of the first audio or visual expert, or of the first expert if there is none of this kind."""
    return next((n for n, expert in experts.items() if (expert.format is not None) is audio), next(iter(experts)))


def _same_tensors(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return type(one) is type(other) and a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
