"""From latents to what is seen and what is heard."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from its.audio.spectrogram import AUFFUSION
from its.interfaces import Component, LatentCodec, NoiseExpert

LATENTS_AT_ONCE = 2 * 32 * 128
"""Positions of latents that are decoded together: two of the paper's canvases, which take 1.2 GiB in Stable Diffusion's
autoencoder in float16. A batch of 16 would take 10 GiB, and a sixth less time."""


class Decoder(nn.Module):
    """The codecs of the picture and of the sound, which are one where they are the same weights.

    Attributes:
        picture: of the first expert without a spectrogram format.
        sound: of the first expert with one.
        picture_expert, sound_expert: their names; the same one where there is none of a kind.
        format: how what the sound's expert draws is heard.
    """

    picture: LatentCodec
    sound: LatentCodec

    def __init__(self, experts: Mapping[str, NoiseExpert], codec: LatentCodec | None) -> None:
        """Args:
        experts: by name; each brings its codec.
        codec: takes the place of them all.
        """
        super().__init__()
        self.picture_expert = first_expert(experts, of_sound=False)
        self.sound_expert = first_expert(experts, of_sound=True)
        self.picture = codec or experts[self.picture_expert].codec()
        self.format = experts[self.sound_expert].format or AUFFUSION
        alone = codec is not None or self.sound_expert == self.picture_expert
        self.sound = self.picture if alone else experts[self.sound_expert].codec()

    def components(self) -> list[tuple[str, Component]]:
        """The codecs by their keys, each once."""
        both: list[tuple[str, Component]] = [("codec", self.picture), ("sound_codec", self.sound)]
        return both[:1] if self.sound is self.picture else both

    def codecs(self) -> dict[str, LatentCodec]:
        """The codecs by the experts whose latents they decode."""
        return {self.picture_expert: self.picture, self.sound_expert: self.sound}

    def join(self, *, loaded: bool = False) -> None:
        """Keep one codec, to load once and run once, where both are the same.

        Args:
            loaded: whether there are tensors to compare, for the same weights from two places.
        """
        known = self.picture.provenance()
        same_source = known is not None and self.sound.provenance() == known
        if same_source or (loaded and _same_tensors(self.sound, self.picture)):
            self.sound = self.picture

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (b, c, h, w) -> picture (b, 3, H, W) and spectrogram (b, 1, H, W), float32 in [0, 1].

        In a stereo format the spectrogram is (b, 3, H, W).
        """
        heard = decode(self.sound, latents)
        seen = heard if self.picture is self.sound else decode(self.picture, latents)
        return seen, self.format.sounding(heard)


def decode(codec: LatentCodec, latents: Tensor) -> Tensor:
    """Latents (b, c, h, w) -> pictures (b, 3, H, W) in [0, 1], float32. A few at a time, which bounds memory."""
    size = max(1, LATENTS_AT_ONCE // latents[0, 0].numel())
    return torch.cat([codec.decode(part).float() for part in torch.split(latents, size)])


def first_expert(experts: Mapping[str, NoiseExpert], *, of_sound: bool) -> str:
    """Name of the first expert of a kind, or of the first one if there is none of it."""
    kinds = {name: expert.format is not None for name, expert in experts.items()}
    return next((name for name, sounds in kinds.items() if sounds is of_sound), next(iter(experts)))


def _same_tensors(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return type(one) is type(other) and a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
