"""HiFi-GAN, the vocoder that comes with Auffusion (Kong et al., arXiv 2010.05646)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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
    """HiFi-GAN as Auffusion ships it: `config.json` and `vocoder.pt` in a folder of the pipeline.

    Weight normalisation, of either kind that torch has, is folded into the weights.

    Args:
        weights: `pack:NAME`, a local folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned one.
        subfolder: where the two files are; they may also lie beside each other in the folder itself.
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
        self._state: dict[str, Tensor] | None = None  # between check_tensors and read

    @property
    def format(self) -> SpectrogramFormat:
        """What `config.json` says, valid after `find`. What it leaves out, and the range, are Auffusion's.

        Raises:
            RuntimeError: `find` was not called.
        """
        if not self._config:
            raise RuntimeError("the format of HiFiGAN is read from its config.json: call find() first")
        given = {
            field: self._config[key]
            for field, key in _FORMAT_KEYS.items()
            if self._config.get(key) is not None  # fmax is null in some
        }
        form = replace(AUFFUSION, **given, hop_length=prod(self._config["upsample_rates"]))
        return form if form == AUFFUSION else replace(form, name=self.weights)

    def select(self, source: Source) -> Sequence[str]:
        """Both files; the configuration is read.

        Raises:
            UserError: the configuration is not that of a HiFi-GAN.
        """
        inside = within(self.subfolder, "vocoder.pt") not in source and "vocoder.pt" in source
        prefix = "" if inside else self.subfolder
        config, checkpoint = source.require(within(prefix, "config.json"), within(prefix, "vocoder.pt"))
        self._config = _checked(source.json(config), source.path(config))
        return config, checkpoint

    def check_file(self, name: str) -> None:
        """Check the configuration; `check_tensors` reads the checkpoint."""
        if name == self.files[0]:
            super().check_file(name)

    def check_tensors(self) -> None:
        """Of the generator against `config.json`, once the file is here: a pickle tells nothing before.

        Raises:
            UserError: they don't fit.
        """
        config, checkpoint = (self.folder / name for name in self.files)
        if not self.source.missing(self.files):
            self._state = _read_state(checkpoint)
            shapes = _folded_shapes(self._state)
            wanted = {name: tensor.shape for name, tensor in self._empty().state_dict().items()}
            _check_fit(shapes, wanted, checkpoint=checkpoint, config=config)

    def read(self) -> None:
        """Read the generator."""
        state, self._state = self._state or _read_state(self.folder / self.files[1]), None
        generator = self._empty()
        generator.load_state_dict(_fold_weight_norm(state), assign=True)
        self.generator = generator.to(torch.get_default_device()).eval().requires_grad_(False)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(b, f, t) natural log of mel magnitudes -> (b, t * hop_length) sound, float32 in [-1, 1].

        Raises:
            ValueError: the number of bands is not the format's.
        """
        if self.generator is None:
            raise RuntimeError("HiFiGAN was not loaded: call prepare() and load() before playing")
        if log_mel.shape[1] != self.format.n_mels:
            raise ValueError(f"got a spectrogram of {log_mel.shape[1]} bands, expected {self.format.n_mels}")
        sound: Tensor = self.generator(log_mel.float())
        return rearrange(sound, "b 1 n -> b n")

    def _empty(self) -> Generator:
        with torch.device("meta"), SkipInit():  # nothing is drawn from the global generator, no default dtype gets in
            return Generator(self._config)

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A generator of 8 channels that reads Auffusion's format."""
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
    """Write `config.json` and a `vocoder.pt` of random weights into a new folder, as Auffusion lays them out."""
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


_NETWORK_KEYS = (
    "resblock",
    "upsample_rates",
    "upsample_kernel_sizes",
    "upsample_initial_channel",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
    "num_mels",
)
_FORMAT_KEYS = {
    "sample_rate": "sampling_rate",
    "n_fft": "n_fft",
    "win_length": "win_size",
    "n_mels": "num_mels",
    "f_min": "fmin",
    "f_max": "fmax",
}


def _checked(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The configuration, if it is one of a HiFi-GAN."""
    if missing := [key for key in _NETWORK_KEYS if key not in config]:
        raise UserError(f"{path} lacks {', '.join(missing)}: expected the configuration of a HiFi-GAN")
    if wrong := [
        key for key in (*_FORMAT_KEYS.values(), "upsample_initial_channel") if isinstance(config.get(key), str)
    ]:
        raise UserError(f"{path}: {wrong[0]} is {config[wrong[0]]!r}: expected a number")
    for one, other in (
        ("upsample_rates", "upsample_kernel_sizes"),
        ("resblock_kernel_sizes", "resblock_dilation_sizes"),
    ):
        if len(config[one]) != len(config[other]):
            raise UserError(f"{path}: {one} (={config[one]}) and {other} (={config[other]}) differ in length")
    if str(config["resblock"]) not in ("1", "2"):
        raise UserError(f"{path}: resblock (={config['resblock']}) must be 1 or 2")
    hop, rates = config.get("hop_size"), config["upsample_rates"]
    if hop is not None and hop != prod(rates):
        raise UserError(f"{path}: hop_size (={hop}) must be the product of upsample_rates (={rates})")
    return config


def _read_state(path: Path) -> dict[str, Tensor]:
    checkpoint = load_pickle(path)
    state = checkpoint.get("generator") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} has no entry 'generator': expected the checkpoint of a HiFi-GAN's generator")
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: 'generator' holds more than tensors: expected those of a HiFi-GAN")
    return state


_NORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
"""Names of length and direction: `torch.nn.utils.weight_norm`'s, and those of `torch.nn.utils.parametrizations`."""


def _fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """w = g v / ||v||, the norm over all dimensions but the first."""
    folded = {name: tensor.float() for name, tensor in state.items()}
    for weight, (g_name, v_name) in _norms_of(state).items():
        g, v = folded.pop(g_name), folded.pop(v_name)
        norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
        folded[weight] = g * v / norm
    return folded


def _folded_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of the tensors of `_fold_weight_norm`, without their content."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for weight, (g_name, v_name) in _norms_of(state).items():
        g, v = shapes.pop(g_name), shapes.pop(v_name)
        shapes[weight] = torch.broadcast_shapes(g, v)  # type: ignore[no-untyped-call]
    return shapes


def _norms_of(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the names of length and direction by the name of the weight that they make."""
    found = {}
    for g_ending, v_ending in _NORMS:
        for layer in [name.removesuffix(v_ending) for name in names if name.endswith(v_ending)]:
            if f"{layer}{g_ending}" in names:
                found[f"{layer}weight"] = (f"{layer}{g_ending}", f"{layer}{v_ending}")
    return found


def _check_fit(
    state: Mapping[str, torch.Size], wanted: Mapping[str, torch.Size], *, checkpoint: Path, config: Path
) -> None:
    problems = [f"it lacks {name}" for name in wanted if name not in state]
    problems += [f"{name} has no place" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(state[name])}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name] != shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more of the kind" if len(problems) > 1 else ""
        raise UserError(f"{checkpoint} does not fit {config}: {problems[0]}{more}")
