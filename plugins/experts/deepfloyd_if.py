"""DeepFloyd IF, a cascade of pixel-space models: the paper's colorizer, and the picture's side of its SDS baseline."""

from __future__ import annotations

import warnings
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

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import T5EncoderModel, T5Tokenizer

UNET_CONFIG, SCHEDULE = "unet/config.json", "scheduler/scheduler_config.json"
MAX_TOKENS = 77
"""T5 reads more, but IF was trained with texts of this length."""

# One licence serves all of DeepFloyd's repositories, and is accepted on this page.
_LICENCE = Pin(licence_page="https://huggingface.co/DeepFloyd/IF-I-XL-v1.0")
pin({f"DeepFloyd/IF-{stage}-v1.0": _LICENCE for stage in ("I-M", "I-L", "I-XL", "II-M", "II-L")})


@register
class DeepFloydIF(PretrainedComponent, PixelExpert):
    """DeepFloyd IF, stage I (Stability AI, 2023): 64 x 64 pixels and other sizes, conditioned by T5.

    Equal to diffusers' `IFPipeline`. The repositories on the hub are gated: their licence has to be accepted first.

    Args:
        weights: a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned one.
        variant: such as `fp16`, for weights files that carry this word in their names; null takes full precision, or
            else what is there.
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
        self._seen: set[str] = set()

    def select(self, source: Source) -> Sequence[str]:
        """UNet, T5, tokenizer and noise schedule; nothing else of the folder is read."""
        unet = model_files(source, "unet", DIFFUSERS, variant=self.variant)
        text = model_files(source, "text_encoder", TRANSFORMERS, variant=self.variant)
        check_pixel_unet(source.json(UNET_CONFIG), where=f"{source.name}: unet", channels=3)
        if (kind := source.json(text.config).get("model_type", "t5")) != "t5":
            raise UserError(f"{source.name}: text_encoder is of type {kind}, expected t5, as DeepFloyd IF's")
        width, reads = source.json(text.config).get("d_model", 512), source.json(UNET_CONFIG).get("encoder_hid_dim")
        if reads is not None and reads != width:
            raise UserError(f"{source.name}: text_encoder gives texts of width {width}, but the UNet reads {reads}")
        scheduler = source.require(SCHEDULE)
        check_epsilon(source.json(SCHEDULE), where=source.name)
        tokenizer = tokenizer_files(source, "tokenizer", vocabularies=("spiece.model", "tokenizer.json"))
        self._models = {"unet": unet, "text_encoder": text}
        return unet.names + text.names + scheduler + tokenizer

    def check_tensors(self) -> None:
        """Of UNet and T5 against their `config.json` files."""
        from diffusers import UNet2DConditionModel
        from transformers import T5EncoderModel

        check_shapes(UNet2DConditionModel, self.source, self._models["unet"])
        check_shapes(T5EncoderModel, self.source, self._models["text_encoder"])

    def read(self) -> None:
        """UNet, T5 and tokenizer."""
        from diffusers import UNet2DConditionModel
        from transformers import T5EncoderModel, T5Tokenizer

        self.unet = read_model(UNet2DConditionModel, self.folder, self._models["unet"], low_cpu_mem_usage=False)
        self.text_encoder = read_model(T5EncoderModel, self.folder, self._models["text_encoder"])
        self.tokenizer = read_tokenizer(T5Tokenizer, self.folder / "tokenizer")

    @property
    def multiple(self) -> int:
        """8 pixels: every block of the UNet but the last halves the picture."""
        return unet_multiple(self.source.json(UNET_CONFIG))

    def sampler(self) -> DDPMScheduler:
        """DDPM on the cosine schedule, with learned variance and dynamic thresholding."""
        return sampler_of(self.source.json(SCHEDULE))

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

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import deepfloyd_if as random_weights_if

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


def check_pixel_unet(config: Mapping[str, Any], *, where: str, channels: int) -> None:
    """Check that a UNet of diffusers reads pixels.

    Args:
        config: its `config.json`.
        where: the weights, for the message.
        channels: 3, or 6 where it also reads a smaller picture.

    Raises:
        UserError: it reads something else.
    """
    if (got := config.get("in_channels", 4)) != channels:
        raise UserError(f"{where} has {got} input channels, expected {channels}: a model of DeepFloyd IF's kind")


def check_epsilon(schedule: Mapping[str, Any], *, where: str) -> None:
    """Check by its `scheduler_config.json` that a model of pixels predicts the noise.

    Raises:
        UserError: it predicts something else, which its callers would take for noise.
    """
    if (prediction := schedule.get("prediction_type") or "epsilon") != "epsilon":
        raise UserError(f"{where}: prediction_type is {prediction}, expected epsilon: a model of DeepFloyd IF's kind")


def unet_multiple(config: Mapping[str, Any]) -> int:
    """Pixels that rows and columns must be multiples of, by the configuration of a UNet of diffusers."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def sampler_of(config: Mapping[str, Any]) -> DDPMScheduler:
    """The ancestral sampler that a `scheduler_config.json` describes."""
    from diffusers import DDPMScheduler

    sampler: DDPMScheduler = DDPMScheduler.from_config(dict(config))
    return sampler
