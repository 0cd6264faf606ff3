"""The colour pictures of a run's samples: which are wanted, which are there, and how they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
class Colors:
    """What the colours of one sample are to be.

    Attributes:
        size: rows and columns, as the record says.
        folder: the sample's.
        record: its `sample.json` as it was read.
        prompt: for the colorizer.
        count: how many pictures.
    """

    folder: Path
    record: Mapping[str, Any]
    prompt: str
    count: int
    size: tuple[int, int]

    @property
    def _settings(self) -> Mapping[str, Any]:
        settings: Mapping[str, Any] = self.record.get("settings", {})
        return settings

    def path(self, number: int) -> Path:
        """Where picture `number`, from 1, goes: `color.png`, `color_2.png` and so on."""
        return self.folder / ("color.png" if number == 1 else f"color_{number}.png")

    def missing(self, coloring: Mapping[str, Any], weights: Mapping[str, Any] | None) -> list[int]:
        """Numbers of the pictures that are not there, as this colorizer with these weights makes them."""
        same = self._settings.get("colorizer") == {**coloring, "prompt": self.prompt}
        same = same and self.record.get("weights", {}).get("colorizer") == weights
        return [n for n in range(1, self.count + 1) if not (same and is_own_file(self.path(n)))]

    def gray(self) -> Tensor:
        """The spectrogram, of both channels where it is in stereo: (1, h, w) in [0, 1].

        Raises:
            UserError: it can't be read, or is not of the size that the record says.
        """
        path = contained(self.folder, self.folder / SPECTROGRAM)
        gray = read_picture(path)
        if gray.shape != self.size:
            raise UserError(
                f"{path} has {gray.shape[0]} rows and {gray.shape[1]} columns; expected {self.size[0]} and "
                f"{self.size[1]}, as sample.json says: make the sample again"
            )
        return gray[None]

    def source(self, number: int) -> torch.Generator:
        """The noise of picture `number`: it depends on the sample's seed and the number alone."""
        digest = hashlib.sha256(f"color {self.record['seed']} {number}".encode()).digest()
        return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:7], "big"))

    def write(self, number: int, rgb: Tensor) -> None:
        """Write a picture (3, h, w) in [0, 1], atomically, and remove the video of the picture that it replaces."""
        color_video(self.path(number)).unlink(missing_ok=True)
        write_png(self.path(number), eight_bit(rgb))

    def finish(self, coloring: Mapping[str, Any], weights: Mapping[str, Any] | None) -> None:
        """Update the record, and remove pictures that another colorizer or prompt made, with their videos."""
        kept = {self.path(number) for number in range(1, self.count + 1)}
        before = self._settings.get("colorizer")
        if before != {**coloring, "prompt": self.prompt}:
            for path in set(color_pictures(self.folder)) - kept:
                color_video(path).unlink(missing_ok=True)
                path.unlink()
        settings = {**self._settings, "colorizer": {**coloring, "prompt": self.prompt}}
        parts = {**self.record.get("weights", {}), "colorizer": weights}
        write_record(self.folder, {**self.record, "settings": settings, "weights": parts})


def colors_of(run: Path, *, prompt: str | None, count: int) -> list[Colors]:
    """What is to be made of the whole samples of a run folder, in the order of their names.

    Args:
        run: a folder that `its predict` wrote.
        prompt: for all of them; None makes one of each sample's own.
        count: pictures for each.

    Raises:
        UserError: it is no run folder, has no whole sample, or a prompt can't be made.
    """
    (read,) = read_runs([run])
    whole = [sample for sample in read.samples if sample.whole]
    if not whole:
        raise UserError(f"{run} has no whole sample in samples/, so there is nothing to colour")
    return [
        Colors(
            folder=sample.folder,
            record=sample.record,
            prompt=prompt or _own_prompt(sample),
            count=count,
            size=_size(sample),
        )
        for sample in whole
    ]


def _size(sample: StoredSample) -> tuple[int, int]:
    settings = sample.part("settings")
    try:
        (rows, columns), trim = settings["canvas"], settings["trim"]
        return int(rows), int(columns) - int(trim)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{sample.folder}: {RECORD} has no canvas and trim: make the sample again") from None


def _own_prompt(sample: StoredSample) -> str:
    try:
        if not (picture := sample.prompt("visual")):
            raise UserError("it has no prompt of a picture")
        return color_prompt(picture)
    except UserError as error:
        raise UserError(f"{sample.folder}: no colour prompt: {error}. Give one with --prompt") from None
