"""Plan and write the colour pictures of a run's samples."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from its.errors import UserError
from its.media.contained import contained, is_own_file
from its.media.encode import write_png
from its.methods.color_prompt import color_prompt
from its.runs.reader import SPECTROGRAM, StoredSample, read_runs
from its.runs.records import RECORD, write_record
from its.runs.sample_files import eight_bit
from its.runs.sample_media import read_picture
from its.runs.stored_video import color_pictures, color_video


@dataclass(frozen=True, kw_only=True)
class ColorJob:
    """Colour pictures to make for a sample.

    Attributes:
        folder: folder of the sample.
        record: record of the sample.
        prompt: prompt for the colorizer.
        count: number of pictures.
        size: rows and columns of the spectrogram, from the record.
    """

    folder: Path
    record: Mapping[str, Any]
    prompt: str
    count: int
    size: tuple[int, int]

    def path(self, number: int) -> Path:
        """Return the path of picture `number`, from 1: `color.png`, `color_2.png` and so on."""
        return self.folder / ("color.png" if number == 1 else f"color_{number}.png")

    def missing(self, coloring: Mapping[str, Any], weights: Mapping[str, Any] | None) -> list[int]:
        """List the pictures to make: all if colorizer, prompt or weights differ from the record's."""
        same = self.record.get("settings", {}).get("colorizer") == {**coloring, "prompt": self.prompt}
        same = same and self.record.get("weights", {}).get("colorizer") == weights
        return [n for n in range(1, self.count + 1) if not (same and is_own_file(self.path(n)))]

    def gray(self) -> Tensor:
        """Read the spectrogram, (1, h, w) in [0, 1]; in stereo, the mean over its channels.

        Raises:
            UserError: the spectrogram can't be read, or its size differs from the record's.
        """
        path = contained(self.folder, self.folder / SPECTROGRAM)
        gray = read_picture(path)
        if gray.shape != self.size:
            raise UserError(
                f"{path} has {gray.shape[0]} rows and {gray.shape[1]} columns; expected {self.size[0]} and "
                f"{self.size[1]}, as in {RECORD}: make the sample again"
            )
        return gray[None]

    def source(self, number: int) -> torch.Generator:
        """Return the noise generator of picture `number`, seeded by the sample's seed and the number."""
        digest = hashlib.sha256(f"color {self.record['seed']} {number}".encode()).digest()
        return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7], "big"))

    def write(self, number: int, rgb: Tensor) -> None:
        """Write a picture (3, h, w) in [0, 1], and remove the video of the picture that it replaces."""
        color_video(self.path(number)).unlink(missing_ok=True)
        write_png(self.path(number), eight_bit(rgb))

    def finish(self, coloring: Mapping[str, Any], weights: Mapping[str, Any] | None) -> None:
        """Update the record, and remove the pictures and videos of an earlier colorizer or prompt."""
        colorizer, settings = {**coloring, "prompt": self.prompt}, self.record.get("settings", {})
        if settings.get("colorizer") != colorizer:
            for path in set(color_pictures(self.folder)) - set(map(self.path, range(1, self.count + 1))):
                color_video(path).unlink(missing_ok=True)
                path.unlink()
        changed = {
            "settings": {**settings, "colorizer": colorizer},
            "weights": {**self.record.get("weights", {}), "colorizer": weights},
        }
        write_record(self.folder, {**self.record, **changed})


def plan_colors(run: Path, *, prompt: str | None, count: int, names: Collection[str] | None = None) -> list[ColorJob]:
    """Plan the colour pictures of the complete samples of a run directory, in the order of their names.

    Args:
        run: the run directory.
        prompt: prompt for all samples; None to derive each sample's from its image prompt.
        count: number of pictures for each sample.
        names: ids of the samples; None for all.

    Raises:
        UserError: the folder is not a run directory, has no complete sample, or a prompt can't be derived.
    """
    (stored,) = read_runs([run])
    samples = [s for s in stored.samples if s.complete and (names is None or s.folder.name in names)]
    if not samples:
        raise UserError(f"{run} has no complete sample in samples/; make samples with `its predict`")
    return [
        ColorJob(
            folder=sample.folder,
            record=sample.record,
            prompt=prompt or _derive_prompt(sample),
            count=count,
            size=_size(sample),
        )
        for sample in samples
    ]


def _size(sample: StoredSample) -> tuple[int, int]:
    settings = sample.mapping("settings")
    try:
        (rows, columns), trim = settings["canvas"], settings["trim"]
        return int(rows), int(columns) - int(trim)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{sample.folder}: {RECORD} has no canvas and trim: make the sample again") from None


def _derive_prompt(sample: StoredSample) -> str:
    try:
        if not (prompt := sample.prompt("visual")):
            raise UserError("the sample has no image prompt")
        return color_prompt(prompt)
    except UserError as error:
        raise UserError(f"{sample.folder}: no colour prompt: {error}. Set one with --prompt") from None
