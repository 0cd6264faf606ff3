"""CLIP score (Hessel et al., arXiv 2104.08718) of the picture, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.functional import normalize

from its.interfaces import ScorerInput
from its.registry import register
from its.weights import Pin, pin
from its_plugins.scorers.dual_encoder import DualEncoder

# At this commit the repository has only pickled tensors; its conversion to safetensors is on an unmerged branch.
pin({"openai/clip-vit-base-patch16": Pin(revision="57c216476eefef5ab752ec549e440a49ae4ae5f3")})


@register
class CLIPScorer(DualEncoder):
    """CLIP score: cosine similarity of picture and prompt, averaged over square crops, at least 0.

    Crops are as large as the picture's shorter side and an eighth of it apart: 256 x 256 at stride 32 for the paper's
    pictures. They are rounded to 8 bits, while the authors' program truncates; for a PNG both are equal.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        batch_size: crops per forward pass of the network.
    """

    modality: Literal["visual"] = "visual"
    model_type = "clip"

    def __init__(
        self, *, weights: str = "openai/clip-vit-base-patch16", revision: str | None = None, batch_size: int = 64
    ) -> None:
        super().__init__(weights=weights, revision=revision, batch_size=batch_size)

    def model_classes(self) -> tuple[Any, Any]:
        from transformers import CLIPImageProcessorPil, CLIPModel

        return CLIPModel, CLIPImageProcessorPil

    def inputs(self, sample: ScorerInput) -> list[Tensor]:
        return list(square_crops(sample.picture))

    def embed(self, inputs: Sequence[Tensor]) -> Tensor:
        pictures = [repeat(crop, "h w -> h w 3").numpy() for crop in inputs]
        pixels = self._preprocessor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        return normalize(self.model.get_image_features(pixels).pooler_output, dim=-1)

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import dual_encoders

        return cls(weights=str(dual_encoders.clip(folder)), batch_size=4)


def square_crops(picture: Tensor) -> Tensor:
    """Crop a picture (h, w) in [0, 1] along its longer side to (b, s, s) uint8, s the shorter side, at stride s / 8."""
    pixels = (picture * 255).round().to(torch.uint8)
    side = min(pixels.shape)
    stride = max(side // 8, 1)
    if pixels.shape[1] > side:
        return rearrange(pixels.unfold(1, side, stride), "h b w -> b h w")
    return rearrange(pixels.unfold(0, side, stride), "b w h -> b h w")
