"""Training canvases: pictures, spectrograms, and products of the two, as gray arrays and as cached latents.

Shapes used here: b batch, h w rows and columns of a canvas (256, 1024), gray in [0, 1], row 0 the highest band.

Why products: an expert is asked, at sampling time, about canvases that are half the other modality's. One
that has never seen such a canvas pulls back to its own, and the two estimates fight. Both experts here see
the same products, each captioned by its own half only, so they agree about what a canvas may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from its.audio.spectrogram import AUFFUSION
from its_plugins.mini.captions import AUDIO, VISUAL
from its_plugins.mini.training.pictures import Sprite, draw, picture
from its_plugins.mini.training.sounds import clip

Array = NDArray[np.float32]

VISUAL_SHARES = {name: concept.share for name, concept in VISUAL.items()}
AUDIO_SHARES = {name: concept.share for name, concept in AUDIO.items()}


@dataclass(frozen=True)
class Canvas:
    """One (256, 1024) canvas and what is on it; None where it has no picture or no sound."""

    gray: Array
    visual: str | None
    audio: str | None


def spectrograms(name: str, count: int, seed: int) -> Array:
    """(count, 256, 1024) spectrogram pictures of sound class `name`, each as loud as the format can draw."""
    rng = np.random.default_rng([seed, *name.encode()])
    rows = []
    for _ in range(count):
        waveform = torch.from_numpy(clip(name, rng)).float()[None]
        gray = AUFFUSION.to_picture(AUFFUSION.log_mel(waveform))[0, 0].numpy()
        rows.append(_loud(gray, float(rng.uniform(0.88, 1.0))))
    return np.stack(rows)


def _loud(gray: Array, top: float) -> Array:
    """Amplify until the brightest thousandth is at `top`; digital silence stays where it is."""
    gain = top - float(np.quantile(gray[::2, ::2], 0.999))
    return np.clip(gray + gain * np.minimum(gray / 0.15, 1), 0, 1).astype(np.float32)


def product(shape: Array, sound: Array, rng: np.random.Generator) -> Array:
    """A canvas that is both: the picture is how loud the sound may be, the sound is the picture's texture.

    Inside a bright shape, the sound's noise floor is drawn at `base` (still 70 to 100 dB below its peak) so
    that the picture has no holes; outside, a `ground` part of the sound goes on, much quieter.
    """
    base, ground = rng.uniform(0.3, 0.5), rng.uniform(0.06, 0.4)
    floor = min(float(np.quantile(sound[::4, ::4], 0.15)), 0.6)
    texture = np.clip((sound - floor) / (0.97 - floor), 0, 1)
    gain = ground + (1 - ground) * shape
    return (shape * base + (gain - shape * base) * texture).astype(np.float32)


class Canvases:
    """Draws training canvases from sprites and a store of spectrograms, all by one random generator."""

    def __init__(self, *, sprites: dict[str, Sprite], sounds: dict[str, Tensor], seed: int) -> None:
        """`sounds`: class -> (count, 256, 1024) uint8 spectrogram pictures."""
        self.sprites, self.sounds = sprites, sounds
        self.rng = np.random.default_rng(seed)

    def sound(self, name: str) -> Array:
        store = self.sounds[name]
        gray = store[int(self.rng.integers(len(store)))].numpy().astype(np.float32) / 255
        return np.roll(gray, int(self.rng.integers(gray.shape[1])), axis=1)

    def pure_picture(self) -> Canvas:
        name = draw(VISUAL_SHARES, self.rng)
        gray = picture(name, self.sprites, self.rng) * np.float32(self.rng.uniform(0.85, 1.0))
        return Canvas(gray, name, None)

    def pure_sound(self) -> Canvas:
        name = draw(AUDIO_SHARES, self.rng)
        return Canvas(self.sound(name), None, name)

    def both(self) -> Canvas:
        visual, audio = draw(VISUAL_SHARES, self.rng), draw(AUDIO_SHARES, self.rng)
        gray = product(picture(visual, self.sprites, self.rng), self.sound(audio), self.rng)
        return Canvas(gray, visual, audio)


def build_sounds(path: Path, *, counts: dict[str, int], seed: int = 0) -> dict[str, Tensor]:
    """The store of spectrograms, made once and kept in `path` (safetensors, uint8)."""
    from safetensors.torch import load_file, save_file

    if not path.exists():
        store = {
            name: torch.from_numpy((spectrograms(name, count, seed) * 255).round().astype(np.uint8))
            for name, count in counts.items()
        }
        save_file(store, path)
    return load_file(path)


COUNTS = {"pictures": 150, "sounds": 200, "products": 550}  # canvases in one shard


def build_shard(canvases: Canvases, encode: Callable[[Tensor], Tensor], path: Path) -> None:
    """Draw one shard of canvases, encode ((b, h, w) gray -> latents) and keep the latents in `path`.

    A shard appears whole or not at all, since training may be watching the folder.
    """
    from safetensors.torch import save_file

    makers = {"pictures": canvases.pure_picture, "sounds": canvases.pure_sound, "products": canvases.both}
    tensors: dict[str, Tensor] = {}
    for source, count in COUNTS.items():
        drawn: list[Canvas] = []
        latents: list[Tensor] = []
        for _ in range(0, count, 10):
            part = [makers[source]() for _ in range(10)]
            latents.append(encode(torch.from_numpy(np.stack([canvas.gray for canvas in part]))).half())
            drawn += part
        tensors[source] = torch.cat(latents)
        tensors[f"{source}.visual"] = _indices([canvas.visual for canvas in drawn], list(VISUAL))
        tensors[f"{source}.audio"] = _indices([canvas.audio for canvas in drawn], list(AUDIO))
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished)
    unfinished.rename(path)


def _indices(names: list[str | None], table: list[str]) -> Tensor:
    return torch.tensor([-1 if name is None else table.index(name) for name in names])
