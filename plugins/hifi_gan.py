"""HiFi-GAN, the vocoder that comes with Auffusion (Kong et al., arXiv 2010.05646)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor

from its.errors import UserError
from its.interfaces import Vocoder
from its.registry import register
from its.spectrogram import AUFFUSION, SpectrogramFormat
from its.weights import Located, locate
from its_plugins.hifi_gan_generator import Generator


@register
class HiFiGAN(Vocoder):
    """HiFi-GAN as Auffusion ships it: `config.json` and `vocoder.pt` in a folder of the pipeline.

    Weight normalisation is folded into the weights. The pickle is read with `weights_only`, so it can't run code.

    Args:
        weights: `pack:NAME`, a local folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        subfolder: where the two files are; a local folder may also hold them itself.
    """

    def __init__(
        self,
        *,
        weights: str = "auffusion/auffusion-full-no-adapter",
        revision: str | None = None,
        subfolder: str = "vocoder",
    ) -> None:
        super().__init__()
        self.weights = weights
        self.revision = revision
        self.subfolder = subfolder
        self.generator: Generator | None = None
        self._located: Located | None = None
        self._config: dict[str, Any] = {}

    @property
    def format(self) -> SpectrogramFormat:
        """What `config.json` says, valid after `prepare`. What it leaves out, and the range, are Auffusion's.

        Raises:
            RuntimeError: `prepare` was not called.
        """
        if not self._config:
            raise RuntimeError("the format of HiFiGAN is read from its config.json: call prepare() first")
        given = {
            field: self._config[key]
            for field, key in _FORMAT_KEYS.items()
            if self._config.get(key) is not None  # fmax is null in some
        }
        form = replace(AUFFUSION, **given, hop_length=prod(self._config["upsample_rates"]))
        return form if form == AUFFUSION else replace(form, name=self.weights)

    def prepare(self) -> None:
        """Find both files and read the configuration.

        Raises:
            its.weights.WeightsNotFound: one of them is missing.
            UserError: the configuration is not that of a HiFi-GAN.
        """
        here = Path(self.weights).expanduser()
        inside = here.is_dir() and not (here / self.subfolder).is_dir()
        prefix = "" if inside else f"{self.subfolder}/"
        files = [f"{prefix}config.json", f"{prefix}vocoder.pt"]
        self._located = locate(self.weights, files=files, revision=self.revision)
        self._config = _read_config(self._located.folder / files[0])

    def load(self) -> None:
        """Read the weights.

        Raises:
            UserError: they are no plain tensors, or don't fit the configuration.
        """
        if self.generator is not None:
            return
        if self._located is None:
            raise RuntimeError("HiFiGAN was not prepared: call prepare() before load()")
        folder = self._located.folder
        config, checkpoint = (folder / name for name in self._located.files)
        with torch.device("meta"):  # nothing is drawn from the global generator, no default dtype gets in
            generator = Generator(self._config)
        state = _read_state(checkpoint)
        _check_fit(state, generator.state_dict(), checkpoint=checkpoint, config=config)
        generator.load_state_dict(state, assign=True)
        self.generator = generator.to(torch.get_default_device()).eval().requires_grad_(False)

    def provenance(self) -> dict[str, Any] | None:
        """Name and revision or sha256."""
        return None if self._located is None else self._located.provenance()

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


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds a {type(config).__name__}, expected an object with HiFi-GAN's keys")
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
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        # Without torch's reason, which goes on to advise `weights_only=False`.
        raise UserError(
            f"{path} is no checkpoint of plain tensors, or not a whole one. Nothing else is read, since a pickle can "
            "run code: get the weights again"
        ) from None
    state = checkpoint.get("generator") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} has no entry 'generator': expected the checkpoint of a HiFi-GAN's generator")
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: 'generator' holds more than tensors: expected those of a HiFi-GAN")
    return _fold_weight_norm(state)


def _fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """w = g v / ||v||, the norm over all dimensions but the first."""
    folded: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("weight_v") and (g := state.get(f"{name[:-1]}g")) is not None:
            v = tensor.float()
            norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
            folded[name.removesuffix("_v")] = g.float() * v / norm
        elif not name.endswith(("weight_v", "weight_g")):
            folded[name] = tensor.float()
    return folded


def _check_fit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, checkpoint: Path, config: Path) -> None:
    problems = [f"it lacks {name}" for name in wanted if name not in state]
    problems += [f"{name} has no place" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more of the kind" if len(problems) > 1 else ""
        raise UserError(f"{checkpoint} does not fit {config}: {problems[0]}{more}")
