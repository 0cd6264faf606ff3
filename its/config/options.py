"""Keys of `its predict` besides `model`, `data` and `trainer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from its.evaluation.ranking import Keep
from its.methods.classes import DEFAULT

Extra = Literal["image", "latents", "color", "colormap", "cycle", "video"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of the command itself.

    Attributes:
        method: whose arguments the keys under `model` are.
        output: the run directory.
        save: files to write besides the spectrogram and the sound.
        scorers: score the samples at the end: names of scorers, or of a pack that has some.
        keep: which samples of each prompt pair to keep.
        metadata: write into each file how it was made, for `its rerun`.
        gallery: write RUN/index.html at the end, which reads the whole run.
        retry_failed: make specs again that failed in an earlier run.
        mixed: put samples of other settings into a directory that holds some.
        seed_everything: seed of global random numbers, which no sample depends on.
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
