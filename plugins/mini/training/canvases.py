"""Compose training canvases in batches on any device: pictures, spectrograms, and products of the two.

Shapes used here: b batch, n stored canvases, h w rows and columns of a canvas (256, 1024), gray in [0, 1], row 0 the
highest frequency.

Products are necessary because, during sampling, half of each expert's input is of the other modality. An expert trained
without such canvases moves them back to its modality, against the other expert. So both experts are trained on the same
sort of products, with captions of their modality only.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from its.audio.spectrogram import AUFFUSION
from its_plugins.mini.captions import CONCEPTS, Kind
from its_plugins.mini.training.sounds import clip

SORTS = ("pictures", "sounds", "products")


def spectrogram(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Synthesise a sound of class `name` and return its spectrogram (256, 1024), at the format's highest level."""
    waveform = torch.from_numpy(clip(name, rng))[None]
    gray = AUFFUSION.to_picture(AUFFUSION.log_mel(waveform))[0, 0].numpy()
    # Amplify until the brightest thousandth of pixels is at the top; digital silence stays unchanged.
    gain = rng.uniform(0.88, 1.0) - float(np.quantile(gray[::2, ::2], 0.999))
    loud = np.clip(gray + gain * np.minimum(gray / 0.15, 1), 0, 1)
    return (loud * 255).round().astype(np.uint8)


def product(shape: Tensor, sound: Tensor, floor: Tensor) -> Tensor:
    """Multiply pictures and spectrograms (b, ...). The picture limits the loudness, and the sound is its texture.

    Inside a bright shape the sound's noise floor is raised to `base` (still 70 to 100 dB below its peak), so that the
    picture has no holes. Outside, the sound continues at a level of `ground`.

    Args:
        shape: pictures.
        sound: spectrograms.
        floor: gray of the sounds' noise floors, (b,); see `floors`.
    """
    size = [len(shape), *[1] * (shape.ndim - 1)]
    base = torch.rand(size, device=shape.device) * 0.2 + 0.3
    ground = torch.rand(size, device=shape.device) * 0.34 + 0.06
    floor = floor.view(size)
    texture = ((sound - floor) / (0.97 - floor)).clamp(0, 1)
    gain = ground + (1 - ground) * shape
    return shape * base + (gain - shape * base) * texture


def floors(sounds: Tensor) -> Tensor:
    """Estimate the gray of the noise floor (n,), at most 0.6, of uint8 spectrograms (n, h, w)."""
    thinned = sounds[:, ::4, ::4].flatten(1)
    return torch.stack([row.float().quantile(0.15) for row in thinned]).clamp(max=153) / 255


class Canvases:
    """Pictures and spectrograms on one device, and random canvases composed of them."""

    def __init__(self, *, gray: dict[Kind, Tensor], names: dict[Kind, Tensor], shares: dict[Kind, Tensor]) -> None:
        """
        Args:
            gray: canvases of each kind, (n, h, w) uint8.
            names: class index of each canvas, by kind, (n,) int64.
            shares: relative frequency of each class, by kind, independent of its number of canvases.
        """
        self.gray, self.names, self.shares = gray, names, shares
        self._floors, self._weights = floors(gray["audio"]), {}
        for kind, rows in names.items():
            counts = torch.bincount(rows, minlength=len(shares[kind]))
            self._weights[kind] = cumulative((shares[kind] / counts.clamp(min=1))[rows])

    @classmethod
    def of(cls, stored: dict[str, dict[str, list[NDArray[np.uint8]]]], device: torch.device) -> Canvases:
        """Create from generated pictures ("visual") and spectrograms ("audio") by class."""
        gray, names, shares = {}, {}, {}
        for kind in CONCEPTS:
            classes = stored[kind]
            gray[kind] = torch.from_numpy(np.stack([row for rows in classes.values() for row in rows])).to(device)
            table = list(CONCEPTS[kind])
            counts = torch.tensor([len(rows) for rows in classes.values()])
            indices = torch.tensor([table.index(name) for name in classes])
            names[kind] = indices.repeat_interleave(counts).to(device)
            shares[kind] = torch.tensor([concept.share for concept in CONCEPTS[kind].values()], device=device)
        return cls(gray=gray, names=names, shares=shares)

    def draw(self, mix: Tensor, batch: int, size: int | None = None) -> tuple[Tensor, dict[Kind, Tensor]]:
        """Compose random canvases (b, h, w), or square crops of them.

        Args:
            mix: cumulative shares of `SORTS`; see the function `mix`.
            batch: number of canvases.
            size: side of the crops; None for full canvases.

        Returns:
            Gray, and class indices (b,) by kind, -1 for canvases without a picture or without a sound.
        """
        device, columns = self.gray["audio"].device, self.gray["audio"].shape[2]
        picture, sound = (pick(self._weights[kind], batch) for kind in ("visual", "audio"))
        window = self._window(batch, size)
        shape = self._cut("visual", picture, window) * (0.85 + 0.15 * torch.rand(batch, 1, 1, device=device))
        rolled = (window[1] + torch.randint(columns, (batch, 1), device=device)) % columns
        texture = self._cut("audio", sound, (window[0], rolled))
        sort = pick(mix, batch)
        alone, silent = (sort == SORTS.index("sounds")), (sort == SORTS.index("pictures"))
        gray = product(shape, texture, self._floors[sound])
        gray = torch.where(alone[:, None, None], texture, torch.where(silent[:, None, None], shape, gray))
        visual, audio = self.names["visual"][picture], self.names["audio"][sound]
        return gray, {"visual": visual.masked_fill(alone, -1), "audio": audio.masked_fill(silent, -1)}

    def _window(self, batch: int, size: int | None) -> tuple[Tensor, Tensor]:
        """Return the rows (b, r) and columns (b, c) of full canvases or of random crops."""
        indices = []
        for length in self.gray["audio"].shape[1:]:
            span, device = size or length, self.gray["audio"].device
            start = torch.randint(length - span + 1, (batch, 1), device=device)
            indices.append(start + torch.arange(span, device=device))
        return indices[0], indices[1]

    def _cut(self, kind: Kind, row: Tensor, window: tuple[Tensor, Tensor]) -> Tensor:
        rows, columns = window
        return self.gray[kind][row[:, None, None], rows[:, :, None], columns[:, None, :]].float() / 255


def mix(shares: dict[str, float], device: torch.device) -> Tensor:
    """Return cumulative shares of `SORTS`, for `Canvases.draw`."""
    return cumulative(torch.tensor([shares[sort] for sort in SORTS])).to(device)


def cumulative(weights: Tensor) -> Tensor:
    """Return the cumulative sum of weights, scaled to end at 1."""
    total = weights.double().cumsum(0)
    return (total / total[-1]).float()


def pick(running: Tensor, count: int) -> Tensor:
    """Draw `count` indices by cumulative weights, without the synchronisation of torch.multinomial."""
    indices = torch.searchsorted(running, torch.rand(count, device=running.device), right=True)
    return indices.clamp(max=len(running) - 1)
