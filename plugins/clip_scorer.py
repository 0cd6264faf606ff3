"""CLIP score (Hessel et al., arXiv 2104.08718) of the image that sounds, as the paper has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from einops import rearrange, repeat
from torch import Tensor

from its.interfaces import Judged, Scorer
from its.registry import register
from its.weights import Located
from its_plugins.two_towers import locate_towers, read_tokenizer, read_towers

if TYPE_CHECKING:
    from transformers import CLIPImageProcessorPil, CLIPModel


@register
class CLIPScorer(Scorer):
    """CLIP: cosine of picture and prompt, mean over square crops, not below 0.

    The crops of a wide picture are as high as it is, an eighth of that apart: 256 x 256 at stride 32 in the paper's
    case. They are rounded to 8 bit, which the authors' program truncates to; of a PNG of ours both are the same.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        batch_size: crops that are looked at together.
    """

    model: CLIPModel

    def __init__(
        self,
        *,
        weights: str = "openai/clip-vit-base-patch16",
        revision: str | None = "57c216476eefef5ab752ec549e440a49ae4ae5f3",
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        self.weights, self.revision, self.batch_size = weights, revision, batch_size
        self._located: Located | None = None
        self._processor: CLIPImageProcessorPil | None = None
        self._tokenizer: Any = None
        self._texts: dict[str, Tensor] = {}

    @property
    def judges(self) -> Literal["visual"]:
        """The picture."""
        return "visual"

    def prepare(self) -> None:
        """Find model, preprocessor and tokenizer."""
        if self._located is None:
            self._located = locate_towers(self.weights, self.revision)

    def load(self) -> None:
        """Read them, once."""
        if self._processor is not None:
            return
        if self._located is None:
            raise RuntimeError("call prepare() first")
        from transformers import CLIPImageProcessorPil, CLIPModel

        self.model = read_towers(CLIPModel, self._located)
        self._tokenizer = read_tokenizer(self._located)
        self._processor = CLIPImageProcessorPil.from_pretrained(str(self._located.folder), local_files_only=True)

    def provenance(self) -> dict[str, Any] | None:
        """Name, and commit or sha256."""
        return None if self._located is None else self._located.provenance()

    def score(self, samples: Sequence[Judged]) -> list[float | None]:
        """(mean over crops of cos(crop, prompt)), floored at 0."""
        crops = [crops_of(sample.picture) for sample in samples]
        if not crops:
            return []
        together = torch.cat([self._see(part) for part in _in_parts(crops, self.batch_size)])
        seen = torch.split(together, [len(some) for some in crops])
        cosines = [(one @ self._read(sample.prompt)).mean() for one, sample in zip(seen, samples, strict=True)]
        return [max(float(value), 0.0) for value in cosines]

    def _see(self, crops: Sequence[Tensor]) -> Tensor:
        """(h, w) uint8 each -> (b, c), normalised."""
        assert self._processor is not None
        pictures = [repeat(crop, "h w -> h w 3").numpy() for crop in crops]
        pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        return torch.nn.functional.normalize(self.model.get_image_features(pixels).pooler_output, dim=-1)

    def _read(self, prompt: str) -> Tensor:
        """(c,), normalised; read once."""
        if prompt not in self._texts:
            limit = self.model.config.text_config.max_position_embeddings
            tokens = self._tokenizer([prompt], truncation=True, max_length=limit, return_tensors="pt")
            features = self.model.get_text_features(
                input_ids=tokens.input_ids.to(self.model.device),
                attention_mask=tokens.attention_mask.to(self.model.device),
            ).pooler_output
            self._texts[prompt] = torch.nn.functional.normalize(features, dim=-1)[0]
        return self._texts[prompt]

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins import random_towers

        return cls(weights=str(random_towers.clip(folder)), revision=None, batch_size=4)


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
