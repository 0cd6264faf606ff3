"""The embedded judge's network: one small classifier for pictures, another of the same shape for sounds.

Shapes used here: b batch, r columns, gray in [0, 1] (b, 128, r), row 0 the highest band, k classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from its_plugins.mini.captions import CONCEPTS, Kind

ROWS = 128
NONE = "none"
"""The class of canvases that hold no picture, or no sound, that the pack knows."""

CLASSES: dict[Kind, list[str]] = {kind: [*CONCEPTS[kind], NONE] for kind in CONCEPTS}
FILES: dict[Kind, str] = {"visual": "judge/picture.safetensors", "audio": "judge/sound.safetensors"}


class Classifier(nn.Module):
    """Five convolutions and a linear layer that sees rows apart, since pitch matters, and columns as one."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (24, 48, 96, 128, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        strides = (2, 2, 2, 2, 1)
        for before, after, stride in zip((1, *widths), widths, strides, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(widths[-1] * ROWS // 16, classes)

    def forward(self, gray: Tensor) -> Tensor:
        """(b, 128, r) -> logits (b, k)."""
        seen = self.features(rearrange(gray * 2 - 1, "b h r -> b 1 h r"))
        logits: Tensor = self.head(self.drop(rearrange(seen.mean(3), "b c h -> b (c h)")))
        return logits


def shrink(gray: Tensor) -> Tensor:
    """(b, h, w) canvas -> (b, 128, r): what the network sees, a column for each four of a canvas of 256 rows."""
    rows, columns = gray.shape[1:]
    size = ROWS, max(16, round(columns * ROWS / 2 / rows))
    return nn.functional.interpolate(gray[:, None], size, mode="area")[:, 0]


def loud(gray: Tensor, top: float = 0.94) -> Tensor:
    """(b, h, w) gray spectrograms, amplified until the brightest thousandth is at `top`; silence stays silent."""
    pixels = gray[:, ::2, ::2].flatten(1)
    brightest = pixels.topk(max(1, pixels.shape[1] // 1000)).values[:, -1, None, None]
    return (gray + (top - brightest) * (gray / 0.15).clamp(max=1)).clamp(0, 1)


def load(kind: Kind, folder: Path) -> Classifier:
    """The trained classifier of a kind, in float32, from the pack's folder."""
    from safetensors.torch import load_file

    tensors = load_file(folder / FILES[kind])
    model = Classifier(len(CLASSES[kind]))
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    )
    return model.eval().requires_grad_(False)


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Those that are numbers in another precision; counts stay counts."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
