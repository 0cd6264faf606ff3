"""Read run directories, for all commands that work on existing samples."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from its import registry
from its.errors import UserError
from its.interfaces import NoiseExpert
from its.media.contained import contained, is_own_file
from its.media.headers import png_size, wav_seconds
from its.media.limited import reason
from its.runs.records import RECORD, load_record

logger = logging.getLogger(__name__)

SPECTROGRAM, SOUND = "spectrogram.png", "audio.wav"

MAX_LISTED = 10
"""Maximum number of unreadable samples of a run that are listed one by one."""


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """A sample in a run directory: complete, failed or stopped early.

    Attributes:
        run: the run directory.
        folder: folder of the sample.
        record: content of `sample.json`.
    """

    run: Path
    folder: Path
    record: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the sample is complete, by its record."""
        return self.record.get("status") == "ok"

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a mapping of the record; empty if it is missing."""
        value = self.record.get(key)
        return dict(value) if isinstance(value, Mapping) else {}

    def prompt(self, role: str) -> str:
        """Return the prompt for a role, "visual" or "audio"; empty if the sample has none."""
        return str(self.mapping("prompts").get(roles_of(self.record).get(role, "")) or "")

    @cached_property
    def files(self) -> list[str]:
        """Sorted names of the files in the folder, without hidden ones and symbolic links."""
        names = (path.name for path in self.folder.iterdir() if is_own_file(path))
        return sorted(name for name in names if name.isprintable() and not name.startswith("."))

    def file(self, name: str) -> Path | None:
        """Return the path of a file of the sample; None if the file is missing or a symbolic link."""
        path = self.folder / name
        return path if is_own_file(path) else None

    def require(self, name: str) -> Path:
        """Return the path of a file of the sample.

        Raises:
            UserError: the file is missing or a symbolic link.
        """
        path = self.file(name)
        if path is None:
            raise UserError(f"{self.folder} lacks {name}, although the status in {RECORD} is ok: make the sample again")
        return path

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the spectrogram in pixels; None if it is missing or damaged."""
        return self._headers[0].get(SPECTROGRAM)

    @property
    def seconds(self) -> float | None:
        """Duration of the sound; None if it is missing or damaged."""
        return self._headers[0].get(SOUND)

    @property
    def damage(self) -> Sequence[str]:
        """Names of missing and damaged files of a complete sample, each with the reason."""
        return self._headers[1]

    @property
    def playable(self) -> bool:
        """Whether the sample has a readable spectrogram and sound."""
        return self.size is not None and self.seconds is not None

    @cached_property
    def _headers(self) -> tuple[dict[str, Any], list[str]]:
        """Size and duration by file name, and the damage."""
        values: dict[str, Any] = {}
        damage = []
        for name, read in ((SPECTROGRAM, png_size), (SOUND, wav_seconds)) if self.complete else ():
            try:
                values[name] = read(self.folder / name)
            except FileNotFoundError:
                damage.append(f"{name} is missing")
            except (OSError, ValueError) as error:
                damage.append(f"{name} can't be read: {reason(error)}")
        return values, damage


@dataclass(frozen=True, kw_only=True)
class Run:
    """Content of a run directory.

    Attributes:
        folder: path of the run directory.
        name: name for display; unique among runs that are read together.
        samples: samples with a readable record, sorted by id.
        unfinished: names of the folders without a readable record, with the reasons.
    """

    folder: Path
    name: str
    samples: Sequence[StoredSample]
    unfinished: Mapping[str, str]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run directories, in the given order. Samples without a readable record are logged and left out.

    Raises:
        UserError: a folder is not a run directory, has no samples, has a symbolic link for `samples`, or is given
            twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise UserError(f"{folders[index]} is given twice; expected every run once")
    runs = [_read(folder, name) for folder, name in zip(folders, _names(resolved), strict=True)]
    for run in runs:
        for name, cause in [*run.unfinished.items()][:MAX_LISTED]:
            logger.warning(f"{run.folder / 'samples' / name} is left out: {cause}")
        if len(run.unfinished) > MAX_LISTED:
            logger.warning(f"{run.name}: {len(run.unfinished) - MAX_LISTED} more samples are left out")
    return runs


