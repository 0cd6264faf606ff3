"""DeepFloyd IF, a cascade of pixel-space models: the paper's colorizer and the visual expert of its SDS baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from its.errors import UserError
from its.registry import register
from its.weights import Pin, PretrainedComponent, Source, pin
from its.weights.model_files import DIFFUSERS, TRANSFORMERS, ModelFiles, model_files, tokenizer_files
from its.weights.models import check_shapes, read_model, read_tokenizer
from its_plugins.experts.pixel_expert import PixelExpert
from its_plugins.experts.prompt_warnings import warn_if_truncated

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import T5EncoderModel, T5Tokenizer

UNET_CONFIG, SCHEDULE = "unet/config.json", "scheduler/scheduler_config.json"
MAX_TOKENS = 77
"""Text length in IF's training. T5 supports longer texts."""

# One licence covers all of DeepFloyd's repositories, and is accepted on this page.
_LICENCE = Pin(licence_page="https://huggingface.co/DeepFloyd/IF-I-XL-v1.0")
pin({f"DeepFloyd/IF-{stage}-v1.0": _LICENCE for stage in ("I-M", "I-L", "I-XL", "II-M", "II-L")})


@register
class DeepFloydIF(PretrainedComponent, PixelExpert):
    """DeepFloyd IF, stage I (Stability AI, 2023): 64 x 64 pixels and other sizes, conditioned by T5.

    Equals diffusers' `IFPipeline`. The hub repositories are gated: accept their licence first.

    Args:
        weights: a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
    """

    non_identity_args = ("variant",)

    unet: UNet2DConditionModel
    text_encoder: T5EncoderModel
    tokenizer: T5Tokenizer

    def __init__(
        self, *, weights: str = "DeepFloyd/IF-I-M-v1.0", revision: str | None = None, variant: str | None = "fp16"
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        self.variant = variant
        self._models: dict[str, ModelFiles] = {}
        self._checked_prompts: set[str] = set()

    def select(self, source: Source) -> Sequence[str]:
        """Select UNet, T5, tokenizer and noise schedule."""
        unet = model_files(source, "unet", DIFFUSERS, variant=self.variant)
        text = model_files(source, "text_encoder", TRANSFORMERS, variant=self.variant)
        unet_config, text_config = source.json(UNET_CONFIG), source.json(text.config)
        check_value(unet_config, "in_channels", 3, default=4, where=f"{source.name}: unet")
        check_value(text_config, "model_type", "t5", default="t5", where=f"{source.name}: text_encoder")
        width, expected = text_config.get("d_model", 512), unet_config.get("encoder_hid_dim")
        if expected not in (None, width):
            raise UserError(f"{source.name}: text_encoder has width {width}, but the UNet expects {expected}")
        schedule = source.require(SCHEDULE)
        check_value(source.json(SCHEDULE), "prediction_type", "epsilon", default="epsilon", where=source.name)
        tokenizer = tokenizer_files(source, "tokenizer", vocabularies=("spiece.model", "tokenizer.json"))
        self._models = {"unet": unet, "text_encoder": text}
        return unet.names + text.names + schedule + tokenizer

    def check_tensors(self) -> None:
        from diffusers import UNet2DConditionModel
        from transformers import T5EncoderModel

        check_shapes(UNet2DConditionModel, self.source, self._models["unet"])
        check_shapes(T5EncoderModel, self.source, self._models["text_encoder"])

    def read(self) -> None:
        from diffusers import UNet2DConditionModel
        from transformers import T5EncoderModel, T5Tokenizer

        self.unet = read_model(UNet2DConditionModel, self.folder, self._models["unet"], low_cpu_mem_usage=False)
        self.text_encoder = read_model(T5EncoderModel, self.folder, self._models["text_encoder"])
        self.tokenizer = read_tokenizer(T5Tokenizer, self.folder / "tokenizer")

    @property
    def multiple(self) -> int:
        return size_multiple(self.source.json(UNET_CONFIG))

    def sampler(self) -> DDPMScheduler:
        return make_sampler(self.source.json(SCHEDULE))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Return T5's hidden states (b, 77, c), with c = 4096. Padding is masked in T5, but not in the UNet."""
        texts = [prompt.lower().strip() for prompt in prompts]  # as in training
        for text in texts:
            if text not in self._checked_prompts:
                self._checked_prompts.add(text)
                warn_if_truncated(text, tokenizer=self.tokenizer, max_tokens=MAX_TOKENS, model=self.weights)
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).to(self.text_encoder.device)
        return self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]

    def predict(self, pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Estimate noise and learned variance (b, 6, h, w) of noisy pictures (b, 3, h, w), in their dtype."""
        dtype = self.unet.conv_in.weight.dtype
        output: Tensor = self.unet(pixels.to(dtype), timestep, text.to(dtype), return_dict=False)[0]
        return output.to(pixels.dtype)

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import deepfloyd_if

        return cls(weights=str(deepfloyd_if.deepfloyd_if(folder)), variant=None)


def check_value(config: Mapping[str, Any], key: str, expected: Any, *, default: Any, where: str) -> None:
    """Check a value of a configuration.

    Raises:
        UserError: the value, or the default if it is missing, is not the expected one.
    """
    if (value := config.get(key) or default) != expected:
        raise UserError(f"{where}: {key} is {value}, expected {expected}; use a model of DeepFloyd IF's architecture")


def size_multiple(config: Mapping[str, Any]) -> int:
    """Return the factor of a UNet's `config.json` of which rows and columns must be multiples."""
    return int(2 ** (len(config["block_out_channels"]) - 1))  # all blocks but the last halve the resolution


def make_sampler(config: Mapping[str, Any]) -> DDPMScheduler:
    """Create the ancestral sampler of a `scheduler_config.json`."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(dict(config))
