"""The reader of run directories: the only one, for every command that works on samples that exist."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from its import registry
from its.errors import UserError
from its.interfaces import NoiseExpert
from its.media.contained import contained, is_own_file
from its.media.headers import png_size, wav_seconds
from its.runs.records import RECORD, load_record

logger = logging.getLogger(__name__)

SPECTROGRAM, SOUND = "spectrogram.png", "audio.wav"

NAMED = 10
"""Samples left out of a run that are named one by one."""


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
        names = (path.name for path in self.folder.iterdir() if is_own_file(path))
        return sorted(name for name in names if name.isprintable() and not name.startswith("."))

    def file(self, name: str) -> Path | None:
        """One of its files, if it is there."""
        path = self.folder / name
        return path if is_own_file(path) else None

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
            except (OSError, ValueError) as error:
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
        unfinished: names of folders in `samples` without a readable record, each with the reason.
    """

    folder: Path
    name: str
    samples: Sequence[StoredSample]
    unfinished: Mapping[str, str]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run directories, in the order given. Samples without a readable record are named and left out.

    Raises:
        UserError: one is no run, has no samples, holds symbolic links, or is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise UserError(f"{folders[index]} is given twice; expected every run once")
    runs = [_read(folder, name) for folder, name in zip(folders, _names(resolved), strict=True)]
    for run in runs:
        _report(run)
    return runs


def read_run(folder: Path) -> Run:
    """Read one run directory, as `read_runs`, but silently: for files that are made of one that was read before."""
    return _read(folder, folder.resolve().name)


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
    """The samples of these ids that a run directory holds, without those whose record is missing or damaged."""
    found = []
    for name in names:
        with suppress(OSError, ValueError):
            found.append(_sample(run, name))
    return found


def roles_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Which expert's prompt is the picture's ("visual") and which the sound's ("audio").

    As the record says. Older ones don't: then experts of these names, or else the first of those who draw no
    spectrograms, and the first of those who do, as far as their classes are registered.
    """
    if "roles" in record:
        return dict(record["roles"])
    prompts = record.get("prompts", {})
    natural = {role: role for role in ("visual", "audio") if role in prompts}
    return dict(reversed(list(_kinds(record)))) | natural


def _kinds(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    experts = record.get("settings", {}).get("experts")
    for name, described in (experts if isinstance(experts, Mapping) else {}).items():
        while isinstance(described, Mapping) and isinstance(described.get("expert"), Mapping):
            described = described["expert"]  # what a view looks at
        class_name = described.get("class") if isinstance(described, Mapping) else None
        cls = registry.classes("NoiseExpert").get(str(class_name))
        if cls is not None and issubclass(cls, NoiseExpert):
            yield ("visual" if cls.format is None else "audio"), name


def _read(folder: Path, name: str) -> Run:
    if not (folder / "samples").is_dir():
        raise UserError(f"{folder} is no run: it has no folder samples; expected a folder that its predict wrote")
    with os.scandir(contained(folder, folder / "samples")) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    samples, left_out = [], {}
    for entry in names:
        try:
            samples.append(_sample(folder, entry))
        except FileNotFoundError:
            left_out[entry] = f"it has no {RECORD}"
        except (OSError, ValueError) as error:
            left_out[entry] = f"{RECORD} can't be read: {error.strerror if isinstance(error, OSError) else error}"
    if not samples:
        why = f"{len(left_out)} folders without a readable {RECORD}" if left_out else "nothing"
        first = "".join(f" ({entry}: {reason})" for entry, reason in [*left_out.items()][:1])
        raise UserError(f"{folder} has no samples: samples/ holds {why}{first}; its predict makes them")
    return Run(folder=folder, name=name, samples=samples, unfinished=left_out)


def _sample(run: Path, name: str) -> StoredSample:
    """Raises OSError or ValueError: the record is missing or damaged, or the name of the folder can't be used."""
    folder = run / "samples" / name
    if folder.is_symlink():
        raise ValueError("its folder is a symbolic link")
    if not name.isprintable():
        raise ValueError("the name of its folder is not printable")
    return StoredSample(run=run, folder=folder, record=load_record(folder))


def _report(run: Run) -> None:
    for name, reason in [*run.unfinished.items()][:NAMED]:
        logger.warning(f"{run.folder / 'samples' / name} is left out: {reason}")
    if len(run.unfinished) > NAMED:
        logger.warning(f"{run.name}: {len(run.unfinished) - NAMED} more samples are left out")


def _names(folders: Sequence[Path]) -> Iterator[str]:
    """The last part of each path, and as many parts before it as tell it from the others."""
    for folder in folders:
        depth = 1
        while depth < len(folder.parts) and sum(f.parts[-depth:] == folder.parts[-depth:] for f in folders) > 1:
            depth += 1
        yield "/".join(folder.parts[-depth:])
