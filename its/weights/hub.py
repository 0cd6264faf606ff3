"""Access the Hugging Face hub: pinned commits, the cache, file listings, downloads and their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import constants
from tqdm import tqdm

from its.errors import UserError
from its.media.atomic import atomic
from its.weights.files import Shapes
from its.weights.source import Source, WeightsNotFound, folder_source

Result = TypeVar("Result")

_pins: dict[str, Pin] = {}
_local_only: ContextVar[list[str] | None] = ContextVar("local_only", default=None)
_count: ContextVar[Callable[[int], None] | None] = ContextVar("count", default=None)
_unreachable: dict[str, str] = {}
"""Errors of unreachable endpoints, by URL; this process does not contact them again."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Default commit and licence page of a repository.

    Attributes:
        revision: commit to use if the config sets none; None for the default branch.
        licence_page: page for accepting the licence, if not the repository's own page.
    """

    revision: str | None = None
    licence_page: str | None = None


def pin(repositories: Mapping[str, Pin]) -> None:
    """Register the default commits and licence pages of repositories."""
    _pins.update(repositories)


def pinned_revision(repository: str) -> str | None:
    """Return the pinned commit of a repository; None for its default branch."""
    return _pins.get(repository, Pin()).revision


def cached_snapshot(repository: str, revision: str | None, *, name: str, checkpoint: str | None) -> Source | None:
    """Return the snapshot of a repository in the hub's cache, which may be incomplete, or None."""
    root = _cache_folder(repository)
    branch = revision or constants.DEFAULT_REVISION
    try:
        commit = (root / "refs" / branch).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = branch
    folder = root / "snapshots" / commit
    return folder_source(name, folder, revision=commit, checkpoint=checkpoint) if folder.is_dir() else None


def list_repository(repository: str, revision: str | None, *, name: str, checkpoint: str | None) -> Source:
    """List the files of a repository on the hub.

    Raises:
        WeightsNotFound: the hub is unreachable, or this user has no access to such a repository or revision.
    """
    if (refused := _local_only.get()) is not None:
        refused.append(repository)
        raise WeightsNotFound(f"{repository} is not on this machine", "The first run that uses it downloads it")
    if constants.HF_HUB_OFFLINE:
        reason = f"{repository} is not on this machine, and HF_HUB_OFFLINE is set"
        raise WeightsNotFound(reason, "Unset it to download, or use a local folder")
    commit, sizes = _listing(constants.ENDPOINT, repository, revision)
    if checkpoint is not None and checkpoint not in sizes:
        raise WeightsNotFound(f"{repository} has no file {checkpoint} on the hub", "Check the name")
    return Repository(
        name=name,
        repository=repository,
        branch=revision or constants.DEFAULT_REVISION,
        folder=_cache_folder(repository) / "snapshots" / commit,
        sizes=sizes,
        revision=commit,
        checkpoint=checkpoint,
    )


@dataclass(kw_only=True)
class Repository(Source):
    """Repository (`owner/name`) on the hub at one commit. Files are downloaded to the hub's cache."""

    repository: str
    branch: str
    """Branch, tag or commit."""

    def path(self, name: str) -> Path:
        """Return the path of a small file, downloaded if necessary.

        Raises:
            WeightsNotFound: the download failed.
        """
        if self.missing([name]):
            self.fetch([name], quiet=True)
        return self.folder / name

    def shapes(self, name: str) -> Shapes | None:
        """Return the shapes of a file's tensors; of a remote safetensors file, only the header is downloaded."""
        if not self.missing([name]):
            return super().shapes(name)
        if not name.lower().endswith(".safetensors"):
            return None
        from huggingface_hub import HfApi
        from huggingface_hub.errors import SafetensorsParsingError

        def parse() -> Any:
            try:
                return HfApi().parse_safetensors_file_metadata(self.repository, name, revision=self.revision)
            except AttributeError as error:  # the header's JSON is not a mapping
                raise SafetensorsParsingError(str(error)) from None

        header = _request(self.repository, parse)
        return {tensor: tuple(info.shape) for tensor, info in header.tensors.items()}

    def missing(self, names: Sequence[str]) -> dict[str, int]:
        """Return the bytes of files that are not in the cache, by name."""
        return {name: self.sizes[name] for name in names if not (self.folder / name).exists()}

    def fetch(self, names: Sequence[str], *, quiet: bool = False) -> None:
        """Download the files that are not in the cache, with progress bars unless `quiet`.

        Raises:
            WeightsNotFound: a download failed.
        """
        from huggingface_hub import hf_hub_download

        count = _count.get()
        bar = {"tqdm_class": _Silent} if quiet else {} if count is None else {"tqdm_class": _counting(count)}
        # Sequential, since the threads of snapshot_download continue after Ctrl-C. Large files are downloaded in
        # parallel chunks anyway.
        for name in self.missing(names):
            _request(self.repository, partial(hf_hub_download, self.repository, name, revision=self.revision, **bar))
        self._write_ref()

    def _write_ref(self) -> None:
        """Record the branch's commit for `cached_snapshot`; `huggingface_hub` does not when given a commit."""
        if self.branch == self.revision or not self.folder.is_dir():
            return
        ref = _cache_folder(self.repository) / "refs" / self.branch
        with suppress(OSError):  # if the cache is read-only, the hub is queried again next time
            ref.parent.mkdir(parents=True, exist_ok=True)
            with atomic(ref) as written:
                written.write_text(str(self.revision), encoding="ascii")


