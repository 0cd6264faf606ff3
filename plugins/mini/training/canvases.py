"""Training canvases: pictures, spectrograms, and products of the two, composed in batches on any device.

Shapes used here: b batch, n store, h w rows and columns of a canvas (256, 1024), gray in [0, 1], row 0 the highest.

Why products: an expert is asked, at sampling time, about canvases that are half the other modality's. One
that has never seen such a canvas pulls back to its own, and the two estimates fight. Both experts here see
the same products, each captioned by its own half only, so they agree about what a canvas may be.
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
    """A (256, 1024) spectrogram picture of sound class `name`, as loud as the format can draw."""
    waveform = torch.from_numpy(clip(name, rng))[None]
    gray = AUFFUSION.to_picture(AUFFUSION.log_mel(waveform))[0, 0].numpy()
    # Amplify until the brightest thousandth is at the top; digital silence stays where it is.
    gain = rng.uniform(0.88, 1.0) - float(np.quantile(gray[::2, ::2], 0.999))
    loud = np.clip(gray + gain * np.minimum(gray / 0.15, 1), 0, 1)
    return (loud * 255).round().astype(np.uint8)


def product(shape: Tensor, sound: Tensor, floor: Tensor) -> Tensor:
    """Canvases (b, ...) that are both: the picture is how loud the sound may be, the sound is the picture's texture.

    Inside a bright shape, the sound's noise floor is drawn at `base` (still 70 to 100 dB below its peak) so
    that the picture has no holes; outside, a `ground` part of the sound goes on, much quieter.

    Args:
        floor: gray of the sounds' noise floors, (b,); see `floors`.
    """
    one = [len(shape), *[1] * (shape.ndim - 1)]
    base = torch.rand(one, device=shape.device) * 0.2 + 0.3
    ground = torch.rand(one, device=shape.device) * 0.34 + 0.06
    floor = floor.view(one)
    texture = ((sound - floor) / (0.97 - floor)).clamp(0, 1)
    gain = ground + (1 - ground) * shape
    return shape * base + (gain - shape * base) * texture


def floors(sounds: Tensor) -> Tensor:
    """Gray of the noise floor of (n, h, w) uint8 spectrograms, at most 0.6: (n,) float32."""
    thinned = sounds[:, ::4, ::4].flatten(1)
    return torch.stack([row.float().quantile(0.15) for row in thinned]).clamp(max=153) / 255


class Canvases:
    """A store of pictures and of spectrograms on one device, and random canvases made of them."""

    def __init__(self, *, gray: dict[Kind, Tensor], names: dict[Kind, Tensor], shares: dict[Kind, Tensor]) -> None:
        """
        Args:
            gray: for each kind, (n, h, w) uint8.
            names: for each kind, the class index of each row, (n,) int64.
            shares: for each kind, the share of draws of each class, however many rows it has.
        """
        self.gray, self.names, self.shares = gray, names, shares
        self._floors, self._weights = floors(gray["audio"]), {}
        for kind, rows in names.items():
            counts = torch.bincount(rows, minlength=len(shares[kind]))
            self._weights[kind] = cumulative((shares[kind] / counts.clamp(min=1))[rows])

    @classmethod
    def of(cls, stored: dict[str, dict[str, list[NDArray[np.uint8]]]], device: torch.device) -> Canvases:
        """From drawn pictures ("visual") and spectrograms ("audio") by class."""
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
        """Random canvases (b, h, w), or square crops of `size`, and their class indices by kind.

        Args:
            mix: `cumulative` shares of `SORTS`.

        Returns:
            Gray and class indices (b,), which are -1 where a canvas has no picture or no sound.
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
        """Rows (b, r) and columns (b, c) of the whole canvas or of random crops."""
        found = []
        for length in self.gray["audio"].shape[1:]:
            span, device = size or length, self.gray["audio"].device
            start = torch.randint(length - span + 1, (batch, 1), device=device)
            found.append(start + torch.arange(span, device=device))
        return found[0], found[1]

    def _cut(self, kind: Kind, row: Tensor, window: tuple[Tensor, Tensor]) -> Tensor:
        rows, columns = window
        return self.gray[kind][row[:, None, None], rows[:, :, None], columns[:, None, :]].float() / 255


def mix(shares: dict[str, float], device: torch.device) -> Tensor:
    """Shares of `SORTS` as `Canvases.draw` takes them."""
    return cumulative(torch.tensor([shares[sort] for sort in SORTS])).to(device)


def cumulative(weights: Tensor) -> Tensor:
    """Weights -> their running sum from 0 to 1, for `pick`."""
    total = weights.double().cumsum(0)
    return (total / total[-1]).float()


def pick(running: Tensor, count: int) -> Tensor:
    """`count` indices drawn by weight. Unlike torch.multinomial it doesn't wait for the device."""
    drawn = torch.searchsorted(running, torch.rand(count, device=running.device), right=True)
    return drawn.clamp(max=len(running) - 1)
