"""ControlNet (Zhang et al., arXiv 2302.05543): a picture, for example an outline, guides a Stable Diffusion expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from its.errors import UserError
from its.interfaces import Download, ExpertWrapper, NoiseExpert
from its.registry import register
from its.weights import PretrainedComponent, Source
from its.weights.model_files import DIFFUSERS, ModelFiles, log_variant, model_files, within
from its.weights.models import check_shapes, read_model
from its_plugins.experts.cached_conditioning_unet import CachedConditioningControlNet, Residuals, unsupported_feature
from its_plugins.experts.stable_diffusion import StableDiffusion

EXPECTED = (
    "Use a ControlNet for Stable Diffusion v1 in diffusers' layout, for example lllyasviel/control_v11p_sd15_scribble"
)
SAME_AS_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1280,
    "in_channels": 4,
}
"""Settings that a control net and its UNet must share, with diffusers' defaults of both."""


@register
class ControlNet(ExpertWrapper):
    """Stable Diffusion guided by control pictures (Zhang et al., arXiv 2302.05543).

    Equals diffusers' `StableDiffusionControlNetPipeline` with the same pictures. The pictures are part of the prompts:
    see `its.specs.material`. For samples without pictures it equals the wrapped expert.

    Args:
        expert: StableDiffusion, or a model of its architecture.
        weights: `pack:NAME`, a diffusers folder or `owner/name` on the hub; a list for several control nets, which are
            added, each with its own picture.
        revision: branch, tag or commit on the hub; null for the default branch.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        subfolder: subfolder of the weights.

    Raises:
        ValueError: the expert is of another kind, or there are no weights.
    """

    non_identity_args = ("weights", "revision", "variant")
    expert: StableDiffusion

    def __init__(
        self,
        *,
        expert: NoiseExpert,
        weights: str | list[str] = "lllyasviel/control_v11p_sd15_scribble",
        revision: str | None = None,
        variant: str | None = None,
        subfolder: str = "",
    ) -> None:
        if not isinstance(expert, StableDiffusion):
            raise ValueError(
                f"expert (={type(expert).__name__}) must be StableDiffusion or a model of its architecture; other "
                "wrappers go around ControlNet"
            )
        super().__init__(expert)
        names = [weights] if isinstance(weights, str) else weights
        if not names:
            raise ValueError("weights is empty; expected at least one control net")
        options: dict[str, Any] = {"revision": revision, "variant": variant, "subfolder": subfolder}
        options["channels_last"] = expert.channels_last
        self.nets = nn.ModuleList(ControlNetFiles(weights=name, **options) for name in names)
        self.controls = len(names)
        self._text_shape = (0, 0)

    def find(self) -> list[Download]:
        """Find the expert and the control nets, and check that they have the same architecture."""
        downloads = super().find()
        for net in self._nets():
            net.check_against(self.expert)
        return downloads

    def prepare(self) -> None:
        """Find, check and download the expert and the control nets."""
        self.find()
        super().prepare()

    def provenance(self) -> dict[str, Any]:
        return self.expert.provenance() | {"control": [net.provenance() for net in self._nets()]}

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Return the keys and values of all cross-attentions of the UNet and of the control nets, (b, 77, c)."""
        states = self.expert.hidden_states(prompts)
        networks = [self.expert.unet, *(net.network for net in self._nets())]
        text = torch.cat([network.keys_and_values(states) for network in networks], dim=-1)
        self._text_shape = text.shape[1], text.shape[2]
        return text

    def add_control(self, text: Tensor, pictures: Tensor, scales: Tensor) -> Tensor:
        """Concatenate text, embedded pictures and scales to one row for each sample, (b, n)."""
        embeddings = [net.network.embed(pictures[:, i]) for i, net in enumerate(self._nets())]
        return torch.cat([x.flatten(1).to(text.dtype) for x in (text, *embeddings, scales)], dim=1)

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Estimate the noise in latents (b, 4, h, w), from text (b, 77, c) or the rows of `add_control`."""
        if text.ndim == 3:
            return self.expert.predict_noise(latents, timestep, text)
        tokens, width = self._text_shape
        text, rest = torch.unflatten(text[:, : tokens * width], 1, (tokens, width)), text[:, tokens * width :]
        nets = [net.network for net in self._nets()]
        shapes = [(net.channels, *latents.shape[2:]) for net in self._nets()]
        *embeddings, scales = torch.split(rest, [*map(prod, shapes), len(nets)], dim=1)
        _, *texts = torch.split(text, [network.text_width for network in (self.expert.unet, *nets)], dim=-1)
        total: Residuals | None = None
        for i, (network, shape) in enumerate(zip(nets, shapes, strict=True)):
            z, scale = latents.to(network.dtype), rearrange(scales[:, i], "b -> b 1 1 1")
            down, middle = network(z, timestep, texts[i], torch.unflatten(embeddings[i], 1, shape))
            residuals = [scale * each for each in down], scale * middle
            total = residuals if total is None else _add(total, residuals)
        return self.expert.predict_noise(latents, timestep, text, total)

    def compile_network(self) -> bool:
        """Compile the inner UNet and the control nets."""
        for net in self._nets():
            net.network.network.compile(dynamic=False)
        return self.expert.compile_network()

    def _nets(self) -> list[ControlNetFiles]:
        return [net for net in self.nets if isinstance(net, ControlNetFiles)]

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import stable_diffusion

        weights = stable_diffusion.control_net(folder / "control")
        return cls(expert=StableDiffusion.example(folder / "model"), weights=str(weights))


