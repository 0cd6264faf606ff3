"""LoRA files as experts name them: found and checked before the model that they change is downloaded."""

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

USUAL = ("pytorch_lora_weights", "adapter_model")
"""Stems that diffusers and PEFT write."""


class LoRAFile(PretrainedComponent):
    """A LoRA (Hu et al., arXiv 2106.09685) in diffusers, PEFT or kohya naming.

    Args:
        weights: a file, a folder that holds one, `owner/name` on the hub, or `owner/name/file`.
        scale: of what it changes; 1 is as it was trained.
        revision: branch, tag or commit on the hub.
    """

    reads_checkpoints = True

    def __init__(self, *, weights: str, scale: float = 1.0, revision: str | None = None) -> None:
        super().__init__(weights=weights, revision=revision)
        self.scale = scale

    def select(self, source: Source) -> Sequence[str]:
        """The file, and PEFT's settings if it is one of PEFT's: they hold the alpha of each layer."""
        file = self._file(source)
        folder, _, name = file.rpartition("/")
        settings = within(folder, SETTINGS)
        if not name.startswith("adapter_model.") and not lora.is_peft(source.shapes(file) or ()):
            return (file,)
        return (file, settings) if source.useful(settings) else (file,)

    def _file(self, source: Source) -> str:
        if source.checkpoint is not None:
            return source.require(source.checkpoint)[0]
        for ending in ("safetensors", "bin"):
            usual = tuple(name for stem in USUAL if (name := f"{stem}.{ending}") in source)
            found = usual or source.matching(f"*.{ending}")
            if len(found) > 1 and not usual:
                raise UserError(
                    f"{source.name} holds the files {', '.join(found)}: name one, such as {source.name}/{found[0]}"
                )
            if found:
                return found[0]
        raise WeightsNotFound(f"{source.name} lacks {USUAL[0]}.safetensors", "Name the LoRA's file")

    def read(self) -> None:
        """Nothing is kept: the file is read when it is fused."""

    @property
    def path(self) -> Path:
        """The file. Valid after `prepare`."""
        return self.folder / self.files[0]

    @property
    def settings(self) -> Path | None:
        """PEFT's settings of the file; None without. Valid after `prepare`."""
        return self.folder / self.files[1] if len(self.files) > 1 else None

    def check_against(self, *, unet_config: Mapping[str, Any], text_config: Mapping[str, Any]) -> None:
        """Check that this is a LoRA for a model of these configurations. Valid after `find`.

        Raises:
            UserError: it is no LoRA, or one for another model.
        """
        shapes = self.source.shapes(self.files[0])
        if shapes is None:  # a pickle on the hub, which is checked when it is fused
            return
        lora.check(shapes, unet_config=unet_config, text_config=text_config, where=f"lora: {self.weights}")
        if lora.is_peft(shapes) and self.settings is None and not any(name.endswith(".alpha") for name in shapes):
            warnings.warn(
                f"lora: {self.weights} is of PEFT's naming, but there is no {SETTINGS} beside it: alpha is taken to be "
                "the rank. Put that file into the same folder, or set scale to alpha / rank",
                stacklevel=2,
            )

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {"scale": self.scale}


def lora_files(entries: Sequence[Mapping[str, Any]] | None) -> list[LoRAFile]:
    """The argument `lora` of an expert -> its files.

    Raises:
        ValueError: an entry has other keys than `weights`, `scale` and `revision`.
    """
    files: list[LoRAFile] = []
    for entry in [entries] if isinstance(entries, Mapping | str) else entries or ():
        if isinstance(entries, Mapping | str) or not _is_entry(entry):
            raise ValueError(f"lora: got {entry!r:.120}; expected {{weights: FILE_OR_HUB_ID, scale: 0.8}} in a list")
        scale = entry.get("scale", 1.0)
        files.append(LoRAFile(weights=entry["weights"], scale=float(scale), revision=entry.get("revision")))
    return files


def _is_entry(entry: Any) -> bool:
    """Whether an entry has the keys of a LoRA, with values of their types; a scale is finite."""
    if not isinstance(entry, Mapping) or set(entry) - {"weights", "scale", "revision"}:
        return False
    scale, revision = entry.get("scale", 1.0), entry.get("revision")
    numbers = isinstance(scale, int | float) and not isinstance(scale, bool) and math.isfinite(scale)
    return numbers and isinstance(entry.get("weights"), str) and isinstance(revision, str | None)


def fuse_files(unet: Any, text_encoder: Any, files: Sequence[LoRAFile]) -> None:
    """Fuse LoRA files, in order, into a UNet of diffusers and a text encoder of transformers, in place.

    Raises:
        UserError: a file is damaged, or has tensors without a place in these models.
    """
    lora.fuse(
        unet,
        text_encoder,
        [(tensors_of(file.path), file.scale) for file in files],
        where=[f"lora: {file.weights}" for file in files],
        adapter_configs=[lora.adapter_config(file.path, file.settings) for file in files],
    )
