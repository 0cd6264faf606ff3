"""Find the runs and samples below the output directory of the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from its.errors import UserError
from its.runs.records import RECORD, update_record

if TYPE_CHECKING:
    from its.runs.reader import StoredSample

FAVOURITE = "favourite"
"""Key of records; true for samples that the user marked."""

PUBLIC = (".png", ".wav", ".mp4", ".json", ".safetensors")
"""Suffixes of the files of samples that the page serves."""


class Library:
    """Run directories directly below a folder.

    Args:
        output: the folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def today(self) -> Path:
        """Return the run directory for the samples of this day, which need not exist."""
        return self.output / f"app-{date.today().isoformat()}"

    def runs(self) -> list[str]:
        """Return the names of the run directories, the most recently changed first."""
        found = []
        try:
            with os.scandir(self.output) as entries:
                for entry in entries:
                    samples = Path(entry.path) / "samples"
                    if not entry.is_symlink() and entry.name.isprintable() and _is_folder(samples):
                        found.append((samples.stat().st_mtime, entry.name))
        except FileNotFoundError:
            return []
        return [name for _, name in sorted(found, reverse=True)]

    def run(self, name: str) -> Path:
        """Return the path of a run directory.

        Raises:
            UserError: the output directory has no such run.
        """
        if name not in self.runs():
            raise UserError(f"there is no run {name!r:.80} in {self.output}")
        return self.output / name

    def sample(self, run: str, name: str) -> StoredSample:
        """Read a sample.

        Raises:
            UserError: the run has no such sample, or its record is damaged.
        """
        from its.runs.reader import stored_samples

        folder = self.run(run)
        found = stored_samples(folder, [name]) if name in self._names(folder) else []
        if not found:
            raise UserError(f"there is no sample {name!r:.80} in {folder}")
        return found[0]

    def file(self, run: str, name: str, file: str) -> Path | None:
        """Return the path of a sample's file, or None if the page does not serve it."""
        try:
            sample = self.sample(run, name)
        except UserError:
            return None
        return sample.file(file) if file in sample.files and file.endswith(PUBLIC) else None

    def samples(
        self, run: str, *, first: int = 0, count: int, select: Callable[[StoredSample], bool] | None = None
    ) -> tuple[list[StoredSample], int]:
        """Read samples of a run with a readable record, the newest first.

        Args:
            run: name of the run.
            first: number of samples to skip.
            count: maximum number of samples to read.
            select: condition on the samples; with one, all records are read.

        Returns:
            The samples, and the number of all.

        Raises:
            UserError: there is no such run.
        """
        from its.runs.reader import stored_samples

        folder = self.run(run)
        names = self._names(folder)
        if select is None:
            return stored_samples(folder, names[first : first + count]), len(names)
        selected = [sample for sample in stored_samples(folder, names) if select(sample)]
        return selected[first : first + count], len(selected)

    def set_favourite(self, run: str, name: str, value: bool) -> None:
        """Mark a sample in its record, or remove the mark.

        Raises:
            UserError: there is no such sample, or its record can't be written.
        """
        update_record(self.sample(run, name).folder, {FAVOURITE: value})

    def _names(self, folder: Path) -> list[str]:
        def entries() -> Iterator[tuple[float, str]]:
            with os.scandir(folder / "samples") as found:
                for entry in found:
                    record = Path(entry.path) / RECORD
                    if entry.is_dir(follow_symlinks=False) and record.is_file():
                        yield record.stat().st_mtime, entry.name

        return [name for _, name in sorted(entries(), reverse=True)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
