"""Network of the embedded judges: a small classifier for pictures, and another of the same architecture for sounds.

Shapes used here: b batch, r columns, gray (b, 128, r) in [0, 1], row 0 the highest frequency, k classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from its_plugins.mini.captions import CONCEPTS, Kind

ROWS = 128
NONE = "none"
"""Class of canvases without a picture (or sound) of any of the pack's classes."""

CLASSES: dict[Kind, list[str]] = {kind: [*CONCEPTS[kind], NONE] for kind in CONCEPTS}
FILES: dict[Kind, str] = {"visual": "judge/picture.safetensors", "audio": "judge/sound.safetensors"}


class Classifier(nn.Module):
    """Classifier with five convolutions, a mean over columns, and a linear layer over all rows, since pitch matters."""

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
        """Map canvases (b, 128, r) to logits (b, k)."""
        features = self.features(rearrange(gray * 2 - 1, "b h r -> b 1 h r"))
        logits: Tensor = self.head(self.drop(rearrange(features.mean(3), "b c h -> b (c h)")))
        return logits


def resize(gray: Tensor) -> Tensor:
    """Resize canvases (b, h, w) to the network's input (b, 128, r). With h = 256, r = w / 4."""
    rows, columns = gray.shape[1:]
    size = ROWS, max(16, round(columns * ROWS / 2 / rows))
    return nn.functional.interpolate(gray[:, None], size, mode="area")[:, 0]


def amplify(gray: Tensor, top: float = 0.94) -> Tensor:
    """Amplify spectrograms (b, h, w) until the brightest thousandth of pixels reaches `top`. Silence is unchanged."""
    pixels = gray[:, ::2, ::2].flatten(1)
    brightest = pixels.topk(max(1, pixels.shape[1] // 1000)).values[:, -1, None, None]
    return (gray + (top - brightest) * (gray / 0.15).clamp(max=1)).clamp(0, 1)


def load(kind: Kind, folder: Path) -> Classifier:
    """Load the trained classifier of a kind from the pack's folder, in float32."""
    from safetensors.torch import load_file

    model = Classifier(len(CLASSES[kind]))
    model.load_state_dict(cast(load_file(folder / FILES[kind]), torch.float32))
    return model.eval().requires_grad_(False)


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast floating-point tensors to `dtype`; integer tensors are unchanged."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
