"""The base class of components with pretrained weights."""

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
    """A component whose weights are found and checked before a byte of them is downloaded, and loaded once.

    A subclass writes `select`, `read` and, where shapes can be compared, `check_tensors`; finding, downloading and
    provenance are done here.

    Args:
        weights: `pack:NAME`, a local folder, or `owner/name` on the hub; where `reads_checkpoints` is set also a file.
        revision: branch, tag or commit on the hub; None for the one that is pinned (`its.weights.pin`).
    """

    non_identity_args: ClassVar[tuple[str, ...]] = ("weights", "revision")
    reads_checkpoints = False
    """Whether one checkpoint file can be read in the place of a folder."""

    def __init__(self, *, weights: str, revision: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        self.revision = revision
        self._found: tuple[Source, tuple[str, ...]] | None = None
        self._checked: set[str] = set()
        self._loaded = False

    @abstractmethod
    def select(self, source: Source) -> Sequence[str]:
        """Names of the files to read from a source, after a check of its configs. May be called more than once.

        Raises:
            its.weights.WeightsNotFound: a file is missing.
            its.errors.UserError: this is another kind of model; the message says what was expected.
        """

    def check_file(self, name: str) -> None:
        """Check the beginning of a file that is on this machine, and the whole of a pickle: see `its.weights.files`.

        A subclass leaves out files that its `check_tensors` reads as a whole.

        Raises:
            its.errors.UserError: it is damaged, or holds more than tensors.
        """
        check_file(self.folder / name)

    def check_tensors(self) -> None:
        """Check the shapes in the weights files against the configuration, as far as `Source.shapes` tells them.

        Called by `find`, and again after a download, which tells more of pickled files.

        Raises:
            its.errors.UserError: weights and configuration are of different models.
        """

    @abstractmethod
    def read(self) -> None:
        """Read the files of `self.folder`, in torch's default dtype and device."""

    def find(self) -> list[Download]:
        """Find all files; of a repository of the hub only the small ones are downloaded.

        Returns:
            What has to be downloaded.
        """
        if self._found is None:
            self._found = resolve(self.weights, self.revision, self._selected)
        self._check_files()
        missing = self.source.missing(self.files)
        own = [Download(source=self.source, sizes=missing)] if missing else []
        return own + super().find()

    def prepare(self) -> None:
        """Find all files, download those that are missing, and check that they are whole."""
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
        """Where the files come from. Valid after `find`.

        Raises:
            RuntimeError: `find` was not called.
        """
        return self._valid()[0]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that are read, relative to `folder`. Valid after `find`."""
        return self._valid()[1]

    @property
    def folder(self) -> Path:
        """The folder of the files. Valid after `find`."""
        return self.source.folder

    def provenance(self) -> dict[str, Any]:
        """Name, and the hub's commit and files or a sha256 of the files. Valid after `find`; a folder's are read."""
        return self.source.provenance(self.files)

    def _selected(self, source: Source) -> Sequence[str]:
        if source.checkpoint is not None and not self.reads_checkpoints:
            raise UserError(
                f"weights: {self.weights} is a file, but {type(self).__name__} reads a folder: name the folder, or "
                "owner/name on the hub"
            )
        with _odd_values(source.name):
            names = self.select(source)
            for name in names:
                if Path(name).name == "config.json" and source.json(name).get("quantization_config"):
                    raise UserError(f"{source.name}: {name} is of quantized weights; expected floating point")
        return names

    def _valid(self) -> tuple[Source, tuple[str, ...]]:
        if self._found is None:
            raise RuntimeError(f"{type(self).__name__}: call find() or prepare() first, which find {self.weights}")
        return self._found

    def _check_files(self) -> None:
        """Check the files that are on this machine, each once, and then what they tell of the tensors."""
        missing = self.source.missing(self.files)
        if new := [name for name in self.files if name not in missing and name not in self._checked]:
            for name in new:
                self.check_file(name)
            self._checked.update(new)
            with _odd_values(self.source.name):
                self.check_tensors()


@contextmanager
def _odd_values(name: str) -> Iterator[None]:
    """Turn the errors of code that reads a configuration into one message.

    Raises:
        UserError: a configuration holds values of an unexpected kind.
    """
    try:
        yield
    except (UserError, WeightsNotFound):
        raise
    except Exception as error:  # whatever diffusers and transformers raise of values that they can't use
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"{name}: its configuration holds values that can't be used ({reason})") from error
