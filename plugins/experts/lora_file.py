"""LoRA files of experts, located and checked before the model is downloaded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.weights import PretrainedComponent, Source, WeightsNotFound
from its.weights.files import tensors_of
from its.weights.model_files import within
from its.weights.source import SETTINGS
from its_plugins.experts import lora

DEFAULT_STEMS = ("pytorch_lora_weights", "adapter_model")
"""Default file names of diffusers and PEFT, without extension."""


class LoRAFile(PretrainedComponent):
    """LoRA (Hu et al., arXiv 2106.09685) in the naming of diffusers, PEFT or kohya.

    Args:
        weights: a file, a folder with one LoRA file, `owner/name` on the hub, or `owner/name/file`.
        scale: factor of the changes to the weights; 1 as in training.
        revision: branch, tag or commit on the hub.
    """

    reads_checkpoints = True

    def __init__(self, *, weights: str, scale: float = 1.0, revision: str | None = None) -> None:
        super().__init__(weights=weights, revision=revision)
        self.scale = scale

    def select(self, source: Source) -> Sequence[str]:
        """Select the file, and for a PEFT file also its settings, which have the alpha of each layer."""
        file = self._file(source)
        folder, _, name = file.rpartition("/")
        settings = within(folder, SETTINGS)
        is_peft = name.startswith("adapter_model.") or lora.is_peft(source.shapes(file) or ())
        return (file, settings) if is_peft and source.has_optional(settings) else (file,)

    def _file(self, source: Source) -> str:
        if source.checkpoint is not None:
            return source.require(source.checkpoint)[0]
        for ending in ("safetensors", "bin"):
            default = [name for stem in DEFAULT_STEMS if (name := f"{stem}.{ending}") in source]
            files = default or source.matching(f"*.{ending}")
            if len(files) > 1 and not default:
                raise UserError(
                    f"{source.name} has the files {', '.join(files)}; use one of them, for example "
                    f"{source.name}/{files[0]}"
                )
            if files:
                return files[0]
        raise WeightsNotFound(f"{source.name} lacks {DEFAULT_STEMS[0]}.safetensors", "Use the path of the LoRA file")

    def read(self) -> None:
        """Do nothing: `fuse_files` reads the file."""

    @property
    def path(self) -> Path:
        """Path of the file. Valid after `prepare`."""
        return self.folder / self.files[0]

    @property
    def settings(self) -> Path | None:
        """Path of PEFT's settings, if any. Valid after `prepare`."""
        return self.folder / self.files[1] if len(self.files) > 1 else None

    def check_against(self, *, unet_config: Mapping[str, Any], text_config: Mapping[str, Any]) -> None:
        """Check that this is a LoRA for a model of these configurations. Valid after `find`.

        Raises:
            UserError: it is for another model.
        """
        shapes = self.source.shapes(self.files[0])
        if shapes is None:  # a pickle on the hub, which `fuse_files` checks
            return
        lora.check(shapes, unet_config=unet_config, text_config=text_config, where=f"lora: {self.weights}")
        if lora.is_peft(shapes) and self.settings is None and not any(name.endswith(".alpha") for name in shapes):
            warnings.warn(
                f"lora: {self.weights} is a PEFT file without its {SETTINGS}, so alpha is assumed to equal the rank. "
                "Put that file into the same folder, or set scale to alpha / rank",
                stacklevel=2,
            )

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {"scale": self.scale}


def parse_loras(entries: Sequence[Mapping[str, Any]] | None) -> list[LoRAFile]:
    """Convert an expert's argument `lora` to files.

    Raises:
        ValueError: the argument is not a list of entries with `weights` and optionally `scale` and `revision`, or a
            scale is not finite.
    """
    files: list[LoRAFile] = []
    for entry in [entries] if isinstance(entries, Mapping | str) else entries or ():
        if isinstance(entries, Mapping | str) or not _is_entry(entry):
            raise ValueError(f"lora: got {entry!r:.120}; expected {{weights: FILE_OR_HUB_ID, scale: 0.8}} in a list")
        files.append(LoRAFile(**{**entry, "scale": float(entry.get("scale", 1.0))}))
    return files


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or set(entry) - {"weights", "scale", "revision"}:
        return False
    scale, revision = entry.get("scale", 1.0), entry.get("revision")
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool) and math.isfinite(scale)
    return is_number and isinstance(entry.get("weights"), str) and isinstance(revision, str | None)


def fuse_files(unet: Any, text_encoder: Any, files: Sequence[LoRAFile]) -> None:
    """Fuse LoRA files, in order and in place, into a UNet of diffusers and a text encoder of transformers.

    Raises:
        UserError: a file is damaged, or does not match these models.
    """
    lora.fuse(
        unet,
        text_encoder,
        [(tensors_of(file.path), file.scale) for file in files],
        where=[f"lora: {file.weights}" for file in files],
        adapter_configs=[lora.adapter_config(file.path, file.settings) for file in files],
    )