@contextmanager
def count_bytes(count: Callable[[int], None]) -> Iterator[None]:
    """Context in which downloads call `count` with the bytes since its last call, and show no progress bars.

    An exception in `count` ends the download. A later one continues it.
    """
    token = _count.set(count)
    try:
        yield
    finally:
        _count.reset(token)


def _counting(count: Callable[[int], None]) -> type[tqdm[Any]]:
    class Counting(_Silent):
        def update(self, n: float | None = 1) -> bool | None:
            count(int(n or 0))
            return super().update(n)

    return Counting


class _Silent(tqdm):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **(options | {"disable": True}))


@contextmanager
def local_only() -> Iterator[list[str]]:
    """Context without access to the hub; yields the list of repositories for which access was refused."""
    refused: list[str] = []
    token = _local_only.set(refused)
    try:
        yield refused
    finally:
        _local_only.reset(token)


def unreachable_reason() -> str | None:
    """Return the reason why the hub is unreachable, or None."""
    from huggingface_hub import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - the hub's HTTP library changes between releases
        return f"{constants.ENDPOINT} is unreachable ({type(error).__name__})"
    return None


def retry_unreachable() -> None:
    """Contact endpoints again that were unreachable before."""
    _unreachable.clear()


def licence_page(repository: str) -> str:
    """Return the page for accepting the licence of a gated repository."""
    return _pins.get(repository, Pin()).licence_page or f"{constants.ENDPOINT}/{repository}"


@cache
def _listing(endpoint: str, repository: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """Return the commit of a revision, and the bytes of its files by name."""
    from huggingface_hub import HfApi

    options: dict[str, Any] = {"files_metadata": True, "timeout": constants.HF_HUB_ETAG_TIMEOUT}
    call = partial(HfApi(endpoint).model_info, repository, revision=revision, **options)
    info = _request(repository, call, revision=revision)
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or []}


def _cache_folder(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}"


def _request(repository: str, call: Callable[[], Result], *, revision: str | None = None) -> Result:
    """Call the hub, and convert its errors.

    Raises:
        WeightsNotFound: the hub is unreachable, or refuses the request.
        UserError: a file of the repository is damaged, or can't be written.
    """
    from huggingface_hub import errors

    endpoint = constants.ENDPOINT
    unreachable = f"{repository} is not on this machine, and {endpoint} is unreachable"
    connect = "Connect to the network and run again, or use a local folder"
    if endpoint in _unreachable:
        raise WeightsNotFound(f"{unreachable} ({_unreachable[endpoint]})", connect)
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        return call()
    except errors.HFValidationError:
        reason = f"{repository} is neither on this machine nor a valid name on the hub"
        raise WeightsNotFound(reason, "Expected a folder, or owner/name") from None
    except errors.GatedRepoError:
        page = licence_page(repository)
        raise WeightsNotFound(f"{repository} is gated", f"Accept its licence on {page}, then {login}") from None
    except errors.RepositoryNotFoundError:
        reason = f"{repository} is not on this machine, and the hub has no such repository"
        raise WeightsNotFound(reason, f"Check the name; if it is private, {login}") from None
    except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        what = f"revision {revision}" if isinstance(error, errors.RevisionNotFoundError) else "such file"
        raise WeightsNotFound(f"{repository} has no {what} on the hub", "Check revision and weights") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 416:  # a range of an empty file
            raise UserError(f"{repository} has an empty file: get the weights from another source") from None
        if status in (401, 403):
            raise WeightsNotFound(
                f"{endpoint} refuses the login for {repository} ({status})",
                "Renew the token with `hf auth login`, or unset HF_TOKEN: most repositories need none",
            ) from None
        reason = f"{endpoint} returned {status or 'an error'} for {repository}"
        raise WeightsNotFound(reason, "Try again later") from None
    except errors.SafetensorsParsingError:
        raise UserError(f"{repository} has a damaged safetensors file: get the weights from another source") from None
    except Exception as error:
        text = " ".join(str(error).split())
        # TransportError by name, since the hub's HTTP library changes between releases.
        is_transport = any(cls.__name__ == "TransportError" for cls in type(error).__mro__)
        if is_transport or isinstance(error, ConnectionError | TimeoutError | errors.LocalEntryNotFoundError):
            _unreachable[endpoint] = type(error).__name__ + (f": {text[:100]}" if text else "")
            raise WeightsNotFound(f"{unreachable} ({_unreachable[endpoint]})", connect) from None
        if not isinstance(error, OSError):
            raise
        if error.errno is None:
            reason = f"{repository} can't be downloaded: {text[:200]}"
            raise WeightsNotFound(reason, "Run the same command again") from None
        raise UserError(
            f"{repository} can't be downloaded: {error.filename or constants.HF_HUB_CACHE}: {error.strerror}. Free "
            "some space, or set HF_HOME to a folder on another disk"
        ) from None
