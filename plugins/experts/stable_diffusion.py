"""Stable Diffusion v1 and models of its shape: the paper's visual expert, and the base of its audio one."""

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
from its.weights.files import read_json, tensors_of
from its.weights.model_files import DIFFUSERS, TRANSFORMERS, ModelFiles, model_files, say_variant, tokenizer_files
from its.weights.models import check_shapes, for_inference, read_model, read_tokenizer
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.experts import single_file
from its_plugins.experts import stable_diffusion_configs as configs
from its_plugins.experts.attention_backend import Attention
from its_plugins.experts.cached_conditioning_unet import CachedConditioningUNet
from its_plugins.experts.lora_file import fuse_files, lora_files
from its_plugins.experts.noise_schedule import ToEpsilon, read_schedule

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

RECOMPILE_LIMIT = 64
CHECKPOINT_PARTS = ("unet", "text_encoder", "vae")

pin({"stable-diffusion-v1-5/stable-diffusion-v1-5": Pin(revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14")})


@register
class StableDiffusion(PretrainedComponent, NoiseExpert):
    """Stable Diffusion v1 (Rombach et al., arXiv 2112.10752): from a diffusers folder, a checkpoint file, or the hub.

    Args:
        weights: `pack:NAME`, a diffusers folder, a checkpoint file (.safetensors, .ckpt), `owner/name` on the hub, or
            `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned one.
        variant: such as `fp16`, for weights files that carry this word in their names; null takes full precision, or
            else what is there.
        unet_folder: where the UNet is; some folders keep several beside one text encoder and one VAE.
        channels_last: another layout in memory, often faster; results differ by rounding.
        attention: which of torch's kernels; `auto` takes the fastest of a few runs. Results differ by rounding.
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
        self.loras = lora_files(lora)
        self._lora_parts = nn.ModuleList(self.loras)  # found and downloaded with the expert
        self._configs: dict[str, dict[str, Any]] = {}
        self._models: dict[str, ModelFiles] = {}
        self._known_words: list[str] = []
        self._seen: set[str] = set()

    def select(self, source: Source) -> Sequence[str]:
        """UNet, text encoder and tokenizer; nothing else of a folder is read."""
        if source.checkpoint is not None:
            return self._select_checkpoint(source)
        configs.refuse_adapter(source)
        unet = model_files(source, self.unet_folder, DIFFUSERS, variant=self.variant)
        text = model_files(source, "text_encoder", TRANSFORMERS, variant=self.variant)
        self._models = {"unet": unet, "text_encoder": text}
        self._configs = {name: source.json(files.config) for name, files in self._models.items()}
        for part, name in (("scheduler", self.schedule_file), ("vae", "vae/config.json")):
            self._configs[part] = source.json(name) if source.useful(name) else {}
        self._check_configs(source.name)
        tokenizer = tokenizer_files(source, "tokenizer", vocabularies=("vocab.json", "tokenizer.json"))
        return unet.names + text.names + tokenizer

    def find(self) -> list[Download]:
        """Find the model and its LoRA files, which are checked against it."""
        downloads = super().find()
        for lora in self.loras:
            lora.check_against(unet_config=self._configs["unet"], text_config=self._configs["text_encoder"])
        for files in self._models.values():
            if files.variant != self.variant:
                say_variant(self.source.name, str(files.variant))
        return downloads

    def check_tensors(self) -> None:
        """Of a folder against its `config.json` files; of a checkpoint file they were checked by `select`."""
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel

        if self._models:
            check_shapes(UNet2DConditionModel, self.source, self._models["unet"])
            check_shapes(CLIPTextModel, self.source, self._models["text_encoder"])

    def read(self) -> None:
        """UNet, text encoder and tokenizer; LoRA files are fused first, since the UNet is changed for speed then."""
        device = torch.get_default_device()
        unet, text_encoder = self._read_checkpoint() if self.source.checkpoint else self._read_folder()
        if self.loras:
            fuse_files(unet, text_encoder, self.loras)
        unet = for_inference(unet, device=device, channels_last=self.channels_last)
        self.text_encoder = for_inference(text_encoder, device=device)
        self.unet = CachedConditioningUNet(unet, timesteps=len(self.alphas()), attention=self.attention)

    @property
    def schedule_file(self) -> str:
        """File that states the noise schedule and the prediction type."""
        return "scheduler/scheduler_config.json"

    @property
    def latent_space(self) -> str:
        """By the configuration of the autoencoder beside the UNet; where there is none, Stable Diffusion v1's."""
        self._valid()
        return configs.latent_space(self._configs["vae"] or configs.STABLE_DIFFUSION_VAE)

    def alphas(self) -> Tensor:
        """(T,), as `scheduler/scheduler_config.json` states it."""
        self._valid()
        return self.to_epsilon.alphas

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """b prompts -> (b, 77, c): keys and values of all cross-attentions."""
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
        output: Tensor = self.unet(latents.to(dtype), timestep, text.to(dtype))
        return self.to_epsilon(output.to(latents.dtype), latents, timestep)

    def compile_network(self) -> bool:
        """Compile the inner UNet; two experts of one layout share one compilation."""
        import torch._dynamo.config as dynamo

        # Each batch size is a compilation, of code that all UNets share; beyond the limit torch goes on uncompiled.
        dynamo.recompile_limit = max(dynamo.recompile_limit, RECOMPILE_LIMIT)
        self.unet.unet.compile(dynamic=False)
        return True

    def codec(self) -> LatentCodec:
        """The autoencoder beside the UNet, not yet found."""
        return AutoencoderKLCodec(
            weights=self.weights, revision=self.revision, variant=self.variant, channels_last=self.channels_last
        )

    def provenance(self) -> dict[str, Any]:
        """As for all weights, and the LoRA files and a prediction type other than epsilon."""
        record = super().provenance()
        if self.to_epsilon.prediction != "epsilon":
            record["prediction_type"] = self.to_epsilon.prediction
        if self.loras:
            record["lora"] = [lora.provenance() for lora in self.loras]
        return record

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import stable_diffusion as random_weights

        return cls(weights=str(random_weights.stable_diffusion(folder)))

    def _check_configs(self, name: str) -> None:
        """Check what was found against each other, and against what this class can run."""
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
        if shapes is not None:  # else a pickle on the hub, which tells nothing before it is whole
            single_file.check(shapes, part="unet", where=source.name, configs=single_file.CONFIGS)
            single_file.check(shapes, part="text_encoder", where=source.name, configs=single_file.CONFIGS)
        self._configs = {part: read_json(single_file.CONFIGS / part / "config.json") for part in CHECKPOINT_PARTS}
        self._configs["scheduler"] = single_file.scheduler_config(shapes or {})
        self._check_configs(source.name)
        return file

    def _read_folder(self) -> tuple[Any, Any]:
        """UNet and text encoder on the CPU, and the tokenizer."""
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        unet = read_model(UNet2DConditionModel, self.folder, self._models["unet"], low_cpu_mem_usage=False)
        text_encoder = read_model(CLIPTextModel, self.folder, self._models["text_encoder"])
        self.tokenizer = read_tokenizer(CLIPTokenizer, self.folder / "tokenizer")
        if (words := f"{self.unet_folder}/known_words.json") in self.source:
            self._known_words = json.loads(self.source.path(words).read_text(encoding="utf-8"))
        return unet, text_encoder

    def _read_checkpoint(self) -> tuple[Any, Any]:
        """The same from one file."""
        file, shipped = self.folder / self.files[0], single_file.CONFIGS
        tensors = tensors_of(file)
        if single_file.scheduler_config(tensors) != self._configs["scheduler"]:  # of a pickle, known only now
            raise UserError(
                f"{self.weights} has another prediction type or noise schedule than Stable Diffusion v1.5, which only "
                "the whole file could tell. It is on this machine now: run the same command again"
            )
        self.tokenizer = single_file.tokenizer()
        unet = single_file.read(tensors, "unet", configs=shipped, where=str(file))
        return unet, single_file.read(tensors, "text_encoder", configs=shipped, where=str(file))

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
