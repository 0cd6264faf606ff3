"""DeepFloyd IF, a cascade of pixel-space models: the paper's colorizer, and the picture's side of its SDS baseline."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from its.registry import register
from its.weights import Located, locate
from its_plugins.pipeline_folder import (
    DIFFUSERS_STEM,
    TRANSFORMERS_STEM,
    locate_model,
    read_config,
    read_model,
    read_tokenizer,
)
from its_plugins.pixel_expert import PixelExpert

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import T5EncoderModel, T5Tokenizer

MAX_TOKENS = 77
"""T5 reads more, but IF was trained with texts of this length."""


@register
class DeepFloydIF(PixelExpert):
    """DeepFloyd IF, stage I (Stability AI, 2023): 64 x 64 pixels and other sizes, told by T5 what to draw.

    Equal to diffusers' `IFPipeline`. The repositories on the hub want their licence accepted first.

    Args:
        weights: a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: such as `fp16`, for weights files that carry this word in their names.
    """

    unet: UNet2DConditionModel
    text_encoder: T5EncoderModel
    tokenizer: T5Tokenizer

    def __init__(
        self,
        *,
        weights: str = "DeepFloyd/IF-I-M-v1.0",
        revision: str | None = None,
        variant: str | None = "fp16",
    ) -> None:
        super().__init__()
        self.weights = weights
        self.revision = revision
        self.variant = variant
        self._located: Located | None = None
        self._seen: set[str] = set()
        self._loaded = False

    def prepare(self) -> None:
        """Find UNet, T5, tokenizer and noise schedule; nothing else of the folder is downloaded."""
        if self._located is not None:
            return
        where: dict[str, Any] = {"revision": self.revision, "variant": self.variant}
        unet = locate_model(self.weights, "unet", stem=DIFFUSERS_STEM, **where)
        text = locate_model(self.weights, "text_encoder", stem=TRANSFORMERS_STEM, **where)
        small = ["scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "tokenizer/*"]
        others = locate(self.weights, files=small, revision=self.revision)
        self._located = replace(unet, files=unet.files + text.files + others.files)

    def load(self) -> None:
        """Read the weights, once."""
        if self._loaded:
            return
        from diffusers import UNet2DConditionModel
        from transformers import T5EncoderModel, T5Tokenizer

        self.unet = read_model(
            UNet2DConditionModel, self.located, "unet", variant=self.variant, low_cpu_mem_usage=False
        )
        self.text_encoder = read_model(T5EncoderModel, self.located, "text_encoder", variant=self.variant)
        self.tokenizer = read_tokenizer(T5Tokenizer, self.located)
        self._loaded = True

    @property
    def located(self) -> Located:
        """Where the weights are.

        Raises:
            RuntimeError: `prepare` was not called yet.
        """
        if self._located is None:
            raise RuntimeError(f"{type(self).__name__}: call prepare() first, which finds {self.weights}")
        return self._located

    @property
    def multiple(self) -> int:
        """8 pixels: every block of the UNet but the last halves the picture."""
        return unet_multiple(self.located, "unet")

    def sampler(self) -> DDPMScheduler:
        """DDPM on the cosine schedule, with learned variance and dynamic thresholding."""
        return read_sampler(self.located)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """b prompts -> (b, 77, c), T5's hidden states; c is 4096. T5 does not look at the padding, the UNet does."""
        texts = [prompt.lower().strip() for prompt in prompts]  # as in training
        for text in texts:
            if text not in self._seen:
                self._seen.add(text)
                self._warn_if_cut(text)
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        )
        device = self.text_encoder.device
        states: Tensor = self.text_encoder(
            tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device)
        )[0]
        return states

    def predict(self, pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Noisy picture (b, 3, h, w) -> noise and learned variance (b, 6, h, w), in the picture's dtype."""
        dtype = self.unet.conv_in.weight.dtype
        output: Tensor = self.unet(pixels.to(dtype), timestep, text.to(dtype), return_dict=False)[0]
        return output.to(pixels.dtype)

    def provenance(self) -> dict[str, Any]:
        """Name, and revision or sha256, of what is read."""
        return self.located.provenance()

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins import random_weights_if

        return cls(weights=str(random_weights_if.deepfloyd_if(folder)), variant=None)

    def _warn_if_cut(self, text: str) -> None:
        tokens = self.tokenizer(text, verbose=False).input_ids
        if len(tokens) > MAX_TOKENS:
            lost = self.tokenizer.decode(tokens[MAX_TOKENS - 1 : -1])  # one place goes to the end token
            warnings.warn(
                f"the prompt {text[:80]!r} has {len(tokens)} tokens, but {self.weights} reads {MAX_TOKENS}: "
                f"its end was cut: {lost[:80]!r}",
                stacklevel=3,
            )


def unet_multiple(located: Located, component: str) -> int:
    """What the rows and columns that a UNet of diffusers gets must be multiples of."""
    config = read_config(located.folder / component / "config.json")
    return int(2 ** (len(config["block_out_channels"]) - 1))


def read_sampler(located: Located, component: str = "scheduler") -> DDPMScheduler:
    """The ancestral sampler that a pipeline folder describes."""
    from diffusers import DDPMScheduler

    sampler: DDPMScheduler = DDPMScheduler.from_config(
        read_config(located.folder / component / "scheduler_config.json")
    )
    return sampler
