"""Run folders as they are read again: by the gallery, by studies, by whatever shows samples."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.runs.sample_files import RECORD, read_record

SPECTROGRAM, SOUND = "spectrogram.png", "audio.wav"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A sample as it lies in its folder.

    Attributes:
        folder: its own.
        record: its `sample.json`.
        files: names of all files in the folder, sorted.
        size: columns and rows of the spectrogram; None where it can't be read.
        seconds: length of the sound; None where it can't be read.
        damage: files that should be there and are missing or can't be read, each with what is wrong.
    """

    folder: Path
    record: Mapping[str, Any]
    files: Sequence[str]
    size: tuple[int, int] | None
    seconds: float | None
    damage: Sequence[str]

    @property
    def playable(self) -> bool:
        """Whether there is a picture and its sound."""
        return self.size is not None and self.seconds is not None

    def part(self, key: str) -> dict[str, Any]:
        """A mapping of the record; empty where there is none."""
        value = self.record.get(key)
        return dict(value) if isinstance(value, Mapping) else {}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it is.
        name: what to call it; unique among the runs that are read together.
        samples: those with a record, in the order of their ids.
        unfinished: folders of samples without a readable record.
    """

    folder: Path
    name: str
    samples: Sequence[Found]
    unfinished: Sequence[str]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders, in the order given.

    Raises:
        UserError: one is no run, has no samples, or is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise UserError(f"{folders[index]} is given twice; expected every run once")
    return [_read(folder, name) for folder, name in zip(folders, _names(resolved), strict=True)]


def _read(folder: Path, name: str) -> Run:
    if not (folder / "samples").is_dir():
        raise UserError(f"{folder} is no run: it has no folder samples; expected a folder that its predict wrote")
    samples: list[Found] = []
    unfinished: list[str] = []
    for path in sorted(path for path in (folder / "samples").iterdir() if path.is_dir()):
        record = read_record(path)
        if record is None:
            unfinished.append(path.name)
        else:
            samples.append(_found(path, record))
    if not samples:
        why = f"{len(unfinished)} folders without a readable {RECORD}" if unfinished else "nothing"
        raise UserError(f"{folder} has no whole samples: samples/ holds {why}; its predict makes them")
    return Run(folder=folder, name=name, samples=samples, unfinished=unfinished)


def _found(folder: Path, record: Mapping[str, Any]) -> Found:
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    size, seconds, damage = None, None, []
    if record.get("status") == "ok":
        for name in (SPECTROGRAM, SOUND):
            try:
                if name == SPECTROGRAM:
                    size = png_size(folder / name)
                else:
                    seconds = wav_seconds(folder / name)
            except FileNotFoundError:
                damage.append(f"{name} is missing")
            except (OSError, EOFError, ValueError, wave.Error) as error:
                damage.append(f"{name} can't be read: {error}")
    return Found(folder=folder, record=record, files=files, size=size, seconds=seconds, damage=damage)


def png_size(path: Path) -> tuple[int, int]:
    """Columns and rows of a PNG, of its header alone (a gallery of thousands has no time for pixels).

    Raises:
        ValueError: it is no PNG.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise ValueError("it is no PNG")
    columns, rows = struct.unpack(">II", head[16:24])
    if not columns or not rows:
        raise ValueError("it has no pixels")
    return columns, rows


def wav_seconds(path: Path) -> float:
    """Length of a WAV file of PCM, of its header alone.

    Raises:
        ValueError, wave.Error, EOFError: it is none, or has no sound.
        OSError: it can't be read.
    """
    with wave.open(str(path), "rb") as sound:
        if not sound.getnframes() or not sound.getframerate():
            raise ValueError("it has no sound")
        return sound.getnframes() / sound.getframerate()


def _names(folders: Sequence[Path]) -> Iterator[str]:
    """The last part of each path, and as many parts before it as tell it from the others."""
    for folder in folders:
        depth = 1
        while depth < len(folder.parts) and sum(f.parts[-depth:] == folder.parts[-depth:] for f in folders) > 1:
            depth += 1
        yield "/".join(folder.parts[-depth:])
