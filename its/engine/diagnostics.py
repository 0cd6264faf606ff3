"""Checks of the installation for `its doctor`. Heavy packages are imported where they are used."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from its import DISTRIBUTION

if TYPE_CHECKING:
    from its.weights import Download, PretrainedComponent

GIB = 2**30

WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""W&B's own servers, by the older and the newer name."""


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    Attributes:
        level: `wrong` if `its predict` can't run, `note` if it can.
        what: description of the state.
        remedy: action that fixes it; empty if none is needed.
    """

    level: Literal["ok", "note", "wrong"]
    what: str
    remedy: str = ""


def diagnose(configs: Sequence[Path], output: Path) -> Iterator[Finding]:
    """Run all checks, the quick ones first.

    Args:
        configs: files, each over the one before, whose weights are checked; if empty, those of all components.
        output: folder for runs.

    Raises:
        UserError: a config can't be read.
    """
    yield from versions()
    yield from disk(output)
    yield from wandb_login()
    yield from video()
    yield from network()
    yield from weights(configs)
    yield from devices()
    yield from plugins()


def versions() -> Iterator[Finding]:
    """Compare the versions of packages with the declared dependencies, and torch's with torchaudio's."""
    from packaging.requirements import Requirement

    declared = [Requirement(line) for line in requires(DISTRIBUTION) or []]
    required = [need for need in declared if need.marker is None or need.marker.evaluate({"extra": ""})]
    misfits = 0
    for need in required:
        installed = _version(need.name)
        if installed is None or not need.specifier.contains(installed, prereleases=True):
            misfits += 1
            remedy = f'pip install "{need.name}{need.specifier}"'
            what = f"{need.name} is {installed or 'missing'}, expected {need.specifier or 'any'}"
            yield Finding("wrong", what, remedy)
    yield from _check_torch_builds()
    if not misfits:
        python = platform.python_version()
        what = f"Python {python}, its {version(DISTRIBUTION)}, and {len(required)} packages of versions that fit"
        yield Finding("ok", what)


def _check_torch_builds() -> Iterator[Finding]:
    """Check that torch and torchaudio are of one release and CUDA version, which torchaudio does not declare."""
    torch, torchaudio = _version("torch"), _version("torchaudio")
    if torch is None or torchaudio is None:
        return
    builds = [number.partition("+") for number in (torch, torchaudio)]
    releases, kinds = [b[0].split(".")[:2] for b in builds], [b[2] for b in builds]
    if releases[0] != releases[1] or (all(kinds) and kinds[0] != kinds[1]):
        remedy = "install both at once, of one release and one build: pip install torch==2.11.* torchaudio==2.11.*"
        yield Finding("wrong", f"torch {torch} and torchaudio {torchaudio} are incompatible", remedy)
    else:
        yield Finding("ok", f"torch {torch} and torchaudio {torchaudio} are compatible")


def disk(output: Path) -> Iterator[Finding]:
    """Check that the folders for runs and downloads have space and can be written.

    `weights` compares the space with the size of downloads.
    """
    places = (
        ("runs", output, "choose another folder with --output"),
        ("the Hugging Face cache", _cache(), "set HF_HOME to a folder that can be written to"),
    )
    for name, folder, remedy in places:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        what = f"{free / GIB:.0f} GiB free for {name} ({folder})"
        if not os.access(existing, os.W_OK):
            yield Finding("wrong", f"{existing}, the place of {name}, can't be written to", remedy)
        elif free < GIB:
            yield Finding("note" if free > GIB / 4 else "wrong", what, "free some space; 1 GiB is enough")
        else:
            yield Finding("ok", what)


def wandb_login() -> Iterator[Finding]:
    """Check for a W&B key, without showing it."""
    mode = os.environ.get("WANDB_MODE", "online")
    configured = urlparse(os.environ.get("WANDB_BASE_URL", "")).hostname
    hosts = (configured,) if configured else WANDB_HOSTS
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        in_file = file.is_file() and any(netrc(str(file)).authenticators(host) for host in hosts)
    except (NetrcParseError, OSError):
        yield Finding("note", f"{file} can't be read", "correct it, or log in again with `wandb login`")
        return
    place = "WANDB_API_KEY" if os.environ.get("WANDB_API_KEY") else str(file) if in_file else None
    if mode != "online":
        yield Finding("ok", f"W&B: WANDB_MODE is {mode}")
    elif place is None:
        remedy = "to use W&B, run `wandb login` or log offline"
        yield Finding("note", f"W&B: no login for {hosts[0]}", remedy)
    else:
        yield Finding("ok", f"W&B: a key is in {place}")


def video() -> Iterator[Finding]:
    """Check that PyAV has the encoders for videos."""
    try:
        import av
    except ImportError as error:
        yield Finding("wrong", f"PyAV can't be imported ({error})", 'pip install --force-reinstall "av>=15,<19"')
        return
    if missing := [name for name in ("libx264", "aac") if name not in av.codecs_available]:
        remedy = "install PyAV's own wheel, not one built on the system's FFmpeg: pip install --force-reinstall av"
        yield Finding("note", f"PyAV {av.__version__} has no {' and no '.join(missing)}: no videos", remedy)
    else:
        yield Finding("ok", f"PyAV {av.__version__} encodes H.264 and AAC")


def network() -> Iterator[Finding]:
    """Check that the Hugging Face hub is reachable."""
    from its.weights.hub import unreachable_reason

    reason = unreachable_reason()
    if reason is None:
        yield Finding("ok", "the Hugging Face hub is reachable")
    else:
        remedy = "use weights on this machine: a folder, the cache, or the embedded pack"
        yield Finding("note", f"no downloads: {reason}", remedy)


def weights(configs: Sequence[Path]) -> Iterator[Finding]:
    """Find the weights of configs, or else the default weights of all components; sum up downloads.

    Configuration files of missing weights (some kB) are downloaded to the cache.
    """
    from its.engine.components import components
    from its.errors import UserError
    from its.weights.downloads import check_disk_space, size
    from its.weights.hub import unreachable_reason

    online = unreachable_reason() is None
    downloads: list[Download] = []
    for name, group in components(configs).items():
        kinds = ", ".join(dict.fromkeys(type(component).__name__ for component in group))
        yield _check_weights(f"weights {name} ({kinds})", group, online=online, downloads=downloads)
    if downloads:
        try:
            total = check_disk_space(downloads)
        except UserError as error:
            yield Finding("wrong" if configs else "note", str(error))  # no run needs the weights of all components
        else:
            yield Finding("ok", f"{size(total)} to download in all; the disk has enough space")


def _check_weights(
    what: str, group: Sequence[PretrainedComponent], *, online: bool, downloads: list[Download]
) -> Finding:
    """Find the weights of components on this machine, then on the hub; append downloads to the list."""
    from its.errors import UserError
    from its.weights import WeightsNotFound
    from its.weights.downloads import merge_downloads, size
    from its.weights.hub import local_only

    try:
        with local_only():
            for component in group:
                component.find()
        return Finding("ok", f"{what}: on this machine")
    except UserError as error:
        return Finding("wrong", f"{what}: {error}")
    except WeightsNotFound as missing:
        if not online:
            return Finding("note", f"{what}: {missing.reason}", missing.remedy)
    try:
        merged = merge_downloads(one for component in group for one in component.find())
    except UserError as error:
        return Finding("wrong", f"{what}: {error}")
    except WeightsNotFound as missing:
        return Finding("note", f"{what}: {missing.reason}", missing.remedy)
    downloads += merged
    total = size(sum(sum(one.sizes.values()) for one in merged))
    return Finding("note", f"{what}: {total} to download", "the first run that needs them downloads them")


def devices() -> Iterator[Finding]:
    """List devices with their memory; check that torch and torchaudio can be imported."""
    try:
        import torch
        import torchaudio.functional  # noqa: F401 - fails if it was built for another torch
    except (ImportError, OSError) as error:
        reason = str(error).partition("\n")[0]
        yield Finding("wrong", f"torch and torchaudio can't be imported: {reason}", "reinstall both, of one release")
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _gpu(torch, number)
    elif Path("/proc/driver/nvidia/version").exists():
        build = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "this torch is for CPUs"
        yield Finding("note", f"torch can't use the installed NVIDIA driver; {build}", "update driver or torch")
    if torch.backends.mps.is_available():
        yield Finding("ok", "an Apple GPU (mps)")
    memory = f", {_memory() / GIB:.0f} GiB of memory" if _memory() else ""
    yield Finding("ok", f"{os.cpu_count()} CPU cores{memory}")


def _gpu(torch: Any, number: int) -> Finding:
    free, total = torch.cuda.mem_get_info(number)
    what = f"GPU {number}: {torch.cuda.get_device_name(number)}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    if free < 6 * GIB:
        return Finding("note", what, "the paper's models need 6 GiB: close other programs, or set data.batch_size to 1")
    return Finding("ok", what)


def plugins() -> Iterator[Finding]:
    """Check that all plugins were imported."""
    from its import registry

    registry.load_plugins()
    for name, reason in registry.failures().items():
        yield Finding("wrong", f"plugin {name} failed: {reason}", "fix or uninstall it; `its plugins` lists the others")
    if not registry.failures():
        yield Finding("ok", f"{len(registry.classes())} plugins, all imported")


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _memory() -> int:
    """Memory of the machine in bytes; 0 if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