class ControlNetFiles(PretrainedComponent):
    """Weights of one control net.

    Args:
        weights: `pack:NAME`, a diffusers folder or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: variant of the weights files.
        subfolder: subfolder of the weights.
        channels_last: use the channels-last memory layout.
    """

    network: CachedConditioningControlNet

    def __init__(
        self, *, weights: str, revision: str | None, variant: str | None, subfolder: str, channels_last: bool
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        self.variant, self.subfolder, self.channels_last = variant, subfolder, channels_last
        self.timesteps = 0  # of the expert, set by `check_against`
        self._model: ModelFiles | None = None
        self._config: dict[str, Any] = {}

    @property
    def channels(self) -> int:
        """Channels of the embedded picture."""
        return int(self._config["block_out_channels"][0])

    def select(self, source: Source) -> Sequence[str]:
        """Select the files of the subfolder."""
        self._model = model_files(source, self.subfolder, DIFFUSERS, variant=self.variant)
        config = self._config = source.json(self._model.config)
        where = f"{source.name}: {within(self.subfolder, 'config.json')}"
        if (name := config.get("_class_name", "ControlNetModel")) != "ControlNetModel":
            raise UserError(f"{where} is of class {name}, expected ControlNetModel. {EXPECTED}")
        if feature := unsupported_feature(config) or _unsupported_setting(config):
            raise UserError(f"{where} has {feature}, which is not supported. {EXPECTED}")
        return self._model.names

    def check_tensors(self) -> None:
        from diffusers import ControlNetModel

        if self._model is not None:
            check_shapes(ControlNetModel, self.source, self._model)

    def check_against(self, expert: StableDiffusion) -> None:
        """Check that the control net is for the UNet of an expert. Valid after `find` of both.

        Raises:
            UserError: it is for another architecture.
        """
        self.timesteps = len(expert.alphas())
        for key, default in SAME_AS_UNET.items():
            own, expected = (config.get(key, default) for config in (self._config, expert.unet_config))
            if _plain(own) != _plain(expected):
                raise UserError(
                    f"{self.weights} is a ControlNet for another architecture: its {key} is {own}, but the expert's "
                    f"UNet has {expected}. {EXPECTED}"
                )
        if self._model is not None and self._model.variant != self.variant:
            log_variant(self.source.name, str(self._model.variant))

    def read(self) -> None:
        from diffusers import ControlNetModel

        assert self._model is not None
        network = read_model(
            ControlNetModel, self.folder, self._model, channels_last=self.channels_last, low_cpu_mem_usage=False
        )
        self.network = CachedConditioningControlNet(network, timesteps=self.timesteps)


def _unsupported_setting(config: Mapping[str, Any]) -> str | None:
    if config.get("global_pool_conditions"):
        return "global_pool_conditions"
    if (order := config.get("controlnet_conditioning_channel_order", "rgb")) != "rgb":
        return f"the channel order {order}"
    count = config.get("conditioning_channels", 3)
    return None if count == 3 else f"control pictures of {count} channels"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _add(one: Residuals, other: Residuals) -> Residuals:
    return [a + b for a, b in zip(one[0], other[0], strict=True)], one[1] + other[1]
