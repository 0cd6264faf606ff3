"""Repositories of the Hugging Face hub: pinned commits, the cache, listings, downloads, and why one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from its.errors import UserError
from its.media.atomic import atomic
from its.weights.files import Shapes
from its.weights.source import Source, WeightsNotFound, folder_source

Result = TypeVar("Result")

_pins: dict[str, Pin] = {}
_local_only: ContextVar[list[str] | None] = ContextVar("local_only", default=None)
_silent: dict[str, str] = {}
"""Endpoints that did not answer in this process, with the error; each is asked once."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Commit and licence page of a repository of the hub.

    Attributes:
        revision: the commit that is read where none is named; None for the default branch.
        licence_page: where its licence is accepted, if not on its own page.
    """

    revision: str | None = None
    licence_page: str | None = None


def pin(repositories: Mapping[str, Pin]) -> None:
    """Say which commits of repositories are read where a config names none."""
    _pins.update(repositories)


def pinned(repository: str) -> str | None:
    """The commit that a repository is pinned to; None for its default branch."""
    return _pins.get(repository, Pin()).revision


def cached(repository: str, revision: str | None, *, name: str, checkpoint: str | None) -> Source | None:
    """The snapshot in the hub's cache, whole or partial; None without one."""
    from huggingface_hub import constants

    root = _cache_folder(repository)
    branch = revision or constants.DEFAULT_REVISION
    try:
        commit = (root / "refs" / branch).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = branch
    folder = root / "snapshots" / commit
    return folder_source(name, folder, revision=commit, checkpoint=checkpoint) if folder.is_dir() else None


def listed(repository: str, revision: str | None, *, name: str, checkpoint: str | None) -> Source:
    """The files that a repository has on the hub, with their sizes.

    Raises:
        WeightsNotFound: the hub doesn't answer, or has no such repository or revision for this user.
    """
    from huggingface_hub import constants

    if (refused := _local_only.get()) is not None:
        refused.append(repository)
        raise WeightsNotFound(f"{repository} is not on this machine", "The first run that needs it downloads it")
    if constants.HF_HUB_OFFLINE:
        raise WeightsNotFound(
            f"{repository} is not on this machine, and HF_HUB_OFFLINE is set",
            "Unset it to download, or name a local folder",
        )
    commit, sizes = _listing(constants.ENDPOINT, repository, revision)
    if checkpoint is not None and checkpoint not in sizes:
        raise WeightsNotFound(f"{repository} has no file {checkpoint} on the hub", "Check the name")
    folder = _cache_folder(repository) / "snapshots" / commit
    return Repository(
        name=name,
        repository=repository,
        branch=revision or constants.DEFAULT_REVISION,
        folder=folder,
        sizes=sizes,
        revision=commit,
        checkpoint=checkpoint,
    )


@dataclass(kw_only=True)
class Repository(Source):
    """A repository of the hub at one commit, from its listing. Files are downloaded into the hub's cache.

    Attributes:
        repository: `owner/name`.
        branch: branch, tag or commit that was listed.
    """

    repository: str
    branch: str

    def path(self, name: str) -> Path:
        """Where a small file is on this machine; it is downloaded now.

        Raises:
            WeightsNotFound: it can't be.
        """
        if self.missing([name]):
            self.fetch([name], quiet=True)
        return self.folder / name

    def shapes(self, name: str) -> Shapes | None:
        """From the beginning of a safetensors file, of which nothing else is downloaded."""
        if not self.missing([name]):
            return super().shapes(name)
        if not name.lower().endswith(".safetensors"):
            return None
        from huggingface_hub import HfApi
        from huggingface_hub.errors import SafetensorsParsingError

        def parse() -> Any:
            try:
                return HfApi().parse_safetensors_file_metadata(self.repository, name, revision=self.revision)
            except AttributeError as error:  # a header of JSON that is no mapping
                raise SafetensorsParsingError(str(error)) from None

        header = _asked(self.repository, parse)
        return {tensor: tuple(info.shape) for tensor, info in header.tensors.items()}

    def missing(self, names: Sequence[str]) -> dict[str, int]:
        """Bytes of the files that are not in the cache, by name."""
        return {name: self.sizes[name] for name in names if not (self.folder / name).exists()}

    def fetch(self, names: Sequence[str], *, quiet: bool = False) -> None:
        """Download the files that are not in the cache.

        Args:
            names: of files.
            quiet: whether no progress is shown.

        Raises:
            WeightsNotFound: one can't be downloaded.
        """
        from huggingface_hub import hf_hub_download

        bar = {"tqdm_class": Silent} if quiet else {}
        # One after the other: the threads of snapshot_download go on with files in flight after Ctrl-C, and a large
        # file is downloaded in parallel parts anyway.
        for name in self.missing(names):
            _asked(self.repository, partial(hf_hub_download, self.repository, name, revision=self.revision, **bar))
        self._write_ref()

    def _write_ref(self) -> None:
        """Write the commit of the branch where `cached` reads it; `huggingface_hub`, given a commit, doesn't."""
        ref = _cache_folder(self.repository) / "refs" / self.branch
        if self.branch == self.revision or not self.folder.is_dir():
            return
        try:
            ref.parent.mkdir(parents=True, exist_ok=True)
            with atomic(ref) as written:
                written.write_text(str(self.revision), encoding="ascii")
        except OSError:  # a cache that others wrote: the hub is asked again next time
            return


