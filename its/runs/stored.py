"""Run folders that are there already, read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.runs.sample_files import read_record


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A sample on the disk, made or failed.

    Attributes:
        folder: the sample's.
        record: its `sample.json`.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def whole(self) -> bool:
        """Whether it was made."""
        return self.record.get("status") == "ok"

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
            raise UserError(f"{self.folder} lacks {name}, although its sample.json says ok: make the sample again")
        return path


def samples_of(run: Path) -> list[Stored]:
    """All samples of a run folder that have a record, in the order of their names.

    Raises:
        UserError: it is no run folder, or has no sample.
    """
    if not (run / "samples").is_dir():
        raise UserError(f"{run} is no run: it has no folder samples; expected a folder that its predict wrote")
    found = [(folder, read_record(folder)) for folder in sorted((run / "samples").iterdir())]
    samples = [Stored(folder=folder, record=record) for folder, record in found if record is not None]
    if not samples:
        raise UserError(f"{run} has no sample yet: samples/ holds no sample.json")
    return samples
