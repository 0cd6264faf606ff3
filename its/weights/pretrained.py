"""Base class of components with pretrained weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from its.errors import UserError
from its.interfaces import Component, Download
from its.weights.files import check_file
from its.weights.resolve import resolve
from its.weights.source import Source, WeightsNotFound


class PretrainedComponent(Component, ABC):
    """Base class of components with weights. Weights are checked before the download if possible, and loaded once.

    Subclasses implement `select`, `read` and optionally `check_tensors`.

    Args:
        weights: `pack:NAME`, a local folder, or `owner/name` on the hub; or a file, if `reads_checkpoints` is set.
        revision: branch, tag or commit on the hub; None for the pinned commit (see `its.weights.pin`).
    """

    non_identity_args: ClassVar[tuple[str, ...]] = ("weights", "revision")
    reads_checkpoints = False
    """Whether `weights` may be a single checkpoint file."""

    def __init__(self, *, weights: str, revision: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.revision = revision
        self._selection: tuple[Source, tuple[str, ...]] | None = None
        self._checked: set[str] = set()
        self._loaded = False

    @abstractmethod
    def select(self, source: Source) -> Sequence[str]:
        """Check the configs of a source, and return the names of the files to read. May be called more than once.

        Raises:
            WeightsNotFound: a file is missing.
            UserError: the source is another kind of model.
        """

    def check_file(self, name: str) -> None:
        """Check a local file with `its.weights.files.check_file`.

        Subclasses may skip files that their `check_tensors` reads completely.

        Raises:
            UserError: the file is damaged, or contains other objects than tensors.
        """
        check_file(self.folder / name)

    def check_tensors(self) -> None:
        """Compare tensor shapes from `Source.shapes` with the configuration.

        Called by `find`, and again after a download, since the shapes of pickles are unknown before.

        Raises:
            UserError: weights and configuration belong to different models.
        """

    @abstractmethod
    def read(self) -> None:
        """Read the files in `self.folder`, in torch's default dtype and device."""

    def find(self) -> list[Download]:
        """Find and check all files, downloading only small ones, and return the downloads still required."""
        if self._selection is None:
            self._selection = resolve(self.weights, self.revision, self._select_checked)
        self._check_files()
        missing = self.source.missing(self.files)
        downloads = [Download(source=self.source, sizes=missing)] if missing else []
        return downloads + super().find()

    def prepare(self) -> None:
        """Find all files, download missing ones, and check them."""
        self.find()
        super().prepare()
        self.source.fetch(self.files)
        self._check_files()

    def load(self) -> None:
        """Read the weights, once.

        Raises:
            RuntimeError: `find` was not called.
        """
        if not self._loaded:
            self._valid()
            super().load()
            self.read()
            self._loaded = True

    @property
    def source(self) -> Source:
        """Source of the files. Valid after `find`.

        Raises:
            RuntimeError: `find` was not called.
        """
        return self._valid()[0]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files to read, relative to `folder`. Valid after `find`."""
        return self._valid()[1]

    @property
    def folder(self) -> Path:
        """Folder of the files. Valid after `find`."""
        return self.source.folder

    def provenance(self) -> dict[str, Any]:
        """Return the name and the commit or digest of the weights: see `Source.provenance`. Valid after `find`."""
        return self.source.provenance(self.files)

    def _select_checked(self, source: Source) -> Sequence[str]:
        if source.checkpoint is not None and not self.reads_checkpoints:
            raise UserError(
                f"weights: {self.weights} is a file, but {type(self).__name__} reads a folder: use the folder, or "
                "owner/name on the hub"
            )
        with _config_errors(source.name):
            names = self.select(source)
            for name in names:
                if Path(name).name == "config.json" and source.json(name).get("quantization_config"):
                    raise UserError(f"{source.name}: {name} has quantized weights; expected floating point")
        return names

    def _valid(self) -> tuple[Source, tuple[str, ...]]:
        if self._selection is None:
            raise RuntimeError(f"{type(self).__name__}: call find() or prepare() first to find {self.weights}")
        return self._selection

    def _check_files(self) -> None:
        """Check each local file once, and then the tensors."""
        missing = self.source.missing(self.files)
        if unchecked := [name for name in self.files if name not in missing and name not in self._checked]:
            for name in unchecked:
                self.check_file(name)
            self._checked.update(unchecked)
            with _config_errors(self.source.name):
                self.check_tensors()


@contextmanager
def _config_errors(name: str) -> Iterator[None]:
    """Convert errors from invalid configuration values to UserError."""
    try:
        yield
    except (UserError, WeightsNotFound):
        raise
    except Exception as error:  # diffusers and transformers raise arbitrary errors
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"{name}: the configuration has invalid values ({reason})") from error
