"""HiFi-GAN (Kong et al., arXiv 2010.05646), the vocoder of Auffusion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its.errors import UserError
from its.interfaces import Vocoder
from its.registry import register
from its.weights import PretrainedComponent, Source
from its.weights.files import load_pickle
from its.weights.model_files import within
from its.weights.models import SkipInit
from its_plugins.vocoders.hifi_gan_generator import Generator


@register
class HiFiGAN(PretrainedComponent, Vocoder):
    """HiFi-GAN in the layout of Auffusion: `config.json` and `vocoder.pt` in a subfolder of the pipeline.

    Weight normalisation, of both implementations in torch, is folded into the weights.

    Args:
        weights: `pack:NAME`, a local folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        subfolder: subfolder of the two files, which may also be in the root.
    """

    def __init__(
        self,
        *,
        weights: str = "auffusion/auffusion-full-no-adapter",
        revision: str | None = None,
        subfolder: str = "vocoder",
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        self.subfolder = subfolder
        self.generator: Generator | None = None
        self._config: dict[str, Any] = {}
        self._state: dict[str, Tensor] | None = None  # read by `check_tensors`, and kept for `read`

    @property
    def format(self) -> SpectrogramFormat:
        """Format in `config.json`. Missing keys and the range of values are Auffusion's. Valid after `find`."""
        if not self._config:
            raise RuntimeError("HiFiGAN reads its format from config.json: call find() first")
        # Null values count as missing: some files have "fmax": null.
        values = {field: self._config[key] for field, key in _FORMAT_KEYS.items() if self._config.get(key) is not None}
        form = replace(AUFFUSION, **values, hop_length=prod(self._config["upsample_rates"]))
        return form if form == AUFFUSION else replace(form, name=self.weights)

    def select(self, source: Source) -> Sequence[str]:
        in_root = within(self.subfolder, "vocoder.pt") not in source and "vocoder.pt" in source
        prefix = "" if in_root else self.subfolder
        config, checkpoint = source.require(within(prefix, "config.json"), within(prefix, "vocoder.pt"))
        _check_config(source.json(config), source.path(config))
        self._config = source.json(config)
        return config, checkpoint

    def check_file(self, name: str) -> None:
        """Check the configuration; `check_tensors` reads the checkpoint."""
        if name == self.files[0]:
            super().check_file(name)

    def check_tensors(self) -> None:
        """Check the downloaded checkpoint against `config.json`."""
        if self.source.missing(self.files):
            return
        config, checkpoint = (self.folder / name for name in self.files)
        state = self._state = _fold_weight_norm(_read_state(checkpoint))
        expected = self._empty_generator().state_dict()
        problems = [f"it lacks {name}" for name in expected if name not in state]
        problems += [f"{name} is not part of the network" for name in state if name not in expected]
        problems += [
            f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ]
        if problems:
            more = f", and {len(problems) - 1} more problems" if len(problems) > 1 else ""
            raise UserError(f"{checkpoint} does not match {config}: {problems[0]}{more}; get both from one source")

    def read(self) -> None:
        state, self._state = self._state or _fold_weight_norm(_read_state(self.folder / self.files[1])), None
        generator = self._empty_generator()
        generator.load_state_dict(state, assign=True)
        self.generator = generator.to(torch.get_default_device()).eval().requires_grad_(False)

    def forward(self, log_mel: Tensor) -> Tensor:
        if self.generator is None:
            raise RuntimeError("HiFiGAN is not loaded: call prepare() and load() first")
        if log_mel.shape[1] != self.format.n_mels:
            raise ValueError(f"got a spectrogram of {log_mel.shape[1]} mel bands, expected {self.format.n_mels}")
        return rearrange(self.generator(log_mel.float()), "b 1 n -> b n")

    def _empty_generator(self) -> Generator:
        with torch.device("meta"), SkipInit():  # draws nothing from the global random generator
            return Generator(self._config)

    @classmethod
    def example(cls, folder: Path) -> Self:
        """Create a generator of 8 channels for Auffusion's format."""
        config: dict[str, Any] = {
            "resblock": "1",
            "upsample_rates": [16, 10],
            "upsample_kernel_sizes": [32, 21],
            "upsample_initial_channel": 8,
            "resblock_kernel_sizes": [3, 5],
            "resblock_dilation_sizes": [[1, 3], [1, 2]],
            "num_mels": AUFFUSION.n_mels,
        }
        write_random_checkpoint(folder / "vocoder", config)
        return cls(weights=str(folder))