class Silent(tqdm):  # type: ignore[type-arg]
    """A progress bar that shows nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **(options | {"disable": True}))


@contextmanager
def local_only() -> Iterator[list[str]]:
    """Within this context nothing is asked of the hub; yields the names of repositories that it had to be asked for."""
    refused: list[str] = []
    token = _local_only.set(refused)
    try:
        yield refused
    finally:
        _local_only.reset(token)


def trouble() -> str | None:
    """Why nothing can be downloaded; None if the hub answers."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - the hub's HTTP library and its exceptions change between releases
        return f"{constants.ENDPOINT} did not answer ({type(error).__name__})"
    return None


def licence_page(repository: str) -> str:
    """Where the licence of a gated repository is accepted."""
    from huggingface_hub import constants

    return _pins.get(repository, Pin()).licence_page or f"{constants.ENDPOINT}/{repository}"


@cache
def _listing(endpoint: str, repository: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """Commit of a revision, and the bytes of its files by name; asked once for all components of a repository."""
    from huggingface_hub import HfApi, constants

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = _asked(
        repository,
        lambda: HfApi(endpoint).model_info(repository, revision=revision, files_metadata=True, timeout=timeout),
        revision=revision,
    )
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or []}


def _cache_folder(repository: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}"


def _asked(repository: str, ask: Callable[[], Result], *, revision: str | None = None) -> Result:
    """What the hub answers.

    Raises:
        WeightsNotFound: it doesn't answer, or refuses; the message says what to do.
    """
    from huggingface_hub import constants, errors

    endpoint = constants.ENDPOINT
    if endpoint in _silent:
        raise _out_of_reach(repository, endpoint)
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        return ask()
    except errors.HFValidationError:
        raise WeightsNotFound(
            f"{repository} is neither on this machine nor a name on the hub", "Expected a folder, or owner/name"
        ) from None
    except errors.GatedRepoError:
        page = licence_page(repository)
        raise WeightsNotFound(f"{repository} is gated", f"Accept its licence on {page}, then {login}") from None
    except errors.RepositoryNotFoundError:
        raise WeightsNotFound(
            f"{repository} is not on this machine, and the hub shows no such repository",
            f"Check the name; if it is private, {login}",
        ) from None
    except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        what = f"revision {revision}" if isinstance(error, errors.RevisionNotFoundError) else "such file"
        raise WeightsNotFound(f"{repository} has no {what} on the hub", "Check revision and weights") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 416:  # a part of an empty file
            raise UserError(f"{repository} holds an empty file: get the weights from another source") from None
        if status in (401, 403):
            raise WeightsNotFound(
                f"{endpoint} refuses the login for {repository} ({status})",
                "Renew the token with `hf auth login`, or unset HF_TOKEN: most repositories need none",
            ) from None
        reason = f"{endpoint} answered {status or 'with an error'} for {repository}"
        raise WeightsNotFound(reason, "Try again later") from None
    except errors.SafetensorsParsingError:
        raise UserError(f"{repository} holds a damaged safetensors file: get the weights from another source") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _noted(repository, endpoint, error) from None
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise _noted(repository, endpoint, error) from None
        if error.errno is None:
            said = " ".join(str(error).split())[:200]
            raise WeightsNotFound(f"{repository} can't be downloaded: {said}", "Run the same command again") from None
        where = error.filename or constants.HF_HUB_CACHE
        raise UserError(
            f"{repository} can't be downloaded: {where}: {error.strerror}. Make room there, "
            "or set HF_HOME to a folder on another disk"
        ) from None
    except Exception as error:
        # By name: the hub's HTTP library changes between releases.
        if any(cls.__name__ == "TransportError" for cls in type(error).__mro__):
            raise _noted(repository, endpoint, error) from None
        raise


def _noted(repository: str, endpoint: str, error: Exception) -> WeightsNotFound:
    """The error for a hub that doesn't answer, which is not asked again."""
    said = " ".join(str(error).split())[:100]
    _silent[endpoint] = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return _out_of_reach(repository, endpoint)


def _out_of_reach(repository: str, endpoint: str) -> WeightsNotFound:
    return WeightsNotFound(
        f"{repository} is not on this machine, and {endpoint} did not answer ({_silent[endpoint]})",
        "Connect to the network and run again, or name a local folder",
    )
