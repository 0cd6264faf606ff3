"""Find the configs and prompt files that come with the package by name, from any directory."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

from its.errors import UserError, nearest
from its.media.atomic import write_bytes
from its.media.limited import user_path

_PACKAGE = Path(__file__).parents[1]

_NOT_CONFIGS = ("prompts/", "sweeps/", "slurm/")
"""Folders of packaged files that are not configs for `--config`."""


@cache
def packaged_files() -> dict[str, Path]:
    """Return all packaged files by their path below the folder `configs`, top-level files first."""
    installed = _PACKAGE / "configs"  # in a checkout the folder is beside the package
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    files = [path for path in folder.rglob("*") if path.suffix in (".yaml", ".jsonl", ".sh")]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return dict(sorted(names.items(), key=lambda item: (item[0].count("/"), item[0])))


def packaged_configs() -> dict[str, Path]:
    """Return the packaged configs by name, for example `castle_bell` and `models/mini`."""
    return {name.removesuffix(".yaml"): path for name, path in packaged_files().items() if is_config(name)}


def is_config(name: str) -> bool:
    """Return whether a packaged file is a config for `--config`."""
    return name.endswith(".yaml") and not name.startswith(_NOT_CONFIGS)


def find_packaged(name: str) -> Path | None:
    """Return the packaged file of a name, which may lack the extension and may start with `configs/`."""
    key = name.removeprefix("configs/")
    files = packaged_files()
    return files.get(key) or files.get(f"{key}.yaml") or files.get(f"{key}.jsonl")


def find_file(name: str | Path) -> Path:
    """Return the file at a path, or else the packaged file of this name, or else the path itself.

    `~` and environment variables are expanded in a `str`, but not in a `Path`.
    """
    path = name if isinstance(name, Path) else user_path(name)
    return path if path.is_file() else find_packaged(path.as_posix()) or path


def find_config(name: str | Path) -> Path:
    """Resolve a value of `--config`: the path of a file, or the name of a packaged config.

    Raises:
        UserError: no such file exists, and no packaged config has this name.
    """
    path = find_file(name)
    packaged = {file: key for key, file in packaged_files().items()}
    if path in packaged and not is_config(packaged[path]):
        use = {"prompts": f"--data.prompts {packaged[path]}", "sweeps": f"wandb sweep {path}"}
        usage = use.get(packaged[path].partition("/")[0], f"sbatch {path}")
        raise UserError(f"{name} is not a config for --config. Use it with: {usage}")
    if path.exists():  # may be a pipe
        return path
    folder = path.parent
    beside = [other.name for other in folder.glob("*.y*ml")] if folder.is_dir() else []
    near = nearest(path.name, beside) or nearest(path.with_suffix("").as_posix(), packaged_configs())
    raise UserError(f"the config {name} does not exist; expected a file, or a name listed by `its configs`.{near}")


def copy_packaged(name: str, target: Path) -> None:
    """Copy a packaged file to a new file.

    Raises:
        UserError: no packaged file has this name, or the target exists.
        NotWritten: the target can't be written.
    """
    source = find_packaged(name)
    if source is None:
        near = nearest(name, packaged_files())
        raise UserError(f"unknown packaged config {name}; `its configs` lists all.{near}")
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists: choose another file")
    write_bytes(target, source.read_bytes())


def summary(path: Path) -> str:
    """Return a config's summary, the comment in one of its first two lines; empty if it has none."""
    with path.open(encoding="utf-8") as file:
        lines = [line.strip() for line in itertools.islice(file, 2)]
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "")
