"""CLIP score (Hessel et al., arXiv 2104.08718) of the image that sounds, as the paper has it."""

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

# Of this commit the repository has pickled tensors alone; its conversion to safetensors is on an unmerged branch.
pin({"openai/clip-vit-base-patch16": Pin(revision="57c216476eefef5ab752ec549e440a49ae4ae5f3")})


@register
class CLIPScorer(DualEncoder):
    """CLIP: cosine of picture and prompt, mean over square crops, not below 0.

    The crops of a wide picture are as high as it is, an eighth of that apart: 256 x 256 at stride 32 in the paper's
    case. They are rounded to 8 bit, which the authors' program truncates to; of a PNG of ours both are the same.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned one.
        batch_size: crops that the network gets at once.
    """

    model_type = "clip"

    def __init__(
        self,
        *,
        weights: str = "openai/clip-vit-base-patch16",
        revision: str | None = None,
        batch_size: int = 64,
    ) -> None:
        super().__init__(weights=weights, revision=revision, batch_size=batch_size)

    @property
    def modality(self) -> Literal["visual"]:
        """The picture."""
        return "visual"

    @property
    def max_tokens(self) -> int:
        limit: int = self.model.config.text_config.max_position_embeddings
        return limit

    def libraries(self) -> tuple[Any, Any]:
        from transformers import CLIPImageProcessorPil, CLIPModel

        return CLIPModel, CLIPImageProcessorPil

    def score(self, samples: Sequence[ScorerInput]) -> list[float | None]:
        """(mean over crops of cos(crop, prompt)), floored at 0."""
        crops = [crops_of(sample.picture) for sample in samples]
        if not crops:
            return []
        together = torch.cat([self._embed(part) for part in _in_parts(crops, self.batch_size)])
        embedded = torch.split(together, [len(some) for some in crops])
        cosines = [(one @ self.embed_text(sample.prompt)).mean() for one, sample in zip(embedded, samples, strict=True)]
        return [max(float(value), 0.0) for value in cosines]

    def _embed(self, crops: Sequence[Tensor]) -> Tensor:
        """(h, w) uint8 each -> (b, c), normalised."""
        pictures = [repeat(crop, "h w -> h w 3").numpy() for crop in crops]
        pixels = self._preprocessor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        return normalize(self.model.get_image_features(pixels).pooler_output, dim=-1)

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import dual_encoders as random_towers

        return cls(weights=str(random_towers.clip(folder)), batch_size=4)


def crops_of(picture: Tensor) -> Tensor:
    """(h, w) in [0, 1] -> (b, s, s) uint8, s the shorter side, an eighth of it apart along the longer one."""
    pixels = (picture * 255).round().to(torch.uint8)
    side = min(pixels.shape)
    stride = max(side // 8, 1)
    if pixels.shape[1] > side:
        return rearrange(pixels.unfold(1, side, stride), "h b w -> b h w")
    return rearrange(pixels.unfold(0, side, stride), "b w h -> b h w")


def _in_parts(crops: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """The crops of all pictures, some at once, whatever their sizes."""
    flat = [crop for some in crops for crop in some]
    return [flat[first : first + size] for first in range(0, len(flat), size)]
