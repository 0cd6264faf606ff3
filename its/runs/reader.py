"""The reader of run directories: the only one, for every command that works on samples that exist."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from its import registry
from its.errors import UserError
from its.interfaces import NoiseExpert
from its.runs.sample_files import RECORD, read_record

SPECTROGRAM, SOUND = "spectrogram.png", "audio.wav"


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """A sample in a run directory: made, failed or stopped early.

    Attributes:
        run: the run directory.
        folder: the sample's own.
        record: its `sample.json`.
    """

    run: Path
    folder: Path
    record: Mapping[str, Any]

    @property
    def whole(self) -> bool:
        """Whether it was made."""
        return self.record.get("status") == "ok"

    def part(self, key: str) -> dict[str, Any]:
        """A mapping of the record; empty where there is none."""
        value = self.record.get(key)
        return dict(value) if isinstance(value, Mapping) else {}

    def prompt(self, role: str) -> str:
        """What it should show ("visual") or sound like ("audio"); empty if it has no such prompt."""
        return str(self.part("prompts").get(roles_of(self.record).get(role, "")) or "")

    @cached_property
    def files(self) -> list[str]:
        """Names of the files in its folder, sorted."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))

    def file(self, name: str) -> Path | None:
        """One of its files, if it is there."""
        path = self.folder / name
        return path if path.is_file() else None

    def need(self, name: str) -> Path:
        """One of its files.

        Raises:
            UserError: it is missing.
        """
        path = self.file(name)
        if path is None:
            raise UserError(f"{self.folder} lacks {name}, although its {RECORD} says ok: make the sample again")
        return path

    @property
    def size(self) -> tuple[int, int] | None:
        """Columns and rows of the spectrogram; None where it can't be read, or wasn't made."""
        return self._headers.size

    @property
    def seconds(self) -> float | None:
        """Length of the sound; None where it can't be read, or wasn't made."""
        return self._headers.seconds

    @property
    def damage(self) -> Sequence[str]:
        """Files that should be there and are missing or can't be read, each with what is wrong."""
        return self._headers.damage

    @property
    def playable(self) -> bool:
        """Whether there is a picture and its sound."""
        return self.size is not None and self.seconds is not None

    @cached_property
    def _headers(self) -> _Headers:
        headers = _Headers()
        for name in (SPECTROGRAM, SOUND) if self.whole else ():
            try:
                if name == SPECTROGRAM:
                    headers.size = png_size(self.folder / name)
                else:
                    headers.seconds = wav_seconds(self.folder / name)
            except FileNotFoundError:
                headers.damage.append(f"{name} is missing")
            except (OSError, EOFError, ValueError, wave.Error) as error:
                headers.damage.append(f"{name} can't be read: {error}")
        return headers


@dataclass
class _Headers:
    size: tuple[int, int] | None = None
    seconds: float | None = None
    damage: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory.

    Attributes:
        folder: where it is.
        name: what to call it; unique among the runs that are read together.
        samples: those with a record, in the order of their ids.
        unfinished: folders of samples without a readable record.
    """

    folder: Path
    name: str
    samples: Sequence[StoredSample]
    unfinished: Sequence[str]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run directories, in the order given.

    Raises:
        UserError: one is no run, has no samples, or is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise UserError(f"{folders[index]} is given twice; expected every run once")
    return [_read(folder, name) for folder, name in zip(folders, _names(resolved), strict=True)]


def whole_samples(folders: Sequence[Path]) -> list[StoredSample]:
    """All whole samples of run directories, in their order; others are passed over.

    Raises:
        UserError: as `read_runs`; or a run has no whole sample, or a sample lacks its picture or its sound.
    """
    found = []
    for run in read_runs(folders):
        whole = [sample for sample in run.samples if sample.whole]
        if not whole:
            raise UserError(f"{run.folder} has no whole sample: no samples/*/{RECORD} says ok; its predict makes them")
        found += whole
    for sample in found:
        for name in (SPECTROGRAM, SOUND):
            sample.need(name)
    return found


def stored_samples(run: Path, names: Sequence[str]) -> list[StoredSample]:
    """The samples of these ids that a run directory holds."""
    found = [(run / "samples" / name, read_record(run / "samples" / name)) for name in names]
    return [StoredSample(run=run, folder=folder, record=record) for folder, record in found if record is not None]


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


def _read(folder: Path, name: str) -> Run:
    if not (folder / "samples").is_dir():
        raise UserError(f"{folder} is no run: it has no folder samples; expected a folder that its predict wrote")
    names = sorted(path.name for path in (folder / "samples").iterdir() if path.is_dir())
    samples = stored_samples(folder, names)
    unfinished = sorted(set(names) - {sample.folder.name for sample in samples})
    if not samples:
        why = f"{len(unfinished)} folders without a readable {RECORD}" if unfinished else "nothing"
        raise UserError(f"{folder} has no samples: samples/ holds {why}; its predict makes them")
    return Run(folder=folder, name=name, samples=samples, unfinished=unfinished)


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