def read_run(folder: Path) -> Run:
    """Read one run directory as `read_runs` does, but without logging."""
    return _read(folder, folder.resolve().name)


def complete_samples(folders: Sequence[Path]) -> list[StoredSample]:
    """Read the complete samples of run directories, in their order.

    Raises:
        UserError: as `read_runs`; or a run has no complete sample, or a sample lacks its spectrogram or sound.
    """
    samples = []
    for run in read_runs(folders):
        complete = [sample for sample in run.samples if sample.complete]
        if not complete:
            raise UserError(f"{run.folder} has no complete sample: no samples/*/{RECORD} has the status ok")
        samples += complete
    for sample in samples:
        sample.require(SPECTROGRAM)
        sample.require(SOUND)
    return samples


def stored_samples(run: Path, names: Sequence[str]) -> list[StoredSample]:
    """Read the samples with these ids in a run directory, except those without a readable record."""
    samples = []
    for name in names:
        with suppress(OSError, ValueError):
            samples.append(_sample(run, name))
    return samples


def roles_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the experts whose prompts describe the picture ("visual") and the sound ("audio").

    If the key `roles` is missing, as in old records, experts named "visual" and "audio" have these roles. Otherwise
    the first expert without a spectrogram format is visual, and the first with one is audio, if their classes are
    registered.
    """
    if "roles" in record:
        return dict(record["roles"])
    prompts = record.get("prompts", {})
    by_name = {role: role for role in ("visual", "audio") if role in prompts}
    return dict(reversed(list(_roles_by_class(record)))) | by_name


def _roles_by_class(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    experts = record.get("settings", {}).get("experts")
    for name, described in (experts if isinstance(experts, Mapping) else {}).items():
        while isinstance(described, Mapping) and isinstance(described.get("expert"), Mapping):
            described = described["expert"]  # wrapped by a view
        class_name = described.get("class") if isinstance(described, Mapping) else None
        cls = registry.classes("NoiseExpert").get(str(class_name))
        if cls is not None and issubclass(cls, NoiseExpert):
            yield ("visual" if cls.format is None else "audio"), name


def _read(folder: Path, name: str) -> Run:
    if not (folder / "samples").is_dir():
        raise UserError(f"{folder} has no folder samples; expected a run directory of `its predict`")
    with os.scandir(contained(folder, folder / "samples")) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    samples, unfinished = [], {}
    for entry in names:
        try:
            samples.append(_sample(folder, entry))
        except FileNotFoundError:
            unfinished[entry] = f"it has no {RECORD}"
        except (OSError, ValueError) as error:
            unfinished[entry] = f"{RECORD} can't be read: {reason(error)}"
    if not samples:
        content = f"{len(unfinished)} folders without a readable {RECORD}" if unfinished else "nothing"
        first = "".join(f" ({entry}: {cause})" for entry, cause in [*unfinished.items()][:1])
        raise UserError(f"{folder} has no samples: samples/ has {content}{first}; make samples with `its predict`")
    return Run(folder=folder, name=name, samples=samples, unfinished=unfinished)


def _sample(run: Path, name: str) -> StoredSample:
    """Read a sample. Raises OSError or ValueError if its record or the name of its folder is invalid."""
    folder = run / "samples" / name
    if folder.is_symlink():
        raise ValueError("the folder is a symbolic link")
    if not name.isprintable():
        raise ValueError("the name of the folder is not printable")
    return StoredSample(run=run, folder=folder, record=load_record(folder))


def _names(folders: Sequence[Path]) -> Iterator[str]:
    """Yield a name for each path: its last components, as many as make the name unique."""
    for folder in folders:
        depth = 1
        while depth < len(folder.parts) and sum(f.parts[-depth:] == folder.parts[-depth:] for f in folders) > 1:
            depth += 1
        yield "/".join(folder.parts[-depth:])
