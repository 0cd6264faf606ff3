"""Top-level config keys of `its predict` other than `model`, `data` and `trainer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from its.evaluation.ranking import Keep
from its.methods.classes import DEFAULT

Extra = Literal["image", "latents", "color", "colormap", "cycle", "video"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of `its predict`.

    Attributes:
        method: method class; the keys under `model` are its arguments.
        output: run directory.
        save: files to write for each sample in addition to the spectrogram and the sound.
        scorers: scorers, or a pack with scorers, that score the samples at the end.
        keep: rule of ranking, and number of samples of each prompt pair to keep.
        metadata: embed each sample's config in its files, for `its rerun`.
        gallery: write RUN/index.html at the end.
        retry_failed: retry samples that failed in an earlier run.
        mixed: allow samples with different settings in one run directory.
        seed_everything: seed of the global random number generators; samples do not depend on it.
    """

    method: str = DEFAULT
    output: str = "runs/its"
    save: list[Extra] = field(default_factory=list)
    scorers: list[Any] = field(default_factory=list)
    keep: Keep | None = None
    metadata: bool = True
    gallery: bool = True
    retry_failed: bool = False
    mixed: bool = False
    seed_everything: bool | int = False
