"""Stable Diffusion v1 and models of its architecture: the paper's visual expert, and the base of its audio expert."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from its.errors import UserError
from its.interfaces import LatentCodec, NoiseExpert
from its.registry import register
from its.weights import Download, Pin, PretrainedComponent, Source, pin
from its.weights.files import tensors_of
from its.weights.model_files import DIFFUSERS, TRANSFORMERS, ModelFiles, log_variant, model_files, tokenizer_files
from its.weights.models import check_shapes, for_inference, read_model, read_tokenizer
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.experts import single_file
from its_plugins.experts import stable_diffusion_configs as configs
from its_plugins.experts.attention_backend import Attention
from its_plugins.experts.cached_conditioning_unet import CachedConditioningUNet, Residuals
from its_plugins.experts.lora_file import fuse_files, parse_loras
from its_plugins.experts.noise_schedule import ToEpsilon, read_schedule
from its_plugins.experts.original_layout import PREFIXES
from its_plugins.experts.prompt_warnings import shorten, warn_if_truncated

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

RECOMPILE_LIMIT = 64

pin({"stable-diffusion-v1-5/stable-diffusion-v1-5": Pin(revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14")})


@register
class StableDiffusion(PretrainedComponent, NoiseExpert):
    """Stable Diffusion v1 (Rombach et al., arXiv 2112.10752), from a diffusers folder, a checkpoint file or the hub.

    Args:
        weights: `pack:NAME`, a diffusers folder, a checkpoint file (.safetensors, .ckpt), `owner/name` on the hub, or
            `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        unet_folder: subfolder of the UNet; some folders hold several UNets with one text encoder and VAE.
        channels_last: use the channels-last memory layout, which is often faster. Results differ by rounding.
        attention: attention kernel of torch; `auto` measures and uses the fastest. Results differ by rounding.
        lora: LoRA files to fuse, in order: `[{weights: FILE_OR_HUB_ID, scale: 0.8}]`.
    """

    non_identity_args = ("variant", "channels_last", "attention", "lora")
    reads_checkpoints = True
    capturable = True
    channels = 4
    """Input and output channels of the UNet."""

    unet: CachedConditioningUNet
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
        lora: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        self.variant = variant
        self.unet_folder = unet_folder
        self.channels_last = channels_last
        self.attention: Attention = attention
        self.loras = parse_loras(lora)
        self._lora_modules = nn.ModuleList(self.loras)  # submodules are found and downloaded with the expert
        self._configs: dict[str, dict[str, Any]] = {}
        self._models: dict[str, ModelFiles] = {}
        self._known_words: list[str] = []
        self._checked_prompts: set[str] = set()

    def select(self, source: Source) -> Sequence[str]:
        """Select a checkpoint file, or the UNet, text encoder and tokenizer of a folder."""
        if source.checkpoint is not None:
            return self._select_checkpoint(source)
        configs.refuse_adapter(source)
        unet = model_files(source, self.unet_folder, DIFFUSERS, variant=self.variant)
        text = model_files(source, "text_encoder", TRANSFORMERS, variant=self.variant)
        self._models = {"unet": unet, "text_encoder": text}
        self._configs = {name: source.json(files.config) for name, files in self._models.items()}
        for part, name in (("scheduler", self.schedule_file), ("vae", "vae/config.json")):
            self._configs[part] = source.json(name) if source.has_optional(name) else {}
        self._check_configs(source.name)
        tokenizer = tokenizer_files(source, "tokenizer", vocabularies=("vocab.json", "tokenizer.json"))
        return unet.names + text.names + tokenizer

    def find(self) -> list[Download]:
        """Find the model and its LoRA files, and check that they are compatible."""
        downloads = super().find()
        for lora in self.loras:
            lora.check_against(unet_config=self._configs["unet"], text_config=self._configs["text_encoder"])
        for files in self._models.values():
            if files.variant != self.variant:
                log_variant(self.source.name, str(files.variant))
        return downloads

    def check_tensors(self) -> None:
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel

        if self._models:  # `select` checks a checkpoint file
            check_shapes(UNet2DConditionModel, self.source, self._models["unet"])
            check_shapes(CLIPTextModel, self.source, self._models["text_encoder"])

    def read(self) -> None:
        """Read the models and the tokenizer, fuse the LoRA files, and precompute the UNet's conditioning."""
        device = torch.get_default_device()
        unet, text_encoder = self._read_checkpoint() if self.source.checkpoint else self._read_folder()
        if self.loras:
            fuse_files(unet, text_encoder, self.loras)
        unet = for_inference(unet, device=device, channels_last=self.channels_last)
        self.text_encoder = for_inference(text_encoder, device=device)
        self.unet = CachedConditioningUNet(unet, timesteps=len(self.alphas()), attention=self.attention)

    @property
    def unet_config(self) -> dict[str, Any]:
        """Configuration of the UNet. Valid after `find`."""
        self._valid()
        return self._configs["unet"]

    @property
    def schedule_file(self) -> str:
        """Name of the file with the noise schedule and the prediction type."""
        return "scheduler/scheduler_config.json"

    @property
    def latent_space(self) -> str:
        """Latent space of the autoencoder in the same folder; without one, that of Stable Diffusion v1."""
        self._valid()
        return configs.latent_space(self._configs["vae"] or configs.STABLE_DIFFUSION_VAE)

    def alphas(self) -> Tensor:
        self._valid()
        return self.to_epsilon.alphas

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Return the keys and values of all cross-attentions, (b, 77, c)."""
        return self.unet.keys_and_values(self.hidden_states(prompts))

    def hidden_states(self, prompts: Sequence[str]) -> Tensor:
        """Return the text encoder's hidden states after its final norm, (b, 77, 768). Padding is not masked."""
        # A tokenizer that was saved without its length has no limit, unlike the text encoder's positions.
        length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        for prompt in prompts:
            if prompt not in self._checked_prompts:
                self._checked_prompts.add(prompt)
                warn_if_truncated(prompt, tokenizer=self.tokenizer, max_tokens=length, model=self.weights)
                self._warn_if_unknown(prompt)
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]

    def predict_noise(
        self, latents: Tensor, timestep: Tensor, text: Tensor, residuals: Residuals | None = None
    ) -> Tensor:
        """Estimate the noise in latents (b, 4, h, w), in their dtype, from timestep (b,) and text (b, 77, c).

        `residuals` are the additions of control nets.
        """
        dtype = self.unet.dtype
        output: Tensor = self.unet(latents.to(dtype), timestep, text.to(dtype), residuals)
        return self.to_epsilon(output.to(latents.dtype), latents, timestep)

    def compile_network(self) -> bool:
        """Compile the inner UNet. Experts of the same architecture share one compilation."""
        import torch._dynamo.config as dynamo

        # Each batch size is compiled separately, for all UNets together. Above the limit, torch runs uncompiled.
        dynamo.recompile_limit = max(dynamo.recompile_limit, RECOMPILE_LIMIT)
        self.unet.unet.compile(dynamic=False)
        return True

    def codec(self) -> LatentCodec:
        return AutoencoderKLCodec(
            weights=self.weights, revision=self.revision, variant=self.variant, channels_last=self.channels_last
        )

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the weights, with LoRA files and any prediction type other than epsilon."""
        record = super().provenance()
        if self.to_epsilon.prediction != "epsilon":
            record["prediction_type"] = self.to_epsilon.prediction
        if self.loras:
            record["lora"] = [lora.provenance() for lora in self.loras]
        return record

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import stable_diffusion

        return cls(weights=str(stable_diffusion.stable_diffusion(folder)))

    def _check_configs(self, name: str) -> None:
        unet, text, vae = (self._configs[part] for part in ("unet", "text_encoder", "vae"))
        configs.check_unet(unet, where=f"{name}: {self.unet_folder}", channels=self.channels)
        configs.check_text_encoder(text, unet, where=f"{name}: text_encoder")
        if vae:
            configs.check_vae(vae, where=f"{name}: vae", channels=self.channels)
        self.to_epsilon = ToEpsilon(*read_schedule(self._configs["scheduler"], where=name))

    def _select_checkpoint(self, source: Source) -> Sequence[str]:
        file = source.require(str(source.checkpoint))
        self._models = {}
        shapes = source.shapes(file[0])
        if shapes is not None:  # None: a pickle on the hub, whose shapes are unknown before its download
            single_file.check(shapes, part="unet", where=source.name)
            single_file.check(shapes, part="text_encoder", where=source.name)
        self._configs = {part: single_file.read_config(part) for part in PREFIXES}
        self._configs["scheduler"] = single_file.scheduler_config(shapes or {})
        self._check_configs(source.name)
        return file

    def _read_folder(self) -> tuple[Any, Any]:
        """Read UNet and text encoder, and set the tokenizer."""
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        unet = read_model(UNet2DConditionModel, self.folder, self._models["unet"], low_cpu_mem_usage=False)
        text_encoder = read_model(CLIPTextModel, self.folder, self._models["text_encoder"])
        self.tokenizer = read_tokenizer(CLIPTokenizer, self.folder / "tokenizer")
        if (words := f"{self.unet_folder}/known_words.json") in self.source:
            self._known_words = json.loads(self.source.path(words).read_text(encoding="utf-8"))
        return unet, text_encoder

    def _read_checkpoint(self) -> tuple[Any, Any]:
        """Read UNet and text encoder, and set the tokenizer."""
        file = self.folder / self.files[0]
        tensors = tensors_of(file)
        if single_file.scheduler_config(tensors) != self._configs["scheduler"]:  # unknown for pickles until now
            raise UserError(
                f"{self.weights} has another prediction type or noise schedule than Stable Diffusion v1.5, which was "
                "unknown before its download; run the same command again"
            )
        self.tokenizer = single_file.tokenizer()
        unet = single_file.read(tensors, "unet", where=str(file))
        return unet, single_file.read(tensors, "text_encoder", where=str(file))

    def _warn_if_unknown(self, prompt: str) -> None:
        words = set(re.findall(r"\w+", prompt.lower()))
        if self._known_words and words and words.isdisjoint(self._known_words):
            warnings.warn(
                f"{self.weights} was not trained on any word of the prompt {shorten(prompt)}. "
                f"Use other words, for example {', '.join(self._known_words[:12])}",
                stacklevel=3,
            )
