"""Run folders as they are scored: records, whose prompts count, pictures and sounds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from its import registry
from its.errors import UserError
from its.interfaces import Judged, NoiseExpert
from its.runs.sample_files import RECORD, read_record

PICTURE, SOUND = "spectrogram.png", "audio.wav"
LARGEST = 2**26
"""Pixels of a picture, or samples of a sound, that are read; more is none of ours, or a bomb."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A sample in a run folder.

    Attributes:
        run: the run folder.
        folder: the sample's own.
        record: its `sample.json`.
    """

    run: Path
    folder: Path
    record: Mapping[str, Any]

    @property
    def scores(self) -> dict[str, Any]:
        """What it was scored, by scorer."""
        scores = self.record.get("scores")
        return dict(scores) if isinstance(scores, Mapping) else {}

    def prompt(self, role: str) -> str:
        """What it should show ("visual") or sound like ("audio"); empty if it has no such prompt."""
        prompts = self.record.get("prompts") or {}
        return str(prompts.get(roles_of(self.record).get(role)) or "")

    def judged(self, role: str) -> Judged:
        """What a scorer of a role is shown of it.

        Raises:
            UserError: a file is missing or damaged.
        """
        picture = read_picture(self.folder / PICTURE)
        waveform, rate = read_sound(self.folder / SOUND)
        return Judged(picture=picture, waveform=waveform, sample_rate=rate, prompt=self.prompt(role))

    def updated(self, change: Mapping[str, Any]) -> Found:
        """Put keys into `sample.json`, atomically. What else it holds by now is kept.

        Raises:
            UserError: it can't be written.
        """
        record = read_record(self.folder)
        if record is None:
            raise UserError(f"{self.folder / RECORD} was there a moment ago and can't be read any more")
        for key, value in change.items():
            both = isinstance(value, Mapping) and isinstance(record.get(key), Mapping)
            record[key] = {**record[key], **value} if both else value
        write_text(self.folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return replace(self, record=record)


def read_runs(folders: Sequence[Path]) -> list[Found]:
    """All whole samples of run folders, in their order; those that failed are passed over.

    Raises:
        UserError: a folder is no run, is given twice, has no whole sample, or lacks files of one.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"a run is given twice: {', '.join(map(str, folders))}")
    return [found for folder in folders for found in _read_run(folder)]


def _read_run(folder: Path) -> list[Found]:
    if not (folder / "samples").is_dir():
        raise UserError(f"{folder} is no run: it has no folder samples; expected a folder that its predict wrote")
    found = []
    for path in sorted((folder / "samples").iterdir()):
        record = read_record(path)
        if record is not None and record.get("status") == "ok":
            found.append(Found(run=folder, folder=path, record=record))
    if not found:
        raise UserError(f"{folder} has no whole sample: no samples/*/{RECORD} says ok; its predict makes them")
    for sample in found:
        for name in (PICTURE, SOUND):
            if not (sample.folder / name).is_file():
                raise UserError(f"{sample.folder} lacks {name}, although its {RECORD} says ok: make the sample again")
    return found


def roles_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Which expert's prompt is the picture's ("visual") and which the sound's ("audio").

    As the record says. Older ones don't: then experts of these names, or else the first of those who draw no
    spectrograms, and the first of those who do, as far as their classes are registered.
    """
    if isinstance(record.get("roles"), Mapping):
        return dict(record["roles"])
    prompts = record.get("prompts") or {}
    natural = {role: role for role in ("visual", "audio") if role in prompts}
    return dict(reversed(list(_kinds(record)))) | natural


def _kinds(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    experts = (record.get("settings") or {}).get("experts") or {}
    for name, described in experts.items():
        while isinstance(described, Mapping) and isinstance(described.get("expert"), Mapping):
            described = described["expert"]  # what a view looks at
        cls = registry.classes("NoiseExpert").get(str((described or {}).get("class")))
        if cls is not None and issubclass(cls, NoiseExpert):
            yield ("visual" if cls.format is None else "audio"), name


def read_picture(path: Path) -> Tensor:
    """A PNG -> (h, w) gray in [0, 1], float32; of a colour picture, such as in stereo, the mean over channels.

    Raises:
        UserError: it can't be read.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > LARGEST:
                raise UserError(f"{path} has {image.width} x {image.height} pixels; expected {LARGEST} at most")
            gray = image.mode in ("L", "RGB")
            pixels = torch.from_numpy(np.array(image if gray else image.convert("RGB"))).float()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} can't be read: {error}; make the sample again") from None
    return (pixels if pixels.ndim == 2 else pixels.mean(2)) / 255


def read_sound(path: Path) -> tuple[Tensor, int]:
    """A sound -> (n,), float32, the mean of its channels; and its rate in Hz.

    Raises:
        UserError: it can't be read.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            if not 0 < file.frames <= LARGEST:
                raise UserError(f"{path} has {file.frames} samples of sound; expected 1 to {LARGEST}")
            sound = torch.from_numpy(file.read(dtype="float32", always_2d=True))
            return sound.mean(1), int(file.samplerate)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} can't be read: {error}; make the sample again") from None


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all.

    Raises:
        UserError: it can't be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None