def write_random_checkpoint(folder: Path, config: Mapping[str, Any], *, seed: int = 0) -> None:
    """Write a new folder with `config.json` and a `vocoder.pt` of random weights, in the layout of Auffusion."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Generator(config).state_dict().items()}
    source = torch.Generator("cpu").manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name.endswith(".bias"):
            state[name] = 0.1 * torch.randn(shape, generator=source, device="cpu")
            continue
        state[f"{name}_g"] = 0.5 + torch.rand(shape[0], *(1 for _ in shape[1:]), generator=source, device="cpu")
        state[f"{name}_v"] = torch.randn(shape, generator=source, device="cpu")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    torch.save({"generator": state}, folder / "vocoder.pt")


_LISTS = (("upsample_rates", "upsample_kernel_sizes"), ("resblock_kernel_sizes", "resblock_dilation_sizes"))
"""Keys of lists of equal length."""
_NETWORK_KEYS = ("resblock", *_LISTS[0], "upsample_initial_channel", *_LISTS[1], "num_mels")
_FORMAT_KEYS = {"sample_rate": "sampling_rate", "n_fft": "n_fft", "win_length": "win_size",
                "n_mels": "num_mels", "f_min": "fmin", "f_max": "fmax"}  # fmt: skip


def _check_config(config: Mapping[str, Any], path: Path) -> None:
    if missing := [key for key in _NETWORK_KEYS if key not in config]:
        raise UserError(f"{path} lacks {', '.join(missing)}: expected the configuration of a HiFi-GAN")
    for key in (*_FORMAT_KEYS.values(), "upsample_initial_channel"):
        if isinstance(config.get(key), str):
            raise UserError(f"{path}: {key} is {config[key]!r}, expected a number")
    for one, other in _LISTS:
        if len(config[one]) != len(config[other]):
            raise UserError(f"{path}: {one} (={config[one]}) and {other} (={config[other]}) differ in length")
    if str(config["resblock"]) not in ("1", "2"):
        raise UserError(f"{path}: resblock (={config['resblock']}) must be 1 or 2")
    hop, rates = config.get("hop_size"), config["upsample_rates"]
    if hop is not None and hop != prod(rates):
        raise UserError(f"{path}: hop_size (={hop}) must be the product of upsample_rates (={rates})")


def _read_state(path: Path) -> dict[str, Tensor]:
    checkpoint = load_pickle(path)
    state = checkpoint.get("generator") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} has no entry 'generator': expected the checkpoint of a HiFi-GAN's generator")
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: 'generator' has other values than tensors; expected the checkpoint of a HiFi-GAN")
    return state


_NORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
"""Names of magnitude g and direction v in `torch.nn.utils.weight_norm` and `torch.nn.utils.parametrizations`."""


def _fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace g and v by the weight g v / ||v||, with the norm over all dimensions but the first."""
    folded = {name: tensor.float() for name, tensor in state.items()}
    for g_ending, v_ending in _NORMS:
        for layer in [name.removesuffix(v_ending) for name in state if name.endswith(v_ending)]:
            if f"{layer}{g_ending}" in state:
                g, v = folded.pop(f"{layer}{g_ending}"), folded.pop(f"{layer}{v_ending}")
                norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
                folded[f"{layer}weight"] = g * v / norm
    return folded
