"""Stable Diffusion v1 and models of its shape: the paper's visual expert, and the base of its audio one."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from its.errors import UserError
from its.interfaces import LatentCodec, NoiseExpert
from its.registry import register
from its.weights import Located, WeightsNotFound, locate
from its_plugins.attention_backend import Attention
from its_plugins.autoencoder_kl import AutoencoderKLCodec
from its_plugins.lean_unet import LeanUNet
from its_plugins.pipeline_folder import DIFFUSERS_STEM, TRANSFORMERS_STEM, locate_model, read_model

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

RECOMPILE_LIMIT = 64


@register
class StableDiffusion(NoiseExpert):
    """Stable Diffusion v1 (Rombach et al., arXiv 2112.10752), from a diffusers folder or the hub.

    Args:
        weights: `pack:NAME`, a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: such as `fp16`, for weights files that carry this word in their names.
        unet_folder: where the UNet is; some folders keep several beside one text encoder and one VAE.
        channels_last: another layout in memory, often faster; results differ by rounding.
        attention: which of torch's kernels; `auto` takes the fastest of a few runs. Results differ by rounding.
    """

    unet: LeanUNet
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer

    def __init__(
        self,
        *,
        weights: str = "stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision: str | None = None,
        variant: str | None = None,
        unet_folder: str = "unet",
        channels_last: bool = False,
        attention: Attention = "default",
    ) -> None:
        super().__init__()
        self.weights = weights
        self.revision = revision
        self.variant = variant
        self.unet_folder = unet_folder
        self.channels_last = channels_last
        self.attention: Attention = attention
        self._located: Located | None = None
        self._known_words: list[str] = []
        self._seen: set[str] = set()
        self._loaded = False

    @property
    def latent_space(self) -> str:
        """Stable Diffusion v1's, shared by all models that were tuned from it."""
        return "stable-diffusion-v1"

    def prepare(self) -> None:
        """Find UNet, text encoder and tokenizer; nothing else of the folder is downloaded."""
        if self._located is not None:
            return
        where: dict[str, Any] = {"revision": self.revision, "variant": self.variant}
        unet = locate_model(self.weights, self.unet_folder, stem=DIFFUSERS_STEM, **where)
        text = locate_model(self.weights, "text_encoder", stem=TRANSFORMERS_STEM, **where)
        tokenizer = locate(
            self.weights, files=["tokenizer/tokenizer_config.json", "tokenizer/*"], revision=self.revision
        )
        if not {"tokenizer/tokenizer.json", "tokenizer/vocab.json"} & set(tokenizer.files):
            raise WeightsNotFound(f"{self.weights} lacks tokenizer/vocab.json and tokenizer/merges.txt")
        self._located = replace(unet, files=unet.files + text.files + tokenizer.files)

    def load(self) -> None:
        """Read the weights, once."""
        if self._loaded:
            return
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        folder = self.located.folder
        unet = read_model(
            UNet2DConditionModel,
            self.located,
            self.unet_folder,
            variant=self.variant,
            channels_last=self.channels_last,
            low_cpu_mem_usage=False,
        )
        try:
            self.unet = LeanUNet(unet, attention=self.attention)
        except ValueError as error:
            raise UserError(f"{self.weights}: {self.unet_folder} is no UNet of Stable Diffusion v1: {error}") from None
        self.text_encoder = read_model(CLIPTextModel, self.located, "text_encoder", variant=self.variant)
        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        if (words := folder / self.unet_folder / "known_words.json").is_file():
            self._known_words = json.loads(words.read_text())
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

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """b prompts -> (b, 77, c), what cross-attention asks of their hidden states: keys and values."""
        return self.unet.keys_and_values(self.hidden_states(prompts))

    def hidden_states(self, prompts: Sequence[str]) -> Tensor:
        """b prompts -> (b, 77, 768), after the text encoder's final norm; padding is not masked."""
        for prompt in prompts:
            if prompt not in self._seen:
                self._seen.add(prompt)
                self._warn_if_cut(prompt)
                self._warn_if_unknown(prompt)
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self._max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        states: Tensor = self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]
        return states

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Noisy latents (b, 4, h, w), timestep (b,), text (b, 77, c) -> noise, in the latents' dtype."""
        dtype = self.unet.dtype
        noise: Tensor = self.unet(latents.to(dtype), timestep, text.to(dtype))
        return noise.to(latents.dtype)

    def compile_network(self) -> bool:
        """Compile the inner UNet; two experts of one layout share one compilation."""
        import torch._dynamo.config as dynamo

        # Each batch size is a compilation, of code that all UNets share; beyond the limit torch goes on uncompiled.
        dynamo.recompile_limit = max(dynamo.recompile_limit, RECOMPILE_LIMIT)
        self.unet.unet.compile(dynamic=False)
        return True

    def codec(self) -> LatentCodec:
        """The autoencoder beside the UNet, not yet prepared."""
        return AutoencoderKLCodec(
            weights=self.weights, revision=self.revision, variant=self.variant, channels_last=self.channels_last
        )

    def provenance(self) -> dict[str, Any]:
        """Name, and revision or sha256, of what is read."""
        return self.located.provenance()

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins import random_weights

        return cls(weights=str(random_weights.stable_diffusion(folder)))

    @property
    def _max_tokens(self) -> int:
        # A tokenizer saved without its length claims to have no limit; the text encoder's positions are one.
        limit: int = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        return limit

    def _warn_if_cut(self, prompt: str) -> None:
        tokens = self.tokenizer(prompt, verbose=False).input_ids
        if len(tokens) > self._max_tokens:
            lost = self.tokenizer.decode(tokens[self._max_tokens - 1 : -1])  # one place goes to the end token
            warnings.warn(
                f"the prompt {_short(prompt)} has {len(tokens)} tokens, but {self.weights} reads "
                f"{self._max_tokens}: its end was cut: {_short(lost)}",
                stacklevel=3,
            )

    def _warn_if_unknown(self, prompt: str) -> None:
        words = set(re.findall(r"\w+", prompt.lower()))
        if self._known_words and words and words.isdisjoint(self._known_words):
            warnings.warn(
                f"{self.weights} knows no word of the prompt {_short(prompt)}, so expect nothing of it. "
                f"It knows words such as {', '.join(self._known_words[:12])}",
                stacklevel=3,
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
